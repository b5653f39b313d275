/**
 * What clients and server say to each other, in two wire formats, and what each answer must be. An answer carries the
 * id of its question and a payload that is made from the id alone, so that a byte of another answer, a shifted byte
 * and a lost one are all noticed, by the server in questions and by the client in answers.
 *
 *     framed   4 bytes length │ kind │ flags (questions only) │ id, 4 bytes │ payload
 *     lines    kind, flags as a digit (questions only), id, a space, payload, LF
 *
 * When something is said, and what goes wrong on the way, is decided elsewhere.
 */
import { mix } from './chance.mjs';

/** @typedef {string | Uint8Array} Message what the pools of a torture send */
/** @typedef {string | Buffer} Frame what they receive */
/** @typedef {'question' | 'ping' | 'answer' | 'pong' | 'greeting' | 'farewell'} Kind */

/**
 * A question as the server has read it.
 *
 * @typedef {object} Question
 * @property {'question' | 'ping' | 'nonsense'} kind
 * @property {number} id
 * @property {number} flags
 */

/**
 * One wire format.
 *
 * @typedef {object} Talk
 * @property {(id: number, flags: number) => Message} question
 * @property {Message} ping
 * @property {(frame: Frame, kind: Kind) => boolean} isKind
 * @property {(frame: Frame, id: number) => boolean} isAnswer whether it is the whole answer to that question
 * @property {(frame: Frame) => string} describe
 * @property {(id: number) => Buffer} answer the bytes on the wire
 * @property {(kind: Kind) => Buffer} word a message without a content, on the wire
 * @property {() => Buffer} garbage bytes that can't be a frame
 * @property {(bytes: Buffer, from: number) => number} end where the frame that begins there ends; -1: it has not come
 * @property {(bytes: Buffer, from: number, end: number) => Question} read
 */

/** What a question tells the server about itself, as bits. */
export const FLAGS = {
  /** Nothing else is under way on its socket, and who asked will notice bytes behind the answer. */
  alone: 1,
  /** It may come twice. */
  idempotent: 2,
  /** Nobody expects an answer. */
  silent: 4,
};

const KINDS = { question: 'Q', ping: 'P', answer: 'A', pong: 'p', greeting: 'G', farewell: 'B' };
const CODES = /** @type {Record<Kind, number>} */ (
  Object.fromEntries(Object.entries(KINDS).map(([kind, letter]) => [kind, letter.charCodeAt(0)]))
);
const LF = 10;
const SPACE = 32;

const LARGEST = 100 * 1024;
// Payloads begin anywhere in here, and none is longer than what follows.
const STARTS = 64 * 1024;
/** The longest line has 100 KiB of characters, of two bytes at most. */
export const MAX_FRAME_BYTES = 256 * 1024;

/** Every byte there is, in no order that repeats within a payload. */
const NOISE = Buffer.alloc(STARTS + LARGEST);
for (let at = 0; at < NOISE.length; at++) NOISE[at] = mix(at + 1) >>> 24;

/** The same for text: printable characters, one in sixteen of two bytes, so that a chunk may end within one. */
const TEXT = Array.from(NOISE, (byte, at) =>
  at % 16 === byte % 16 ? String.fromCharCode(0xc0 + (byte & 0x3f)) : String.fromCharCode(33 + (byte % 94)),
).join('');

/** How long the answer is: mostly short, at times 100 KiB. */
export function answerSize(/** @type {number} */ id) {
  return sizeFrom(mix(id), mix(id ^ 0x5bd1e995) / 2 ** 32);
}

/** How much a question carries. */
function fillerSize(/** @type {number} */ id) {
  // Far fewer large ones than answers: they cost the client twice.
  const size = sizeFrom(mix(id ^ 0x27d4eb2f), mix(id ^ 0x165667b1) / 2 ** 32);
  return size > 4_096 && id % 4 !== 0 ? size % 64 : size;
}

/** @param {number} bits @param {number} share */
function sizeFrom(bits, share) {
  const kind = bits % 1_000;
  if (kind < 860) return 1 + Math.floor(share * 160);
  if (kind < 970) return 1 + Math.floor(share * 4_000);
  if (kind < 997) return 4_096 + Math.floor(share * 28_000);
  return 32_768 + Math.floor(share * (LARGEST - 32_768));
}

const answerStart = (/** @type {number} */ id) => mix(id ^ 0x3c6ef372) % STARTS;
const fillerStart = (/** @type {number} */ id) => mix(id ^ 0x1b873593) % STARTS;

const bytesOf = (/** @type {Frame} */ frame) => (typeof frame === 'string' ? Buffer.from(frame) : frame);

/**
 * Whether the bytes from `at` to `end` are the noise from `start` on.
 *
 * @param {Buffer} bytes
 * @param {number} at
 * @param {number} end
 * @param {number} start
 */
function isNoise(bytes, at, end, start) {
  return NOISE.compare(bytes, at, end, start, start + (end - at)) === 0;
}

/** @type {Talk} */
const framed = {
  question(id, flags) {
    const size = fillerSize(id);
    const message = Buffer.allocUnsafe(6 + size);
    message[0] = CODES.question;
    message[1] = flags;
    message.writeUInt32BE(id, 2);
    NOISE.copy(message, 6, fillerStart(id), fillerStart(id) + size);
    return message;
  },
  ping: Buffer.from(KINDS.ping),
  isKind: (frame, kind) => frame.length === 1 && bytesOf(frame)[0] === CODES[kind],
  isAnswer(frame, id) {
    if (typeof frame === 'string' || frame.length !== 5 + answerSize(id)) return false;
    return (
      frame[0] === CODES.answer &&
      frame.readUInt32BE(1) === id &&
      isNoise(frame, 5, frame.length, answerStart(id))
    );
  },
  describe(frame) {
    const bytes = bytesOf(frame);
    const id = bytes.length < 5 ? '' : ` ${bytes.readUInt32BE(1)}`;
    return `${String.fromCharCode(bytes[0] ?? SPACE)}${id} of ${bytes.length} bytes`;
  },
  answer(id) {
    const size = answerSize(id);
    const bytes = Buffer.allocUnsafe(9 + size);
    bytes.writeUInt32BE(5 + size, 0);
    bytes[4] = CODES.answer;
    bytes.writeUInt32BE(id, 5);
    NOISE.copy(bytes, 9, answerStart(id), answerStart(id) + size);
    return bytes;
  },
  word: (kind) => Buffer.from([0, 0, 0, 1, CODES[kind]]),
  // A length above the limit.
  garbage: () => Buffer.from([0xff, 0xff, 0xff, 0xff, 0x41]),
  end(bytes, from) {
    if (bytes.length < from + 4) return -1;
    const end = from + 4 + bytes.readUInt32BE(from);
    return end <= bytes.length ? end : -1;
  },
  read(bytes, from, end) {
    const begin = from + 4;
    if (end === begin + 1 && bytes[begin] === CODES.ping) return { kind: 'ping', id: 0, flags: 0 };
    if (end < begin + 6 || bytes[begin] !== CODES.question) return { kind: 'nonsense', id: 0, flags: 0 };
    const id = bytes.readUInt32BE(begin + 2);
    const isWhole = end - begin - 6 === fillerSize(id) && isNoise(bytes, begin + 6, end, fillerStart(id));
    return { kind: isWhole ? 'question' : 'nonsense', id, flags: bytes[begin + 1] ?? 0 };
  },
};

const answerText = (/** @type {number} */ id) =>
  `${KINDS.answer}${id} ${TEXT.slice(answerStart(id), answerStart(id) + answerSize(id))}`;
const questionText = (/** @type {number} */ id, /** @type {number} */ flags) =>
  `${KINDS.question}${flags}${id} ${TEXT.slice(fillerStart(id), fillerStart(id) + fillerSize(id))}`;

/** @type {Talk} */
const textual = {
  question: questionText,
  ping: KINDS.ping,
  isKind: (frame, kind) => frame === KINDS[kind],
  isAnswer: (frame, id) => frame === answerText(id),
  describe(frame) {
    const text = String(frame);
    return `${text.slice(0, Math.min(16, text.indexOf(' ') + 1 || 16))}… of ${text.length} characters`;
  },
  answer: (id) => Buffer.from(`${answerText(id)}\n`),
  word: (kind) => Buffer.from(`${KINDS[kind]}\n`),
  // A line that does not end. A shorter one could be anything, and the pool could not know.
  garbage: () => Buffer.alloc(MAX_FRAME_BYTES + 1, 'x'),
  end: (bytes, from) => bytes.indexOf(LF, from) + 1 || -1,
  read(bytes, from, end) {
    if (end === from + 2 && bytes[from] === CODES.ping) return { kind: 'ping', id: 0, flags: 0 };
    const space = bytes.indexOf(SPACE, from);
    const flags = (bytes[from + 1] ?? 0) - 48;
    const id = Number(bytes.toString('latin1', from + 2, space));
    const isWhole =
      bytes[from] === CODES.question &&
      Number.isSafeInteger(id) &&
      bytes.toString('utf8', from, end - 1) === questionText(id, flags);
    return { kind: isWhole ? 'question' : 'nonsense', id, flags };
  },
};

/** Every wire format. */
export const TALKS = { framed, lines: textual };

/**
 * What clients and server say to each other, in two wire formats, and what each answer must be. An answer carries the
 * id of its question and a payload that is made from the id alone, so that a byte of another answer, a shifted byte
 * and a lost one are all noticed, by the server in questions and by the client in answers.
 *
 *     framed   4 bytes length │ kind │ flags (questions only) │ id, 4 bytes │ payload
 *     lines    kind, flags in hex (questions only), id, a space, payload, LF
 *
 * Each of them comes in a second kind, for requests that share a socket: what is said begins with a mark that the client
 * gives to each message, and the server gives back: its client's number and its own, of 4 bytes each, or `number.number`
 * and a space. Messages of those that don't share have the mark 0.
 *
 * When something is said, and what goes wrong on the way, is decided elsewhere.
 */
import { mix } from './chance.mjs';

/** @typedef {string | Uint8Array} Message what the pools of a torture send */
/** @typedef {string | Buffer} Frame what they receive */
/** @typedef {'ping' | 'pong' | 'greeting' | 'farewell'} Word without a content */
/**
 * What is said to a question: its answer; that it was not done, to be asked again; or an answer that was sent behind
 * stray bytes, so that nobody may ever hear it.
 *
 * @typedef {'answer' | 'refusal' | 'poison'} Reply
 */
/** @typedef {'question' | Word | Reply} Kind */

/**
 * A question as the server has read it.
 *
 * @typedef {object} Question
 * @property {'question' | 'ping' | 'nonsense'} kind
 * @property {number} id
 * @property {number} flags
 * @property {number} client
 * @property {number} mark 0: none
 */

/**
 * One wire format.
 *
 * @typedef {object} Talk
 * @property {(id: number, flags: number) => Message} question
 * @property {Message} ping
 * @property {(frame: Frame, word: Word) => boolean} isWord
 * @property {(frame: Frame, kind: Reply) => boolean} isKind
 * @property {(frame: Frame, kind: Reply, id: number) => boolean} isReply whether it is all of that to that question
 * @property {(frame: Frame) => string} describe
 * @property {(message: Message, client: number, mark: number) => Message} write the message with this mark
 * @property {(frame: Frame) => number | undefined} markOf
 * @property {(kind: Reply, question: Omit<Question, 'kind' | 'flags'>) => Buffer} reply the bytes on the wire
 * @property {(word: Word) => Buffer} word on the wire
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
  /** Many are under way on its socket: whatever costs that one should be rarer. */
  crowded: 8,
  /** No other message of its client ever has its mark: a frame with a strange mark will be noticed. */
  unique: 16,
  /** Who asks knows what a refusal is. */
  refusable: 32,
  /** It carries very much. */
  bulky: 64,
  /** The server disappoints its asker most of the time: it is to be repeated, or asked a second time beside the first. */
  tried: 128,
};

const KINDS = {
  question: 'Q',
  ping: 'P',
  answer: 'A',
  refusal: 'R',
  poison: 'X',
  pong: 'p',
  greeting: 'G',
  farewell: 'B',
};
const CODES = /** @type {Record<Kind, number>} */ (
  Object.fromEntries(Object.entries(KINDS).map(([kind, letter]) => [kind, letter.charCodeAt(0)]))
);
const LF = 10;
const SPACE = 32;

const LARGEST = 100 * 1024;
const BULKY = 60 * 1024;
/** Questions up to here leave at once, whatever else there is. */
const LIGHT = 512;
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

/** How much a question carries. @param {number} id @param {number} flags */
function fillerSize(id, flags) {
  if ((flags & FLAGS.bulky) !== 0) return BULKY + (mix(id ^ 0x27d4eb2f) % (LARGEST - BULKY));
  // Far fewer large ones than answers: they cost the client twice.
  const size = sizeFrom(mix(id ^ 0x27d4eb2f), mix(id ^ 0x165667b1) / 2 ** 32);
  return size > 4_096 && id % 4 !== 0 ? size % 64 : size;
}

/** Whether the question is small. */
export function isLight(/** @type {number} */ id) {
  return fillerSize(id, 0) <= LIGHT;
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

/**
 * The binary format, with marks or without.
 *
 * @param {number} head how many bytes the mark has
 * @returns {Talk}
 */
function framed(head) {
  /** Whether it has a kind and an id. */
  const isLong = (/** @type {Frame} */ frame) => typeof frame !== 'string' && frame.length >= head + 5;
  return {
    question(id, flags) {
      const size = fillerSize(id, flags);
      const message = Buffer.alloc(head + 6 + size);
      message[head] = CODES.question;
      message[head + 1] = flags;
      message.writeUInt32BE(id, head + 2);
      NOISE.copy(message, head + 6, fillerStart(id), fillerStart(id) + size);
      return message;
    },
    ping: Buffer.from(KINDS.ping),
    isWord: (frame, word) => frame.length === 1 && bytesOf(frame)[0] === CODES[word],
    isKind: (frame, kind) => isLong(frame) && frame[head] === CODES[kind],
    isReply(frame, kind, id) {
      if (typeof frame === 'string' || frame.length !== head + 5 + answerSize(id)) return false;
      return (
        frame[head] === CODES[kind] &&
        frame.readUInt32BE(head + 1) === id &&
        isNoise(frame, head + 5, frame.length, answerStart(id))
      );
    },
    describe(frame) {
      const bytes = bytesOf(frame);
      if (!isLong(frame)) return `${String.fromCharCode(bytes[0] ?? SPACE)} of ${bytes.length} bytes`;
      const id = bytes.readUInt32BE(head + 1);
      return `${String.fromCharCode(bytes[head] ?? SPACE)} ${id} of ${bytes.length} bytes`;
    },
    write(message, client, mark) {
      // A copy: the same message may be under way on another socket, with another mark.
      const marked = Buffer.from(bytesOf(/** @type {Frame} */ (message)));
      marked.writeUInt32BE(client, 0);
      marked.writeUInt32BE(mark, 4);
      return marked;
    },
    markOf: (frame) => (isLong(frame) && typeof frame !== 'string' ? frame.readUInt32BE(4) : undefined),
    reply(kind, { id, client, mark }) {
      const size = answerSize(id);
      const bytes = Buffer.allocUnsafe(4 + head + 5 + size);
      bytes.writeUInt32BE(head + 5 + size, 0);
      if (head > 0) {
        bytes.writeUInt32BE(client, 4);
        bytes.writeUInt32BE(mark, 8);
      }
      bytes[4 + head] = CODES[kind];
      bytes.writeUInt32BE(id, 5 + head);
      NOISE.copy(bytes, 9 + head, answerStart(id), answerStart(id) + size);
      return bytes;
    },
    word: (word) => Buffer.from([0, 0, 0, 1, CODES[word]]),
    // A length above the limit.
    garbage: () => Buffer.from([0xff, 0xff, 0xff, 0xff, 0x41]),
    end(bytes, from) {
      if (bytes.length < from + 4) return -1;
      const end = from + 4 + bytes.readUInt32BE(from);
      return end <= bytes.length ? end : -1;
    },
    read(bytes, from, end) {
      const begin = from + 4;
      if (end === begin + 1 && bytes[begin] === CODES.ping) return { kind: 'ping', ...NOBODYS };
      const at = begin + head;
      if (end < at + 6 || bytes[at] !== CODES.question) return { kind: 'nonsense', ...NOBODYS };
      const id = bytes.readUInt32BE(at + 2);
      const flags = bytes[at + 1] ?? 0;
      const isWhole = end - at - 6 === fillerSize(id, flags) && isNoise(bytes, at + 6, end, fillerStart(id));
      const client = head > 0 ? bytes.readUInt32BE(begin) : 0;
      const mark = head > 0 ? bytes.readUInt32BE(begin + 4) : 0;
      return { kind: isWhole ? 'question' : 'nonsense', id, flags, client, mark };
    },
  };
}

const NOBODYS = { id: 0, flags: 0, client: 0, mark: 0 };

const replyText = (/** @type {Reply} */ kind, /** @type {number} */ id) =>
  `${KINDS[kind]}${id} ${TEXT.slice(answerStart(id), answerStart(id) + answerSize(id))}`;

function questionText(/** @type {number} */ id, /** @type {number} */ flags) {
  const filler = TEXT.slice(fillerStart(id), fillerStart(id) + fillerSize(id, flags));
  return `${KINDS.question}${flags.toString(16).padStart(2, '0')}${id} ${filler}`;
}

/**
 * The format of text, with marks or without.
 *
 * @param {boolean} hasMarks
 * @returns {Talk}
 */
function textual(hasMarks) {
  const headOf = (/** @type {number} */ client, /** @type {number} */ mark) =>
    hasMarks ? `${client}.${mark} ` : '';
  /** Without its mark. */
  const bodyOf = (/** @type {string} */ text) => (hasMarks ? text.slice(text.indexOf(' ') + 1) : text);
  return {
    question: (id, flags) => `${headOf(0, 0)}${questionText(id, flags)}`,
    ping: KINDS.ping,
    isWord: (frame, word) => frame === KINDS[word],
    isKind: (frame, kind) => typeof frame === 'string' && bodyOf(frame).startsWith(KINDS[kind]),
    isReply: (frame, kind, id) => typeof frame === 'string' && bodyOf(frame) === replyText(kind, id),
    describe(frame) {
      const text = bodyOf(String(frame));
      return `${text.slice(0, Math.min(16, text.indexOf(' ') + 1 || 16))}… of ${text.length} characters`;
    },
    write: (message, client, mark) => `${headOf(client, mark)}${bodyOf(String(message))}`,
    markOf(frame) {
      const text = String(frame);
      const point = text.indexOf('.');
      return point > 0 ? Number(text.slice(point + 1, text.indexOf(' '))) : undefined;
    },
    reply: (kind, { id, client, mark }) => Buffer.from(`${headOf(client, mark)}${replyText(kind, id)}\n`),
    word: (word) => Buffer.from(`${KINDS[word]}\n`),
    // A line that does not end. A shorter one could be anything, and the pool could not know.
    garbage: () => Buffer.alloc(MAX_FRAME_BYTES + 1, 'x'),
    end: (bytes, from) => bytes.indexOf(LF, from) + 1 || -1,
    read(bytes, from, end) {
      if (end === from + 2 && bytes[from] === CODES.ping) return { kind: 'ping', ...NOBODYS };
      const text = bytes.toString('utf8', from, end - 1);
      const body = bodyOf(text);
      const flags = Number.parseInt(body.slice(1, 3), 16);
      const id = Number(body.slice(3, body.indexOf(' ')));
      const [client = 0, mark = 0] = hasMarks ? text.slice(0, text.indexOf(' ')).split('.').map(Number) : [];
      const isWhole = Number.isSafeInteger(id) && body === questionText(id, flags);
      return { kind: isWhole ? 'question' : 'nonsense', id, flags, client, mark };
    },
  };
}

/** Every wire format. */
export const TALKS = {
  framed: framed(0),
  lines: textual(false),
  'framed, marked': framed(8),
  'lines, marked': textual(true),
};

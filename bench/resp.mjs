/**
 * RESP, the protocol of Redis, as a codec for pulsepool: commands out, replies of RESP2 in. Bulk and simple strings
 * are strings, nil is `null`, an integer is a number, an error reply is a `RespError`, an array is an array.
 *
 * It keeps no bytes: a reply that is not complete waits in the queue, and is read again when more have come.
 */

// Imported, because the global of the same name is a getter: some 0.1 us for each message.
import { Buffer } from 'node:buffer';

/** @typedef {string | number | null | RespError | Reply[]} Reply */

/** An error reply: a frame like any other, since the connection is in step. */
export class RespError extends Error {
  /** @override */
  name = 'RespError';
}

const CR = 13;
const LF = 10;
const MINUS = 45;
const ZERO = 48;
const SIMPLE = 43; // +
const ERROR = 45; //  -
const INTEGER = 58; // :
const BULK = 36; //   $
const ARRAY = 42; //  *
// Redis itself nests no deeper than 7 in practice; a stream of `*1` must not exhaust the stack.
const MAX_DEPTH = 32;
const MAX_FRAME_BYTES = 8 * 1024 * 1024;

/** What `readAt` returns while bytes are missing. */
const INCOMPLETE = Symbol('incomplete');

// Where the reply or number that was read last ends. One for all: nothing is kept between two calls of `decode`.
let end = 0;

/** @type {import('pulsepool').Codec<readonly string[], Reply>} */
export const resp = {
  name: 'resp',
  maxFrameBytes: MAX_FRAME_BYTES,

  encode(args) {
    let text = `*${args.length}\r\n`;
    for (const arg of args) text += `$${Buffer.byteLength(arg)}\r\n${arg}\r\n`;
    return text;
  },

  decode(bytes) {
    const reply = readAt(bytes, 0, 0);
    if (reply === INCOMPLETE) return undefined;
    bytes.skip(end);
    return reply;
  },
};

/**
 * The reply that begins at a position.
 *
 * @param {import('pulsepool').ByteQueue} bytes
 * @param {number} from
 * @param {number} depth
 * @returns {Reply | typeof INCOMPLETE}
 */
function readAt(bytes, from, depth) {
  const type = bytes.at(from);
  switch (type) {
    case BULK:
      return readBulk(bytes, from);
    case SIMPLE:
    case ERROR: {
      const text = readLine(bytes, from + 1);
      return type === SIMPLE || text === INCOMPLETE ? text : new RespError(text);
    }
    case INTEGER: {
      const number = readNumber(bytes, from + 1);
      return number === undefined ? INCOMPLETE : number;
    }
    case ARRAY:
      return readArray(bytes, from, depth);
    case undefined:
      return INCOMPLETE;
    default:
      throw new Error(`resp: a reply can't begin with byte ${type}`);
  }
}

/**
 * @param {import('pulsepool').ByteQueue} bytes
 * @param {number} from
 */
function readBulk(bytes, from) {
  const size = readNumber(bytes, from + 1);
  if (size === undefined) return INCOMPLETE;
  if (size === -1) return null;
  if (size < 0 || size > MAX_FRAME_BYTES) throw new Error(`resp: a bulk string of ${size} bytes`);
  const begin = end;
  const past = begin + size + 2;
  if (bytes.length < past) return INCOMPLETE;
  if (bytes.at(past - 2) !== CR || bytes.at(past - 1) !== LF) {
    throw new Error('resp: a bulk string is longer than it says');
  }
  end = past;
  return bytes.text(size, begin) ?? '';
}

/**
 * @param {import('pulsepool').ByteQueue} bytes
 * @param {number} from
 * @param {number} depth
 * @returns {Reply[] | null | typeof INCOMPLETE}
 */
function readArray(bytes, from, depth) {
  if (depth === MAX_DEPTH) throw new Error(`resp: arrays are nested deeper than ${MAX_DEPTH}`);
  const count = readNumber(bytes, from + 1);
  if (count === undefined) return INCOMPLETE;
  if (count === -1) return null;
  if (count < 0) throw new Error(`resp: an array of ${count} replies`);
  const replies = [];
  for (let index = 0; index < count; index++) {
    const reply = readAt(bytes, end, depth + 1);
    if (reply === INCOMPLETE) return INCOMPLETE;
    replies.push(reply);
  }
  return replies;
}

/**
 * The number from a position to the end of its line; `undefined` while that has not come.
 *
 * @param {import('pulsepool').ByteQueue} bytes
 * @param {number} from
 */
function readNumber(bytes, from) {
  let at = from;
  let byte = bytes.at(at);
  const isNegative = byte === MINUS;
  if (isNegative) byte = bytes.at(++at);
  let number = 0;
  while (byte !== undefined && byte !== CR) {
    const digit = byte - ZERO;
    if (digit < 0 || digit > 9) throw new Error(`resp: byte ${byte} in a number`);
    number = number * 10 + digit;
    byte = bytes.at(++at);
  }
  if (at + 2 > bytes.length) return undefined;
  if (bytes.at(at + 1) !== LF) throw new Error('resp: a CR without its LF');
  end = at + 2;
  return isNegative ? -number : number;
}

/**
 * @param {import('pulsepool').ByteQueue} bytes
 * @param {number} from
 */
function readLine(bytes, from) {
  let at = from;
  for (let byte = bytes.at(at); byte !== CR; byte = bytes.at(++at)) {
    if (byte === undefined) return INCOMPLETE;
  }
  const past = at + 2;
  if (past > bytes.length) return INCOMPLETE;
  end = past;
  return bytes.text(at - from, from) ?? '';
}

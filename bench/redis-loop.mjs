/**
 * GETs from Redis as an expert writes them by hand on net.Socket when only speed counts: no timeout, no limit, no
 * check of what comes while nobody asks. Keys are ASCII. What these loops reach is what others are measured by.
 */
import { connect } from './by-hand.mjs';

const BULK = 36; // $
const ZERO = 48;
// The least reply with a value: `$0`, CR, LF, CR, LF.
const LEAST_BYTES = 6;

/** @typedef {{ key: string, resolve: (value: string) => void, reject: (error: Error) => void }} Caller */

/**
 * The bytes of one GET, each of which is one character: a latin1 string is written without making a Buffer of it.
 *
 * @param {string} key
 */
export function get(key) {
  return `*2\r\n$3\r\nGET\r\n$${key.length}\r\n${key}\r\n`;
}

/** Finds the values in what one socket receives, however it is cut. A reply of any other kind is an error. */
export class Reader {
  /** @type {Buffer | undefined} */
  #rest;
  #onValue;

  /** @param {(value: string) => void} onValue */
  constructor(onValue) {
    this.#onValue = onValue;
  }

  /** @param {Buffer} chunk */
  read(chunk) {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = undefined;
    const { length } = bytes;
    let from = 0;
    while (from + LEAST_BYTES <= length) {
      if (bytes[from] !== BULK) throw new Error(`not a value: ${bytes.subarray(from)}`);
      let at = from + 1;
      let size = 0;
      for (let digit = (bytes[at] ?? 0) - ZERO; digit >= 0; digit = (bytes[++at] ?? 0) - ZERO) {
        size = size * 10 + digit;
      }
      const begin = at + 2;
      const past = begin + size + 2;
      // So it is, too, when the size itself is cut: it is read again.
      if (past > length) break;
      from = past;
      this.#onValue(bytes.toString('latin1', begin, begin + size));
    }
    if (from < length) this.#rest = bytes.subarray(from);
  }
}

/** One socket of the first loop: one GET at a time. */
class Wire {
  /** @type {Caller | undefined} */
  #caller;
  #socket;
  #defer;

  /**
   * @param {import('node:net').Socket} socket
   * @param {(wire: Wire) => void} onFree
   * @param {((wire: Wire) => void) | undefined} defer has `write` called later
   */
  constructor(socket, onFree, defer) {
    this.#socket = socket;
    this.#defer = defer;
    const reader = new Reader((value) => {
      const caller = this.#caller;
      this.#caller = undefined;
      // First, so that the server has work while ours is done.
      onFree(this);
      caller?.resolve(value);
    });
    socket.on('data', (chunk) => reader.read(chunk));
    socket.on('error', (error) => this.#caller?.reject(error));
    socket.on('close', () => this.#caller?.reject(new Error('closed')));
  }

  /** @param {Caller} caller */
  ask(caller) {
    this.#caller = caller;
    if (this.#defer === undefined) this.write();
    else this.#defer(this);
  }

  write() {
    if (this.#caller !== undefined) this.#socket.write(get(this.#caller.key), 'latin1');
  }

  end() {
    this.#socket.destroy();
  }
}

/** Writes of all sockets together, when every reply of this turn of the event loop has been read. */
function writeTogether() {
  /** @type {Wire[]} */
  let due = [];
  const flush = () => {
    const wires = due;
    due = [];
    for (const wire of wires) wire.write();
  };
  return (/** @type {Wire} */ wire) => {
    if (due.length === 0) setImmediate(flush);
    due.push(wire);
  };
}

/**
 * So many sockets, each for one caller at a time, and a queue of callers. A socket that becomes free takes the next
 * one at once. With `isDeferred` the writes of a turn of the event loop leave one after the other at its end, which
 * wakes the server once and not for each.
 *
 * @param {number} port
 * @param {number} size
 * @param {{ isDeferred?: boolean }} [options]
 */
export async function openExclusiveLoop(port, size, { isDeferred = false } = {}) {
  /** @type {Wire[]} */
  const free = [];
  /** @type {Caller[]} */
  let waiting = [];
  let first = 0;
  const onFree = (/** @type {Wire} */ wire) => {
    const next = waiting[first];
    if (next === undefined) {
      free.push(wire);
      return;
    }
    first += 1;
    // What has been served is cut off now and then: shift() would move the whole queue for each.
    if (first === waiting.length || first === 1_000) {
      waiting = waiting.slice(first);
      first = 0;
    }
    wire.ask(next);
  };
  const defer = isDeferred ? writeTogether() : undefined;
  /** @type {Wire[]} */
  const wires = [];
  for (let count = 0; count < size; count++) wires.push(new Wire(await connect(port), onFree, defer));
  free.push(...wires);
  return {
    /**
     * @param {string} key
     * @returns {Promise<string>}
     */
    get: (key) =>
      new Promise((resolve, reject) => {
        const wire = free.pop();
        if (wire === undefined) waiting.push({ key, resolve, reject });
        else wire.ask({ key, resolve, reject });
      }),
    close: () => {
      for (const wire of wires) wire.end();
    },
  };
}

/**
 * One socket for everybody. What is asked for in one turn of the event loop leaves in one write, and replies come in
 * the order of the questions.
 *
 * @param {number} port
 */
export async function openPipelinedLoop(port) {
  const socket = await connect(port);
  /** @type {Caller[]} */
  let asked = [];
  let first = 0;
  let text = '';
  const flush = () => {
    socket.write(text, 'latin1');
    text = '';
  };
  const reader = new Reader((value) => {
    const caller = asked[first];
    if (caller === undefined) throw new Error('a value that nobody asked for');
    first += 1;
    if (first === asked.length || first === 1_000) {
      asked = asked.slice(first);
      first = 0;
    }
    caller.resolve(value);
  });
  const fail = (/** @type {Error} */ error) => {
    for (const caller of asked.slice(first)) caller.reject(error);
  };
  socket.on('data', (chunk) => reader.read(chunk));
  socket.on('error', fail);
  socket.on('close', () => fail(new Error('closed')));
  return {
    /**
     * @param {string} key
     * @returns {Promise<string>}
     */
    get: (key) =>
      new Promise((resolve, reject) => {
        // Run when every caller whose reply has come in this read has asked again.
        if (text === '') process.nextTick(flush);
        text += get(key);
        asked.push({ key, resolve, reject });
      }),
    close: () => {
      socket.destroy();
    },
  };
}

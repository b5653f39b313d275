/**
 * What people write without a library for pooled sockets: the peers of the benchmarks that send requests. Frames are
 * a length of 4 bytes and a body, unless a format says otherwise.
 */
import { once } from 'node:events';
import net from 'node:net';
import genericPool from 'generic-pool';

/**
 * One socket, one exchange at a time, and nothing that guards it: no timeout, no limit, no check of what comes
 * while nobody asks.
 */
class Wire {
  /** @type {((reply: Buffer) => void) | undefined} */
  #resolve;
  /** @type {((error: Error) => void) | undefined} */
  #reject;
  /** @type {Buffer | undefined} */
  #rest;
  #socket;

  /**
   * @param {net.Socket} socket
   * @param {() => void} onFree
   */
  constructor(socket, onFree) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
      if (bytes.length < 4 || bytes.length < 4 + bytes.readUInt32BE(0)) {
        this.#rest = bytes;
        return;
      }
      this.#rest = undefined;
      this.#resolve?.(bytes.subarray(4));
      onFree();
    });
    socket.on('error', (error) => this.#reject?.(error));
    socket.on('close', () => this.#reject?.(new Error('closed')));
  }

  /**
   * @param {Buffer} message
   * @param {(reply: Buffer) => void} resolve
   * @param {(error: Error) => void} reject
   */
  exchange(message, resolve, reject) {
    this.#resolve = resolve;
    this.#reject = reject;
    const frame = Buffer.allocUnsafe(4 + message.length);
    frame.writeUInt32BE(message.length, 0);
    message.copy(frame, 4);
    this.#socket.write(frame);
  }

  end() {
    this.#socket.destroy();
  }
}

/**
 * The least that does the work: some sockets, and a queue of callers. A socket that becomes free takes the next
 * caller at once.
 *
 * @param {number} port
 * @param {number} size
 */
export async function openLoop(port, size) {
  /** @typedef {{ message: Buffer, resolve: (reply: Buffer) => void, reject: (error: Error) => void }} Caller */
  /** @type {Caller[]} */
  const waiting = [];
  /** @type {Wire[]} */
  const free = [];
  for (let count = 0; count < size; count++) {
    const wire = new Wire(await connect(port), () => {
      const next = waiting.shift();
      if (next === undefined) free.push(wire);
      else wire.exchange(next.message, next.resolve, next.reject);
    });
    free.push(wire);
  }
  return {
    /**
     * @param {Buffer} message
     * @returns {Promise<Buffer>}
     */
    request: (message) =>
      new Promise((resolve, reject) => {
        const wire = free.pop();
        if (wire === undefined) waiting.push({ message, resolve, reject });
        else wire.exchange(message, resolve, reject);
      }),
    close: () => {
      for (const wire of free) wire.end();
    },
  };
}

const MAX_FRAME_BYTES = 16 * 1024 * 1024;

/**
 * How the careful client writes messages and reads replies.
 *
 * @template Message, Reply
 * @typedef {object} Format
 * @property {number} leastBytes fewer than that say nothing about a reply
 * @property {(message: Message) => Buffer | string} write a string is latin1
 * @property {(bytes: Buffer) => number} endOf how long the reply is that these bytes begin; `Infinity`: not known yet
 * @property {(bytes: Buffer) => Reply} read a whole reply
 */

/** @type {Format<Buffer, Buffer>} */
const lengthAndBody = {
  leastBytes: 4,
  write(message) {
    const frame = Buffer.allocUnsafe(4 + message.length);
    frame.writeUInt32BE(message.length, 0);
    message.copy(frame, 4);
    return frame;
  },
  endOf: (bytes) => 4 + bytes.readUInt32BE(0),
  read: (bytes) => bytes.subarray(4),
};

/**
 * One socket of the careful client: every way in which an exchange can fail rejects it, and ends the socket.
 *
 * @template Message, Reply
 */
class CarefulSocket {
  /** @type {{ resolve: (reply: Reply) => void, reject: (error: Error) => void } | undefined} */
  #pending;
  /** @type {Buffer[]} */
  #chunks = [];
  #length = 0;
  #socket;
  #format;

  /**
   * @param {net.Socket} socket
   * @param {Format<Message, Reply>} format
   */
  constructor(socket, format) {
    this.#socket = socket;
    this.#format = format;
    socket.on('data', (chunk) => this.#onData(chunk));
    socket.on('timeout', () => {
      // Silence is a fault only while a reply is due.
      if (this.#pending !== undefined) this.#fail(new Error('timed out'));
    });
    socket.on('error', (error) => this.#fail(error));
    socket.on('end', () => this.#fail(new Error('the server closed the connection')));
    socket.on('close', () => this.#fail(new Error('the connection was closed')));
    // One timer for reading and writing, which Node renews by itself.
    socket.setTimeout(30_000);
  }

  get isUsable() {
    return !this.#socket.destroyed && this.#socket.writable && this.#pending === undefined;
  }

  /**
   * @param {Message} message
   * @returns {Promise<Reply>}
   */
  request(message) {
    if (!this.isUsable) return Promise.reject(new Error('not usable'));
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject };
      this.#socket.write(this.#format.write(message), 'latin1');
    });
  }

  destroy() {
    this.#socket.destroy();
  }

  /** @param {Buffer} chunk */
  #onData(chunk) {
    if (this.#pending === undefined) {
      this.#fail(new Error('bytes that nobody asked for'));
      return;
    }
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const format = this.#format;
    if (this.#length < format.leastBytes) return;
    let bytes = /** @type {Buffer} */ (this.#chunks[0]);
    if (bytes.length < format.leastBytes) {
      bytes = Buffer.concat(this.#chunks, this.#length);
      this.#chunks = [bytes];
    }
    let end;
    try {
      end = format.endOf(bytes);
    } catch (error) {
      this.#fail(/** @type {Error} */ (error));
      return;
    }
    if (this.#length < end) {
      // Not known is no fault while it may be known with the next bytes.
      if (end === Number.POSITIVE_INFINITY ? this.#length < MAX_FRAME_BYTES : end <= MAX_FRAME_BYTES) return;
      this.#fail(new Error('a frame over the limit'));
      return;
    }
    if (this.#length > end) {
      this.#fail(new Error('more bytes than the reply has'));
      return;
    }
    const reply = this.#chunks.length === 1 ? bytes : Buffer.concat(this.#chunks, this.#length);
    this.#chunks = [];
    this.#length = 0;
    const { resolve } = this.#pending;
    this.#pending = undefined;
    resolve(format.read(reply));
  }

  /** @param {Error} error */
  #fail(error) {
    const pending = this.#pending;
    this.#pending = undefined;
    this.#socket.destroy();
    pending?.reject(error);
  }
}

/** @typedef {{ testOnBorrow: boolean, acquireTimeoutMillis?: number }} GenericOptions */

/**
 * generic-pool and net, as its documentation and a careful review would have it: what is dead is not lent, what
 * failed is destroyed, nothing waits for ever.
 *
 * @param {number} port
 * @param {number} size
 * @param {GenericOptions} options
 */
export function openGeneric(port, size, options) {
  return openGenericOf(lengthAndBody, port, size, options);
}

/**
 * The same with a format of one's own.
 *
 * @template Message, Reply
 * @param {Format<Message, Reply>} format
 * @param {number} port
 * @param {number} size
 * @param {GenericOptions} options
 */
export function openGenericOf(format, port, size, { testOnBorrow, acquireTimeoutMillis = 30_000 }) {
  const pool = genericPool.createPool(
    {
      create: async () => new CarefulSocket(await connect(port), format),
      destroy: async (socket) => socket.destroy(),
      validate: async (socket) => socket.isUsable,
    },
    { min: size, max: size, testOnBorrow, acquireTimeoutMillis },
  );
  return {
    /** @param {Message} message */
    request: async (message) => {
      const socket = await pool.acquire();
      let reply;
      try {
        reply = await socket.request(message);
      } catch (error) {
        await pool.destroy(socket);
        throw error;
      }
      await pool.release(socket);
      return reply;
    },
    ready: () => pool.ready(),
    close: async () => {
      await pool.drain();
      await pool.clear();
    },
  };
}

/**
 * A socket to a server that greets: open when the greeting has come.
 *
 * @param {number} port
 */
export async function openGreeted(port) {
  const socket = await connect(port);
  await once(socket, 'data');
  return new CarefulSocket(socket, lengthAndBody);
}

/**
 * @param {number} port
 * @returns {Promise<net.Socket>}
 */
export function connect(port) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: '127.0.0.1', port, noDelay: true, keepAlive: true });
    const timer = setTimeout(() => socket.destroy(new Error('could not connect in time')), 5_000);
    const settle = () => {
      clearTimeout(timer);
      socket.off('error', onError);
    };
    const onError = (/** @type {Error} */ error) => {
      settle();
      reject(error);
    };
    socket.once('error', onError);
    socket.once('connect', () => {
      settle();
      resolve(socket);
    });
  });
}

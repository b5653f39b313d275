/**
 * Everybody who GETs from Redis in the benchmark, each behind the same two functions. `kind` says with which of the
 * hand-written loops one is compared: exclusive, one GET at a time on each of 10 sockets, or pipelined, many on one.
 *
 * All are as their documentation has them, and with their defaults where nothing is said here.
 */
import { once } from 'node:events';
import net from 'node:net';
import { createClient as createNodeRedis } from '@redis/client';
import { Redis } from 'ioredis';
// @ts-expect-error It has no types.
import Jackpot from 'jackpot';
import { createClient, createPool } from 'pulsepool';
import { openGenericOf } from './by-hand.mjs';
import { get, openExclusiveLoop, openPipelinedLoop, Reader } from './redis-loop.mjs';
import { resp } from './resp.mjs';

const host = '127.0.0.1';
const SOCKETS = 10;
const CR = 13;
const DOLLAR = 36;

/**
 * @typedef {object} Getter
 * @property {() => Promise<unknown>} get
 * @property {() => unknown} close
 */

/**
 * @typedef {object} Contestant
 * @property {'exclusive' | 'pipelined'} kind
 * @property {(port: number, key: string) => Promise<Getter>} open
 */

/** @type {Record<string, Contestant>} */
export const contestants = {
  'raw loop': {
    kind: 'exclusive',
    open: async (port, key) => bound(await openExclusiveLoop(port, SOCKETS), key),
  },

  'raw loop, writes deferred': {
    kind: 'exclusive',
    open: async (port, key) => bound(await openExclusiveLoop(port, SOCKETS, { isDeferred: true }), key),
  },

  'pulsepool client': {
    kind: 'exclusive',
    open: async (port, key) => openOurs('exclusive', port, key),
  },

  'pulsepool pool.request': {
    kind: 'exclusive',
    open: async (port, key) => {
      const pool = createPool({ host, port, codec: resp, max: SOCKETS });
      const message = ['GET', key];
      return { get: () => pool.request(message), close: () => pool.close() };
    },
  },

  'generic-pool + net by hand': {
    kind: 'exclusive',
    open: async (port, key) => {
      const pool = openGenericOf(bulkString, port, SOCKETS, { testOnBorrow: true });
      await pool.ready();
      return { get: () => pool.request(key), close: pool.close };
    },
  },

  'raw loop, pipelined': {
    kind: 'pipelined',
    open: async (port, key) => bound(await openPipelinedLoop(port), key),
  },

  'pulsepool client, pipelined': {
    kind: 'pipelined',
    open: async (port, key) => openOurs('pipelined', port, key),
  },

  ioredis: { kind: 'pipelined', open: (port, key) => openIoredis(false, port, key) },

  'ioredis, enableAutoPipelining': { kind: 'pipelined', open: (port, key) => openIoredis(true, port, key) },

  'node-redis': {
    kind: 'pipelined',
    open: async (port, key) => {
      const client = createNodeRedis({ socket: { host, port } });
      await client.connect();
      return { get: () => client.get(key), close: () => client.destroy() };
    },
  },

  'jackpot, FIFO by hand': { kind: 'pipelined', open: openJackpot },
};

/** @type {import('./by-hand.mjs').Format<string, string>} */
const bulkString = {
  leastBytes: 1,
  write: get,
  endOf: (bytes) => {
    if (bytes[0] !== DOLLAR) throw new Error(`not a value: ${bytes.subarray(0, 100)}`);
    const at = bytes.indexOf(CR);
    return at < 0 ? Number.POSITIVE_INFINITY : at + 2 + Number(bytes.toString('latin1', 1, at)) + 2;
  },
  read: (bytes) => bytes.toString('latin1', bytes.indexOf(CR) + 2, bytes.length - 2),
};

/**
 * @param {{ get(key: string): Promise<string>, close(): void }} loop
 * @param {string} key
 * @returns {Getter}
 */
function bound(loop, key) {
  return { get: () => loop.get(key), close: loop.close };
}

/**
 * @param {'exclusive' | 'pipelined'} mode
 * @param {number} port
 * @param {string} key
 * @returns {Getter}
 */
function openOurs(mode, port, key) {
  const client = createClient({ host, port, codec: resp, max: SOCKETS, mode });
  const message = ['GET', key];
  return { get: () => client.request(message), close: () => client.close() };
}

/**
 * @param {boolean} enableAutoPipelining
 * @param {number} port
 * @param {string} key
 * @returns {Promise<Getter>}
 */
async function openIoredis(enableAutoPipelining, port, key) {
  const client = new Redis({ host, port, enableAutoPipelining });
  await once(client, 'ready');
  return { get: () => client.get(key), close: () => client.disconnect() };
}

/**
 * jackpot lends a socket to several callers at once, the least busy one. How busy a socket is it reads from
 * internals that Node no longer has, so that everybody gets the same one. On each there is a queue of callers, and
 * replies come in their order.
 *
 * @param {number} port
 * @param {string} key
 * @returns {Promise<Getter>}
 */
async function openJackpot(port, key) {
  /** @typedef {{ resolve: (value: string) => void, reject: (error: Error) => void }} Caller */
  /** @type {WeakMap<net.Socket, { callers: Caller[], first: number }>} */
  const queues = new WeakMap();
  const pool = new Jackpot(SOCKETS, () => {
    const socket = net.connect({ host, port, noDelay: true, keepAlive: true });
    const queue = { callers: /** @type {Caller[]} */ ([]), first: 0 };
    queues.set(socket, queue);
    const reader = new Reader((reply) => {
      const caller = queue.callers[queue.first];
      queue.first += 1;
      if (queue.first === queue.callers.length || queue.first === 1_000) {
        queue.callers = queue.callers.slice(queue.first);
        queue.first = 0;
      }
      caller?.resolve(reply);
    });
    socket.on('data', (chunk) => reader.read(chunk));
    socket.on('close', () => {
      for (const caller of queue.callers.slice(queue.first)) caller.reject(new Error('closed'));
    });
    return socket;
  });
  // It throws what nobody listens to.
  pool.on('error', () => undefined);
  const ask = () =>
    new Promise((resolve, reject) => {
      pool.pull((/** @type {Error | undefined} */ error, /** @type {net.Socket} */ socket) => {
        const queue = error ? undefined : queues.get(socket);
        if (queue === undefined) {
          reject(error);
          return;
        }
        queue.callers.push({ resolve, reject });
        socket.write(get(key), 'latin1');
      });
    });
  // While some are being opened a caller too many would wait for a second.
  await Promise.all(Array.from({ length: SOCKETS }, ask));
  return { get: ask, close: () => pool.end(true) };
}

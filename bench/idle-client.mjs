// One side of the idle benchmark, in a process of its own: `idle-client.mjs pooled|bare <port> <count>`. It opens
// its sockets, beats, and answers each message of the parent with what its sockets have cost so far. The message
// is the order in which the bare side writes from then on.
import net from 'node:net';
import { createPool, lengthPrefixed } from 'pulsepool';

/** @typedef {{ memory: number, rss: number, cpuUs: number, beats: number, at: number }} Report */

const INTERVAL_MS = 2_000;
// The pool shortens each interval by up to a tenth; on average a socket beats this often.
const PERIOD_MS = INTERVAL_MS * 0.95;

/** @typedef {'mixed' | 'opened'} Order */

const [, , kind, port, count] = process.argv;
/** @type {Order} */
let order = 'mixed';
const sockets = Number(count);
const before = await memory();
const beats = kind === 'pooled' ? await openPool() : await openBare();
const cpuBefore = process.cpuUsage();

process.on('message', async (message) => {
  const { system, user } = process.cpuUsage(cpuBefore);
  const done = beats();
  const at = performance.now();
  const now = await memory();
  const spent = process.cpuUsage(cpuBefore);
  /** @type {Report} */
  const report = {
    memory: (now.used - before.used) / sockets,
    rss: (now.rss - before.rss) / sockets,
    cpuUs: user + system,
    beats: done,
    at,
  };
  // What the report itself costs, collecting garbage above all, is not the heartbeat's.
  cpuBefore.user += spent.user - user;
  cpuBefore.system += spent.system - system;
  order = message === 'opened' ? 'opened' : 'mixed';
  process.send?.(report);
});
process.on('disconnect', () => process.exit());
process.send?.('open');

/** Sockets of a pool with a heartbeat. Returns how many pings were answered. */
async function openPool() {
  const pool = createPool({
    host: '127.0.0.1',
    port: Number(port),
    codec: lengthPrefixed(),
    min: sockets,
    max: sockets,
    heartbeat: {
      intervalMs: INTERVAL_MS,
      timeoutMs: INTERVAL_MS / 2,
      ping: 'ping',
      isPong: (frame) => frame.length === 4 && frame.toString('latin1') === 'ping',
    },
  });
  await pool.ready();
  return () => pool.stats().pinged;
}

/** Sockets that nobody manages: a timer writes to as many as are due, and what comes back is counted. */
async function openBare() {
  let echoed = 0;
  const ping = Buffer.from('\0\0\0\x04ping');
  /** @type {net.Socket[]} */
  const all = [];
  const open = async () => {
    while (all.length < sockets) {
      const socket = net.connect({ host: '127.0.0.1', port: Number(port), noDelay: true, keepAlive: true });
      all.push(socket);
      socket.on('data', (chunk) => {
        // Two at once, when the order has just changed.
        echoed += chunk.length / ping.length;
      });
      socket.on('error', (error) => {
        throw error;
      });
      socket.on('close', () => {
        throw new Error('bug: closed');
      });
      await new Promise((resolve) => socket.once('connect', resolve));
    }
  };
  await Promise.all([open(), open(), open(), open()]);
  const mixed = all.map((socket) => ({ socket, at: Math.random() })).sort((a, b) => a.at - b.at);
  const begun = performance.now();
  let written = 0;
  setInterval(() => {
    const due = ((performance.now() - begun) / PERIOD_MS) * sockets;
    for (; written < due; written++) {
      const next = written % sockets;
      (order === 'mixed' ? mixed[next]?.socket : all[next])?.write(ping);
    }
  }, 1);
  return () => echoed;
}

/** What JavaScript holds, after garbage is gone. `external` includes the memory of ArrayBuffers. */
async function memory() {
  for (let round = 0; round < 3; round++) {
    await new Promise((resolve) => setImmediate(resolve));
    globalThis.gc?.();
  }
  const { external, heapUsed, rss } = process.memoryUsage();
  return { used: heapUsed + external, rss };
}

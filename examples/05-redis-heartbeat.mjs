// Redis with heartbeats: a small RESP codec, and resting sockets that prove with PING and PONG that they live.
//
//     REDIS_HOST=127.0.0.1 REDIS_PORT=6379 node examples/05-redis-heartbeat.mjs
import { setTimeout as sleep } from 'node:timers/promises';
import { createPool } from 'pulsepool';

const CRLF = Buffer.from('\r\n');

/**
 * RESP2, as far as PING, SET and GET need it: +simple, -error, :integer and $bulk. Commands are arrays of bulk
 * strings, so any value can be sent.
 *
 * @type {import('pulsepool').Codec<readonly string[], string | number | null | Error>}
 */
const resp = {
  name: 'RESP',
  encode(command) {
    const parts = command.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`);
    return Buffer.from(`*${command.length}\r\n${parts.join('')}`);
  },
  decode(bytes) {
    const end = bytes.indexOf(CRLF);
    if (end === -1) return undefined;
    const line = `${bytes.peek(end)}`;
    const head = end + CRLF.length;
    const rest = line.slice(1);
    if (line[0] === '$' && rest !== '-1') {
      // Length first, so the value may hold any bytes, line ends too. Nothing is taken before all of it is here.
      const length = Number(rest);
      if (bytes.length < head + length + CRLF.length) return undefined;
      bytes.skip(head);
      const value = bytes.take(length).toString();
      bytes.skip(CRLF.length);
      return value;
    }
    bytes.skip(head);
    if (line[0] === '$') return null;
    if (line[0] === '+') return rest;
    if (line[0] === ':') return Number(rest);
    // An error is a reply like others: the exchange is complete, and the socket stays.
    if (line[0] === '-') return new Error(rest);
    throw new Error(`not a reply that this example knows: ${line}`);
  },
};

const pool = createPool({
  host: process.env['REDIS_HOST'] || '127.0.0.1',
  port: Number(process.env['REDIS_PORT'] || 6379),
  codec: resp,
  min: 2,
  max: 4,
  // Thirty seconds by default; short here, so that there is something to see.
  heartbeat: { intervalMs: 100, timeoutMs: 1_000, ping: ['PING'], isPong: (reply) => reply === 'PONG' },
});

/** @type {Set<number>} */
const alive = new Set();
pool.on('pinged', ({ connectionId }) => alive.add(connectionId));
pool.on('closed', ({ reason, error }) => {
  if (error !== undefined) console.log(`a socket was lost: ${reason}, ${error.code}`);
});

try {
  await pool.ready();
  console.log('SET', await pool.request(['SET', 'pulsepool:example', 'hello\r\nworld']));
  console.log('GET', JSON.stringify(await pool.request(['GET', 'pulsepool:example'])));
  // Two commands on one and the same socket.
  const removed = await pool.use(async (lease) => {
    await lease.request(['DEL', 'pulsepool:example']);
    return lease.request(['GET', 'pulsepool:example']);
  });
  console.log('after DEL', removed);

  await sleep(500);
  console.log(`sockets that answered a PING while they rested: ${alive.size} of ${pool.stats().total}`);
} catch (error) {
  const { code, message, hint } = /** @type {import('pulsepool').PulsepoolError} */ (error);
  console.error(`${code}: ${message}\n${hint}`);
  process.exitCode = 1;
} finally {
  await pool.close();
}

// Subscriptions: a server that pushes, a handler that is given one frame after the other, and a connection that comes
// back by itself, and says that something may have been missed.
//
//     node examples/15-subscription.mjs                        always with a server of its own
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient, lines } from 'pulsepool';
import { eachLine, startServer } from './own-server.mjs';

/** @typedef {import('node:net').Socket} Socket */

/**
 * A price feed: whoever sent SUB is told each new price.
 *
 * @type {Set<Socket>}
 */
const listeners = new Set();
/** @type {Set<Socket>} */
const deaf = new Set();
const { host, port, close } = await startServer((socket) => {
  socket.on('close', () => listeners.delete(socket));
  eachLine(socket, (line) => {
    // A half-open connection: both ends think that it stands, and nothing comes through.
    if (deaf.has(socket)) return;
    if (line === 'PING') socket.write('PONG\n');
    else if (line === 'SUB prices') listeners.add(socket);
    else socket.write(`Echo: ${line}\n`);
  });
});
/** @param {string} price */
async function publish(price) {
  while (listeners.size === 0) await sleep(5);
  for (const socket of listeners) if (!deaf.has(socket)) socket.write(`${price}\n`);
}

const client = createClient({
  host,
  port,
  codec: lines(),
  // One of these is the subscription's, for as long as it lasts.
  max: 3,
  // Nobody can tell a quiet market from a dead line, but by asking. Short, so that there is something to see.
  heartbeat: { intervalMs: 100, timeoutMs: 100, ping: 'PING', isPong: (line) => line === 'PONG' },
});

/** @type {string[]} */
const prices = [];
const subscription = client.subscribe(
  'SUB prices',
  async (price) => {
    // The next one waits for this, and so does the server when too many wait.
    await sleep(10);
    prices.push(price);
  },
  {
    onLost: ({ code, hint }) => console.log(`lost: ${code}. ${hint}`),
    // The place to ask for what may have been missed.
    onRestored: () => console.log('restored'),
  },
);
await subscription.ready;
await publish('1.00');
await publish('1.01');
while (prices.length < 2) await sleep(5);
console.log(`prices: ${prices.join(', ')}`);

// Requests go on beside it, on other sockets.
console.log(await client.request('hello'));

// The line dies without a word. The pings find out, and another one is opened.
const [dead] = listeners;
assert.ok(dead);
deaf.add(dead);
listeners.delete(dead);
await once(dead, 'close');
await publish('1.02');
while (prices.length < 3) await sleep(5);
console.log(`prices: ${prices.join(', ')}`);
assert.deepEqual(client.pool.stats().closedBy, { heartbeat: 1 });

// When this is done, the handler does not run any more.
await subscription.close();
await client.close();
close();

// Leaks: who holds a lease for too long, and where they took it; one that is merely slow; who still held one when
// the pool closed; and a lease that nobody can release any more.
//
//     node --expose-gc examples/07-leaks.mjs                  against a server of its own
//     HOST=10.0.0.7 PORT=7000 node examples/07-leaks.mjs      against your line echo server
//
// Without --expose-gc the last kind is left out: the collector would come, but when is its own business.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createPool, lines } from 'pulsepool';
import { eachLine, ownServer } from './own-server.mjs';

const { host, port, close } = await ownServer((socket) => {
  eachLine(socket, (line) => socket.write(`Echo: ${line}\n`));
});

// Far above the longest honest use in a real service. Only with it, stacks are taken.
const pool = createPool({ host, port, codec: lines(), max: 3, leakAfterMs: 100 });
pool.on('leaked', ({ connectionId, heldMs, stack, isLost }) => {
  const what = isLost ? 'lost, and its socket was closed' : `held for ${Math.round(heldMs)} ms so far`;
  console.log(`leaked: a lease of socket ${connectionId} is ${what}, taken ${placeOf(stack)}`);
});
pool.on('unleaked', ({ heldMs, stack }) => {
  console.log(`unleaked: it came back after ${Math.round(heldMs)} ms, taken ${placeOf(stack)}`);
});

// 1. Slow, not lost: told as leaked, and as unleaked when it is back. Nothing is taken away from anybody.
async function writeSlowReport() {
  await pool.use(async (lease) => {
    await lease.request('a row');
    await sleep(300);
    assert.equal(await lease.request('the last row'), 'Echo: the last row');
  });
}
await writeSlowReport();
assert.equal(pool.stats().leaked, 1);

// 2. Lost: whoever had it returned early, and let go of it. No timer can tell that from slow; the collector can.
async function loseIt() {
  const lease = await pool.acquire();
  await lease.request('who would release it?');
}
if (globalThis.gc === undefined) {
  console.log('skipped: a lost lease, since node runs without --expose-gc');
} else {
  await loseIt();
  assert.equal(pool.stats().leased, 1);
  // Leases are watched from their first second on; most are back long before.
  await sleep(1_200);
  globalThis.gc();
  await sleep(100);
  assert.equal(pool.stats().closedBy.leaked, 1, 'the lost lease was not found');
  assert.equal(pool.stats().leased, 0);
  console.log('its place is free again: 0 leased');
}

// 3. Held for ever: somebody still has it. close() gives them their time, ends the socket, and says who it was.
/** @type {unknown[]} */
const sessions = [];
async function forgetToRelease() {
  const lease = await pool.acquire();
  await lease.request('for the session');
  sessions.push(lease);
}
await forgetToRelease();
const { forced, holders } = await pool.close({ timeoutMs: 200 });
console.log(`close: ${forced} lease was cut off, taken ${placeOf(holders[0]?.stack)}`);
assert.equal(forced, 1);
assert.match(`${holders[0]?.stack}`, /forgetToRelease/);

close();

/**
 * The first line of a stack, without the path.
 *
 * @param {string | undefined} stack
 */
function placeOf(stack) {
  return `${stack?.split('\n')[0]}`.trim().replace(/\(?\S*\//, '(');
}

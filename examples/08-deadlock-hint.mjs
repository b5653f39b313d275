// A deadlock of a pool: everybody holds one lease and waits for a second one, so nobody ever goes on. It comes with
// the first busy hour, and looks like a dead server. This one is told in the moment in which it happens.
//
//     node examples/08-deadlock-hint.mjs                          against a server of its own
//     HOST=10.0.0.7 PORT=7000 node examples/08-deadlock-hint.mjs  against your line echo server
import assert from 'node:assert/strict';
import { createPool, lines } from 'pulsepool';
import { eachLine, ownServer } from './own-server.mjs';

/** @typedef {import('pulsepool').Lease<string, string>} Lease */

const { host, port, close } = await ownServer((socket) => {
  eachLine(socket, (line) => socket.write(`Echo: ${line}\n`));
});

const pool = createPool({
  host,
  port,
  codec: lines(),
  max: 2,
  // Thirty seconds by default: so long would everybody be stuck.
  acquireTimeoutMs: 1_000,
  // Off by default, since it costs an AsyncLocalStorage. On, it finds the place before the first deadline passes.
  detectDeadlocks: true,
});

/** @type {import('pulsepool').DeadlockSuspectedEvent[]} */
const suspicions = [];
pool.on('deadlockSuspected', (event) => {
  suspicions.push(event);
  if (suspicions.length > 1) return;
  console.log('deadlock suspected:');
  console.log(`  a lease is held, taken     ${placeOf(event.holding[0]?.stack)}`);
  console.log(`  and another one is awaited ${placeOf(event.stack)}`);
});

// The mistake: with a lease in hand, a function is called that takes one of its own. Each of the two is fine alone.
async function moveMoney() {
  await pool.use(async (lease) => {
    await lease.request('BEGIN');
    await writeAuditLine();
    await lease.request('COMMIT');
  });
}
async function writeAuditLine() {
  await pool.request('AUDIT money was moved');
}

// One caller alone gets through, and tests pass. Two at once, with two sockets, never do.
await moveMoney();
assert.equal(suspicions.length, 0);
console.log('one at a time: done');

const results = await Promise.allSettled([moveMoney(), moveMoney()]);
const [first] = results.filter((result) => result.status === 'rejected');
if (first === undefined) throw new Error('there was no deadlock');
console.log(`two at once: ${first.reason.code}`);
console.log(`  ${first.reason.hint}`);
assert.equal(first.reason.code, 'ERR_ACQUIRE_TIMEOUT');
assert.match(`${suspicions[0]?.holding[0]?.stack}`, /moveMoney/);
assert.match(`${suspicions[0]?.stack}`, /writeAuditLine/);

// Mended: the lease is handed on, and one caller needs one socket. (Where that can't be: release the first before
// the second is asked for.)
async function moveMoneyWithOneLease() {
  await pool.use(async (lease) => {
    await lease.request('BEGIN');
    await writeAuditLineOn(lease);
    await lease.request('COMMIT');
  });
}
/** @param {Lease} lease */
async function writeAuditLineOn(lease) {
  await lease.request('AUDIT money was moved');
}

const before = pool.stats().deadlocksSuspected;
await Promise.all(Array.from({ length: 10 }, moveMoneyWithOneLease));
assert.equal(pool.stats().deadlocksSuspected, before);
console.log('mended: ten at once are done, and nothing is suspected');

await pool.close();
close();

/**
 * The first line of a stack, without the path.
 *
 * @param {string | undefined} stack
 */
function placeOf(stack) {
  return `${stack?.split('\n')[0]}`.trim().replace(/\(?\S*\//, '(');
}

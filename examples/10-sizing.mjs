// How many sockets? The pool measures its own work, and says what it would set differently.
//
//     node examples/10-sizing.mjs                          against a server of its own
//     HOST=10.0.0.7 PORT=7000 node examples/10-sizing.mjs  against your line echo server
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createPool, lines } from 'pulsepool';
import { eachLine, ownServer } from './own-server.mjs';

const { host, port, close } = await ownServer((socket) => {
  eachLine(socket, (line) => socket.write(`Echo: ${line}\n`));
});

// A guess: two sockets. The load comes in bursts of four.
const pool = createPool({ host, port, codec: lines(), max: 2 });

const small = await load();
console.log(`max 2: ${small.count} waits, ${small.meanMs.toFixed(1)} ms on average`);

// Percentiles are of the last minutes; counts and sums only grow, for whoever scrapes them. `hold` is the first
// thing to look at: sockets are busy for as long as leases are held, and not longer.
const { wait, hold, dial } = pool.stats().times;
console.log(`wait: p50 ${ms(wait.p50Ms)}, p99 ${ms(wait.p99Ms)}, longest ${ms(wait.maxMs)}`);
console.log(`hold: p50 ${ms(hold.p50Ms)}, p99 ${ms(hold.p99Ms)}`);
console.log(`dial: p50 ${ms(dial.p50Ms)} (${dial.count} dials)`);
assert.ok(wait.p99Ms > 1 && hold.p50Ms >= 9 && dial.count === 2);

// One row for each socket, as a debug page would show it.
for (const { connectionId, state, uses, ageMs } of pool.sockets()) {
  console.log(`socket ${connectionId}: ${state}, lent ${uses} times in ${ageMs} ms`);
}
assert.equal(pool.sockets().length, pool.stats().total);

// The advice comes as a sentence for people, and as options. Sizes can be set while the pool runs; what was measured
// before is forgotten then, so that the next advice is about the new ones.
const [advice] = pool.advice();
if (advice?.kind !== 'raise-max') throw new Error(`the advice is ${advice?.kind}`);
console.log(`advice: ${advice.message}`);
pool.resize(advice.suggest);
console.log(`resized: max is ${pool.stats().max}`);
assert.ok(pool.stats().max > 2);

const large = await load();
console.log(`max ${pool.stats().max}: ${large.count} waits, ${large.meanMs.toFixed(1)} ms on average`);
assert.ok(large.meanMs < small.meanMs / 2, 'the advice did not help');

await pool.close();
close();

/**
 * Thirty bursts of four callers, each of whom needs a socket for 10 ms. Returns how often and how long they waited
 * for it: differences of what only grows.
 */
async function load() {
  const before = pool.stats().times.wait;
  for (let burst = 0; burst < 30; burst += 1) {
    await Promise.all(Array.from({ length: 4 }, () => pool.use(job)));
    await sleep(20);
  }
  const after = pool.stats().times.wait;
  const count = after.count - before.count;
  return { count, meanMs: count === 0 ? 0 : (after.sumMs - before.sumMs) / count };
}

/** @param {import('pulsepool').Lease<string, string>} lease */
async function job(lease) {
  await sleep(10);
  await lease.request('a job');
}

/** @param {number} value */
function ms(value) {
  return `${value.toFixed(1)} ms`;
}

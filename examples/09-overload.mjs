// Overload: more callers than the server can serve. Who goes first, who is told no, and how soon.
//
//     node examples/09-overload.mjs                           against a server of its own
//     HOST=10.0.0.7 PORT=7000 node examples/09-overload.mjs   against your line echo server
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { AcquireError, createPool, lines } from 'pulsepool';
import { eachLine, ownServer } from './own-server.mjs';

const { host, port, close } = await ownServer((socket) => {
  eachLine(socket, (line) => socket.write(`Echo: ${line}\n`));
});

// 1. Priority: each level is worth one second of waiting. Nobody waits for ever, and a health check is not behind
//    a night's worth of reports.
{
  const pool = createPool({ host, port, codec: lines(), max: 1 });
  /** @type {string[]} */
  const order = [];
  /** @param {string} name @param {number} priority */
  const ask = async (name, priority) => {
    await pool.request(name, { priority });
    order.push(name);
  };
  const lease = await pool.acquire();
  const everybody = [ask('report', -5), ask('page', 0), ask('another page', 0), ask('health check', 5)];
  await sleep(10);
  lease.release();
  await Promise.all(everybody);
  console.log(`priority: ${order.join(', ')}`);
  assert.deepEqual(order, ['health check', 'page', 'another page', 'report']);
  await pool.close();
}

// 2. maxWaiting: the line has an end. Who comes when it is full hears so at once, and can answer 503 instead of
//    making a user wait for nothing.
{
  const pool = createPool({ host, port, codec: lines(), max: 1, maxWaiting: 3 });
  const lease = await pool.acquire();
  const waiting = Array.from({ length: 3 }, (_, index) => pool.request(`in line ${index}`));
  const error = await pool.request('one too many').then(
    () => undefined,
    (/** @type {unknown} */ reason) => reason,
  );
  assert.ok(error instanceof AcquireError);
  assert.equal(error.code, 'ERR_OVERLOADED');
  assert.ok(error.retryable && error.sent === 'none');
  console.log(
    `maxWaiting: ${error.code} after ${Math.round(error.waitedMs)} ms, ${error.counts.waiting} wait`,
  );
  lease.release();
  assert.equal((await Promise.all(waiting)).length, 3);
  await pool.close();
}

// 3. shedAfterMs: a server that can do half of what is asked of it. First come, first served means that everybody
//    waits as long as they can bear, and that half of them do so in vain. With shedAfterMs, those who are served are
//    served soon, and the others hear soon that they are not. The work that gets done is about the same.
const inLine = await overload({});
const shed = await overload({ shedAfterMs: 80 });
console.log(
  `first come, first served: ${inLine.done} done; in the second half they waited ${inLine.waitMs} ms`,
);
console.log(`shedAfterMs: ${shed.done} done; in the second half they waited ${shed.waitMs} ms`);
console.log(`  and ${shed.refused} were told ERR_OVERLOADED, after ${shed.refusedMs} ms`);
assert.ok(shed.done > 0 && shed.refused > 0);
assert.ok(shed.waitMs < inLine.waitMs / 2, 'shedding did not make the wait shorter');
assert.ok(shed.refusedMs < 300, 'who was refused had to wait for it');

close();

/**
 * Eighty callers a second for two seconds, and two sockets, which can do forty jobs of 50 ms in one.
 *
 * @param {{ shedAfterMs?: number }} options
 */
async function overload(options) {
  const pool = createPool({ host, port, codec: lines(), max: 2, acquireTimeoutMs: 350, ...options });
  /** @type {{ waitedMs: number, askedAt: number }[]} */
  const served = [];
  /** @type {number[]} */
  const refusals = [];
  const call = async () => {
    const askedAt = performance.now();
    try {
      await pool.use(async (lease) => {
        const waitedMs = performance.now() - askedAt;
        await sleep(50);
        await lease.request('a job');
        served.push({ waitedMs, askedAt });
      });
    } catch (error) {
      assert.ok(error instanceof AcquireError);
      if (error.code === 'ERR_OVERLOADED') refusals.push(error.waitedMs);
      else assert.equal(error.code, 'ERR_ACQUIRE_TIMEOUT');
    }
  };

  const startedAt = performance.now();
  const calls = [];
  while (performance.now() - startedAt < 2_000) {
    calls.push(call());
    await sleep(12);
  }
  await Promise.all(calls);
  await pool.close();
  const late = served.filter(({ askedAt }) => askedAt - startedAt > 1_000);
  return {
    done: served.length,
    waitMs: median(late.map(({ waitedMs }) => waitedMs)),
    refused: refusals.length,
    refusedMs: median(refusals),
  };
}

/** @param {number[]} values */
function median(values) {
  return Math.round(values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0);
}

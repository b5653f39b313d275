/**
 * How many bytes each contestant of the Redis benchmark allocates for a GET, in a process of its own:
 * `node --expose-gc --min-semi-space-size=64 --max-semi-space-size=64 bench/redis-bytes.mjs <port>`.
 *
 * All garbage is collected, and then it is what `heapUsed` grows by. The young generation is so large that nothing is
 * collected meanwhile; should that happen, it throws. Memory outside of the heap, which replies are read into, is not
 * counted: it is the same for all.
 */
import { PerformanceObserver } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { contestants } from './redis-clients.mjs';
import { CROWDS, crowd, KEY } from './redis-crowd.mjs';

const WARM_UP = { callers: 50, requests: 10_000 };
const REQUESTS = 1_500;
const TIMED = 16;

/** @typedef {Record<string, Record<number, number>>} Report bytes, by contestant and number of callers */

const port = Number(process.argv[2]);
const collect = globalThis.gc;
if (collect === undefined) throw new Error('it needs --expose-gc');

let collected = 0;
new PerformanceObserver((list) => {
  collected += list.getEntries().length;
}).observe({ entryTypes: ['gc'] });

/** @type {Report} */
const report = {};
for (const [name, { open }] of Object.entries(contestants)) {
  const { close, get } = await open(port, KEY);
  // Compiled, and with all that is made once.
  await crowd(get, WARM_UP.callers, WARM_UP.requests, TIMED);
  /** @type {Record<number, number>} */
  const bytes = {};
  for (const callers of CROWDS) {
    await crowd(get, callers, REQUESTS, TIMED);
    collect();
    // The observer is told in another turn.
    await sleep(5);
    const before = collected;
    const used = process.memoryUsage().heapUsed;
    await crowd(get, callers, REQUESTS, TIMED);
    bytes[callers] = (process.memoryUsage().heapUsed - used) / REQUESTS;
    await sleep(5);
    if (collected > before) throw new Error(`garbage was collected while ${name} was measured`);
  }
  report[name] = bytes;
  await close();
}
process.send?.(report);
process.disconnect?.();

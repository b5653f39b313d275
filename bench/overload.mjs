/**
 * Overload: what `shedAfterMs` buys. A server that can do 500 requests a second at best, over 10 sockets, gets half as
 * many again for some seconds, then less than it can do. A reply after 500 ms is of no use to its caller.
 *
 * All contestants run at once, each with 10 sockets of its own, and get the same arrivals from the same seed: what
 * else the machine does is the same for all. Callers do not wait for one another: those of an overloaded service keep
 * coming.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createPool, lengthPrefixed } from 'pulsepool';
import { openGeneric } from './by-hand.mjs';
import { median, ratioOf, row, startSlowServer } from './measure.mjs';

const SOCKETS = 10;
const SERVE_MS = 20;
const DEADLINE_MS = 500;
const SHED_AFTER_MS = 100;
// What the server can do at best, in a second.
const RATE = (SOCKETS * 1_000) / SERVE_MS;
const ROUNDS = 3;
const BUSY_MS = 1_000;
const MESSAGE = Buffer.alloc(32, 'pulsepool');

// The load, as a multiple of what the server can do.
const OVERLOAD = 1.5;
const OVERLOAD_MS = 3_000;
const PHASES = [
  { load: OVERLOAD, ms: OVERLOAD_MS },
  { load: 0.7, ms: 700 },
];
// Recovered: of those who came in so long, nearly all were served in time.
const WINDOW_MS = 100;
const RECOVERED = 0.95;

/** @typedef {'good' | 'late' | 'refused' | 'timed out' | 'failed'} Outcome late is a reply after the deadline */

/**
 * One caller.
 *
 * @typedef {object} Call
 * @property {number} at when it came, in ms from the start
 * @property {number} tookMs
 * @property {Outcome} outcome
 */

/**
 * @typedef {object} Contestant
 * @property {() => Promise<unknown>} request
 * @property {(error: unknown) => Outcome} outcomeOf what an error means
 * @property {() => string} note
 * @property {() => Promise<unknown>} close
 */

/**
 * @param {number} port
 * @param {{ shedAfterMs?: number }} options
 * @returns {Promise<Contestant>}
 */
async function openPool(port, options) {
  const pool = createPool({
    host: '127.0.0.1',
    port,
    codec: lengthPrefixed(),
    min: SOCKETS,
    max: SOCKETS,
    ...options,
  });
  await pool.ready();
  return {
    request: () => pool.request(MESSAGE, { timeoutMs: DEADLINE_MS }),
    outcomeOf: (error) => {
      const code = error instanceof Error && 'code' in error ? error.code : undefined;
      if (code === 'ERR_OVERLOADED') return 'refused';
      return code === 'ERR_DEADLINE' ? 'timed out' : 'failed';
    },
    note: () => `${pool.stats().closed} sockets cut off in all`,
    close: () => pool.close(),
  };
}

/**
 * @param {number} port
 * @returns {Promise<Contestant>}
 */
async function openPeer(port) {
  const peer = openGeneric(port, SOCKETS, { testOnBorrow: false, acquireTimeoutMillis: DEADLINE_MS });
  await peer.ready();
  return {
    request: () => peer.request(MESSAGE),
    outcomeOf: (error) => (error instanceof Error && error.name === 'TimeoutError' ? 'timed out' : 'failed'),
    note: () => '',
    close: () => peer.close(),
  };
}

/**
 * When each caller comes, in ms: at random, as many as the load of its phase says.
 *
 * @param {number} seed
 */
function arrivals(seed) {
  const random = randomFrom(seed);
  /** @type {number[]} */
  const times = [];
  let at = 0;
  let end = 0;
  for (const { load, ms } of PHASES) {
    end += ms;
    for (;;) {
      const next = at - (Math.log(1 - random()) * 1_000) / (RATE * load);
      if (next >= end) break;
      at = next;
      times.push(at);
    }
    at = end;
  }
  return times;
}

/**
 * Numbers from 0 to 1 that are the same for the same seed (mulberry32).
 *
 * @param {number} seed
 */
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Sends a caller to each contestant at each of these times. Returns the calls of each.
 *
 * @param {readonly Contestant[]} contestants
 * @param {readonly number[]} times
 */
async function drive(contestants, times) {
  const calls = contestants.map(() => /** @type {Promise<Call>[]} */ ([]));
  const begunAt = performance.now();
  for (const at of times) {
    // Whoever is due comes at once: a machine that is late does not thin out the load.
    while (performance.now() - begunAt < at) await sleep(1);
    contestants.forEach((contestant, index) => {
      calls[index]?.push(call(contestant, at));
    });
  }
  return Promise.all(calls.map((of) => Promise.all(of)));
}

/**
 * @param {Contestant} contestant
 * @param {number} at
 * @returns {Promise<Call>}
 */
async function call(contestant, at) {
  const startedAt = performance.now();
  /** @type {Outcome} */
  let outcome = 'good';
  try {
    await contestant.request();
  } catch (error) {
    outcome = contestant.outcomeOf(error);
  }
  const tookMs = performance.now() - startedAt;
  return { at, tookMs, outcome: outcome === 'good' && tookMs > DEADLINE_MS ? 'late' : outcome };
}

/**
 * What one contestant did in one round; all but the recovery is about the overload.
 *
 * @param {readonly Call[]} calls
 */
function summary(calls) {
  const loaded = calls.filter(({ at }) => at < OVERLOAD_MS);
  const later = loaded.filter(({ at }) => at >= OVERLOAD_MS / 2);
  const good = loaded.filter(isGood);
  const took = good.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
  const count = (/** @type {Outcome} */ outcome) => loaded.filter((one) => one.outcome === outcome).length;
  return {
    perSecond: (good.length / OVERLOAD_MS) * 1_000,
    // The queue has formed by then: so it would go on.
    perSecondLater: (later.filter(isGood).length / OVERLOAD_MS) * 2_000,
    p50: took[Math.floor(took.length / 2)] ?? Number.NaN,
    p99: took[Math.floor(took.length * 0.99)] ?? Number.NaN,
    refused: count('refused'),
    timedOut: count('timed out'),
    late: count('late'),
    failed: count('failed'),
    recoveryMs: recoveryMs(calls),
  };
}

/** @param {Call} call */
function isGood({ outcome }) {
  return outcome === 'good';
}

/**
 * How long after the overload the last window ends in which too few were served in time.
 *
 * @param {readonly Call[]} calls
 */
function recoveryMs(calls) {
  const until = calls.at(-1)?.at ?? OVERLOAD_MS;
  let recovered = 0;
  for (let begin = OVERLOAD_MS; begin + WINDOW_MS <= until; begin += WINDOW_MS) {
    const window = calls.filter(({ at }) => at >= begin && at < begin + WINDOW_MS);
    if (window.filter(isGood).length < RECOVERED * window.length) recovered = begin + WINDOW_MS - OVERLOAD_MS;
  }
  return recovered;
}

/** @typedef {ReturnType<typeof summary>} Summary */

/**
 * The medians of the rounds.
 *
 * @param {readonly Summary[]} rounds
 * @param {string} note
 */
function detail(rounds, note) {
  const of = (/** @type {keyof Summary} */ what) => median(rounds.map((one) => one[what])).toFixed(0);
  const parts = [
    `${of('perSecond')} good replies/s, ${of('perSecondLater')} in the second half`,
    `after ${of('p50')} ms, p99 ${of('p99')}`,
    `${of('refused')} refused, ${of('timedOut')} timed out, ${of('late')} late, ${of('failed')} failed`,
    `recovered after ${of('recoveryMs')} ms`,
  ];
  return (note === '' ? parts : [...parts, note]).join('; ');
}

export async function overload() {
  const server = await startSlowServer({ greetMs: 0, serveMs: SERVE_MS });
  const { port } = server;
  const shedding = await openPool(port, { shedAfterMs: SHED_AFTER_MS });
  const fifo = await openPool(port, {});
  const generic = await openPeer(port);
  const contestants = [shedding, fifo, generic];
  /** @type {Summary[][]} */
  const rounds = [[], [], []];
  for (let round = 0; round < ROUNDS; round++) {
    const results = await drive(contestants, arrivals(round));
    results.forEach((calls, index) => {
      rounds[index]?.push(summary(calls));
    });
  }
  const notes = contestants.map(({ note }) => note());
  await Promise.all(contestants.map(({ close }) => close()));
  const { answered, asked } = await busy(port);
  server.stop();
  return [
    ...rows(rounds, notes),
    row(
      `callers served when ${2 * SOCKETS} share ${SOCKETS} sockets, which is no overload, with shedAfterMs ${SHED_AFTER_MS}`,
      answered / asked,
      { atLeast: 0.99 },
      `${answered} of ${asked}; each has ${SERVE_MS} ms to wait`,
    ),
  ];
}

/**
 * Twice as many callers as sockets, each asking again when it has its answer: all sockets are busy, somebody always
 * waits, and nobody for longer than one request takes. That is no overload. Returns how many were answered, and asked.
 *
 * @param {number} port
 */
async function busy(port) {
  const pool = await openPool(port, { shedAfterMs: SHED_AFTER_MS });
  const endAt = performance.now() + BUSY_MS;
  let asked = 0;
  let answered = 0;
  const caller = async () => {
    while (performance.now() < endAt) {
      asked += 1;
      const { outcome } = await call(pool, 0);
      if (outcome === 'good') answered += 1;
    }
  };
  await Promise.all(Array.from({ length: 2 * SOCKETS }, caller));
  await pool.close();
  return { answered, asked };
}

/**
 * @param {readonly Summary[][]} rounds
 * @param {readonly string[]} notes
 */
function rows([shedding = [], fifo = [], generic = []], [sheddingNote = '', fifoNote = '']) {
  const good = (/** @type {readonly Summary[]} */ of) => of.map(({ perSecond }) => perSecond);
  // At least one, or there is nothing to divide by.
  const goodLater = (/** @type {readonly Summary[]} */ of) =>
    of.map(({ perSecondLater }) => Math.max(perSecondLater, 1));
  return [
    row(
      `replies in time at ${OVERLOAD}x load with shedAfterMs ${SHED_AFTER_MS}, against first come, first served`,
      ratioOf(good(shedding), good(fifo)),
      { atLeast: 1.5 },
      detail(shedding, sheddingNote),
    ),
    row(
      'the same, in the second half, when the queue has formed',
      ratioOf(goodLater(shedding), goodLater(fifo)),
      { atLeast: 2 },
      `first come, first served: ${detail(fifo, fifoNote)}`,
    ),
    row(
      'the same, all of the time, against generic-pool with acquireTimeoutMillis',
      ratioOf(good(shedding), good(generic)),
      { atLeast: 1.5 },
      `generic-pool: ${detail(generic, '')}`,
    ),
    row(
      'replies in time, against all that the server can do at best',
      median(good(shedding)) / RATE,
      {},
      `${median(good(shedding)).toFixed(0)} of ${RATE} a second`,
    ),
  ];
}

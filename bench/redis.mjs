/**
 * GETs of a small value from one real Redis, at 1, 10, 50 and 500 callers: hand-written loops on net.Socket, clients of
 * Redis, pools with net by hand, and pulsepool. What a server on the same machine takes for them is the same for all.
 *
 * Contestants take turns in short rounds and are compared within each. A round is short, so that a slow moment of the
 * machine is in few of them; the more rounds fit into the time, the better.
 */

import { connect } from './by-hand.mjs';
import { median, ratioOf, row, start } from './measure.mjs';
import { contestants } from './redis-clients.mjs';
import { CROWDS, crowd, KEY, VALUE } from './redis-crowd.mjs';
import { startRedis } from './redis-server.mjs';

/** @typedef {import('./redis-crowd.mjs').Round} Round */
/** @typedef {import('./redis-bytes.mjs').Report} Bytes */

const LEAST_ROUNDS = 3;
// By number of callers. Rounds begin while it lasts.
/** @type {Record<number, number>} */
const BUDGETS_MS = { 1: 19_000, 10: 7_000, 50: 12_000, 500: 12_000 };
// How long a round of one contestant takes, about.
const ROUND_MS = 80;
const WARM_UP = { callers: 50, requests: 10_000 };
const TRIAL_REQUESTS = 1_000;
// Of one caller, where there is a bar on the 99th percentile: 50 are slower.
const BARRED_REQUESTS = 5_000;
// Looking at the clock twice takes a tenth of a fast GET: one in so many is timed.
const FAST_US = 10;
const TIMED_OF_FAST = 16;

const RAW = { exclusive: 'raw loop', pipelined: 'raw loop, pipelined' };
const DEFERRED = 'raw loop, writes deferred';
const OURS = { exclusive: 'pulsepool client', pipelined: 'pulsepool client, pipelined' };
const LEGEND = `
of raw     speed against the hand-written loop of its kind, the median of the rounds' ratios
of better  the same, against the better of both loops with one GET at a time on a socket in each round
CPU        of this process, for a GET
bytes      allocated on the heap for a GET, in a process in which nothing is collected meanwhile
jackpot    reads from internals of sockets that Node no longer has how busy each is, and so lends the same one to
           everybody: a queue of callers by hand finds out whose each reply is`;
const BARRED = new Set([...Object.values(RAW), ...Object.values(OURS)]);

/** One number of callers: the rounds of each contestant. */
class Heat {
  /** @type {Map<string, Round[]>} */
  #rounds;
  callers;

  /**
   * @param {number} callers
   * @param {Map<string, Round[]>} rounds
   */
  constructor(callers, rounds) {
    this.callers = callers;
    this.#rounds = rounds;
  }

  /**
   * Something of each round.
   *
   * @param {string} name
   * @param {(round: Round) => number} of
   */
  each(name, of) {
    return (this.#rounds.get(name) ?? []).map(of);
  }

  /** How many times as fast the first is as the second. @param {string} name @param {string} peer */
  speed(name, peer) {
    return ratioOf(this.each(peer, wall), this.each(name, wall));
  }

  /** As fast as the faster of both loops that send one GET at a time on a socket. @param {string} name */
  speedOfBetter(name) {
    const deferred = this.each(DEFERRED, wall);
    const better = this.each(RAW.exclusive, wall).map((us, at) => Math.min(us, deferred[at] ?? Number.NaN));
    return ratioOf(better, this.each(name, wall));
  }

  /** What the first's slowest GET of a hundred took, against the second's: each round's ratio, sorted. @param {string} name @param {string} peer */
  tails(name, peer) {
    const theirs = this.each(peer, p99);
    return this.each(name, p99)
      .map((us, at) => us / (theirs[at] ?? Number.NaN))
      .sort((a, b) => a - b);
  }

  /** @param {string} name */
  rate(name) {
    return `${(1_000 / median(this.each(name, wall))).toFixed(1)}k`;
  }

  /** @param {Bytes} bytes */
  table(bytes) {
    const lines = [
      ['', 'GETs/s', 'of raw', 'of better', 'p50 us', 'p99 us', 'CPU us', 'bytes'],
      ...Object.entries(contestants).map(([name, { kind }]) => [
        name,
        this.rate(name),
        this.speed(name, RAW[kind]).toFixed(2),
        kind === 'exclusive' ? this.speedOfBetter(name).toFixed(2) : '',
        median(this.each(name, p50)).toFixed(0),
        median(this.each(name, p99)).toFixed(0),
        median(this.each(name, cpu)).toFixed(1),
        (bytes[name]?.[this.callers] ?? Number.NaN).toFixed(0),
      ]),
    ];
    const rounds = this.each(RAW.exclusive, wall).length;
    return `\n${this.callers} callers, ${rounds} rounds\n${lines.map(formatLine).join('\n')}`;
  }
}

/** @param {string[]} columns */
function formatLine([name = '', ...figures]) {
  return `  ${name.padEnd(30)}${figures.map((figure) => figure.padStart(10)).join('')}`;
}

/** @param {Round} round */
function wall({ wallUs }) {
  return wallUs;
}

/** @param {Round} round */
function cpu({ cpuUs }) {
  return cpuUs;
}

/** @param {Round} round */
function p50({ waits }) {
  return share(waits, 0.5);
}

/** @param {Round} round */
function p99({ waits }) {
  return share(waits, 0.99);
}

/** @param {ArrayLike<number>} sorted @param {number} part */
function share(sorted, part) {
  return sorted[Math.floor(sorted.length * part)] ?? Number.NaN;
}

/**
 * @param {number} callers
 * @param {Map<string, () => Promise<unknown>>} getters
 */
async function compete(callers, getters) {
  const names = [...getters.keys()];
  /** @type {Map<string, Round[]>} */
  const rounds = new Map(names.map((name) => [name, []]));
  /** @type {Map<string, ReturnType<typeof plan>>} */
  const plans = new Map();
  for (const [name, get] of getters) {
    const { wallUs } = await crowd(get, callers, TRIAL_REQUESTS, TIMED_OF_FAST);
    plans.set(name, plan(name, callers, wallUs));
  }
  const until = performance.now() + (BUDGETS_MS[callers] ?? 0);
  for (let round = 0; round < LEAST_ROUNDS || performance.now() < until; round++) {
    for (const [name, get] of order(getters, round)) {
      const { every = 1, requests = 0 } = plans.get(name) ?? {};
      rounds.get(name)?.push(await crowd(get, callers, requests, every));
    }
  }
  return new Heat(callers, rounds);
}

/**
 * How many GETs a round has, and which of them are timed.
 *
 * @param {string} name
 * @param {number} callers
 * @param {number} us that a GET took before
 */
function plan(name, callers, us) {
  const least = callers === 1 && BARRED.has(name) ? BARRED_REQUESTS : callers;
  return {
    requests: Math.max(least, Math.round((ROUND_MS * 1_000) / us)),
    every: us < FAST_US ? TIMED_OF_FAST : 1,
  };
}

/**
 * The order turns each round, so that nobody always runs after the same neighbour's garbage.
 *
 * @template Item
 * @param {Iterable<Item>} items
 * @param {number} by
 */
function order(items, by) {
  const all = [...items];
  const first = by % all.length;
  return [...all.slice(first), ...all.slice(0, first)];
}

/** @param {number} port */
async function setValue(port) {
  const socket = await connect(port);
  socket.end(`SET ${KEY} "${VALUE}"\r\n`);
  for await (const reply of socket) if (!String(reply).startsWith('+OK')) throw new Error(String(reply));
}

/** @param {number} port @returns {Promise<Bytes>} */
async function countBytes(port) {
  const flags = ['--expose-gc', '--min-semi-space-size=64', '--max-semi-space-size=64'];
  const { hello } = await start('./redis-bytes.mjs', { args: [String(port)], flags });
  return /** @type {Bytes} */ (hello);
}

export async function redis() {
  const server = await startRedis();
  try {
    await setValue(server.port);
    const bytes = await countBytes(server.port);
    /** @type {Map<string, () => Promise<unknown>>} */
    const getters = new Map();
    const ends = [];
    for (const [name, { open }] of Object.entries(contestants)) {
      const { close, get } = await open(server.port, KEY);
      await crowd(get, WARM_UP.callers, WARM_UP.requests, TIMED_OF_FAST);
      getters.set(name, get);
      ends.push(close);
    }
    /** @type {Record<number, Heat>} */
    const heats = {};
    console.log(LEGEND);
    for (const callers of CROWDS) {
      const heat = await compete(callers, getters);
      heats[callers] = heat;
      console.log(heat.table(bytes));
    }
    for (const end of ends) await end();
    return rows(heats);
  } finally {
    await server.stop();
  }
}

/** @param {Record<number, Heat>} heats */
function rows({ 1: alone, 50: some, 500: many }) {
  if (alone === undefined || some === undefined || many === undefined)
    throw new Error('bug: a heat is missing');
  const auto = 'ioredis, enableAutoPipelining';
  const { exclusive, pipelined } = OURS;
  /** @param {Heat} heat @param {string} name @param {string} peer */
  const rates = (heat, name, peer) => `${heat.rate(name)} against ${heat.rate(peer)} GETs/s`;
  return [
    row(
      'exclusive, 50 callers, against a hand-written loop on net.Socket',
      some.speed(exclusive, RAW.exclusive),
      { atLeast: 0.9 },
      rates(some, exclusive, RAW.exclusive),
    ),
    row(
      'the same, against the better of two such loops in each round',
      some.speedOfBetter(exclusive),
      {},
      `the other one defers its writes to the end of the turn: ${some.rate(DEFERRED)} GETs/s`,
    ),
    row(
      'pipelined, 500 callers, against ioredis with enableAutoPipelining',
      many.speed(pipelined, auto),
      { atLeast: 3 },
      rates(many, pipelined, auto),
    ),
    row(
      'the same, against a hand-written pipelined loop',
      many.speed(pipelined, RAW.pipelined),
      { atLeast: 0.45 },
      rates(many, pipelined, RAW.pipelined),
    ),
    tailRow(alone, 'exclusive'),
    tailRow(alone, 'pipelined'),
  ];
}

/**
 * @param {Heat} alone
 * @param {'exclusive' | 'pipelined'} kind
 */
function tailRow(alone, kind) {
  const tails = alone.tails(OURS[kind], RAW[kind]);
  // With one caller both raw loops do the same: so far apart are two that are equal.
  const noise = alone.tails(RAW.pipelined, RAW.exclusive);
  /** @param {number[]} of */
  const middle = (of) => `${share(of, 0.25).toFixed(2)} to ${share(of, 0.75).toFixed(2)}`;
  /** @param {string} name */
  const us = (name) => median(alone.each(name, p99)).toFixed(0);
  return row(
    `p99 of one caller, ${kind}, against the hand-written loop`,
    median(tails),
    { atMost: 1.15 },
    `${us(OURS[kind])} against ${us(RAW[kind])} us; half of the rounds from ${middle(tails)}, ` +
      `and one raw loop against the other from ${middle(noise)}`,
  );
}

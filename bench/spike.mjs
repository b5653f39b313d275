/**
 * HikariCP's spike: 50 callers at once on a pool at rest, with 5 idle sockets and room for 50. A handshake takes
 * 150 ms and a request 2 ms, so that the 5 have served everybody long before a new socket is of use. How many does a
 * pool open all the same? The same with requests of 200 ms shows the price: there, new sockets are of use.
 *
 * The pools take turns, each with real sockets to the same server. How they look is taken every millisecond.
 */
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import genericPool from 'generic-pool';
import * as lightning from 'lightning-pool';
import { createPool, lengthPrefixed } from 'pulsepool';
import { Pool as Tarn } from 'tarn';
import { openGreeted } from './by-hand.mjs';
import { median, ratioOf, row, startSlowServer } from './measure.mjs';
import { blocks } from './spike-blocks.mjs';
import { picture } from './spike-picture.mjs';

const IDLE = 5;
const MAX = 50;
const CALLERS = 50;
const HANDSHAKE_MS = 150;
const REQUEST_MS = 2;
const ROUNDS = 5;
const LONG_REQUEST_MS = 200;
const LONG_ROUNDS = 2;
// At rest, so that nothing is fresh; then long enough after the burst for every handshake to end.
const REST_MS = 60;
const WATCH_MS = 260;
const MESSAGE = Buffer.from('hello');

/**
 * What a pool consists of at one moment, `at` ms after the callers came.
 *
 * @typedef {object} Counts
 * @property {number} idle
 * @property {number} leased
 * @property {number} dialing
 * @property {number} waiting callers
 *
 * @typedef {Counts & { at: number }} Sample
 */

/**
 * One pool through one spike.
 *
 * @typedef {object} Course
 * @property {string} name
 * @property {Sample[]} samples
 * @property {number} servedMs until the last caller was served
 * @property {number} served callers
 * @property {number} sockets at the end
 */

/**
 * A pool with its idle sockets, ready for callers.
 *
 * @typedef {object} Contestant
 * @property {() => Promise<unknown>} request
 * @property {() => Counts} counts
 * @property {() => Promise<unknown>} close
 */

/** @type {Record<string, (port: number) => Promise<Contestant>>} */
const contestants = {
  pulsepool: async (port) => {
    const pool = createPool({
      host: '127.0.0.1',
      port,
      codec: lengthPrefixed(),
      minIdle: IDLE,
      max: MAX,
      onConnect: async (lease) => {
        await lease.receive();
      },
    });
    await pool.ready();
    return {
      request: () => pool.request(MESSAGE),
      counts: () => pool.stats(),
      close: () => pool.close(),
    };
  },

  'generic-pool': async (port) => {
    const pool = genericPool.createPool(factoryOf(port), { min: IDLE, max: MAX });
    await pool.ready();
    return {
      request: () => pool.use((socket) => socket.request(MESSAGE)),
      counts: () => {
        const { available: idle, borrowed: leased, pending: waiting, size } = pool;
        return { idle, leased, dialing: size - idle - leased, waiting };
      },
      close: () => pool.drain().then(() => pool.clear()),
    };
  },

  tarn: async (port) => {
    const pool = new Tarn({ ...factoryOf(port), min: IDLE, max: MAX });
    // It opens its first sockets when they are asked for.
    const first = await Promise.all(Array.from({ length: IDLE }, () => pool.acquire().promise));
    for (const socket of first) pool.release(socket);
    return {
      request: async () => {
        const socket = await pool.acquire().promise;
        await socket.request(MESSAGE);
        pool.release(socket);
      },
      counts: () => ({
        idle: pool.numFree(),
        leased: pool.numUsed(),
        dialing: pool.numPendingCreates(),
        waiting: pool.numPendingAcquires(),
      }),
      close: () => pool.destroy(),
    };
  },

  'lightning-pool': async (port) => {
    const pool = new lightning.Pool(factoryOf(port), { min: IDLE, minIdle: IDLE, max: MAX });
    pool.start();
    while (pool.available < IDLE) await sleep(10);
    return {
      request: async () => {
        const socket = await pool.acquire();
        await socket.request(MESSAGE);
        pool.release(socket);
      },
      counts: () => ({
        idle: pool.available,
        leased: pool.acquired,
        dialing: pool.creating,
        waiting: pool.pending,
      }),
      close: () => pool.closeAsync(true),
    };
  },
};

/** @param {number} port */
function factoryOf(port) {
  return {
    create: () => openGreeted(port),
    /** @param {Awaited<ReturnType<typeof openGreeted>>} socket */
    destroy: async (socket) => socket.destroy(),
  };
}

/**
 * @param {string} name
 * @param {Contestant} pool
 * @returns {Promise<Course>}
 */
async function run(name, pool) {
  await sleep(REST_MS);
  /** @type {Sample[]} */
  const samples = [];
  // So far before the callers come that the pictures begin with it.
  let begunAt = performance.now() + REST_MS;
  const look = () => {
    const { idle, leased, dialing, waiting } = pool.counts();
    samples.push({ at: performance.now() - begunAt, idle, leased, dialing, waiting });
  };
  look();
  begunAt = performance.now();
  const watch = setInterval(look, 1);
  let servedMs = 0;
  let served = 0;
  const callers = Array.from({ length: CALLERS }, async () => {
    await pool.request();
    served += 1;
    servedMs = performance.now() - begunAt;
  });
  look();
  await Promise.all([Promise.allSettled(callers), sleep(WATCH_MS)]);
  clearInterval(watch);
  look();
  const last = pool.counts();
  return { name, samples, servedMs, served, sockets: last.idle + last.leased + last.dialing };
}

/** @param {{ write: boolean }} options */
export async function spike({ write }) {
  const courses = await play(REQUEST_MS, ROUNDS);
  const scene = {
    idle: IDLE,
    max: MAX,
    callers: CALLERS,
    handshakeMs: HANDSHAKE_MS,
    requestMs: REQUEST_MS,
    courses: [...courses.values()].flatMap((of) => fastest(of) ?? []),
  };
  console.log(blocks(scene));
  if (write) await writeFile(new URL('../docs/spike.svg', import.meta.url), picture(scene));
  return [...rows(courses), longRow(await play(LONG_REQUEST_MS, LONG_ROUNDS))];
}

/**
 * All contestants, in turn.
 *
 * @param {number} requestMs
 * @param {number} rounds after one that is left out
 */
async function play(requestMs, rounds) {
  const server = await startSlowServer({ greetMs: HANDSHAKE_MS, serveMs: requestMs });
  /** @type {Map<string, Course[]>} */
  const courses = new Map(Object.keys(contestants).map((name) => [name, []]));
  try {
    for (let round = -1; round < rounds; round++) {
      for (const [name, open] of Object.entries(contestants)) {
        const pool = await open(server.port);
        const course = await run(name, pool);
        await pool.close();
        if (round >= 0) courses.get(name)?.push(course);
      }
    }
  } finally {
    server.stop();
  }
  return courses;
}

/**
 * The one that was disturbed least by whatever else the machine does.
 *
 * @param {Course[]} courses
 */
function fastest(courses) {
  return courses.toSorted((a, b) => a.servedMs - b.servedMs)[0];
}

/** @param {Map<string, Course[]>} courses */
function sides(courses) {
  const ours = courses.get('pulsepool') ?? [];
  const others = [...courses].filter(([name]) => name !== 'pulsepool');
  const best = ours.map((_, round) => Math.min(...others.map(([, of]) => of[round]?.servedMs ?? Number.NaN)));
  return { ours, others, ratio: ratioOf(best, times(ours)) };
}

/** @param {readonly Course[]} courses */
function sockets(courses) {
  return Math.max(...courses.map((course) => course.sockets));
}

/** @param {readonly Course[]} courses */
function times(courses) {
  return courses.map(({ servedMs }) => servedMs);
}

/** @param {readonly Course[]} courses */
function figure(courses) {
  const all = times(courses);
  return `${median(all).toFixed(0)} ms (least ${Math.min(...all).toFixed(0)})`;
}

/** @param {Map<string, Course[]>} courses */
function rows(courses) {
  const { others, ours, ratio } = sides(courses);
  return [
    row(
      `sockets after ${CALLERS} callers at once, against the ${IDLE} at rest before`,
      sockets(ours) / IDLE,
      { atMost: (IDLE + 1) / IDLE },
      `at most ${sockets(ours)}; ${others.map(([name, of]) => `${name} ${sockets(of)}`).join(', ')}`,
    ),
    row(
      `callers served, of ${CALLERS}`,
      Math.min(...ours.map(({ served }) => served)) / CALLERS,
      { atLeast: 1 },
      others.map(([name, of]) => `${name} ${Math.min(...of.map(({ served }) => served))}`).join(', '),
    ),
    row(
      'speed until the last is served, against the fastest of the others in each round',
      ratio,
      {},
      `${figure(ours)}; ${others.map(([name, of]) => `${name} ${figure(of)}`).join(', ')}`,
    ),
  ];
}

/** @param {Map<string, Course[]>} courses */
function longRow(courses) {
  const { others, ours, ratio } = sides(courses);
  return row(
    `the price: the same speed with requests of ${LONG_REQUEST_MS} ms, when new sockets are of use`,
    ratio,
    {},
    `${figure(ours)} with ${sockets(ours)} sockets; ${others.map(([name, of]) => `${name} ${figure(of)} with ${sockets(of)}`).join(', ')}`,
  );
}

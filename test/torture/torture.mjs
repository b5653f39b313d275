/**
 * The bleed torture: very many questions over real sockets to a server that misbehaves, by callers who cancel, time out
 * and throw at random. Every answer carries its question's id and a payload made from it, and is compared in full.
 *
 * Here the server's process is started, the lanes are run, and what is left afterwards is looked at. What the server
 * does wrong and why that is fair: misdeeds.mjs. What the callers do: acts.mjs.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Chance } from './chance.mjs';
import { DOORS, LANES } from './doors.mjs';
import { Lane } from './lane.mjs';
import { RECIPES } from './recipes.mjs';
import { ServerProcess } from './server-process.mjs';
import { storyOf, Tally } from './tally.mjs';

/**
 * @typedef {object} Plan
 * @property {number} seed
 * @property {number} requests
 * @property {number} limitMs after which nothing more is asked
 * @property {(asked: number) => void} [onProgress] called about once a second
 */

/**
 * How a torture ended.
 *
 * @typedef {object} Outcome
 * @property {number} seed
 * @property {number} demanded
 * @property {Tally} tally
 * @property {import('./server.mjs').Report} server
 * @property {string[]} complaints of the process
 * @property {number} seconds
 */

// Pools of one lane, at least: each recipe once.
const LEAST_POOLS = RECIPES.length;
const USUAL_SHARE = 10_000;
// Nothing has been asked for so long: something hangs, and the torture ends.
const STANDSTILL_MS = 20_000;
const LOOK_EVERY_MS = 1_000;

/**
 * Runs a torture. It ends by itself, whatever the pool does.
 *
 * @param {Plan} plan
 * @returns {Promise<Outcome>}
 */
export async function torture({ seed, requests, limitMs, onProgress = () => undefined }) {
  const begun = performance.now();
  const tally = new Tally();
  const watch = new ProcessWatch();
  const server = new ServerProcess(seed);
  let isCutShort = false;
  const isOver = () => isCutShort || tally.asked >= requests;
  let asked = 0;
  let movedAt = begun;
  const looks = setInterval(() => {
    const now = performance.now();
    if (tally.asked > asked) movedAt = now;
    asked = tally.asked;
    isCutShort = server.hasDied || now - begun > limitMs || now - movedAt > STANDSTILL_MS;
    onProgress(asked);
  }, LOOK_EVERY_MS);
  try {
    const { cert, ports } = await server.hello();
    /** @type {Lane[]} */
    const lanes = Array.from({ length: LANES }, (_, index) => {
      const doors = DOORS.map((plan, at) => ({ ...plan, index: at, port: ports[at] ?? 0 }));
      return new Lane({
        index,
        doors: doors.filter(({ lane }) => lane === index),
        cert,
        chance: new Chance(seed * LANES + index),
        tally,
        share: Math.min(USUAL_SHARE, requests / LANES / LEAST_POOLS),
        isOver,
        stranger: () => neighbour(index).pool,
        bidFarewell: (door) => server.bidFarewell(door),
      });
    });
    const neighbour = (/** @type {number} */ index) => {
      const lane = lanes[(index + 1) % LANES];
      if (lane === undefined) throw new Error(`bug: lane ${index} has no neighbour`);
      return lane;
    };
    await Promise.all(lanes.map((lane) => lane.run()));
    const report = await server.report();
    const seconds = (performance.now() - begun) / 1_000;
    return { seed, demanded: requests, tally, server: report, complaints: await watch.end(), seconds };
  } finally {
    clearInterval(looks);
    server.stop();
  }
}

/** What this process complains of meanwhile: warnings, and rejections that nobody handles. */
class ProcessWatch {
  /** @type {string[]} */
  #complaints = [];
  #onWarning = (/** @type {Error} */ warning) => {
    this.#complaints.push(`the process warned: ${storyOf(warning)}`);
  };
  #onRejection = (/** @type {unknown} */ reason) => {
    this.#complaints.push(`a rejection that nobody handled: ${storyOf(reason)}`);
  };

  constructor() {
    process.on('warning', this.#onWarning);
    process.on('unhandledRejection', this.#onRejection);
  }

  /** What there was, the last turns included. */
  async end() {
    await sleep(20);
    process.off('warning', this.#onWarning);
    process.off('unhandledRejection', this.#onRejection);
    return this.#complaints;
  }
}

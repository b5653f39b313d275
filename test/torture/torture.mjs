/**
 * The bleed torture: very many questions over real sockets to a server that misbehaves, by callers who cancel, time out
 * and throw at random. Every answer carries its question's id and a payload made from it, and is compared in full.
 *
 * Here the server's process is started, the lanes are run, and what is left afterwards is looked at. What the server
 * does wrong and why that is fair: misdeeds.mjs. What the callers do: acts.mjs, client-acts.mjs, lonely.mjs.
 */
import { clearInterval, setInterval } from 'node:timers';
import { setTimeout as sleep } from 'node:timers/promises';
import { Chance } from './chance.mjs';
import { doorsOf, LANES } from './doors.mjs';
import { Lane } from './lane.mjs';
import { ServerProcess } from './server-process.mjs';
import { planOf } from './subject.mjs';
import { storyOf, Tally } from './tally.mjs';
import { TimerWatch } from './timers.mjs';

/**
 * @typedef {object} Plan
 * @property {import('./doors.mjs').Subject} subject
 * @property {number} seed
 * @property {number} [requests] default: as many as can be asked in `limitMs`
 * @property {number} limitMs after which nothing more is asked
 * @property {(asked: number) => void} [onProgress] called about once a second
 */

/**
 * How a torture ended.
 *
 * @typedef {object} Outcome
 * @property {import('./doors.mjs').Subject} subject
 * @property {number} seed
 * @property {number} demanded `Infinity`: as many as could be
 * @property {Tally} tally
 * @property {import('./server.mjs').Report} server
 * @property {string[]} complaints of the process
 * @property {number} seconds
 */

const USUAL_SHARE = 10_000;
const LIMIT = 'the time was up';
// Nothing has been asked for so long: something hangs, and the torture ends.
const STANDSTILL_MS = 20_000;
const LOOK_EVERY_MS = 1_000;

/**
 * Runs a torture. It ends by itself, whatever the pool does.
 *
 * @param {Plan} plan
 * @returns {Promise<Outcome>}
 */
export async function torture({
  subject,
  seed,
  requests = Number.POSITIVE_INFINITY,
  limitMs,
  onProgress = () => undefined,
}) {
  const begun = performance.now();
  const tally = new Tally();
  const watch = new ProcessWatch();
  const timers = new TimerWatch();
  const plan = planOf(subject);
  const server = new ServerProcess(seed, subject);
  /** @type {string | undefined} */
  let cutShort;
  const isOver = () => cutShort !== undefined || tally.asked >= requests;
  let asked = 0;
  let movedAt = begun;
  const looks = setInterval(() => {
    const now = performance.now();
    if (tally.asked > asked) movedAt = now;
    asked = tally.asked;
    if (server.hasDied) cutShort = "the torture's server has died";
    else if (now - movedAt > STANDSTILL_MS) cutShort = 'nothing was asked for long';
    else if (now - begun > limitMs) cutShort ??= LIMIT;
    onProgress(asked);
  }, LOOK_EVERY_MS);
  try {
    const { cert, ports } = await server.hello();
    /** @type {Lane[]} */
    const lanes = Array.from({ length: LANES }, (_, index) => {
      const doors = doorsOf(subject).map((door, at) => ({ ...door, index: at, port: ports[at] ?? 0 }));
      return new Lane({
        subject: plan,
        index,
        doors: doors.filter(({ lane }) => lane === index),
        cert,
        chance: new Chance(seed * LANES + index),
        tally,
        share: Math.min(USUAL_SHARE, requests / LANES / plan.leastPools),
        isOver,
        stranger: () => neighbour(index).pool,
        bidFarewell: (door) => server.bidFarewell(door),
        bidHastyFarewell: (door, signAt) => server.bidHastyFarewell(door, signAt),
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
    const complaints = await watch.end();
    // One that has a limit and no number of requests ends there.
    if (cutShort !== undefined && (cutShort !== LIMIT || requests < Number.POSITIVE_INFINITY)) {
      complaints.push(cutShort);
    }
    const left = await timers.end();
    if (left.length > 0)
      complaints.push(`${left.length} timers were left: ${left.slice(0, 10).join(', ')} ms`);
    return { subject, seed, demanded: requests, tally, server: report, complaints, seconds };
  } finally {
    clearInterval(looks);
    server.stop();
    timers.stop();
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

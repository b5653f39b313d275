/**
 * One performance: plays the scenes one after another, shows what happens, closes the pool, and sums up.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { liveView } from './live-view.mjs';
import { plainLine, plainScene } from './plain-view.mjs';
import { Screen } from './screen.mjs';
import { summary } from './summary.mjs';
import { Watch } from './watch.mjs';

/**
 * @import { Pool, PoolStats } from 'pulsepool'
 * @import { Load } from './load.mjs'
 * @import { Meter } from './meter.mjs'
 * @import { DemoOptions } from './options.mjs'
 * @import { Scene } from './story.mjs'
 */

const FRAMES_PER_SECOND = 10;

export class Play {
  #pool;
  #load;
  #meter;
  #watch;
  #address;
  #totalMs;
  #startedAt = performance.now();
  /** @type {readonly Scene[]} */
  #scenes = [];
  #scene = 0;
  #says = '';
  /** @type {number | undefined} */
  #killedAt;
  /** @type {{ from: number, to: number } | undefined} */
  #outage;
  /** @type {number | undefined} */
  #healedMs;
  /** The number of dials at moments of the last two seconds. @type {{ at: number, dials: number }[]} */
  #dials = [];

  /**
   * @param {Pool<string, string>} pool
   * @param {Load} load
   * @param {Meter} meter
   * @param {DemoOptions} options
   * @param {string} address
   */
  constructor(pool, load, meter, options, address) {
    this.#pool = pool;
    this.#load = load;
    this.#meter = meter;
    this.#watch = new Watch(pool, options.max);
    this.#address = address;
    this.#totalMs = options.seconds * 1000;
  }

  onKilled() {
    this.#killedAt = performance.now();
    this.#watch.say('the server is killed');
  }

  onRevived() {
    const from = this.#killedAt ?? performance.now();
    this.#outage = { from, to: performance.now() };
    this.#watch.say('the server is back');
    void this.#meter.untilNextReply().then((ms) => {
      this.#healedMs = ms;
      this.#watch.say('the first reply after the outage');
    });
  }

  /**
   * @param {readonly Scene[]} scenes
   * @param {AbortSignal} signal
   * @returns {Promise<0 | 1>}
   */
  async run(scenes, signal) {
    this.#scenes = scenes;
    const stopShowing = isLive(process.stdout) ? this.#showLive(process.stdout) : this.#showPlain();
    /** @type {number} */
    let forced;
    /** @type {PoolStats} */
    let stats;
    let elapsedMs = 0;
    try {
      await this.#playScenes(signal);
      elapsedMs = this.#elapsedMs;
      this.#says = 'pool.close(): leases come back, sockets end, nothing is left.';
      await this.#load.stop();
      ({ forced } = await this.#pool.close({ timeoutMs: 2_000 }));
      stats = this.#pool.stats();
      // A moment to see it.
      await pause(isLive(process.stdout) ? 700 : 0, signal);
    } finally {
      stopShowing();
    }
    const outcome = { meter: this.#meter, stats, watch: this.#watch, elapsedMs, forced };
    process.stdout.write(
      `${signal.aborted ? 'Ended early. ' : ''}${summary({ ...outcome, outage: this.#outage, healedMs: this.#healedMs })}`,
    );
    return this.#meter.mismatched > 0 ? 1 : 0;
  }

  get #elapsedMs() {
    return performance.now() - this.#startedAt;
  }

  /** @param {AbortSignal} signal */
  async #playScenes(signal) {
    const shares = this.#scenes.reduce((sum, { share }) => sum + share, 0);
    let until = 0;
    for (const [index, { says, share, begin }] of this.#scenes.entries()) {
      if (signal.aborted) return;
      this.#scene = index;
      this.#says = says;
      this.#onScene();
      until += (share / shares) * this.#totalMs;
      await begin();
      await pause(until - this.#elapsedMs, signal);
    }
  }

  /** Told when a scene begins. @type {() => unknown} */
  #onScene = () => undefined;

  /**
   * @param {import('node:tty').WriteStream} stream
   * @returns {() => void}
   */
  #showLive(stream) {
    const screen = new Screen(stream);
    const draw = () => screen.draw(liveView(this.#moment(), screen.columns, screen.rows));
    const timer = setInterval(draw, 1000 / FRAMES_PER_SECOND);
    stream.on('resize', draw);
    return () => {
      clearInterval(timer);
      stream.off('resize', draw);
      screen.close();
    };
  }

  /** @returns {() => void} */
  #showPlain() {
    /** @param {string} line */
    const print = (line) => process.stdout.write(`${line}\n`);
    print(`pulsepool demo on ${this.#address}`);
    this.#onScene = () =>
      print(plainScene(this.#elapsedMs, this.#scenes[this.#scene]?.name ?? '', this.#says));
    const timer = setInterval(() => print(plainLine(this.#moment())), 1000);
    return () => clearInterval(timer);
  }

  #moment() {
    this.#watch.tidy();
    this.#meter.fill();
    return {
      address: this.#address,
      elapsedMs: this.#elapsedMs,
      totalMs: this.#totalMs,
      scenes: this.#scenes,
      scene: this.#scene,
      says: this.#says,
      stats: this.#pool.stats(),
      meter: this.#meter,
      watch: this.#watch,
      dialsPerSecond: this.#dialsPerSecond(),
    };
  }

  #dialsPerSecond() {
    const now = performance.now();
    this.#dials.push({ at: now, dials: this.#watch.dials });
    while (now - (this.#dials[0]?.at ?? now) > 2_000) this.#dials.shift();
    const first = this.#dials[0];
    if (first === undefined || now - first.at < 100) return 0;
    return ((this.#watch.dials - first.dials) * 1000) / (now - first.at);
  }
}

/** Whether there is somebody to watch. @param {NodeJS.WriteStream} stream */
function isLive(stream) {
  const { NO_COLOR, CI, TERM } = process.env;
  return stream.isTTY && !NO_COLOR && !CI && TERM !== 'dumb';
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 */
async function pause(ms, signal) {
  await sleep(Math.max(0, ms), undefined, { signal }).catch(() => undefined);
}

/**
 * An operator: acts on the pool of a client while callers use it, as those do who run a service. It suspends and resumes,
 * has all sockets replaced, and changes the sizes. In quiet moments it rests.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { PulsepoolError } from 'pulsepool';
import { Urn } from './chance.mjs';
import { storyOf } from './tally.mjs';

const ACTS = new Urn(
  /** @type {const} */ ([
    ['suspend() and resume()', 2],
    ['suspend() that is given up', 1],
    ['reset()', 2],
    ['resize()', 3],
    ['nothing', 4],
  ]),
);

/** What must have happened. */
export const OPERATOR_ACTS = ACTS.names;

/** See the file's comment. */
export class Operator {
  #stage;
  #max;
  #isResting = false;
  #hasEnded = false;
  /** @type {() => void} */
  #wake = () => undefined;
  /** @type {Promise<void>} */
  #acting = Promise.resolve();
  #running;

  /**
   * @param {import('./stage.mjs').Stage} stage
   * @param {number} max of the pool
   */
  constructor(stage, max) {
    this.#stage = stage;
    this.#max = max;
    this.#running = this.#run();
  }

  /** Ends what it is at. */
  async rest() {
    this.#isResting = true;
    await this.#acting;
    this.#stage.pool.resize({ max: this.#max });
  }

  goOn() {
    this.#isResting = false;
    this.#wake();
  }

  /** The pool has closed. */
  async end() {
    this.#hasEnded = true;
    this.#wake();
    await this.#running;
  }

  async #run() {
    const { chance, name, tally } = this.#stage;
    for (;;) {
      await sleep(chance.integer(5, 60));
      if (this.#isResting && !this.#hasEnded) {
        await new Promise((resolve) => {
          this.#wake = () => resolve(undefined);
        });
      }
      if (this.#hasEnded) return;
      this.#acting = this.#act().catch((error) => {
        const isOver = error instanceof PulsepoolError && error.code === 'ERR_POOL_CLOSED';
        if (!isOver) tally.fault('an operator who failed', `${name}: ${storyOf(error)}`);
      });
      await this.#acting;
    }
  }

  async #act() {
    const { chance, pool, tally } = this.#stage;
    const way = chance.draw(ACTS);
    tally.did(way);
    if (way === 'suspend() and resume()' || way === 'suspend() that is given up') {
      const isHasty = way === 'suspend() that is given up';
      try {
        const signal = AbortSignal.timeout(isHasty ? 1 : 100);
        await pool.suspend({ signal });
        await sleep(chance.integer(0, 6));
      } catch (error) {
        if (!(error instanceof DOMException)) throw error;
      } finally {
        pool.resume();
      }
    } else if (way === 'reset()') {
      try {
        await pool.reset({ perSecond: chance.pick([20, 200]), signal: AbortSignal.timeout(60) });
      } catch (error) {
        if (!(error instanceof DOMException)) throw error;
      }
    } else if (way === 'resize()') {
      pool.resize({ max: chance.integer(Math.max(1, Math.ceil(this.#max / 2)), this.#max) });
    }
  }
}

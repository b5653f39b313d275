/**
 * One signal that is aborted at a random moment: before the call, some microtasks or turns later, after some time, or
 * when everything is over. It knows which calls must end with its reason.
 *
 * Between two turns of the event loop every microtask has run. So when the signal is aborted at the beginning of a
 * turn and a caller has not got its reply by then, no reply may come any more. For an abort from a microtask there is
 * no such rule: the reply may be on its way through the same queue.
 */

import { setTimeout } from 'node:timers';

/** @typedef {'before' | 'at once' | 'microtasks' | 'tick' | 'turns' | 'ms' | 'afterwards'} Moment `at once`: by whoever called */

/**
 * A call under the signal.
 *
 * @typedef {object} Call
 * @property {boolean} isDue whether it was aborted while the call waited: it must end with the reason
 */

/** @type {readonly [Moment, ...Moment[]]} */
const ANY_MOMENT = ['before', 'microtasks', 'tick', 'turns', 'turns', 'ms', 'ms', 'afterwards'];

/** See the file's comment. */
export class Abort {
  #controller = new AbortController();
  #tally;
  /** @type {Moment} */
  #moment;
  /** @type {Set<Call>} */
  #calls = new Set();
  /** What the calls must reject with. Most callers abort with an error, and anything may be one. */
  reason;

  /** @param {import('./stage.mjs').Stage} stage @param {Moment} [moment] */
  constructor(stage, moment) {
    const { chance, tally } = stage;
    this.#tally = tally;
    this.#moment = moment ?? chance.pick(ANY_MOMENT);
    stage.keepSignal(this.signal);
    this.reason = chance.happens(0.5) ? Object.freeze({ given: 'up' }) : new Error('given up');
    const fire = () => this.#fire();
    switch (this.#moment) {
      case 'before':
        tally.did('abort before the call');
        this.#controller.abort(this.reason);
        return;
      case 'microtasks':
        void inMicrotasks(chance.integer(1, 12), fire);
        return;
      case 'tick':
        process.nextTick(fire);
        return;
      case 'turns':
        inTurns(chance.integer(1, 5), fire);
        return;
      case 'ms':
        setTimeout(fire, chance.integer(1, chance.pick([4, 40])));
    }
  }

  get signal() {
    return this.#controller.signal;
  }

  /** Whether the signal was aborted when the calls began. */
  get wasBefore() {
    return this.#moment === 'before';
  }

  /**
   * A call has begun.
   *
   * @returns {Call}
   */
  begin() {
    const call = { isDue: this.wasBefore };
    this.#calls.add(call);
    return call;
  }

  /** Aborts at once. */
  now() {
    this.#fire();
  }

  /** A call is over. */
  settle(/** @type {Call} */ call) {
    this.#calls.delete(call);
    if (this.#moment === 'afterwards' && this.#calls.size === 0) this.#fire();
  }

  #fire() {
    if (this.signal.aborted) return;
    if (this.#calls.size === 0) this.#tally.did('abort after the end of the call');
    else if (this.#moment === 'turns' || this.#moment === 'ms') {
      this.#tally.did('abort in a later turn');
      for (const call of this.#calls) call.isDue = true;
    } else this.#tally.did('abort in the same turn');
    this.#controller.abort(this.reason);
  }
}

async function inMicrotasks(/** @type {number} */ count, /** @type {() => void} */ then) {
  for (let left = count; left > 0; left--) await undefined;
  then();
}

function inTurns(/** @type {number} */ count, /** @type {() => void} */ then) {
  setImmediate(() => {
    if (count === 1) then();
    else inTurns(count - 1, then);
  });
}

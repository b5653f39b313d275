/**
 * A stage: one pool, and what its callers need to act on it and to notice what is wrong. Every reply passes through
 * {@link Stage.hear}, every lease through {@link Stage.acquire} and {@link Stage.release}.
 */
import { getEventListeners } from 'node:events';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { PulsepoolError } from 'pulsepool';
import { storyOf } from './tally.mjs';

/** @typedef {import('./talk.mjs').Message} Message */
/** @typedef {import('./talk.mjs').Frame} Frame */
/** @typedef {import('./recipes.mjs').Pool} Pool */
/** @typedef {import('./recipes.mjs').Lease} Lease */
/** @typedef {import('./abort.mjs').Abort} Abort */

// Every so many replies one is kept for a while and looked at again: what was received must not change any more.
const KEEP_EVERY = 16;
const KEPT = 64;
// Of so many signals the listeners are counted in the end.
const SIGNALS = 1_000;

/** See the file's comment. */
export class Stage {
  /** Questions asked here. */
  asked = 0;
  /** Connections that have opened and not begun to end. @type {Set<number>} */
  open = new Set();
  /** Connections that somebody holds. @type {Set<number>} */
  #held = new Set();
  /** @type {{ id: number, frame: Frame }[]} */
  #kept = [];
  /** Events, by name. @type {Record<string, number>} */
  #events = {};
  /** @type {AbortSignal[]} */
  #signals = [];

  /**
   * @param {object} parts
   * @param {Pool} parts.pool
   * @param {() => Pool} parts.stranger a pool of somebody else
   * @param {import('./talk.mjs').Talk} parts.talk
   * @param {import('./chance.mjs').Chance} parts.chance
   * @param {import('./tally.mjs').Tally} parts.tally
   * @param {string} parts.name
   */
  constructor({ pool, stranger, talk, chance, tally, name }) {
    this.pool = pool;
    this.stranger = stranger;
    this.talk = talk;
    this.chance = chance;
    this.tally = tally;
    this.name = name;
    pool.on('opened', ({ connectionId }) => {
      this.#heardOf('opened');
      this.open.add(connectionId);
    });
    pool.on('dialFailed', ({ error }) => {
      this.#heardOf('dialFailed');
      tally.countDialFailure(error);
    });
    pool.on('closed', ({ connectionId }) => {
      this.#heardOf('closed');
      this.open.delete(connectionId);
    });
    pool.on('poolClosed', () => this.#heardOf('poolClosed'));
    // Half of the pools only, since it makes another path of acquire().
    if (chance.happens(0.5)) {
      this.#events['acquired'] = 0;
      pool.on('acquired', () => this.#heardOf('acquired'));
    }
  }

  /** A new question; it counts as asked. */
  ask(/** @type {number} */ flags) {
    this.asked += 1;
    this.tally.asked += 1;
    const id = this.tally.nextId();
    return { id, message: this.talk.question(id, flags) };
  }

  /** A question that must not reach the server. It does not count. */
  askInVain() {
    const id = this.tally.nextId();
    this.tally.neverSent.set(id, `asked in vain, ${this.name}`);
    return this.talk.question(id, 0);
  }

  /**
   * Waits for the answer to a question and looks at it. Never rejects.
   *
   * @param {number} id
   * @param {Promise<Frame>} reply
   * @param {{ abort?: Abort | undefined, tellsOfIt?: boolean }} [circumstances] `tellsOfIt`: see
   *   `Tally.countRefusal`; true by default
   * @returns whether it was answered
   */
  async hear(id, reply, { abort, tellsOfIt = true } = {}) {
    const call = abort?.begin();
    /** @type {Frame} */
    let frame;
    try {
      frame = await reply;
    } catch (error) {
      if (this.#wasAborted(abort, call, error, `question ${id}`)) {
        this.tally.aborted += 1;
        if (abort?.wasBefore) this.tally.neverSent.set(id, `aborted before, ${this.name}`);
      } else this.tally.countRefusal(id, error, tellsOfIt, this.name);
      return false;
    } finally {
      if (call !== undefined) abort?.settle(call);
    }
    if (call?.isDue) this.tally.fault('a reply after an abort', `question ${id}, ${this.name}`);
    return this.#look(id, frame);
  }

  /** @param {number} id @param {Frame} frame */
  #look(id, frame) {
    const { name, tally, talk } = this;
    if (talk.isReply(frame, 'answer', id)) tally.answered += 1;
    else if (talk.isReply(frame, 'refusal', id)) tally.refusals += 1;
    else {
      tally.mismatched += 1;
      const what = talk.isReply(frame, 'poison', id) ? 'AN ANSWER FROM BEHIND STRAY BYTES' : 'MISMATCH';
      tally.fault(what, `question ${id} got ${talk.describe(frame)}, ${name}`);
      return false;
    }
    if (id % KEEP_EVERY === 0) this.#keep(id, frame);
    return true;
  }

  /**
   * Waits for a lease. Never rejects.
   *
   * @param {import('pulsepool').AcquireOptions} [options]
   * @param {Abort} [abort] whose signal is among the options
   * @returns {Promise<Lease | undefined>}
   */
  async acquire(options, abort) {
    const call = abort?.begin();
    /** @type {Lease} */
    let lease;
    try {
      lease = await this.pool.acquire(options);
    } catch (error) {
      if (this.#wasAborted(abort, call, error, 'acquire()')) this.tally.acquiresAborted += 1;
      else this.tally.countNoLease(error);
      return undefined;
    } finally {
      if (call !== undefined) abort?.settle(call);
    }
    if (call?.isDue) this.tally.fault('a lease after an abort', this.name);
    this.hold(lease);
    return lease;
  }

  /** A caller has got a lease. */
  hold(/** @type {Lease} */ lease) {
    this.tally.leases += 1;
    const { connectionId } = lease;
    if (!lease.isHeld) this.tally.fault('a lease that is over when it is lent', this.name);
    if (this.#held.has(connectionId)) {
      this.tally.fault('one socket with two owners', `connection ${connectionId}, ${this.name}`);
    }
    this.#held.add(connectionId);
  }

  /** The caller will not use it any more. Say so before it goes back: it may be lent again within that call. */
  letGo(/** @type {Lease} */ lease) {
    this.#held.delete(lease.connectionId);
  }

  /** Gives a lease back, in one of the ways there are. */
  async release(/** @type {Lease} */ lease) {
    this.letGo(lease);
    const way = this.chance.pick(['lease.release', 'pool.release', 'asyncDispose']);
    this.tally.did(way);
    try {
      if (way === 'lease.release') lease.release();
      else if (way === 'pool.release') this.pool.release(lease);
      else await lease[Symbol.asyncDispose]();
    } catch (error) {
      this.tally.fault('a release that failed', `${way}, ${this.name}: ${storyOf(error)}`);
    }
  }

  /**
   * Does what a lease must refuse with `ERR_LEASE`.
   *
   * @param {string} what
   * @param {() => unknown} misuse
   */
  async mustRefuse(what, misuse) {
    try {
      const result = await misuse();
      this.tally.fault('a misuse that was not refused', `${what}, ${this.name}: ${String(result)}`);
    } catch (error) {
      if (error instanceof PulsepoolError && error.code === 'ERR_LEASE') return;
      this.tally.fault('a misuse that was refused otherwise', `${what}, ${this.name}: ${storyOf(error)}`);
    }
  }

  /** Does nothing for some microtasks, turns of the event loop or ms. */
  async dawdle(longestMs = 5) {
    const { chance } = this;
    switch (chance.pick(['not', 'microtasks', 'turns', 'ms'])) {
      case 'not':
        return;
      case 'microtasks':
        for (let left = chance.integer(1, 8); left > 0; left--) await undefined;
        return;
      case 'turns':
        for (let left = chance.integer(1, 4); left > 0; left--) await turn();
        return;
      case 'ms':
        await sleep(chance.integer(0, longestMs));
    }
  }

  /** A signal that nobody may listen to in the end. */
  keepSignal(/** @type {AbortSignal} */ signal) {
    if (this.#signals.length < SIGNALS) this.#signals.push(signal);
  }

  /** Nobody may act on the pool of itself until `goOn()`: a quiet moment comes. */
  rest() {
    return Promise.resolve();
  }

  goOn() {
    // Nobody does.
  }

  /** Whether nobody uses the pool. */
  get isStill() {
    const { leased, waiting } = this.pool.stats();
    return leased + waiting === 0;
  }

  /** Closes the pool and looks at what is left. */
  async close(/** @type {number} */ timeoutMs) {
    await this.pool.close({ timeoutMs });
    this.end();
    await this.mustBeClosed('acquire()', () => this.pool.acquire());
  }

  /**
   * Does what a closed pool must refuse.
   *
   * @param {string} what
   * @param {() => Promise<unknown>} call
   */
  async mustBeClosed(what, call) {
    try {
      await call();
      this.tally.fault(`${what} that succeeds after close()`, this.name);
    } catch (error) {
      if (error instanceof PulsepoolError && error.code === 'ERR_POOL_CLOSED') return;
      this.tally.fault('a closed pool that says something else', `${this.name}: ${storyOf(error)}`);
    }
  }

  /** What must be true of the pool at any moment. */
  audit() {
    const { total, idle, leased, dialing, closing, max } = this.pool.stats();
    if (idle + leased + dialing + closing === total && total <= max) return;
    const counts = { total, idle, leased, dialing, closing, max };
    this.tally.fault('counts that do not add up', `${this.name}: ${JSON.stringify(counts)}`);
  }

  /** What must be true when the pool has closed. */
  end() {
    const heard = this.#signals.filter((signal) => getEventListeners(signal, 'abort').length > 0);
    if (heard.length > 0) this.tally.fault('listeners left on signals', `${heard.length}, ${this.name}`);
    for (const { id, frame } of this.#kept.splice(0)) this.#lookAgain(id, frame);
    const stats = this.pool.stats();
    if (stats.total !== 0 || stats.waiting !== 0) {
      this.tally.fault('a closed pool with something left', `${this.name}: ${JSON.stringify(stats)}`);
    }
    if (this.#events['poolClosed'] !== 1) {
      this.tally.fault('a close that was not told once', `${this.name}: ${this.#events['poolClosed']}`);
    }
    for (const name of /** @type {const} */ (['opened', 'dialFailed', 'closed', 'acquired'])) {
      const told = this.#events[name] ?? (name === 'acquired' ? stats.acquired : 0);
      if (told === stats[name]) continue;
      this.tally.fault('events and counters that differ', `${this.name}: ${told} of ${stats[name]} ${name}`);
    }
    this.tally.countPool(stats);
  }

  #heardOf(/** @type {string} */ event) {
    this.#events[event] = (this.#events[event] ?? 0) + 1;
  }

  /**
   * @param {Abort | undefined} abort
   * @param {import('./abort.mjs').Call | undefined} call
   * @param {unknown} error
   * @param {string} what
   */
  #wasAborted(abort, call, error, what) {
    if (abort === undefined) return false;
    if (error === abort.reason) {
      if (!abort.signal.aborted) this.tally.fault('a reason before its abort', `${what}, ${this.name}`);
      return true;
    }
    if (call?.isDue) {
      this.tally.fault('an abort that ended with another error', `${what}, ${this.name}: ${storyOf(error)}`);
    }
    return false;
  }

  /** @param {number} id @param {Frame} frame */
  #keep(id, frame) {
    this.#kept.push({ id, frame });
    const oldest = this.#kept.length > KEPT ? this.#kept.shift() : undefined;
    if (oldest !== undefined) this.#lookAgain(oldest.id, oldest.frame);
  }

  /** @param {number} id @param {Frame} frame */
  #lookAgain(id, frame) {
    if (this.talk.isReply(frame, 'answer', id) || this.talk.isReply(frame, 'refusal', id)) return;
    this.tally.fault('a reply that changed later', `question ${id}: ${this.talk.describe(frame)}`);
  }
}

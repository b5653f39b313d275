/**
 * Whoever gets no lease is told why: time was up, too many wait, no socket can be opened, the pool closes. And who is
 * about to wait for ever is hinted at.
 *
 * When somebody is to be told is decided elsewhere; the words are in acquire-error.ts.
 */
import type { Clock } from '../clock.ts';
import type { AcquireError, PulsepoolError } from '../errors.ts';
import {
  type AcquireStory,
  acquireFailedError,
  acquireTimeoutError,
  overloadedError,
  poolClosedError,
} from './acquire-error.ts';
import type { Announcer } from './announcer.ts';
import { type Survey, survey } from './holders.ts';
import type { Lease } from './lease.ts';
import type { Wish } from './members.ts';
import type { PoolState } from './pool-state.ts';
import type { Trace } from './trace.ts';
import type { Waiter, Waiters } from './waiters.ts';

/** What is known about the endpoint. */
interface Reach {
  readonly isFailing: boolean;
  readonly lastFailure: PulsepoolError | undefined;
  readonly isDown: boolean;
  readonly waitMs: number;
}

/** What refusals are made of. */
export interface RefusalsParts<In, Out> {
  readonly endpoint: string;
  readonly clock: Clock;
  readonly announcer: Announcer;
  readonly state: PoolState<In, Out>;
  readonly reach: () => Reach;
  readonly waiters: () => Waiters<Lease<In, Out>, Wish<In, Out>>;
}

/** See the file's comment. */
export class Refusals<In, Out> {
  readonly #parts: RefusalsParts<In, Out>;
  // What all slots say, asked once for all who time out at one moment.
  #surveyedAt = Number.NEGATIVE_INFINITY;
  #survey: Survey = { longest: undefined, inHooks: 0 };

  constructor(parts: RefusalsParts<In, Out>) {
    this.#parts = parts;
  }

  /** Nothing is open, every attempt has failed, and the next one is not due. */
  get isOutOfReach(): boolean {
    const { reach, state } = this.#parts;
    return state.tally.open === 0 && state.phase === 'serving' && reach().isDown;
  }

  /** What a caller is told once the pool closes. */
  closed(waitedMs: number): AcquireError {
    return poolClosedError(this.#story(waitedMs));
  }

  /** A turn later: a caller who asks again and again must not starve the event loop, and with it the probe. */
  atOnce(signal: AbortSignal | undefined, trace: Trace | undefined): Promise<never> {
    const { clock, state } = this.#parts;
    return new Promise((_, reject) => {
      clock.turn(() => {
        // Aborted within that turn.
        if (signal?.aborted === true) reject(signal.reason);
        else reject(state.isDraining ? this.closed(0) : this.#failed(0, trace));
      });
    });
  }

  /** Its time is up. */
  timeOut(waiter: Waiter<Lease<In, Out>, Wish<In, Out>>): void {
    const { clock, state } = this.#parts;
    state.counters.timedOut += 1;
    const holding = waiter.trace?.heldBefore() ?? [];
    const story = { ...this.#storyOfLate(clock.now() - waiter.since), holding: holding.length };
    this.#tell(waiter, acquireTimeoutError(story));
  }

  /** The time of somebody is up who waited for a socket in a line of his own. */
  late(waitedMs: number): AcquireError {
    this.#parts.state.counters.timedOut += 1;
    return acquireTimeoutError(this.#storyOfLate(waitedMs));
  }

  #storyOfLate(waitedMs: number): AcquireStory {
    const { clock, state } = this.#parts;
    const now = clock.now();
    if (now !== this.#surveyedAt) {
      this.#surveyedAt = now;
      this.#survey = survey(state.slots, now);
    }
    return { ...this.#story(waitedMs), ...this.#survey };
  }

  /** There are too many of them. */
  shed(waiter: Waiter<Lease<In, Out>, Wish<In, Out>>, why: 'full' | 'overload'): void {
    const { clock, state } = this.#parts;
    state.counters.refused += 1;
    const tell = (): void => {
      if (!this.#parts.waiters().isWanted(waiter)) return;
      this.#tell(waiter, overloadedError(this.#story(clock.now() - waiter.since), why));
    };
    // A turn later, as in `atOnce`.
    if (why === 'full') clock.turn(tell);
    else tell();
  }

  /** No socket can be had for it. `cause`: the last dial's failure by default. */
  fail(waiter: Waiter<Lease<In, Out>, Wish<In, Out>>, cause?: PulsepoolError | undefined): void {
    const waitedMs = this.#parts.clock.now() - waiter.since;
    waiter.reject(this.#failed(waitedMs, waiter.trace, cause));
  }

  /** No socket could be opened for somebody who wanted a new one. */
  unopened(): AcquireError {
    return this.#failed(0, undefined);
  }

  /** No socket was opened in time for somebody who wanted a new one. */
  lateForNew(waitedMs: number): AcquireError {
    this.#parts.state.counters.timedOut += 1;
    return acquireTimeoutError(this.#story(waitedMs));
  }

  /** No socket can be had for anybody. */
  failAll(): void {
    const now = this.#parts.clock.now();
    this.#parts.waiters().rejectAll((waiter) => this.#failed(now - waiter.since, waiter.trace));
  }

  /** The pool closes. */
  closeAll(): void {
    const now = this.#parts.clock.now();
    this.#parts.waiters().rejectAll((waiter) => this.closed(now - waiter.since));
  }

  /** Somebody waits while all sockets are leased: one of them perhaps by the same caller. */
  suspectDeadlock(trace: Trace): void {
    const held = trace.heldBefore();
    if (held.length === 0) return;
    const { announcer, clock, state } = this.#parts;
    const now = clock.now();
    const holding = held.map(({ connectionId, lentAt, stack }) => {
      return { connectionId, heldMs: now - lentAt, stack };
    });
    state.counters.deadlocksSuspected += 1;
    announcer.tell('deadlockSuspected', () => ({ holding, stack: trace.stack }), trace);
  }

  #tell(waiter: Waiter<Lease<In, Out>, Wish<In, Out>>, error: AcquireError): void {
    waiter.reject(error);
    this.#parts.announcer.tell('acquireFailed', () => ({ error }), waiter.trace);
  }

  #failed(waitedMs: number, trace: Trace | undefined, cause?: PulsepoolError | undefined): AcquireError {
    const { announcer, state } = this.#parts;
    state.counters.failed += 1;
    const story = this.#story(waitedMs);
    const error = acquireFailedError(cause === undefined ? story : { ...story, lastFailure: cause });
    announcer.tell('acquireFailed', () => ({ error }), trace);
    return error;
  }

  #story(waitedMs: number): AcquireStory {
    const { endpoint, reach, state, waiters } = this.#parts;
    const { isFailing, lastFailure, waitMs } = reach();
    return {
      endpoint,
      max: state.sizes.max,
      waitedMs,
      counts: state.counts(waiters().size),
      lastFailure,
      isFailing,
      isSuspended: state.isSuspended,
      retryInMs: this.isOutOfReach ? waitMs : undefined,
    };
  }
}

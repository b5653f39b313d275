/**
 * One request under one deadline: acquire, exchange, release, and again when that is safe. When a repetition is
 * safe is decided here; how a socket is found and how bytes travel is not.
 */
import pRetry, { AbortError } from 'p-retry';
import { type Clock, type ProcessHold, pause, type RandomSource } from '../clock.ts';
import {
  AcquireError,
  ConnectionError,
  DeadlineError,
  messageOf,
  moreSent,
  PulsepoolError,
  type Sent,
} from '../errors.ts';
import { checkCall } from '../option-check.ts';
import type { RetryBudget } from '../retry/budget.ts';
import { decide } from '../retry/decision.ts';
import { type BackoffBounds, fullJitterMs } from '../transport/backoff.ts';
import type { Lease } from './lease.ts';
import type { Wish } from './members.ts';
import type { PoolMember } from './pool-member.ts';
import { checkPriority } from './priority.ts';
import type { WaitOptions } from './waiters.ts';

/** Bounds and promises of one request. */
export interface RequestOptions {
  /** Aborting rejects with `signal.reason`; an exchange under way ends its connection. */
  readonly signal?: AbortSignal | undefined;
  /** For waiting, dialing, sending, receiving and all repetitions together, in ms. Default: none. */
  readonly timeoutMs?: number | undefined;
  /** For the wait for a socket, from -10 to 10, each level worth a second of waiting. Default: 0. */
  readonly priority?: number | undefined;
  /**
   * Doing it twice is as good as once: it may be repeated even when some of it was sent. Default: `false`, and
   * then it is repeated only when nothing was sent.
   */
  readonly idempotent?: boolean | undefined;
  /** With `balance: 'consistent-hash'`: requests with one key go to one endpoint, as long as it serves. Default: none. */
  readonly key?: string | undefined;
}

/** What a request needs of the pool. */
export interface RequestParts<In, Out> {
  readonly acquire: (
    options: WaitOptions | undefined,
    wish: Wish<In, Out> | undefined,
  ) => Promise<Lease<In, Out>>;
  /** @throws PulsepoolError `ERR_INVALID_OPTION` for a key that would do nothing. */
  readonly checkKey: (key: unknown) => void;
  /** Aborted when the pool begins to close: nothing is repeated any more. */
  readonly closing: AbortSignal;
  readonly endpoint: string;
  readonly retry: BackoffBounds & { readonly retries: number };
  readonly budget: RetryBudget;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly hold: ProcessHold;
}

/** Runs one request without bounds of its own; the usual case, at the least cost. */
export async function requestOnce<In, Out>(message: In, parts: RequestParts<In, Out>): Promise<Out> {
  parts.budget.deposit(parts.clock.now());
  const lease = await parts.acquire(undefined, undefined);
  try {
    const reply = await lease.request(message);
    lease.release();
    return reply;
  } catch (error) {
    // A reply that came must not be lost to a release that failed: release() throws only on misuse.
    if (lease.isHeld) lease.release();
    if (!(error instanceof PulsepoolError && error.retryable && error.sent === 'none')) throw error;
    return new Series(message, {}, parts, lease.member).run(error);
  }
}

/** Runs one request under the bounds of `options`. */
export async function requestWithin<In, Out>(
  message: In,
  options: RequestOptions,
  parts: RequestParts<In, Out>,
): Promise<Out> {
  checkCall('request()', options, ['signal', 'timeoutMs', 'priority', 'idempotent', 'key']);
  checkPriority(options.priority);
  parts.checkKey(options.key);
  parts.budget.deposit(parts.clock.now());
  return new Series(message, options, parts, undefined).run(undefined);
}

/** The attempts of one request, and where its time went. */
class Series<In, Out> {
  readonly #message: In;
  readonly #options: RequestOptions;
  readonly #parts: RequestParts<In, Out>;
  readonly #deadlineAt: number;
  readonly #spent = { acquireMs: 0, exchangeMs: 0, backoffMs: 0 };
  #attempts = 0;
  // The most that any attempt has sent: who pays twice must know.
  #sent: Sent = 'none';
  // Where the last attempt failed: any other endpoint is better.
  #avoid: PoolMember<In, Out> | undefined;

  constructor(
    message: In,
    options: RequestOptions,
    parts: RequestParts<In, Out>,
    avoid: PoolMember<In, Out> | undefined,
  ) {
    this.#avoid = avoid;
    this.#message = message;
    this.#options = options;
    this.#parts = parts;
    const now = parts.clock.now();
    this.#deadlineAt = now + (options.timeoutMs ?? Number.POSITIVE_INFINITY);
  }

  /** `first` is the error of an attempt made before, which counts as the first one. */
  async run(first: PulsepoolError | undefined): Promise<Out> {
    let earlier = first;
    const attempt = (): Promise<Out> => {
      if (earlier === undefined) return this.#attempt();
      const error = earlier;
      earlier = undefined;
      this.#attempts += 1;
      return Promise.reject(error);
    };
    try {
      return await pRetry(attempt, {
        retries: this.#parts.retry.retries,
        // The wait is ours, in #mayRepeat: p-retry's has no jitter at its cap, and it knows no deadline.
        minTimeout: 0,
        factor: 1,
        shouldRetry: ({ error, retriesConsumed }) => this.#mayRepeat(error, retriesConsumed),
      });
    } catch (error) {
      // p-retry makes an Error of everything; the caller's own reason must come out as it went in.
      const { signal } = this.#options;
      if (signal?.aborted === true && !(error instanceof PulsepoolError)) throw signal.reason;
      if (error instanceof PulsepoolError) error.sent = moreSent(error.sent, this.#sent);
      throw error;
    }
  }

  async #attempt(): Promise<Out> {
    const { clock, acquire } = this.#parts;
    this.#attempts += 1;
    const startedAt = clock.now();
    let lease: Lease<In, Out>;
    try {
      const { key, priority } = this.#options;
      const avoid = this.#avoid;
      lease = await acquire(
        { ...this.#bounds(), priority, key },
        avoid === undefined ? undefined : { avoid },
      );
    } catch (error) {
      this.#spent.acquireMs += clock.now() - startedAt;
      // The bound of this wait was the deadline. The clock is not asked: a real timer may fire a little early.
      const isLate = this.#isBound && error instanceof AcquireError && error.code === 'ERR_ACQUIRE_TIMEOUT';
      // The dial has its own retries under its own back-off; a second layer would multiply them.
      throw new AbortError(isLate ? this.#late(error, 'none') : asError(error));
    }
    const leasedAt = clock.now();
    this.#spent.acquireMs += leasedAt - startedAt;
    if (leasedAt >= this.#deadlineAt) {
      lease.release();
      throw new AbortError(this.#late(undefined, 'none'));
    }
    try {
      return await lease.request(this.#message, this.#bounds());
    } catch (error) {
      this.#avoid = lease.member;
      this.#spent.exchangeMs += clock.now() - leasedAt;
      const isLate = error instanceof ConnectionError && error.code === 'ERR_DEADLINE';
      throw isLate ? new AbortError(this.#late(error, error.sent)) : asError(error);
    } finally {
      lease.release();
    }
  }

  get #isBound(): boolean {
    return this.#deadlineAt !== Number.POSITIVE_INFINITY;
  }

  /** What is left of the deadline. */
  #bounds(): WaitOptions {
    const { signal } = this.#options;
    if (!this.#isBound) return { signal };
    return { signal, timeoutMs: Math.max(0, this.#deadlineAt - this.#parts.clock.now()) };
  }

  async #mayRepeat(error: Error, consumed: number): Promise<boolean> {
    const { budget, clock, closing, hold, random, retry } = this.#parts;
    const { idempotent, signal } = this.#options;
    if (!(error instanceof PulsepoolError) || closing.aborted) return false;
    this.#sent = moreSent(this.#sent, error.sent);
    const now = clock.now();
    const decision = decide({
      sent: error.sent,
      retryable: error.retryable,
      idempotent: idempotent === true,
      // A lease is whatever socket the pool has: there is no asking for a new one.
      firstByte: true,
      reused: false,
      died: true,
      isFreshUsed: true,
      isRefusal: false,
      serverDelayMs: 0,
      // p-retry counts.
      freeTriesLeft: 1,
      retriesLeft: 1,
      hasBudget: budget.balance(now) >= 1,
      breakerOpenMs: 0,
      remainingMs: this.#deadlineAt - now,
      backoffMs: fullJitterMs(consumed, retry, random),
    });
    if (decision.kind === 'fail') return false;
    if (decision.kind !== 'later') return true;
    budget.withdraw(now);
    this.#spent.backoffMs += decision.waitMs;
    hold.take();
    await pause(decision.waitMs, clock, signal, closing);
    hold.drop();
    signal?.throwIfAborted();
    return !closing.aborted;
  }

  #late(cause: unknown, sent: Sent): DeadlineError {
    const { acquireMs, backoffMs, exchangeMs } = this.#spent;
    return new DeadlineError(
      `The request to ${this.#parts.endpoint} did not finish within ${this.#options.timeoutMs} ms: ` +
        `${Math.round(acquireMs)} ms for a socket, ${Math.round(exchangeMs)} ms for the exchange, ` +
        `${Math.round(backoffMs)} ms between attempts (${this.#attempts}).`,
      {
        retryable: true,
        sent,
        // Who got no socket is told why by the queue.
        hint:
          cause instanceof AcquireError
            ? cause.hint
            : 'The phase that used most of the time is where to look.',
        cause,
        attempts: this.#attempts,
        phases: { ...this.#spent },
      },
    );
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error), { cause: error });
}

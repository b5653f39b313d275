/**
 * The pool as callers see it. What it promises is said here; how it is kept is in the roster.
 */
import { onAbort } from '../abort.ts';
import type { Clock, TimerHold } from '../clock.ts';
import { LeaseError, PulsepoolError } from '../errors.ts';
import { EVENT_NAMES, type PoolEvents } from '../events.ts';
import { checkCall, checkDuration, checkKeys, checkOneOf, invalidOption } from '../option-check.ts';
import type { Announcer } from './announcer.ts';
import { Lease } from './lease.ts';
import { type RequestOptions, type RequestParts, requestOnce, requestWithin } from './request.ts';
import type { Roster } from './roster.ts';
import type { PoolStats } from './stats.ts';
import type { WaitOptions } from './waiters.ts';

/** Bounds of one `acquire`: `signal`, and `timeoutMs` in place of the pool's `acquireTimeoutMs`. */
export type AcquireOptions = WaitOptions;

/** Bounds of `close`. */
export interface CloseOptions {
  /** How long held leases may go on, in ms. Default: 10,000 (HikariCP). */
  readonly timeoutMs?: number | undefined;
}

/** How a pool ended. */
export interface CloseReport {
  /** Leases that were still held at the deadline; their sockets were destroyed. */
  readonly forced: number;
}

/** What a pool is made of; `createPool` fills it in. */
export interface PoolParts<In, Out> {
  readonly roster: Roster<In, Out>;
  readonly announcer: Announcer;
  readonly clock: Clock;
  readonly hold: Pick<TimerHold, 'take' | 'drop' | 'end'>;
  readonly sizes: { readonly min: number; readonly maxIdle: number; readonly max: number };
  readonly request: Omit<RequestParts<In, Out>, 'acquire' | 'closing'>;
}

const CLOSE_TIMEOUT_MS = 10_000;

const WAIT_KEYS = ['signal', 'timeoutMs'];

/** A pool of sockets to one endpoint; made by `createPool()`. */
export class Pool<In, Out> implements AsyncDisposable {
  readonly #parts: PoolParts<In, Out>;
  readonly #roster: Roster<In, Out>;
  readonly #requestParts: RequestParts<In, Out>;
  // Aborted when close() is called.
  readonly #closer: AbortController = new AbortController();
  #closing: Promise<CloseReport> | undefined;

  /** @internal Use `createPool()`. */
  constructor(parts: PoolParts<In, Out>) {
    this.#parts = parts;
    this.#roster = parts.roster;
    this.#requestParts = {
      ...parts.request,
      acquire: (options) => this.acquire(options),
      closing: this.#closer.signal,
    };
    // A turn later, so that listeners can be added before the first event.
    if (parts.sizes.min > 0) parts.clock.turn(() => this.#roster.serve());
  }

  /**
   * Resolves to a lease: one socket for one caller, once. First come, first served.
   *
   * A socket that was used a moment ago is lent at once; one that rested is checked first, at no cost in round
   * trips; one that rested longer than the heartbeat's interval is pinged. A dead one is replaced unseen.
   * Cancelling a wait does not cancel the dial: its socket goes to the next caller or to the shelf.
   *
   * @throws AcquireError: `ERR_ACQUIRE_TIMEOUT` when time is up, `ERR_ACQUIRE_FAILED` when the dial failed for
   *   good (the dial's error is the cause), `ERR_POOL_CLOSED` after `close()`; `signal.reason` when aborted.
   */
  acquire(options?: AcquireOptions): Promise<Lease<In, Out>> {
    if (this.#closing !== undefined || options !== undefined) return this.#acquireWithin(options);
    const lease = this.#roster.lendFresh();
    return lease === undefined ? this.#roster.wait(undefined) : Promise.resolve(lease);
  }

  // Apart, so that the usual acquire is small enough to be inlined with all that it calls.
  async #acquireWithin(options: AcquireOptions | undefined): Promise<Lease<In, Out>> {
    if (this.#closing !== undefined) throw this.#roster.closedError(0);
    if (options !== undefined) checkCall('acquire()', options, WAIT_KEYS);
    return this.#roster.lendFresh() ?? this.#roster.wait(options);
  }

  /**
   * Gives a lease back. The same as `lease.release()`, and checks that the lease is this pool's.
   *
   * @throws LeaseError when it was released before, or belongs to another pool; nothing else happens then.
   */
  release(lease: Lease<In, Out>): void {
    if (!(lease instanceof Lease)) {
      throw new LeaseError(
        'release() got something that is not a lease.',
        'Pass what acquire() resolved to.',
      );
    }
    lease.releaseTo(this.#roster);
  }

  /**
   * Lends a socket to `fn` for as long as it runs. Releases it when `fn` returns, destroys it when `fn` throws.
   *
   * @throws what `acquire` throws, and what `fn` throws.
   */
  async use<T>(fn: (lease: Lease<In, Out>) => T | Promise<T>, options?: AcquireOptions): Promise<T> {
    if (typeof fn !== 'function') throw invalidOption('fn', 'be a function', fn);
    const lease = await this.acquire(options);
    try {
      const result = await fn(lease);
      if (lease.isHeld) lease.release();
      return result;
    } catch (error) {
      lease.fail();
      throw error;
    }
  }

  /**
   * One request on one socket: acquire, send, receive, release, under one deadline. Repeated, at most
   * `retry.retries` times, only when nothing of it was sent, or when `idempotent` says that repeating is safe.
   *
   * @throws what `acquire` and `lease.request` throw; DeadlineError when `timeoutMs` has passed.
   */
  request(message: In, options?: RequestOptions): Promise<Out> {
    return options === undefined
      ? requestOnce(message, this.#requestParts)
      : requestWithin(message, options, this.#requestParts);
  }

  /**
   * Resolves when `min` sockets are open, and at least one: the server can be reached.
   *
   * @throws the dial's error when it can't; `signal.reason` when aborted; AcquireError when the pool closes.
   */
  async ready(options?: { readonly signal?: AbortSignal | undefined }): Promise<void> {
    const signal = options?.signal;
    if (options !== undefined) checkCall('ready()', options, ['signal']);
    if (this.#closing !== undefined) throw this.#roster.closedError(0);
    const { hold } = this.#parts;
    hold.take();
    let stop = (): void => undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const ignore = signal === undefined ? undefined : onAbort(signal, () => reject(signal.reason));
        const unwatch = this.#roster.watchReady({ onReady: resolve, onFailed: reject });
        stop = () => {
          ignore?.();
          unwatch();
        };
      });
    } finally {
      stop();
      hold.drop();
    }
  }

  /** A frozen snapshot of gauges and counters. Costs one small object. */
  stats(): PoolStats {
    const { clock, sizes } = this.#parts;
    const roster = this.#roster;
    return roster.counters.snapshot(roster.counts, sizes, roster.waiters.oldestMs(clock.now()));
  }

  /**
   * Closes the pool. New callers are refused at once; callers who already wait are served while sockets last;
   * idle sockets end now, leased ones when they come back, and at the deadline by force. Calling it again
   * returns the same promise.
   *
   * Resolves when every socket has closed. Never rejects, except for a bad option.
   */
  close(options?: CloseOptions): Promise<CloseReport> {
    if (this.#closing !== undefined) return this.#closing;
    const timeoutMs = options?.timeoutMs ?? CLOSE_TIMEOUT_MS;
    try {
      if (options !== undefined) checkKeys('close()', options, ['timeoutMs']);
      checkDuration('timeoutMs', timeoutMs, 0);
    } catch (error) {
      return Promise.reject(error);
    }
    let settle: (report: Promise<CloseReport>) => void = () => undefined;
    // Set before anything happens: whoever hears of it may call close() again.
    this.#closing = new Promise((resolve) => {
      settle = resolve;
    });
    settle(this.#shutDown(timeoutMs));
    return this.#closing;
  }

  /** `await using pool = createPool(...)` closes it at the end of the block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Adds a listener. One that throws is reported as a process warning and harms nothing else. */
  on<Event extends keyof PoolEvents>(event: Event, listener: PoolEvents[Event]): this {
    checkOneOf('event', event, EVENT_NAMES);
    this.#parts.announcer.on(event, listener);
    return this;
  }

  /** Adds a listener for one time. */
  once<Event extends keyof PoolEvents>(event: Event, listener: PoolEvents[Event]): this {
    checkOneOf('event', event, EVENT_NAMES);
    this.#parts.announcer.once(event, listener);
    return this;
  }

  /** Removes a listener. */
  off<Event extends keyof PoolEvents>(event: Event, listener: PoolEvents[Event]): this {
    this.#parts.announcer.off(event, listener);
    return this;
  }

  async #shutDown(timeoutMs: number): Promise<CloseReport> {
    const { announcer, clock, hold } = this.#parts;
    let forced = 0;
    this.#closer.abort();
    hold.take();
    const timer = clock.after(timeoutMs, () => {
      forced = this.#roster.kill(
        new PulsepoolError(
          'ERR_POOL_CLOSED',
          `The pool closed while the lease was held, after ${timeoutMs} ms.`,
          {
            retryable: false,
            hint: 'Give close() more time, or find out why the lease was not released.',
          },
        ),
      );
    });
    await this.#roster.drain();
    timer.cancel();
    await this.#roster.end();
    hold.drop();
    hold.end();
    announcer.tell('poolClosed', () => ({ forced }));
    announcer.end();
    return { forced };
  }
}

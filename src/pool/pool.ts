/**
 * The pool as callers see it. What it promises is said here; how it is kept is in the roster.
 */
import { onAbort } from '../abort.ts';
import type { Clock, TimerHold } from '../clock.ts';
import { LeaseError, PulsepoolError } from '../errors.ts';
import { EVENT_NAMES, type LeaseHolder, type PoolEvents } from '../events.ts';
import {
  checkCall,
  checkDuration,
  checkInteger,
  checkKeys,
  checkOneOf,
  invalidOption,
} from '../option-check.ts';
import type { NamesStats } from '../resolve/names.ts';
import { type Advice, advise } from './advice.ts';
import type { Announcer } from './announcer.ts';
import { type EndpointRow, endpointRows, isFailing } from './endpoint-row.ts';
import { Lease } from './lease.ts';
import type { Lender } from './lender.ts';
import type { Wish } from './members.ts';
import { checkPriority } from './priority.ts';
import { type RequestOptions, type RequestParts, requestOnce, requestWithin } from './request.ts';
import type { Roster } from './roster.ts';
import { type GivenSizes, resolveSizes, SIZE_NAMES } from './sizes.ts';
import { type SocketRow, socketRow } from './socket-row.ts';
import type { PoolStats } from './stats.ts';
import type { Tracer } from './trace.ts';
import type { WaitOptions } from './waiters.ts';

/**
 * Bounds of one `acquire`: `signal`; `timeoutMs` in place of the pool's `acquireTimeoutMs`; `priority` from -10 to
 * 10, each level worth a second of waiting; `key`, with consistent hashing, to get a socket to the key's endpoint.
 */
export type AcquireOptions = WaitOptions;

/** Bounds of `suspend`. */
export interface SuspendOptions {
  /** Ends the waiting, with `signal.reason`; the pool stays suspended. */
  readonly signal?: AbortSignal | undefined;
}

/** How fast `reset` goes, and how long its caller waits for it. */
export interface ResetOptions {
  /** Ends the waiting, with `signal.reason`; the sockets are replaced all the same. */
  readonly signal?: AbortSignal | undefined;
  /** Sockets replaced in a second at most, so that the server need not shake hands with all of them at once. Default: 10. */
  readonly perSecond?: number | undefined;
}

/** Bounds of `close`. */
export interface CloseOptions {
  /** How long held leases may go on, in ms. Default: 10,000 (HikariCP). */
  readonly timeoutMs?: number | undefined;
}

/** How a pool ended. */
export interface CloseReport {
  /** Leases that were still held at the deadline; their sockets were destroyed. */
  readonly forced: number;
  /** Who held them, with the stacks that took them when `leakAfterMs` or `detectDeadlocks` is set. */
  readonly holders: readonly LeaseHolder[];
}

/** What a pool is made of; `createPool` fills it in. */
export interface PoolParts<In, Out> {
  readonly roster: Roster<In, Out>;
  readonly announcer: Announcer;
  readonly tracer: Tracer;
  readonly clock: Clock;
  readonly hold: Pick<TimerHold, 'take' | 'drop' | 'end'>;
  readonly request: Omit<RequestParts<In, Out>, 'acquire' | 'checkKey' | 'closing'>;
  /** Which endpoints there are: numbers about it, and its end. */
  readonly directory: { readonly stats: NamesStats; readonly end: () => void };
  /** Whether a key says where a caller goes. */
  readonly isKeyed: boolean;
}

const CLOSE_TIMEOUT_MS = 10_000;

const WAIT_KEYS = ['signal', 'timeoutMs', 'priority', 'key'];

const RESETS_PER_SECOND = 10;

/** A pool of sockets to one server, or to several endpoints of one service; made by `createPool()`. */
export class Pool<In, Out> implements AsyncDisposable {
  readonly #parts: PoolParts<In, Out>;
  readonly #roster: Roster<In, Out>;
  readonly #lender: Lender<In, Out>;
  readonly #tracer: Tracer;
  readonly #requestParts: RequestParts<In, Out>;
  // Aborted when close() is called.
  readonly #closer: AbortController = new AbortController();
  #closing: Promise<CloseReport> | undefined;

  /** @internal Use `createPool()`. */
  constructor(parts: PoolParts<In, Out>) {
    this.#parts = parts;
    this.#roster = parts.roster;
    this.#lender = parts.roster.lender;
    this.#tracer = parts.tracer;
    this.#requestParts = {
      ...parts.request,
      acquire: (options, wish) => this.acquireFor(options, wish),
      checkKey: (key) => this.checkKey(key),
      closing: this.#closer.signal,
    };
    // A turn later, so that listeners can be added before the first event.
    const { min, minIdle } = this.#roster.state.sizes;
    if (min + minIdle > 0) parts.clock.turn(() => this.#roster.serve());
  }

  /**
   * Resolves to a lease: one socket for one caller, once. First come, first served, but for `priority` and, under
   * overload, `shedAfterMs`.
   *
   * A socket that was used a moment ago is lent at once; one that rested is checked first, at no cost in round
   * trips; one that rested longer than the heartbeat's interval is pinged. A dead one is replaced unseen.
   * Cancelling a wait does not cancel the dial: its socket goes to the next caller or to the shelf.
   *
   * @throws AcquireError: `ERR_ACQUIRE_TIMEOUT` when time is up, `ERR_ACQUIRE_FAILED` when the dial failed for
   *   good (the dial's error is the cause) or `onAcquire` refused one socket after the other, `ERR_OVERLOADED` when too
   *   many wait or this one has waited for `shedAfterMs` under overload, `ERR_POOL_CLOSED` after `close()`;
   *   PulsepoolError `ERR_INVALID_OPTION`; `signal.reason` when aborted.
   */
  acquire(options?: AcquireOptions): Promise<Lease<In, Out>> {
    if (this.#closing !== undefined || options !== undefined || this.#tracer.isOn) {
      return this.#acquireWithin(options);
    }
    const lease = this.#lender.lendFresh();
    return lease === undefined ? this.#lender.wait(undefined, undefined) : Promise.resolve(lease);
  }

  // Apart, so that the usual acquire is small enough to be inlined with all that it calls.
  async #acquireWithin(
    options: AcquireOptions | undefined,
    given?: Wish<In, Out> | undefined,
  ): Promise<Lease<In, Out>> {
    if (this.#closing !== undefined) throw this.#roster.refusals.closed(0);
    if (options !== undefined) {
      checkCall('acquire()', options, WAIT_KEYS);
      checkPriority(options.priority);
      this.checkKey(options.key);
    }
    const key = options?.key;
    const wish = key === undefined ? given : { ...given, key };
    const trace = this.#tracer.trace();
    const lease = this.#lender.lendFresh(trace, wish);
    if (lease !== undefined) return lease;
    try {
      return await this.#lender.wait(options, trace, wish);
    } catch (error) {
      trace?.ended();
      throw error;
    }
  }

  /** @internal The same for a caller of ours who wishes for more than users can. */
  acquireFor(options: AcquireOptions | undefined, wish: Wish<In, Out> | undefined): Promise<Lease<In, Out>> {
    return wish === undefined ? this.acquire(options) : this.#acquireWithin(options, wish);
  }

  /** @internal Whether a key would do anything. */
  checkKey(key: unknown): void {
    if (key === undefined) return;
    if (typeof key !== 'string') throw invalidOption('key', 'be a string', key);
    if (this.#parts.isKeyed) return;
    const hint = 'Nothing was asked for.';
    throw invalidOption('key', "come with `balance: 'consistent-hash'` and `endpoints`", key, hint);
  }

  /**
   * Resolves to a lease on a socket that is open and at rest, or to `undefined` when there is none: it waits for no
   * dial, no ping and nobody's lease. It gives the event loop two turns, in which a dead socket shows; with `onAcquire`
   * it waits for that hook, too. When nothing rests, one more socket is opened for the next call, if there is room for
   * it and it may rest (`maxIdle`).
   *
   * @throws AcquireError `ERR_POOL_CLOSED` after `close()`.
   */
  async tryAcquire(): Promise<Lease<In, Out> | undefined> {
    if (this.#closing !== undefined) throw this.#roster.refusals.closed(0);
    const trace = this.#tracer.trace();
    const lease = await this.#lender.tryLend(trace);
    if (lease === undefined) trace?.ended();
    return lease;
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
    lease.releaseTo(this.#lender);
  }

  /**
   * Lends a socket to `fn` for as long as it runs. Releases it when `fn` returns, destroys it when `fn` throws.
   *
   * @throws what `acquire` throws, and what `fn` throws.
   */
  use<T>(fn: (lease: Lease<In, Out>) => T | Promise<T>, options?: AcquireOptions): Promise<T> {
    return this.#tracer.isOn ? this.#tracer.apart(() => this.#use(fn, options)) : this.#use(fn, options);
  }

  async #use<T>(
    fn: (lease: Lease<In, Out>) => T | Promise<T>,
    options: AcquireOptions | undefined,
  ): Promise<T> {
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
    return this.#tracer.isOn
      ? this.#tracer.apart(() => this.#request(message, options))
      : this.#request(message, options);
  }

  #request(message: In, options: RequestOptions | undefined): Promise<Out> {
    return options === undefined
      ? requestOnce(message, this.#requestParts)
      : requestWithin(message, options, this.#requestParts);
  }

  /**
   * Resolves when `min` sockets are open, or `minIdle` if that is more, and at least one: the server can be reached.
   * While the pool is suspended it waits.
   *
   * @throws the dial's error when it can't; `signal.reason` when aborted; AcquireError when the pool closes.
   */
  async ready(options?: { readonly signal?: AbortSignal | undefined }): Promise<void> {
    const signal = options?.signal;
    if (options !== undefined) checkCall('ready()', options, ['signal']);
    if (this.#closing !== undefined) throw this.#roster.refusals.closed(0);
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

  /**
   * Changes the sizes of the running pool; those left out stay as they are. More are opened when they are needed;
   * what is too much ends at once when it rests, else when its lease comes back.
   *
   * @throws PulsepoolError `ERR_INVALID_OPTION` for sizes that contradict each other; nothing changes then.
   *   AcquireError `ERR_POOL_CLOSED` after `close()`.
   */
  resize(sizes: GivenSizes): void {
    if (this.#closing !== undefined) throw this.#roster.refusals.closed(0);
    checkKeys('resize()', sizes, SIZE_NAMES);
    this.#roster.resize(resolveSizes(sizes, this.#roster.state.sizes));
  }

  /**
   * Replaces every socket that is open or being dialed now: after a failover, or when credentials have changed. One
   * after the other, each after its successor has opened if `max` leaves room; leased ones when they come back.
   * While the pool is suspended, those at rest end at once, since nobody is served.
   *
   * Resolves when none of them is left. While the server can't be dialed, the old ones serve on.
   *
   * @throws AcquireError `ERR_POOL_CLOSED` after `close()`.
   */
  async reset(options?: ResetOptions): Promise<void> {
    if (this.#closing !== undefined) throw this.#roster.refusals.closed(0);
    if (options !== undefined) checkCall('reset()', options, ['perSecond', 'signal']);
    const perSecond = checkInteger('perSecond', options?.perSecond ?? RESETS_PER_SECOND, { min: 1 });
    await this.#held(this.#roster.renew(perSecond), options?.signal);
  }

  /**
   * For a planned failover: nothing is lent or dialed until `resume()`, from this very moment on. Callers wait, and
   * nobody fails before their deadline. Leases that are held go on.
   *
   * Resolves when no lease is held any more; also when the pool is resumed or closes. Only `signal` bounds that wait.
   *
   * @throws AcquireError `ERR_POOL_CLOSED` after `close()`; `signal.reason` when aborted.
   */
  async suspend(options?: SuspendOptions): Promise<void> {
    if (this.#closing !== undefined) throw this.#roster.refusals.closed(0);
    if (options !== undefined) checkCall('suspend()', options, ['signal']);
    await this.#held(this.#roster.suspend(), options?.signal);
  }

  /** Waits on behalf of a caller: that holds the process. */
  async #held<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const { hold } = this.#parts;
    let stop = (): void => undefined;
    hold.take();
    try {
      return await new Promise<T>((resolve, reject) => {
        if (signal !== undefined) stop = onAbort(signal, () => reject(signal.reason));
        promise.then(resolve, reject);
      });
    } finally {
      stop();
      hold.drop();
    }
  }

  /** Serves again after `suspend()`; does nothing otherwise. */
  resume(): void {
    this.#roster.resume();
  }

  /** A frozen snapshot of gauges, counters and times. */
  stats(): PoolStats {
    const roster = this.#roster;
    const now = this.#parts.clock.now();
    const { state, waiters } = roster;
    const { counters, isSuspended, sizes } = state;
    const oldestWaitMs = waiters.oldestMs(now);
    const { list } = state.members;
    const dns = Object.freeze(this.#parts.directory.stats);
    const endpointsOut = list.reduce((sum, { record }) => sum + (record.isIn ? 0 : 1), 0);
    const endpointsFailing = list.reduce((sum, one) => sum + (one.record.isIn && isFailing(one) ? 1 : 0), 0);
    const endpoints = { endpoints: list.length, endpointsOut, endpointsFailing, dns };
    const gauges = { ...state.counts(waiters.size), ...sizes, oldestWaitMs, isSuspended, ...endpoints };
    return counters.snapshot(gauges, now);
  }

  /** How every endpoint fares; one with `host` or `path`. Empty while none is known. Costs an object for each. */
  endpoints(): readonly EndpointRow[] {
    return endpointRows(this.#roster.state, this.#parts.clock.now());
  }

  /** What every socket is doing, dialing and closing ones included. Costs an object for each. */
  sockets(): readonly SocketRow[] {
    const now = this.#parts.clock.now();
    return [...this.#roster.state.slots].flatMap((slot) => socketRow(slot, now) ?? []);
  }

  /**
   * What the pool would set differently, from its own measurements of the last minutes; empty when it has seen too
   * little, or nothing to complain of.
   */
  advice(): readonly Advice[] {
    return advise(this.#roster.facts(this.#parts.clock.now()));
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
    let timeoutMs: number;
    try {
      timeoutMs = closeTimeout(options);
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
    this.#expect(event);
    this.#parts.announcer.on(event, listener);
    return this;
  }

  /** Adds a listener for one time. */
  once<Event extends keyof PoolEvents>(event: Event, listener: PoolEvents[Event]): this {
    this.#expect(event);
    this.#parts.announcer.once(event, listener);
    return this;
  }

  /** Removes a listener. */
  off<Event extends keyof PoolEvents>(event: Event, listener: PoolEvents[Event]): this {
    const { announcer } = this.#parts;
    announcer.off(event, listener);
    if (![...LEASE_EVENTS].some((one) => announcer.hears(one))) this.#tracer.turnOff();
    return this;
  }

  #expect(event: keyof PoolEvents): void {
    checkOneOf('event', event, EVENT_NAMES);
    if (LEASE_EVENTS.has(event)) this.#tracer.turnOn();
  }

  async #shutDown(timeoutMs: number): Promise<CloseReport> {
    const { announcer, clock, hold } = this.#parts;
    let holders: readonly LeaseHolder[] = [];
    this.#closer.abort();
    hold.take();
    const timer = clock.after(timeoutMs, () => {
      holders = this.#roster.kill(
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
    this.#parts.directory.end();
    hold.drop();
    hold.end();
    const forced = holders.length;
    announcer.tell('poolClosed', () => ({ forced, holders }));
    announcer.end();
    this.#tracer.end();
    return { forced, holders };
  }
}

/**
 * How long a close may take, in ms.
 *
 * @throws PulsepoolError `ERR_INVALID_OPTION`.
 */
export function closeTimeout(options: CloseOptions | undefined): number {
  if (options !== undefined) checkKeys('close()', options, ['timeoutMs']);
  return checkDuration('timeoutMs', options?.timeoutMs ?? CLOSE_TIMEOUT_MS, 0);
}

// What is told in the context of the caller who asked for the lease.
const LEASE_EVENTS: ReadonlySet<keyof PoolEvents> = new Set([
  'acquired',
  'acquireFailed',
  'released',
  'leaked',
  'unleaked',
  'deadlockSuspected',
] as const);

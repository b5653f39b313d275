/**
 * The client as callers see it: requests under one deadline, repeated where that is safe, on sockets of a pool. How they
 * get there is the carriers' business.
 */
import type { Clock, TimerHold } from '../clock.ts';
import { DeadlineError, type PulsepoolError } from '../errors.ts';
import { checkBoolean, checkCall, checkDuration, checkOneOf, invalidOption } from '../option-check.ts';
import type { Announcer } from '../pool/announcer.ts';
import { type CloseOptions, type CloseReport, closeTimeout, type Pool } from '../pool/pool.ts';
import { checkPriority } from '../pool/priority.ts';
import type { Breaker } from '../retry/breaker.ts';
import type { RetryBudget } from '../retry/budget.ts';
import type { CallBounds } from './call.ts';
import { CLIENT_EVENT_NAMES, type ClientEvents } from './client-events.ts';
import type { ClientCounters, ClientStats } from './client-stats.ts';
import type { Requests } from './requests.ts';
import { ClientStream, type StreamOptions, type StreamParts } from './stream.ts';
import type { StreamFamily } from './stream-bounds.ts';
import type { SubscribeOptions, Subscription } from './subscription.ts';
import type { Subscriptions } from './subscriptions.ts';

/** Bounds and promises of one request. */
export interface ClientRequestOptions {
  /** Aborting rejects with `signal.reason`. In a shared mode the socket goes on, and the late reply is dropped. */
  readonly signal?: AbortSignal | undefined;
  /** For everything together, in ms, in place of the client's `timeoutMs`. `Infinity`: none. */
  readonly timeoutMs?: number | undefined;
  /** For the wait for a socket, from -10 to 10, each level worth a second of waiting. Default: 0. */
  readonly priority?: number | undefined;
  /** Doing it twice is as good as once: it may be repeated even when some of it was sent. Default: `false`. */
  readonly idempotent?: boolean | undefined;
  /** Send it a second time when it takes long, in place of the client's `hedge`. Needs `idempotent`. */
  readonly hedge?: boolean | undefined;
  /**
   * With `balance: 'consistent-hash'` and several `endpoints`: requests with one key go to one endpoint, as long as it
   * serves. Default: none.
   */
  readonly key?: string | undefined;
}

/** What bounds a family of calls. */
export interface DeadlineOptions {
  /** From now on, for all of them together, in ms. */
  readonly timeoutMs?: number | undefined;
  /** Aborting rejects all of them with `signal.reason`. */
  readonly signal?: AbortSignal | undefined;
}

/** What a subscription sends: one message or an array of them. A message that is itself an array goes into one. */
export type SubscribeMessages<In> = (In extends readonly unknown[] ? never : In) | readonly In[];

/** What a client is made of; `createClient` fills it in. */
export interface ClientParts<In, Out> {
  readonly pool: Pool<In, Out>;
  readonly requests: Requests<In, Out>;
  readonly streams: StreamParts<In, Out>;
  readonly subscriptions: Subscriptions<In, Out>;
  readonly announcer: Announcer<ClientEvents>;
  readonly counters: ClientCounters;
  readonly budget: RetryBudget;
  readonly breaker: Breaker | undefined;
  readonly timeoutMs: number;
  /** The pool is closed or closing, by whoever's hand. */
  readonly isClosing: () => boolean;
  /** Keeps the process alive while the client closes. */
  readonly makeHold: () => Pick<TimerHold, 'take' | 'drop' | 'end'>;
  /** What callers of a closed client are told. */
  readonly refusedAsClosed: () => PulsepoolError;
  readonly clock: Clock;
  /** Stops what the carriers keep. */
  readonly end: () => void;
}

const REQUEST_KEYS = ['signal', 'timeoutMs', 'priority', 'idempotent', 'hedge', 'key'];
const STREAM_KEYS = ['isLast', 'signal', 'timeoutMs', 'priority', 'key'];
const SUBSCRIBE_KEYS = ['signal', 'onLost', 'onRestored'];

/** Requests to one service; made by `createClient()`. */
export class Client<In, Out> implements AsyncDisposable {
  /** The pool underneath: for leases, `ready()`, `suspend()`, `reset()`, `resize()`, `sockets()`, and its own events. */
  readonly pool: Pool<In, Out>;
  readonly #parts: ClientParts<In, Out>;
  readonly #requests: Requests<In, Out>;
  readonly #timeoutMs: number;
  #closing: Promise<CloseReport> | undefined;

  /** @internal Use `createClient()`. */
  constructor(parts: ClientParts<In, Out>) {
    this.#parts = parts;
    this.#requests = parts.requests;
    this.#timeoutMs = parts.timeoutMs;
    this.pool = parts.pool;
  }

  /**
   * Sends a message and resolves to its reply, under one deadline for waiting, dialing, sending, receiving and all
   * repetitions. It is repeated when nothing of it was sent, or when it is `idempotent`; the README has the table.
   *
   * @throws DeadlineError when `timeoutMs` has passed; AcquireError when no socket could be had; FrameError when the
   *   message can't be encoded; ConnectionError when the connection was lost; PulsepoolError `ERR_CIRCUIT_OPEN` while the
   *   breaker is open, `ERR_HOOK` when `retryAfter` threw; `signal.reason` when aborted. `error.earlier` tells of the
   *   attempts before the last one.
   */
  request(message: In, options?: ClientRequestOptions): Promise<Out> {
    if (this.#parts.isClosing() || options !== undefined)
      return this.#requestWithin(message, options, undefined);
    return this.#requests.send(message, undefined, this.#timeoutMs);
  }

  /** @internal A request of a family. */
  async #requestWithin(
    message: In,
    options: ClientRequestOptions | undefined,
    family: Family | undefined,
  ): Promise<Out> {
    if (this.#parts.isClosing()) throw this.#parts.refusedAsClosed();
    if (options !== undefined) {
      checkRequest(options);
      this.pool.checkKey(options.key);
    }
    family?.check();
    const timeoutMs = Math.min(
      options?.timeoutMs ?? this.#timeoutMs,
      family?.leftMs ?? Number.POSITIVE_INFINITY,
    );
    if (!(timeoutMs > 0)) throw tooLate(options?.timeoutMs ?? 0);
    const { hedge, idempotent, key, priority, signal } = options ?? {};
    const familySignal = family?.signal;
    const hasBoth = signal !== undefined && familySignal !== undefined;
    const waits = hasBoth ? new AbortController() : undefined;
    const bounds: CallBounds = { signal, familySignal, waits, priority, idempotent, hedge, key };
    return this.#requests.send(message, bounds, timeoutMs);
  }

  /**
   * Sends a message, or as many as an async iterable gives, and returns the frames that come: as an async iterable, up to
   * and with the one that is the last. For replies of several frames and for large bodies: both directions go no faster
   * than the slower side. It has a socket of its own, whatever the client's mode is.
   *
   *     for await (const frame of client.stream('DUMP', { isLast: (frame) => frame === 'END' })) …
   *
   * Nothing happens before the first frame is asked for. The last frame ends it even if the iterable has more. After the
   * last frame of an exchange that was sent in full, the socket goes back to the pool; after leaving the loop early, an
   * error, an abort or the deadline it is destroyed, and its late frames reach nobody. Nothing is repeated, except when a
   * socket that had served before was dead before anything was sent. The breaker and the statistics leave streams out.
   *
   * @throws PulsepoolError `ERR_INVALID_OPTION`, and `signal.reason` when it is aborted already, at once. While frames are
   *   asked for: what `pool.acquire()`, `lease.send()` and `lease.receive()` throw, with `sent` for all messages together;
   *   DeadlineError when `timeoutMs` has passed; `signal.reason` when aborted; what the iterable or `isLast` throws.
   */
  stream(message: In | AsyncIterable<In>, options: StreamOptions<Out>): ClientStream<In, Out> {
    return this.#streamWithin(message, options, undefined);
  }

  #streamWithin(
    message: In | AsyncIterable<In>,
    options: StreamOptions<Out>,
    family: StreamFamily | undefined,
  ): ClientStream<In, Out> {
    checkCall('stream()', options, STREAM_KEYS);
    checkPriority(options.priority);
    this.pool.checkKey(options.key);
    if (typeof options.isLast !== 'function') throw invalidOption('isLast', 'be a function', options.isLast);
    return new ClientStream(message, options, family, this.#parts.streams);
  }

  /**
   * For what a server pushes: sends the messages and hands every frame that comes to `onFrame`, one after the other. While
   * a promise of its is pending the next frame waits, and soon the server. What it throws is reported as a process
   * warning.
   *
   * It has a socket of its own for as long as it lasts: leave room for it in `max`. `pool.suspend()` and `pool.reset()`
   * wait for it as for any lease. A lost socket is replaced, under the back-off of the pool, and the messages are sent
   * again. Silence is no fault; but with a `heartbeat.ping`, the socket is pinged when nothing was read for
   * `heartbeat.intervalMs`, and is lost after `heartbeat.maxMissed` pings without an answer. Pongs that are due are not
   * handed on. Until it is closed it holds the process.
   *
   * @throws PulsepoolError `ERR_INVALID_OPTION`; AcquireError `ERR_POOL_CLOSED` after `close()`; `signal.reason` when it is
   *   aborted already. What happens later is told by `ready`, `onLost` and `onRestored`.
   */
  subscribe(
    messages: SubscribeMessages<In>,
    onFrame: (frame: Out) => unknown,
    options: SubscribeOptions = {},
  ): Subscription<In, Out> {
    if (this.#parts.isClosing()) throw this.#parts.refusedAsClosed();
    checkCall('subscribe()', options, SUBSCRIBE_KEYS);
    const { onLost, onRestored } = options;
    for (const [name, value] of Object.entries({ onFrame, onLost, onRestored })) {
      const isOptional = name !== 'onFrame' && value === undefined;
      if (typeof value !== 'function' && !isOptional) throw invalidOption(name, 'be a function', value);
    }
    const list = Array.isArray(messages) ? [...(messages as readonly In[])] : [messages as In];
    return this.#parts.subscriptions.open(list, onFrame, options);
  }

  /**
   * The same client for a family of calls that share a deadline, which starts now, a signal, or both: such as all that is
   * done for one request of somebody else's.
   *
   * @throws PulsepoolError `ERR_INVALID_OPTION`; `signal.reason` when it is aborted already.
   */
  withDeadline(bounds: number | DeadlineOptions): DeadlineClient<In, Out> {
    const { signal, timeoutMs } =
      typeof bounds === 'number' ? { timeoutMs: bounds, signal: undefined } : checked(bounds);
    if (timeoutMs !== undefined) checkDuration('timeoutMs', timeoutMs, 0);
    const { clock } = this.#parts;
    const family = new Family(clock, clock.now() + (timeoutMs ?? Number.POSITIVE_INFINITY), signal);
    return {
      get remainingMs() {
        return Math.max(0, family.leftMs);
      },
      request: (message, options) => this.#requestWithin(message, options, family),
      stream: (message, options) => this.#streamWithin(message, options, family),
    };
  }

  /** A frozen snapshot of counters and times; `client.pool.stats()` has those of the sockets. */
  stats(): ClientStats {
    const { breaker, budget, clock, counters } = this.#parts;
    const now = clock.now();
    const gauges = {
      inFlight: this.#requests.live,
      waiting: this.#requests.waiting,
      retryBudget: Math.max(0, Math.floor(budget.balance(now))),
      breaker: breaker?.state.name,
    };
    return counters.snapshot(gauges, now);
  }

  /**
   * Closes the client and its pool. Subscriptions end first. New requests are refused at once; those on a socket go on, those
   * that wait get one while sockets last, and nothing is repeated any more; at the deadline sockets end by force. Calling it
   * again returns the same promise.
   *
   * Resolves when every socket has closed, and no handler of a subscription runs any more, for which it waits no longer
   * than for leases. Never rejects, except for a bad option.
   */
  close(options?: CloseOptions): Promise<CloseReport> {
    if (this.#closing !== undefined) return this.#closing;
    try {
      // Of a client that goes on nothing may be closed.
      closeTimeout(options);
    } catch (error) {
      return Promise.reject(error);
    }
    this.#closing = this.#close(options);
    return this.#closing;
  }

  async #close(options: CloseOptions | undefined): Promise<CloseReport> {
    const timeoutMs = closeTimeout(options);
    // The pool's own hold ends with the pool, and a handler may run for longer.
    const hold = this.#parts.makeHold();
    hold.take();
    const quiet = this.#parts.subscriptions.close(timeoutMs);
    const report = await this.pool.close(options);
    await quiet;
    hold.drop();
    hold.end();
    this.#parts.subscriptions.end();
    this.#requests.end();
    this.#parts.end();
    this.#parts.announcer.end();
    return report;
  }

  /** `await using client = createClient(...)` closes it at the end of the block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Adds a listener. One that throws is reported as a process warning and harms nothing else. */
  on<Event extends keyof ClientEvents>(event: Event, listener: ClientEvents[Event]): this {
    checkOneOf('event', event, CLIENT_EVENT_NAMES);
    this.#parts.announcer.on(event, listener);
    return this;
  }

  /** Adds a listener for one time. */
  once<Event extends keyof ClientEvents>(event: Event, listener: ClientEvents[Event]): this {
    checkOneOf('event', event, CLIENT_EVENT_NAMES);
    this.#parts.announcer.once(event, listener);
    return this;
  }

  /** Removes a listener, if it is there. */
  off<Event extends keyof ClientEvents>(event: Event, listener: ClientEvents[Event]): this {
    checkOneOf('event', event, CLIENT_EVENT_NAMES);
    this.#parts.announcer.off(event, listener);
    return this;
  }
}

/** What `client.withDeadline()` returns. */
export interface DeadlineClient<In, Out> {
  /** What is left of the deadline, in ms; 0 when it has passed. */
  readonly remainingMs: number;
  /** As `client.request()`; the earlier deadline and either signal count. */
  request(message: In, options?: ClientRequestOptions): Promise<Out>;
  /** As `client.stream()`; the earlier deadline and either signal count. */
  stream(message: In | AsyncIterable<In>, options: StreamOptions<Out>): ClientStream<In, Out>;
}

/** One deadline and one signal for many calls. */
class Family {
  readonly signal: AbortSignal | undefined;
  readonly #clock: Clock;
  readonly #deadlineAt: number;

  constructor(clock: Clock, deadlineAt: number, signal: AbortSignal | undefined) {
    this.#clock = clock;
    this.#deadlineAt = deadlineAt;
    this.signal = signal;
  }

  get leftMs(): number {
    return this.#deadlineAt - this.#clock.now();
  }

  check(): void {
    this.signal?.throwIfAborted();
  }
}

function checked(bounds: DeadlineOptions): DeadlineOptions {
  checkCall('withDeadline()', bounds, ['timeoutMs', 'signal']);
  return bounds;
}

function checkRequest(options: ClientRequestOptions): void {
  checkCall('request()', options, REQUEST_KEYS);
  checkPriority(options.priority);
  const { hedge, idempotent } = options;
  if (idempotent !== undefined) checkBoolean('idempotent', idempotent);
  if (hedge === undefined) return;
  checkBoolean('hedge', hedge);
  if (hedge && idempotent !== true) {
    throw invalidOption('hedge', 'come with `idempotent`: the server may get the request twice', hedge);
  }
}

/** Nothing is sent that nobody could wait for. */
function tooLate(timeoutMs: number): DeadlineError {
  return new DeadlineError('The deadline had passed before the request was made.', {
    retryable: true,
    hint: `Nothing was sent; the call's own limit was ${timeoutMs} ms.`,
    attempts: 0,
    phases: { acquireMs: 0, exchangeMs: 0, backoffMs: 0 },
  });
}

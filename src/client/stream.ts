/**
 * A stream: one exchange of many frames on a lease of its own. Messages go out and frames come in side by side, each as
 * slowly as the slower side, until the last frame; then the lease goes back. Left in any other way, it is destroyed, so
 * that a late frame reaches nobody.
 *
 * Sending is the outflow's business, deadlines and signals that of the bounds.
 */
import { onAbort } from '../abort.ts';
import type { Clock } from '../clock.ts';
import { AcquireError, ConnectionError } from '../errors.ts';
import type { Lease } from '../pool/lease.ts';
import type { WaitOptions } from '../pool/waiters.ts';
import { isAsync } from '../transport/stream-fault.ts';
import { Outflow } from './outflow.ts';
import { Source } from './source.ts';
import { StreamBounds, type StreamFamily } from './stream-bounds.ts';

/** What a stream is given beside its messages. */
export interface StreamOptions<Out> {
  /** Whether this frame is the last one. It is still yielded, and ends the stream. Must not be async. */
  readonly isLast: (frame: Out) => boolean;
  /** Aborting throws `signal.reason`, and ends the socket. */
  readonly signal?: AbortSignal | undefined;
  /**
   * For all of it in ms, from the first `next()` to the last frame. Default: none. The wait for a socket has the pool's
   * `acquireTimeoutMs`; once all was sent, silence has `readTimeoutMs`.
   */
  readonly timeoutMs?: number | undefined;
  /** For the wait for a socket, from -10 to 10, each level worth a second of waiting. Default: 0. */
  readonly priority?: number | undefined;
  /** With `balance: 'consistent-hash'`: streams with one key go to one endpoint, as long as it serves. Default: none. */
  readonly key?: string | undefined;
}

/** What streams are made of. */
export interface StreamParts<In, Out> {
  readonly acquire: (bounds: WaitOptions) => Promise<Lease<In, Out>>;
  /** Of the pool, in ms. */
  readonly acquireTimeoutMs: number;
  /** How often a stream of which nothing was sent is begun again. */
  readonly freeTries: () => number;
  readonly endpoint: string;
  readonly clock: Clock;
}

type State<In, Out> =
  // Nobody has asked for a frame.
  | { readonly name: 'new' }
  // The first message, or a socket, is waited for.
  | { readonly name: 'asking' }
  | { readonly name: 'open'; readonly lease: Lease<In, Out>; readonly outflow: Outflow<In, Out> }
  | { readonly name: 'over' };

type StateName = State<unknown, unknown>['name'];

const TRANSITIONS: Readonly<Record<StateName, readonly StateName[]>> = {
  new: ['asking', 'over'],
  asking: ['open', 'over'],
  open: ['asking', 'over'],
  over: [],
};

/** See the file's comment. What `client.stream()` returns; nothing happens before the first `next()`. */
export class ClientStream<In, Out> implements AsyncIterableIterator<Out, undefined>, AsyncDisposable {
  readonly #source: Source<In>;
  readonly #options: StreamOptions<Out>;
  readonly #parts: StreamParts<In, Out>;
  readonly #bounds: StreamBounds;
  // Ends a wait for the first message, or for a socket.
  readonly #closer: AbortController = new AbortController();
  // Calls of next() wait for each other, as those of a generator do.
  readonly #line: (() => void)[] = [];
  #isBusy = false;
  #state: State<In, Out> = { name: 'new' };
  #failure: { readonly error: unknown } | undefined;

  /** @internal Use `client.stream()`. */
  constructor(
    messages: In | AsyncIterable<In>,
    options: StreamOptions<Out>,
    family: StreamFamily | undefined,
    parts: StreamParts<In, Out>,
  ) {
    this.#source = new Source(messages);
    this.#options = options;
    this.#parts = parts;
    this.#bounds = new StreamBounds(options, family, parts.endpoint, parts.clock, {
      sent: () => (this.#state.name === 'open' ? this.#state.outflow.sent : 'none'),
      onBound: (error, how) => this.#fail(error, how),
    });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next frame. `done` after the last one, after `return()`, and after it threw what `client.stream()` says. */
  async next(): Promise<IteratorResult<Out, undefined>> {
    if (this.#isBusy) await new Promise<void>((resolve) => this.#line.push(resolve));
    this.#isBusy = true;
    try {
      return await this.#advance();
    } finally {
      const next = this.#line.shift();
      if (next === undefined) this.#isBusy = false;
      else next();
    }
  }

  /** Leaves the stream at once, also while a `next()` waits, which is `done` then. Its socket is destroyed. */
  async return(): Promise<IteratorReturnResult<undefined>> {
    this.#leave('destroyed');
    this.#failure = undefined;
    return { done: true, value: undefined };
  }

  /** Leaves the stream: `await using stream = client.stream(...)`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  // ---- frames --------------------------------------------------------------------------------------------

  async #advance(): Promise<IteratorResult<Out, undefined>> {
    if (this.#state.name === 'new') await this.#begin();
    const state = this.#state;
    if (state.name === 'open') {
      try {
        const frame = await state.lease.receive();
        // It may have been left in the meantime.
        if (this.#state === state && this.#take(frame)) return { done: false, value: frame };
      } catch (error) {
        this.#fail(state.outflow.explain(error));
      }
    }
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure.error;
    return { done: true, value: undefined };
  }

  /** Looks at a frame; `false` when that has failed. */
  #take(frame: Out): boolean {
    try {
      const isLast: unknown = this.#options.isLast(frame);
      if (isLast instanceof Promise) throw isAsync('isLast', isLast);
      if (isLast) this.#leave('complete');
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  // ---- the beginning -------------------------------------------------------------------------------------

  async #begin(): Promise<void> {
    this.#move({ name: 'asking' });
    this.#bounds.start();
    try {
      // Before there is a socket: none need wait for a slow source.
      const first = await this.#first();
      let triesLeft = this.#parts.freeTries();
      while (first !== undefined && this.#state.name === 'asking') {
        triesLeft -= 1;
        await this.#open(first, triesLeft > 0);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The first message; `undefined` when the stream was left before it came. */
  async #first(): Promise<IteratorResult<In, undefined> | undefined> {
    if (this.#state.name !== 'asking') return undefined;
    if (this.#source.isSingle) return this.#source.next();
    let stop = (): void => undefined;
    const left = new Promise<undefined>((resolve) => {
      stop = onAbort(this.#closer.signal, () => resolve(undefined));
    });
    try {
      return await Promise.race([this.#source.next(), left]);
    } finally {
      stop();
    }
  }

  /** Gets a socket and sends the first message. Still `asking` afterwards: that is worth another try. */
  async #open(first: IteratorResult<In, undefined>, mayTryAgain: boolean): Promise<void> {
    const lease = await this.#acquire();
    if (!this.#isIn('asking')) {
      lease.release();
      return;
    }
    const outflow = new Outflow(this.#source, lease, this.#parts.clock, (error) => this.#fail(error));
    this.#move({ name: 'open', lease, outflow });
    this.#bounds.opened();
    try {
      await outflow.start(first);
    } catch (error) {
      if (!this.#isIn('open')) return;
      const isStale = error instanceof ConnectionError && error.reused && error.sent === 'none';
      if (!isStale || !mayTryAgain) throw error;
      this.#move({ name: 'asking' });
      lease.release();
    }
  }

  async #acquire(): Promise<Lease<In, Out>> {
    const { acquire, acquireTimeoutMs } = this.#parts;
    const { key, priority } = this.#options;
    const bounds: WaitOptions = { signal: this.#closer.signal, priority, key };
    const timeoutMs = this.#bounds.leftMs;
    if (timeoutMs >= acquireTimeoutMs) return acquire(bounds);
    // Who gets no socket is told why by the queue, which has the same limit.
    this.#bounds.unwatch();
    try {
      const lease = await acquire({ ...bounds, timeoutMs });
      this.#bounds.watch();
      return lease;
    } catch (error) {
      const isLate = error instanceof AcquireError && error.code === 'ERR_ACQUIRE_TIMEOUT';
      throw isLate ? this.#bounds.late(error) : error;
    }
  }

  // ---- the end -------------------------------------------------------------------------------------------

  /** The first failure is told to whoever asks for the next frame. */
  #fail(error: unknown, how: 'destroyed' | 'aborted' | 'timeout' = 'destroyed'): void {
    if (this.#state.name === 'over') return;
    this.#failure = { error };
    this.#leave(how);
  }

  #leave(how: 'complete' | 'destroyed' | 'aborted' | 'timeout'): void {
    const state = this.#state;
    if (state.name === 'over') return;
    this.#move({ name: 'over' });
    this.#bounds.end();
    this.#source.end();
    this.#closer.abort();
    if (state.name !== 'open') return;
    const { lease, outflow } = state;
    if (outflow.isUntouched) lease.release();
    else if (how === 'complete' && outflow.isAllPosted) {
      lease.markClean();
      lease.release();
    } else if (how === 'aborted' || how === 'timeout') lease.cut(how);
    // Also when the last frame came before everything was sent: nobody knows what the server makes of the rest.
    else lease.destroy();
  }

  // Apart, so that the compiler does not think that nothing happens while we wait.
  #isIn(name: StateName): boolean {
    return this.#state.name === name;
  }

  /** The only way from state to state: a step that the table does not know is a bug of ours. */
  #move(next: State<In, Out>): void {
    const from = this.#state.name;
    if (!TRANSITIONS[from].includes(next.name))
      throw new Error(`bug: a stream cannot go from ${from} to ${next.name}`);
    this.#state = next;
  }
}

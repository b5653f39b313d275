/**
 * A subscription: what a server pushes, on a socket of its own, for as long as it lasts. When the socket is lost it gets
 * another one, sends its messages again, and says that something may have been missed.
 *
 * Where sockets come from, and when the server may be dialed, is the pool's business; what goes on on one of them is that
 * of the listening.
 */
import { onAbort } from '../abort.ts';
import { type Clock, type ProcessHold, pause, type RandomSource } from '../clock.ts';
import { PulsepoolError } from '../errors.ts';
import type { Lease } from '../pool/lease.ts';
import type { WaitOptions } from '../pool/waiters.ts';
import { type BackoffBounds, fullJitterMs } from '../transport/backoff.ts';
import { asPulsepoolError, guarded, Listening } from './listening.ts';
import type { PulseParts } from './pulse.ts';

/** What a subscription is given beside its messages and its handler. */
export interface SubscribeOptions {
  /** Aborting closes the subscription. */
  readonly signal?: AbortSignal | undefined;
  /**
   * The socket was lost, or none could be had, for this reason: from now on pushes may be missed. Told once until
   * `onRestored`, and not when the subscription is closed.
   */
  readonly onLost?: ((error: PulsepoolError) => unknown) | undefined;
  /** After `onLost`: the messages have been sent on a new socket. What was missed in between, only the server knows. */
  readonly onRestored?: (() => unknown) | undefined;
}

/** What subscriptions are made of. */
export interface SubscriptionParts<In, Out> {
  readonly acquire: (bounds: WaitOptions) => Promise<Lease<In, Out>>;
  /** Nothing is pinged without it. */
  readonly pulse: PulseParts<In, Out> | undefined;
  readonly endpoint: string;
  readonly retry: BackoffBounds;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly hold: ProcessHold;
}

type State<In, Out> =
  // A socket is waited for, or the next attempt to get one.
  | { readonly name: 'seeking' }
  | { readonly name: 'listening'; readonly on: Listening<In, Out> }
  | { readonly name: 'ended' };

type StateName = State<unknown, unknown>['name'];

const TRANSITIONS: Readonly<Record<StateName, readonly StateName[]>> = {
  seeking: ['listening', 'ended'],
  listening: ['seeking', 'ended'],
  ended: [],
};

/** See the file's comment. What `client.subscribe()` returns. */
export class Subscription<In, Out> implements AsyncDisposable {
  /**
   * The messages have been sent for the first time, however long that takes: while the server can't be reached, it goes on
   * trying. Rejects when the subscription ends before that: with `signal.reason`; with `ERR_POOL_CLOSED` when it, the
   * client or the pool is closed; with an error that is not `retryable`, such as a message that can't be encoded.
   */
  readonly ready: Promise<void>;
  readonly #messages: readonly In[];
  readonly #onFrame: (frame: Out) => unknown;
  readonly #options: SubscribeOptions;
  readonly #parts: SubscriptionParts<In, Out>;
  readonly #closer: AbortController = new AbortController();
  /** @internal It has ended, and its handler does not run any more. */
  readonly ended: Promise<void>;
  #state: State<In, Out> = { name: 'seeking' };
  #resolveReady: () => void = () => undefined;
  #rejectReady: (reason: unknown) => void = () => undefined;
  #deafen: (() => void) | undefined;
  #wasReady = false;
  #isLost = false;
  // Sockets in a row that could not be had, or were lost soon.
  #failures = 0;
  #readyAt: number | undefined;

  /** @internal Use `client.subscribe()`. The signal must not be aborted yet. */
  constructor(
    messages: readonly In[],
    onFrame: (frame: Out) => unknown,
    options: SubscribeOptions,
    parts: SubscriptionParts<In, Out>,
  ) {
    this.#messages = messages;
    this.#onFrame = onFrame;
    this.#options = options;
    this.#parts = parts;
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve;
      this.#rejectReady = reject;
    });
    // Nobody has to wait for it: that it failed must not end the process.
    this.ready.catch(() => undefined);
    const { signal } = options;
    if (signal !== undefined) this.#deafen = onAbort(signal, () => this.#end(signal.reason));
    this.ended = this.#run();
  }

  /**
   * Destroys the socket at once, and calls the handler no more. Resolves when it does not run any more; so don't await this
   * in the handler itself. Closing again does the same.
   */
  close(): Promise<void> {
    this.#end(closedError(this.#parts.endpoint));
    return this.ended;
  }

  /** `await using subscription = client.subscribe(...)` closes it at the end of the block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #run(): Promise<void> {
    const { clock, hold, random, retry } = this.#parts;
    hold.take();
    while (this.#isIn('seeking')) {
      const error = await this.#listen();
      if (!this.#isIn('seeking')) break;
      const livedMs = this.#readyAt === undefined ? 0 : clock.now() - this.#readyAt;
      this.#readyAt = undefined;
      // One that lasted says nothing about the next one.
      if (livedMs > retry.capMs) this.#failures = 0;
      this.#onFailed(error);
      // The pool has a back-off for dials. This one is for a server that takes us in and throws us out again, and for a
      // pool that says at once that it has no socket.
      if (this.#failures > 0) {
        await pause(fullJitterMs(this.#failures - 1, retry, random), clock, this.#closer.signal);
      }
      this.#failures += 1;
    }
    hold.drop();
  }

  /** Takes a socket and listens until it is lost. Returns why. */
  async #listen(): Promise<PulsepoolError> {
    const { acquire, endpoint, pulse } = this.#parts;
    let lease: Lease<In, Out>;
    try {
      lease = await acquire({ signal: this.#closer.signal });
    } catch (error) {
      return asPulsepoolError(error);
    }
    if (!this.#isIn('seeking')) {
      lease.release();
      return closedError(endpoint);
    }
    const on = new Listening<In, Out>(lease, pulse, {
      onFrame: this.#onFrame,
      onReady: () => this.#onReady(),
    });
    this.#move({ name: 'listening', on });
    const error = await on.run(this.#messages);
    if (this.#isIn('listening')) this.#move({ name: 'seeking' });
    return error;
  }

  #onReady(): void {
    this.#readyAt = this.#parts.clock.now();
    this.#wasReady = true;
    this.#resolveReady();
    if (!this.#isLost) return;
    this.#isLost = false;
    void guarded('onRestored of a subscription', () => this.#options.onRestored?.());
  }

  #onFailed(error: PulsepoolError): void {
    // What can't succeed without a change is a mistake to be told at the start. Later it may be mended while we wait.
    if (error.code === 'ERR_POOL_CLOSED' || (!this.#wasReady && !error.retryable)) {
      this.#end(error);
      return;
    }
    if (this.#isLost) return;
    this.#isLost = true;
    void guarded('onLost of a subscription', () => this.#options.onLost?.(error));
  }

  #end(reason: unknown): void {
    const state = this.#state;
    if (state.name === 'ended') return;
    this.#move({ name: 'ended' });
    this.#deafen?.();
    this.#rejectReady(reason);
    this.#closer.abort();
    if (state.name === 'listening') state.on.end();
  }

  // Apart, so that the compiler does not think that nothing happens while we wait.
  #isIn(name: StateName): boolean {
    return this.#state.name === name;
  }

  /** The only way from state to state: a step that the table does not know is a bug of ours. */
  #move(next: State<In, Out>): void {
    const from = this.#state.name;
    if (!TRANSITIONS[from].includes(next.name)) {
      throw new Error(`bug: a subscription cannot go from ${from} to ${next.name}`);
    }
    this.#state = next;
  }
}

function closedError(endpoint: string): PulsepoolError {
  return new PulsepoolError('ERR_POOL_CLOSED', `The subscription to ${endpoint} was closed.`, {
    retryable: false,
    hint: 'It was closed before its messages had been sent.',
  });
}

/**
 * A lease: the right of one caller to one socket, once. After it ends every method fails, so a late reply or a
 * forgotten reference can reach nobody else's exchange.
 */
import type { Duplex } from 'node:stream';
import { LeaseError } from '../errors.ts';
import type { CloseReason } from '../transport/close-reason.ts';
import type { CallOptions, Connection, SendOptions, Socket } from '../transport/connection.ts';
import type { FrameSink } from '../transport/frame-sink.ts';
import { LeaseDuplex } from './lease-duplex.ts';
import type { PoolMember } from './pool-member.ts';
import type { Slot } from './slot.ts';

/** Who gets the socket back. */
export interface LeaseHome<In, Out> {
  /** `use` says which of the slot's leases has ended. */
  takeBack(slot: Slot<In, Out>, use: number): void;
  /** Whether whoever could hold it for ever should give it back as soon as possible. */
  isWantedBack(slot: Slot<In, Out>): boolean;
  /** Counts as if the lease had come back and was lent again, to somebody who had waited for so long. */
  passOn(slot: Slot<In, Out>, waitedMs: number, now: number): void;
  /** Whether somebody wants to know how long replies take. */
  readonly isTimed: boolean;
  /** Measures how long a reply takes. */
  timed<T>(slot: Slot<In, Out>, reply: Promise<T>): Promise<T>;
  /** As long as it took to a reply of its, in ms. */
  onReply(slot: Slot<In, Out>, latencyMs: number, now: number): void;
  /** From now on its calls are counted at the endpoint that is returned, one by one, instead of the lease; none: they need not be. */
  countsCalls(slot: Slot<In, Out>): PoolMember<In, Out> | undefined;
}

/** The home of a lease that goes back to nobody: whoever made it looks at the connection when it is over. */
export const NOWHERE = {
  takeBack: (): void => undefined,
  isWantedBack: (): boolean => false,
  passOn: (): void => undefined,
  isTimed: false,
  timed: <T>(_slot: unknown, reply: Promise<T>): Promise<T> => reply,
  onReply: (): void => undefined,
  countsCalls: (): undefined => undefined,
};

type LeaseState = 'active' | 'released' | 'destroyed' | 'detached';

/** What `pool.acquire()` resolves to. */
export class Lease<In, Out> implements AsyncDisposable {
  readonly #slot: Slot<In, Out>;
  readonly #connection: Connection<In, Out>;
  readonly #home: LeaseHome<In, Out>;
  readonly #use: number;
  #state: LeaseState = 'active';
  #duplex: LeaseDuplex<In, Out> | undefined;

  /** @internal */
  constructor(slot: Slot<In, Out>, connection: Connection<In, Out>, home: LeaseHome<In, Out>, use: number) {
    this.#slot = slot;
    this.#connection = connection;
    this.#home = home;
    this.#use = use;
  }

  /** The pool's number of the socket, as in events and stats. */
  get connectionId(): number {
    return this.#connection.id;
  }

  /** @internal The endpoint at the other end. */
  get member(): PoolMember<In, Out> | undefined {
    return this.#slot.member;
  }

  /** Whether it has not been released, destroyed or detached. */
  get isHeld(): boolean {
    return this.#state === 'active';
  }

  /** Whether the lease is held and its connection still open. */
  get isUsable(): boolean {
    return this.#state === 'active' && this.#connection.isOpen;
  }

  /**
   * Sends a message and resolves to the next frame. Several may be under way; replies come in order.
   *
   * @throws FrameError when the message can't be encoded; ConnectionError when the connection is lost, silent
   *   for `readTimeoutMs` or out of step; LeaseError after the lease has ended; `signal.reason` when aborted.
   *   Whenever a reply could still come, the connection is ended, so that nobody else can receive it.
   */
  request(message: In, options?: CallOptions): Promise<Out> {
    if (this.#state !== 'active') return this.#refuse('request');
    const reply = this.#connection.request(message, options);
    return this.#home.isTimed ? this.#home.timed(this.#slot, reply) : reply;
  }

  /**
   * Sends a message without waiting for its reply; resolves when more may be sent.
   * The lease is dirty until as many frames as `options.replies` (default 1) have been received.
   */
  send(message: In, options?: SendOptions): Promise<void> {
    return this.#state === 'active' ? this.#connection.send(message, options) : this.#refuse('send');
  }

  /** Resolves to the next frame, whether it was asked for or pushed by the server. */
  receive(options?: CallOptions): Promise<Out> {
    return this.#state === 'active' ? this.#connection.receive(options) : this.#refuse('receive');
  }

  /** Frames as they come, until the loop is left or the connection ends, which throws. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Out, void, undefined> {
    while (true) yield await this.receive();
  }

  /**
   * Vouches that the reply is complete. For codecs without frames (`raw`) and protocols whose number of replies
   * is not known beforehand. Bytes left unread still make the lease dirty.
   */
  markClean(): void {
    this.#assertActive('markClean');
    this.#connection.markClean();
  }

  /**
   * A Node stream over this lease: written are messages and read are frames; with a codec without frames (`raw`) bytes.
   * Both sides respect backpressure. Use the stream or the lease's own calls, not both at once.
   *
   * - Each message counts as one `send()`: a frame answers it, or `markClean()` says that all is done.
   * - `end()` ends the writing, not the socket, and once all was written silence is a fault after `readTimeoutMs`; before
   *   that the server need not say anything.
   * - `destroy()` with an error, or in the middle of an exchange, ends the socket. Otherwise the lease stays as it was:
   *   the caller's, to be released, or to have another stream made of it. A `for await` that is left early is no error.
   * - `release()` and `detach()` of the lease destroy the stream, and leave no listener behind.
   * - The server's FIN ends the reading of bytes; between frames it is an error, as is every other end of the socket.
   *
   * Errors of the stream are those of `send()` and `receive()`. A frame of `null`, which would end a Node stream, is one.
   *
   * @throws LeaseError after the lease has ended.
   */
  duplex(): Duplex {
    this.#assertActive('duplex');
    if (this.#duplex === undefined || this.#duplex.destroyed) {
      this.#duplex = new LeaseDuplex(this, this.#connection);
    }
    return this.#duplex;
  }

  /**
   * Gives the socket back. It goes to the next caller if the exchange is complete, else it is destroyed.
   *
   * @throws LeaseError when the lease has been released before; nothing changes for its present owner.
   */
  release(): void {
    if (this.#state === 'released') this.#assertActive('release');
    this.#duplex?.destroy();
    const wasActive = this.#state === 'active';
    this.#state = 'released';
    if (wasActive) this.#home.takeBack(this.#slot, this.#use);
  }

  /** @internal `pool.release(lease)`: the same, for a lease of that very pool. */
  releaseTo(home: LeaseHome<In, Out>): void {
    if (home !== this.#home) {
      throw new LeaseError(
        'This lease belongs to another pool.',
        'Release a lease to the pool that lent it, or call lease.release().',
      );
    }
    this.release();
  }

  /** Ends the socket instead of giving it back. Releasing afterwards does nothing. */
  destroy(): void {
    this.#end('destroyed');
  }

  /** @internal Its holder has gone, or its holder's time is up: ends the socket. */
  cut(why: 'aborted' | 'timeout'): void {
    this.#end(why);
  }

  /** @internal See {@link Connection.expectReply}. */
  expectReply(isDue: boolean): void {
    if (this.#state === 'active') this.#connection.expectReply(isDue);
  }

  /** @internal For a client of ours, which holds it for as long as it likes: it is no leak. Returns its connection. */
  keep(): Connection<In, Out> {
    this.#assertActive('keep');
    const { state } = this.#slot;
    if (state.name === 'leased') state.isShared = true;
    return this.#connection;
  }

  /**
   * @internal Gives the frames of the connection to `sink`. Before `release()` everything must have been answered, and
   * `unshare()` be called on what this returns.
   */
  share(sink: FrameSink<Out>): Connection<In, Out> {
    const connection = this.keep();
    connection.share(sink);
    return connection;
  }

  /** @internal It goes on with another request of the same client, which has waited for so long, in ms. */
  passOn(waitedMs: number, now: number): void {
    this.#home.passOn(this.#slot, waitedMs, now);
  }

  /** @internal See {@link LeaseHome.countsCalls}. */
  countsCalls(): PoolMember<In, Out> | undefined {
    return this.#home.countsCalls(this.#slot);
  }

  /** @internal A reply came after so long, in ms. */
  onReply(latencyMs: number, now: number): void {
    this.#home.onReply(this.#slot, latencyMs, now);
  }

  /** @internal The pool would rather have it back: it closes, is suspended, or is to replace the socket. */
  get isWantedBack(): boolean {
    return this.#home.isWantedBack(this.#slot);
  }

  /** @internal Ends a handshake's lease; its connection stays as it is. */
  finish(): void {
    this.#state = 'released';
  }

  /** @internal A `use` callback threw. */
  fail(): void {
    this.#end('failed');
  }

  /**
   * Hands out the raw socket for good: paused, without listeners of the pool, with bytes not yet decoded put
   * back. It no longer counts toward `max`.
   *
   * @throws LeaseError while a call is under way or frames wait; ConnectionError when it is no longer open.
   */
  detach(): Socket {
    this.#assertActive('detach');
    this.#duplex?.stepAside();
    const socket = this.#connection.detach();
    this.#state = 'detached';
    this.#duplex?.destroy();
    return socket;
  }

  /** Releases the lease if it still is held: `await using lease = await pool.acquire()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'active') this.release();
  }

  #end(why: CloseReason): void {
    if (this.#state !== 'active') return;
    this.#state = 'destroyed';
    this.#connection.destroy(why);
  }

  #assertActive(method: string): void {
    if (this.#state === 'active') return;
    throw new LeaseError(
      `${method}() was called on a lease of socket ${this.connectionId} that was ${this.#state} before.`,
      'A lease is used by one caller, once: acquire a new one.',
    );
  }

  async #refuse(method: string): Promise<never> {
    this.#assertActive(method);
    throw new Error('bug: refused an active lease');
  }
}

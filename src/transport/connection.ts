/**
 * One open socket and its codec: frames in, frames out, who waits for what, and whether an exchange is complete.
 *
 * It does not know the pool. Whoever owns it says when it rests, is probed or serves, and hears of its end
 * through a {@link ConnectionOwner}.
 *
 *     resting   nobody may be answered: a byte ends the connection, unless it is a ping of the server's
 *     probing   a ping is out: only its pong may come
 *     serving   a lease reads and writes
 *
 * The socket flows in all three, because a paused socket never shows its FIN; only a lease that does not read
 * makes it pause.
 */
import type { Duplex } from 'node:stream';
import type { Clock, ProcessHold, Timer } from '../clock.ts';
import { ConnectionError, type ErrorCode, FrameError, LeaseError, type PulsepoolError } from '../errors.ts';
import { ByteQueue } from './byte-queue.ts';
import type { CloseReason } from './close-reason.ts';
import { type Codec, DEFAULT_MAX_FRAME_BYTES } from './codec.ts';
import { acceptedThenClosed, systemCode } from './dial-error.ts';
import { hintFromHead } from './frame-hint.ts';
import { type WriteMark, Writer } from './writer.ts';

/** The socket as this file uses it; `net.Socket`, `tls.TLSSocket` and test doubles fit. */
export type DuplexSocket = Duplex & { unref?(): unknown; ref?(): unknown };

/** What a connection tells its owner. */
export interface ConnectionOwner {
  /** Every ping that was out has been answered; the connection rests again. */
  onPong(): void;
  /** The connection began to end: nothing can be sent or received any more. Told once. */
  onEnding(reason: CloseReason, error: PulsepoolError | undefined): void;
  /** The socket has closed. Told once, after `onEnding`. */
  onClosed(): void;
}

/** A ping of the server's protocol, and how to know its answer. */
export interface Probe<In, Out> {
  readonly ping: In;
  readonly isPong: (frame: Out) => boolean;
}

/** What all connections of a pool share. */
export interface ConnectionProfile<In, Out> {
  readonly endpoint: string;
  readonly readTimeoutMs: number;
  readonly writeTimeoutMs: number;
  readonly frameTimeoutMs: number;
  readonly probe: Probe<In, Out> | undefined;
  /** The reply to a ping that the server sends, or `undefined` when the frame is none. */
  readonly answer: ((frame: Out) => In | undefined) | undefined;
  readonly clock: Clock;
  readonly hold: ProcessHold;
}

/** Bounds of one call. */
export interface CallOptions {
  /** Aborting ends the call with `signal.reason`, and the connection when an exchange was under way. */
  readonly signal?: AbortSignal | undefined;
  /** For this call in ms, beside `readTimeoutMs`. Default: none. */
  readonly timeoutMs?: number | undefined;
}

/** Bounds of a send. */
export interface SendOptions {
  readonly signal?: AbortSignal | undefined;
  /**
   * How many frames the server will answer with. The lease counts as dirty until that many have been received.
   * Default: 1; for a codec without frames (`raw`), unknown until `markClean()`.
   */
  readonly replies?: number | undefined;
}

interface Receiver<Out> {
  readonly resolve: (frame: Out) => void;
  readonly reject: (reason: unknown) => void;
  readonly mark: WriteMark | undefined;
  /** Undoes the signal's listener and the call's own timer. */
  release: (() => void) | undefined;
  next: Receiver<Out> | undefined;
}

interface Ending {
  readonly reason: CloseReason;
  readonly error: PulsepoolError | undefined;
}

type Mode = 'resting' | 'probing' | 'serving';

// How much may wait for a lease that does not read, before its socket is paused.
const MAX_QUEUED_FRAMES = 1_000;
const MAX_QUEUED_BYTES = 1024 * 1024;
// One read of the socket at most: the slack on top of a codec's own limit.
const READ_CHUNK_BYTES = 64 * 1024;
// A server that closes this soon, without a word, did not mean to serve (see acceptedThenClosed).
const YOUNG_MS = 1_000;
// How long a clean goodbye may take before the socket is destroyed.
const GOODBYE_MS = 500;

const DONE: Promise<void> = Promise.resolve();

/** See the file's comment. */
export class Connection<In, Out> {
  /** The pool's number of this socket. */
  readonly id: number;
  /** When the socket was opened, in ms of the clock. */
  readonly openedAt: number;
  /** When a byte was last read; at first, when the socket was opened. The only proof of life. */
  lastReadAt: number;
  /** When a byte was last read on somebody's behalf: pings do not count as use. */
  lastUsedAt: number;

  readonly #profile: ConnectionProfile<In, Out>;
  readonly #codec: Codec<In, Out>;
  readonly #socket: DuplexSocket;
  readonly #writer: Writer;
  readonly #bytes: ByteQueue = new ByteQueue();
  readonly #owner: ConnectionOwner;
  readonly #isFramed: boolean;
  // Kept, because Node listens on its own sockets too: detach() must take away ours only.
  readonly #listeners: readonly (readonly [string, (value: unknown) => void])[];
  #mode: Mode = 'resting';
  #ending: Ending | undefined;
  #isClosed = false;
  #isPaused = false;
  #hasRead = false;
  #hasServed = false;

  // Frames that came before anybody asked to receive them, in order.
  #frames: Out[] | undefined;
  // Bytes of the frames queued since the queue was last empty.
  #queuedBytes = 0;
  // Replies still due for what was sent. Infinity: unknown, until markClean().
  #owed = 0;
  // A frame was queued that no send had asked for.
  #hasUnasked = false;
  #receivers: Receiver<Out> | undefined;
  #lastReceiver: Receiver<Out> | undefined;
  #receiverCount = 0;
  #pongsDue = 0;
  #pongsDone = false;

  // The watch: one timer, armed late and never moved earlier than needed. It asks, when it fires, what is due.
  #watch: Timer | undefined;
  #watchAt = 0;
  #awaitingSince = 0;
  #partialSince: number | undefined;
  #progressSeen = 0;
  #progressAt = 0;

  constructor(
    id: number,
    socket: DuplexSocket,
    codec: Codec<In, Out>,
    profile: ConnectionProfile<In, Out>,
    owner: ConnectionOwner,
  ) {
    this.id = id;
    this.#socket = socket;
    this.#codec = codec;
    this.#profile = profile;
    this.#owner = owner;
    this.#isFramed = codec.framed !== false;
    this.#writer = new Writer(socket);
    const now = profile.clock.now();
    this.openedAt = now;
    this.lastReadAt = now;
    this.lastUsedAt = now;
    this.#listeners = [
      ['data', (chunk) => this.#onData(chunk as Buffer)],
      ['drain', () => this.#writer.onDrain()],
      ['end', () => this.#onPeerEnd()],
      ['error', (error) => this.#onSocketError(error as Error)],
      ['close', () => this.#onSocketClose()],
    ];
    for (const [event, listener] of this.#listeners) socket.on(event, listener);
  }

  /** Whether frames can still be exchanged. */
  get isOpen(): boolean {
    return this.#ending === undefined;
  }

  /** Whether every sent message has its complete reply and nothing else is under way or left over. */
  get isClean(): boolean {
    return (
      this.#ending === undefined &&
      this.#owed === 0 &&
      this.#receivers === undefined &&
      this.#frames === undefined &&
      this.#bytes.length === 0 &&
      !this.#isPaused &&
      !this.#writer.hasBacklog &&
      this.#socket.writableLength === 0 &&
      (this.#codec.isIdle === undefined || this.#codec.isIdle())
    );
  }

  /** Why the connection ended, if it has. */
  get error(): PulsepoolError | undefined {
    return this.#ending?.error;
  }

  /** Whether the server ended it soon after it was opened, without a word. */
  get diedYoung(): boolean {
    const reason = this.#ending?.reason;
    return (reason === 'peer-closed' || reason === 'peer-reset') && this.#isYoung();
  }

  /** Hands the connection to a lease. */
  serve(): void {
    this.#mode = 'serving';
  }

  /** Takes it back from a lease. It must be clean. */
  rest(): void {
    this.#mode = 'resting';
    this.#hasServed = true;
  }

  /** Writes a ping. Several may be out; the owner hears of the last one's pong. */
  ping(): void {
    const { probe } = this.#profile;
    if (probe === undefined || this.#ending !== undefined) return;
    this.#mode = 'probing';
    this.#pongsDue += 1;
    try {
      this.#write(this.#codec.encode(probe.ping), this.#profile.clock.now());
    } catch (error) {
      this.#failProtocol(error);
    }
  }

  /**
   * Sends a message and resolves to the next frame.
   *
   * @throws FrameError when the message can't be encoded (nothing is sent, the connection stays clean);
   *   ConnectionError when the connection is lost, silent for `readTimeoutMs`, or out of step;
   *   `signal.reason` when aborted.
   */
  request(message: In, options?: CallOptions): Promise<Out> {
    if (this.#ending !== undefined) return Promise.reject(this.#lost(undefined));
    if (options?.signal?.aborted === true) return Promise.reject(options.signal.reason);
    if (this.#hasUnasked || (this.#owed === 0 && this.#bytes.length > 0)) {
      // Taking the stray frame for our reply would shift every later reply by one.
      return Promise.reject(this.#failUnsolicited());
    }
    if (this.#frames !== undefined || (this.#isFramed && this.#owed !== this.#receiverCount)) {
      return Promise.reject(
        new LeaseError(
          'request() found replies of an earlier send() that nobody has received.',
          'Receive them first, or give send() the right `replies`.',
        ),
      );
    }
    let encoded: ReturnType<Codec<In, Out>['encode']>;
    try {
      encoded = this.#codec.encode(message);
    } catch (error) {
      return Promise.reject(asFrameError(error, 'bad-message'));
    }
    this.#owed += this.#isFramed ? 1 : Number.POSITIVE_INFINITY;
    const now = this.#profile.clock.now();
    const mark = this.#write(encoded, now);
    return this.#receive(mark, now, options);
  }

  /**
   * Sends a message; resolves when more may be sent. The replies are left to `receive`.
   *
   * @throws FrameError, ConnectionError (write stalled, connection lost), `signal.reason`.
   */
  send(message: In, options?: SendOptions): Promise<void> {
    if (this.#ending !== undefined) return Promise.reject(this.#lost(undefined));
    if (options?.signal?.aborted === true) return Promise.reject(options.signal.reason);
    let encoded: ReturnType<Codec<In, Out>['encode']>;
    try {
      encoded = this.#codec.encode(message);
    } catch (error) {
      return Promise.reject(asFrameError(error, 'bad-message'));
    }
    this.#owed += options?.replies ?? (this.#isFramed ? 1 : Number.POSITIVE_INFINITY);
    const mark = this.#write(encoded, this.#profile.clock.now());
    return this.#writer.isCongested ? this.#drained(mark, options?.signal) : DONE;
  }

  /**
   * Resolves to the next frame, sent for or not.
   *
   * @throws ConnectionError, `signal.reason`.
   */
  receive(options?: CallOptions): Promise<Out> {
    const frames = this.#frames;
    if (frames !== undefined && this.#receivers === undefined) {
      const frame = frames.shift() as Out;
      if (frames.length === 0) {
        this.#frames = undefined;
        this.#queuedBytes = 0;
        this.#hasUnasked = false;
        if (this.#isPaused) this.#unpause();
      }
      return Promise.resolve(frame);
    }
    if (this.#ending !== undefined) return Promise.reject(this.#lost(undefined));
    if (options?.signal?.aborted === true) return Promise.reject(options.signal.reason);
    return this.#receive(undefined, this.#profile.clock.now(), options);
  }

  /** The caller vouches that the reply is complete. What was received and not read still makes it dirty. */
  markClean(): void {
    this.#owed = 0;
  }

  /** Says goodbye and ends; destroys the socket when the peer does not answer within 500 ms. */
  end(reason: CloseReason): void {
    if (!this.#begin(reason, undefined)) return;
    this.#watch = this.#profile.clock.after(GOODBYE_MS, () => this.#socket.destroy());
    this.#socket.end();
  }

  /** Ends at once. Whoever waits is rejected with `error`, or told that the connection was lost. */
  destroy(reason: CloseReason, error?: PulsepoolError): void {
    if (this.#ending?.reason === 'detached') return;
    this.#begin(reason, error);
    // Also when a goodbye was under way: destroying must never wait.
    this.#socket.destroy();
  }

  /** Gives the raw socket away for good: paused, with no listener of ours, bytes not yet decoded put back. */
  detach(): DuplexSocket {
    if (this.#ending !== undefined) throw this.#lost(undefined);
    if (this.#frames !== undefined || this.#receivers !== undefined) {
      throw new LeaseError(
        'detach() found frames or calls under way.',
        'Receive every frame before detach().',
      );
    }
    const socket = this.#socket;
    this.#begin('detached', undefined);
    socket.pause();
    for (const [event, listener] of this.#listeners) socket.off(event, listener);
    if (this.#bytes.length > 0) socket.unshift(this.#bytes.takeAll());
    socket.ref?.();
    this.#onSocketClose();
    return socket;
  }

  #write(encoded: ReturnType<Codec<In, Out>['encode']>, now: number): WriteMark {
    const wasFlushed = this.#writer.isFlushed;
    const mark = this.#writer.write(encoded);
    if (wasFlushed) {
      this.#progressSeen = this.#writer.flushedWrites;
      this.#progressAt = now;
    }
    this.#arm(now + this.#profile.writeTimeoutMs);
    return mark;
  }

  #receive(mark: WriteMark | undefined, now: number, options: CallOptions | undefined): Promise<Out> {
    if (this.#receivers === undefined) {
      this.#awaitingSince = now;
      this.#profile.hold.take();
    }
    this.#arm(now + this.#profile.readTimeoutMs);
    return new Promise((resolve, reject) => {
      const receiver: Receiver<Out> = { resolve, reject, mark, release: undefined, next: undefined };
      if (this.#lastReceiver === undefined) this.#receivers = receiver;
      else this.#lastReceiver.next = receiver;
      this.#lastReceiver = receiver;
      this.#receiverCount += 1;
      if (options !== undefined) this.#bound(receiver, options);
    });
  }

  /** Attaches the call's own signal and time limit to a receiver. */
  #bound(receiver: Receiver<Out>, { signal, timeoutMs }: CallOptions): void {
    if (signal === undefined && timeoutMs === undefined) return;
    const onAbort = (): void => this.#giveUp(receiver, signal?.reason, 'aborted');
    signal?.addEventListener('abort', onAbort, { once: true });
    const timer =
      timeoutMs === undefined
        ? undefined
        : this.#profile.clock.after(timeoutMs, () => {
            // One turn: the reply may already be in the kernel if our own loop was blocked.
            this.#profile.clock.turn(() => {
              if (receiver.release === undefined) return;
              const error = this.#error(
                'ERR_DEADLINE',
                `No reply from ${this.#profile.endpoint} within the call’s ${timeoutMs} ms.`,
                'The server is slow or stuck: raise the limit, or look at the server.',
                receiver.mark,
              );
              this.#giveUp(receiver, error, 'timeout');
            });
          });
    receiver.release = () => {
      receiver.release = undefined;
      timer?.cancel();
      signal?.removeEventListener('abort', onAbort);
    };
  }

  /** Rejects one receiver. If its reply may still come, nobody may ever read it: the connection ends. */
  #giveUp(receiver: Receiver<Out>, reason: unknown, why: CloseReason): void {
    this.#unlink(receiver);
    receiver.reject(reason);
    if (this.#owed > 0 || this.#bytes.length > 0) {
      this.destroy(why);
    }
  }

  #unlink(receiver: Receiver<Out>): void {
    let previous: Receiver<Out> | undefined;
    let current = this.#receivers;
    while (current !== undefined && current !== receiver) {
      previous = current;
      current = current.next;
    }
    if (current === undefined) return;
    if (previous === undefined) this.#receivers = receiver.next;
    else previous.next = receiver.next;
    if (this.#lastReceiver === receiver) this.#lastReceiver = previous;
    this.#receiverCount -= 1;
    receiver.release?.();
    if (this.#receivers === undefined) this.#profile.hold.drop();
  }

  async #drained(mark: WriteMark, signal: AbortSignal | undefined): Promise<void> {
    const onAbort = (): void => this.destroy('aborted');
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#profile.hold.take();
    await this.#writer.drained();
    this.#profile.hold.drop();
    signal?.removeEventListener('abort', onAbort);
    signal?.throwIfAborted();
    if (this.#ending !== undefined) throw this.#lost(mark);
  }

  #onData(chunk: Buffer): void {
    if (this.#ending !== undefined) return;
    const now = this.#profile.clock.now();
    this.lastReadAt = now;
    this.#hasRead = true;
    if (this.#mode === 'resting' && this.#profile.answer === undefined) {
      this.#bytes.push(chunk);
      this.#failUnsolicited();
      return;
    }
    if (this.#mode === 'serving') this.lastUsedAt = now;
    this.#bytes.push(chunk);
    this.#pump(now);
  }

  #pump(now: number): void {
    const bytes = this.#bytes;
    while (true) {
      if (this.#isQueueFull()) {
        this.#isPaused = true;
        this.#socket.pause();
        return;
      }
      const before = bytes.length;
      let frame: Out | undefined;
      try {
        frame = this.#codec.decode(bytes);
        if (frame === undefined) break;
        if (bytes.length === before && this.#codec.isIdle === undefined) {
          throw new FrameError('The codec’s decode() returned a frame but took no bytes.', {
            fault: 'codec-threw',
            hint: 'Take the frame’s bytes from the queue with take() or skip().',
          });
        }
        if (!this.#answered(frame)) this.#deliver(frame, before - bytes.length);
      } catch (error) {
        this.#failProtocol(error);
        return;
      }
      if (this.#ending !== undefined) return;
    }
    this.#afterPump(now);
  }

  #afterPump(now: number): void {
    const left = this.#bytes.length;
    if (left === 0) {
      this.#partialSince = undefined;
      // Only now: if the owner lent the connection before the last byte of this read was looked at, a stray
      // frame behind the pong would reach the next caller.
      if (this.#pongsDone) {
        this.#pongsDone = false;
        this.#mode = 'resting';
        this.#owner.onPong();
      }
      return;
    }
    const limit = this.#codec.maxFrameBytes ?? DEFAULT_MAX_FRAME_BYTES;
    if (left > limit + READ_CHUNK_BYTES) {
      this.#failProtocol(
        new FrameError(`${left} bytes wait without making a frame; the limit is ${limit}.`, {
          fault: 'too-large',
          declaredBytes: left,
          limitBytes: limit,
          ...this.#head(),
        }),
      );
      return;
    }
    this.#pongsDone = false;
    if (this.#partialSince === undefined) {
      this.#partialSince = now;
      this.#arm(now + this.#profile.frameTimeoutMs);
    }
  }

  /** Answers a ping of the server's, whoever holds the connection. */
  #answered(frame: Out): boolean {
    const { answer } = this.#profile;
    if (answer === undefined) return false;
    const reply = answer(frame);
    if (reply === undefined) return false;
    this.#write(this.#codec.encode(reply), this.#profile.clock.now());
    return true;
  }

  #isQueueFull(): boolean {
    if (this.#frames === undefined) return false;
    return this.#frames.length >= MAX_QUEUED_FRAMES || this.#queuedBytes >= MAX_QUEUED_BYTES;
  }

  #deliver(frame: Out, size: number): void {
    switch (this.#mode) {
      case 'serving': {
        const receiver = this.#receivers;
        if (this.#owed > 0) this.#owed -= 1;
        else if (receiver === undefined) this.#hasUnasked = true;
        if (receiver === undefined) {
          this.#frames ??= [];
          this.#frames.push(frame);
          this.#queuedBytes += size;
          return;
        }
        this.#receivers = receiver.next;
        if (receiver.next === undefined) {
          this.#lastReceiver = undefined;
          this.#profile.hold.drop();
        }
        this.#receiverCount -= 1;
        receiver.release?.();
        receiver.resolve(frame);
        return;
      }
      case 'probing':
        if (this.#pongsDue === 0 || this.#profile.probe?.isPong(frame) !== true) {
          this.#failUnsolicited();
          return;
        }
        this.#pongsDue -= 1;
        if (this.#pongsDue === 0) this.#pongsDone = true;
        return;
      case 'resting':
        this.#failUnsolicited();
    }
  }

  #unpause(): void {
    this.#isPaused = false;
    this.#pump(this.#profile.clock.now());
    if (!this.#isPaused && this.#ending === undefined) this.#socket.resume();
  }

  #onPeerEnd(): void {
    this.#begin('peer-closed', this.#peerClosed(undefined));
    // What is still unsent can reach nobody, and must not keep the socket half open.
    this.#socket.destroy();
  }

  #onSocketError(error: Error): void {
    this.#begin('peer-reset', this.#peerClosed(error));
  }

  #onSocketClose(): void {
    if (this.#isClosed) return;
    this.#begin('peer-closed', this.#peerClosed(undefined));
    this.#isClosed = true;
    this.#watch?.cancel();
    this.#watch = undefined;
    this.#owner.onClosed();
  }

  /** The first cause of the end wins; later ones are its consequences. */
  #begin(reason: CloseReason, error: PulsepoolError | undefined): boolean {
    if (this.#ending !== undefined) return false;
    this.#ending = { reason, error };
    this.#watch?.cancel();
    this.#watch = undefined;
    let receiver = this.#receivers;
    this.#receivers = undefined;
    this.#lastReceiver = undefined;
    this.#receiverCount = 0;
    if (receiver !== undefined) this.#profile.hold.drop();
    while (receiver !== undefined) {
      receiver.release?.();
      receiver.reject(this.#lost(receiver.mark));
      receiver = receiver.next;
    }
    this.#writer.wake();
    this.#owner.onEnding(reason, error);
    return true;
  }

  #failUnsolicited(): PulsepoolError {
    const { head, hint } = this.#head();
    const error = this.#error(
      'ERR_UNSOLICITED',
      `${this.#profile.endpoint} sent bytes that nobody had asked for (first bytes: ${head}).`,
      hint ??
        'The server may say goodbye before it closes, or push messages: see heartbeat.answer for pings it sends.',
      undefined,
    );
    this.destroy('unsolicited', error);
    return error;
  }

  #failProtocol(cause: unknown): void {
    this.destroy('protocol', asFrameError(cause, 'codec-threw'));
  }

  #head(): { head: string; hint?: string } {
    const seen = this.#bytes.peek(Math.min(16, this.#bytes.length)) ?? Buffer.alloc(0);
    const hint = hintFromHead(seen);
    return hint === undefined ? { head: seen.toString('hex') } : { head: seen.toString('hex'), hint };
  }

  #peerClosed(cause: Error | undefined): PulsepoolError {
    const { endpoint } = this.#profile;
    if (this.#isYoung()) return acceptedThenClosed(endpoint, cause);
    if (cause !== undefined && systemCode(cause).startsWith('ERR_SSL_'))
      return acceptedThenClosed(endpoint, cause);
    const truncated =
      this.#bytes.length === 0
        ? undefined
        : new FrameError(
            `The stream ended in the middle of a frame, after ${this.#bytes.length} of its bytes.`,
            {
              fault: 'truncated',
              ...this.#head(),
            },
          );
    return this.#error(
      'ERR_CONNECTION_LOST',
      `Lost the connection to ${endpoint}: ${cause === undefined ? 'the server closed it' : cause.message}.`,
      'The server restarted, hit its own idle limit or crashed, or a proxy in between closed the connection.',
      undefined,
      cause ?? truncated,
    );
  }

  #isYoung(): boolean {
    return !this.#hasRead && this.#profile.clock.now() - this.openedAt < YOUNG_MS;
  }

  /** The error for one call that the end of the connection cuts off. */
  #lost(mark: WriteMark | undefined): PulsepoolError {
    const error = this.#ending?.error;
    if (error instanceof FrameError) {
      return mark === undefined
        ? error
        : new FrameError(error.message, { ...error, sent: this.#writer.sent(mark), cause: error });
    }
    if (error !== undefined)
      return this.#error(error.code, error.message, error.hint, mark, error, error.retryable);
    return this.#error(
      'ERR_CONNECTION_LOST',
      `The connection to ${this.#profile.endpoint} was ended (${this.#ending?.reason ?? 'closed'}).`,
      'It was ended on this side: by an abort, a release, a timeout of another call, or the pool’s close.',
      mark,
    );
  }

  #error(
    code: ErrorCode,
    message: string,
    hint: string,
    mark: WriteMark | undefined,
    cause?: unknown,
    retryable = true,
  ): ConnectionError {
    return new ConnectionError(code, message, {
      retryable,
      hint,
      cause,
      sent: mark === undefined ? 'none' : this.#writer.sent(mark),
      endpoint: this.#profile.endpoint,
      connectionId: this.id,
      firstByte: mark !== undefined && this.lastReadAt > this.#awaitingSince,
      reused: this.#hasServed,
    });
  }

  #arm(at: number): void {
    if (this.#watch !== undefined) {
      if (this.#watchAt <= at) return;
      this.#watch.cancel();
    }
    if (at === Number.POSITIVE_INFINITY || this.#ending !== undefined) return;
    const { clock } = this.#profile;
    this.#watchAt = at;
    this.#watch = clock.after(at - clock.now(), () => {
      this.#watch = undefined;
      // One turn: bytes that the kernel already holds are read before the verdict.
      clock.turn(() => this.#judge());
    });
  }

  /** Looks at what is due, ends the connection if something is overdue, and arms the watch for what is not. */
  #judge(): void {
    if (this.#ending !== undefined) return;
    const { clock, endpoint, readTimeoutMs, writeTimeoutMs, frameTimeoutMs } = this.#profile;
    const now = clock.now();
    let next = Number.POSITIVE_INFINITY;
    if (this.#receivers !== undefined) {
      const due = Math.max(this.lastReadAt, this.#awaitingSince) + readTimeoutMs;
      if (due <= now) {
        this.#timeOut(
          'ERR_READ_TIMEOUT',
          `${endpoint} was silent for ${readTimeoutMs} ms while a reply was due.`,
        );
        return;
      }
      next = due;
    }
    if (this.#partialSince !== undefined) {
      const due = this.#partialSince + frameTimeoutMs;
      if (due <= now) {
        this.#timeOut(
          'ERR_FRAME_TIMEOUT',
          `${endpoint} began a frame and did not finish it in ${frameTimeoutMs} ms.`,
        );
        return;
      }
      next = Math.min(next, due);
    }
    if (!this.#writer.isFlushed) {
      if (this.#writer.flushedWrites !== this.#progressSeen) {
        this.#progressSeen = this.#writer.flushedWrites;
        this.#progressAt = now;
      }
      const due = this.#progressAt + writeTimeoutMs;
      if (due <= now) {
        this.#timeOut('ERR_WRITE_TIMEOUT', `${endpoint} took no bytes for ${writeTimeoutMs} ms.`);
        return;
      }
      next = Math.min(next, due);
    }
    this.#arm(next);
  }

  #timeOut(code: ErrorCode, message: string): void {
    const hint =
      code === 'ERR_WRITE_TIMEOUT'
        ? 'The server has stopped reading: it is stuck, overloaded or gone.'
        : 'The server is slow, stuck or gone; a proxy may hold the connection open. Compare with its own limits.';
    this.destroy('timeout', this.#error(code, message, hint, undefined));
  }
}

function asFrameError(error: unknown, fault: 'bad-message' | 'codec-threw'): FrameError {
  if (error instanceof FrameError) return error;
  const what = error instanceof Error ? error.message : String(error);
  return new FrameError(
    fault === 'bad-message' ? `The codec could not encode the message: ${what}` : `The codec failed: ${what}`,
    {
      fault,
      cause: error,
      hint: 'The error came from the codec, a heartbeat function or a message; see the cause.',
    },
  );
}

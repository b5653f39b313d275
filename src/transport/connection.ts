/**
 * One open socket and its codec: frames in, frames out, who waits for what, and whether an exchange is complete.
 *
 * It does not know the pool. Whoever owns it says when it rests, is probed or serves, and hears of its end
 * through a {@link ConnectionOwner}.
 *
 *     resting   nobody may be answered: a byte ends the connection, unless it is a ping of the server's
 *     probing   a ping is out: only its pong may come
 *     serving   a lease reads and writes
 *     shared    frames go to a {@link FrameSink}, which knows whose they are
 *
 * The socket flows in all four, because a paused socket never shows its FIN; only a lease that does not read
 * makes it pause.
 */
import { AsyncResource } from 'node:async_hooks';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { isUint8Array } from 'node:util/types';
import { onAbort } from '../abort.ts';
import type { Clock, ProcessHold, Timer } from '../clock.ts';
import { LeaseError, type PulsepoolError, type Sent } from '../errors.ts';
import { checkCall, invalidOption } from '../option-check.ts';
import { ByteQueue } from './byte-queue.ts';
import type { CloseReason } from './close-reason.ts';
import { type Codec, DEFAULT_MAX_FRAME_BYTES, type EncodedFrame } from './codec.ts';
import { ConnectionStory, type Ending } from './connection-story.ts';
import { tooLargeToSend } from './frame-hint.ts';
import type { FrameSink } from './frame-sink.ts';
import { Inbox } from './inbox.ts';
import { type Call, type Receiver, Receivers } from './receivers.ts';
import { asFrameError, isAsync, notBytes, sizeOf, tookNothing, tooMuchWaits } from './stream-fault.ts';
import { type Judge, Watch } from './watch.ts';
import { type WriteMark, Writer } from './writer.ts';

/** The socket as this file uses it; `net.Socket`, `tls.TLSSocket` and test doubles fit. */
export type DuplexSocket = Duplex & { unref?(): unknown; ref?(): unknown };

/** The raw socket, as `detach()` hands it out. */
export type { Socket };

/** What a connection tells its owner. */
export interface ConnectionOwner {
  /** Every ping that was out has been answered; the connection rests again. */
  onPong(): void;
  /** The connection began to end: nothing can be sent or received any more. Told once. */
  onEnding(reason: CloseReason, error: PulsepoolError | undefined): void;
  /** The socket has closed. Told once, after `onEnding`. Whoever dials more than once for one owner must ask which one. */
  onClosed(connection: unknown): void;
}

/** A ping of the server's protocol, and how to know its answer. */
interface Probe<In, Out> {
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
  /** An empty queue that serves one connection after another: each needs one only while bytes wait. */
  spareQueue?: ByteQueue | undefined;
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
   * `Infinity`: unknown, dirty until `markClean()`. Default: 1; for a codec without frames (`raw`), unknown.
   */
  readonly replies?: number | undefined;
}

type Mode = 'resting' | 'probing' | 'serving' | 'shared';

// One read of the socket at most: the slack on top of a codec's own limit.
const READ_CHUNK_BYTES = 64 * 1024;
// A server that closes this soon, without a word, did not mean to serve (see acceptedThenClosed).
const YOUNG_MS = 1_000;
const PEERS_DOING: ReadonlySet<CloseReason> = new Set([
  'peer-closed',
  'peer-reset',
  'unsolicited',
  'protocol',
]);
const MAX_UNREAD_ANSWERS = 1_000;
// How long a clean goodbye may take before the socket is destroyed.
const GOODBYE_MS = 500;
// Progress of a write is looked at this often within its limit: a stall is noticed a quarter late at most.
const LOOKS_PER_STALL = 4;

const DONE: Promise<void> = Promise.resolve();

const CALL_KEYS = {
  'request()': ['signal', 'timeoutMs'],
  'send()': ['signal', 'replies'],
  'receive()': ['signal', 'timeoutMs'],
} as const;

/** What a call tells from of which nothing was written. */
const NOTHING_SENT: Call = {
  mark: { first: Number.POSITIVE_INFINITY, last: Number.POSITIVE_INFINITY },
  readsBefore: Number.POSITIVE_INFINITY,
};

// Whole milliseconds: V8 makes an object of any other number, for each of ten thousand sockets.
const LONG_AGO = -1_000_000;

// What most sockets at rest have none of, shared, so that ten thousand of them stay small.
const NO_BYTES: ByteQueue = new ByteQueue();
const NO_FRAMES: Inbox<never> = new Inbox();
const NOBODY: Receivers<never> = new Receivers({ take: () => undefined, drop: () => undefined });

/** How the listeners, which all sockets share, find the connection of theirs. */
const CONNECTION = Symbol('pulsepool.connection');
type Carrier = DuplexSocket & { [CONNECTION]: Connection<unknown, unknown> };

/** See the file's comment. */
export class Connection<In, Out> implements Judge {
  // The same for all sockets: closures of its own, and their list, would cost each one 700 bytes. Kept together,
  // because Node listens on its own sockets too: detach() must take away ours only.
  static readonly #listeners: readonly (readonly [string, (this: Carrier, value: unknown) => void])[] = [
    [
      'data',
      function (chunk) {
        this[CONNECTION].#onData(chunk as Buffer);
      },
    ],
    [
      'drain',
      function () {
        this[CONNECTION].#writer.onDrain();
      },
    ],
    [
      'end',
      function () {
        this[CONNECTION].#onPeerEnd();
      },
    ],
    [
      'error',
      function (error) {
        this[CONNECTION].#onSocketError(error as Error);
      },
    ],
    [
      'close',
      function () {
        this[CONNECTION].#onSocketClose();
      },
    ],
  ];

  /** The pool's number of this socket. */
  readonly id: number;
  /** When the socket was opened, in whole ms of the clock. */
  readonly openedAt: number;
  /** When a byte was last read; at first, when the socket was opened. The only proof of life. */
  lastReadAt: number;
  /** When a byte was last read on somebody's behalf, in whole ms: pings do not count as use. */
  lastUsedAt: number;
  /** When it was last shown, without a byte, that the peer had not ended it, in whole ms; see `proved`. */
  provenAt: number = LONG_AGO;

  readonly #profile: ConnectionProfile<In, Out>;
  readonly #codec: Codec<In, Out>;
  readonly #socket: DuplexSocket;
  readonly #writer: Writer;
  #bytes: ByteQueue = NO_BYTES;
  #inbox: Inbox<Out> = NO_FRAMES;
  #receivers: Receivers<Out> = NOBODY as unknown as Receivers<Out>;
  readonly #owner: ConnectionOwner;
  #sink: FrameSink<Out> | undefined;
  #watch: Watch | undefined;
  // How often bytes have come, and whether a lease has given the connection back: for the story.
  #reads = 0;
  #hasServed = false;
  #mode: Mode = 'resting';
  #ending: Ending | undefined;
  #goodbye: Timer | undefined;
  #isClosed = false;
  #isPaused = false;
  // Silence is no fault, though somebody waits for a frame.
  #isPatient = false;
  // A frame came that was asked for: the server means to serve.
  #isProven = false;

  // Replies still due for what was sent. Infinity: unknown, until markClean().
  #owed = 0;
  // Where the newest message stands while replies are due: what a call that only receives tells from.
  #asked: Call | undefined;
  // Everything that was sent has been answered, or vouched for: so it has left, whatever the socket still counts.
  // TLS tells of the end of a write only after the reply to it may have come.
  #isAnswered = true;
  // So many bytes at the head of the queue came before the oldest unanswered message was sent: frames that begin
  // there are no replies.
  #unaskedBytes = 0;
  // Answers to the server's pings since everything had last been taken by the system.
  #unreadAnswers = 0;
  #pongsDue = 0;
  #pongsDone = false;

  // What the watch looks at.
  #awaitingSince = 0;
  // At the last look, or when it was written, the question whose reply is due had not left.
  #wasHeldUp = false;
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
    this.#writer = new Writer(socket);
    const now = profile.clock.now();
    // Whole milliseconds where they will do: V8 makes an object of any other number, for each of ten thousand sockets.
    this.openedAt = Math.floor(now);
    this.lastReadAt = now;
    this.lastUsedAt = Math.floor(now);
    (socket as Carrier)[CONNECTION] = this as unknown as Connection<unknown, unknown>;
    for (const [event, listener] of Connection.#listeners) socket.on(event, listener);
  }

  /** Whether frames can still be exchanged. */
  get isOpen(): boolean {
    return this.#ending === undefined;
  }

  /**
   * Whether every sent message has its complete reply and nothing else is under way or left over. A paused socket is
   * never clean: it is paused by a full inbox, and flows again when that is empty.
   */
  get isClean(): boolean {
    return (
      this.#ending === undefined &&
      this.#owed === 0 &&
      this.#receivers.size === 0 &&
      this.#inbox.isEmpty &&
      !this.#writer.hasBacklog &&
      (this.#isAnswered || this.#socket.writableLength === 0) &&
      !this.#hasPartial()
    );
  }

  /** Why the connection ended, if it has. */
  get error(): PulsepoolError | undefined {
    return this.#ending?.error;
  }

  /**
   * Whether the server spoiled it soon after it was opened, before it had served anybody: closed it, greeted nobody,
   * or spoke another protocol. It is as good as a failed dial.
   */
  get diedYoung(): boolean {
    const reason = this.#ending?.reason;
    return reason !== undefined && PEERS_DOING.has(reason) && !this.#isProven && this.#isYoung();
  }

  /** Whether somebody waits for a frame, or for what was sent to leave. */
  get isAwaited(): boolean {
    if (this.#sink !== undefined) return this.#sink.dueSince !== undefined;
    return this.#receivers.size > 0 || this.#writer.isAwaited;
  }

  /** The event loop was given its two turns, in which an end that the kernel knew of would have been read. */
  proved(now: number): void {
    this.provenAt = Math.floor(now);
  }

  /** Hands the connection to a lease. */
  serve(): void {
    this.#mode = 'serving';
    this.#isPatient = false;
  }

  /** Takes it back from a lease. It must be clean. After its handshake, `isNew`, it has served nobody yet. */
  rest(isNew = false): void {
    this.#mode = 'resting';
    this.#asked = undefined;
    if (isNew) this.#isProven = false;
    else this.#hasServed = true;
  }

  // ---- shared --------------------------------------------------------------------------------------------

  /**
   * Gives every frame to `sink` from now on, which also says whether replies are due. For a connection that serves and
   * has nothing under way; `request`, `send` and `receive` are not for it until `unshare()`.
   */
  share(sink: FrameSink<Out>): void {
    this.#mode = 'shared';
    this.#awaitingSince = 0;
    this.#wasHeldUp = false;
    this.#sink = sink;
  }

  /**
   * Takes it back from the sink. Everything that was posted must have been answered. Where frames have no ends that can be
   * seen, nobody knows whether it was: then it stays dirty.
   */
  unshare(): void {
    if (this.#sink === undefined) return;
    this.#sink = undefined;
    this.#mode = 'serving';
    if (this.isFramed || this.#isAnswered) this.#settle();
    else this.#owed = Number.POSITIVE_INFINITY;
  }

  /**
   * The bytes of a message.
   *
   * @throws FrameError when it can't be encoded; the connection stays as it is.
   */
  encode(message: In): EncodedFrame {
    return this.#encode(message);
  }

  /** Where the next message will stand: until `post` returns its mark, it may have left. */
  get nextMark(): WriteMark {
    return this.#writer.nextMark;
  }

  /** Writes what was encoded, for the sink. The connection may have ended when this returns. */
  post(encoded: EncodedFrame, now: number): WriteMark {
    this.#isAnswered = false;
    this.#watchAt(now + this.#profile.readTimeoutMs);
    const mark = this.#write(encoded, now);
    if (this.#writer.hasBacklog) this.#wasHeldUp = true;
    return mark;
  }

  /** How much of what was posted has left. */
  sent(mark: WriteMark | undefined): Sent {
    return mark === undefined ? 'none' : this.#writer.sent(mark);
  }

  /** Whether more should not be written now: the peer takes it more slowly than it comes. */
  get isCongested(): boolean {
    return this.#writer.isCongested;
  }

  /** Whether frames have ends that can be seen. (Public: V8 calls private getters through its runtime, at 80 ns each.) */
  get isFramed(): boolean {
    return this.#codec.framed !== false;
  }

  /** Whether part of a frame has come. */
  get hasPartial(): boolean {
    return this.#hasPartial();
  }

  /** How often bytes have come. */
  get reads(): number {
    return this.#reads;
  }

  /**
   * For the sink, before it posts while no reply is due. Part of a frame that is there already can't be part of the answer:
   * the connection ends, unless it may be a ping of the server's. Returns whether it is still open.
   */
  beginAnew(): boolean {
    if (!this.#hasPartial()) return this.isOpen;
    if (this.#profile.answer === undefined) this.#failUnsolicited();
    else this.#unaskedBytes = Math.max(1, this.#bytes.length);
    return this.isOpen;
  }

  /** A frame came, or part of one, that the sink had not asked for. */
  refuse(): void {
    this.#failUnsolicited();
  }

  /**
   * Why one message of the sink's gets no reply. `mark`: where it stands, once posted; `readsBefore`: how often bytes had
   * come by then.
   */
  lost(mark: WriteMark | undefined, readsBefore: number): PulsepoolError {
    const call = mark === undefined ? NOTHING_SENT : { mark, readsBefore };
    // What spoiled the stream was an answer to others: of this message nothing has left.
    return this.sent(mark) === 'none' ? this.#story.unsent(this.#ending, call) : this.#lost(call);
  }

  // ---- pings ---------------------------------------------------------------------------------------------

  /** Writes a ping. Several may be out; the owner hears of the last one's pong. */
  ping(): void {
    const { probe } = this.#profile;
    if (probe === undefined || !this.isOpen) return;
    try {
      const encoded = this.#encode(probe.ping);
      if (!this.isOpen) return;
      this.#mode = 'probing';
      this.#pongsDue += 1;
      this.#pongsDone = false;
      // Without the watch: the heartbeat's own timeout covers it, and a timer for each socket costs 300 bytes.
      this.#writer.writeUncounted(encoded);
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
    if (options !== undefined) {
      const refusal = this.#refusal('request()', options);
      if (refusal !== undefined) return refusal;
    }
    if (!this.isOpen) return Promise.reject(this.#lost(NOTHING_SENT));
    if (this.#inbox.hasUnasked || (this.#profile.answer === undefined && this.#holdsUnaskedBytes())) {
      // Taking the stray frame for our reply would shift every later reply by one.
      return Promise.reject(this.#failUnsolicited());
    }
    if (!this.#inbox.isEmpty || (this.isFramed && this.#owed !== this.#receivers.size)) {
      return Promise.reject(
        new LeaseError(
          'request() can’t tell which frame would be its reply: others are due to an earlier send() or receive().',
          'Receive them first, or give send() the right `replies`.',
        ),
      );
    }
    let encoded: EncodedFrame;
    try {
      encoded = this.#encode(message);
    } catch (error) {
      return Promise.reject(error);
    }
    // Encoding runs a codec of the user's, which may have ended the connection.
    if (!this.isOpen) return Promise.reject(this.#lost(NOTHING_SENT));
    const now = this.#profile.clock.now();
    const mark = this.#ask(encoded, this.isFramed ? 1 : Number.POSITIVE_INFINITY, now);
    // A stream may deliver, and end, within its own write().
    if (!this.isOpen) return Promise.reject(this.#lost({ mark, readsBefore: this.#reads }));
    return this.#receive(mark, now, options);
  }

  /**
   * Sends a message; resolves when more may be sent, and when no reply will tell, once the system has taken all
   * of it. The replies are left to `receive`.
   *
   * @throws FrameError, ConnectionError (write stalled, connection lost), `signal.reason`.
   */
  send(message: In, options?: SendOptions): Promise<void> {
    if (options !== undefined) {
      const refusal = this.#refusal('send()', options);
      if (refusal !== undefined) return refusal;
    }
    if (!this.isOpen) return Promise.reject(this.#lost(NOTHING_SENT));
    const replies = options?.replies ?? (this.isFramed ? 1 : Number.POSITIVE_INFINITY);
    if (!(replies === Number.POSITIVE_INFINITY || (Number.isSafeInteger(replies) && replies >= 0))) {
      // A negative or fractional count would make a dirty lease look clean.
      const hint = 'Correct `replies`; nothing was sent.';
      return Promise.reject(
        invalidOption('replies', 'be an integer of at least 0, or Infinity', replies, hint),
      );
    }
    let encoded: EncodedFrame;
    try {
      encoded = this.#encode(message);
    } catch (error) {
      return Promise.reject(error);
    }
    if (!this.isOpen) return Promise.reject(this.#lost(NOTHING_SENT));
    const mark = this.#ask(encoded, replies, this.#profile.clock.now());
    const call = { mark, readsBefore: this.#reads };
    if (replies === 0 && this.#socket.writableLength > 0) {
      return this.#written(this.#writer.flushed(), call, options?.signal);
    }
    if (!this.#writer.isCongested) return DONE;
    return this.#written(this.#writer.drained(), call, options?.signal);
  }

  /**
   * Resolves to the next frame, sent for or not. Frames that had come before the connection ended can still be
   * received.
   *
   * @throws ConnectionError, `signal.reason`.
   */
  receive(options?: CallOptions): Promise<Out> {
    if (options !== undefined) {
      const refusal = this.#refusal('receive()', options);
      if (refusal !== undefined) return refusal;
    }
    if (!this.#inbox.isEmpty) {
      const frame = this.#inbox.shift();
      if (this.#isPaused && this.#inbox.isEmpty) this.#unpause();
      return Promise.resolve(frame);
    }
    if (!this.isOpen) return Promise.reject(this.#lost(undefined));
    return this.#receive(undefined, this.#profile.clock.now(), options);
  }

  /** The caller vouches that the reply is complete. What was received and not read still makes it dirty. */
  markClean(): void {
    const hasHeard = this.#asked === undefined || this.#reads > this.#asked.readsBefore;
    this.#owed = 0;
    // A word of the caller's does not make bytes leave: something must have come back since.
    if (hasHeard) this.#settle();
  }

  /**
   * Whether silence is a fault while the lease waits for a frame. It is, unless its holder says that nothing need come:
   * there is more to be sent first, or frames are pushed whenever there is news.
   */
  expectReply(isDue: boolean): void {
    this.#isPatient = !isDue;
    if (!isDue || this.#receivers.size === 0) return;
    const now = this.#profile.clock.now();
    this.#awaitingSince = Math.floor(now);
    this.#watchAt(now + this.#profile.readTimeoutMs);
  }

  /** Says goodbye and ends; destroys the socket when the peer does not answer within 500 ms. */
  end(reason: CloseReason): void {
    if (!this.#begin(reason, undefined)) return;
    this.#goodbye = this.#profile.clock.after(GOODBYE_MS, () => this.#socket.destroy());
    this.#socket.end();
  }

  /** Ends at once. Whoever waits is rejected with `error`, or told that the connection was lost. */
  destroy(reason: CloseReason, error?: PulsepoolError): void {
    if (this.#ending?.reason === 'detached') return;
    this.#begin(reason, error);
    // Also when a goodbye was under way: destroying must never wait.
    this.#socket.destroy();
  }

  /**
   * Gives the raw socket away for good: paused, with no listener of ours, bytes not yet decoded put back. From now on
   * its events run in the async context of the caller, not in that in which it was opened.
   */
  detach(): Socket {
    if (!this.isOpen) throw this.#lost(undefined);
    if (!this.#inbox.isEmpty || this.#receivers.size > 0) {
      throw new LeaseError(
        'detach() found frames or calls under way.',
        'Receive every frame before detach().',
      );
    }
    if (this.#writer.hasBacklog) {
      throw new LeaseError(
        'detach() found a message that has not left yet.',
        'Await every send() before detach().',
      );
    }
    if (this.#bytes.length === 0 && this.#hasPartial()) {
      throw new LeaseError(
        'detach() found bytes inside the codec, which can’t be put back.',
        'Detach between frames, or use a codec that leaves incomplete frames in the queue.',
      );
    }
    const socket = this.#socket;
    this.#begin('detached', undefined);
    socket.pause();
    for (const [event, listener] of Connection.#listeners) socket.off(event, listener);
    Reflect.deleteProperty(socket, CONNECTION);
    if (this.#bytes.length > 0) socket.unshift(this.#bytes.takeAll());
    socket.ref?.();
    socket.emit = AsyncResource.bind(socket.emit.bind(socket));
    this.#onSocketClose();
    return socket as unknown as Socket;
  }

  // ---- out -----------------------------------------------------------------------------------------------

  #encode(message: In): EncodedFrame {
    let encoded: EncodedFrame;
    try {
      encoded = this.#codec.encode(message);
    } catch (error) {
      throw asFrameError(error, 'bad-message');
    }
    if (typeof encoded !== 'string' && !isUint8Array(encoded)) {
      const isPieces = Array.isArray(encoded) && encoded.length > 0 && encoded.every(isUint8Array);
      if (!isPieces) throw notBytes(encoded);
    }
    const limit = this.isFramed ? this.#codec.maxFrameBytes : undefined;
    // A character takes 3 bytes at most: short texts need not be measured.
    if (limit === undefined || (typeof encoded === 'string' && encoded.length * 3 <= limit)) return encoded;
    if (sizeOf(encoded) > limit) {
      throw tooLargeToSend(this.#codec.name ?? 'codec', sizeOf(encoded), limit);
    }
    return encoded;
  }

  /** Everything that was sent has been answered. */
  #settle(): void {
    this.#isAnswered = true;
    this.#asked = undefined;
  }

  /** Writes a message that `replies` frames will answer. */
  #ask(encoded: EncodedFrame, replies: number, now: number): WriteMark {
    // A codec with bytes of its own does not say how many: the frame they belong to is counted as one byte.
    if (this.#holdsUnaskedBytes()) this.#unaskedBytes = Math.max(1, this.#bytes.length);
    this.#owed += replies;
    this.#isAnswered = false;
    const readsBefore = this.#reads;
    const mark = this.#write(encoded, now);
    this.#asked = { mark, readsBefore };
    return mark;
  }

  #write(encoded: EncodedFrame, now: number): WriteMark {
    const wasFlushed = this.#writer.isFlushed;
    const mark = this.#writer.write(encoded);
    if (wasFlushed) {
      this.#progressSeen = this.#writer.flushedWrites;
      this.#progressAt = Math.floor(now);
    }
    this.#watchAt(now + this.#profile.writeTimeoutMs / LOOKS_PER_STALL);
    return mark;
  }

  /** Waits for the writer on behalf of one call. */
  async #written(done: Promise<void>, call: Call, signal: AbortSignal | undefined): Promise<void> {
    const stop = signal === undefined ? undefined : onAbort(signal, () => this.destroy('aborted'));
    this.#profile.hold.take();
    await done;
    this.#profile.hold.drop();
    stop?.();
    signal?.throwIfAborted();
    if (!this.isOpen) throw this.#lost(call);
  }

  // ---- calls that wait -----------------------------------------------------------------------------------

  /** Why a call must not even begin. */
  #refusal(where: keyof typeof CALL_KEYS, options: CallOptions): Promise<never> | undefined {
    try {
      checkCall(where, options, CALL_KEYS[where]);
    } catch (reason) {
      return Promise.reject(reason);
    }
    const { timeoutMs } = options;
    // Nothing is written that nobody could wait for.
    if (timeoutMs !== undefined && !(timeoutMs > 0)) {
      return Promise.reject(this.#story.tooLate(timeoutMs, undefined));
    }
    return undefined;
  }

  #receive(mark: WriteMark | undefined, now: number, options: CallOptions | undefined): Promise<Out> {
    if (this.#receivers === (NOBODY as unknown)) this.#receivers = new Receivers(this.#profile.hold);
    if (this.#receivers.size === 0) {
      this.#awaitingSince = Math.floor(now);
      this.#wasHeldUp = this.#writer.hasBacklog;
    }
    this.#watchAt(now + this.#profile.readTimeoutMs);
    return new Promise((resolve, reject) => {
      const receiver: Receiver<Out> = {
        resolve,
        reject,
        mark,
        readsBefore: this.#reads,
        signal: options?.signal,
        release: undefined,
        next: undefined,
      };
      this.#receivers.add(receiver);
      if (options !== undefined) this.#bound(receiver, options);
    });
  }

  /** Attaches the call's own signal and time limit to a receiver. */
  #bound(receiver: Receiver<Out>, { signal, timeoutMs }: CallOptions): void {
    if (signal === undefined && timeoutMs === undefined) return;
    const { clock } = this.#profile;
    const stop =
      signal === undefined
        ? undefined
        : onAbort(signal, () => this.#giveUp(receiver, signal.reason, 'aborted'));
    const timer =
      timeoutMs === undefined
        ? undefined
        : clock.after(timeoutMs, () => {
            // One turn: the reply may already be in the kernel if our own loop was blocked.
            clock.turn(() => {
              if (receiver.release === undefined) return;
              this.#giveUp(receiver, this.#story.tooLate(timeoutMs, this.#told(receiver)), 'timeout');
            });
          });
    receiver.release = () => {
      receiver.release = undefined;
      timer?.cancel();
      stop?.();
    };
  }

  /** Rejects one receiver. If its reply may still come, nobody may ever read it: the connection ends. */
  #giveUp(receiver: Receiver<Out>, reason: unknown, why: CloseReason): void {
    this.#receivers.remove(receiver);
    receiver.reject(reason);
    if (this.#owed > 0 || this.#hasPartial()) this.destroy(why);
  }

  // ---- in ------------------------------------------------------------------------------------------------

  #onData(chunk: Buffer): void {
    if (this.#ending !== undefined) return;
    const now = this.#profile.clock.now();
    this.lastReadAt = now;
    this.#reads += 1;
    if (this.#bytes === NO_BYTES) {
      this.#bytes = this.#profile.spareQueue ?? new ByteQueue();
      this.#profile.spareQueue = undefined;
    }
    this.#bytes.push(chunk);
    // A server that pings and never reads would fill our memory with answers.
    if (this.#unreadAnswers > 0 && this.#writer.isFlushed) this.#unreadAnswers = 0;
    const isFlooding = this.#unreadAnswers > MAX_UNREAD_ANSWERS;
    if (isFlooding || (this.#mode === 'resting' && this.#profile.answer === undefined)) {
      this.#failUnsolicited();
      return;
    }
    if (this.#mode === 'serving' || this.#mode === 'shared') this.lastUsedAt = Math.floor(now);
    this.#pump(now);
  }

  #pump(now: number): void {
    const bytes = this.#bytes;
    while (true) {
      if (this.#inbox.isFull) {
        this.#isPaused = true;
        // What is left waits for our caller, not for the server.
        this.#partialSince = undefined;
        this.#socket.pause();
        return;
      }
      const before = bytes.length;
      try {
        const frame = this.#codec.decode(bytes);
        if (frame === undefined) break;
        if (frame instanceof Promise) throw isAsync('decode()', frame);
        if (bytes.length === before && this.#codec.isIdle === undefined) throw tookNothing();
        this.#partialSince = undefined;
        const size = before - bytes.length;
        const isUnasked = this.#unaskedBytes > 0;
        if (isUnasked) this.#unaskedBytes = Math.max(0, this.#unaskedBytes - Math.max(1, size));
        if (!this.#answered(frame)) this.#deliver(frame, size, isUnasked);
      } catch (error) {
        this.#failProtocol(error);
        return;
      }
      if (this.#ending !== undefined) return;
    }
    this.#afterPump(now);
  }

  /** Everything that has come was looked at. */
  #afterPump(now: number): void {
    if (!this.#hasPartial()) {
      this.#partialSince = undefined;
      this.#unaskedBytes = 0;
      this.#putQueueBack();
      this.#sink?.onReadEnd(now);
      // Only now: if the owner lent the connection before the last byte of this read was looked at, a stray
      // frame behind the pong would reach the next caller.
      if (this.#pongsDone) {
        this.#pongsDone = false;
        this.#mode = 'resting';
        this.#owner.onPong();
      }
      return;
    }
    // The codec was asked whether it holds bytes, and may have failed.
    if (this.#ending !== undefined) return;
    if (this.#pongsDone && this.#profile.answer === undefined) {
      this.#failUnsolicited();
      return;
    }
    const limit = this.#codec.maxFrameBytes ?? DEFAULT_MAX_FRAME_BYTES;
    if (this.#bytes.length > limit + READ_CHUNK_BYTES) {
      this.#failProtocol(tooMuchWaits(this.#bytes, limit));
      return;
    }
    if (this.#partialSince === undefined) {
      this.#partialSince = now;
      this.#watchAt(now + this.#profile.frameTimeoutMs);
    }
    this.#sink?.onReadEnd(now);
  }

  /** Lends the empty queue to whoever reads next. */
  #putQueueBack(): void {
    if (this.#bytes === NO_BYTES || this.#bytes.length > 0) return;
    this.#profile.spareQueue = this.#bytes;
    this.#bytes = NO_BYTES;
  }

  /** Answers a ping of the server's, whoever holds the connection. */
  #answered(frame: Out): boolean {
    const { answer } = this.#profile;
    if (answer === undefined) return false;
    const reply = answer(frame);
    if (reply === undefined) return false;
    if (reply instanceof Promise) throw isAsync('heartbeat.answer', reply);
    const encoded = this.#encode(reply);
    if (!this.isOpen) return true;
    this.#unreadAnswers += 1;
    this.#write(encoded, this.#profile.clock.now());
    return true;
  }

  #deliver(frame: Out, size: number, isUnasked: boolean): void {
    switch (this.#mode) {
      case 'serving': {
        const { first } = this.#receivers;
        const isAsked = this.#owed > 0 && !isUnasked;
        if (first?.mark !== undefined && (!isAsked || this.#writer.sent(first.mark) === 'none')) {
          // It began before the question left: it can't be the answer.
          this.#failUnsolicited();
          return;
        }
        if (isAsked) {
          this.#owed -= 1;
          if (this.#owed === 0) this.#settle();
          this.#isProven = true;
        }
        if (first === undefined) {
          if (this.#inbox === NO_FRAMES) this.#inbox = new Inbox();
          this.#inbox.push(frame, size, isAsked);
        } else {
          this.#receivers.resolveFirst(frame);
        }
        return;
      }
      case 'probing':
        if (this.#pongsDue === 0 || !this.#isPong(frame)) {
          this.#failUnsolicited();
          return;
        }
        this.#isProven = true;
        this.#pongsDue -= 1;
        if (this.#pongsDue === 0) this.#pongsDone = true;
        return;
      case 'shared':
        if (!isUnasked && this.#sink?.onFrame(frame) === true) this.#isProven = true;
        else this.#failUnsolicited();
        return;
      case 'resting':
        this.#failUnsolicited();
    }
  }

  #isPong(frame: Out): boolean {
    const verdict: unknown = this.#profile.probe?.isPong(frame);
    if (verdict instanceof Promise) throw isAsync('heartbeat.isPong', verdict);
    return Boolean(verdict);
  }

  #unpause(): void {
    if (!this.isOpen) return;
    this.#isPaused = false;
    this.#pump(this.#profile.clock.now());
    if (!this.#isPaused && this.isOpen) this.#socket.resume();
  }

  /** Whether part of a frame has come, here or inside the codec. */
  #hasPartial(): boolean {
    if (this.#bytes.length > 0) return true;
    if (this.#codec.isIdle === undefined) return false;
    try {
      return !this.#codec.isIdle();
    } catch (error) {
      this.#failProtocol(error);
      return true;
    }
  }

  /** Whether part of a frame has come that can be nobody's reply. */
  #holdsUnaskedBytes(): boolean {
    return this.#owed === 0 && this.#hasPartial();
  }

  // ---- the end -------------------------------------------------------------------------------------------

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
    this.#goodbye?.cancel();
    this.#owner.onClosed(this);
  }

  /** The first cause of the end wins; later ones are its consequences. */
  #begin(reason: CloseReason, error: PulsepoolError | undefined): boolean {
    if (this.#ending !== undefined) return false;
    this.#ending = { reason, error };
    this.#watch?.end();
    // A signal that several calls share ends the connection at the first: the others were aborted, too.
    this.#receivers.rejectAll((receiver) =>
      receiver.signal?.aborted === true ? receiver.signal.reason : this.#lost(receiver),
    );
    this.#writer.wake();
    this.#owner.onEnding(reason, error);
    // Last: it may have what it lost sent again, and the owner must know by then that it won't be by this one.
    const sink = this.#sink;
    this.#sink = undefined;
    sink?.onEnding(reason);
    return true;
  }

  #failUnsolicited(): PulsepoolError {
    const error = this.#story.unsolicited(this.#bytes);
    this.destroy('unsolicited', error);
    return error;
  }

  #failProtocol(cause: unknown): void {
    this.destroy('protocol', asFrameError(cause, 'codec-threw'));
  }

  #peerClosed(cause: Error | undefined): PulsepoolError | undefined {
    // Not told when it would go unheard: a codec of the user's is asked.
    if (!this.isOpen) return undefined;
    return this.#story.peerClosed(cause, this.#bytes, {
      isYoung: this.#isYoung(),
      wasCut: this.#hasPartial(),
    });
  }

  #isYoung(): boolean {
    return this.#profile.clock.now() - this.openedAt < YOUNG_MS;
  }

  /** The error for one call that the end of the connection cuts off, or that comes after it. */
  #lost(call: Call | undefined): PulsepoolError {
    return this.#story.lost(this.#ending, this.#told(call));
  }

  /** A call that only receives waits for what an earlier one has sent. */
  #told(call: Call | undefined): Call | undefined {
    return call?.mark === undefined ? this.#asked : call;
  }

  get #story(): ConnectionStory {
    return new ConnectionStory(this.id, this.#profile.endpoint, this.#writer, this.#reads, this.#hasServed);
  }

  // ---- what is overdue -----------------------------------------------------------------------------------

  #watchAt(at: number): void {
    if (!this.isOpen) return;
    this.#watch ??= new Watch(this.#profile.clock, this);
    this.#watch.arm(at);
  }

  /** For the watch: ends the connection if something is overdue; otherwise returns when to look again. */
  judge(now: number): number {
    const { readTimeoutMs, writeTimeoutMs, frameTimeoutMs } = this.#profile;
    let next = Number.POSITIVE_INFINITY;
    const { first } = this.#receivers;
    if (first !== undefined && !this.#isPatient) {
      // A reply is due once its question has left; until then the stall limit below applies.
      const hasLeft =
        first.mark === undefined ? this.#writer.isFlushed : this.#writer.sent(first.mark) === 'full';
      this.#holdUp(!hasLeft, now);
      const due = Math.max(this.lastReadAt, this.#awaitingSince) + readTimeoutMs;
      if (due <= now) {
        return this.#timeOut(this.#story.silent(readTimeoutMs));
      }
      next = due;
    }
    const sink = this.#sink;
    if (sink?.dueSince !== undefined) {
      const { dueMark, dueSince } = sink;
      this.#holdUp(dueMark !== undefined && this.#writer.sent(dueMark) !== 'full', now);
      const due = Math.max(this.lastReadAt, dueSince, this.#awaitingSince) + readTimeoutMs;
      if (due <= now) return this.#timeOut(this.#story.silent(readTimeoutMs));
      next = due;
    }
    if (this.#partialSince !== undefined) {
      const due = this.#partialSince + frameTimeoutMs;
      if (due <= now) {
        return this.#timeOut(this.#story.unfinished(frameTimeoutMs));
      }
      next = Math.min(next, due);
    }
    if (!this.#writer.isFlushed) {
      // While our own caller does not read, the peer may be unable to write, and so to read.
      if (this.#writer.flushedWrites !== this.#progressSeen || this.#isPaused) {
        this.#progressSeen = this.#writer.flushedWrites;
        this.#progressAt = Math.floor(now);
      }
      const due = this.#progressAt + writeTimeoutMs;
      if (due <= now) {
        return this.#timeOut(this.#story.stalled(writeTimeoutMs));
      }
      next = Math.min(next, due, now + writeTimeoutMs / LOOKS_PER_STALL);
    }
    return next;
  }

  /** A question that has left since the last look may have left just now. */
  #holdUp(isHeldUp: boolean, now: number): void {
    if (isHeldUp || this.#wasHeldUp) this.#awaitingSince = Math.floor(now);
    this.#wasHeldUp = isHeldUp;
  }

  #timeOut(error: PulsepoolError): number {
    this.destroy('timeout', error);
    return Number.POSITIVE_INFINITY;
  }
}

/**
 * A leased socket and the calls that fly on it: messages of one turn of the event loop leave in one write, and each
 * reply goes to its call. A call whose caller has gone keeps its place, and its reply is dropped.
 *
 * With several endpoints each call counts at the one at the other end, from the moment it is given to the channel until
 * its place is free again: a call whose caller has gone is still work of the server's.
 *
 * Which call gets which channel is a carrier's business; so is giving the lease back.
 */
import { Buffer } from 'node:buffer';
import { isUint8Array } from 'node:util/types';
import type { Clock } from '../clock.ts';
import { moreSent, type Sent } from '../errors.ts';
import type { Lease } from '../pool/lease.ts';
import type { PoolMember } from '../pool/pool-member.ts';
import type { EncodedFrame } from '../transport/codec.ts';
import type { Connection } from '../transport/connection.ts';
import type { FrameSink } from '../transport/frame-sink.ts';
import { asFrameError, sizeOf } from '../transport/stream-fault.ts';
import type { WriteMark } from '../transport/writer.ts';
import { Batch, type Call, type Flight } from './call.ts';
import type { Flights } from './flights.ts';
import type { TurnEnd, Writing } from './turn-end.ts';

/** Who hears of what becomes of the calls. */
export interface ChannelOwner<In, Out> {
  /** The call has its reply. */
  onReply(call: Call<In, Out>, reply: Out, now: number): void;
  /** The call gets no reply on this socket. */
  onLost(call: Call<In, Out>, error: unknown): void;
  /** Replies have come, and all that came was looked at. */
  onRoom(channel: Channel<In, Out>, now: number): void;
  /** A place is free that nothing was sent for. */
  onPlace(channel: Channel<In, Out>): void;
  /** The socket has ended; its calls are told next. May be told twice. */
  onEnded(channel: Channel<In, Out>): void;
}

// More than a packet of a real network holds: the server may as well begin while the rest of the turn is gathered.
const FLUSH_BYTES = 8 * 1024;
// What is joined into one write is copied. Larger messages are not: they would fill packets by themselves.
const JOINED_BYTES = 64 * 1024;

/** See the file's comment. */
export class Channel<In, Out> implements FrameSink<Out>, Flight, Writing {
  dueSince: number | undefined;
  /** Kept by its owner. */
  isGivenBack = false;
  /** Places kept for calls that are on their way. */
  reserved = 0;
  /** When the oldest write was posted that nothing has come for, in ms; 0: none. */
  postedAt = 0;
  /** Where it leads, if there are several endpoints. */
  readonly member: PoolMember<In, Out> | undefined;
  readonly #lease: Lease<In, Out>;
  readonly #connection: Connection<In, Out>;
  readonly #clock: Clock;
  readonly #owner: ChannelOwner<In, Out>;
  readonly #flights: Flights<In, Out>;
  // Of this turn, each with its bytes and the one behind it: not posted yet.
  #firstUnsent: Call<In, Out> | undefined;
  #lastUnsent: Call<In, Out> | undefined;
  #unsent = 0;
  #unsentBytes = 0;
  #isFlushDue = false;
  readonly #turnEnd: TurnEnd;
  // Replies that nobody waits for, and that may still come.
  #abandoned = 0;
  // Calls that count at its endpoint.
  #counted = 0;

  /**
   * `member`: where calls are counted, if they are.
   *
   * @throws ConnectionError when the connection has ended.
   */
  constructor(
    lease: Lease<In, Out>,
    flights: Flights<In, Out>,
    clock: Clock,
    turnEnd: TurnEnd,
    owner: ChannelOwner<In, Out>,
    member: PoolMember<In, Out> | undefined,
  ) {
    this.#lease = lease;
    this.member = member;
    this.#turnEnd = turnEnd;
    this.#flights = flights;
    this.#clock = clock;
    this.#owner = owner;
    this.#connection = lease.share(this);
  }

  /** Where the message stands whose reply has been due longest. */
  get dueMark(): WriteMark | undefined {
    return this.#flights.oldest?.batch?.mark;
  }

  /** When its socket was opened, in whole ms. */
  get openedAt(): number {
    return this.#connection.openedAt;
  }

  /** Calls that take a place, those whose callers have gone included. */
  get inFlight(): number {
    return this.#flights.size + this.#unsent + this.reserved;
  }

  /** Whether a message was posted, and its reply has not come. */
  get isBusy(): boolean {
    return this.#flights.size > 0;
  }

  /** Whether messages wait for the end of this turn. */
  get hasUnsent(): boolean {
    return this.#unsent > 0;
  }

  /** Replies that nobody waits for. */
  get abandoned(): number {
    return this.#abandoned;
  }

  get isOpen(): boolean {
    return this.#connection.isOpen;
  }

  /** Whether the peer takes our bytes more slowly than they come. */
  get isCongested(): boolean {
    return this.#connection.isCongested;
  }

  /** The pool would rather have the socket back. */
  get isWantedBack(): boolean {
    return this.#lease.isWantedBack;
  }

  /** Whether another call may fly on it, when none does. */
  get mayGoOn(): boolean {
    const connection = this.#connection;
    const isDone = connection.isOpen && !connection.isCongested && !connection.hasPartial;
    return isDone && connection.isFramed && !this.#lease.isWantedBack;
  }

  /** The lease goes on with another call, which has waited for so long, in ms. */
  passOn(waitedMs: number, now: number): void {
    this.#lease.passOn(waitedMs, now);
  }

  /** How long nothing has come while replies are due, in ms; 0 while none is. */
  silentMs(now: number): number {
    if (this.dueSince === undefined) return 0;
    return now - Math.max(this.dueSince, this.#connection.lastReadAt);
  }

  /** Takes a call: its message leaves at the end of this turn. */
  add(call: Call<In, Out>): void {
    if (!this.#take(call)) return;
    if (this.#unsentBytes > FLUSH_BYTES) this.#post();
    else if (!this.#isFlushDue) {
      this.#isFlushDue = true;
      this.#turnEnd.add(this);
    }
  }

  /** Takes a call, whose message leaves at once. */
  sendNow(call: Call<In, Out>): void {
    if (this.#take(call)) this.#post();
  }

  #take(call: Call<In, Out>): boolean {
    let encoded: EncodedFrame;
    // Its place is taken while the user's code runs, which may call in again.
    this.reserved += 1;
    try {
      encoded = this.#connection.encode(this.#flights.prepare(call));
    } catch (error) {
      this.reserved -= 1;
      this.#flights.drop(call);
      this.#owner.onLost(call, asFrameError(error, 'bad-message'));
      this.#settleRoom();
      return false;
    }
    this.reserved -= 1;
    // A hook or a codec of the user's may have ended the call, or the connection; or that had ended before.
    if (call.state === 'settled') {
      this.#flights.drop(call);
      this.#settleRoom();
      return false;
    }
    if (!this.isOpen) {
      call.at = this.member;
      this.#owner.onEnded(this);
      this.#owner.onLost(call, this.#connection.lost(undefined, 0));
      return false;
    }
    call.fly();
    if (this.member !== undefined) this.#count(call, this.member);
    call.flight = this;
    call.batch = undefined;
    call.bytes = encoded;
    if (this.#lastUnsent === undefined) this.#firstUnsent = call;
    else this.#lastUnsent.behind = call;
    this.#lastUnsent = call;
    this.#unsent += 1;
    this.#unsentBytes += typeof encoded === 'string' ? encoded.length : sizeOf(encoded);
    return true;
  }

  #count(call: Call<In, Out>, member: PoolMember<In, Out>): void {
    call.at = member;
    this.#counted += 1;
    member.lent();
    member.asked(this.#clock.now());
  }

  /** So many of its calls are over at its endpoint, whatever came of them. */
  #uncount(calls: number, now: number): void {
    const { member } = this;
    if (member === undefined) return;
    for (let left = calls; left > 0; left -= 1) {
      member.returned();
      member.answered(now);
    }
    this.#counted -= calls;
  }

  /** Its caller has gone: its reply, if one comes, is dropped. */
  abandon(): void {
    this.#abandoned += 1;
  }

  sentOf(batch: Batch | undefined): Sent {
    // What waits behind other bytes keeps its place, and leaves when these have.
    return batch?.mark === undefined ? 'none' : moreSent('maybe', this.#connection.sent(batch.mark));
  }

  destroy(why: 'aborted' | 'timeout'): void {
    this.#connection.destroy(why);
  }

  /** Gives the socket back. Nothing may be in flight. */
  release(): void {
    if (this.isOpen) {
      if (this.#connection.hasPartial) this.#connection.refuse();
      else this.#connection.unshare();
    }
    if (this.#lease.isHeld) this.#lease.release();
  }

  // ---- out -----------------------------------------------------------------------------------------------

  /** The turn ends. */
  flush(): void {
    this.#isFlushDue = false;
    this.#post();
  }

  #post(): void {
    const count = this.#unsent;
    if (count === 0 || !this.isOpen) return;
    let next = this.#takeUnsent();
    const batch = new Batch();
    let text = '';
    let out: Uint8Array[] | undefined;
    const before = this.#flights.size;
    while (next !== undefined) {
      const call: Call<In, Out> = next;
      const { behind, bytes: piece } = call;
      next = behind;
      call.behind = undefined;
      call.bytes = undefined;
      if (piece === undefined) continue;
      // Its caller has gone before anything left: then nothing leaves.
      if (call.state !== 'flying' || call.flight !== this) {
        this.#flights.drop(call);
        this.#abandoned -= 1;
        if (this.member !== undefined) this.#uncount(1, this.#clock.now());
        continue;
      }
      call.batch = batch;
      this.#flights.add(call);
      if (typeof piece === 'string' && out === undefined) {
        text += piece;
        continue;
      }
      if (out === undefined) {
        out = text === '' ? [] : [Buffer.from(text)];
        text = '';
      }
      if (typeof piece === 'string') out.push(Buffer.from(piece));
      else if (isUint8Array(piece)) out.push(piece);
      else out.push(...piece);
    }
    const wasDropped = this.#flights.size < before + count;
    if (this.#flights.size === before) {
      this.#settleRoom();
      return;
    }
    if (before === 0 && !this.#connection.beginAnew()) return;
    const now = this.#clock.now();
    batch.readsBefore = this.#connection.reads;
    if (this.member !== undefined) batch.postedAt = now;
    this.dueSince ??= Math.floor(now);
    if (this.postedAt === 0) this.postedAt = Math.floor(now);
    // A stream may deliver, and end, within its own write().
    batch.mark = this.#connection.nextMark;
    const mark = this.#connection.post(out === undefined ? text : joined(out), now);
    batch.mark = mark;
    if (wasDropped) this.#settleRoom();
  }

  /** The first of those that were to leave at the end of this turn; the others are behind it. */
  #takeUnsent(): Call<In, Out> | undefined {
    const first = this.#firstUnsent;
    this.#firstUnsent = undefined;
    this.#lastUnsent = undefined;
    this.#unsent = 0;
    this.#unsentBytes = 0;
    return first;
  }

  /** Nothing came, but what was to be sent is not. */
  #settleRoom(): void {
    if (this.isOpen) this.#owner.onPlace(this);
  }

  // ---- in ------------------------------------------------------------------------------------------------

  onFrame(frame: Out): boolean {
    const call = this.#flights.of(frame);
    // It came before the question left: it can't be the answer.
    if (call === undefined || this.#connection.sent(call.batch?.mark) === 'none') return false;
    this.#flights.landed(call);
    if (this.member !== undefined) this.#tellTime(call);
    if (call.state === 'flying' && call.flight === this) {
      call.flight = undefined;
      this.#owner.onReply(call, frame, this.#connection.lastReadAt);
    } else this.#abandoned -= 1;
    return true;
  }

  /** However late: what nobody waits for any more says as much about the endpoint. */
  #tellTime({ batch }: Call<In, Out>): void {
    const now = this.#connection.lastReadAt;
    this.#uncount(1, now);
    // Not from when it was given to the channel: that time is rounded, and what is younger than a probe proves nothing.
    if (batch !== undefined) this.#lease.onReply(Math.max(0, now - batch.postedAt), now);
  }

  onReadEnd(now: number): void {
    if (this.#flights.size === 0) this.dueSince = undefined;
    this.#owner.onRoom(this, now);
  }

  // ---- the end -------------------------------------------------------------------------------------------

  onEnding(): void {
    this.dueSince = undefined;
    const connection = this.#connection;
    const lost: (readonly [Call<In, Out>, unknown])[] = [];
    const tell = (call: Call<In, Out>): void => {
      if (call.state !== 'flying' || call.flight !== this) return;
      call.flight = undefined;
      lost.push([call, connection.lost(call.batch?.mark, call.batch?.readsBefore ?? 0)]);
    };
    this.#flights.clear(tell);
    for (let call = this.#takeUnsent(); call !== undefined; ) {
      const { behind } = call;
      call.behind = undefined;
      call.bytes = undefined;
      tell(call);
      call = behind;
    }
    if (this.#counted > 0) this.#uncount(this.#counted, this.#clock.now());
    this.#owner.onEnded(this);
    // Last: what is sent again must not be given to this channel.
    for (const [call, error] of lost) this.#owner.onLost(call, error);
  }
}

/** As one piece, when that is small. */
function joined(pieces: Uint8Array[]): EncodedFrame {
  const [first] = pieces;
  if (first !== undefined && pieces.length === 1) return first;
  let size = 0;
  for (const piece of pieces) size += piece.length;
  return size > JOINED_BYTES ? pieces : Buffer.concat(pieces, size);
}

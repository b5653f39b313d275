/**
 * Many calls side by side on few sockets. Sockets are packed: one is filled to `maxInFlight` before another is asked
 * for, because a write and a read that carry many messages cost hardly more than those that carry one. A socket that
 * takes bytes more slowly than they come, or has been silent for long while replies are due, is not fed more.
 *
 * A socket is held while anything flies on it, and given back when nothing does: so it is pinged, retired and replaced
 * by the pool as any other.
 */
import type { Clock, ProcessHold } from '../clock.ts';
import { AcquireError, type PoolCounts } from '../errors.ts';
import type { Lease } from '../pool/lease.ts';
import { type WaitBounds, type Waiter, Waiters } from '../pool/waiters.ts';
import type { Call } from './call.ts';
import { boundsOf, type Carrier, type CarrierOwner, type LeaseSource } from './carrier.ts';
import { Channel, type ChannelOwner } from './channel.ts';
import type { Flights } from './flights.ts';
import { noRoomError, tooManyError } from './no-room.ts';

/** What the shared modes are made of. */
export interface SharedParts<In, Out> extends WaitBounds {
  readonly source: LeaseSource<In, Out>;
  readonly endpoint: string;
  readonly maxInFlight: number;
  readonly makeFlights: () => Flights<In, Out>;
  /** Whether a reply that is late holds up those behind it. */
  readonly isInOrder: boolean;
  /** As many sockets as the pool may have. */
  readonly max: () => number;
  /** Callers of the pool's own that wait for a lease. */
  readonly othersWaiting: () => number;
  readonly counts: () => PoolCounts;
  readonly clock: Clock;
  readonly hold: ProcessHold;
}

// A socket is slow when nothing has come for so long while replies are due, or for some round trips if that is longer.
const SLOW_MS = 50;
const SLOW_ROUND_TRIPS = 8;
// How much of a new measurement goes into the smoothed round trip (RFC 6298 has the same 1/8).
const GAIN = 1 / 8;

/** See the file's comment. */
export class Shared<In, Out> implements Carrier<In, Out>, ChannelOwner<In, Out> {
  readonly #parts: SharedParts<In, Out>;
  readonly #owner: CarrierOwner<In, Out>;
  // In the order in which they were opened: the first one with room is filled.
  #channels: Channel<In, Out>[] = [];
  // It had room when it was last looked at, in this turn or the one before.
  #current: Channel<In, Out> | undefined;
  readonly #waiters: Waiters<Channel<In, Out>>;
  #asks = 0;
  #roundTripMs = 0;
  #isServing = false;

  constructor(parts: SharedParts<In, Out>, owner: CarrierOwner<In, Out>) {
    this.#parts = parts;
    this.#owner = owner;
    this.#waiters = new Waiters(parts, parts.clock, parts.hold, {
      onTimeout: (waiter) => waiter.reject(noRoomError(this.#story(waiter))),
      onShed: (waiter, why) => this.#shed(waiter, why),
      onCancelled: () => undefined,
      onGone: () => undefined,
      isExhausted: () => this.#channels.length >= parts.max(),
      spare: () => Math.max(0, parts.max() - this.#channels.length) * parts.maxInFlight,
    });
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /** Sockets that it holds now. */
  get channels(): number {
    return this.#channels.length;
  }

  start(call: Call<In, Out>): void {
    if (call.mustBeFresh) {
      this.#startFresh(call);
      return;
    }
    const current = this.#current;
    if (current !== undefined && this.#waiters.size === 0) {
      // Asked once for all calls of a turn: what makes a channel unfit seldom changes within one.
      if (current.inFlight < this.#parts.maxInFlight && (current.hasUnsent || this.#isFit(current))) {
        this.#fly(call, current);
        return;
      }
    }
    const channel = this.#waiters.size === 0 ? this.#find() : undefined;
    if (channel !== undefined) this.#fly(call, channel);
    else this.#wait(call);
  }

  abandon(call: Call<In, Out>): void {
    const channel = call.flight;
    channel?.abandon();
  }

  // ---- which socket --------------------------------------------------------------------------------------

  /** A channel with room, if there is one or a socket can be had this very moment. */
  #find(): Channel<In, Out> | undefined {
    const { maxInFlight, source } = this.#parts;
    for (const channel of this.#channels) {
      if (channel.inFlight < maxInFlight && this.#isFit(channel)) {
        this.#current = channel;
        return channel;
      }
    }
    if (this.#channels.length >= this.#parts.max()) return this.#leastSilent();
    const lease = source.atOnce();
    return lease === undefined ? undefined : this.#open(lease);
  }

  #isFit(channel: Channel<In, Out>): boolean {
    if (!channel.isOpen || channel.isCongested || channel.isWantedBack) return false;
    // Most of its places are taken by replies that nobody waits for and that do not come: it is left to run dry.
    if (channel.abandoned * 2 > this.#parts.maxInFlight) return false;
    // Somebody who wants a socket for himself would wait for ever: the youngest is given back when it is empty.
    if (this.#parts.othersWaiting() > this.#asks && channel === this.#channels.at(-1)) return false;
    return channel.silentMs(this.#parts.clock.now()) <= this.#slowMs;
  }

  get #slowMs(): number {
    return Math.max(SLOW_MS, SLOW_ROUND_TRIPS * this.#roundTripMs);
  }

  /**
   * All sockets are taken and none is fit. Where replies come in any order, silence may only mean that every reply takes
   * its time: then the one with the most room will do.
   */
  #leastSilent(): Channel<In, Out> | undefined {
    if (this.#parts.isInOrder) return undefined;
    let best: Channel<In, Out> | undefined;
    for (const channel of this.#channels) {
      const isUsable = channel.isOpen && !channel.isCongested && !channel.isWantedBack;
      if (!isUsable || channel.inFlight >= this.#parts.maxInFlight) continue;
      if (best === undefined || channel.inFlight < best.inFlight) best = channel;
    }
    return best;
  }

  #open(lease: Lease<In, Out>): Channel<In, Out> {
    const channel = new Channel(lease, this.#parts.makeFlights(), this.#parts.clock, this);
    this.#channels.push(channel);
    this.#current = channel;
    return channel;
  }

  #fly(call: Call<In, Out>, channel: Channel<In, Out>): void {
    call.flownAt = call.triedAt;
    channel.add(call);
  }

  // ---- waiting -------------------------------------------------------------------------------------------

  #wait(call: Call<In, Out>): void {
    const bounds = boundsOf(call, this.#parts.acquireTimeoutMs);
    this.#waiters.wait(bounds, undefined).then(
      (channel) => {
        channel.reserved -= 1;
        if (call.state !== 'waiting') {
          this.#giveBack(channel);
          return;
        }
        call.flownAt = Math.floor(this.#parts.clock.now());
        channel.add(call);
      },
      (error: unknown) => {
        if (call.state === 'waiting') this.#owner.onLost(call, error);
      },
    );
    this.#ask();
  }

  /** Asks the pool for as many sockets as those who wait would fill. */
  #ask(): void {
    const { max, maxInFlight, source } = this.#parts;
    while (
      this.#asks < Math.ceil(this.#waiters.size / maxInFlight) &&
      this.#channels.length + this.#asks < max()
    ) {
      this.#asks += 1;
      source.acquire({ timeoutMs: Number.POSITIVE_INFINITY }).then(
        (lease) => {
          this.#asks -= 1;
          this.#serve(this.#open(lease));
        },
        (error: unknown) => {
          this.#asks -= 1;
          this.#onRefused(error);
        },
      );
    }
  }

  /** No socket can be had. Who waits for one that is taken goes on waiting. */
  #onRefused(error: unknown): void {
    if (this.#channels.length > 0 || this.#asks > 0) return;
    this.#waiters.rejectAll(() => copyOf(error));
  }

  /** Gives a channel to those who wait, as far as it has room. */
  #serve(channel: Channel<In, Out>): void {
    const { maxInFlight } = this.#parts;
    while (this.#waiters.size > 0 && channel.inFlight < maxInFlight && this.#isFit(channel)) {
      const waiter = this.#waiters.take();
      if (waiter === undefined) break;
      // Until its turn of the microtask queue has come.
      channel.reserved += 1;
      waiter.resolve(channel);
    }
    this.#giveBack(channel);
  }

  #giveBack(channel: Channel<In, Out>): void {
    if (channel.inFlight > 0) return;
    this.#remove(channel);
    channel.release();
  }

  #remove(channel: Channel<In, Out>): void {
    const at = this.#channels.indexOf(channel);
    if (at >= 0) this.#channels.splice(at, 1);
    if (this.#current === channel) this.#current = this.#channels[0];
  }

  /** Its one repetition on a socket that has served nobody. */
  #startFresh(call: Call<In, Out>): void {
    this.#asks += 1;
    this.#parts.source.acquireNew().then(
      (lease) => {
        this.#asks -= 1;
        const channel = this.#open(lease);
        if (call.state === 'waiting') this.#fly(call, channel);
        this.#serve(channel);
      },
      (error: unknown) => {
        this.#asks -= 1;
        if (call.state === 'waiting') this.#owner.onLost(call, error);
      },
    );
  }

  // ---- overload ------------------------------------------------------------------------------------------

  #shed(waiter: Waiter<Channel<In, Out>>, why: 'full' | 'overload'): void {
    const tell = (): void => {
      if (this.#waiters.isWanted(waiter)) waiter.reject(tooManyError(this.#story(waiter), why));
    };
    // A turn later: a caller who asks again and again must not starve the event loop.
    if (why === 'full') this.#parts.clock.turn(tell);
    else tell();
  }

  #story(waiter: Waiter<Channel<In, Out>>): Parameters<typeof noRoomError>[0] {
    const { clock, counts, endpoint, maxInFlight } = this.#parts;
    let inFlight = 0;
    for (const channel of this.#channels) inFlight += channel.inFlight;
    return {
      endpoint,
      waitedMs: clock.now() - waiter.since,
      sockets: this.#channels.length,
      inFlight,
      maxInFlight,
      waiting: this.#waiters.size,
      counts: counts(),
    };
  }

  // ---- what channels tell --------------------------------------------------------------------------------

  onReply(call: Call<In, Out>, reply: Out, now: number): void {
    this.#owner.onReply(call, reply, now);
  }

  onLost(call: Call<In, Out>, error: unknown): void {
    this.#owner.onLost(call, error);
  }

  onRoom(channel: Channel<In, Out>, now: number): void {
    const { postedAt } = channel;
    if (postedAt > 0) {
      this.#roundTripMs += (now - postedAt - this.#roundTripMs) * GAIN;
      channel.postedAt = 0;
    }
    // Feeding one may end it, and its end is told here as well.
    if (this.#waiters.size > 0 && !this.#isServing) {
      this.#isServing = true;
      this.#serve(channel);
      this.#isServing = false;
      if (this.#waiters.size > 0) this.#ask();
    } else this.#giveBack(channel);
  }

  onEnded(channel: Channel<In, Out>): void {
    this.#remove(channel);
    channel.release();
    if (this.#waiters.size > 0) this.#ask();
  }

  /** Stops every timer. Nobody may wait any more. */
  end(): void {
    this.#waiters.end();
  }
}

/** One caller's own: it is told how much of it was sent, and that differs. */
function copyOf(error: unknown): unknown {
  return error instanceof AcquireError ? new AcquireError(error.code, error.message, error) : error;
}

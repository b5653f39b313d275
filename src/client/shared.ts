/**
 * Many calls side by side on few sockets. Sockets are packed: one is filled to `maxInFlight` before another is asked
 * for, because a write and a read that carry many messages cost hardly more than those that carry one. A socket that
 * takes bytes more slowly than they come, or has been silent for long while replies are due, is not fed more.
 *
 * With several endpoints each call first goes to one of them (by-endpoint.ts), whose sockets are packed in the same way.
 *
 * A socket is held while anything flies on it, and given back when nothing does: so it is pinged, retired and replaced
 * by the pool as any other.
 */
import type { Clock, ProcessHold, Timer } from '../clock.ts';
import type { PoolCounts, PulsepoolError } from '../errors.ts';
import type { Lease } from '../pool/lease.ts';
import type { Members } from '../pool/members.ts';
import { type WaitBounds, type Waiter, Waiters } from '../pool/waiters.ts';
import { ByEndpoint, Place } from './by-endpoint.ts';
import type { Call, Flight } from './call.ts';
import { closedError, framelessError } from './call-error.ts';
import { boundsOf, type Carrier, type CarrierOwner, copyOf, type LeaseSource, wishOf } from './carrier.ts';
import { Channel, type ChannelOwner } from './channel.ts';
import type { Flights } from './flights.ts';
import { type NoRoomStory, noRoomError, tooManyError } from './no-room.ts';
import { TurnEnd } from './turn-end.ts';

/** What the shared modes are made of. */
export interface SharedParts<In, Out> extends WaitBounds {
  readonly source: LeaseSource<In, Out>;
  readonly endpoint: string;
  /** None with a single one. */
  readonly endpoints: Members<In, Out> | undefined;
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
  readonly #waiters: Waiters<Channel<In, Out>, Call<In, Out>>;
  // Who must have a socket that was opened after their last one had died.
  readonly #newcomers: Waiters<Channel<In, Out>, Call<In, Out>>;
  // None with a single endpoint.
  readonly #routes: ByEndpoint<In, Out> | undefined;
  // Leases that were asked for on behalf of those who wait; each is aborted when it is of no more use.
  readonly #asks: AbortController[] = [];
  // For all newcomers together: else a socket that dies under a thousand calls would have the server dialed as often.
  #newAsk: AbortController | undefined;
  // Leases that second tries wait for.
  #apart = 0;
  #isAskDue = false;
  // Why no socket can be shared, once that was found.
  #misfit: (() => PulsepoolError) | undefined;
  readonly #turnEnd: TurnEnd;
  #roundTripMs = 0;
  #isServing = false;
  #look: Timer | undefined;

  constructor(parts: SharedParts<In, Out>, owner: CarrierOwner<In, Out>) {
    this.#parts = parts;
    this.#owner = owner;
    this.#turnEnd = new TurnEnd(parts.clock, () => this.#channels.every((channel) => !channel.isBusy));
    this.#waiters = new Waiters(parts, parts.clock, parts.hold, {
      onTimeout: (waiter) => waiter.reject(noRoomError(this.#story(waiter))),
      onShed: (waiter, why) => this.#shed(waiter, why),
      onCancelled: () => undefined,
      onGone: () => this.#trim(),
      isExhausted: () => this.#channels.length >= parts.max(),
      spare: () => Math.max(0, parts.max() - this.#channels.length) * parts.maxInFlight,
    });
    // They are few, and were served before: nobody is refused.
    const unbounded = { maxWaiting: Number.POSITIVE_INFINITY, shedAfterMs: Number.POSITIVE_INFINITY };
    this.#newcomers = new Waiters({ ...parts, ...unbounded }, parts.clock, parts.hold, {
      onTimeout: (waiter) => waiter.reject(noRoomError(this.#story(waiter))),
      onShed: (waiter, why) => this.#shed(waiter, why),
      onCancelled: () => undefined,
      onGone: () => this.#trimNew(),
      isExhausted: () => false,
      spare: () => 0,
    });
    this.#routes = this.#makeRoutes();
  }

  #makeRoutes(): ByEndpoint<In, Out> | undefined {
    const { endpoints: members, maxInFlight, source } = this.#parts;
    const balancer = members?.balancer;
    if (members === undefined || balancer === undefined) return undefined;
    return new ByEndpoint(
      { source, members, balancer, waiters: this.#waiters },
      {
        maxInFlight,
        isFit: (channel) => this.#isFit(channel),
        isSilent: (channel) => this.#isSilent(channel),
        lastResort: (channels) => (this.#isFull ? this.#leastSilent(channels) : undefined),
        hasRoom: () => this.#channels.length + this.#asking < this.#parts.max(),
        open: (lease) => this.#open(lease),
        onLease: (lease) => this.#onLease(lease, this.#waiters),
      },
    );
  }

  get waiting(): number {
    return this.#waiters.size + this.#newcomers.size;
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
    if (call.hedge?.avoid !== undefined) {
      this.#startApart(call, call.hedge.avoid);
      return;
    }
    if (this.#routes !== undefined) {
      this.#startAt(call, this.#routes.find(call));
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
    else this.#queue(call, undefined);
  }

  #startAt(call: Call<In, Out>, found: Channel<In, Out> | Place<In, Out> | undefined): void {
    if (found === undefined || found instanceof Place) this.#queue(call, found);
    else this.#fly(call, found);
  }

  #queue(call: Call<In, Out>, place: Place<In, Out> | undefined): void {
    this.#wait(call, this.#waiters, place);
    this.#ask();
    this.#armLook();
  }

  /**
   * What makes a socket fit again is not always a reply: it has drained, the pool does not want it back any more, or
   * there may be more of them. While anybody waits, that is looked for.
   */
  #armLook(): void {
    if (this.#look !== undefined || this.#waiters.size === 0) return;
    const { clock } = this.#parts;
    // One turn, as for every verdict that follows a timer.
    this.#look = clock.after(SLOW_MS, () => clock.turn(() => this.#lookAround()));
  }

  #lookAround(): void {
    this.#look = undefined;
    this.#routes?.repin();
    for (const channel of [...this.#channels]) {
      const isFit = (): boolean => this.#isFit(channel) || this.#leastSilent() === channel;
      if (!channel.isGivenBack) this.#fill(channel, this.#waiters, isFit);
    }
    this.#trim();
    this.#ask();
    this.#armLook();
  }

  abandon(call: Call<In, Out>): void {
    const channel = call.flight;
    channel?.abandon();
  }

  canHedge({ flight }: Call<In, Out>): boolean {
    if (this.#apartFrom(flight) !== undefined) return true;
    // One socket is opened at a time: it has places for many.
    return this.#apart === 0 && this.#channels.length + this.#asking < this.#parts.max();
  }

  #apartFrom(avoid: Flight | undefined): Channel<In, Out> | undefined {
    return this.#channels.find(
      (channel) => channel !== avoid && channel.inFlight < this.#parts.maxInFlight && this.#isFit(channel),
    );
  }

  whyLate(): undefined {
    return undefined;
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
    if (this.#isFull) return this.#leastSilent();
    const lease = source.atOnce();
    return lease === undefined ? undefined : this.#open(lease);
  }

  #isFit(channel: Channel<In, Out>): boolean {
    if (!channel.isOpen || channel.isCongested || channel.isWantedBack) return false;
    // Most of its places are taken by replies that nobody waits for and that do not come: it is left to run dry.
    if (channel.abandoned * 2 > this.#parts.maxInFlight) return false;
    if (this.#isOwed(channel)) return false;
    return !this.#isSilent(channel);
  }

  get #isFull(): boolean {
    return this.#channels.length >= this.#parts.max();
  }

  /** Leases that are asked for. */
  get #asking(): number {
    const own = this.#asks.length + this.#apart;
    return this.#routes === undefined ? own : own + this.#routes.asking;
  }

  /** Somebody who wants a socket for himself would wait for ever: the youngest is left to run dry, and given back. */
  #isOwed(channel: Channel<In, Out>): boolean {
    if (channel !== this.#channels.at(-1)) return false;
    return this.#parts.othersWaiting() > this.#asking || (this.#routes?.isStarving === true && this.#isFull);
  }

  #isSilent(channel: Channel<In, Out>): boolean {
    // An endpoint may be far, and others near.
    const roundTripMs = channel.member === undefined ? this.#roundTripMs : channel.member.latency.ms;
    return channel.silentMs(this.#parts.clock.now()) > Math.max(SLOW_MS, SLOW_ROUND_TRIPS * roundTripMs);
  }

  #placeOf({ member }: Channel<In, Out>): Place<In, Out> | undefined {
    return member === undefined ? undefined : this.#routes?.placeOf(member);
  }

  /**
   * All sockets are taken and none is fit. Where replies come in any order, silence may only mean that every reply takes
   * its time: then the one with the most room will do.
   */
  #leastSilent(among: readonly Channel<In, Out>[] = this.#channels): Channel<In, Out> | undefined {
    if (this.#parts.isInOrder) return undefined;
    let best: Channel<In, Out> | undefined;
    for (const channel of among) {
      const isUsable = channel.isOpen && !channel.isCongested && !channel.isWantedBack;
      if (!isUsable || this.#isOwed(channel) || channel.inFlight >= this.#parts.maxInFlight) continue;
      if (best === undefined || channel.inFlight < best.inFlight) best = channel;
    }
    return best;
  }

  /** `undefined`: its codec finds no ends of frames, and everybody is told so. */
  #open(lease: Lease<In, Out>): Channel<In, Out> | undefined {
    const { clock, endpoint, makeFlights } = this.#parts;
    const connection = lease.keep();
    if (!connection.isFramed) {
      this.#misfit = () => framelessError(endpoint);
      connection.destroy('protocol', this.#misfit());
      lease.release();
      this.#rejectAll(this.#misfit);
      return undefined;
    }
    const member = this.#routes === undefined ? undefined : lease.countsCalls();
    const channel = new Channel(lease, makeFlights(), clock, this.#turnEnd, this, member);
    this.#channels.push(channel);
    this.#placeOf(channel)?.channels.push(channel);
    this.#current = channel;
    return channel;
  }

  /** `at`: now, in whole ms. */
  #fly(call: Call<In, Out>, channel: Channel<In, Out>, at: number = call.triedAt): void {
    call.flownAt = at;
    channel.add(call);
  }

  // ---- waiting -------------------------------------------------------------------------------------------

  #wait(
    call: Call<In, Out>,
    queue: Waiters<Channel<In, Out>, Call<In, Out>>,
    place: Place<In, Out> | undefined,
  ): void {
    if (this.#misfit !== undefined) {
      this.#owner.onLost(call, this.#misfit());
      return;
    }
    const bounds = boundsOf(call, this.#parts.acquireTimeoutMs);
    if (place !== undefined) this.#routes?.await(place);
    // For whom it makes a difference where they fly.
    const wish = place === undefined && call.bounds.key === undefined ? undefined : call;
    queue.wait(bounds, undefined, wish, place).then(
      (channel) => {
        channel.reserved -= 1;
        const at = this.#now();
        if (call.state === 'waiting' && at < call.deadlineAt) {
          this.#fly(call, channel, at);
          return;
        }
        this.#serve(channel);
        if (call.state === 'waiting') this.#owner.onLost(call, undefined);
      },
      (error: unknown) => {
        if (call.state === 'waiting') this.#owner.onLost(call, error);
      },
    );
  }

  #now(): number {
    return Math.floor(this.#parts.clock.now());
  }

  /** How many sockets those who wait would fill, wherever they lead. */
  #useful(): number {
    return Math.ceil((this.#waiters.size - this.#waiters.pinned) / this.#parts.maxInFlight);
  }

  /** Asks the pool for as many sockets as those who wait would fill. */
  #ask(): void {
    const { max, source } = this.#parts;
    while (this.#asks.length < this.#useful() && this.#channels.length + this.#asking < max()) {
      const ask = new AbortController();
      this.#asks.push(ask);
      source.acquire({ timeoutMs: Number.POSITIVE_INFINITY, signal: ask.signal }).then(
        (lease) => {
          this.#strike(ask);
          this.#onLease(lease, this.#waiters);
        },
        (error: unknown) => {
          if (this.#strike(ask)) this.#onRefused(error);
        },
      );
    }
    this.#routes?.ask();
  }

  /** In the next turn, if anybody waits: a lease that is given back and granted again must not starve the event loop. */
  #askSoon(): void {
    if (this.#isAskDue || this.#waiters.size === 0) return;
    this.#isAskDue = true;
    this.#parts.clock.turn(() => {
      this.#isAskDue = false;
      this.#ask();
    });
  }

  /** Returns whether it was still wanted. */
  #strike(ask: AbortController): boolean {
    const at = this.#asks.indexOf(ask);
    if (at >= 0) this.#asks.splice(at, 1);
    return at >= 0;
  }

  /** Takes back what was asked for and would not be filled. */
  #trim(): void {
    while (this.#asks.length > this.#useful()) this.#asks.pop()?.abort();
    this.#routes?.trim();
  }

  /** No socket can be had. Who waits for one that is taken goes on waiting. */
  #onRefused(error: unknown): void {
    if (this.#channels.length > 0 || this.#asks.length > 0) return;
    // Or of one that was asked for elsewhere.
    if (this.#routes !== undefined && this.#routes.asking > 0) return;
    this.#waiters.rejectAll(() => copyOf(error));
  }

  #rejectAll(error: () => PulsepoolError): void {
    this.#waiters.rejectAll(error);
    this.#newcomers.rejectAll(error);
    this.#trim();
    this.#trimNew();
  }

  /**
   * A lease was granted: those who asked are served, whoever else waits by now. If it is wanted elsewhere it runs dry
   * afterwards.
   */
  #onLease(lease: Lease<In, Out>, queue: Waiters<Channel<In, Out>, Call<In, Out>>): void {
    const channel = this.#open(lease);
    if (channel === undefined) return;
    this.#fill(channel, queue, () => channel.isOpen && !channel.isCongested);
    this.#serve(channel);
  }

  /** Gives a channel to those who wait, as far as it has room. */
  #serve(channel: Channel<In, Out>): void {
    if (channel.isGivenBack) return;
    this.#fill(channel, this.#waiters, () => this.#isFit(channel));
    this.#trim();
    this.#giveBack(channel);
  }

  #fill(
    channel: Channel<In, Out>,
    queue: Waiters<Channel<In, Out>, Call<In, Out>>,
    isFit: () => boolean,
  ): void {
    const place = this.#placeOf(channel);
    while (queue.size > 0 && channel.inFlight < this.#parts.maxInFlight && isFit()) {
      const waiter = queue.take(place);
      if (waiter === undefined) break;
      // Until its turn of the microtask queue has come.
      channel.reserved += 1;
      waiter.resolve(channel);
    }
  }

  #giveBack(channel: Channel<In, Out>): void {
    if (channel.inFlight > 0 || channel.isGivenBack) return;
    this.#remove(channel);
    channel.release();
    this.#askSoon();
  }

  #remove(channel: Channel<In, Out>): void {
    channel.isGivenBack = true;
    const at = this.#channels.indexOf(channel);
    if (at >= 0) this.#channels.splice(at, 1);
    this.#placeOf(channel)?.remove(channel);
    if (this.#current === channel) this.#current = this.#channels[0];
  }

  /** A second try, which must not wait behind the first. */
  #startApart(call: Call<In, Out>, avoid: Flight): void {
    const { acquireTimeoutMs, source } = this.#parts;
    const routes = this.#routes;
    const other =
      routes === undefined || this.#isFull
        ? (routes?.apartFrom(call, avoid) ?? this.#apartFrom(avoid))
        : routes.apartFrom(call, avoid);
    if (other !== undefined) {
      this.#fly(call, other);
      return;
    }
    if (this.#isFull) {
      // There will be no other socket: it is no use.
      this.#owner.onLost(call, noRoomError(this.#storyOf(0)));
      return;
    }
    this.#apart += 1;
    const wish = routes === undefined ? undefined : wishOf(call);
    source.acquire(boundsOf(call, acquireTimeoutMs), wish).then(
      (lease) => {
        this.#apart -= 1;
        const channel = this.#open(lease);
        const at = this.#now();
        if (channel === undefined || at >= call.deadlineAt) {
          if (call.state === 'waiting') this.#owner.onLost(call, this.#misfit?.());
        } else if (call.state === 'waiting') this.#fly(call, channel, at);
        if (channel !== undefined) this.#serve(channel);
      },
      (error: unknown) => {
        this.#apart -= 1;
        if (call.state === 'waiting') this.#owner.onLost(call, error);
        this.#askSoon();
      },
    );
  }

  /** Its one repetition on a socket that was opened since its last one died. */
  #startFresh(call: Call<In, Out>): void {
    const { maxInFlight } = this.#parts;
    for (const channel of this.#channels) {
      if (channel.openedAt < call.triedAt || channel.inFlight >= maxInFlight || !this.#isFit(channel))
        continue;
      this.#fly(call, channel);
      return;
    }
    this.#wait(call, this.#newcomers, undefined);
    this.#askNew();
  }

  #askNew(): void {
    if (this.#newAsk !== undefined || this.#newcomers.size === 0) return;
    const ask = new AbortController();
    this.#newAsk = ask;
    this.#parts.source.acquireNew({ timeoutMs: Number.POSITIVE_INFINITY, signal: ask.signal }).then(
      (lease) => {
        if (this.#newAsk === ask) this.#newAsk = undefined;
        this.#onLease(lease, this.#newcomers);
        this.#askNew();
      },
      (error: unknown) => {
        if (this.#newAsk !== ask) return;
        this.#newAsk = undefined;
        this.#newcomers.rejectAll(() => copyOf(error));
        this.#askSoon();
      },
    );
  }

  #trimNew(): void {
    if (this.#newcomers.size > 0) return;
    this.#newAsk?.abort();
    this.#newAsk = undefined;
  }

  // ---- overload ------------------------------------------------------------------------------------------

  #shed(waiter: Waiter<Channel<In, Out>, Call<In, Out>>, why: 'full' | 'overload'): void {
    const tell = (): void => {
      if (this.#waiters.isWanted(waiter)) waiter.reject(tooManyError(this.#story(waiter), why));
    };
    // A turn later: a caller who asks again and again must not starve the event loop.
    if (why === 'full') this.#parts.clock.turn(tell);
    else tell();
  }

  #story(waiter: Waiter<Channel<In, Out>, Call<In, Out>>): NoRoomStory {
    return this.#storyOf(this.#parts.clock.now() - waiter.since);
  }

  #storyOf(waitedMs: number): NoRoomStory {
    const { counts, endpoint, maxInFlight } = this.#parts;
    let inFlight = 0;
    for (const channel of this.#channels) inFlight += channel.inFlight;
    return {
      endpoint,
      waitedMs,
      sockets: this.#channels.length,
      inFlight,
      maxInFlight,
      waiting: this.waiting,
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

  onPlace(channel: Channel<In, Out>): void {
    if (!this.#isServing) this.#serve(channel);
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
      this.#askSoon();
    } else this.#giveBack(channel);
  }

  onEnded(channel: Channel<In, Out>): void {
    this.#remove(channel);
    channel.release();
    if (this.#waiters.size > 0) this.#ask();
  }

  /** The pool has closed: stops every timer. */
  end(): void {
    // A net, as that of the requests.
    this.#rejectAll(() => closedError(this.#parts.endpoint));
    this.#look?.cancel();
    this.#waiters.end();
    this.#newcomers.end();
  }
}

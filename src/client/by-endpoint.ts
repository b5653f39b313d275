/**
 * Which endpoint a call of a shared mode goes to, and who waits for one of them. Whoever the balancer picks gets the call
 * when it has a channel with room or a socket at rest; if not, one is dialed for the calls to come, and this one goes where
 * there is something. A call with a key goes to its endpoint and no other, and waits there if need be.
 *
 * With a single endpoint none of this exists. Whether a channel is fit, and how a call flies, is known to its owner.
 */
import type { Balancer } from '../balance/balancer.ts';
import type { Lease } from '../pool/lease.ts';
import type { Members } from '../pool/members.ts';
import type { PoolMember } from '../pool/pool-member.ts';
import type { Pin, Waiters } from '../pool/waiters.ts';
import type { Call, Flight } from './call.ts';
import { copyOf, type LeaseSource, wishOf } from './carrier.ts';
import type { Channel } from './channel.ts';

/** What a client keeps of one endpoint. */
export class Place<In, Out> implements Pin {
  readonly member: PoolMember<In, Out>;
  /** Calls that wait for it and no other. Kept by the queue. */
  pinned = 0;
  /** Those that lead there, in the order in which they were opened. */
  readonly channels: Channel<In, Out>[] = [];
  /** Leases that were asked for there, to be aborted when they are of no more use. */
  readonly asks: AbortController[] = [];
  /** A socket that rests there is being checked: it will probably be had in a moment. */
  isExpected = false;

  constructor(member: PoolMember<In, Out>) {
    this.member = member;
  }

  remove(channel: Channel<In, Out>): void {
    const at = this.channels.indexOf(channel);
    if (at >= 0) this.channels.splice(at, 1);
  }
}

/** Who has the channels. */
export interface ByEndpointOwner<In, Out> {
  readonly maxInFlight: number;
  /** Whether another call may fly on it, its places left aside. */
  readonly isFit: (channel: Channel<In, Out>) => boolean;
  /** Whether it has owed replies for long. */
  readonly isSilent: (channel: Channel<In, Out>) => boolean;
  /** When all sockets are taken and none is fit, the one that will do. */
  readonly lastResort: (channels: readonly Channel<In, Out>[] | undefined) => Channel<In, Out> | undefined;
  /** Whether one more lease could be granted. */
  readonly hasRoom: () => boolean;
  /** Makes a channel of a lease. */
  readonly open: (lease: Lease<In, Out>) => Channel<In, Out> | undefined;
  /** A lease that was asked for is there. */
  readonly onLease: (lease: Lease<In, Out>) => void;
}

/** What it works with. */
export interface ByEndpointParts<In, Out> {
  readonly source: LeaseSource<In, Out>;
  readonly members: Members<In, Out>;
  readonly balancer: Balancer<PoolMember<In, Out>>;
  readonly waiters: Waiters<Channel<In, Out>, Call<In, Out>>;
}

/** See the file's comment. */
export class ByEndpoint<In, Out> {
  readonly #parts: ByEndpointParts<In, Out>;
  readonly #owner: ByEndpointOwner<In, Out>;
  readonly #places: WeakMap<PoolMember<In, Out>, Place<In, Out>> = new WeakMap();
  // Where somebody waits, or a lease is asked for.
  readonly #awaited: Set<Place<In, Out>> = new Set();
  #asking = 0;

  constructor(parts: ByEndpointParts<In, Out>, owner: ByEndpointOwner<In, Out>) {
    this.#parts = parts;
    this.#owner = owner;
  }

  /** Leases that are asked for at one endpoint each. */
  get asking(): number {
    return this.#asking;
  }

  /** Whether somebody waits for an endpoint to which no socket leads: if there is no place for one, another must go. */
  get isStarving(): boolean {
    for (const { channels, pinned } of this.#awaited) if (pinned > 0 && channels.length === 0) return true;
    return false;
  }

  placeOf(member: PoolMember<In, Out>): Place<In, Out> {
    let place = this.#places.get(member);
    if (place === undefined) {
      place = new Place(member);
      this.#places.set(member, place);
    }
    return place;
  }

  /** The channel on which a call is to fly, or the endpoint it is to wait for; neither: the first one with room will do. */
  find(call: Call<In, Out>): Channel<In, Out> | Place<In, Out> | undefined {
    if (call.bounds.key !== undefined) return this.#findFor(call);
    const { balancer, members, waiters } = this.#parts;
    // Nobody passes over those who would go anywhere.
    if (waiters.size > waiters.pinned) return undefined;
    const wish = wishOf(call);
    const now = call.triedAt;
    const picked = balancer.pick(now, wish);
    if (picked === undefined) return undefined;
    const place = this.placeOf(picked);
    // One that has stopped answering would take one socket after the other.
    const way = this.#isSilent(place) ? undefined : this.#wayTo(place);
    if (way !== undefined) return way;
    if (this.#isSilent(place)) members.forgo(picked);
    else members.missing(picked, now);
    const other = balancer.pick(now, { avoid: wish?.avoid, accept: this.#serves });
    const detour = other === undefined ? undefined : this.#wayTo(this.placeOf(other));
    return detour ?? this.#owner.lastResort(undefined);
  }

  /** One with a key, of which only one endpoint is any good, as long as there is it. */
  #findFor(call: Call<In, Out>): Channel<In, Out> | Place<In, Out> | undefined {
    const place = this.#pinOf(call);
    if (place === undefined || place.pinned > 0) return place;
    return this.#wayTo(place) ?? this.#owner.lastResort(place.channels) ?? place;
  }

  /** Where a second try flies: on a socket to another endpoint, else on another one to the same; none: a lease must be asked for. */
  apartFrom(call: Call<In, Out>, first: Flight): Channel<In, Out> | undefined {
    const { balancer, members } = this.#parts;
    const wish = wishOf(call);
    if (wish?.key !== undefined) {
      const member = members.targetOf(wish);
      return member === undefined ? undefined : this.#fitAt(this.placeOf(member), first);
    }
    const avoid = wish?.avoid;
    const accept = (member: PoolMember<In, Out>): boolean =>
      (member !== avoid && member.resting.length > 0) ||
      this.#fitAt(this.placeOf(member), first) !== undefined;
    const picked = balancer.pick(call.triedAt, { avoid, accept });
    if (picked === undefined) return undefined;
    const found = this.#fitAt(this.placeOf(picked), first);
    if (found === undefined) members.forgo(picked);
    return found;
  }

  // ---- what an endpoint has ------------------------------------------------------------------------------

  readonly #serves = (member: PoolMember<In, Out>): boolean => {
    const place = this.placeOf(member);
    if (this.#fitAt(place) !== undefined) return true;
    return !this.#isSilent(place) && (member.resting.length > 0 || this.#isExpected(place));
  };

  /** A channel with room, or one of a socket at rest; the endpoint itself when that must be checked first. */
  #wayTo(place: Place<In, Out>): Channel<In, Out> | Place<In, Out> | undefined {
    const channel = this.#fitAt(place);
    if (channel !== undefined) return channel;
    if (place.member.resting.length === 0) return this.#isExpected(place) ? place : undefined;
    const lease = this.#parts.source.atOnce({ to: place.member });
    if (lease !== undefined) return this.#owner.open(lease);
    place.isExpected = true;
    return place;
  }

  #fitAt({ channels }: Place<In, Out>, but?: Flight): Channel<In, Out> | undefined {
    const { isFit, maxInFlight } = this.#owner;
    for (const channel of channels) {
      if (channel === but || channel.inFlight >= maxInFlight) continue;
      // Asked once for all calls of a turn: what makes a channel unfit seldom changes within one.
      if (channel.hasUnsent || isFit(channel)) return channel;
    }
    return undefined;
  }

  #isSilent({ channels }: Place<In, Out>): boolean {
    return channels.some((channel) => this.#owner.isSilent(channel));
  }

  /** Whether one more may wait for what is being checked there. */
  #isExpected({ asks, isExpected, pinned }: Place<In, Out>): boolean {
    return isExpected && pinned < Math.max(1, asks.length) * this.#owner.maxInFlight;
  }

  // ---- who waits for one endpoint ------------------------------------------------------------------------

  /** A call is about to wait there: see {@link ask}. */
  await(place: Place<In, Out>): void {
    this.#awaited.add(place);
  }

  /** Where alone a call may fly, if that is so. */
  #pinOf(call: Call<In, Out>): Place<In, Out> | undefined {
    if (call.bounds.key === undefined) return undefined;
    const member = this.#parts.members.targetOf(wishOf(call));
    return member === undefined ? undefined : this.placeOf(member);
  }

  /** A key's endpoint may be another one by now; whoever has no key has waited long enough for the one that was picked. */
  repin(): void {
    for (const place of this.#awaited) place.isExpected = false;
    this.#parts.waiters.repin((call) => {
      const place = this.#pinOf(call);
      if (place !== undefined) this.#awaited.add(place);
      return place;
    });
  }

  /** Asks for as many leases at each endpoint as those who wait for it would fill; for one at least, whatever there is room for. */
  ask(): void {
    for (const place of this.#awaited) {
      const useful = this.#useful(place);
      while (place.asks.length < useful && (this.#owner.hasRoom() || isBare(place))) this.#askAt(place);
      if (place.pinned === 0 && place.asks.length === 0) this.#awaited.delete(place);
    }
  }

  #askAt(place: Place<In, Out>): void {
    const ask = new AbortController();
    place.asks.push(ask);
    this.#asking += 1;
    const bounds = { timeoutMs: Number.POSITIVE_INFINITY, signal: ask.signal };
    this.#parts.source.acquire(bounds, { to: place.member }).then(
      (lease) => {
        this.#strike(place, ask);
        // It has left, or can't be dialed: whoever waits for it would wait for ever.
        if (lease.member !== place.member) this.repin();
        this.#owner.onLease(lease);
      },
      (error: unknown) => {
        if (this.#strike(place, ask)) this.#onRefused(place, error);
      },
    );
  }

  /** Returns whether it was still wanted. */
  #strike(place: Place<In, Out>, ask: AbortController): boolean {
    const at = place.asks.indexOf(ask);
    if (at < 0) return false;
    place.asks.splice(at, 1);
    this.#asking -= 1;
    if (place.asks.length === 0) place.isExpected = false;
    return true;
  }

  /** Takes back what was asked for and would not be filled. As long as anybody waits for any endpoint, all of it would. */
  trim(): void {
    const { waiters } = this.#parts;
    if (waiters.size > waiters.pinned) return;
    for (const place of this.#awaited) {
      while (place.asks.length > this.#useful(place)) {
        place.asks.pop()?.abort();
        this.#asking -= 1;
      }
    }
  }

  #useful({ pinned }: Place<In, Out>): number {
    return Math.ceil(pinned / this.#owner.maxInFlight);
  }

  /**
   * Whoever still has no other endpoint to go to is told; the others wait for it, or elsewhere. Leases are asked for anew at
   * the next look: when they are refused at once, as by a pool that closes, nothing else would ever happen.
   */
  #onRefused(place: Place<In, Out>, error: unknown): void {
    this.repin();
    if (!isBare(place)) return;
    for (const waiter of [...this.#parts.waiters.inOrder()]) {
      if (waiter.pin === place) waiter.reject(copyOf(error));
    }
  }
}

/** Nothing will serve those who wait for it. */
function isBare<In, Out>({ asks, channels }: Place<In, Out>): boolean {
  return channels.length === 0 && asks.length === 0;
}

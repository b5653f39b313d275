/**
 * The endpoints of one pool: to which one the next dial goes, and whose socket is lent next. With one endpoint nothing
 * is chosen; with many, a balancer says who deserves the next caller, and what it is told of is what the pool sees:
 * dials, leases, replies, lost sockets.
 *
 * What becomes of the sockets of an endpoint that left or failed is the roster's business.
 */
import type { Balancer } from '../balance/balancer.ts';
import type { Clock } from '../clock.ts';
import type { PulsepoolError } from '../errors.ts';
import type { CloseReason } from '../transport/close-reason.ts';
import type { DialTargets } from './opener.ts';
import type { PoolMember } from './pool-member.ts';
import { MemberShelf, Shelf } from './shelf.ts';
import type { Slot } from './slot.ts';

/** What a caller would like of the socket it gets. */
export interface Wish<In, Out> {
  /** Callers with one key go to one endpoint, as long as it serves. Others are no good. */
  readonly key?: string | undefined;
  /** Any other endpoint is better: an earlier attempt failed there. */
  readonly avoid?: PoolMember<In, Out> | undefined;
}

/** Whom the members tell. */
export interface MembersOwner<In, Out> {
  /** Somebody was to go to it, and it has no socket at rest: one more would be welcome. */
  readonly onMissing: (member: PoolMember<In, Out>) => void;
}

/** See the file's comment. */
export class Members<In, Out> implements DialTargets<In, Out> {
  readonly shelf: Shelf<In, Out>;
  /** None with a single endpoint. */
  readonly balancer: Balancer<PoolMember<In, Out>> | undefined;
  readonly #clock: Clock;
  // Dialed while no endpoint is known: that is, they are asked for.
  readonly #unknown: PoolMember<In, Out>;
  #list: PoolMember<In, Out>[];
  #lastFailure: PulsepoolError | undefined;
  #onMissing: (member: PoolMember<In, Out>) => void = () => undefined;

  /** `first`: the single endpoint, or with a balancer what stands for all while none is known. */
  constructor(first: PoolMember<In, Out>, balancer: Balancer<PoolMember<In, Out>> | undefined, clock: Clock) {
    this.#unknown = first;
    this.balancer = balancer;
    this.#clock = clock;
    this.#list = balancer === undefined ? [first] : [];
    this.shelf = balancer === undefined ? new Shelf() : new MemberShelf();
  }

  /** Endpoints that are known. */
  get size(): number {
    return this.#list.length;
  }

  get list(): readonly PoolMember<In, Out>[] {
    return this.#list;
  }

  /** Whether it stands for all endpoints, of which none is known. */
  isUnknown(member: PoolMember<In, Out>): boolean {
    return this.balancer !== undefined && member === this.#unknown;
  }

  /** Who hears that a socket is missing. */
  set onMissing(tell: MembersOwner<In, Out>['onMissing']) {
    this.#onMissing = tell;
  }

  /** A new one, or one that is back. */
  add(member: PoolMember<In, Out>, now: number): void {
    this.#list = [...this.#list, member];
    this.balancer?.add(member, now);
  }

  /** It is no longer one of them: nobody is sent there any more. */
  remove(member: PoolMember<In, Out>, now: number): void {
    this.#list = this.#list.filter((one) => one !== member);
    member.isGone = true;
    this.balancer?.remove(member, now);
  }

  // ---- dials ---------------------------------------------------------------------------------------------

  /** The newest thing known about each of them is a failure. */
  get isFailing(): boolean {
    if (this.#list.length === 0) return this.#unknown.backoff.isFailing;
    for (const { backoff } of this.#list) if (!backoff.isFailing) return false;
    return true;
  }

  /** Why the last dial to any of them failed, however long ago. */
  get lastFailure(): PulsepoolError | undefined {
    return this.#lastFailure;
  }

  waitMs(now: number): number {
    if (this.#list.length === 0) return this.#unknown.backoff.waitMs(now);
    let least = Number.POSITIVE_INFINITY;
    for (const { backoff } of this.#list) {
      const wait = backoff.waitMs(now);
      if (wait === 0) return 0;
      if (wait < least) least = wait;
    }
    return least;
  }

  /**
   * The one that is asked for, else the one with the fewest sockets for its weight; those that fail only when no other
   * may be dialed.
   *
   * Invariant: as long as one of them does not fail, there is one to be dialed. Else whoever looked for one would look
   * again at once, for ever.
   */
  toDial(now: number): PoolMember<In, Out> | undefined {
    const { balancer } = this;
    const [only] = this.#list.length === 0 ? [this.#unknown] : this.#list;
    if (only === undefined || balancer === undefined || this.#list.length < 2) {
      return only !== undefined && mayDial(only, now) ? only : undefined;
    }
    let best: PoolMember<In, Out> | undefined;
    let bestRank = Number.POSITIVE_INFINITY;
    for (const member of this.#list) {
      if (!mayDial(member, now)) continue;
      const rank = this.#rank(member, balancer, now);
      if (rank >= bestRank) continue;
      best = member;
      bestRank = rank;
    }
    return best;
  }

  #rank(member: PoolMember<In, Out>, balancer: Balancer<PoolMember<In, Out>>, now: number): number {
    const sockets = member.open + member.dialing;
    // So many sockets has none: classes, in steps of a million.
    const share = balancer.share(member, now);
    const load = share > 0 ? Math.min(sockets / share, 999_999) : 999_999;
    if (member.wanted > member.dialing) return load - 2e6;
    if (member.backoff.isFailing) return load + 2e6;
    return share > 0 ? load : load + 1e6;
  }

  onDial(member: PoolMember<In, Out>): void {
    member.dialing += 1;
  }

  onDialed(member: PoolMember<In, Out>): void {
    member.dialing -= 1;
  }

  onDialFailed(member: PoolMember<In, Out>, error: PulsepoolError, now: number): void {
    this.#lastFailure = error;
    member.wanted = 0;
    if (!this.isUnknown(member)) this.balancer?.failed(member, 'dial', now);
  }

  onOpened(member: PoolMember<In, Out>, now: number): void {
    member.open += 1;
    if (member.wanted > 0) member.wanted -= 1;
    this.balancer?.opened(member, now);
  }

  /** A socket of its has ended. `wasLeased`: somebody had it. */
  onLeft(member: PoolMember<In, Out>, wasLeased: boolean, reason: CloseReason, now: number): void {
    member.open -= 1;
    if (reason === 'heartbeat') this.balancer?.failed(member, 'heartbeat', now);
    else if (wasLeased && ITS_FAULT.has(reason)) this.balancer?.failed(member, 'request', now);
  }

  /** A socket was lost that should have lived: as good as a failed dial, or it would be dialed for ever. */
  onLoss(member: PoolMember<In, Out>, error: PulsepoolError, openedAt: number, now: number): void {
    this.#lastFailure = error;
    member.backoff.failed(error, openedAt, now);
  }

  // ---- leases --------------------------------------------------------------------------------------------

  /**
   * The slot that is to be lent next, still on the shelf. Nobody waits for a dial to one endpoint while another one has a
   * socket at rest; but the one that deserved the caller gets a socket for the next.
   */
  top(wish?: Wish<In, Out> | undefined): Slot<In, Out> | undefined {
    const { balancer, shelf } = this;
    if (balancer === undefined || shelf.size === 0) return shelf.top;
    const now = this.#clock.now();
    const picked = balancer.pick(now, wish);
    if (picked === undefined) return undefined;
    const slot = picked.resting.at(-1);
    if (slot !== undefined) return slot;
    this.#onMissing(picked);
    if (wish?.key !== undefined) return undefined;
    return balancer.pick(now, { avoid: wish?.avoid, accept: hasResting })?.resting.at(-1);
  }

  /** A reply of its came after so long, in ms. */
  onReply(member: PoolMember<In, Out>, latencyMs: number, now: number): void {
    this.balancer?.succeeded(member, latencyMs, now);
  }
}

// What says something about the server, and not about the caller.
const ITS_FAULT: ReadonlySet<CloseReason> = new Set([
  'peer-closed',
  'peer-reset',
  'timeout',
  'protocol',
  'unsolicited',
]);

function hasResting<In, Out>({ resting }: PoolMember<In, Out>): boolean {
  return resting.length > 0;
}

/** While it fails, one dial at a time, and not before its time. */
function mayDial<In, Out>({ backoff, isProbing }: PoolMember<In, Out>, now: number): boolean {
  return !backoff.isFailing ? backoff.waitMs(now) === 0 : !isProbing && backoff.waitMs(now) === 0;
}

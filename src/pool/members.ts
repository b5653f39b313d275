/**
 * The endpoints of one pool: to which one the next dial goes, and whose socket is lent next. With one endpoint nothing
 * is chosen; with many, a balancer says who deserves the next caller, and what it is told of is what the pool sees:
 * dials, leases, replies, lost sockets.
 *
 * Which endpoints there are is found out elsewhere; what becomes of the sockets of one that left or failed is the
 * roster's business.
 */
import type { Balancer } from '../balance/balancer.ts';
import type { MemberPlace } from '../balance/member.ts';
import type { Clock } from '../clock.ts';
import type { ErrorCode, PulsepoolError } from '../errors.ts';
import type { CloseReason } from '../transport/close-reason.ts';
import type { DialTargets } from './opener.ts';
import type { PoolMember } from './pool-member.ts';
import { MemberShelf, Shelf } from './shelf.ts';
import type { Slot } from './slot.ts';
import type { Pin } from './waiter-list.ts';

/** What a caller would like of the socket it gets. */
export interface Wish<In, Out> {
  /** Callers with one key go to one endpoint, as long as it serves. Others are no good. */
  readonly key?: string | undefined;
  /** Any other endpoint is better: an earlier attempt failed there. */
  readonly avoid?: PoolMember<In, Out> | undefined;
  /** This one and no other. */
  readonly to?: PoolMember<In, Out> | undefined;
}

/** Whom the members tell, and ask. */
export interface MembersOwner<In, Out> {
  /** Somebody was to go to it, and it has no socket at rest: one more would be welcome. */
  readonly onMissing: (member: PoolMember<In, Out>) => void;
  /** Who must have a socket of which endpoint may be another matter now: one has begun to fail, or to serve again. */
  readonly onTurned: () => void;
  /** How many dials there is a use for, wherever they lead. */
  readonly wantedAnywhere: () => number;
  /** Where alone the one may be served whose turn it is, if that is so. */
  readonly turn: () => Pin | undefined;
}

const NOBODY = {
  onMissing: () => undefined,
  onTurned: () => undefined,
  wantedAnywhere: () => 1,
  turn: () => undefined,
};

/** See the file's comment. */
export class Members<In, Out> implements DialTargets<In, Out> {
  readonly shelf: Shelf<In, Out>;
  /** None with a single endpoint. */
  readonly balancer: Balancer<PoolMember<In, Out>> | undefined;
  readonly #clock: Clock;
  // Dialed while no endpoint is known: that is, they are asked for.
  readonly #unknown: PoolMember<In, Out>;
  #list: readonly PoolMember<In, Out>[];
  readonly #leaving: WeakMap<PoolMember<In, Out>, AbortController> = new WeakMap();
  #lastFailure: PulsepoolError | undefined;
  #owner: MembersOwner<In, Out> = NOBODY;
  // Dials that take so long that another endpoint is tried meanwhile.
  #slow = 0;
  // Aborted when one has come, or they may be dialed again: whoever waits for a back-off looks again.
  #news: AbortController = new AbortController();
  #isDenied = false;

  /** `first`: the single endpoint, or with a balancer what stands for all while none is known. */
  constructor(first: PoolMember<In, Out>, balancer: Balancer<PoolMember<In, Out>> | undefined, clock: Clock) {
    this.#unknown = first;
    this.balancer = balancer;
    this.#clock = clock;
    this.#list = balancer === undefined ? [first] : [];
    this.shelf = balancer === undefined ? new Shelf() : new MemberShelf();
  }

  /** Their name was confirmed to be gone: their sockets serve on, and nothing new is dialed. */
  get isDenied(): boolean {
    return this.#isDenied;
  }

  set isDenied(isDenied: boolean) {
    if (this.#isDenied && !isDenied) this.#tellNews();
    this.#isDenied = isDenied;
  }

  /** Aborted when there is another endpoint to dial; none where that can't be. */
  get news(): AbortSignal | undefined {
    return this.balancer === undefined ? undefined : this.#news.signal;
  }

  #tellNews(): void {
    this.#news.abort();
    this.#news = new AbortController();
  }

  /** Endpoints that are known. */
  get size(): number {
    return this.#list.length;
  }

  get list(): readonly PoolMember<In, Out>[] {
    return this.#list;
  }

  /** Whether it stands for all endpoints while none may be dialed. */
  isUnknown(member: PoolMember<In, Out>): boolean {
    return this.balancer !== undefined && member === this.#unknown;
  }

  /** Whether none may be dialed: none is known, or their name is gone. */
  get isBlind(): boolean {
    return this.#list.length === 0 || this.isDenied;
  }

  /** Who is told, and asked. */
  set owner(owner: MembersOwner<In, Out>) {
    this.#owner = owner;
  }

  /** A new one, or one that is back. */
  add(member: PoolMember<In, Out>, now: number): void {
    this.#list = [...this.#list, member];
    const leaving = new AbortController();
    this.#leaving.set(member, leaving);
    member.leaving = leaving.signal;
    this.balancer?.add(member, now);
    this.#tellNews();
  }

  /** It is no longer one of them: nobody is sent there any more. */
  remove(member: PoolMember<In, Out>, now: number): void {
    this.#list = this.#list.filter((one) => one !== member);
    member.isGone = true;
    member.wanted = 0;
    this.balancer?.remove(member, now);
    this.#leaving.get(member)?.abort();
  }

  /** Its weight, tier or zone may be another one from now on. */
  change(member: PoolMember<In, Out>, place: MemberPlace, now: number): void {
    const { tier, weight, zone } = member;
    if (place.weight === weight && place.tier === tier && place.zone === zone) return;
    const { tier: newTier = 0, weight: newWeight = 1, zone: newZone } = place;
    this.balancer?.change(member, { weight: newWeight, tier: newTier, zone: newZone }, now);
  }

  // ---- dials ---------------------------------------------------------------------------------------------

  /** The newest thing known about each of them is a failure. */
  get isFailing(): boolean {
    if (this.isBlind) return this.#unknown.backoff.isFailing;
    for (const { backoff } of this.#list) if (!backoff.isFailing) return false;
    return true;
  }

  /** Why the last dial to any of them failed, however long ago. */
  get lastFailure(): PulsepoolError | undefined {
    return this.#lastFailure;
  }

  /** All of them fail, and none is just being tried. */
  get isOutOfReach(): boolean {
    return this.isFailing && (this.isBlind || this.#list.every(({ dialing }) => dialing === 0));
  }

  waitMs(now: number): number {
    if (this.isBlind) return this.#unknown.backoff.waitMs(now);
    let least = Number.POSITIVE_INFINITY;
    for (const { backoff } of this.#list) {
      const wait = backoff.waitMs(now);
      if (wait === 0) return 0;
      if (wait < least) least = wait;
    }
    return least;
  }

  /** How many dials there is a use for beside those that may lead anywhere. */
  needed(now: number): number {
    if (this.balancer === undefined || this.isBlind) return 0;
    let sum = this.#spareSlow(now);
    for (const member of this.#list) if (member.needs > 0 && mayDial(member, now)) sum += member.needs;
    return sum;
  }

  /** Slow dials that may lead anywhere, as long as there is another endpoint to try meanwhile. */
  #spareSlow(now: number): number {
    if (this.#slow === 0 || !this.#list.some((one) => one.slow === 0 && mayDial(one, now))) return 0;
    let sum = 0;
    for (const member of this.#list) sum += slowExtra(member);
    return sum;
  }

  /** So many dials more than the limit may run: see `onSlow`. */
  get slow(): number {
    return this.#spareSlow(this.#clock.now());
  }

  /**
   * The one that is asked for, else the one with the fewest sockets for its weight; those that fail, or take long, only
   * when no other may be dialed, and of them the one that was dialed longest ago: the first would hide the last.
   *
   * Invariant: as long as one of them does not fail and more is wanted than runs, there is one to be dialed. Else whoever
   * looked for one would look again at once, for ever.
   */
  toDial(now: number): PoolMember<In, Out> | undefined {
    const { balancer } = this;
    const [only] = this.isBlind ? [this.#unknown] : this.#list;
    if (only === undefined || balancer === undefined || this.isBlind || this.#list.length < 2) {
      return only !== undefined && mayDial(only, now) ? only : undefined;
    }
    const isFree = this.#owner.wantedAnywhere() > this.#spent();
    const turn = this.#owner.turn();
    let best: PoolMember<In, Out> | undefined;
    let bestRank = Number.POSITIVE_INFINITY;
    let leastOrder = Number.POSITIVE_INFINITY;
    for (const member of this.#list) {
      if (!mayDial(member, now) || !(isFree || member.needs > member.dialing)) continue;
      const share = balancer.share(member, now);
      const rank = member.unmet > member.dialing && member === turn ? FIRST_RANK : rankOf(member, share);
      const order = rank === LAST_RANK ? member.dialedAt : loadOf(member, share);
      if (rank > bestRank || (rank === bestRank && order > leastOrder)) continue;
      // Equals by lot: with the same order in every process, all of them would begin with the same one.
      if (rank === bestRank && order === leastOrder && best !== undefined && member.lot >= best.lot) continue;
      best = member;
      bestRank = rank;
      leastOrder = order;
    }
    return best;
  }

  /** Dials under way that will serve whoever may go anywhere. */
  #spent(): number {
    let sum = 0;
    for (const member of this.#list) sum += Math.max(0, member.dialing - member.needs) - slowExtra(member);
    return sum;
  }

  onDial(member: PoolMember<In, Out>): void {
    member.dialing += 1;
    member.dialedAt = this.#clock.now();
  }

  onDialed(member: PoolMember<In, Out>, wasSlow: boolean, hasOpened: boolean): void {
    member.dialing -= 1;
    if (hasOpened) member.arriving += 1;
    if (!wasSlow) return;
    member.slow -= 1;
    this.#slow -= 1;
  }

  /** It is known to the pool from now on. */
  onArrived(member: PoolMember<In, Out>): void {
    member.arriving -= 1;
  }

  onSlow(member: PoolMember<In, Out>): void {
    member.slow += 1;
    this.#slow += 1;
  }

  onDialFailed(member: PoolMember<In, Out>, error: PulsepoolError, startedAt: number, now: number): void {
    this.#lastFailure = error;
    member.wanted = 0;
    if (this.balancer === undefined) return;
    if (!this.isUnknown(member)) this.balancer.failed(member, 'dial', now, startedAt);
    this.#owner.onTurned();
  }

  onOpened(member: PoolMember<In, Out>, now: number): void {
    member.open += 1;
    member.wanted = 0;
    if (this.balancer === undefined) return;
    this.balancer.opened(member, now);
    // If more than a dial is to be proved, the next caller does that, on this socket.
    this.balancer.forgo(member, now);
    this.#owner.onTurned();
  }

  /** A socket of its has ended. `leasedAt`: since when somebody had it. */
  onLeft(
    member: PoolMember<In, Out>,
    leasedAt: number | undefined,
    reason: CloseReason,
    error: PulsepoolError | undefined,
    now: number,
  ): void {
    member.open -= 1;
    if (this.balancer === undefined) return;
    if (reason === 'heartbeat') this.balancer.failed(member, 'heartbeat', now);
    else if (leasedAt !== undefined && isItsFault(reason, error, now - leasedAt)) {
      this.balancer.failed(member, 'request', now, leasedAt);
    }
  }

  /** A socket was lost that should have lived: as good as a failed dial, or it would be dialed for ever. */
  onLoss(member: PoolMember<In, Out>, error: PulsepoolError, openedAt: number, now: number): void {
    this.#lastFailure = error;
    // In whole ms, rounded down. What opened in the very ms of the last failure, after it, is news: else a server that
    // hangs up at once would be dialed for as long as that ms lasts.
    member.backoff.failed(error, Math.min(now, openedAt + 1), now);
    if (this.balancer !== undefined) this.#owner.onTurned();
  }

  // ---- leases --------------------------------------------------------------------------------------------

  /**
   * The slot that is to be lent next, still on the shelf. Nobody waits for a dial to one endpoint while another one has a
   * socket at rest; but the one that deserved the caller gets a socket for the next.
   */
  top(wish?: Wish<In, Out> | undefined): Slot<In, Out> | undefined {
    const { balancer, shelf } = this;
    if (balancer === undefined || shelf.size === 0) return shelf.top;
    const target = this.#targetOf(wish, mayServe);
    if (target !== undefined) {
      const slot = target.resting.at(-1);
      // It was this caller's pick that is to find out whether it is well again.
      if (slot === undefined && isOut(target)) this.missing(target, this.#clock.now());
      return slot;
    }
    const now = this.#clock.now();
    const picked = balancer.pick(now, wish);
    const slot = picked?.resting.at(-1);
    if (slot !== undefined) return slot;
    if (picked !== undefined) this.missing(picked, now);
    return balancer.pick(now, { avoid: wish?.avoid, accept: hasResting })?.resting.at(-1) ?? shelf.top;
  }

  /** Where alone such a caller may wait, if that is so. While it can't be dialed, a key waits for its next one. */
  targetOf(wish: Wish<In, Out> | undefined): PoolMember<In, Out> | undefined {
    return this.#targetOf(wish, isReachable);
  }

  #targetOf(
    wish: Wish<In, Out> | undefined,
    accept: (member: PoolMember<In, Out>) => boolean,
  ): PoolMember<In, Out> | undefined {
    const { balancer } = this;
    if (wish === undefined || balancer === undefined || this.isBlind) return undefined;
    if (wish.to !== undefined) return wish.to.isGone || !accept(wish.to) ? undefined : wish.to;
    if (wish.key === undefined) return undefined;
    const now = this.#clock.now();
    const { avoid, key } = wish;
    const rightful = balancer.pick(now, { key, avoid });
    if (rightful === undefined || accept(rightful)) return rightful;
    // Where all callers have keys, nobody else would find out that it can be dialed again.
    this.missing(rightful, now);
    return balancer.pick(now, { key, avoid, accept });
  }

  /**
   * One that is out and due to be tried is missing a socket, if it has none. Where every socket is always taken nobody is
   * sent anywhere, and nothing else would ever try it.
   */
  tryOut(now: number): void {
    const due = this.balancer?.pick(now, { accept: isOut });
    if (due === undefined) return;
    if (due.resting.length > 0) this.forgo(due);
    else this.missing(due, now);
  }

  /** Somebody was to go there and there was no socket at rest. */
  missing(member: PoolMember<In, Out>, now: number): void {
    if (member.dialing > 0) return;
    if (member.wanted === 0 && mayDial(member, now)) this.#owner.onMissing(member);
    // Nothing will come of it that could be told.
    if (member.wanted === 0) this.balancer?.forgo(member, now);
  }

  /** How many of those who wait for one endpoint have no socket of its to hope for. */
  get unmet(): number {
    let sum = 0;
    for (const { unmet } of this.#list) sum += unmet;
    return sum;
  }

  /** How many sockets are checked for those who wait for one endpoint; with `isPinged`, or have their first ping out there. */
  hopes(isPinged: boolean): number {
    let sum = 0;
    for (const { checked, pinged, pinned } of this.#list) {
      if (pinned > 0) sum += Math.min(pinned, checked + (isPinged ? pinged : 0));
    }
    return sum;
  }

  /** A reply of its came, after so long in ms if that is known. */
  onReply(member: PoolMember<In, Out>, latencyMs: number | undefined, now: number): void {
    this.balancer?.succeeded(member, latencyMs, now);
  }

  /** The user's hook has failed on a new socket of its, which is as bad as a request that fails. */
  onHookFailed(member: PoolMember<In, Out>, now: number): void {
    this.balancer?.failed(member, 'request', now);
  }

  /** A ping was answered. */
  onPong(member: PoolMember<In, Out>, now: number): void {
    this.balancer?.beat(member, now);
  }

  /** Nothing came of a caller who was to go there, or of a lease. */
  forgo(member: PoolMember<In, Out>): void {
    this.balancer?.forgo(member, this.#clock.now());
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

// Limits of the pool's own, and not of a caller's.
const OWN_LIMITS: ReadonlySet<ErrorCode | undefined> = new Set([
  'ERR_READ_TIMEOUT',
  'ERR_WRITE_TIMEOUT',
  'ERR_FRAME_TIMEOUT',
]);

// A caller who gives up sooner says more about himself than about the server. As for the breaker.
const PATIENT_MS = 1_000;

function isItsFault(reason: CloseReason, error: PulsepoolError | undefined, heldMs: number): boolean {
  if (!ITS_FAULT.has(reason)) return false;
  return reason !== 'timeout' || OWN_LIMITS.has(error?.code) || heldMs >= PATIENT_MS;
}

function hasResting<In, Out>({ resting }: PoolMember<In, Out>): boolean {
  return resting.length > 0;
}

function isOut<In, Out>({ record }: PoolMember<In, Out>): boolean {
  return !record.isIn;
}

function isReachable<In, Out>({ backoff }: PoolMember<In, Out>): boolean {
  return !backoff.isFailing;
}

/** Dials may fail while its sockets serve: nobody may need another dial for long. */
function mayServe<In, Out>({ backoff, resting }: PoolMember<In, Out>): boolean {
  return !backoff.isFailing || resting.length > 0;
}

// Whose turn it is waits for it. Were another one dialed, its socket would have to make room again.
const FIRST_RANK = -1;
// Those that fail, or take long.
const LAST_RANK = 3;

function rankOf<In, Out>({ backoff, dialing, needs, slow }: PoolMember<In, Out>, share: number): number {
  if (needs > dialing) return 0;
  if (backoff.isFailing || slow > 0) return LAST_RANK;
  return share > 0 ? 1 : 2;
}

function loadOf<In, Out>({ arriving, dialing, open }: PoolMember<In, Out>, share: number): number {
  return share > 0 ? (open + arriving + dialing) / share : Number.MAX_VALUE;
}

/** Of its dials that may lead anywhere, those that take long. */
function slowExtra<In, Out>({ dialing, needs, slow }: PoolMember<In, Out>): number {
  return Math.min(slow, Math.max(0, dialing - needs));
}

/** While it fails, one dial at a time, and not before its time. */
function mayDial<In, Out>({ backoff, isProbing }: PoolMember<In, Out>, now: number): boolean {
  return !backoff.isFailing ? backoff.waitMs(now) === 0 : !isProbing && backoff.waitMs(now) === 0;
}

/**
 * Where the sockets of a pool lead, once that is no longer as it should be: those to an endpoint that left or was put out
 * go, those whose local address has gone too, and when one endpoint has too few while the pool is full, others give up
 * some. How one socket is replaced by another is the retirement's business, which endpoint is dialed the members'.
 */
import type { Clock } from '../clock.ts';
import type { PoolMember } from './pool-member.ts';
import type { PoolState } from './pool-state.ts';
import type { Slot, StaleReason } from './slot.ts';

/** Who carries it out. */
export interface PlacementOwner<In, Out> {
  /** Ends an idle slot that is in good health. */
  readonly end: (slot: Slot<In, Out>, reason: StaleReason) => void;
  /** A slot is to be replaced, at most `perSecond` of them. */
  readonly replace: (slot: Slot<In, Out>, reason: StaleReason, perSecond: number) => void;
  /** It need not be replaced after all. */
  readonly spare: (slot: Slot<In, Out>) => void;
  /** Some are to be replaced. */
  readonly onReplaced: () => void;
}

// Failback is bounded, so that a server that has just come back need not shake hands with everybody at once. As reset().
const PER_SECOND = 10;

// An endpoint whose sockets are within a tenth of its share has enough: moving one costs a handshake.
const SLACK = 0.1;

/** See the file's comment. */
export class Placement<In, Out> {
  readonly #state: PoolState<In, Out>;
  readonly #clock: Clock;
  readonly #owner: PlacementOwner<In, Out>;

  constructor(state: PoolState<In, Out>, clock: Clock, owner: PlacementOwner<In, Out>) {
    this.#state = state;
    this.#clock = clock;
    this.#owner = owner;
  }

  /** Its sockets serve nobody from now on: those at rest end, the others when they come back. */
  vacate(member: PoolMember<In, Out>, reason: StaleReason): void {
    for (const slot of this.#state.slots) if (slot.member === member) this.#endSoon(slot, reason);
  }

  /** They can reach nobody any more, but for what may come back. */
  vacateLocal(localAddresses: ReadonlySet<string>): void {
    for (const slot of this.#state.slots) {
      if (localAddresses.has(slot.localAddress)) this.#endSoon(slot, 'network');
    }
  }

  /** It has moved: its sockets to other addresses are replaced, each after its successor has opened. */
  move(member: PoolMember<In, Out>, addresses: ReadonlySet<string>): void {
    let count = 0;
    for (const slot of this.#state.slots) {
      // One that closes already is not replaced twice.
      if (slot.member !== member || addresses.has(slot.address) || !isReplaceable(slot)) continue;
      this.#owner.replace(slot, 'removed', PER_SECOND);
      count += 1;
    }
    if (count > 0) this.#owner.onReplaced();
  }

  /**
   * In a full pool nothing can be dialed to an endpoint that is new or was restored: those that have too many sockets
   * give up some. With room, sockets follow the callers.
   */
  rebalance(): void {
    const { members, phase, sizes, slots, tally } = this.#state;
    const { balancer } = members;
    if (balancer === undefined || members.size < 2 || phase !== 'serving' || tally.total < sizes.max) return;
    // Where keys say where callers go, shares are not even.
    if (balancer.isKeyed) return;
    this.#spareHeld();
    const now = this.#clock.now();
    const shares = balancer.sharesOf(tally.open, now);
    let lacking = 0;
    for (const [member, share] of shares) {
      if (member.open < share * (1 - SLACK) && !member.backoff.isFailing) lacking += share - member.open;
    }
    if (lacking === 0) return;
    const leaving = new Map<PoolMember<In, Out>, number>();
    for (const { member, staleBy } of slots) {
      if (member === undefined || staleBy === undefined) continue;
      leaving.set(member, (leaving.get(member) ?? 0) + 1);
      if (staleBy === 'rebalanced') lacking -= 1;
    }
    this.#giveUp(lacking, shares, leaving);
  }

  /** One endpoint is to be tried, and there is no place for a socket to it: the one with most gives up one. */
  makeRoom(): void {
    const { members, slots, tally } = this.#state;
    let richest: PoolMember<In, Out> | undefined;
    for (const member of members.list) {
      if (richest === undefined || member.open > richest.open) richest = member;
    }
    // The only socket that works is worth more than an answer.
    if (tally.open < 2) return;
    this.#spareHeld();
    for (const slot of slots) if (slot.staleBy === 'rebalanced') return;
    const slot = this.#replaceable().find((one) => one.member === richest);
    if (slot === undefined) return;
    this.#owner.replace(slot, 'rebalanced', PER_SECOND);
    this.#owner.onReplaced();
  }

  /** Those that were to go and have been held since the last look may be held for ever: others are to go instead. */
  #spareHeld(): void {
    for (const slot of this.#state.slots) {
      if (slot.staleBy === 'rebalanced' && slot.state.name === 'leased' && !slot.mustGo)
        this.#owner.spare(slot);
    }
  }

  /** Those at rest first, then those that were lent last: they will come back first. */
  #replaceable(): Slot<In, Out>[] {
    const heldMs = ({ state }: Slot<In, Out>): number =>
      state.name === 'leased' ? this.#clock.now() - state.lentAt : 0;
    return [...this.#state.slots].filter(isReplaceable).sort((one, other) => heldMs(one) - heldMs(other));
  }

  #giveUp(
    lacking: number,
    shares: ReadonlyMap<PoolMember<In, Out>, number>,
    leaving: ReadonlyMap<PoolMember<In, Out>, number>,
  ): void {
    const surplus = new Map<PoolMember<In, Out>, number>();
    for (const member of this.#state.members.list) {
      const share = shares.get(member) ?? 0;
      const stays = member.open - (leaving.get(member) ?? 0);
      if (stays > share * (1 + SLACK)) surplus.set(member, stays - share);
    }
    let left = lacking;
    for (const slot of this.#replaceable()) {
      if (left <= 0) break;
      const { member } = slot;
      const spare = member === undefined ? 0 : (surplus.get(member) ?? 0);
      if (member === undefined || spare <= 0) continue;
      surplus.set(member, spare - 1);
      left -= 1;
      this.#owner.replace(slot, 'rebalanced', PER_SECOND);
    }
    if (left < lacking) this.#owner.onReplaced();
  }

  #endSoon(slot: Slot<In, Out>, reason: StaleReason): void {
    const { name } = slot.state;
    // One that is being dialed may go on to another endpoint: it is looked at when it has opened.
    if (name === 'dialing' || name === 'closing' || name === 'closed' || slot.mustGo) return;
    slot.staleBy = reason;
    slot.mustGo = true;
    if (name === 'idle') this.#owner.end(slot, reason);
  }
}

function isReplaceable<In, Out>({ mustGo, staleBy, state }: Slot<In, Out>): boolean {
  const isOpen = state.name === 'idle' || state.name === 'leased' || state.name === 'checking';
  return isOpen && !mustGo && staleBy === undefined;
}

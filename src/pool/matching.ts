/**
 * Where not every socket does for every caller: some will have a socket to one endpoint and no other. Which socket is for
 * somebody, and which one has to give up its place because there is none to where somebody must go.
 *
 * It decides; the lender lends and the roster ends. While nobody waits for one endpoint alone, nothing here is asked.
 */
import type { Lease } from './lease.ts';
import type { Wish } from './members.ts';
import type { PoolMember } from './pool-member.ts';
import type { PoolState } from './pool-state.ts';
import type { Slot } from './slot.ts';
import type { Waiters } from './waiters.ts';

/** See the file's comment. */
export class Matching<In, Out> {
  readonly #state: PoolState<In, Out>;
  readonly #waiters: Waiters<Lease<In, Out>, Wish<In, Out>>;

  constructor(state: PoolState<In, Out>, waiters: Waiters<Lease<In, Out>, Wish<In, Out>>) {
    this.#state = state;
    this.#waiters = waiters;
  }

  /** Where alone such a caller may be served. While draining, nothing is opened any more: whatever there is must do. */
  pinOf(wish: Wish<In, Out>): PoolMember<In, Out> | undefined {
    return this.#state.isDraining ? undefined : this.#state.members.targetOf(wish);
  }

  /** One at rest that would do for somebody for whom none of the `checks` is. `top`: whose turn it is for such a caller. */
  next(
    checks: number,
    top: (wish: Wish<In, Out> | undefined) => Slot<In, Out> | undefined,
  ): Slot<In, Out> | undefined {
    const { isDraining, members, shelf } = this.#state;
    const waiters = this.#waiters;
    if (shelf.size === 0) return undefined;
    const hopes = waiters.pinned === 0 ? 0 : members.hopes(false);
    if (waiters.size - waiters.pinned > checks - hopes) {
      for (const { pin, wish } of waiters.inOrder()) {
        if (pin === undefined) return isDraining ? shelf.top : top(wish);
      }
    }
    for (const { checked, pinned, resting } of members.list) {
      if (pinned > checked && resting.length > 0) return resting.at(-1);
    }
    return undefined;
  }

  /** Somebody waits for a socket to an endpoint for which there is no place: the one at rest that gives up its own. */
  get spare(): Slot<In, Out> | undefined {
    for (let slot = this.#state.shelf.bottom; slot !== undefined; slot = slot.above) {
      if (this.isWantedElsewhere(slot)) return slot;
    }
    return undefined;
  }

  /**
   * The one whose turn it is waits for an endpoint to which nothing leads, and there is no place: whoever waits for this
   * socket has to wait a little longer. Else callers with a busy key would keep out those with another one for ever.
   */
  isOwed({ member, uses }: Slot<In, Out>): boolean {
    // What has just been opened serves whom it was opened for.
    if (uses === 0) return false;
    const pin = this.#waiters.head?.pin;
    const { members, sizes, tally } = this.#state;
    if (pin === undefined || pin === member || tally.total < sizes.max) return false;
    if (tally.count('closing') + tally.count('dialing') > 0) return false;
    const target = members.list.find((one) => one === pin);
    return target !== undefined && target.open === 0;
  }

  /** Its place is of more use than the socket, for which nobody waits at its endpoint. */
  isWantedElsewhere({ member }: Slot<In, Out>): boolean {
    const { members, sizes, tally } = this.#state;
    if (tally.total < sizes.max || (member !== undefined && member.pinned > 0)) return false;
    return tally.count('closing') + tally.count('dialing') < members.unmet;
  }
}

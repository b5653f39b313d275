/**
 * What the parts of one pool share: its sizes, its phase, its endpoints, its slots with their counts, the shelf, and its counters.
 * What happens to them is decided elsewhere.
 */
import type { PoolCounts } from '../errors.ts';
import type { Members } from './members.ts';
import type { Shelf } from './shelf.ts';
import type { Sizes } from './sizes.ts';
import { type Slot, SlotTally } from './slot.ts';
import { Counters } from './stats.ts';

/**
 * - `serving`: the usual one
 * - `suspended`: nothing is lent or dialed; callers wait
 * - `draining`: the pool closes: callers who wait are served by what is open, nothing else is opened
 */
export type PoolPhase = 'serving' | 'suspended' | 'draining';

/** See the file's comment. */
export class PoolState<In, Out> {
  readonly slots: Set<Slot<In, Out>> = new Set();
  readonly tally: SlotTally = new SlotTally();
  readonly members: Members<In, Out>;
  readonly shelf: Shelf<In, Out>;
  readonly counters: Counters = new Counters();
  sizes: Sizes;
  phase: PoolPhase = 'serving';

  constructor(sizes: Sizes, members: Members<In, Out>) {
    this.sizes = sizes;
    this.members = members;
    this.shelf = members.shelf;
  }

  get isSuspended(): boolean {
    return this.phase === 'suspended';
  }

  get isDraining(): boolean {
    return this.phase === 'draining';
  }

  /** How many of those at rest are more than the sizes ask for. What goes when its lease ends is as good as gone. */
  get surplus(): number {
    const { min, minIdle } = this.sizes;
    let leaving = 0;
    for (const { mustGo, state } of this.slots) {
      if (mustGo && (state.name === 'leased' || state.name === 'checking')) leaving += 1;
    }
    return Math.min(this.tally.open - leaving - min, this.shelf.size - minIdle);
  }

  /** The counts as users see them. */
  counts(waiting: number): PoolCounts {
    return this.tally.snapshot(waiting);
  }
}

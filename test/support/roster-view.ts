/**
 * A roster as tests look at it: what its parts share, in one place.
 */
import type { Roster } from '../../src/pool/roster.ts';

/** Everything as of now. */
export function viewOf<In, Out>(roster: Roster<In, Out>) {
  const { books, dials, state, waiters } = roster;
  return {
    books,
    dials,
    waiters,
    slots: state.slots,
    sizes: state.sizes,
    counters: state.counters,
    counts: state.counts(waiters.size),
    isSuspended: state.isSuspended,
    isClosing: state.isDraining,
  };
}

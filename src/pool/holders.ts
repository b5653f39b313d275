/**
 * Who holds a lease, for how long, and where they took it: leases held too long, leases that were lost, and who
 * still held one when the pool closed. Stacks and async contexts are the tracer's business; what becomes of the
 * socket is the roster's.
 */
import type { Clock } from '../clock.ts';
import type { LeaseHolder } from '../events.ts';
import type { Announcer } from './announcer.ts';
import { LostLeases } from './lost-leases.ts';
import type { LeasedState, Slot } from './slot.ts';
import type { Counters } from './stats.ts';

/** A lease, without holding it. */
interface Token<In, Out> {
  readonly slot: Slot<In, Out>;
  /** Which of the slot's leases it is. */
  readonly use: number;
}

// Most leases are back long before: so few are watched that it costs nothing.
const WATCH_AFTER_MS = 1_000;

/** See the file's comment. */
export class Holders<In, Out> {
  readonly #leakAfterMs: number;
  readonly #announcer: Announcer;
  readonly #counters: Counters;
  readonly #clock: Clock;
  readonly #lost: LostLeases<Token<In, Out>>;
  readonly #onLost: (slot: Slot<In, Out>) => void;
  // Lost while a reply was still awaited: whoever awaits it shall have it.
  readonly #orphans: Set<Token<In, Out>> = new Set();

  constructor(
    leakAfterMs: number,
    announcer: Announcer,
    counters: Counters,
    clock: Clock,
    /** Nobody can release this slot any more. */
    onLost: (slot: Slot<In, Out>) => void,
  ) {
    this.#leakAfterMs = leakAfterMs;
    this.#announcer = announcer;
    this.#counters = counters;
    this.#clock = clock;
    this.#onLost = onLost;
    this.#lost = new LostLeases((token) => this.#lose(token));
  }

  /** Looks at a slot that is leased. */
  look(slot: Slot<In, Out>, state: LeasedState<In, Out>, now: number): void {
    // A hook has it: see `hookTimeoutMs`.
    if (state.hook !== undefined || state.isShared) return;
    const heldMs = now - state.lentAt;
    const wasTold = state.isTold;
    if (heldMs >= this.#leakAfterMs && !wasTold) this.#tellLeaked(slot, state, heldMs, false);
    // What the caller keeps in its async context may hold the lease, which then would never be found to be lost. The
    // context is needed for telling of a lease that is held too long, and no longer than that.
    if (heldMs >= WATCH_AFTER_MS && (wasTold || this.#leakAfterMs === Number.POSITIVE_INFINITY)) {
      state.trace?.leaveContext();
    }
    if (state.lease === undefined || heldMs < WATCH_AFTER_MS) return;
    this.#lost.watch(state.lease, { slot, use: slot.uses });
    // From now on the pool holds it weakly.
    state.lease = undefined;
  }

  /** Tries again to take back what was lost. */
  sweep(): void {
    if (this.#orphans.size === 0) return;
    // Of a copy: one that is still awaited is added again, and would be met again, for ever.
    const orphans = [...this.#orphans];
    this.#orphans.clear();
    for (const token of orphans) this.#lose(token);
  }

  /** A lease has ended. */
  ended(slot: Slot<In, Out>, state: LeasedState<In, Out>, now: number, cameBack: boolean): void {
    const { trace } = state;
    trace?.ended();
    // One whose socket died under it did not come back.
    if (!state.isTold || !cameBack) return;
    const heldMs = now - state.lentAt;
    this.#announcer.tell('unleaked', () => ({ connectionId: slot.id, heldMs, stack: trace?.stack }), trace);
  }

  /** Who holds these slots. */
  list(slots: Iterable<Slot<In, Out>>, now: number): LeaseHolder[] {
    const holders: LeaseHolder[] = [];
    for (const slot of slots) {
      const holder = holderOf(slot, now);
      if (holder !== undefined) holders.push(holder);
    }
    return holders;
  }

  /** Watches nothing any more. */
  end(): void {
    this.#lost.end();
    this.#orphans.clear();
  }

  #lose(token: Token<In, Out>): void {
    const { slot, use } = token;
    const { state } = slot;
    // A hook has it: it was given back.
    if (state.name !== 'leased' || state.hook !== undefined || slot.uses !== use) return;
    if (state.connection.isAwaited) {
      this.#orphans.add(token);
      return;
    }
    this.#tellLeaked(slot, state, this.#clock.now() - state.lentAt, true);
    this.#onLost(slot);
  }

  #tellLeaked(slot: Slot<In, Out>, state: LeasedState<In, Out>, heldMs: number, isLost: boolean): void {
    const { trace } = state;
    if (!state.isTold) this.#counters.leaked += 1;
    // One that is lost will not come back: nothing is to be told of its end but that its socket was closed.
    state.isTold = !isLost;
    this.#announcer.tell(
      'leaked',
      () => ({ connectionId: slot.id, heldMs, stack: trace?.stack, isLost }),
      trace,
    );
  }
}

/** Who holds a slot, unless it is a hook or nobody. */
function holderOf<In, Out>({ id, state }: Slot<In, Out>, now: number): LeaseHolder | undefined {
  if (state.name !== 'leased' || state.hook !== undefined) return undefined;
  return { connectionId: id, heldMs: now - state.lentAt, stack: state.trace?.stack };
}

/** What all slots together say to somebody who got none of them. */
export interface Survey {
  /** The lease that is held longest. */
  readonly longest: LeaseHolder | undefined;
  /** Slots that a hook has. */
  readonly inHooks: number;
}

/** Asks all slots. */
export function survey<In, Out>(slots: Iterable<Slot<In, Out>>, now: number): Survey {
  let longest: Slot<In, Out> | undefined;
  let since = Number.POSITIVE_INFINITY;
  let inHooks = 0;
  for (const slot of slots) {
    const { state } = slot;
    if (state.name !== 'leased') continue;
    if (state.hook !== undefined) inHooks += 1;
    else if (state.lentAt < since) {
      longest = slot;
      since = state.lentAt;
    }
  }
  return { longest: longest === undefined ? undefined : holderOf(longest, now), inHooks };
}

/**
 * A slot: one of the pool's at most `max` places for a socket. It is born when a dial starts and ends when its
 * socket has closed. Its states, their legal order, and the counts of each are kept here; what to do on entering
 * a state is the pool's business.
 */
import type { PoolCounts, PulsepoolError } from '../errors.ts';
import type { Beat, HeartbeatTarget } from '../heartbeat/heartbeat.ts';
import type { CloseReason } from '../transport/close-reason.ts';
import type { Connection, ConnectionOwner } from '../transport/connection.ts';
import type { Lease } from './lease.ts';
import type { Wish } from './members.ts';
import type { PoolMember } from './pool-member.ts';
import type { Trace } from './trace.ts';
import type { Waiter } from './waiters.ts';

/**
 * - `dialing`: no socket yet, or one whose handshake is under way, or a dial that waits for its back-off
 * - `idle`: open, at rest, ready to be lent
 * - `checking`: a ping is out, or a borrower waits two turns of the event loop to see that it lives; see
 *   {@link Check}
 * - `leased`: lent to one caller, or to `onAcquire` or `onRelease` on its way to or from one
 * - `closing`: no caller can get it any more: `onClose` says goodbye, or the socket has not closed yet
 * - `closed`: the end
 */
export type SlotState<In, Out> =
  | { readonly name: 'dialing' }
  | { readonly name: 'idle'; readonly connection: Connection<In, Out> }
  | {
      readonly name: 'checking';
      readonly connection: Connection<In, Out>;
      readonly by: Check;
    }
  | LeasedState<In, Out>
  | { readonly name: 'closing'; readonly connection: Connection<In, Out>; readonly reason: CloseReason }
  | { readonly name: 'closed' };

/** The state of a leased slot: one object for all its leases, since there may be millions of them. */
export interface LeasedState<In, Out> {
  readonly name: 'leased';
  readonly connection: Connection<In, Out>;
  /** The lease, until the sweep hands it to the net under lost leases: from then on it is held weakly. */
  lease: Lease<In, Out> | undefined;
  /** In ms of the clock. */
  lentAt: number;
  /** Where it was acquired, if anybody asked for that. */
  trace: Trace | undefined;
  /** It has been told as leaked. */
  isTold: boolean;
  /** A client of ours has it, which gives it back by itself, however long it takes. */
  isShared: boolean;
  /** It counts as in flight at its endpoint; otherwise each of its calls does. */
  isCounted: boolean;
  /** How many leases its length stands for in the histogram; 0 when it is not measured. */
  weight: number;
  /** Which hook has the socket now, instead of a caller. */
  hook: 'onAcquire' | 'onRelease' | undefined;
  /** For whom `onAcquire` prepares it. */
  waiter: Waiter<Lease<In, Out>, Wish<In, Out>> | undefined;
}

/**
 * What an open slot is checked by: a ping of the heartbeat's own, or for a borrower a ping or two turns of the event
 * loop. Nothing may be written in those two turns: a pong would be taken for the borrower's reply.
 */
type Check = 'heartbeat' | 'borrow-ping' | 'borrow-turns';

/** The name of a state. */
export type SlotStateName = SlotState<unknown, unknown>['name'];

/** Which state may follow which. The diagram in ARCHITECTURE.md is made from this table. */
export const SLOT_TRANSITIONS: Readonly<Record<SlotStateName, readonly SlotStateName[]>> = {
  dialing: ['idle', 'closed'],
  idle: ['leased', 'checking', 'closing'],
  checking: ['idle', 'closing'],
  leased: ['idle', 'closing'],
  closing: ['closed'],
  closed: [],
};

/** Why a healthy slot is to be replaced. */
export type StaleReason =
  | 'idle'
  | 'lifetime'
  | 'uses'
  | 'reset'
  | 'removed'
  | 'ejected'
  | 'rebalanced'
  | 'network';

/** Who hears of a slot's end. */
export interface SlotKeeper<In, Out> {
  onEnding(slot: Slot<In, Out>, reason: CloseReason, error: PulsepoolError | undefined): void;
  onClosed(slot: Slot<In, Out>): void;
}

/** Who pings a slot and hears of the answer. */
export interface SlotPulse<In, Out> {
  onPong(slot: Slot<In, Out>): void;
  /** Whether a ping could be written now. */
  ping(slot: Slot<In, Out>): boolean;
  onMissed(slot: Slot<In, Out>, missed: number): void;
  onDead(slot: Slot<In, Out>, missed: number): void;
}

/** One place in the pool; see the file's comment. */
export class Slot<In, Out> implements ConnectionOwner, HeartbeatTarget {
  readonly id: number;
  readonly #keeper: SlotKeeper<In, Out>;
  readonly #pulse: SlotPulse<In, Out>;
  /** Change it through {@link SlotTally.move} only. */
  state: SlotState<In, Out> = { name: 'dialing' };
  /** Where its socket leads, or its last attempt has led; none before the first one. */
  member: PoolMember<In, Out> | undefined;
  /** The address at the other end, and ours; empty when there is none, or before it is open. */
  address = '';
  localAddress = '';
  beat: Beat | undefined;
  /** Its idle and its leased state, kept: the same objects each time it goes and comes back. */
  rest: SlotState<In, Out> | undefined;
  work: LeasedState<In, Out> | undefined;
  /** How often it was lent. It names the lease, too: only the last one may give the slot back. */
  uses = 0;
  /** During its present lease it has been told how long a reply took. */
  isTimed = false;
  /** Why it is to be replaced, once it is known. */
  staleBy: StaleReason | undefined;
  /** It has waited for a place for its successor for as long as it could. */
  isOverdue = false;
  /** It closes when it comes back, or is at rest: its successor is there, or it can't wait for one. */
  mustGo = false;
  /** How often `reset()` had been called when its dial began. */
  readonly generation: number;
  /** A ping is out and none has been missed: it will probably be back in a moment. */
  isFirstPing = false;
  /** It has missed a ping. */
  isSuspect = false;
  /** It is being checked for a waiter, who still counts on it. */
  isBorrowCheck = false;
  /** How long its last pong took, in whole ms. */
  rttMs = 0;
  /** When its successor is to be opened, in ms of the clock. */
  expiresAt = 0;
  /** Its neighbours on the shelf; see {@link Shelf}. */
  above: Slot<In, Out> | undefined;
  below: Slot<In, Out> | undefined;
  isShelved = false;

  constructor(id: number, generation: number, keeper: SlotKeeper<In, Out>, pulse: SlotPulse<In, Out>) {
    this.id = id;
    this.generation = generation;
    this.#keeper = keeper;
    this.#pulse = pulse;
  }

  get lastReadAt(): number {
    const { state } = this;
    return state.name === 'dialing' || state.name === 'closed' ? 0 : state.connection.lastReadAt;
  }

  ping(): boolean {
    return this.#pulse.ping(this);
  }

  onMissed(missed: number): void {
    this.#pulse.onMissed(this, missed);
  }

  onDead(missed: number): void {
    this.#pulse.onDead(this, missed);
  }

  onPong(): void {
    this.#pulse.onPong(this);
  }

  onEnding(reason: CloseReason, error: PulsepoolError | undefined): void {
    this.#keeper.onEnding(this, reason, error);
  }

  onClosed(connection: unknown): void {
    const { state } = this;
    // An earlier attempt of its dial may close when a later one is there already.
    if (state.name === 'closing' && state.connection === connection) this.#keeper.onClosed(this);
  }
}

/**
 * The only way from state to state, and the counts that follow from it.
 *
 * `lend` and `takeBack` are the two steps of every warm acquire and release, apart from `move` because looking up
 * constant names costs nothing: together they brought the pair from 205 to 145 ns.
 *
 * Invariant: idle + checking + leased + dialing + closing is the number of slots, after every step.
 */
export class SlotTally {
  readonly #counts: Record<SlotStateName, number> = {
    dialing: 0,
    idle: 0,
    checking: 0,
    leased: 0,
    closing: 0,
    closed: 0,
  };
  #peak = 0;

  /** A slot was born. */
  add(): void {
    this.#counts.dialing += 1;
  }

  /** Moves a slot, or throws: a step that the table does not know is a bug of ours. */
  move<In, Out>(slot: Slot<In, Out>, next: SlotState<In, Out>): void {
    const from = slot.state.name;
    if (!SLOT_TRANSITIONS[from].includes(next.name)) throw illegal(slot, next.name);
    this.#counts[from] -= 1;
    this.#counts[next.name] += 1;
    slot.state = next;
  }

  /** From idle to leased. */
  lend<In, Out>(slot: Slot<In, Out>, connection: Connection<In, Out>): LeasedState<In, Out> {
    if (slot.state.name !== 'idle') throw illegal(slot, 'leased');
    const counts = this.#counts;
    counts.idle -= 1;
    counts.leased += 1;
    if (counts.leased > this.#peak) this.#peak = counts.leased;
    slot.work ??= {
      name: 'leased',
      connection,
      lease: undefined,
      lentAt: 0,
      trace: undefined,
      isTold: false,
      isShared: false,
      isCounted: false,
      weight: 0,
      hook: undefined,
      waiter: undefined,
    };
    slot.state = slot.work;
    return slot.work;
  }

  /** From leased to idle. */
  takeBack<In, Out>(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    if (slot.state.name !== 'leased') throw illegal(slot, 'idle');
    this.#counts.leased -= 1;
    this.#counts.idle += 1;
    slot.rest ??= { name: 'idle', connection };
    slot.state = slot.rest;
  }

  /** The most that were leased at once since it was last asked. */
  takePeak(): number {
    const peak = this.#peak;
    this.#peak = this.#counts.leased;
    return peak;
  }

  /** How many slots are in a state now. */
  count(name: SlotStateName): number {
    return this.#counts[name];
  }

  /** Slots whose socket is open: idle, checking or leased. */
  get open(): number {
    return this.#counts.idle + this.#counts.checking + this.#counts.leased;
  }

  /** All slots that take a place. */
  get total(): number {
    return this.open + this.#counts.dialing + this.#counts.closing;
  }

  /** The counts as users see them: a socket being checked is idle, since nobody holds it. */
  snapshot(waiting: number): PoolCounts {
    return {
      total: this.total,
      idle: this.#counts.idle + this.#counts.checking,
      leased: this.#counts.leased,
      dialing: this.#counts.dialing,
      closing: this.#counts.closing,
      waiting,
    };
  }
}

function illegal<In, Out>(slot: Slot<In, Out>, next: SlotStateName): Error {
  return new Error(`bug: slot ${slot.id} cannot go from ${slot.state.name} to ${next}`);
}

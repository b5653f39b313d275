/**
 * Which healthy sockets are to be replaced, and in what order: those past their lifetime, lent often enough,
 * opened before a reset, or leading where they should not. A successor is opened first, so that the number of open sockets never dips; at `max`, where
 * there is no place for one, the old socket goes first, one after the other.
 *
 * It decides who goes; how a socket is dialed and how one ends is the roster's business.
 */
import type { Clock, Timer } from '../clock.ts';
import type { Slot, StaleReason } from './slot.ts';

/** Who owns the slots. */
export interface RetirementOwner<In, Out> {
  /** Whether one more slot may exist. */
  readonly hasRoom: () => boolean;
  /** Whether every place holds an open socket: nothing can be dialed. */
  readonly isFull: () => boolean;
  /** Whether the endpoint fails: no socket is ended before its successor is there. */
  readonly isFailing: () => boolean;
  /** Whether now is no time for it: the pool is suspended or closes. */
  readonly isHeld: () => boolean;
  /** Whether a socket that nobody waits for may stay. */
  readonly mayRest: () => boolean;
  /** Ends an idle slot. */
  readonly end: (slot: Slot<In, Out>) => void;
  /** There are more or fewer successors to be dialed. */
  readonly onOrdered: () => void;
}

/** See the file's comment. */
export class Retirement<In, Out> {
  readonly #owner: RetirementOwner<In, Out>;
  readonly #clock: Clock;
  readonly #maxConnecting: number;
  // In the order in which they became stale. They serve until they are replaced.
  readonly #stale: Set<Slot<In, Out>> = new Set();
  // Successors to be opened before one of the stale is ended, and after one was.
  #before = 0;
  #after = 0;
  // A reset is spread: one replacement in this many ms. 0: no limit.
  #everyMs = 0;
  #nextAt = 0;
  #timer: Timer | undefined;

  constructor(maxConnecting: number, clock: Clock, owner: RetirementOwner<In, Out>) {
    this.#maxConnecting = maxConnecting;
    this.#clock = clock;
    this.#owner = owner;
  }

  /** Successors that are to be dialed. */
  get ordered(): number {
    return this.#before + this.#after;
  }

  /** Of these, how many stand in for a socket that has ended already. */
  get owed(): number {
    return this.#after;
  }

  /** Slots that serve until they are replaced. */
  get size(): number {
    return this.#stale.size;
  }

  /** A slot is to be replaced. With `uses` it can't serve again, whether its successor is there or not. */
  mark(slot: Slot<In, Out>, reason: StaleReason): void {
    if (slot.mustGo || (slot.staleBy === 'reset' && reason === 'lifetime')) return;
    slot.staleBy = reason;
    if (reason === 'uses' || !this.#owner.mayRest()) slot.mustGo = true;
    // A successor that may not rest would be dialed only to be closed.
    if (this.#owner.mayRest()) this.#stale.add(slot);
  }

  /** It may stay after all. */
  spare(slot: Slot<In, Out>): void {
    if (!this.#stale.has(slot) || slot.mustGo) return;
    this.#drop(slot);
    slot.staleBy = undefined;
    slot.isOverdue = false;
  }

  /** From now on, at most `perSecond` slots are replaced in a second, until none is stale. */
  limitRate(perSecond: number): void {
    this.#everyMs = 1_000 / perSecond;
  }

  /** The same, unless there is a limit already. */
  limitRateIfNone(perSecond: number): void {
    if (this.#everyMs === 0) this.limitRate(perSecond);
  }

  /** It can't wait for a successor any longer. */
  hurry(slot: Slot<In, Out>): void {
    slot.isOverdue = true;
  }

  /** At `max` a stale slot has come back from its lease: whether it goes now, and makes room for its successor. */
  mustGoNow(slot: Slot<In, Out>): boolean {
    if (!this.#stale.has(slot) || !isUrgent(slot) || !this.#mayMakeRoom()) return false;
    this.#drop(slot);
    this.#after += 1;
    this.#nextAt = this.#clock.now() + this.#everyMs;
    slot.mustGo = true;
    return true;
  }

  /** The server can't be reached: nobody stands in for those that went first, unless somebody needs it. */
  giveUp(): void {
    this.#after = 0;
  }

  /** A slot is ending, for whatever reason. */
  forget(slot: Slot<In, Out>): void {
    if (!this.#stale.delete(slot)) return;
    this.#before = Math.min(this.#before, this.#stale.size);
    if (this.#stale.size === 0) this.#everyMs = 0;
  }

  /** A slot has opened. If it was ordered, one of the stale may go. */
  succeeded(): void {
    if (this.#after > 0) this.#after -= 1;
    else if (this.#before > 0) {
      this.#before -= 1;
      const slot = this.#next();
      if (slot === undefined) return;
      this.#drop(slot);
      if (slot.state.name === 'idle') this.#owner.end(slot);
      else slot.mustGo = true;
    }
  }

  /** Orders successors, as many as may be dialed now. */
  step(): void {
    if (this.#owner.isHeld()) return;
    // What was ordered has no place any more: others took it, or there are fewer places.
    if (this.#owner.isFull()) {
      this.#before = 0;
      this.#after = 0;
    }
    const before = this.ordered;
    while (this.#before < this.#stale.size && this.ordered < this.#maxConnecting) {
      const now = this.#clock.now();
      if (now < this.#nextAt) {
        this.#rest(this.#nextAt - now);
        break;
      }
      if (this.#owner.hasRoom()) this.#before += 1;
      else if (!this.#makeRoom()) break;
      this.#nextAt = now + this.#everyMs;
    }
    if (this.ordered > before) this.#owner.onOrdered();
  }

  /** Stops its timer, and orders nothing any more. */
  end(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#stale.clear();
    this.#before = 0;
    this.#after = 0;
  }

  /**
   * At `max`: one at rest that was opened before a reset, or is overdue, goes now. What is merely old can wait for a
   * place; what is leased goes on, until it comes back.
   */
  #makeRoom(): boolean {
    if (!this.#mayMakeRoom()) return false;
    for (const slot of this.#stale) {
      if (slot.state.name !== 'idle' || !isUrgent(slot)) continue;
      this.#endFirst(slot);
      return true;
    }
    return false;
  }

  /** One after the other: a place that is held by a dial, or by a socket that is closing, will be free without it. */
  #mayMakeRoom(): boolean {
    const owner = this.#owner;
    if (this.ordered > 0 || owner.isHeld() || !owner.isFull() || owner.isFailing()) return false;
    return this.#clock.now() >= this.#nextAt;
  }

  #endFirst(slot: Slot<In, Out>): void {
    this.#drop(slot);
    this.#after += 1;
    slot.mustGo = true;
    this.#owner.end(slot);
  }

  #drop(slot: Slot<In, Out>): void {
    this.#stale.delete(slot);
    this.#before = Math.min(this.#before, this.#stale.size);
    if (this.#stale.size === 0) this.#everyMs = 0;
  }

  /** One at rest if there is any: ending it disturbs nobody. */
  #next(): Slot<In, Out> | undefined {
    let first: Slot<In, Out> | undefined;
    for (const slot of this.#stale) {
      if (slot.state.name === 'idle') return slot;
      first ??= slot;
    }
    return first;
  }

  #rest(ms: number): void {
    this.#timer ??= this.#clock.after(ms, () => {
      this.#timer = undefined;
      this.step();
    });
  }
}

// What need not wait for a place for its successor in a full pool.
const URGENT: ReadonlySet<StaleReason> = new Set(['reset', 'idle', 'removed', 'rebalanced']);

function isUrgent<In, Out>({ isOverdue, staleBy }: Slot<In, Out>): boolean {
  return isOverdue || (staleBy !== undefined && URGENT.has(staleBy));
}

/**
 * One caller who waits, and a list of such callers. Whoever waits is on one list, and on none once settled. Which
 * lists there are, time limits, signals and refusals are the queue's business: see waiters.ts.
 */
import type { Timer } from '../clock.ts';
import type { PulsepoolError } from '../errors.ts';
import type { Trace } from './trace.ts';

/** How many sockets were lost on their way to a caller, and why the last one was. */
export interface Losses {
  readonly count: number;
  readonly error: PulsepoolError | undefined;
}

/** What holds for one caller only. */
export interface Bound {
  /** Stops listening to the caller's signal. */
  readonly deafen: (() => void) | undefined;
  readonly timer: Timer | undefined;
}

/** Who keeps the lists. */
export interface WaiterKeeper<T> {
  /** Takes a waiter off its list, with all that was armed for it. */
  leave(waiter: Waiter<T>): void;
}

/** One caller who waits. Settled once: whatever comes later is ignored. */
export class Waiter<T> {
  readonly since: number;
  /** How long it may wait, in ms. */
  readonly limitMs: number;
  readonly priority: number;
  readonly trace: Trace | undefined;
  /** Sockets that were lost on their way to this caller; kept by the lender. */
  losses: Losses | undefined;
  /** Where it waits; none once it is settled. */
  list: WaiterList<T> | undefined;
  next: Waiter<T> | undefined;
  previous: Waiter<T> | undefined;
  /** Of those who brought a signal or a time limit of their own. */
  bound: Bound | undefined;
  readonly #resolve: (value: T) => void;
  readonly #reject: (reason: unknown) => void;

  constructor(
    since: number,
    limitMs: number,
    priority: number,
    trace: Trace | undefined,
    resolve: (value: T) => void,
    reject: (reason: unknown) => void,
  ) {
    this.since = since;
    this.limitMs = limitMs;
    this.priority = priority;
    this.trace = trace;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get deadlineAt(): number {
    return this.since + this.limitMs;
  }

  resolve(value: T): void {
    this.list?.keeper.leave(this);
    this.#resolve(value);
  }

  reject(reason: unknown): void {
    this.list?.keeper.leave(this);
    this.#reject(reason);
  }
}

/** A linked list through the waiters themselves: no allocation. */
export class WaiterList<T> {
  readonly keeper: WaiterKeeper<T>;
  readonly priority: number;
  first: Waiter<T> | undefined;
  last: Waiter<T> | undefined;

  constructor(keeper: WaiterKeeper<T>, priority: number) {
    this.keeper = keeper;
    this.priority = priority;
  }

  /** Adds one at the end. */
  push(waiter: Waiter<T>): void {
    const { last } = this;
    waiter.list = this;
    waiter.previous = last;
    if (last === undefined) this.first = waiter;
    else last.next = waiter;
    this.last = waiter;
  }

  /** Adds one where it stood before: ahead of all who came later. */
  putBack(waiter: Waiter<T>): void {
    let next = this.first;
    while (next !== undefined && next.since < waiter.since) next = next.next;
    if (next === undefined) {
      this.push(waiter);
      return;
    }
    const { previous } = next;
    waiter.list = this;
    waiter.next = next;
    waiter.previous = previous;
    next.previous = waiter;
    if (previous === undefined) this.first = waiter;
    else previous.next = waiter;
  }

  /** Takes off one that is on this list. */
  remove(waiter: Waiter<T>): void {
    if (waiter.previous === undefined) this.first = waiter.next;
    else waiter.previous.next = waiter.next;
    if (waiter.next === undefined) this.last = waiter.previous;
    else waiter.next.previous = waiter.previous;
    waiter.next = undefined;
    waiter.previous = undefined;
    waiter.list = undefined;
  }
}

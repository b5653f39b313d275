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

/** Where alone some of those who wait may be served: an endpoint. */
export interface Pin {
  /** How many they are. */
  pinned: number;
}

/** Who keeps the lists. */
export interface WaiterKeeper<T, W> {
  /** Takes a waiter off its list, with all that was armed for it. */
  leave(waiter: Waiter<T, W>): void;
}

/** One caller who waits. Settled once: whatever comes later is ignored. `W`: what it may wish of what it gets. */
export class Waiter<T, W = undefined> {
  readonly since: number;
  /** How long it may wait, in ms. */
  readonly limitMs: number;
  readonly priority: number;
  readonly trace: Trace | undefined;
  readonly wish: W | undefined;
  /** Where alone it may be served, if that is so. */
  pin: Pin | undefined;
  /** Sockets that were lost on their way to this caller; kept by the lender. */
  losses: Losses | undefined;
  /** Where it waits; none once it is settled. */
  list: WaiterList<T, W> | undefined;
  next: Waiter<T, W> | undefined;
  previous: Waiter<T, W> | undefined;
  /** Of those who brought a signal or a time limit of their own. */
  bound: Bound | undefined;
  readonly #resolve: (value: T) => void;
  readonly #reject: (reason: unknown) => void;

  constructor(
    since: number,
    limitMs: number,
    priority: number,
    trace: Trace | undefined,
    wish: W | undefined,
    pin: Pin | undefined,
    resolve: (value: T) => void,
    reject: (reason: unknown) => void,
  ) {
    this.since = since;
    this.limitMs = limitMs;
    this.priority = priority;
    this.trace = trace;
    this.wish = wish;
    this.pin = pin;
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
export class WaiterList<T, W = undefined> {
  readonly keeper: WaiterKeeper<T, W>;
  readonly priority: number;
  first: Waiter<T, W> | undefined;
  last: Waiter<T, W> | undefined;

  constructor(keeper: WaiterKeeper<T, W>, priority: number) {
    this.keeper = keeper;
    this.priority = priority;
  }

  /** Adds one at the end. */
  push(waiter: Waiter<T, W>): void {
    const { last } = this;
    waiter.list = this;
    waiter.previous = last;
    if (last === undefined) this.first = waiter;
    else last.next = waiter;
    this.last = waiter;
  }

  /** Adds one where it stood before: ahead of all who came later. */
  putBack(waiter: Waiter<T, W>): void {
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
  remove(waiter: Waiter<T, W>): void {
    if (waiter.previous === undefined) this.first = waiter.next;
    else waiter.previous.next = waiter.next;
    if (waiter.next === undefined) this.last = waiter.previous;
    else waiter.next.previous = waiter.previous;
    waiter.next = undefined;
    waiter.previous = undefined;
    waiter.list = undefined;
  }
}

/**
 * One caller who waits, and a list of such callers. Whoever waits is on one list, and on none once settled. Which
 * lists there are, time limits, signals and refusals are the queue's business: see waiters.ts.
 */
import type { Timer } from '../clock.ts';
import type { PulsepoolError } from '../errors.ts';
import type { Trace } from './trace.ts';

/** One caller who waits. Settled once: whatever comes later is ignored. */
export class Waiter<T> {
  readonly since: number;
  /** How long it may wait, in ms. */
  readonly limitMs: number;
  readonly priority: number;
  readonly trace: Trace | undefined;
  /** How many sockets were lost on their way to this caller; counted by the roster. */
  attempts = 0;
  /** Why the last one of them was lost. */
  lastError: PulsepoolError | undefined;
  /** Where it waits; none once it is settled. */
  list: WaiterList<T> | undefined;
  next: Waiter<T> | undefined;
  previous: Waiter<T> | undefined;
  /** Stops listening to the caller's signal. */
  deafen: (() => void) | undefined;
  /** Of those who brought a time limit of their own. */
  timer: Timer | undefined;
  readonly #leave: (waiter: Waiter<T>) => void;
  readonly #resolve: (value: T) => void;
  readonly #reject: (reason: unknown) => void;

  constructor(
    since: number,
    limitMs: number,
    priority: number,
    trace: Trace | undefined,
    /** Takes it off its list, with all that was armed for it; does nothing the second time. */
    leave: (waiter: Waiter<T>) => void,
    resolve: (value: T) => void,
    reject: (reason: unknown) => void,
  ) {
    this.since = since;
    this.limitMs = limitMs;
    this.priority = priority;
    this.trace = trace;
    this.#leave = leave;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get deadlineAt(): number {
    return this.since + this.limitMs;
  }

  resolve(value: T): void {
    this.#leave(this);
    this.#resolve(value);
  }

  reject(reason: unknown): void {
    this.#leave(this);
    this.#reject(reason);
  }
}

/** A linked list through the waiters themselves: no allocation. */
export class WaiterList<T> {
  readonly priority: number;
  first: Waiter<T> | undefined;
  last: Waiter<T> | undefined;

  constructor(priority: number) {
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

/**
 * All calls of a client that are not settled, and one timer for all of their deadlines: armed late, and asked what is
 * overdue when it fires. While there are any, they hold the process.
 */
import type { Clock, ProcessHold } from '../clock.ts';
import { Watch } from '../transport/watch.ts';
import type { Call } from './call.ts';

/** See the file's comment. */
export class LiveCalls<In, Out> {
  readonly #hold: ProcessHold;
  readonly #watch: Watch;
  readonly #onDue: (call: Call<In, Out>, now: number) => void;
  #first: Call<In, Out> | undefined;
  #last: Call<In, Out> | undefined;
  #size = 0;

  /** `onDue`: the deadline of this call has passed, or the time for its second try has come. */
  constructor(clock: Clock, hold: ProcessHold, onDue: (call: Call<In, Out>, now: number) => void) {
    this.#hold = hold;
    this.#onDue = onDue;
    this.#watch = new Watch(clock, { judge: (now) => this.#judge(now) });
  }

  get size(): number {
    return this.#size;
  }

  add(call: Call<In, Out>): void {
    const last = this.#last;
    if (last === undefined) {
      this.#first = call;
      this.#hold.take();
    } else {
      last.next = call;
      call.previous = last;
    }
    this.#last = call;
    this.#size += 1;
    this.#watch.arm(call.dueAt);
  }

  remove(call: Call<In, Out>): void {
    const { next, previous } = call;
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    call.next = undefined;
    call.previous = undefined;
    this.#size -= 1;
    if (this.#first === undefined) this.#hold.drop();
  }

  /** All of them now, the oldest first. */
  all(): Call<In, Out>[] {
    const calls: Call<In, Out>[] = [];
    for (let call = this.#first; call !== undefined; call = call.next) calls.push(call);
    return calls;
  }

  /** Something of a call is due earlier than was known. */
  watchAt(at: number): void {
    this.#watch.arm(at);
  }

  /** Stops the timer. */
  end(): void {
    this.#watch.end();
  }

  #judge(now: number): number {
    let nextAt = Number.POSITIVE_INFINITY;
    const due: Call<In, Out>[] = [];
    for (let call = this.#first; call !== undefined; call = call.next) {
      const { dueAt } = call;
      if (dueAt <= now) due.push(call);
      else if (dueAt < nextAt) nextAt = dueAt;
    }
    for (const call of due) {
      if (call.state === 'settled') continue;
      this.#onDue(call, now);
      if (call.deadlineAt > now) nextAt = Math.min(nextAt, call.deadlineAt);
    }
    return nextAt;
  }
}

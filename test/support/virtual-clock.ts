/**
 * A clock that stands still until a test moves it. Unit tests never sleep.
 */
import type { Clock, Timer } from '../../src/clock.ts';

interface Entry {
  readonly at: number;
  readonly fn: () => void;
}

/** Lets everything that is already due in Node happen: microtasks, nextTicks and stream events. */
export async function settle(): Promise<void> {
  // Streams of a pair pass bytes on in a nextTick each. Node runs all microtasks and nextTicks, and those they ask
  // for, before it comes to the check phase: one turn of the real loop drains any chain of them.
  await new Promise((resolve) => setImmediate(resolve));
}

/** Virtual time. Timers fire in the order of their times, then in that of their creation. */
export class VirtualClock implements Clock {
  #now = 1_000;
  readonly #timers: Set<Entry> = new Set();
  #turns: (() => void)[] = [];
  /** Called whenever everything has happened that was due at a moment. What it throws ends the test. */
  onQuiet: () => void = () => undefined;

  now(): number {
    return this.#now;
  }

  /** How far the clock on the wall is ahead: the machine has slept for so long. */
  sleptMs = 0;

  wall(): number {
    return this.#now + this.sleptMs;
  }

  after(ms: number, fn: () => void): Timer {
    if (ms === Number.POSITIVE_INFINITY) return { cancel: () => undefined };
    const entry: Entry = { at: this.#now + Math.max(0, ms), fn };
    this.#timers.add(entry);
    return {
      cancel: () => {
        this.#timers.delete(entry);
      },
    };
  }

  soon(fn: () => void): void {
    process.nextTick(fn);
  }

  turn(fn: () => void): void {
    this.#turns.push(fn);
  }

  /** Timers that have neither fired nor been cancelled: 0 once nothing is left. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  /** Callbacks that wait for the next turn of the event loop. */
  get pendingTurns(): number {
    return this.#turns.length;
  }

  /**
   * Runs what is due now and all that follows from it, without moving time. As in Node's loop, timers that are due
   * fire between one turn and the next.
   */
  async flush(): Promise<void> {
    await settle();
    while (this.#turns.length > 0) {
      const turns = this.#turns;
      this.#turns = [];
      for (const fn of turns) fn();
      await settle();
      if (this.#turns.length === 0) continue;
      for (let next = this.#due(this.#now); next !== undefined; next = this.#due(this.#now)) {
        next.fn();
        await settle();
      }
    }
  }

  /** Moves time by `ms`, firing each timer at its own moment. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    await this.flush();
    for (;;) {
      const next = this.#due(until);
      if (next === undefined) break;
      if (next.at > this.#now) {
        this.onQuiet();
        this.#now = next.at;
      }
      next.fn();
      await this.flush();
    }
    this.onQuiet();
    this.#now = until;
  }

  /** Takes the first timer that is due by `until`. */
  #due(until: number): Entry | undefined {
    let next: Entry | undefined;
    for (const timer of this.#timers) {
      // A set keeps the order of creation.
      if (timer.at <= until && (next === undefined || timer.at < next.at)) next = timer;
    }
    if (next !== undefined) this.#timers.delete(next);
    return next;
  }

  /** Moves time without giving anything a chance to run: our own event loop was blocked, or frozen. */
  freeze(ms: number): void {
    this.#now += ms;
  }
}

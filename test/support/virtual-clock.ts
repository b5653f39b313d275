/**
 * A clock that stands still until a test moves it. Unit tests never sleep.
 */
import type { Clock, Timer } from '../../src/clock.ts';

interface Entry {
  readonly at: number;
  readonly order: number;
  readonly fn: () => void;
}

/** Lets everything that is already due in Node happen: microtasks, nextTicks and stream events. */
export async function settle(): Promise<void> {
  // Streams of a pair pass bytes on in a nextTick each; three turns of the real loop drain any chain of them.
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Virtual time. Timers fire in the order of their times, then in that of their creation. */
export class VirtualClock implements Clock {
  #now = 1_000;
  #order = 0;
  #timers: Entry[] = [];
  #turns: (() => void)[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, fn: () => void): Timer {
    if (ms === Number.POSITIVE_INFINITY) return { cancel: () => undefined };
    this.#order += 1;
    const entry: Entry = { at: this.#now + Math.max(0, ms), order: this.#order, fn };
    this.#timers.push(entry);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((timer) => timer !== entry);
      },
    };
  }

  turn(fn: () => void): void {
    this.#turns.push(fn);
  }

  /** Timers that have neither fired nor been cancelled: 0 once nothing is left. */
  get pendingTimers(): number {
    return this.#timers.length;
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
      this.#now = Math.max(this.#now, next.at);
      next.fn();
      await this.flush();
    }
    this.#now = until;
  }

  /** Takes the first timer that is due by `until`. */
  #due(until: number): Entry | undefined {
    const next = this.#timers
      .filter((timer) => timer.at <= until)
      .sort((a, b) => a.at - b.at || a.order - b.order)[0];
    if (next !== undefined) this.#timers = this.#timers.filter((timer) => timer !== next);
    return next;
  }

  /** Moves time without giving anything a chance to run: our own event loop was blocked, or frozen. */
  freeze(ms: number): void {
    this.#now += ms;
  }
}

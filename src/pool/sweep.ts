/**
 * The sweep: has all slots looked at from time to time, and tells how late it was itself. What is looked for is not its
 * business.
 */
import type { Clock, Timer } from '../clock.ts';

// Often enough that a limit is kept within a tenth of itself, never more than 200 times a second.
const SHARE = 10;
const MIN_EVERY_MS = 5;
const MAX_EVERY_MS = 1_000;

/** A timer that runs only while there is something to look at. */
export class Sweep {
  /** How long it is from one look to the next. */
  readonly everyMs: number;
  readonly #clock: Clock;
  readonly #look: (now: number, lateMs: number, sleptMs: number) => void;
  readonly #isNeeded: () => boolean;
  #timer: Timer | undefined;

  /**
   * `limitsMs` are the limits to keep. `look` hears how late it was called, too, and for how long the clock had stood
   * still: on Linux it does while the machine sleeps.
   */
  constructor(
    limitsMs: readonly number[],
    clock: Clock,
    look: (now: number, lateMs: number, sleptMs: number) => void,
    isNeeded: () => boolean,
  ) {
    const shortest = Math.min(...limitsMs);
    this.everyMs = Math.min(MAX_EVERY_MS, Math.max(MIN_EVERY_MS, Math.floor(shortest / SHARE)));
    this.#clock = clock;
    this.#look = look;
    this.#isNeeded = isNeeded;
  }

  /** Starts the timer if it does not run. */
  start(): void {
    if (this.#timer !== undefined) return;
    const dueAt = this.#clock.now() + this.everyMs;
    const wallDueAt = this.#clock.wall() + this.everyMs;
    this.#timer = this.#clock.after(this.everyMs, () => {
      this.#timer = undefined;
      const now = this.#clock.now();
      const lateMs = Math.max(0, now - dueAt);
      this.#look(now, lateMs, Math.max(0, this.#clock.wall() - wallDueAt - lateMs));
      if (this.#isNeeded()) this.start();
    });
  }

  end(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}

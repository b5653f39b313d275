/**
 * The sweep: looks at all slots from time to time and finds those that rested or lived too long. How a slot ends
 * is the roster's business.
 */
import type { Clock, Timer } from '../clock.ts';

// Often enough that a limit is kept within a tenth of itself, never more than 200 times a second.
const SHARE = 10;
const MIN_EVERY_MS = 5;
const MAX_EVERY_MS = 1_000;

/** A timer that runs only while there is something to look at. */
export class Sweep {
  readonly #everyMs: number;
  readonly #clock: Clock;
  readonly #look: (now: number) => void;
  readonly #isNeeded: () => boolean;
  #timer: Timer | undefined;

  /** `limitsMs` are the limits to keep; with none that is finite, nothing ever runs. */
  constructor(
    limitsMs: readonly number[],
    clock: Clock,
    look: (now: number) => void,
    isNeeded: () => boolean,
  ) {
    const shortest = Math.min(...limitsMs);
    this.#everyMs =
      shortest === Number.POSITIVE_INFINITY
        ? shortest
        : Math.min(MAX_EVERY_MS, Math.max(MIN_EVERY_MS, Math.floor(shortest / SHARE)));
    this.#clock = clock;
    this.#look = look;
    this.#isNeeded = isNeeded;
  }

  /** Starts the timer if it does not run. */
  start(): void {
    if (this.#timer !== undefined || this.#everyMs === Number.POSITIVE_INFINITY) return;
    this.#timer = this.#clock.after(this.#everyMs, () => {
      this.#timer = undefined;
      this.#look(this.#clock.now());
      if (this.#isNeeded()) this.start();
    });
  }

  end(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}

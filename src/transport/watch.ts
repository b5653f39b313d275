/**
 * The watch of one connection: a single timer for everything that may become overdue. What is due, and what
 * happens when it is late, is asked of the connection each time the watch goes off.
 *
 * The timer is armed late and never cancelled only to be moved further away: an exchange costs a comparison,
 * not a timer.
 */
import type { Clock, Timer } from '../clock.ts';

/** Who is watched. */
export interface Judge {
  /** Acts on what is overdue and returns when to look again; `Infinity` for never. */
  judge(now: number): number;
}

/** See the file's comment. An object and no closures: there is one for each socket. */
export class Watch {
  readonly #clock: Clock;
  readonly #judge: Judge;
  #timer: Timer | undefined;
  #at = Number.POSITIVE_INFINITY;
  #isEnded = false;

  constructor(clock: Clock, judge: Judge) {
    this.#clock = clock;
    this.#judge = judge;
  }

  /** Looks at `at`, in ms of the clock, or before. */
  arm(at: number): void {
    if (at >= this.#at || this.#isEnded) return;
    this.#timer?.cancel();
    this.#at = at;
    this.#timer = this.#clock.after(at - this.#clock.now(), () => this.#ring());
  }

  /** Stops for good. */
  end(): void {
    this.#isEnded = true;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #ring(): void {
    this.#timer = undefined;
    this.#at = Number.POSITIVE_INFINITY;
    // One turn: timers run before the poll phase, so bytes that the kernel already holds are read first.
    this.#clock.turn(() => {
      if (!this.#isEnded) this.arm(this.#judge.judge(this.#clock.now()));
    });
  }
}

/**
 * Time and the event loop, as the rest of the code sees them. This is the only file that names `setTimeout`,
 * `setImmediate` or `performance.now`, so that tests can pass a clock of their own and never sleep.
 *
 * No timer made here holds the process. What must hold it says so through {@link ProcessHold}.
 */
import type { AsyncResource } from 'node:async_hooks';
// Imported, because the global of the same name is a getter: 20 ns on every acquire.
import { performance } from 'node:perf_hooks';
// As that one.
import { nextTick } from 'node:process';
import { onAbort } from './abort.ts';

/** A timer that has not fired yet can be cancelled; cancelling twice, or late, does nothing. */
export interface Timer {
  cancel(): void;
}

/** Where time comes from. */
export interface Clock {
  /** Milliseconds since some fixed moment. Never goes back, whatever happens to the date. */
  now(): number;
  /**
   * Milliseconds by the clock on the wall, which goes on while the machine sleeps, unlike `now()` on Linux. It may be
   * set: only for comparing.
   */
  wall(): number;
  /** Calls `fn` once after `ms` milliseconds. `Infinity` means never. */
  after(ms: number, fn: () => void): Timer;
  /** Calls `fn` when all that follows from the present event without waiting has run: microtasks and their microtasks. */
  soon(fn: () => void): void;
  /** Calls `fn` in the check phase: bytes that the kernel already holds are read before it, from a timer. */
  turn(fn: () => void): void;
}

/** Where chance comes from: uniform in [0, 1), as `Math.random`. */
export type RandomSource = () => number;

/** Keeps the process alive while somebody waits for something. */
export interface ProcessHold {
  /** One more waits. */
  take(): void;
  /** One waits no longer. */
  drop(): void;
}

// Node fires a timer at once, with a warning, when its delay does not fit 31 bits.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

const NEVER: Timer = { cancel: () => undefined };

class SystemTimer implements Timer {
  readonly #handle: NodeJS.Timeout;

  constructor(ms: number, fn: () => void) {
    this.#handle = setTimeout(fn, ms);
    this.#handle.unref();
  }

  cancel(): void {
    clearTimeout(this.#handle);
  }
}

/** The real clock: monotonic, from `performance.now()`. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after: (ms, fn) => (ms > LONGEST_TIMER_MS ? NEVER : new SystemTimer(ms, fn)),
  soon: (fn) => nextTick(fn),
  turn: (fn) => {
    setImmediate(fn);
  },
};

/** A timer this late means that our own loop was blocked, or the process frozen. */
export const STALLED_MS = 250;

/**
 * The same clock, with timers that belong to the pool: each keeps the async context in which it was made for as long as
 * it is armed anew, and that of a caller may hold anything.
 */
export function clockOf(clock: Clock, context: AsyncResource): Clock {
  return {
    now: clock.now.bind(clock),
    wall: () => clock.wall(),
    after: (ms, fn) => context.runInAsyncScope(() => clock.after(ms, fn)),
    soon: (fn) => clock.soon(fn),
    turn: (fn) => clock.turn(fn),
  };
}

/**
 * One referenced timer for a whole pool, instead of `ref()` and `unref()` on every socket: sockets stay
 * unreferenced from birth to death, and the hold is referenced while its count is above zero.
 */
export class TimerHold implements ProcessHold {
  #count = 0;
  // Made with the pool, or it would keep the async context of the first caller for the pool's life.
  readonly #timer: NodeJS.Timeout = setInterval(() => undefined, LONGEST_TIMER_MS).unref();

  take(): void {
    this.#count += 1;
    if (this.#count === 1) this.#timer.ref();
  }

  drop(): void {
    this.#count -= 1;
    if (this.#count === 0) this.#timer.unref();
  }

  /** Ends the timer for good; used when the pool has closed. */
  end(): void {
    clearInterval(this.#timer);
  }
}

/** Resolves after `ms`, or as soon as one of `signals` is aborted: look at them afterwards. */
export function pause(
  ms: number,
  clock: Clock,
  ...signals: readonly (AbortSignal | undefined)[]
): Promise<void> {
  return new Promise((resolve) => {
    if (signals.some((signal) => signal?.aborted === true)) {
      resolve();
      return;
    }
    const done = (): void => {
      timer.cancel();
      for (const stop of stops) stop();
      resolve();
    };
    const timer = clock.after(ms, done);
    const stops = signals.map((signal) => (signal === undefined ? nothing : onAbort(signal, done)));
  });
}

const nothing = (): void => undefined;

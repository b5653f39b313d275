/**
 * How long to wait before trying again. Pure arithmetic and a little memory: no timers, no sockets.
 */
import type { RandomSource } from '../clock.ts';
import type { PulsepoolError } from '../errors.ts';

/** Bounds of the delay between tries. */
export interface BackoffBounds {
  /** Upper bound of the first delay, in ms. */
  readonly baseMs: number;
  /** Upper bound of every delay, in ms. */
  readonly capMs: number;
}

/**
 * Full jitter: uniform between 0 and min(cap, base x 2^failures).
 *
 * The random factor is applied after the cap, so that clients do not fall into step exactly when the outage is
 * longest. Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 */
export function fullJitterMs(failures: number, bounds: BackoffBounds, random: RandomSource): number {
  const ceiling = Math.min(bounds.capMs, bounds.baseMs * 2 ** Math.min(failures, 52));
  return random() * ceiling;
}

// A socket that lived this long was a success, even if its server never said a word.
const PROVEN_AFTER_MS = 1_000;

/**
 * The shared memory of one endpoint's failures: when the next dial may start, and why the last one failed.
 *
 * Invariant: `nextAt` only moves forward when a dial fails that began after the failure before it. Dials that
 * ran side by side and failed together count once, or four parallel dials would quadruple the wait.
 */
export class Backoff {
  readonly #bounds: BackoffBounds;
  readonly #random: RandomSource;
  #failures = 0;
  #failedAt = Number.NEGATIVE_INFINITY;
  #openedAt = Number.NEGATIVE_INFINITY;
  #nextAt = 0;
  #isFailing = false;
  #lastError: PulsepoolError | undefined;

  constructor(bounds: BackoffBounds, random: RandomSource) {
    this.#bounds = bounds;
    this.#random = random;
  }

  /** Whether the newest thing known about the endpoint is a failure. */
  get isFailing(): boolean {
    return this.#isFailing;
  }

  /** Failures in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Why the last dial failed; kept after success, for the story. */
  get lastError(): PulsepoolError | undefined {
    return this.#lastError;
  }

  /** How long the next dial has to wait, in ms; 0 when it may start at once. */
  waitMs(now: number): number {
    return Math.max(0, this.#nextAt - now);
  }

  /** A dial that began at `startedAt` failed. Returns the wait that follows, in ms. */
  failed(error: PulsepoolError, startedAt: number, now: number): number {
    this.#lastError = error;
    if (startedAt < this.#failedAt) return this.waitMs(now);
    const wasProven = !this.#isFailing && now - this.#openedAt >= PROVEN_AFTER_MS;
    this.#isFailing = true;
    const delay = fullJitterMs(wasProven ? 0 : this.#failures, this.#bounds, this.#random);
    this.#failures = wasProven ? 1 : this.#failures + 1;
    this.#failedAt = now;
    this.#nextAt = now + delay;
    return delay;
  }

  /**
   * A dial that began at `startedAt` succeeded. The count of failures stays until the socket has lived a while: a server that accepts and
   * then closes must not be dialed in a tight loop.
   */
  opened(startedAt: number, now: number): void {
    // Two dials side by side: what the other one met later than this one began is the newer news.
    if (startedAt < this.#failedAt) return;
    this.#isFailing = false;
    this.#openedAt = now;
    this.#nextAt = now;
  }
}

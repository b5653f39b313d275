/**
 * Numbers about a pool: gauges that sum, and counters that only grow.
 */
import type { PoolCounts } from '../errors.ts';
import type { CloseReason } from '../transport/close-reason.ts';

/** A frozen snapshot. `idle + leased + dialing + closing` is `total`, and never more than `max`. */
export interface PoolStats extends PoolCounts {
  readonly min: number;
  readonly maxIdle: number;
  readonly max: number;
  /** How long the first caller in the queue has waited, in ms; 0 when nobody waits. */
  readonly oldestWaitMs: number;
  /** Leases handed out. */
  readonly acquired: number;
  /** Of these, how many had to wait. */
  readonly waited: number;
  /** Callers whose deadline passed while they waited. */
  readonly timedOut: number;
  /** Sockets opened. */
  readonly opened: number;
  /** Attempts to dial that failed. */
  readonly dialFailed: number;
  /** Pings answered, and not answered in time. */
  readonly pinged: number;
  readonly pingMissed: number;
  /** Verdicts put off because our own event loop was blocked. */
  readonly suspended: number;
  /** Sockets that ended, in all and by reason. */
  readonly closed: number;
  readonly closedBy: Readonly<Partial<Record<CloseReason, number>>>;
}

/** The counters behind {@link PoolStats}. */
export class Counters {
  acquired = 0;
  waited = 0;
  timedOut = 0;
  opened = 0;
  dialFailed = 0;
  pinged = 0;
  pingMissed = 0;
  suspended = 0;
  closed = 0;
  readonly #closedBy: Partial<Record<CloseReason, number>> = {};

  /** A socket ended. */
  countClosed(reason: CloseReason): void {
    this.closed += 1;
    this.#closedBy[reason] = (this.#closedBy[reason] ?? 0) + 1;
  }

  /** A frozen snapshot. */
  snapshot(
    counts: PoolCounts,
    sizes: { min: number; maxIdle: number; max: number },
    oldestWaitMs: number,
  ): PoolStats {
    return Object.freeze({
      ...counts,
      ...sizes,
      oldestWaitMs,
      acquired: this.acquired,
      waited: this.waited,
      timedOut: this.timedOut,
      opened: this.opened,
      dialFailed: this.dialFailed,
      pinged: this.pinged,
      pingMissed: this.pingMissed,
      suspended: this.suspended,
      closed: this.closed,
      closedBy: Object.freeze({ ...this.#closedBy }),
    });
  }
}

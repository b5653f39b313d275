/**
 * Numbers about a pool: gauges that sum, counters that only grow, and how long things took.
 */
import type { PoolCounts } from '../errors.ts';
import type { NamesStats } from '../resolve/names.ts';
import type { CloseReason } from '../transport/close-reason.ts';
import { Demand } from './demand.ts';
import { Histogram, type LatencyStats } from './histogram.ts';
import type { Sizes } from './sizes.ts';

/** How long things took. */
export interface PoolTimes {
  /** From `acquire` to the lease, for callers who had to wait. Measured as `hold`. */
  readonly wait: LatencyStats;
  /** From lease to release. Above 2,000 leases a second one of 16 is measured, and counted as 16. */
  readonly hold: LatencyStats;
  /** Dials that succeeded, from their first attempt to the end of the handshake. */
  readonly dial: LatencyStats;
  /** Pings that were answered. */
  readonly ping: LatencyStats;
}

/**
 * A frozen snapshot. `idle + leased + dialing + closing` is `total`, and never more than `max`; after a smaller `resize()`,
 * as soon as the leases that are too many have come back.
 */
export interface PoolStats extends PoolCounts, Sizes {
  /** How long the caller at the head of the queue has waited, in ms; 0 when nobody waits. */
  readonly oldestWaitMs: number;
  /** `suspend()` was called, and `resume()` was not yet. */
  readonly isSuspended: boolean;
  /** Endpoints that are known: 1 with `host` or `path`. */
  readonly endpoints: number;
  /** Those of them that were put out. */
  readonly endpointsOut: number;
  /** Those that were not, though the newest thing known about them is a failure: all of them when the service is down. */
  readonly endpointsFailing: number;
  /** Times that an endpoint was put out. */
  readonly ejected: number;
  /** Look-ups of names: how many, how many in vain, how often an old answer had to do, and how old such a one is now. */
  readonly dns: NamesStats;
  /** Leases handed out. */
  readonly acquired: number;
  /** Of these, how many had to wait, if only for the two turns of the event loop that check a socket which rested. */
  readonly waited: number;
  /** Callers whose deadline passed while they waited. */
  readonly timedOut: number;
  /** Callers whose signal was aborted while they waited. */
  readonly cancelled: number;
  /** Callers refused at once, or after `shedAfterMs`: `ERR_OVERLOADED`. */
  readonly refused: number;
  /** Callers who were told that no socket can be opened: `ERR_ACQUIRE_FAILED`. */
  readonly failed: number;
  /** Leases told as held too long, or lost. */
  readonly leaked: number;
  /** Callers who waited for a lease while they held one, and all sockets were leased. */
  readonly deadlocksSuspected: number;
  /** Hooks that threw or took too long. */
  readonly hookFailed: number;
  /** Sockets opened. */
  readonly opened: number;
  /** Attempts to dial that failed. */
  readonly dialFailed: number;
  /** Pings answered, and not answered in time. */
  readonly pinged: number;
  readonly pingMissed: number;
  /** Times that our own event loop was found to have been blocked, or the process frozen. */
  readonly stalled: number;
  /** Sockets that ended, in all and by reason. */
  readonly closed: number;
  readonly closedBy: Readonly<Partial<Record<CloseReason, number>>>;
  readonly times: PoolTimes;
}

// So many in a second are measured one by one, and one of 16 of those that follow: reading the clock is a third of a
// warm acquire.
const MANY = 2_000;
const SAMPLE = 16;

/** How many of its kind the `n`th one stands for when it is measured, of which there had been `before` a second ago; 0: it is not. */
export function weightOf(n: number, before: number): number {
  if (n - before < MANY) return 1;
  return n % SAMPLE === 0 ? SAMPLE : 0;
}

// Fewer leases than this say little about the next ones.
const FEW_LEASES = 20;

/** The counters behind {@link PoolStats}. */
export class Counters {
  ejected = 0;
  acquired = 0;
  waited = 0;
  timedOut = 0;
  cancelled = 0;
  refused = 0;
  failed = 0;
  leaked = 0;
  deadlocksSuspected = 0;
  hookFailed = 0;
  opened = 0;
  dialFailed = 0;
  pinged = 0;
  pingMissed = 0;
  stalled = 0;
  closed = 0;
  readonly wait: Histogram = new Histogram();
  readonly hold: Histogram = new Histogram();
  readonly dial: Histogram = new Histogram();
  readonly ping: Histogram = new Histogram();
  readonly demand: Demand = new Demand();
  readonly #closedBy: Partial<Record<CloseReason, number>> = {};
  #acquiredBefore = 0;
  #shortages = 0;
  #shortagesBefore = 0;
  /** How long a lease is usually held, as of the last look, in ms; 0 while too few have been. */
  usualHoldMs = 0;
  /** How long a slow dial takes, as of the last look, in ms. */
  slowDialMs = 0;

  /** A lease is handed out. Returns how many of its kind it stands for when it is measured; 0: it is not. */
  countAcquired(): number {
    const n = this.acquired;
    this.acquired = n + 1;
    return weightOf(n, this.#acquiredBefore);
  }

  /** A caller waits for a lease of somebody else's. Returns as `countAcquired`. */
  countShort(): number {
    const n = this.#shortages;
    this.#shortages = n + 1;
    return weightOf(n, this.#shortagesBefore);
  }

  /** Called about once a second. */
  lookBack(now: number): void {
    this.#acquiredBefore = this.acquired;
    this.#shortagesBefore = this.#shortages;
    const { count, p50Ms } = this.hold.snapshot(now);
    this.usualHoldMs = count < FEW_LEASES ? 0 : p50Ms;
    this.slowDialMs = this.dial.snapshot(now).p90Ms;
  }

  /** A socket ended. */
  countClosed(reason: CloseReason): void {
    this.closed += 1;
    this.#closedBy[reason] = (this.#closedBy[reason] ?? 0) + 1;
  }

  /** How long things took. */
  times(now: number): PoolTimes {
    return Object.freeze({
      wait: this.wait.snapshot(now),
      hold: this.hold.snapshot(now),
      dial: this.dial.snapshot(now),
      ping: this.ping.snapshot(now),
    });
  }

  /** A frozen snapshot. */
  snapshot(
    gauges: PoolCounts &
      Sizes &
      Pick<
        PoolStats,
        'oldestWaitMs' | 'isSuspended' | 'endpoints' | 'endpointsOut' | 'endpointsFailing' | 'dns'
      >,
    now: number,
  ): PoolStats {
    return Object.freeze({
      ...gauges,
      ejected: this.ejected,
      acquired: this.acquired,
      waited: this.waited,
      timedOut: this.timedOut,
      cancelled: this.cancelled,
      refused: this.refused,
      failed: this.failed,
      leaked: this.leaked,
      deadlocksSuspected: this.deadlocksSuspected,
      hookFailed: this.hookFailed,
      opened: this.opened,
      dialFailed: this.dialFailed,
      pinged: this.pinged,
      pingMissed: this.pingMissed,
      stalled: this.stalled,
      closed: this.closed,
      closedBy: Object.freeze({ ...this.#closedBy }),
      times: this.times(now),
    });
  }
}

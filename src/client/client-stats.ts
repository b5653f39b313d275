/**
 * Numbers about a client: what became of its requests, and how long they took.
 */
import { Histogram, type LatencyStats } from '../pool/histogram.ts';
import { weightOf } from '../pool/stats.ts';
import type { BreakerStateName } from '../retry/breaker.ts';
import type { Sample } from './call.ts';

/** A frozen snapshot; `succeeded + failed + timedOut + cancelled + inFlight` is `requests`. */
export interface ClientStats {
  /** Requests that were made. */
  readonly requests: number;
  /** Requests whose callers have not been told yet. */
  readonly inFlight: number;
  /** Of these, how many wait for a place on a socket. */
  readonly waiting: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Requests whose deadline passed, or would have before they could be sent again. */
  readonly timedOut: number;
  /** Requests whose signal was aborted. */
  readonly cancelled: number;
  /** Repetitions: at once, since nothing had been sent; at once on a new socket; and by policy. */
  readonly retried: Readonly<Record<'again' | 'fresh' | 'later', number>>;
  /** Repetitions and second tries that the budget did not pay for. */
  readonly retriesRefused: number;
  /** How many more repetitions the budget would pay for now. */
  readonly retryBudget: number;
  /** Second tries, and how many of them were answered first. */
  readonly hedged: number;
  readonly hedgesWon: number;
  /** `undefined`: there is none. */
  readonly breaker: BreakerStateName | undefined;
  /** From `request()` to the reply. Above 2,000 requests a second one of 16 is measured, and counted as 16. */
  readonly latency: LatencyStats;
}

const SECOND_MS = 1_000;

// A second try is worth it for the slowest one in twenty ("The Tail at Scale", Dean and Barroso, CACM 2013).
const HEDGE_PERCENTILE = 0.95;
// Fewer say nothing about the slowest one in twenty.
const FEW = 100;

/** The counters behind {@link ClientStats}. */
export class ClientCounters {
  requests = 0;
  failed = 0;
  timedOut = 0;
  cancelled = 0;
  retriesRefused = 0;
  hedged = 0;
  hedgesWon = 0;
  readonly retried: Record<'again' | 'fresh' | 'later', number> = { again: 0, fresh: 0, later: 0 };
  readonly #latency: Histogram = new Histogram();
  #succeeded = 0;
  #secondEndsAt = 0;
  #requestsBefore = 0;

  /** A request begins, at `now` and in whole ms `at`. */
  begin(now: number, at: number): Sample | undefined {
    const n = this.requests;
    this.requests = n + 1;
    if (at >= this.#secondEndsAt) {
      this.#secondEndsAt = at + SECOND_MS;
      this.#requestsBefore = n;
    }
    // As leases are.
    const weight = weightOf(n, this.#requestsBefore);
    return weight === 0 ? undefined : { from: now, weight };
  }

  succeeded(sample: Sample | undefined, now: number): void {
    this.#succeeded += 1;
    if (sample !== undefined) this.#latency.record(now - sample.from, now, sample.weight);
  }

  /** How long a request may take before a second one is sent, in ms; `Infinity` while too little is known. */
  hedgeAfterMs(now: number): number {
    return this.#latency.percentile(HEDGE_PERCENTILE, FEW, now);
  }

  snapshot(
    gauges: Pick<ClientStats, 'inFlight' | 'waiting' | 'retryBudget' | 'breaker'>,
    now: number,
  ): ClientStats {
    return Object.freeze({
      ...gauges,
      requests: this.requests,
      succeeded: this.#succeeded,
      failed: this.failed,
      timedOut: this.timedOut,
      cancelled: this.cancelled,
      retried: Object.freeze({ ...this.retried }),
      retriesRefused: this.retriesRefused,
      hedged: this.hedged,
      hedgesWon: this.hedgesWon,
      latency: this.#latency.snapshot(now),
    });
  }
}

/**
 * Which endpoints are put out because they fail or are slow, for how long, and how they come back: passive outlier
 * ejection. Only what happens to real requests, dials and heartbeats is looked at; nothing is sent from here, and there
 * is no timer.
 *
 * Who is picked instead is decided in lanes.ts.
 */
import type { RandomSource } from '../clock.ts';
import { type Ejection, type OutcomeKind, proves } from './health.ts';
import type { Member } from './member.ts';

/** When an endpoint is put out, and for how long. */
export interface OutlierOptions {
  /** Failures in a row. Default: 5 (Envoy's `consecutive_5xx`, Finagle's failure accrual). `Infinity`: never. */
  readonly failures: number;
  /** Or this share of failures among its requests of `windowMs`. Default: 0.5 (Hystrix). More than 1: never. */
  readonly failureRate: number;
  /** As long as they were at least so many. Default: 20 (Hystrix). */
  readonly minRequests: number;
  /** How long its requests are remembered, in ms, minus up to 10 %. Default: 10,000 (Envoy's and gRPC's `interval`). */
  readonly windowMs: number;
  /**
   * Or `slowRequests` requests in a row that took so many times the median of all endpoints, as long as three are known.
   * Default: 10. Envoy, gRPC and Finagle put nobody out for being slow, hence so much. `Infinity`: never.
   */
  readonly latencyFactor: number;
  /** And at least so much longer, in ms. Default: 100. */
  readonly latencyMarginMs: number;
  /** Default: 5, as `failures`. */
  readonly slowRequests: number;
  /** How long it is out, in ms, the second time twice as long, the third time three times; plus or minus 20 %. Default: 5,000 (Finagle). */
  readonly ejectMs: number;
  /** Where that ends, in ms; plus or minus 20 %. Default: 300,000 (Envoy, Finagle). */
  readonly maxEjectMs: number;
  /** After each such time without being out, one time is forgotten, in ms. Default: 30,000 (Envoy: after each `interval`). */
  readonly forgiveMs: number;
  /**
   * At most this share of the endpoints of a tier is out at once, unless another tier is well. Default: 0.5. Envoy's and
   * gRPC's 0.1 would never put out one of three.
   */
  readonly maxEjectedShare: number;
  /** With less than this share of well endpoints in every tier, all are picked. Default: 0.5 (Envoy's panic threshold). */
  readonly panicBelow: number;
  /** A probe of which nothing was heard for so long is forgotten, in ms. Default: 30,000. */
  readonly probeTimeoutMs: number;
}

/** The defaults, with their sources at {@link OutlierOptions}. */
export const OUTLIER_DEFAULTS: OutlierOptions = Object.freeze({
  failures: 5,
  failureRate: 0.5,
  minRequests: 20,
  windowMs: 10_000,
  latencyFactor: 10,
  latencyMarginMs: 100,
  slowRequests: 5,
  ejectMs: 5_000,
  maxEjectMs: 300_000,
  forgiveMs: 30_000,
  maxEjectedShare: 0.5,
  panicBelow: 0.5,
  probeTimeoutMs: 30_000,
});

/** What the judge asks, and whom it tells. */
export interface OutliersOwner<M extends Member> {
  /** Whether it may be out as well: the others must be able to do without it. */
  readonly canSpare: (member: M) => boolean;
  /** The latencies of all, in ms, where known; those who are out included, or of three too few would be left. */
  readonly latencies: () => number[];
  /** It is out from now on. */
  readonly onOut: (member: M, why: Ejection, forMs: number, now: number) => void;
  /** It is in again, and warms up. */
  readonly onBack: (member: M, now: number) => void;
  /** Its failing is to be counted, or no longer. */
  readonly onDoubt: () => void;
}

// So that clients that put it out together do not probe together.
const JITTER = 0.2;
// A median needs so many.
const MIN_PEERS = 3;
// How old a median may be, in ms: sorting hundreds for each slow request would cost more than the request.
const MEDIAN_MS = 1_000;

/** See the file's comment. All times are in ms of one clock. */
export class Outliers<M extends Member> {
  readonly #options: OutlierOptions;
  readonly #random: RandomSource;
  readonly #owner: OutliersOwner<M>;
  #median = Number.POSITIVE_INFINITY;
  #medianUntil = Number.NEGATIVE_INFINITY;

  constructor(options: OutlierOptions, random: RandomSource, owner: OutliersOwner<M>) {
    this.#options = options;
    this.#random = random;
    this.#owner = owner;
  }

  /** Something failed there that began at `startedAt`. */
  failed(member: M, kind: OutcomeKind, now: number, startedAt: number): void {
    const { record } = member;
    const { state } = record;
    // What was sent before it went out, or before it came back, is old news: a server that hung leaves requests that time
    // out long after it is well.
    if (state.name === 'ejected' || startedAt < record.knownSince) return;
    if (state.name === 'probing') {
      this.#eject(member, { reason: state.why.reason, kind: worse(kind, state.why.kind) }, now);
      return;
    }
    record.countFailure(kind, now, this.#options.windowMs);
    const { failureRate, failures, minRequests } = this.#options;
    if (record.failuresInRow >= failures) this.#judge(member, { reason: 'failures', kind }, now);
    else if (kind === 'request' && record.failureRate(now, minRequests) >= failureRate) {
      this.#judge(member, { reason: 'failure-rate', kind }, now);
    }
  }

  /** Something went well; a request perhaps in a known time. `inPanic`: it may have been picked though it was out. */
  succeeded(
    member: M,
    kind: OutcomeKind,
    latencyMs: number | undefined,
    now: number,
    inPanic: boolean,
  ): void {
    const { record } = member;
    const { state } = record;
    const isSlow = latencyMs !== undefined && this.#isSlow(latencyMs, now);
    if (state.name === 'ejected' || state.name === 'probing') {
      const isNews =
        state.name === 'probing' ? now - (latencyMs ?? 0) >= state.since : inPanic || now >= state.until;
      if (!isNews || !proves(kind, state.why.kind)) return;
      if (isSlow && state.why.reason === 'latency') {
        if (state.name === 'probing') this.#eject(member, state.why, now);
        return;
      }
      this.revive(member, now);
      return;
    }
    record.countSuccess(kind, now);
    if (record.isFailing && !isSlow && !this.#fails(member, now)) {
      record.isFailing = false;
      this.#owner.onDoubt();
    }
    if (latencyMs === undefined) return;
    record.slowInRow = isSlow ? record.slowInRow + 1 : 0;
    if (record.slowInRow >= this.#options.slowRequests) this.#judge(member, { reason: 'latency', kind }, now);
  }

  /** One pick goes to it. */
  probe(member: M, now: number): void {
    const { state } = member.record;
    if (state.name !== 'ejected') return;
    member.record.knownSince = now;
    member.record.move({ name: 'probing', since: now, why: state.why });
  }

  /** Nothing was learned by the probe, and nothing will be: another one may go. Without a probe it does nothing. */
  forgo(member: M, now: number): void {
    const { state } = member.record;
    if (state.name === 'probing') member.record.move({ name: 'ejected', until: now, why: state.why });
  }

  /** It comes back, with nothing held against it but how often it was out. */
  revive(member: M, now: number): void {
    const { record } = member;
    record.wipe();
    record.forgivenAt = now;
    record.knownSince = now;
    member.latency.forget();
    record.move({ name: 'warming', since: now });
    this.#owner.onBack(member, now);
  }

  #fails({ record }: M, now: number): boolean {
    const { failureRate, minRequests } = this.#options;
    return record.failuresInRow > 0 || record.failureRate(now, minRequests) >= failureRate;
  }

  #judge(member: M, why: Ejection, now: number): void {
    if (this.#owner.canSpare(member)) this.#eject(member, why, now);
    else if (!member.record.isFailing) {
      member.record.isFailing = true;
      this.#owner.onDoubt();
    }
  }

  #eject(member: M, why: Ejection, now: number): void {
    const { ejectMs, forgiveMs, maxEjectMs } = this.#options;
    const { record } = member;
    if (record.isIn) {
      const forgiven = Math.floor((now - record.forgivenAt) / forgiveMs);
      record.times = Math.max(0, record.times - forgiven);
    }
    record.times += 1;
    record.ejections += 1;
    record.wipe();
    // Jitter comes after the cap, as in the back-off.
    const forMs = Math.min(maxEjectMs, ejectMs * record.times) * (1 + JITTER * (2 * this.#random() - 1));
    record.move({ name: 'ejected', until: now + forMs, why });
    this.#owner.onOut(member, why, forMs, now);
  }

  #isSlow(latencyMs: number, now: number): boolean {
    const { latencyFactor, latencyMarginMs } = this.#options;
    // Most requests end here.
    if (latencyMs < latencyMarginMs || latencyFactor === Number.POSITIVE_INFINITY) return false;
    if (now >= this.#medianUntil) {
      this.#medianUntil = now + MEDIAN_MS;
      const known = this.#owner.latencies().sort((a, b) => a - b);
      // The lower one of two: with four, of which two are slow, the fast ones are right.
      this.#median =
        known.length < MIN_PEERS
          ? Number.POSITIVE_INFINITY
          : (known[(known.length - 1) >> 1] ?? Number.POSITIVE_INFINITY);
    }
    return latencyMs >= this.#median * latencyFactor && latencyMs - this.#median >= latencyMarginMs;
  }
}

function worse(a: OutcomeKind, b: OutcomeKind): OutcomeKind {
  return proves(a, b) ? a : b;
}

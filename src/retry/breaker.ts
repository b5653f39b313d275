/**
 * A circuit breaker: after too many failures nothing goes out for a while, then one probe tells whether the server is
 * back. What a failure is, and what becomes of those who are refused, is left to others.
 *
 * Time and chance are passed in; there is no timer. Each request that was let through holds a pass. It is good for one
 * closed time or one probe, so outcomes of requests from before the breaker opened neither close nor extend it.
 */
import type { RandomSource } from '../clock.ts';
import type { PulsepoolError } from '../errors.ts';
import { SlidingCounts } from './sliding-counts.ts';

/** When a breaker opens, and for how long. */
export interface BreakerOptions {
  /** Failures in a row that open it. Default: 5 (Envoy's `consecutive_5xx`). */
  readonly failures: number;
  /** Or this share of failures among the requests of `windowMs`. Default: 0.5 (Hystrix). */
  readonly failureRate: number;
  /** As long as they were at least so many. Default: 20 (Hystrix). */
  readonly minRequests: number;
  /** How long requests are remembered, in ms, minus up to 10 %. Default: 30,000 (Polly). */
  readonly windowMs: number;
  /** How long it stays open, in ms, twice as long after each failed probe; plus or minus 20 %. Default: 5,000 (Hystrix, Polly). */
  readonly openMs: number;
  /** Where doubling ends, in ms; plus or minus 20 %. Default: 60,000. */
  readonly maxOpenMs: number;
}

/** The defaults, with their sources at {@link BreakerOptions}. */
export const BREAKER_DEFAULTS: BreakerOptions = {
  failures: 5,
  failureRate: 0.5,
  minRequests: 20,
  windowMs: 30_000,
  openMs: 5_000,
  maxOpenMs: 60_000,
};

/** Given to who is let through; to be given back with the outcome. All who go through a closed breaker share one. */
export interface Pass {
  readonly isProbe: boolean;
}

/**
 * - `closed`: everybody goes through
 * - `open`: nobody before `until`, then one probe
 * - `probing`: the probe is out, nobody else goes through
 */
export type BreakerState =
  | { readonly name: 'closed'; readonly pass: Pass }
  | { readonly name: 'open'; readonly until: number; readonly cause: PulsepoolError }
  | { readonly name: 'probing'; readonly pass: Pass; readonly since: number; readonly cause: PulsepoolError };

/** The name of a state. */
export type BreakerStateName = BreakerState['name'];

/** Which state may follow which. */
export const BREAKER_TRANSITIONS: Readonly<Record<BreakerStateName, readonly BreakerStateName[]>> = {
  closed: ['open'],
  open: ['probing'],
  probing: ['closed', 'open'],
};

/** The only way from state to state: returns the next one, or throws, since any other step is a bug of ours. */
export function follow(state: BreakerState, next: BreakerState): BreakerState {
  if (BREAKER_TRANSITIONS[state.name].includes(next.name)) return next;
  throw new Error(`bug: a breaker cannot go from ${state.name} to ${next.name}`);
}

// So that clients whose breakers opened together do not probe together.
const JITTER = 0.2;
// Nobody knows how long a probe will take. Who may come again looks after so long, and then after as long as it has
// taken already: soon after it is back, and seldom while it hangs.
const LOOK_AGAIN_MS = 100;

/** See the file's comment. All times are in ms of one clock. */
export class Breaker {
  readonly #options: BreakerOptions;
  readonly #random: RandomSource;
  readonly #onChange: (state: BreakerState) => void;
  #state: BreakerState = { name: 'closed', pass: { isProbe: false } };
  #counts: SlidingCounts;
  #failuresInRow = 0;
  #doublings = 0;
  #closedAt: number = Number.NEGATIVE_INFINITY;

  /** `onChange` is called after each step and must not throw. */
  constructor(options: BreakerOptions, random: RandomSource, onChange: (state: BreakerState) => void) {
    this.#options = options;
    this.#random = random;
    this.#onChange = onChange;
    this.#counts = new SlidingCounts(options.windowMs);
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** The last failure that opened it, for those who are refused. None while it is closed. */
  get cause(): PulsepoolError | undefined {
    return this.#state.name === 'closed' ? undefined : this.#state.cause;
  }

  /** How long it lets nobody through, in ms; 0 when it would. While a probe is out, when to look again. */
  openForMs(now: number): number {
    const state = this.#state;
    if (state.name === 'closed') return 0;
    if (state.name === 'open') return Math.max(0, state.until - now);
    return Math.max(LOOK_AGAIN_MS, now - state.since);
  }

  /**
   * Lets a request through, or not. Each pass must come back once, by `succeeded`, `failed` or `release`: while that of
   * a probe is missing, nobody else gets one.
   */
  admit(now: number): Pass | undefined {
    const state = this.#state;
    if (state.name === 'closed') return state.pass;
    if (state.name === 'probing' || now < state.until) return undefined;
    const pass: Pass = { isProbe: true };
    this.#move({ name: 'probing', pass, since: now, cause: state.cause });
    return pass;
  }

  /** The server has done its part. */
  succeeded(now: number, pass: Pass): void {
    const state = this.#state;
    if (state.name === 'open' || pass !== state.pass) return;
    if (state.name === 'probing') {
      this.#close(now);
      return;
    }
    this.#failuresInRow = 0;
    this.#counts.at(now).requests += 1;
  }

  /** The server has not. */
  failed(now: number, pass: Pass, error: PulsepoolError): void {
    const state = this.#state;
    if (state.name === 'open' || pass !== state.pass) return;
    if (state.name === 'closed') {
      const counts = this.#counts.at(now);
      counts.requests += 1;
      counts.charges += 1;
      this.#failuresInRow += 1;
      if (!this.#isTooMuch(now)) return;
    }
    this.#open(now, error);
  }

  /** Nothing was learned: the caller has gone, or never used it. The next one may probe at once. */
  release(pass: Pass): void {
    const state = this.#state;
    if (state.name !== 'probing' || pass !== state.pass) return;
    this.#move({ name: 'open', until: state.since, cause: state.cause });
  }

  #isTooMuch(now: number): boolean {
    const { failureRate, failures, minRequests } = this.#options;
    if (this.#failuresInRow >= failures) return true;
    const { charges, requests } = this.#counts.sum(now);
    return requests >= minRequests && charges >= failureRate * requests;
  }

  #open(now: number, cause: PulsepoolError): void {
    const { maxOpenMs, openMs, windowMs } = this.#options;
    // One probe proves little: a server may answer it and fall over under the load that follows. Such a flapping server
    // is to be left alone longer each time, so only a while of staying closed makes it a healthy one.
    if (this.#state.name === 'closed' && now - this.#closedAt >= windowMs) this.#doublings = 0;
    // Jitter comes after the cap, as in the back-off, or clients would be in step when the outage is longest.
    const jitter = 1 + JITTER * (2 * this.#random() - 1);
    const until = now + Math.min(maxOpenMs, openMs * 2 ** this.#doublings) * jitter;
    this.#doublings += 1;
    this.#move({ name: 'open', until, cause });
  }

  #close(now: number): void {
    // What it was opened for must not open it again.
    this.#counts = new SlidingCounts(this.#options.windowMs);
    this.#failuresInRow = 0;
    this.#closedAt = now;
    this.#move({ name: 'closed', pass: { isProbe: false } });
  }

  /** The last thing in every step: `onChange` may call in again. */
  #move(next: BreakerState): void {
    this.#state = follow(this.#state, next);
    this.#onChange(next);
  }
}

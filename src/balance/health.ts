/**
 * How one endpoint is: the states it goes through, and what was counted on the way. Who may be put out, and for how
 * long, is decided in outliers.ts.
 */
import { SlidingCounts } from '../retry/sliding-counts.ts';

/** What was tried: to dial, to ping, or to have a request answered. Each one proves what those before it prove. */
export type OutcomeKind = 'dial' | 'heartbeat' | 'request';

/** Why an endpoint was put out. */
export type EjectionReason = 'failures' | 'failure-rate' | 'latency';

/** What an endpoint is out for. */
export interface Ejection {
  readonly reason: EjectionReason;
  /** What failed last: only a success of this kind, or one that proves more, ends it. */
  readonly kind: OutcomeKind;
}

/**
 * - `healthy`: picked like any other
 * - `warming`: new or revived: picked more and more often
 * - `ejected`: not picked before `until`, then once
 * - `probing`: that one pick is out
 */
export type Health =
  | { readonly name: 'healthy' }
  | { readonly name: 'warming'; readonly since: number }
  | { readonly name: 'ejected'; readonly until: number; readonly why: Ejection }
  | { readonly name: 'probing'; readonly since: number; readonly why: Ejection };

/** The name of a state. */
export type HealthName = Health['name'];

/** Which state may follow which. */
export const HEALTH_TRANSITIONS: Readonly<Record<HealthName, readonly HealthName[]>> = {
  healthy: ['warming', 'ejected'],
  warming: ['healthy', 'ejected'],
  ejected: ['probing', 'warming'],
  probing: ['warming', 'ejected'],
};

/** The only way from state to state: returns the next one, or throws, since any other step is a bug of ours. */
export function follow(state: Health, next: Health): Health {
  if (HEALTH_TRANSITIONS[state.name].includes(next.name)) return next;
  throw new Error(`bug: an endpoint cannot go from ${state.name} to ${next.name}`);
}

const KINDS_IN_ORDER: readonly OutcomeKind[] = ['dial', 'heartbeat', 'request'];

/** Whether a success of one kind says that another kind would succeed too. */
export function proves(success: OutcomeKind, failure: OutcomeKind): boolean {
  return KINDS_IN_ORDER.indexOf(success) >= KINDS_IN_ORDER.indexOf(failure);
}

const HEALTHY: Health = { name: 'healthy' };

/** An endpoint's state and counts. */
export class HealthRecord {
  #state: Health = HEALTHY;
  /** It should be out, but too many are: when few are well, that makes the difference. */
  isFailing = false;
  /** Failures in a row of each kind; a success clears those of the kinds it proves. */
  readonly #inRow: Record<OutcomeKind, number> = { dial: 0, heartbeat: 0, request: 0 };
  /** Requests in a row that took far longer than those of its peers. */
  slowInRow = 0;
  /** How often it was put out, by and by forgotten. */
  times = 0;
  /** How often in all. */
  ejections = 0;
  /** When it was last brought back: `times` is forgotten from then on. */
  forgivenAt = 0;
  /** What began before is not held against it. */
  knownSince: number = Number.NEGATIVE_INFINITY;
  // Made with the first failure, or hundreds of members would have hundreds of rings that nobody needs.
  #counts: SlidingCounts | undefined;

  get state(): Health {
    return this.#state;
  }

  /** Whether it may be picked. */
  get isIn(): boolean {
    return this.#state.name === 'healthy' || this.#state.name === 'warming';
  }

  /** Whether it may be picked, and with a good conscience. */
  get isWell(): boolean {
    return this.isIn && !this.isFailing;
  }

  /** Failures since the last success that would have told otherwise. */
  get failuresInRow(): number {
    return this.#inRow.dial + this.#inRow.heartbeat + this.#inRow.request;
  }

  move(next: Health): void {
    this.#state = follow(this.#state, next);
  }

  heal(): void {
    this.move(HEALTHY);
  }

  countFailure(kind: OutcomeKind, now: number, windowMs: number): void {
    this.#inRow[kind] += 1;
    if (kind !== 'request') return;
    this.#counts ??= new SlidingCounts(windowMs);
    const counts = this.#counts.at(now);
    counts.requests += 1;
    counts.charges += 1;
  }

  countSuccess(kind: OutcomeKind, now: number): void {
    const inRow = this.#inRow;
    inRow.dial = 0;
    if (kind === 'dial') return;
    inRow.heartbeat = 0;
    if (kind === 'heartbeat') return;
    inRow.request = 0;
    if (this.#counts !== undefined) this.#counts.at(now).requests += 1;
  }

  /** The share of failures among recent requests, when they were at least so many; else 0. */
  failureRate(now: number, minRequests: number): number {
    if (this.#counts === undefined) return 0;
    const { charges, requests } = this.#counts.sum(now);
    return requests >= minRequests ? charges / requests : 0;
  }

  /** What it was put out for must not put it out again. */
  wipe(): void {
    this.#counts = undefined;
    this.#inRow.dial = 0;
    this.#inRow.heartbeat = 0;
    this.#inRow.request = 0;
    this.slowInRow = 0;
    this.isFailing = false;
  }
}

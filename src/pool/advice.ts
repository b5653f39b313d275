/**
 * Advice about the sizes and the idle timeout, from what the pool has seen of its own work. It says nothing while
 * there is too little to go by, and never advises to grow and to shrink at once.
 *
 * It only speaks: nobody changes an option because of it.
 */
import type { DemandSummary } from './demand.ts';
import type { LatencyStats } from './histogram.ts';
import type { GivenSizes, Sizes } from './sizes.ts';

/** One piece of advice. `message` says what was seen, and what would help. */
export type Advice = SizingAdvice | IdleTimeoutAdvice;

/** About the sizes: `resize` takes what it suggests. */
export interface SizingAdvice {
  readonly kind: 'raise-max' | 'saturated' | 'raise-min-idle' | 'lower-max';
  readonly message: string;
  /** Empty when no size would help. */
  readonly suggest: GivenSizes;
}

/** About an option of `createPool`. */
export interface IdleTimeoutAdvice {
  readonly kind: 'set-idle-timeout';
  readonly message: string;
  readonly suggest: { readonly idleTimeoutMs: number };
}

/** What advice is drawn from. */
export interface AdviceFacts {
  readonly sizes: Sizes;
  readonly demand: DemandSummary;
  /** How long callers waited, of those that had to. */
  readonly wait: LatencyStats;
  /** How long leases were held. */
  readonly hold: LatencyStats;
  /** How long dials took. */
  readonly dial: LatencyStats;
  /** Leases handed out. */
  readonly acquired: number;
  /** Of these, how many had to wait. */
  readonly waited: number;
  /** How long the pool has been there, in ms. */
  readonly uptimeMs: number;
  /** The idle age at which the server was seen to close sockets, in ms, if it was. */
  readonly serverIdleMs: number | undefined;
  /** The option, in ms. */
  readonly idleTimeoutMs: number;
}

// Fewer leases or waits than this are chance, and so is what was not needed in a shorter time.
const MIN_ACQUIRED = 100;
const MIN_WAITS = 10;
const MIN_COVERED_MS = 600_000;

// A wait below this is that of a few turns of the event loop, or not worth a socket.
const WORTH_MS = 1;

// Leases that were handed out can't keep more than `max` sockets busy, so a full pool comes near it from below.
const SATURATED = 0.95;

// Room above the highest demand that was seen: the next hour's may be higher.
const HEADROOM = 1.25;

// The share of the server's idle limit that is safe from its timer, and from bytes that are under way.
const SAFE_IDLE = 0.9;

/** What could be better; most often nothing. */
export function advise(facts: AdviceFacts): readonly Advice[] {
  const sizing = raiseMax(facts) ?? raiseMinIdle(facts) ?? lowerMax(facts);
  return [sizing, setIdleTimeout(facts)].filter((advice) => advice !== undefined);
}

function raiseMax({ acquired, demand, hold, sizes, uptimeMs, wait }: AdviceFacts): SizingAdvice | undefined {
  if (acquired < MIN_ACQUIRED || demand.shortCount < MIN_WAITS || wait.p99Ms < WORTH_MS) return undefined;
  if (hold.count === 0) return undefined;
  const { max } = sizes;
  const meanHoldMs = hold.sumMs / hold.count;
  // Little's law: arrival rate x mean time held = sockets busy on average (J. D. C. Little, A proof for the queuing
  // formula L = λW, 1961). Leases count since the pool was made, hours of rest included, and without those who gave
  // up; callers who found all sockets leased count lately, and all of them. (One burst is no rate.)
  const shortPerMs = rate(demand.shortCount, Math.max(demand.coveredMs, MIN_COVERED_MS));
  const perMs = Math.max(rate(acquired, uptimeMs), shortPerMs);
  if (perMs * meanHoldMs >= SATURATED * max) {
    const asked = twoDigits(perMs * meanHoldMs);
    return {
      kind: 'saturated',
      message:
        `The pool is saturated: callers would keep ${asked} sockets busy on average, and max is ${max} ` +
        `(leases are held ${spoken(meanHoldMs)} on average). More only help if the server can serve them faster.`,
      suggest: {},
    };
  }
  const more = Math.max(1, demand.shortP99);
  const noun = more === 1 ? 'socket' : 'sockets';
  return {
    kind: 'raise-max',
    message:
      `p99 of the wait is ${spoken(wait.p99Ms)}: ${more} more ${noun} would remove it ` +
      `(leases are held ${spoken(meanHoldMs)} on average).`,
    suggest: { max: max + more },
  };
}

function raiseMinIdle(facts: AdviceFacts): SizingAdvice | undefined {
  const { acquired, demand, dial, sizes, uptimeMs, wait, waited } = facts;
  if (waited < MIN_WAITS || demand.shortCount > 0 || demand.peakLeased >= sizes.max) return undefined;
  // Half a dial is the wait of a caller who came while one was under way; several are those of a burst that dials a
  // few at a time. A longer wait has another cause.
  const dialMs = dial.p50Ms;
  if (dialMs < WORTH_MS || wait.p99Ms < dialMs / 2 || wait.p99Ms > dialMs * 4) return undefined;
  // Little's law again: so many callers come while one dial is under way.
  const arriving = Math.min(Math.ceil(rate(acquired, uptimeMs) * dialMs), demand.peakLeased);
  const minIdle = Math.min(Math.max(arriving, sizes.minIdle + 1), sizes.maxIdle);
  if (minIdle <= sizes.minIdle) return undefined;
  return {
    kind: 'raise-min-idle',
    message:
      `p99 of the wait is ${spoken(wait.p99Ms)} although max is not reached, and a dial takes ${spoken(dialMs)}: ` +
      `warm spare sockets would hide the dial. Set minIdle to ${minIdle}.`,
    suggest: { minIdle },
  };
}

function lowerMax({ acquired, demand, sizes }: AdviceFacts): SizingAdvice | undefined {
  const { coveredMs, peakLeased, shortCount } = demand;
  if (acquired < MIN_ACQUIRED || coveredMs < MIN_COVERED_MS || shortCount > 0) return undefined;
  const { max, maxIdle, min, minIdle } = sizes;
  const target = Math.max(1, min, minIdle, Math.ceil(peakLeased * HEADROOM));
  if (target >= max) return undefined;
  // A `maxIdle` that is as large as `max` follows it.
  const isTooLarge = maxIdle > target && maxIdle !== max;
  return {
    kind: 'lower-max',
    message: `${max - peakLeased} of ${max} sockets were never needed in the last ${spokenMinutes(coveredMs)}.`,
    suggest: isTooLarge ? { max: target, maxIdle: target } : { max: target },
  };
}

function setIdleTimeout({
  idleTimeoutMs: configuredMs,
  serverIdleMs,
}: AdviceFacts): IdleTimeoutAdvice | undefined {
  if (serverIdleMs === undefined) return undefined;
  const idleTimeoutMs = Math.max(1, Math.floor(twoDigits(serverIdleMs) * SAFE_IDLE));
  if (configuredMs <= idleTimeoutMs) return undefined;
  return {
    kind: 'set-idle-timeout',
    message:
      `The server closes sockets that rest for about ${spoken(serverIdleMs)}: ` +
      `set idleTimeoutMs to ${idleTimeoutMs}.`,
    suggest: { idleTimeoutMs },
  };
}

function rate(count: number, ms: number): number {
  return ms > 0 ? count / ms : 0;
}

function twoDigits(value: number): number {
  return Number(value.toPrecision(2));
}

function spoken(ms: number): string {
  return ms < 1_000 ? `${twoDigits(ms)} ms` : `${twoDigits(ms / 1_000)} s`;
}

function spokenMinutes(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  return minutes >= 60 ? 'hour' : `${minutes} minutes`;
}

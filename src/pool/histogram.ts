/**
 * A histogram of latencies: a count and a sum that only grow, and percentiles of the last 5 to 10 minutes.
 *
 * Buckets are log-linear, 8 to a power of two: a percentile is off by at most 6.25 %. A histogram takes about 2 KiB
 * once it is used, and next to nothing before. What is measured, and one of how many, is its owner's business.
 * (Ours, because that of node:perf_hooks takes only integers, knows no weights, and remembers for ever.)
 */

/** A frozen snapshot. Percentiles are 0 when nothing was recorded lately. */
export interface LatencyStats {
  /** How many there were since the pool was made, in all. It only grows: take differences. */
  readonly count: number;
  /** How long they took in all, since the pool was made. It only grows: `sumMs / count` is their mean. */
  readonly sumMs: number;
  /** Half of those of the last 5 to 10 minutes took at most so long, to within 6.25 %. */
  readonly p50Ms: number;
  /** Nine out of ten. */
  readonly p90Ms: number;
  /** All but one in a hundred. */
  readonly p99Ms: number;
  /** The longest of the last 5 to 10 minutes, exactly. */
  readonly maxMs: number;
}

// As long as a scraper or a person may be away, and short enough that last night's outage doesn't colour today.
const WINDOW_MS = 300_000;

/** See the file's comment. */
export class Histogram {
  readonly #windows: Windows<Buckets> = new Windows(WINDOW_MS, new Buckets(), new Buckets());
  #count = 0;
  #sumMs = 0;

  /** Something took so long. It stands for `weight` of its kind. */
  record(ms: number, now: number, weight: number = 1): void {
    this.#windows.rotate(now);
    this.#windows.current.add(ms, weight);
    this.#count += weight;
    this.#sumMs += ms * weight;
  }

  /** Percentiles begin anew; count and sum go on. */
  forget(): void {
    this.#windows.clear();
  }

  /** What this share of those of the last 5 to 10 minutes did not exceed, in ms; `Infinity` when there were fewer than `few`. */
  percentile(share: number, few: number, now: number): number {
    this.#windows.rotate(now);
    const { current, previous } = this.#windows;
    if (current.count + previous.count < few) return Number.POSITIVE_INFINITY;
    return Buckets.percentile(share, current, previous);
  }

  /** A frozen snapshot. */
  snapshot(now: number): LatencyStats {
    this.#windows.rotate(now);
    const { current, previous } = this.#windows;
    return Object.freeze({
      count: this.#count,
      sumMs: this.#sumMs,
      p50Ms: Buckets.percentile(0.5, current, previous),
      p90Ms: Buckets.percentile(0.9, current, previous),
      p99Ms: Buckets.percentile(0.99, current, previous),
      maxMs: Math.max(current.max, previous.max),
    });
  }
}

/** Something that is emptied when its time is over. */
interface Clearable {
  clear(): void;
}

/** What is known of the time that runs, and of the time before it. They change places lazily: there is no timer. */
export class Windows<T extends Clearable> {
  readonly #windowMs: number;
  #current: T;
  #previous: T;
  #hasPrevious = false;
  // When the current window ends. The first one starts when it is first looked at.
  #endsAt: number = Number.NEGATIVE_INFINITY;

  constructor(windowMs: number, current: T, previous: T) {
    this.#windowMs = windowMs;
    this.#current = current;
    this.#previous = previous;
  }

  get current(): T {
    return this.#current;
  }

  get previous(): T {
    return this.#previous;
  }

  /** To be called before `current` and `previous` are used. */
  rotate(now: number): void {
    if (now < this.#endsAt) return;
    const ended = this.#current;
    this.#current = this.#previous;
    this.#previous = ended;
    this.#current.clear();
    // Nobody looked for a whole window, or never before: all that is known is too old.
    this.#hasPrevious = now < this.#endsAt + this.#windowMs;
    if (!this.#hasPrevious) ended.clear();
    this.#endsAt = (this.#hasPrevious ? this.#endsAt : now) + this.#windowMs;
  }

  /** As if nobody had ever looked. */
  clear(): void {
    this.#current.clear();
    this.#previous.clear();
    this.#hasPrevious = false;
    this.#endsAt = Number.NEGATIVE_INFINITY;
  }

  /** How long a time both windows cover, in ms. */
  coveredMs(now: number): number {
    return now - this.#endsAt + (this.#hasPrevious ? 2 : 1) * this.#windowMs;
  }
}

// The exponent of a single and the first three bits of its mantissa, read as one integer, are the number of its
// bucket: no logarithm, and no rounding at the edges. Both views have the same width, so byte order doesn't matter.
const SINGLE = new Float32Array(1);
const BITS = new Int32Array(SINGLE.buffer);
const DROPPED_BITS = 20;
const PER_OCTAVE = 8;

// From 2^-10 to 2^23: in ms, from 1 us to 2 hours and 20 minutes.
const LOWEST_OCTAVE = -10;
const OCTAVES = 33;
const BUCKETS = OCTAVES * PER_OCTAVE;
const EXPONENT_BIAS = 127;
const FIRST = (EXPONENT_BIAS + LOWEST_OCTAVE) * PER_OCTAVE;

/** Numbers counted by size. What is too small or too large for the buckets is in the first or the last one. */
export class Buckets {
  #counts: Uint32Array | undefined;
  #count = 0;
  #max = 0;

  /** How many numbers are in it, weighted. */
  get count(): number {
    return this.#count;
  }

  /** The largest one, exactly. */
  get max(): number {
    return this.#max;
  }

  add(value: number, weight: number): void {
    SINGLE[0] = value;
    // A signed shift, so that zero and less are too small, not too large.
    const index = Math.min(Math.max(((BITS[0] ?? 0) >> DROPPED_BITS) - FIRST, 0), BUCKETS - 1);
    this.#counts ??= new Uint32Array(BUCKETS);
    this.#counts[index] = (this.#counts[index] ?? 0) + weight;
    this.#count += weight;
    if (value > this.#max) this.#max = value;
  }

  clear(): void {
    if (this.#count > 0) this.#counts?.fill(0);
    this.#count = 0;
    this.#max = 0;
  }

  /** The middle of the bucket below which, or in which, lies this share of the numbers of both; 0 for none. */
  static percentile(share: number, one: Buckets, other: Buckets): number {
    const max = Math.max(one.#max, other.#max);
    let left = share * (one.#count + other.#count);
    for (let index = 0; index < BUCKETS; index += 1) {
      left -= (one.#counts?.[index] ?? 0) + (other.#counts?.[index] ?? 0);
      if (left <= 0) return Math.min(middle(index), max);
    }
    return max;
  }
}

function middle(index: number): number {
  const step = index % PER_OCTAVE;
  const octave = (index - step) / PER_OCTAVE + LOWEST_OCTAVE;
  return 2 ** octave * (1 + (step + 0.5) / PER_OCTAVE);
}

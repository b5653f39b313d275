/** What was counted in each stretch of time, and what can be read from numbers: spread, percentiles. */

/** Counts, one for each `widthMs` from 0 on. */
export class Series {
  readonly widthMs: number;
  readonly #counts: number[] = [];

  constructor(widthMs: number) {
    this.widthMs = widthMs;
  }

  add(now: number, amount: number = 1): void {
    const place = Math.floor(now / this.widthMs);
    while (this.#counts.length <= place) this.#counts.push(0);
    this.#counts[place] = (this.#counts[place] ?? 0) + amount;
  }

  /** All counts from one moment to before another one; both are multiples of the width. */
  between(fromMs: number, toMs: number): number[] {
    const from = Math.round(fromMs / this.widthMs);
    const to = Math.round(toMs / this.widthMs);
    return Array.from({ length: to - from }, (_, at) => this.#counts[from + at] ?? 0);
  }

  /** Their sum. */
  sum(fromMs: number, toMs: number): number {
    return sumOf(this.between(fromMs, toMs));
  }
}

/** How uneven some counts are. */
export interface Spread {
  /** The standard deviation by the mean. */
  readonly variation: number;
  /** The highest by the mean. */
  readonly peak: number;
}

export function spreadOf(counts: readonly number[]): Spread {
  const mean = sumOf(counts) / counts.length;
  const variance = sumOf(counts.map((count) => (count - mean) ** 2)) / counts.length;
  return { variation: Math.sqrt(variance) / mean, peak: Math.max(...counts) / mean };
}

/** For each share the least value that this share of them does not exceed; NaN of none. */
export function percentiles(values: readonly number[], shares: readonly number[]): number[] {
  const sorted = Float64Array.from(values).sort();
  return shares.map((share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN);
}

export function sumOf(values: readonly number[]): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

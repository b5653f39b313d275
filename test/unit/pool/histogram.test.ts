import { describe, expect, it } from 'vitest';
import { Histogram, type LatencyStats } from '../../../src/pool/histogram.ts';

const WINDOW_MS = 300_000;
const HOUR_MS = 3_600_000;
const NOTHING: LatencyStats = { count: 0, sumMs: 0, p50Ms: 0, p90Ms: 0, p99Ms: 0, maxMs: 0 };

/** What was recorded at time 0, seen there. */
function statsOf(...values: number[]): LatencyStats {
  const histogram = new Histogram();
  for (const ms of values) histogram.record(ms, 0);
  return histogram.snapshot(0);
}

/** Latencies from half a microsecond to three hours, the same on every run. */
function spread(length: number): number[] {
  let state = 1;
  return Array.from({ length }, () => {
    state = (state * 48_271) % 2_147_483_647;
    return 2 ** (-9.9 + 32.8 * (state / 2_147_483_647));
  });
}

describe('a histogram', () => {
  it('is all zeros when nothing was recorded', () => {
    expect(new Histogram().snapshot(0)).toEqual(NOTHING);
  });

  it('gives a frozen snapshot', () => {
    expect(Object.isFrozen(statsOf(1))).toBe(true);
  });

  it('counts and sums', () => {
    expect(statsOf(1, 2, 3.5)).toMatchObject({ count: 3, sumMs: 6.5 });
  });

  it('knows the longest one exactly', () => {
    expect(statsOf(17.123, 3, 5).maxMs).toBe(17.123);
  });

  it.each([
    ['p50Ms', 500],
    ['p90Ms', 900],
    ['p99Ms', 990],
  ] as const)('knows %s of 1 to 1000 ms to within 6.25 %', (name, exact) => {
    const values = Array.from({ length: 1_000 }, (_, index) => index + 1);
    const ratio = statsOf(...values)[name] / exact;
    expect(ratio).toBeGreaterThan(1 - 0.0625);
    expect(ratio).toBeLessThan(1 + 0.0625);
  });

  it('is off by at most 6.25 % for any latency from a microsecond to two hours', () => {
    // The longer one keeps the maximum from correcting the percentile.
    const ratios = spread(2_000).map((ms) => statsOf(ms, ms, HOUR_MS * 3).p50Ms / ms);
    expect(Math.min(...ratios)).toBeGreaterThanOrEqual(1 - 0.0625);
    expect(Math.max(...ratios)).toBeLessThanOrEqual(1 + 0.0625);
  });

  it('lets no percentile exceed the longest one', () => {
    // The lower edge of a bucket, whose middle is above it.
    expect(statsOf(64, 64)).toMatchObject({ p50Ms: 64, p99Ms: 64, maxMs: 64 });
  });

  it.each([0, -0, -5, 1e-9, 5e-324])('takes %d ms as less than a microsecond', (ms) => {
    const { p50Ms } = statsOf(ms, ms, 1);
    expect(p50Ms).toBeGreaterThan(0);
    expect(p50Ms).toBeLessThan(0.0011);
  });

  it.each([HOUR_MS * 3, 1e12, 1e300])('takes %d ms as more than two hours', (ms) => {
    const { maxMs, p50Ms } = statsOf(ms, ms, 1);
    expect(p50Ms).toBeGreaterThan(HOUR_MS * 2);
    expect(p50Ms).toBeLessThan(HOUR_MS * 2.5);
    expect(maxMs).toBe(ms);
  });
});

describe('a weight', () => {
  it('counts for so many in the count, the sum and the percentiles, and not in the maximum', () => {
    const histogram = new Histogram();
    histogram.record(1, 0, 16);
    histogram.record(100, 0);
    const { count, maxMs, p50Ms, p90Ms, p99Ms, sumMs } = histogram.snapshot(0);
    expect({ count, maxMs, sumMs }).toEqual({ count: 17, maxMs: 100, sumMs: 116 });
    expect(p50Ms).toBeLessThan(1.1);
    expect(p90Ms).toBeLessThan(1.1);
    expect(p99Ms).toBeGreaterThan(90);
  });
});

describe('the windows of a histogram', () => {
  it('remember at least five minutes', () => {
    const histogram = new Histogram();
    histogram.record(1, 0);
    histogram.record(100, WINDOW_MS - 1);
    expect(histogram.snapshot(2 * WINDOW_MS - 1).maxMs).toBe(100);
  });

  it('forget after ten, however long the quiet before', () => {
    const histogram = new Histogram();
    histogram.record(100, 0);
    histogram.record(1, WINDOW_MS);
    const lately = histogram.snapshot(2 * WINDOW_MS);
    expect(lately.maxMs).toBe(1);
    expect(lately.p99Ms).toBe(1);
  });

  it('give percentiles of both', () => {
    const histogram = new Histogram();
    histogram.record(100, 0);
    histogram.record(1, WINDOW_MS);
    const { maxMs, p50Ms, p99Ms } = histogram.snapshot(WINDOW_MS);
    expect(p50Ms).toBeLessThan(1.1);
    expect(p99Ms).toBeGreaterThan(90);
    expect(maxMs).toBe(100);
    histogram.record(1_000, WINDOW_MS);
    expect(histogram.snapshot(WINDOW_MS).p50Ms).toBeLessThan(110);
  });

  it('are both empty after hours in which nobody looked, and the count and the sum stay', () => {
    const histogram = new Histogram();
    histogram.record(100, 0);
    histogram.record(50, WINDOW_MS);
    expect(histogram.snapshot(7 * HOUR_MS)).toEqual({ ...NOTHING, count: 2, sumMs: 150 });
  });

  it('start again after hours, wherever that falls', () => {
    const histogram = new Histogram();
    histogram.record(100, 0);
    const later = 7 * HOUR_MS + 123_456;
    histogram.record(2, later);
    expect(histogram.snapshot(later + 2 * WINDOW_MS - 1).maxMs).toBe(2);
    expect(histogram.snapshot(later + 2 * WINDOW_MS).maxMs).toBe(0);
  });

  it('start with a clock that stands anywhere', () => {
    const histogram = new Histogram();
    histogram.record(3, 1e9);
    expect(histogram.snapshot(1e9 + WINDOW_MS).maxMs).toBe(3);
  });

  it('take the place of an emptied one without its numbers', () => {
    const histogram = new Histogram();
    for (let turn = 0; turn < 4; turn += 1) {
      histogram.record(2 ** turn, turn * WINDOW_MS);
      const { p50Ms, maxMs } = histogram.snapshot(turn * WINDOW_MS);
      expect(maxMs).toBe(2 ** turn);
      expect(p50Ms).toBeGreaterThan(2 ** turn / 2.1);
    }
    expect(histogram.snapshot(3 * WINDOW_MS)).toMatchObject({ count: 4, sumMs: 15 });
  });
});

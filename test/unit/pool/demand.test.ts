import { describe, expect, it } from 'vitest';
import { Demand } from '../../../src/pool/demand.ts';

const WINDOW_MS = 1_800_000;
const HOUR_MS = 3_600_000;

describe('the demand', () => {
  it('is nothing before anybody came', () => {
    expect(new Demand().summary(5_000)).toEqual({ peakLeased: 0, shortP99: 0, shortCount: 0, coveredMs: 0 });
  });

  it('gives a frozen summary', () => {
    expect(Object.isFrozen(new Demand().summary(0))).toBe(true);
  });

  it('knows the most leases held at once', () => {
    const demand = new Demand();
    for (const [second, peak] of [2, 7, 3].entries()) demand.see(peak, second * 1_000);
    expect(demand.summary(3_000).peakLeased).toBe(7);
  });

  it('counts callers who came when all were leased', () => {
    const demand = new Demand();
    for (let missing = 1; missing <= 3; missing += 1) demand.short(missing, 0);
    expect(demand.summary(0)).toMatchObject({ shortCount: 3, shortP99: 3 });
  });

  it.each(Array.from({ length: 15 }, (_, index) => index + 1))(
    'knows a shortage of %i exactly',
    (missing) => {
      const demand = new Demand();
      for (let times = 0; times < 200; times += 1) demand.short(missing, 0);
      demand.short(1_000, 0);
      expect(demand.summary(0).shortP99).toBe(missing);
    },
  );

  it.each([17, 100, 256, 1_000, 1_000_000])('knows a shortage of %i to within a sixteenth', (missing) => {
    const demand = new Demand();
    for (let times = 0; times < 200; times += 1) demand.short(missing, 0);
    demand.short(missing * 2, 0);
    const { shortP99 } = demand.summary(0);
    expect(Number.isInteger(shortP99)).toBe(true);
    expect(Math.abs(shortP99 / missing - 1)).toBeLessThanOrEqual(0.0625);
  });

  it('leaves one shortage in a hundred out', () => {
    const demand = new Demand();
    for (let times = 0; times < 99; times += 1) demand.short(2, 0);
    demand.short(500, 0);
    expect(demand.summary(0).shortP99).toBe(2);
    demand.short(500, 0);
    expect(demand.summary(0).shortP99).toBeGreaterThan(400);
  });
});

describe('the windows of the demand', () => {
  it('remember at least half an hour', () => {
    const demand = new Demand();
    demand.see(1, 0);
    demand.see(9, WINDOW_MS - 1);
    demand.short(4, WINDOW_MS - 1);
    expect(demand.summary(2 * WINDOW_MS - 1)).toMatchObject({ peakLeased: 9, shortP99: 4, shortCount: 1 });
  });

  it('forget after an hour', () => {
    const demand = new Demand();
    demand.see(9, 0);
    demand.short(4, 0);
    demand.see(2, WINDOW_MS);
    demand.short(1, WINDOW_MS);
    expect(demand.summary(WINDOW_MS)).toMatchObject({ peakLeased: 9, shortP99: 4, shortCount: 2 });
    expect(demand.summary(2 * WINDOW_MS)).toMatchObject({ peakLeased: 2, shortP99: 1, shortCount: 1 });
  });

  it('are both empty after hours in which nobody looked', () => {
    const demand = new Demand();
    demand.see(9, 0);
    demand.short(4, WINDOW_MS);
    expect(demand.summary(5 * HOUR_MS)).toEqual({ peakLeased: 0, shortP99: 0, shortCount: 0, coveredMs: 0 });
  });

  it.each([
    [0, 0],
    [60_000, 60_000],
    [WINDOW_MS - 1, WINDOW_MS - 1],
    [WINDOW_MS, WINDOW_MS],
    [2 * WINDOW_MS - 1, 2 * WINDOW_MS - 1],
    [2 * WINDOW_MS, WINDOW_MS],
    [2 * WINDOW_MS + 60_000, WINDOW_MS + 60_000],
    [9 * WINDOW_MS + 60_000, WINDOW_MS + 60_000],
  ])('cover, after %i ms of watching, %i ms', (watchedMs, coveredMs) => {
    const demand = new Demand();
    const startedAt = 77_000;
    for (let ms = 0; ms < watchedMs; ms += 1_000) demand.see(1, startedAt + ms);
    expect(demand.summary(startedAt + watchedMs).coveredMs).toBe(coveredMs);
  });
});

import { describe, expect, it } from 'vitest';
import { PulsepoolError } from '../../../src/errors.ts';
import { Backoff, fullJitterMs } from '../../../src/transport/backoff.ts';

const BOUNDS = { baseMs: 100, capMs: 2_000 };
const refused = new PulsepoolError('ERR_REFUSED', 'refused', { retryable: true, hint: 'none' });

/** Chance that always draws the same. */
const always = (value: number) => () => value;

describe('full jitter', () => {
  it('doubles the ceiling with each failure, up to the cap', () => {
    const ceilings = [0, 1, 2, 3, 4, 5, 60, 5_000].map((n) => fullJitterMs(n, BOUNDS, always(1)));
    expect(ceilings).toEqual([100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
  });

  it('reaches from zero to the ceiling, at the cap too', () => {
    expect(fullJitterMs(10, BOUNDS, always(0))).toBe(0);
    expect(fullJitterMs(10, BOUNDS, always(0.25))).toBe(500);
    const drawn = new Set(Array.from({ length: 100 }, () => fullJitterMs(50, BOUNDS, Math.random)));
    expect(drawn.size).toBeGreaterThan(90);
  });
});

describe('a back-off', () => {
  it('lets the first dial start at once', () => {
    const backoff = new Backoff(BOUNDS, always(1));
    expect(backoff.waitMs(0)).toBe(0);
    expect(backoff.isFailing).toBe(false);
  });

  it('waits longer after each failure in a row', () => {
    const backoff = new Backoff(BOUNDS, always(1));
    let now = 0;
    const waits: number[] = [];
    for (let i = 0; i < 7; i++) {
      const startedAt = now;
      now += 5;
      waits.push(backoff.failed(refused, startedAt, now));
      expect(backoff.waitMs(now)).toBe(waits.at(-1));
      now += backoff.waitMs(now);
      expect(backoff.waitMs(now)).toBe(0);
    }
    expect(waits).toEqual([100, 200, 400, 800, 1_600, 2_000, 2_000]);
    expect(backoff.failures).toBe(7);
    expect(backoff.lastError).toBe(refused);
  });

  it('counts dials that ran side by side and failed together once', () => {
    const backoff = new Backoff(BOUNDS, always(1));
    backoff.failed(refused, 0, 5);
    backoff.failed(refused, 0, 6);
    backoff.failed(refused, 1, 7);
    expect(backoff.failures).toBe(1);
    expect(backoff.waitMs(7)).toBe(98);
  });

  it('is not lifted by a dial that began before the failure', () => {
    const backoff = new Backoff(BOUNDS, always(1));
    backoff.failed(refused, 0, 10);
    backoff.opened(5, 11);
    expect(backoff.isFailing).toBe(true);
    expect(backoff.waitMs(11)).toBe(99);
  });

  it('lets dials start again as soon as one has succeeded', () => {
    const backoff = new Backoff(BOUNDS, always(1));
    backoff.failed(refused, 0, 5);
    backoff.opened(40, 50);
    expect(backoff.waitMs(50)).toBe(0);
    expect(backoff.isFailing).toBe(false);
    expect(backoff.lastError).toBe(refused);
  });

  it('goes on where it was when the server accepts and then closes', () => {
    const backoff = new Backoff(BOUNDS, always(1));
    let now = 0;
    const waits: number[] = [];
    for (let i = 0; i < 4; i++) {
      backoff.opened(now, now);
      now += 10;
      waits.push(backoff.failed(refused, now, now));
      now += backoff.waitMs(now);
    }
    expect(waits).toEqual([100, 200, 400, 800]);
  });

  it('starts anew after a socket has lived for a second', () => {
    const backoff = new Backoff(BOUNDS, always(1));
    backoff.failed(refused, 0, 5);
    backoff.failed(refused, 200, 205);
    backoff.opened(1_000, 1_000);
    expect(backoff.failed(refused, 2_000, 2_000)).toBe(100);
    expect(backoff.failures).toBe(1);
  });
});

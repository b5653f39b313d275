import { describe, expect, it } from 'vitest';
import { PeakEwma } from '../../../src/balance/peak-ewma.ts';

/** One sample each 100 ms. */
function fed(samples: readonly number[], ewma = new PeakEwma(), from = 0): PeakEwma {
  samples.forEach((sample, index) => {
    ewma.add(sample, from + index * 100);
  });
  return ewma;
}

describe('the latency of an endpoint', () => {
  it('is 0 before the first reply', () => {
    expect(new PeakEwma().ms).toBe(0);
    expect(new PeakEwma().fadedMs(1_000)).toBe(0);
  });

  it('begins with the lowest of the first three replies: the first one on a new socket is slow', () => {
    expect(fed([300]).ms).toBe(300);
    expect(fed([300, 20, 25]).ms).toBe(20);
  });

  it('does not move for one slow reply, and hardly for two', () => {
    expect(fed([20, 20, 20, 400]).ms).toBe(20);
    expect(fed([20, 20, 20, 400, 400]).ms).toBeLessThan(25);
    expect(fed([20, 20, 20, 400, 20, 20, 400, 20, 20, 400]).ms).toBeLessThan(25);
  });

  it('jumps at the third slow reply in a row, to the fastest of them', () => {
    expect(fed([20, 20, 20, 130, 120, 140]).ms).toBe(120);
  });

  it('does not jump for three slow replies that come at once: they may be one accident', () => {
    const ewma = fed([20, 20, 20]);
    for (const at of [300, 301, 302]) ewma.add(400, at);
    expect(ewma.ms).toBeLessThan(25);
    ewma.add(400, 321);
    expect(ewma.ms).toBe(400);
  });

  it('comes down by a third of the way in four seconds of fast replies', () => {
    const ewma = fed([120, 120, 120]);
    const times = Array.from({ length: 40 }, () => 20);
    expect((fed(times, ewma, 300).ms - 20) / 100).toBeCloseTo(Math.exp(-0.4), 1);
  });

  it('fades with silence, to a third in eleven seconds, and what was known is kept', () => {
    const ewma = fed([120, 120, 120]);
    expect(ewma.fadedMs(200 + 10_000 * Math.log(3))).toBeCloseTo(40);
    expect(ewma.ms).toBe(120);
  });

  it('believes the first fast reply after a long silence', () => {
    const ewma = fed([120, 120, 120]);
    ewma.add(20, 200 + 10_000 * Math.log(3));
    expect(ewma.ms).toBeCloseTo(30);
  });

  it('does not give one reply more than three tenths of the weight, however long there was none', () => {
    const ewma = fed([20, 20, 20]);
    ewma.add(12, 60_000);
    expect(ewma.ms).toBeCloseTo(20 - 8 * 0.3);
  });

  it('is as slow as ever after a slow reply to the one request that was to find out', () => {
    const ewma = fed([120, 120, 120]);
    ewma.add(125, 12_000);
    expect(ewma.ms).toBeGreaterThanOrEqual(120);
    expect(ewma.fadedMs(12_100)).toBeGreaterThan(115);
  });

  it('forgets everything when told to', () => {
    const ewma = fed([120, 120, 120]);
    ewma.forget();
    expect(ewma.ms).toBe(0);
    expect(fed([20], ewma, 1_000).ms).toBe(20);
  });
});

/**
 * Chance that is the same in each run: it comes from a seed, and each purpose has a stream of its own, so that two policies
 * meet the same arrivals and the same service times.
 */
import type { RandomSource } from '../src/clock.ts';

/** Mulberry32 (T. Ettinger): 32 bits of state are enough for some ten million draws. */
export function seeded(seed: number): RandomSource {
  let state = Math.imul(seed, 0x9e3779b1) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The time between two arrivals of a Poisson process. */
export function exponential(mean: number, random: RandomSource): number {
  return -Math.log(1 - random()) * mean;
}

/** Lognormal with this mean: sigma 0.5 has a 99th percentile of 2.8 times the mean. */
export function lognormal(mean: number, sigma: number, random: RandomSource): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return mean * Math.exp(sigma * normal - (sigma * sigma) / 2);
}

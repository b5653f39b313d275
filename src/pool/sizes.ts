/**
 * How many sockets a pool may have, and how the four numbers bind each other.
 */
import { checkInteger, invalidOption, valueOr } from '../option-check.ts';

/** The four numbers. */
export interface Sizes {
  /** Sockets kept open even when nobody needs them. */
  readonly min: number;
  /** Sockets at rest that are kept ready, beside those that are leased. */
  readonly minIdle: number;
  /** Sockets that may rest. */
  readonly maxIdle: number;
  /** Sockets at most, dialing and closing ones included. */
  readonly max: number;
}

/** The names of the four, in the order of the table in the README. */
export const SIZE_NAMES: readonly (keyof Sizes)[] = ['min', 'minIdle', 'maxIdle', 'max'];

/** What a caller gives: all may be left out. */
export type GivenSizes = { readonly [Name in keyof Sizes]?: Sizes[Name] | undefined };

/**
 * Completes `given` from `current`. A `maxIdle` that was as large as `max` goes on being so.
 *
 * @throws PulsepoolError `ERR_INVALID_OPTION` for sizes that contradict each other.
 */
export function resolveSizes(given: GivenSizes, current: Sizes): Sizes {
  const max = checkInteger('max', valueOr(given.max, current.max), { min: 1 });
  const min = checkInteger('min', valueOr(given.min, current.min), { min: 0 });
  const minIdle = checkInteger('minIdle', valueOr(given.minIdle, current.minIdle), { min: 0 });
  const follows = current.maxIdle === current.max;
  const maxIdle = checkInteger('maxIdle', valueOr(given.maxIdle, follows ? max : current.maxIdle), {
    min: 0,
  });
  for (const [name, value] of Object.entries({ min, minIdle, maxIdle })) {
    if (value > max) throw invalidOption(name, `be at most \`max\` (${max})`, value);
  }
  for (const [name, value] of Object.entries({ min, minIdle })) {
    if (maxIdle < value) throw invalidOption('maxIdle', `be at least \`${name}\` (${value})`, maxIdle);
  }
  return Object.freeze({ min, minIdle, maxIdle, max });
}

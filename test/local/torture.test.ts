/**
 * The bleed torture, in short. `npm run torture` goes on for minutes.
 */
import { describe, expect, it } from 'vitest';
import { torture } from '../torture/torture.mjs';
import { complaintsAbout, missingIn } from '../torture/verdict.mjs';

// Alone the pool takes about 5 s and each client 3 s; here other tests use the same two cores.
const LIMIT_MS = 60_000;

describe('under torture', () => {
  it('a pool gives each of 20,000 callers the reply to its own question, or none', {
    timeout: 2 * LIMIT_MS,
  }, async () => {
    const outcome = await torture({ subject: 'pool', seed: 1, requests: 20_000, limitMs: LIMIT_MS });
    expect(outcome.tally.mismatched).toBe(0);
    expect(complaintsAbout(outcome)).toEqual([]);
    // Every misdeed of the server and every act of the callers has happened, or nothing was tested.
    expect(missingIn(outcome)).toEqual([]);
  });

  it.each(['exclusive', 'pipelined', 'multiplexed'] as const)(
    'a client that is %s gives each of 3,000 callers the reply to its own question, or none',
    { timeout: 2 * LIMIT_MS },
    async (subject) => {
      const outcome = await torture({ subject, seed: 1, requests: 3_000, limitMs: LIMIT_MS });
      expect(outcome.tally.mismatched).toBe(0);
      expect(complaintsAbout(outcome)).toEqual([]);
      // What is rare is left to the long one. Here every misdeed of the server has happened.
      expect(missingIn(outcome).filter((what) => what.startsWith('misdeed'))).toEqual([]);
    },
  );
});

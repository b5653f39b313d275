/**
 * The bleed torture, in short. `npm run torture` asks a million times.
 */
import { expect, it } from 'vitest';
import { torture } from '../torture/torture.mjs';
import { complaintsAbout, missingIn } from '../torture/verdict.mjs';

// Alone it takes about 5 s; here other tests use the same two cores.
const LIMIT_MS = 60_000;

it('gives each of 20,000 callers the reply to its own question, or none', {
  timeout: 2 * LIMIT_MS,
}, async () => {
  const outcome = await torture({ seed: 1, requests: 20_000, limitMs: LIMIT_MS });
  expect(outcome.tally.mismatched).toBe(0);
  expect(complaintsAbout(outcome)).toEqual([]);
  // Every misdeed of the server and every act of the callers has happened, or nothing was tested.
  expect(missingIn(outcome)).toEqual([]);
});

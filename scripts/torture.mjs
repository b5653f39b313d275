/**
 * `npm run torture`: builds, and asks a million questions of a server that misbehaves (test/torture/torture.mjs).
 *
 *     npm run torture -- --seed 7 --requests 50000    another mixture, and a shorter one
 *     npm run torture -- --limit-s 600                nothing more is asked after so long, and the torture has failed
 *
 * The status is 1 when an answer reached the wrong caller, when anything else was wrong, or when something that
 * should have been tested did not happen.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureInstalled, root, run } from './install.mjs';

const { seed, requests, limitMs } = options();
await ensureInstalled();
const { status } = await run(process.execPath, [join(root, 'scripts', 'build.mjs')]);
if (status !== 0) process.exit(status);

// Not earlier: they import 'pulsepool', which is dist/.
const { torture } = await import('../test/torture/torture.mjs');
const { complaintsAbout, missingIn } = await import('../test/torture/verdict.mjs');
const { tableOf } = await import('../test/torture/table.mjs');

const begun = performance.now();
const outcome = await torture({ seed, requests, limitMs, onProgress: tellProgress });
console.log(tableOf(outcome));
const complaints = complaintsAbout(outcome);
// A short torture may miss what is rare.
const missing = missingIn(outcome).map((what) => `did not happen: ${what}`);
for (const complaint of [...complaints, ...missing]) console.log(`WRONG  ${complaint}`);
const isFine = complaints.length + missing.length === 0;
console.log(
  isFine ? '\nevery reply reached its own caller, and nothing is left' : `\nFAILED with seed ${seed}`,
);
if (!isFine) process.exitCode = 1;

/** One line every ten seconds. */
function tellProgress(/** @type {number} */ asked) {
  const seconds = Math.round((performance.now() - begun) / 1_000);
  if (seconds % 10 === 0) process.stderr.write(`${seconds} s: ${asked.toLocaleString('en-US')} asked\n`);
}

function options() {
  try {
    const { values } = parseArgs({
      options: {
        seed: { type: 'string', default: '1' },
        requests: { type: 'string', default: '1000000' },
        'limit-s': { type: 'string', default: '600' },
      },
    });
    return {
      seed: count('seed', values.seed),
      requests: count('requests', values.requests),
      limitMs: 1_000 * count('limit-s', values['limit-s']),
    };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}`);
    console.error('usage: npm run torture -- [--seed N] [--requests N] [--limit-s N]');
    process.exit(2);
  }
}

/** @param {string} name @param {string} text */
function count(name, text) {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new Error(`--${name} must be a whole number above 0, got '${text}'`);
}

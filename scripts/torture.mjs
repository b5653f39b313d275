/**
 * `npm run torture`: builds, and asks a server that misbehaves as much as can be asked in some minutes, of pools and of
 * clients in each mode (test/torture/torture.mjs).
 *
 *     npm run torture -- --seconds 1200                for twenty minutes
 *     npm run torture -- --only pipelined,exclusive    pool, exclusive, pipelined, multiplexed
 *     npm run torture -- --seed 7 --requests 50000     another mixture, and so many requests of each, within `--seconds`
 *
 * The status is 1 when an answer reached the wrong caller, when anything else was wrong, or when something that
 * should have been tested did not happen.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureInstalled, root, run } from './install.mjs';

// Of the time. Pools have the most ways to be used.
const SHARES = { pool: 0.4, exclusive: 0.2, pipelined: 0.2, multiplexed: 0.2 };
const SECONDS = 165;

const { seed, requests, seconds, subjects } = options();
await ensureInstalled();
const { status } = await run(process.execPath, [join(root, 'scripts', 'build.mjs')]);
if (status !== 0) process.exit(status);

// Not earlier: they import 'pulsepool', which is dist/.
const { torture } = await import('../test/torture/torture.mjs');
const { complaintsAbout, missingIn } = await import('../test/torture/verdict.mjs');
const { tableOf } = await import('../test/torture/table.mjs');

const begun = performance.now();
const shares = subjects.reduce((sum, subject) => sum + SHARES[subject], 0);
let wrong = 0;
for (const subject of subjects) {
  const limitMs = (1_000 * seconds * SHARES[subject]) / shares;
  const outcome = await torture({
    subject,
    seed,
    limitMs,
    ...(requests === undefined ? {} : { requests }),
    onProgress: (asked) => tellProgress(subject, asked),
  });
  console.log(tableOf(outcome));
  // A short torture may miss what is rare.
  const missing = missingIn(outcome).map((what) => `did not happen: ${what}`);
  const complaints = [...complaintsAbout(outcome), ...missing];
  for (const complaint of complaints) console.log(`WRONG  ${complaint}`);
  console.log('');
  wrong += complaints.length;
}
console.log(
  wrong === 0 ? 'every reply reached its own caller, and nothing is left' : `FAILED with seed ${seed}`,
);
if (wrong > 0) process.exitCode = 1;

/**
 * One line every ten seconds.
 *
 * @param {string} subject
 * @param {number} asked
 */
function tellProgress(subject, asked) {
  const passed = Math.round((performance.now() - begun) / 1_000);
  if (passed % 10 !== 0) return;
  process.stderr.write(`${passed} s, ${subject}: ${asked.toLocaleString('en-US')} asked\n`);
}

function options() {
  try {
    const { values } = parseArgs({
      options: {
        seed: { type: 'string', default: '1' },
        requests: { type: 'string' },
        seconds: { type: 'string', default: String(SECONDS) },
        only: { type: 'string' },
      },
    });
    return {
      seed: count('seed', values.seed),
      requests: values.requests === undefined ? undefined : count('requests', values.requests),
      seconds: count('seconds', values.seconds),
      subjects: subjectsIn(values.only ?? Object.keys(SHARES).join(',')),
    };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}`);
    console.error(
      'usage: npm run torture -- [--seed N] [--seconds N] [--requests N] [--only pool,exclusive,pipelined,multiplexed]',
    );
    process.exit(2);
  }
}

/** @param {string} name @param {string} text */
function count(name, text) {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new Error(`--${name} must be a whole number above 0, got '${text}'`);
}

function subjectsIn(/** @type {string} */ text) {
  return text.split(',').map((name) => {
    if (name in SHARES) return /** @type {keyof typeof SHARES} */ (name);
    throw new Error(`--only must name some of ${Object.keys(SHARES).join(', ')}, got '${name}'`);
  });
}

/**
 * `npm run bench`: builds, runs each benchmark in a process of its own, and prints the machine and one table.
 *
 *     npm run bench -- --only acquire    that one (acquire, request, redis, framing, spike, overload or idle)
 *     npm run bench -- --write           draws docs/spike.svg; by default no file is written
 *     npm run bench -- --strict          exits 1 when a bar is missed; by default a missed bar is only printed
 */
import { fork } from 'node:child_process';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { benchmarks } from '../bench/list.mjs';
import { formatRow } from '../bench/measure.mjs';
import { ensureInstalled, root, run } from './install.mjs';

// The longest takes about 80 s. One that hangs must not hold the rest.
const LIMIT_MS = 150_000;

const { only, strict, write } = parseArgs({
  options: {
    only: { type: 'string' },
    strict: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
}).values;
const names = Object.keys(benchmarks).filter((name) => only === undefined || name === only);
if (names.length === 0) {
  process.stderr.write(`There is no benchmark '${only}'; there are ${Object.keys(benchmarks).join(', ')}.\n`);
  process.exit(2);
}

await ensureInstalled();
const { status } = await run(process.execPath, [join(root, 'scripts', 'build.mjs')]);
if (status !== 0) process.exit(status);

console.log(machine());
let missed = 0;
for (const name of names) {
  process.stderr.write(`running ${name}\n`);
  const rows = await measure(name);
  console.log(`\n${name}`);
  for (const row of rows) console.log(formatRow(row));
  missed += rows.filter(({ ok }) => !ok).length;
}
console.log(missed === 0 ? '\nevery bar is met' : `\n${missed} missed`);
if (strict && missed > 0) process.exitCode = 1;

/**
 * @param {string} name
 * @returns {Promise<import('../bench/measure.mjs').Row[]>}
 */
function measure(name) {
  return new Promise((resolve, reject) => {
    const args = write ? [name, '--write'] : [name];
    const child = fork(join(root, 'bench', 'run.mjs'), args, { execArgv: benchmarks[name]?.flags ?? [] });
    /** @type {import('../bench/measure.mjs').Row[] | undefined} */
    let rows;
    const timer = setTimeout(() => child.kill(), LIMIT_MS);
    child.once('message', (message) => {
      rows = /** @type {import('../bench/measure.mjs').Row[]} */ (message);
    });
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      if (rows === undefined)
        reject(new Error(`benchmark '${name}' ended with ${signal ?? code} and no rows`));
      else resolve(rows);
    });
  });
}

/** What the figures were measured on. They mean little without it. */
function machine() {
  const model = cpus()[0]?.model.trim() ?? 'unknown CPU';
  const load = loadavg()[0]?.toFixed(1);
  const memory = Math.round(totalmem() / 2 ** 30);
  return (
    `${model}, ${availableParallelism()} cores, ${memory} GiB; ${type()} ${release()}; ` +
    `Node ${process.version}; load ${load} before the start`
  );
}

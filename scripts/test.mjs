/**
 * `npm test`: every check and every test, from a fresh clone on.
 *
 *     npm test                            all of it
 *     npm test -- --without-containers    without the tests that need Docker
 *     npm test -- --only unit             one project of vitest.config.ts (after the build), no other checks
 *
 * The engine and the images that the integration tests need are prepared in the background meanwhile. The last
 * line is `N passed, N failed`: checks and tests together. The status is 1 when one has failed.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureInstalled, root, run, tool } from './install.mjs';

const begun = performance.now();
const { only, 'without-containers': withoutContainers } = options();
const containersAreOff = withoutContainers || process.env['PULSEPOOL_TEST_CONTAINERS'] === 'off';
if (containersAreOff) process.env['PULSEPOOL_TEST_CONTAINERS'] = 'off';
// Tools that are asked by a pipe should not answer in colours.
if (!process.stdout.isTTY && process.env['FORCE_COLOR'] === undefined) process.env['NO_COLOR'] = '1';

const totals = { passed: 0, failed: 0, skipped: 0 };
/** @type {string[]} */
const failures = [];

const needsContainers = !containersAreOff && (only === undefined || only === 'integration');
const containers = needsContainers
  ? run('bash', [join(root, 'scripts', 'docker-env.sh')], { show: 'errors' })
  : undefined;
try {
  await ensureInstalled();
  await everything();
} catch (error) {
  failed(`${error instanceof Error ? error.message : error}`);
  // It may still be at work, and has a voice: the last line is to be ours.
  await containers;
}

for (const failure of failures) console.log(`failed: ${failure}`);
if (containersAreOff) {
  console.log('The tests against real servers in containers were LEFT OUT: PULSEPOOL_TEST_CONTAINERS=off.');
}
if (totals.skipped > 0) console.log(`${totals.skipped} skipped`);
console.log(`after ${((performance.now() - begun) / 1000).toFixed(0)} s`);
console.log(`${totals.passed} passed, ${totals.failed} failed`);
process.exitCode = totals.failed > 0 ? 1 : 0;

async function everything() {
  if (only === undefined) {
    await check('lint and format', tool('biome'), ['check', '.']);
    await check('types', tool('tsc'), ['-p', 'tsconfig.test.json']);
  }
  await check('build', process.execPath, [join(root, 'scripts', 'build.mjs')]);
  if (only === undefined) {
    await check('dead code', tool('knip'), []);
    await check('package contents', tool('publint'), ['--strict']);
    await check('package types', tool('attw'), ['--pack', '.', '--profile', 'esm-only']);
  }

  // Two runs, so that the first need not wait for containers, nor the second share its time with the first.
  if (only !== 'integration') await tests(only === undefined ? '!integration' : only);
  if (only === undefined || only === 'integration') {
    const prepared = containers && (await checkContainers(await containers));
    // Without them there is nothing to run, and every one of those tests would only say so again.
    if (prepared !== false) await tests('integration', prepared);
  }
}

function options() {
  try {
    return parseArgs({
      options: { only: { type: 'string' }, 'without-containers': { type: 'boolean', default: false } },
    }).values;
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}`);
    console.error('usage: npm test -- [--without-containers] [--only PROJECT]');
    process.exit(2);
  }
}

/** @param {string} name */
function failed(name) {
  totals.failed++;
  failures.push(name);
}

/**
 * One named check: a command that is silent while all is well.
 *
 * @param {string} name
 * @param {string} command
 * @param {string[]} args
 */
async function check(name, command, args) {
  const { status, output, seconds } = await run(command, args, { show: 'nothing' });
  if (status === 0) {
    totals.passed++;
    console.log(`ok      ${name} (${seconds.toFixed(1)} s)`);
    return;
  }
  failed(name);
  console.log(`FAILED  ${name} (${seconds.toFixed(1)} s, status ${status})\n${output}`);
}

/**
 * @param {{ status: number, stdout: string, seconds: number }} result of scripts/docker-env.sh
 * @returns what the tests' environment takes over from it, or false when it has failed
 */
function checkContainers({ status, stdout, seconds }) {
  if (status !== 0) {
    failed('containers for the integration tests, which did not run (scripts/docker-env.sh says why, above)');
    return false;
  }
  totals.passed++;
  console.log(`ok      containers (${seconds.toFixed(1)} s, in the background)`);
  // The rest is asked anew by the tests' set-up; this is the answer that can take long.
  return stdout.includes('TESTCONTAINERS_RYUK_DISABLED=true') ? { TESTCONTAINERS_RYUK_DISABLED: 'true' } : {};
}

/**
 * The tests of some projects of vitest.config.ts.
 *
 * @param {string} project
 * @param {Record<string, string>} [env]
 */
async function tests(project, env = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'pulsepool-test-'));
  const report = join(directory, 'report.json');
  const name = project.startsWith('!') ? 'tests' : `${project} tests`;
  try {
    const { status } = await run(
      tool('vitest'),
      ['run', '--project', project, '--reporter=default', '--reporter=json', `--outputFile.json=${report}`],
      { env },
    );
    const before = totals.failed;
    if (!count(await readFile(report, 'utf8').catch(() => ''))) {
      failed(`${name}: vitest ended with status ${status} and left no report`);
    } else if (status !== 0 && totals.failed === before) {
      failed(`${name}: vitest ended with status ${status} though no test failed; its output is above`);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Adds the report's numbers to the totals.
 *
 * @param {string} text
 * @returns {boolean} false when it is no report
 */
function count(text) {
  if (text === '') return false;
  /** @type {{ testResults: { name: string, status: string, message?: string, assertionResults: { status: string, fullName: string }[] }[] }} */
  const report = JSON.parse(text);
  for (const file of report.testResults) {
    const failuresBefore = totals.failed;
    for (const { status, fullName } of file.assertionResults) {
      if (status === 'passed') totals.passed++;
      else if (status === 'failed') failed(fullName);
      else totals.skipped++;
    }
    // A file that can't be loaded, or whose beforeAll has thrown, fails without a test that does.
    if (file.status === 'failed' && totals.failed === failuresBefore) {
      failed(`${file.name}: ${file.message ?? 'failed as a whole'}`);
    }
  }
  return true;
}

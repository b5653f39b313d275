/**
 * For scripts that have to work on a fresh clone: the dependencies, installed when they are not, and a way to run
 * commands. Imports nothing but Node, because nothing else may be there yet.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** The project's directory, with a slash at its end. */
export const root = fileURLToPath(new URL('../', import.meta.url));

/** The path of a tool that npm has installed. */
export const tool = (/** @type {string} */ name) => join(root, 'node_modules', '.bin', name);

/**
 * Runs a command in the project's directory, without a standard input.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ env?: Record<string, string>, show?: 'output' | 'errors' | 'nothing' }} [options]
 *   What is shown while it runs: by default all its output.
 * @returns {Promise<{ status: number, stdout: string, output: string, seconds: number }>} Its status (127 when it
 *   can't be started) and what was not shown: `stdout`, and `output`, which is that and stderr as they came.
 */
export async function run(command, args, { env = {}, show = 'output' } = {}) {
  const begun = performance.now();
  const child = spawn(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: [
      'ignore',
      show === 'output' ? 'inherit' : 'pipe',
      show === 'nothing' ? 'pipe' : /** @type {const} */ ('inherit'),
    ],
  });
  let stdout = '';
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text) => {
    stdout += text;
    output += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  /** @type {number} */
  const status = await new Promise((resolve) => {
    child.once('error', (error) => {
      output += `${error.message}\n`;
      if (show === 'output') process.stderr.write(`${error.message}\n`);
      resolve(127);
    });
    // A command that a signal has ended has no status.
    child.once('close', (code) => resolve(code ?? 1));
  });
  return { status, stdout, output, seconds: (performance.now() - begun) / 1000 };
}

/**
 * Runs `npm ci` unless node_modules holds what package-lock.json asks for. Two at once are fine: the second waits.
 *
 * @throws when npm fails
 */
export async function ensureInstalled() {
  if (await isInstalled()) return;
  await alone(async () => {
    if (await isInstalled()) return;
    const begun = performance.now();
    process.stderr.write('installing dependencies with npm ci\n');
    // NODE_ENV=production would leave out the tools.
    const options = ['--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
    let { status, output } = await run('npm', ['ci', ...options], { show: 'nothing' });
    if (output.includes('from lock file')) {
      // A registry that mirrors one platform only makes a lock file without the others, which npm ci refuses.
      process.stderr.write(
        'package-lock.json is not complete: installing with npm install, which leaves it alone\n',
      );
      ({ status, output } = await run('npm', ['install', '--no-save', ...options], { show: 'nothing' }));
    }
    // To stderr: the caller's output may be meant for a program.
    process.stderr.write(output);
    if (status !== 0) throw new Error(`npm ended with status ${status}; its output is above.`);
    const seconds = (performance.now() - begun) / 1000;
    process.stderr.write(`installed dependencies in ${seconds.toFixed(0)} s\n`);
  });
}

/**
 * npm writes node_modules/.package-lock.json last, so a broken installation has none. Contents are compared and
 * not times: a checkout or `npm install` can leave package-lock.json the newer one though nothing is missing.
 */
async function isInstalled() {
  const [wanted, present] = await Promise.all([
    packages(join(root, 'package-lock.json')),
    packages(join(root, 'node_modules', '.package-lock.json')),
  ]);
  return Object.entries(wanted ?? {}).every(
    // What is optional may be for another platform. '' is this project itself.
    ([path, { optional, integrity }]) => path === '' || optional || present?.[path]?.integrity === integrity,
  );
}

/**
 * @param {string} lockFile
 * @returns {Promise<Record<string, { optional?: boolean, integrity?: string }> | undefined>}
 */
async function packages(lockFile) {
  try {
    return JSON.parse(await readFile(lockFile, 'utf8')).packages;
  } catch {
    return undefined;
  }
}

/**
 * Does `work` while no other process does it for this directory.
 *
 * @param {() => Promise<void>} work
 */
async function alone(work) {
  const name = createHash('sha256').update(root).digest('hex').slice(0, 16);
  const lock = join(tmpdir(), `pulsepool-install-${name}.lock`);
  for (let told = false; ; told = true) {
    try {
      await writeFile(lock, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
    }
    const owner = Number(await readFile(lock, 'utf8').catch(() => ''));
    // Just made, and its owner not written yet, it reads as 0: left alone.
    if (owner !== 0 && !isAlive(owner)) await rm(lock, { force: true });
    else if (!told) process.stderr.write('waiting for another process that installs dependencies\n');
    await sleep(200);
  }
  try {
    await work();
  } finally {
    await rm(lock, { force: true });
  }
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}

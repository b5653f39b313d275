/**
 * Before the integration tests: an engine and the servers' image. After them: no container and no network of theirs is
 * left.
 *
 * What it takes to have an engine is scripts/docker-env.sh's business. Workers inherit the environment that is
 * set here; support/containers.ts reads it.
 */
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { RUN_LABEL } from './support/run-label.ts';

const script = fileURLToPath(new URL('../../scripts/docker-env.sh', import.meta.url));

export default async function setup(): Promise<(() => Promise<void>) | undefined> {
  if (process.env['PULSEPOOL_TEST_CONTAINERS'] === 'off') {
    process.stderr.write(
      '\n*** PULSEPOOL_TEST_CONTAINERS=off: the tests against real servers in containers are LEFT OUT. ***\n\n',
    );
    return undefined;
  }
  Object.assign(process.env, await prepare());
  // 'localhost' may mean ::1 first, where Docker does not always listen.
  if (!process.env['DOCKER_HOST']?.startsWith('tcp:'))
    process.env['TESTCONTAINERS_HOST_OVERRIDE'] = '127.0.0.1';
  const run = `${hostname()}/${process.pid}/${randomBytes(4).toString('hex')}`;
  process.env['PULSEPOOL_TEST_RUN'] = run;
  await removeOfDeadRuns();
  return async () => {
    await removeContainers(`label=${RUN_LABEL}=${run}`);
    // Only now: a network in use can't be removed.
    await removeNetworks(`label=${RUN_LABEL}=${run}`);
  };
}

async function prepare(): Promise<Record<string, string>> {
  const child = spawn('bash', [script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const [output, status] = await Promise.all([text(child.stdout), ended]);
  if (status !== 0) {
    throw new Error(
      'The containers of the integration tests could not be prepared; scripts/docker-env.sh says why, above. ' +
        'Set PULSEPOOL_TEST_CONTAINERS=off to leave these tests out.',
    );
  }
  return Object.fromEntries(
    output
      .split('\n')
      .filter((line) => line.includes('='))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

/** A run that was killed could not clean up. What it left is known by a process that is gone. */
async function removeOfDeadRuns(): Promise<void> {
  for (const id of await ofDeadRuns('ps', '--all')) await removeContainers(`id=${id}`);
  for (const id of await ofDeadRuns('network', 'ls')) await removeNetworks(`id=${id}`);
}

/** The ids in a list of the engine's that carry the label of a run on this machine whose process is gone. */
async function ofDeadRuns(...list: string[]): Promise<string[]> {
  const format = `{{.ID}} {{.Label "${RUN_LABEL}"}}`;
  const lines = await docker(...list, '--filter', `label=${RUN_LABEL}`, '--format', format);
  return lines.flatMap((line) => {
    const [id = '', run = ''] = line.split(' ');
    const [host, pid] = run.split('/');
    return host === hostname() && !isAlive(Number(pid)) ? [id] : [];
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Someone else's process is alive, too.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function removeContainers(filter: string): Promise<void> {
  const ids = await docker('ps', '--all', '--quiet', '--filter', filter);
  if (ids.length > 0) await docker('rm', '--force', '--volumes', ...ids);
}

async function removeNetworks(filter: string): Promise<void> {
  const ids = await docker('network', 'ls', '--quiet', '--filter', filter);
  if (ids.length > 0) await docker('network', 'rm', ...ids);
}

async function docker(...args: string[]): Promise<string[]> {
  const { stdout } = await promisify(execFile)('docker', args);
  return stdout.split('\n').filter((line) => line !== '');
}

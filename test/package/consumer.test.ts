/**
 * The package as a TypeScript project sees it: its declarations compile under the strictest settings, and its maps
 * lead to sources that are there.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { requireBuild, runNode } from './child.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));

beforeAll(requireBuild);

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

const CONSUMER = `
  import type { Socket } from 'node:net';
  import {
    type AcquireOptions, type Codec, createPool, DeadlineError, type DelimitedOptions, delimited,
    type LengthPrefixedOptions, lengthPrefixed, type Lease, type LinesOptions, lines, type Pool, PulsepoolError, raw,
  } from 'pulsepool';

  const own: LinesOptions = { maxFrameBytes: 100 };
  const others: [DelimitedOptions, LengthPrefixedOptions] = [{ delimiter: ';' }, { lengthBytes: 2 }];
  const pool: Pool<string, string> = createPool({
    host: 'localhost', port: 1, codec: lines(own), min: 1, max: 2, tls: { rejectUnauthorized: true },
    heartbeat: { ping: 'PING', isPong: (line) => line === 'PONG' },
    onConnect: async (lease, { signal }) => { await lease.request('AUTH', { signal }); },
  });
  pool.on('closed', ({ reason, error }) => console.log(reason, error?.code));
  const bounds: AcquireOptions = { timeoutMs: 5 };

  export async function main(): Promise<string> {
    await using lease: Lease<string, string> = await pool.acquire(bounds);
    const socket: Socket = (await pool.acquire()).detach();
    socket.setNoDelay(true);
    try {
      return await lease.request('hello');
    } catch (error) {
      if (error instanceof DeadlineError) return String(error.phases.acquireMs);
      return error instanceof PulsepoolError ? error.sent : 'unknown';
    }
  }

  export const mine: Codec<string, Buffer> = { ...raw(), encode: (text) => Buffer.from(text) };
  export const codecs = [delimited(others[0]), lengthPrefixed(others[1])];
  // @ts-expect-error: types are checked here, not any.
  export const wrong: number = pool.stats().idle.length;
`;

/** Compiles a project of one file that has this package, as it would be installed. Resolves to what tsc says. */
async function compile(source: string, settings: Readonly<Record<string, unknown>>): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'pulsepool-consumer-'));
  folders.push(folder);
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules/pulsepool'));
  symlinkSync(join(root, 'node_modules/@types'), join(folder, 'node_modules/@types'));
  symlinkSync(join(root, 'node_modules/undici-types'), join(folder, 'node_modules/undici-types'));
  const compilerOptions = {
    target: 'ES2023',
    lib: ['ES2023', 'ESNext.Disposable'],
    module: 'NodeNext',
    moduleResolution: 'NodeNext',
    types: ['node'],
    strict: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    noEmit: true,
    ...settings,
  };
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['consumer.ts'] }));
  writeFileSync(join(folder, 'consumer.ts'), source);
  const { stdout, stderr } = await runNode([
    join(root, 'node_modules/typescript/bin/tsc'),
    '-p',
    folder,
    '--pretty',
    'false',
  ]);
  return stdout + stderr;
}

describe('a consumer of the package', () => {
  it('compiles in strict mode, with every declaration checked', async () => {
    expect(await compile(CONSUMER, {})).toBe('');
  });

  it('compiles under exactOptionalPropertyTypes, too', async () => {
    expect(await compile(CONSUMER, { exactOptionalPropertyTypes: true })).toBe('');
  });

  it('is told when an option is misspelt', async () => {
    const source = `import { createPool, lines } from 'pulsepool'; createPool({ codec: lines(), maxx: 1 });`;
    expect(await compile(source, {})).toContain('maxx');
  });
});

describe('the maps of the package', () => {
  it('lead to files that are in it', async () => {
    const { stdout } = await run('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root });
    const [packed] = JSON.parse(stdout);
    const names: string[] = packed.files.map((file: { path: string }) => file.path);
    const maps = names.filter((name) => name.endsWith('.map'));
    expect(maps).toContain('dist/index.d.ts.map');
    const led = maps.flatMap((map) => {
      const { sources } = JSON.parse(readFileSync(join(root, map), 'utf8')) as { sources: string[] };
      return sources.map((source) => posix.join(posix.dirname(map), source));
    });
    expect(led.filter((source) => !names.includes(source))).toEqual([]);
  });
});

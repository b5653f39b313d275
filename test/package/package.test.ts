/**
 * The package as a user gets it: what is in it, how it is loaded, and what it does to the life of a process.
 * Runs on dist/, after a build.
 */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EchoServer, startEcho } from '../support/echo-server.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));

let server: EchoServer;
beforeAll(async () => {
  if (!existsSync(`${root}/dist/index.js`)) throw new Error('dist/ is missing: run `npm run build` first');
  server = await startEcho();
});
afterAll(() => server.close());

/** Runs a script against the package; resolves when the process has ended by itself. */
async function script(code: string, kind: 'module' | 'commonjs' = 'module'): Promise<string> {
  const { stdout } = await run(process.execPath, [`--input-type=${kind}`, '-e', code], {
    cwd: root,
    timeout: 15_000,
    env: { ...process.env, PORT: String(server.port) },
  });
  return stdout.trim();
}

const POOL = `
  import { createPool, lines } from 'pulsepool';
  const pool = createPool({
    host: '127.0.0.1', port: Number(process.env.PORT), codec: lines(), min: 2,
    heartbeat: { intervalMs: 50, timeoutMs: 50, ping: 'PING', isPong: (line) => line === 'PONG' },
  });
`;

describe('the package', () => {
  it('holds the build, the sources that its maps lead to, the licence and the readme, and stays small', async () => {
    const { stdout } = await run('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root });
    const [packed] = JSON.parse(stdout);
    const names: string[] = packed.files.map((file: { path: string }) => file.path);
    const wanted = ['dist/index.js', 'dist/index.d.ts.map', 'src/index.ts', 'README.md', 'LICENSE'];
    expect(names).toEqual(expect.arrayContaining(wanted));
    expect(names.filter((name) => /^(test|bench|examples|scripts|docs)\//.test(name))).toEqual([]);
    // The sources are half of it: without them the declaration maps lead nowhere.
    expect(packed.unpackedSize).toBeLessThan(3_000_000);
  });

  it('can be imported', async () => {
    expect(await script(`import * as all from 'pulsepool'; console.log(typeof all.createPool)`)).toBe(
      'function',
    );
  });

  it('can be required', async () => {
    expect(await script(`console.log(typeof require('pulsepool').createPool)`, 'commonjs')).toBe('function');
  });

  it('has no runtime dependency but the three that were decided on', () => {
    const manifest = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));
    expect(Object.keys(manifest.dependencies).sort()).toEqual(['eventemitter3', 'generic-pool', 'p-retry']);
  });
});

describe('the life of a process', () => {
  it('is not held by idle sockets, heartbeats and timers', async () => {
    const output = await script(`${POOL}
      await pool.ready();
      console.log(await pool.request('hello'), pool.stats().idle);
    `);
    expect(output).toBe('Echo: hello 2');
  });

  it('is held by a caller who waits for a reply', async () => {
    const echo = server.onLine;
    server.onLine = (line, socket) => {
      setTimeout(() => socket.write(`Late: ${line}\n`), 300);
    };
    try {
      const output = await script(`
        import { createPool, lines } from 'pulsepool';
        const pool = createPool({ host: '127.0.0.1', port: Number(process.env.PORT), codec: lines() });
        pool.request('hello').then((reply) => console.log(reply));
      `);
      expect(output).toBe('Late: hello');
    } finally {
      server.onLine = echo;
    }
  });

  it('is held by a caller who waits for a socket, until the dial has failed for good', async () => {
    const output = await script(`
      import { createPool, lines } from 'pulsepool';
      const pool = createPool({ host: '127.0.0.1', port: 1, codec: lines(), retry: { baseMs: 50, capMs: 100 } });
      pool.acquire().catch((error) => console.log(error.code, error.cause.code, pool.stats().dialFailed));
    `);
    expect(output).toBe('ERR_ACQUIRE_FAILED ERR_REFUSED 4');
  });

  it('is not held by a pool that has closed, nor by one whose lease leaked', async () => {
    const output = await script(`${POOL}
      const leaked = await pool.acquire();
      const report = await pool.close({ timeoutMs: 50 });
      const left = process.getActiveResourcesInfo().filter((name) => /TCP|Timeout/.test(name));
      console.log(report.forced, leaked.isUsable, left.length);
    `);
    expect(output).toBe('1 false 0');
  });
});

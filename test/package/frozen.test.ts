/**
 * A process that is frozen for longer than every limit of its pool, and thaws: SIGSTOP and SIGCONT. Runs on dist/.
 *
 * A server that goes on answers into the kernel's buffers, and the pongs are there when the process thaws. So the
 * server is frozen, too, as on a laptop that sleeps, and thaws a little later: at that moment no pong is there, and only
 * who knows that time was lost passes no verdict.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type RemoteEcho, startRemoteEcho } from '../support/remote-echo.ts';
import { requireBuild, startNode } from './child.ts';

beforeAll(requireBuild);

let server: RemoteEcho;
afterEach(() => server.stop());

/** Runs a pool in a child, freezes both for so long, and resolves to what the child saw afterwards. */
async function freeze(options: string, ms: number, serverThawsAfterMs: number): Promise<unknown> {
  server = await startRemoteEcho();
  const { child, ended, printed } = startNode([
    '--input-type=module',
    '-e',
    `
      import { setTimeout as sleep } from 'node:timers/promises';
      import { createPool, lines } from 'pulsepool';
      const pool = createPool({ host: '127.0.0.1', port: ${server.port}, codec: lines(), max: 3, ${options} });
      const leases = await Promise.all([1, 2, 3].map(() => pool.acquire()));
      await Promise.all(leases.map((lease) => lease.request('warm')));
      for (const lease of leases) lease.release();
      let told = 0;
      pool.on('stalled', () => { told += 1; });
      let isThawed = false;
      process.on('SIGUSR2', () => { isThawed = true; });
      const awake = setInterval(() => undefined, 10);
      console.log('ready');
      while (!isThawed) await sleep(5);
      // Many small steps: a timer that was armed before the frost is due at once.
      for (let step = 0; step < 20; step++) await sleep(10);
      const { closed, closedBy, idle, opened, stalled } = pool.stats();
      console.log(JSON.stringify({ closed, closedBy, idle, opened, stalled, told }));
      clearInterval(awake);
      await pool.close();
    `,
  ]);
  await printed(/ready/);
  // A ping is out most of the time when its time is as long as the interval.
  await sleep(60);
  server.signal('SIGSTOP');
  await sleep(60);
  child.kill('SIGSTOP');
  await sleep(ms);
  child.kill('SIGCONT');
  await sleep(serverThawsAfterMs);
  server.signal('SIGCONT');
  child.kill('SIGUSR2');
  const [, seen = '{}'] = await printed(/^(\{.*\})$/m);
  await ended;
  return JSON.parse(seen);
}

const UNHARMED = { closed: 0, closedBy: {}, idle: 3, opened: 3, stalled: 1, told: 1 };

describe('a process that was frozen', () => {
  it('in the middle of its pings ends no healthy socket, and says once that it was', async () => {
    const heartbeat = `heartbeat: {
      intervalMs: 50, timeoutMs: 400, maxMissed: 1, ping: 'PING', isPong: (line) => line === 'PONG',
    }`;
    expect(await freeze(heartbeat, 1_500, 150)).toEqual(UNHARMED);
  });

  it('for several idle timeouts and lifetimes ends no healthy socket, without pings, too', async () => {
    expect(await freeze('idleTimeoutMs: 1_000, maxLifetimeMs: 1_500', 4_000, 0)).toEqual(UNHARMED);
  });
});

/**
 * What our own event loop does to verdicts: real sockets, because only a real kernel keeps bytes while the loop is
 * blocked.
 */
import net from 'node:net';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { createPool, lines, type Pool } from '../../src/index.ts';
import { type EchoServer, startEcho } from '../support/echo-server.ts';
import { startRemoteEcho } from '../support/remote-echo.ts';

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function blockLoop(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

async function setUp(options: Partial<Parameters<typeof createPool<string, string>>[0]> = {}) {
  const server = await startRemoteEcho();
  ends.push(() => server.stop());
  const pool = createPool({ host: '127.0.0.1', port: server.port, codec: lines(), ...options });
  ends.push(() => pool.close({ timeoutMs: 1_000 }));
  return { server, pool };
}

/** Runs `fn` inside an I/O callback, where one `setImmediate` comes before the next poll. */
async function inIoCallback<T>(server: EchoServer, fn: () => Promise<T>): Promise<T> {
  const socket = net.connect(server.port, '127.0.0.1');
  try {
    return await new Promise<T>((resolve, reject) => {
      socket.on('data', () => {
        fn().then(resolve, reject);
      });
      socket.write('wake\n');
    });
  } finally {
    socket.destroy();
  }
}

async function acquireAfterBlock(pool: Pool<string, string>, kill: () => void): Promise<string> {
  kill();
  blockLoop(200);
  const lease = await pool.acquire();
  try {
    return await lease.request('alive?');
  } finally {
    lease.release();
  }
}

describe('a blocked event loop', () => {
  it('ends no healthy socket, however long it was blocked, and is told once for one block', async () => {
    const { pool } = await setUp({
      max: 3,
      idleTimeoutMs: 500,
      maxLifetimeMs: 600,
      heartbeat: {
        intervalMs: 50,
        timeoutMs: 20,
        maxMissed: 1,
        ping: 'PING',
        isPong: (line) => line === 'PONG',
      },
    });
    await Promise.all([1, 2, 3].map(() => pool.request('warm up')));
    const late: number[] = [];
    pool.on('stalled', ({ lateMs }) => late.push(lateMs));
    const { opened } = pool.stats();
    while (!pool.sockets().some(({ state }) => state === 'checking')) await turn();
    blockLoop(1_500);
    await sleep(100);
    expect(pool.stats()).toMatchObject({ closed: 0, opened, idle: opened, stalled: 1 });
    expect(late.length).toBe(1);
    expect(late[0]).toBeGreaterThan(1_000);
  });

  it('does not hand out a socket that the server closed meanwhile, not even from an I/O callback', async () => {
    const { server, pool } = await setUp({ max: 1 });
    const other = await startEcho();
    ends.push(() => other.close());
    for (let round = 0; round < 5; round++) {
      await pool.request('warm up');
      const reply = await inIoCallback(other, () => acquireAfterBlock(pool, () => server.signal('SIGUSR1')));
      expect(reply).toBe('Echo: alive?');
    }
    expect(pool.stats().closedBy['peer-closed']).toBe(5);
  });

  it('does not let a pong that waits in the kernel count as missing', async () => {
    const { pool } = await setUp({
      min: 3,
      heartbeat: {
        intervalMs: 50,
        timeoutMs: 20,
        maxMissed: 1,
        ping: 'PING',
        isPong: (line) => line === 'PONG',
      },
    });
    await pool.ready();
    for (let round = 0; round < 8; round++) {
      // A ping is out, and its pong is read by nobody until its time has passed.
      while (!pool.sockets().some(({ state }) => state === 'checking')) await turn();
      blockLoop(120);
      await sleep(5);
    }
    const { closed, opened, pinged, stalled } = pool.stats();
    // The loop was not blocked for so long that it would be told as stalled: the turn before the verdict did it.
    expect({ closed, opened, stalled }).toEqual({ closed: 0, opened: 3, stalled: 0 });
    expect(pinged).toBeGreaterThan(7);
  });

  it('does not let a reply that waits in the kernel count as late', async () => {
    const { pool } = await setUp({ max: 1, readTimeoutMs: 50 });
    await pool.request('warm up');
    const reply = pool.request('hello');
    await sleep(0);
    blockLoop(200);
    expect(await reply).toBe('Echo: hello');
  });
});

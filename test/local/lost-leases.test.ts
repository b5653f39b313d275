/**
 * Leases that were garbage-collected unreleased: with real sockets, the real loop and the real collector.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { createPool, type LeakedEvent, lines, type Pool } from '../../src/index.ts';
import { type EchoServer, startEcho } from '../support/echo-server.ts';
import { collectGarbage } from '../support/gc.ts';

const requests = new AsyncLocalStorage<{ lease?: unknown }>();

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

type TextPool = Pool<string, string>;

async function setUp(options: Partial<Parameters<typeof createPool<string, string>>[0]> = {}) {
  const server = await startEcho();
  ends.push(() => server.close());
  const pool = createPool({ host: '127.0.0.1', port: server.port, codec: lines(), max: 1, ...options });
  ends.push(() => pool.close({ timeoutMs: 100 }));
  const leaked: LeakedEvent[] = [];
  pool.on('leaked', (event) => leaked.push(event));
  return { server, pool, leaked };
}

/** Collects again and again, until it has come to that or the time is up. */
async function collectUntil(isDone: () => boolean, ms = 6_000): Promise<void> {
  const until = performance.now() + ms;
  while (!isDone() && performance.now() < until) {
    await collectGarbage();
    await sleep(50);
  }
}

async function takeAndForget(pool: TextPool): Promise<void> {
  await pool.acquire();
}

async function askAndForget(pool: TextPool): Promise<string> {
  return (await pool.acquire()).request('slow');
}

function muteServer(server: EchoServer): () => void {
  const echo = server.onLine;
  const held: (() => void)[] = [];
  server.onLine = (line, socket) => {
    held.push(() => echo(line, socket));
  };
  return () => {
    server.onLine = echo;
    for (const answer of held.splice(0)) answer();
  };
}

describe('a lease that was forgotten', () => {
  it('is reclaimed: told with the stack that took it, its socket closed, and the next caller served', async () => {
    const { leaked, pool } = await setUp({ leakAfterMs: 60_000 });
    const reasons: unknown[] = [];
    pool.on('closed', ({ error, reason }) => reasons.push([reason, error?.code]));
    await takeAndForget(pool);
    const next = pool.request('hello', { timeoutMs: 10_000 });
    await collectUntil(() => leaked.length > 0);
    expect(await next).toBe('Echo: hello');
    expect(leaked).toMatchObject([{ connectionId: 1, isLost: true }]);
    expect(leaked[0]?.stack?.split('\n')[0]).toContain('takeAndForget');
    expect(reasons).toEqual([['leaked', 'ERR_LEAKED']]);
    expect(pool.stats()).toMatchObject({ leaked: 1, idle: 1, closedBy: { leaked: 1 } });
  });

  it('is not cut off before the reply that is awaited has come', async () => {
    const { leaked, pool, server } = await setUp();
    await pool.request('warm');
    const answer = muteServer(server);
    const reply = askAndForget(pool);
    await collectUntil(() => leaked.length > 0, 3_500);
    expect(leaked).toEqual([]);
    answer();
    expect(await reply).toBe('Echo: slow');
    await collectUntil(() => leaked.length > 0);
    expect(leaked).toMatchObject([{ isLost: true }]);
  });

  it('is no leak while it is held, nor when it was released', async () => {
    const { leaked, pool } = await setUp({ max: 2 });
    const held = await pool.acquire();
    await (async () => {
      const other = await pool.acquire();
      await sleep(2_200);
      other.release();
    })();
    await collectUntil(() => leaked.length > 0, 1_500);
    expect(leaked).toEqual([]);
    expect(await held.request('hello')).toBe('Echo: hello');
    held.release();
    expect(pool.stats()).toMatchObject({ idle: 2, leaked: 0, closed: 0 });
  });
});

describe('a lease that only its own caller’s async context holds', () => {
  // A transaction in the store of a request is the usual case.
  async function keepInStore(pool: TextPool): Promise<void> {
    const store: { lease?: unknown } = {};
    await requests.run(store, async () => {
      store.lease = await pool.acquire();
    });
  }

  it('is reclaimed when that has gone, though its events are listened to, and it was the first caller', async () => {
    const { leaked, pool } = await setUp();
    pool.on('acquired', () => undefined).on('released', () => undefined);
    await keepInStore(pool);
    await collectUntil(() => leaked.length > 0);
    expect(leaked).toMatchObject([{ connectionId: 1, isLost: true }]);
  });
});

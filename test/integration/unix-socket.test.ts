/**
 * A Unix socket shared with a container: the pool works over it, and heals when the server comes back and makes
 * its socket file anew.
 */
import { existsSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { lines } from 'pulsepool';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ask, describeWithServers, type EchoServer, startEcho } from './support/containers.ts';
import { dialFailure, failureOf, figure, openPool, until } from './support/pools.ts';

const RETRY = { retries: 2, baseMs: 20, capMs: 100 };

describeWithServers('a pool over a Unix socket', () => {
  let echo: EchoServer;
  beforeAll(async () => {
    echo = await startEcho({ unixSocket: true });
  });
  afterEach(async () => {
    // A test that got stuck half-way leaves the server dead.
    await ask(echo.host, echo.port, 'PING\n', 500).catch(() => echo.restart());
  });
  afterAll(() => echo?.stop());

  const open = (options: { min?: number } = {}) =>
    openPool({ path: echo.socketPath, codec: lines(), max: 5, retry: RETRY, ...options });

  test('serves many callers', async () => {
    const { pool, diary } = open();
    const replies = await Promise.all(Array.from({ length: 500 }, (_, id) => pool.request(`question ${id}`)));
    expect(replies).toEqual(replies.map((_, id) => `Echo: question ${id}`));
    expect(pool.stats()).toMatchObject({ opened: 5, closed: 0 });
    expect(diary.of('opened')[0]?.endpoint).toBe(echo.socketPath);
  });

  test('heals when the server restarts and makes its socket anew', async () => {
    const { pool, diary } = open({ min: 2 });
    await pool.ready();
    expect(await pool.request('before')).toBe('Echo: before');
    await echo.kill();
    await until(() => pool.stats().idle === 0, 'idle sockets are gone');
    // A killed server leaves its file, which refuses.
    expect(existsSync(echo.socketPath)).toBe(true);
    const error = dialFailure(await failureOf(pool.request('down')));
    expect(error).toMatchObject({ code: 'ERR_REFUSED', retryable: true, endpoint: echo.socketPath });
    await echo.start();
    const startedAt = performance.now();
    await until(() => pool.stats().idle >= 2, 'min is refilled');
    figure(`unix: healed ${Math.round(performance.now() - startedAt)} ms after the start`);
    expect(await pool.request('after')).toBe('Echo: after');
    expect(diary.of('closed').every((event) => event.reason.startsWith('peer-'))).toBe(true);
  });

  test('tells a missing socket file from one that refuses', async () => {
    const { pool } = open();
    await rename(echo.socketPath, `${echo.socketPath}.away`);
    const error = dialFailure(await failureOf(pool.request('hello')));
    expect(error).toMatchObject({ code: 'ERR_REFUSED', retryable: true });
    expect(error.message).toMatch(/no socket at this path/);
    await rename(`${echo.socketPath}.away`, echo.socketPath);
    expect(await pool.request('hello')).toBe('Echo: hello');
  });
});

import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, expect, it } from 'vitest';
import { createPool } from '../../../src/create-pool.ts';
import { lines } from '../../../src/transport/lines.ts';
import { setUp, take, watch } from '../../support/pool-world.ts';

describe('whoever gets no socket is told', () => {
  it('which lease is held longest, and where it was taken when stacks are', async () => {
    const world = setUp({ max: 2, leakAfterMs: 60_000 });
    await take(world, 1);
    await world.pass(500);
    await take(world, 1);
    const asked = watch(world.pool.acquire({ timeoutMs: 100 }));
    await world.pass(101);
    const { hint } = asked.error as { hint: string };
    expect(hint).toMatch(
      /^All sockets are leased, socket 1 longest, for 600 ms \(taken at .*\): look for leases/,
    );
    expect(hint).toContain('pool-world.ts');
  });

  it('how to learn where it was taken when stacks are not', async () => {
    const world = setUp({ max: 1 });
    await take(world, 1);
    const asked = watch(world.pool.acquire({ timeoutMs: 100 }));
    await world.pass(101);
    expect(asked.error).toMatchObject({
      hint: expect.stringContaining('socket 1 longest, for 100 ms (`leakAfterMs` tells where it was taken)'),
    });
  });

  it('the same by the deadline of a request', async () => {
    const world = setUp({ max: 1 });
    await take(world, 1);
    const asked = watch(world.pool.request('hello', { timeoutMs: 100 }));
    await world.pass(101);
    expect(asked.error).toMatchObject({
      code: 'ERR_DEADLINE',
      hint: expect.stringContaining('All sockets are leased'),
      cause: { code: 'ERR_ACQUIRE_TIMEOUT' },
    });
  });

  it('that a hook refused it, and not that no connection could be opened', async () => {
    const world = setUp({
      retry: { retries: 0 },
      onAcquire: () => {
        throw new Error('no such tenant');
      },
    });
    const asked = watch(world.pool.acquire());
    await world.now();
    expect(asked.error).toMatchObject({
      code: 'ERR_ACQUIRE_FAILED',
      message: expect.stringMatching(
        /^No socket to fake:1 could be prepared for this caller.*no such tenant/,
      ),
      cause: { code: 'ERR_HOOK' },
    });
  });
});

describe('a lease that was used after its end', () => {
  it('is named by its socket', async () => {
    const world = setUp();
    const [lease] = await take(world, 1);
    lease?.release();
    expect(() => lease?.release()).toThrow('a lease of socket 1 that was released before');
  });
});

describe('the end of a pool', () => {
  it('names who still held what to its listeners, too', async () => {
    const world = setUp({ leakAfterMs: 60_000 });
    const ends: unknown[] = [];
    world.pool.on('poolClosed', (event) => ends.push(event));
    await take(world, 1);
    const closing = watch(world.pool.close({ timeoutMs: 100 }));
    await world.pass(600);
    const holders = [{ connectionId: 1, heldMs: 100, stack: expect.stringContaining('pool-world.ts') }];
    expect(closing.value).toEqual({ forced: 1, holders });
    expect(ends).toEqual([{ forced: 1, holders }]);
  });
});

describe('suspend()', () => {
  it('resolves when the last lease has come back', async () => {
    const world = setUp({ max: 2 });
    const [one, two] = await take(world, 2);
    const suspended = watch(world.pool.suspend());
    one?.release();
    await world.now();
    expect(suspended.isSettled).toBe(false);
    two?.destroy();
    await world.now();
    expect(suspended.isSettled).toBe(true);
  });

  it('resolves at once when none is held, and when the pool is resumed or closes', async () => {
    const world = setUp({ max: 1 });
    const rested = watch(world.pool.suspend());
    await world.now();
    expect(rested.isSettled).toBe(true);
    world.pool.resume();
    const [lease] = await take(world, 1);
    const resumed = watch(world.pool.suspend());
    world.pool.resume();
    await world.now();
    expect(resumed.isSettled).toBe(true);
    const closed = watch(world.pool.suspend());
    void world.pool.close();
    await world.now();
    expect(closed.isSettled).toBe(true);
    lease?.release();
  });
});

describe('onAcquire', () => {
  it('runs in the async context of the caller for whom it prepares the socket, whoever brings it', async () => {
    const storage = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    const world = setUp({ max: 1, onAcquire: () => void seen.push(storage.getStore()) });
    const calls = ['a', 'b', 'c'].map((name) =>
      storage.run(name, async () => {
        const lease = await world.pool.acquire();
        lease.release();
      }),
    );
    await world.now();
    await Promise.all(calls);
    expect(seen).toEqual(['a', 'b', 'c']);
  });
});

describe('callers who come in a burst after a rest', () => {
  it('are counted as short of sockets, though those at hand are being checked', async () => {
    const world = setUp({ max: 2 });
    for (const lease of await take(world, 2)) lease.release();
    await world.pass(1_000);
    const asked = Array.from({ length: 10 }, () => watch(world.pool.use(() => undefined)));
    expect(world.pool.stats()).toMatchObject({ idle: 2, leased: 0, waiting: 10 });
    await world.now();
    expect(asked.every((one) => one.isSettled)).toBe(true);
    for (let burst = 0; burst < 20; burst++) {
      await world.pass(100);
      const calls = Array.from({ length: 10 }, () =>
        world.pool.use(() => new Promise<void>((resolve) => void world.clock.after(10, resolve))),
      );
      await world.pass(100);
      await Promise.all(calls);
    }
    const [advice] = world.pool.advice();
    expect(advice).toMatchObject({ kind: 'raise-max', suggest: { max: 10 } });
    if (advice?.kind !== 'raise-max') throw new Error('no advice');
    world.pool.resize(advice.suggest);
    // What was measured with the old sizes is no reason to grow again.
    expect(world.pool.advice()).toEqual([]);
  });
});

describe('an option that would do nothing', () => {
  const at = { host: 'localhost', port: 1, codec: lines() };

  it.each([
    ['hookTimeoutMs without a hook', { hookTimeoutMs: 100 }, 'hookTimeoutMs'],
    ['shedAfterMs above the time that anybody waits', { shedAfterMs: 30_000 }, 'shedAfterMs'],
    ['the same with a time of one’s own', { acquireTimeoutMs: 100, shedAfterMs: 200 }, 'shedAfterMs'],
  ])('is refused: %s', (_what, options, name) => {
    const make = (): unknown => createPool({ ...at, ...options });
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_INVALID_OPTION' }));
    expect(make).toThrow(name);
  });

  it('is not taken for one that does', async () => {
    const never = Number.POSITIVE_INFINITY;
    for (const options of [
      { hookTimeoutMs: 100, onClose: () => undefined },
      { acquireTimeoutMs: never, shedAfterMs: 60_000 },
      { shedAfterMs: never },
    ]) {
      await createPool({ ...at, ...options }).close();
    }
  });
});

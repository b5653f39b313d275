import { describe, expect, it } from 'vitest';
import { ask, serveOnce, told } from '../../support/client-steps.ts';
import { MODES, SHARED, setUpClient } from '../../support/client-world.ts';
import { watch } from '../../support/pool-world.ts';

describe.each(MODES)('closing a %s client', (mode) => {
  it('lets requests go on that are under way or wait, and refuses new ones', async () => {
    const world = setUpClient(
      mode,
      { max: 1, ...(mode === 'exclusive' ? {} : { maxInFlight: 1 }) },
      { isEchoing: false },
    );
    const asked = ask(world, 'a', 'b');
    await world.now();
    const closing = watch(world.client.close());
    asked.push(...ask(world, 'c'));
    await world.now();
    expect(told(asked)).toEqual(['pending', 'pending', 'ERR_POOL_CLOSED']);
    world.backend.side(0).answer();
    await world.now();
    world.backend.side(0).answer();
    await world.now();
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b', 'ERR_POOL_CLOSED']);
    await world.pass(1_000);
    expect(closing.value).toEqual({ forced: 0, holders: [] });
    expect(world.client.stats()).toMatchObject({ requests: 2, succeeded: 2 });
  });

  it('ends by force what takes longer', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const asked = ask(world, 'a');
    await world.now();
    const closing = watch(world.client.close({ timeoutMs: 100 }));
    await world.pass(99);
    expect(told(asked)).toEqual(['pending']);
    await world.pass(500);
    expect(told(asked)).toEqual(['ERR_POOL_CLOSED']);
    expect(asked[0]?.error).toMatchObject({ sent: 'full' });
    expect(closing.value?.forced).toBe(1);
  });

  it('repeats nothing any more: who sleeps is told why it failed', async () => {
    const world = setUpClient(
      mode,
      { readTimeoutMs: 100, retry: { baseMs: 1_000, capMs: 1_000 } },
      { isEchoing: false },
    );
    const asked = watch(world.client.request('a', { idempotent: true }));
    await world.pass(200);
    const closing = watch(world.client.close());
    await world.now();
    expect(told([asked])).toEqual(['ERR_READ_TIMEOUT']);
    expect(asked.error).toMatchObject({ sent: 'full', earlier: [] });
    await world.pass(10);
    expect(closing.isSettled).toBe(true);
    expect(world.backend.times('a')).toBe(1);
  });

  it('repeats nothing that fails from then on', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    await serveOnce(world);
    const asked = watch(world.client.request('a', { idempotent: true }));
    await world.now();
    void world.client.close();
    world.backend.side(0).peer.reset();
    await world.pass(1_000);
    expect(told([asked])).toEqual(['ERR_CONNECTION_LOST']);
    expect(world.net.dialedAt.length).toBe(1);
  });

  it('tells who waits for a dial', async () => {
    const world = setUpClient(mode);
    world.net.outcome = { kind: 'hang' };
    const asked = ask(world, 'a', 'b');
    await world.pass(10);
    const closing = watch(world.client.close());
    await world.pass(100);
    expect(told(asked)).toEqual(['ERR_POOL_CLOSED', 'ERR_POOL_CLOSED']);
    expect(closing.isSettled).toBe(true);
  });

  it('tells who waits for a new socket', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    await serveOnce(world);
    world.net.outcome = { kind: 'hang' };
    const asked = watch(world.client.request('a', { idempotent: true }));
    await world.now();
    world.backend.side(0).peer.reset();
    await world.now();
    expect(world.told).toContain('retried:fresh');
    const closing = watch(world.client.close());
    await world.pass(100);
    expect(told([asked])).toEqual(['ERR_POOL_CLOSED']);
    expect(closing.isSettled).toBe(true);
  });

  it('with a bad option closes nothing', async () => {
    const world = setUpClient(mode, { readTimeoutMs: 100 }, { isEchoing: false });
    await expect(world.client.close({ timeoutMs: -1 })).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION' });
    const asked = watch(world.client.request('a', { idempotent: true }));
    await world.pass(101);
    world.backend.isEchoing = true;
    await world.pass(3_000);
    expect(told([asked])).toEqual(['Echo: a']);
  });

  it('again returns the same promise, also by `await using`', async () => {
    const world = setUpClient(mode);
    const closing = world.client.close();
    expect(world.client.close()).toBe(closing);
    const disposed = watch(world.client[Symbol.asyncDispose]());
    await world.pass(10);
    expect(disposed.isSettled).toBe(true);
    await expect(closing).resolves.toEqual({ forced: 0, holders: [] });
  });

  it('is done by its pool, too', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const asked = ask(world, 'a');
    await world.now();
    const closing = watch(world.pool.close({ timeoutMs: 100 }));
    asked.push(...ask(world, 'b'));
    await world.pass(500);
    expect(closing.isSettled).toBe(true);
    expect(told(asked)[0]).toBe('ERR_POOL_CLOSED');
    asked.push(...ask(world, 'c'));
    await world.pass(10);
    expect(told(asked).at(-1)).toBe('ERR_POOL_CLOSED');
  });
});

describe.each(SHARED)('closing a %s client', (mode) => {
  it('settles everybody who waited beside callers of the pool', async () => {
    const world = setUpClient(mode, { max: 1 }, { isEchoing: false });
    const lease = watch(world.pool.acquire());
    await world.now();
    const asked = ask(world, 'b');
    const other = watch(world.pool.acquire());
    await world.now();
    const closing = watch(world.client.close({ timeoutMs: 1_000 }));
    lease.value?.release();
    await world.pass(100);
    other.value?.release();
    await world.pass(20_000);
    expect(closing.isSettled).toBe(true);
    expect(asked[0]?.isSettled).toBe(true);
  });
});

import { describe, expect, it } from 'vitest';
import { HEARTBEAT, setUp, take, watch } from '../../support/pool-world.ts';
import { settle } from '../../support/virtual-clock.ts';

describe('tryAcquire()', () => {
  it('gives a socket that was used a moment ago at once', async () => {
    const world = setUp();
    await Promise.all([world.pool.request('warm'), world.now()]);
    const lease = watch(world.pool.tryAcquire());
    await Promise.resolve();
    await Promise.resolve();
    expect(lease.value?.connectionId).toBe(1);
    expect(await lease.value?.request('hello')).toBe('Echo: hello');
    expect(world.pool.stats()).toMatchObject({ acquired: 2, leased: 1 });
  });

  it('gives one that rested after two turns of the event loop, without a byte sent', async () => {
    const world = setUp();
    await Promise.all([world.pool.request('warm'), world.now()]);
    await world.pass(1_000);
    const lease = watch(world.pool.tryAcquire());
    await settle();
    expect(lease.isSettled).toBe(false);
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0 });
    await world.now();
    expect(lease.value?.connectionId).toBe(1);
    expect(world.net.lastPeer.received).toBe('warm\n');
  });

  it('skips one that turns out to be dead, and gives the next', async () => {
    const world = setUp({ max: 3 });
    for (const lease of await take(world, 3)) lease.release();
    await world.pass(1_000);
    const lease = watch(world.pool.tryAcquire());
    world.net.peers[2]?.fin();
    await world.now();
    expect(lease.value?.connectionId).toBe(2);
    const next = watch(world.pool.tryAcquire());
    world.net.peers[0]?.reset();
    await world.now();
    expect(next).toMatchObject({ isSettled: true, value: undefined, error: undefined });
  });

  it('gives nothing when all rested ones turn out to be dead, and has one opened for the next call', async () => {
    const world = setUp({ max: 3 });
    for (const lease of await take(world, 3)) lease.release();
    await world.pass(5_000);
    world.net.outcome = { kind: 'open', afterMs: 20 };
    const lease = watch(world.pool.tryAcquire());
    for (const peer of world.net.peers) peer.fin();
    await world.now();
    expect(lease).toMatchObject({ isSettled: true, value: undefined });
    await world.pass(30);
    expect(world.pool.stats()).toMatchObject({ idle: 1, total: 1 });
  });

  it('gives nothing when only a ping could prove the socket, and sends none', async () => {
    const world = setUp({ heartbeat: { ...HEARTBEAT, intervalMs: 60_000 }, idleTimeoutMs: 600_000 });
    await Promise.all([world.pool.request('warm'), world.now()]);
    world.clock.freeze(61_000);
    const lease = watch(world.pool.tryAcquire());
    await settle();
    expect(lease).toMatchObject({ isSettled: true, value: undefined });
    expect(world.net.lastPeer.received).toBe('warm\n');
    // It is enough to come again: the heartbeat pings by itself.
    await world.pass(1_000);
    const again = watch(world.pool.tryAcquire());
    await world.now();
    expect(again.value?.connectionId).toBe(1);
  });

  it('gives nothing when none is open, and has one opened, once, for the next call', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'open', afterMs: 50 };
    for (let call = 0; call < 5; call++) {
      const lease = watch(world.pool.tryAcquire());
      await world.now();
      expect(lease).toMatchObject({ isSettled: true, value: undefined });
    }
    expect(world.net.dialedAt.length).toBe(1);
    await world.pass(60);
    const lease = watch(world.pool.tryAcquire());
    await world.now();
    expect(lease.value?.connectionId).toBe(1);
    await world.pass(1_000);
    expect(world.net.dialedAt.length).toBe(1);
  });

  it('gives nothing when all are leased, has one more opened if there is a place, and none if not', async () => {
    const world = setUp({ max: 2 });
    await take(world, 1);
    const none = watch(world.pool.tryAcquire());
    await world.now();
    expect(none).toMatchObject({ isSettled: true, value: undefined });
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 1 });
    const [other] = await take(world, 1);
    const full = watch(world.pool.tryAcquire());
    await world.pass(1_000);
    expect(full).toMatchObject({ isSettled: true, value: undefined });
    expect(world.pool.stats()).toMatchObject({ total: 2, opened: 2 });
    // What there was no place for then is not opened later, when nobody asks for it any more.
    other?.destroy();
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ total: 1, opened: 2 });
  });

  it('gives nothing while callers wait: they were first', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    const asked = watch(world.pool.acquire());
    const tried = watch(world.pool.tryAcquire());
    lease?.release();
    const late = watch(world.pool.tryAcquire());
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
    for (const one of [tried, late]) expect(one).toMatchObject({ isSettled: true, value: undefined });
  });

  it('does not take a socket from a caller who waits for its check', async () => {
    const world = setUp({ max: 1 });
    await Promise.all([world.pool.request('warm'), world.now()]);
    await world.pass(1_000);
    const asked = watch(world.pool.acquire());
    const tried = watch(world.pool.tryAcquire());
    await world.now();
    expect(asked.isSettled).toBe(true);
    expect(tried).toMatchObject({ isSettled: true, value: undefined });
  });

  it('called several times at once gives each another socket', async () => {
    const world = setUp({ max: 3 });
    for (const lease of await take(world, 3)) lease.release();
    await world.pass(1_000);
    const tried = [1, 2, 3, 4].map(() => watch(world.pool.tryAcquire()));
    await world.now();
    expect(tried.map((one) => one.value?.connectionId)).toEqual([3, 2, 1, undefined]);
  });

  it('that finds a socket serves a caller who comes meanwhile by another one', async () => {
    const world = setUp({ max: 2 });
    await Promise.all([world.pool.request('warm'), world.now()]);
    await world.pass(1_000);
    const tried = watch(world.pool.tryAcquire());
    const asked = watch(world.pool.acquire());
    await world.now();
    expect(tried.value?.connectionId).toBe(1);
    expect(asked.value?.connectionId).toBe(2);
  });

  it('prepares the socket with onAcquire first', async () => {
    const world = setUp({
      onAcquire: async (lease) => {
        await lease.request('SELECT 3');
      },
    });
    for (const lease of await take(world, 1)) lease.release();
    const tried = watch(world.pool.tryAcquire());
    await world.now();
    expect(tried.value?.connectionId).toBe(1);
    expect(world.net.lastPeer.received).toBe('SELECT 3\nSELECT 3\n');
  });

  it('whose onAcquire fails gives the next socket, and nothing in the end; it rejects for no hook', async () => {
    let isBroken = false;
    const world = setUp({
      max: 2,
      onAcquire: () => {
        if (isBroken) throw new Error('not now');
      },
    });
    for (const lease of await take(world, 2)) lease.release();
    isBroken = true;
    const tried = watch(world.pool.tryAcquire());
    await world.now();
    expect(tried).toMatchObject({ isSettled: true, value: undefined, error: undefined });
    expect(world.pool.stats()).toMatchObject({ hookFailed: 2, closedBy: { hook: 2 }, failed: 0 });
  });

  it('whose onAcquire hangs ends by hookTimeoutMs', async () => {
    let isBroken = false;
    const world = setUp({
      max: 1,
      hookTimeoutMs: 200,
      onAcquire: () => (isBroken ? new Promise(() => undefined) : undefined),
    });
    for (const lease of await take(world, 1)) lease.release();
    isBroken = true;
    const tried = watch(world.pool.tryAcquire());
    await world.pass(199);
    expect(tried.isSettled).toBe(false);
    await world.pass(2);
    expect(tried).toMatchObject({ isSettled: true, value: undefined, error: undefined });
  });

  it('whose onAcquire always hangs ends after as many sockets as acquire() tries, however many are kept spare', async () => {
    let calls = 0;
    const world = setUp({
      minIdle: 2,
      max: 2,
      retry: { retries: 2, baseMs: 10, capMs: 20 },
      onAcquire: () => {
        calls += 1;
        return new Promise(() => undefined);
      },
      hookTimeoutMs: 150,
    });
    await world.pass(10);
    const lease = watch(world.pool.tryAcquire());
    await world.pass(400);
    expect(lease.isSettled).toBe(false);
    await world.pass(100);
    expect(lease).toMatchObject({ isSettled: true, value: undefined, error: undefined });
    expect(calls).toBe(3);
  });

  it('while the server is down gives nothing, throws nothing, and costs one probe for each back-off', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'refuse' };
    for (let step = 0; step < 600; step++) {
      const tried = watch(world.pool.tryAcquire());
      await world.pass(100);
      expect(tried).toMatchObject({ isSettled: true, value: undefined, error: undefined });
    }
    expect(world.net.dialedAt.length).toBeLessThan(75);
    world.net.outcome = { kind: 'open' };
    await world.pass(2_000);
    const tried = watch(world.pool.tryAcquire());
    await world.now();
    expect(tried.value?.isUsable).toBe(true);
  });

  it('counts as use, and tells `acquired`', async () => {
    const world = setUp({ maxUses: 2, max: 1 });
    for (const lease of await take(world, 1)) lease.release();
    const tried = watch(world.pool.tryAcquire());
    await world.now();
    expect(world.told.filter((event) => event === 'acquired').length).toBe(2);
    tried.value?.release();
    await world.now();
    expect(world.pool.stats().closedBy).toEqual({ uses: 1 });
  });

  it('does not hold the process', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'open', afterMs: 50 };
    watch(world.pool.tryAcquire());
    await world.pass(10);
    expect(world.net.hold.count).toBe(0);
  });

  it('ends with nothing when the pool is suspended in its two turns, and the socket rests', async () => {
    const world = setUp();
    await Promise.all([world.pool.request('warm'), world.now()]);
    await world.pass(1_000);
    const tried = watch(world.pool.tryAcquire());
    watch(world.pool.suspend());
    await world.now();
    expect(tried).toMatchObject({ isSettled: true, value: undefined });
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0 });
    world.pool.resume();
    await world.pass(500);
    expect(world.pool.stats()).toMatchObject({ total: 1, opened: 1 });
  });

  it('while suspended leaves no wish behind: resume() opens nothing for it', async () => {
    const world = setUp();
    watch(world.pool.suspend());
    const tried = watch(world.pool.tryAcquire());
    await world.now();
    expect(tried).toMatchObject({ isSettled: true, value: undefined });
    world.pool.resume();
    await world.pass(500);
    expect(world.net.dialedAt).toEqual([]);
  });

  it('after close() is refused; one that is in its two turns ends with nothing', async () => {
    const world = setUp();
    await Promise.all([world.pool.request('warm'), world.now()]);
    await world.pass(1_000);
    const tried = watch(world.pool.tryAcquire());
    const closing = watch(world.pool.close());
    const late = watch(world.pool.tryAcquire());
    await world.now();
    expect(tried).toMatchObject({ isSettled: true, value: undefined, error: undefined });
    expect(late.error).toMatchObject({ code: 'ERR_POOL_CLOSED' });
    expect(closing.isSettled).toBe(true);
  });
});

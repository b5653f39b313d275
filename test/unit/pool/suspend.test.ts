import { describe, expect, it } from 'vitest';
import { HEARTBEAT, setUp, take, type World, watch } from '../../support/pool-world.ts';

describe('a suspended pool', () => {
  it('lends nothing, though sockets rest: callers wait, and resume() serves them in their order', async () => {
    const world = setUp({ min: 2, max: 2 });
    await world.now();
    watch(world.pool.suspend());
    const order: number[] = [];
    const asked = [1, 2, 3, 4].map((caller) =>
      watch(
        world.pool.use(async (lease) => {
          order.push(caller);
          return lease.request(`${caller}`);
        }),
      ),
    );
    await world.pass(5_000);
    expect(asked.some((one) => one.isSettled)).toBe(false);
    expect(world.pool.stats()).toMatchObject({ idle: 2, leased: 0, waiting: 4, isSuspended: true });
    world.pool.resume();
    await world.now();
    expect(order).toEqual([1, 2, 3, 4]);
    expect(asked.map((one) => one.value)).toEqual(['Echo: 1', 'Echo: 2', 'Echo: 3', 'Echo: 4']);
    expect(world.pool.stats().isSuspended).toBe(false);
  });

  it('does not lend a socket that was used this very moment, either', async () => {
    const world = setUp();
    for (const lease of await take(world, 1)) lease.release();
    watch(world.pool.suspend());
    const asked = watch(world.pool.acquire());
    await world.now();
    expect(asked.isSettled).toBe(false);
    world.pool.resume();
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
    asked.value?.release();
    // The shortest way is open again.
    expect((await world.pool.acquire()).connectionId).toBe(1);
  });

  it('dials nothing: neither for callers nor for min', async () => {
    const world = setUp({ min: 1 });
    await world.now();
    watch(world.pool.suspend());
    world.net.lastPeer.reset();
    const asked = [1, 2, 3].map(() => watch(world.pool.acquire()));
    await world.pass(20_000);
    expect(world.net.dialedAt.length).toBe(1);
    expect(world.pool.stats()).toMatchObject({ total: 0, waiting: 3 });
    world.pool.resume();
    await world.now();
    expect(asked.every((one) => one.value?.isUsable === true)).toBe(true);
  });

  it('lets a dial that is under way end: its socket rests and is not lent', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const asked = watch(world.pool.acquire());
    await world.pass(50);
    watch(world.pool.suspend());
    await world.pass(500);
    expect(asked.isSettled).toBe(false);
    expect(world.pool.stats()).toMatchObject({ idle: 1, waiting: 1, dialing: 0 });
    world.pool.resume();
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
    expect(world.net.dialedAt.length).toBe(1);
  });

  it('does not repeat a dial that fails, and nobody is told of it', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'refuse', afterMs: 50 };
    const asked = watch(world.pool.acquire());
    await world.pass(20);
    watch(world.pool.suspend());
    await world.pass(20_000);
    expect(asked.isSettled).toBe(false);
    expect(world.net.dialedAt.length).toBe(1);
    world.net.outcome = { kind: 'open' };
    world.pool.resume();
    await world.pass(200);
    expect(asked.value?.isUsable).toBe(true);
  });

  it('refuses nobody while the server is known to be down: they wait, too', async () => {
    const world = setUp({ retry: { retries: 0, baseMs: 2_000 } });
    world.net.outcome = { kind: 'refuse' };
    watch(world.pool.acquire());
    await world.now();
    watch(world.pool.suspend());
    const asked = watch(world.pool.acquire());
    await world.pass(900);
    expect(asked.isSettled).toBe(false);
    world.net.outcome = { kind: 'open' };
    world.pool.resume();
    await world.pass(200);
    expect(asked.value?.isUsable).toBe(true);
  });

  it('tells a caller whose time is up that it is suspended, and that before nobody', async () => {
    const world = setUp({ min: 1, acquireTimeoutMs: 500 });
    await world.now();
    watch(world.pool.suspend());
    const usual = watch(world.pool.acquire());
    const short = watch(world.pool.acquire({ timeoutMs: 100 }));
    await world.pass(99);
    expect([usual, short].map((one) => one.isSettled)).toEqual([false, false]);
    await world.pass(500);
    for (const { error } of [usual, short]) {
      expect(error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT', retryable: true, counts: { idle: 1 } });
      expect((error as { hint: string }).hint).toContain('suspended');
    }
    expect(world.pool.stats()).toMatchObject({ timedOut: 2, waiting: 0 });
  });

  it('tells so, too, after a dial had failed', async () => {
    const world = setUp({ acquireTimeoutMs: 500 });
    world.net.script = [{ kind: 'refuse', afterMs: 10 }];
    const asked = watch(world.pool.acquire());
    watch(world.pool.suspend());
    await world.pass(600);
    expect(asked.error).toMatchObject({
      code: 'ERR_ACQUIRE_TIMEOUT',
      hint: expect.stringContaining('suspended'),
    });
  });

  it('lets callers give up', async () => {
    const world = setUp({ min: 1 });
    await world.now();
    watch(world.pool.suspend());
    const controller = new AbortController();
    const asked = watch(world.pool.acquire({ signal: controller.signal }));
    await world.pass(10);
    controller.abort('enough');
    await world.now();
    expect(asked.error).toBe('enough');
    world.pool.resume();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0 });
  });

  it('goes on with the leases that are held; what comes back rests', async () => {
    const world = setUp({ max: 2 });
    const leases = await take(world, 2);
    watch(world.pool.suspend());
    const asked = watch(world.pool.acquire());
    expect(await leases[0]?.request('on')).toBe('Echo: on');
    leases[0]?.release();
    leases[1]?.destroy();
    await world.pass(100);
    expect(asked.isSettled).toBe(false);
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0, total: 1 });
    world.pool.resume();
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
  });

  it('tells when the last lease has come back, its hook included, and at once when none is held', async () => {
    const world: World = setUp({
      max: 2,
      onRelease: () => new Promise<void>((resolve) => world.clock.after(100, resolve)),
    });
    const leases = await take(world, 2);
    const quiet = watch(world.pool.suspend());
    leases[0]?.destroy();
    leases[1]?.release();
    await world.pass(99);
    expect(quiet.isSettled).toBe(false);
    await world.pass(2);
    expect(quiet).toMatchObject({ isSettled: true, error: undefined });
    const again = watch(world.pool.suspend());
    await world.now();
    expect(again.isSettled).toBe(true);
  });

  it('does not keep anybody waiting for leases once it is resumed or closes', async () => {
    const world = setUp({ max: 2 });
    const [lease] = await take(world, 1);
    const resumed = watch(world.pool.suspend());
    await world.now();
    expect(resumed.isSettled).toBe(false);
    world.pool.resume();
    await world.now();
    expect(resumed.isSettled).toBe(true);
    const closed = watch(world.pool.suspend());
    const closing = watch(world.pool.close());
    await world.now();
    lease?.release();
    await world.now();
    expect([closed, closing].map((one) => one.isSettled)).toEqual([true, true]);
  });

  it('does not lend a socket that was being checked for a caller', async () => {
    const world = setUp();
    for (const lease of await take(world, 1)) lease.release();
    await world.pass(1_000);
    const asked = watch(world.pool.acquire());
    watch(world.pool.suspend());
    await world.pass(100);
    expect(asked.isSettled).toBe(false);
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0, waiting: 1 });
    world.pool.resume();
    await world.now();
    expect(asked.isSettled).toBe(true);
  });

  it('gives nothing to tryAcquire()', async () => {
    const world = setUp({ min: 1 });
    await world.now();
    watch(world.pool.suspend());
    const fresh = watch(world.pool.tryAcquire());
    await world.pass(1_000);
    const rested = watch(world.pool.tryAcquire());
    await world.now();
    for (const one of [fresh, rested]) expect(one).toMatchObject({ isSettled: true, value: undefined });
    world.pool.resume();
    expect((await Promise.all([world.pool.tryAcquire(), world.now()]))[0]?.connectionId).toBe(1);
  });

  it('keeps pinging what rests, and ends what has rested too long', async () => {
    const world = setUp({ max: 2, idleTimeoutMs: 10_000, heartbeat: HEARTBEAT });
    for (const lease of await take(world, 2)) lease.release();
    watch(world.pool.suspend());
    await world.pass(5_000);
    expect(world.pool.stats().pinged).toBeGreaterThan(4);
    await world.pass(7_000);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { idle: 2 } });
  });

  it('finds dead sockets and opens no others until it is resumed', async () => {
    const world = setUp({ min: 2 });
    await world.now();
    watch(world.pool.suspend());
    for (const peer of world.net.peers) peer.fin();
    await world.pass(5_000);
    expect(world.pool.stats()).toMatchObject({ total: 0, opened: 2 });
    world.pool.resume();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 2, opened: 4 });
  });

  it('does not replace old sockets until it is resumed', async () => {
    const world = setUp({ min: 1, maxLifetimeMs: 10_000, idleTimeoutMs: Number.POSITIVE_INFINITY });
    await world.now();
    watch(world.pool.suspend());
    await world.pass(9_400);
    expect(world.pool.stats()).toMatchObject({ opened: 1 });
    world.pool.resume();
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, opened: 2, closedBy: { lifetime: 1 } });
  });

  it('keeps ready() waiting', async () => {
    const world = setUp({ min: 1 });
    watch(world.pool.suspend());
    const ready = watch(world.pool.ready());
    await world.pass(1_000);
    expect(ready.isSettled).toBe(false);
    expect(world.net.dialedAt).toEqual([]);
    world.pool.resume();
    await world.now();
    expect(ready).toMatchObject({ isSettled: true, error: undefined });
  });

  it('may be suspended twice and resumed once; resume() of one that was not does nothing', async () => {
    const world = setUp({ min: 1 });
    await world.now();
    world.pool.resume();
    watch(world.pool.suspend());
    watch(world.pool.suspend());
    const asked = watch(world.pool.acquire());
    await world.now();
    world.pool.resume();
    await world.now();
    expect(asked.isSettled).toBe(true);
    expect(world.pool.stats().isSuspended).toBe(false);
  });

  it('may be resized; what it asks for is opened by resume()', async () => {
    const world = setUp({ max: 2 });
    watch(world.pool.suspend());
    world.pool.resize({ min: 3, max: 5 });
    await world.pass(1_000);
    expect(world.net.dialedAt).toEqual([]);
    world.pool.resume();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 3, total: 3 });
  });

  it('holds the process for callers who wait only', async () => {
    const world = setUp({ min: 1 });
    await world.now();
    watch(world.pool.suspend());
    await world.now();
    expect(world.net.hold.count).toBe(0);
    const asked = watch(world.pool.acquire({ timeoutMs: 50 }));
    expect(world.net.hold.count).toBe(1);
    await world.pass(60);
    expect(asked.isSettled).toBe(true);
    expect(world.net.hold.count).toBe(0);
  });
});

describe('a planned failover: suspend(), reset(), resume()', () => {
  it('gives nobody an old socket: those at rest end at once, without successors', async () => {
    const world = setUp({ min: 2, max: 4 });
    const leases = await take(world, 2);
    for (const lease of leases) lease.release();
    watch(world.pool.suspend());
    const asked = [1, 2, 3].map(() => watch(world.pool.acquire()));
    const reset = watch(world.pool.reset({ perSecond: 1 }));
    await world.now();
    expect(reset.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { reset: 2 }, opened: 2 });
    world.pool.resume();
    await world.now();
    expect(asked.map((one) => one.value?.connectionId)).toEqual([3, 4, 5]);
  });

  it('waits for leases that are held, and ends them when they come back', async () => {
    const world = setUp({ max: 2 });
    const [lease] = await take(world, 1);
    watch(world.pool.suspend());
    const reset = watch(world.pool.reset());
    await world.pass(1_000);
    expect(reset.isSettled).toBe(false);
    expect(await lease?.request('last')).toBe('Echo: last');
    lease?.release();
    await world.now();
    expect(reset.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { reset: 1 } });
  });

  it('ends a leased socket when it comes back after resume(), though somebody waits for it', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    watch(world.pool.suspend());
    watch(world.pool.reset());
    const asked = watch(world.pool.acquire());
    world.pool.resume();
    await world.now();
    lease?.release();
    await world.now();
    expect(asked.value?.connectionId).toBe(2);
  });

  it('ends what was being dialed when it lands, and nobody gets it', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const asked = watch(world.pool.acquire());
    await world.pass(50);
    watch(world.pool.suspend());
    const reset = watch(world.pool.reset());
    await world.pass(60);
    expect(reset.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { reset: 1 } });
    world.pool.resume();
    await world.pass(110);
    expect(asked.value?.connectionId).toBe(2);
  });

  it('ends what was being dialed when it lands, even after resume()', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const asked = watch(world.pool.acquire());
    await world.pass(50);
    watch(world.pool.suspend());
    const reset = watch(world.pool.reset());
    world.pool.resume();
    await world.pass(500);
    expect(reset.isSettled).toBe(true);
    expect(asked.value?.connectionId).toBe(2);
    expect(world.pool.stats()).toMatchObject({ closedBy: { reset: 1 }, opened: 2 });
  });

  it('ends what was being checked or pinged', async () => {
    const world = setUp({ max: 2, heartbeat: HEARTBEAT });
    for (const lease of await take(world, 2)) lease.release();
    for (const peer of world.net.peers) peer.isMute = true;
    await world.pass(1_010);
    expect(world.pool.sockets().some(({ state }) => state === 'checking')).toBe(true);
    watch(world.pool.suspend());
    const reset = watch(world.pool.reset());
    const asked = watch(world.pool.acquire());
    for (const peer of world.net.peers) peer.write('PONG\n');
    await world.now();
    world.pool.resume();
    await world.pass(600);
    expect(reset.isSettled).toBe(true);
    expect(asked.value?.connectionId).toBe(3);
  });

  it('in the order reset(), suspend(), resume() replaces what is left after resume()', async () => {
    const world = setUp({ min: 3, max: 6 });
    await world.now();
    const reset = watch(world.pool.reset({ perSecond: 10 }));
    watch(world.pool.suspend());
    await world.pass(2_000);
    expect(reset.isSettled).toBe(false);
    world.pool.resume();
    await world.pass(2_000);
    expect(reset.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ idle: 3, closedBy: { reset: 3 } });
  });
});

describe('close() of a suspended pool', () => {
  it('serves those who wait while sockets last, and ends', async () => {
    const world = setUp({ min: 1, max: 1 });
    await world.now();
    watch(world.pool.suspend());
    const asked = [1, 2].map((caller) => watch(world.pool.use((lease) => lease.request(`${caller}`))));
    const closing = watch(world.pool.close());
    await world.now();
    expect(asked.map((one) => one.value)).toEqual(['Echo: 1', 'Echo: 2']);
    expect(closing.value).toMatchObject({ forced: 0 });
    expect(world.pool.stats().isSuspended).toBe(false);
  });

  it('tells those who wait when there is no socket', async () => {
    const world = setUp();
    watch(world.pool.suspend());
    const asked = watch(world.pool.acquire());
    const closing = watch(world.pool.close());
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_POOL_CLOSED' });
    expect(closing.isSettled).toBe(true);
  });

  it('waits for leases that are held', async () => {
    const world = setUp();
    const [lease] = await take(world, 1);
    watch(world.pool.suspend());
    const closing = watch(world.pool.close());
    await world.pass(1_000);
    expect(closing.isSettled).toBe(false);
    lease?.release();
    await world.now();
    expect(closing.isSettled).toBe(true);
  });

  it('leaves suspend() nothing to do, and resume() harmless', async () => {
    const world = setUp({ min: 1 });
    await world.now();
    watch(world.pool.suspend());
    await Promise.all([world.pool.close(), world.now()]);
    await expect(world.pool.suspend()).rejects.toMatchObject({ code: 'ERR_POOL_CLOSED' });
    expect(() => world.pool.resume()).not.toThrow();
    expect(world.net.dialedAt.length).toBe(1);
  });
});

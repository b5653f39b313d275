/**
 * What hooks, suspension, resets, lifetimes and deadlines do to each other.
 */
import { describe, expect, it } from 'vitest';
import { HEARTBEAT, setUp, take, type World, watch } from '../../support/pool-world.ts';

const later = (world: () => World, ms: number) => () =>
  new Promise<void>((resolve) => void world().clock.after(ms, resolve));

describe('a socket that onAcquire prepared for somebody who has left', () => {
  it('goes through onRelease before the next one gets it', async () => {
    const log: string[] = [];
    const world: World = setUp({
      max: 1,
      onAcquire: async () => {
        log.push('prepared');
        await later(() => world, 50)();
      },
      onRelease: () => void log.push('reset'),
    });
    const leaving = watch(world.pool.acquire({ timeoutMs: 20 }));
    const staying = watch(world.pool.acquire());
    await world.pass(200);
    expect(leaving.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT' });
    expect(staying.value?.isUsable).toBe(true);
    expect(log).toEqual(['prepared', 'reset', 'prepared']);
  });

  it('is not lent when the pool was suspended meanwhile; its caller waits on, and is the first one afterwards', async () => {
    const world: World = setUp({ max: 1, onAcquire: later(() => world, 50) });
    const first = watch(world.pool.acquire());
    await world.pass(10);
    watch(world.pool.suspend());
    const second = watch(world.pool.acquire());
    await world.pass(100);
    expect(world.pool.stats()).toMatchObject({ leased: 0, idle: 1, waiting: 2, acquired: 0 });
    world.pool.resume();
    await world.pass(60);
    expect([first.isSettled, second.isSettled]).toEqual([true, false]);
  });

  it('fails nobody while the pool is suspended, however often hooks fail', async () => {
    const world: World = setUp({
      max: 1,
      retry: { retries: 0 },
      onAcquire: async () => {
        await later(() => world, 50)();
        throw new Error('mine');
      },
    });
    const asked = watch(world.pool.acquire());
    await world.pass(10);
    watch(world.pool.suspend());
    await world.pass(1_000);
    expect(asked.isSettled).toBe(false);
  });

  it('is not lent by tryAcquire either', async () => {
    const world: World = setUp({ min: 1, onAcquire: later(() => world, 50) });
    await world.now();
    const tried = watch(world.pool.tryAcquire());
    await world.pass(10);
    watch(world.pool.suspend());
    await world.pass(100);
    expect(tried).toMatchObject({ isSettled: true, value: undefined });
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0 });
  });
});

describe('a hook that fails now and then', () => {
  it('costs its own socket only: the others are dialed as ever', async () => {
    let calls = 0;
    const world = setUp({
      max: 4,
      maxConnecting: 4,
      onRelease: () => {
        calls += 1;
        if (calls % 5 === 0) throw new Error('mine');
      },
    });
    for (let round = 0; round < 20; round++) {
      for (const lease of await take(world, 4)) lease.release();
      await world.pass(10);
    }
    expect(world.pool.stats()).toMatchObject({ hookFailed: 16, dialFailed: 0 });
    // No back-off: the endpoint is not taken for one that fails.
    await take(world, 4);
    expect(world.pool.stats().leased).toBe(4);
  });

  it('is named as the cause when a caller waits in vain for its end', async () => {
    const world: World = setUp({ max: 1, onAcquire: later(() => world, 4_000) });
    const asked = watch(world.pool.acquire({ timeoutMs: 200 }));
    await world.pass(201);
    expect(asked.error).toMatchObject({
      code: 'ERR_ACQUIRE_TIMEOUT',
      hint: expect.stringMatching(/^1 of 1 leased sockets were in the hands of onAcquire or onRelease/),
    });
    await world.pass(4_000);
  });
});

describe('reset() of a pool that is leased out', () => {
  it('lets the sockets go at its rate, however many leases come back at once', async () => {
    const world = setUp({ max: 10, maxLifetimeMs: Number.POSITIVE_INFINITY });
    const leases = await take(world, 10);
    world.net.outcome = { kind: 'open', afterMs: 5 };
    const done = watch(world.pool.reset({ perSecond: 2 }));
    await world.pass(10_000);
    for (const lease of leases) lease.release();
    let fewest = 10;
    for (let step = 0; step < 400; step++) {
      await world.pass(10);
      fewest = Math.min(fewest, world.pool.stats().idle);
    }
    expect(fewest).toBeGreaterThanOrEqual(9);
    const { closedBy } = world.pool.stats();
    expect(closedBy.reset).toBeGreaterThanOrEqual(8);
    expect(closedBy.reset).toBeLessThanOrEqual(9);
    await world.pass(2_000);
    expect(done.isSettled).toBe(true);
  });

  it('is over for its own caller though another one has begun since', async () => {
    const world = setUp({ min: 2, max: 4 });
    await world.now();
    const [held] = await take(world, 1);
    const first = watch(world.pool.reset());
    await world.pass(1_000);
    held?.release();
    const [newer] = await take(world, 1);
    const second = watch(world.pool.reset());
    await world.pass(3_000);
    expect([first.isSettled, second.isSettled]).toEqual([true, false]);
    newer?.release();
    await world.pass(1_000);
    expect(second.isSettled).toBe(true);
  });

  it('holds the process while somebody waits for it, and lets go of whoever gives up', async () => {
    const world = setUp({ max: 1 });
    await take(world, 1);
    const controller = new AbortController();
    const before = world.net.hold.count;
    const done = watch(world.pool.reset({ signal: controller.signal }));
    const quiet = watch(world.pool.suspend({ signal: controller.signal }));
    await world.now();
    expect(world.net.hold.count).toBe(before + 2);
    controller.abort(new Error('enough'));
    await world.now();
    expect([done.error, quiet.error]).toEqual([controller.signal.reason, controller.signal.reason]);
    expect(world.net.hold.count).toBe(before);
    expect(world.pool.stats().isSuspended).toBe(true);
  });
});

describe('the lifetime in a pool that is full', () => {
  it('is kept: one after the other, as fast as successors open', async () => {
    const world = setUp({ min: 30, max: 30, maxConnecting: 30, maxLifetimeMs: 10_000 });
    world.net.random = () => 0;
    await world.now();
    world.net.outcome = { kind: 'open', afterMs: 5 };
    let oldest = 0;
    let fewest = 30;
    for (let step = 0; step < 300; step++) {
      await world.pass(100);
      const rows = world.pool.sockets().filter(({ state }) => state === 'idle');
      oldest = Math.max(oldest, ...rows.map(({ ageMs }) => ageMs));
      fewest = Math.min(fewest, rows.length);
    }
    expect(oldest).toBeLessThan(11_500);
    expect(fewest).toBeGreaterThanOrEqual(29);
  });

  it('orders no successor for ever when the server is gone and nobody needs one', async () => {
    const world = setUp({ max: 1, maxLifetimeMs: 10_000, idleTimeoutMs: Number.POSITIVE_INFINITY });
    await world.pool.request('warm');
    world.net.outcome = { kind: 'refuse' };
    await world.pass(20_000);
    const dials = world.net.dialedAt.length;
    await world.pass(600_000);
    expect(world.net.dialedAt.length - dials).toBeLessThanOrEqual(1);
  });
});

describe('a pool in which nothing may rest', () => {
  it('dials no successors, and nothing for tryAcquire', async () => {
    const world = setUp({ maxIdle: 0, maxUses: 1 });
    for (let round = 0; round < 5; round++) {
      const [lease] = await take(world, 1);
      lease?.release();
      await world.pass(50);
    }
    expect(world.net.dialedAt.length).toBe(5);
    const tried = watch(world.pool.tryAcquire());
    await world.pass(50);
    expect(tried.value).toBeUndefined();
    expect(world.net.dialedAt.length).toBe(5);
  });
});

describe('a goodbye that hangs', () => {
  it('lets nobody wait for its place for longer than a second', async () => {
    const world = setUp({ max: 1, maxUses: 1, onClose: () => new Promise(() => undefined) });
    const [lease] = await take(world, 1);
    lease?.release();
    const asked = watch(world.pool.acquire());
    await world.pass(1_600);
    expect(asked.value?.connectionId).toBe(2);
  });

  it('has its whole time when nobody waits', async () => {
    const world = setUp({
      max: 1,
      maxUses: 1,
      hookTimeoutMs: 4_000,
      onClose: () => new Promise(() => undefined),
    });
    const [lease] = await take(world, 1);
    lease?.release();
    await world.pass(3_900);
    expect(world.pool.stats().closing).toBe(1);
    await world.pass(200);
    expect(world.pool.stats().total).toBe(0);
  });
});

describe('advice', () => {
  it('is not drawn from callers who waited for the end of a suspension, nor for slow dials', async () => {
    const world = setUp({ max: 5 });
    for (let round = 0; round < 150; round++) {
      await world.pool.request('hello');
    }
    watch(world.pool.suspend());
    const asked = Array.from({ length: 40 }, () => watch(world.pool.request('hello', { timeoutMs: 30_000 })));
    await world.pass(10_000);
    world.pool.resume();
    await world.pass(1_000);
    expect(asked.every((one) => one.value !== undefined)).toBe(true);
    expect(world.pool.advice()).toEqual([]);
  });
});

describe('a machine that has slept, while the clock of the process stood still', () => {
  it('is found out by the clock on the wall: it is told, and what rests is pinged at once', async () => {
    const world = setUp({ min: 3, heartbeat: HEARTBEAT });
    await world.pass(100);
    const before = world.net.peers.map(({ received }) => received.length);
    world.clock.sleptMs = 3_600_000;
    const stalls: number[] = [];
    world.pool.on('stalled', ({ lateMs }) => stalls.push(lateMs));
    await world.pass(1_050);
    expect(stalls.map((ms) => Math.round(ms / 1_000))).toEqual([3_600]);
    expect(world.net.peers.every(({ received }, index) => received.length > (before[index] ?? 0))).toBe(true);
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ idle: 3, closed: 0, stalled: 1 });
  });
});

describe('what the server will soon close', () => {
  it('is replaced before it ends, when min needs it: a successor first', async () => {
    const world = setUp({ min: 3, max: 6, idleTimeoutMs: 60_000 });
    world.net.outcome = { kind: 'open', afterMs: 300 };
    await world.pass(1_000);
    // The server closes what rests for 20 s, at moments of their own.
    const seen = new Set<object>();
    let fewest = 3;
    for (let step = 0; step < 1_600; step++) {
      await world.pass(100);
      for (const [index, peer] of world.net.peers.entries()) {
        if (seen.has(peer)) continue;
        seen.add(peer);
        world.clock.after(20_000 + (index % 3) * 150, () => peer.fin());
      }
      if (step > 800) fewest = Math.min(fewest, world.pool.stats().idle);
    }
    expect(world.pool.stats().closedBy.idle).toBeGreaterThan(3);
    expect(fewest).toBe(3);
    // The server's own timers.
    await world.pool.close();
    await world.pass(25_000);
  });
});

describe('traces', () => {
  it('are made no longer when the last listener of a lease’s events has left', async () => {
    const world = setUp();
    const sees: (string | undefined)[] = [];
    const listener = (): void => void sees.push(world.pool.sockets()[0]?.state);
    await world.pool.request('warm');
    world.pool.on('acquired', listener);
    await world.pool.request('one');
    await world.now();
    world.pool.off('acquired', listener);
    await world.pool.request('two');
    await world.now();
    expect(sees.length).toBe(1);
  });
});

describe('a caller who gives up in the turn in which they are refused', () => {
  it('hears their own reason, whether the server is down or the queue is full', async () => {
    const down = setUp({ retry: { retries: 0, baseMs: 1_000 } });
    down.net.outcome = { kind: 'refuse' };
    await watch(down.pool.acquire());
    await down.now();
    const full = setUp({ max: 1, maxWaiting: 0 });
    await take(full, 1);
    for (const { pool, now } of [down, full]) {
      const controller = new AbortController();
      const asked = watch(pool.acquire({ signal: controller.signal }));
      controller.abort(new Error('mine'));
      await now();
      expect(asked.error).toBe(controller.signal.reason);
    }
    expect(full.pool.stats()).toMatchObject({ waiting: 0, cancelled: 1 });
  });
});

describe('a failure that nobody dials to find over', () => {
  it('does not keep a full pool from being reset', async () => {
    const world = setUp({ max: 2, idleTimeoutMs: Number.POSITIVE_INFINITY });
    await world.pool.request('warm');
    const [one] = await take(world, 1);
    const second = watch(world.pool.acquire());
    await world.now();
    second.value?.release();
    one?.release();
    // Young, and closed by the server before it had served: as good as a failed dial.
    world.net.outcome = { kind: 'refuse' };
    world.pool.resize({ max: 3, min: 3 });
    await world.pass(100);
    world.net.outcome = { kind: 'open' };
    world.pool.resize({ min: 0, max: 2 });
    await world.pass(5_000);
    const done = watch(world.pool.reset());
    await world.pass(5_000);
    expect(done.isSettled).toBe(true);
    expect(world.pool.stats().closedBy.reset).toBe(2);
  });
});

import { describe, expect, it } from 'vitest';
import type { CloseReason } from '../../../src/transport/close-reason.ts';
import { HEARTBEAT, type Options, setUp, take, type World, watch } from '../../support/pool-world.ts';

describe('stats()', () => {
  it('is a frozen snapshot, which later changes do not reach', async () => {
    const world = setUp();
    const before = world.pool.stats();
    expect(Object.isFrozen(before)).toBe(true);
    expect(Object.isFrozen(before.times)).toBe(true);
    expect(Object.isFrozen(before.times.wait)).toBe(true);
    expect(Object.isFrozen(before.closedBy)).toBe(true);
    const [lease] = await take(world, 1);
    lease?.destroy();
    await world.now();
    expect(before).toMatchObject({ total: 0, acquired: 0, closed: 0, closedBy: {} });
  });

  it('has gauges that sum, with places in every state', async () => {
    const world = setUp({ max: 5, maxConnecting: 4 });
    const [a, b, c] = await take(world, 4);
    a?.release();
    world.net.peers[1]?.fin();
    const closing = world.net.peers[2];
    if (closing !== undefined) closing.isMute = true;
    b?.release();
    c?.destroy();
    world.net.outcome = { kind: 'open', afterMs: 500 };
    for (let caller = 0; caller < 6; caller++) watch(world.pool.acquire());
    await world.now();
    const { closing: ends, dialing, idle, leased, max, total } = world.pool.stats();
    expect(idle + leased + dialing + ends).toBe(total);
    expect(total).toBeLessThanOrEqual(max);
    expect(dialing).toBeGreaterThan(0);
    expect(leased).toBeGreaterThan(0);
  });

  it('has the sizes as they are now', () => {
    const world = setUp({ min: 1, minIdle: 1, maxIdle: 3, max: 5 });
    expect(world.pool.stats()).toMatchObject({ min: 1, minIdle: 1, maxIdle: 3, max: 5 });
    world.pool.resize({ max: 7 });
    expect(world.pool.stats()).toMatchObject({ min: 1, minIdle: 1, maxIdle: 3, max: 7 });
  });

  it('says how long the caller at the head of the queue has waited', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    expect(world.pool.stats().oldestWaitMs).toBe(0);
    watch(world.pool.acquire());
    await world.pass(300);
    watch(world.pool.acquire());
    await world.pass(200);
    expect(world.pool.stats()).toMatchObject({ oldestWaitMs: 500, waiting: 2 });
    lease?.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ oldestWaitMs: 200, waiting: 1 });
  });

  it('says whether the pool is suspended', () => {
    const world = setUp();
    void world.pool.suspend();
    expect(world.pool.stats().isSuspended).toBe(true);
    world.pool.resume();
    expect(world.pool.stats().isSuspended).toBe(false);
  });

  it('can be read when the pool has closed', async () => {
    const world = setUp({ min: 2 });
    await world.now();
    const closing = world.pool.close();
    await world.now();
    await closing;
    expect(world.pool.stats()).toMatchObject({ total: 0, opened: 2, closed: 2, closedBy: { shutdown: 2 } });
  });
});

describe('the counter', () => {
  it('acquired counts every lease, waited those that were waited for', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    expect(world.pool.stats()).toMatchObject({ acquired: 1, waited: 1 });
    lease?.release();
    (await world.pool.acquire()).release();
    (await world.pool.tryAcquire())?.release();
    await world.pool.request('hello');
    await world.pool.use(() => undefined);
    expect(world.pool.stats()).toMatchObject({ acquired: 5, waited: 1 });
  });

  it('timedOut counts those whose deadline passed, cancelled those who were aborted', async () => {
    const world = setUp({ max: 1, acquireTimeoutMs: 1_000 });
    await take(world, 1);
    watch(world.pool.acquire());
    watch(world.pool.acquire({ timeoutMs: 10 }));
    const aborter = new AbortController();
    for (let caller = 0; caller < 3; caller++) watch(world.pool.acquire({ signal: aborter.signal }));
    await world.pass(20);
    expect(world.pool.stats()).toMatchObject({ timedOut: 1, cancelled: 0 });
    aborter.abort();
    await world.pass(1_100);
    expect(world.pool.stats()).toMatchObject({ timedOut: 2, cancelled: 3, refused: 0, failed: 0 });
  });

  it('refused counts those who were too many, failed those whose dial failed for good', async () => {
    const world = setUp({ max: 1, maxWaiting: 1, retry: { retries: 0 } });
    await take(world, 1);
    for (let caller = 0; caller < 4; caller++) watch(world.pool.acquire());
    await world.now();
    expect(world.pool.stats()).toMatchObject({ refused: 3, failed: 0, waiting: 1 });

    const down = setUp({ retry: { retries: 0 } });
    down.net.outcome = { kind: 'refuse' };
    for (let caller = 0; caller < 4; caller++) watch(down.pool.acquire());
    await down.now();
    watch(down.pool.acquire());
    await down.now();
    expect(down.pool.stats()).toMatchObject({ failed: 5, refused: 0, timedOut: 0, opened: 0 });
  });

  it('opened and dialFailed count attempts, hookFailed hooks', async () => {
    const world = setUp({
      max: 1,
      onRelease: () => {
        throw new Error('mine');
      },
    });
    world.net.script = [{ kind: 'refuse' }, { kind: 'refuse' }];
    const asked = watch(world.pool.acquire());
    await world.pass(2_000);
    asked.value?.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({
      opened: 1,
      dialFailed: 2,
      hookFailed: 1,
      closedBy: { hook: 1 },
    });
  });

  it('pinged and pingMissed count pings', async () => {
    const world = setUp({ min: 1, heartbeat: HEARTBEAT });
    await world.pass(3_500);
    expect(world.pool.stats()).toMatchObject({ pinged: 3, pingMissed: 0 });
    world.net.lastPeer.isMute = true;
    await world.pass(3_000);
    expect(world.pool.stats()).toMatchObject({ pingMissed: 2, closedBy: { heartbeat: 1 } });
  });

  const ends: Record<CloseReason, { options?: Options; run: (world: World) => Promise<unknown> }> = {
    idle: { options: { idleTimeoutMs: 100 }, run: (world) => restFor(world, 500) },
    surplus: { options: { maxIdle: 0 }, run: (world) => restFor(world, 0) },
    lifetime: { options: { maxLifetimeMs: 1_000 }, run: (world) => restFor(world, 1_100) },
    uses: { options: { maxUses: 1 }, run: (world) => restFor(world, 0) },
    reset: {
      run: async (world) => {
        await restFor(world, 0);
        watch(world.pool.reset());
      },
    },
    removed: {
      options: { dns: { refreshMs: 1_000 } },
      run: async (world) => {
        await restFor(world, 100);
        world.net.addresses = ['192.0.2.2'];
        await world.pass(3_000);
      },
    },
    // See endpoints.test.ts, as the next one.
    ejected: { run: async () => undefined },
    rebalanced: { run: async () => undefined },
    network: {
      run: async (world) => {
        const { localAddress: address } = world.net;
        const eth = {
          address,
          netmask: '',
          family: 'IPv4',
          mac: '',
          internal: false,
          cidr: `${address}/24`,
        } as const;
        world.net.interfaces = { eth0: [eth] };
        await restFor(world, 6_000);
        world.net.interfaces = {};
        await world.pass(6_000);
      },
    },
    heartbeat: {
      options: { heartbeat: { ...HEARTBEAT, maxMissed: 1 } },
      run: async (world) => {
        await restFor(world, 0);
        world.net.lastPeer.isMute = true;
        await world.pass(1_500);
      },
    },
    'peer-closed': {
      run: async (world) => {
        await restFor(world, 2_000);
        world.net.lastPeer.fin();
      },
    },
    'peer-reset': {
      run: async (world) => {
        await restFor(world, 2_000);
        world.net.lastPeer.reset();
      },
    },
    unsolicited: {
      run: async (world) => {
        await restFor(world, 2_000);
        world.net.lastPeer.write('surprise\n');
      },
    },
    dirty: {
      run: async (world) => {
        const [lease] = await take(world, 1);
        await lease?.send('hello');
        lease?.release();
      },
    },
    aborted: {
      run: async (world) => {
        const [lease] = await take(world, 1);
        const aborter = new AbortController();
        const { signal } = aborter;
        if (lease !== undefined) watch(lease.request('hello', { signal }));
        aborter.abort();
      },
    },
    timeout: {
      run: async (world) => {
        const [lease] = await take(world, 1);
        world.net.lastPeer.isMute = true;
        if (lease !== undefined) watch(lease.request('hello', { timeoutMs: 10 }));
        await world.pass(20);
      },
    },
    protocol: {
      run: async (world) => {
        const [lease] = await take(world, 1);
        if (lease !== undefined) watch(lease.receive());
        world.net.lastPeer.write('x'.repeat(100));
      },
    },
    failed: {
      run: async (world) => {
        watch(world.pool.use(() => Promise.reject(new Error('mine'))));
      },
    },
    hook: {
      options: { onRelease: () => Promise.reject(new Error('mine')) },
      run: (world) => restFor(world, 0),
    },
    // See leaks.test.ts.
    leaked: { run: async () => undefined },
    destroyed: {
      run: async (world) => {
        const [lease] = await take(world, 1);
        lease?.destroy();
      },
    },
    detached: {
      run: async (world) => {
        const [lease] = await take(world, 1);
        lease?.detach().destroy();
      },
    },
    shutdown: {
      run: async (world) => {
        await restFor(world, 0);
        watch(world.pool.close());
      },
    },
  };

  async function restFor(world: World, ms: number): Promise<void> {
    const [lease] = await take(world, 1);
    lease?.release();
    await world.pass(ms);
  }

  it.each(Object.entries(ends).filter(([reason]) => !['leaked', 'ejected', 'rebalanced'].includes(reason)))(
    'closedBy counts %s',
    async (reason, { options, run }) => {
      const world = setUp({ max: 1, ...options });
      await run(world);
      await world.now();
      await world.now();
      const { closed, closedBy } = world.pool.stats();
      expect(closedBy).toEqual({ [reason]: 1 });
      expect(closed).toBe(1);
    },
  );
});

describe('times', () => {
  it('wait is of those who had to wait, hold of every lease', async () => {
    const world = setUp({ max: 1 });
    const [first] = await take(world, 1);
    const second = watch(world.pool.acquire());
    await world.pass(100);
    first?.release();
    await world.now();
    await world.pass(40);
    second.value?.release();
    const { hold, wait } = world.pool.stats().times;
    expect(wait).toMatchObject({ count: 2, sumMs: 100, maxMs: 100 });
    expect(hold).toMatchObject({ count: 2, sumMs: 140, maxMs: 100 });
    expect(Math.abs(hold.p50Ms - 40)).toBeLessThan(40 * 0.0625);
  });

  it('hold ends with the socket, too', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    await world.pass(70);
    lease?.destroy();
    expect(world.pool.stats().times.hold).toMatchObject({ count: 1, sumMs: 70 });
    lease?.release();
    expect(world.pool.stats().times.hold.count).toBe(1);
  });

  it('dial is of dials that succeeded, with their back-off', async () => {
    const world = setUp();
    world.net.script = [
      { kind: 'refuse', afterMs: 10 },
      { kind: 'open', afterMs: 20 },
    ];
    const asked = watch(world.pool.acquire());
    await world.pass(500);
    expect(asked.isSettled).toBe(true);
    const { count, sumMs } = world.pool.stats().times.dial;
    expect(count).toBe(1);
    expect(sumMs).toBeCloseTo(80);
  });

  it('ping is of pongs', async () => {
    const world = setUp({ min: 1, heartbeat: HEARTBEAT });
    await world.now();
    world.net.lastPeer.isMute = true;
    while (!world.net.lastPeer.received.includes('PING')) await world.pass(10);
    await world.pass(30);
    world.net.lastPeer.write('PONG\n');
    await world.now();
    const { count, maxMs } = world.pool.stats().times.ping;
    expect(count).toBe(1);
    expect(maxMs).toBeGreaterThanOrEqual(30);
    expect(maxMs).toBeLessThanOrEqual(50);
  });
});

describe('a pool that lends more than 2,000 times a second', () => {
  /** Lends and takes back so often, each lease held for a time of virtual milliseconds. */
  async function lend(world: World, times: number, holdMs: number): Promise<void> {
    for (let lent = 0; lent < times; lent++) {
      if (lent % 500 === 0) {
        // A byte now and then, or the socket would have to be checked.
        const reply = world.pool.request('hello');
        await world.now();
        await reply;
      }
      const lease = await world.pool.acquire();
      world.clock.freeze(holdMs);
      lease.release();
    }
    await world.now();
  }

  it('measures one lease of 16, and is still right on average', async () => {
    const world = setUp({ max: 1, idleTimeoutMs: 60_000 });
    for (let second = 0; second < 4; second++) {
      await lend(world, 3_000, 0.02);
      await world.pass(940);
    }
    const { acquired, times } = world.pool.stats();
    expect(acquired).toBeGreaterThan(12_000);
    // To within the 15 that one sample may stand for, at each change of the rate.
    expect(Math.abs(times.hold.count - acquired)).toBeLessThan(acquired * 0.02);
    expect(times.hold.sumMs / times.hold.count).toBeCloseTo(0.02, 2);
  });

  it('does not count the leases that are out when the rate changes 16 times', async () => {
    const world = setUp({ max: 20, idleTimeoutMs: 60_000 });
    const held = await take(world, 19);
    const [one] = await take(world, 1);
    one?.release();
    await lend(world, 3_000, 0.02);
    await world.pass(1_000);
    for (const lease of held) lease.release();
    const { acquired, times } = world.pool.stats();
    expect(Math.abs(times.hold.count - acquired)).toBeLessThan(40);
  });
});

import { describe, expect, it } from 'vitest';
import { setUp, take, watch } from '../../support/pool-world.ts';

describe('min', () => {
  it('is opened in the next turn, without anybody asking', async () => {
    const { net, pool, now } = setUp({ min: 3 });
    expect(net.dialedAt).toEqual([]);
    await now();
    expect(pool.stats()).toMatchObject({ idle: 3, total: 3, opened: 3 });
  });

  it('is refilled at once when a socket dies', async () => {
    const { net, pool, now, pass } = setUp({ min: 2 });
    await pass(2_000);
    net.peers[0]?.fin();
    await now();
    expect(pool.stats()).toMatchObject({ idle: 2, opened: 3, closedBy: { 'peer-closed': 1 } });
  });

  it('is refilled under back-off, by a single probe, while the server is down', async () => {
    const { net, pool, now, pass } = setUp({ min: 3 });
    await now();
    net.outcome = { kind: 'refuse' };
    const before = net.dialedAt.length;
    for (const peer of net.peers) peer.reset();
    await pass(60_000);
    // 1,000 ms of back-off on average at the cap of 2,000 (chance is 0.5 here), and a few quick ones before.
    const dials = net.dialedAt.length - before;
    expect(dials).toBeGreaterThan(50);
    expect(dials).toBeLessThan(70);
    net.outcome = { kind: 'open' };
    await pass(1_000);
    expect(pool.stats()).toMatchObject({ idle: 3, total: 3 });
  });
});

describe('maxIdle', () => {
  it('lets so many rest; a lease that comes back to a full shelf is closed', async () => {
    const world = setUp({ max: 4, maxIdle: 2 });
    const leases = await take(world, 4);
    for (const lease of leases) {
      lease.release();
      world.audit();
    }
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 2, total: 2, closedBy: { surplus: 2 } });
  });

  it('of 0 keeps nothing at rest, and still lets the pool be asked whether it is ready', async () => {
    const { net, pool, now } = setUp({ maxIdle: 0 });
    const ready = watch(pool.ready());
    await now();
    expect(ready).toMatchObject({ isSettled: true, error: undefined });
    expect(net.dialedAt.length).toBe(1);
    expect(pool.stats()).toMatchObject({ total: 0, closedBy: { surplus: 1 } });
  });
});

describe('max', () => {
  it('counts dialing sockets', async () => {
    const { net, pool, pass } = setUp({ max: 3 });
    net.outcome = { kind: 'open', afterMs: 100 };
    const asked = Array.from({ length: 20 }, () => watch(pool.acquire()));
    await pass(99);
    expect(net.dialing).toBeLessThanOrEqual(3);
    await pass(1_000);
    expect(net.peers.length).toBe(3);
    expect(asked.filter((one) => one.isSettled).length).toBe(3);
  });

  it('counts closing sockets until they have closed', async () => {
    const world = setUp({ max: 1, maxIdle: 0 });
    const { net, pool, now, pass } = world;
    const [lease] = await take(world, 1);
    // A stopped server says no goodbye: the place is taken for the 500 ms that a clean one may take.
    net.lastPeer.isMute = true;
    lease?.release();
    const next = watch(pool.acquire());
    await now();
    expect(pool.stats()).toMatchObject({ closing: 1, total: 1, waiting: 1, dialing: 0 });
    await pass(501);
    expect(next.isSettled).toBe(true);
    expect(net.peers.length).toBe(2);
  });

  it('holds when dials overtake each other, and each caller gets a socket of their own', async () => {
    const { net, pool, pass } = setUp({ max: 3 });
    net.script = [
      { kind: 'open', afterMs: 100 },
      { kind: 'open', afterMs: 10 },
      { kind: 'open', afterMs: 50 },
    ];
    const asked = [1, 2, 3].map(() => watch(pool.acquire()));
    await pass(20);
    expect(asked.map((one) => one.isSettled)).toEqual([true, false, false]);
    await pass(100);
    const ids = asked.map((one) => one.value?.connectionId);
    expect(new Set(ids).size).toBe(3);
    expect(pool.stats()).toMatchObject({ leased: 3, total: 3 });
  });

  it('is reached by at most maxConnecting dials at once', async () => {
    const { net, pool, pass } = setUp({ max: 20, maxConnecting: 5 });
    net.outcome = { kind: 'open', afterMs: 10 };
    const asked = Array.from({ length: 20 }, () => watch(pool.acquire()));
    for (let ms = 0; ms < 39; ms += 3) {
      await pass(3);
      expect(net.dialing).toBeLessThanOrEqual(5);
    }
    await pass(10);
    expect(asked.every((one) => one.isSettled)).toBe(true);
    expect(net.dialedAt.length).toBe(20);
  });
});

describe('the idle timeout', () => {
  it('closes what has not been used, down to min', async () => {
    const world = setUp({ min: 1, max: 4, idleTimeoutMs: 10_000 });
    const leases = await take(world, 4);
    for (const lease of leases) lease.release();
    await world.pass(9_000);
    expect(world.pool.stats().idle).toBe(4);
    await world.pass(2_100);
    expect(world.pool.stats()).toMatchObject({ idle: 1, closedBy: { idle: 3 } });
    await world.pass(30_000);
    expect(world.pool.stats().idle).toBe(1);
  });

  it('is not put off by heartbeats', async () => {
    const world = setUp({
      idleTimeoutMs: 5_000,
      heartbeat: { intervalMs: 1_000, ping: 'PING', isPong: (line) => line === 'PONG' },
    });
    await world.pool.request('hello');
    await world.pass(4_000);
    expect(world.pool.stats().pinged).toBeGreaterThan(2);
    await world.pass(2_000);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { idle: 1 } });
  });

  it('runs from the release, even of a lease that was held long and never read', async () => {
    const world = setUp({ idleTimeoutMs: 5_000 });
    const [lease] = await take(world, 1);
    await world.pass(60_000);
    lease?.release();
    await world.pass(4_000);
    expect(world.pool.stats().idle).toBe(1);
    await world.pass(2_000);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { idle: 1 } });
  });
});

describe('the lifetime', () => {
  it('is shortened by up to a tenth, each socket by its own share, so that they never end together', async () => {
    const world = setUp({ min: 5, max: 5, maxLifetimeMs: 100_000, idleTimeoutMs: Number.POSITIVE_INFINITY });
    let draws = 0;
    world.net.random = () => (draws++ % 5) / 5;
    await world.now();
    const ages: number[] = [];
    world.pool.on('closed', ({ ageMs, reason }) => {
      if (reason === 'lifetime') ages.push(ageMs);
    });
    await world.pass(89_000);
    expect(ages).toEqual([]);
    for (let second = 0; second < 12; second++) {
      const before = ages.length;
      await world.pass(1_000);
      expect(ages.length - before).toBeLessThanOrEqual(1);
    }
    expect(ages.length).toBe(5);
    expect(world.pool.stats()).toMatchObject({ idle: 5, total: 5 });
  });

  it('ends a leased socket when it comes back, not before', async () => {
    const world = setUp({ maxLifetimeMs: 10_000 });
    const [lease] = await take(world, 1);
    await world.pass(30_000);
    expect(await lease?.request('still here')).toBe('Echo: still here');
    lease?.release();
    await world.now();
    // Its successor had been opened long before, and had grown old without ever being needed.
    expect(world.pool.stats()).toMatchObject({ total: 0, opened: 2, closedBy: { lifetime: 2 } });
  });

  it('ends a socket that was being pinged when its time came', async () => {
    const world = setUp({
      min: 1,
      max: 1,
      maxLifetimeMs: 1_000,
      idleTimeoutMs: Number.POSITIVE_INFINITY,
      heartbeat: { intervalMs: 900, timeoutMs: 500, ping: 'PING', isPong: (line) => line === 'PONG' },
    });
    await world.now();
    const peer = world.net.lastPeer;
    peer.isMute = true;
    await world.pass(1_200);
    expect(world.pool.stats()).toMatchObject({ opened: 1, total: 1 });
    peer.isMute = false;
    peer.write('PONG\n');
    await world.pass(600);
    expect(world.pool.stats()).toMatchObject({ opened: 2, closedBy: { lifetime: 1 } });
  });
});

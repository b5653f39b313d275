import { describe, expect, it } from 'vitest';
import { HEARTBEAT, setUp, take, type World, watch } from '../../support/pool-world.ts';

const FOREVER = Number.POSITIVE_INFINITY;

/** Passes time, and returns the fewest sockets that were open on the way. */
async function fewestOpen(world: World, ms: number, stepMs: number): Promise<number> {
  let fewest = FOREVER;
  for (let past = 0; past < ms; past += stepMs) {
    await world.pass(stepMs);
    const { idle, leased } = world.pool.stats();
    fewest = Math.min(fewest, idle + leased);
  }
  return fewest;
}

/** How old sockets were when their lifetime ended. */
function agesAtEnd({ pool }: World): number[] {
  const ages: number[] = [];
  pool.on('closed', ({ ageMs, reason }) => {
    if (reason === 'lifetime') ages.push(ageMs);
  });
  return ages;
}

describe('the lifetime', () => {
  it('opens a successor before the old socket closes: the number of open ones never dips', async () => {
    const world = setUp({ min: 3, max: 6, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
    world.net.outcome = { kind: 'open', afterMs: 30 };
    await world.pass(100);
    expect(await fewestOpen(world, 60_000, 20)).toBe(3);
    expect(world.pool.stats().closedBy.lifetime).toBeGreaterThan(15);
    expect(world.pool.stats()).toMatchObject({ idle: 3, total: 3 });
  });

  it('is over between 90 and 100 % of it, the earlier the larger the chance', async () => {
    for (const [chance, least, most] of [
      [0, 9_500, 9_750],
      [0.99, 9_000, 9_300],
    ] as const) {
      const world = setUp({ min: 1, max: 2, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
      world.net.random = () => chance;
      const ages = agesAtEnd(world);
      await world.pass(10_000);
      expect(ages.length).toBe(1);
      expect(ages[0]).toBeGreaterThanOrEqual(least);
      expect(ages[0]).toBeLessThanOrEqual(most);
    }
  });

  it('at max, with no place for a successor, ends the old one first, and never later than promised', async () => {
    const world = setUp({ min: 1, max: 1, maxLifetimeMs: 100_000, idleTimeoutMs: FOREVER });
    const ages = agesAtEnd(world);
    await world.pass(102_000);
    expect(ages.length).toBe(1);
    // By then every minute of the second half of the jitter has been waited for a place.
    expect(ages[0]).toBeGreaterThanOrEqual(97_500);
    expect(ages[0]).toBeLessThanOrEqual(100_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, opened: 2 });
  });

  it('at max ends sockets that were opened together one after the other', async () => {
    const world = setUp({ min: 5, max: 5, maxConnecting: 5, maxLifetimeMs: 100_000, idleTimeoutMs: FOREVER });
    world.net.outcome = { kind: 'open', afterMs: 100 };
    await world.pass(200);
    expect(world.pool.stats().idle).toBe(5);
    // Chance is 0.5 for all of them: their time is over in the same moment.
    expect(await fewestOpen(world, 110_000, 50)).toBe(4);
    expect(world.pool.stats()).toMatchObject({ idle: 5, closedBy: { lifetime: 5 } });
  });

  it('at max takes the place of another one that leaves, rather than end a socket first', async () => {
    const world = setUp({ min: 1, max: 2, maxLifetimeMs: 100_000, idleTimeoutMs: FOREVER });
    await world.pass(50_000);
    const [old, young] = (await take(world, 2)).sort((a, b) => a.connectionId - b.connectionId);
    old?.release();
    // The first one's time begins to run out while the second one takes the last place.
    await world.pass(44_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 1, closed: 0 });
    young?.destroy();
    expect(await fewestOpen(world, 2_000, 10)).toBe(1);
    expect(world.pool.stats()).toMatchObject({ opened: 3, closedBy: { destroyed: 1, lifetime: 1 }, idle: 1 });
  });

  it('waits for a successor that is slow to dial', async () => {
    const world = setUp({ min: 1, max: 3, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
    await world.pass(1_000);
    world.net.outcome = { kind: 'open', afterMs: 3_000 };
    expect(await fewestOpen(world, 12_000, 100)).toBe(1);
    expect(world.pool.stats()).toMatchObject({ idle: 1, total: 1, opened: 2, closedBy: { lifetime: 1 } });
  });

  it('of a leased socket does not cut off its caller; it ends when it comes back', async () => {
    const world = setUp({ max: 2, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
    const [lease] = await take(world, 1);
    await world.pass(11_000);
    expect(world.pool.stats()).toMatchObject({ leased: 1, idle: 1, closed: 0 });
    expect(await lease?.request('still')).toBe('Echo: still');
    lease?.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ leased: 0, idle: 1, closedBy: { lifetime: 1 } });
  });

  it('of a leased socket at max gives its place to whoever waits, by a new dial', async () => {
    const world = setUp({ max: 1, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
    const [lease] = await take(world, 1);
    await world.pass(11_000);
    const asked = watch(world.pool.acquire());
    lease?.release();
    await world.now();
    expect(asked.value?.connectionId).toBe(2);
    expect(world.pool.stats()).toMatchObject({ leased: 1, opened: 2, closedBy: { lifetime: 1 } });
  });

  it('lets old sockets be lent last while they wait for their successors', async () => {
    const world = setUp({ max: 2, maxLifetimeMs: 100_000, idleTimeoutMs: FOREVER });
    for (const lease of await take(world, 1)) lease.release();
    await world.pass(50_000);
    for (const lease of await take(world, 2)) lease.release();
    await world.now();
    await world.pass(43_500);
    expect(world.pool.sockets().map(({ staleBy }) => staleBy)).toEqual(['lifetime', undefined]);
    // However recently the old one was used, the other one comes first.
    const both = await take(world, 2);
    for (const lease of both.sort((a, b) => b.connectionId - a.connectionId)) lease.release();
    await world.now();
    const [next] = await take(world, 1);
    expect(next?.connectionId).toBe(2);
    const [last] = await take(world, 1);
    expect(last?.connectionId).toBe(1);
  });

  it('does not replace what nobody has ever needed and the sizes do not ask for', async () => {
    const world = setUp({ max: 5, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
    world.net.outcome = { kind: 'open', afterMs: 20 };
    const controllers = [1, 2, 3].map(() => new AbortController());
    for (const { signal } of controllers) watch(world.pool.acquire({ signal }));
    await world.pass(10);
    for (const controller of controllers) controller.abort();
    await world.pass(100);
    expect(world.pool.stats()).toMatchObject({ idle: 3, acquired: 0 });
    await world.pass(12_000);
    expect(world.pool.stats()).toMatchObject({ total: 0, opened: 3, closedBy: { lifetime: 3 } });
  });

  it('replaces what min asks for, though nobody has ever needed it', async () => {
    const world = setUp({ min: 2, max: 5, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
    await world.pass(12_000);
    expect(world.pool.stats()).toMatchObject({ idle: 2, opened: 4, closedBy: { lifetime: 2 } });
  });

  it('replaces spare sockets of minIdle, too, which never run short', async () => {
    const world = setUp({ minIdle: 2, max: 5, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
    world.net.outcome = { kind: 'open', afterMs: 30 };
    await world.pass(100);
    expect(await fewestOpen(world, 30_000, 20)).toBe(2);
    expect(world.pool.stats().closedBy.lifetime).toBeGreaterThan(3);
  });

  it('is put off while the server can’t be dialed: old sockets serve on, and are replaced when it is back', async () => {
    const world = setUp({ min: 2, max: 2, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
    await world.pass(5_000);
    world.net.outcome = { kind: 'refuse' };
    world.net.peers[1]?.reset();
    await world.pass(30_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, closedBy: { 'peer-reset': 1 } });
    const reply = watch(world.pool.request('hello'));
    await world.now();
    expect(reply.value).toBe('Echo: hello');
    world.net.outcome = { kind: 'open' };
    await world.pass(6_000);
    expect(world.pool.stats()).toMatchObject({ idle: 2, closedBy: { 'peer-reset': 1, lifetime: 1 } });
  });

  it('is put off when the successor can’t be dialed, and not for ever: the pool finds out that the server is back', async () => {
    const world = setUp({ max: 3, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
    for (const lease of await take(world, 1)) lease.release();
    await world.pass(8_000);
    world.net.outcome = { kind: 'refuse' };
    await world.pass(30_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, closed: 0 });
    world.net.outcome = { kind: 'open' };
    await world.pass(5_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, opened: 2, closedBy: { lifetime: 1 } });
  });

  it('is kept though the last dial, long ago, had failed and nobody has needed one since', async () => {
    const world = setUp({ max: 3, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER, retry: { retries: 0 } });
    const [lease] = await take(world, 1);
    world.net.script = [{ kind: 'refuse' }];
    const asked = watch(world.pool.acquire());
    await world.now();
    lease?.release();
    await world.now();
    asked.value?.release();
    await world.pass(12_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, opened: 2, closedBy: { lifetime: 1 } });
  });

  it('ends a socket whose ping is out when the pong has come', async () => {
    const world = setUp({
      min: 1,
      max: 2,
      maxLifetimeMs: 10_000,
      idleTimeoutMs: FOREVER,
      heartbeat: HEARTBEAT,
    });
    expect(await fewestOpen(world, 10, 10)).toBe(1);
    await world.pass(40_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, closedBy: { lifetime: 4 } });
  });

  it('of Infinity never ends', async () => {
    const world = setUp({ min: 1, maxLifetimeMs: FOREVER, idleTimeoutMs: FOREVER });
    await world.pass(10_000_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, opened: 1, closed: 0 });
  });

  it('is not used up by time in which the whole process was frozen', async () => {
    const world = setUp({ min: 3, max: 6, maxLifetimeMs: 100_000, idleTimeoutMs: FOREVER });
    await world.pass(5_000);
    world.clock.freeze(1_000_000);
    await world.pass(5_000);
    expect(world.pool.stats()).toMatchObject({ idle: 3, opened: 3, closed: 0 });
    await world.pass(95_000);
    expect(world.pool.stats()).toMatchObject({ idle: 3, closedBy: { lifetime: 3 } });
  });

  it('replaces no more at once than maxConnecting', async () => {
    const world = setUp({ min: 8, max: 20, maxConnecting: 2, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
    await world.pass(100);
    world.net.outcome = { kind: 'open', afterMs: 50 };
    for (let past = 0; past < 12_000; past += 20) {
      await world.pass(20);
      expect(world.net.dialing).toBeLessThanOrEqual(2);
    }
    expect(world.pool.stats().idle).toBe(8);
    expect(world.pool.stats().closedBy.lifetime).toBeGreaterThanOrEqual(8);
  });
});

describe('maxUses', () => {
  it('of n ends a socket when it comes back from its nth lease, and its successor is there already', async () => {
    const world = setUp({ max: 4, maxUses: 3 });
    world.net.outcome = { kind: 'open', afterMs: 30 };
    const closed: { connectionId: number; uses: number }[] = [];
    world.pool.on('closed', ({ connectionId, uses }) => closed.push({ connectionId, uses }));
    await world.pass(1);
    for (let use = 1; use <= 7; use++) {
      const asked = watch(world.pool.acquire());
      await world.pass(use === 1 ? 30 : 0);
      expect(asked.value?.connectionId).toBe(Math.ceil(use / 3));
      await world.pass(50);
      asked.value?.release();
      await world.now();
    }
    expect(closed).toEqual([
      { connectionId: 1, uses: 3 },
      { connectionId: 2, uses: 3 },
    ]);
    expect(world.pool.stats()).toMatchObject({ idle: 1, opened: 3, closedBy: { uses: 2 } });
  });

  it('of 1 gives every caller a new socket', async () => {
    const world = setUp({ max: 3, maxUses: 1 });
    const seen = new Set<number>();
    for (let use = 0; use < 10; use++) {
      const [lease] = await take(world, 1);
      if (lease !== undefined) seen.add(lease.connectionId);
      expect(await lease?.request('x')).toBe('Echo: x');
      lease?.release();
      await world.now();
    }
    expect(seen.size).toBe(10);
    expect(world.pool.stats().closedBy).toEqual({ uses: 10 });
    expect(world.pool.stats().total).toBeLessThanOrEqual(2);
  });

  it('of 1 at max ends the old socket first, and serves everybody in turn', async () => {
    const world = setUp({ max: 1, maxUses: 1 });
    const order: number[] = [];
    const asked = [1, 2, 3, 4].map((caller) =>
      watch(
        world.pool.use(async (lease) => {
          order.push(caller);
          return lease.request(`${caller}`);
        }),
      ),
    );
    await world.pass(100);
    expect(order).toEqual([1, 2, 3, 4]);
    expect(asked.map((one) => one.value)).toEqual(['Echo: 1', 'Echo: 2', 'Echo: 3', 'Echo: 4']);
    expect(world.pool.stats()).toMatchObject({ opened: 4, closedBy: { uses: 4 } });
  });

  it('counts leases, not pings and not dials', async () => {
    const world = setUp({ min: 1, maxUses: 2, heartbeat: HEARTBEAT });
    await world.pass(10_000);
    expect(world.pool.stats().pinged).toBeGreaterThan(5);
    const [lease] = await take(world, 1);
    expect(lease?.connectionId).toBe(1);
    lease?.release();
    await world.now();
    expect(world.pool.stats().closed).toBe(0);
    expect(world.pool.sockets()[0]).toMatchObject({ uses: 1, staleBy: undefined });
  });

  it('does not lend a used-up socket again, though no successor can be dialed', async () => {
    const world = setUp({ max: 2, maxUses: 1, retry: { retries: 0 } });
    const [lease] = await take(world, 1);
    await world.now();
    // The successor is there; it is taken, too, and the server goes down.
    world.net.outcome = { kind: 'refuse' };
    const [other] = await take(world, 1);
    lease?.release();
    await world.pass(100);
    expect(other?.isUsable).toBe(true);
    const asked = watch(world.pool.acquire({ timeoutMs: 500 }));
    other?.release();
    await world.pass(600);
    expect(asked.error).toMatchObject({ cause: { code: 'ERR_REFUSED' } });
    expect(world.pool.stats().closedBy).toEqual({ uses: 2 });
  });

  it('dials a successor for one use only when there is a place, and none twice', async () => {
    const world = setUp({ max: 2, maxUses: 1 });
    world.net.outcome = { kind: 'open', afterMs: 10 };
    const first = watch(world.pool.acquire());
    await world.pass(30);
    expect(world.pool.stats()).toMatchObject({ leased: 1, idle: 1 });
    const [second] = await take(world, 1);
    await world.pass(100);
    expect(world.pool.stats()).toMatchObject({ leased: 2, total: 2, opened: 2 });
    first.value?.release();
    second?.release();
    await world.pass(100);
    expect(world.pool.stats()).toMatchObject({ leased: 0, closedBy: { uses: 2 } });
    expect(world.pool.stats().total).toBeLessThanOrEqual(2);
  });

  it('keeps min, whatever is used up', async () => {
    const world = setUp({ min: 2, max: 4, maxUses: 2 });
    for (let use = 0; use < 20; use++) {
      const leases = await take(world, 2);
      for (const lease of leases) lease.release();
      await world.now();
      expect(world.pool.stats().idle).toBeGreaterThanOrEqual(2);
    }
    expect(world.pool.stats().closedBy.uses).toBeGreaterThanOrEqual(15);
  });

  it('and the lifetime together end a socket once', async () => {
    const world = setUp({ max: 3, maxUses: 2, maxLifetimeMs: 10_000, idleTimeoutMs: FOREVER });
    const [first] = await take(world, 1);
    first?.release();
    const [last] = await take(world, 1);
    await world.pass(20_000);
    last?.release();
    await world.now();
    const { closedBy } = world.pool.stats();
    expect(closedBy.uses).toBe(1);
    expect(world.pool.sockets().every(({ state }) => state === 'idle')).toBe(true);
  });
});

/**
 * Endpoints in trouble, and what must not make it worse: both families down, the only socket that works, leases that are
 * held for ever, names that are gone.
 */
import { describe, expect, it } from 'vitest';
import { setUpClient } from '../../support/client-world.ts';
import { fakeLookup } from '../../support/fake-net.ts';
import { Feed } from '../../support/feed.ts';
import { setUp, take, type World, watch } from '../../support/pool-world.ts';
import { A, B, C, netOf, serverOf, spread, THREE } from '../../support/three-endpoints.ts';

const V6 = '2001:db8::1';
const ORDERS = { host: 'orders', port: 1 };

/** Two callers at a time, for so many times 100 ms. */
async function beBusy(world: World, times: number): Promise<void> {
  for (let n = 0; n < times; n++) {
    const asked = [watch(world.pool.acquire()), watch(world.pool.acquire())];
    await world.clock.advance(50);
    for (const { value } of asked) value?.release();
    await world.clock.advance(50);
  }
}

describe('a name of two families', () => {
  const RETRY = { baseMs: 1_000, capMs: 2_000 };

  it('that are both down is dialed no more often for it, and its callers are told', async () => {
    const net = netOf();
    net.addresses = [A, B, V6, '2001:db8::2'];
    net.outcome = { kind: 'refuse', afterMs: 1 };
    const world = setUp({ endpoints: ORDERS, min: 1, max: 4, retry: RETRY }, net);
    const asked = watch(world.pool.acquire());
    await world.pass(5_000);
    expect(net.dialedAt.length).toBeLessThan(40);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED' });
    expect(new Set(net.dialedTo)).toEqual(new Set([A, B, V6, '2001:db8::2']));
  });

  it('is reached by the other one when its first can’t be, and by one socket', async () => {
    const net = netOf();
    net.addresses = [A, V6];
    net.outcomes.set(A, { kind: 'refuse', afterMs: 1 });
    const world = setUp({ endpoints: ORDERS, max: 4 }, net);
    const asked = watch(world.pool.acquire());
    await world.pass(200);
    expect(asked.value).toBeDefined();
    expect(net.dialedTo).toEqual([A, V6]);
    expect(world.pool.stats().closedBy).toEqual({});
  });

  it('keeps the sockets that serve when dials fail for a moment', async () => {
    const net = netOf();
    net.addresses = [A, B, V6];
    const world = setUp({ endpoints: ORDERS, max: 12, retry: RETRY }, net);
    for (const lease of await take(world, 6)) lease.release();
    net.outcome = { kind: 'refuse', afterMs: 1 };
    const asked = Array.from({ length: 12 }, () => watch(world.pool.acquire()));
    await world.pass(1_000);
    for (const { value } of asked) value?.release();
    await world.pass(1_000);
    expect(world.net.openSockets).toBe(6);
    expect(world.pool.stats().closedBy).toEqual({});
  });
});

describe('an endpoint whose dials have failed', () => {
  it.each(['pipelined', 'multiplexed'] as const)(
    'serves on by its open sockets with %s calls, as the others do',
    async (mode) => {
      const net = netOf();
      const options = { endpoints: THREE, max: 12, min: 6, maxInFlight: 1, balance: 'round-robin' } as const;
      const { backend, client, clock } = setUpClient(mode, options, { net });
      const ask = async (count: number): Promise<void> => {
        for (let n = 0; n < count; n++) watch(client.request('hello'));
        await clock.advance(2_000);
      };
      await clock.advance(100);
      for (let n = 0; n < 3; n++) await ask(6);
      // More are wanted than there are, and can't be had for a moment.
      for (const at of [A, B, C]) net.outcomes.set(at, { kind: 'refuse' });
      await ask(12);
      net.outcomes.clear();
      const counts = (): Record<string, number> => {
        const found: Record<string, number> = {};
        for (const { asked, peer } of backend.sides) {
          found[peer.address] = (found[peer.address] ?? 0) + asked.length;
        }
        return found;
      };
      const before = counts();
      for (let n = 0; n < 600; n++) {
        watch(client.request('hello'));
        await clock.advance(10);
      }
      const after = counts();
      for (const at of [A, B, C]) expect((after[at] ?? 0) - (before[at] ?? 0)).toBeGreaterThan(150);
    },
  );

  it('is not paid for by the only socket that works', async () => {
    const net = netOf();
    net.outcomes.set(C, { kind: 'refuse', afterMs: 5_000 });
    const world = setUp({ endpoints: THREE, max: 1, maxLifetimeMs: 1_800_000 }, net);
    let slow = 0;
    for (let t = 0; t < 300; t++) {
      const from = world.clock.now();
      const asked = watch(world.pool.request('hello'));
      await world.clock.advance(10);
      while (!asked.isSettled) await world.clock.advance(50);
      if (world.clock.now() - from > 1_000) slow += 1;
      await world.clock.advance(900);
    }
    expect(slow).toBeLessThanOrEqual(1);
    expect(world.pool.stats().closedBy.rebalanced).toBeUndefined();
  });
});

describe('leases that are held for ever', () => {
  it('do not keep a new endpoint from its sockets in a full pool', async () => {
    const feed = new Feed([`${A}:1`]);
    const world = setUp({ endpoints: feed.discover, max: 4 }, netOf());
    const [one, two, three, four] = await take(world, 4);
    three?.release();
    four?.release();
    await world.pass(1_000);
    feed.tell([`${A}:1`, `${B}:1`]);
    await beBusy(world, 1_200);
    expect(spread(world)).toEqual({ [A]: 2, [B]: 2 });
    one?.release();
    two?.release();
  });

  it('do not keep one that is back from its sockets', async () => {
    const net = netOf();
    net.outcomes.set(C, { kind: 'refuse' });
    const world = setUp({ endpoints: THREE, max: 4 }, net);
    const held = await take(world, 2);
    await beBusy(world, 200);
    net.outcomes.delete(C);
    await beBusy(world, 1_200);
    expect(spread(world)[C]).toBeGreaterThan(0);
    for (const lease of held) lease.release();
  });
});

describe('endpoints that come while dials wait', () => {
  it('are dialed at once, and once', async () => {
    const net = netOf();
    const feed = new Feed([`${A}:1`, `${B}:1`]);
    for (const at of [A, B]) net.outcomes.set(at, { kind: 'refuse', afterMs: 1 });
    const retry = { retries: 10, baseMs: 20_000, capMs: 20_000 };
    const world = setUp({ endpoints: feed.discover, min: 1, max: 4, retry }, net);
    await world.pass(3_000);
    world.told.length = 0;
    feed.tell([`${C}:1`]);
    await world.pass(100);
    expect(world.told).toEqual(['opened']);
  });

  it('are dialed at once when the first list was long in coming', async () => {
    const net = netOf();
    const feed = new Feed();
    const retry = { retries: 10, baseMs: 20_000, capMs: 20_000 };
    const world = setUp({ endpoints: feed.discover, max: 4, connectTimeoutMs: 1_000, retry }, net);
    const asked = watch(world.pool.acquire());
    await world.pass(1_100);
    expect(asked.isSettled).toBe(false);
    feed.tell([`${A}:1`, `${B}:1`]);
    await world.pass(100);
    expect(asked.value).toBeDefined();
  });
});

describe('callers with keys only', () => {
  it('find out that an endpoint which was put out is well again', async () => {
    const net = netOf();
    const world = setUp({ endpoints: THREE, max: 9, balance: 'consistent-hash' }, net);
    const keys = Array.from({ length: 20 }, (_, n) => `key ${n}`);
    const homes = new Map<string, string>();
    for (const key of keys) homes.set(key, await serverOf(world, key));
    const mine = keys.find((key) => homes.get(key) === A) ?? '';
    for (let n = 0; n < 5; n++) {
      const lease = watch(world.pool.acquire({ key: mine }));
      await world.pass(2_000);
      const asked = watch(lease.value?.request('hello') ?? Promise.resolve(''));
      net.openPeers.find((peer) => peer.received.endsWith('hello\n') && peer.address === A)?.reset();
      await world.now();
      expect(asked.error).toBeDefined();
      lease.value?.release();
      await world.pass(10);
    }
    expect(world.pool.endpoints()[0]).toMatchObject({ state: 'ejected' });
    for (let second = 0; second < 30; second++) {
      for (const key of keys) {
        watch(world.pool.request('x', { key }));
        await world.pass(5);
      }
      await world.pass(900);
    }
    expect(world.pool.endpoints()[0]?.state).toMatch(/warming|healthy/);
  });

  it('who waited are told when the name is gone, or served by what is open', async () => {
    const net = netOf();
    let isGone = false;
    net.lookups = [
      fakeLookup(async () => {
        if (isGone) throw Object.assign(new Error('gone'), { code: 'ENOTFOUND' });
        return [A, B, C];
      }),
    ];
    const options = { max: 3, balance: 'consistent-hash', acquireTimeoutMs: 200_000 } as const;
    const world = setUp({ endpoints: ORDERS, idleTimeoutMs: 1_000_000, ...options }, net);
    const homes = new Map<string, string>();
    for (let n = 0; n < 30; n++) homes.set(`key ${n}`, await serverOf(world, `key ${n}`));
    const keyOf = (at: string): string => [...homes].find(([, home]) => home === at)?.[0] ?? '';
    const held = [watch(world.pool.acquire({ key: keyOf(A) })), watch(world.pool.acquire({ key: keyOf(B) }))];
    await world.now();
    const waiting = watch(world.pool.acquire({ key: keyOf(A) }));
    isGone = true;
    await world.pass(120_000);
    held[1]?.value?.release();
    await world.pass(1_000);
    expect(waiting.isSettled).toBe(true);
    held[0]?.value?.release();
    waiting.value?.release();
  });
});

describe('an onAcquire that always fails at one endpoint', () => {
  it('has it put out', async () => {
    const world = setUp(
      {
        endpoints: THREE,
        max: 9,
        onAcquire: (lease) => {
          const row = world.pool.sockets().find(({ connectionId }) => connectionId === lease.connectionId);
          if (row?.address === A) throw new Error('not ready');
        },
      },
      netOf(),
    );
    for (let n = 0; n < 100; n++) {
      const asked = watch(world.pool.request('hello'));
      await world.pass(300);
      expect(asked.value).toBe('Echo: hello');
    }
    expect(world.pool.stats().ejected).toBeGreaterThan(0);
    expect(world.net.dialedTo.filter((at) => at === A).length).toBeLessThan(40);
  });
});

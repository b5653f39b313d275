import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { assemble } from '../../../src/create-pool.ts';
import { lines } from '../../../src/transport/lines.ts';
import { echoLines, fakeLookup } from '../../support/fake-net.ts';
import { Feed } from '../../support/feed.ts';
import { HEARTBEAT, type Options, setUp, take, type World, watch } from '../../support/pool-world.ts';
import {
  A,
  addressOf,
  B,
  C,
  netOf,
  serverOf,
  setUpThree,
  spread,
  THREE,
} from '../../support/three-endpoints.ts';

/** A pool with what is behind it; whoever makes it closes it. */
function assembled(options: Options) {
  const net = netOf();
  net.onPeer = echoLines;
  return { net, both: assemble<string, string>(net.surroundings, { codec: lines(), ...options }) };
}

/** Requests one after the other, each of which must succeed. */
async function ask(world: World, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    const asked = watch(world.pool.request('hello'));
    await world.pass(5);
    expect(asked).toMatchObject({ value: 'Echo: hello' });
  }
}

/** Has so many requests fail at the endpoint that they are sent to. */
async function failAt(world: World, address: string, count: number): Promise<void> {
  for (let failed = 0; failed < count; ) {
    const lease = watch(world.pool.acquire());
    await world.now();
    const at = addressOf(lease.value, world);
    if (at === address) {
      const asked = watch(lease.value?.request('hello') ?? Promise.resolve(''));
      world.net.openPeers.find((peer) => peer.received.endsWith('hello\n') && peer.address === at)?.reset();
      await world.now();
      expect(asked.error).toMatchObject({ retryable: true });
      failed += 1;
    }
    lease.value?.release();
    await world.pass(30);
  }
}

describe('a pool of three endpoints', () => {
  it('spreads its sockets evenly', async () => {
    const world = setUpThree();
    const leases = await take(world, 9);
    expect(spread(world)).toEqual({ [A]: 3, [B]: 3, [C]: 3 });
    for (const lease of leases) lease.release();
    await world.now();
    expect(world.pool.endpoints()).toMatchObject(
      THREE.map((endpoint) => ({ endpoint, state: 'healthy', open: 3, idle: 3, inFlight: 0, dialing: 0 })),
    );
  });

  it('has one max for all of them', async () => {
    const world = setUpThree({ max: 4 });
    for (let n = 0; n < 12; n++) watch(world.pool.acquire());
    await world.pass(100);
    expect(world.net.openSockets).toBe(4);
    expect(world.pool.stats()).toMatchObject({
      leased: 4,
      total: 4,
      waiting: 8,
      endpoints: 3,
      endpointsOut: 0,
    });
  });

  it('spreads callers over sockets that rest', async () => {
    const world = setUpThree();
    const leases = await take(world, 9);
    for (const lease of leases) lease.release();
    const served: Record<string, number> = {};
    for (let n = 0; n < 300; n++) {
      const lease = watch(world.pool.acquire());
      await world.now();
      const at = addressOf(lease.value, world);
      served[at] = (served[at] ?? 0) + 1;
      lease.value?.release();
    }
    for (const at of [A, B, C]) expect(served[at]).toBeGreaterThan(60);
  });

  it('takes turns with round robin, though sockets that rested are checked first', async () => {
    const world = setUpThree({ balance: 'round-robin' });
    for (const lease of await take(world, 9)) lease.release();
    await world.pass(1_000);
    const served: string[] = [];
    for (let n = 0; n < 9; n++) {
      const lease = watch(world.pool.acquire());
      await world.now();
      served.push(addressOf(lease.value, world));
      lease.value?.release();
      await world.pass(100);
    }
    for (let turn = 0; turn < 9; turn += 3) expect(new Set(served.slice(turn, turn + 3)).size).toBe(3);
  });

  it('serves by the others when one refuses, at once', async () => {
    const net = netOf();
    net.outcomes.set(A, { kind: 'refuse' });
    const world = setUpThree({}, net);
    const asked = Array.from({ length: 6 }, () => watch(world.pool.acquire()));
    await world.now();
    expect(asked.every(({ value }) => value !== undefined)).toBe(true);
    expect(Object.keys(spread(world)).sort()).toEqual([B, C]);
  });

  it('does not dial one that refuses again before its back-off is over', async () => {
    const net = netOf();
    net.outcomes.set(A, { kind: 'refuse' });
    const world = setUpThree({ retry: { baseMs: 1_000, capMs: 1_000 } }, net);
    for (let n = 0; n < 30; n++) {
      const leases = await take(world, 6);
      for (const lease of leases) lease.release();
    }
    // Those that were under way together count once.
    expect(net.dialedTo.filter((at) => at === A).length).toBeLessThanOrEqual(4);
  });

  it('tries another one after 250 ms when a dial takes long', async () => {
    const net = netOf();
    for (const at of [A, B]) net.outcomes.set(at, { kind: 'hang' });
    const world = setUpThree({ endpoints: [...THREE] }, net);
    const asked = watch(world.pool.acquire());
    await world.pass(249);
    const early = net.dialedTo.length;
    await world.pass(300);
    expect(early).toBe(1);
    expect(asked.value).toBeDefined();
    expect(addressOf(asked.value, world)).toBe(C);
  });

  it('dials no more than one for each slow dial, however many are slow', async () => {
    const net = netOf();
    net.outcome = { kind: 'hang' };
    const world = setUpThree({ connectTimeoutMs: 60_000 }, net);
    watch(world.pool.acquire());
    await world.pass(20_000);
    expect(net.dialedTo.length).toBe(3);
  });

  it('tells a caller why when all of them refuse', async () => {
    const net = netOf();
    net.outcome = { kind: 'refuse' };
    const world = setUpThree({ retry: { retries: 1, baseMs: 10, capMs: 10 } }, net);
    const asked = watch(world.pool.acquire());
    await world.pass(1_000);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_REFUSED' } });
    expect(new Set(net.dialedTo)).toEqual(new Set([A, B, C]));
  });

  it('goes on as soon as one of them is back', async () => {
    const net = netOf();
    net.outcome = { kind: 'refuse' };
    const world = setUpThree({ retry: { retries: 1, baseMs: 10, capMs: 100 } }, net);
    watch(world.pool.acquire());
    await world.pass(1_000);
    net.outcomes.set(B, { kind: 'open' });
    for (let n = 0; n < 10 && net.openSockets === 0; n++) {
      watch(world.pool.acquire());
      await world.pass(100);
    }
    const asked = watch(world.pool.acquire());
    await world.pass(10);
    expect(addressOf(asked.value, world)).toBe(B);
  });

  it('begins with another endpoint in another process', async () => {
    const first = new Set<string | undefined>();
    for (let seed = 1; seed < 20; seed++) {
      const world = setUpThree({}, netOf(seed * 7_919));
      watch(world.pool.acquire());
      await world.now();
      first.add(world.net.dialedTo[0]);
    }
    expect(first).toEqual(new Set([A, B, C]));
  });

  it('leaves no timer of its dials, and no listener on an endpoint', async () => {
    const { both, net } = assembled({ endpoints: THREE, max: 9 });
    const asked = Array.from({ length: 9 }, () => watch(both.pool.acquire()));
    await net.clock.advance(0);
    for (const { value } of asked) value?.release();
    for (const { leaving } of both.roster.state.members.list) {
      if (leaving === undefined) throw new Error('one of several can leave');
      expect(getEventListeners(leaving, 'abort')).toEqual([]);
    }
    const closing = both.pool.close();
    await net.clock.advance(0);
    await closing;
    expect(net.clock.pendingTimers).toBe(0);
  });

  it('never opens its list of sockets before the next turn', () => {
    const world = setUpThree({ min: 3 });
    expect(world.net.dialedTo).toEqual([]);
  });

  it('keeps min open over all of them', async () => {
    const world = setUpThree({ min: 3 });
    await world.pass(50);
    expect(spread(world)).toEqual({ [A]: 1, [B]: 1, [C]: 1 });
  });

  it('opens a socket to the one that deserves the next caller while another one serves', async () => {
    const world = setUpThree();
    const [first] = await take(world, 1);
    first?.release();
    await ask(world, 60);
    expect(Object.keys(spread(world)).length).toBe(3);
  });
});

describe('an endpoint that fails', () => {
  it('is put out after five failures in a row, and its sockets end', async () => {
    const world = setUpThree({ max: 30, maxConnecting: 30 });
    const events: unknown[] = [];
    world.pool.on('ejected', (event) => events.push(event));
    for (const lease of await take(world, 30)) lease.release();
    await world.pass(2_000);
    expect(spread(world)).toEqual({ [A]: 10, [B]: 10, [C]: 10 });
    await failAt(world, A, 5);
    await world.pass(50);
    expect(events).toMatchObject([{ endpoint: `${A}:1`, reason: 'failures', kind: 'request' }]);
    expect(spread(world)).toEqual({ [B]: 10, [C]: 10 });
    expect(world.pool.stats()).toMatchObject({ ejected: 1, endpointsOut: 1, closedBy: { ejected: 5 } });
  });

  it('is not put out for callers who have no patience, though the others answer them in time', async () => {
    const world = setUpThree();
    for (let n = 0; n < 60; n++) {
      for (const peer of world.net.openPeers) peer.isMute = peer.address === A;
      watch(world.pool.request('hello', { timeoutMs: 20 }));
      await world.pass(30);
    }
    const { closedBy, ejected } = world.pool.stats();
    expect(closedBy.timeout).toBeGreaterThan(5);
    expect(ejected).toBe(0);
  });

  it('is put out for silence that is longer than readTimeoutMs', async () => {
    const net = netOf();
    const world = setUpThree({ readTimeoutMs: 100 }, net);
    const { onPeer } = net;
    net.onPeer = (peer) => {
      onPeer(peer);
      if (peer.address === A) peer.isMute = true;
    };
    for (let n = 0; n < 100 && world.pool.stats().ejected === 0; n++) {
      watch(world.pool.request('hello'));
      await world.pass(150);
    }
    expect(world.pool.endpoints().map(({ state }) => state)).toEqual(['ejected', 'healthy', 'healthy']);
  });

  it('gets no callers while it is out, and one when that is over', async () => {
    const world = setUpThree();
    const restored: unknown[] = [];
    world.pool.on('restored', (event) => restored.push(event));
    for (const lease of await take(world, 9)) lease.release();
    await failAt(world, A, 5);
    const before = world.net.dialedTo.filter((at) => at === A).length;
    await ask(world, 100);
    expect(world.net.dialedTo.filter((at) => at === A).length).toBe(before);
    await world.pass(6_500);
    await ask(world, 20);
    expect(restored).toEqual([{ endpoint: `${A}:1` }]);
    expect(spread(world)[A]).toBeGreaterThan(0);
  });

  it('comes back to a full pool, too', async () => {
    const world = setUpThree({ max: 6 });
    const restored: unknown[] = [];
    world.pool.on('restored', (event) => restored.push(event));
    for (const lease of await take(world, 6)) lease.release();
    await failAt(world, A, 5);
    // The others take all places.
    const leases = await take(world, 6);
    expect(spread(world)[A]).toBeUndefined();
    await world.pass(7_000);
    for (const lease of leases) lease.release();
    for (let n = 0; n < 40; n++) {
      await ask(world, 1);
      await world.pass(100);
    }
    expect(restored.length).toBe(1);
    for (let n = 0; n < 40; n++) {
      for (const lease of await take(world, 6)) lease.release();
      await world.pass(1_000);
    }
    expect(spread(world)).toEqual({ [A]: 2, [B]: 2, [C]: 2 });
    expect(world.pool.stats().closedBy.rebalanced).toBeGreaterThan(0);
  });

  it('is tried again by a pool that always has all its sockets taken, too', async () => {
    const world = setUpThree({ max: 6, acquireTimeoutMs: 1_000_000 });
    const restored: unknown[] = [];
    world.pool.on('restored', (event) => restored.push(event));
    for (const lease of await take(world, 6)) lease.release();
    await failAt(world, A, 5);
    // Whoever is served is followed by the next one in the queue.
    let isOver = false;
    const caller = async (): Promise<void> => {
      while (!isOver) {
        const lease = await world.pool.acquire();
        await lease.request('hello').catch(() => undefined);
        await new Promise<void>((resolve) => {
          world.clock.after(20, resolve);
        });
        lease.release();
      }
    };
    const callers = Array.from({ length: 20 }, caller);
    await world.pass(20_000);
    expect(restored.length).toBe(1);
    await world.pass(40_000);
    expect(spread(world)).toEqual({ [A]: 2, [B]: 2, [C]: 2 });
    isOver = true;
    await world.pass(1_000);
    await Promise.all(callers);
  });

  it('is put out for missed heartbeats, too', async () => {
    const world = setUpThree({ min: 9, heartbeat: HEARTBEAT });
    await world.pass(100);
    const { onPeer } = world.net;
    world.net.onPeer = (peer) => {
      onPeer(peer);
      if (peer.address === B) peer.isMute = true;
    };
    for (const peer of world.net.openPeers) if (peer.address === B) peer.isMute = true;
    const told: unknown[] = [];
    world.pool.on('closed', ({ endpoint, reason }) => told.push(`${endpoint} ${reason}`));
    world.pool.on('ejected', ({ endpoint, kind }) => told.push(`${endpoint} ejected for ${kind}`));
    await world.pass(8_000);
    expect(told.slice(0, 3)).toEqual(Array(3).fill(`${B}:1 heartbeat`));
    expect(told).toContain(`${B}:1 ejected for heartbeat`);
    expect(spread(world)[B]).toBeUndefined();
    expect(world.net.openSockets).toBe(9);
  });
});

describe('a list of endpoints that changes', () => {
  it('is waited for by the first caller', async () => {
    const feed = new Feed();
    const world = setUp({ endpoints: feed.discover });
    const asked = watch(world.pool.acquire());
    await world.pass(1_000);
    expect(world.net.dialedTo).toEqual([]);
    feed.tell([`${A}:1`]);
    await world.now();
    expect(asked.value).toBeDefined();
    expect(world.pool.stats().endpoints).toBe(1);
  });

  it('that never comes is told as such after connectTimeoutMs', async () => {
    const feed = new Feed();
    const world = setUp({ endpoints: feed.discover, connectTimeoutMs: 1_000, retry: { retries: 0 } });
    const asked = watch(world.pool.acquire());
    await world.pass(1_500);
    expect(asked.error).toMatchObject({
      code: 'ERR_ACQUIRE_FAILED',
      cause: { code: 'ERR_CONNECT_TIMEOUT', phase: 'dns' },
    });
  });

  it('that fails is told with its error', async () => {
    const feed = new Feed();
    const world = setUp({ endpoints: feed.discover, retry: { retries: 0 } });
    const told: unknown[] = [];
    world.pool.on('resolveFailed', ({ error, name }) => told.push([name, error.code]));
    const asked = watch(world.pool.acquire());
    await world.now();
    feed.fail(new Error('no registry'));
    await world.pass(10);
    const message = 'No endpoint to dial: the function in `endpoints` failed, in phase dns: no registry.';
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_DNS', message } });
    expect(told).toEqual([['the discovered endpoints', 'ERR_DNS']]);
  });

  it('takes the sockets of one that left: at once those at rest, the others when they come back', async () => {
    const feed = new Feed(THREE);
    const world = setUp({ endpoints: feed.discover, max: 9 }, netOf());
    const events: unknown[] = [];
    world.pool.on('endpointsChanged', (event) => events.push(event));
    const leases = await take(world, 9);
    const kept = leases.find((lease) => addressOf(lease, world) === A);
    for (const lease of leases) if (lease !== kept) lease.release();
    await world.now();
    feed.tell([`${B}:1`, `${C}:1`]);
    await world.now();
    expect(spread(world)[A]).toBe(1);
    expect(world.pool.stats().closedBy).toEqual({ removed: 2 });
    const asked = watch(kept?.request('still here') ?? Promise.resolve(''));
    await world.now();
    expect(asked.value).toBe('Echo: still here');
    kept?.release();
    await world.now();
    expect(world.pool.stats().closedBy).toEqual({ removed: 3 });
    expect(events.at(-1)).toEqual({ added: [], removed: [`${A}:1`], total: 2 });
    await ask(world, 50);
    expect(spread(world)[A]).toBeUndefined();
  });

  it('is asked for no longer once the pool has closed', async () => {
    let isAborted = false;
    const world = setUp({
      async *endpoints(signal) {
        signal.addEventListener('abort', () => {
          isAborted = true;
        });
        yield THREE;
        await new Promise(() => undefined);
      },
    });
    await ask(world, 1);
    expect(isAborted).toBe(false);
    const closing = world.pool.close();
    await world.now();
    await closing;
    expect(isAborted).toBe(true);
  });

  it('cuts a dial to one that leaves', async () => {
    const feed = new Feed([`${A}:1`]);
    const net = netOf();
    net.outcomes.set(A, { kind: 'hang' });
    const world = setUp({ endpoints: feed.discover, max: 1 }, net);
    const asked = watch(world.pool.acquire());
    await world.pass(100);
    expect(net.dialing).toBe(1);
    feed.tell([`${B}:1`]);
    await world.pass(10);
    expect(addressOf(asked.value, world)).toBe(B);
    expect(world.pool.stats()).toMatchObject({ dialFailed: 0, total: 1 });
  });

  it('gives a new one its share', async () => {
    const feed = new Feed([`${A}:1`, `${B}:1`]);
    const world = setUp({ endpoints: feed.discover, max: 6 }, netOf());
    for (const lease of await take(world, 6)) lease.release();
    expect(spread(world)).toEqual({ [A]: 3, [B]: 3 });
    feed.tell(THREE);
    for (let n = 0; n < 60; n++) {
      for (const lease of await take(world, 6)) lease.release();
      await world.pass(1_000);
    }
    expect(spread(world)).toEqual({ [A]: 2, [B]: 2, [C]: 2 });
    expect(world.pool.stats().closedBy).toEqual({ rebalanced: 2 });
  });

  it('moves no more than ten sockets in a second to one that is new', async () => {
    const feed = new Feed([`${A}:1`]);
    const world = setUp(
      { endpoints: feed.discover, max: 100, maxConnecting: 100, idleTimeoutMs: 600_000 },
      netOf(),
    );
    for (const lease of await take(world, 100)) lease.release();
    await world.pass(40_000);
    feed.tell([`${A}:1`, `${B}:1`]);
    await world.pass(31_000);
    const before = spread(world)[B] ?? 0;
    for (let second = 0; second < 3; second++) {
      const had = spread(world)[B] ?? 0;
      await world.pass(1_000);
      expect((spread(world)[B] ?? 0) - had).toBeLessThanOrEqual(11);
    }
    expect(before).toBeGreaterThan(0);
  });

  it('opens no more than ten sockets in a second to one that is new, with room for all of them', async () => {
    const feed = new Feed([`${A}:1`]);
    const options = { endpoints: feed.discover, max: 500, maxConnecting: 100, idleTimeoutMs: 600_000 };
    const world = setUp(options, netOf());
    for (const lease of await take(world, 250)) lease.release();
    await world.pass(40_000);
    feed.tell([`${A}:1`, `${B}:1`]);
    for (let second = 0; second < 5; second++) {
      const had = spread(world)[B] ?? 0;
      for (let n = 0; n < 20; n++) {
        for (const lease of await take(world, 250)) lease.release();
        await world.pass(50);
      }
      expect((spread(world)[B] ?? 0) - had).toBeLessThanOrEqual(11);
    }
    expect(spread(world)[B]).toBeGreaterThan(5);
  });

  it('uses a standby only while the primaries are down, and goes back', async () => {
    const net = netOf();
    net.outcomes.set(A, { kind: 'refuse' });
    const world = setUp(
      {
        endpoints: [
          { host: A, port: 1 },
          { host: B, port: 1, tier: 1 },
        ],
        max: 4,
        retry: { baseMs: 10, capMs: 50 },
      },
      net,
    );
    await ask(world, 50);
    expect(spread(world)).toEqual({ [B]: expect.any(Number) });
    net.outcomes.set(A, { kind: 'open' });
    for (let n = 0; n < 100; n++) {
      await ask(world, 1);
      await world.pass(1_000);
    }
    const served = watch(world.pool.acquire());
    await world.now();
    expect(addressOf(served.value, world)).toBe(A);
  });
});

describe('callers with a key', () => {
  const KEYED: Options = { balance: 'consistent-hash' };

  it('go to one endpoint each', async () => {
    const world = setUpThree(KEYED);
    const found = new Map<string, string>();
    for (let n = 0; n < 30; n++) found.set(`key ${n}`, await serverOf(world, `key ${n}`));
    expect(new Set(found.values())).toEqual(new Set([A, B, C]));
    for (const [key, at] of found) expect(await serverOf(world, key)).toBe(at);
  });

  it('wait for their own when it is busy, though another one rests', async () => {
    const world = setUpThree({ ...KEYED, max: 3 });
    const at = await serverOf(world, 'mine');
    const held = [watch(world.pool.acquire({ key: 'mine' }))];
    await world.now();
    const others = [watch(world.pool.acquire({ key: 'mine' })), watch(world.pool.acquire({ key: 'mine' }))];
    await world.now();
    for (const { value } of [...held, ...others]) expect(addressOf(value, world)).toBe(at);
    const last = watch(world.pool.acquire({ key: 'mine' }));
    await world.pass(100);
    expect(last.isSettled).toBe(false);
    held[0]?.value?.release();
    await world.now();
    expect(addressOf(last.value, world)).toBe(at);
  });

  it('are given a place that a socket to another endpoint holds at rest', async () => {
    const world = setUpThree({ ...KEYED, max: 3 });
    for (const lease of await take(world, 3)) lease.release();
    await world.now();
    expect(spread(world)).toEqual({ [A]: 1, [B]: 1, [C]: 1 });
    const asked = [1, 2, 3].map(() => watch(world.pool.acquire({ key: 'mine' })));
    await world.pass(100);
    expect(asked.every(({ value }) => value !== undefined)).toBe(true);
    expect(Object.values(spread(world))).toEqual([3]);
  });

  it('are given one by a socket that another key keeps busy, in their turn', async () => {
    const world = setUpThree({ ...KEYED, max: 2, acquireTimeoutMs: 60_000 });
    const at = await serverOf(world, 'mine');
    let key = 0;
    while ((await serverOf(world, `key ${key}`)) === at) key += 1;
    let isOver = false;
    const busy = async (): Promise<void> => {
      while (!isOver) {
        const lease = await world.pool.acquire({ key: `key ${key}` });
        await new Promise<void>((resolve) => {
          world.clock.after(10, resolve);
        });
        lease.release();
      }
    };
    const others = Array.from({ length: 6 }, busy);
    await world.pass(100);
    const mine = watch(world.pool.acquire({ key: 'mine' }));
    await world.pass(1_000);
    expect(addressOf(mine.value, world)).toBe(at);
    mine.value?.release();
    isOver = true;
    await world.pass(200);
    await Promise.all(others);
  });

  it('are given a place that a socket to another endpoint holds, when it comes back', async () => {
    const world = setUpThree({ ...KEYED, max: 2 });
    const at = await serverOf(world, 'mine');
    const other = THREE.map((one) => one.slice(0, -2)).find((one) => one !== at) ?? '';
    let key = 0;
    while ((await serverOf(world, `key ${key}`)) !== other) key += 1;
    const held = [1, 2].map(() => watch(world.pool.acquire({ key: `key ${key}` })));
    await world.pass(10);
    const mine = watch(world.pool.acquire({ key: 'mine' }));
    await world.pass(10);
    expect(mine.isSettled).toBe(false);
    held[0]?.value?.release();
    await world.pass(10);
    expect(addressOf(mine.value, world)).toBe(at);
  });

  it('go elsewhere while theirs can’t be dialed, and others stay where they are', async () => {
    const world = setUpThree({ ...KEYED, retry: { retries: 3, baseMs: 10_000, capMs: 10_000 } });
    const before = new Map<string, string>();
    for (let n = 0; n < 20; n++) before.set(`key ${n}`, await serverOf(world, `key ${n}`));
    world.net.outcomes.set(A, { kind: 'refuse' });
    for (const peer of world.net.openPeers) if (peer.address === A) peer.reset();
    await world.pass(10);
    for (const [key, at] of before) {
      const now = await serverOf(world, key);
      if (at === A) expect([B, C]).toContain(now);
      else expect(now).toBe(at);
    }
  });

  it('who already wait go elsewhere when theirs leaves', async () => {
    const feed = new Feed(THREE);
    const world = setUp({ endpoints: feed.discover, max: 3, ...KEYED }, netOf());
    const at = await serverOf(world, 'mine');
    const held = [1, 2, 3].map(() => watch(world.pool.acquire({ key: 'mine' })));
    await world.pass(10);
    const last = watch(world.pool.acquire({ key: 'mine' }));
    feed.tell(THREE.filter((one) => !one.startsWith(at)));
    await world.pass(10);
    held[0]?.value?.release();
    await world.pass(10);
    expect(last.value).toBeDefined();
    expect(addressOf(last.value, world)).not.toBe(at);
  });

  it('are refused where a key would do nothing', async () => {
    const world = setUpThree();
    await expect(world.pool.acquire({ key: 'x' })).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION' });
    await expect(world.pool.request('hello', { key: 'x' })).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
    });
  });
});

describe('every address of a name as an endpoint', () => {
  it('is known by the name and the address', async () => {
    const net = netOf();
    net.lookups = [fakeLookup(async () => [A, B])];
    const world = setUp({ endpoints: { host: 'orders', port: 7_000 } }, net);
    await ask(world, 40);
    expect(world.pool.endpoints().map(({ endpoint }) => endpoint)).toEqual([
      `orders/${A}:7000`,
      `orders/${B}:7000`,
    ]);
    expect(Object.keys(spread(world)).sort()).toEqual([A, B]);
  });

  it('dials nothing new once the name is known to be gone, and is told why', async () => {
    const net = netOf();
    let isGone = false;
    net.lookups = [
      fakeLookup(async () => {
        if (isGone) throw Object.assign(new Error('gone'), { code: 'ENOTFOUND' });
        return [A, B];
      }),
    ];
    const world = setUp(
      {
        endpoints: { host: 'orders', port: 1 },
        max: 4,
        min: 1,
        dns: { refreshMs: 1_000 },
        retry: { retries: 0 },
      },
      net,
    );
    await ask(world, 10);
    isGone = true;
    await world.pass(120_000);
    const dials = net.dialedTo.length;
    // What is open serves on.
    await ask(world, 3);
    for (const peer of net.openPeers) peer.reset();
    await world.now();
    const asked = watch(world.pool.acquire());
    await world.pass(10_000);
    expect(net.dialedTo.length).toBe(dials);
    expect(asked.error).toMatchObject({
      code: 'ERR_ACQUIRE_FAILED',
      cause: { code: 'ERR_DNS', phase: 'dns' },
    });
    isGone = false;
    await world.pass(60_000);
    const later = watch(world.pool.acquire());
    await world.pass(5_000);
    expect(later.value).toBeDefined();
  });
});

describe('a single name', () => {
  it('that moves has its sockets replaced, each after its successor has opened', async () => {
    const net = netOf();
    let at = A;
    net.lookups = [fakeLookup(async () => [at])];
    const world = setUp({ host: 'orders', max: 6, min: 3, dns: { refreshMs: 1_000 } }, net);
    await world.pass(100);
    at = B;
    let least = 3;
    for (let n = 0; n < 100; n++) {
      await world.pass(100);
      least = Math.min(least, world.pool.stats().idle + world.pool.stats().leased);
    }
    expect(spread(world)).toEqual({ [B]: 3 });
    expect(least).toBe(3);
    expect(world.pool.stats().closedBy).toEqual({ removed: 3 });
  });

  it('is looked up on a timer only while there are sockets', async () => {
    const net = netOf();
    let asked = 0;
    net.lookups = [
      fakeLookup(async () => {
        asked += 1;
        return [A];
      }),
    ];
    const world = setUp({ host: 'orders', dns: { refreshMs: 1_000 }, idleTimeoutMs: 5_000 }, net);
    await ask(world, 1);
    await world.pass(4_000);
    expect(asked).toBeGreaterThan(2);
    await world.pass(20_000);
    const before = asked;
    await world.pass(60_000);
    expect(world.pool.stats().total).toBe(0);
    expect(asked).toBe(before);
  });

  it.each([
    ['a socket of its dies', (world: World) => world.net.openPeers[0]?.reset()],
    [
      'a dial to it fails',
      (world: World) => {
        world.net.outcome = { kind: 'refuse' };
        watch(world.pool.acquire());
        watch(world.pool.acquire());
      },
    ],
  ])('is looked up anew when %s', async (_, strike) => {
    for (const where of [{ host: 'orders' }, { host: undefined, endpoints: { host: 'orders', port: 1 } }]) {
      const net = netOf();
      let asked = 0;
      net.lookups = [
        fakeLookup(async () => {
          asked += 1;
          return [A, B];
        }),
      ];
      const world = setUp({ ...where, dns: { refreshMs: 600_000 }, maxConnecting: 10 } as Options, net);
      await ask(world, 1);
      await world.pass(20_000);
      const before = asked;
      strike(world);
      await world.pass(10_000);
      expect(asked).toBeGreaterThan(before);
    }
  });

  it('that can’t be resolved uses the fallback addresses', async () => {
    const net = netOf();
    net.lookups = [fakeLookup(() => Promise.reject(Object.assign(new Error('down'), { code: 'ESERVFAIL' })))];
    const world = setUp({ host: 'orders', dns: { fallbackAddresses: [C] } }, net);
    const told: unknown[] = [];
    world.pool.on('resolveFailed', ({ name }) => told.push(name));
    const asked = watch(world.pool.acquire());
    await world.pass(100);
    expect(addressOf(asked.value, world)).toBe(C);
    expect(told).toContain('orders');
    expect(world.pool.stats().dns.failures).toBeGreaterThan(0);
  });
});

describe('a list of names', () => {
  it('has the sockets of a name that moves replaced, and no others', async () => {
    const net = netOf();
    const where: Record<string, string> = { one: A, two: B };
    net.lookups = [fakeLookup(async (host) => [where[host] ?? C])];
    const world = setUp({ endpoints: ['one:1', 'two:1'], min: 4, max: 8, dns: { refreshMs: 1_000 } }, net);
    await world.pass(100);
    expect(spread(world)).toEqual({ [A]: 2, [B]: 2 });
    where['one'] = C;
    await world.pass(5_000);
    expect(spread(world)).toEqual({ [B]: 2, [C]: 2 });
    expect(world.pool.stats().closedBy).toEqual({ removed: 2 });
  });
});

describe('a machine whose network changes', () => {
  const eth = (address: string) => [
    {
      address,
      netmask: '255.255.255.0',
      family: 'IPv4' as const,
      mac: '',
      internal: false,
      cidr: `${address}/24`,
    },
  ];

  it('forgets which of its server’s addresses could not be reached', async () => {
    const net = netOf();
    net.random = () => 0;
    net.addresses = [A, B];
    net.interfaces = { eth0: eth('198.51.100.7') };
    const world = setUp({ host: 'orders', max: 9 }, net);
    const first = watch(world.pool.acquire());
    await world.now();
    const [at = ''] = net.dialedTo;
    net.outcomes.set(at, { kind: 'refuse' });
    await take(world, 1);
    net.outcomes.clear();
    await take(world, 1);
    // It was tried before, in vain: now it comes last, and so is not tried.
    expect(net.dialedTo.at(-1)).not.toBe(at);
    net.interfaces = { wlan0: eth('198.51.100.8') };
    await world.pass(6_000);
    await take(world, 1);
    expect(net.dialedTo.at(-1)).toBe(at);
    first.value?.release();
  });

  it('has the sockets of the address that went replaced, the others pinged, and names looked up anew', async () => {
    const net = netOf();
    let asked = 0;
    net.lookups = [
      fakeLookup(async () => {
        asked += 1;
        return [A];
      }),
    ];
    net.interfaces = { eth0: eth('198.51.100.7'), wlan0: eth('198.51.100.8') };
    const world = setUp({ host: 'orders', max: 4, heartbeat: { ...HEARTBEAT, intervalMs: 600_000 } }, net);
    const told: unknown[] = [];
    world.pool.on('networkChanged', (event) => told.push(event));
    const [one, two] = await take(world, 2);
    net.localAddress = '198.51.100.8';
    const [three] = await take(world, 1);
    for (const lease of [one, two, three]) lease?.release();
    await world.pass(6_000);
    const before = { asked, pinged: world.pool.stats().pinged };
    net.interfaces = { wlan0: eth('198.51.100.8') };
    await world.pass(6_000);
    expect(told).toEqual([{ added: [], removed: ['eth0 198.51.100.7/24'], wokeMs: 0 }]);
    expect(world.pool.stats().closedBy).toEqual({ network: 2 });
    expect(world.pool.stats().pinged).toBe(before.pinged + 1);
    expect(asked).toBeGreaterThan(before.asked);
  });
});

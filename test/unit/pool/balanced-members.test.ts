import { describe, expect, it } from 'vitest';
import { assemble } from '../../../src/create-pool.ts';
import { PulsepoolError } from '../../../src/errors.ts';
import type { Lease } from '../../../src/pool/lease.ts';
import { lines } from '../../../src/transport/lines.ts';
import { FakeNet, fakeLookup } from '../../support/fake-net.ts';
import { Feed } from '../../support/feed.ts';
import { type Options, type Outcome, setUp, take, type World, watch } from '../../support/pool-world.ts';
import { A, B, C, netOf, serverOf, setUpThree, THREE } from '../../support/three-endpoints.ts';

const KEYED: Options = { balance: 'consistent-hash' };

function addressOf({ value }: Outcome<Lease<string, string>>, { pool }: World): string {
  return pool.sockets().find(({ connectionId }) => connectionId === value?.connectionId)?.address ?? '';
}

/** How many sockets are in which state, and where those lead that are closing. */
function countsOf({ pool }: World): { state: Record<string, number>; closing: string[] } {
  const found: Record<string, number> = {};
  for (const { state } of pool.sockets()) found[state] = (found[state] ?? 0) + 1;
  const closing = pool.sockets().filter(({ state }) => state === 'closing');
  return { state: found, closing: closing.map(({ address }) => address) };
}

/** A key that goes there. */
async function keyOf(world: World, address: string): Promise<string> {
  for (let n = 0; n < 100; n++) if ((await serverOf(world, `key ${n}`)) === address) return `key ${n}`;
  throw new Error(`no key goes to ${address}`);
}

describe('a socket that rested, and is checked for a caller with a key', () => {
  it('is waited for: no other one is opened', async () => {
    const world = setUpThree(KEYED);
    await serverOf(world, 'mine');
    await world.pass(1_000);
    const dials = world.net.dialedTo.length;
    await serverOf(world, 'mine');
    expect(world.net.dialedTo.length).toBe(dials);
  });

  it('costs no other endpoint its socket when the pool is full', async () => {
    const world = setUpThree({ ...KEYED, max: 3 });
    for (const lease of await take(world, 3)) lease.release();
    await world.pass(1_000);
    await serverOf(world, 'mine');
    expect(world.pool.stats().closedBy).toEqual({});
  });

  it('may go to another caller who was first: then one is opened for the key', async () => {
    for (let seed = 1; seed < 10; seed++) {
      const world = setUpThree({ ...KEYED, max: 4 }, netOf(seed));
      const key = await keyOf(world, B);
      await keyOf(world, C);
      await world.pool.suspend();
      const plain = watch(world.pool.acquire());
      const mine = watch(world.pool.acquire({ key }));
      await world.pass(30);
      world.pool.resume();
      await world.pass(30);
      expect(plain.value).toBeDefined();
      expect(addressOf(mine, world)).toBe(B);
    }
  });

  it('is the only one that is: the next one rests', async () => {
    const world = setUpThree({ ...KEYED, max: 4 });
    const both = [1, 2].map(() => watch(world.pool.acquire({ key: 'mine' })));
    await world.pass(10);
    for (const { value } of both) value?.release();
    await world.pass(1_000);
    const asked = watch(world.pool.acquire({ key: 'mine' }));
    expect(world.pool.sockets().map(({ state }) => state)).toEqual(
      expect.arrayContaining(['checking', 'idle']),
    );
    await world.now();
    expect(asked.value).toBeDefined();
  });

  it('is no hope for callers without one: for them another one is checked, or opened, at once', async () => {
    for (const hasOther of [true, false]) {
      const world = setUpThree({ ...KEYED, max: 4 });
      const key = await keyOf(world, A);
      await keyOf(world, B);
      await world.pass(20_000);
      for (const peer of world.net.openPeers) {
        if (peer.address !== A && !(hasOther && peer.address === B)) peer.reset();
      }
      await world.pass(1_000);
      const mine = watch(world.pool.acquire({ key }));
      watch(world.pool.acquire());
      expect(countsOf(world).state).toMatchObject(hasOther ? { checking: 2 } : { checking: 1, dialing: 1 });
      await world.now();
      expect(addressOf(mine, world)).toBe(A);
    }
  });

  it('keeps its place and those beside it: another endpoint’s goes for a caller to a third', async () => {
    const world = setUpThree({ ...KEYED, max: 3 });
    const keys = new Map<string, string>();
    for (const at of [A, B, C]) keys.set(at, await keyOf(world, at));
    await world.pass(20_000);
    for (const peer of world.net.openPeers) peer.reset();
    await world.now();
    // At rest, the oldest first: B, B, C.
    const two = [1, 2].map(() => watch(world.pool.acquire({ key: keys.get(B) ?? '' })));
    await world.pass(5);
    const third = watch(world.pool.acquire({ key: keys.get(C) ?? '' }));
    await world.pass(5);
    for (const { value } of [...two, third]) value?.release();
    await world.pass(200);
    watch(world.pool.acquire({ key: keys.get(B) ?? '' }));
    const asked = watch(world.pool.acquire({ key: keys.get(A) ?? '' }));
    expect(countsOf(world)).toEqual({
      state: { checking: 1, idle: 1, closing: 1 },
      closing: [C],
    });
    await world.pass(10);
    expect(addressOf(asked, world)).toBe(A);
  });

  it('is checked at once, though a check for somebody who has left goes on elsewhere', async () => {
    const world = setUpThree({ ...KEYED, max: 3 });
    const key = await keyOf(world, A);
    for (const lease of await take(world, 3)) lease.release();
    await world.pass(1_000);
    const other = await keyOf(world, B);
    await world.pass(1_000);
    const dials = world.net.dialedTo.length;
    const aborter = new AbortController();
    const left = watch(world.pool.acquire({ key: other, signal: aborter.signal }));
    aborter.abort();
    const asked = watch(world.pool.acquire({ key }));
    await world.now();
    expect(left.error).toBeDefined();
    expect(addressOf(asked, world)).toBe(A);
    expect(world.net.dialedTo.length).toBe(dials);
    expect(world.pool.stats().closedBy).toEqual({});
  });
});

describe('callers with a key, in trouble', () => {
  it('are served elsewhere when the hook fails on the first socket to theirs', async () => {
    let calls = 0;
    const world = setUpThree({
      ...KEYED,
      retry: { retries: 2, baseMs: 10_000, capMs: 10_000 },
      onAcquire: () => {
        calls += 1;
        if (calls === 1) throw new Error('not this one');
      },
    });
    const asked = watch(world.pool.acquire({ key: 'mine' }));
    await world.pass(50);
    expect(asked.value).toBeDefined();
  });

  it('get the socket that rests at their next endpoint as soon as theirs has failed', async () => {
    const world = setUpThree({ ...KEYED, max: 4, retry: { retries: 2, baseMs: 10_000, capMs: 10_000 } });
    const key = await keyOf(world, A);
    for (const at of [B, C]) await keyOf(world, at);
    await world.pass(20_000);
    // Those at B and C hang as soon as they are dialed anew, so that only what rests can serve.
    for (const at of [A, B, C])
      world.net.outcomes.set(at, { kind: 'refuse', afterMs: at === A ? 40 : 5_000 });
    for (const peer of world.net.openPeers) if (peer.address === A) peer.reset();
    await world.now();
    const asked = watch(world.pool.acquire({ key }));
    await world.pass(30);
    expect(asked.isSettled).toBe(false);
    await world.pass(30);
    expect(asked.value).toBeDefined();
  });

  it('are given a place by whichever socket nobody waits for, not only by the oldest', async () => {
    const world = setUpThree({ ...KEYED, max: 3 });
    const mine = await keyOf(world, A);
    const other = await keyOf(world, B);
    for (const peer of world.net.openPeers) peer.reset();
    await world.pass(11_000);
    // At rest, the oldest first: B, C, C.
    const held = watch(world.pool.acquire({ key: other }));
    await world.pass(5);
    const third = await keyOf(world, C);
    const two = [1, 2].map(() => watch(world.pool.acquire({ key: third })));
    await world.pass(5);
    held.value?.release();
    for (const { value } of two) value?.release();
    await world.pass(200);
    const both = [watch(world.pool.acquire({ key: other })), watch(world.pool.acquire({ key: mine }))];
    await world.pass(10);
    expect(both.map((one) => addressOf(one, world))).toEqual([B, A]);
  });

  it('are served one after the other in a pool of one socket, each by one dial', async () => {
    for (let seed = 1; seed < 10; seed++) {
      const net = netOf(seed);
      const world = setUpThree({ ...KEYED, max: 1 }, net);
      const key = await keyOf(world, B);
      const first = await keyOf(world, C);
      const held = watch(world.pool.acquire({ key: await keyOf(world, A) }));
      await world.pass(10);
      const before = net.dialedTo.length;
      net.onPeer = () => {
        // What goes round and round must come to an end that can be seen.
        if (net.dialedTo.length > before + 50) net.outcome = { kind: 'hang' };
      };
      const later = watch(world.pool.acquire({ key }));
      const sooner = watch(world.pool.acquire({ key: first, priority: 1 }));
      held.value?.release();
      await world.pass(10);
      expect(addressOf(sooner, world)).toBe(C);
      expect(later.isSettled).toBe(false);
      sooner.value?.release();
      await world.pass(10);
      expect(addressOf(later, world)).toBe(B);
      expect(net.dialedTo.slice(before)).toEqual([C, B]);
    }
  });

  it('take any socket once the pool closes', async () => {
    const world = setUpThree({ ...KEYED, max: 3 });
    const key = await keyOf(world, A);
    for (const lease of await take(world, 3)) lease.release();
    // Too old for its end to say anything about new ones.
    await world.pass(20_000);
    world.net.outcomes.set(A, { kind: 'open', afterMs: 400 });
    for (const peer of world.net.openPeers) if (peer.address === A) peer.reset();
    await world.pass(200);
    const asked = watch(world.pool.acquire({ key }));
    await world.now();
    expect(asked.isSettled).toBe(false);
    void world.pool.close({ timeoutMs: 200 });
    await world.now();
    expect(asked.value).toBeDefined();
    asked.value?.release();
  });
});

describe('callers without a key', () => {
  const NO_RETRY: Options = { retry: { retries: 0, baseMs: 10, capMs: 10 } };

  it('are served by the others when one is set up wrongly', async () => {
    const net = netOf();
    net.outcomes.set(A, { kind: 'refuse', retryable: false });
    const world = setUpThree(NO_RETRY, net);
    const asked = watch(world.pool.acquire());
    await world.pass(50);
    expect(asked.value).toBeDefined();
  });

  it('are told at once when all are set up wrongly, each of which was dialed once', async () => {
    const net = netOf();
    net.outcome = { kind: 'refuse', retryable: false };
    const world = setUpThree({ retry: { retries: 9, baseMs: 10, capMs: 10 } }, net);
    const asked = watch(world.pool.acquire());
    await world.pass(100);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_REFUSED' } });
    expect([...net.dialedTo].sort()).toEqual([A, B, C]);
  });

  it('are served by the one that has come back, though those before it in the list are still down', async () => {
    const net = netOf();
    net.outcome = { kind: 'refuse' };
    const world = setUpThree(NO_RETRY, net);
    watch(world.pool.acquire());
    await world.pass(1_000);
    net.outcomes.set(A, { kind: 'refuse', retryable: false });
    // Longer than the back-off of the first.
    net.outcomes.set(B, { kind: 'refuse', afterMs: 50 });
    net.outcomes.set(C, { kind: 'open' });
    const asked = watch(world.pool.acquire());
    await world.pass(500);
    expect(addressOf(asked, world)).toBe(C);
  });

  it('are served by one that has joined meanwhile, though the others have all failed', async () => {
    const feed = new Feed([`${A}:1`, `${B}:1`]);
    const net = netOf();
    net.outcome = { kind: 'refuse', afterMs: 20 };
    net.outcomes.set(C, { kind: 'open' });
    const world = setUp({ endpoints: feed.discover, max: 1, ...NO_RETRY }, net);
    const asked = watch(world.pool.acquire());
    await world.pass(30);
    feed.tell(THREE);
    await world.pass(100);
    expect(addressOf(asked, world)).toBe(C);
  });

  it('are not told that all are down while one of them is still being tried', async () => {
    const net = netOf();
    // Longer than the back-off: the others are tried again and again meanwhile.
    net.outcome = { kind: 'refuse', afterMs: 20 };
    const world = setUpThree(NO_RETRY, net);
    watch(world.pool.acquire());
    await world.pass(1_000);
    net.outcomes.set(A, { kind: 'open', afterMs: 400 });
    const asked = watch(world.pool.acquire());
    await world.pass(450);
    expect(asked.error).toBeUndefined();
    expect(addressOf(asked, world)).toBe(A);
  });
});

describe('an endpoint that somebody missed', () => {
  it('is not dialed again and again for nobody once a dial to it has failed', async () => {
    const net = netOf();
    const world = setUpThree({ min: 1, retry: { retries: 0, baseMs: 10, capMs: 10 } }, net);
    for (const lease of await take(world, 9)) lease.release();
    net.outcomes.set(A, { kind: 'refuse' });
    for (const peer of net.openPeers) if (peer.address === A) peer.reset();
    for (let n = 0; n < 20; n++) {
      for (const lease of await take(world, 2)) lease.release();
      await world.pass(5);
    }
    expect(net.dialedTo.filter((at) => at === A).length).toBeGreaterThan(3);
    const before = net.dialedTo.filter((at) => at === A).length;
    await world.pass(20_000);
    expect(net.dialedTo.filter((at) => at === A).length - before).toBeLessThan(2);
  });
});

describe('a full pool whose sockets are all held', () => {
  it('gives up no more of them for a new endpoint than it lacks, however long they are held', async () => {
    const feed = new Feed([`${A}:1`, `${B}:1`]);
    const world = setUp({ endpoints: feed.discover, max: 6 }, netOf());
    const leases = await take(world, 6);
    feed.tell(THREE);
    await world.pass(40_000);
    for (const lease of leases) lease.release();
    await world.pass(5_000);
    expect(world.pool.stats().closedBy).toEqual({ rebalanced: 2 });
  });
});

describe('a server that hangs up at once', () => {
  it('has its back-off, though a dial opened in the very millisecond of the failure before it', () => {
    const { roster } = assemble<string, string>(new FakeNet().surroundings, {
      host: A,
      port: 1,
      codec: lines({ maxFrameBytes: 64 }),
      retry: { retries: 0, baseMs: 100, capMs: 100 },
    });
    const { members } = roster.state;
    const [member] = members.list;
    if (member === undefined) throw new Error('no endpoint');
    const lost = new PulsepoolError('ERR_CONNECTION_LOST', 'lost', { retryable: true, hint: '' });
    // Sockets know in which whole millisecond they opened.
    members.onLoss(member, lost, 1_006, 1_006.5);
    member.backoff.opened(1_006.6, 1_006.7);
    members.onLoss(member, lost, 1_006, 1_006.8);
    expect(members.isFailing).toBe(true);
    expect(members.waitMs(1_006.8)).toBeGreaterThan(0);
  });
});

describe('a name that moves', () => {
  it('orders no successor for a socket that is closing already', async () => {
    const net = netOf();
    let at = A;
    net.lookups = [fakeLookup(async () => [at])];
    const world = setUp({ host: 'orders', max: 4, min: 1, dns: { refreshMs: 1_000 } }, net);
    const leases = await take(world, 2);
    for (const peer of net.openPeers) peer.isMute = true;
    at = B;
    world.pool.resize({ maxIdle: 1 });
    for (let n = 0; n < 60; n++) {
      // One of them is always about to close, and its server does not say goodbye.
      if (n === 20) for (const lease of leases) lease.release();
      await world.pass(50);
    }
    expect(world.net.dialedTo.filter((one) => one === B).length).toBe(1);
  });
});

import { describe, expect, it } from 'vitest';
import type { Lease } from '../../../src/pool/lease.ts';
import { HEARTBEAT, type Options, setUp, take, type World, watch } from '../../support/pool-world.ts';

/** A ping may take long: who counted on it would wait long. */
const SLOW = { ...HEARTBEAT, timeoutMs: 900 };

/** A pool whose `count` sockets rest, half open: the server is gone without a word. */
async function halfOpen(count: number, options: Options): Promise<World> {
  const world = setUp({ heartbeat: SLOW, ...options });
  for (const lease of await take(world, count)) lease.release();
  for (const peer of world.net.peers) peer.isMute = true;
  return world;
}

/** The same, with the first ping of each socket out. */
async function pinged(count: number, options: Options): Promise<World> {
  const world = await halfOpen(count, options);
  await world.pass(960);
  expect(world.net.peers.map((peer) => peer.received)).toEqual(Array(count).fill('PING\n'));
  return world;
}

/** Callers who ask at the same time. */
function ask(world: World, count: number) {
  return Array.from({ length: count }, () => watch(world.pool.acquire()));
}

function idsOf(asked: readonly { readonly value: Lease<string, string> | undefined }[]) {
  return asked.map(({ value }) => value?.connectionId);
}

describe('a caller behind a socket whose ping is out', () => {
  it('is served by another socket after a tenth of a second', async () => {
    const world = await pinged(1, { max: 2 });
    const asked = ask(world, 1);
    await world.pass(99);
    expect(world.net.dialedAt.length).toBe(1);
    await world.pass(2);
    expect(idsOf(asked)).toEqual([2]);
    expect(world.pool.stats()).toMatchObject({ closed: 0, idle: 1, leased: 1, waiting: 0 });
  });

  it('is served by that socket when the pong comes first, and nothing is dialed', async () => {
    const world = await pinged(1, { max: 2 });
    const asked = ask(world, 1);
    await world.pass(50);
    world.net.lastPeer.write('PONG\n');
    await world.now();
    expect(idsOf(asked)).toEqual([1]);
    await world.pass(500);
    expect(world.net.dialedAt.length).toBe(1);
  });

  it('is one of several, who are all served', async () => {
    const world = await pinged(3, { max: 6 });
    const asked = ask(world, 3);
    await world.pass(99);
    expect(idsOf(asked)).toEqual([undefined, undefined, undefined]);
    await world.pass(2);
    expect(idsOf(asked)).toEqual([4, 5, 6]);
  });

  it('waits no tenth of a second again for a socket that has been given up', async () => {
    const world = await pinged(1, { max: 3 });
    const [first] = ask(world, 1);
    await world.pass(101);
    expect(first?.value?.connectionId).toBe(2);
    const asked = ask(world, 1);
    await world.now();
    expect(idsOf(asked)).toEqual([3]);
  });

  it('is told of pings, and not of dials, when there is no room for another socket', async () => {
    const world = await pinged(1, { max: 1, acquireTimeoutMs: 500 });
    const asked = ask(world, 1);
    await world.pass(501);
    expect(asked[0]?.error).toMatchObject({
      code: 'ERR_ACQUIRE_TIMEOUT',
      hint: expect.stringContaining('pinged'),
      counts: { idle: 1, leased: 0, dialing: 0 },
    });
  });

  it('is told of dials when those are why nothing came', async () => {
    const world = await pinged(1, { max: 2, acquireTimeoutMs: 500 });
    world.net.script = [{ kind: 'refuse' }];
    world.net.outcome = { kind: 'hang' };
    const asked = ask(world, 1);
    await world.pass(501);
    expect(asked[0]?.error).toMatchObject({
      code: 'ERR_ACQUIRE_TIMEOUT',
      hint: expect.stringContaining('dialFailed'),
      cause: { code: 'ERR_REFUSED' },
    });
  });
});

describe('a borrower whose socket rested so long that it is pinged first', () => {
  it('is served by another socket after a tenth of a second', async () => {
    const world = await halfOpen(1, { max: 2 });
    // The process was frozen: no heartbeat has run meanwhile.
    world.clock.freeze(5_000);
    const asked = ask(world, 1);
    await world.pass(99);
    expect(idsOf(asked)).toEqual([undefined]);
    await world.pass(2);
    expect(idsOf(asked)).toEqual([2]);
  });

  it('is one of several, who are all served', async () => {
    const world = await halfOpen(3, { max: 6 });
    world.clock.freeze(5_000);
    const asked = ask(world, 3);
    await world.pass(101);
    expect(idsOf(asked)).toEqual([4, 5, 6]);
    expect(world.pool.stats()).toMatchObject({ leased: 3, idle: 3, waiting: 0 });
  });

  it('is told of pings when there is no room for another socket', async () => {
    const world = await halfOpen(1, { max: 1, acquireTimeoutMs: 500 });
    world.clock.freeze(5_000);
    const asked = ask(world, 1);
    await world.pass(501);
    expect(asked[0]?.error).toMatchObject({ hint: expect.stringContaining('pinged') });
  });
});

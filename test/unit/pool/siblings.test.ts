import { describe, expect, it } from 'vitest';
import { HEARTBEAT, type Options, setUp, take, type World } from '../../support/pool-world.ts';

const IDLE = { idleTimeoutMs: 600_000 };

/** A pool of sockets that rest, each silent for another time: their beats are spread over the interval. */
async function spread(count: number, options: Options = {}): Promise<World> {
  const world = setUp({ max: count, heartbeat: { ...HEARTBEAT, intervalMs: 10_000 }, ...IDLE, ...options });
  const leases = await take(world, count);
  for (const lease of leases) {
    await lease.request('warm');
    lease.release();
    await world.pass(9_000 / count);
  }
  return world;
}

function pings(world: World): number[] {
  return world.net.peers.map((peer) => peer.received.split('PING').length - 1);
}

describe('when one socket has died of its heartbeat', () => {
  it('those at rest beside it are pinged at once', async () => {
    const world = await spread(4, { heartbeat: { ...HEARTBEAT, intervalMs: 10_000, maxMissed: 1 } });
    const [first] = world.net.peers;
    if (first !== undefined) first.isMute = true;
    // The first one was used first: its beat is due first, the next one 2,250 ms later.
    while (world.pool.stats().closed === 0) await world.pass(10);
    await world.now();
    expect(pings(world)).toEqual([1, 1, 1, 1]);
    await world.pass(100);
    // Healthy ones go on.
    expect(world.pool.stats()).toMatchObject({ idle: 3, pinged: 3, closedBy: { heartbeat: 1 } });
  });

  it('a dead server is found in one timeout after the first death, where one miss is allowed', async () => {
    const world = await spread(4, { heartbeat: { ...HEARTBEAT, intervalMs: 10_000, maxMissed: 1 } });
    for (const peer of world.net.peers) peer.isMute = true;
    while (world.pool.stats().closed === 0) await world.pass(10);
    await world.pass(210);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { heartbeat: 4 } });
  });

  it('nobody is lent one of them once its ping went unanswered, where more misses are allowed', async () => {
    const world = await spread(4, { max: 5 });
    for (const peer of world.net.peers) peer.isMute = true;
    while (world.pool.stats().closed === 0) await world.pass(10);
    await world.pass(210);
    const reply = world.pool.request('hello');
    await world.now();
    expect(await reply).toBe('Echo: hello');
    expect(world.net.peers.length).toBe(5);
  });

  it('those that spoke within a ping’s timeout are left alone', async () => {
    const world = await spread(3, { heartbeat: { ...HEARTBEAT, intervalMs: 10_000, maxMissed: 1 } });
    const [first] = world.net.peers;
    if (first !== undefined) first.isMute = true;
    while (pings(world)[0] === 0) await world.pass(10);
    await world.pass(100);
    // The one on top speaks while the ping of the first is out.
    const reply = world.pool.request('hello');
    await world.now();
    await reply;
    while (world.pool.stats().closed === 0) await world.pass(10);
    await world.now();
    expect(pings(world)).toEqual([1, 1, 0]);
  });

  it('those that are leased are left alone', async () => {
    const world = await spread(3, { heartbeat: { ...HEARTBEAT, intervalMs: 10_000, maxMissed: 1 } });
    const [held] = await take(world, 1);
    const [first] = world.net.peers;
    if (first !== undefined) first.isMute = true;
    while (world.pool.stats().closed === 0) await world.pass(10);
    await world.now();
    expect(pings(world)).toEqual([1, 1, 0]);
    held?.release();
  });

  it('nothing is pinged when the death had another cause', async () => {
    const world = await spread(3);
    const before = pings(world);
    world.net.peers[0]?.fin();
    await world.now();
    expect(world.pool.stats().closedBy).toEqual({ 'peer-closed': 1 });
    expect(pings(world)).toEqual(before);
  });
});

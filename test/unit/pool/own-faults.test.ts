import { describe, expect, it } from 'vitest';
import { HEARTBEAT, type Options, setUp, take, watch } from '../../support/pool-world.ts';

/** A pool of three sockets at rest, and how late it said that it was. */
async function resting(options: Options = {}) {
  const world = setUp({ min: 3, idleTimeoutMs: 10_000, maxLifetimeMs: 60_000, ...options });
  const late: number[] = [];
  world.pool.on('stalled', ({ lateMs }) => late.push(lateMs));
  await world.now();
  return { ...world, late };
}

describe('a process that was frozen', () => {
  it.each([
    ['several heartbeat intervals', 5_000],
    ['several idle timeouts', 50_000],
    ['several lifetimes', 300_000],
    ['a night', 36_000_000],
  ])('for %s kills no healthy socket, and says once that it was', async (_how, ms) => {
    const world = await resting({ min: 0, minIdle: 0, max: 3, heartbeat: HEARTBEAT });
    for (const lease of await take(world, 3)) lease.release();
    await world.pass(500);
    world.clock.freeze(ms);
    await world.pass(2_000);
    expect(world.pool.stats()).toMatchObject({ idle: 3, opened: 3, closed: 0, stalled: 1 });
    expect(world.late.length).toBe(1);
    expect(Math.abs((world.late[0] ?? 0) - ms)).toBeLessThan(1_100);
  });

  it('in the middle of a ping passes no verdict, and pings again', async () => {
    const world = await resting({ min: 1, heartbeat: { ...HEARTBEAT, maxMissed: 1 } });
    world.net.lastPeer.isMute = true;
    while (!world.net.lastPeer.received.includes('PING')) await world.pass(10);
    await world.pass(100);
    world.clock.freeze(30_000);
    await world.pass(100);
    expect(world.net.lastPeer.received).toBe('PING\nPING\n');
    world.net.lastPeer.write('PONG\nPONG\n');
    await world.pass(500);
    expect(world.pool.stats()).toMatchObject({ closed: 0, idle: 1, stalled: 1 });
  });

  it('in the middle of a ping reads the pong that the kernel has kept, before it judges', async () => {
    const world = await resting({ min: 1, heartbeat: { ...HEARTBEAT, maxMissed: 1 } });
    world.net.lastPeer.isMute = true;
    while (!world.net.lastPeer.received.includes('PING')) await world.pass(10);
    await world.pass(100);
    world.clock.freeze(240);
    world.net.lastPeer.write('PONG\n');
    await world.pass(50);
    expect(world.pool.stats()).toMatchObject({ closed: 0, idle: 1, pinged: 1, pingMissed: 0 });
  });

  it('counts two stalls as two', async () => {
    const world = await resting({ heartbeat: HEARTBEAT });
    for (let stall = 0; stall < 2; stall++) {
      world.clock.freeze(10_000);
      await world.pass(3_000);
    }
    expect(world.pool.stats()).toMatchObject({ stalled: 2, closed: 0 });
    expect(world.late.length).toBe(2);
  });

  it('for less than a quarter of a second was not frozen', async () => {
    const world = await resting({ heartbeat: HEARTBEAT });
    for (let lag = 0; lag < 20; lag++) {
      world.clock.freeze(240);
      await world.pass(100);
    }
    expect(world.pool.stats()).toMatchObject({ stalled: 0, closed: 0 });
  });

  it('pings what rests at once, and finds what has really died', async () => {
    const world = await resting({ heartbeat: { ...HEARTBEAT, intervalMs: 8_000, maxMissed: 1 } });
    const [dead] = world.net.peers;
    await world.pass(1_000);
    if (dead !== undefined) dead.isMute = true;
    world.clock.freeze(3_000);
    await world.pass(1_001);
    await world.now();
    expect(world.net.peers.slice(0, 3).map((peer) => peer.received)).toEqual(Array(3).fill('PING\n'));
    await world.pass(300);
    expect(world.pool.stats()).toMatchObject({ idle: 3, opened: 4, closedBy: { heartbeat: 1 } });
  });

  it('without a heartbeat gives each socket two turns when it is borrowed, and finds those that ended', async () => {
    const world = await resting({ min: 0, max: 3 });
    for (const lease of await take(world, 3)) lease.release();
    await world.pass(100);
    world.clock.freeze(100_000);
    const asked = watch(world.pool.acquire());
    expect(world.pool.stats()).toMatchObject({ leased: 0, waiting: 1 });
    // What the kernel kept while nothing ran.
    for (const peer of world.net.peers.slice(1)) peer.fin();
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
    expect(world.pool.stats()).toMatchObject({ closedBy: { 'peer-closed': 2 } });
  });

  it('does not shorten the time that is left to a socket', async () => {
    const world = await resting({ min: 0, max: 1, idleTimeoutMs: 10_000 });
    const [lease] = await take(world, 1);
    lease?.release();
    await world.pass(6_000);
    world.clock.freeze(100_000);
    await world.pass(2_000);
    expect(world.pool.stats().closedBy).toEqual({});
    await world.pass(3_000);
    expect(world.pool.stats()).toMatchObject({ idle: 0, closedBy: { idle: 1 } });
  });
});

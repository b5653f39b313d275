import { describe, expect, it } from 'vitest';
import { HEARTBEAT, setUp, take, watch } from '../../support/pool-world.ts';

const NOTHING = {
  endpoint: 'fake:1',
  address: '192.0.2.1',
  idleMs: 0,
  heldMs: 0,
  rttMs: 0,
  missed: 0,
  staleBy: undefined,
};

describe('sockets()', () => {
  it('is empty before anything was opened, and after the end', async () => {
    const world = setUp({ min: 2 });
    expect(world.pool.sockets()).toEqual([]);
    await world.now();
    expect(world.pool.sockets().length).toBe(2);
    const closing = world.pool.close();
    await world.now();
    await closing;
    expect(world.pool.sockets()).toEqual([]);
  });

  it('has a frozen row for each place, with what it is doing', async () => {
    const world = setUp({ max: 4 });
    const [first, second, third] = await take(world, 3);
    await world.pass(100);
    await first?.request('hello');
    first?.release();
    if (world.net.peers[2] !== undefined) world.net.peers[2].isMute = true;
    world.net.outcome = { kind: 'open', afterMs: 500 };
    await world.pass(50);
    watch(world.pool.acquire());
    watch(world.pool.acquire());
    await world.now();
    const rows = world.pool.sockets();
    expect(rows.every((row) => Object.isFrozen(row))).toBe(true);
    expect(rows).toEqual([
      { ...NOTHING, connectionId: 1, state: 'leased', ageMs: 150, silentMs: 50, uses: 2 },
      { ...NOTHING, connectionId: 2, state: 'leased', ageMs: 150, heldMs: 150, silentMs: 150, uses: 1 },
      { ...NOTHING, connectionId: 3, state: 'leased', ageMs: 150, heldMs: 150, silentMs: 150, uses: 1 },
      { ...NOTHING, connectionId: 4, state: 'dialing', address: '', ageMs: 0, silentMs: 0, uses: 0 },
    ]);
    expect(second?.isUsable).toBe(true);
    expect(third?.isUsable).toBe(true);
  });

  it('says how long a socket has rested since its last use, and since a byte came', async () => {
    const world = setUp({ min: 1, heartbeat: HEARTBEAT });
    await world.pool.request('hello').catch(() => undefined);
    await world.pass(1_500);
    const [row] = world.pool.sockets();
    expect(row).toMatchObject({ state: 'idle', idleMs: 1_500, heldMs: 0, uses: 1 });
    // A pong is a byte, and no use.
    expect(row?.silentMs).toBeLessThan(600);
  });

  it('says that a socket is being checked, how many pings it has missed, and how long a pong took', async () => {
    const world = setUp({ min: 1, heartbeat: HEARTBEAT });
    await world.now();
    world.net.lastPeer.isMute = true;
    while (!world.net.lastPeer.received.includes('PING')) await world.pass(10);
    expect(world.pool.sockets()).toMatchObject([{ state: 'checking', missed: 0, rttMs: 0 }]);
    await world.pass(220);
    expect(world.pool.sockets()).toMatchObject([{ state: 'checking', missed: 1, rttMs: 0 }]);
    while (world.net.lastPeer.received !== 'PING\nPING\n') await world.pass(10);
    await world.pass(20);
    world.net.lastPeer.write('PONG\nPONG\n');
    await world.now();
    const [row] = world.pool.sockets();
    expect(row).toMatchObject({ state: 'idle', missed: 0 });
    expect(row?.rttMs).toBeGreaterThanOrEqual(20);
    expect(row?.rttMs).toBeLessThan(40);
  });

  it('lists a socket that says goodbye', async () => {
    const world = setUp({ maxIdle: 0 });
    const [lease] = await take(world, 1);
    world.net.lastPeer.isMute = true;
    lease?.release();
    await world.now();
    expect(world.pool.sockets()).toMatchObject([{ state: 'closing', connectionId: 1, uses: 1 }]);
  });

  it('says why a socket is to be replaced', async () => {
    const world = setUp({ max: 2 });
    await take(world, 2);
    watch(world.pool.reset());
    await world.now();
    expect(world.pool.sockets().map(({ staleBy }) => staleBy)).toEqual(['reset', 'reset']);
  });

  it('does not count a hook’s time as held', async () => {
    const world = setUp({ onRelease: () => new Promise<void>(() => undefined), hookTimeoutMs: 500 });
    const [lease] = await take(world, 1);
    await world.pass(100);
    lease?.release();
    await world.pass(100);
    expect(world.pool.sockets()).toMatchObject([{ state: 'leased', heldMs: 0 }]);
  });
});

import { describe, expect, it } from 'vitest';
import { lines } from '../../../src/transport/lines.ts';
import { HEARTBEAT, setUp, take, watch } from '../../support/pool-world.ts';

describe('a borrow', () => {
  it('of a socket that was used a moment ago costs nothing', async () => {
    const world = setUp();
    await world.pool.request('warm');
    const asked = world.pool.acquire();
    expect(world.pool.stats()).toMatchObject({ leased: 1, waiting: 0 });
    expect((await asked).connectionId).toBe(1);
  });

  it('of a socket that has rested takes two turns of the event loop, and no round trip', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    await world.pool.request('warm');
    await world.pass(500);
    const before = world.net.lastPeer.received;
    const asked = watch(world.pool.acquire());
    expect(world.pool.stats()).toMatchObject({ leased: 0, idle: 1, waiting: 1 });
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
    expect(world.net.lastPeer.received).toBe(before);
  });

  it('of a socket that was checked a moment ago costs nothing', async () => {
    const world = setUp();
    await world.pool.request('warm');
    await world.pass(500);
    (await take(world, 1))[0]?.release();
    watch(world.pool.acquire());
    expect(world.pool.stats().leased).toBe(1);
  });

  it('of a socket that was silent beyond the heartbeat’s interval takes a ping', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    await world.pool.request('warm');
    // The process was frozen: no heartbeat has run meanwhile.
    world.clock.freeze(5_000);
    const asked = watch(world.pool.acquire());
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
    expect(world.net.lastPeer.received).toBe('warm\nPING\n');
  });

  it('replaces a dead socket unseen: closed while it was checked', async () => {
    const world = setUp();
    await world.pool.request('warm');
    await world.pass(2_000);
    const asked = watch(world.pool.acquire());
    world.net.lastPeer.fin();
    await world.now();
    expect(asked.value?.connectionId).toBe(2);
    expect(await asked.value?.request('hello')).toBe('Echo: hello');
  });

  it('replaces a dead socket unseen: it does not answer the ping, and no miss is allowed to a borrower', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    await world.pool.request('warm');
    world.net.lastPeer.isMute = true;
    world.clock.freeze(5_000);
    const asked = watch(world.pool.acquire());
    await world.pass(99);
    expect(asked.isSettled).toBe(false);
    // A caller counts on a ping for a tenth of a second; then another socket is opened.
    await world.pass(2);
    expect(asked.value?.connectionId).toBe(2);
    expect(world.pool.stats().closedBy).toEqual({});
    await world.pass(100);
    expect(world.pool.stats().closedBy).toEqual({ heartbeat: 1 });
  });

  it('goes through all dead sockets to a live one', async () => {
    const world = setUp({ max: 4 });
    for (const lease of await take(world, 4)) lease.release();
    await world.pass(2_000);
    const asked = watch(world.pool.acquire());
    for (const peer of world.net.peers.slice(1)) peer.reset();
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
  });

  it('does not wait for the goodbye of a socket whose lifetime ended in the check, while another rests', async () => {
    const world = setUp({ max: 2, maxLifetimeMs: 1_000, heartbeat: HEARTBEAT });
    // The second one lives longer.
    const chances = [0.9, 0, 0, 0, 0, 0];
    world.net.random = () => chances.shift() ?? 0;
    const [first, second] = await take(world, 2);
    await world.pass(895);
    second?.release();
    first?.release();
    for (const peer of world.net.peers) peer.isMute = true;
    world.clock.freeze(40);
    const asked = watch(world.pool.acquire());
    await world.now();
    expect(asked.value?.isUsable).toBe(true);
  });

  it('takes the socket that was used last, so that the others may grow old', async () => {
    const world = setUp({ max: 3 });
    const leases = await take(world, 3);
    for (const lease of leases) lease.release();
    const [next] = await take(world, 1);
    expect(next?.connectionId).toBe(leases[2]?.connectionId);
  });
});

describe('a heartbeat that falls due between the two turns of a check', () => {
  it('pings nothing: its pong would be taken for the borrower’s reply', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    await world.pool.request('warm');
    await world.pass(900);
    // Due since 950 ms; not yet silent for the whole interval.
    world.clock.freeze(60);
    const reply = watch(world.pool.request('hello'));
    await world.now();
    expect(reply).toMatchObject({ value: 'Echo: hello', error: undefined });
    expect(world.net.lastPeer.received).toBe('warm\nhello\n');
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ pinged: 1, closed: 0 });
  });
});

describe('a socket at rest', () => {
  it('is gone at once when the server closes it, and min is refilled', async () => {
    const world = setUp({ min: 2 });
    await world.pass(2_000);
    world.net.peers[1]?.fin();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 2, opened: 3, closedBy: { 'peer-closed': 1 } });
    world.net.peers[0]?.reset();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 2, opened: 4, closedBy: { 'peer-reset': 1 } });
  });

  it('is destroyed by a single byte that nobody has asked for', async () => {
    const world = setUp({ min: 1 });
    await world.pass(2_000);
    const errors: unknown[] = [];
    world.pool.on('closed', ({ error }) => errors.push(error));
    world.net.lastPeer.write('x');
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 1, opened: 2, closedBy: { unsolicited: 1 } });
    expect(errors[0]).toMatchObject({ code: 'ERR_UNSOLICITED' });
  });

  it('is destroyed by a pong that nobody waits for any more, and by one too many', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    await world.pool.request('warm');
    await world.pass(1_000);
    expect(world.pool.stats().pinged).toBe(1);
    world.net.lastPeer.write('PONG\n');
    await world.now();
    expect(world.pool.stats().closedBy).toEqual({ unsolicited: 1 });
  });
});

describe('a pinged socket', () => {
  it('is out of service from the first miss until its pong, and comes back then', async () => {
    const world = setUp({ max: 2, heartbeat: HEARTBEAT });
    await world.pool.request('warm');
    const [peer] = world.net.peers;
    if (peer !== undefined) peer.isMute = true;
    await world.pass(1_200);
    expect(world.told).toContain('pingMissed:1');
    const [other] = await take(world, 1);
    expect(other?.connectionId).toBe(2);
    peer?.write('PONG\n');
    await world.now();
    const [same] = await take(world, 1);
    expect(same?.connectionId).toBe(1);
    expect(world.pool.stats()).toMatchObject({ closed: 0, pinged: 1, pingMissed: 1 });
  });

  it('is dead after two misses, within interval x misses + timeout', async () => {
    const world = setUp({ min: 1, heartbeat: HEARTBEAT });
    await world.pool.request('warm');
    const peer = world.net.lastPeer;
    peer.isMute = true;
    await world.pass(2_000 + 200 + 5);
    expect(peer.isClientGone).toBe(true);
    expect(world.pool.stats()).toMatchObject({
      idle: 1,
      opened: 2,
      pingMissed: 2,
      closedBy: { heartbeat: 1 },
    });
  });

  it('is never one that is leased', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    const [lease] = await take(world, 1);
    await world.pass(20_000);
    expect(world.net.lastPeer.received).toBe('');
    lease?.release();
    await world.pass(1_000);
    expect(world.net.lastPeer.received).toBe('PING\n');
  });

  it('survives a loop that was blocked past the verdict: it is pinged again, and its pong counts', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    await world.pool.request('warm');
    await world.pass(949);
    const peer = world.net.lastPeer;
    peer.isMute = true;
    await world.pass(10);
    expect(peer.received).toBe('warm\nPING\n');
    world.clock.freeze(10_000);
    await world.now();
    expect(world.told).toContain('stalled');
    expect(peer.received).toBe('warm\nPING\nPING\n');
    peer.write('PONG\nPONG\n');
    await world.now();
    expect(world.pool.stats()).toMatchObject({ stalled: 1, closed: 0, idle: 1, pingMissed: 0 });
  });

  it('may be answered late by both pongs at once, and by nothing more', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    await world.pool.request('warm');
    const peer = world.net.lastPeer;
    peer.isMute = true;
    await world.pass(2_000);
    expect(peer.received).toBe('warm\nPING\nPING\n');
    peer.write('PONG\nPONG\n');
    await world.now();
    expect(world.pool.stats()).toMatchObject({ closed: 0, pinged: 1, idle: 1 });
    peer.isMute = false;
    expect(await world.pool.request('hello')).toBe('Echo: hello');
  });

  it('ends alone when its ping can’t be encoded', async () => {
    // Encoded once when the pool is made; a codec may still change its mind.
    let canPing = true;
    const codec = {
      ...lines(),
      encode: (message: string) => {
        if (message === 'PING' && !canPing) throw new Error('not any more');
        return lines().encode(message);
      },
    };
    const world = setUp({ codec, heartbeat: { ...HEARTBEAT, ping: 'PING' } });
    canPing = false;
    await world.pool.request('warm');
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { protocol: 1 } });
    expect(await world.pool.request('hello')).toBe('Echo: hello');
  });
});

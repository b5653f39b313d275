import { describe, expect, it } from 'vitest';
import { HEARTBEAT, setUp, take, watch } from '../../support/pool-world.ts';

describe('minIdle', () => {
  it('are opened at once, too, when one that had rested is lent after its check, or at the end of a suspension', async () => {
    const world = setUp({ minIdle: 1, max: 3 });
    await world.pass(1_200);
    const first = watch(world.pool.acquire());
    await world.now();
    expect(first.isSettled).toBe(true);
    expect(world.net.dialedAt.length).toBe(2);
    await world.pass(1_200);
    watch(world.pool.suspend());
    const second = watch(world.pool.acquire());
    await world.now();
    world.pool.resume();
    await world.now();
    expect(second.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 2, total: 3 });
  });

  it('are opened in the very turn in which one of them is lent, a warm one included', async () => {
    const world = setUp({ minIdle: 2, max: 5 });
    await world.now();
    await world.pool.request('warm');
    expect(world.pool.stats()).toMatchObject({ idle: 3, total: 3 });
    await Promise.all([world.pool.acquire(), world.pool.acquire()]);
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 2, leased: 2, total: 4 });
  });

  it('opens spare sockets in the next turn, without anybody asking', async () => {
    const { net, pool, now } = setUp({ minIdle: 2 });
    expect(net.dialedAt).toEqual([]);
    await now();
    expect(pool.stats()).toMatchObject({ idle: 2, total: 2, minIdle: 2, min: 0 });
  });

  it('keeps them ready beside those that are leased: a lease is made up for within a second', async () => {
    const world = setUp({ minIdle: 2, max: 10 });
    await world.now();
    await take(world, 2);
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ leased: 2, idle: 2, total: 4 });
    await take(world, 1);
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ leased: 3, idle: 2, total: 5 });
  });

  it('is made up for at once while callers wait, one dial more than there are callers', async () => {
    const world = setUp({ minIdle: 1, max: 10 });
    world.net.outcome = { kind: 'open', afterMs: 20 };
    await world.pass(20);
    const held = await take(world, 1);
    const asked = watch(world.pool.acquire());
    await world.pass(100);
    expect(asked.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ leased: 2, idle: 1, total: 3 });
    held[0]?.release();
    asked.value?.release();
  });

  it('never opens more than max, and makes up for it when a place is free', async () => {
    const world = setUp({ minIdle: 3, max: 4 });
    await world.now();
    const leases = await take(world, 3);
    await world.pass(3_000);
    expect(world.pool.stats()).toMatchObject({ leased: 3, idle: 1, total: 4 });
    leases[0]?.destroy();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ leased: 2, idle: 2, total: 4 });
  });

  it('may be as large as max: every socket that is not leased is kept ready', async () => {
    const world = setUp({ minIdle: 2, max: 2, idleTimeoutMs: 5_000 });
    await world.now();
    const [lease] = await take(world, 1);
    await world.pass(20_000);
    expect(world.pool.stats()).toMatchObject({ leased: 1, idle: 1 });
    lease?.release();
    await world.pass(20_000);
    expect(world.pool.stats()).toMatchObject({ leased: 0, idle: 2, opened: 2 });
  });

  it('is refilled at once when a spare socket dies', async () => {
    const world = setUp({ minIdle: 2 });
    await world.pass(2_000);
    world.net.peers[0]?.fin();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 2, opened: 3, closedBy: { 'peer-closed': 1 } });
  });

  it('is refilled under back-off, by a single probe, while the server is down', async () => {
    const world = setUp({ minIdle: 4 });
    await world.pass(2_000);
    world.net.outcome = { kind: 'refuse' };
    const before = world.net.dialedAt.length;
    for (const peer of world.net.peers) peer.reset();
    await world.pass(60_000);
    const dials = world.net.dialedAt.length - before;
    expect(dials).toBeGreaterThan(50);
    expect(dials).toBeLessThan(70);
    world.net.outcome = { kind: 'open' };
    await world.pass(2_000);
    expect(world.pool.stats()).toMatchObject({ idle: 4, total: 4 });
  });

  it('counts sockets that are being checked by a ping as ready', async () => {
    const world = setUp({ minIdle: 2, heartbeat: HEARTBEAT });
    await world.now();
    for (const peer of world.net.peers) peer.isMute = true;
    await world.pass(1_050);
    expect(world.pool.stats()).toMatchObject({ idle: 2, total: 2, dialing: 0, opened: 2 });
  });

  it('holds against the idle timeout, together with min, and not one socket more', async () => {
    const world = setUp({ min: 2, minIdle: 1, max: 6, idleTimeoutMs: 5_000 });
    const leases = await take(world, 6);
    for (const lease of leases) lease.release();
    await world.pass(12_000);
    // Two are kept for `min`; one of them is spare already.
    expect(world.pool.stats()).toMatchObject({ idle: 2, total: 2, closedBy: { idle: 4 } });
    // Under one lease, two of `min` are one leased and one spare.
    const [lease] = await take(world, 1);
    await world.pass(12_000);
    expect(world.pool.stats()).toMatchObject({ leased: 1, idle: 1, total: 2 });
    lease?.release();
    await world.pass(12_000);
    expect(world.pool.stats()).toMatchObject({ idle: 2, closed: 4, opened: 6 });
  });

  it('is kept while others are leased for longer than the idle timeout', async () => {
    const world = setUp({ minIdle: 2, max: 10, idleTimeoutMs: 5_000 });
    const leases = await take(world, 3);
    await world.pass(30_000);
    expect(world.pool.stats()).toMatchObject({ leased: 3, idle: 2, total: 5 });
    for (const lease of leases) lease.release();
    await world.pass(12_000);
    expect(world.pool.stats()).toMatchObject({ leased: 0, idle: 2, total: 2, closedBy: { idle: 3 } });
    // Nothing is opened and closed in turn.
    const { opened } = world.pool.stats();
    await world.pass(60_000);
    expect(world.pool.stats().opened).toBe(opened);
  });

  it('goes with a maxIdle of the same size: a lease that comes back does not push a spare socket out for long', async () => {
    const world = setUp({ minIdle: 2, maxIdle: 2, max: 6 });
    await world.now();
    const leases = await take(world, 2);
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ leased: 2, idle: 2 });
    for (const lease of leases) lease.release();
    await world.pass(5_000);
    expect(world.pool.stats()).toMatchObject({ idle: 2, total: 2, closedBy: { surplus: 2 } });
  });

  it('keeps nothing once the pool closes', async () => {
    const world = setUp({ minIdle: 3 });
    await world.now();
    const closing = watch(world.pool.close());
    await world.pass(1_000);
    expect(closing.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ total: 0, opened: 3 });
  });

  it('does not hold the process', async () => {
    const world = setUp({ minIdle: 3 });
    world.net.outcome = { kind: 'open', afterMs: 50 };
    await world.pass(20);
    expect(world.net.dialing).toBe(3);
    expect(world.net.hold.count).toBe(0);
    await world.pass(5_000);
    expect(world.net.hold.count).toBe(0);
  });
});

describe('ready()', () => {
  it('opens what min asks for side by side, not one after the other', async () => {
    const world = setUp({ min: 4, max: 4 });
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const ready = watch(world.pool.ready());
    await world.pass(100);
    expect(ready).toMatchObject({ isSettled: true, error: undefined });
    expect(world.net.dialedAt).toEqual([1_000, 1_000, 1_000, 1_000]);
  });

  it('opens what minIdle asks for side by side, too', async () => {
    const world = setUp({ minIdle: 3 });
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const ready = watch(world.pool.ready());
    await world.pass(99);
    expect(ready.isSettled).toBe(false);
    await world.pass(1);
    expect(ready).toMatchObject({ isSettled: true, error: undefined });
    expect(world.net.dialedAt.length).toBe(3);
  });

  it('waits for the larger of min and minIdle, by maxConnecting dials at once', async () => {
    const world = setUp({ min: 2, minIdle: 6, maxConnecting: 3 });
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const ready = watch(world.pool.ready());
    await world.pass(50);
    expect(world.net.dialing).toBe(3);
    await world.pass(149);
    expect(ready.isSettled).toBe(false);
    await world.pass(1);
    expect(ready.isSettled).toBe(true);
    expect(world.net.dialedAt.length).toBe(6);
  });

  it('waits while callers take what was opened, until so many are open', async () => {
    const world = setUp({ minIdle: 2 });
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const asked = watch(world.pool.acquire());
    const ready = watch(world.pool.ready());
    await world.pass(100);
    expect(asked.isSettled).toBe(true);
    expect(ready.isSettled).toBe(true);
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ leased: 1, idle: 2 });
  });

  it('is at once true again when all is open', async () => {
    const world = setUp({ min: 2, minIdle: 2 });
    await world.now();
    const ready = watch(world.pool.ready());
    await Promise.resolve();
    await world.now();
    expect(ready.isSettled).toBe(true);
    expect(world.net.dialedAt.length).toBe(2);
  });

  it('rejects with the dial’s error when it can’t be, with a signal as without', async () => {
    const world = setUp({ min: 2, retry: { retries: 1 } });
    world.net.outcome = { kind: 'refuse' };
    const { signal } = new AbortController();
    const asked = [watch(world.pool.ready()), watch(world.pool.ready({ signal }))];
    await world.pass(500);
    for (const { error } of asked) expect(error).toMatchObject({ code: 'ERR_REFUSED' });
    expect(world.net.hold.count).toBe(0);
  });

  it('asked again while the server is down rejects after one more attempt, and resolves when it is back', async () => {
    const world = setUp({ minIdle: 1, retry: { retries: 1 } });
    world.net.outcome = { kind: 'refuse' };
    await world.pass(5_000);
    const before = world.net.dialedAt.length;
    const again = watch(world.pool.ready());
    await world.pass(2_000);
    expect(again.error).toMatchObject({ code: 'ERR_REFUSED' });
    expect(world.net.dialedAt.length - before).toBeLessThanOrEqual(3);
    world.net.outcome = { kind: 'open' };
    const healed = watch(world.pool.ready());
    await world.pass(2_000);
    expect(healed).toMatchObject({ isSettled: true, error: undefined });
  });

  it('rejects when min can’t be reached though one socket is open', async () => {
    const world = setUp({ min: 2, retry: { retries: 1 } });
    world.net.script = [{ kind: 'open' }];
    world.net.outcome = { kind: 'refuse' };
    const ready = watch(world.pool.ready());
    await world.pass(1_000);
    expect(ready.error).toMatchObject({ code: 'ERR_REFUSED' });
    expect(world.pool.stats().idle).toBe(1);
  });

  it('with a signal rejects with its reason, leaves no listener, and the pool goes on', async () => {
    const world = setUp({ minIdle: 2 });
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const controller = new AbortController();
    const asked = watch(world.pool.ready({ signal: controller.signal }));
    const other = watch(world.pool.ready());
    await world.pass(50);
    controller.abort('enough');
    await world.now();
    expect(asked.error).toBe('enough');
    expect(other.isSettled).toBe(false);
    await world.pass(50);
    expect(other).toMatchObject({ isSettled: true, error: undefined });
    expect(world.pool.stats().idle).toBe(2);
    const before = watch(world.pool.ready({ signal: AbortSignal.abort('before') }));
    await world.now();
    expect(before.error).toBe('before');
  });

  it('refuses options that it does not know', async () => {
    const world = setUp({ min: 1 });
    for (const options of [{ timeoutMs: 5 }, { signal: 'no' }, null]) {
      const asked = watch(world.pool.ready(options as never));
      await world.now();
      expect(asked.error).toMatchObject({ code: 'ERR_INVALID_OPTION' });
    }
    expect(world.net.hold.count).toBe(0);
  });
});

import { describe, expect, it } from 'vitest';
import type { Lease } from '../../../src/pool/lease.ts';
import { FakeNet } from '../../support/fake-net.ts';
import { setUp, take, type World, watch } from '../../support/pool-world.ts';

/** A pool with so many sockets at rest. */
async function rested(count: number, options: Parameters<typeof setUp>[0] = {}): Promise<World> {
  const world = setUp({ max: 10, maxConnecting: 10, ...options });
  for (const lease of await take(world, count)) lease.release();
  await world.now();
  return world;
}

/** The numbers of the sockets that are open. */
function open({ pool }: World): number[] {
  return pool
    .sockets()
    .filter(({ state }) => state === 'idle' || state === 'checking' || state === 'leased')
    .map(({ connectionId }) => connectionId);
}

describe('reset()', () => {
  it('replaces every socket at rest, each after its successor has opened', async () => {
    const world = await rested(3);
    world.net.outcome = { kind: 'open', afterMs: 20 };
    const reset = watch(world.pool.reset());
    for (let ms = 0; ms < 600; ms += 5) {
      await world.pass(5);
      const { closing, idle } = world.pool.stats();
      expect(idle + closing).toBeGreaterThanOrEqual(3);
      expect(idle).toBe(3);
    }
    expect(reset.isSettled).toBe(true);
    expect(open(world).sort()).toEqual([4, 5, 6]);
    expect(world.pool.stats()).toMatchObject({ total: 3, opened: 6, closedBy: { reset: 3 } });
  });

  it('never goes faster than perSecond, ten unless told otherwise', async () => {
    const world = await rested(5);
    const before = world.net.dialedAt.length;
    watch(world.pool.reset());
    await world.pass(1_000);
    const dialedAt = world.net.dialedAt.slice(before);
    expect(dialedAt.map((at) => at - (dialedAt[0] ?? 0))).toEqual([0, 100, 200, 300, 400]);
    const again = world.net.dialedAt.length;
    watch(world.pool.reset({ perSecond: 2 }));
    await world.pass(3_000);
    const slower = world.net.dialedAt.slice(again);
    expect(slower.map((at) => at - (slower[0] ?? 0))).toEqual([0, 500, 1_000, 1_500, 2_000]);
  });

  it('never dials more than maxConnecting side by side, however fast it may go', async () => {
    const world = await rested(8, { max: 20, maxConnecting: 2 });
    world.net.outcome = { kind: 'open', afterMs: 50 };
    const reset = watch(world.pool.reset({ perSecond: 100_000 }));
    for (let ms = 0; ms < 400; ms += 5) {
      await world.pass(5);
      expect(world.net.dialing).toBeLessThanOrEqual(2);
      expect(world.pool.stats().idle).toBeGreaterThanOrEqual(8);
    }
    expect(reset.isSettled).toBe(true);
  });

  it('at max ends one after the other: the number of open sockets is never down by more than one', async () => {
    const world = await rested(3, { max: 3 });
    world.net.outcome = { kind: 'open', afterMs: 20 };
    const reset = watch(world.pool.reset({ perSecond: 1_000 }));
    for (let ms = 0; ms < 200; ms += 2) {
      await world.pass(2);
      expect(world.pool.stats().idle).toBeGreaterThanOrEqual(2);
    }
    expect(reset.isSettled).toBe(true);
    expect(open(world).sort()).toEqual([4, 5, 6]);
  });

  it('at max goes on to the end when old sockets close slowly', async () => {
    const world = await rested(3, { max: 3 });
    for (const peer of world.net.peers) peer.isMute = true;
    const reset = watch(world.pool.reset());
    await world.pass(10_000);
    expect(reset.isSettled).toBe(true);
    expect(open(world).sort()).toEqual([4, 5, 6]);
  });

  it('at max with room for one more first uses that room', async () => {
    const world = await rested(3, { max: 4 });
    world.net.outcome = { kind: 'open', afterMs: 20 };
    const reset = watch(world.pool.reset({ perSecond: 1_000 }));
    for (let ms = 0; ms < 200; ms += 2) {
      await world.pass(2);
      expect(world.pool.stats().idle).toBe(3);
    }
    expect(reset.isSettled).toBe(true);
  });

  it('ends a leased socket when it comes back, and cuts nobody off', async () => {
    const world = setUp({ max: 5 });
    const leases = await take(world, 2);
    const reset = watch(world.pool.reset());
    await world.pass(1_000);
    expect(reset.isSettled).toBe(false);
    for (const lease of leases) expect(await lease.request('still')).toBe('Echo: still');
    leases[0]?.release();
    await world.now();
    expect(reset.isSettled).toBe(false);
    leases[1]?.release();
    await world.now();
    expect(reset.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ closedBy: { reset: 2 }, idle: 2, total: 2 });
    expect(open(world).every((id) => id > 2)).toBe(true);
  });

  it('ends a leased socket at max when it comes back, though callers wait, and opens another one for them', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    const reset = watch(world.pool.reset());
    const asked = watch(world.pool.acquire());
    await world.pass(500);
    expect(asked.isSettled).toBe(false);
    lease?.release();
    await world.now();
    expect(asked.value?.connectionId).toBe(2);
    expect(reset.isSettled).toBe(true);
  });

  it('lends what it has not replaced yet last', async () => {
    const world = await rested(4);
    watch(world.pool.reset({ perSecond: 1 }));
    await world.pass(10);
    // One has been replaced: the new one is lent first, whatever is used more recently.
    const lent = watch(world.pool.acquire());
    await world.now();
    expect(lent.value?.connectionId).toBe(5);
    lent.value?.release();
    const both = await take(world, 2);
    expect(both[0]?.connectionId).toBe(5);
    for (const lease of both) lease.release();
    const again = await take(world, 1);
    expect(again[0]?.connectionId).toBe(5);
  });

  it('replaces sockets that were being dialed when it was called, after they have opened', async () => {
    const world = setUp({ min: 2, max: 6 });
    world.net.outcome = { kind: 'open', afterMs: 100 };
    await world.pass(50);
    const reset = watch(world.pool.reset());
    await world.pass(40);
    expect(reset.isSettled).toBe(false);
    await world.pass(1_000);
    expect(reset.isSettled).toBe(true);
    expect(open(world).sort()).toEqual([3, 4]);
    expect(world.pool.stats()).toMatchObject({ closedBy: { reset: 2 }, opened: 4, total: 2 });
  });

  it('is done when a dial that was under way fails: there is nothing of before any more', async () => {
    const world = setUp({ max: 2, retry: { retries: 0 } });
    world.net.script = [{ kind: 'refuse', afterMs: 100 }];
    watch(world.pool.acquire());
    await world.pass(50);
    const reset = watch(world.pool.reset());
    await world.pass(60);
    expect(reset.isSettled).toBe(true);
  });

  it('with nothing open is done at once', async () => {
    const world = setUp();
    const reset = watch(world.pool.reset());
    await world.now();
    expect(reset).toMatchObject({ isSettled: true, error: undefined });
    expect(world.net.dialedAt).toEqual([]);
  });

  it('counts a socket that dies by itself as gone', async () => {
    const world = await rested(2);
    const reset = watch(world.pool.reset({ perSecond: 1 }));
    await world.pass(10);
    for (const peer of world.net.peers.slice(0, 2)) peer.reset();
    await world.now();
    expect(reset.isSettled).toBe(true);
  });

  it('waits for a socket that is closing', async () => {
    const world = await rested(1, { maxIdle: 0 });
    world.net.lastPeer.isMute = true;
    const [lease] = await take(world, 1);
    world.net.lastPeer.isMute = true;
    lease?.release();
    await world.now();
    expect(world.pool.stats().closing).toBeGreaterThan(0);
    const reset = watch(world.pool.reset());
    await world.now();
    expect(reset.isSettled).toBe(false);
    await world.pass(501);
    expect(reset.isSettled).toBe(true);
  });

  it('called again during the first replaces what the first one had opened, too; both are done in the end', async () => {
    const world = await rested(4);
    const first = watch(world.pool.reset({ perSecond: 10 }));
    await world.pass(150);
    expect(world.pool.stats().closedBy).toEqual({ reset: 2 });
    const second = watch(world.pool.reset({ perSecond: 10 }));
    await world.pass(2_000);
    expect([first, second].map((one) => one.isSettled)).toEqual([true, true]);
    expect(open(world).sort((a, b) => a - b)).toEqual([7, 8, 9, 10]);
    expect(world.pool.stats()).toMatchObject({ closedBy: { reset: 6 }, total: 4, idle: 4 });
  });

  it('called twice at once replaces the successor that the first one is dialing, too, and leaves no socket more', async () => {
    const world = await rested(2);
    const both = [watch(world.pool.reset()), watch(world.pool.reset())];
    await world.pass(1_000);
    expect(both.every((one) => one.isSettled)).toBe(true);
    expect(world.pool.stats()).toMatchObject({ closedBy: { reset: 3 }, opened: 5, total: 2 });
  });

  it('called again while a lease of the generation before the last is held waits for that lease', async () => {
    const world = setUp({ max: 4 });
    const [lease] = await take(world, 1);
    const first = watch(world.pool.reset());
    await world.pass(500);
    const second = watch(world.pool.reset());
    await world.pass(1_000);
    expect([first, second].map((one) => one.isSettled)).toEqual([false, false]);
    lease?.release();
    await world.pass(1_000);
    expect([first, second].map((one) => one.isSettled)).toEqual([true, true]);
  });

  it('while the server can’t be dialed keeps the old sockets, and goes on when it is back', async () => {
    const world = await rested(2);
    world.net.outcome = { kind: 'refuse' };
    const reset = watch(world.pool.reset());
    await world.pass(20_000);
    expect(reset.isSettled).toBe(false);
    expect(world.pool.stats()).toMatchObject({ idle: 2, closed: 0 });
    expect(await Promise.all([world.pool.request('on'), world.now()])).toContain('Echo: on');
    world.net.outcome = { kind: 'open' };
    await world.pass(5_000);
    expect(reset.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ closedBy: { reset: 2 }, idle: 2 });
  });

  it('goes on by itself though the last dial, long ago, had failed and nobody has needed one since', async () => {
    const world = setUp({ max: 3, retry: { retries: 0 }, idleTimeoutMs: Number.POSITIVE_INFINITY });
    const [lease] = await take(world, 1);
    world.net.script = [{ kind: 'refuse' }];
    const asked = watch(world.pool.acquire());
    await world.now();
    lease?.release();
    await world.now();
    asked.value?.release();
    await world.pass(60_000);
    const reset = watch(world.pool.reset());
    await world.pass(5_000);
    expect(reset.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ idle: 1, closedBy: { reset: 1 } });
  });

  it('resolves through close(), which ends everything', async () => {
    const world = await rested(3);
    const [lease] = await take(world, 1);
    const reset = watch(world.pool.reset({ perSecond: 1 }));
    await world.now();
    const closing = watch(world.pool.close());
    await world.pass(100);
    expect(reset.isSettled).toBe(false);
    lease?.release();
    await world.now();
    expect(reset).toMatchObject({ isSettled: true, error: undefined });
    expect(closing.isSettled).toBe(true);
  });

  it('resolves through the deadline of close(), too', async () => {
    const world = await rested(1);
    await take(world, 1);
    const reset = watch(world.pool.reset());
    const closing = watch(world.pool.close({ timeoutMs: 100 }));
    await world.pass(101);
    expect(closing.value).toMatchObject({ forced: 1 });
    expect(reset.isSettled).toBe(true);
  });

  it('tells each end with its reason, and rows say what is still to be replaced', async () => {
    const world = await rested(2);
    watch(world.pool.reset({ perSecond: 1 }));
    await world.now();
    expect(world.pool.sockets().map(({ staleBy }) => staleBy)).toEqual(['reset', undefined]);
    await world.pass(2_000);
    expect(world.told.filter((event) => event === 'closed:reset').length).toBe(2);
    expect(world.pool.sockets().every(({ staleBy }) => staleBy === undefined)).toBe(true);
  });

  it('leaves the sizes alone: what was surplus before is not opened twice', async () => {
    const world = await rested(4, { min: 1 });
    watch(world.pool.reset({ perSecond: 100 }));
    await world.pass(2_000);
    expect(world.pool.stats()).toMatchObject({ idle: 4, total: 4, opened: 8 });
  });

  it('refuses a rate that it can’t keep, and names that it does not know; nothing happens then', async () => {
    const world = await rested(1);
    const wrong = [{ perSecond: 0 }, { perSecond: -1 }, { perSecond: 1.5 }, { perSecond: '3' }, { rate: 3 }];
    for (const options of wrong) {
      const asked = watch(world.pool.reset(options as never));
      await world.now();
      expect(asked.error).toMatchObject({ code: 'ERR_INVALID_OPTION' });
    }
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ opened: 1, closed: 0 });
  });

  it('after close() is refused', async () => {
    const world = await rested(1);
    await Promise.all([world.pool.close(), world.pass(10)]);
    await expect(world.pool.reset()).rejects.toMatchObject({ code: 'ERR_POOL_CLOSED' });
  });

  it('has callers served all the while, whatever comes first', async () => {
    const world = await rested(3, { max: 3 });
    world.net.outcome = { kind: 'open', afterMs: 5 };
    const reset = watch(world.pool.reset({ perSecond: 100 }));
    for (let round = 0; round < 30; round++) {
      const asked = Array.from({ length: 4 }, (_, caller) => watch(world.pool.request(`${round}:${caller}`)));
      await world.pass(20);
      expect(asked.map((one) => one.value)).toEqual([0, 1, 2, 3].map((caller) => `Echo: ${round}:${caller}`));
    }
    expect(reset.isSettled).toBe(true);
  });

  it('gets to the end on a pool that is never at rest', async () => {
    const world = await rested(2, { max: 2 });
    let isOver = false;
    const spin = async (): Promise<void> => {
      while (!isOver) {
        const lease: Lease<string, string> = await world.pool.acquire();
        await new Promise<void>((resolve) => world.clock.after(3, resolve));
        lease.release();
      }
    };
    const spinning = [1, 2, 3, 4, 5].map(() => watch(spin()));
    await world.pass(50);
    const reset = watch(world.pool.reset());
    await world.pass(2_000);
    expect(reset.isSettled).toBe(true);
    expect(open(world).every((id) => id > 2)).toBe(true);
    isOver = true;
    await world.pass(100);
    expect(spinning.every((one) => one.isSettled)).toBe(true);
  });

  it('of one pool leaves another one to the same server alone', async () => {
    const net = new FakeNet();
    const one = setUp({ min: 1 }, net);
    const other = setUp({ min: 1 }, net);
    await other.clock.advance(0);
    watch(one.pool.reset());
    await other.clock.advance(500);
    expect(one.pool.stats().closedBy).toEqual({ reset: 1 });
    expect(other.pool.stats().closed).toBe(0);
    // The audit counts the sockets of one pool.
    await Promise.all([other.pool.close(), other.clock.advance(0)]);
  });
});

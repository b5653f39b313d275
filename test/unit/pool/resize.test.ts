import { describe, expect, it } from 'vitest';
import { Ledger } from '../../../src/pool/ledger.ts';
import { setUp, take, watch } from '../../support/pool-world.ts';

describe('resize() upwards', () => {
  it('opens sockets for those who wait at once', async () => {
    const world = setUp({ max: 1 });
    await take(world, 1);
    const asked = [1, 2, 3].map(() => watch(world.pool.acquire()));
    await world.pass(100);
    world.pool.resize({ max: 3 });
    await world.now();
    expect(asked.map((one) => one.isSettled)).toEqual([true, true, false]);
    expect(world.pool.stats()).toMatchObject({ max: 3, maxIdle: 3, leased: 3, waiting: 1 });
  });

  it('fills a higher min at once, and so a higher minIdle', async () => {
    const world = setUp({ max: 10 });
    world.pool.resize({ min: 2 });
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 2, total: 2, min: 2 });
    world.pool.resize({ minIdle: 4 });
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 4, total: 4, minIdle: 4, min: 2 });
    expect(world.net.dialedAt.length).toBe(4);
  });

  it('goes far beyond the max that the pool was made with, several times', async () => {
    const world = setUp({ max: 2 });
    const leases = await take(world, 2);
    for (const max of [5, 20, 7, 40]) {
      world.pool.resize({ max });
      while (leases.length > max) leases.pop()?.destroy();
      await world.now();
      const missing = max - leases.length;
      leases.push(...(await take(world, missing)));
      expect(world.pool.stats()).toMatchObject({ leased: max, total: max });
      const one = watch(world.pool.acquire({ timeoutMs: 1 }));
      await world.pass(2);
      expect(one.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT' });
    }
  });

  it('lets more rest: a maxIdle that was as large as max goes on being so', async () => {
    const world = setUp({ max: 2 });
    world.pool.resize({ max: 4 });
    const leases = await take(world, 4);
    for (const lease of leases) lease.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 4, maxIdle: 4, closed: 0 });
  });

  it('keeps a maxIdle that was chosen', async () => {
    const world = setUp({ max: 4, maxIdle: 2 });
    world.pool.resize({ max: 8 });
    expect(world.pool.stats()).toMatchObject({ max: 8, maxIdle: 2 });
  });

  it('is what ready() waits for from then on', async () => {
    const world = setUp({ min: 1 });
    world.net.outcome = { kind: 'open', afterMs: 50 };
    const ready = watch(world.pool.ready());
    await world.pass(20);
    world.pool.resize({ min: 3 });
    await world.pass(35);
    expect(ready.isSettled).toBe(false);
    await world.pass(50);
    expect(ready.isSettled).toBe(true);
    expect(world.pool.stats().idle).toBe(3);
  });
});

describe('resize() downwards', () => {
  it('ends what rests at once, from the bottom of the shelf, and leaves what is needed', async () => {
    const world = setUp({ max: 6 });
    const leases = await take(world, 6);
    for (const lease of leases) lease.release();
    const closed: string[] = [];
    world.pool.on('closed', ({ connectionId, reason }) => closed.push(`${connectionId}:${reason}`));
    world.pool.resize({ max: 4 });
    await world.now();
    expect(closed).toEqual(['1:surplus', '2:surplus']);
    expect(world.pool.stats()).toMatchObject({ idle: 4, total: 4, max: 4, maxIdle: 4 });
  });

  it('ends what is leased when it comes back, whoever comes first, and nobody is cut off', async () => {
    const world = setUp({ max: 4 });
    const leases = await take(world, 4);
    world.pool.resize({ max: 2 });
    await world.now();
    expect(world.pool.stats()).toMatchObject({ leased: 4, total: 4, max: 2 });
    for (const lease of leases) expect(await lease.request('on')).toBe('Echo: on');
    for (const lease of leases) {
      lease.release();
      await world.now();
    }
    expect(world.pool.stats()).toMatchObject({ idle: 2, total: 2, closedBy: { surplus: 2 } });
  });

  it('ends resting ones first, though others are leased', async () => {
    const world = setUp({ max: 4 });
    const leases = await take(world, 4);
    leases[3]?.release();
    leases[2]?.release();
    world.pool.resize({ max: 3 });
    await world.now();
    expect(world.pool.stats()).toMatchObject({ leased: 2, idle: 1, total: 3 });
    world.pool.resize({ max: 1 });
    await world.now();
    expect(world.pool.stats()).toMatchObject({ leased: 2, idle: 0, total: 2 });
    leases[0]?.release();
    leases[1]?.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ leased: 0, idle: 1, total: 1, closedBy: { surplus: 3 } });
  });

  it('opens nothing while there is more than max, though callers wait, and serves them by what comes back', async () => {
    const world = setUp({ max: 4 });
    const leases = await take(world, 4);
    world.pool.resize({ max: 2 });
    const asked = [1, 2].map(() => watch(world.pool.acquire()));
    leases[0]?.destroy();
    leases[1]?.release();
    await world.now();
    expect(asked.map((one) => one.isSettled)).toEqual([false, false]);
    expect(world.pool.stats()).toMatchObject({ leased: 2, total: 2, dialing: 0, opened: 4 });
    leases[2]?.release();
    await world.now();
    expect(asked.map((one) => one.isSettled)).toEqual([true, false]);
    leases[3]?.destroy();
    await world.now();
    // A place is free again, below the new max.
    expect(asked.map((one) => one.isSettled)).toEqual([true, true]);
    expect(world.pool.stats()).toMatchObject({ leased: 2, opened: 5 });
  });

  it('while dials are under way lets them end, and keeps no more than max of their sockets', async () => {
    const world = setUp({ max: 6, maxConnecting: 6 });
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const asked = Array.from({ length: 6 }, () => watch(world.pool.acquire()));
    await world.pass(50);
    world.pool.resize({ max: 2 });
    await world.pass(500);
    expect(asked.filter((one) => one.isSettled).length).toBe(2);
    expect(world.pool.stats()).toMatchObject({ leased: 2, total: 2, waiting: 4 });
  });

  it('with a smaller maxIdle ends what may not rest', async () => {
    const world = setUp({ max: 5 });
    const leases = await take(world, 5);
    for (const lease of leases) lease.release();
    world.pool.resize({ maxIdle: 1 });
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 1, total: 1, max: 5, closedBy: { surplus: 4 } });
  });

  it('with a smaller min lets the idle timeout take the rest', async () => {
    const world = setUp({ min: 3, idleTimeoutMs: 5_000 });
    await world.pass(10_000);
    expect(world.pool.stats().idle).toBe(3);
    world.pool.resize({ min: 1 });
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, closedBy: { idle: 2 } });
  });

  it('lets ready() be true when less is meant than was', async () => {
    const world = setUp({ min: 3, maxConnecting: 1 });
    world.net.script = [{ kind: 'open', afterMs: 10 }];
    world.net.outcome = { kind: 'hang' };
    const ready = watch(world.pool.ready());
    await world.pass(50);
    expect(ready.isSettled).toBe(false);
    world.pool.resize({ min: 1 });
    await world.now();
    expect(ready).toMatchObject({ isSettled: true, error: undefined });
  });

  it('and up again takes back what was too much', async () => {
    const world = setUp({ max: 4 });
    const leases = await take(world, 4);
    world.pool.resize({ max: 1 });
    world.pool.resize({ max: 4 });
    for (const lease of leases) lease.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 4, closed: 0, max: 4, maxIdle: 4 });
  });

  it('of a socket that closes slowly holds its place until it has closed', async () => {
    const world = setUp({ max: 2 });
    const leases = await take(world, 2);
    for (const lease of leases) lease.release();
    for (const peer of world.net.peers) peer.isMute = true;
    world.pool.resize({ max: 1 });
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 1, closing: 1, total: 2 });
    const asked = [1, 2].map(() => watch(world.pool.acquire()));
    world.pool.resize({ max: 2 });
    await world.now();
    expect(asked.map((one) => one.isSettled)).toEqual([true, false]);
    await world.pass(501);
    expect(asked.map((one) => one.isSettled)).toEqual([true, true]);
  });

  it('and up again during a reset dials no socket more than those who wait need', async () => {
    const world = setUp({ max: 1 });
    for (const lease of await take(world, 1)) lease.release();
    world.net.lastPeer.isMute = true;
    const reset = watch(world.pool.reset());
    expect(world.pool.stats().closing).toBe(1);
    const asked = watch(world.pool.acquire());
    world.pool.resize({ max: 4 });
    await world.pass(1_000);
    // The successor of the one that went first serves the caller.
    expect(asked.value?.connectionId).toBe(2);
    expect(reset.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ leased: 1, total: 1, opened: 2 });
  });

  it('during a reset does not hold it up: what is left is replaced all the same', async () => {
    const world = setUp({ min: 2, max: 4 });
    const leases = await take(world, 4);
    for (const lease of leases) lease.release();
    for (const peer of world.net.peers) peer.isMute = true;
    const reset = watch(world.pool.reset({ perSecond: 1_000 }));
    // The first one is on its way out, at max, when the places become fewer.
    expect(world.pool.stats().closing).toBe(1);
    world.pool.resize({ max: 2 });
    await world.pass(10_000);
    expect(reset.isSettled).toBe(true);
    expect(world.pool.sockets().every(({ connectionId }) => connectionId > 4)).toBe(true);
    expect(world.pool.stats()).toMatchObject({ idle: 2, total: 2 });
  });
});

describe('resize()', () => {
  it('with sizes that contradict each other throws and changes nothing', async () => {
    const world = setUp({ min: 2, minIdle: 1, maxIdle: 4, max: 8 });
    await world.now();
    const wrong: [object, RegExp][] = [
      [{ max: 1 }, /min|maxIdle/],
      [{ max: 3 }, /maxIdle/],
      [{ min: 9 }, /min/],
      [{ min: 5 }, /maxIdle/],
      [{ minIdle: 5 }, /maxIdle/],
      [{ maxIdle: 1 }, /maxIdle/],
      [{ maxIdle: 9 }, /maxIdle/],
      [{ max: 20, min: 21 }, /min/],
      [{ max: 0, min: 0, minIdle: 0, maxIdle: 0 }, /max/],
      [{ max: 1.5 }, /max/],
      [{ max: Number.POSITIVE_INFINITY }, /max/],
      [{ min: -1 }, /min/],
      [{ minIdle: '1' }, /minIdle/],
    ];
    for (const [sizes, name] of wrong) {
      expect(() => world.pool.resize(sizes)).toThrowError(
        expect.objectContaining({ code: 'ERR_INVALID_OPTION', message: expect.stringMatching(name) }),
      );
      expect(world.pool.stats()).toMatchObject({ min: 2, minIdle: 1, maxIdle: 4, max: 8 });
    }
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 2, opened: 2, closed: 0 });
  });

  it('refuses names that it does not know, and what is no object', () => {
    const world = setUp();
    for (const wrong of [{ maxConnecting: 3 }, { maximum: 3 }, null, undefined, 5, [1]]) {
      expect(() => world.pool.resize(wrong as never)).toThrowError(
        expect.objectContaining({ code: 'ERR_INVALID_OPTION' }),
      );
    }
    expect(world.pool.stats()).toMatchObject({ max: 10 });
  });

  it('takes what is left out, or undefined, as it is', async () => {
    const world = setUp({ min: 1, max: 3 });
    world.pool.resize({});
    world.pool.resize({ min: undefined, max: 5 });
    expect(world.pool.stats()).toMatchObject({ min: 1, minIdle: 0, maxIdle: 5, max: 5 });
    await world.now();
    expect(world.pool.stats().idle).toBe(1);
  });

  it('may be called before the first turn', async () => {
    const world = setUp({ min: 1 });
    world.pool.resize({ min: 3 });
    await world.now();
    expect(world.pool.stats().idle).toBe(3);
  });

  it('throws after close(), also while leases are held', async () => {
    const world = setUp();
    const [lease] = await take(world, 1);
    const closing = watch(world.pool.close());
    expect(() => world.pool.resize({ max: 2 })).toThrowError(
      expect.objectContaining({ code: 'ERR_POOL_CLOSED' }),
    );
    lease?.release();
    await world.now();
    expect(closing.isSettled).toBe(true);
    expect(() => world.pool.resize({ max: 2 })).toThrowError(
      expect.objectContaining({ code: 'ERR_POOL_CLOSED' }),
    );
  });

  it('while the server is down is kept until it is back', async () => {
    const world = setUp({ min: 1, retry: { retries: 0 } });
    world.net.outcome = { kind: 'refuse' };
    await world.pass(1_000);
    world.pool.resize({ min: 3 });
    await world.pass(5_000);
    expect(world.pool.stats()).toMatchObject({ idle: 0, dialing: 1 });
    world.net.outcome = { kind: 'open' };
    await world.pass(3_000);
    expect(world.pool.stats()).toMatchObject({ idle: 3, total: 3 });
  });
});

describe('the ledger of generic-pools, whose own max is fixed', () => {
  /** Enters as many as there is room for. */
  async function fill(ledger: Ledger<{ id: number }>): Promise<{ id: number }[]> {
    const entries: { id: number }[] = [];
    while (ledger.hasRoom) {
      const entry = { id: entries.length };
      entries.push(entry);
      await ledger.enter(entry, () => Promise.resolve());
    }
    return entries;
  }

  it('has room for exactly as many as it was last told', async () => {
    const ledger = new Ledger<{ id: number }>(3);
    const entries = await fill(ledger);
    expect(entries.length).toBe(3);
    ledger.resize(5);
    entries.push(...(await fill(ledger)));
    expect(ledger).toMatchObject({ size: 5, booked: 5, max: 5, hasRoom: false });
    ledger.resize(2);
    for (const size of [4, 3, 2]) {
      const entry = entries.shift();
      if (entry !== undefined) ledger.strike(entry);
      expect(ledger).toMatchObject({ size, hasRoom: false });
    }
    const last = entries.shift();
    if (last !== undefined) ledger.strike(last);
    expect(ledger.hasRoom).toBe(true);
    entries.push(...(await fill(ledger)));
    expect(ledger).toMatchObject({ size: 2, booked: 2 });
    ledger.resize(6);
    entries.push(...(await fill(ledger)));
    expect(ledger).toMatchObject({ size: 6, booked: 6, hasRoom: false });
    for (const entry of entries) ledger.strike(entry);
    expect(ledger).toMatchObject({ size: 0 });
    await ledger.end();
    expect(ledger.booked).toBe(0);
  });

  it('refuses what there is no room for, and what is not on its books', async () => {
    const ledger = new Ledger<{ id: number }>(1);
    const entries = await fill(ledger);
    await expect(ledger.enter({ id: 9 }, () => Promise.resolve())).rejects.toThrow('bug');
    expect(() => ledger.strike({ id: 8 })).toThrow('bug');
    for (const entry of entries) ledger.strike(entry);
    await ledger.end();
  });
});

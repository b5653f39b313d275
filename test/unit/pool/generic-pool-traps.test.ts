/**
 * What generic-pool 3.9.0 does to those who use it plainly, and what a user of pulsepool sees instead. The numbers are
 * those of the traps that were found in its source and run; docs/decisions/0001 says how they are avoided. Those about
 * priorities, validation hooks and its own evictor have nothing here that could reach a user.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, expect, it, vi } from 'vitest';
import { Ledger } from '../../../src/pool/ledger.ts';
import { HEARTBEAT, setUp, take, watch } from '../../support/pool-world.ts';

describe('generic-pool’s trap', () => {
  it('1: a create that fails is called again at once, for ever', async () => {
    const { net, pool, pass } = setUp();
    net.outcome = { kind: 'refuse' };
    const asked = watch(pool.acquire());
    await pass(5_000);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_REFUSED' } });
    expect(net.dialedAt.length).toBe(4);
  });

  it('2: a create that rejects in a microtask starves the event loop', async () => {
    const { net, pool } = setUp();
    net.outcome = { kind: 'throw', error: new Error('in a microtask') };
    pool.acquire().catch(() => undefined);
    // A real turn of the loop: it must come.
    await new Promise((resolve) => setImmediate(resolve));
    expect(net.dialedAt.length).toBe(1);
  });

  it('3: a create that throws synchronously throws out of acquire and leaves the waiter queued', async () => {
    const { net, pool, now } = setUp({ codec: flakyCodec(1) });
    const asked = watch(pool.acquire());
    await now();
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED' });
    expect(pool.stats().waiting).toBe(0);
    expect(net.openSockets).toBe(0);
  });

  it('4: a validation that throws leaves the resource stuck and every later acquire without an answer', async () => {
    const world = setUp({
      max: 1,
      heartbeat: {
        ...HEARTBEAT,
        isPong: () => {
          throw new Error('mine');
        },
      },
    });
    await world.pool.request('warm');
    world.clock.freeze(5_000);
    const asked = watch(world.pool.acquire());
    await world.now();
    expect(asked.value?.connectionId).toBe(2);
  });

  it('6: a validation that hangs keeps others from healthy sockets', async () => {
    const world = setUp({ max: 3, heartbeat: HEARTBEAT });
    for (const lease of await take(world, 3)) lease.release();
    world.net.lastPeer.isMute = true;
    world.clock.freeze(5_000);
    const asked = [1, 2].map(() => watch(world.pool.acquire()));
    await world.now();
    expect(asked.every((one) => one.isSettled)).toBe(true);
  });

  it('8 and 9: waiters that time out together corrupt the queue, and those behind them are lost', async () => {
    const world = setUp({ max: 1, acquireTimeoutMs: 100 });
    const [lease] = await take(world, 1);
    const early = [1, 2, 3].map(() => watch(world.pool.acquire()));
    const late = [1, 2, 3].map(() => watch(world.pool.acquire({ timeoutMs: 10_000 })));
    await world.pass(101);
    expect(early.every((one) => one.error !== undefined)).toBe(true);
    lease?.release();
    for (const one of late) {
      await world.now();
      one.value?.release();
    }
    expect(late.every((one) => one.value !== undefined)).toBe(true);
  });

  it('12: drain has no deadline, and dials on when the server is down', async () => {
    const world = setUp({ max: 2 });
    await take(world, 1);
    world.net.outcome = { kind: 'refuse' };
    watch(world.pool.acquire());
    await world.now();
    const before = world.net.dialedAt.length;
    const closing = watch(world.pool.close({ timeoutMs: 5_000 }));
    await world.pass(5_001);
    expect(closing.value).toMatchObject({ forced: 1 });
    expect(world.net.dialedAt.length).toBe(before);
  });

  it('13: a cleared pool lends destroyed resources', async () => {
    const world = setUp({ min: 1 });
    await world.now();
    const closing = watch(world.pool.close());
    await world.now();
    expect(closing.isSettled).toBe(true);
    await expect(world.pool.acquire()).rejects.toMatchObject({ code: 'ERR_POOL_CLOSED' });
  });

  it('15: an idle resource that died can’t be removed', async () => {
    const world = setUp({ max: 3 });
    for (const lease of await take(world, 3)) lease.release();
    await world.pass(2_000);
    world.net.peers[1]?.fin();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 2, total: 2 });
  });

  it('16: min is not restored after the server was down at the start', async () => {
    const world = setUp({ min: 3 });
    world.net.outcome = { kind: 'refuse' };
    await world.pass(10_000);
    expect(world.pool.stats().opened).toBe(0);
    world.net.outcome = { kind: 'open' };
    await world.pass(2_000);
    expect(world.pool.stats().idle).toBe(3);
  });

  it('17: the idle timeout ignores min', async () => {
    const world = setUp({ min: 2, idleTimeoutMs: 400 });
    await world.pass(20_000);
    expect(world.pool.stats()).toMatchObject({ idle: 2, opened: 2, closed: 0 });
  });

  it('20: a heartbeat hides idleness and disturbs the order', async () => {
    const world = setUp({ max: 2, idleTimeoutMs: 5_000, heartbeat: HEARTBEAT });
    for (const lease of await take(world, 2)) lease.release();
    await world.pass(6_000);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { idle: 2 } });
    expect(world.pool.stats().pinged).toBeGreaterThan(4);
  });

  it('22: a throwing listener of create errors stops everything', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const world = setUp();
    world.net.script = [{ kind: 'refuse' }];
    world.pool.on('dialFailed', () => {
      throw new Error('mine');
    });
    const asked = watch(world.pool.acquire());
    await world.pass(1_000);
    expect(asked.value?.isUsable).toBe(true);
    expect(warn).toHaveBeenCalledTimes(1);
    warn.mockRestore();
  });

  it('23: released twice, one resource is lent to two', async () => {
    const world = setUp({ max: 1 });
    const [first] = await take(world, 1);
    first?.release();
    const second = watch(world.pool.acquire());
    const third = watch(world.pool.acquire());
    expect(() => first?.release()).toThrow();
    await world.now();
    expect([second.isSettled, third.isSettled]).toEqual([true, false]);
  });

  it('25: use() with a callback that returns no promise leaks the loan', async () => {
    const world = setUp({ max: 1 });
    expect(await world.pool.use(() => 7)).toBe(7);
    expect(world.pool.stats()).toMatchObject({ leased: 0, idle: 1 });
  });

  it('27: resources being destroyed are not counted, so more than max are open', async () => {
    const world = setUp({ max: 2, maxIdle: 0 });
    for (let round = 0; round < 5; round++) {
      const asked = [1, 2].map(() => watch(world.pool.acquire()));
      await world.now();
      for (const peer of world.net.peers) peer.isMute = true;
      expect(world.net.openSockets).toBeLessThanOrEqual(2);
      for (const one of asked) one.value?.release();
      await world.now();
      expect(world.net.openSockets).toBeLessThanOrEqual(2);
      await world.pass(600);
    }
    expect(world.pool.stats().opened).toBe(10);
  });

  it('29: ready() polls for ever and never rejects', async () => {
    const world = setUp({ min: 1, retry: { retries: 0 } });
    world.net.outcome = { kind: 'refuse' };
    const ready = watch(world.pool.ready());
    await world.now();
    expect(ready.error).toMatchObject({ code: 'ERR_REFUSED' });
  });

  it('30: the factory runs in the async context of whoever happened to call', async () => {
    const storage = new AsyncLocalStorage<string>();
    const seen: (string | undefined)[] = [];
    const world = storage.run('pool', () => setUp({ onConnect: () => void seen.push(storage.getStore()) }));
    await storage.run('caller', () => take(world, 1));
    expect(seen).toEqual(['pool']);
  });

  it('31: as many dials as waiters, also when a release serves them', async () => {
    const world = setUp({ max: 50 });
    const leases = await take(world, 1);
    world.net.outcome = { kind: 'open', afterMs: 150 };
    const done: number[] = [];
    const work = Array.from({ length: 50 }, async (_, caller) => {
      const lease = await world.pool.acquire();
      await new Promise<void>((resolve) => world.clock.after(2, resolve));
      lease.release();
      done.push(caller);
    });
    leases[0]?.release();
    await world.pass(400);
    await Promise.all(work);
    expect(done.length).toBe(50);
    expect(world.net.dialedAt.length).toBeLessThanOrEqual(6);
  });

  it('not on the list: what is born first is given to whoever asked first', async () => {
    const ledger = new Ledger<{ name: string }>(2);
    const [slow, fast] = [{ name: 'slow' }, { name: 'fast' }];
    const entered: string[] = [];
    let finishSlow = (): void => undefined;
    const slowBirth = new Promise<void>((resolve) => {
      finishSlow = resolve;
    });
    const both = [
      ledger.enter(slow, () => slowBirth).then(() => entered.push('slow')),
      ledger.enter(fast, () => Promise.resolve()).then(() => entered.push('fast')),
    ];
    await new Promise((resolve) => setImmediate(resolve));
    expect(entered).toEqual(['fast']);
    ledger.strike(fast);
    finishSlow();
    await Promise.all(both);
    expect(entered).toEqual(['fast', 'slow']);
    ledger.strike(slow);
    expect([ledger.size, ledger.booked]).toEqual([0, 0]);
    await ledger.end();
  });
});

/** Works for so many connections (and the trial at the start), then throws. */
function flakyCodec(works: number) {
  let made = 0;
  return () => {
    made += 1;
    if (made > works) throw new Error('no codec');
    return { encode: (text: string) => Buffer.from(text), decode: () => undefined };
  };
}

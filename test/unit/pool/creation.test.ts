import { describe, expect, it } from 'vitest';
import type { AcquireError } from '../../../src/errors.ts';
import type { Lease } from '../../../src/pool/lease.ts';
import { type Outcome, setUp, take, type World, watch } from '../../support/pool-world.ts';

/** Callers who hold their lease for a while, as one who waits for an answer does. */
function callers(world: World, count: number, holdMs: number): { served: () => number } {
  let served = 0;
  const call = async (): Promise<void> => {
    const lease = await world.pool.acquire();
    world.clock.after(holdMs, () => {
      served += 1;
      lease.release();
    });
  };
  for (let index = 0; index < count; index++) watch(call());
  return { served: () => served };
}

/** How many dials had been running at most, looked at each ms. */
async function mostDials(world: World, ms: number): Promise<number> {
  let most = 0;
  for (let step = 0; step < ms; step++) {
    await world.pass(1);
    most = Math.max(most, world.net.dialing);
  }
  return most;
}

// HikariCP, "Welcome to the Jungle": 150 ms to connect, 2 ms to work, 50 callers at once, 5 sockets at rest, 50 at most.
describe('the spike test of HikariCP', () => {
  it('ends with one socket more than there were, and everybody served long before a dial is done', async () => {
    const world = setUp({ min: 5, max: 50 });
    await world.now();
    world.net.outcome = { kind: 'open', afterMs: 150 };
    const { served } = callers(world, 50, 2);
    await world.pass(25);
    expect(served()).toBe(50);
    await world.pass(500);
    expect(world.pool.stats().total).toBeLessThanOrEqual(6);
    expect(world.net.dialedAt.length).toBeLessThanOrEqual(6);
  });

  it('ends so, too, when the five were opened for callers of an earlier rush', async () => {
    const world = setUp({ max: 50 });
    world.net.outcome = { kind: 'open', afterMs: 150 };
    callers(world, 5, 200);
    await world.pass(2_000);
    expect(world.pool.stats()).toMatchObject({ idle: 5, total: 5 });
    const { served } = callers(world, 50, 2);
    await world.pass(25);
    expect(served()).toBe(50);
    await world.pass(500);
    expect(world.pool.stats().total).toBeLessThanOrEqual(6);
  });

  it('adds one socket for each rush at most when it comes again and again', async () => {
    const world = setUp({ min: 5, max: 50 });
    await world.now();
    world.net.outcome = { kind: 'open', afterMs: 150 };
    for (let spike = 0; spike < 5; spike++) {
      const { served } = callers(world, 50, 2);
      await world.pass(30);
      expect(served()).toBe(50);
      await world.pass(1_970);
    }
    expect(world.pool.stats().total).toBeLessThanOrEqual(10);
  });
});

describe('the ramp', () => {
  it('is left out when leases are held so long that dials are done before everybody is served', async () => {
    const world = setUp({ max: 50, maxConnecting: 8 });
    world.net.outcome = { kind: 'open', afterMs: 20 };
    for (let round = 0; round < 6; round++) {
      callers(world, 4, 200);
      await world.pass(1_000);
    }
    callers(world, 50, 200);
    expect(await mostDials(world, 20)).toBe(8);
  });

  it('lets as many dials as maxConnecting run side by side while no socket is open', async () => {
    const world = setUp({ max: 20, maxConnecting: 6 });
    world.net.outcome = { kind: 'open', afterMs: 100 };
    for (let caller = 0; caller < 20; caller++) watch(world.pool.acquire());
    await world.pass(50);
    expect(world.net.dialing).toBe(6);
  });

  it('starts with one dial while open sockets serve, and doubles with each that was still needed', async () => {
    const world = setUp({ min: 1, max: 30, maxConnecting: 8 });
    await world.now();
    world.net.outcome = { kind: 'open', afterMs: 100 };
    for (let caller = 0; caller < 30; caller++) watch(world.pool.acquire());
    const most = [await mostDials(world, 99)];
    for (let round = 0; round < 4; round++) most.push(await mostDials(world, 100));
    // Two that end together, and were both needed: twice as many, and twice again.
    expect(most).toEqual([1, 2, 8, 8, 8]);
    await world.pass(500);
    expect(world.pool.stats()).toMatchObject({ leased: 30, waiting: 0 });
  });

  it('starts again with one when a dial was not needed', async () => {
    const world = setUp({ min: 1, max: 30, maxConnecting: 8 });
    await world.now();
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const rush = callers(world, 12, 300);
    await world.pass(1_000);
    expect(rush.served()).toBe(12);
    const first = await take(world, world.pool.stats().idle);
    const asked = watch(world.pool.acquire());
    await world.pass(50);
    first[0]?.release();
    await world.pass(60);
    expect(asked.isSettled).toBe(true);
    for (let caller = 0; caller < 5; caller++) watch(world.pool.acquire());
    await world.pass(50);
    expect(world.net.dialing).toBeLessThanOrEqual(1);
  });

  it('of 1 opens one at a time, even with nothing open', async () => {
    const world = setUp({ max: 5, maxConnecting: 1 });
    world.net.outcome = { kind: 'open', afterMs: 10 };
    for (let caller = 0; caller < 5; caller++) watch(world.pool.acquire());
    expect(await mostDials(world, 60)).toBe(1);
    expect(world.pool.stats().leased).toBe(5);
  });

  it('does not slow down what min asks for, though callers are being served', async () => {
    const world = setUp({ min: 4, max: 8 });
    world.net.script = [{ kind: 'open' }];
    world.net.outcome = { kind: 'open', afterMs: 100 };
    await take(world, 1);
    expect(world.net.dialing).toBe(3);
  });

  it('dials for those who wait only: a caller who is served by a release needs no socket of their own', async () => {
    const world = setUp({ max: 10 });
    const [lease] = await take(world, 1);
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const asked = watch(world.pool.acquire());
    await world.pass(10);
    lease?.release();
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
    await world.pass(500);
    // The dial that was under way is kept, and no other one is started.
    expect(world.pool.stats()).toMatchObject({ leased: 1, idle: 1, total: 2 });
  });
});

describe('a dial whose demand has gone', () => {
  it('is not started: the caller gave up while it waited for its back-off', async () => {
    const world = setUp({ retry: { baseMs: 1_000 } });
    world.net.outcome = { kind: 'refuse' };
    const controller = new AbortController();
    const asked = watch(world.pool.acquire({ signal: controller.signal }));
    await world.pass(10);
    expect(world.net.dialedAt.length).toBe(1);
    expect(world.pool.stats().dialing).toBe(1);
    controller.abort('enough');
    await world.pass(5_000);
    expect(asked.error).toBe('enough');
    expect(world.net.dialedAt.length).toBe(1);
    expect(world.pool.stats()).toMatchObject({ total: 0, dialing: 0 });
  });

  it('is not started: the caller was served by a release while it waited for its back-off', async () => {
    const world = setUp({ max: 5, retry: { baseMs: 1_000 } });
    const [lease] = await take(world, 1);
    world.net.outcome = { kind: 'refuse' };
    const asked = watch(world.pool.acquire());
    await world.pass(10);
    lease?.release();
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
    await world.pass(5_000);
    expect(world.net.dialedAt.length).toBe(2);
    expect(world.pool.stats()).toMatchObject({ leased: 1, total: 1 });
  });

  it('is not started beyond the callers who are left', async () => {
    const world = setUp({ max: 10, maxConnecting: 2 });
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const controllers = Array.from({ length: 8 }, () => new AbortController());
    for (const { signal } of controllers) watch(world.pool.acquire({ signal }));
    await world.pass(50);
    for (const controller of controllers.slice(2)) controller.abort();
    await world.pass(500);
    expect(world.net.dialedAt.length).toBe(2);
    expect(world.pool.stats()).toMatchObject({ leased: 2, total: 2 });
  });

  it('is finished when it runs already, and its socket rests for the next caller', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const asked = watch(world.pool.acquire({ timeoutMs: 50 }));
    await world.pass(60);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT' });
    await world.pass(50);
    expect(world.pool.stats()).toMatchObject({ idle: 1 });
    const next = watch(world.pool.acquire());
    await world.now();
    expect(next.value?.connectionId).toBe(1);
  });
});

describe('while the server is known to be down', () => {
  /** A pool that has learned so from its first caller, and is at the start of a back-off of a second. */
  async function down(): Promise<{ world: World; first: Outcome<Lease<string, string>> }> {
    const world = setUp({ retry: { retries: 0, baseMs: 2_000, capMs: 2_000 } });
    world.net.outcome = { kind: 'refuse' };
    const first = watch(world.pool.acquire());
    await world.now();
    return { world, first };
  }

  it('a caller is told in the next turn, with the dial’s error as cause and when the next dial is due', async () => {
    const { world, first } = await down();
    expect(first.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_REFUSED' } });
    await world.pass(400);
    const asked = watch(world.pool.acquire());
    // Not in the same turn: whoever asks again and again would starve the event loop.
    for (let microtask = 0; microtask < 10; microtask++) await Promise.resolve();
    expect(asked.isSettled).toBe(false);
    await world.now();
    const error = asked.error as AcquireError;
    expect(error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', retryable: true, waitedMs: 0 });
    expect(error.cause).toMatchObject({ code: 'ERR_REFUSED' });
    expect(error.message).toContain('The next dial is due in 600 ms.');
    expect(world.net.dialedAt.length).toBe(1);
  });

  it('any number of callers costs one dial after each back-off, and none waits', async () => {
    const { world } = await down();
    for (let round = 0; round < 9; round++) {
      const asked = Array.from({ length: 20 }, () => watch(world.pool.acquire()));
      await world.now();
      expect(asked.every(({ isSettled }) => isSettled)).toBe(true);
      await world.pass(100);
    }
    expect(world.net.dialedAt.length).toBe(1);
    await world.pass(150);
    expect(world.net.dialedAt.length).toBe(2);
    expect(world.pool.stats()).toMatchObject({ failed: 181, waiting: 0 });
  });

  it('each refusal is counted and told', async () => {
    const { world } = await down();
    const before = world.told.filter((event) => event === 'acquireFailed').length;
    watch(world.pool.acquire());
    watch(world.pool.request('hello', { timeoutMs: 50 }));
    await world.pass(100);
    expect(world.told.filter((event) => event === 'acquireFailed').length).toBe(before + 2);
  });

  it('a caller who has asked is enough for the pool to heal: the next dial is made though nobody waits', async () => {
    const { world } = await down();
    watch(world.pool.acquire());
    await world.now();
    world.net.outcome = { kind: 'open' };
    await world.pass(1_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, opened: 1 });
    const reply = watch(world.pool.request('hello'));
    await world.now();
    expect(reply.value).toBe('Echo: hello');
  });

  it('nobody who asks means no dial: the pool without min leaves a dead server alone', async () => {
    const { world } = await down();
    await world.pass(60_000);
    expect(world.net.dialedAt.length).toBe(1);
  });

  it('a caller who comes after the back-off waits for a dial of its own time', async () => {
    const { world } = await down();
    await world.pass(1_100);
    world.net.outcome = { kind: 'open', afterMs: 50 };
    const asked = watch(world.pool.acquire());
    await world.pass(40);
    expect(asked.isSettled).toBe(false);
    await world.pass(20);
    expect(asked.value?.isUsable).toBe(true);
  });

  it('callers who come while the probe is out wait for its answer', async () => {
    const { world } = await down();
    await world.pass(1_100);
    world.net.outcome = { kind: 'refuse', afterMs: 50 };
    const early = watch(world.pool.acquire());
    await world.pass(20);
    const late = watch(world.pool.acquire());
    await world.pass(20);
    expect([early, late].map((one) => one.isSettled)).toEqual([false, false]);
    await world.pass(20);
    for (const { error } of [early, late]) expect(error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED' });
    expect(world.net.dialedAt.length).toBe(2);
  });

  it('a call that is aborted before it begins is told that, not that the server is down', async () => {
    const { world } = await down();
    const asked = watch(world.pool.acquire({ signal: AbortSignal.abort('mine') }));
    await world.now();
    expect(asked.error).toBe('mine');
  });

  it('a caller hopes while one socket is open: nobody is refused for a dial that fails', async () => {
    const world = setUp({ max: 2, retry: { retries: 0, baseMs: 2_000, capMs: 2_000 } });
    const [lease] = await take(world, 1);
    world.net.outcome = { kind: 'refuse' };
    const asked = watch(world.pool.acquire());
    await world.pass(500);
    expect(asked.isSettled).toBe(false);
    lease?.release();
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
  });

  it('closing the pool in the turn of a refusal tells that it closes', async () => {
    const { world } = await down();
    const asked = watch(world.pool.acquire());
    const closing = watch(world.pool.close());
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_POOL_CLOSED' });
    expect(closing.isSettled).toBe(true);
  });

  it('a server that will never do fails callers at once, too, and is asked again after the back-off only', async () => {
    const world = setUp({ retry: { baseMs: 2_000, capMs: 2_000 } });
    world.net.outcome = { kind: 'refuse', retryable: false };
    for (let caller = 0; caller < 10; caller++) {
      const asked = watch(world.pool.acquire());
      await world.pass(50);
      expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', retryable: false });
    }
    expect(world.net.dialedAt.length).toBe(1);
  });
});

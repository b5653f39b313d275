import { describe, expect, it } from 'vitest';
import { type Options, setUp, take, watch } from '../../support/pool-world.ts';

/** A pool of one socket, which is held. */
async function exhausted(options: Options = {}) {
  const world = setUp({ max: 1, ...options });
  const [held] = await take(world, 1);
  const served: string[] = [];
  const refused: string[] = [];
  /** Waits for a lease, holds it for `holdMs` and gives it back. */
  const ask = (name: string, bounds: { priority?: number; timeoutMs?: number } = {}, holdMs = 0): void => {
    world.pool.acquire(bounds).then(
      async (lease) => {
        served.push(name);
        if (holdMs > 0) await new Promise<void>((resolve) => world.clock.after(holdMs, resolve));
        lease.release();
      },
      (error: { code: string }) => refused.push(`${name} ${error.code}`),
    );
  };
  return { ...world, ask, served, refused, release: () => held?.release() };
}

describe('a priority', () => {
  it('lets who is worth more go first, and those of the same worth in the order in which they came', async () => {
    const { ask, now, release, served } = await exhausted();
    ask('low', { priority: -1 });
    ask('usual');
    ask('high', { priority: 1 });
    ask('also high', { priority: 1 });
    ask('also usual');
    release();
    await now();
    expect(served).toEqual(['high', 'also high', 'usual', 'also usual', 'low']);
  });

  it('of a request counts for its wait', async () => {
    const { net, now, pool, release } = await exhausted();
    watch(pool.request('usual'));
    watch(pool.request('high', { priority: 10 }));
    watch(pool.request('low', { priority: -10 }));
    release();
    await now();
    expect(net.lastPeer.received).toBe('high\nusual\nlow\n');
  });

  it('of use() counts for its wait', async () => {
    const { now, pool, release } = await exhausted();
    const order: string[] = [];
    watch(pool.use(() => void order.push('usual')));
    watch(pool.use(() => void order.push('high'), { priority: 3 }));
    release();
    await now();
    expect(order).toEqual(['high', 'usual']);
  });

  it('is worth a second of waiting for each level: nobody waits for ever', async () => {
    const { ask, now, pass, release, served } = await exhausted();
    ask('old and low', { priority: -2 });
    await pass(2_100);
    ask('new');
    await pass(3_200);
    ask('newest and high', { priority: 3 });
    release();
    await now();
    expect(served).toEqual(['old and low', 'new', 'newest and high']);
  });

  it('does not starve the lowest under a stream of the highest', async () => {
    const { ask, clock, pass, served, release } = await exhausted();
    ask('lowest', { priority: -10 });
    for (let second = 0; second < 30; second++) {
      for (let caller = 0; caller < 20; caller++) ask('highest', { priority: 10 }, 60);
      if (second === 0) release();
      await pass(1_000);
      if (served.includes('lowest')) break;
    }
    expect(served).toContain('lowest');
    expect(clock.now()).toBeGreaterThan(15_000);
    await pass(60_000);
  }, 20_000);

  it.each([11, -11, 0.5, Number.NaN, Number.POSITIVE_INFINITY, '1', null])(
    'of %s is refused by acquire, request and use, and nothing is sent',
    async (priority) => {
      const { net, pool } = setUp();
      const bounds = { priority: priority as number };
      for (const call of [
        pool.acquire(bounds),
        pool.request('hello', bounds),
        pool.use(() => undefined, bounds),
      ]) {
        await expect(call).rejects.toMatchObject({
          code: 'ERR_INVALID_OPTION',
          message: expect.stringContaining('priority'),
        });
      }
      expect(net.dialedAt).toEqual([]);
    },
  );
});

describe('maxWaiting', () => {
  it('refuses the next caller with ERR_OVERLOADED, in the next turn and not at once', async () => {
    const { clock, now, pool } = await exhausted({ maxWaiting: 2 });
    const waiting = [1, 2].map(() => watch(pool.acquire()));
    const refused = watch(pool.acquire());
    await Promise.resolve();
    expect(refused.isSettled).toBe(false);
    expect(clock.pendingTurns).toBeGreaterThan(0);
    await now();
    expect(refused.error).toMatchObject({
      code: 'ERR_OVERLOADED',
      retryable: true,
      sent: 'none',
      counts: { leased: 1, waiting: 2 },
      hint: expect.stringContaining('maxWaiting'),
    });
    expect(waiting.some((one) => one.isSettled)).toBe(false);
    expect(pool.stats()).toMatchObject({ refused: 1, waiting: 2 });
  });

  it('of 0 refuses whoever would have to wait for somebody else, and lets the others wait for their dial', async () => {
    const world = setUp({ max: 2, maxWaiting: 0 });
    world.net.outcome = { kind: 'open', afterMs: 50 };
    const asked = [1, 2, 3].map(() => watch(world.pool.acquire()));
    await world.pass(100);
    expect(asked.map((one) => one.value !== undefined)).toEqual([true, true, false]);
    expect(asked[2]?.error).toMatchObject({ code: 'ERR_OVERLOADED' });
  });

  it('has place again for the next one when somebody has given up', async () => {
    const { now, pass, pool } = await exhausted({ maxWaiting: 1 });
    watch(pool.acquire({ timeoutMs: 10 }));
    await pass(20);
    const next = watch(pool.acquire());
    await now();
    expect(next.isSettled).toBe(false);
  });

  it('does not starve the event loop when the refused ask again and again', async () => {
    const { clock, now, pool } = await exhausted({ maxWaiting: 0 });
    let refusals = 0;
    let hasTurned = false;
    clock.turn(() => {
      hasTurned = true;
    });
    const insist = async (): Promise<void> => {
      while (!hasTurned || refusals < 3) {
        await pool.acquire().catch(() => {
          refusals += 1;
        });
      }
    };
    const done = watch(insist());
    await now();
    expect(done.isSettled).toBe(true);
    expect(refusals).toBeLessThan(10);
  });
});

describe('shedAfterMs', () => {
  it('serves the newest first once the queue has stood for so long, and refuses the old', async () => {
    const { ask, pass, refused, release, served } = await exhausted({ shedAfterMs: 100 });
    ask('old', {}, 5);
    await pass(50);
    ask('middle', {}, 5);
    await pass(45);
    ask('new', {}, 5);
    await pass(10);
    expect(refused).toEqual(['old ERR_OVERLOADED']);
    ask('newest', {}, 5);
    release();
    await pass(30);
    expect(served).toEqual(['newest', 'new', 'middle']);
  });

  it('says in the error how long the caller has waited, and counts it', async () => {
    const { ask, pass, pool } = await exhausted({ shedAfterMs: 100 });
    const asked = watch(pool.acquire());
    ask('another');
    await pass(120);
    expect(asked.error).toMatchObject({
      code: 'ERR_OVERLOADED',
      retryable: true,
      waitedMs: 100,
      hint: expect.stringContaining('shedAfterMs'),
    });
    expect(pool.stats()).toMatchObject({ refused: 2, timedOut: 0 });
  });

  it('is first come, first served again when the queue has been empty', async () => {
    const { ask, now, pass, pool, refused, release, served } = await exhausted({ shedAfterMs: 100 });
    ask('old');
    await pass(110);
    release();
    await now();
    expect(pool.stats().waiting).toBe(0);
    const again = watch(pool.acquire());
    await now();
    await pass(1);
    ask('first');
    await pass(10);
    ask('second');
    again.value?.release();
    await now();
    expect(refused).toEqual(['old ERR_OVERLOADED']);
    expect(served).toEqual(['first', 'second']);
  });

  it('refuses nobody in a burst that is over before', async () => {
    const { ask, pass, refused, release, served } = await exhausted({ shedAfterMs: 100 });
    for (let caller = 0; caller < 10; caller++) ask(`${caller}`, {}, 5);
    release();
    await pass(90);
    expect(refused).toEqual([]);
    expect(served).toEqual(Array.from({ length: 10 }, (_, caller) => `${caller}`));
  });

  it.each([
    ['the server is down', { kind: 'refuse' }],
    ['a socket is being dialed', { kind: 'open', afterMs: 2_000 }],
  ] as const)('refuses nobody while %s', async (_why, outcome) => {
    const world = setUp({ max: 1, shedAfterMs: 100, retry: { retries: 50 } });
    world.net.outcome = outcome;
    const asked = [1, 2, 3].map(() => watch(world.pool.acquire()));
    await world.pass(1_500);
    if (outcome.kind === 'refuse') {
      expect(asked.every((one) => !one.isSettled)).toBe(true);
      expect(world.pool.stats().refused).toBe(0);
    } else {
      expect(refusals(asked)).toEqual([]);
    }
    world.net.outcome = { kind: 'open' };
    await world.pass(3_000);
    expect(asked[0]?.value?.isUsable).toBe(true);
  });

  it('refuses nobody while the pool is suspended', async () => {
    const { ask, pass, pool, refused, release, served } = await exhausted({ shedAfterMs: 100 });
    pool.suspend();
    release();
    ask('patient');
    await pass(1_000);
    expect(refused).toEqual([]);
    pool.resume();
    await pass(1);
    expect(served).toEqual(['patient']);
  });
});

function refusals(asked: readonly { readonly error: unknown }[]): unknown[] {
  return asked.map((one) => one.error).filter((error) => error !== undefined);
}

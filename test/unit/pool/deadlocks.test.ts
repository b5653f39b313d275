import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, expect, it } from 'vitest';
import { assemble } from '../../../src/create-pool.ts';
import type { DeadlockSuspectedEvent } from '../../../src/events.ts';
import { lines } from '../../../src/transport/lines.ts';
import { echoLines, FakeNet } from '../../support/fake-net.ts';
import { collectGarbage } from '../../support/gc.ts';
import { type Options, setUp, watch } from '../../support/pool-world.ts';

/** A world that writes down which deadlocks it hears of. */
function wary(options: Options = {}) {
  const world = setUp({ detectDeadlocks: true, ...options });
  const told: DeadlockSuspectedEvent[] = [];
  world.pool.on('deadlockSuspected', (event) => told.push(event));
  /** Warm sockets, so that an acquire waits for nothing but a lease. */
  const warmUp = async (count: number): Promise<void> => {
    const asked = Array.from({ length: count }, () => world.pool.acquire());
    await world.now();
    for (const one of asked) (await one).release();
  };
  return { ...world, warmUp, suspected: told };
}

const never = new Promise<void>(() => undefined);

describe('a caller who holds a lease and waits for another one, while all are leased', () => {
  it('is told with both stacks, and counted', async () => {
    const { now, pass, pool, suspected } = wary({ max: 1 });
    async function takesTwo() {
      const first = await pool.acquire();
      const second = await pool.acquire();
      return [first, second];
    }
    const asked = watch(takesTwo());
    await now();
    await pass(500);
    expect(suspected).toEqual([
      {
        holding: [{ connectionId: 1, heldMs: 0, stack: expect.stringContaining('takesTwo') }],
        stack: expect.stringContaining('takesTwo'),
      },
    ]);
    const [holding, waiting] = [suspected[0]?.holding[0]?.stack, suspected[0]?.stack];
    expect(holding).not.toBe(waiting);
    for (const stack of [holding, waiting]) {
      expect(stack?.split('\n')[0]).toContain('takesTwo');
      expect(stack).not.toMatch(/src\/pool\//);
    }
    expect(pool.stats().deadlocksSuspected).toBe(1);
    expect(asked.isSettled).toBe(false);
  });

  it('is told through use() inside use()', async () => {
    const { now, pool, suspected } = wary({ max: 1 });
    watch(pool.use(() => pool.use(() => undefined, { timeoutMs: 100 })));
    await now();
    expect(suspected.length).toBe(1);
    expect(suspected[0]?.stack).not.toMatch(/src\/pool\//);
  });

  it('is told through request() inside a lease', async () => {
    const { now, pool, suspected } = wary({ max: 2 });
    const others = watch(pool.use(() => never));
    watch(
      pool.use(async () => {
        await pool.request('hello', { timeoutMs: 100 });
      }),
    );
    await now();
    expect(others.isSettled).toBe(false);
    expect(suspected.map(({ holding }) => holding.map((one) => one.connectionId))).toEqual([[2]]);
  });

  it('is told through functions that await in between, timers and callbacks', async () => {
    const { clock, now, pass, pool, suspected } = wary({ max: 1 });
    async function query() {
      await Promise.resolve();
      await new Promise<void>((resolve) => clock.turn(resolve));
      return pool.request('hello');
    }
    watch(
      pool.use(async () => {
        await Promise.all([Promise.resolve(), new Promise((resolve) => process.nextTick(resolve))]);
        await query();
      }),
    );
    await now();
    await pass(50);
    expect(suspected.length).toBe(1);
  });

  it('is told all that it holds, the newest first', async () => {
    const { now, pool, suspected } = wary({ max: 3 });
    watch(pool.use(() => pool.use(() => pool.use(() => pool.acquire()))));
    await now();
    expect(suspected.map(({ holding }) => holding.map((one) => one.connectionId))).toEqual([[3, 2, 1]]);
  });

  it('is told in its own async context', async () => {
    const storage = new AsyncLocalStorage<string>();
    const { now, pool } = wary({ max: 1 });
    const seen: unknown[] = [];
    pool.on('deadlockSuspected', () => seen.push(storage.getStore()));
    storage.run('order 7', () => watch(pool.use(() => pool.acquire())));
    await now();
    expect(seen).toEqual(['order 7']);
  });

  it('reads of it in the hint of the time-out that follows', async () => {
    const { now, pass, pool } = wary({ max: 1, acquireTimeoutMs: 1_000 });
    const asked = watch(pool.use(() => pool.acquire()));
    await now();
    await pass(1_100);
    expect(asked.error).toMatchObject({
      code: 'ERR_ACQUIRE_TIMEOUT',
      hint: expect.stringContaining('The caller itself holds a lease: when all holders wait'),
    });
  });

  it('is told again when it tries again', async () => {
    const { pass, pool, suspected } = wary({ max: 1, acquireTimeoutMs: 100 });
    watch(
      pool.use(async () => {
        await pool.acquire().catch(() => undefined);
        await pool.acquire().catch(() => undefined);
      }),
    );
    await pass(500);
    expect(suspected.map(({ holding }) => holding.length)).toEqual([1, 1]);
  });

  it('is told when several do it to each other: the last one to wait, at least', async () => {
    const { clock, now, pool, suspected, warmUp } = wary({ max: 3 });
    await warmUp(3);
    for (let caller = 0; caller < 3; caller++) {
      watch(
        pool.use(async () => {
          await new Promise<void>((resolve) => clock.turn(resolve));
          await pool.request('hello');
        }),
      );
    }
    await now();
    expect(suspected.length).toBe(3);
  });
});

describe('who is not told of a deadlock', () => {
  it('is a caller whose earlier lease was released, destroyed or lost', async () => {
    const { net, now, pass, pool, suspected } = wary({ max: 1 });
    const work = async (): Promise<void> => {
      const released = await pool.acquire();
      released.release();
      const destroyed = await pool.acquire();
      destroyed.destroy();
      await pool.acquire();
      net.lastPeer.reset();
      await new Promise((resolve) => setImmediate(resolve));
      await pool.use(() => undefined);
      await pool.request('hello');
      await pool.acquire();
    };
    const done = watch(work());
    await now();
    // The reset came so early that it counts as a failed dial: there is a pause.
    await pass(1_000);
    expect(done.isSettled).toBe(true);
    const other = watch(pool.acquire({ timeoutMs: 1 }));
    await now();
    expect(other.isSettled).toBe(false);
    expect(suspected).toEqual([]);
  });

  it('is a caller who holds one while sockets are left, or can be opened', async () => {
    const { net, now, pass, pool, suspected } = wary({ max: 3 });
    net.outcome = { kind: 'open', afterMs: 50 };
    watch(pool.use(() => pool.use(() => pool.use(() => never))));
    for (let step = 0; step < 5; step++) await pass(50);
    await now();
    expect(pool.stats().leased).toBe(3);
    expect(suspected).toEqual([]);
  });

  it('is a caller who holds nothing, however long it waits', async () => {
    const { now, pass, pool, suspected } = wary({ max: 1 });
    watch(pool.use(() => never));
    await now();
    for (let caller = 0; caller < 10; caller++) watch(pool.acquire());
    await pass(1_000);
    expect(suspected).toEqual([]);
    expect(pool.stats().deadlocksSuspected).toBe(0);
  });

  it('are workers that one loop has started side by side', async () => {
    const { clock, pass, pool, suspected } = wary({ max: 2 });
    const done: number[] = [];
    const work = async (id: number): Promise<void> => {
      for (let round = 0; round < 5; round++) {
        const lease = await pool.acquire();
        await new Promise<void>((resolve) => clock.after(1, resolve));
        lease.release();
      }
      done.push(id);
    };
    for (let id = 0; id < 10; id++) watch(work(id));
    for (let step = 0; step < 10; step++) await pass(50);
    expect(done.length).toBe(10);
    expect(suspected).toEqual([]);
  });

  it.each([
    ['acquires', 'acquire'],
    ['requests', 'request'],
    ['uses', 'use'],
  ] as const)('are %s under one Promise.all', async (_what, how) => {
    const { now, pass, pool, suspected } = wary({ max: 2 });
    const one = async (): Promise<void> => {
      if (how === 'acquire') (await pool.acquire()).release();
      else if (how === 'request') await pool.request('hello');
      else await pool.use(() => undefined);
    };
    const all = watch(Promise.all(Array.from({ length: 20 }, one)));
    await now();
    await pass(100);
    expect(all.isSettled).toBe(true);
    expect(suspected).toEqual([]);
  });

  it('are calls that one loop starts and does not await, whatever else it awaits in between', async () => {
    const { now, pass, pool, suspected } = wary({ max: 2 });
    for (let message = 0; message < 4; message++) {
      watch(pool.use(() => never));
      watch(pool.request('hello'));
      await now();
    }
    await pass(100);
    expect(pool.stats().waiting).toBeGreaterThan(2);
    expect(suspected).toEqual([]);
  });

  it('are the calls of one repeating timer, each while the one before it is at work', async () => {
    const { pass, pool, suspected } = wary({ max: 2 });
    const interval = await new Promise<number>((resolve) => {
      let fired = 0;
      const timer = setInterval(() => {
        watch(pool.use(() => never));
        fired += 1;
        if (fired < 6) return;
        clearInterval(timer);
        resolve(fired);
      });
    });
    await pass(100);
    expect(interval).toBe(6);
    expect(pool.stats()).toMatchObject({ leased: 2, waiting: 4 });
    expect(suspected).toEqual([]);
  });

  it('is a caller whose first lease was only for the time of another call that is over', async () => {
    const { now, pool, suspected } = wary({ max: 1 });
    const helper = (): Promise<string> => pool.use((lease) => lease.request('hello'));
    const done = watch(
      (async () => {
        await helper();
        await helper();
        return pool.request('again');
      })(),
    );
    await now();
    await now();
    expect(done.value).toBe('Echo: again');
    expect(suspected).toEqual([]);
  });

  it('is anybody while the option is off', async () => {
    const { now, pool, suspected } = wary({ max: 1, detectDeadlocks: false });
    watch(pool.use(() => pool.acquire()));
    await now();
    expect(suspected).toEqual([]);
  });
});

describe('the hint of a time-out', () => {
  it('does not blame a lease that is held when no socket can be opened', async () => {
    const { net, now, pass, pool } = wary({ max: 5, acquireTimeoutMs: 300, retry: { retries: 100 } });
    const asked = watch(
      pool.use(async () => {
        net.outcome = { kind: 'refuse' };
        await pool.acquire();
      }),
    );
    await now();
    await pass(400);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT', cause: { code: 'ERR_REFUSED' } });
    expect((asked.error as { hint: string }).hint).toContain('could not be opened');
  });
});

describe('what is remembered of a context', () => {
  async function heapAfter(rounds: number, once: (round: number) => Promise<void>): Promise<number> {
    for (let round = 0; round < rounds; round++) await once(round);
    await collectGarbage();
    return process.memoryUsage().heapUsed;
  }

  it('does not grow over 100,000 leases one after the other', async () => {
    const { net, pool } = await freshPool(1);
    const once = async (): Promise<void> => {
      (await pool.acquire()).release();
    };
    const before = await heapAfter(10_000, once);
    const after = await heapAfter(100_000, once);
    expect(after - before).toBeLessThan(2_000_000);
    await endOf(pool, net);
  }, 30_000);

  it('does not grow when each lease is taken before the one before it is given back', async () => {
    const { net, pool } = await freshPool(2);
    let held = await pool.acquire();
    const once = async (): Promise<void> => {
      const next = await pool.acquire();
      held.release();
      held = next;
    };
    const before = await heapAfter(10_000, once);
    const after = await heapAfter(50_000, once);
    expect(after - before).toBeLessThan(2_000_000);
    held.release();
    await endOf(pool, net);
  }, 30_000);

  /** A pool with so many sockets that have been used a moment ago. */
  async function freshPool(count: number) {
    const net = new FakeNet();
    net.onPeer = echoLines;
    const { pool } = assemble<string, string>(net.surroundings, {
      host: 'fake',
      port: 1,
      codec: lines(),
      max: count,
      detectDeadlocks: true,
    });
    const asked = Array.from({ length: count }, () => pool.acquire());
    await net.clock.advance(0);
    for (const lease of await Promise.all(asked)) lease.release();
    return { net, pool };
  }

  async function endOf(pool: Awaited<ReturnType<typeof freshPool>>['pool'], net: FakeNet): Promise<void> {
    const closing = pool.close({ timeoutMs: 0 });
    await net.clock.advance(1_000);
    await closing;
  }
});

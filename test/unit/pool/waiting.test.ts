import { describe, expect, it } from 'vitest';
import { AcquireError } from '../../../src/errors.ts';
import { HEARTBEAT, setUp, take, watch } from '../../support/pool-world.ts';

describe('a caller who waits', () => {
  it('is served in turn, even when others come while a socket is being checked', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    const order: number[] = [];
    const asked = [1, 2, 3, 4].map((caller) =>
      world.pool.acquire().then((mine) => {
        order.push(caller);
        mine.release();
      }),
    );
    await world.pass(100);
    lease?.release();
    const late = world.pool.acquire().then((mine) => {
      order.push(5);
      mine.release();
    });
    await world.now();
    await Promise.all([...asked, late]);
    expect(order).toEqual([1, 2, 3, 4, 5]);
  });

  it('is told when time is up: the counts, how long, and no cause that has nothing to do with it', async () => {
    const world = setUp({ max: 1, acquireTimeoutMs: 500 });
    world.net.script = [{ kind: 'refuse' }];
    const first = watch(world.pool.acquire());
    await world.pass(1_000);
    expect(first.isSettled).toBe(true);
    const second = watch(world.pool.acquire());
    await world.pass(499);
    expect(second.isSettled).toBe(false);
    await world.pass(2);
    expect(second.error).toBeInstanceOf(AcquireError);
    expect(second.error).toMatchObject({
      code: 'ERR_ACQUIRE_TIMEOUT',
      retryable: true,
      waitedMs: 500,
      counts: { total: 1, leased: 1, idle: 0, dialing: 0, closing: 0 },
    });
    expect(String(second.error)).toContain('leased=1');
    expect((second.error as Error).cause).toBeUndefined();
    expect(world.told).toContain('acquireFailed');
    expect(world.pool.stats()).toMatchObject({ timedOut: 1, waiting: 0 });
  });

  it('is told of the last dial that failed when that is why nothing came', async () => {
    const world = setUp({ acquireTimeoutMs: 150 });
    world.net.script = [{ kind: 'refuse' }];
    world.net.outcome = { kind: 'hang' };
    const asked = watch(world.pool.acquire());
    await world.pass(200);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT', cause: { code: 'ERR_REFUSED' } });
  });

  it('may bring a limit of their own, longer or shorter than the pool’s', async () => {
    const world = setUp({ max: 1, acquireTimeoutMs: 500 });
    await take(world, 1);
    const short = watch(world.pool.acquire({ timeoutMs: 100 }));
    const usual = watch(world.pool.acquire());
    const long = watch(world.pool.acquire({ timeoutMs: 900 }));
    await world.pass(101);
    expect([short, usual, long].map((one) => one.isSettled)).toEqual([true, false, false]);
    await world.pass(400);
    expect([short, usual, long].map((one) => one.isSettled)).toEqual([true, true, false]);
    await world.pass(400);
    expect(long.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT', waitedMs: 900 });
  });

  it('never waits for ever because somebody before them was served', async () => {
    const world = setUp({ max: 1, acquireTimeoutMs: 500 });
    const [lease] = await take(world, 1);
    const first = watch(world.pool.acquire());
    await world.pass(300);
    const second = watch(world.pool.acquire());
    lease?.release();
    await world.now();
    expect(first.isSettled).toBe(true);
    await world.pass(501);
    expect(second.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT', waitedMs: 500 });
  });

  it('may give up: the reason comes out as it went in, whatever it is', async () => {
    const world = setUp({ max: 1 });
    await take(world, 1);
    for (const reason of [new Error('enough'), 'a word', undefined, null, 0]) {
      const controller = new AbortController();
      const asked = watch(world.pool.acquire({ signal: controller.signal }));
      await world.now();
      controller.abort(reason);
      await world.now();
      expect(asked.isSettled).toBe(true);
      if (reason === undefined) expect(asked.error).toMatchObject({ name: 'AbortError' });
      else expect(asked.error).toBe(reason);
    }
    expect(world.pool.stats().waiting).toBe(0);
    const aborted = watch(world.pool.acquire({ signal: AbortSignal.abort('before') }));
    await world.now();
    expect(aborted.error).toBe('before');
  });

  it('does not cancel the dial by giving up: the socket goes to the next caller', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const controller = new AbortController();
    const first = watch(world.pool.acquire({ signal: controller.signal }));
    await world.pass(50);
    controller.abort();
    const second = watch(world.pool.acquire());
    await world.pass(60);
    expect(first.error).toMatchObject({ name: 'AbortError' });
    expect(second.value?.connectionId).toBe(1);
  });

  it('does not cancel the dial by giving up: with nobody left, the socket rests', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const asked = watch(world.pool.acquire({ timeoutMs: 50 }));
    await world.pass(200);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT' });
    expect(world.pool.stats()).toMatchObject({ idle: 1, total: 1 });
  });

  it('is refused at once with bounds that can’t be kept, and takes no socket', async () => {
    const world = setUp();
    const controller = new AbortController();
    const wrong: unknown[] = [
      { timeoutMs: -1 },
      { timeoutMs: Number.NaN },
      { timeoutMs: '1' },
      { signal: controller },
    ];
    for (const options of wrong) {
      const asked = watch(world.pool.acquire(options as { timeoutMs: number }));
      await world.now();
      expect(asked.error).toMatchObject({ code: 'ERR_INVALID_OPTION' });
    }
    expect(world.pool.stats()).toMatchObject({ total: 0, waiting: 0 });
  });

  it('leaves no listener on the signal', async () => {
    const world = setUp({ max: 1 });
    const listening = new Set<unknown>();
    const { signal } = new AbortController();
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
      listening.add(args[1]);
      addEventListener.apply(signal, args);
    };
    signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
      listening.delete(args[1]);
      removeEventListener.apply(signal, args);
    };
    const first = watch(world.pool.acquire({ signal }));
    await world.now();
    const second = watch(world.pool.acquire({ signal, timeoutMs: 10 }));
    expect(listening.size).toBe(1);
    await world.pass(20);
    expect([first, second].every((one) => one.isSettled)).toBe(true);
    expect(listening.size).toBe(0);
  });

  it('gets another socket when the one they hoped for misses its ping', async () => {
    const world = setUp({ max: 2, heartbeat: HEARTBEAT });
    await world.pool.request('hello');
    world.net.lastPeer.isMute = true;
    await world.pass(1_050);
    const asked = watch(world.pool.acquire());
    await world.pass(50);
    expect(asked.isSettled).toBe(false);
    await world.pass(150);
    expect(asked.value?.connectionId).toBe(2);
  });

  it('gets the place of a socket that missed its ping when there is no other', async () => {
    const world = setUp({ max: 1, heartbeat: HEARTBEAT });
    await world.pool.request('hello');
    world.net.lastPeer.isMute = true;
    await world.pass(1_250);
    expect(world.told).toContain('pingMissed:1');
    const asked = watch(world.pool.acquire());
    await world.now();
    expect(asked.value?.connectionId).toBe(2);
    expect(world.told).toContain('closed:heartbeat');
  });
});

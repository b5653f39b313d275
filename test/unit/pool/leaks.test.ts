import { createHook } from 'node:async_hooks';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { assemble } from '../../../src/create-pool.ts';
import type { LeakedEvent, UnleakedEvent } from '../../../src/events.ts';
import type { Pool } from '../../../src/pool/pool.ts';
import { lines } from '../../../src/transport/lines.ts';
import { echoLines, FakeNet } from '../../support/fake-net.ts';
import { collectGarbage } from '../../support/gc.ts';
import { type Options, setUp, take, type World, watch } from '../../support/pool-world.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** A world that writes down what it hears of leaks. */
function leaky(options: Options = {}) {
  const world = setUp({ leakAfterMs: 2_000, ...options });
  const leaked: LeakedEvent[] = [];
  const unleaked: UnleakedEvent[] = [];
  world.pool.on('leaked', (event) => leaked.push(event));
  world.pool.on('unleaked', (event) => unleaked.push(event));
  return { ...world, leaked, unleaked };
}

function firstFrame(stack: string | undefined): string {
  return stack?.split('\n')[0] ?? '';
}

describe('a lease that is held for longer than leakAfterMs', () => {
  it('is told once, with the stack that took it, and goes on', async () => {
    const { leaked, pass, pool, unleaked } = leaky();
    async function takeAndForget(target: typeof pool) {
      return target.acquire();
    }
    const asked = watch(takeAndForget(pool));
    await pass(1_900);
    expect(leaked).toEqual([]);
    await pass(20_000);
    expect(leaked).toEqual([
      { connectionId: 1, heldMs: expect.any(Number), stack: expect.any(String), isLost: false },
    ]);
    expect(leaked[0]?.heldMs).toBeGreaterThanOrEqual(2_000);
    expect(leaked[0]?.heldMs).toBeLessThanOrEqual(2_200);
    expect(firstFrame(leaked[0]?.stack)).toContain('takeAndForget');
    expect(leaked[0]?.stack).not.toMatch(/src\/pool\//);
    expect(pool.stats()).toMatchObject({ leaked: 1, leased: 1 });
    expect(unleaked).toEqual([]);
    expect(asked.value?.isUsable).toBe(true);
  });

  it.each([
    ['acquire, when a socket is at hand', (pool: P) => pool.acquire()],
    ['acquire with bounds', (pool: P) => pool.acquire({ timeoutMs: 1_000 })],
    ['tryAcquire', (pool: P) => pool.tryAcquire()],
    ['use', (pool: P) => pool.use(() => new Promise<void>(() => undefined))],
    ['request', (pool: P) => pool.request('mute')],
    ['request with bounds', (pool: P) => pool.request('mute', { timeoutMs: 50_000 })],
  ])('has the caller’s frame first: %s', async (_how, call) => {
    const { leaked, net, now, pass, pool } = leaky();
    await pool.request('warm');
    net.lastPeer.isMute = true;
    const theCaller = (): unknown => call(pool);
    const asked = watch(Promise.resolve(theCaller()));
    await now();
    await pass(3_000);
    expect(leaked.length).toBe(1);
    expect(firstFrame(leaked[0]?.stack)).toContain('leaks.test.ts');
    expect(leaked[0]?.stack).toContain('theCaller');
    expect(leaked[0]?.stack).not.toMatch(/src\/pool\/|p-retry/);
    expect(asked.error).toBeUndefined();
  });

  it('is told again as unleaked when it comes back after all', async () => {
    const world = leaky();
    const [lease] = await take(world, 1);
    await world.pass(5_000);
    lease?.release();
    await world.now();
    expect(world.unleaked).toEqual([{ connectionId: 1, heldMs: 5_000, stack: world.leaked[0]?.stack }]);
    const [next] = await take(world, 1);
    next?.release();
    await world.now();
    // Each lease for itself.
    expect([world.leaked.length, world.unleaked.length, world.pool.stats().leaked]).toEqual([1, 1, 1]);
  });

  it('is told as unleaked when its holder destroyed it', async () => {
    const world = leaky();
    const [lease] = await take(world, 1);
    await world.pass(5_000);
    lease?.destroy();
    await world.now();
    expect(world.unleaked.map(({ heldMs }) => heldMs)).toEqual([5_000]);
    lease?.release();
    await world.now();
    expect(world.unleaked.length).toBe(1);
  });

  it('is not told as unleaked when its server closed it: it did not come back', async () => {
    const world = leaky();
    const [lease] = await take(world, 1);
    await world.pass(5_000);
    world.net.lastPeer.reset();
    await world.now();
    expect(lease?.isHeld).toBe(true);
    lease?.release();
    await world.now();
    expect(world.unleaked).toEqual([]);
  });

  it('is told anew when the same socket leaks again', async () => {
    const world = leaky({ max: 1 });
    for (let round = 0; round < 3; round++) {
      const [lease] = await take(world, 1);
      await world.pass(3_000);
      lease?.release();
      await world.now();
    }
    expect(world.leaked.map(({ connectionId }) => connectionId)).toEqual([1, 1, 1]);
    expect(world.pool.stats()).toMatchObject({ leaked: 3, opened: 1 });
  });

  it('is not told of a lease that came back in time, however often its socket was lent', async () => {
    const world = leaky();
    for (let round = 0; round < 10; round++) {
      const [lease] = await take(world, 1);
      await world.pass(1_500);
      lease?.release();
    }
    expect(world.leaked).toEqual([]);
  });

  it('is not told of a hook, which has a limit of its own', async () => {
    const world = leaky({ onAcquire: () => new Promise<void>(() => undefined), hookTimeoutMs: 8_000 });
    watch(world.pool.acquire());
    await world.pass(7_000);
    expect(world.leaked).toEqual([]);
  });

  it('is told without a stack when a prepareStackTrace of the user’s makes no text of it', async () => {
    const { prepareStackTrace } = Error;
    const world = leaky();
    try {
      Error.prepareStackTrace = (_error, sites) => sites;
      await take(world, 1);
      await world.pass(3_000);
    } finally {
      Error.prepareStackTrace = prepareStackTrace;
    }
    expect(world.leaked).toMatchObject([{ isLost: false, stack: undefined }]);
  });

  it('leaves Error.stackTraceLimit as it was', async () => {
    const { stackTraceLimit } = Error;
    try {
      Error.stackTraceLimit = 3;
      const world = leaky();
      await take(world, 1);
      expect(Error.stackTraceLimit).toBe(3);
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
    }
  });
});

type P = Pool<string, string>;

describe('close()', () => {
  it('returns who still held what, since when, and where they took it', async () => {
    const world = leaky({ max: 3 });
    async function firstHolder() {
      return world.pool.acquire();
    }
    async function secondHolder() {
      return world.pool.acquire();
    }
    const first = watch(firstHolder());
    await world.pass(300);
    const second = watch(secondHolder());
    await world.pass(200);
    const [third] = await take(world, 1);
    const closing = watch(world.pool.close({ timeoutMs: 100 }));
    third?.release();
    await world.pass(101);
    const { forced, holders } = closing.value ?? { forced: 0, holders: [] };
    expect(forced).toBe(2);
    expect(holders.map(({ connectionId, heldMs }) => [connectionId, heldMs])).toEqual([
      [1, 600],
      [2, 300],
    ]);
    expect(holders.map(({ stack }) => firstFrame(stack))).toEqual([
      expect.stringContaining('firstHolder'),
      expect.stringContaining('secondHolder'),
    ]);
    expect([first.value?.isUsable, second.value?.isUsable]).toEqual([false, false]);
  });

  it('has no stacks to tell when no option asked for them', async () => {
    const world = setUp();
    await take(world, 1);
    const closing = watch(world.pool.close({ timeoutMs: 0 }));
    await world.pass(1);
    expect(closing.value).toEqual({
      forced: 1,
      holders: [{ connectionId: 1, heldMs: expect.any(Number), stack: undefined }],
    });
  });

  it('does not count a hook as a holder', async () => {
    const world = setUp({ onRelease: () => new Promise<void>(() => undefined) });
    const [lease] = await take(world, 1);
    lease?.release();
    const closing = watch(world.pool.close({ timeoutMs: 10 }));
    await world.pass(20);
    expect(closing.value).toEqual({ forced: 0, holders: [] });
  });
});

describe('without leakAfterMs', () => {
  /** A pool to which nobody listens, and the async resources that are made meanwhile. */
  async function quiet(options: Options, work: (pool: P) => Promise<void>) {
    const net = new FakeNet();
    net.onPeer = echoLines;
    const { pool } = assemble<string, string>(net.surroundings, {
      host: 'fake',
      port: 1,
      codec: lines(),
      ...options,
    });
    const asked = pool.acquire();
    await net.clock.advance(0);
    (await asked).release();
    const made: string[] = [];
    const hook = createHook({
      init: (_id, type) => {
        if (type.startsWith('pulsepool')) made.push(type);
      },
    }).enable();
    const capture = vi.spyOn(Error, 'captureStackTrace');
    await work(pool);
    hook.disable();
    const captured = capture.mock.calls.length;
    capture.mockRestore();
    const closing = pool.close();
    await net.clock.advance(1_000);
    await closing;
    return { made, captured };
  }

  const work = async (pool: P): Promise<void> => {
    for (let round = 0; round < 100; round++) {
      (await pool.acquire()).release();
      (await pool.acquire({ timeoutMs: 10 })).release();
      (await pool.tryAcquire())?.release();
      await pool.use(() => undefined);
    }
  };

  it('no stack is taken and nothing is made for a lease', async () => {
    expect(await quiet({}, work)).toEqual({ made: [], captured: 0 });
  });

  it('the same with it takes a stack for each lease: the test above can fail', async () => {
    const { made, captured } = await quiet({ leakAfterMs: 1_000 }, work);
    expect(captured).toBe(400);
    expect(made.length).toBe(400);
  });

  it('no stack is taken when somebody listens', async () => {
    const capture = vi.spyOn(Error, 'captureStackTrace');
    const world = setUp();
    await take(world, 1);
    expect(capture).not.toHaveBeenCalled();
  });

  it('no lease is told as leaked, however long it is held', async () => {
    const world = setUp();
    const leaked = vi.fn();
    world.pool.on('leaked', leaked);
    await take(world, 1);
    await world.pass(3_600_000);
    expect(leaked).not.toHaveBeenCalled();
    expect(world.pool.stats().leaked).toBe(0);
  });
});

describe('a lease that was garbage-collected unreleased', () => {
  it('is reported, its socket closed, and its place free for the next waiter', async () => {
    const world = leaky({ max: 1, leakAfterMs: Number.POSITIVE_INFINITY });
    const ends: unknown[] = [];
    world.pool.on('closed', ({ reason, error }) => ends.push([reason, error?.code]));
    await forget(world.pool, world);
    const waiting = watch(world.pool.acquire());
    await world.pass(2_500);
    expect(waiting.isSettled).toBe(false);
    await collectGarbage();
    await world.now();
    expect(world.leaked).toEqual([{ connectionId: 1, heldMs: 2_500, stack: undefined, isLost: true }]);
    expect(ends).toEqual([['leaked', 'ERR_LEAKED']]);
    expect(waiting.value?.connectionId).toBe(2);
    expect(world.pool.stats()).toMatchObject({ leaked: 1, leased: 1, closedBy: { leaked: 1 } });
    // It did not come back.
    expect(world.unleaked).toEqual([]);
  });

  it('is counted once when it had been told as held too long before', async () => {
    const world = leaky({ max: 1 });
    await forget(world.pool, world);
    await world.pass(3_000);
    await collectGarbage();
    await world.now();
    expect(world.leaked.map(({ isLost }) => isLost)).toEqual([false, true]);
    expect(world.leaked[1]?.stack).toBe(world.leaked[0]?.stack);
    expect(world.leaked[1]?.stack).toContain('forget');
    expect(world.pool.stats().leaked).toBe(1);
    expect(world.unleaked).toEqual([]);
  });

  it('is not cut off before the reply that somebody awaits has come', async () => {
    const world = leaky({ max: 1 });
    world.net.onPeer = () => undefined;
    const reply = watch(requestAndForget(world));
    await world.pass(1_900);
    await collectGarbage();
    await world.pass(3_000);
    await collectGarbage();
    await world.pass(3_000);
    expect(world.pool.stats()).toMatchObject({ leased: 1, closed: 0 });
    world.net.lastPeer.write('late\n');
    await world.now();
    expect(reply.value).toBe('late');
    await collectGarbage();
    await world.pass(1_100);
    expect(world.leaked.map(({ isLost }) => isLost)).toEqual([false, true]);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { leaked: 1 } });
  });

  it('is not cut off before the message that somebody awaits has left', async () => {
    const world = leaky({
      max: 1,
      leakAfterMs: Number.POSITIVE_INFINITY,
      codec: lines({ maxFrameBytes: 1_000_000 }),
    });
    world.net.onPeer = (peer) => {
      peer.stream.pause();
    };
    const sent = watch(sendAndForget(world));
    await world.pass(2_500);
    await collectGarbage();
    await world.pass(2_500);
    expect(world.pool.stats()).toMatchObject({ leased: 1, closed: 0 });
    world.net.lastPeer.stream.resume();
    await world.now();
    expect(sent).toMatchObject({ isSettled: true, error: undefined });
    expect(world.net.lastPeer.received.length).toBe(500_001);
    await collectGarbage();
    await world.pass(1_100);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { leaked: 1 } });
  });

  it('is left alone while somebody holds it', async () => {
    const world = leaky({ max: 1, leakAfterMs: Number.POSITIVE_INFINITY });
    const [lease] = await take(world, 1);
    await world.pass(3_000);
    await collectGarbage();
    await world.pass(3_000);
    expect(await lease?.request('hello')).toBe('Echo: hello');
    expect(world.leaked).toEqual([]);
    lease?.release();
  });

  it('is no leak when it was released, whoever has its socket by then', async () => {
    const world = leaky({ max: 1, leakAfterMs: Number.POSITIVE_INFINITY });
    await holdAndRelease(world);
    const [next] = await take(world, 1);
    await world.pass(2_500);
    await collectGarbage();
    await world.now();
    expect(world.leaked).toEqual([]);
    expect(next?.isUsable).toBe(true);
    expect(next?.connectionId).toBe(1);
  });

  it.each(['onRelease', 'onAcquire'] as const)('is no leak while %s has its socket', async (hook) => {
    const open: (() => void)[] = [];
    let isSlow = false;
    const run = (): Promise<void> | void =>
      isSlow ? new Promise((resolve) => open.push(resolve)) : undefined;
    const world = leaky({ max: 1, leakAfterMs: Number.POSITIVE_INFINITY, [hook]: run });
    await holdAndRelease(world, () => {
      isSlow = true;
    });
    const next = watch(world.pool.acquire());
    await world.now();
    await collectGarbage();
    await world.now();
    expect(open.length).toBe(1);
    expect(world.pool.stats()).toMatchObject({ closed: 0, leaked: 0, leased: 1 });
    open.shift()?.();
    await world.now();
    expect(next.value?.connectionId).toBe(1);
  });

  it('is told nothing of once the pool has closed', async () => {
    const world = leaky({ leakAfterMs: Number.POSITIVE_INFINITY });
    await forget(world.pool, world);
    await world.pass(2_500);
    const closing = watch(world.pool.close({ timeoutMs: 0 }));
    await world.pass(1);
    await collectGarbage();
    expect(closing.value?.forced).toBe(1);
    expect(world.pool.stats().leaked).toBe(0);
  });
});

/** Takes a lease and lets it go without giving it back. */
async function forget(pool: P, world: World): Promise<void> {
  const asked = pool.acquire();
  await world.now();
  await asked;
}

async function sendAndForget(world: World): Promise<void> {
  const asked = world.pool.acquire();
  await world.now();
  return (await asked).send('x'.repeat(500_000));
}

async function requestAndForget(world: World): Promise<string> {
  const asked = world.pool.acquire();
  await world.now();
  return (await asked).request('hello');
}

/** Holds a lease long enough to be watched, then gives it back. */
async function holdAndRelease(world: World, beforeRelease: () => void = () => undefined): Promise<void> {
  const asked = world.pool.acquire();
  await world.now();
  const lease = await asked;
  await world.pass(2_500);
  beforeRelease();
  lease.release();
}

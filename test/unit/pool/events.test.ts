import { AsyncLocalStorage } from 'node:async_hooks';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Announcer } from '../../../src/pool/announcer.ts';
import { HEARTBEAT, setUp, take, watch } from '../../support/pool-world.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe('events', () => {
  it('are told in the order of the facts', async () => {
    const world = setUp({ max: 1, heartbeat: HEARTBEAT });
    const first = world.pool.acquire();
    const second = world.pool.acquire();
    (await first).release();
    (await second).release();
    await world.pass(1_000);
    world.net.lastPeer.isMute = true;
    await world.pass(3_000);
    const closing = world.pool.close();
    await world.now();
    await closing;
    expect(world.told).toEqual([
      'opened',
      'acquired',
      'released',
      'acquired',
      'released',
      'pinged',
      'pingMissed:1',
      'pingMissed:2',
      'closed:heartbeat',
      'poolClosed',
    ]);
  });

  it('say that a lease came back before they say that its socket was closed', async () => {
    const world = setUp({ maxIdle: 0 });
    const [lease] = await take(world, 1);
    lease?.release();
    await world.now();
    expect(world.told).toEqual(['opened', 'acquired', 'released', 'closed:surplus']);
  });

  it('carry what is needed to follow one socket', async () => {
    const world = setUp();
    world.net.script = [{ kind: 'refuse', afterMs: 1 }];
    world.net.outcome = { kind: 'open', afterMs: 20 };
    const seen: Record<string, unknown> = {};
    for (const event of ['opened', 'dialFailed', 'acquired', 'released', 'closed'] as const)
      world.pool.on(event, (payload: unknown) => {
        seen[event] = payload;
      });
    const asked = watch(world.pool.acquire());
    await world.pass(100);
    await world.pass(30);
    asked.value?.release();
    await world.pass(2_000);
    world.net.lastPeer.fin();
    await world.now();
    expect(seen).toMatchObject({
      dialFailed: { endpoint: 'fake:1', failures: 1, backoffMs: 50, error: { code: 'ERR_REFUSED' } },
      opened: { endpoint: 'fake:1', connectionId: 1, dialMs: 71 },
      acquired: { connectionId: 1, waitedMs: 71 },
      released: { connectionId: 1 },
      closed: { connectionId: 1, endpoint: 'fake:1', reason: 'peer-closed', uses: 1 },
    });
  });

  it('can be heard once, and no more after off()', async () => {
    const world = setUp();
    const heard: string[] = [];
    const always = (): void => void heard.push('always');
    world.pool.on('acquired', always).once('acquired', () => heard.push('once'));
    for (let round = 0; round < 2; round++) (await take(world, 1))[0]?.release();
    expect(heard).toEqual(['always', 'once', 'always']);
    world.pool.off('acquired', always);
    world.pool.off('acquired', () => undefined);
    await take(world, 1);
    expect(heard.length).toBe(3);
    expect(world.told.filter((event) => event === 'acquired').length).toBe(3);
  });

  it('are not built when nobody listens', () => {
    const announcer = new Announcer();
    const build = vi.fn(() => ({ forced: 0, holders: [] }));
    announcer.tell('poolClosed', build);
    const listener = (): void => undefined;
    announcer.on('poolClosed', listener);
    announcer.off('poolClosed', listener);
    announcer.tell('poolClosed', build);
    expect(build).not.toHaveBeenCalled();
    expect(() => announcer.on('poolClosed', 'no function' as never)).toThrow(TypeError);
  });
});

describe('a listener that fails', () => {
  it('is reported by a process warning, and harms neither the pool nor the next listener', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const world = setUp();
    const heard: string[] = [];
    world.pool.on('acquired', () => {
      throw new Error('mine');
    });
    world.pool.on('acquired', () => Promise.reject(new Error('mine, later')));
    world.pool.on('acquired', () => {
      throw 'a word';
    });
    world.pool.on('acquired', () => heard.push('next'));
    (await take(world, 1))[0]?.release();
    await world.now();
    expect(heard).toEqual(['next']);
    expect(warn.mock.calls.map(([text, type]) => [String(text).split('\n')[0], type])).toEqual([
      ["A listener of 'acquired' threw: Error: mine", 'PulsepoolWarning'],
      ["A listener of 'acquired' threw: a word", 'PulsepoolWarning'],
      ["A listener of 'acquired' threw: Error: mine, later", 'PulsepoolWarning'],
    ]);
    expect(await world.pool.request('hello')).toBe('Echo: hello');
  });
});

describe('a listener that calls the pool', () => {
  it('may acquire when a socket has closed', async () => {
    const world = setUp({ max: 1 });
    const asked: ReturnType<typeof watch>[] = [];
    world.pool.once('closed', () => asked.push(watch(world.pool.acquire())));
    const [lease] = await take(world, 1);
    lease?.destroy();
    await world.now();
    expect(asked[0]?.value).toMatchObject({ connectionId: 2 });
  });

  it('may acquire again and again when acquire has failed, and the event loop turns in between', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'refuse', afterMs: 1 };
    let failures = 0;
    world.pool.on('acquireFailed', () => {
      failures += 1;
      if (failures === 100) return;
      const asked = watch(world.pool.acquire());
      if (failures > 1) {
        // The server is known to be down: refused, but not before the loop has turned.
        expect(world.clock.pendingTurns).toBe(1);
        expect(asked.isSettled).toBe(false);
      }
    });
    watch(world.pool.acquire());
    await world.pass(20_000);
    expect(failures).toBe(100);
    world.net.outcome = { kind: 'open' };
    await world.pass(4_000);
    expect(watch(world.pool.acquire())).toMatchObject({ isSettled: false });
    await world.now();
    expect(world.pool.stats().leased).toBe(1);
  });

  it('may close the pool when a socket has opened', async () => {
    const world = setUp({ min: 3 });
    const closed: unknown[] = [];
    world.pool.on('opened', () => world.pool.close().then((report) => closed.push(report)));
    await world.now();
    expect(closed).toEqual(Array(3).fill({ forced: 0, holders: [] }));
  });

  it('may release what it holds when somebody acquires', async () => {
    const world = setUp({ max: 2 });
    const [held] = await take(world, 1);
    world.pool.once('acquired', () => held?.release());
    const [lease] = await take(world, 1);
    expect(lease?.isUsable).toBe(true);
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 1 });
  });

  it('may release, and so serve others, while callers time out one after the other', async () => {
    const world = setUp({ max: 1, acquireTimeoutMs: 100 });
    const [held] = await take(world, 1);
    world.pool.once('acquireFailed', () => held?.release());
    const early = [1, 2].map(() => watch(world.pool.acquire()));
    await world.pass(50);
    const late = [1, 2, 3].map(() => watch(world.pool.acquire()));
    await world.pass(100);
    expect(early.every((one) => one.isSettled)).toBe(true);
    await world.pass(10);
    expect(late.every((one) => one.isSettled)).toBe(true);
  });
});

describe('async context', () => {
  it('of the caller is kept over acquire and request, and is what the events of its lease run in', async () => {
    const storage = new AsyncLocalStorage<string>();
    const world = storage.run('pool', () =>
      setUp({ max: 1, heartbeat: HEARTBEAT, onConnect: () => void at('connect') }),
    );
    const seen: string[] = [];
    const at = (place: string): number => seen.push(`${place} in ${storage.getStore()}`);
    for (const event of ['opened', 'acquired', 'released', 'pinged', 'closed'] as const)
      world.pool.on(event, () => at(event));

    const first = storage.run('first', async () => {
      const lease = await world.pool.acquire();
      at('lease');
      await lease.request('one');
      at('reply');
      lease.release();
    });
    const second = storage.run('second', async () => {
      const lease = await world.pool.acquire();
      at('lease');
      await lease.request('two');
      at('reply');
      lease.release();
    });
    await Promise.all([first, second]);
    await world.pass(1_500);
    world.net.lastPeer.fin();
    await world.now();
    expect(seen.filter((line) => line.startsWith('lease') || line.startsWith('reply'))).toEqual([
      'lease in first',
      'reply in first',
      'lease in second',
      'reply in second',
    ]);
    const rest = seen.filter((line) => !line.startsWith('lease') && !line.startsWith('reply'));
    expect(rest).toEqual([
      'connect in pool',
      'opened in pool',
      'acquired in first',
      'released in first',
      'acquired in second',
      'released in second',
      'pinged in pool',
      'closed in pool',
    ]);
  });
});

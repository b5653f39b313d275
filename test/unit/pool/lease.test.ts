import { describe, expect, it } from 'vitest';
import type { Lease } from '../../../src/pool/lease.ts';
import { setUp, take, watch } from '../../support/pool-world.ts';

describe('a lease', () => {
  it('released twice is an error to the culprit, and changes nothing for the present owner', async () => {
    const world = setUp({ max: 1 });
    const [first] = await take(world, 1);
    first?.release();
    const [second] = await take(world, 1);
    expect(second?.connectionId).toBe(first?.connectionId);
    expect(() => first?.release()).toThrow(expect.objectContaining({ code: 'ERR_LEASE' }));
    expect(() => first && world.pool.release(first)).toThrow(expect.objectContaining({ code: 'ERR_LEASE' }));
    first?.destroy();
    const third = watch(world.pool.acquire());
    await world.now();
    expect(third.isSettled).toBe(false);
    expect(await second?.request('mine')).toBe('Echo: mine');
  });

  it('used after its release is an error to the culprit, and writes nothing', async () => {
    const world = setUp({ max: 1 });
    const [stale] = await take(world, 1);
    stale?.release();
    const [owner] = await take(world, 1);
    await expect(stale?.request('late')).rejects.toMatchObject({ code: 'ERR_LEASE' });
    await expect(stale?.send('late')).rejects.toMatchObject({ code: 'ERR_LEASE' });
    await expect(stale?.receive()).rejects.toMatchObject({ code: 'ERR_LEASE' });
    expect(() => stale?.markClean()).toThrow(expect.objectContaining({ code: 'ERR_LEASE' }));
    expect(() => stale?.detach()).toThrow(expect.objectContaining({ code: 'ERR_LEASE' }));
    expect(world.net.lastPeer.received).toBe('');
    expect(await owner?.request('mine')).toBe('Echo: mine');
  });

  it('released to another pool is an error, and stays with its holder', async () => {
    const world = setUp();
    const other = setUp();
    const [lease] = await take(world, 1);
    if (lease === undefined) throw new Error('no lease');
    expect(() => other.pool.release(lease)).toThrow('belongs to another pool');
    expect(lease.isUsable).toBe(true);
    lease.release();
  });

  it('is told from what is none', async () => {
    const world = setUp();
    for (const wrong of [undefined, null, {}, { release: () => undefined }]) {
      expect(() => world.pool.release(wrong as unknown as Lease<string, string>)).toThrow(
        expect.objectContaining({ code: 'ERR_LEASE' }),
      );
    }
  });

  it('released before its reply destroys the socket, and the reply reaches nobody', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    const asked = watch(lease?.request('first') ?? Promise.resolve(''));
    lease?.release();
    const next = watch(world.pool.request('second'));
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
    expect(next.value).toBe('Echo: second');
    expect(world.pool.stats()).toMatchObject({ opened: 2, closedBy: { dirty: 1 } });
  });

  it('whose call is aborted in the middle destroys the socket', async () => {
    const world = setUp({ max: 1 });
    const controller = new AbortController();
    const [lease] = await take(world, 1);
    world.net.lastPeer.isMute = true;
    const asked = watch(lease?.request('first', { signal: controller.signal }) ?? Promise.resolve(''));
    await world.now();
    controller.abort('enough');
    lease?.release();
    await world.now();
    expect(asked.error).toBe('enough');
    expect(await world.pool.request('second')).toBe('Echo: second');
    expect(world.pool.stats().closedBy).toEqual({ aborted: 1 });
  });

  it('may be destroyed, and then released once or not at all', async () => {
    const world = setUp();
    const [one, two] = await take(world, 2);
    one?.destroy();
    one?.release();
    two?.destroy();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { destroyed: 2 } });
  });

  it('whose socket died meanwhile is released without harm', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    await world.pass(2_000);
    world.net.lastPeer.reset();
    await world.now();
    const [next] = await take(world, 1);
    lease?.release();
    expect(next?.isUsable).toBe(true);
    expect(await next?.request('mine')).toBe('Echo: mine');
  });
});

describe('use()', () => {
  it('releases when the callback returns, also when it returns no promise', async () => {
    const world = setUp();
    expect(await world.pool.use((lease) => lease.request('hello'))).toBe('Echo: hello');
    expect(await world.pool.use(() => 'at once')).toBe('at once');
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0, opened: 1 });
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('mine');
      },
    ],
    ['rejects', () => Promise.reject(new Error('mine'))],
  ])('destroys the socket when the callback %s', async (_how, fn) => {
    const world = setUp();
    await expect(world.pool.use(fn)).rejects.toThrow('mine');
    await world.now();
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { failed: 1 } });
  });

  it('accepts that the callback has released, destroyed or detached by itself', async () => {
    const world = setUp();
    await world.pool.use((lease) => lease.release());
    await world.pool.use((lease) => lease.destroy());
    const socket = await world.pool.use((lease) => lease.detach());
    await world.clock.flush();
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { destroyed: 1, detached: 1 } });
    socket.destroy();
  });

  it('destroys the socket when the callback returns before its reply has come', async () => {
    const world = setUp();
    const left: Promise<unknown>[] = [];
    await world.pool.use((lease) => {
      left.push(lease.request('never read').catch((error: unknown) => error));
    });
    await world.now();
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { dirty: 1 } });
    expect(await left[0]).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
  });
});

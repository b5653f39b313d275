import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { handshake } from '../../../src/pool/handshake.ts';
import type { Slot } from '../../../src/pool/slot.ts';
import { rejection, rigOfLines } from '../../support/connection-rig.ts';
import { setUp, take, watch } from '../../support/pool-world.ts';

describe('a signal', () => {
  it.each(['succeeded', 'failed'])('of the pool is forgotten by a handshake that has %s', async (how) => {
    const { connection, clock } = rigOfLines();
    const { signal } = new AbortController();
    const onConnect = (): void => {
      expect(getEventListeners(signal, 'abort').length).toBe(1);
      if (how === 'failed') throw new Error('no');
    };
    const parts = { onConnect, endpoint: 'fake:1', address: '', connectTimeoutMs: 100, clock };
    const slot = {} as Slot<string, string>;
    const done = handshake(slot, connection, 100, signal, parts);
    if (how === 'failed') await rejection(done);
    else await done;
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('given to ready() is forgotten once the pool is ready, and once it can’t be', async () => {
    const world = setUp({ min: 1 });
    const { signal } = new AbortController();
    const ready = watch(world.pool.ready({ signal }));
    expect(getEventListeners(signal, 'abort').length).toBe(1);
    await world.now();
    expect(ready.isSettled).toBe(true);
    expect(getEventListeners(signal, 'abort')).toEqual([]);

    world.net.outcome = { kind: 'refuse', retryable: false };
    world.net.lastPeer.reset();
    await world.now();
    const failing = watch(world.pool.ready({ signal }));
    await world.pass(5_000);
    expect(failing.error).toMatchObject({ code: 'ERR_REFUSED' });
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});

describe('a caller of ready() who has left', () => {
  it('is no reason to dial any more', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'refuse', afterMs: 10 };
    const controller = new AbortController();
    const ready = watch(world.pool.ready({ signal: controller.signal }));
    await world.pass(20);
    expect(world.net.dialedAt.length).toBe(1);
    controller.abort('enough');
    await world.pass(10_000);
    expect(ready.error).toBe('enough');
    expect(world.net.dialedAt.length).toBe(1);
  });
});

describe('a caller who waited', () => {
  it('under a limit of their own leaves no timer', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    const before = world.clock.pendingTimers;
    const asked = watch(world.pool.acquire({ timeoutMs: 20_000 }));
    await world.now();
    expect(world.clock.pendingTimers).toBe(before + 1);
    lease?.release();
    await world.now();
    expect(asked.value?.isUsable).toBe(true);
    expect(world.clock.pendingTimers).toBe(before);
  });
});

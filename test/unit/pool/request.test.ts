import { describe, expect, it } from 'vitest';
import { ConnectionError, type Sent } from '../../../src/errors.ts';
import type { Lease } from '../../../src/pool/lease.ts';
import { requestOnce, requestWithin } from '../../../src/pool/request.ts';
import { BUDGET_DEFAULTS, RetryBudget } from '../../../src/retry/budget.ts';
import { CountingHold, type FakePeer } from '../../support/fake-net.ts';
import { setUp, take, watch } from '../../support/pool-world.ts';
import { VirtualClock } from '../../support/virtual-clock.ts';

/** Answers the first `count` sockets with nothing but silence. */
function mute(count: number): (peer: FakePeer) => void {
  let left = count;
  return (peer) => {
    left -= 1;
    peer.stream.on('data', () => {
      if (!peer.isMute) peer.write('PONG\n');
    });
    peer.isMute = left >= 0;
  };
}

describe('request()', () => {
  it('is not repeated when some of it was sent', async () => {
    const world = setUp({ readTimeoutMs: 100 });
    world.net.onPeer = mute(1);
    const asked = watch(world.pool.request('once'));
    await world.pass(1_000);
    expect(asked.error).toMatchObject({ code: 'ERR_READ_TIMEOUT' });
    expect(world.net.peers.map((peer) => peer.received)).toEqual(['once\n']);
  });

  it('is repeated when the caller says that it is idempotent, after a back-off of its own', async () => {
    const world = setUp({ readTimeoutMs: 100, retry: { retries: 3, baseMs: 100, capMs: 150 } });
    world.net.onPeer = mute(3);
    const sentAt: number[] = [];
    world.pool.on('acquired', () => sentAt.push(world.clock.now() - 1_000));
    const asked = watch(world.pool.request('again', { idempotent: true }));
    await world.pass(1_000);
    expect(asked.value).toBe('PONG');
    // Half (chance is 0.5) of 100, of 150 and of 150: jitter lasts at the cap.
    expect(sentAt).toEqual([0, 150, 325, 500]);
  });

  it('gives up after its retries, with the last error', async () => {
    const world = setUp({ readTimeoutMs: 100, retry: { retries: 2 } });
    world.net.onPeer = mute(99);
    const asked = watch(world.pool.request('again', { idempotent: true }));
    await world.pass(5_000);
    expect(asked.error).toMatchObject({ code: 'ERR_READ_TIMEOUT', sent: 'full' });
    expect(world.net.peers.length).toBe(3);
  });

  it('is repeated at once, without being idempotent, when nothing of it was sent', async () => {
    const clock = new VirtualClock();
    const sent: string[] = ['none', 'none', 'full'];
    const asked: number[] = [];
    const lease = {
      request: () => {
        asked.push(clock.now());
        const error = new ConnectionError('ERR_CONNECTION_LOST', 'gone', {
          retryable: true,
          hint: '',
          sent: (sent[asked.length - 1] ?? 'none') as Sent,
          endpoint: 'fake:1',
          connectionId: 1,
        });
        return Promise.reject(error);
      },
      release: () => undefined,
      isHeld: false,
    } as unknown as Lease<string, string>;
    const parts = {
      acquire: () => Promise.resolve(lease),
      checkKey: () => undefined,
      closing: new AbortController().signal,
      endpoint: 'fake:1',
      retry: { retries: 3, baseMs: 100, capMs: 100 },
      clock,
      random: () => 0.5,
      hold: new CountingHold(),
      budget: new RetryBudget(BUDGET_DEFAULTS),
    };
    for (const ask of [() => requestOnce('x', parts), () => requestWithin('x', { timeoutMs: 50 }, parts)]) {
      asked.length = 0;
      await expect(ask()).rejects.toMatchObject({ code: 'ERR_CONNECTION_LOST', sent: 'full' });
      expect(asked).toEqual([1_000, 1_000, 1_000]);
    }
  });

  it('never for a message that can’t be encoded', async () => {
    const world = setUp();
    const asked = watch(world.pool.request('two\nlines', { idempotent: true }));
    await world.pass(1_000);
    expect(asked.error).toMatchObject({ code: 'ERR_FRAME' });
    expect(world.pool.stats()).toMatchObject({ acquired: 1, idle: 1 });
  });

  it('never sleeps past its deadline', async () => {
    const world = setUp({ readTimeoutMs: 100, retry: { baseMs: 2_000, capMs: 2_000 } });
    world.net.onPeer = mute(99);
    const asked = watch(world.pool.request('again', { idempotent: true, timeoutMs: 500 }));
    await world.pass(101);
    expect(asked.error).toMatchObject({ code: 'ERR_READ_TIMEOUT' });
  });

  it('holds the process while it sleeps between attempts', async () => {
    const world = setUp({ readTimeoutMs: 100, retry: { baseMs: 1_000, capMs: 1_000 } });
    world.net.onPeer = mute(1);
    const asked = watch(world.pool.request('again', { idempotent: true }));
    await world.pass(200);
    expect(world.pool.stats()).toMatchObject({ total: 0, waiting: 0 });
    expect(world.net.hold.count).toBe(1);
    await world.pass(1_000);
    expect(asked.value).toBe('PONG');
    expect(world.net.hold.count).toBe(0);
  });

  it.each([
    ['an Error', new Error('enough')],
    ['a TypeError', new TypeError('enough')],
    ['a word', 'enough'],
    ['an object', { enough: true }],
    ['null', null],
  ])('aborted with %s rejects with that very thing, wherever it was', async (_what, reason) => {
    const world = setUp({ max: 1, readTimeoutMs: 100, retry: { baseMs: 2_000, capMs: 2_000 } });
    world.net.onPeer = mute(99);
    const [lease] = await take(world, 1);
    const attempt = async (ms: number): Promise<unknown> => {
      const controller = new AbortController();
      const asked = watch(world.pool.request('x', { idempotent: true, signal: controller.signal }));
      await world.pass(ms);
      expect(asked.isSettled).toBe(false);
      controller.abort(reason);
      await world.now();
      expect(asked.isSettled).toBe(true);
      return asked.error;
    };
    expect(await attempt(50)).toBe(reason); // while it waits
    lease?.release();
    expect(await attempt(50)).toBe(reason); // while it exchanges
    expect(await attempt(150)).toBe(reason); // while it sleeps
    const before = watch(world.pool.request('x', { signal: AbortSignal.abort(reason) }));
    await world.now();
    expect(before.error).toBe(reason);
  });

  it('tells at its deadline which phase used the time', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    const waiting = watch(world.pool.request('x', { timeoutMs: 300 }));
    await world.pass(301);
    expect(waiting.error).toMatchObject({
      code: 'ERR_DEADLINE',
      sent: 'none',
      attempts: 1,
      phases: { acquireMs: 300, exchangeMs: 0, backoffMs: 0 },
      cause: { code: 'ERR_ACQUIRE_TIMEOUT' },
    });
    world.net.lastPeer.isMute = true;
    const exchanging = watch(world.pool.request('x', { timeoutMs: 300 }));
    await world.pass(100);
    lease?.release();
    await world.pass(201);
    expect(exchanging.error).toMatchObject({
      code: 'ERR_DEADLINE',
      sent: 'full',
      attempts: 1,
      phases: { acquireMs: 100, exchangeMs: 200, backoffMs: 0 },
    });
  });

  it('counts the sleep between attempts, too', async () => {
    const world = setUp({ readTimeoutMs: 100, retry: { baseMs: 200, capMs: 200 } });
    world.net.onPeer = mute(99);
    const asked = watch(world.pool.request('x', { idempotent: true, timeoutMs: 250 }));
    await world.pass(300);
    expect(asked.error).toMatchObject({
      code: 'ERR_DEADLINE',
      attempts: 2,
      phases: { acquireMs: 0, exchangeMs: 150, backoffMs: 100 },
    });
  });

  it('refuses bounds that can’t be kept', async () => {
    const world = setUp();
    for (const timeoutMs of [-1, Number.NaN, '5']) {
      await expect(world.pool.request('x', { timeoutMs: timeoutMs as number })).rejects.toMatchObject({
        code: 'ERR_INVALID_OPTION',
      });
    }
    expect(world.net.dialedAt).toEqual([]);
  });
});

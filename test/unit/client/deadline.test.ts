import { describe, expect, it } from 'vitest';
import { ask, bodyOf, serveOnce, told } from '../../support/client-steps.ts';
import { MODES, SHARED, setUpClient } from '../../support/client-world.ts';
import { watch } from '../../support/pool-world.ts';
import { settle } from '../../support/virtual-clock.ts';

describe.each(MODES)('the deadline of a request of a %s client', (mode) => {
  it('in the queue is told once, with what the queue says as its cause, and counted as such', async () => {
    const world = setUpClient(mode, { max: 1 });
    const lease = await world.pool.acquire();
    const asked = watch(world.client.request('a', { timeoutMs: 50 }));
    await world.pass(60);
    expect(asked.error).toMatchObject({
      code: 'ERR_DEADLINE',
      message: expect.stringMatching(/did not finish within 50 ms: 50 ms for a socket/),
      sent: 'none',
      attempts: 1,
      phases: { acquireMs: 50, exchangeMs: 0, backoffMs: 0 },
      cause: { code: 'ERR_ACQUIRE_TIMEOUT' },
    });
    expect((asked.error as Error).cause).not.toHaveProperty('cause');
    expect(world.client.stats()).toMatchObject({ timedOut: 1, failed: 0, waiting: 0 });
    expect(world.pool.stats().waiting).toBe(0);
    expect(world.net.hold.count).toBe(0);
    lease.release();
  });

  it('in the exchange tells how much was sent, and where the time went', async () => {
    const world = setUpClient(mode, { max: 1 }, { isEchoing: false });
    const lease = await world.pool.acquire();
    const asked = watch(world.client.request('a', { timeoutMs: 300 }));
    await world.pass(100);
    lease.release();
    await world.pass(201);
    expect(asked.error).toMatchObject({
      code: 'ERR_DEADLINE',
      sent: 'full',
      attempts: 1,
      phases: { acquireMs: 100, exchangeMs: 200, backoffMs: 0 },
    });
    expect((asked.error as Error).cause).toBeUndefined();
    expect(world.client.stats()).toMatchObject({ timedOut: 1, failed: 0 });
  });

  it('counts the sleep between attempts, and tells why the one before failed', async () => {
    const world = setUpClient(
      mode,
      { readTimeoutMs: 100, retry: { baseMs: 200, capMs: 200 } },
      { isEchoing: false },
    );
    const asked = watch(world.client.request('a', { idempotent: true, timeoutMs: 250 }));
    await world.pass(300);
    expect(asked.error).toMatchObject({
      code: 'ERR_DEADLINE',
      attempts: 2,
      phases: { acquireMs: 0, exchangeMs: 150, backoffMs: 100 },
      cause: { code: 'ERR_READ_TIMEOUT' },
      earlier: [],
    });
  });

  it('is told at once when the next attempt would come too late, in words that say so', async () => {
    const world = setUpClient(
      mode,
      { readTimeoutMs: 100, retry: { baseMs: 2_000, capMs: 2_000 } },
      { isEchoing: false },
    );
    const asked = watch(world.client.request('a', { idempotent: true, timeoutMs: 500 }));
    await world.pass(101);
    expect(asked.error).toMatchObject({
      code: 'ERR_DEADLINE',
      message: expect.stringMatching(/next attempt would have come too late, with 400 of 500 ms left/),
      sent: 'full',
      attempts: 1,
      cause: { code: 'ERR_READ_TIMEOUT' },
    });
    expect(world.client.stats()).toMatchObject({ timedOut: 1, failed: 0 });
    expect(world.backend.times('a')).toBe(1);
  });

  it('gives a socket that comes after it back unused', async () => {
    const world = setUpClient(mode, { max: 1 });
    const lease = await world.pool.acquire();
    const asked = watch(world.client.request('a', { timeoutMs: 50 }));
    await world.now();
    world.clock.freeze(60);
    const reply = lease.request('x');
    await settle();
    await reply;
    // It has just spoken, so it is lent in this very moment, before any timer.
    lease.release();
    await settle();
    expect(asked.isSettled).toBe(true);
    await world.pass(1);
    expect(asked.error).toMatchObject({ code: 'ERR_DEADLINE', sent: 'none', phases: { acquireMs: 60 } });
    expect(world.backend.times('a')).toBe(0);
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0 });
    expect(world.client.stats()).toMatchObject({ timedOut: 1 });
  });

  it('is not missed by a reply that came while our own loop was blocked', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const asked = watch(world.client.request('a', { timeoutMs: 100 }));
    await world.pass(50);
    world.clock.freeze(10_000);
    // The kernel holds it when the loop runs again.
    const advanced = world.clock.advance(0);
    world.backend.answerAll();
    await advanced;
    await world.now();
    expect(bodyOf(asked.value)).toBe('Echo: a');
    expect(world.client.stats()).toMatchObject({ succeeded: 1, timedOut: 0 });
  });

  it('holds for who waits for a new socket, too', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    await serveOnce(world);
    const asked = watch(world.client.request('a', { idempotent: true, timeoutMs: 1_000 }));
    await world.now();
    world.net.outcome = { kind: 'open', afterMs: 4_000 };
    world.backend.side(0).peer.reset();
    await world.pass(1_001);
    expect(world.told).toContain('retried:fresh');
    expect(asked.error).toMatchObject({
      code: 'ERR_DEADLINE',
      sent: 'full',
      attempts: 2,
      phases: { acquireMs: 1_000, exchangeMs: 0 },
    });
    await world.pass(5_000);
    expect(world.backend.times('a')).toBe(1);
    expect(world.pool.stats()).toMatchObject({ idle: 1 });
  });

  it('counts the wait for a new socket as such', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    await serveOnce(world);
    const asked = watch(world.client.request('a', { idempotent: true, timeoutMs: 1_000 }));
    await world.now();
    world.net.outcome = { kind: 'open', afterMs: 300 };
    world.backend.side(0).peer.reset();
    await world.pass(1_100);
    expect(asked.error).toMatchObject({ code: 'ERR_DEADLINE', phases: { acquireMs: 300, exchangeMs: 700 } });
  });

  it('of Infinity is none', async () => {
    const world = setUpClient(
      mode,
      { timeoutMs: Number.POSITIVE_INFINITY, readTimeoutMs: 1e9 },
      { isEchoing: false },
    );
    const asked = ask(world, 'a');
    await world.pass(1_000_000);
    world.backend.answerAll();
    await world.now();
    expect(told(asked)).toEqual(['Echo: a']);
  });

  it('is the client’s own when the request has none', async () => {
    const world = setUpClient(mode, { timeoutMs: 200 }, { isEchoing: false });
    const asked = ask(world, 'a');
    await world.pass(199);
    expect(told(asked)).toEqual(['pending']);
    await world.pass(2);
    expect(told(asked)).toEqual(['ERR_DEADLINE']);
  });

  it('is refused when it can’t be kept', async () => {
    const world = setUpClient(mode);
    for (const timeoutMs of [-1, Number.NaN, '5']) {
      await expect(world.client.request('x', { timeoutMs: timeoutMs as number })).rejects.toMatchObject({
        code: 'ERR_INVALID_OPTION',
      });
    }
    await expect(world.client.request('x', { timeoutMs: 0 })).rejects.toMatchObject({
      code: 'ERR_DEADLINE',
      attempts: 0,
    });
    expect(world.net.dialedAt).toEqual([]);
  });
});

describe('the deadline of an exclusive request', () => {
  it('ends its socket', async () => {
    const world = setUpClient('exclusive', {}, { isEchoing: false });
    watch(world.client.request('a', { timeoutMs: 100 }));
    await world.pass(101);
    expect(world.told).toEqual(['opened', 'closed:timeout']);
  });
});

describe.each(SHARED)('the deadline of a %s request', (mode) => {
  it('leaves the socket to the others', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const late = watch(world.client.request('a', { timeoutMs: 100 }));
    const asked = ask(world, 'b');
    await world.pass(101);
    expect(told([late])).toEqual(['ERR_DEADLINE']);
    world.backend.answerAll();
    await world.now();
    expect(told(asked)).toEqual(['Echo: b']);
    expect(world.told).toEqual(['opened']);
  });
});

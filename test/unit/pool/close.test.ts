import { describe, expect, it } from 'vitest';
import type { HandshakeContext } from '../../../src/pool/handshake.ts';
import { HEARTBEAT, setUp, take, watch } from '../../support/pool-world.ts';

// What must be left of a pool that has closed (nothing) is audited after every test: see setUp().

describe('close()', () => {
  it('ends idle sockets, waits for leases, and refuses newcomers', async () => {
    const world = setUp({ min: 2 });
    const [lease] = await take(world, 1);
    const closing = watch(world.pool.close());
    const late = watch(world.pool.acquire());
    await world.pass(1_000);
    expect(late.error).toMatchObject({ code: 'ERR_POOL_CLOSED', retryable: false });
    expect(world.pool.stats()).toMatchObject({ idle: 0, leased: 1 });
    expect(await lease?.request('last words')).toBe('Echo: last words');
    lease?.release();
    await world.now();
    expect(closing.value).toMatchObject({ forced: 0 });
    expect(world.told.at(-1)).toBe('poolClosed');
  });

  it('serves those who wait already while sockets last', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    const replies = ['a', 'b', 'c'].map((word) => watch(world.pool.use((mine) => mine.request(word))));
    const closing = watch(world.pool.close());
    lease?.release();
    await world.now();
    expect(replies.map((one) => one.value)).toEqual(['Echo: a', 'Echo: b', 'Echo: c']);
    expect(closing.value).toMatchObject({ forced: 0 });
    expect(world.net.dialedAt.length).toBe(1);
  });

  it('tells those who wait when the last socket is lost', async () => {
    const world = setUp({ max: 1 });
    await take(world, 1);
    const asked = watch(world.pool.acquire());
    const closing = watch(world.pool.close());
    world.net.lastPeer.reset();
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_POOL_CLOSED' });
    expect(closing.isSettled).toBe(true);
  });

  it('ends leases that never come back at its deadline, and says how many', async () => {
    const world = setUp({ max: 2 });
    const leases = await take(world, 2);
    world.net.lastPeer.isMute = true;
    const asked = watch(leases[1]?.request('unanswered') ?? Promise.resolve(''));
    const waiting = watch(world.pool.acquire());
    const closing = watch(world.pool.close({ timeoutMs: 300 }));
    await world.pass(299);
    expect(closing.isSettled).toBe(false);
    await world.pass(2);
    expect(closing.value).toMatchObject({ forced: 2 });
    expect(asked.error).toMatchObject({ code: 'ERR_POOL_CLOSED' });
    expect(waiting.error).toMatchObject({ code: 'ERR_POOL_CLOSED', name: 'AcquireError' });
    expect(() => leases[0]?.release()).not.toThrow();
  });

  it('called again returns the same promise; a wrong option is refused and closes nothing', async () => {
    const world = setUp({ min: 1 });
    await expect(world.pool.close({ timeoutMs: -1 })).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION' });
    await world.now();
    expect(world.pool.stats().idle).toBe(1);
    const first = world.pool.close();
    expect(world.pool.close({ timeoutMs: 5 })).toBe(first);
    await world.now();
    expect(await first).toMatchObject({ forced: 0 });
    expect(world.pool.close()).toBe(first);
  });

  it('before the first turn opens nothing', async () => {
    const world = setUp({ min: 3 });
    const closing = watch(world.pool.close());
    await world.now();
    expect(closing.isSettled).toBe(true);
    expect(world.net.dialedAt).toEqual([]);
  });

  it('during a dial ends the dial, even one that hangs', async () => {
    const world = setUp({ min: 2 });
    world.net.outcome = { kind: 'hang' };
    await world.now();
    expect(world.net.dialing).toBe(2);
    const closing = watch(world.pool.close());
    await world.now();
    expect(closing.value).toMatchObject({ forced: 0 });
  });

  it('during a dial tells its waiter', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'open', afterMs: 100 };
    const asked = watch(world.pool.acquire());
    await world.pass(50);
    const closing = watch(world.pool.close());
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_POOL_CLOSED' });
    expect(closing.isSettled).toBe(true);
  });

  it('during a hung dial, with callers served by other sockets, does not wait for the dial', async () => {
    const world = setUp({ max: 2 });
    const [lease] = await take(world, 1);
    world.net.outcome = { kind: 'hang' };
    const asked = watch(world.pool.acquire());
    await world.now();
    const closing = watch(world.pool.close());
    lease?.release();
    await world.now();
    asked.value?.release();
    await world.now();
    expect(closing.value).toMatchObject({ forced: 0 });
  });

  it('during a handshake aborts it, and may be called again by whoever hears of that', async () => {
    const contexts: HandshakeContext[] = [];
    const again: Promise<unknown>[] = [];
    const world = setUp({
      min: 1,
      onConnect: (_lease, context) => {
        contexts.push(context);
        context.signal.addEventListener('abort', () => again.push(world.pool.close()));
        return new Promise(() => undefined);
      },
    });
    await world.now();
    const closing = watch(world.pool.close());
    await world.now();
    expect(contexts[0]?.signal.aborted).toBe(true);
    expect(closing.isSettled).toBe(true);
    expect(await again[0]).toMatchObject({ forced: 0 });
  });

  it('during the sleep between two attempts wakes it', async () => {
    const world = setUp({ min: 1, retry: { baseMs: 2_000, capMs: 2_000 } });
    world.net.outcome = { kind: 'refuse' };
    await world.pass(10);
    expect(world.pool.stats()).toMatchObject({ dialing: 1, dialFailed: 1 });
    const closing = watch(world.pool.close());
    await world.now();
    expect(closing.isSettled).toBe(true);
  });

  it('called by a listener of the failure that leads to that sleep does not sleep', async () => {
    const world = setUp({ min: 1, retry: { baseMs: 2_000, capMs: 2_000 } });
    world.net.outcome = { kind: 'refuse' };
    const closed: unknown[] = [];
    world.pool.on('dialFailed', () => world.pool.close().then((report) => closed.push(report)));
    await world.now();
    expect(closed).toEqual([{ forced: 0, holders: [] }]);
  });

  it('during a ping does not wait for the pong', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    await world.pool.request('warm');
    world.net.lastPeer.isMute = true;
    await world.pass(1_000);
    const closing = watch(world.pool.close());
    // A server that does not answer gets the 500 ms of a clean goodbye.
    await world.pass(501);
    expect(closing.value).toMatchObject({ forced: 0 });
  });

  it('during a ping on which a caller waits serves the caller', async () => {
    const world = setUp({ max: 1, heartbeat: HEARTBEAT });
    await world.pool.request('warm');
    world.net.lastPeer.isMute = true;
    await world.pass(1_000);
    const asked = watch(world.pool.acquire());
    const closing = watch(world.pool.close());
    await world.now();
    world.net.lastPeer.write('PONG\n');
    await world.now();
    expect(asked.value?.isUsable).toBe(true);
    asked.value?.release();
    await world.pass(501);
    expect(closing.value).toMatchObject({ forced: 0 });
  });

  it('during the check of a borrow serves the borrower', async () => {
    const world = setUp();
    await world.pool.request('warm');
    await world.pass(1_000);
    const asked = watch(world.pool.acquire());
    const closing = watch(world.pool.close());
    await world.now();
    expect(asked.value?.isUsable).toBe(true);
    asked.value?.release();
    await world.now();
    expect(closing.isSettled).toBe(true);
  });

  it('during the back-off of a request ends the request', async () => {
    const world = setUp({ max: 1, readTimeoutMs: 100, retry: { baseMs: 2_000, capMs: 2_000 } });
    world.net.onPeer = (peer) => {
      peer.isMute = true;
    };
    const asked = watch(world.pool.request('unanswered', { idempotent: true }));
    await world.pass(150);
    expect(asked.isSettled).toBe(false);
    const closing = watch(world.pool.close());
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_READ_TIMEOUT' });
    expect(closing.isSettled).toBe(true);
  });

  it('by its deadline destroys sockets whose goodbye is not answered', async () => {
    const world = setUp({ min: 1 });
    await world.now();
    world.net.lastPeer.isMute = true;
    const closing = watch(world.pool.close({ timeoutMs: 100 }));
    await world.pass(99);
    expect(closing.isSettled).toBe(false);
    await world.pass(2);
    expect(closing.value).toMatchObject({ forced: 0 });
  });

  it('is what leaving an `await using` block does', async () => {
    const world = setUp({ min: 1 });
    await world.now();
    const disposed = watch(world.pool[Symbol.asyncDispose]());
    await world.now();
    expect(disposed.isSettled).toBe(true);
    expect(world.told.at(-1)).toBe('poolClosed');
  });
});

describe('ready()', () => {
  it('resolves when min sockets are open, and opens one when min is 0', async () => {
    const world = setUp({ min: 3 });
    world.net.outcome = { kind: 'open', afterMs: 10 };
    const ready = watch(world.pool.ready());
    await world.pass(9);
    expect(ready.isSettled).toBe(false);
    await world.pass(100);
    expect(ready).toMatchObject({ isSettled: true, error: undefined });
    const none = setUp();
    const first = watch(none.pool.ready());
    await none.now();
    expect(first.isSettled).toBe(true);
    expect(none.pool.stats().idle).toBe(1);
  });

  it('rejects with the dial’s error when it can’t be', async () => {
    const world = setUp({ min: 1 });
    world.net.outcome = { kind: 'refuse' };
    const ready = watch(world.pool.ready());
    await world.pass(2_000);
    expect(ready.error).toMatchObject({ code: 'ERR_REFUSED' });
  });

  it('rejects with the reason when it is aborted, and with one error when the pool closes', async () => {
    const world = setUp({ min: 1 });
    world.net.outcome = { kind: 'hang' };
    const controller = new AbortController();
    const aborted = watch(world.pool.ready({ signal: controller.signal }));
    const closed = watch(world.pool.ready());
    await world.now();
    controller.abort('enough');
    await world.now();
    expect(aborted.error).toBe('enough');
    expect(world.net.hold.count).toBe(1);
    const closing = watch(world.pool.close());
    await world.now();
    expect(closed.error).toMatchObject({ code: 'ERR_POOL_CLOSED' });
    expect(closing.isSettled).toBe(true);
    await expect(world.pool.ready()).rejects.toMatchObject({ code: 'ERR_POOL_CLOSED' });
  });
});

describe('the process', () => {
  it('is held by callers who wait, and by nothing that rests', async () => {
    const world = setUp({ min: 2, max: 2, heartbeat: HEARTBEAT });
    await world.pass(5_000);
    expect(world.net.hold.count).toBe(0);
    const leases = await take(world, 2);
    expect(world.net.hold.count).toBe(0);
    const asked = watch(world.pool.acquire());
    expect(world.net.hold.count).toBe(1);
    leases[0]?.release();
    await world.now();
    expect(asked.isSettled).toBe(true);
    expect(world.net.hold.count).toBe(0);
  });
});

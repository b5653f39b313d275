import { describe, expect, it } from 'vitest';
import type { AcquireError } from '../../../src/errors.ts';
import type { HookFailedEvent } from '../../../src/events.ts';
import type { Lease } from '../../../src/pool/lease.ts';
import { HEARTBEAT, setUp, take, type World, watch } from '../../support/pool-world.ts';

type TextLease = Lease<string, string>;

const forever = (): Promise<void> => new Promise(() => undefined);

/** What `hookFailed` tells. */
function failures({ pool }: World): HookFailedEvent[] {
  const told: HookFailedEvent[] = [];
  pool.on('hookFailed', (event) => told.push(event));
  return told;
}

/** Passes as much virtual time as the hook asks for. */
function spend(world: () => World, ms: number): Promise<void> {
  return new Promise((resolve) => world().clock.after(ms, resolve));
}

describe('onAcquire', () => {
  it('runs before each caller gets the socket, may use it, and is heard by the server first', async () => {
    const replies: string[] = [];
    const world = setUp({
      onAcquire: async (lease) => {
        replies.push(await lease.request('SELECT 3'));
      },
    });
    for (const word of ['a', 'b']) {
      const reply = watch(world.pool.request(word));
      await world.now();
      expect(reply.value).toBe(`Echo: ${word}`);
    }
    expect(replies).toEqual(['Echo: SELECT 3', 'Echo: SELECT 3']);
    expect(world.net.lastPeer.received).toBe('SELECT 3\na\nSELECT 3\nb\n');
    expect(world.pool.stats()).toMatchObject({ acquired: 2, hookFailed: 0, opened: 1 });
  });

  it('may be a plain function', async () => {
    let calls = 0;
    const world = setUp({
      onAcquire: () => {
        calls += 1;
      },
    });
    const [lease] = await take(world, 1);
    expect(lease?.isUsable).toBe(true);
    expect(calls).toBe(1);
  });

  it('has its time counted as waiting, and the socket as leased', async () => {
    const world: World = setUp({ onAcquire: () => spend(() => world, 300) });
    const waited: number[] = [];
    world.pool.on('acquired', ({ waitedMs }) => waited.push(waitedMs));
    const asked = watch(world.pool.acquire());
    await world.pass(200);
    expect(asked.isSettled).toBe(false);
    expect(world.pool.stats()).toMatchObject({ leased: 1, idle: 0 });
    await world.pass(101);
    expect(asked.isSettled).toBe(true);
    expect(waited).toEqual([300]);
  });

  it('that throws costs its own socket only; the caller gets another one', async () => {
    let calls = 0;
    const cause = new Error('not this one');
    const world = setUp({
      max: 4,
      onAcquire: async (lease) => {
        calls += 1;
        await lease.request('check');
        if (calls === 3) throw cause;
      },
    });
    const told = failures(world);
    const others = await take(world, 2);
    const asked = watch(world.pool.acquire());
    await world.pass(200);
    expect(asked.value?.isUsable).toBe(true);
    expect(asked.value?.connectionId).toBe(4);
    expect(calls).toBe(4);
    expect(told).toMatchObject([{ connectionId: 3, hook: 'onAcquire', error: { code: 'ERR_HOOK' } }]);
    expect(told[0]?.error.cause).toBe(cause);
    expect(told[0]?.error.message).toContain('not this one');
    expect(world.pool.stats()).toMatchObject({ hookFailed: 1, leased: 3, closedBy: { hook: 1 } });
    for (const lease of others) expect(await lease.request('on')).toBe('Echo: on');
  });

  it('that always throws is tried as often as retry allows; then the caller is told, with its error as cause', async () => {
    for (const retries of [0, 2]) {
      let calls = 0;
      const world = setUp({
        retry: { retries },
        onAcquire: () => {
          calls += 1;
          throw new Error(`refused ${calls}`);
        },
      });
      const asked = watch(world.pool.acquire());
      await world.pass(5_000);
      const error = asked.error as AcquireError;
      expect(error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', retryable: false });
      expect(error.cause).toMatchObject({
        code: 'ERR_HOOK',
        cause: { message: `refused ${retries + 1}` },
      });
      expect(error.message).toContain('onAcquire failed');
      expect(calls).toBe(retries + 1);
      expect(world.pool.stats()).toMatchObject({ failed: 1, hookFailed: retries + 1, waiting: 0 });
      expect(world.told).toContain('acquireFailed');
    }
  });

  it('that always throws does not have the server dialed without a pause', async () => {
    const world: World = setUp({
      retry: { retries: 0 },
      onAcquire: async () => {
        await spend(() => world, 5);
        throw new Error('never');
      },
    });
    world.net.outcome = { kind: 'open', afterMs: 20 };
    for (let step = 0; step < 300; step++) {
      for (let caller = 0; caller < 10; caller++) watch(world.pool.acquire());
      await world.pass(100);
    }
    const { dialedAt } = world.net;
    // After each probe that fails, a back-off: half a second to a second here, once it has grown.
    const pauses = dialedAt.slice(1).filter((at, index) => at - (dialedAt[index] ?? 0) >= 900);
    expect(pauses.length).toBeGreaterThan(25);
    // The probe, and what was started between its success and the failure of its hook.
    expect(dialedAt.length).toBeLessThan(30 * 6);
  });

  it('that hangs ends by hookTimeoutMs, and the caller gets another socket', async () => {
    let calls = 0;
    const signals: AbortSignal[] = [];
    const world = setUp({
      hookTimeoutMs: 400,
      onAcquire: (_lease, { signal }) => {
        calls += 1;
        signals.push(signal);
        return calls === 1 ? forever() : undefined;
      },
    });
    const told = failures(world);
    const asked = watch(world.pool.acquire());
    await world.pass(399);
    expect(asked.isSettled).toBe(false);
    expect(signals[0]?.aborted).toBe(false);
    await world.pass(200);
    expect(asked.value?.connectionId).toBe(2);
    expect(signals[0]?.aborted).toBe(true);
    expect(signals[0]?.reason).toMatchObject({ code: 'ERR_HOOK' });
    expect(signals[1]?.aborted).toBe(false);
    expect(told).toMatchObject([{ connectionId: 1, error: { code: 'ERR_HOOK', retryable: true } }]);
    expect(told[0]?.error.message).toContain('400 ms');
  });

  it('that leaves a reply unread is refused: nobody may ever receive it', async () => {
    let calls = 0;
    const world = setUp({
      onAcquire: async (lease) => {
        calls += 1;
        if (calls === 1) await lease.send('unread');
      },
    });
    const told = failures(world);
    const asked = watch(world.pool.request('mine'));
    await world.pass(200);
    expect(asked.value).toBe('Echo: mine');
    expect(told).toMatchObject([{ connectionId: 1, hook: 'onAcquire', error: { code: 'ERR_HOOK' } }]);
    expect(world.net.peers[0]?.received).not.toContain('mine');
  });

  it('may release its lease, which changes nothing: the caller gets the socket', async () => {
    const world = setUp({ onAcquire: (lease) => lease.release() });
    const [lease] = await take(world, 1);
    expect(lease?.connectionId).toBe(1);
    expect(await lease?.request('hello')).toBe('Echo: hello');
    lease?.release();
    expect(world.pool.stats()).toMatchObject({ idle: 1, hookFailed: 0, closed: 0 });
  });

  it('may destroy its lease, which refuses the socket', async () => {
    let calls = 0;
    const world = setUp({
      onAcquire: (lease) => {
        calls += 1;
        if (calls === 1) lease.destroy();
      },
    });
    const told = failures(world);
    const asked = watch(world.pool.acquire());
    await world.pass(200);
    expect(asked.value?.connectionId).toBe(2);
    expect(told).toMatchObject([{ connectionId: 1, hook: 'onAcquire' }]);
    expect(world.pool.stats()).toMatchObject({ closedBy: { destroyed: 1 }, hookFailed: 1, total: 1 });
  });

  it('may keep its lease, which is of no use to it afterwards', async () => {
    const kept: TextLease[] = [];
    const world = setUp({ onAcquire: (lease) => void kept.push(lease) });
    const [lease] = await take(world, 1);
    await expect(kept[0]?.request('late')).rejects.toMatchObject({ code: 'ERR_LEASE' });
    await expect(kept[0]?.receive()).rejects.toMatchObject({ code: 'ERR_LEASE' });
    expect(() => kept[0]?.release()).toThrowError(expect.objectContaining({ code: 'ERR_LEASE' }));
    kept[0]?.destroy();
    expect(lease?.isUsable).toBe(true);
    expect(kept[0]?.isHeld).toBe(false);
    expect(world.net.lastPeer.received).toBe('');
  });

  it('whose server hangs up gets its caller another socket, and the last loss is the cause in the end', async () => {
    for (const retries of [0, 1]) {
      const world = setUp({
        retry: { retries },
        onAcquire: async (lease) => {
          await lease.request('AUTH');
        },
      });
      world.net.onPeer = (peer) => {
        peer.stream.on('data', () => peer.fin());
      };
      const asked = watch(world.pool.acquire());
      await world.pass(3_000);
      const error = asked.error as AcquireError;
      expect(error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED' });
      expect(error.cause).toBeInstanceOf(Error);
      expect(error.message).not.toContain('unknown');
      // The server did it: no hook has failed.
      expect(world.pool.stats()).toMatchObject({ waiting: 0, leased: 0, hookFailed: 0 });
      expect(world.net.dialedAt.length).toBeGreaterThan(retries);
    }
  });

  it('keeps the place in the queue of a caller whose socket it refused', async () => {
    const refused = new Set<number>([1]);
    const world = setUp({
      max: 1,
      onAcquire: (lease) => {
        if (refused.delete(lease.connectionId)) throw new Error('not this one');
      },
    });
    const order: number[] = [];
    for (const caller of [1, 2, 3]) {
      watch(
        world.pool.use(async () => {
          order.push(caller);
        }),
      );
    }
    await world.pass(500);
    expect(order).toEqual([1, 2, 3]);
  });

  it('runs for several callers side by side, and one that hangs holds up nobody else', async () => {
    let calls = 0;
    const world = setUp({
      max: 3,
      onAcquire: () => {
        calls += 1;
        return calls === 1 ? forever() : undefined;
      },
    });
    const asked = [1, 2, 3].map(() => watch(world.pool.acquire()));
    await world.now();
    expect(asked.map((one) => one.isSettled)).toEqual([false, true, true]);
    asked[1]?.value?.release();
    const next = watch(world.pool.acquire());
    await world.now();
    expect(next.isSettled).toBe(true);
  });

  it('of a caller who gives up meanwhile: the socket goes to the next one, prepared again', async () => {
    let calls = 0;
    const world: World = setUp({
      max: 1,
      onAcquire: () => {
        calls += 1;
        return spend(() => world, 100);
      },
    });
    const controller = new AbortController();
    const first = watch(world.pool.acquire({ signal: controller.signal }));
    const second = watch(world.pool.acquire());
    await world.pass(50);
    controller.abort('enough');
    await world.now();
    expect(first.error).toBe('enough');
    await world.pass(60);
    expect([calls, second.isSettled]).toEqual([2, false]);
    await world.pass(100);
    expect(second.value?.connectionId).toBe(1);
    expect(world.pool.stats()).toMatchObject({ cancelled: 1, acquired: 1, opened: 1 });
  });

  it('of a caller whose time is up meanwhile: the socket rests when nobody waits', async () => {
    const world: World = setUp({ max: 1, acquireTimeoutMs: 80, onAcquire: () => spend(() => world, 100) });
    const short = watch(world.pool.acquire({ timeoutMs: 50 }));
    await world.pass(51);
    expect(short.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT', waitedMs: 50 });
    await world.pass(60);
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0, timedOut: 1, acquired: 0 });
    const usual = watch(world.pool.acquire());
    await world.pass(79);
    expect(usual.isSettled).toBe(false);
    await world.pass(2);
    expect(usual.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT', waitedMs: 80 });
    await world.pass(30);
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0, timedOut: 2, hookFailed: 0 });
  });

  it('holds the process while somebody waits for it', async () => {
    const world: World = setUp({ onAcquire: () => spend(() => world, 100) });
    const asked = watch(world.pool.acquire());
    await world.pass(50);
    expect(world.net.hold.count).toBeGreaterThan(0);
    await world.pass(60);
    expect(asked.isSettled).toBe(true);
    expect(world.net.hold.count).toBe(0);
  });

  it('does not run for a dial, nor for a ping', async () => {
    let calls = 0;
    const world = setUp({
      min: 2,
      heartbeat: HEARTBEAT,
      onAcquire: () => {
        calls += 1;
      },
    });
    await world.pass(5_000);
    expect(world.pool.stats().pinged).toBeGreaterThan(2);
    expect(calls).toBe(0);
  });
});

describe('onRelease', () => {
  it('resets the session after each lease, before the next waiter gets the socket', async () => {
    const world = setUp({
      max: 1,
      onRelease: async (lease) => {
        expect(await lease.request('RESET')).toBe('Echo: RESET');
      },
    });
    const replies = ['a', 'b', 'c'].map((word) => watch(world.pool.request(word)));
    await world.now();
    expect(replies.map((one) => one.value)).toEqual(['Echo: a', 'Echo: b', 'Echo: c']);
    expect(world.net.lastPeer.received).toBe('a\nRESET\nb\nRESET\nc\nRESET\n');
    expect(world.pool.stats()).toMatchObject({ idle: 1, hookFailed: 0 });
  });

  it('has its socket counted as leased, and lent to nobody, until it has returned', async () => {
    const world: World = setUp({ max: 1, onRelease: () => spend(() => world, 100) });
    const [lease] = await take(world, 1);
    lease?.release();
    const asked = watch(world.pool.acquire());
    await world.pass(99);
    expect(asked.isSettled).toBe(false);
    expect(world.pool.stats()).toMatchObject({ leased: 1, idle: 0, waiting: 1 });
    await world.pass(2);
    expect(asked.value?.connectionId).toBe(1);
  });

  it('that throws costs the socket only: nothing is thrown at who released it', async () => {
    const world = setUp({
      max: 2,
      onRelease: (lease) => {
        if (lease.connectionId === 1) throw new Error('can’t reset');
      },
    });
    const told = failures(world);
    const leases = await take(world, 2);
    for (const lease of leases) expect(() => lease.release()).not.toThrow();
    await world.now();
    expect(told).toMatchObject([{ connectionId: 1, hook: 'onRelease', error: { code: 'ERR_HOOK' } }]);
    expect(world.pool.stats()).toMatchObject({ idle: 1, total: 1, hookFailed: 1, closedBy: { hook: 1 } });
    // Whoever released it was heard: the lease was clean.
    expect(world.told.filter((event) => event === 'released').length).toBe(2);
  });

  it('that hangs ends by hookTimeoutMs, and whoever waits gets another socket', async () => {
    let calls = 0;
    const world = setUp({
      max: 1,
      hookTimeoutMs: 300,
      onRelease: () => {
        calls += 1;
        return calls === 1 ? forever() : undefined;
      },
    });
    const told = failures(world);
    const [lease] = await take(world, 1);
    lease?.release();
    const asked = watch(world.pool.acquire());
    await world.pass(299);
    expect(asked.isSettled).toBe(false);
    await world.pass(200);
    expect(asked.value?.connectionId).toBe(2);
    expect(told).toMatchObject([{ connectionId: 1, hook: 'onRelease', error: { retryable: true } }]);
  });

  it('that leaves a reply unread ends the socket', async () => {
    const world = setUp({ onRelease: (lease) => lease.send('unread') });
    const [lease] = await take(world, 1);
    lease?.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ total: 0, hookFailed: 1, closedBy: { hook: 1 } });
  });

  it('whose socket dies meanwhile is told once, and the pool goes on', async () => {
    const world: World = setUp({ max: 1, onRelease: () => spend(() => world, 100) });
    const told = failures(world);
    const [lease] = await take(world, 1);
    lease?.release();
    await world.pass(50);
    world.net.lastPeer.reset();
    const asked = watch(world.pool.acquire());
    await world.pass(100);
    expect(asked.value?.connectionId).toBe(2);
    expect(world.pool.stats()).toMatchObject({ closedBy: { 'peer-reset': 1 }, total: 1 });
    expect(told.length).toBeLessThanOrEqual(1);
  });

  it('is left out when the socket must go: it is used up, too old, outdated, or dirty', async () => {
    const reset: number[] = [];
    const world = setUp({
      max: 3,
      maxUses: 2,
      onRelease: (lease) => {
        reset.push(lease.connectionId);
      },
    });
    for (let use = 0; use < 2; use++) {
      const [lease] = await take(world, 1);
      lease?.release();
      await world.now();
    }
    // After its first lease, not after its last one.
    expect(reset).toEqual([1]);
    const [outdated, dirty] = await take(world, 2);
    watch(world.pool.reset({ perSecond: 1_000 }));
    await world.pass(100);
    outdated?.release();
    const asked = watch(dirty?.send('unanswered') ?? forever());
    dirty?.release();
    await world.now();
    expect(asked.isSettled).toBe(true);
    expect(reset).toEqual([1]);
    expect(world.pool.stats().closedBy).toMatchObject({ uses: 1, dirty: 1 });
  });

  it('is left out for a lease that was destroyed, and for what `use` threw', async () => {
    let calls = 0;
    const world = setUp({
      onRelease: () => {
        calls += 1;
      },
    });
    const [lease] = await take(world, 1);
    lease?.destroy();
    const used = watch(world.pool.use(() => Promise.reject(new Error('mine'))));
    await world.now();
    expect(used.isSettled).toBe(true);
    expect(calls).toBe(0);
    expect(world.pool.stats()).toMatchObject({ closedBy: { destroyed: 1, failed: 1 } });
  });

  it('keeps its lease from being used afterwards', async () => {
    const kept: TextLease[] = [];
    const world = setUp({ onRelease: (lease) => void kept.push(lease) });
    const [lease] = await take(world, 1);
    lease?.release();
    await world.now();
    await expect(kept[0]?.request('late')).rejects.toMatchObject({ code: 'ERR_LEASE' });
    expect(world.net.lastPeer.received).toBe('');
    expect(world.pool.stats().idle).toBe(1);
  });

  it('does not begin the life of a socket anew: idle and lifetime are counted as without it', async () => {
    const world = setUp({ idleTimeoutMs: 5_000, onRelease: () => undefined });
    const [lease] = await take(world, 1);
    await world.pass(3_000);
    lease?.release();
    await world.pass(4_000);
    expect(world.pool.stats().idle).toBe(1);
    await world.pass(2_000);
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { idle: 1 } });
  });

  it('and onAcquire together run in turn: reset, then prepare', async () => {
    const world = setUp({
      max: 1,
      onAcquire: async (lease) => {
        await lease.request('PREPARE');
      },
      onRelease: async (lease) => {
        await lease.request('RESET');
      },
    });
    const replies = ['a', 'b'].map((word) => watch(world.pool.request(word)));
    await world.now();
    expect(replies.map((one) => one.value)).toEqual(['Echo: a', 'Echo: b']);
    expect(world.net.lastPeer.received).toBe('PREPARE\na\nRESET\nPREPARE\nb\nRESET\n');
  });
});

describe('onClose', () => {
  it('says goodbye on a healthy socket, and hears why it ends', async () => {
    const goodbyes: string[] = [];
    const world = setUp({
      min: 1,
      max: 6,
      idleTimeoutMs: 5_000,
      maxUses: 2,
      onClose: async (lease, { reason }) => {
        goodbyes.push(`${reason}: ${await lease.request('QUIT')}`);
      },
    });
    const leases = await take(world, 4);
    for (const lease of leases) lease.release();
    world.pool.resize({ maxIdle: 3 });
    await world.now();
    expect(goodbyes).toEqual(['surplus: Echo: QUIT']);
    await world.pass(6_000);
    expect(goodbyes.slice(1)).toEqual(['idle: Echo: QUIT', 'idle: Echo: QUIT']);
    const [last] = await take(world, 1);
    last?.release();
    await world.now();
    expect(goodbyes[3]).toBe('uses: Echo: QUIT');
    watch(world.pool.reset());
    await world.pass(100);
    expect(goodbyes[4]).toBe('reset: Echo: QUIT');
    watch(world.pool.close());
    await world.pass(100);
    expect(goodbyes[5]).toBe('shutdown: Echo: QUIT');
    expect(goodbyes.length).toBe(6);
  });

  it('is not called for a socket that has died, or is in an unknown state', async () => {
    let calls = 0;
    const world = setUp({
      min: 1,
      max: 3,
      onClose: () => {
        calls += 1;
      },
    });
    await world.now();
    world.net.lastPeer.reset();
    await world.pass(500);
    world.net.lastPeer.write('stray\n');
    await world.now();
    // A server that spoils what was just opened is left alone for a moment.
    await world.pass(500);
    const [lease] = await take(world, 1);
    watch(lease?.send('unanswered') ?? forever());
    lease?.release();
    await world.pass(500);
    const [other] = await take(world, 1);
    other?.destroy();
    await world.pass(500);
    expect(calls).toBe(0);
    expect(world.pool.stats().closed).toBe(4);
  });

  it('that hangs ends by hookTimeoutMs, and holds its place meanwhile', async () => {
    const world = setUp({ max: 1, maxIdle: 0, hookTimeoutMs: 700, onClose: forever });
    const told = failures(world);
    const [lease] = await take(world, 1);
    lease?.release();
    const asked = watch(world.pool.acquire());
    await world.pass(699);
    expect(asked.isSettled).toBe(false);
    expect(world.pool.stats()).toMatchObject({ closing: 1, total: 1, dialing: 0 });
    await world.pass(2);
    expect(asked.value?.connectionId).toBe(2);
    expect(told).toMatchObject([{ connectionId: 1, hook: 'onClose', error: { code: 'ERR_HOOK' } }]);
    asked.value?.destroy();
  });

  it('that throws is told; the socket ends as it would have, once, with its own reason', async () => {
    const world = setUp({
      maxIdle: 0,
      onClose: () => {
        throw new Error('no goodbye');
      },
    });
    const told = failures(world);
    const [lease] = await take(world, 1);
    lease?.release();
    await world.now();
    expect(told).toMatchObject([{ hook: 'onClose', error: { cause: { message: 'no goodbye' } } }]);
    expect(world.pool.stats()).toMatchObject({
      total: 0,
      closed: 1,
      closedBy: { surplus: 1 },
      hookFailed: 1,
    });
    // It says nothing about the server: the next dial does not wait.
    const next = watch(world.pool.acquire());
    await world.now();
    expect(next.isSettled).toBe(true);
  });

  it('may have the server end the socket: that is what a goodbye is for', async () => {
    const world = setUp({
      maxIdle: 0,
      onClose: async (lease) => {
        await lease.request('QUIT').catch(() => undefined);
      },
    });
    world.net.onPeer = (peer) => {
      peer.stream.on('data', (chunk: Buffer) => {
        if (String(chunk) === 'QUIT\n') peer.fin();
      });
    };
    const [lease] = await take(world, 1);
    lease?.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { surplus: 1 }, hookFailed: 0 });
  });

  it('may leave a reply unread: nobody gets the socket after it', async () => {
    const world = setUp({ maxIdle: 0, onClose: (lease) => lease.send('QUIT') });
    const [lease] = await take(world, 1);
    lease?.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ total: 0, hookFailed: 0 });
    expect(world.net.lastPeer.received).toBe('QUIT\n');
  });

  it('may destroy its lease', async () => {
    const world = setUp({ maxIdle: 0, onClose: (lease) => lease.destroy() });
    const [lease] = await take(world, 1);
    lease?.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { surplus: 1 }, hookFailed: 0 });
  });

  it('tells `closed` when the socket begins to end, before the goodbye', async () => {
    const order: string[] = [];
    const world = setUp({
      maxIdle: 0,
      onClose: async (lease) => {
        await lease.request('QUIT');
        order.push('goodbye');
      },
    });
    world.pool.on('closed', () => order.push('closed'));
    const [lease] = await take(world, 1);
    lease?.release();
    await world.now();
    expect(order).toEqual(['closed', 'goodbye']);
  });
});

describe('close() with hooks', () => {
  it('resets the session before the next waiter gets the socket, also while draining, and not after the last', async () => {
    const world = setUp({
      max: 1,
      onRelease: async (lease) => {
        await lease.request('RESET');
      },
      onClose: async (lease) => {
        await lease.request('QUIT');
      },
    });
    const [lease] = await take(world, 1);
    const replies = ['a', 'b'].map((word) => watch(world.pool.request(word)));
    const closing = watch(world.pool.close());
    lease?.release();
    await world.now();
    expect(replies.map((one) => one.value)).toEqual(['Echo: a', 'Echo: b']);
    expect(world.net.lastPeer.received).toBe('RESET\na\nRESET\nb\nQUIT\n');
    expect(closing.value).toMatchObject({ forced: 0 });
  });

  it('waits for a hook that prepares a socket, and serves its caller', async () => {
    const world: World = setUp({ onAcquire: () => spend(() => world, 100) });
    const asked = watch(world.pool.request('hello'));
    await world.pass(50);
    const closing = watch(world.pool.close());
    await world.pass(49);
    expect(closing.isSettled).toBe(false);
    await world.pass(10);
    expect(asked.value).toBe('Echo: hello');
    expect(closing.value).toMatchObject({ forced: 0 });
  });

  it('does not wait for a hook longer than its deadline; a caller whose socket was being prepared is told', async () => {
    const world = setUp({ onAcquire: forever });
    const asked = watch(world.pool.acquire());
    await world.now();
    const closing = watch(world.pool.close({ timeoutMs: 100 }));
    await world.pass(101);
    expect(asked.error).toMatchObject({ code: 'ERR_POOL_CLOSED' });
    // No lease was held: the hook had the socket.
    expect(closing.value).toEqual({ forced: 0, holders: [] });
  });

  it('does not wait for onRelease or onClose longer than its deadline', async () => {
    for (const hook of ['onRelease', 'onClose'] as const) {
      const world = setUp({ [hook]: forever, hookTimeoutMs: 10_000 });
      const [lease] = await take(world, 1);
      lease?.release();
      await world.now();
      const closing = watch(world.pool.close({ timeoutMs: 100 }));
      await world.pass(99);
      expect(closing.isSettled).toBe(false);
      await world.pass(2);
      expect(closing.value).toMatchObject({ forced: 0 });
    }
  });

  it('tells a caller whose prepared socket is lost while the pool closes', async () => {
    const world = setUp({ onAcquire: forever });
    const asked = watch(world.pool.acquire());
    await world.now();
    const closing = watch(world.pool.close());
    world.net.lastPeer.reset();
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_POOL_CLOSED' });
    expect(closing.isSettled).toBe(true);
  });
});

describe('hooks and a suspended pool', () => {
  it('go on for leases that come back; onAcquire does not begin', async () => {
    const calls: string[] = [];
    const world = setUp({
      max: 1,
      onAcquire: () => void calls.push('acquire'),
      onRelease: () => void calls.push('release'),
    });
    const [lease] = await take(world, 1);
    watch(world.pool.suspend());
    const asked = watch(world.pool.acquire());
    lease?.release();
    await world.pass(100);
    expect(calls).toEqual(['acquire', 'release']);
    expect(asked.isSettled).toBe(false);
    world.pool.resume();
    await world.now();
    expect(calls).toEqual(['acquire', 'release', 'acquire']);
    expect(asked.isSettled).toBe(true);
  });

  it('reset() during onAcquire lends the socket once more, and then replaces it', async () => {
    const world: World = setUp({ onAcquire: () => spend(() => world, 100) });
    const asked = watch(world.pool.acquire());
    await world.pass(50);
    const reset = watch(world.pool.reset());
    await world.pass(200);
    expect(asked.value?.connectionId).toBe(1);
    asked.value?.release();
    await world.pass(200);
    expect(reset.isSettled).toBe(true);
    expect(world.pool.stats().closedBy).toEqual({ reset: 1 });
  });
});

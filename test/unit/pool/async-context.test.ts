import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, expect, it } from 'vitest';
import type { PoolEvents } from '../../../src/events.ts';
import { HEARTBEAT, type Options, setUp, watch } from '../../support/pool-world.ts';

/** A pool made in the context `maker`, and in which context each of these events is told. */
function contexts(options: Options, events: readonly (keyof PoolEvents)[]) {
  const storage = new AsyncLocalStorage<string>();
  const world = storage.run('maker', () => setUp(options));
  const told: string[] = [];
  for (const event of events) {
    // Listeners are added by somebody else again.
    storage.run('listener', () => world.pool.on(event, () => told.push(`${event} in ${storage.getStore()}`)));
  }
  return { ...world, storage, told };
}

describe('an event of a lease', () => {
  it('is told in the context of the caller who got it, whoever had opened the socket', async () => {
    const { now, pool, storage, told } = contexts({ max: 1 }, ['opened', 'acquired', 'released', 'closed']);
    for (const caller of ['first', 'second']) {
      watch(storage.run(caller, () => pool.use(() => undefined)));
      await now();
    }
    const third = watch(storage.run('third', () => pool.acquire()));
    await now();
    storage.run('somebody else', () => third.value?.destroy());
    await now();
    expect(told).toEqual([
      'opened in maker',
      'acquired in first',
      'released in first',
      'acquired in second',
      'released in second',
      'acquired in third',
      'closed in third',
    ]);
  });

  it('is told so for callers who waited, timed out, or were refused', async () => {
    const { now, pass, pool, storage, told } = contexts({ max: 1, acquireTimeoutMs: 100, maxWaiting: 2 }, [
      'acquired',
      'acquireFailed',
    ]);
    const holder = watch(storage.run('holder', () => pool.acquire()));
    await now();
    watch(storage.run('served', () => pool.acquire()));
    watch(storage.run('late', () => pool.acquire()));
    watch(storage.run('refused', () => pool.acquire()));
    await now();
    storage.run('releaser', () => holder.value?.release());
    await pass(120);
    expect(told).toEqual([
      'acquired in holder',
      'acquireFailed in refused',
      'acquired in served',
      'acquireFailed in late',
    ]);
  });

  it('is told so when the dial has failed for good', async () => {
    const { net, now, pool, storage, told } = contexts({ retry: { retries: 0, baseMs: 1_000 } }, [
      'dialFailed',
      'acquireFailed',
    ]);
    net.outcome = { kind: 'refuse' };
    watch(storage.run('one', () => pool.acquire()));
    await now();
    watch(storage.run('two', () => pool.request('hello')));
    await now();
    expect(told).toEqual(['dialFailed in maker', 'acquireFailed in one', 'acquireFailed in two']);
  });

  it('is told so of leaks', async () => {
    const { now, pass, pool, storage, told } = contexts({ leakAfterMs: 1_000 }, ['leaked', 'unleaked']);
    const asked = watch(storage.run('slow', () => pool.acquire()));
    await pass(1_500);
    storage.run('slow', () => asked.value?.release());
    await now();
    expect(told).toEqual(['leaked in slow', 'unleaked in slow']);
  });

  it('is told so by tryAcquire and request, too', async () => {
    const { now, pool, storage, told } = contexts({ max: 1 }, ['acquired', 'released']);
    await Promise.all([storage.run('request', () => pool.request('hello')), now()]);
    const tried = watch(storage.run('try', () => pool.tryAcquire()));
    await now();
    tried.value?.release();
    await Promise.all([storage.run('bounds', () => pool.request('hello', { timeoutMs: 99 })), now()]);
    expect(told).toEqual([
      'acquired in request',
      'released in request',
      'acquired in try',
      'released in try',
      'acquired in bounds',
      'released in bounds',
    ]);
  });
});

describe('an event of the pool', () => {
  it('is told in the context of its maker, whoever was the cause', async () => {
    const { clock, net, pass, pool, storage, told } = contexts({ max: 2, heartbeat: HEARTBEAT }, [
      'opened',
      'pinged',
      'pingMissed',
      'stalled',
      'closed',
      'poolClosed',
    ]);
    await Promise.all([storage.run('caller', () => pool.request('hello')), pass(1)]);
    await pass(1_100);
    clock.freeze(5_000);
    await pass(1_000);
    net.lastPeer.isMute = true;
    await pass(3_000);
    const closing = storage.run('closer', () => pool.close());
    await pass(1);
    await closing;
    expect(new Set(told.map((line) => line.split(' in ')[1]))).toEqual(new Set(['maker']));
    expect(new Set(told.map((line) => line.split(' in ')[0]))).toEqual(
      new Set(['opened', 'pinged', 'pingMissed', 'stalled', 'closed', 'poolClosed']),
    );
  });
});

describe('what a caller awaits', () => {
  it('goes on in the caller’s context: replies, receive(), for await, and the drain of send()', async () => {
    const { net, now, pool, storage } = contexts({ max: 1 }, []);
    // Opened on behalf of somebody else.
    await Promise.all([storage.run('opener', () => pool.request('warm')), now()]);
    const seen: string[] = [];
    const at = (place: string): number => seen.push(`${place} in ${storage.getStore()}`);
    const work = async (): Promise<void> => {
      const lease = await pool.acquire();
      at('acquire');
      await lease.request('hello');
      at('reply');
      await lease.send('one');
      at('sent');
      await lease.receive();
      at('received');
      await lease.send('two', { replies: 2 });
      for await (const frame of lease) {
        at(`frame ${frame}`);
        if (frame === 'last') break;
      }
      lease.release();
    };
    const done = watch(storage.run('holder', work));
    await now();
    storage.run('server', () => net.lastPeer.write('last\n'));
    await now();
    expect(done.isSettled).toBe(true);
    expect(seen).toEqual([
      'acquire in holder',
      'reply in holder',
      'sent in holder',
      'received in holder',
      'frame Echo: two in holder',
      'frame last in holder',
    ]);
  });

  it('goes on so when it fails', async () => {
    const { net, now, pool, storage } = contexts({ max: 1 }, []);
    await Promise.all([storage.run('opener', () => pool.request('warm')), now()]);
    const seen: unknown[] = [];
    net.lastPeer.isMute = true;
    storage.run('holder', () => {
      pool.request('hello').catch(() => seen.push(storage.getStore()));
    });
    await now();
    storage.run('server', () => net.lastPeer.reset());
    await now();
    expect(seen).toEqual(['holder']);
  });
});

describe('a detached socket', () => {
  it('tells its events in the context of who detached it', async () => {
    const { clock, net, now, pool, storage } = contexts({ max: 1 }, []);
    await Promise.all([storage.run('opener', () => pool.request('warm')), now()]);
    const seen: string[] = [];
    const done = watch(
      storage.run('holder', async () => {
        const socket = (await pool.acquire()).detach();
        socket.on('data', () => seen.push(`data in ${storage.getStore()}`));
        socket.on('end', () => seen.push(`end in ${storage.getStore()}`));
        socket.on('close', () => seen.push(`close in ${storage.getStore()}`));
        socket.resume();
      }),
    );
    await clock.advance(0);
    expect(done.isSettled).toBe(true);
    storage.run('server', () => net.lastPeer.write('hello'));
    await clock.advance(0);
    storage.run('server', () => net.lastPeer.fin());
    await clock.advance(0);
    expect(seen).toEqual(['data in holder', 'end in holder', 'close in holder']);
  });
});

describe('the hooks and the codec', () => {
  it('run in the context of the pool’s maker or of the caller, never in that of an earlier caller', async () => {
    const storage = new AsyncLocalStorage<string>();
    const seen: string[] = [];
    const note = (hook: string) => () => void seen.push(`${hook} in ${storage.getStore()}`);
    const world = storage.run('maker', () =>
      setUp({
        max: 1,
        onConnect: note('onConnect'),
        onAcquire: note('onAcquire'),
        onRelease: note('onRelease'),
        onClose: note('onClose'),
      }),
    );
    watch(storage.run('first', () => world.pool.use(() => undefined)));
    await world.now();
    watch(storage.run('second', () => world.pool.use(() => undefined)));
    await world.now();
    expect(seen[0]).toBe('onConnect in maker');
    expect(seen.slice(3).filter((line) => line.endsWith('in first'))).toEqual([]);
  });
});

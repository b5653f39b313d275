import { describe, expect, it } from 'vitest';
import { FakeNet } from '../../support/fake-net.ts';
import { HEARTBEAT, setUp, take, watch } from '../../support/pool-world.ts';

describe('with the server down', () => {
  it('fails waiters with the dial’s error as cause, after the attempts that retry allows and no more', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'refuse', afterMs: 1 };
    const asked = Array.from({ length: 50 }, () => watch(world.pool.acquire()));
    await world.pass(2_000);
    for (const { error } of asked) {
      expect(error).toMatchObject({
        code: 'ERR_ACQUIRE_FAILED',
        retryable: true,
        cause: { code: 'ERR_REFUSED' },
      });
    }
    // Four dials side by side at first; then single probes, four attempts in all.
    expect(world.net.dialedAt.length).toBe(7);
    expect(world.pool.stats()).toMatchObject({ dialFailed: 7, waiting: 0, total: 0 });
  });

  it('fails a later caller after one attempt, not after another series', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'refuse', afterMs: 1 };
    const first = watch(world.pool.acquire());
    await world.pass(5_000);
    expect(first.isSettled).toBe(true);
    const before = world.net.dialedAt.length;
    const second = watch(world.pool.acquire());
    await world.pass(2);
    expect(second.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED' });
    expect(world.net.dialedAt.length).toBe(before + 1);
  });

  it('dials no more often for callers who come again and again than its back-off allows', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'refuse', afterMs: 1 };
    for (let second = 0; second < 60; second++) {
      for (let caller = 0; caller < 20; caller++) watch(world.pool.acquire());
      await world.pass(1_000);
    }
    // About one a second at the cap (half of 2,000 ms), and a few quick ones before.
    expect(world.net.dialedAt.length).toBeLessThan(75);
    for (let index = 8; index < world.net.dialedAt.length; index++) {
      const [earlier, later] = [world.net.dialedAt[index - 1] ?? 0, world.net.dialedAt[index] ?? 0];
      expect(later - earlier).toBeGreaterThanOrEqual(200);
    }
  });

  it('probes alone while it is failing, and dials side by side again when the probe has succeeded', async () => {
    const world = setUp({ max: 10, retry: { retries: 100 } });
    world.net.outcome = { kind: 'refuse', afterMs: 20 };
    const asked = Array.from({ length: 10 }, () => watch(world.pool.acquire()));
    await world.pass(100);
    for (let step = 0; step < 100; step++) {
      await world.pass(10);
      expect(world.net.dialing).toBeLessThanOrEqual(1);
    }
    world.net.outcome = { kind: 'open', afterMs: 5 };
    await world.pass(2_200);
    expect(asked.filter((one) => one.value !== undefined).length).toBe(10);
  });

  it('heals by itself when the server is back', async () => {
    const world = setUp({ min: 2, heartbeat: HEARTBEAT });
    await world.now();
    world.net.outcome = { kind: 'refuse', afterMs: 1 };
    for (const peer of world.net.peers) peer.reset();
    await world.pass(30_000);
    expect(world.pool.stats().total).toBe(1);
    world.net.outcome = { kind: 'open' };
    await world.pass(2_000);
    expect(world.pool.stats()).toMatchObject({ idle: 2, total: 2 });
    const reply = watch(world.pool.request('hello'));
    await world.now();
    expect(reply.value).toBe('Echo: hello');
  });

  it('lets waiters hope while a socket is open: a release serves them', async () => {
    const world = setUp({ max: 2 });
    const [lease] = await take(world, 1);
    world.net.outcome = { kind: 'refuse', afterMs: 1 };
    const asked = watch(world.pool.acquire());
    await world.pass(10_000);
    expect(asked.isSettled).toBe(false);
    lease?.release();
    await world.now();
    expect(asked.value?.connectionId).toBe(1);
  });

  it('tells waiters when the last open socket is lost, too', async () => {
    const world = setUp({ max: 2 });
    await take(world, 1);
    world.net.outcome = { kind: 'refuse', afterMs: 1 };
    const asked = watch(world.pool.acquire());
    await world.pass(5_000);
    world.net.lastPeer.reset();
    await world.pass(3_000);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_REFUSED' } });
  });
});

describe('a dial', () => {
  it('that can never succeed is not repeated for its waiters', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'refuse', retryable: false };
    const asked = watch(world.pool.acquire());
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', retryable: false });
    expect(world.net.dialedAt.length).toBe(1);
  });

  it('that hangs costs its own place only, and is given up when the pool closes', async () => {
    const world = setUp({ max: 2 });
    world.net.script = [{ kind: 'hang' }];
    const first = watch(world.pool.acquire());
    const second = watch(world.pool.acquire());
    await world.now();
    expect([first.isSettled, second.isSettled]).toEqual([true, false]);
    first.value?.release();
    await world.now();
    expect(second.isSettled).toBe(true);
    expect(world.pool.stats()).toMatchObject({ dialing: 1, leased: 1 });
  });

  it.each([
    ['an Error', new Error('boom')],
    ['a TypeError', new TypeError('boom')],
    ['something else', 'boom'],
    ['nothing', undefined],
  ])('that rejects with %s becomes an error for its waiters, and spins not', async (_what, error) => {
    const world = setUp({ min: 1 });
    world.net.outcome = { kind: 'throw', error };
    const asked = watch(world.pool.acquire());
    await world.pass(10_000);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_CONNECT' } });
    expect((asked.error as { cause: Error }).cause.cause).toBe(error);
    expect(world.net.dialedAt.length).toBeLessThan(20);
    world.net.outcome = { kind: 'open' };
    await world.pass(2_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1, total: 1 });
  });

  it('whose codec can’t be made becomes an error for its waiters', async () => {
    const made = { count: 0 };
    const world = setUp({
      codec: () => {
        made.count += 1;
        if (made.count > 1) throw new Error('no codec today');
        return { encode: () => Buffer.alloc(0), decode: () => undefined };
      },
    });
    const asked = watch(world.pool.acquire());
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED' });
    expect(String(asked.error)).toContain('no codec today');
    expect(world.net.openSockets).toBe(0);
  });

  it('that throws synchronously becomes an error for its waiters', async () => {
    const net = new FakeNet();
    const { surroundings } = net;
    Object.defineProperty(net, 'surroundings', {
      value: {
        ...surroundings,
        dial: () => {
          throw new Error('at once');
        },
      },
    });
    const world = setUp({}, net);
    const asked = watch(world.pool.acquire());
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_CONNECT' } });
  });

  it('whose onConnect refuses becomes an error for its waiters, and leaves no socket', async () => {
    const world = setUp({
      onConnect: () => {
        throw new Error('wrong password');
      },
    });
    const asked = watch(world.pool.acquire());
    await world.now();
    expect(asked.error).toMatchObject({
      code: 'ERR_ACQUIRE_FAILED',
      retryable: false,
      cause: { code: 'ERR_HANDSHAKE' },
    });
    expect(world.net.openSockets).toBe(0);
  });
});

describe('a server that accepts', () => {
  it.each([
    ['and closes', (net: FakeNet) => (net.onPeer = (peer) => peer.fin())],
    ['and resets', (net: FakeNet) => (net.onPeer = (peer) => process.nextTick(() => peer.reset()))],
    ['and greets where nobody listens', (net: FakeNet) => (net.onPeer = (peer) => peer.write('220 hello\n'))],
    [
      'and says goodbye before it closes',
      (net: FakeNet) => {
        net.onPeer = (peer) => {
          peer.write('-ERR full\n');
          peer.fin();
        };
      },
    ],
  ])('%s is not dialed in a tight loop', async (_what, prepare) => {
    const world = setUp({ min: 2 });
    prepare(world.net);
    await world.pass(60_000);
    expect(world.net.dialedAt.length).toBeLessThan(150);
    expect(world.net.openSockets).toBeLessThanOrEqual(2);
  });

  it('and never answers the ping does not keep its place for ever', async () => {
    const world = setUp({ min: 1, heartbeat: HEARTBEAT });
    world.net.onPeer = (peer) => {
      peer.isMute = true;
    };
    await world.pass(10_000);
    expect(world.pool.stats().closedBy['heartbeat']).toBeGreaterThan(2);
    expect(world.net.openSockets).toBe(1);
  });
});

import { getEventListeners } from 'node:events';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { SubscribeOptions } from '../../../src/client/subscription.ts';
import { assembleClient } from '../../../src/create-client.ts';
import type { PulsepoolError } from '../../../src/errors.ts';
import type { Codec } from '../../../src/transport/codec.ts';
import { lines } from '../../../src/transport/lines.ts';
import { type ClientWorld, type Options, setUpClient } from '../../support/client-world.ts';
import { FakeNet } from '../../support/fake-net.ts';
import { HEARTBEAT, watch } from '../../support/pool-world.ts';

let warnings: string[] = [];
beforeEach(() => {
  warnings = [];
  vi.spyOn(process, 'emitWarning').mockImplementation((text, type) => {
    warnings.push(`${type as string}: ${String(text).split('\n')[0]}`);
  });
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** A world whose server says nothing that the test has not said. */
function setUp(options: Options = {}, net: FakeNet = new FakeNet()): ClientWorld {
  return setUpClient('exclusive', options, { isEchoing: false, net });
}

interface Subscribed {
  readonly subscription: ReturnType<ClientWorld['client']['subscribe']>;
  /** Frames, `lost:<code>` and `restored`, in the order in which they were told. */
  readonly heard: string[];
  readonly errors: PulsepoolError[];
  readonly ready: ReturnType<typeof watch<void>>;
}

function subscribe(
  world: ClientWorld,
  options: SubscribeOptions = {},
  onFrame: (frame: string) => unknown = () => undefined,
  messages: string | readonly string[] = 'SUB a',
): Subscribed {
  const heard: string[] = [];
  const errors: PulsepoolError[] = [];
  const subscription = world.client.subscribe(
    messages,
    (frame) => {
      heard.push(frame);
      return onFrame(frame);
    },
    {
      onLost: (error) => {
        errors.push(error);
        heard.push(`lost:${error.code}`);
      },
      onRestored: () => heard.push('restored'),
      ...options,
    },
  );
  return { subscription, heard, errors, ready: watch(subscription.ready) };
}

/** A handler that takes as long as the test likes. */
function slowHandler() {
  const waiting: (() => void)[] = [];
  return {
    handle: () => new Promise<void>((resolve) => waiting.push(resolve)),
    done: () => waiting.shift()?.(),
    get running() {
      return waiting.length;
    },
  };
}

describe('a subscription', () => {
  it('sends its messages, and hands on every frame in order', async () => {
    const world = setUp();
    const { heard, ready } = subscribe(world, {}, undefined, ['SUB a', 'SUB b']);
    expect(ready.isSettled).toBe(false);
    await world.now();
    expect(ready).toMatchObject({ isSettled: true, error: undefined });
    expect(world.backend.asked).toEqual([['SUB a', 'SUB b']]);
    world.backend.side(0).say('one\ntwo\n', 'three\n');
    await world.now();
    expect(heard).toEqual(['one', 'two', 'three']);
  });

  it('may have nothing to send', async () => {
    const world = setUp();
    const { heard } = subscribe(world, {}, undefined, []);
    await world.now();
    world.backend.side(0).say('one\n');
    await world.now();
    expect(heard).toEqual(['one']);
    expect(world.backend.asked).toEqual([[]]);
  });

  it('takes an array for a list, so that a message which is an array goes into one', async () => {
    const net = new FakeNet();
    const words: Codec<readonly string[], string> = {
      encode: (message) => Buffer.from(`${message.join(' ')}\n`),
      decode: (bytes) => lines().decode(bytes),
    };
    const { client } = assembleClient<readonly string[], string>(net.surroundings, {
      host: 'fake',
      port: 1,
      codec: words,
    });
    client.subscribe(
      [
        ['SUB', 'a'],
        ['SUB', 'b'],
      ],
      () => undefined,
    );
    await net.clock.advance(0);
    expect(net.lastPeer.received).toBe('SUB a\nSUB b\n');
    const closing = client.close({ timeoutMs: 0 });
    await net.clock.advance(1_000);
    await closing;
  });

  it('has a socket of its own, which counts toward max, and holds the process', async () => {
    const world = setUp({ max: 2 });
    subscribe(world);
    await world.now();
    expect(world.pool.stats()).toMatchObject({ leased: 1, total: 1 });
    expect(world.net.hold.count).toBeGreaterThan(0);
    world.backend.isEchoing = true;
    const asked = ['a', 'b'].map((message) => watch(world.client.request(message)));
    await world.now();
    expect(asked.map(({ value }) => value)).toEqual(['Echo: a', 'Echo: b']);
    expect(world.backend.asked).toEqual([['SUB a'], ['a', 'b']]);
  });

  it('may be silent for as long as it likes', async () => {
    const world = setUp({ readTimeoutMs: 1_000, idleTimeoutMs: 1_000, maxLifetimeMs: 5_000 });
    const { heard } = subscribe(world);
    await world.pass(600_000);
    world.backend.side(0).say('one\n');
    await world.now();
    expect(heard).toEqual(['one']);
    expect(world.backend.asked[0]).toEqual(['SUB a']);
  });

  it('is no leak', async () => {
    const world = setUp({ leakAfterMs: 1_000 });
    const leaked: unknown[] = [];
    world.pool.on('leaked', (event) => leaked.push(event));
    subscribe(world);
    await world.pass(60_000);
    expect(leaked).toEqual([]);
  });

  it('hands on one frame after the other, and waits for what the handler has promised', async () => {
    const world = setUp();
    const slow = slowHandler();
    const { heard } = subscribe(world, {}, slow.handle);
    await world.now();
    world.backend.side(0).say('one\ntwo\n');
    await world.pass(5_000);
    expect(heard).toEqual(['one']);
    slow.done();
    await world.now();
    expect(heard).toEqual(['one', 'two']);
    expect(slow.running).toBe(1);
    slow.done();
  });

  it('lets the server wait for a slow handler, so that memory is bounded', async () => {
    const world = setUp();
    const slow = slowHandler();
    subscribe(world, {}, slow.handle);
    await world.now();
    const { stream } = world.net.lastPeer;
    let written = 0;
    for (let i = 0; i < 10_000 && !stream.writableNeedDrain; i++) {
      stream.write(`${'x'.repeat(10_000)}\n`);
      written += 10_001;
      await world.clock.flush();
    }
    expect(written).toBeLessThan(1_500_000);
    expect(stream.writableNeedDrain).toBe(true);
    while (slow.running > 0) {
      slow.done();
      await world.clock.flush();
    }
    expect(stream.writableNeedDrain).toBe(false);
  });

  it('reports what the handler throws, or rejects with, as a warning, and goes on', async () => {
    const world = setUp();
    const { heard } = subscribe(world, {}, (frame) => {
      if (frame === 'one') throw new Error('no');
      return Promise.reject(new Error('never'));
    });
    await world.now();
    world.backend.side(0).say('one\ntwo\nthree\n');
    await world.now();
    expect(heard).toEqual(['one', 'two', 'three']);
    expect(warnings).toEqual([
      'PulsepoolWarning: The handler of a subscription threw: Error: no',
      'PulsepoolWarning: The handler of a subscription threw: Error: never',
      'PulsepoolWarning: The handler of a subscription threw: Error: never',
    ]);
    expect(world.pool.stats()).toMatchObject({ leased: 1, closed: 0 });
  });

  it('refuses what it can’t keep, at once', async () => {
    const world = setUp();
    const bad: [unknown, unknown][] = [
      [undefined, undefined],
      ['onFrame', {}],
      [() => undefined, { onLost: 1 }],
      [() => undefined, { onRestored: null }],
      [() => undefined, { onError: () => undefined }],
      [() => undefined, { signal: {} }],
    ];
    for (const [onFrame, options] of bad) {
      expect(() =>
        world.client.subscribe('SUB', onFrame as () => void, options as SubscribeOptions | undefined),
      ).toThrow(expect.objectContaining({ code: 'ERR_INVALID_OPTION' }));
    }
    expect(() => world.client.subscribe('SUB', () => 1, { signal: AbortSignal.abort('no') })).toThrow('no');
    await world.client.close();
    expect(() => world.client.subscribe('SUB', () => 1)).toThrow(
      expect.objectContaining({ code: 'ERR_POOL_CLOSED' }),
    );
  });
});

describe('a subscription whose socket is lost', () => {
  it('hands on what had come, tells of the loss, gets another one, sends again, and says so', async () => {
    const world = setUp();
    const slow = slowHandler();
    const { errors, heard } = subscribe(world, {}, slow.handle);
    await world.pass(5_000);
    world.backend.side(0).say('one\ntwo\n');
    await world.now();
    world.net.lastPeer.fin();
    await world.now();
    expect(heard).toEqual(['one']);
    slow.done();
    await world.now();
    expect(heard).toEqual(['one', 'two']);
    slow.done();
    await world.now();
    expect(heard).toEqual(['one', 'two', 'lost:ERR_CONNECTION_LOST', 'restored']);
    expect(errors[0]?.retryable).toBe(true);
    expect(world.backend.asked).toEqual([['SUB a'], ['SUB a']]);
    world.backend.side(1).say('three\n');
    await world.now();
    expect(heard.at(-1)).toBe('three');
    slow.done();
    expect(world.pool.stats()).toMatchObject({ leased: 1, total: 1 });
  });

  it('hands on what had come before, also when its messages had not left', async () => {
    const world = setUp();
    world.backend.onSide = ({ peer }) => peer.stream.pause();
    const slow = slowHandler();
    const { heard } = subscribe(world, {}, slow.handle, ['x'.repeat(500_000)]);
    await world.now();
    world.net.lastPeer.write('one\ntwo\n');
    await world.now();
    world.net.lastPeer.fin();
    await world.now();
    slow.done();
    await world.now();
    slow.done();
    await world.now();
    expect(heard).toEqual(['one', 'two', 'lost:ERR_CONNECTION_LOST']);
  });

  it('is told once, while the server is down, and holds the process', async () => {
    const world = setUp();
    const { heard } = subscribe(world);
    await world.pass(5_000);
    world.net.outcome = { kind: 'refuse' };
    world.net.lastPeer.reset();
    await world.pass(60_000);
    expect(heard).toEqual(['lost:ERR_CONNECTION_LOST']);
    expect(world.net.hold.count).toBeGreaterThan(0);
    // One back-off: 2 s at most between attempts, one second on average.
    expect(world.net.dialedAt.length).toBeGreaterThan(20);
    expect(world.net.dialedAt.length).toBeLessThan(80);
    world.net.outcome = { kind: 'open' };
    await world.pass(5_000);
    expect(heard).toEqual(['lost:ERR_CONNECTION_LOST', 'restored']);
    expect(world.backend.asked).toEqual([['SUB a'], ['SUB a']]);
  });

  it('does not give up for an error that is not retryable, once it was ready', async () => {
    const world = setUp();
    const { heard } = subscribe(world);
    await world.pass(5_000);
    world.net.outcome = { kind: 'refuse', retryable: false };
    world.net.lastPeer.reset();
    await world.pass(30_000);
    world.net.outcome = { kind: 'open' };
    await world.pass(5_000);
    expect(heard).toEqual(['lost:ERR_CONNECTION_LOST', 'restored']);
  });

  it('by a server that takes it in and throws it out again is slow to come back', async () => {
    const world = setUp();
    world.backend.onQuestion = ({ peer }) => {
      peer.write('welcome\n');
      peer.fin();
    };
    const { heard } = subscribe(world);
    await world.pass(60_000);
    expect(world.net.dialedAt.length).toBeGreaterThan(20);
    expect(world.net.dialedAt.length).toBeLessThan(100);
    expect(heard.slice(0, 4)).toEqual(['welcome', 'lost:ERR_CONNECTION_LOST', 'restored', 'welcome']);
    world.backend.onQuestion = () => undefined;
    await world.pass(10_000);
    // One that has lasted is forgiven what was before.
    const dials = world.net.dialedAt.length;
    world.net.lastPeer.fin();
    await world.now();
    expect(world.net.dialedAt.length).toBe(dials + 1);
  });

  it('by what can’t be decoded comes back', async () => {
    const world = setUp();
    const { heard } = subscribe(world);
    await world.pass(5_000);
    world.backend.side(0).say('x'.repeat(1_100_000));
    await world.now();
    expect(heard).toEqual(['lost:ERR_FRAME', 'restored']);
  });

  it('goes on when onLost and onRestored throw', async () => {
    const world = setUp();
    const { heard } = subscribe(world, {
      onLost: () => {
        throw new Error('lost');
      },
      onRestored: async () => {
        throw new Error('restored');
      },
    });
    await world.pass(5_000);
    world.net.lastPeer.reset();
    await world.now();
    world.backend.side(1).say('one\n');
    await world.now();
    expect(heard).toEqual(['one']);
    expect(warnings).toEqual([
      'PulsepoolWarning: onLost of a subscription threw: Error: lost',
      'PulsepoolWarning: onRestored of a subscription threw: Error: restored',
    ]);
  });
});

describe('a subscription is ready', () => {
  it('when the server can be reached at last; before that it is told to be lost', async () => {
    const net = new FakeNet();
    net.outcome = { kind: 'refuse' };
    const world = setUp({}, net);
    const { heard, ready } = subscribe(world);
    await world.pass(30_000);
    expect(ready.isSettled).toBe(false);
    expect(heard).toEqual(['lost:ERR_ACQUIRE_FAILED']);
    net.outcome = { kind: 'open' };
    await world.pass(5_000);
    expect(ready).toMatchObject({ isSettled: true, error: undefined });
    expect(heard).toEqual(['lost:ERR_ACQUIRE_FAILED', 'restored']);
  });

  it('when max leaves a place; until then that is told', async () => {
    const world = setUp({ max: 1, acquireTimeoutMs: 500 });
    const lease = await world.pool.acquire();
    const { heard, ready } = subscribe(world);
    await world.pass(2_000);
    expect(heard).toEqual(['lost:ERR_ACQUIRE_TIMEOUT']);
    lease.release();
    await world.pass(5_000);
    expect(ready).toMatchObject({ isSettled: true, error: undefined });
  });

  it('never, when a message can’t be encoded: it ends', async () => {
    const world = setUp();
    const { heard, ready } = subscribe(world, {}, undefined, ['SUB a', 'SUB\nb']);
    await world.pass(5_000);
    expect(ready.error).toMatchObject({ code: 'ERR_FRAME' });
    expect(heard).toEqual([]);
    expect(world.pool.stats()).toMatchObject({ leased: 0, opened: 1 });
  });

  it('never, when the server can’t be reached for good: it ends', async () => {
    const net = new FakeNet();
    net.outcome = { kind: 'refuse', retryable: false };
    const world = setUp({}, net);
    const { heard, ready } = subscribe(world);
    await world.pass(30_000);
    expect(ready.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', retryable: false });
    expect(heard).toEqual([]);
    expect(net.dialedAt.length).toBe(1);
  });

  it('never, when it is closed or aborted before', async () => {
    const net = new FakeNet();
    net.outcome = { kind: 'hang' };
    const world = setUp({}, net);
    const controller = new AbortController();
    const closed = subscribe(world);
    const aborted = subscribe(world, { signal: controller.signal });
    await world.now();
    await closed.subscription.close();
    controller.abort('enough');
    await world.now();
    expect(closed.ready.error).toMatchObject({ code: 'ERR_POOL_CLOSED' });
    expect(aborted.ready.error).toBe('enough');
    expect(world.pool.stats().waiting).toBe(0);
  });
});

describe('the heartbeat of a subscription', () => {
  it('pings a socket on which nothing was read, and keeps the pongs to itself', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    const { heard } = subscribe(world);
    await world.pass(949);
    expect(world.net.lastPeer.received).toBe('SUB a\n');
    await world.pass(5_000);
    const pings = world.net.lastPeer.received.match(/PING\n/g) ?? [];
    expect(pings.length).toBeGreaterThanOrEqual(5);
    expect(pings.length).toBeLessThanOrEqual(7);
    expect(heard).toEqual([]);
    expect(world.pool.stats()).toMatchObject({ leased: 1, closed: 0 });
  });

  it('pings nothing while frames come, nor without a ping', async () => {
    const worlds = [setUp({ heartbeat: HEARTBEAT }), setUp()];
    for (const world of worlds) {
      subscribe(world);
      await world.now();
      for (let i = 0; i < 10; i++) {
        world.backend.side(0).say('news\n');
        await world.pass(500);
      }
      expect(world.net.lastPeer.received).toBe('SUB a\n');
    }
    await worlds[1]?.pass(60_000);
    expect(worlds[1]?.net.lastPeer.received).toBe('SUB a\n');
  });

  it('hands on a frame that looks like a pong while none is due', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    const { heard } = subscribe(world);
    await world.now();
    world.backend.side(0).say('PONG\n');
    await world.pass(2_000);
    world.backend.side(0).say('PONG\n');
    await world.now();
    expect(heard).toEqual(['PONG', 'PONG']);
  });

  it('hands on what is no pong while one is due', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    const { heard } = subscribe(world);
    await world.now();
    world.net.lastPeer.isMute = true;
    await world.pass(1_000);
    expect(world.net.lastPeer.received).toBe('SUB a\nPING\n');
    world.backend.side(0).say('news\nPONG\nPONG\n');
    await world.now();
    expect(heard).toEqual(['news', 'PONG']);
  });

  it('finds a half-open connection, which is replaced', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    const { heard } = subscribe(world);
    await world.now();
    world.net.lastPeer.isMute = true;
    // Two intervals and a timeout at most.
    await world.pass(1_900);
    expect(heard).toEqual([]);
    await world.pass(310);
    expect(heard).toEqual(['lost:ERR_HEARTBEAT', 'restored']);
    expect(world.backend.asked).toEqual([['SUB a'], ['SUB a']]);
    expect(world.pool.stats()).toMatchObject({ closedBy: { heartbeat: 1 }, leased: 1 });
  });

  it('takes any frame for life, and does not kill for a ping that was missed before', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    const { heard } = subscribe(world);
    await world.now();
    world.net.lastPeer.isMute = true;
    for (let i = 0; i < 10; i++) {
      await world.pass(1_300);
      world.backend.side(0).say('news\n');
      await world.now();
    }
    expect(heard).toEqual(Array(10).fill('news'));
    expect(world.pool.stats().closed).toBe(0);
  });

  it('pings again instead of passing a verdict when our own loop was blocked', async () => {
    const world = setUp({ heartbeat: { ...HEARTBEAT, maxMissed: 1 } });
    const { heard } = subscribe(world);
    await world.now();
    world.net.lastPeer.isMute = true;
    await world.pass(1_000);
    expect(world.net.lastPeer.received).toBe('SUB a\nPING\n');
    world.clock.freeze(10_000);
    world.net.lastPeer.isMute = false;
    await world.pass(100);
    expect(heard).toEqual([]);
    expect(world.net.lastPeer.received).toContain('PING\nPING\n');
    expect(world.pool.stats()).toMatchObject({ closed: 0, leased: 1 });
  });

  it('is quiet while a handler takes its time, and goes on afterwards', async () => {
    const world = setUp({ heartbeat: HEARTBEAT });
    const slow = slowHandler();
    const { heard } = subscribe(world, {}, slow.handle);
    await world.now();
    world.net.lastPeer.isMute = true;
    world.backend.side(0).say('one\n');
    await world.pass(60_000);
    expect(heard).toEqual(['one']);
    expect(world.net.lastPeer.received).toBe('SUB a\n');
    slow.done();
    await world.pass(2_500);
    expect(heard).toEqual(['one', 'lost:ERR_HEARTBEAT', 'restored']);
  });

  it('that is under way when a frame comes does not kill a handler that takes its time', async () => {
    const world = setUp({ heartbeat: { ...HEARTBEAT, maxMissed: 1 } });
    const slow = slowHandler();
    const { heard } = subscribe(world, {}, slow.handle);
    await world.now();
    world.net.lastPeer.isMute = true;
    await world.pass(1_000);
    expect(world.net.lastPeer.received).toBe('SUB a\nPING\n');
    world.backend.side(0).say('one\n');
    await world.pass(60_000);
    expect(heard).toEqual(['one']);
    expect(world.pool.stats().closed).toBe(0);
    slow.done();
  });

  it('ends its own socket when isPong throws, and comes back', async () => {
    let isBroken = false;
    const world = setUp({
      heartbeat: {
        ...HEARTBEAT,
        isPong: (frame) => {
          if (isBroken) throw new Error('odd');
          return frame === 'PONG';
        },
      },
    });
    const { heard } = subscribe(world);
    await world.pass(500);
    isBroken = true;
    await world.pass(600);
    isBroken = false;
    expect(heard).toEqual(['lost:ERR_FRAME', 'restored']);
  });
});

describe('closing a subscription', () => {
  it('ends its socket at once and calls the handler no more; it resolves when none runs', async () => {
    const world = setUp();
    const slow = slowHandler();
    const { heard, subscription } = subscribe(world, {}, slow.handle);
    await world.now();
    world.backend.side(0).say('one\ntwo\n');
    await world.now();
    const closing = watch(subscription.close());
    await world.now();
    expect(world.net.openSockets).toBe(0);
    expect(closing.isSettled).toBe(false);
    slow.done();
    await world.now();
    expect(closing.isSettled).toBe(true);
    expect(heard).toEqual(['one']);
    await subscription[Symbol.asyncDispose]();
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { destroyed: 1 } });
    expect(world.net.hold.count).toBe(0);
  });

  it('can be done in the handler, and by a signal', async () => {
    const world = setUp();
    const controller = new AbortController();
    const one = subscribe(world, {}, () => void one.subscription.close());
    const two = subscribe(world, { signal: controller.signal });
    await world.now();
    for (const side of world.backend.sides) side.say('x\ny\n');
    await world.now();
    expect([one.heard, two.heard]).toEqual([['x'], ['x', 'y']]);
    controller.abort();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ total: 0, closedBy: { destroyed: 2 } });
    await world.pass(10_000);
    expect(world.net.dialedAt.length).toBe(2);
  });

  it('keeps a frame to itself that is on its way', async () => {
    const world = setUp();
    const { heard, subscription } = subscribe(world);
    await world.now();
    // Delivered at once, as in an event of the socket's.
    world.net.lastPeer.stream.write('one\n');
    const closing = subscription.close();
    await world.now();
    await closing;
    expect(heard).toEqual([]);
  });

  it('leaves no timer and no listener behind, and harms nobody who did not wait for it to be ready', async () => {
    const world = setUp({ heartbeat: { ...HEARTBEAT, intervalMs: 30_000 } });
    const controller = new AbortController();
    const { signal } = controller;
    const early = world.client.subscribe('SUB', () => undefined, { signal });
    await early.close();
    const late = world.client.subscribe('SUB', () => undefined, { signal });
    await world.pass(100);
    await late.close();
    expect(getEventListeners(signal, 'abort').length).toBe(0);
    await world.pass(40_000);
    expect(world.clock.pendingTimers).toBe(0);
    world.client.subscribe('SUB', () => undefined);
    await world.pass(100);
  });

  it('while it waits for its next attempt leaves nothing behind', async () => {
    const net = new FakeNet();
    net.outcome = { kind: 'refuse' };
    const world = setUp({}, net);
    const { subscription } = subscribe(world);
    await world.pass(10_000);
    await subscription.close();
    await world.pass(10_000);
    const dials = net.dialedAt.length;
    await world.pass(10_000);
    expect(net.dialedAt.length).toBe(dials);
    expect(net.hold.count).toBe(0);
  });

  it('comes first when the client closes, which waits for handlers', async () => {
    const world = setUp();
    const slow = slowHandler();
    const { heard } = subscribe(world, {}, slow.handle);
    await world.now();
    world.backend.side(0).say('one\n');
    await world.now();
    const closing = watch(world.client.close());
    await world.pass(1_000);
    expect(world.net.openSockets).toBe(0);
    expect(closing.isSettled).toBe(false);
    slow.done();
    await world.now();
    expect(closing.value).toMatchObject({ forced: 0 });
    expect(heard).toEqual(['one']);
  });

  it('by the client does not wait for ever for a handler that hangs', async () => {
    const world = setUp();
    const slow = slowHandler();
    subscribe(world, {}, slow.handle);
    await world.now();
    world.backend.side(0).say('one\n');
    await world.now();
    const closing = watch(world.client.close({ timeoutMs: 2_000 }));
    await world.pass(1_999);
    expect(closing.isSettled).toBe(false);
    await world.pass(2);
    expect(closing.isSettled).toBe(true);
    slow.done();
    await world.now();
  });

  it('happens by itself when its pool closes', async () => {
    const world = setUp();
    const { heard, subscription } = subscribe(world);
    await world.now();
    const closing = watch(world.pool.close({ timeoutMs: 100 }));
    await world.pass(200);
    expect(closing.value).toMatchObject({ forced: 1 });
    await subscription.ended;
    expect(heard).toEqual([]);
  });
});

import { getEventListeners } from 'node:events';
import { describe, expect, it, vi } from 'vitest';
import { ClientStream, type StreamOptions } from '../../../src/client/stream.ts';
import { type ClientWorld, MODES, type Options, SHARED, setUpClient } from '../../support/client-world.ts';
import { watch } from '../../support/pool-world.ts';
import { holdInKernel } from '../../support/virtual-kernel.ts';

const isLast = (frame: string): boolean => frame === 'END';

/** A world whose server says nothing that the test has not said. */
function setUp(options: Options = {}, mode: (typeof MODES)[number] = 'exclusive'): ClientWorld {
  return setUpClient(mode, options, { isEchoing: false });
}

function open(
  world: ClientWorld,
  messages: string | AsyncIterable<string> = 'DUMP',
  options: Partial<StreamOptions<string>> = {},
) {
  return world.client.stream(messages, { isLast, ...options });
}

/** Reads all frames, one after the other, as a loop does. */
function readAll(frames: AsyncIterable<string>) {
  const seen: string[] = [];
  const done = (async () => {
    for await (const frame of frames) seen.push(frame);
  })();
  return { seen, outcome: watch(done) };
}

/** Messages that the test gives when it likes. */
function hose() {
  const waiting: ((result: IteratorResult<string>) => void)[] = [];
  const kept: IteratorResult<string>[] = [];
  const give = (result: IteratorResult<string>): void => {
    const taker = waiting.shift();
    if (taker === undefined) kept.push(result);
    else taker(result);
  };
  const state = { asked: 0, returned: 0 };
  return {
    state,
    give: (message: string) => give({ done: false, value: message }),
    end: () => give({ done: true, value: undefined }),
    messages: {
      [Symbol.asyncIterator]: () => ({
        next: () => {
          state.asked += 1;
          const first = kept.shift();
          if (first !== undefined) return Promise.resolve(first);
          return new Promise<IteratorResult<string>>((resolve) => waiting.push(resolve));
        },
        return: async () => {
          state.returned += 1;
          return { done: true as const, value: undefined };
        },
      }),
    } satisfies AsyncIterable<string>,
  };
}

async function* few(...messages: string[]): AsyncGenerator<string> {
  yield* messages;
}

describe.each(MODES)('a stream of a client in mode %s', (mode) => {
  it('yields every frame with the last one, and its socket serves on', async () => {
    const world = setUp({ max: 1 }, mode);
    const { seen, outcome } = readAll(open(world));
    await world.now();
    expect(world.pool.stats().leased).toBe(1);
    world.backend.side(0).say('one\ntwo\n', 'END\n');
    await world.now();
    expect(seen).toEqual(['one', 'two', 'END']);
    expect(outcome).toMatchObject({ isSettled: true, error: undefined });
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0, closed: 0 });
    expect(world.backend.side(0).asked).toEqual(['DUMP']);
    world.backend.side(0).due.length = 0;
    world.backend.isEchoing = true;
    const next = watch(world.client.request('next'));
    await world.now();
    expect(next.value).toContain('Echo: next');
    expect(world.pool.stats().opened).toBe(1);
  });

  it('that is left early costs its socket, and its late frames reach nobody', async () => {
    const world = setUp({ max: 1 }, mode);
    const left = (async () => {
      for await (const frame of open(world)) return frame;
      return undefined;
    })();
    const outcome = watch(left);
    await world.now();
    world.backend.side(0).say('one\n');
    await world.now();
    expect(outcome.value).toBe('one');
    world.backend.isEchoing = true;
    const next = watch(world.client.request('next'));
    world.backend.side(0).say('late\n');
    await world.now();
    expect(next.value).toContain('Echo: next');
    expect(world.pool.stats().closedBy).toEqual({ destroyed: 1 });
  });
});

describe.each(SHARED)('a stream beside requests in mode %s', (mode) => {
  it('has a socket of its own, and holds up nobody', async () => {
    const world = setUp({ max: 2 }, mode);
    const { seen } = readAll(open(world));
    await world.now();
    world.backend.isEchoing = true;
    const asked = ['a', 'b'].map((message) => watch(world.client.request(message)));
    await world.now();
    expect(asked.map(({ value }) => value?.includes('Echo'))).toEqual([true, true]);
    expect(world.backend.asked).toEqual([['DUMP'], ['a', 'b']]);
    world.backend.side(0).say('END\n');
    await world.now();
    expect(seen).toEqual(['END']);
  });
});

describe('a stream', () => {
  it('takes no socket before its first frame is asked for', async () => {
    const world = setUp();
    const stream = open(world);
    await world.pass(1_000);
    expect(world.net.dialedAt).toEqual([]);
    await stream.return();
    expect(await stream.next()).toEqual({ done: true, value: undefined });
    expect(world.net.dialedAt).toEqual([]);
  });

  it('serves calls of next() one after the other', async () => {
    const world = setUp();
    const stream = open(world);
    const calls = [1, 2, 3, 4].map(() => watch(stream.next()));
    await world.now();
    world.backend.side(0).say('one\ntwo\nEND\n');
    await world.now();
    expect(calls.map(({ value }) => value)).toEqual([
      { done: false, value: 'one' },
      { done: false, value: 'two' },
      { done: false, value: 'END' },
      { done: true, value: undefined },
    ]);
  });

  it('gives its socket back when the last frame has come, not when that has been worked on', async () => {
    const world = setUp();
    const stream = open(world);
    const first = watch(stream.next());
    await world.now();
    world.backend.side(0).say('END\n');
    await world.now();
    expect(first.value).toEqual({ done: false, value: 'END' });
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0 });
  });

  it('is left at once by return(), also while a frame is waited for', async () => {
    const world = setUp();
    const stream = open(world);
    const waiting = watch(stream.next());
    await world.now();
    expect(await stream.return()).toEqual({ done: true, value: undefined });
    await world.now();
    expect(waiting).toMatchObject({ isSettled: true, value: { done: true }, error: undefined });
    expect(world.pool.stats().closedBy).toEqual({ destroyed: 1 });
  });

  it('hands on nothing after return(), not even a frame that is on its way', async () => {
    const world = setUp();
    const stream = open(world);
    const waiting = watch(stream.next());
    await world.now();
    // Delivered at once, as in an event of the socket's.
    world.net.lastPeer.stream.write('one\n');
    const left = stream.return();
    await world.now();
    expect(waiting.value).toEqual({ done: true, value: undefined });
    expect(await left).toEqual({ done: true, value: undefined });
  });

  it('gives a socket back that comes when it has been left', async () => {
    const world = setUp();
    let give: () => void = () => undefined;
    const stream = new ClientStream('DUMP', { isLast }, undefined, {
      acquire: async () => {
        const lease = await world.pool.acquire();
        await new Promise<void>((resolve) => {
          give = resolve;
        });
        return lease;
      },
      acquireTimeoutMs: 30_000,
      freeTries: () => 1,
      endpoint: 'fake:1',
      clock: world.clock,
    });
    const waiting = watch(stream.next());
    await world.now();
    await stream.return();
    give();
    await world.now();
    expect(waiting.value).toEqual({ done: true, value: undefined });
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0, closed: 0 });
    expect(world.backend.asked).toEqual([[]]);
  });

  it('leaves no timer and no listener behind', async () => {
    const world = setUp();
    const own = new AbortController();
    const theirs = new AbortController();
    const family = world.client.withDeadline({ signal: theirs.signal, timeoutMs: 900_000 });
    await Promise.all([watch(world.pool.request('warm')), world.now()]);
    world.backend.side(0).answer();
    await world.now();
    const timers = world.clock.pendingTimers;
    const { seen } = readAll(family.stream('DUMP', { isLast, signal: own.signal, timeoutMs: 600_000 }));
    await world.now();
    world.backend.side(0).say('END\n');
    await world.now();
    expect(seen).toEqual(['END']);
    // That of the connection, which is armed late, may be there.
    await world.pass(60_000);
    expect(world.clock.pendingTimers).toBeLessThanOrEqual(timers);
    expect([own, theirs].map(({ signal }) => getEventListeners(signal, 'abort').length)).toEqual([0, 0]);
  });

  it('is left at once by return() while a socket is waited for, and the next caller gets it', async () => {
    const world = setUp({ max: 1 });
    const lease = await world.pool.acquire();
    const stream = open(world);
    const waiting = watch(stream.next());
    await world.now();
    await stream[Symbol.asyncDispose]();
    await world.now();
    expect(waiting.value).toEqual({ done: true, value: undefined });
    expect(world.pool.stats().waiting).toBe(0);
    lease.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0 });
  });

  it('tells an error once, and is done then', async () => {
    const world = setUp();
    const stream = open(world);
    const waiting = watch(stream.next());
    await world.now();
    world.net.lastPeer.reset();
    await world.now();
    expect(waiting.error).toMatchObject({ code: 'ERR_SERVER_FULL' });
    expect(await stream.next()).toEqual({ done: true, value: undefined });
  });

  it('yields the frames that came before its connection was lost, then the error with what was sent', async () => {
    const world = setUp();
    const stream = open(world);
    const first = watch(stream.next());
    await world.now();
    world.backend.side(0).say('one\ntwo\n');
    await world.now();
    world.net.lastPeer.fin();
    await world.now();
    expect(first.value?.value).toBe('one');
    expect((await stream.next()).value).toBe('two');
    await expect(stream.next()).rejects.toMatchObject({ code: 'ERR_CONNECTION_LOST', sent: 'full' });
  });

  it('ends by what isLast throws, and by a promise of its', async () => {
    const world = setUp({ max: 1 });
    const broken = new Error('no idea');
    const bad: ((frame: string) => boolean)[] = [
      () => {
        throw broken;
      },
      (async () => true) as unknown as () => boolean,
    ];
    const errors: unknown[] = [];
    for (const [index, last] of bad.entries()) {
      const { outcome } = readAll(open(world, 'DUMP', { isLast: last }));
      await world.now();
      world.backend.side(index).say('one\n');
      await world.now();
      errors.push(outcome.error);
    }
    expect(errors[0]).toBe(broken);
    expect(errors[1]).toMatchObject({ code: 'ERR_FRAME', message: expect.stringContaining('isLast') });
    expect(world.pool.stats().closedBy).toEqual({ destroyed: 2 });
  });

  describe('whose socket was dead before anything was sent', () => {
    /** A stream that is given dead sockets first. `hasServed`: they have served somebody before. */
    async function openDead(deaths: number, hasServed: boolean) {
      const world = setUp({ max: 1 });
      world.backend.isEchoing = true;
      let toDie = deaths;
      const acquire = async () => {
        if (hasServed) await world.client.request('warm');
        const lease = await world.pool.acquire();
        if (toDie > 0) {
          toDie -= 1;
          world.net.lastPeer.reset();
          while (lease.isUsable) await new Promise((resolve) => process.nextTick(resolve));
        }
        return lease;
      };
      const stream = new ClientStream('DUMP', { isLast }, undefined, {
        acquire,
        acquireTimeoutMs: 30_000,
        freeTries: () => 3,
        endpoint: 'fake:1',
        clock: world.clock,
      });
      const { seen, outcome } = readAll(stream);
      await world.clock.flush();
      return { world, seen, outcome };
    }

    it('is begun again on another one, if the first had served before', async () => {
      const { outcome, seen, world } = await openDead(2, true);
      world.backend.sides.at(-1)?.say('END\n');
      await world.now();
      expect(outcome.error).toBeUndefined();
      expect(seen).toEqual(['Echo: DUMP', 'END']);
      expect(world.backend.times('DUMP')).toBe(1);
    });

    it('tells the error when that happens again and again', async () => {
      const { outcome, world } = await openDead(3, true);
      expect(outcome.error).toMatchObject({ code: 'ERR_CONNECTION_LOST', sent: 'none' });
      expect(world.backend.times('DUMP')).toBe(0);
    });

    it('tells the error of one that had served nobody', async () => {
      const { outcome, world } = await openDead(1, false);
      expect(outcome.error).toMatchObject({ code: 'ERR_SERVER_FULL', sent: 'none' });
      expect(world.backend.times('DUMP')).toBe(0);
    });
  });

  it('refuses bad options at once', () => {
    const world = setUp();
    const bad: unknown[] = [
      undefined,
      {},
      { isLast: 'END' },
      { isLast, priority: 11 },
      { isLast, timeoutMs: -1 },
      { isLast, retries: 1 },
    ];
    for (const options of bad) {
      expect(() => world.client.stream('DUMP', options as StreamOptions<string>)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_OPTION' }),
      );
    }
    expect(() => open(world, 'DUMP', { signal: AbortSignal.abort('no') })).toThrow('no');
  });

  it('of a closed client is refused', async () => {
    const world = setUp();
    await world.client.close();
    await expect(open(world).next()).rejects.toMatchObject({ code: 'ERR_POOL_CLOSED' });
  });

  it('that is under way when the client closes goes on', async () => {
    const world = setUp();
    const { seen, outcome } = readAll(open(world));
    await world.now();
    const closing = watch(world.client.close());
    world.backend.side(0).say('one\n');
    await world.pass(1_000);
    world.backend.side(0).say('END\n');
    await world.now();
    expect(seen).toEqual(['one', 'END']);
    expect(outcome.error).toBeUndefined();
    await world.pass(1_000);
    expect(closing.value).toMatchObject({ forced: 0 });
  });
});

describe('the messages of a stream', () => {
  it('are sent beside the reading, and replies that come meanwhile are yielded', async () => {
    const world = setUp();
    const source = hose();
    const { seen, outcome } = readAll(open(world, source.messages));
    source.give('a');
    await world.now();
    expect(world.backend.side(0).asked).toEqual(['a']);
    world.backend.side(0).say('got a\n');
    await world.now();
    expect(seen).toEqual(['got a']);
    source.give('b');
    source.end();
    await world.now();
    expect(world.backend.side(0).asked).toEqual(['a', 'b']);
    world.backend.side(0).say('END\n');
    await world.now();
    expect(outcome).toMatchObject({ isSettled: true, error: undefined });
    expect(world.pool.stats()).toMatchObject({ idle: 1, closed: 0 });
    expect(source.state.returned).toBe(0);
  });

  it('hold no socket before the first one is there', async () => {
    const world = setUp({ max: 1 });
    const source = hose();
    const { seen } = readAll(open(world, source.messages));
    await world.pass(10_000);
    expect(world.net.dialedAt).toEqual([]);
    source.give('a');
    source.end();
    await world.now();
    world.backend.side(0).say('END\n');
    await world.now();
    expect(seen).toEqual(['END']);
  });

  it('are asked for no faster than the server takes them', async () => {
    const world = setUp();
    let made = 0;
    const big = 'x'.repeat(10_000);
    async function* many(): AsyncGenerator<string> {
      while (made < 100) {
        made += 1;
        yield big;
      }
    }
    world.backend.onSide = ({ peer }) => peer.stream.pause();
    const stream = open(world, many());
    const first = watch(stream.next());
    await world.pass(100);
    const before = made;
    expect(before).toBeLessThan(20);
    await world.pass(1_000);
    expect(made).toBe(before);
    world.net.lastPeer.stream.resume();
    await world.clock.flush();
    expect(made).toBe(100);
    await stream.return();
    await world.now();
    expect(first.isSettled).toBe(true);
  });

  it('starve nobody, however fast they come and are taken', async () => {
    const world = setUp();
    let made = 0;
    let turns = 0;
    async function* many(): AsyncGenerator<string> {
      while (made < 10_000) {
        made += 1;
        yield 'x';
      }
    }
    const { turn } = world.clock;
    world.clock.turn = (fn) => {
      turns += 1;
      turn.call(world.clock, fn);
    };
    const { seen } = readAll(open(world, many()));
    await world.clock.flush();
    expect(made).toBe(10_000);
    expect(turns).toBeGreaterThan(50);
    world.backend.side(0).say('END\n');
    await world.now();
    expect(seen).toEqual(['END']);
    expect(world.backend.side(0).asked.length).toBe(10_000);
  });

  it('that end with the first one complete the exchange, and none at all waits for what the server says', async () => {
    const world = setUp({ max: 1 });
    for (const messages of [few('only'), few()]) {
      const { seen } = readAll(open(world, messages));
      await world.now();
      world.backend.side(0).say('END\n');
      await world.now();
      expect(seen).toEqual(['END']);
    }
    expect(world.backend.side(0).asked).toEqual(['only']);
    expect(world.pool.stats()).toMatchObject({ idle: 1, closed: 0 });
  });

  it('are left when there are none, and the socket is not reused', async () => {
    const world = setUp({ max: 1 });
    const stream = open(world, few());
    const first = watch(stream.next());
    await world.now();
    world.backend.side(0).say('one\n');
    await world.now();
    expect(first.value?.value).toBe('one');
    await stream.return();
    await world.now();
    expect(world.pool.stats().closedBy).toEqual({ destroyed: 1 });
  });

  it('are not needed any more when the last frame comes early: the source is told, the socket destroyed', async () => {
    const world = setUp();
    const source = hose();
    const { seen, outcome } = readAll(open(world, source.messages));
    source.give('a');
    await world.now();
    world.backend.side(0).say('END\n');
    await world.now();
    expect(seen).toEqual(['END']);
    expect(outcome).toMatchObject({ isSettled: true, error: undefined });
    expect(source.state.returned).toBe(1);
    expect(world.pool.stats().closedBy).toEqual({ destroyed: 1 });
  });

  it('end the stream by what their source throws, as it is', async () => {
    const world = setUp();
    const broken = new Error('disk');
    const { outcome } = readAll(
      open(
        world,
        (async function* () {
          yield 'a';
          throw broken;
        })(),
      ),
    );
    await world.now();
    expect(outcome.error).toBe(broken);
    expect(world.pool.stats().closedBy).toEqual({ destroyed: 1 });
    const first = watch(
      open(
        world,
        // biome-ignore lint/correctness/useYield: it throws first
        (async function* (): AsyncGenerator<string> {
          throw broken;
        })(),
      ).next(),
    );
    await world.now();
    expect(first.error).toBe(broken);
    expect(world.pool.stats().opened).toBe(1);
  });

  it('of which the first can’t be encoded leave the socket as it was', async () => {
    const world = setUp({ max: 1 });
    const { outcome } = readAll(open(world, 'two\nlines'));
    await world.now();
    expect(outcome.error).toMatchObject({ code: 'ERR_FRAME', sent: 'none' });
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0, closed: 0 });
  });

  it('of which a later one can’t be encoded have been sent in part', async () => {
    const world = setUp({ max: 1 });
    const { outcome } = readAll(open(world, few('one', 'two\nlines')));
    await world.now();
    expect(outcome.error).toMatchObject({ code: 'ERR_FRAME', sent: 'maybe' });
    expect(world.pool.stats().closedBy).toEqual({ destroyed: 1 });
  });

  it('that were not all given were sent in part, whatever became of the newest one', async () => {
    const world = setUp();
    const source = hose();
    const { outcome } = readAll(open(world, source.messages));
    source.give('a');
    source.give('b');
    await world.pass(2_000);
    world.backend.side(0).say('got\n');
    await world.now();
    world.net.lastPeer.fin();
    await world.now();
    expect(outcome.error).toMatchObject({ code: 'ERR_CONNECTION_LOST', sent: 'maybe' });
    expect(source.state.returned).toBe(1);
  });

  it('that are cut off by the end of the connection let the frames be read that came before', async () => {
    const world = setUp();
    const big = 'x'.repeat(300_000);
    world.backend.onSide = ({ peer }) => peer.stream.pause();
    const stream = open(world, few(big, big));
    const first = watch(stream.next());
    await world.now();
    world.net.lastPeer.write('one\ntwo\n');
    await world.now();
    expect(first.value?.value).toBe('one');
    world.net.lastPeer.fin();
    await world.now();
    expect((await stream.next()).value).toBe('two');
    await expect(stream.next()).rejects.toMatchObject({ code: 'ERR_CONNECTION_LOST', sent: 'maybe' });
  });

  it('whose source fails when it is told to stop are reported as a warning', async () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    try {
      for (const failing of [() => Promise.reject(new Error('stuck')), () => fail()]) {
        const world = setUp();
        const messages: AsyncIterable<string> = {
          [Symbol.asyncIterator]: () => ({
            next: async () => ({ done: false, value: 'a' }),
            return: failing as () => Promise<IteratorResult<string>>,
          }),
        };
        world.backend.onSide = ({ peer }) => peer.stream.pause();
        const stream = open(world, messages);
        void watch(stream.next());
        await world.now();
        await stream.return();
        await world.now();
      }
      expect(warned.mock.calls.map(([text]) => String(text).split('\n')[0])).toEqual([
        'The return() of a stream’s source threw: Error: stuck',
        'The return() of a stream’s source threw: Error: stuck',
      ]);
    } finally {
      warned.mockRestore();
    }
  });
});

function fail(): never {
  throw new Error('stuck');
}

describe('what a slow reader leaves unread', () => {
  it('stays with the server, but for a bounded part', async () => {
    const world = setUp();
    const stream = open(world);
    const first = watch(stream.next());
    await world.now();
    const { stream: end } = world.net.lastPeer;
    const frame = `${'x'.repeat(10_000)}\n`;
    let written = 0;
    let isRoom = true;
    while (written < 20_000_000) {
      isRoom = end.write(frame);
      written += frame.length;
      if (!isRoom) {
        await world.now();
        if (end.writableNeedDrain) break;
      }
    }
    expect(first.isSettled).toBe(true);
    expect(written).toBeLessThan(1_500_000);
    // It is all there, and the rest comes when it is wanted.
    let read = 1;
    end.write('END\n');
    const rest = watch(
      (async () => {
        for await (const _ of stream) read += 1;
      })(),
    );
    await world.now();
    expect(rest.isSettled).toBe(true);
    expect(read).toBe(written / frame.length + 1);
  });

  it('is no reason to think that the server does not take what is sent', async () => {
    const world = setUp({ writeTimeoutMs: 1_000 });
    const big = 'x'.repeat(500_000);
    world.backend.onSide = ({ peer }) => peer.stream.pause();
    const stream = open(world, few(big, big));
    const first = watch(stream.next());
    await world.now();
    const { stream: end } = world.net.lastPeer;
    for (let i = 0; i < 300 && !end.writableNeedDrain; i++) {
      end.write(`${'y'.repeat(10_000)}\n`);
      await world.now();
    }
    expect(end.writableNeedDrain).toBe(true);
    await world.pass(5_000);
    expect(first.value?.done).toBe(false);
    expect(world.pool.stats()).toMatchObject({ leased: 1, closed: 0 });
    // Once all was read, it is.
    while (world.pool.stats().leased > 0) {
      const next = watch(stream.next());
      await world.now();
      if (!next.isSettled) await world.pass(2_000);
    }
    expect(world.pool.stats().closedBy).toEqual({ timeout: 1 });
  });
});

describe('the time of a stream', () => {
  it('is not bounded by the client’s timeout for requests', async () => {
    const world = setUp({ timeoutMs: 100 });
    const { seen } = readAll(open(world));
    await world.pass(1_000);
    world.backend.side(0).say('END\n');
    await world.now();
    expect(seen).toEqual(['END']);
  });

  it('ends by its own deadline, which tells where it went, and costs the socket', async () => {
    const world = setUp();
    const { seen, outcome } = readAll(open(world, 'DUMP', { timeoutMs: 500 }));
    await world.pass(400);
    world.backend.side(0).say('one\n');
    await world.pass(99);
    expect(outcome.isSettled).toBe(false);
    await world.pass(2);
    expect(seen).toEqual(['one']);
    expect(outcome.error).toMatchObject({
      code: 'ERR_DEADLINE',
      sent: 'maybe',
      message: expect.stringContaining('within 500 ms'),
      phases: { acquireMs: 0, exchangeMs: 500, backoffMs: 0 },
    });
    expect(world.pool.stats().closedBy).toEqual({ timeout: 1 });
  });

  it('lets the last frame be read first that waits in the kernel at the deadline', async () => {
    const world = setUp();
    const { seen, outcome } = readAll(open(world, 'DUMP', { timeoutMs: 500 }));
    await world.pass(499);
    holdInKernel(world.clock, () => world.net.lastPeer.stream.write('END\n'));
    await world.pass(10);
    expect(outcome.error).toBeUndefined();
    expect(seen).toEqual(['END']);
  });

  it('goes on while the reader works on a frame, and ends by the deadline at the next one', async () => {
    const world = setUp();
    const stream = open(world, 'DUMP', { timeoutMs: 500 });
    const first = watch(stream.next());
    await world.now();
    world.backend.side(0).say('one\ntwo\n');
    await world.pass(600);
    expect(first.value?.value).toBe('one');
    expect(world.pool.stats().leased).toBe(0);
    await expect(stream.next()).rejects.toMatchObject({ code: 'ERR_DEADLINE' });
  });

  it('is over before anything is sent when none was given', async () => {
    const world = setUp();
    const stream = open(world, 'DUMP', { timeoutMs: 0 });
    await expect(stream.next()).rejects.toMatchObject({ code: 'ERR_DEADLINE', sent: 'none' });
    expect(world.net.dialedAt).toEqual([]);
  });

  it('counts while a socket is waited for, and the queue tells why none came', async () => {
    const world = setUp({ max: 1 });
    const lease = await world.pool.acquire();
    const { outcome } = readAll(open(world, 'DUMP', { timeoutMs: 500 }));
    await world.pass(501);
    expect(outcome.error).toMatchObject({
      code: 'ERR_DEADLINE',
      sent: 'none',
      cause: expect.objectContaining({ code: 'ERR_ACQUIRE_TIMEOUT' }),
      phases: { acquireMs: 500, exchangeMs: 0 },
    });
    lease.release();
  });

  it('is not used up by a socket that comes late: the rest is for the exchange', async () => {
    const world = setUp({ max: 1 });
    const lease = await world.pool.acquire();
    const { outcome } = readAll(open(world, 'DUMP', { timeoutMs: 500 }));
    await world.pass(300);
    lease.release();
    await world.pass(199);
    expect(outcome.isSettled).toBe(false);
    await world.pass(2);
    expect(outcome.error).toMatchObject({ phases: { acquireMs: 300, exchangeMs: 200 } });
  });

  it('that the pool gives for a socket bounds a stream without a deadline', async () => {
    const world = setUp({ max: 1, acquireTimeoutMs: 200 });
    const lease = await world.pool.acquire();
    const { outcome } = readAll(open(world));
    await world.pass(201);
    expect(outcome.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT' });
    lease.release();
  });

  it('of silence is bounded once everything was sent', async () => {
    const world = setUp({ readTimeoutMs: 300 });
    const { outcome } = readAll(open(world));
    await world.pass(299);
    expect(outcome.isSettled).toBe(false);
    await world.pass(10);
    expect(outcome.error).toMatchObject({ code: 'ERR_READ_TIMEOUT', sent: 'full' });
  });

  it('of silence is not bounded while the source is slow, and from its end on it is', async () => {
    const world = setUp({ readTimeoutMs: 300 });
    const source = hose();
    const { outcome } = readAll(open(world, source.messages));
    source.give('a');
    await world.pass(5_000);
    expect(outcome.isSettled).toBe(false);
    source.end();
    await world.pass(299);
    expect(outcome.isSettled).toBe(false);
    await world.pass(10);
    expect(outcome.error).toMatchObject({ code: 'ERR_READ_TIMEOUT' });
  });

  it('of silence is bounded for the next caller when nothing of it was sent', async () => {
    const world = setUp({ readTimeoutMs: 300, max: 1 });
    const { outcome } = readAll(open(world, few('two\nlines')));
    await world.now();
    expect(outcome.error).toMatchObject({ code: 'ERR_FRAME' });
    await world.pool.use(async (lease) => {
      const asked = watch(lease.request('x'));
      await world.pass(310);
      expect(asked.error).toMatchObject({ code: 'ERR_READ_TIMEOUT' });
    });
    expect(world.pool.stats().opened).toBe(1);
  });

  it('of silence is bounded for the next caller again', async () => {
    const world = setUp({ readTimeoutMs: 300, max: 1 });
    const source = hose();
    const { seen } = readAll(open(world, source.messages));
    source.give('a');
    await world.now();
    world.backend.side(0).say('one\n');
    source.end();
    await world.now();
    world.backend.side(0).say('END\n');
    await world.now();
    expect(seen).toEqual(['one', 'END']);
    await world.pool.use(async (lease) => {
      const asked = watch(lease.request('x'));
      await world.pass(310);
      expect(asked.error).toMatchObject({ code: 'ERR_READ_TIMEOUT' });
    });
  });
});

describe('aborting a stream', () => {
  it('throws the reason while a frame is waited for, and ends the socket', async () => {
    const world = setUp();
    const controller = new AbortController();
    const { outcome } = readAll(open(world, 'DUMP', { signal: controller.signal }));
    await world.now();
    controller.abort('enough');
    await world.now();
    expect(outcome.error).toBe('enough');
    expect(world.pool.stats().closedBy).toEqual({ aborted: 1 });
  });

  it('throws the reason while a socket, or the first message, is waited for', async () => {
    const world = setUp({ max: 1 });
    const lease = await world.pool.acquire();
    const controller = new AbortController();
    const source = hose();
    const { signal } = controller;
    const both = [
      readAll(open(world, 'DUMP', { signal })),
      readAll(open(world, source.messages, { signal })),
    ];
    await world.now();
    controller.abort('enough');
    await world.now();
    expect(both.map(({ outcome }) => outcome.error)).toEqual(['enough', 'enough']);
    expect(source.state.returned).toBe(1);
    lease.release();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 1, waiting: 0, closed: 0 });
  });

  it('throws the reason at the next frame, whatever has come', async () => {
    const world = setUp();
    const controller = new AbortController();
    const stream = open(world, 'DUMP', { signal: controller.signal });
    const first = watch(stream.next());
    await world.now();
    world.backend.side(0).say('one\ntwo\n');
    await world.now();
    expect(first.value?.value).toBe('one');
    controller.abort('enough');
    await expect(stream.next()).rejects.toBe('enough');
    expect(await stream.next()).toMatchObject({ done: true });
  });

  it('before its first frame was asked for throws the reason then', async () => {
    const world = setUp();
    const controller = new AbortController();
    const stream = open(world, 'DUMP', { signal: controller.signal });
    controller.abort('enough');
    await expect(stream.next()).rejects.toBe('enough');
    expect(world.net.dialedAt).toEqual([]);
  });
});

describe('a stream of a family', () => {
  it('ends by the family’s deadline when that is earlier, and by its own when that is', async () => {
    const world = setUp();
    const family = world.client.withDeadline(500);
    await world.pass(100);
    const theirs = readAll(family.stream('a', { isLast, timeoutMs: 1_000 }));
    const own = readAll(family.stream('b', { isLast, timeoutMs: 100 }));
    await world.pass(101);
    expect(own.outcome.error).toMatchObject({ code: 'ERR_DEADLINE' });
    expect(theirs.outcome.isSettled).toBe(false);
    await world.pass(300);
    expect(theirs.outcome.error).toMatchObject({ code: 'ERR_DEADLINE' });
  });

  it('ends by the family’s signal', async () => {
    const world = setUp();
    const controller = new AbortController();
    const family = world.client.withDeadline({ signal: controller.signal });
    const { outcome } = readAll(family.stream('a', { isLast }));
    await world.now();
    controller.abort('all of you');
    await world.now();
    expect(outcome.error).toBe('all of you');
  });
});

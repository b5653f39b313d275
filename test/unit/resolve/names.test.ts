import { afterEach, describe, expect, it } from 'vitest';
import { lookupError } from '../../../src/resolve/lookup.ts';
import { Names } from '../../../src/resolve/names.ts';
import { ResolveError } from '../../../src/resolve/resolve-error.ts';
import { addressesOf, NamesWorld, textsOf } from './fake-lookup.ts';

let world = new NamesWorld();
afterEach(() => world.names.end());

function setUp(options: ConstructorParameters<typeof NamesWorld>[0] = {}): NamesWorld {
  world = new NamesWorld(options);
  return world;
}

/** What the poll phase brings, after the timers and before the turn. */
function beforeEachTurn(happen: () => void): void {
  const { clock } = world;
  const turn = clock.turn.bind(clock);
  clock.turn = (fn) => {
    happen();
    turn(fn);
  };
}

async function rejection(promise: Promise<unknown>): Promise<ResolveError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof ResolveError) return error;
  throw new Error('it did not reject with a ResolveError');
}

describe('a name that is resolved', () => {
  it('is asked for once while its answer is fresh', async () => {
    const { clock, first } = setUp();
    first.has(['10.0.0.1']);
    expect(await world.ask()).toBe('10.0.0.1 from first');
    await clock.advance(31_000);
    expect(await world.ask()).toBe('10.0.0.1 from first');
    expect(first.asked).toEqual(['orders']);
    await clock.advance(1_000);
    expect(await world.ask()).toBe('10.0.0.1 from first');
    expect(first.asked).toEqual(['orders', 'orders']);
  });

  it('tells how old its answer is', async () => {
    const { clock, first, names } = setUp();
    first.has(['10.0.0.1']);
    await world.ask();
    await clock.advance(7_000);
    expect(await names.addresses('orders')).toMatchObject({ ageMs: 7_000, isStale: false, source: 'first' });
  });

  it('is asked for once, however many wait', async () => {
    const { clock, first, names } = setUp();
    first.has(['10.0.0.1']).takes(100);
    const all = Promise.all(Array.from({ length: 50 }, () => names.addresses('orders')));
    await clock.advance(100);
    expect((await all).map(({ addresses }) => textsOf(addresses))).toEqual(Array(50).fill(['10.0.0.1']));
    expect(first.asked).toEqual(['orders']);
  });

  it('is the same in any case of its letters', async () => {
    const { first } = setUp();
    first.has(['10.0.0.1']);
    await world.ask('Orders.Internal');
    await world.ask('orders.internal');
    expect(first.asked).toEqual(['Orders.Internal']);
  });

  it('has each address once', async () => {
    setUp().first.has(['127.0.0.1', '127.0.0.1']);
    expect(await world.ask('localhost')).toBe('127.0.0.1 from first');
  });

  it('is not asked for at all when it is an address', async () => {
    const { clock, first, names } = setUp();
    expect(await world.ask('10.9.9.9')).toBe('10.9.9.9 from literal');
    expect(await world.ask('0:0:0:0:0:0:0:1')).toBe('::1 from literal');
    const told: string[][] = [];
    names.watch('10.9.9.9', ({ addresses }) => told.push(textsOf(addresses)));
    expect(told).toEqual([]);
    await clock.flush();
    expect(told).toEqual([['10.9.9.9']]);
    expect(first.asked).toEqual([]);
    expect(clock.pendingTimers).toBe(0);
  });

  it.each([
    { ttlMs: 0, freshMs: 5_000 },
    { ttlMs: 12_000, freshMs: 12_000 },
    { ttlMs: 86_400_000, freshMs: 300_000 },
  ])('is asked for again after $freshMs ms when its TTL is $ttlMs ms', async ({ freshMs, ttlMs }) => {
    const { clock, first } = setUp();
    first.has(['10.0.0.1'], { ttlMs });
    await world.ask();
    await clock.advance(freshMs * 1.05 - 1);
    await world.ask();
    expect(first.asked).toHaveLength(1);
    await clock.advance(1);
    await world.ask();
    expect(first.asked).toHaveLength(2);
  });
});

describe('the chain', () => {
  it('does not ask the second resolver while the first answers', async () => {
    const { first, second } = setUp();
    first.has(['10.0.0.1']);
    second.has(['10.0.0.2']);
    await world.ask();
    expect(second.asked).toEqual([]);
  });

  it.each(['ECONNREFUSED', 'ESERVFAIL', 'EREFUSED', 'ETIMEOUT', 'EAI_AGAIN', 'ENOTFOUND', 'ENODATA'])(
    'goes on to the next resolver when one says %s',
    async (code) => {
      const { first, second } = setUp();
      first.fails(code);
      second.has(['10.0.0.2']);
      expect(await world.ask()).toBe('10.0.0.2 from second');
    },
  );

  it('cuts a resolver that does not answer by its own timer, and asks the next', async () => {
    const { clock, first, second } = setUp();
    first.hangs();
    second.has(['10.0.0.2']);
    expect(await world.ask('orders', 2_999)).toBe('waiting');
    expect(second.asked).toEqual([]);
    expect(first.cut).toBe(0);
    const told = world.ask('orders', 1);
    expect(await told).toBe('10.0.0.2 from second');
    expect(first.cut).toBe(1);
    expect(clock.pendingTimers).toBe(0);
  });

  it('looks once more before it cuts: the answer may be in the kernel when our own loop was blocked', async () => {
    const { clock, first, second } = setUp({ isAlone: true });
    let answer = (): void => undefined;
    first.addresses = () =>
      new Promise((resolve) => {
        answer = () => resolve({ addresses: addressesOf('10.0.0.1'), ttlMs: undefined });
      });
    const asked = world.names.addresses('orders');
    await clock.advance(2_999);
    beforeEachTurn(() => answer());
    await clock.advance(1);
    expect(textsOf((await asked).addresses)).toEqual(['10.0.0.1']);
    expect(second.asked).toEqual([]);
  });

  it('takes an answer without addresses for none', async () => {
    const { first, second } = setUp();
    first.has([]);
    second.has(['10.0.0.2']);
    expect(await world.ask()).toBe('10.0.0.2 from second');
  });

  it('goes on when a resolver throws instead of rejecting', async () => {
    const { first, second } = setUp();
    first.addresses = () => {
      throw new Error('a bug of the user’s');
    };
    second.has(['10.0.0.2']);
    expect(await world.ask()).toBe('10.0.0.2 from second');
    expect(world.clock.pendingTimers).toBe(0);
  });

  it('drops what a resolver says after it was given up', async () => {
    const { clock, first, second } = setUp();
    first.has(['10.6.6.6']).takes(3_500);
    second.has(['10.0.0.2']).takes(1_000);
    expect(await world.ask('orders', 4_000)).toBe('10.0.0.2 from second');
    await clock.advance(1_000);
    expect(await world.ask()).toBe('10.0.0.2 from second');
  });
});

describe('a name that no resolver knows', () => {
  it('is told with what each resolver said', async () => {
    const { first, names, second } = setUp();
    first.fails('ESERVFAIL');
    second.fails('ETIMEOUT');
    const error = await rejection(names.addresses('orders'));
    expect(error.message).toBe(
      'orders could not be resolved (ESERVFAIL): first said ESERVFAIL; second said ETIMEOUT',
    );
    expect(error.failures.map(({ resolver }) => resolver)).toEqual(['first', 'second']);
    expect(error.lastGoodAgeMs).toBeUndefined();
    expect(world.failed).toMatchObject([{ name: 'orders', staleMs: undefined }]);
  });

  it.each([
    ['ENOTFOUND', 'ENOTFOUND', 'ENOTFOUND'],
    ['ENOTFOUND', 'ESERVFAIL', 'ESERVFAIL'],
    ['EREFUSED', 'ENOTFOUND', 'EREFUSED'],
    ['ENOTFOUND', 'ENODATA', 'ENODATA'],
    ['ETIMEOUT', 'ENOTFOUND', 'ENOTFOUND'],
    ['ECONNREFUSED', 'ETIMEOUT', 'ECONNREFUSED'],
  ])('is told as the code that tells most: %s and %s as %s', async (one, other, telling) => {
    const { first, names, second } = setUp();
    first.fails(one);
    second.fails(other);
    expect((await rejection(names.addresses('orders'))).code).toBe(telling);
  });

  it('is not asked for by every call: after 1 s to 30 s, doubling, with full jitter', async () => {
    const { clock, first } = setUp({ isAlone: true });
    first.fails('ESERVFAIL');
    const askedAt: number[] = [];
    let seen = 0;
    const start = clock.now();
    for (let ms = 0; ms < 60_000; ms += 100) {
      expect(await world.ask()).toBe('ESERVFAIL');
      if (first.asked.length > seen) askedAt.push(clock.now() - start);
      seen = first.asked.length;
      await clock.advance(100);
    }
    // Half of 1, 2, 4, 8, 16, 30, 30 s.
    expect(askedAt).toEqual([0, 500, 1_500, 3_500, 7_500, 15_500, 30_500, 45_500]);
  });

  it('is found as soon as its server is back, without a new pool', async () => {
    const { clock, first } = setUp({ isAlone: true });
    first.fails('ECONNREFUSED');
    expect(await world.ask()).toBe('ECONNREFUSED');
    first.has(['10.0.0.1']);
    await clock.advance(500);
    expect(await world.ask()).toBe('10.0.0.1 from first');
  });

  it('has the fallback addresses, if there are any', async () => {
    const { clock, first } = setUp({ isAlone: true, fallbackAddresses: addressesOf('10.1.1.1') });
    first.fails('ECONNREFUSED');
    expect(await world.ask()).toBe('10.1.1.1 from fallback');
    expect(await world.ask()).toBe('10.1.1.1 from fallback');
    first.has(['10.0.0.1']);
    await clock.advance(500);
    // Nobody waits for a look-up while the last one was in vain.
    expect(await world.ask()).toBe('10.1.1.1 from fallback');
    expect(await world.ask()).toBe('10.0.0.1 from first');
  });

  it('has the fallback addresses after 4 s when no resolver has answered, and at once from then on', async () => {
    const { clock, first, second } = setUp({ fallbackAddresses: addressesOf('10.1.1.1') });
    first.hangs();
    second.hangs();
    expect(await world.ask('orders', 3_999)).toBe('waiting');
    expect(await world.ask('orders', 10)).toBe('10.1.1.1 from fallback');
    expect(await world.ask('orders', 0)).toBe('10.1.1.1 from fallback');
    await clock.advance(10_000);
    expect(await world.ask('orders', 0)).toBe('10.1.1.1 from fallback');
  });

  it('has the answer of the second resolver rather than the fallback addresses', async () => {
    const { first, second } = setUp({ fallbackAddresses: addressesOf('10.1.1.1') });
    first.hangs();
    second.has(['10.0.0.2']);
    expect(await world.ask('orders', 3_100)).toBe('10.0.0.2 from second');
  });
});

describe('a name that was resolved before', () => {
  it('is served stale while every resolver fails, at once after the first failure', async () => {
    const { clock, first } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    first.fails('ESERVFAIL').takes(10);
    await clock.advance(60_000);
    expect(await world.ask('orders', 10)).toBe('10.0.0.1 from first, stale');
    first.hangs().takes(0);
    await clock.advance(60_000);
    expect(await world.ask()).toBe('10.0.0.1 from first, stale');
    expect(first.asked).toHaveLength(3);
    expect(world.names.stats).toMatchObject({ lookups: 3, failures: 1, staleServed: 2 });
    expect(world.failed).toMatchObject([{ staleMs: 60_010 }]);
  });

  it('is served stale after 1.8 s when the look-up takes longer, which goes on', async () => {
    const { clock, first } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    first.has(['10.0.0.2']).takes(2_500);
    await clock.advance(60_000);
    expect(await world.ask('orders', 1_799)).toBe('waiting');
    expect(await world.ask('orders', 1)).toBe('10.0.0.1 from first, stale');
    expect(await world.ask()).toBe('10.0.0.1 from first, stale');
    await clock.advance(700);
    expect(await world.ask()).toBe('10.0.0.2 from first');
    expect(first.asked).toHaveLength(2);
  });

  it('is looked at once more before it is served stale', async () => {
    const { clock, first } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    await clock.advance(60_000);
    let answer = (): void => undefined;
    first.addresses = () =>
      new Promise((resolve) => {
        answer = () => resolve({ addresses: addressesOf('10.0.0.2'), ttlMs: undefined });
      });
    beforeEachTurn(() => answer());
    expect(await world.ask('orders', 1_800)).toBe('10.0.0.2 from first');
  });

  it('is served as it is now when the look-up is quick', async () => {
    const { clock, first } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    first.has(['10.0.0.2']).takes(1_000);
    await clock.advance(60_000);
    expect(await world.ask('orders', 1_000)).toBe('10.0.0.2 from first');
  });

  it('is served stale for no longer than maxStaleMs, then as the fallback or not at all', async () => {
    const { clock, first, names } = setUp({ isAlone: true, maxStaleMs: 120_000 });
    first.has(['10.0.0.1']);
    await world.ask();
    first.fails('ESERVFAIL');
    await clock.advance(120_000);
    expect(await world.ask()).toBe('10.0.0.1 from first, stale');
    await clock.advance(1_000);
    const error = await rejection(names.addresses('orders'));
    expect(error).toMatchObject({ code: 'ESERVFAIL', lastGoodAgeMs: 121_000 });
  });

  it('is not taken away by the first “no such name”', async () => {
    const { clock, first } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    first.fails('ENOTFOUND');
    await clock.advance(32_000);
    expect(await world.ask()).toBe('10.0.0.1 from first, stale');
    await clock.advance(29_000);
    expect(await world.ask()).toBe('10.0.0.1 from first, stale');
    await clock.advance(2_000);
    // Not asked yet: the next look-up is due, and the second word is what is believed.
    await world.ask();
    await clock.advance(30_000);
    expect(await world.ask()).toBe('ENOTFOUND');
    expect(world.changed.at(-1)).toEqual({ name: 'orders', added: [], removed: ['10.0.0.1'] });
  });

  it('is not taken away by words of “no such name” that are less than 30 s apart', async () => {
    const { clock, first } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    first.fails('ENOTFOUND');
    await clock.advance(32_000);
    for (let i = 0; i < 29; i++) {
      expect(await world.ask()).toBe('10.0.0.1 from first, stale');
      await clock.advance(1_000);
    }
    expect(first.asked.length).toBeGreaterThan(4);
  });

  it('is back when “no such name” was a mistake, and the doubt is forgotten', async () => {
    const { clock, first } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    first.fails('ENOTFOUND');
    await clock.advance(32_000);
    await world.ask();
    first.has(['10.0.0.1']);
    await clock.advance(1_000);
    // It is asked for in the background, since the last look-up was in vain.
    expect(await world.ask()).toBe('10.0.0.1 from first, stale');
    expect(await world.ask()).toBe('10.0.0.1 from first');
    first.fails('ENOTFOUND');
    await clock.advance(40_000);
    expect(await world.ask()).toBe('10.0.0.1 from first, stale');
  });

  it('is not taken away while one resolver denies it and another is silent: that one may have known it', async () => {
    const { clock, first, second } = setUp();
    first.has(['10.0.0.1']);
    await world.ask();
    first.fails('ECONNREFUSED');
    second.fails('ENOTFOUND');
    for (let i = 0; i < 10; i++) {
      await clock.advance(40_000);
      expect(await world.ask()).toBe('10.0.0.1 from first, stale');
    }
    expect(world.failed.at(-1)?.error.code).toBe('ENOTFOUND');
  });
});

describe('a caller who gives up', () => {
  it('rejects with the signal’s reason, and leaves the look-up to others', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.has(['10.0.0.1']).takes(100);
    const controller = new AbortController();
    const gone = names.addresses('orders', controller.signal);
    const stays = names.addresses('orders');
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(gone).rejects.toBe(reason);
    await clock.advance(100);
    expect(textsOf((await stays).addresses)).toEqual(['10.0.0.1']);
    expect(first.cut).toBe(0);
  });

  it('is not counted among those who were served', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    first.hangs();
    await clock.advance(60_000);
    const controller = new AbortController();
    const gone = names.addresses('orders', controller.signal);
    await clock.advance(100);
    controller.abort();
    await expect(gone).rejects.toThrow();
    await clock.advance(2_000);
    expect(names.stats.staleServed).toBe(0);
  });

  it('is told at once when it had given up before', async () => {
    const { names } = setUp();
    const reason = new Error('never mind');
    await expect(names.addresses('orders', AbortSignal.abort(reason))).rejects.toBe(reason);
    await expect(names.addresses('10.0.0.1', AbortSignal.abort(reason))).rejects.toBe(reason);
  });
});

describe('a hint that there may be news', () => {
  it('asks again in the background, while the answer is still served', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    await clock.advance(6_000);
    first.has(['10.0.0.2']).takes(100);
    names.refresh('orders');
    expect(await world.ask()).toBe('10.0.0.1 from first');
    await clock.advance(100);
    expect(await world.ask()).toBe('10.0.0.2 from first');
  });

  it('is kept when it comes within 5 s of a look-up, and honoured once', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    for (let i = 0; i < 4; i++) {
      names.refresh('orders');
      await clock.advance(1_000);
    }
    expect(first.asked).toHaveLength(1);
    await clock.advance(1_000);
    expect(first.asked).toHaveLength(2);
    await clock.advance(20_000);
    expect(first.asked).toHaveLength(2);
    expect(clock.pendingTimers).toBe(0);
  });

  it('is kept when it comes during a look-up, which may be older than what it is about', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.has(['10.0.0.1']).takes(100);
    const asked = names.addresses('orders');
    await clock.advance(50);
    names.refresh('orders');
    await clock.advance(50);
    await asked;
    await clock.advance(5_000);
    expect(first.asked).toHaveLength(2);
  });

  it('does not hurry a name that can’t be resolved', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.fails('ESERVFAIL');
    for (let i = 0; i < 6; i++) {
      await world.ask();
      await clock.advance(i === 5 ? 0 : 16_000);
    }
    // The seventh is due 15 s after this one.
    names.refresh('orders');
    await clock.advance(14_900);
    expect(first.asked).toHaveLength(6);
    await clock.advance(100);
    expect(first.asked).toHaveLength(7);
  });

  it('is nothing to a name that nobody has asked for', async () => {
    const { clock, first, names } = setUp();
    names.refresh('orders');
    await clock.advance(10_000);
    expect(first.asked).toEqual([]);
  });
});

describe('a network that has changed', () => {
  it('has the name asked for at once, and nothing served as fresh', async () => {
    const { first, names } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    first.has(['192.168.0.1']).takes(100);
    names.refresh('orders', { force: true });
    expect(await world.ask('orders', 99)).toBe('waiting');
    expect(await world.ask('orders', 1)).toBe('192.168.0.1 from first');
  });

  it('begins a look-up anew that runs: it may wait for a server that is no longer there', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.hangs();
    const asked = names.addresses('orders');
    await clock.flush();
    first.has(['10.0.0.1']);
    names.refresh('orders', { force: true });
    await clock.flush();
    expect(textsOf((await asked).addresses)).toEqual(['10.0.0.1']);
    expect(first.cut).toBe(1);
    expect(world.failed).toEqual([]);
  });

  it('begins anew even when the answer has just come, which may be of the old network', async () => {
    for (let ticks = 0; ticks < 12; ticks++) {
      const { clock, first, names } = setUp({ isAlone: true });
      first.has(['10.0.0.1']);
      const asked = names.addresses('orders');
      for (let i = 0; i < ticks; i++) await undefined;
      first.has(['10.0.0.2']);
      names.refresh('orders', { force: true });
      await clock.flush();
      await asked;
      expect(await world.ask()).toBe('10.0.0.2 from first');
      names.end();
      expect(clock.pendingTimers).toBe(0);
    }
  });

  it('forgets that the name could not be resolved', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.fails('ENETUNREACH');
    for (let i = 0; i < 6; i++) {
      await world.ask();
      await clock.advance(16_000);
    }
    await world.ask();
    first.has(['10.0.0.1']);
    names.refresh('orders', { force: true });
    expect(await world.ask()).toBe('10.0.0.1 from first');
  });

  it('forgets what the resolvers of the old network denied', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    first.fails('ENOTFOUND');
    await clock.advance(32_000);
    await world.ask();
    await clock.advance(40_000);
    names.refresh('orders', { force: true });
    expect(await world.ask()).toBe('10.0.0.1 from first, stale');
  });

  it('has all that is watched asked for anew, and the rest when it is needed', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    names.watch('watched', () => undefined);
    await world.ask('asked');
    await clock.advance(0);
    first.asked.length = 0;
    names.refreshAll();
    await clock.flush();
    expect(first.asked).toEqual(['watched']);
    await world.ask('asked');
    expect(first.asked).toEqual(['watched', 'asked']);
  });
});

describe('an answer for one family alone', () => {
  it('keeps what was known of the other, when nothing was learned of it', async () => {
    const { clock, first } = setUp({ isAlone: true });
    first.has(['10.0.0.1', '2001:db8::1']);
    await world.ask();
    first.has(['10.0.0.2'], { unknown: 6 });
    await clock.advance(32_000);
    expect(await world.ask()).toBe('10.0.0.2 2001:db8::1 from first');
    first.has(['10.0.0.2']);
    await clock.advance(32_000);
    expect(await world.ask()).toBe('10.0.0.2 from first');
  });

  it('keeps it for no longer than maxStaleMs', async () => {
    const { clock, first } = setUp({ isAlone: true, maxStaleMs: 60_000 });
    first.has(['10.0.0.1', '2001:db8::1']);
    await world.ask();
    first.has(['10.0.0.1'], { unknown: 6 });
    await clock.advance(32_000);
    expect(await world.ask()).toBe('10.0.0.1 2001:db8::1 from first');
    await clock.advance(32_000);
    expect(await world.ask()).toBe('10.0.0.1 from first');
  });
});

describe('the age of the oldest answer in use', () => {
  it('is 0 while all are fresh, and grows while they can’t be renewed', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    names.watch('orders', () => undefined);
    first.has(['10.0.0.1']);
    await clock.advance(0);
    await clock.advance(10_000);
    expect(names.stats.oldestStaleMs).toBe(0);
    first.fails('ESERVFAIL');
    await clock.advance(50_000);
    expect(names.stats.oldestStaleMs).toBe(60_000);
    first.has(['10.0.0.1']);
    await clock.advance(30_000);
    expect(names.stats.oldestStaleMs).toBe(0);
  });

  it('does not count what nobody asks for any more', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    await world.ask();
    await clock.advance(100_000);
    expect(names.stats.oldestStaleMs).toBe(0);
  });
});

describe('the end', () => {
  it('rejects who waits and who comes later, cancels what runs and leaves no timer', async () => {
    const { clock, first, names } = setUp();
    first.hangs().serves({ host: 'a' }).takes(1_000);
    const told: unknown[] = [];
    names.watch('billing', (change) => told.push(change));
    const waits = rejection(names.addresses('orders'));
    const services = rejection(names.services('_orders._tcp'));
    await clock.flush();
    names.end();
    expect(await waits).toMatchObject({ code: 'ECANCELLED' });
    expect(await services).toMatchObject({ code: 'ECANCELLED' });
    expect(await rejection(names.addresses('orders'))).toMatchObject({ code: 'ECANCELLED' });
    names.watch('orders', (change) => told.push(change));
    names.refresh('orders', { force: true });
    names.refreshAll();
    names.end();
    await clock.advance(1_000);
    expect(clock.pendingTimers).toBe(0);
    await clock.advance(100_000);
    expect(told).toEqual([]);
    expect(first.cut).toBe(2);
    expect(world.failed).toEqual([]);
  });

  it('may come from who is told of a change', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    names.watch('orders', () => names.end());
    await clock.advance(0);
    await clock.advance(60_000);
    expect(clock.pendingTimers).toBe(0);
    expect(first.asked).toHaveLength(1);
  });
});

describe('a service', () => {
  it('is resolved, kept and served stale like a host', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.serves({ host: 'a', port: 1 }, { host: 'b', port: 2 });
    expect((await names.services('_orders._tcp')).records.map(({ host }) => host)).toEqual(['a', 'b']);
    first.failsToServe('ESERVFAIL');
    await clock.advance(60_000);
    expect(await names.services('_orders._tcp')).toMatchObject({
      isStale: true,
      ageMs: 60_000,
      source: 'first',
    });
    expect(first.asked).toEqual(['_orders._tcp', '_orders._tcp']);
  });

  it('tells a record as changed when its weight is', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.serves({ host: 'a', weight: 1 });
    const told: unknown[] = [];
    names.watchServices('_orders._tcp', ({ added, removed }) => told.push([added, removed]));
    await clock.advance(0);
    first.serves({ host: 'a', weight: 5 });
    await clock.advance(32_000);
    expect(told).toMatchObject([
      [[{ host: 'a', weight: 1 }], []],
      [[{ host: 'a', weight: 5 }], [{ host: 'a', weight: 1 }]],
    ]);
  });

  it.each(['', '.'])(
    'that is decidedly not available (target “%s”) is believed to be gone once confirmed',
    async (host) => {
      const { clock, first, names } = setUp({ isAlone: true });
      first.serves({ host: 'a' });
      const told: number[] = [];
      names.watchServices('_orders._tcp', ({ records }) => told.push(records.length));
      await clock.advance(0);
      first.serves({ host });
      await clock.advance(60_000);
      expect(told).toEqual([1]);
      await clock.advance(40_000);
      expect(told).toEqual([1, 0]);
      expect(await rejection(names.services('_orders._tcp'))).toMatchObject({ code: 'ENOTFOUND' });
    },
  );

  it('does not get the fallback addresses of hosts', async () => {
    const { names } = setUp({ isAlone: true, fallbackAddresses: addressesOf('10.1.1.1') });
    expect(await rejection(names.services('_orders._tcp'))).toMatchObject({ code: 'ENOTFOUND' });
  });
});

describe('names that are no longer used', () => {
  it('are forgotten, so that discovery may go through any number of them', async () => {
    const { clock, first, names } = setUp({ isAlone: true });
    first.has(['10.0.0.1']);
    const stop = names.watch('watched', () => undefined);
    await world.ask('old');
    await clock.advance(1_000_000);
    await world.ask('new');
    first.asked.length = 0;
    // Known still, so a hint is followed; and one that was forgotten is nobody's.
    names.refresh('watched');
    names.refresh('old');
    await clock.advance(5_000);
    expect(first.asked).toEqual(['watched']);
    stop();
  });
});

describe('a resolver’s rejection without a code', () => {
  it('is told as unknown', async () => {
    const { clock } = setUp();
    const names = new Names({
      lookups: [
        {
          name: 'odd',
          addresses: () => Promise.reject('a string'),
          services: () => Promise.reject(lookupError('ENOTFOUND', 'none')),
        },
      ],
      clock,
      random: () => 0.5,
    });
    const error = await rejection(names.addresses('orders'));
    expect(error).toMatchObject({ code: 'EUNKNOWN' });
    expect(error.message).toContain('odd said a string');
    names.end();
  });
});

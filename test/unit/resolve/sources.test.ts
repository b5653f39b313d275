import { afterEach, describe, expect, it, vi } from 'vitest';
import { PulsepoolError } from '../../../src/errors.ts';
import { type Discover, discoverSource } from '../../../src/resolve/discover-source.ts';
import { dnsSource } from '../../../src/resolve/dns-source.ts';
import type { EndpointSource } from '../../../src/resolve/endpoint-source.ts';
import type { FoundEndpoint, GivenEndpoint } from '../../../src/resolve/given-endpoint.ts';
import { srvSource } from '../../../src/resolve/srv-source.ts';
import { VirtualClock } from '../../support/virtual-clock.ts';
import { addressesOf, NamesWorld } from './fake-lookup.ts';

let world = new NamesWorld();
afterEach(() => world.names.end());

/** `orders/10.0.0.1:7000 x1 tier 0` */
function text({ address, host, port, tier, weight, zone }: FoundEndpoint): string {
  const of = zone === undefined ? '' : ` in ${zone}`;
  return `${host}/${address ?? '?'}:${port} x${Number(weight.toFixed(3))} tier ${tier}${of}`;
}

function started(source: EndpointSource): { lists: string[][]; failed: unknown[] } {
  const lists: string[][] = [];
  const failed: unknown[] = [];
  source.start({
    onEndpoints: (list) => lists.push(list.map(text)),
    onFailed: (error) => failed.push(error),
  });
  expect(lists).toEqual([]);
  return { lists, failed };
}

function codesOf(failed: readonly unknown[]): unknown[] {
  return failed.map((error) => (error instanceof Error ? Reflect.get(error, 'code') : error));
}

describe('endpoints from the addresses of a name', () => {
  function dns(options: ConstructorParameters<typeof NamesWorld>[0] = {}) {
    world = new NamesWorld({ isAlone: true, ...options });
    const source = dnsSource(world.names, { host: 'orders', port: 7000 });
    return { source, ...started(source) };
  }

  it('are one for each address, and change with them', async () => {
    const { lists } = dns();
    world.first.has(['10.0.0.1', '10.0.0.2']);
    await world.clock.advance(0);
    world.first.has(['10.0.0.2', '10.0.0.3']);
    await world.clock.advance(32_000);
    expect(lists).toEqual([
      ['orders/10.0.0.1:7000 x1 tier 0', 'orders/10.0.0.2:7000 x1 tier 0'],
      ['orders/10.0.0.2:7000 x1 tier 0', 'orders/10.0.0.3:7000 x1 tier 0'],
    ]);
  });

  it('are of one family: IPv4, if there is any', async () => {
    const { lists } = dns();
    world.first.has(['2001:db8::1', '10.0.0.1']);
    await world.clock.advance(0);
    expect(lists).toEqual([['orders/10.0.0.1:7000 x1 tier 0']]);
  });

  it('are of IPv6 where there is nothing else, and stay so when IPv4 comes', async () => {
    const { lists, source } = dns();
    world.first.has(['2001:db8::1']);
    await world.clock.advance(0);
    expect(source.tryOtherFamily?.()).toBe(false);
    world.first.has(['2001:db8::1', '10.0.0.1']);
    await world.clock.advance(32_000);
    expect(lists.at(-1)).toEqual(['orders/2001:db8::1:7000 x1 tier 0']);
    world.first.has(['10.0.0.1']);
    await world.clock.advance(32_000);
    expect(lists.at(-1)).toEqual(['orders/10.0.0.1:7000 x1 tier 0']);
  });

  it('change to the other family when all of one were dialed in vain, and back', async () => {
    const { lists, source } = dns();
    expect(source.tryOtherFamily?.()).toBe(false);
    world.first.has(['2001:db8::1', '10.0.0.1']);
    await world.clock.advance(0);
    expect(source.tryOtherFamily?.()).toBe(true);
    expect(lists.at(-1)).toEqual(['orders/2001:db8::1:7000 x1 tier 0']);
    expect(source.tryOtherFamily?.()).toBe(true);
    expect(lists.at(-1)).toEqual(['orders/10.0.0.1:7000 x1 tier 0']);
  });

  it('stay when no resolver answers, of which is told', async () => {
    const { failed, lists } = dns();
    world.first.has(['10.0.0.1']);
    await world.clock.advance(0);
    world.first.fails('ESERVFAIL');
    await world.clock.advance(31_900);
    expect(lists).toHaveLength(1);
    expect(codesOf(failed)).toEqual(['ESERVFAIL']);
  });

  it('are gone only when the name is confirmed to be', async () => {
    const { lists } = dns();
    world.first.has(['10.0.0.1']);
    await world.clock.advance(0);
    world.first.fails('ENOTFOUND');
    await world.clock.advance(60_000);
    expect(lists).toHaveLength(1);
    await world.clock.advance(40_000);
    expect(lists).toEqual([['orders/10.0.0.1:7000 x1 tier 0'], []]);
  });

  it('are the fallback addresses when the server is down at the start', async () => {
    const { failed, lists } = dns({ fallbackAddresses: addressesOf('10.1.1.1') });
    world.first.fails('ECONNREFUSED');
    await world.clock.advance(0);
    expect(lists).toEqual([['orders/10.1.1.1:7000 x1 tier 0']]);
    expect(codesOf(failed)).toEqual(['ECONNREFUSED']);
  });

  it('are looked for at once when that is asked, and no more after the end', async () => {
    const { lists, source } = dns();
    world.first.has(['10.0.0.1']);
    await world.clock.advance(0);
    world.first.has(['10.0.0.2']);
    source.refresh();
    await world.clock.advance(4_900);
    expect(lists).toHaveLength(1);
    source.refresh(true);
    await world.clock.advance(0);
    expect(lists).toHaveLength(2);
    source.end();
    expect(source.tryOtherFamily?.()).toBe(false);
    await world.clock.advance(100_000);
    expect(lists).toHaveLength(2);
    expect(world.clock.pendingTimers).toBe(0);
  });
});

describe('endpoints from SRV records', () => {
  function srv() {
    world = new NamesWorld({ isAlone: true });
    const source = srvSource(world.names, { srv: '_orders._tcp', clock: world.clock });
    const told = started(source);
    world.first
      .has(['10.0.0.1'], { host: 'a' })
      .has(['10.0.0.2'], { host: 'b' })
      .has(['10.0.0.3'], { host: 'c' });
    return { source, ...told };
  }

  it('have tiers in the order of priorities, and weights', async () => {
    const { lists } = srv();
    world.first.serves(
      { host: 'c', port: 3, priority: 20, weight: 7 },
      { host: 'a', port: 1, priority: 10, weight: 3 },
      { host: 'b', port: 2, priority: 10, weight: 1 },
    );
    await world.clock.advance(0);
    expect(lists).toEqual([['a/10.0.0.1:1 x3 tier 0', 'b/10.0.0.2:2 x1 tier 0', 'c/10.0.0.3:3 x7 tier 1']]);
  });

  it('share the weight of a target that has several addresses', async () => {
    const { lists } = srv();
    world.first.has(['10.0.0.1', '10.0.0.9'], { host: 'a' }).serves({ host: 'a', weight: 3 });
    await world.clock.advance(0);
    expect(lists).toEqual([['a/10.0.0.1:7000 x1.5 tier 0', 'a/10.0.0.9:7000 x1.5 tier 0']]);
  });

  it('get a small share for a weight of 0, and the same when all have it', async () => {
    const { lists } = srv();
    world.first.serves(
      { host: 'a', weight: 0 },
      { host: 'b', weight: 10 },
      { host: 'c', weight: 0, priority: 1 },
    );
    await world.clock.advance(0);
    expect(lists).toEqual([
      ['a/10.0.0.1:7000 x0.1 tier 0', 'b/10.0.0.2:7000 x10 tier 0', 'c/10.0.0.3:7000 x1 tier 1'],
    ]);
  });

  it('leave out a target that can’t be resolved, and no other, and keep the tiers', async () => {
    const { failed, lists } = srv();
    world.first.fails('ESERVFAIL', 'a').serves({ host: 'a' }, { host: 'b', priority: 1 });
    await world.clock.advance(0);
    expect(lists).toEqual([['b/10.0.0.2:7000 x1 tier 1']]);
    expect(failed).toEqual([]);
    world.first.has(['10.0.0.1'], { host: 'a' });
    await world.clock.advance(500);
    expect(lists.at(-1)).toEqual(['a/10.0.0.1:7000 x1 tier 0', 'b/10.0.0.2:7000 x1 tier 1']);
  });

  it('keep a target that was resolved before', async () => {
    const { lists } = srv();
    world.first.serves({ host: 'a' }, { host: 'b' });
    await world.clock.advance(0);
    world.first.fails('ESERVFAIL', 'a').has(['10.0.0.5'], { host: 'b' });
    await world.clock.advance(32_000);
    expect(lists.at(-1)).toEqual(['a/10.0.0.1:7000 x1 tier 0', 'b/10.0.0.5:7000 x1 tier 0']);
  });

  it('are told as failed when no target can be resolved', async () => {
    const { failed, lists } = srv();
    world.first.fails('ESERVFAIL', 'a').serves({ host: 'a' });
    await world.clock.advance(0);
    expect(lists).toEqual([]);
    expect(codesOf(failed)).toEqual(['ESERVFAIL']);
  });

  it('are told as failed when the records can’t be had, and stay', async () => {
    const { failed, lists } = srv();
    world.first.serves({ host: 'a' });
    await world.clock.advance(0);
    world.first.failsToServe('ETIMEOUT');
    await world.clock.advance(31_900);
    expect(lists).toHaveLength(1);
    expect(codesOf(failed)).toEqual(['ETIMEOUT']);
  });

  it('wait half a second for a target that is slow, then go without', async () => {
    const { lists } = srv();
    world.first.hangs('a').serves({ host: 'a' }, { host: 'b', priority: 1 });
    await world.clock.advance(499);
    expect(lists).toEqual([]);
    await world.clock.advance(1);
    expect(lists).toEqual([['b/10.0.0.2:7000 x1 tier 1']]);
  });

  it('are told nothing of while the only target is still being asked for', async () => {
    const { failed, lists } = srv();
    world.first.hangs('a').serves({ host: 'a' });
    await world.clock.advance(2_999);
    expect([lists, failed]).toEqual([[], []]);
    await world.clock.advance(1);
    expect(codesOf(failed)).toEqual(['ETIMEOUT']);
  });

  it('follow the records: targets come and go, and those gone are asked for no more', async () => {
    const { lists } = srv();
    world.first.serves({ host: 'a' }, { host: 'b' });
    await world.clock.advance(0);
    world.first.serves({ host: 'b' }, { host: 'c' });
    await world.clock.advance(32_000);
    expect(lists.at(-1)).toEqual(['b/10.0.0.2:7000 x1 tier 0', 'c/10.0.0.3:7000 x1 tier 0']);
    world.first.asked.length = 0;
    await world.clock.advance(32_000);
    expect([...world.first.asked].sort()).toEqual(['_orders._tcp', 'b', 'c']);
  });

  it('are gone when the service is confirmed to be', async () => {
    const { lists } = srv();
    world.first.serves({ host: 'a' });
    await world.clock.advance(0);
    world.first.serves({ host: '.' });
    await world.clock.advance(100_000);
    expect(lists).toEqual([['a/10.0.0.1:7000 x1 tier 0'], []]);
  });

  it('are of one family for each target, which can be changed', async () => {
    const { lists, source } = srv();
    world.first.has(['2001:db8::1', '10.0.0.1'], { host: 'a' }).serves({ host: 'a' }, { host: 'b' });
    await world.clock.advance(0);
    expect(source.tryOtherFamily?.()).toBe(true);
    expect(lists.at(-1)).toEqual(['a/2001:db8::1:7000 x1 tier 0', 'b/10.0.0.2:7000 x1 tier 0']);
    world.first.has(['10.0.0.1'], { host: 'a' });
    await world.clock.advance(32_000);
    expect(source.tryOtherFamily?.()).toBe(false);
  });

  it('have records and targets asked for on a hint, and leave no timer at the end', async () => {
    const { lists, source } = srv();
    world.first.serves({ host: 'a' });
    await world.clock.advance(0);
    world.first.asked.length = 0;
    source.refresh(true);
    await world.clock.advance(0);
    expect(world.first.asked).toEqual(['_orders._tcp', 'a']);
    source.refresh();
    await world.clock.advance(5_000);
    expect(world.first.asked).toHaveLength(4);
    source.end();
    expect(world.clock.pendingTimers).toBe(0);
    world.first.serves({ host: 'b' });
    await world.clock.advance(100_000);
    expect(lists).toHaveLength(1);
  });

  it('leave no timer when they end while a target is slow', async () => {
    const { lists, source } = srv();
    world.first.hangs('a').serves({ host: 'a' }, { host: 'b' });
    await world.clock.advance(100);
    source.end();
    world.names.end();
    expect(world.clock.pendingTimers).toBe(0);
    await world.clock.advance(10_000);
    expect(lists).toEqual([]);
  });
});

describe('endpoints from a function of the user’s', () => {
  /** One that yields what it is fed, and counts how often it was called and let go. */
  class Feed {
    calls = 0;
    returned = 0;
    signal: AbortSignal | undefined;
    #give: ((result: IteratorResult<readonly GivenEndpoint[]> | Error) => void) | undefined;

    readonly discover: Discover = (signal) => {
      this.calls += 1;
      this.signal = signal;
      return {
        [Symbol.asyncIterator]: () => ({
          next: () =>
            new Promise((resolve, reject) => {
              this.#give = (given) => (given instanceof Error ? reject(given) : resolve(given));
            }),
          return: () => {
            this.returned += 1;
            return Promise.resolve({ done: true, value: undefined });
          },
        }),
      };
    };

    yields(...value: GivenEndpoint[]): void {
      this.#give?.({ done: false, value });
    }

    throws(message: string): void {
      this.#give?.(new Error(message));
    }

    ends(): void {
      this.#give?.({ done: true, value: undefined });
    }
  }

  async function discovered(given?: Discover) {
    const clock = new VirtualClock();
    const feed = new Feed();
    const source = discoverSource(given ?? feed.discover, { clock, random: () => 0.5 });
    const told = started(source);
    await clock.flush();
    return { clock, feed, source, ...told };
  }

  it('are each list that it yields', async () => {
    const { clock, feed, lists } = await discovered();
    feed.yields('a:1', { host: 'b', port: 2, weight: 3, tier: 1, zone: 'z', address: '10.0.0.2' });
    await clock.flush();
    feed.yields('a:1', 'a:1');
    await clock.flush();
    expect(lists).toEqual([['a/?:1 x1 tier 0', 'b/10.0.0.2:2 x3 tier 1 in z'], ['a/?:1 x1 tier 0']]);
  });

  it('stay when it throws, and it is called again after 1 s to 30 s, with full jitter', async () => {
    const { clock, failed, feed, lists } = await discovered();
    feed.yields('a:1');
    await clock.flush();
    for (const waitMs of [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]) {
      const { calls } = feed;
      feed.throws('registry is down');
      await clock.advance(waitMs - 1);
      expect(feed.calls).toBe(calls);
      await clock.advance(1);
      expect(feed.calls).toBe(calls + 1);
    }
    expect(lists).toHaveLength(1);
    expect(failed).toHaveLength(7);
    feed.yields('b:1');
    await clock.flush();
    expect(lists.at(-1)).toEqual(['b/?:1 x1 tier 0']);
    feed.throws('again');
    const { calls } = feed;
    await clock.advance(500);
    expect(feed.calls).toBe(calls + 1);
  });

  it('are asked for at once again after a failure, when the network has changed', async () => {
    const { clock, feed, source } = await discovered();
    feed.throws('registry is down');
    await clock.flush();
    source.refresh();
    await clock.flush();
    expect(feed.calls).toBe(1);
    source.refresh(true);
    await clock.flush();
    expect(feed.calls).toBe(2);
    expect(clock.pendingTimers).toBe(0);
  });

  it('stay for good when it ends', async () => {
    const { clock, failed, feed, lists } = await discovered();
    feed.yields('a:1');
    await clock.flush();
    feed.ends();
    await clock.advance(100_000);
    expect(feed.calls).toBe(1);
    expect(lists).toHaveLength(1);
    expect(failed).toEqual([]);
  });

  it('are told as failed when it ends without any', async () => {
    const { clock, failed, feed } = await discovered();
    feed.ends();
    await clock.advance(100_000);
    expect(codesOf(failed)).toEqual(['ERR_INVALID_OPTION']);
    expect(feed.calls).toBe(1);
  });

  it.each([
    ['an empty list', []],
    ['a list with a bad endpoint', ['b:1', 'c:0']],
    ['something that is no list', 'b:1'],
    ['nothing', undefined],
  ])('stay when it yields %s, which is told', async (_what, value) => {
    const values: unknown[] = [['a:1'], value, ['z:9']];
    async function* discover(): AsyncGenerator<readonly GivenEndpoint[]> {
      for (const one of values) yield one as readonly GivenEndpoint[];
    }
    const { clock, failed, lists } = await discovered(discover);
    await clock.flush();
    expect(lists).toEqual([['a/?:1 x1 tier 0'], ['z/?:9 x1 tier 0']]);
    expect(failed).toHaveLength(1);
    expect(failed[0]).toBeInstanceOf(PulsepoolError);
  });

  it('are told as failed when it throws before it gives an iterable, or gives none', async () => {
    const thrown = await discovered(() => {
      throw new Error('no config');
    });
    expect(thrown.failed).toHaveLength(1);
    thrown.source.end();
    const none = await discovered((() => undefined) as unknown as Discover);
    expect(none.failed).toHaveLength(1);
    none.source.end();
    await none.clock.flush();
    expect(none.clock.pendingTimers).toBe(0);
  });

  it('end with the signal aborted and the iterable let go, though it hangs', async () => {
    const { clock, feed, lists, source } = await discovered();
    feed.yields('a:1');
    await clock.flush();
    source.end();
    expect(feed.signal?.aborted).toBe(true);
    expect(feed.returned).toBe(1);
    feed.yields('b:1');
    await clock.flush();
    expect(lists).toHaveLength(1);
    expect(clock.pendingTimers).toBe(0);
  });

  it('end without a word when the iterable throws because of that', async () => {
    const { clock, failed, feed, source } = await discovered();
    source.end();
    feed.throws('aborted');
    await clock.advance(100_000);
    expect(failed).toEqual([]);
    expect(feed.calls).toBe(1);
  });

  it('end while it rests after a failure', async () => {
    const { clock, feed, source } = await discovered();
    feed.throws('registry is down');
    await clock.flush();
    expect(clock.pendingTimers).toBe(1);
    source.end();
    await clock.flush();
    expect(clock.pendingTimers).toBe(0);
    expect(feed.calls).toBe(1);
  });

  it('end before it was called at all, or by itself', async () => {
    const clock = new VirtualClock();
    const feed = new Feed();
    const early = discoverSource(feed.discover, { clock, random: () => 0.5 });
    started(early);
    early.end();
    await clock.flush();
    expect(feed.calls).toBe(0);
    const own = discoverSource(
      (signal) => {
        own.end();
        return feed.discover(signal);
      },
      { clock, random: () => 0.5 },
    );
    started(own);
    await clock.flush();
    expect(feed.returned).toBe(1);
  });

  it('warn when letting go of it throws', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    try {
      for (const fail of [
        () => {
          throw new Error('stuck');
        },
        () => Promise.reject(new Error('stuck')),
      ]) {
        const { clock, source } = await discovered(() => ({
          [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => undefined), return: fail }),
        }));
        source.end();
        await clock.flush();
      }
      expect(warn).toHaveBeenCalledTimes(2);
    } finally {
      warn.mockRestore();
    }
  });
});

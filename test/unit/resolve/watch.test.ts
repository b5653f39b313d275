import { afterEach, describe, expect, it } from 'vitest';
import { ENTRY_TRANSITIONS, type EntryPhase, follow } from '../../../src/resolve/entry.ts';
import { addressesOf, NamesWorld, textsOf } from './fake-lookup.ts';

let world = new NamesWorld();
afterEach(() => world.names.end());

interface Told {
  readonly all: string[];
  readonly added: string[];
  readonly removed: string[];
}

/** One resolver, and somebody who watches `orders`. */
function watched(options: ConstructorParameters<typeof NamesWorld>[0] = {}): {
  told: Told[];
  failed: string[];
  stop: () => void;
} {
  world = new NamesWorld({ isAlone: true, ...options });
  const told: Told[] = [];
  const failed: string[] = [];
  const stop = world.names.watch(
    'orders',
    ({ added, addresses, removed }) =>
      told.push({ all: textsOf(addresses), added: textsOf(added), removed: textsOf(removed) }),
    (error) => failed.push(error.code),
  );
  return { told, failed, stop };
}

describe('who watches a name', () => {
  it('is told what there is, then each record that is added or removed', async () => {
    const { told } = watched();
    const { clock, first } = world;
    first.has(['10.0.0.1', '10.0.0.2']);
    await clock.advance(0);
    first.has(['10.0.0.2', '10.0.0.3']);
    await clock.advance(32_000);
    expect(told).toEqual([
      { all: ['10.0.0.1', '10.0.0.2'], added: ['10.0.0.1', '10.0.0.2'], removed: [] },
      { all: ['10.0.0.2', '10.0.0.3'], added: ['10.0.0.3'], removed: ['10.0.0.1'] },
    ]);
    expect(world.changed).toHaveLength(2);
  });

  it('is told nothing when the resolver rotates the same addresses', async () => {
    const { told } = watched();
    const { clock, first } = world;
    first.has(['10.0.0.1', '10.0.0.2']);
    await clock.advance(0);
    first.has(['10.0.0.2', '10.0.0.1']);
    await clock.advance(100_000);
    expect(first.asked.length).toBeGreaterThan(2);
    expect(told).toHaveLength(1);
    expect(world.changed).toHaveLength(1);
  });

  it('is told nothing before it has what ends it, even if all is known', async () => {
    const { told } = watched();
    const { clock, first, names } = world;
    first.has(['10.0.0.1']);
    await clock.advance(0);
    const late: string[][] = [];
    const stop = names.watch('orders', ({ added }) => late.push(textsOf(added)));
    expect(late).toEqual([]);
    await clock.flush();
    expect(late).toEqual([['10.0.0.1']]);
    expect(told).toHaveLength(1);
    const early = names.watch('orders', () => late.push(['told after all']));
    early();
    stop();
    await clock.flush();
    expect(late).toHaveLength(1);
  });

  it('has the name asked for again after refreshMs and up to 10 %, whatever is longer', async () => {
    for (const [random, dueMs] of [
      [0, 30_000],
      [0.5, 31_500],
      [0.999, 32_997],
    ] as const) {
      watched({ random: () => random });
      const { clock, first, names } = world;
      first.has(['10.0.0.1'], { ttlMs: 300_000 });
      await clock.advance(0);
      await clock.advance(dueMs - 1);
      expect(first.asked).toHaveLength(1);
      await clock.advance(1);
      expect(first.asked).toHaveLength(2);
      names.end();
    }
  });

  it('has it asked for when a shorter TTL is over, never before', async () => {
    watched();
    const { clock, first } = world;
    first.has(['10.0.0.1'], { ttlMs: 10_000 });
    await clock.advance(0);
    await clock.advance(9_999);
    expect(first.asked).toHaveLength(1);
    await clock.advance(501);
    expect(first.asked).toHaveLength(2);
  });

  it('leaves no timer when it no longer watches', async () => {
    const { stop, told } = watched();
    const { clock, first } = world;
    first.has(['10.0.0.1']);
    await clock.advance(0);
    stop();
    stop();
    expect(clock.pendingTimers).toBe(0);
    first.has(['10.0.0.2']);
    await world.ask();
    await clock.advance(100_000);
    expect(first.asked).toHaveLength(1);
    expect(told).toHaveLength(1);
  });

  it('may stop when it is told, or stop others', async () => {
    world = new NamesWorld({ isAlone: true });
    const { clock, first, names } = world;
    const told: string[] = [];
    const stops: (() => void)[] = [];
    for (const name of ['a', 'b']) {
      stops.push(
        names.watch('orders', () => {
          told.push(name);
          for (const stop of stops) stop();
        }),
      );
    }
    first.has(['10.0.0.1']);
    await clock.advance(0);
    expect(told).toEqual(['a']);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('who watches a name while resolvers fail', () => {
  it('may stop others when it is told', async () => {
    world = new NamesWorld({ isAlone: true });
    const { clock, names } = world;
    const told: string[] = [];
    const stops: (() => void)[] = [];
    for (const name of ['a', 'b']) {
      stops.push(
        names.watch(
          'orders',
          () => undefined,
          () => {
            told.push(name);
            for (const stop of stops) stop();
          },
        ),
      );
    }
    await clock.advance(0);
    expect(told).toEqual(['a']);
    expect(clock.pendingTimers).toBe(0);
  });

  it('keeps the fallback addresses when the network changes', async () => {
    const { told } = watched({ fallbackAddresses: addressesOf('10.1.1.1') });
    const { clock, first, names } = world;
    first.fails('ECONNREFUSED');
    await clock.advance(0);
    first.hangs();
    names.refresh('orders', { force: true });
    names.watch('orders', () => undefined);
    await clock.advance(10_000);
    expect(told).toHaveLength(1);
  });

  it('is told when the server was down at the start and comes up', async () => {
    const { failed, told } = watched();
    const { clock, first } = world;
    first.fails('ECONNREFUSED');
    await clock.advance(3_000);
    expect(failed).toEqual(['ECONNREFUSED', 'ECONNREFUSED', 'ECONNREFUSED']);
    expect(told).toEqual([]);
    first.has(['10.0.0.1']);
    await clock.advance(500);
    expect(told).toEqual([{ all: ['10.0.0.1'], added: ['10.0.0.1'], removed: [] }]);
  });

  it('is never told of a removal for it, not even when the answer is older than maxStaleMs', async () => {
    const { failed, told } = watched();
    const { clock, first } = world;
    first.has(['10.0.0.1']);
    await clock.advance(0);
    first.fails('ESERVFAIL');
    await clock.advance(3 * 3_600_000);
    expect(told).toHaveLength(1);
    expect(failed.length).toBeGreaterThan(100);
    expect(await world.ask()).toBe('ESERVFAIL');
    first.has(['10.0.0.2']);
    await clock.advance(30_000);
    expect(told.at(-1)).toEqual({ all: ['10.0.0.2'], added: ['10.0.0.2'], removed: ['10.0.0.1'] });
  });

  it('is told that nothing is left once “no such name” is confirmed, and of what comes back', async () => {
    const { told } = watched();
    const { clock, first } = world;
    first.has(['10.0.0.1']);
    await clock.advance(0);
    first.fails('ENOTFOUND');
    await clock.advance(31_500 + 29_900);
    expect(told).toHaveLength(1);
    await clock.advance(20_000);
    expect(told.at(-1)).toEqual({ all: [], added: [], removed: ['10.0.0.1'] });
    first.has(['10.0.0.9']);
    await clock.advance(30_000);
    expect(told.at(-1)).toEqual({ all: ['10.0.0.9'], added: ['10.0.0.9'], removed: [] });
  });

  it('is given the fallback addresses when nothing is known, and loses them to a good answer', async () => {
    const { told } = watched({ fallbackAddresses: addressesOf('10.1.1.1') });
    const { clock, first } = world;
    first.fails('ECONNREFUSED');
    await clock.advance(0);
    expect(told).toEqual([{ all: ['10.1.1.1'], added: ['10.1.1.1'], removed: [] }]);
    first.has(['10.0.0.1']);
    await clock.advance(500);
    expect(told.at(-1)).toEqual({ all: ['10.0.0.1'], added: ['10.0.0.1'], removed: ['10.1.1.1'] });
  });

  it('is given no fallback addresses before a resolver has failed', async () => {
    const { told } = watched({ fallbackAddresses: addressesOf('10.1.1.1') });
    const { clock, first } = world;
    first.hangs();
    await clock.advance(2_900);
    expect(told).toEqual([]);
  });

  it('has it asked for again after a failure as the back-off says, and by no hint before', async () => {
    watched();
    const { clock, first, names } = world;
    first.fails('ESERVFAIL');
    await clock.advance(60_000);
    names.refresh('orders');
    const before = first.asked.length;
    expect(before).toBe(8);
  });
});

describe('the phases of a name', () => {
  const phases: Record<EntryPhase['name'], EntryPhase> = {
    resting: { name: 'resting' },
    asking: { name: 'asking', run: new AbortController(), instead: 'nothing' },
    ended: { name: 'ended' },
  };

  it('follow one another as the table says, and in no other way', () => {
    for (const from of Object.values(phases)) {
      for (const to of Object.values(phases)) {
        if (ENTRY_TRANSITIONS[from.name].includes(to.name)) expect(follow(from, to)).toBe(to);
        else expect(() => follow(from, to)).toThrow(/^bug/);
      }
    }
  });
});

import { describe, expect, it } from 'vitest';
import type { Member } from '../../../src/balance/member.ts';
import { BALANCE_POLICIES } from '../../../src/balance/policies.ts';
import { Crew } from './crew.ts';

/** Its latency is known. */
function timed(crew: Crew, name: string, ms: number): void {
  crew.serve(name, 3, ms);
}

function lend(crew: Crew, name: string, times: number): void {
  for (let done = 0; done < times; done += 1) crew.get(name).lent();
}

const is = (name: string) => (member: Member) => member.name === name;
const isNot = (name: string) => (member: Member) => member.name !== name;

describe.each(BALANCE_POLICIES)('with %s', (policy) => {
  const crewOf = (names: string) => new Crew({ policy }).join(names);

  it('nobody is picked where nobody is', () => {
    expect(new Crew({ policy }).pick()).toBeUndefined();
    expect(new Crew({ policy }).pick({ accept: () => true, key: 'a' })).toBeUndefined();
  });

  it('a single endpoint is always picked, whatever it does, but for a caller who does not accept it', () => {
    const crew = crewOf('a').fail('a', 100);
    expect(crew.pick()).toBe('a');
    expect(crew.pick({ avoid: crew.get('a') })).toBe('a');
    expect(crew.pick({ accept: isNot('a') })).toBeUndefined();
    expect(crew.told).toEqual([]);
  });

  it('like endpoints get like shares', () => {
    const tally = crewOf('a b c').tally(30_000);
    for (const name of ['a', 'b', 'c']) expect(Math.abs((tally[name] ?? 0) - 10_000)).toBeLessThan(300);
  });

  it('shares go by weight', () => {
    const crew = new Crew({ policy }).join('a b').join('c', { weight: 2 }).join('d', { weight: 0.5 });
    const tally = crew.tally(45_000);
    expect((tally['a'] ?? 0) / 10_000).toBeCloseTo(1, 1);
    expect((tally['c'] ?? 0) / 20_000).toBeCloseTo(1, 1);
    expect((tally['d'] ?? 0) / 5_000).toBeCloseTo(1, 1);
  });

  it('a new weight counts at once', () => {
    const crew = crewOf('a b');
    crew.pick();
    crew.balancer.change(crew.get('a'), { weight: 9 }, crew.now);
    expect((crew.tally(10_000)['a'] ?? 0) / 9_000).toBeCloseTo(1, 1);
  });

  it('only those are picked that are accepted, however few', () => {
    const crew = crewOf(Array.from({ length: 100 }, (_, index) => `e${index}`).join(' '));
    expect(crew.tally(100, { accept: is('e42') })).toEqual({ e42: 100 });
    expect(crew.tally(1, { accept: () => false })).toEqual({ nobody: 1 });
  });

  it('one that is to be avoided is picked only when no other one is accepted', () => {
    const crew = crewOf('a b c');
    const avoid = crew.get('a');
    expect(Object.keys(crew.tally(100, { avoid })).sort()).toEqual(['b', 'c']);
    expect(crew.tally(100, { avoid, accept: isNot('b') })).toEqual({ c: 100 });
    expect(crew.tally(100, { avoid, accept: is('a') })).toEqual({ a: 100 });
  });

  it('one that is removed is not picked, and is when it comes back', () => {
    const crew = crewOf('a b c');
    crew.balancer.remove(crew.get('b'), crew.now);
    expect(crew.picked()).toBe('a c');
    expect(crew.state('b')).toBe('gone');
    expect(crew.balancer.isUsable(crew.get('b'), crew.now)).toBe(false);
    expect(crew.balancer.size).toBe(2);
    crew.balancer.add(crew.get('b'), crew.now);
    expect(crew.picked()).toBe('a b c');
  });

  it('the last one is picked, and nobody when all are gone', () => {
    const crew = crewOf('a b');
    crew.balancer.remove(crew.get('a'), crew.now);
    expect(crew.pick()).toBe('b');
    crew.balancer.remove(crew.get('b'), crew.now);
    expect(crew.pick()).toBeUndefined();
  });

  it('one that is gone is not picked', () => {
    const crew = crewOf('a b');
    crew.balancer.remove(crew.get('a'), crew.now);
    expect(crew.picked()).toBe('b');
    expect([...crew.balancer.members]).toEqual([crew.get('b')]);
  });
});

describe('two choices', () => {
  it('the one with less in flight is better', () => {
    const crew = new Crew().join('a b');
    lend(crew, 'a', 1);
    expect(crew.tally(100)).toEqual({ b: 100 });
    lend(crew, 'b', 2);
    expect(crew.tally(100)).toEqual({ a: 100 });
  });

  it('twice the weight may have twice as much in flight', () => {
    const crew = new Crew().join('a').join('b', { weight: 2 });
    lend(crew, 'a', 2);
    lend(crew, 'b', 3);
    expect(crew.tally(100)).toEqual({ b: 100 });
    lend(crew, 'b', 3);
    expect(crew.tally(100)).toEqual({ a: 100 });
  });

  it('with few in flight, each has its share by weight all the same', () => {
    const crew = new Crew().join('a', { weight: 3 }).join('b');
    const counts = { a: 0, b: 0 };
    // Two in flight at a time.
    const out: ('a' | 'b')[] = [];
    for (let n = 0; n < 4_000; n += 1) {
      const [name] = Object.keys(crew.tally(1)) as ('a' | 'b')[];
      if (name === undefined) continue;
      counts[name] += 1;
      lend(crew, name, 1);
      out.push(name);
      if (out.length > 1) crew.get(out.shift() ?? name).returned();
    }
    expect(counts.b / 4_000).toBeGreaterThan(0.17);
    expect(counts.b / 4_000).toBeLessThan(0.3);
  });

  it('latencies within twice of each other are equal, and so are those within five milliseconds', () => {
    const crew = new Crew().join('a b c d');
    timed(crew, 'a', 20);
    timed(crew, 'b', 39);
    expect(crew.picked()).toBe('a b c d');
    const fast = new Crew().join('a b');
    timed(fast, 'a', 0.1);
    timed(fast, 'b', 5);
    expect(fast.picked()).toBe('a b');
  });

  it('one that is slower by more gets nothing, as long as others are not overrun', () => {
    const crew = new Crew().join('a b');
    timed(crew, 'a', 20);
    timed(crew, 'b', 120);
    expect(crew.tally(1_000)).toEqual({ a: 1_000 });
    lend(crew, 'a', 214);
    expect(crew.picked()).toBe('a');
    lend(crew, 'a', 2);
    expect(crew.picked()).toBe('b');
  });

  it('a slow one is tried again when its slowness is forgotten, by one request at a time', () => {
    const crew = new Crew().join('a b');
    timed(crew, 'a', 20);
    timed(crew, 'b', 120);
    crew.pass(10_000);
    expect(crew.picked()).toBe('a');
    crew.pass(1_000);
    expect(crew.picked()).toBe('a b');
    lend(crew, 'b', 1);
    expect(crew.picked()).toBe('a');
    lend(crew, 'a', 100);
    expect(crew.picked()).toBe('a');
  });

  it('one of which nothing is known is as good as any', () => {
    const crew = new Crew().join('a b');
    timed(crew, 'a', 20);
    expect(crew.picked()).toBe('a b');
  });

  it('one that is silent while three wait counts as that slow, before the first reply', () => {
    const crew = new Crew().join('a b');
    timed(crew, 'a', 20);
    timed(crew, 'b', 20);
    for (let times = 0; times < 3; times += 1) crew.get('b').asked(crew.now);
    lend(crew, 'b', 3);
    lend(crew, 'a', 5);
    expect(crew.picked()).toBe('b');
    crew.pass(100);
    expect(crew.picked()).toBe('a');
    crew.get('b').answered(crew.now);
    expect(crew.picked()).toBe('b');
  });

  it('one that is silent while two wait may just have been unlucky', () => {
    const crew = new Crew().join('a b');
    timed(crew, 'a', 20);
    timed(crew, 'b', 20);
    for (let times = 0; times < 2; times += 1) crew.get('b').asked(crew.now);
    expect(crew.pass(1_000).picked()).toBe('a b');
  });

  it('a slow one is not picked for want of a second choice: with few that are accepted, all are looked at', () => {
    const names = Array.from({ length: 100 }, (_, index) => `e${index}`).join(' ');
    const crew = new Crew().join(names);
    timed(crew, 'e1', 20);
    timed(crew, 'e2', 120);
    expect(crew.tally(200, { accept: (member) => member.name === 'e1' || member.name === 'e2' })).toEqual({
      e1: 200,
    });
  });
});

describe('round robin', () => {
  it('goes in turn', () => {
    const crew = new Crew({ policy: 'round-robin' }).join('a b c');
    const round = [1, 2, 3].map(() => crew.pick());
    expect([...round].sort()).toEqual(['a', 'b', 'c']);
    expect([1, 2, 3].map(() => crew.pick())).toEqual(round);
  });

  it('spreads those of a heavy one over the round', () => {
    const crew = new Crew({ policy: 'round-robin' }).join('a', { weight: 3 }).join('b c');
    const round = Array.from({ length: 10 }, () => crew.pick());
    expect(round.filter((name) => name === 'a')).toHaveLength(6);
    expect(round.join('')).not.toContain('aaa');
    expect(round.join('')).not.toMatch(/[bc]{3}/);
  });

  it('begins with another one in another process', () => {
    const firsts = new Set<string | undefined>();
    for (const chance of [0.1, 0.5, 0.9]) {
      let draws = 0;
      const random = () => (chance + 0.37 * draws++) % 1;
      firsts.add(new Crew({ policy: 'round-robin', random }).join('a b c').pick());
    }
    expect(firsts.size).toBeGreaterThan(1);
  });
});

describe('least loaded', () => {
  it('looks at all, and takes the least in flight for its weight', () => {
    const crew = new Crew({ policy: 'least-loaded' }).join('a b c').join('d', { weight: 4 });
    for (const name of ['a', 'b', 'c', 'd']) lend(crew, name, 2);
    expect(crew.tally(10)).toEqual({ d: 10 });
    lend(crew, 'd', 7);
    crew.get('b').returned();
    expect(crew.tally(10)).toEqual({ b: 10 });
  });

  it('does not care for latency', () => {
    const crew = new Crew({ policy: 'least-loaded' }).join('a b');
    timed(crew, 'a', 20);
    timed(crew, 'b', 120);
    expect(crew.picked()).toBe('a b');
  });
});

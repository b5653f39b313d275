import { describe, expect, it } from 'vitest';
import { hashOf } from '../../../src/balance/member.ts';
import { Crew } from './crew.ts';

const KEYS = Array.from({ length: 10_000 }, (_, index) => `user:${index}`);

function crewOf(size: number): Crew {
  const names = Array.from({ length: size }, (_, index) => `10.0.0.${index}:7000`);
  return new Crew({ policy: 'consistent-hash' }).join(names.join(' '));
}

/** Where each key goes. */
function placesOf(crew: Crew): (string | undefined)[] {
  return KEYS.map((key) => crew.pick({ key }));
}

function moved(before: readonly unknown[], after: readonly unknown[]): number {
  return before.filter((place, index) => place !== after[index]).length;
}

function counts(places: readonly (string | undefined)[]): Map<string | undefined, number> {
  const counts = new Map<string | undefined, number>();
  for (const place of places) counts.set(place, (counts.get(place) ?? 0) + 1);
  return counts;
}

describe('consistent hashing', () => {
  it('sends one key to one endpoint, in every process, in whatever order they came', () => {
    const one = new Crew({ policy: 'consistent-hash' }).join('a b c d e');
    const other = new Crew({ policy: 'consistent-hash', random: () => 0.3 }).join('d b e a c');
    expect(placesOf(one)).toEqual(placesOf(other));
    expect(placesOf(one)).toEqual(placesOf(one));
  });

  it('sends like numbers of keys to each of ten, and to each of 300', () => {
    for (const count of counts(placesOf(crewOf(10))).values())
      expect(Math.abs(count - 1_000)).toBeLessThan(100);
    const of300 = counts(placesOf(crewOf(300)));
    expect(of300.size).toBe(300);
    expect(Math.max(...of300.values())).toBeLessThan(70);
  });

  it('sends twice as many keys to twice the weight', () => {
    const crew = new Crew({ policy: 'consistent-hash' }).join('a b').join('c', { weight: 2 });
    expect((counts(placesOf(crew)).get('c') ?? 0) / 5_000).toBeCloseTo(1, 1);
  });

  it('moves the keys of one that leaves, and no others', () => {
    const crew = crewOf(10);
    const before = placesOf(crew);
    const gone = crew.get('10.0.0.3:7000');
    crew.balancer.remove(gone, crew.now);
    const after = placesOf(crew);
    expect(moved(before, after)).toBe(counts(before).get(gone.name));
    expect(counts(after).size).toBe(9);
    // They go to all the others.
    const heirs = counts(after.filter((_, index) => before[index] === gone.name));
    expect(heirs.size).toBe(9);
  });

  it('moves a tenth of the keys to a tenth one, and none between the others', () => {
    const crew = crewOf(9);
    const before = placesOf(crew);
    crew.join('new');
    const after = placesOf(crew);
    expect(Math.abs(moved(before, after) - 1_000)).toBeLessThan(100);
    expect(moved(before, after)).toBe(counts(after).get('new'));
  });

  it('moves keys back by and by while one warms up', () => {
    const crew = crewOf(10);
    const before = placesOf(crew);
    const name = '10.0.0.3:7000';
    crew.fail(name);
    expect(counts(placesOf(crew)).has(name)).toBe(false);
    crew.revive(name);
    const own = () => counts(placesOf(crew)).get(name) ?? 0;
    const all = counts(before).get(name) ?? 0;
    expect(own() / all).toBeLessThan(0.2);
    crew.pass(15_000);
    expect(Math.abs(own() / all - 0.55)).toBeLessThan(0.1);
    crew.pass(15_000);
    expect(placesOf(crew)).toEqual(before);
  });

  it('sends a hot key on to the next ones, so that nobody has more than 1.25 times its share in flight', () => {
    const crew = crewOf(10);
    const inFlight: number[] = [];
    for (let flights = 0; flights < 1_000; flights += 1) {
      crew.balancer.pick(crew.now, { key: 'hot' })?.lent();
      const most = Math.max(...[...crew.balancer.members].map((member) => member.inFlight));
      inFlight.push(most);
      expect(most).toBeLessThanOrEqual(Math.max(4, Math.ceil((1.25 * (flights + 1)) / 10)));
    }
    expect(inFlight.at(-1)).toBe(125);
  });

  it('keeps up to four together, however few there are elsewhere', () => {
    const crew = crewOf(10);
    const own = crew.balancer.pick(crew.now, { key: 'hot' });
    for (let flights = 0; flights < 4; flights += 1) {
      expect(crew.pick({ key: 'hot' })).toBe(own?.name);
      own?.lent();
    }
    expect(crew.pick({ key: 'hot' })).not.toBe(own?.name);
  });

  it('sends it back to its own one when that has room again', () => {
    const crew = crewOf(10);
    const own = crew.balancer.pick(crew.now, { key: 'hot' });
    for (let flights = 0; flights < 10; flights += 1) own?.lent();
    expect(crew.pick({ key: 'hot' })).not.toBe(own?.name);
    for (let flights = 0; flights < 10; flights += 1) own?.returned();
    expect(crew.pick({ key: 'hot' })).toBe(own?.name);
  });

  it('keeps a key where it is when all that are accepted have too much in flight', () => {
    const crew = crewOf(10);
    const own = crew.balancer.pick(crew.now, { key: 'hot' });
    for (let flights = 0; flights < 10; flights += 1) own?.lent();
    expect(crew.pick({ key: 'hot', accept: (member) => member === own })).toBe(own?.name);
  });

  it('sends a probe only a key that it would get', () => {
    const crew = crewOf(10);
    const before = placesOf(crew);
    const name = '10.0.0.3:7000';
    const foreign = KEYS[before.findIndex((place) => place !== name)] ?? '';
    const own = KEYS[before.indexOf(name)] ?? '';
    crew.fail(name).pass(6_000);
    for (let picks = 0; picks < 100; picks += 1) expect(crew.pick({ key: foreign })).not.toBe(name);
    expect(crew.pick({ key: own })).toBe(name);
    expect(crew.state(name)).toBe('probing');
    expect(crew.pick({ key: own })).not.toBe(name);
  });

  it('chooses by load and latency for those who bring no key', () => {
    const crew = crewOf(2);
    crew.get('10.0.0.0:7000').lent();
    expect(crew.tally(10)).toEqual({ '10.0.0.1:7000': 10 });
  });

  it('has the hash of a key in all its bits, also of keys that differ in the last letter only', () => {
    const tops = new Set(KEYS.map((key) => hashOf(key) >>> 22));
    expect(tops.size).toBe(1_024);
    expect(new Set(KEYS.map(hashOf)).size).toBeGreaterThan(9_998);
  });
});

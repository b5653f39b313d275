import { describe, expect, it } from 'vitest';
import { Crew } from './crew.ts';

/** Primaries and standbys. */
function tiered(primaries: string, standbys: string): Crew {
  return new Crew().join(primaries).join(standbys, { tier: 1 });
}

describe('tiers', () => {
  it('the first one gets everything, and the standby nothing', () => {
    expect(tiered('a b', 'x').picked()).toBe('a b');
  });

  it('the standby gets everything when all of the first tier is out, though that is more than half of all', () => {
    const crew = tiered('a b', 'x').fail('a').fail('b');
    expect(crew.told).toEqual(['a out', 'b out']);
    expect(crew.picked()).toBe('x');
    expect(crew.balancer.isPanicking(crew.now)).toBe(false);
  });

  it('the standby gets nothing while half of the first tier is well', () => {
    expect(tiered('a b', 'x').fail('a').picked()).toBe('b');
    expect(tiered('a b c', 'x').fail('a').picked()).toBe('b c');
  });

  it('of a first tier of which less is well, 1.4 times that share is left, and the standby gets the rest', () => {
    const crew = tiered('a b c', 'x').fail('a').fail('b');
    const tally = crew.tally(10_000);
    expect(Object.keys(tally).sort()).toEqual(['c', 'x']);
    expect((tally['c'] ?? 0) / 10_000).toBeCloseTo(1.4 / 3, 1);
  });

  it('a third tier gets what is left when two are out', () => {
    const crew = new Crew().join('a').join('b', { tier: 1 }).join('c', { tier: 7 });
    expect(crew.picked()).toBe('a');
    expect(crew.fail('a').picked()).toBe('b');
    expect(crew.fail('b').picked()).toBe('c');
  });

  it('no standby is asked for a caller who does not accept those of the first tier: they may just be busy', () => {
    const crew = tiered('a b', 'x');
    expect(crew.pick({ accept: ({ name }) => name === 'x' })).toBeUndefined();
    expect(crew.pick({ avoid: crew.get('a'), accept: ({ name }) => name !== 'b' })).toBe('a');
  });

  it('when no tier is well, all endpoints of all tiers are picked', () => {
    const crew = tiered('a', 'x').fail('a').fail('x');
    expect(crew.balancer.isPanicking(crew.now)).toBe(true);
    expect(crew.picked()).toBe('a x');
  });

  it('a tier is not put out as a whole while the other one is not well either', () => {
    const crew = tiered('a b', 'w x y z').fail('a').fail('b').fail('x').fail('z').fail('y');
    expect(crew.told).toEqual(['a out', 'b out', 'x out', 'z out']);
    crew.serve('a').fail('a');
    expect(crew.told).toEqual(['a out', 'b out', 'x out', 'z out', 'a back']);
  });

  it('the first tier is tried while the standby serves', () => {
    const crew = tiered('a', 'x').fail('a').pass(6_000);
    expect(crew.tally(100)).toEqual({ a: 1, x: 99 });
  });

  it('a standby that is out is not tried by callers who have a first tier', () => {
    const crew = tiered('a b', 'x y').fail('x').pass(6_000);
    expect(crew.picked()).toBe('a b');
    expect(crew.state('x')).toBe('ejected');
  });

  it('a first tier that comes back gets a tenth, then more and more, and all of it after 30 s', () => {
    const crew = tiered('a', 'x').fail('a').revive('a');
    const share = () => (crew.tally(10_000)['a'] ?? 0) / 10_000;
    expect(share()).toBeCloseTo(0.1, 1);
    expect(crew.pass(10_000) && share()).toBeCloseTo(0.4, 1);
    expect(crew.pass(10_000) && share()).toBeCloseTo(0.7, 1);
    expect(crew.pass(10_000) && share()).toBe(1);
  });

  it('one of a first tier that comes back takes from the other one, and nothing goes to the standby', () => {
    const crew = tiered('a b', 'x').fail('a').revive('a');
    const tally = crew.tally(10_000);
    expect(tally['x']).toBeUndefined();
    expect((tally['a'] ?? 0) / 10_000).toBeCloseTo(0.1 / 1.1, 1);
  });

  it('one that is moved to another tier is picked there', () => {
    const crew = tiered('a b', 'x');
    crew.balancer.change(crew.get('a'), { tier: 1 }, crew.now);
    expect(crew.picked()).toBe('b');
  });

  it('a key goes to the first tier once, and stays there while that comes back', () => {
    const crew = new Crew({ policy: 'consistent-hash' })
      .join('a b')
      .join('x y', { tier: 1 })
      .fail('a')
      .fail('b');
    const keys = Array.from({ length: 1_000 }, (_, index) => `k${index}`);
    const standby = keys.map((key) => crew.pick({ key }));
    expect(new Set(standby)).toEqual(new Set(['x', 'y']));
    for (const name of ['a', 'b']) {
      const { state } = crew.get(name).record;
      if (state.name === 'ejected') crew.now = Math.max(crew.now, state.until);
    }
    crew.serve('a').serve('b');
    let back = 0;
    let moved: string[] = [];
    for (let step = 0; step < 6; step += 1) {
      const places = keys.map((key) => crew.pick({ key }));
      const first = keys.filter((_, index) => places[index] === 'a' || places[index] === 'b');
      expect(first.length).toBeGreaterThan(back);
      back = first.length;
      for (const key of moved) expect(first).toContain(key);
      moved = first;
      places.forEach((place, index) => {
        if (place === 'x' || place === 'y') expect(place).toBe(standby[index]);
      });
      crew.pass(6_000);
    }
    expect(back).toBe(1_000);
  });
});

describe('zones', () => {
  function zoned(near: string, far: string): Crew {
    return new Crew({ zone: 'z1' }).join(near, { zone: 'z1' }).join(far, { zone: 'z2' });
  }

  it('those of the own zone are preferred', () => {
    expect(zoned('a b', 'x y').picked()).toBe('a b');
  });

  it('nothing is preferred where the zone has nobody, or no zone is given', () => {
    expect(new Crew({ zone: 'z3' }).join('a b', { zone: 'z1' }).join('x').picked()).toBe('a b x');
    expect(new Crew().join('a', { zone: 'z1' }).join('x').picked()).toBe('a x');
  });

  it('all are picked when fewer than half of the zone are well', () => {
    const crew = zoned('a b', 'x y').fail('a');
    expect(crew.picked()).toBe('b');
    crew.fail('b');
    expect(crew.picked()).toBe('x y');
    const three = zoned('a b c', 'x y z').fail('a').fail('b');
    expect(three.picked()).toBe('c x y z');
  });

  it('a zone that comes back is not met by a herd', () => {
    const crew = zoned('a', 'x y').fail('a').revive('a');
    const share = () => (crew.tally(10_000)['a'] ?? 0) / 10_000;
    expect(share()).toBeLessThan(0.2);
    expect(crew.pass(15_000) && share()).toBeGreaterThan(0.5);
    expect(crew.pass(15_000) && share()).toBe(1);
  });

  it('another zone is better than one that is to be avoided, or not accepted', () => {
    const crew = zoned('a', 'x y');
    const avoid = crew.get('a');
    expect(Object.keys(crew.tally(100, { avoid })).sort()).toEqual(['x', 'y']);
    expect(crew.pick({ accept: ({ name }) => name === 'x' })).toBe('x');
  });

  it('one that is moved into the zone is preferred', () => {
    const crew = zoned('a', 'x y');
    crew.balancer.change(crew.get('x'), { zone: 'z1' }, crew.now);
    expect(crew.picked()).toBe('a x');
    crew.balancer.change(crew.get('x'), { zone: undefined }, crew.now);
    expect(crew.picked()).toBe('a');
  });
});

describe('slow start', () => {
  const share = (crew: Crew, name: string) => crew.balancer.share(crew.get(name), crew.now);

  it('none for the first ones: where all are new, nobody is spared', () => {
    const crew = new Crew().join('a').pass(20_000).join('b');
    expect(share(crew, 'b')).toBe(0.5);
    expect(crew.state('b')).toBe('healthy');
  });

  it('a new one begins with a tenth of its weight, and has all of it after 30 s', () => {
    const crew = new Crew().join('a').pass(30_000).join('b');
    expect(crew.state('b')).toBe('warming');
    expect(share(crew, 'b')).toBeCloseTo(0.1 / 1.1);
    expect(share(crew.pass(15_000), 'b')).toBeCloseTo(0.55 / 1.55);
    expect(share(crew.pass(14_999), 'b')).toBeGreaterThan(0.49);
    expect(share(crew.pass(1), 'b')).toBe(0.5);
    expect(crew.state('b')).toBe('healthy');
  });

  it('a revived one does the same', () => {
    const crew = new Crew().join('a b').fail('b').revive('b');
    expect(share(crew, 'b')).toBeCloseTo(0.1 / 1.1);
    expect(share(crew.pass(30_000), 'b')).toBe(0.5);
  });

  it('those who are idle are not filled by a herd that finds them so', () => {
    const crew = new Crew().join('a b').pass(30_000).join('c');
    for (const name of ['a', 'b']) for (let flights = 0; flights < 10; flights += 1) crew.get(name).lent();
    for (let flights = 0; flights < 100; flights += 1) crew.balancer.pick(crew.now)?.lent();
    expect(crew.get('c').inFlight).toBeLessThanOrEqual(6);
  });

  it('those who warm up together get all of it', () => {
    const crew = new Crew().join('a').pass(30_000).join('b c');
    crew.balancer.remove(crew.get('a'), crew.now);
    expect(crew.state('b')).toBe('warming');
    expect(share(crew, 'b')).toBeCloseTo(0.5);
  });

  it('none when the owner wants none', () => {
    const crew = new Crew({ slowStartMs: 0 }).join('a').pass(60_000).join('b');
    expect(share(crew, 'b')).toBe(0.5);
    crew.fail('b').revive('b');
    expect(share(crew, 'b')).toBe(0.5);
  });

  it('one that was removed and comes again is new', () => {
    const crew = new Crew().join('a b').pass(60_000);
    crew.balancer.remove(crew.get('b'), crew.now);
    crew.balancer.add(crew.get('b'), crew.now);
    expect(crew.state('b')).toBe('warming');
    crew.balancer.add(crew.get('b'), crew.now);
    expect(crew.balancer.size).toBe(2);
  });
});

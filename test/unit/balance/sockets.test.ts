import { describe, expect, it } from 'vitest';
import { apportion } from '../../../src/balance/apportion.ts';
import { Crew } from './crew.ts';

function sockets(crew: Crew, total: number): Record<string, number> {
  return Object.fromEntries(
    [...crew.balancer.sharesOf(total, crew.now)].map(([{ name }, count]) => [name, count]),
  );
}

describe('how many sockets each endpoint should have', () => {
  it('as many as the others, for the same weight', () => {
    expect(sockets(new Crew().join('a b c'), 9)).toEqual({ a: 3, b: 3, c: 3 });
  });

  it('more for more weight', () => {
    expect(sockets(new Crew().join('a b').join('c', { weight: 2 }), 8)).toEqual({ a: 2, b: 2, c: 4 });
  });

  it('at least one, as long as there are enough', () => {
    const crew = new Crew().join('a').join('b c d', { weight: 0.01 });
    expect(sockets(crew, 10)).toEqual({ a: 7, b: 1, c: 1, d: 1 });
    expect(sockets(crew, 4)).toEqual({ a: 1, b: 1, c: 1, d: 1 });
    expect(sockets(crew, 3)['a']).toBe(3);
  });

  it('in sum exactly what there is', () => {
    const crew = new Crew().join('a b c').join('d', { weight: 2.7 }).join('e', { weight: 0.1 });
    for (let total = 0; total < 50; total += 1) {
      const sum = Object.values(sockets(crew, total)).reduce((all, count) => all + count, 0);
      expect(sum).toBe(total);
    }
  });

  it('none for those that are out, stand by or have left', () => {
    const crew = new Crew().join('a b c d').join('x', { tier: 1 }).fail('a');
    crew.balancer.remove(crew.get('b'), crew.now);
    expect(sockets(crew, 4)).toEqual({ c: 2, d: 2 });
    expect(crew.balancer.share(crew.get('x'), crew.now)).toBe(0);
  });

  it('few for one that warms up', () => {
    const crew = new Crew().join('a b').pass(30_000).join('c');
    expect(sockets(crew, 21)).toEqual({ a: 10, b: 10, c: 1 });
  });

  it('for a standby as many as its share, while the first tier comes back', () => {
    const crew = new Crew().join('a').join('x', { tier: 1 }).fail('a').revive('a').pass(10_000);
    expect(sockets(crew, 10)).toEqual({ a: 4, x: 6 });
  });

  it('the odd one goes to another endpoint in another process', () => {
    const odd = new Set<string | undefined>();
    for (let seed = 0; seed < 20; seed += 1) {
      let draws = 0;
      const crew = new Crew({ random: () => ((seed + 1) * 0.37 * ++draws) % 1 }).join('a b c');
      odd.add(Object.entries(sockets(crew, 1)).find(([, count]) => count === 1)?.[0]);
    }
    expect(odd).toEqual(new Set(['a', 'b', 'c']));
  });

  it('nobody where nobody is', () => {
    expect(apportion(5, new Map<string, number>(), () => 0).size).toBe(0);
    expect(sockets(new Crew(), 5)).toEqual({});
  });
});

describe('what is told of the endpoints', () => {
  it('is a row for each', () => {
    const crew = new Crew({ zone: 'z' })
      .join('a', { zone: 'z', weight: 2 })
      .join('b', { zone: 'z' })
      .join('c')
      .join('d', { tier: 1 });
    crew.get('a').lent();
    crew.serve('a', 1, 12).fail('b', 2).fail('c');
    const common = { ejections: 0, failuresInRow: 0, inFlight: 0, isFailing: false, latencyMs: undefined };
    const rows = [...crew.balancer.members].map((member) => crew.balancer.row(member, crew.now));
    expect(rows).toEqual([
      {
        ...common,
        name: 'a',
        tier: 0,
        zone: 'z',
        weight: 2,
        state: 'healthy',
        share: 2 / 3,
        inFlight: 1,
        latencyMs: 12,
      },
      {
        ...common,
        name: 'b',
        tier: 0,
        zone: 'z',
        weight: 1,
        state: 'healthy',
        share: 1 / 3,
        failuresInRow: 2,
      },
      { ...common, name: 'c', tier: 0, zone: undefined, weight: 1, state: 'ejected', share: 0, ejections: 1 },
      { ...common, name: 'd', tier: 1, zone: undefined, weight: 1, state: 'healthy', share: 0 },
    ]);
  });
});

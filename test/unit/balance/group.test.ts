import { describe, expect, it } from 'vitest';
import { Group } from '../../../src/balance/group.ts';
import { Member } from '../../../src/balance/member.ts';

function groupOf(...weights: number[]): Group<Member> {
  return new Group(weights.map((weight, index) => new Member(`e${index}`, { weight }, 0)));
}

/** Of all chances, evenly, how often each place is drawn. */
function drawn(draw: (chance: number) => number, size: number): number[] {
  const counts = Array.from({ length: size }, () => 0);
  for (let step = 0; step < 1_000; step += 1) {
    const place = draw(step / 1_000);
    counts[place] = (counts[place] ?? 0) + 1;
  }
  return counts;
}

describe('a group', () => {
  it('draws each of like ones as often', () => {
    const group = groupOf(2, 2, 2, 2);
    expect(drawn((chance) => group.draw(chance), 4)).toEqual([250, 250, 250, 250]);
  });

  it('draws each by its weight', () => {
    const group = groupOf(1, 0.5, 3, 0.5);
    expect(drawn((chance) => group.draw(chance), 4)).toEqual([200, 100, 600, 100]);
  });

  it('draws another one than the first, as often as any other', () => {
    const group = groupOf(1, 1, 1, 1, 1);
    expect(drawn((chance) => group.drawOther(2, chance), 5)).toEqual([250, 250, 0, 250, 250]);
  });

  it('draws another one by its weight', () => {
    const group = groupOf(1, 6, 2, 1);
    expect(drawn((chance) => group.drawOther(1, chance), 4)).toEqual([250, 0, 500, 250]);
    expect(drawn((chance) => group.drawOther(0, chance), 4).map((count) => Math.round(count / 10))).toEqual([
      0, 67, 22, 11,
    ]);
  });

  it('never draws the first one again, however the fractions add up', () => {
    const group = groupOf(0.1, 0.2, 0.3, 0.7, 0.1);
    for (let first = 0; first < 5; first += 1) {
      for (const chance of [0, 0.1, 0.3, 0.5, 0.9, 1 - Number.EPSILON]) {
        expect(group.drawOther(first, chance)).not.toBe(first);
      }
    }
  });
});

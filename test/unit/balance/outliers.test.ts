import { describe, expect, it } from 'vitest';
import { follow, HEALTH_TRANSITIONS, type Health, type HealthName } from '../../../src/balance/health.ts';
import { OUTLIER_DEFAULTS } from '../../../src/balance/outliers.ts';
import { Crew } from './crew.ts';

/** Chance in the middle: no jitter. */
const MIDDLE = () => 0.5;
const dial = (crew: Crew, name: string, times = 5) => {
  for (let done = 0; done < times; done += 1) crew.balancer.failed(crew.get(name), 'dial', crew.now);
};

describe('an endpoint that fails', () => {
  it('is out after 5 failures in a row, and not after 4', () => {
    const crew = new Crew().join('a b c').fail('a', 4);
    expect(crew.picked()).toBe('a b c');
    crew.fail('a', 1);
    expect(crew.picked()).toBe('b c');
    expect(crew.told).toEqual(['a out']);
    expect(crew.ejections[0]?.reason).toBe('failures');
    expect(crew.balancer.isUsable(crew.get('a'), crew.now)).toBe(false);
  });

  it('begins to count anew at each reply', () => {
    const crew = new Crew().join('a b c');
    for (let rounds = 0; rounds < 3; rounds += 1) crew.fail('a', 4).serve('a');
    expect(crew.told).toEqual([]);
  });

  it('is out when it fails by dial, by heartbeat and by request, which make five', () => {
    const crew = new Crew().join('a b c').fail('a', 2);
    dial(crew, 'a', 2);
    crew.balancer.failed(crew.get('a'), 'heartbeat', crew.now);
    expect(crew.told).toEqual(['a out']);
  });

  it('is out although it can be dialed: a server may accept and never answer', () => {
    const crew = new Crew().join('a b c');
    for (let times = 0; times < 5; times += 1) {
      crew.balancer.opened(crew.get('a'), crew.now);
      crew.balancer.beat(crew.get('a'), crew.now);
      crew.fail('a', 1);
    }
    expect(crew.told).toEqual(['a out']);
  });

  it('is out when half of at least 20 requests fail within ten seconds', () => {
    const crew = new Crew().join('a b c');
    for (let times = 0; times < 9; times += 1) crew.fail('a', 1).serve('a').pass(100);
    crew.fail('a', 1);
    expect(crew.told).toEqual([]);
    crew.serve('a').fail('a', 1);
    expect(crew.ejections).toMatchObject([{ name: 'a', reason: 'failure-rate' }]);
  });

  it('is not out for failures long ago', () => {
    const crew = new Crew().join('a b c');
    for (let times = 0; times < 100; times += 1) crew.fail('a', 1).serve('a').pass(1_200);
    expect(crew.told).toEqual([]);
  });

  it('is not out when it fails less often', () => {
    const crew = new Crew().join('a b c');
    for (let times = 0; times < 100; times += 1) crew.fail('a', 1).serve('a', 2).pass(10);
    expect(crew.told).toEqual([]);
  });
});

describe('an endpoint that is slow', () => {
  const known = (options = {}) => new Crew({ policy: 'round-robin', ...options }).join('a b c');
  const timed = (crew: Crew, ...names: string[]) => {
    for (const name of names) crew.serve(name, 5, 20);
    return crew;
  };

  it('is out after 5 requests in a row that took ten times as long as those of its peers', () => {
    const crew = timed(known(), 'a', 'b', 'c').pass(1_000).serve('a', 4, 210);
    expect(crew.told).toEqual([]);
    crew.serve('a', 1, 210);
    expect(crew.ejections).toMatchObject([{ name: 'a', reason: 'latency' }]);
  });

  it('is not out for a fast one in between, for less than ten times, or for less than 100 ms', () => {
    const crew = timed(known(), 'a', 'b', 'c').pass(1_000);
    crew.serve('a', 4, 210).serve('a', 1, 20).serve('a', 4, 210).serve('a', 100, 190);
    expect(crew.told).toEqual([]);
    const fast = known();
    for (const name of ['a', 'b', 'c']) fast.serve(name, 5, 2);
    fast.pass(1_000).serve('a', 100, 99).serve('a', 100, 101);
    expect(fast.told).toEqual([]);
  });

  it('is not out while the latencies of fewer than three are known', () => {
    const two = new Crew().join('a b');
    timed(two, 'a', 'b').pass(1_000).serve('a', 100, 5_000);
    const three = timed(known(), 'b').pass(1_000).serve('a', 100, 5_000);
    expect([...two.told, ...three.told]).toEqual([]);
  });

  it('is not out when all are slow', () => {
    const crew = timed(known(), 'a', 'b', 'c').pass(1_000);
    for (let times = 0; times < 20; times += 1) {
      for (const name of ['a', 'b', 'c']) crew.serve(name, 1, 500);
      crew.pass(500);
    }
    expect(crew.told.length).toBeLessThanOrEqual(1);
    expect(crew.balancer.isPanicking(crew.now)).toBe(false);
  });

  it('comes back only by a fast reply', () => {
    const crew = timed(known({ random: MIDDLE }), 'a', 'b', 'c')
      .pass(1_000)
      .serve('a', 5, 300);
    crew.pass(5_000);
    expect(crew.picked(4)).toContain('a');
    crew.pass(300).serve('a', 1, 300);
    expect(crew.state('a')).toBe('ejected');
    expect(crew.ejections.map(({ forMs }) => forMs)).toEqual([5_000, 10_000]);
    crew.pass(10_000);
    expect(crew.picked(4)).toContain('a');
    crew.pass(20).serve('a', 1, 20);
    expect(crew.state('a')).toBe('warming');
    expect(crew.get('a').latency.ms).toBe(20);
    crew.serve('a', 4, 300);
    expect(crew.state('a')).toBe('warming');
  });
});

describe('an endpoint that is out', () => {
  it('is out for 5 s, then 10, then 15, and no longer than 5 minutes', () => {
    const crew = new Crew({ random: MIDDLE }).join('a b c').fail('a');
    for (let times = 0; times < 80; times += 1) {
      const { state } = crew.get('a').record;
      if (state.name === 'ejected') crew.pass(state.until - crew.now);
      crew.picked(5);
      crew.fail('a', 1);
    }
    const times = crew.ejections.map(({ forMs }) => forMs);
    expect(times.slice(0, 4)).toEqual([5_000, 10_000, 15_000, 20_000]);
    expect(times.at(-1)).toBe(300_000);
  });

  it('is out for a fifth more or less, as chance will have it', () => {
    const least = new Crew({ random: () => 0 }).join('a b c').fail('a');
    const most = new Crew({ random: () => 0.999_999 }).join('a b c').fail('a');
    expect(least.ejections[0]?.forMs).toBe(4_000);
    expect(most.ejections[0]?.forMs).toBeCloseTo(6_000, 0);
  });

  it('is out longer when it fails again soon, and forgets once for each 30 s that it was in', () => {
    const crew = new Crew({ random: MIDDLE }).join('a b c');
    crew.fail('a').revive('a').fail('a').revive('a').fail('a').revive('a');
    crew.pass(29_000).fail('a').revive('a');
    crew.pass(61_000).fail('a').revive('a');
    crew.pass(600_000).fail('a');
    expect(crew.ejections.map(({ forMs }) => forMs)).toEqual([5_000, 10_000, 15_000, 20_000, 15_000, 5_000]);
  });

  it('is tried by one pick when its time is over, and by no other one', () => {
    const crew = new Crew().join('a b c').fail('a').pass(3_999);
    expect(crew.picked()).toBe('b c');
    crew.pass(2_001);
    const tally = crew.tally(1_000);
    expect(tally['a']).toBe(1);
    expect(crew.state('a')).toBe('probing');
    expect(crew.balancer.isUsable(crew.get('a'), crew.now)).toBe(false);
  });

  it('is not tried by a caller who avoids it or does not accept it', () => {
    const crew = new Crew().join('a b c').fail('a').pass(6_000);
    const avoid = crew.get('a');
    expect(crew.tally(100, { avoid })['a']).toBeUndefined();
    expect(crew.tally(100, { accept: (member) => member !== avoid })['a']).toBeUndefined();
    expect(crew.pick({ accept: (member) => member === avoid })).toBe('a');
  });

  it('is in again when the probe succeeds', () => {
    const crew = new Crew().join('a b c').fail('a').revive('a');
    expect(crew.state('a')).toBe('warming');
    expect(crew.told).toEqual(['a out', 'a back']);
    expect(crew.picked(1_000)).toBe('a b c');
  });

  it('is out longer when the probe fails', () => {
    const crew = new Crew({ random: MIDDLE }).join('a b c').fail('a').pass(5_000);
    crew.picked(5);
    crew.fail('a', 1);
    expect(crew.state('a')).toBe('ejected');
    expect(crew.told).toEqual(['a out', 'a out']);
    expect(crew.ejections[1]?.forMs).toBe(10_000);
  });

  it('is tried by another one when nothing was heard of the probe for 30 s', () => {
    const crew = new Crew().join('a b c').fail('a').pass(6_000);
    crew.picked(5);
    expect(crew.pass(29_999).tally(100)['a']).toBeUndefined();
    expect(crew.pass(1).tally(100)['a']).toBe(1);
  });

  it('is tried by the next one at once when the probe was not used', () => {
    const crew = new Crew().join('a b c').fail('a').pass(6_000);
    expect(crew.tally(100)['a']).toBe(1);
    crew.balancer.forgo(crew.get('a'), crew.now);
    expect(crew.tally(100)['a']).toBe(1);
  });

  it('loses nothing by a pick that is given back when it is in', () => {
    const crew = new Crew().join('a b c');
    crew.balancer.forgo(crew.get('a'), crew.now);
    expect(crew.state('a')).toBe('healthy');
  });

  it('is not in again by what was asked before it went out', () => {
    const crew = new Crew().join('a b c').fail('a').serve('a', 10);
    expect(crew.state('a')).toBe('ejected');
    crew.pass(6_000).picked(5);
    crew.pass(10).serve('a', 1, 500);
    expect(crew.state('a')).toBe('probing');
  });

  it('is not out longer by what fails only now, and was asked before', () => {
    const crew = new Crew().join('a b c');
    const askedAt = crew.now;
    const late = (times: number) => {
      for (let done = 0; done < times; done += 1) {
        crew.balancer.failed(crew.get('a'), 'request', crew.now, askedAt);
      }
    };
    crew.fail('a');
    late(10);
    expect(crew.ejections).toHaveLength(1);
    crew.pass(6_000).picked(5);
    late(10);
    expect(crew.state('a')).toBe('probing');
    crew.serve('a');
    late(10);
    expect(crew.state('a')).toBe('warming');
  });

  it('is in again by what succeeds without a pick when its time is over: a dial that keeps sockets, a heartbeat', () => {
    const crew = new Crew().join('a b c');
    dial(crew, 'a');
    crew.balancer.opened(crew.get('a'), crew.now);
    expect(crew.state('a')).toBe('ejected');
    crew.pass(6_000).balancer.opened(crew.get('a'), crew.now);
    expect(crew.state('a')).toBe('warming');
  });

  it('is not in again by a dial when it was requests or heartbeats that failed', () => {
    const crew = new Crew().join('a b c').fail('a').pass(6_000);
    crew.picked(5);
    crew.balancer.opened(crew.get('a'), crew.now);
    crew.balancer.beat(crew.get('a'), crew.now);
    expect(crew.state('a')).toBe('probing');
    const paused = new Crew().join('a b c');
    for (let times = 0; times < 5; times += 1)
      paused.balancer.failed(paused.get('a'), 'heartbeat', paused.now);
    paused.pass(6_000).picked(5);
    paused.balancer.opened(paused.get('a'), paused.now);
    expect(paused.state('a')).toBe('probing');
    paused.balancer.beat(paused.get('a'), paused.now);
    expect(paused.state('a')).toBe('warming');
  });

  it('is not put out again by what it was put out for', () => {
    const crew = new Crew().join('a b c').fail('a').revive('a').fail('a', 4);
    expect(crew.state('a')).toBe('warming');
  });
});

describe('how many may be out', () => {
  it('never the only one', () => {
    const crew = new Crew().join('a').fail('a', 100);
    expect(crew.told).toEqual([]);
    expect(crew.state('a')).toBe('healthy');
  });

  it.each([2, 3, 4, 5, 10])('at most half of %i', (size) => {
    const names = Array.from({ length: size }, (_, index) => `e${index}`);
    const crew = new Crew().join(names.join(' '));
    for (const name of names) crew.fail(name, 10);
    expect(crew.told).toHaveLength(Math.floor(size / 2));
  });

  it('one whose probe is out counts as out', () => {
    const crew = new Crew().join('a b c').fail('a').pass(6_000);
    crew.picked(5);
    expect(crew.state('a')).toBe('probing');
    crew.fail('b', 10);
    expect(crew.state('b')).toBe('healthy');
  });

  it('one that is gone is not judged', () => {
    const crew = new Crew().join('a b c');
    crew.balancer.remove(crew.get('a'), crew.now);
    crew.fail('a', 10);
    expect(crew.told).toEqual([]);
  });

  it('none while most of the others fail too: that is overload, and to put some out would make it worse for the rest', () => {
    const crew = new Crew().join('a b c d e');
    crew.fail('b', 1).fail('c', 1).fail('d', 1).fail('a');
    expect(crew.told).toEqual([]);
    crew.serve('b').fail('a', 1);
    expect(crew.told).toEqual(['a out']);
  });

  it('none of those that are left while most of them fail, however many are out already', () => {
    const crew = new Crew({ outliers: { maxEjectedShare: 1 } }).join('a b c d e f');
    crew.fail('a').fail('b').fail('c');
    expect(crew.told).toEqual(['a out', 'b out', 'c out']);
    crew.fail('d', 1).fail('e', 1).fail('f');
    expect(crew.told).toHaveLength(3);
  });

  it('as many as the owner says, but never the last that is well', () => {
    const crew = new Crew({ outliers: { maxEjectedShare: 1, panicBelow: 0 } }).join('a b c d');
    crew.fail('a').fail('b').fail('c');
    expect(crew.picked()).toBe('d');
    crew.fail('d');
    expect(crew.told).toHaveLength(3);
  });

  it('fewer when others leave: those come back that would have come first', () => {
    const crew = new Crew({ random: MIDDLE }).join('a b c d').fail('b').pass(100).fail('a');
    crew.balancer.remove(crew.get('c'), crew.now);
    expect(crew.told).toEqual(['b out', 'a out', 'b back']);
    crew.balancer.remove(crew.get('d'), crew.now);
    expect(crew.state('a')).toBe('ejected');
    crew.balancer.remove(crew.get('b'), crew.now);
    expect(crew.pick()).toBe('a');
    expect(crew.state('a')).toBe('warming');
  });
});

describe('when fewer than half are well', () => {
  it('all are picked as if they were', () => {
    const crew = new Crew().join('a b c').fail('a').fail('b');
    expect(crew.balancer.isPanicking(crew.now)).toBe(true);
    expect(crew.picked()).toBe('a b c');
    expect(crew.balancer.isUsable(crew.get('a'), crew.now)).toBe(true);
    const rows = ['a', 'b', 'c'].map((name) => crew.balancer.row(crew.get(name), crew.now));
    expect(rows.map(({ isFailing }) => isFailing)).toEqual([false, true, false]);
  });

  it('those that are out are in again by a reply, before their time', () => {
    const crew = new Crew().join('a b c').fail('a').fail('b').serve('a');
    expect(crew.state('a')).toBe('warming');
    expect(crew.balancer.isPanicking(crew.now)).toBe(false);
  });

  it('one that could not be put out for want of others is well again after one reply', () => {
    const crew = new Crew().join('a b c').fail('a').fail('b').serve('b');
    expect(crew.balancer.isPanicking(crew.now)).toBe(false);
    expect(crew.picked()).toBe('b c');
  });

  it('one that could not be put out stays doubtful while it can be dialed and no more, or fails every second time', () => {
    const crew = new Crew().join('a b c').fail('a').fail('b');
    crew.balancer.opened(crew.get('b'), crew.now);
    expect(crew.balancer.isPanicking(crew.now)).toBe(true);
    const half = new Crew().join('a b c').fail('a').pass(1);
    for (let times = 0; times < 20; times += 1) half.fail('b', 1).serve('b');
    expect(half.balancer.isPanicking(half.now)).toBe(true);
    half.pass(11_000).serve('b');
    expect(half.balancer.isPanicking(half.now)).toBe(false);
  });

  it('one that warms up gets as much as any', () => {
    const crew = new Crew().join('a b c').pass(60_000).join('d').fail('a').fail('b').fail('c');
    expect(crew.balancer.isPanicking(crew.now)).toBe(true);
    expect(crew.balancer.share(crew.get('d'), crew.now)).toBe(0.25);
  });

  it('one of two that works is all that is needed', () => {
    const crew = new Crew().join('a b').fail('a');
    expect(crew.balancer.isPanicking(crew.now)).toBe(false);
    expect(crew.picked()).toBe('b');
    crew.fail('b');
    expect(crew.picked()).toBe('a b');
  });
});

describe('the states of an endpoint', () => {
  const states: Record<HealthName, Health> = {
    healthy: { name: 'healthy' },
    warming: { name: 'warming', since: 0 },
    ejected: { name: 'ejected', until: 0, why: { reason: 'failures', kind: 'dial' } },
    probing: { name: 'probing', since: 0, why: { reason: 'failures', kind: 'dial' } },
  };

  it('follow the table, and nothing else', () => {
    for (const from of Object.values(states)) {
      for (const to of Object.values(states)) {
        if (HEALTH_TRANSITIONS[from.name].includes(to.name)) expect(follow(from, to)).toBe(to);
        else expect(() => follow(from, to)).toThrow(/bug/);
      }
    }
  });
});

describe('the defaults', () => {
  it('are frozen', () => {
    expect(Object.isFrozen(OUTLIER_DEFAULTS)).toBe(true);
  });
});

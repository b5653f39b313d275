import { describe, expect, it } from 'vitest';
import { type Advice, type AdviceFacts, advise } from '../../../src/pool/advice.ts';
import type { LatencyStats } from '../../../src/pool/histogram.ts';
import { resolveSizes } from '../../../src/pool/sizes.ts';

const HOUR_MS = 3_600_000;
const SIZES = { min: 0, minIdle: 0, maxIdle: 20, max: 20 };

/** Latencies that are all the same. */
function all(ms: number, count: number): LatencyStats {
  return { count, sumMs: ms * count, p50Ms: ms, p90Ms: ms, p99Ms: ms, maxMs: ms };
}

/** A pool in good order: 10 leases a second, held 12 ms; all its sockets were needed once, and nobody waited. */
const CALM: AdviceFacts = {
  sizes: SIZES,
  demand: { peakLeased: 20, shortP99: 0, shortCount: 0, coveredMs: HOUR_MS },
  wait: all(0, 0),
  hold: all(12, 36_000),
  dial: all(30, 20),
  acquired: 36_000,
  waited: 0,
  uptimeMs: HOUR_MS,
  serverIdleMs: undefined,
  idleTimeoutMs: 55_000,
};

/** Now and then all are leased, and three callers wait. */
const SHORT: AdviceFacts = {
  ...CALM,
  demand: { ...CALM.demand, shortP99: 3, shortCount: 50 },
  wait: all(40, 50),
  waited: 50,
};

/** More callers than 20 sockets can serve in the time that each holds one: 1,700 a second, 12 ms. */
const FULL: AdviceFacts = { ...SHORT, acquired: 1_660 * 3_600, hold: all(12, 1_660 * 3_600) };

/** Thirteen at once at most. */
const ROOMY: AdviceFacts = { ...CALM, demand: { ...CALM.demand, peakLeased: 13 } };

/** 100 callers a second; some wait for a dial of 30 ms. */
const COLD: AdviceFacts = {
  ...CALM,
  demand: { ...CALM.demand, peakLeased: 15 },
  wait: all(32, 40),
  waited: 40,
  acquired: 360_000,
};

function kinds(facts: AdviceFacts): Advice['kind'][] {
  return advise(facts).map(({ kind }) => kind);
}

it('a pool in good order gets no advice', () => {
  expect(advise(CALM)).toEqual([]);
});

describe('a larger max', () => {
  it('is advised by what was missing when callers had to wait', () => {
    expect(advise(SHORT)).toEqual([
      {
        kind: 'raise-max',
        message:
          'p99 of the wait is 40 ms: 3 more sockets would remove it (leases are held 12 ms on average).',
        suggest: { max: 23 },
      },
    ]);
  });

  it('is advised by at least one', () => {
    const [advice] = advise({ ...SHORT, demand: { ...SHORT.demand, shortP99: 1 } });
    expect(advice?.message).toContain('1 more socket would');
    expect(advice?.suggest).toEqual({ max: 21 });
  });

  it.each<[string, Partial<AdviceFacts>]>([
    ['fewer than 100 leases', { acquired: 99 }],
    ['fewer than 10 waits', { demand: { ...SHORT.demand, shortCount: 9 } }],
    ['waits of less than a millisecond', { wait: all(0.9, 50) }],
    ['no lease measured', { hold: all(0, 0) }],
  ])('is not advised by %s', (_what, facts) => {
    expect(advise({ ...SHORT, ...facts })).toEqual([]);
  });

  it.each<[string, Partial<AdviceFacts>]>([
    ['100 leases', { acquired: 100 }],
    ['10 waits', { demand: { ...SHORT.demand, shortCount: 10 } }],
    ['waits of a millisecond', { wait: all(1, 50) }],
  ])('is advised from %s on', (_what, facts) => {
    expect(kinds({ ...SHORT, ...facts })).toEqual(['raise-max']);
  });

  it('is promised nothing when the sockets are busy all the time', () => {
    expect(advise(FULL)).toEqual([
      {
        kind: 'saturated',
        message:
          'The pool is saturated: callers would keep 20 sockets busy on average, and max is 20 ' +
          '(leases are held 12 ms on average). More only help if the server can serve them faster.',
        suggest: {},
      },
    ]);
  });

  it('is promised nothing either when the sockets are busy lately, after a quiet night', () => {
    const night = { uptimeMs: 20 * HOUR_MS, demand: { ...FULL.demand, shortCount: 2_500 * 3_600 } };
    const [advice] = advise({ ...FULL, ...night });
    expect(advice?.kind).toBe('saturated');
    expect(advice?.message).toContain('would keep 30 sockets');
  });

  it('is advised while the sockets are busy nine tenths of the time', () => {
    const acquired = 1_500 * 3_600;
    expect(kinds({ ...SHORT, acquired, hold: all(12, acquired) })).toEqual(['raise-max']);
  });

  it('is advised after a burst of a second: that is no rate', () => {
    const demand = { ...SHORT.demand, shortCount: 2_500, coveredMs: 1_000 };
    expect(kinds({ ...SHORT, demand, acquired: 3_000, uptimeMs: HOUR_MS })).toEqual(['raise-max']);
  });
});

describe('warm spare sockets', () => {
  it('are advised when callers wait for dials although max is not reached', () => {
    expect(advise(COLD)).toEqual([
      {
        kind: 'raise-min-idle',
        message:
          'p99 of the wait is 32 ms although max is not reached, and a dial takes 30 ms: ' +
          'warm spare sockets would hide the dial. Set minIdle to 3.',
        suggest: { minIdle: 3 },
      },
    ]);
  });

  it.each<[string, Partial<AdviceFacts>, number]>([
    ['one, for a pool that is seldom used', { acquired: 100 }, 1],
    ['one more than there are', { sizes: { ...SIZES, minIdle: 5 } }, 6],
    ['as many as were ever needed at once', { acquired: 3_600_000 }, 15],
    ['as many as may rest', { sizes: { ...SIZES, maxIdle: 2 } }, 2],
  ])('are at most, or at least, %s', (_what, facts, minIdle) => {
    expect(advise({ ...COLD, ...facts })[0]?.suggest).toEqual({ minIdle });
  });

  it.each<[string, Partial<AdviceFacts>]>([
    ['fewer than 10 waits', { waited: 9 }],
    ['waits much shorter than a dial', { wait: all(14, 40) }],
    ['waits much longer than dials', { wait: all(121, 40) }],
    ['no dial lately', { dial: all(0, 20) }],
    ['dials that take no time', { dial: all(0.9, 20), wait: all(1, 40) }],
    ['no more that may rest', { sizes: { ...SIZES, maxIdle: 4, minIdle: 4 } }],
    ['all leased at once', { demand: { ...COLD.demand, peakLeased: 20 } }],
    ['a caller who found all leased', { demand: { ...COLD.demand, shortCount: 1 } }],
  ])('are not advised by %s', (_what, facts) => {
    expect(kinds({ ...COLD, ...facts })).not.toContain('raise-min-idle');
  });

  it.each([15, 120])('are advised by a wait of %i ms for dials of 30 ms', (waitMs) => {
    expect(kinds({ ...COLD, wait: all(waitMs, 40) })).toEqual(['raise-min-idle']);
  });
});

describe('a smaller max', () => {
  it('is advised when sockets were never needed, with room for a quarter more', () => {
    expect(advise(ROOMY)).toEqual([
      {
        kind: 'lower-max',
        message: '7 of 20 sockets were never needed in the last hour.',
        suggest: { max: 17 },
      },
    ]);
  });

  it('says for how long it has been watching', () => {
    const [advice] = advise({ ...ROOMY, demand: { ...ROOMY.demand, coveredMs: 600_000 } });
    expect(advice?.message).toBe('7 of 20 sockets were never needed in the last 10 minutes.');
  });

  it.each<[string, Partial<AdviceFacts>]>([
    ['less than 10 minutes of watching', { demand: { ...ROOMY.demand, coveredMs: 599_999 } }],
    ['fewer than 100 leases', { acquired: 99 }],
    ['a single caller who found all leased', { demand: { ...ROOMY.demand, shortCount: 1 } }],
    ['what is spare but may be needed tomorrow', { demand: { ...ROOMY.demand, peakLeased: 16 } }],
    ['what min keeps open', { sizes: { ...SIZES, min: 20 } }],
    ['what minIdle keeps open', { sizes: { ...SIZES, minIdle: 20 } }],
  ])('is not advised by %s', (_what, facts) => {
    expect(advise({ ...ROOMY, ...facts })).toEqual([]);
  });

  it('takes maxIdle along when that would be too large', () => {
    const [advice] = advise({ ...ROOMY, sizes: { ...SIZES, maxIdle: 19 } });
    expect(advice?.suggest).toEqual({ max: 17, maxIdle: 17 });
  });

  it('leaves a maxIdle alone that is small enough', () => {
    const [advice] = advise({ ...ROOMY, sizes: { ...SIZES, maxIdle: 17 } });
    expect(advice?.suggest).toEqual({ max: 17 });
  });

  it('is never less than one', () => {
    const [advice] = advise({ ...ROOMY, demand: { ...ROOMY.demand, peakLeased: 0 } });
    expect(advice?.suggest).toEqual({ max: 1 });
  });
});

describe('an idle timeout', () => {
  it('is advised below that of the server', () => {
    expect(advise({ ...CALM, serverIdleMs: 60_012, idleTimeoutMs: 120_000 })).toEqual([
      {
        kind: 'set-idle-timeout',
        message: 'The server closes sockets that rest for about 60 s: set idleTimeoutMs to 54000.',
        suggest: { idleTimeoutMs: 54_000 },
      },
    ]);
  });

  it.each([
    [59_980, 54_000],
    [350_000, 315_000],
    [900, 810],
    [1, 1],
  ])('is, for a server that closes at %i ms, %i ms', (serverIdleMs, idleTimeoutMs) => {
    const facts = { ...CALM, serverIdleMs, idleTimeoutMs: Number.POSITIVE_INFINITY };
    expect(advise(facts)[0]?.suggest).toEqual({ idleTimeoutMs });
  });

  it.each([
    ['one that is short enough', 60_000, 54_000],
    ['any, when the server has no limit', Number.POSITIVE_INFINITY, 55_000],
  ])('is not advised instead of %s', (_what, serverIdleMs, idleTimeoutMs) => {
    expect(advise({ ...CALM, serverIdleMs, idleTimeoutMs })).toEqual([]);
  });

  it('is advised beside a size', () => {
    expect(kinds({ ...SHORT, serverIdleMs: 10_000 })).toEqual(['raise-max', 'set-idle-timeout']);
  });
});

describe('whatever the facts', () => {
  const many = [0, 1, 7, 13, 20].flatMap((peakLeased) =>
    [0, 1, 50].flatMap((shortCount) =>
      [0, 5, 20].flatMap((minIdle) =>
        [COLD, SHORT, FULL, ROOMY].map((facts) => {
          const sizes = { ...SIZES, minIdle, maxIdle: Math.max(minIdle, 15) };
          return { ...facts, sizes, demand: { ...facts.demand, peakLeased, shortCount } };
        }),
      ),
    ),
  );

  it('there is at most one advice about sizes', () => {
    const counts = many.map((facts) => advise(facts).length);
    expect(Math.max(...counts)).toBe(1);
  });

  it('sizes that are advised can be set', () => {
    for (const facts of many) {
      for (const advice of advise(facts)) {
        if (advice.kind === 'set-idle-timeout') continue;
        expect(resolveSizes(advice.suggest, facts.sizes)).toMatchObject(advice.suggest);
      }
    }
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PulsepoolError } from '../../../src/errors.ts';
import {
  BREAKER_DEFAULTS,
  BREAKER_TRANSITIONS,
  Breaker,
  type BreakerOptions,
  type BreakerState,
  type BreakerStateName,
  follow,
  type Pass,
} from '../../../src/retry/breaker.ts';

const START = 1_000_000;
const lost = new PulsepoolError('ERR_CONNECTION_LOST', 'lost', { retryable: true, hint: 'none' });
const silent = new PulsepoolError('ERR_READ_TIMEOUT', 'silent', { retryable: true, hint: 'none' });

/** Chance in the middle: no jitter. */
const MIDDLE = () => 0.5;

interface Setup {
  readonly breaker: Breaker;
  /** The names of the states it went through, in order. */
  readonly told: BreakerStateName[];
}

function setUp(options: Partial<BreakerOptions> = {}, random = MIDDLE): Setup {
  const told: BreakerStateName[] = [];
  const breaker = new Breaker({ ...BREAKER_DEFAULTS, ...options }, random, (state) => told.push(state.name));
  return { breaker, told };
}

/** A pass, which must be had. */
function admitted(breaker: Breaker, now: number): Pass {
  const pass = breaker.admit(now);
  if (pass === undefined) throw new Error('refused');
  return pass;
}

/** So many requests, one after the other, that fail or succeed as the letters say. */
function run(breaker: Breaker, outcomes: string, now: number): void {
  for (const outcome of outcomes) {
    const pass = admitted(breaker, now);
    if (outcome === 'f') breaker.failed(now, pass, lost);
    else breaker.succeeded(now, pass);
  }
}

/** A probe that fails, as soon as one may. Returns when that was, and for how long it is open then. */
function failedProbe(breaker: Breaker, from: number): { now: number; openMs: number } {
  const now = from + breaker.openForMs(from);
  run(breaker, 'f', now);
  return { now, openMs: breaker.openForMs(now) };
}

describe('a closed breaker', () => {
  it('lets everybody through', () => {
    const { breaker, told } = setUp();
    const passes = [1, 2, 3].map(() => admitted(breaker, START));
    expect(passes.map((pass) => pass.isProbe)).toEqual([false, false, false]);
    expect(breaker.openForMs(START)).toBe(0);
    expect(breaker.cause).toBeUndefined();
    expect(breaker.state.name).toBe('closed');
    expect(told).toEqual([]);
  });

  it('makes nothing for each request: all who go through it share one pass', () => {
    const { breaker } = setUp();
    const first = admitted(breaker, START);
    run(breaker, 'sssf', START);
    expect(admitted(breaker, START)).toBe(first);
  });

  it('opens at 5 failures in a row, and not at 4', () => {
    const { breaker, told } = setUp();
    run(breaker, 'ffff', START);
    expect(breaker.state.name).toBe('closed');
    run(breaker, 'f', START);
    expect(breaker.state.name).toBe('open');
    expect(told).toEqual(['open']);
  });

  it('begins to count anew at each success', () => {
    const { breaker } = setUp();
    run(breaker, 'ffffsffffs', START);
    expect(breaker.state.name).toBe('closed');
    run(breaker, 'fffff', START);
    expect(breaker.state.name).toBe('open');
  });

  it('counts failures in a row however far apart they are', () => {
    const { breaker } = setUp();
    for (let hour = 0; hour < 5; hour += 1) run(breaker, 'f', START + hour * 3_600_000);
    expect(breaker.state.name).toBe('open');
  });

  it('opens when half of at least 20 requests failed, and not at 19', () => {
    const { breaker } = setUp();
    run(breaker, `${'fs'.repeat(9)}f`, START);
    expect(breaker.state.name).toBe('closed');
    run(breaker, 'sf', START);
    expect(breaker.state.name).toBe('open');
  });

  it('stays closed when less than half fail, however many', () => {
    const { breaker } = setUp();
    run(breaker, `ss${'fs'.repeat(500)}`, START);
    expect(breaker.state.name).toBe('closed');
    run(breaker, 'ff', START);
    expect(breaker.state.name).toBe('open');
  });

  it('counts the rate over 30 s, in steps of 3 s', () => {
    const { breaker } = setUp();
    run(breaker, 'fs'.repeat(9), 300_000);
    run(breaker, 'sf', 329_999);
    expect(breaker.state.name).toBe('open');
    const later = setUp().breaker;
    run(later, 'fs'.repeat(9), 302_999);
    run(later, 'sf', 330_000);
    expect(later.state.name).toBe('closed');
  });

  it('learns nothing from a request that was given up', () => {
    const { breaker } = setUp({ failureRate: 0.5, minRequests: 4 });
    run(breaker, 'fs', START);
    breaker.release(admitted(breaker, START));
    run(breaker, 'f', START);
    expect(breaker.state.name).toBe('closed');
    breaker.release(admitted(breaker, START));
    run(breaker, 'f', START);
    expect(breaker.state.name).toBe('open');
  });
});

describe('an open breaker', () => {
  function open(options: Partial<BreakerOptions> = {}, random = MIDDLE): Setup {
    const setup = setUp(options, random);
    run(setup.breaker, 'f'.repeat(options.failures ?? 5), START);
    return setup;
  }

  it('lets nobody through for 5 s, and says how much of that is left', () => {
    const { breaker } = open();
    expect([0, 1, 4_999, 4_999.5].map((ms) => breaker.openForMs(START + ms))).toEqual([5_000, 4_999, 1, 0.5]);
    expect(breaker.admit(START)).toBeUndefined();
    expect(breaker.admit(START + 4_999.5)).toBeUndefined();
    expect(breaker.openForMs(START + 5_000)).toBe(0);
    expect(breaker.openForMs(START + 99_000)).toBe(0);
  });

  it('keeps the last failure for those who are refused, until it closes', () => {
    const { breaker } = open();
    expect(breaker.cause).toBe(lost);
    const probe = admitted(breaker, START + 5_000);
    expect(breaker.cause).toBe(lost);
    breaker.release(probe);
    expect(breaker.cause).toBe(lost);
    breaker.failed(START + 5_001, admitted(breaker, START + 5_000), silent);
    expect(breaker.cause).toBe(silent);
    run(breaker, 's', START + 60_000);
    expect(breaker.cause).toBeUndefined();
  });

  it('lets exactly one probe through when its time is over', () => {
    const { breaker, told } = open();
    expect(admitted(breaker, START + 5_000).isProbe).toBe(true);
    expect([0, 1, 5_000, 3_600_000].map((ms) => breaker.admit(START + 5_000 + ms))).toEqual(
      Array.from({ length: 4 }),
    );
    expect(told).toEqual(['open', 'probing']);
  });

  it('says to look again in 100 ms while the probe is out, later when it has been out for longer', () => {
    const { breaker } = open();
    admitted(breaker, START + 7_000);
    const waits = [0, 50, 100, 101, 400, 9_000].map((ms) => breaker.openForMs(START + 7_000 + ms));
    expect(waits).toEqual([100, 100, 100, 101, 400, 9_000]);
  });

  it('closes when the probe succeeds', () => {
    const { breaker, told } = open();
    run(breaker, 's', START + 5_000);
    expect(told).toEqual(['open', 'probing', 'closed']);
    expect([1, 2, 3].map(() => admitted(breaker, START + 5_001).isProbe)).toEqual([false, false, false]);
    expect(breaker.openForMs(START + 5_001)).toBe(0);
  });

  it('has forgotten, once it closes, what it was opened for', () => {
    const { breaker } = open({ minRequests: 10 });
    run(breaker, 's', START + 5_000);
    // With the five from before it would be ten, half of them failures.
    run(breaker, 'ssssf', START + 5_001);
    expect(breaker.state.name).toBe('closed');
    run(breaker, 'ffff', START + 5_001);
    expect(breaker.state.name).toBe('open');
  });

  it('opens again at the first failure of the probe, for twice as long each time, up to 60 s', () => {
    const { breaker } = open();
    let now = START;
    const waits = Array.from({ length: 6 }, () => {
      const probe = failedProbe(breaker, now);
      now = probe.now;
      return probe.openMs;
    });
    expect(waits).toEqual([10_000, 20_000, 40_000, 60_000, 60_000, 60_000]);
  });

  it('never doubles beyond 60 s, however long the outage', () => {
    const { breaker } = open();
    let now = START;
    for (let probes = 0; probes < 1_100; probes += 1) now = failedProbe(breaker, now).now;
    expect(breaker.openForMs(now)).toBe(60_000);
  });

  it('counts from the failure of the probe, not from its start', () => {
    const { breaker } = open();
    const probe = admitted(breaker, START + 5_000);
    breaker.failed(START + 35_000, probe, lost);
    expect(breaker.openForMs(START + 35_000)).toBe(10_000);
  });

  it.each([
    ['less', 0, 0.8],
    ['more', 1, 1.2],
    ['as long', 0.5, 1],
    ['a little less', 0.25, 0.9],
  ])('stays open %s, up to 20 %, as chance has it, at the cap too', (_how, drawn, factor) => {
    const { breaker } = open({}, () => drawn);
    expect(breaker.openForMs(START)).toBeCloseTo(5_000 * factor, 6);
    let now = START;
    for (let probes = 0; probes < 6; probes += 1) now = failedProbe(breaker, now).now;
    expect(breaker.openForMs(now)).toBeCloseTo(60_000 * factor, 6);
  });

  it('draws anew each time it opens', () => {
    const draws = [0, 1];
    const { breaker } = open({}, () => draws.shift() ?? 0.5);
    expect(breaker.openForMs(START)).toBeCloseTo(4_000, 6);
    expect(failedProbe(breaker, START).openMs).toBeCloseTo(12_000, 6);
  });

  it('gives the place of a probe that was given up to the next one at once', () => {
    const { breaker, told } = open();
    const givenUp = admitted(breaker, START + 5_000);
    breaker.release(givenUp);
    expect(breaker.openForMs(START + 5_000)).toBe(0);
    const next = admitted(breaker, START + 5_000);
    expect(next.isProbe).toBe(true);
    expect(breaker.admit(START + 5_000)).toBeUndefined();
    // The one that was given up has lost its say.
    breaker.release(givenUp);
    breaker.succeeded(START + 5_001, givenUp);
    breaker.failed(START + 5_001, givenUp, lost);
    expect(breaker.state.name).toBe('probing');
    breaker.succeeded(START + 5_002, next);
    expect(told).toEqual(['open', 'probing', 'open', 'probing', 'closed']);
  });

  it('does not grow by probes that were given up', () => {
    const { breaker } = open();
    for (let probes = 0; probes < 5; probes += 1) breaker.release(admitted(breaker, START + 5_000));
    expect(failedProbe(breaker, START + 5_000).openMs).toBe(10_000);
  });
});

describe('requests from before the breaker opened', () => {
  /** Open, with a request that went through while it was closed. */
  function straggling(): Setup & { straggler: Pass } {
    const setup = setUp();
    const straggler = admitted(setup.breaker, START);
    run(setup.breaker, 'fffff', START);
    return { ...setup, straggler };
  }

  /** All that may be said about one. */
  function tell(breaker: Breaker, now: number, straggler: Pass): void {
    breaker.succeeded(now, straggler);
    for (let failure = 0; failure < 5; failure += 1) breaker.failed(now, straggler, silent);
    breaker.release(straggler);
  }

  it('neither close it nor extend it, and leave its cause as it is', () => {
    const { breaker, straggler, told } = straggling();
    tell(breaker, START + 2_000, straggler);
    expect(breaker.openForMs(START + 2_000)).toBe(3_000);
    expect(breaker.cause).toBe(lost);
    expect(told).toEqual(['open']);
  });

  it('do not decide for the probe', () => {
    const { breaker, straggler } = straggling();
    admitted(breaker, START + 5_000);
    tell(breaker, START + 5_001, straggler);
    expect(breaker.state.name).toBe('probing');
  });

  it('count for nothing once it has closed again', () => {
    const { breaker, straggler } = straggling();
    run(breaker, 's', START + 5_000);
    tell(breaker, START + 5_001, straggler);
    expect(breaker.state.name).toBe('closed');
    run(breaker, 'ffff', START + 5_002);
    breaker.succeeded(START + 5_002, straggler);
    run(breaker, 'f', START + 5_002);
    expect(breaker.state.name).toBe('open');
  });
});

describe('a flapping server, which answers a probe and falls over under the load that follows', () => {
  /** Opened, closed by a probe, and failing so long after that. Returns for how long it is open then. */
  function openAgainAfter(ms: number): number {
    const { breaker } = setUp();
    run(breaker, 'fffff', START);
    run(breaker, 's', START + 5_000);
    run(breaker, 'fffff', START + 5_000 + ms);
    return breaker.openForMs(START + 5_000 + ms);
  }

  it('is left alone for longer each time', () => {
    const { breaker } = setUp();
    let now = START;
    const waits = Array.from({ length: 5 }, () => {
      run(breaker, 'fffff', now);
      const waitMs = breaker.openForMs(now);
      now += waitMs;
      run(breaker, 's', now);
      now += 1_000;
      return waitMs;
    });
    expect(waits).toEqual([5_000, 10_000, 20_000, 40_000, 60_000]);
  });

  it('is a healthy one after 30 s without opening again', () => {
    expect(openAgainAfter(29_999)).toBe(10_000);
    expect(openAgainAfter(30_000)).toBe(5_000);
  });

  it('is not forgiven for the time it was open', () => {
    const { breaker } = setUp();
    run(breaker, 'fffff', START);
    run(breaker, 's', START + 5_000);
    run(breaker, 'fffff', START + 6_000);
    run(breaker, 's', START + 60_000);
    run(breaker, 'fffff', START + 61_000);
    expect(breaker.openForMs(START + 61_000)).toBe(20_000);
  });
});

describe('the steps of a breaker', () => {
  const pass: Pass = { isProbe: true };
  const states: Readonly<Record<BreakerStateName, BreakerState>> = {
    closed: { name: 'closed', pass },
    open: { name: 'open', until: 0, cause: lost },
    probing: { name: 'probing', pass, since: 0, cause: lost },
  };
  const steps = Object.values(states).flatMap((from) => Object.values(states).map((to) => ({ from, to })));

  it('are these four and no other', () => {
    const legal = steps.filter(({ from, to }) => BREAKER_TRANSITIONS[from.name].includes(to.name));
    expect(legal.map(({ from, to }) => `${from.name} > ${to.name}`).sort()).toEqual([
      'closed > open',
      'open > probing',
      'probing > closed',
      'probing > open',
    ]);
  });

  it('are guarded: any other is a bug of ours', () => {
    for (const { from, to } of steps) {
      if (BREAKER_TRANSITIONS[from.name].includes(to.name)) expect(follow(from, to)).toBe(to);
      else expect(() => follow(from, to)).toThrow(`bug: a breaker cannot go from ${from.name} to ${to.name}`);
    }
  });

  it('are told when they are done: a listener may call in again', () => {
    const seen: unknown[] = [];
    const breaker: Breaker = new Breaker(BREAKER_DEFAULTS, MIDDLE, (state) => {
      seen.push(state.name, state === breaker.state);
      if (state.name === 'open') seen.push(breaker.admit(START + 5_000)?.isProbe);
    });
    run(breaker, 'fffff', START);
    expect(seen).toEqual(['open', true, 'probing', true, true]);
    expect(breaker.state.name).toBe('probing');
  });

  it('have these numbers by default', () => {
    expect(BREAKER_DEFAULTS).toEqual({
      failures: 5,
      failureRate: 0.5,
      minRequests: 20,
      windowMs: 30_000,
      openMs: 5_000,
      maxOpenMs: 60_000,
    });
  });
});

/**
 * The same by hand: the outcomes since it closed, each with its time, and all that is known read from the list anew
 * each time. A pass is the number of the closed time or of the probe that it was given in.
 */
class Model {
  readonly #options: BreakerOptions;
  #outcomes: { readonly at: number; readonly isFailure: boolean }[] = [];
  /** Each time it opened, and whether it was closed before, with the time it closed at. */
  #openings: { readonly at: number; readonly closedAt: number | undefined }[] = [];
  #closedAt = Number.NEGATIVE_INFINITY;
  #probedAt = 0;
  #passes = 0;
  name: BreakerStateName = 'closed';

  constructor(options: BreakerOptions) {
    this.#options = options;
  }

  openForMs(now: number): number {
    const { maxOpenMs, openMs } = this.#options;
    const opening = this.#openings.at(-1);
    if (this.name === 'closed' || opening === undefined) return 0;
    if (this.name === 'probing') return Math.max(100, now - this.#probedAt);
    return Math.max(0, opening.at + Math.min(maxOpenMs, openMs * 2 ** (this.#row() - 1)) - now);
  }

  /** How many openings belong together, the last one included. */
  #row(): number {
    const { windowMs } = this.#options;
    const healthyAt = this.#openings.findLastIndex(
      ({ at, closedAt }) => closedAt !== undefined && at - closedAt >= windowMs,
    );
    return this.#openings.length - healthyAt;
  }

  admit(now: number): number | undefined {
    if (this.name === 'closed') return this.#passes;
    if (this.name === 'probing' || this.openForMs(now) > 0) return undefined;
    this.name = 'probing';
    this.#probedAt = now;
    this.#passes += 1;
    return this.#passes;
  }

  end(now: number, pass: number, how: 'succeeded' | 'failed' | 'release'): void {
    if (pass !== this.#passes || this.name === 'open') return;
    const wasProbing = this.name === 'probing';
    if (how === 'release') {
      if (wasProbing) this.name = 'open';
    } else if (wasProbing) {
      if (how === 'succeeded') this.#close(now);
      else this.#open(now);
    } else {
      this.#outcomes.push({ at: now, isFailure: how === 'failed' });
      if (how === 'failed' && this.#isTooMuch(now)) this.#open(now);
    }
  }

  #isTooMuch(now: number): boolean {
    const { failureRate, failures, minRequests, windowMs } = this.#options;
    const last = this.#outcomes.slice(-failures);
    if (last.length === failures && last.every(({ isFailure }) => isFailure)) return true;
    const bucket = (at: number) => Math.floor(at / (windowMs / 10));
    const recent = this.#outcomes.filter(({ at }) => bucket(at) > bucket(now) - 10);
    const failed = recent.filter(({ isFailure }) => isFailure);
    return recent.length >= minRequests && failed.length / recent.length >= failureRate;
  }

  #open(now: number): void {
    this.#openings.push({ at: now, closedAt: this.name === 'closed' ? this.#closedAt : undefined });
    this.name = 'open';
  }

  #close(now: number): void {
    this.name = 'closed';
    this.#closedAt = now;
    this.#outcomes = [];
    this.#passes += 1;
  }
}

type Step =
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'admit' }
  | { readonly kind: 'request'; readonly how: 'succeeded' | 'failed' }
  /** The pass that was given so many before the last one ends, perhaps not for the first time. */
  | { readonly kind: 'end'; readonly back: number; readonly how: 'succeeded' | 'failed' | 'release' };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(300) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(2_500) }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'admit' as const }) },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('request' as const),
      how: fc.constantFrom('succeeded' as const, 'failed' as const),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('end' as const),
      back: fc.nat(6),
      how: fc.constantFrom('succeeded' as const, 'failed' as const, 'release' as const),
    }),
  },
);

const anyOptions: fc.Arbitrary<BreakerOptions> = fc.record({
  failures: fc.integer({ min: 1, max: 6 }),
  failureRate: fc.constantFrom(0.25, 0.5, 0.75, 1),
  minRequests: fc.integer({ min: 2, max: 8 }),
  windowMs: fc.constantFrom(500, 1_000, 2_000),
  openMs: fc.constantFrom(100, 300),
  maxOpenMs: fc.constantFrom(300, 1_000, 2_000),
});

type Ending = Extract<Step, { kind: 'end' }>['how'];

/** A breaker and its model, to which the same happens. */
class Pair {
  readonly #told: BreakerStateName[] = [];
  readonly #breaker: Breaker;
  readonly #model: Model;
  readonly #passes: { readonly ours: Pass | undefined; readonly models: number | undefined }[] = [];

  constructor(options: BreakerOptions) {
    this.#breaker = new Breaker(options, MIDDLE, (state) => this.#told.push(state.name));
    this.#model = new Model(options);
  }

  admit(now: number): void {
    this.#passes.push({ ours: this.#breaker.admit(now), models: this.#model.admit(now) });
  }

  /** Ends what was asked for so many times ago, if it was let through. */
  end(now: number, back: number, how: Ending): void {
    const pass = this.#passes.at(-1 - back);
    if (pass?.models !== undefined) this.#model.end(now, pass.models, how);
    if (pass?.ours === undefined) return;
    if (how === 'release') this.#breaker.release(pass.ours);
    else if (how === 'failed') this.#breaker.failed(now, pass.ours, lost);
    else this.#breaker.succeeded(now, pass.ours);
  }

  /** All that can be seen of both. One comparison, since there are many. */
  compare(now: number): void {
    const { name } = this.#model;
    const last = this.#passes.at(-1);
    expect([
      this.#breaker.state.name,
      this.#told.at(-1) ?? 'closed',
      this.#breaker.cause === lost,
      this.#breaker.openForMs(now),
      last?.ours !== undefined,
    ]).toEqual([name, name, name !== 'closed', this.#model.openForMs(now), last?.models !== undefined]);
  }
}

describe('a breaker beside a list of what has happened', () => {
  it('is in the same state after any steps, for as long, and lets the same requests through', () => {
    const anySteps = fc.array(anyStep, { maxLength: 80, size: 'max' });
    fc.assert(
      fc.property(anyOptions, fc.nat(5_000), anySteps, (options, start, steps) => {
        const pair = new Pair(options);
        let now = start;
        for (const step of steps) {
          if (step.kind === 'wait') now += step.ms;
          else if (step.kind === 'end') pair.end(now, step.back, step.how);
          else pair.admit(now);
          if (step.kind === 'request') pair.end(now, 0, step.how);
          pair.compare(now);
        }
      }),
      { numRuns: 300 },
    );
  });
});

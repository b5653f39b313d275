/**
 * Random lives of a balancer: endpoints come, go and come back, change their place, fail, answer fast, slowly or
 * never; picks are made with all kinds of wishes, and time passes. After each step the rules must hold.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Balancer } from '../../src/balance/balancer.ts';
import { Member } from '../../src/balance/member.ts';
import { OUTLIER_DEFAULTS } from '../../src/balance/outliers.ts';
import { BALANCE_POLICIES, type BalancePolicy } from '../../src/balance/policies.ts';
import { seeded } from '../unit/balance/simulation.ts';

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f'];

type Step =
  | {
      readonly do: 'add';
      readonly at: number;
      readonly weight: number;
      readonly tier: number;
      readonly zone: string;
    }
  | { readonly do: 'remove' | 'forgo' | 'return'; readonly at: number }
  | { readonly do: 'change'; readonly at: number; readonly weight: number; readonly tier: number }
  | {
      readonly do: 'fail';
      readonly at: number;
      readonly times: number;
      readonly kind: 'dial' | 'heartbeat' | 'request';
    }
  | {
      readonly do: 'serve';
      readonly at: number;
      readonly times: number;
      readonly latencyMs: number | undefined;
    }
  | {
      readonly do: 'pick';
      readonly key: string | undefined;
      readonly avoid: number;
      readonly accepts: number;
    }
  | { readonly do: 'pass'; readonly ms: number };

const at = fc.nat(NAMES.length - 1);
const weight = fc.constantFrom(0.01, 0.5, 1, 1, 1, 7);

function steps(tiers: number): fc.Arbitrary<Step[]> {
  const tier = fc.nat(tiers - 1);
  const step: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant('add' as const),
        at,
        weight,
        tier,
        zone: fc.constantFrom('y', 'z'),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constantFrom('remove', 'forgo', 'return'), at }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('change' as const), at, weight, tier }) },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('fail' as const),
        at,
        times: fc.integer({ min: 1, max: 10 }),
        kind: fc.constantFrom('dial', 'heartbeat', 'request'),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant('serve' as const),
        at,
        times: fc.integer({ min: 1, max: 6 }),
        latencyMs: fc.constantFrom(undefined, 0, 2, 20, 500),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('pick' as const),
        key: fc.constantFrom(undefined, 'k1', 'k2', 'k3'),
        avoid: fc.integer({ min: -1, max: NAMES.length - 1 }),
        // Bits: who is accepted. All, mostly.
        accepts: fc.oneof(fc.constant(63), fc.nat(63)),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.constantFrom(1, 900, 6_000, 40_000) }),
    },
  );
  return fc.array(step, { minLength: 20, maxLength: 150, size: 'max' });
}

class World {
  now = 1_000;
  readonly balancer: Balancer<Member>;
  readonly members: (Member | undefined)[] = NAMES.map(() => undefined);
  readonly seen: Set<string>;
  readonly tiers: number;
  #out = 0;
  #back = 0;

  constructor(policy: BalancePolicy, tiers: number, seed: number, seen: Set<string>) {
    this.seen = seen;
    this.tiers = tiers;
    this.balancer = new Balancer<Member>({
      policy,
      zone: 'z',
      random: seeded(seed),
      slowStartMs: 30_000,
      outliers: OUTLIER_DEFAULTS,
      onEjected: (member, why, forMs) => {
        this.#out += 1;
        this.seen.add(`out: ${why.reason}`);
        expect(member.record.state.name).toBe('ejected');
        expect(forMs).toBeGreaterThanOrEqual(4_000);
        expect(forMs).toBeLessThanOrEqual(360_000);
      },
      onRestored: (member) => {
        this.#back += 1;
        this.seen.add('back');
        expect(member.record.state.name).toBe('warming');
      },
    });
  }

  get present(): Member[] {
    return [...this.balancer.members];
  }

  take(step: Step): void {
    const { balancer, now } = this;
    this.seen.add(step.do);
    if (step.do === 'pass') {
      this.now += step.ms;
      return;
    }
    if (step.do === 'pick') {
      this.#pick(step);
      return;
    }
    const member = this.members[step.at];
    if (step.do === 'add') {
      if (member !== undefined) return;
      const made = new Member(NAMES[step.at] ?? '', step, now);
      this.members[step.at] = made;
      balancer.add(made, now);
      return;
    }
    if (member === undefined) return;
    switch (step.do) {
      case 'remove':
        balancer.remove(member, now);
        this.members[step.at] = undefined;
        break;
      case 'forgo':
        balancer.forgo(member, now);
        break;
      case 'return':
        if (member.inFlight > 0) member.returned();
        break;
      case 'change':
        balancer.change(member, { weight: step.weight, tier: step.tier }, now);
        break;
      case 'fail':
        for (let times = 0; times < step.times; times += 1) balancer.failed(member, step.kind, now);
        break;
      case 'serve':
        for (let times = 0; times < step.times; times += 1) balancer.succeeded(member, step.latencyMs, now);
        break;
    }
  }

  #pick(step: Step & { do: 'pick' }): void {
    const { balancer, now } = this;
    const accept = (member: Member) => (step.accepts & (1 << NAMES.indexOf(member.name))) !== 0;
    const avoid = this.members[step.avoid];
    const present = this.present;
    const wasProbing = present.filter(({ record }) => record.state.name === 'probing');
    const before = new Map(present.map(({ name, record }) => [name, record.state]));
    const usable = present.filter((member) => balancer.isUsable(member, now));
    const inUse = usable.filter((member) => balancer.share(member, now) > 0);
    const picked = balancer.pick(now, {
      key: step.key,
      avoid,
      accept: step.accepts === 63 ? undefined : accept,
    });
    if (picked === undefined) {
      this.seen.add('nobody');
      expect(inUse.filter((member) => step.accepts === 63 || accept(member))).toEqual([]);
      return;
    }
    expect(present).toContain(picked);
    if (step.accepts !== 63) expect(accept(picked)).toBe(true);
    if (picked === avoid && present.length > 1) {
      expect(inUse.filter((member) => member !== avoid && (step.accepts === 63 || accept(member)))).toEqual(
        [],
      );
    }
    const state = before.get(picked.name);
    if (!usable.includes(picked)) {
      // A probe: its time was over, and no other one of it is out.
      this.seen.add('probe');
      expect(wasProbing).not.toContain(picked);
      expect(picked.record.state.name).toBe('probing');
      expect(state?.name === 'ejected' && state.until <= now).toBe(true);
    }
    picked.lent();
  }

  /** What must hold after each step. */
  check(): void {
    const { balancer, now, present } = this;
    const out = (members: readonly Member[]) => members.filter(({ record }) => !record.isIn).length;
    if (this.tiers === 1) expect(out(present)).toBeLessThanOrEqual(present.length / 2);
    if (present.length > 0) {
      // In one tier at least, no more than half are out.
      const tiers = [0, 1, 2].map((tier) => present.filter((member) => member.tier === tier));
      expect(tiers.some((tier) => tier.length > 0 && out(tier) <= tier.length / 2)).toBe(true);
      expect(present.some((member) => balancer.isUsable(member, now))).toBe(true);
    }
    if (balancer.isPanicking(now)) this.seen.add('panic');
    const shares = present.map((member) => balancer.share(member, now));
    const sum = shares.reduce((all, share) => all + share, 0);
    if (present.length > 0) expect(sum).toBeCloseTo(1, 9);
    for (const share of shares) expect(share).toBeGreaterThanOrEqual(0);
    const inUse = shares.filter((share) => share > 0).length;
    for (const total of [1, inUse, 17]) {
      const counts = [...balancer.sharesOf(total, now).values()];
      expect(counts.reduce((all, count) => all + count, 0)).toBe(present.length === 0 ? 0 : total);
      if (total >= inUse) expect(counts.every((count) => count >= 1)).toBe(true);
    }
    for (const member of present) expect(balancer.row(member, now).share).toBe(balancer.share(member, now));
    // Ejected again by a probe that failed, or gone: there are never more ways back than out.
    expect(this.#back).toBeLessThanOrEqual(this.#out);
  }
}

describe.each(BALANCE_POLICIES.flatMap((policy) => [1, 3].map((tiers) => ({ policy, tiers }))))(
  'a balancer with $policy and $tiers tiers',
  ({ policy, tiers }) => {
    it('keeps its rules under any order of events', () => {
      const seen = new Set<string>();
      fc.assert(
        fc.property(steps(tiers), fc.nat(), (life, seed) => {
          const world = new World(policy, tiers, seed, seen);
          for (const index of [0, 1, 2, 3]) {
            world.take({ do: 'add', at: index, weight: 1, tier: index % tiers, zone: index < 2 ? 'z' : 'y' });
          }
          for (const step of life) {
            world.take(step);
            world.check();
          }
        }),
        { numRuns: 50 },
      );
      for (const wanted of ['out: failures', 'back', 'probe', 'panic', 'nobody', 'remove']) {
        expect(seen).toContain(wanted);
      }
    });
  },
);

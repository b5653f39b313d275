/** A balancer with its members at hand, for tests that say what happens to them. */
import { Balancer, type BalancerOptions } from '../../../src/balance/balancer.ts';
import type { EjectionReason } from '../../../src/balance/health.ts';
import { Member, type MemberPlace } from '../../../src/balance/member.ts';
import { OUTLIER_DEFAULTS, type OutlierOptions } from '../../../src/balance/outliers.ts';
import type { Wish } from '../../../src/balance/policies.ts';
import { seeded } from './simulation.ts';

const START = 1_000_000;

export interface CrewOptions extends Partial<Omit<BalancerOptions<Member>, 'outliers'>> {
  readonly outliers?: Partial<OutlierOptions>;
}

export class Crew {
  now = START;
  readonly balancer: Balancer<Member>;
  /** What the owner was told: `a out`, `a back`. */
  readonly told: string[] = [];
  readonly ejections: { name: string; reason: EjectionReason; forMs: number }[] = [];
  readonly #members: Map<string, Member> = new Map();

  constructor(options: CrewOptions = {}) {
    this.balancer = new Balancer<Member>({
      policy: 'p2c',
      random: seeded(7),
      slowStartMs: 30_000,
      onEjected: ({ name }, { reason }, forMs) => {
        this.told.push(`${name} out`);
        this.ejections.push({ name, reason, forMs });
      },
      onRestored: ({ name }) => this.told.push(`${name} back`),
      ...options,
      outliers: { ...OUTLIER_DEFAULTS, ...options.outliers },
    });
  }

  /** Members of these names come. */
  join(names: string, place: MemberPlace = {}): this {
    for (const name of names.split(' ')) {
      const member = new Member(name, place, this.now);
      this.#members.set(name, member);
      this.balancer.add(member, this.now);
    }
    return this;
  }

  get(name: string): Member {
    const member = this.#members.get(name);
    if (member === undefined) throw new Error(`there is no ${name}`);
    return member;
  }

  /** How it is. */
  state(name: string): string {
    const member = this.get(name);
    return [...this.balancer.members].includes(member) ? this.balancer.row(member, this.now).state : 'gone';
  }

  pass(ms: number): this {
    this.now += ms;
    return this;
  }

  /** So many requests fail there. */
  fail(name: string, times = 5): this {
    for (let done = 0; done < times; done += 1) this.balancer.failed(this.get(name), 'request', this.now);
    return this;
  }

  /** So many requests are answered there. */
  serve(name: string, times = 1, latencyMs?: number): this {
    for (let done = 0; done < times; done += 1) this.balancer.succeeded(this.get(name), latencyMs, this.now);
    return this;
  }

  pick(wish?: Wish<Member>): string | undefined {
    return this.balancer.pick(this.now, wish)?.name;
  }

  /** Of so many picks at this moment, how many went to each; probes are answered at once. */
  tally(picks: number, wish?: Wish<Member>): Record<string, number> {
    const tally: Record<string, number> = {};
    for (let done = 0; done < picks; done += 1) {
      const name = this.pick(wish) ?? 'nobody';
      tally[name] = (tally[name] ?? 0) + 1;
    }
    return tally;
  }

  /** The names that are picked at all, in order. */
  picked(picks = 200): string {
    return Object.keys(this.tally(picks)).sort().join(' ');
  }

  /** A chance to come back: its time is over, it is picked, and it answers. */
  revive(name: string): this {
    const { state } = this.get(name).record;
    if (state.name === 'ejected') this.now = Math.max(this.now, state.until);
    for (let tries = 0; tries < 1_000 && this.state(name) === 'ejected'; tries += 1) this.pick();
    return this.serve(name);
  }
}

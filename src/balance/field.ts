/**
 * Who there is, and who may be picked at a moment: worked out after a change, or when a moment has come that was known
 * before (somebody may come back, is a little warmer, was given up as a probe). In between nothing is looked at.
 *
 * The rules are those of lanes.ts and outliers.ts; who of them is picked is decided in balancer.ts.
 */
import type { RandomSource } from '../clock.ts';
import type { Ejection } from './health.ts';
import { isWellEnough, type Layout, layOut, tiersOf } from './lanes.ts';
import type { Member } from './member.ts';
import { type OutlierOptions, Outliers } from './outliers.ts';

/** What a field goes by. */
export interface FieldOptions<M extends Member> {
  /** Endpoints of this zone are preferred while at least half of them are well. Default: no preference. */
  readonly zone?: string | undefined;
  readonly random: RandomSource;
  /** How long a new or revived endpoint takes to its full weight, in ms; 0: none. */
  readonly slowStartMs: number;
  readonly outliers: OutlierOptions;
  /** It is out from now on. Must not throw. */
  readonly onEjected?: ((member: M, why: Ejection, forMs: number, now: number) => void) | undefined;
  /** It is picked again, seldom at first. Must not throw. */
  readonly onRestored?: ((member: M, now: number) => void) | undefined;
}

// Envoy's `min_weight_percent` of slow start.
const COLDEST = 0.1;
// How often the weights of those that warm up are worked out anew.
const WARMING_STEPS = 30;

/** See the file's comment. All times are in ms of one clock. */
export class Field<M extends Member> {
  readonly outliers: Outliers<M>;
  /** All of them. */
  readonly members: Set<M> = new Set();
  readonly #options: FieldOptions<M>;
  #present: M[] = [];
  #only: M | undefined;
  #layout: Layout<M> = { lanes: [], isPanic: false, lastTier: 0 };
  #due: M[] = [];
  // When the layout no longer holds.
  #staleAt: number = Number.NEGATIVE_INFINITY;
  #shares: Map<M, number> | undefined;

  constructor(options: FieldOptions<M>) {
    this.#options = options;
    this.outliers = new Outliers(options.outliers, options.random, {
      canSpare: (member) => this.#canSpare(member),
      latencies: () => this.#latencies(),
      onOut: (member, why, forMs, now) => {
        this.changed();
        options.onEjected?.(member, why, forMs, now);
      },
      onBack: (member, now) => {
        this.changed();
        options.onRestored?.(member, now);
      },
      onDoubt: () => this.changed(),
    });
  }

  /** The single one that is not leaving, if there is just one: nothing is looked at then. */
  get only(): M | undefined {
    return this.#only;
  }

  /** Those that are not leaving. */
  get present(): readonly M[] {
    return this.#present;
  }

  /** Among whom picks are made. */
  layout(now: number): Layout<M> {
    if (now >= this.#staleAt) this.#refresh(now);
    return this.#layout;
  }

  /** Those that are out and may be tried, as of the last look at {@link layout}. */
  get due(): readonly M[] {
    return this.#due;
  }

  /** Of all picks, the share of each that has one. They make 1. */
  shares(now: number): ReadonlyMap<M, number> {
    const { lanes } = this.layout(now);
    if (this.#shares !== undefined) return this.#shares;
    const shares = new Map<M, number>();
    for (const { group, share } of lanes) {
      for (const member of group.members) {
        shares.set(member, (shares.get(member) ?? 0) + (share * member.pull) / group.total);
      }
    }
    this.#shares = shares;
    return shares;
  }

  /** What was worked out holds no longer. */
  changed(): void {
    this.#staleAt = Number.NEGATIVE_INFINITY;
  }

  /** After each change of who there is: too many may be out now, since others have gone. */
  recount(now: number): void {
    this.#present = [...this.members];
    this.#only = this.#present.length === 1 ? this.#present[0] : undefined;
    this.changed();
    const tiers = tiersOf(this.#present);
    const [first] = tiers;
    if (first === undefined) return;
    while (!tiers.some((tier) => this.#isWithinBounds(tier, 0))) {
      const next = soonest(first);
      if (next === undefined) return;
      this.outliers.revive(next, now);
    }
  }

  #isWithinBounds(tier: readonly M[], more: number): boolean {
    let out = more;
    for (const { record } of tier) if (!record.isIn) out += 1;
    return out <= Math.floor(this.#options.outliers.maxEjectedShare * tier.length);
  }

  #canSpare(member: M): boolean {
    const others = this.#present.filter((other) => other !== member);
    if (!others.some(({ record }) => record.isWell)) return false;
    const tiers = tiersOf(this.#present);
    const own = tiers.find((tier) => tier[0]?.tier === member.tier) ?? [];
    if (this.#isWithinBounds(own, 1) && this.#isOutlier(member, own)) return true;
    return tiers.some(
      (tier) =>
        tier !== own &&
        isWellEnough(tier, this.#options.outliers.panicBelow) &&
        this.#isWithinBounds(tier, 0),
    );
  }

  /**
   * When most of those that are left fail too, it is no outlier: they have more load than they can bear. To put out half of
   * them gives the rest twice as much, and that would not end with the overload (docs/simulation.md).
   */
  #isOutlier(member: M, own: readonly M[]): boolean {
    let left = 0;
    let fine = 0;
    for (const { record } of own) {
      if (record === member.record || !record.isIn) continue;
      left += 1;
      if (!record.isFailing && record.failuresInRow === 0) fine += 1;
    }
    return 2 * fine >= left;
  }

  #latencies(): number[] {
    return this.#present.map(({ latency }) => latency.ms).filter((ms) => ms > 0);
  }

  #refresh(now: number): void {
    const { outliers, slowStartMs, zone } = this.#options;
    let staleAt = Number.POSITIVE_INFINITY;
    const due: M[] = [];
    for (const member of this.#present) {
      const { record } = member;
      if (record.state.name === 'probing' && now >= record.state.since + outliers.probeTimeoutMs) {
        this.outliers.forgo(member, now);
      }
      if (record.state.name === 'warming' && now >= record.state.since + slowStartMs) record.heal();
      member.pull = member.weight;
      const { state } = record;
      if (state.name === 'warming') {
        member.pull *= COLDEST + ((1 - COLDEST) * (now - state.since)) / slowStartMs;
        staleAt = Math.min(staleAt, now + slowStartMs / WARMING_STEPS, state.since + slowStartMs);
      } else if (state.name === 'probing') staleAt = Math.min(staleAt, state.since + outliers.probeTimeoutMs);
      else if (state.name === 'ejected') {
        if (now >= state.until) due.push(member);
        else staleAt = Math.min(staleAt, state.until);
      }
    }
    this.#layout = layOut(this.#present, { zone, panicBelow: outliers.panicBelow });
    const { isPanic, lastTier } = this.#layout;
    this.#due = isPanic ? [] : due.filter(({ tier }) => tier <= lastTier);
    this.#staleAt = staleAt;
    this.#shares = undefined;
  }
}

/** The one that would come back first. One whose probe is out is on its way already. */
function soonest<M extends Member>(members: readonly M[]): M | undefined {
  let best: M | undefined;
  let bestAt = Number.POSITIVE_INFINITY;
  for (const member of members) {
    const { state } = member.record;
    if (state.name !== 'ejected' && state.name !== 'probing') continue;
    const at = state.name === 'probing' ? state.since : state.until;
    if (at >= bestAt) continue;
    best = member;
    bestAt = at;
  }
  return best;
}

/**
 * Which of several endpoints the next request goes to: puts together who may be picked (field.ts) and how one is chosen
 * (policies.ts), and hears what came of it. Sockets, queues and addresses are its owner's business.
 *
 * No timers, no sockets: time and chance are passed in. A pick costs what its policy costs, and allocates nothing.
 */
import { apportion } from './apportion.ts';
import { Field, type FieldOptions } from './field.ts';
import type { HealthName, OutcomeKind } from './health.ts';
import type { Lane } from './lanes.ts';
import { finished, hashOf, type Member, type MemberPlace } from './member.ts';
import { type BalancePolicy, type Policy, policyOf, type Wish } from './policies.ts';
import { scoreOf } from './rendezvous.ts';

/** What a balancer goes by. */
export interface BalancerOptions<M extends Member> extends FieldOptions<M> {
  readonly policy: BalancePolicy;
}

/** How an endpoint fares, for those who watch. */
export interface MemberRow {
  readonly name: string;
  readonly tier: number;
  readonly zone: string | undefined;
  readonly weight: number;
  readonly state: HealthName;
  /** Of all picks, while nothing changes: 0 to 1. */
  readonly share: number;
  readonly inFlight: number;
  /** Peak EWMA, in ms; undefined before the first reply. */
  readonly latencyMs: number | undefined;
  /** How often it was put out. */
  readonly ejections: number;
  /** Failures since the last success. */
  readonly failuresInRow: number;
  /** It should be out, but too many are. */
  readonly isFailing: boolean;
}

// Any number: which lane a key takes has nothing to do with which endpoint it takes there.
const SALT = 0x5bd1e995;

/** See the file's comment. All times are in ms of one clock. */
export class Balancer<M extends Member> {
  readonly #options: BalancerOptions<M>;
  readonly #policy: Policy<M>;
  readonly #field: Field<M>;

  constructor(options: BalancerOptions<M>) {
    this.#options = options;
    this.#policy = policyOf(options.policy, options.random);
    this.#field = new Field(options);
  }

  // ---- who there is --------------------------------------------------------------------------------------

  /** All of them. */
  get members(): Iterable<M> {
    return this.#field.members;
  }

  /** Whether a caller's key says where it goes. */
  get isKeyed(): boolean {
    return this.#options.policy === 'consistent-hash';
  }

  /** How many there are. */
  get size(): number {
    return this.#field.members.size;
  }

  /**
   * One more. It starts with little, if another one has had the time to warm up: where all are new, nobody is spared.
   */
  add(member: M, now: number): void {
    const { members, present } = this.#field;
    if (members.has(member)) return;
    const { random, slowStartMs } = this.#options;
    const isLate = slowStartMs > 0 && present.some(({ joinedAt }) => now - joinedAt >= slowStartMs);
    if (isLate && member.record.state.name === 'healthy') member.record.move({ name: 'warming', since: now });
    member.lot = random();
    // Or every process would begin its rounds with the same one.
    member.credit = member.lot * member.weight;
    members.add(member);
    this.#field.recount(now);
  }

  /** It is gone. */
  remove(member: M, now: number): void {
    if (this.#field.members.delete(member)) this.#field.recount(now);
  }

  /** It has another weight, tier or zone from now on. What is left out stays. */
  change(member: M, place: MemberPlace, now: number): void {
    member.weight = place.weight ?? member.weight;
    member.tier = place.tier ?? member.tier;
    if ('zone' in place) member.zone = place.zone;
    this.#field.recount(now);
  }

  // ---- whose turn it is ----------------------------------------------------------------------------------

  /**
   * Where the next request should go. None only when no endpoint that is in use is acceptable: what is out, or stands by,
   * is no refuge from a busy one.
   *
   * A pick may be the probe of an endpoint that is out. Whoever does not use it says so by {@link forgo}.
   */
  pick(now: number, wish?: Wish<M>): M | undefined {
    const { only } = this.#field;
    if (only !== undefined) return wish?.accept === undefined || wish.accept(only) ? only : undefined;
    const picked = this.#choose(now, wish);
    return this.#field.due.length === 0 ? picked : (this.#probe(now, wish, picked) ?? picked);
  }

  /** Whether it is picked at all. */
  isUsable(member: M, now: number): boolean {
    if (!this.#field.members.has(member)) return false;
    return member === this.#field.only || member.record.isIn || this.isPanicking(now);
  }

  /** Whether so few are well that all are picked as if they were. */
  isPanicking(now: number): boolean {
    return this.#field.layout(now).isPanic && this.#field.present.length > 1;
  }

  /** Its share of the picks while nothing changes: 0 to 1, by weight, warmth, zone and tier. */
  share(member: M, now: number): number {
    return this.#field.shares(now).get(member) ?? 0;
  }

  /**
   * How many of `total` sockets each endpoint should have, by its share; at least one, if there are enough. Those with a
   * share of 0 are left out.
   */
  sharesOf(total: number, now: number): Map<M, number> {
    return apportion(total, this.#field.shares(now), ({ lot }) => lot);
  }

  // ---- what became of it ---------------------------------------------------------------------------------

  /**
   * A dial, a heartbeat or a request failed there, through no fault of the caller. `startedAt`: what began before an
   * endpoint came back tells nothing about it.
   */
  failed(member: M, kind: OutcomeKind, now: number, startedAt: number = now): void {
    const { members, outliers } = this.#field;
    if (members.has(member)) outliers.failed(member, kind, now, startedAt);
  }

  /** A dial succeeded. */
  opened(member: M, now: number): void {
    this.#succeeded(member, 'dial', undefined, now);
  }

  /** A heartbeat was answered. */
  beat(member: M, now: number): void {
    this.#succeeded(member, 'heartbeat', undefined, now);
  }

  /** A request was answered, after so long, if that says anything about the endpoint. */
  succeeded(member: M, latencyMs: number | undefined, now: number): void {
    this.#succeeded(member, 'request', latencyMs, now);
  }

  /** Nothing came of a pick. If it was a probe, the next one may be. */
  forgo(member: M, now: number): void {
    if (member.record.state.name !== 'probing') return;
    this.#field.outliers.forgo(member, now);
    this.#field.changed();
  }

  /** How one of them fares. */
  row(member: M, now: number): MemberRow {
    const { inFlight, latency, name, record, tier, weight, zone } = member;
    return {
      name,
      tier,
      zone,
      weight,
      state: record.state.name,
      share: this.share(member, now),
      inFlight,
      latencyMs: latency.ms === 0 ? undefined : latency.ms,
      ejections: record.ejections,
      failuresInRow: record.failuresInRow,
      isFailing: record.isFailing,
    };
  }

  // ---- picking -------------------------------------------------------------------------------------------

  #choose(now: number, wish: Wish<M> | undefined): M | undefined {
    const { lanes } = this.#field.layout(now);
    const lane = lanes.length === 1 ? lanes[0] : drawn(lanes, this.#chance(wish));
    if (lane === undefined) return undefined;
    const picked = this.#policy.choose(lane.group, now, wish);
    if (picked !== undefined || wish === undefined) return picked;
    const found = this.#searched(lane, now, wish);
    if (found !== undefined || wish.avoid === undefined) return found;
    return this.#searched(lane, now, { key: wish.key, accept: wish.accept });
  }

  /** A key must not go here and there: it has its own chance, always the same. */
  #chance(wish: Wish<M> | undefined): number {
    const { policy, random } = this.#options;
    if (policy !== 'consistent-hash' || wish?.key === undefined) return random();
    return finished(hashOf(wish.key) ^ SALT) / 2 ** 32;
  }

  #searched(first: Lane<M>, now: number, wish: Wish<M>): M | undefined {
    for (const lane of [first, ...this.#field.layout(now).lanes]) {
      const near = this.#policy.choose(lane.group, now, wish);
      if (near !== undefined) return near;
      const wider = lane.wider === undefined ? undefined : this.#policy.choose(lane.wider, now, wish);
      if (wider !== undefined) return wider;
    }
    return undefined;
  }

  /** One that is out and may be tried, instead of the one that was picked. */
  #probe(now: number, wish: Wish<M> | undefined, picked: M | undefined): M | undefined {
    const isKeyed = this.#options.policy === 'consistent-hash' && wish?.key !== undefined;
    for (const member of this.#field.due) {
      if (wish !== undefined && (member === wish.avoid || wish.accept?.(member) === false)) continue;
      if (isKeyed && picked !== undefined && !isBefore(member, picked, wish.key)) continue;
      this.#field.outliers.probe(member, now);
      this.#field.changed();
      return member;
    }
    return undefined;
  }

  #succeeded(member: M, kind: OutcomeKind, latencyMs: number | undefined, now: number): void {
    if (!this.#field.members.has(member)) return;
    const { record } = member;
    this.#field.outliers.succeeded(member, kind, latencyMs, now, !record.isIn && this.isPanicking(now));
    if (latencyMs !== undefined) member.latency.add(latencyMs, now);
  }
}

function drawn<M extends Member>(lanes: readonly Lane<M>[], chance: number): Lane<M> | undefined {
  let left = chance;
  for (const lane of lanes) {
    left -= lane.share;
    if (left < 0) return lane;
  }
  return lanes.at(-1);
}

/** Whether a key would rather go to the one than to the other. */
function isBefore(one: Member, other: Member, key: string | undefined): boolean {
  const hash = hashOf(key ?? '');
  return scoreOf(one, hash) > scoreOf(other, hash);
}

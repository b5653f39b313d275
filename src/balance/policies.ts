/**
 * Which one of several endpoints the next request goes to. Each policy gets those among whom it may choose; who they are
 * is decided before, in lanes.ts.
 */
import type { RandomSource } from '../clock.ts';
import { cheaper } from './cost.ts';
import type { Group } from './group.ts';
import type { Member } from './member.ts';
import { Rendezvous } from './rendezvous.ts';

/**
 * How endpoints are chosen.
 *
 * - `'p2c'`: of two by chance the better one, by latency and what is in flight (Mitzenmacher's power of two choices)
 * - `'round-robin'`: in turn, smoothly by weight (nginx)
 * - `'least-loaded'`: the one with the least in flight for its weight
 * - `'consistent-hash'`: one key goes to one endpoint, as long as it can; without a key, as `'p2c'`
 */
export type BalancePolicy = 'p2c' | 'round-robin' | 'least-loaded' | 'consistent-hash';

/** All of them, the default first. */
export const BALANCE_POLICIES: readonly BalancePolicy[] = [
  'p2c',
  'round-robin',
  'least-loaded',
  'consistent-hash',
];

/** What a caller would like. */
export interface Wish<M> {
  /** Consistent hashing's: callers with one key go to one endpoint. */
  readonly key?: string | undefined;
  /** Any other one is better. */
  readonly avoid?: M | undefined;
  /** Others are no good. Called several times for each pick: it must be cheap. */
  readonly accept?: ((member: M) => boolean) | undefined;
}

/** One way to choose. Chooses none only when no member of the group is acceptable, `avoid` left out. */
export interface Policy<M extends Member> {
  choose(group: Group<M>, now: number, wish: Wish<M> | undefined): M | undefined;
}

/** The policy of that name. */
export function policyOf<M extends Member>(name: BalancePolicy, random: RandomSource): Policy<M> {
  switch (name) {
    case 'p2c':
      return new TwoChoices(random);
    case 'round-robin':
      return new RoundRobin();
    case 'least-loaded':
      return new LeastLoaded(random);
    case 'consistent-hash':
      return new Rendezvous(new TwoChoices(random));
  }
}

function suits<M>(member: M, wish: Wish<M> | undefined): boolean {
  if (wish === undefined) return true;
  return member !== wish.avoid && (wish.accept === undefined || wish.accept(member));
}

// With fewer acceptable ones than every fourth, all are looked at.
const TRIES = 4;

/**
 * The first one is drawn by weight, and so is the second. Equals are the first one's: then shares are exactly the weights
 * as long as nothing is in flight, which no rule of comparing gives.
 */
class TwoChoices<M extends Member> implements Policy<M> {
  readonly #random: RandomSource;

  constructor(random: RandomSource) {
    this.#random = random;
  }

  choose(group: Group<M>, now: number, wish: Wish<M> | undefined): M | undefined {
    const { members } = group;
    if (members.length === 1) {
      const [only] = members;
      return only !== undefined && suits(only, wish) ? only : undefined;
    }
    for (let tries = 0; tries < TRIES; tries += 1) {
      const place = group.draw(this.#random());
      const first = members[place];
      if (first === undefined || !suits(first, wish)) continue;
      for (; tries < TRIES; tries += 1) {
        const second = members[group.drawOther(place, this.#random())];
        if (second === undefined || !suits(second, wish)) continue;
        return cheaper(first, second, now) > 0 ? second : first;
      }
    }
    return this.#bestOfAll(group, now, wish);
  }

  #bestOfAll(group: Group<M>, now: number, wish: Wish<M> | undefined): M | undefined {
    let best: M | undefined;
    // Of equals each is kept with the chance of its weight.
    let equals = 0;
    for (const member of group.members) {
      if (!suits(member, wish)) continue;
      const order = best === undefined ? 1 : cheaper(best, member, now);
      equals = order > 0 ? member.pull : equals + member.pull;
      if (order > 0 || (order === 0 && this.#random() * equals < member.pull)) best = member;
    }
    return best;
  }
}

/** Smooth weighted round robin, as nginx does it: whoever is owed most is next, and pays for all. */
class RoundRobin<M extends Member> implements Policy<M> {
  choose(group: Group<M>, _now: number, wish: Wish<M> | undefined): M | undefined {
    let best: M | undefined;
    let total = 0;
    for (const member of group.members) {
      if (!suits(member, wish)) continue;
      member.credit += member.pull;
      total += member.pull;
      if (best === undefined || member.credit > best.credit) best = member;
    }
    if (best !== undefined) best.credit -= total;
    return best;
  }
}

class LeastLoaded<M extends Member> implements Policy<M> {
  readonly #random: RandomSource;

  constructor(random: RandomSource) {
    this.#random = random;
  }

  choose(group: Group<M>, _now: number, wish: Wish<M> | undefined): M | undefined {
    let least = Number.POSITIVE_INFINITY;
    let pull = 0;
    for (const member of group.members) {
      if (member.inFlight > least * member.pull || !suits(member, wish)) continue;
      const load = member.inFlight / member.pull;
      if (load < least) {
        least = load;
        pull = 0;
      }
      pull += member.pull;
    }
    // Twice through the list is cheaper than chance for each of those that are equal.
    let left = this.#random() * pull;
    let last: M | undefined;
    for (const member of group.members) {
      if (member.inFlight / member.pull !== least || !suits(member, wish)) continue;
      last = member;
      left -= member.pull;
      if (left < 0) break;
    }
    return last;
  }
}

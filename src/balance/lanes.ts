/**
 * Among which endpoints picks are made, and with which share of the picks: tiers, the own zone, and what happens when too
 * few are well. Looked at once after each change, not for each pick.
 *
 * - The first tier gets everything while at least half of it is well. With less, it keeps 1.4 times the share that is
 *   well (Envoy's overprovisioning factor) and the next tier gets the rest. Unlike with Envoy, one of three may fail
 *   before anything goes to a standby: that may be far away, or hold older data.
 * - A tier that comes back as a whole gets no more than its warmest endpoint is worth, and the next one keeps the rest.
 *   So is a zone. Nobody is met by a herd.
 * - When no tier is well enough, all endpoints of all tiers are picked as if they were healthy (Envoy's panic): either we
 *   are wrong about them, or the few that are left would drown.
 */
import { Group } from './group.ts';
import type { Member } from './member.ts';

const OVERPROVISIONING = 1.4;

/** Some of the endpoints, and how many of the picks are made among them. */
export interface Lane<M extends Member> {
  readonly group: Group<M>;
  /** Where to look when nobody in the group is acceptable: a zone is preferred, not demanded. */
  readonly wider: Group<M> | undefined;
  /** Of all picks. The shares of all lanes make 1. */
  readonly share: number;
}

/** All lanes of a moment. */
export interface Layout<M extends Member> {
  readonly lanes: readonly Lane<M>[];
  readonly isPanic: boolean;
  /** The last tier that gets anything. */
  readonly lastTier: number;
}

/** What decides. */
export interface LayoutRules {
  /** The zone that is preferred, if any. */
  readonly zone: string | undefined;
  readonly panicBelow: number;
}

/** The lanes for those that are not leaving. Their pulls must be set. */
export function layOut<M extends Member>(present: readonly M[], rules: LayoutRules): Layout<M> {
  const tiers = tiersOf(present);
  if (!tiers.some((tier) => isWellEnough(tier, rules.panicBelow))) {
    for (const member of present) member.pull = member.weight;
    const lanes = present.length === 0 ? [] : [{ group: new Group(present), wider: undefined, share: 1 }];
    return { lanes, isPanic: true, lastTier: Number.POSITIVE_INFINITY };
  }
  const lanes: Lane<M>[] = [];
  let left = 1;
  let lastTier = 0;
  for (const tier of tiers) {
    const usable = tier.filter(({ record }) => record.isIn);
    const share = left * worth(tier, rules.panicBelow) * warmth(usable);
    if (share <= 0) continue;
    addLanes(lanes, tier, usable, share, rules);
    left -= share;
    lastTier = tier[0]?.tier ?? lastTier;
    if (left <= 0) break;
  }
  const given = 1 - left;
  return { lanes: lanes.map((lane) => ({ ...lane, share: lane.share / given })), isPanic: false, lastTier };
}

/** Those of each tier, the first tier first. */
export function tiersOf<M extends Member>(members: readonly M[]): M[][] {
  const tiers = new Map<number, M[]>();
  for (const member of members) {
    const tier = tiers.get(member.tier);
    if (tier === undefined) tiers.set(member.tier, [member]);
    else tier.push(member);
  }
  return [...tiers].sort(([a], [b]) => a - b).map(([, tier]) => tier);
}

/** Whether so many of them are well that the others can be done without. */
export function isWellEnough(members: readonly Member[], share: number): boolean {
  const well = countWell(members);
  return well > 0 && well >= share * members.length;
}

function countWell(members: readonly Member[]): number {
  let well = 0;
  for (const { record } of members) if (record.isWell) well += 1;
  return well;
}

function worth(tier: readonly Member[], panicBelow: number): number {
  if (isWellEnough(tier, panicBelow)) return 1;
  return Math.min(1, (OVERPROVISIONING * countWell(tier)) / tier.length);
}

function warmth(members: readonly Member[]): number {
  let warmest = 0;
  for (const { pull, weight } of members) warmest = Math.max(warmest, pull / weight);
  return warmest;
}

function addLanes<M extends Member>(
  lanes: Lane<M>[],
  tier: readonly M[],
  usable: readonly M[],
  share: number,
  rules: LayoutRules,
): void {
  const all = new Group(usable);
  const { panicBelow, zone } = rules;
  const isNear = (member: M) => zone !== undefined && member.zone === zone;
  const near = usable.filter(isNear);
  const nearShare = isWellEnough(tier.filter(isNear), panicBelow) ? share * warmth(near) : 0;
  if (nearShare <= 0 || near.length === usable.length) {
    lanes.push({ group: all, wider: undefined, share });
    return;
  }
  lanes.push({ group: new Group(near), wider: all, share: nearShare });
  if (nearShare < share) lanes.push({ group: all, wider: undefined, share: share - nearShare });
}

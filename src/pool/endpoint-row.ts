/**
 * One line about one endpoint of the pool, as `pool.endpoints()` lists them.
 */
import type { MemberRow } from '../balance/balancer.ts';
import type { HealthName } from '../balance/health.ts';
import type { PulsepoolError } from '../errors.ts';
import type { PoolMember } from './pool-member.ts';
import type { PoolState } from './pool-state.ts';

/** How one endpoint fares. */
export interface EndpointRow {
  /** As events name it: `orders:7000`, `orders/10.0.0.3:7000`, a path. */
  readonly endpoint: string;
  /**
   * - `healthy`
   * - `failing`: the newest thing known about it is a failure, and it is not put out: too few others are well, or not yet
   * - `ejected`: put out; `probing`: one caller finds out whether it is well again
   * - `warming`: new or well again, and spared
   */
  readonly state: HealthName | 'failing';
  readonly tier: number;
  readonly zone: string | undefined;
  readonly weight: number;
  /** Its part of new callers while nothing changes, without regard to latency and load: 0 to 1. */
  readonly share: number;
  /** Sockets that are open, and those of them that rest. */
  readonly open: number;
  readonly idle: number;
  /** Dials under way. */
  readonly dialing: number;
  /** Leases held; with a client of shared sockets, calls in flight. */
  readonly inFlight: number;
  /** Peak EWMA of its replies, in ms; none before the first one, and with a single endpoint. */
  readonly latencyMs: number | undefined;
  /** How often it was put out. */
  readonly ejections: number;
  /** Failures since the last success. */
  readonly failuresInRow: number;
  /** Why the last dial to it failed, however long ago. */
  readonly lastError: PulsepoolError | undefined;
  /** How long it is not dialed, in ms. */
  readonly backoffMs: number;
}

/** The rows of all endpoints. */
export function endpointRows<In, Out>(state: PoolState<In, Out>, now: number): readonly EndpointRow[] {
  return state.members.list.map((member) => rowOf(member, state, now));
}

function rowOf<In, Out>(member: PoolMember<In, Out>, state: PoolState<In, Out>, now: number): EndpointRow {
  const { balancer } = state.members;
  const { backoff, dialing, open, record } = member;
  const {
    name: endpoint,
    isFailing: _,
    ...row
  } = balancer === undefined ? aloneRow(member, state) : balancer.row(member, now);
  return Object.freeze({
    endpoint,
    ...row,
    state: record.isIn && isFailing(member) ? 'failing' : row.state,
    open,
    idle: balancer === undefined ? state.shelf.size : member.resting.length,
    dialing,
    lastError: backoff.lastError,
    backoffMs: backoff.waitMs(now),
  });
}

/** Of the only one: nothing is counted for it apart. */
function aloneRow<In, Out>(member: PoolMember<In, Out>, { tally }: PoolState<In, Out>): MemberRow {
  const { backoff, name, record, tier, weight, zone } = member;
  return {
    name,
    tier,
    zone,
    weight,
    state: record.state.name,
    share: 1,
    inFlight: tally.count('leased'),
    latencyMs: undefined,
    ejections: 0,
    failuresInRow: backoff.failures,
    isFailing: false,
  };
}

/** Whether the newest thing known about it is a failure. */
export function isFailing<In, Out>({ backoff, open, record }: PoolMember<In, Out>): boolean {
  // Sockets that serve say more than a dial of long ago.
  return (backoff.isFailing && open === 0) || record.isFailing;
}

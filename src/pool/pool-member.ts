/**
 * One endpoint as the pool sees it: its back-off, the sockets it has and those that rest, and the dials to it.
 *
 * Which endpoint is dialed or lent next is decided in members.ts, how it fares among the others in balance/.
 */
import { Member, type MemberPlace } from '../balance/member.ts';
import type { RandomSource } from '../clock.ts';
import { Backoff, type BackoffBounds } from '../transport/backoff.ts';
import type { ConnectionProfile } from '../transport/connection.ts';
import { type Endpoint, endpointName } from '../transport/endpoint.ts';
import type { Slot } from './slot.ts';

/** What one is made of. */
export interface MemberParts<In, Out> {
  readonly endpoint: Endpoint;
  /** What its connections share. */
  readonly profile: ConnectionProfile<In, Out>;
  readonly retry: BackoffBounds;
  readonly random: RandomSource;
}

/** See the file's comment. */
export class PoolMember<In, Out> extends Member {
  readonly endpoint: Endpoint;
  readonly profile: ConnectionProfile<In, Out>;
  readonly backoff: Backoff;
  /** A dial is out that finds out whether it can be reached again. */
  isProbing = false;
  /** Dials under way, those that wait for a back-off not included. */
  dialing = 0;
  /** When the last one began, in ms of the clock. */
  dialedAt = 0;
  /** Its sockets that are open. */
  open = 0;
  /** Those of them that rest, the one that is lent next at the end. Kept by the shelf. */
  readonly resting: Slot<In, Out>[] = [];
  /** Sockets that have opened a moment ago and are not counted as open yet. */
  arriving = 0;
  /** Of the dials under way, those that take long. */
  slow = 0;
  /** A caller was to go to it and found no socket at rest: one more would be welcome. 0 or 1. */
  wanted = 0;
  /** When one was last welcome, in ms of the clock. */
  wantedAt: number = Number.NEGATIVE_INFINITY;
  /** Callers who wait for a socket of its and no other. Kept by the queue. */
  pinned = 0;
  /** Aborted when it is no longer one of the pool's endpoints; none where that can't be. */
  leaving: AbortSignal | undefined;
  /** It is no longer one of the pool's endpoints. */
  isGone = false;

  constructor(parts: MemberParts<In, Out>, place: MemberPlace, now: number) {
    const { endpoint, profile, random, retry } = parts;
    super(endpointName(endpoint), place, now);
    this.endpoint = endpoint;
    this.profile = profile;
    this.backoff = new Backoff(retry, random);
  }

  /** Of its sockets, those that are checked for somebody who waits, and those whose first ping is out: back in a moment. */
  checked = 0;
  pinged = 0;

  /** Of those who wait for it and no other, how many have no socket to hope for. */
  get unmet(): number {
    return Math.max(0, this.pinned - this.checked - this.pinged);
  }

  /** Sockets to it that somebody wants, and to no other. */
  get needs(): number {
    return this.wanted + this.unmet;
  }
}

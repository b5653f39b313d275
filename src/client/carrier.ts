/**
 * How a call gets to a socket and its reply back: alone on one, or beside others. What a carrier is asked, what it
 * asks, and whom it tells.
 */
import { AcquireError, type PulsepoolError } from '../errors.ts';
import type { Lease } from '../pool/lease.ts';
import type { Wish } from '../pool/members.ts';
import type { WaitOptions } from '../pool/waiters.ts';
import type { Call } from './call.ts';

/** See the file's comment. */
export interface Carrier<In, Out> {
  /** Calls that wait for a place. */
  readonly waiting: number;
  /** Sends one attempt of a call that is `waiting`, and tells what became of it, once, unless the call is settled before. */
  start(call: Call<In, Out>): void;
  /** The caller of a call that waits or flies has gone. */
  abandon(call: Call<In, Out>, why: 'aborted' | 'timeout'): void;
  /** Whether a second try of a flying call could get another socket than the first. */
  canHedge(call: Call<In, Out>): boolean;
  /** Why the time of a waiting call is up; `undefined` when it stands in a queue that tells it by itself. */
  whyLate(call: Call<In, Out>, at: number): PulsepoolError | undefined;
}

/** Whom a carrier tells. */
export interface CarrierOwner<In, Out> {
  /** `now`: when the reply was read. */
  onReply(call: Call<In, Out>, reply: Out, now: number): void;
  /** `error`: `undefined` when there was a place, but after the deadline. */
  onLost(call: Call<In, Out>, error: unknown): void;
}

/** Where leases come from. */
export interface LeaseSource<In, Out> {
  /** `acquireTimeoutMs` of the pool. */
  readonly acquireTimeoutMs: number;
  /** Whether there are several endpoints, among which each call has its choice. */
  readonly isBalanced: boolean;
  /** A lease that can be had this very moment. */
  readonly atOnce: (wish?: Wish<In, Out>) => Lease<In, Out> | undefined;
  readonly acquire: (bounds: WaitOptions | undefined, wish?: Wish<In, Out>) => Promise<Lease<In, Out>>;
  /** A lease on a socket that is opened for it, if there can be one. */
  readonly acquireNew: (bounds: WaitOptions | undefined) => Promise<Lease<In, Out>>;
  /** As many sockets as the pool may have. */
  readonly max: () => number;
  /** Calls `fn` whenever that has changed. */
  readonly onResized: (fn: () => void) => void;
  /** Whoever waits for a lease, those of the client included. */
  readonly othersWaiting: () => number;
  /** Nothing is to be done, told, bounded or counted between two leases but what `Lease.passOn()` does. */
  readonly isPlain: () => boolean;
  /** Why nobody got a socket in so many ms. */
  readonly explain: (waitedMs: number) => PulsepoolError;
  /** So many calls wait for each other's sockets. */
  readonly onShort: (missing: number) => void;
}

/** What is left of a call's deadline as bounds of a wait; `undefined` when the pool's own limit is no longer. */
export function boundsOf<In, Out>(call: Call<In, Out>, acquireTimeoutMs: number): WaitOptions | undefined {
  const { bounds, deadlineAt, triedAt } = call;
  const leftMs = deadlineAt - triedAt;
  const { priority } = bounds;
  const signal = bounds.waits?.signal ?? bounds.signal ?? bounds.familySignal;
  if (leftMs >= acquireTimeoutMs) {
    return signal === undefined && priority === undefined ? undefined : { signal, priority };
  }
  return { signal, priority, timeoutMs: Math.max(0, leftMs) };
}

/** What a call would like of its endpoint; none: nothing. Asked only where there are several. */
export function wishOf<In, Out>({ bounds, past }: Call<In, Out>): Wish<In, Out> | undefined {
  const { key } = bounds;
  const avoid = past?.avoid;
  return key === undefined && avoid === undefined ? undefined : { key, avoid };
}

/** One caller's own, of an error that many are told: it says how much of the caller's message was sent, and that differs. */
export function copyOf(error: unknown): unknown {
  return error instanceof AcquireError ? new AcquireError(error.code, error.message, error) : error;
}

/**
 * The story of a caller who got no lease: how long they waited, what every socket was doing, and why no other one
 * could be opened.
 */
import { AcquireError, formatCounts, type PoolCounts, type PulsepoolError } from '../errors.ts';
import type { LeaseHolder } from '../events.ts';

/** What the story is made of. */
export interface AcquireStory {
  readonly endpoint: string;
  readonly max: number;
  readonly waitedMs: number;
  readonly counts: PoolCounts;
  /** Why the last dial failed, however long ago. */
  readonly lastFailure: PulsepoolError | undefined;
  /** Whether that failure is the newest thing known about the endpoint. */
  readonly isFailing: boolean;
  /** `pool.suspend()` was called. */
  readonly isSuspended: boolean;
  /** When the next dial is due, in ms, while the server is known to be down. */
  readonly retryInMs: number | undefined;
  /** Leases that the same async context holds, as far as `detectDeadlocks` knows. */
  readonly holding?: number | undefined;
  /** The lease that is held longest. */
  readonly longest?: LeaseHolder | undefined;
  /** Sockets that `onAcquire` or `onRelease` has. */
  readonly inHooks?: number | undefined;
}

/** Nobody is served any more. */
export function poolClosedError({ endpoint, waitedMs, counts }: AcquireStory): AcquireError {
  return new AcquireError(
    'ERR_POOL_CLOSED',
    `The pool to ${endpoint} is closed or closing (${formatCounts(counts)}).`,
    { retryable: false, hint: 'Close the pool last, when nothing can call it any more.', waitedMs, counts },
  );
}

/** The dial has failed for good, or the server is known to be down and the next dial is not due. */
export function acquireFailedError(story: AcquireStory): AcquireError {
  const { counts, endpoint, lastFailure: cause, retryInMs, waitedMs } = story;
  const next = retryInMs === undefined ? '' : ` The next dial is due in ${Math.ceil(retryInMs)} ms.`;
  const what =
    cause?.code === 'ERR_HOOK'
      ? `No socket to ${endpoint} could be prepared for this caller`
      : `Could not open a connection to ${endpoint}`;
  return new AcquireError(
    'ERR_ACQUIRE_FAILED',
    `${what} after ${Math.round(waitedMs)} ms (${formatCounts(counts)}): ${cause?.message ?? 'unknown'}${next}`,
    {
      retryable: cause?.retryable ?? true,
      hint: cause?.hint ?? 'See the cause.',
      cause,
      waitedMs,
      counts,
    },
  );
}

/** More callers wait than the pool will ever serve in time. */
export function overloadedError(story: AcquireStory, why: 'full' | 'overload'): AcquireError {
  const { counts, endpoint, waitedMs } = story;
  const what =
    why === 'full'
      ? `Too many callers wait for a socket to ${endpoint}`
      : `Overload: no socket to ${endpoint} became free within ${Math.round(waitedMs)} ms, and callers have waited ` +
        'without a break';
  return new AcquireError('ERR_OVERLOADED', `${what} (${formatCounts(counts)}).`, {
    retryable: true,
    hint:
      why === 'full'
        ? 'Shed load, look at how long leases are held, or raise `max` or `maxWaiting`.'
        : 'The server is too slow for the load: see `shedAfterMs`, and stats().times.hold.',
    waitedMs,
    counts,
  });
}

/** Time was up. */
export function acquireTimeoutError(story: AcquireStory): AcquireError {
  const { counts, endpoint, isFailing, lastFailure, waitedMs } = story;
  return new AcquireError(
    'ERR_ACQUIRE_TIMEOUT',
    `No socket to ${endpoint} became free within ${Math.round(waitedMs)} ms (${formatCounts(counts)}).`,
    {
      retryable: true,
      hint: timeoutHint(story),
      // With sockets open and all of them leased, an old dial failure is not why.
      ...(isFailing ? { cause: lastFailure } : {}),
      waitedMs,
      counts,
    },
  );
}

function timeoutHint(story: AcquireStory): string {
  const { counts, holding = 0, inHooks = 0, isFailing, isSuspended, longest, max } = story;
  if (isSuspended) return 'The pool is suspended: call resume() when the server can be used again.';
  if (holding > 0 && counts.leased >= max) {
    return (
      `The caller itself holds ${holding === 1 ? 'a lease' : `${holding} leases`}: when all holders wait like this, nobody goes on. ` +
      'Release one before asking for the next; see deadlockSuspected events.'
    );
  }
  if (inHooks > 0 && inHooks * 2 >= counts.leased) {
    return `${inHooks} of ${counts.leased} leased sockets were in the hands of onAcquire or onRelease: see \`hookTimeoutMs\`.`;
  }
  if (counts.leased >= max) {
    return (
      `All sockets are leased${longest === undefined ? '' : `, ${told(longest)}`}: ` +
      'look for leases that are never released, for a slow server, or raise `max`.'
    );
  }
  if (counts.idle > 0 && !isFailing) {
    return 'Sockets at rest were being pinged and had not answered: the server may be stuck, see pingMissed events.';
  }
  return 'Sockets could not be opened in time: see the cause, and the dialFailed events.';
}

function told({ connectionId, heldMs, stack }: LeaseHolder): string {
  const place = stack?.split('\n')[0]?.trim();
  return (
    `socket ${connectionId} longest, for ${Math.round(heldMs)} ms` +
    (place === undefined ? ' (`leakAfterMs` tells where it was taken)' : ` (taken ${place})`)
  );
}

/**
 * The story of a caller who got no lease: how long they waited, what every socket was doing, and why no other one
 * could be opened.
 */
import { AcquireError, formatCounts, type PoolCounts, type PulsepoolError } from '../errors.ts';

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
}

/** Nobody is served any more. */
export function poolClosedError({ endpoint, waitedMs, counts }: AcquireStory): AcquireError {
  return new AcquireError(
    'ERR_POOL_CLOSED',
    `The pool to ${endpoint} is closed or closing (${formatCounts(counts)}).`,
    { retryable: false, hint: 'Close the pool last, when nothing can call it any more.', waitedMs, counts },
  );
}

/** The dial has failed for good. */
export function acquireFailedError(story: AcquireStory): AcquireError {
  const { counts, endpoint, lastFailure: cause, waitedMs } = story;
  return new AcquireError(
    'ERR_ACQUIRE_FAILED',
    `Could not open a connection to ${endpoint} after ${Math.round(waitedMs)} ms (${formatCounts(counts)}): ` +
      `${cause?.message ?? 'unknown'}`,
    {
      retryable: cause?.retryable ?? true,
      hint: cause?.hint ?? 'See the cause.',
      cause,
      waitedMs,
      counts,
    },
  );
}

/** Time was up. */
export function acquireTimeoutError(story: AcquireStory): AcquireError {
  const { counts, endpoint, isFailing, lastFailure, max, waitedMs } = story;
  return new AcquireError(
    'ERR_ACQUIRE_TIMEOUT',
    `No socket to ${endpoint} became free within ${Math.round(waitedMs)} ms (${formatCounts(counts)}).`,
    {
      retryable: true,
      hint:
        counts.leased >= max
          ? 'All sockets are leased: look for leases that are never released, for a slow server, or raise `max`.'
          : counts.idle > 0 && !isFailing
            ? 'Sockets at rest were being pinged and had not answered: the server may be stuck, see pingMissed events.'
            : 'Sockets could not be opened in time: see the cause, and the dialFailed events.',
      // With sockets open and all of them leased, an old dial failure is not why.
      ...(isFailing ? { cause: lastFailure } : {}),
      waitedMs,
      counts,
    },
  );
}

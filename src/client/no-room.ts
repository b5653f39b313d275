/**
 * The story of a call that got no place on a socket: how long it waited, and how full the sockets were.
 */
import { AcquireError, formatCounts, type PoolCounts } from '../errors.ts';

/** What the story is made of. */
export interface NoRoomStory {
  readonly endpoint: string;
  readonly waitedMs: number;
  /** Sockets that calls fly on, and how many calls do. */
  readonly sockets: number;
  readonly inFlight: number;
  readonly maxInFlight: number;
  /** Calls that wait for a place. */
  readonly waiting: number;
  readonly counts: PoolCounts;
}

/** Time was up. */
export function noRoomError(story: NoRoomStory): AcquireError {
  const { counts, endpoint, sockets, waitedMs } = story;
  return new AcquireError(
    'ERR_ACQUIRE_TIMEOUT',
    `No place on a socket to ${endpoint} became free within ${Math.round(waitedMs)} ms (${told(story)}).`,
    {
      retryable: true,
      hint:
        sockets === 0
          ? 'Sockets could not be opened in time: see the dialFailed events.'
          : 'The server is slow or stuck: its sockets are full, or silent while replies are due, and are not fed more.',
      waitedMs,
      counts,
    },
  );
}

/** More calls wait than the server will ever serve in time. */
export function tooManyError(story: NoRoomStory, why: 'full' | 'overload'): AcquireError {
  const { counts, endpoint, waitedMs } = story;
  const what =
    why === 'full'
      ? `Too many calls wait for a place on a socket to ${endpoint}`
      : `Overload: no place on a socket to ${endpoint} became free within ${Math.round(waitedMs)} ms`;
  return new AcquireError('ERR_OVERLOADED', `${what} (${told(story)}).`, {
    retryable: true,
    hint: 'Shed load, or raise `max`, `maxInFlight` or `maxWaiting` if the server can serve more.',
    waitedMs,
    counts,
  });
}

function told({ counts, inFlight, maxInFlight, sockets, waiting }: NoRoomStory): string {
  return (
    `${inFlight} in flight on ${sockets} sockets, maxInFlight=${maxInFlight}, ${waiting} waiting; ` +
    `sockets: ${formatCounts(counts)}`
  );
}

/**
 * The words for calls that failed above the socket: time was up, the breaker is open, the client closes, a hook threw.
 */
import { AcquireError, DeadlineError, messageOf, PulsepoolError } from '../errors.ts';
import type { Call } from './call.ts';

/** What a deadline's story needs beside the call. */
export interface LateStory {
  readonly attempts: number;
  /** The last failure, if any. */
  readonly cause: unknown;
  /** What was left when it was given up, since the next attempt would have come too late; none: time was up. */
  readonly leftMs: number;
}

/** The caller's deadline has passed, or would have before another attempt. */
export function deadlineError<In, Out>(
  endpoint: string,
  call: Call<In, Out>,
  { attempts, cause, leftMs }: LateStory,
): DeadlineError {
  const { acquireMs, backoffMs, exchangeMs, sent } = call.remember();
  const totalMs = call.deadlineAt - call.startedAt;
  const what =
    leftMs > 1
      ? `The request to ${endpoint} failed, and the next attempt would have come too late, ` +
        `with ${leftMs} of ${totalMs} ms left`
      : `The request to ${endpoint} did not finish within ${totalMs} ms`;
  return new DeadlineError(
    `${what}: ` +
      `${Math.round(acquireMs)} ms for a socket, ${Math.round(exchangeMs)} ms for the exchange, ` +
      `${Math.round(backoffMs)} ms between attempts (${attempts}).`,
    {
      retryable: true,
      sent,
      // Who got no socket is told why by the queue.
      hint:
        cause instanceof AcquireError ? cause.hint : 'The phase that used most of the time is where to look.',
      cause,
      attempts,
      phases: { acquireMs, exchangeMs, backoffMs },
    },
  );
}

/** The breaker lets nothing through. */
export function circuitOpenError(
  endpoint: string,
  openForMs: number,
  cause: PulsepoolError | undefined,
): PulsepoolError {
  return new PulsepoolError(
    'ERR_CIRCUIT_OPEN',
    `Requests to ${endpoint} have failed too often; none is sent for ${Math.ceil(openForMs)} ms more.`,
    {
      retryable: true,
      hint: cause?.hint ?? 'See the cause: the failure that opened the breaker.',
      cause,
    },
  );
}

/** The client closes while the request sleeps between two attempts. */
export function closedError(endpoint: string): PulsepoolError {
  return new PulsepoolError('ERR_POOL_CLOSED', `The client to ${endpoint} is closed or closing.`, {
    retryable: false,
    hint: 'Close the client last, when nothing can call it any more.',
  });
}

/** Nothing is shared by replies that have no ends. */
export function framelessError(endpoint: string): PulsepoolError {
  return new PulsepoolError(
    'ERR_INVALID_OPTION',
    `\`codec\` must find the ends of frames when requests share sockets: that of ${endpoint} has \`framed: false\`.`,
    { retryable: false, hint: 'Use the mode `exclusive`, or a codec with frames.' },
  );
}

/** The user's hook gave something that says neither how long to wait nor that nothing is to be waited for. */
export function retryAfterGave(given: unknown): PulsepoolError {
  // Its failure is not news: it must not end the process as an unhandled rejection.
  if (given instanceof Promise) given.catch(() => undefined);
  const what = typeof given === 'number' ? String(given) : given === null ? 'null' : `a ${typeof given}`;
  return new PulsepoolError(
    'ERR_HOOK',
    `retryAfter returned ${given instanceof Promise ? 'a promise' : what}.`,
    {
      retryable: false,
      sent: 'full',
      hint: 'Return ms of at least 0, Infinity, or undefined; it is called for each reply and must not be async.',
    },
  );
}

/** The user's hook failed on a reply, which so reaches nobody. */
export function retryAfterThrew(error: unknown): PulsepoolError {
  return new PulsepoolError('ERR_HOOK', `retryAfter threw: ${messageOf(error)}`, {
    retryable: false,
    sent: 'full',
    hint: 'Look into the hook: it is given each reply, and must return ms or undefined.',
    cause: error,
  });
}

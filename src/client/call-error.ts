/**
 * The words for calls that failed above the socket: time was up, the breaker is open, the client closes, a hook threw.
 */
import { AcquireError, DeadlineError, messageOf, PulsepoolError } from '../errors.ts';
import type { Call } from './call.ts';

/** The caller's deadline has passed. `cause`: the last failure, if any. */
export function deadlineError<In, Out>(
  endpoint: string,
  call: Call<In, Out>,
  attempts: number,
  cause: PulsepoolError | undefined,
): DeadlineError {
  const { acquireMs, backoffMs, exchangeMs, sent } = call.remember();
  const totalMs = call.deadlineAt - call.startedAt;
  return new DeadlineError(
    `The request to ${endpoint} did not finish within ${totalMs} ms: ` +
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

/** The user's hook failed on a reply, which so reaches nobody. */
export function retryAfterThrew(error: unknown): PulsepoolError {
  return new PulsepoolError('ERR_HOOK', `retryAfter threw: ${messageOf(error)}`, {
    retryable: false,
    sent: 'full',
    hint: 'Look into the hook: it is given each reply, and must return ms or undefined.',
    cause: error,
  });
}

/**
 * The handshake: lends a new connection to `onConnect` under what is left of the connect deadline, before the
 * pool may have it.
 */
import { onAbort } from '../abort.ts';
import type { Clock } from '../clock.ts';
import { ConnectionError, FrameError, messageOf, PulsepoolError } from '../errors.ts';
import type { Connection } from '../transport/connection.ts';
import { DialError, dialTimeout } from '../transport/dial-error.ts';
import { Lease, NOWHERE } from './lease.ts';
import type { Slot } from './slot.ts';

/** What `onConnect` gets beside the lease. */
export interface HandshakeContext {
  /** Aborted when the connect deadline passes or the pool closes. */
  readonly signal: AbortSignal;
  /** Who the server should be, as events name it: `orders:7000`, `orders/10.0.0.3:7000`. */
  readonly endpoint: string;
  /** The address at the other end; empty for a Unix socket. Throw to refuse a peer that is not who it should be. */
  readonly address: string;
}

/** What a handshake needs to know. */
export interface HandshakeParts<In, Out> {
  readonly onConnect: (lease: Lease<In, Out>, context: HandshakeContext) => unknown;
  readonly endpoint: string;
  readonly address: string;
  /** For all phases of the dial, in ms; printed when it passes. */
  readonly connectTimeoutMs: number;
  readonly clock: Clock;
}

/**
 * Runs `onConnect`. Whatever goes wrong, the connection is destroyed.
 *
 * @throws DialError `ERR_HANDSHAKE` or `ERR_CONNECT_TIMEOUT`; `signal.reason` when the pool closes.
 */
export async function handshake<In, Out>(
  slot: Slot<In, Out>,
  connection: Connection<In, Out>,
  remainingMs: number,
  signal: AbortSignal,
  parts: HandshakeParts<In, Out>,
): Promise<void> {
  const { address, clock, connectTimeoutMs, endpoint, onConnect } = parts;
  const deadline = new AbortController();
  let isOver = false;
  const timer = clock.after(Math.max(0, remainingMs), () => {
    clock.turn(() => {
      if (!isOver) deadline.abort(dialTimeout('handshake', endpoint, connectTimeoutMs));
    });
  });
  const end = (): void => deadline.abort(signal.reason);
  const stop = onAbort(signal, end);
  // The pool may have closed since the socket became ready.
  if (signal.aborted) end();
  const lease = new Lease<In, Out>(slot, connection, NOWHERE, 0);
  const context = { signal: deadline.signal, endpoint, address };
  connection.serve();
  try {
    deadline.signal.throwIfAborted();
    await new Promise((resolve, reject) => {
      deadline.signal.addEventListener('abort', () => reject(deadline.signal.reason), { once: true });
      Promise.resolve(onConnect(lease, context)).then(resolve, reject);
    });
    lease.finish();
    if (!connection.isOpen) throw connection.error ?? lostInside(endpoint);
    if (!connection.isClean) throw unfinished(endpoint);
    connection.rest(true);
  } catch (error) {
    const reason = deadline.signal.aborted
      ? deadline.signal.reason
      : // What the server did to the socket says more than what onConnect made of it.
        explain(connection.error instanceof DialError ? connection.error : error, endpoint);
    connection.destroy('failed', reason instanceof PulsepoolError ? reason : undefined);
    throw reason;
  } finally {
    isOver = true;
    timer.cancel();
    stop();
  }
}

function unfinished(endpoint: string): DialError {
  return new DialError(
    'ERR_HANDSHAKE',
    `onConnect returned before ${endpoint} had answered everything it asked.`,
    {
      phase: 'handshake',
      endpoint,
      retryable: false,
      hint: 'Await every reply in onConnect: an unread one would reach the first caller.',
    },
  );
}

function lostInside(endpoint: string): DialError {
  return new DialError('ERR_HANDSHAKE', `onConnect ended the connection to ${endpoint} itself.`, {
    phase: 'handshake',
    endpoint,
    retryable: false,
    hint: 'Leave the lease as it is: throw to refuse the connection; it can’t be detached or destroyed here.',
  });
}

function explain(error: unknown, endpoint: string): DialError {
  if (error instanceof DialError) return error;
  const what = messageOf(error);
  // A lost connection may do better next time; what onConnect itself refuses will be refused again.
  const retryable = (error instanceof ConnectionError || error instanceof FrameError) && error.retryable;
  return new DialError('ERR_HANDSHAKE', `The handshake with ${endpoint} failed: ${what}`, {
    phase: 'handshake',
    endpoint,
    retryable,
    hint: 'onConnect threw: see the cause. Wrong credentials are the usual one; or it refused this peer.',
    cause: error,
  });
}

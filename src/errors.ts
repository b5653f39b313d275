/**
 * Every error that pulsepool creates: one base class, a literal-union `code`, and a story.
 *
 * Match on `code`, not on the class or the message. An aborted call rejects with `signal.reason` itself, which
 * is the caller's own value and so is not listed here.
 */

/** The stable name of what went wrong. The README's error table explains each. */
export type ErrorCode =
  | 'ERR_INVALID_OPTION'
  | 'ERR_REFUSED'
  | 'ERR_CONNECT_TIMEOUT'
  | 'ERR_UNREACHABLE'
  | 'ERR_DNS'
  | 'ERR_TLS_TRUST'
  | 'ERR_TLS'
  | 'ERR_TOO_MANY_FILES'
  | 'ERR_NO_LOCAL_PORTS'
  | 'ERR_SERVER_FULL'
  | 'ERR_HANDSHAKE'
  | 'ERR_CONNECT'
  | 'ERR_ACQUIRE_TIMEOUT'
  | 'ERR_ACQUIRE_FAILED'
  | 'ERR_OVERLOADED'
  | 'ERR_POOL_CLOSED'
  | 'ERR_CIRCUIT_OPEN'
  | 'ERR_READ_TIMEOUT'
  | 'ERR_WRITE_TIMEOUT'
  | 'ERR_FRAME_TIMEOUT'
  | 'ERR_DEADLINE'
  | 'ERR_CONNECTION_LOST'
  | 'ERR_FRAME'
  | 'ERR_UNSOLICITED'
  | 'ERR_HEARTBEAT'
  | 'ERR_HOOK'
  | 'ERR_LEAKED'
  | 'ERR_LEASE';

/** How much of a request had left when it failed: nothing, perhaps some, or all of it. */
export type Sent = 'none' | 'maybe' | 'full';

/** What was thrown, in words. Anything can be thrown, even what no string can be made of. */
export function messageOf(thrown: unknown): string {
  try {
    return thrown instanceof Error ? thrown.message : String(thrown);
  } catch {
    return 'something of which no string can be made';
  }
}

const SENT_IN_ORDER: readonly Sent[] = ['none', 'maybe', 'full'];

/** The one of two that tells of more. */
export function moreSent(a: Sent, b: Sent): Sent {
  return SENT_IN_ORDER.indexOf(a) >= SENT_IN_ORDER.indexOf(b) ? a : b;
}

/** What an error carries beside its message. */
export interface ErrorDetails {
  /** Whether the same call may succeed later without a change of code or configuration. */
  readonly retryable: boolean;
  /** What to look at or do, in one sentence. */
  readonly hint: string;
  /** How much of the request had left. Default `'none'`. */
  readonly sent?: Sent;
  readonly cause?: unknown;
}

/** The base of every error that pulsepool creates. */
export class PulsepoolError extends Error {
  override readonly name: string = 'PulsepoolError';
  readonly code: ErrorCode;
  readonly retryable: boolean;
  /** How much of the request had left, over all attempts. */
  sent: Sent;
  /** Why earlier attempts of the same request failed, the first one first. */
  earlier: readonly PulsepoolError[] = [];
  readonly hint: string;

  constructor(code: ErrorCode, message: string, details: ErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.retryable = details.retryable;
    this.sent = details.sent ?? 'none';
    this.hint = details.hint;
  }
}

/** What made a frame unacceptable. */
export type FrameFault = 'too-large' | 'bad-length' | 'truncated' | 'bad-message' | 'codec-threw';

/** What a {@link FrameError} saw. */
export interface FrameDetails {
  readonly fault: FrameFault;
  /** The length the frame claimed or had reached, in bytes, where known. */
  readonly declaredBytes?: number | undefined;
  /** The limit it broke, in bytes, where one was broken. */
  readonly limitBytes?: number | undefined;
  /** The first bytes seen (at most 16), as hex. Empty when encoding. */
  readonly head?: string;
  readonly hint?: string;
  readonly sent?: Sent;
  readonly cause?: unknown;
}

/**
 * A message that can't be encoded, or bytes that can't be a frame. Never retryable: the same bytes would fail
 * again. Thrown by a decoder it ends the connection; thrown by an encoder it harms nothing.
 */
export class FrameError extends PulsepoolError {
  override readonly name: string = 'FrameError';
  readonly fault: FrameFault;
  readonly declaredBytes: number | undefined;
  readonly limitBytes: number | undefined;
  readonly head: string;

  constructor(message: string, details: FrameDetails) {
    super('ERR_FRAME', message, {
      retryable: false,
      hint: details.hint ?? 'Check that both sides use the same framing, and the codec’s limits.',
      sent: details.sent ?? 'none',
      cause: details.cause,
    });
    this.fault = details.fault;
    this.declaredBytes = details.declaredBytes;
    this.limitBytes = details.limitBytes;
    this.head = details.head ?? '';
  }
}

/** What a {@link ConnectionError} knows. */
export interface ConnectionErrorDetails extends ErrorDetails {
  /** `host:port` or path. */
  readonly endpoint: string;
  /** The pool's number of the socket. */
  readonly connectionId: number;
  /** Whether any byte had come back since the request was written. */
  readonly firstByte?: boolean;
  /** Whether the socket had served somebody before. */
  readonly reused?: boolean;
}

/**
 * An open connection was lost or given up in the middle of something: lost, silent too long, stalled, or
 * desynchronised. `sent` tells how much of the request had left.
 */
export class ConnectionError extends PulsepoolError {
  override readonly name: string = 'ConnectionError';
  readonly endpoint: string;
  readonly connectionId: number;
  readonly firstByte: boolean;
  readonly reused: boolean;

  constructor(code: ErrorCode, message: string, details: ConnectionErrorDetails) {
    super(code, message, details);
    this.endpoint = details.endpoint;
    this.connectionId = details.connectionId;
    this.firstByte = details.firstByte ?? false;
    this.reused = details.reused ?? false;
  }
}

/** A lease was used after it ended, released twice, or given to another pool. Always the caller's mistake. */
export class LeaseError extends PulsepoolError {
  override readonly name: string = 'LeaseError';

  constructor(message: string, hint: string) {
    super('ERR_LEASE', message, { retryable: false, hint });
  }
}

/** How many sockets were where, at the moment an error was made. */
export interface PoolCounts {
  readonly total: number;
  readonly idle: number;
  readonly leased: number;
  readonly dialing: number;
  readonly closing: number;
  readonly waiting: number;
}

/** `acquire` could not hand out a lease. The message holds the counts; `cause` is the last dial's failure. */
export class AcquireError extends PulsepoolError {
  override readonly name: string = 'AcquireError';
  /** How long the caller waited, in ms. */
  readonly waitedMs: number;
  readonly counts: PoolCounts;

  constructor(
    code: ErrorCode,
    message: string,
    details: ErrorDetails & { waitedMs: number; counts: PoolCounts },
  ) {
    super(code, message, details);
    this.waitedMs = details.waitedMs;
    this.counts = details.counts;
  }
}

/** The counts as every message prints them. */
export function formatCounts(counts: PoolCounts): string {
  return (
    `total=${counts.total}, idle=${counts.idle}, leased=${counts.leased}, dialing=${counts.dialing}, ` +
    `closing=${counts.closing}, waiting=${counts.waiting}`
  );
}

/** Where the time of a request went, in ms, over all attempts. */
export interface RequestPhases {
  /** Waiting for a socket, dialing included. */
  readonly acquireMs: number;
  /** Sending and waiting for the reply. */
  readonly exchangeMs: number;
  /** Sleeping between attempts. */
  readonly backoffMs: number;
}

/** The caller's own deadline passed. It tells which phase used what; `cause` is the last failure, if any. */
export class DeadlineError extends PulsepoolError {
  override readonly name: string = 'DeadlineError';
  readonly attempts: number;
  readonly phases: RequestPhases;

  constructor(
    message: string,
    details: ErrorDetails & { readonly attempts: number; readonly phases: RequestPhases },
  ) {
    super('ERR_DEADLINE', message, details);
    this.attempts = details.attempts;
    this.phases = details.phases;
  }
}

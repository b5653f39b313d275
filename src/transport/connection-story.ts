/**
 * The story of one connection: what has happened on it so far, and the errors that are told from that. When a
 * connection ends, and who is told, is decided elsewhere.
 */
import { ConnectionError, type ErrorCode, FrameError, type PulsepoolError } from '../errors.ts';
import type { ByteQueue } from './byte-queue.ts';
import type { CloseReason } from './close-reason.ts';
import { acceptedThenClosed, certificateRefused } from './dial-error.ts';
import type { Call } from './receivers.ts';
import { cutOff, headOf } from './stream-fault.ts';
import type { Writer } from './writer.ts';

/** Why a connection ended; `error` when somebody is to blame. */
export interface Ending {
  readonly reason: CloseReason;
  readonly error: PulsepoolError | undefined;
}

const SLOW_SERVER =
  'The server is slow, stuck or gone; a proxy may hold the connection open. Compare with its own limits.';

/** See the file's comment. Made when there is something to tell. */
export class ConnectionStory {
  readonly #connectionId: number;
  readonly #endpoint: string;
  readonly #writer: Writer;
  readonly #reads: number;
  readonly #hasServed: boolean;

  /** `reads`: how often bytes have come; `hasServed`: whether a lease has given the connection back. */
  constructor(connectionId: number, endpoint: string, writer: Writer, reads: number, hasServed: boolean) {
    this.#connectionId = connectionId;
    this.#endpoint = endpoint;
    this.#writer = writer;
    this.#reads = reads;
    this.#hasServed = hasServed;
  }

  /** The error for one call that the end of the connection cuts off, or that comes after it. */
  lost(ending: Ending | undefined, call: Call | undefined): PulsepoolError {
    const error = ending?.error;
    if (error instanceof FrameError) {
      if (call?.mark === undefined) return error;
      return new FrameError(error.message, { ...error, sent: this.#writer.sent(call.mark), cause: error });
    }
    if (error !== undefined)
      return this.#tell(error.code, error.message, error.hint, call, error, error.retryable);
    return this.#tell(
      'ERR_CONNECTION_LOST',
      `The connection to ${this.#endpoint} was ended (${ending?.reason ?? 'closed'}).`,
      'It was ended on this side: by an abort, a release, a timeout of another call, or the pool’s close.',
      call,
    );
  }

  /** The same for one of which nothing has left: what others were answered is no fault of its own. */
  unsent(ending: Ending | undefined, call: Call): PulsepoolError {
    const cause = ending?.error;
    if (!(cause instanceof FrameError)) return this.lost(ending, call);
    return this.#tell(
      'ERR_CONNECTION_LOST',
      `The connection to ${this.#endpoint} was ended before the message left: ${cause.message}`,
      cause.hint,
      call,
      cause,
    );
  }

  /** Bytes came that were nobody's; `bytes` are those that have not been decoded. */
  unsolicited(bytes: ByteQueue): PulsepoolError {
    const { head, hint } = headOf(bytes);
    const seen = head === '' ? '' : ` (first bytes: ${head})`;
    return this.#tell(
      'ERR_UNSOLICITED',
      `${this.#endpoint} sent bytes that nobody had asked for${seen}.`,
      hint ??
        'The server may say goodbye before it closes, or push messages (heartbeat.answer is for pings it sends); or ids are not what `correlate` reads.',
      undefined,
    );
  }

  /** The peer or the network ended it: by a FIN, or by an error. `wasCut`: in the middle of a frame. */
  peerClosed(
    cause: Error | undefined,
    bytes: ByteQueue,
    how: { readonly isYoung: boolean; readonly wasCut: boolean },
  ): PulsepoolError {
    const refused = certificateRefused(this.#endpoint, cause);
    if (refused !== undefined) return refused;
    if (how.isYoung && this.#reads === 0) return acceptedThenClosed(this.#endpoint, cause);
    const where = how.wasCut ? 'the server closed it in the middle of a frame' : 'the server closed it';
    return this.#tell(
      'ERR_CONNECTION_LOST',
      `Lost the connection to ${this.#endpoint}: ${cause?.message ?? where}.`,
      headOf(bytes).hint ??
        'The server restarted, hit its own idle limit or crashed, or a proxy in between closed the connection.',
      undefined,
      cause ?? (how.wasCut ? cutOff(bytes) : undefined),
    );
  }

  /** A call's own limit has passed. */
  tooLate(timeoutMs: number, call: Call | undefined): PulsepoolError {
    return this.#tell(
      'ERR_DEADLINE',
      `No reply from ${this.#endpoint} within the call’s ${timeoutMs} ms.`,
      'The server is slow or stuck: raise the limit, or look at the server.',
      call,
    );
  }

  /** Nothing came for so long while a reply was due. */
  silent(forMs: number): PulsepoolError {
    const what = `${this.#endpoint} was silent for ${forMs} ms while a reply was due.`;
    return this.#tell('ERR_READ_TIMEOUT', what, SLOW_SERVER, undefined);
  }

  /** A frame stayed incomplete for so long. */
  unfinished(forMs: number): PulsepoolError {
    const what = `${this.#endpoint} began a frame and did not finish it in ${forMs} ms.`;
    return this.#tell('ERR_FRAME_TIMEOUT', what, SLOW_SERVER, undefined);
  }

  /** Nothing of what we write was taken for so long. */
  stalled(forMs: number): PulsepoolError {
    return this.#tell(
      'ERR_WRITE_TIMEOUT',
      `${this.#endpoint} took no bytes for ${forMs} ms.`,
      'The server has stopped reading: it is stuck, overloaded or gone.',
      undefined,
    );
  }

  #tell(
    code: ErrorCode,
    message: string,
    hint: string,
    call: Call | undefined,
    cause?: unknown,
    retryable = true,
  ): ConnectionError {
    const hasSent = call?.mark !== undefined;
    return new ConnectionError(code, message, {
      retryable,
      hint,
      cause,
      sent: hasSent ? this.#writer.sent(call.mark) : 'none',
      endpoint: this.#endpoint,
      connectionId: this.#connectionId,
      firstByte: hasSent && this.#reads > call.readsBefore,
      reused: this.#hasServed,
    });
  }
}

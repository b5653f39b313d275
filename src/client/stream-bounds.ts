/**
 * What bounds one stream: its own deadline and signal, and those of its family. Tells once when one of them ends it. Where
 * the stream is, and what is to become of its socket, is not known here.
 */
import { onAbort } from '../abort.ts';
import type { Clock, Timer } from '../clock.ts';
import { AcquireError, DeadlineError, type PulsepoolError, type Sent } from '../errors.ts';

/** What a family of calls adds to the bounds of a stream. */
export interface StreamFamily {
  readonly signal: AbortSignal | undefined;
  /** What is left of its deadline, in ms; `Infinity`: there is none. */
  readonly leftMs: number;
}

/** Of the stream's own. */
export interface StreamLimits {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
}

/** Who is ended. */
export interface BoundedStream {
  /** How much has been sent, for the story. */
  readonly sent: () => Sent;
  /** A signal was aborted, or the deadline has passed. */
  readonly onBound: (error: unknown, how: 'aborted' | 'timeout') => void;
}

/** See the file's comment. */
export class StreamBounds {
  readonly #limits: StreamLimits;
  readonly #family: StreamFamily | undefined;
  readonly #endpoint: string;
  readonly #clock: Clock;
  readonly #stream: BoundedStream;
  readonly #deafen: (() => void)[] = [];
  #startedAt = 0;
  #openedAt: number | undefined;
  #deadlineAt: number = Number.POSITIVE_INFINITY;
  #timer: Timer | undefined;
  #isOver = false;

  constructor(
    limits: StreamLimits,
    family: StreamFamily | undefined,
    endpoint: string,
    clock: Clock,
    stream: BoundedStream,
  ) {
    this.#limits = limits;
    this.#family = family;
    this.#endpoint = endpoint;
    this.#clock = clock;
    this.#stream = stream;
  }

  /** The stream's time begins. It may be over when this returns. */
  start(): void {
    const none = Number.POSITIVE_INFINITY;
    this.#startedAt = this.#clock.now();
    const leftMs = Math.min(this.#limits.timeoutMs ?? none, this.#family?.leftMs ?? none);
    this.#deadlineAt = this.#startedAt + leftMs;
    this.#obey(this.#limits.signal);
    this.#obey(this.#family?.signal);
    if (!(leftMs > 0)) this.#end(this.late(undefined), 'timeout');
    this.watch();
  }

  /** What is left of the deadline, in ms; `Infinity`: there is none. */
  get leftMs(): number {
    return Math.max(0, this.#deadlineAt - this.#clock.now());
  }

  /** The stream has its socket. */
  opened(): void {
    this.#openedAt ??= this.#clock.now();
  }

  /** Sees to the deadline. */
  watch(): void {
    if (this.#isOver || this.#deadlineAt === Number.POSITIVE_INFINITY) return;
    this.#timer = this.#clock.after(this.leftMs, () => {
      // One turn: the last frame may already be in the kernel.
      this.#clock.turn(() => this.#end(this.late(undefined), 'timeout'));
    });
  }

  /** Leaves the deadline to somebody else until `watch()`. */
  unwatch(): void {
    this.#timer?.cancel();
  }

  /** Bounds nothing any more. */
  end(): void {
    this.#isOver = true;
    this.#timer?.cancel();
    for (const stop of this.#deafen.splice(0)) stop();
  }

  /** The deadline has passed. */
  late(cause: PulsepoolError | undefined): DeadlineError {
    const now = this.#clock.now();
    const openedAt = this.#openedAt ?? now;
    const acquireMs = openedAt - this.#startedAt;
    const exchangeMs = now - openedAt;
    const totalMs = Math.max(0, this.#deadlineAt - this.#startedAt);
    return new DeadlineError(
      `The stream from ${this.#endpoint} did not end within ${Math.round(totalMs)} ms: ` +
        `${Math.round(acquireMs)} ms for a socket, ${Math.round(exchangeMs)} ms for the exchange.`,
      {
        retryable: true,
        sent: this.#stream.sent(),
        // Who got no socket is told why by the queue.
        hint: cause instanceof AcquireError ? cause.hint : 'The longer phase is where to look.',
        cause,
        attempts: 1,
        phases: { acquireMs, exchangeMs, backoffMs: 0 },
      },
    );
  }

  #obey(signal: AbortSignal | undefined): void {
    if (signal === undefined || this.#isOver) return;
    if (signal.aborted) this.#end(signal.reason, 'aborted');
    else this.#deafen.push(onAbort(signal, () => this.#end(signal.reason, 'aborted')));
  }

  #end(error: unknown, how: 'aborted' | 'timeout'): void {
    if (this.#isOver) return;
    this.end();
    this.#stream.onBound(error, how);
  }
}

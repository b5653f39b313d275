/**
 * One request of one caller, over all its attempts: where it is, what bounds it, and what has become of it so far.
 * How it is sent is a carrier's business, whether it is sent again that of the requests.
 */
import type { Timer } from '../clock.ts';
import type { PulsepoolError, Sent } from '../errors.ts';
import type { Pass } from '../retry/breaker.ts';
import type { WriteMark } from '../transport/writer.ts';

/**
 * - `waiting`: for a place on a socket, which may have to be dialed first
 * - `flying`: given to a socket; some of it may have left
 * - `resting`: between two attempts
 * - `settled`: its caller has been told. It may still keep a place on a socket, so that its reply reaches nobody else
 */
export type CallState = 'waiting' | 'flying' | 'resting' | 'settled';

/** Which state may follow which. The diagram in ARCHITECTURE.md is made from this table. */
export const CALL_TRANSITIONS: Readonly<Record<CallState, readonly CallState[]>> = {
  waiting: ['flying', 'resting', 'settled'],
  flying: ['waiting', 'resting', 'settled'],
  resting: ['waiting', 'settled'],
  settled: [],
};

/** Messages that are written at once share their mark. */
export class Batch {
  /** Where they stand in the stream of writes; none before they are posted. */
  mark: WriteMark | undefined;
}

/** What bounds one request. */
export interface CallBounds {
  readonly signal?: AbortSignal | undefined;
  /** Of a family of calls, beside the call's own. */
  readonly familySignal?: AbortSignal | undefined;
  /** From -10 to 10. */
  readonly priority?: number | undefined;
  readonly idempotent?: boolean | undefined;
  readonly hedge?: boolean | undefined;
}

/** A measured call. */
export interface Sample {
  /** In ms, unrounded. */
  readonly from: number;
  /** How many of its kind it stands for. */
  readonly weight: number;
}

/** What is known only of a call that did not succeed at once. */
export interface Past {
  /** The most that any attempt has sent. */
  sent: Sent;
  /** Why earlier attempts failed. */
  readonly errors: PulsepoolError[];
  /** Retries by policy so far. */
  retries: number;
  /** Repetitions of what had not been sent. */
  freeTries: number;
  /** It was repeated once because a socket that had served before died under it. */
  wasFresh: boolean;
  acquireMs: number;
  exchangeMs: number;
  backoffMs: number;
}

/** The socket on which one attempt of a call flies. */
export interface Flight {
  /** The caller has gone: the reply, if one comes, is dropped. */
  abandon(): void;
  /** Ends the socket. */
  destroy(why: 'aborted' | 'timeout'): void;
  /** How much of the message has left. */
  sentOf(batch: Batch | undefined): Sent;
}

const UNBOUNDED: CallBounds = {};

/** See the file's comment. */
export class Call<In, Out> {
  readonly message: In;
  /** In whole ms of the clock, as all times of a call: V8 makes an object of any other number. */
  readonly startedAt: number;
  /** `Infinity`: none. */
  readonly deadlineAt: number;
  readonly bounds: CallBounds;
  readonly resolve: (reply: Out) => void;
  readonly reject: (reason: unknown) => void;
  state: CallState = 'waiting';
  /** When the present attempt began, and when it got its socket. */
  triedAt: number;
  flownAt = 0;
  /** What has it now. */
  flight: Flight | undefined;
  batch: Batch | undefined;
  /** Its id on the socket it was given to, in a protocol with ids. */
  id = 0;
  /** Of the attempts before this one. */
  past: Past | undefined;
  /** Only a socket that has served nobody will do. */
  mustBeFresh = false;
  /** Its pass through the breaker, while an attempt is under way. */
  pass: Pass | undefined;
  /** When a second try is sent beside it, if it is still flying then. */
  hedgeAt: number = Number.POSITIVE_INFINITY;
  /** The other try of the same request. */
  twin: Call<In, Out> | undefined;
  isHedge = false;
  /** If its time is measured. */
  sample: Sample | undefined;
  /** What wakes it when it rests. */
  timer: Timer | undefined;
  /** Stops listening to signals. */
  deafen: (() => void) | undefined;
  /** The socket of its twin, which it must not share. */
  avoid: Flight | undefined;
  /** Why it failed, while it waits for its twin. */
  parked: unknown;
  /** Its neighbours among the calls that are not settled. */
  previous: Call<In, Out> | undefined;
  next: Call<In, Out> | undefined;
  /** Whose reply is due after its own, on the same socket. */
  behind: Call<In, Out> | undefined;

  constructor(
    message: In,
    startedAt: number,
    deadlineAt: number,
    bounds: CallBounds | undefined,
    resolve: (reply: Out) => void,
    reject: (reason: unknown) => void,
  ) {
    this.message = message;
    this.startedAt = startedAt;
    this.deadlineAt = deadlineAt;
    this.bounds = bounds ?? UNBOUNDED;
    this.resolve = resolve;
    this.reject = reject;
    this.triedAt = startedAt;
  }

  /** The only way from state to state: a step that the table does not know is a bug of ours. */
  moveTo(next: CallState): void {
    if (!CALL_TRANSITIONS[this.state].includes(next)) {
      throw new Error(`bug: a call cannot go from ${this.state} to ${next}`);
    }
    this.state = next;
  }

  /** What is known of its attempts before this one. */
  remember(): Past {
    this.past ??= {
      sent: 'none',
      errors: [],
      retries: 0,
      freeTries: 0,
      wasFresh: false,
      acquireMs: 0,
      exchangeMs: 0,
      backoffMs: 0,
    };
    return this.past;
  }
}

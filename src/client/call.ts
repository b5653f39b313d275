/**
 * One request of one caller, over all its attempts: where it is, what bounds it, and what has become of it so far.
 * How it is sent is a carrier's business, whether it is sent again that of the requests.
 */
import type { Timer } from '../clock.ts';
import type { PulsepoolError, Sent } from '../errors.ts';
import type { PoolMember } from '../pool/pool-member.ts';
import type { Pass } from '../retry/breaker.ts';
import type { EncodedFrame } from '../transport/codec.ts';
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
  /** How often bytes had come on their socket before. */
  readsBefore = 0;
  /** When they were posted, in ms, unrounded; 0 with a single endpoint. */
  postedAt = 0;
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
  /** With consistent hashing: says to which endpoint it goes. */
  readonly key?: string | undefined;
  /** Ends the wait for a socket, where no one signal of the caller's does. */
  readonly waits?: AbortController | undefined;
}

/** A measured call. */
export interface Sample {
  /** In ms, unrounded. */
  readonly from: number;
  /** How many of its kind it stands for. */
  readonly weight: number;
}

/** What is known only of a call that did not succeed at once. */
export interface Past<In, Out> {
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
  /** Only a socket that has served nobody will do for the present attempt. */
  mustBeFresh: boolean;
  /** With several endpoints, where the last attempt failed: any other one is better for the next. */
  avoid: PoolMember<In, Out> | undefined;
  /** What wakes it when it rests. */
  timer: Timer | undefined;
  acquireMs: number;
  exchangeMs: number;
  backoffMs: number;
}

/** How a first try ended while its second one was under way, which may still decide. */
export interface Parked {
  readonly error: unknown;
  /** What is to follow if the second one comes to nothing, too. */
  readonly resume: (at: number) => void;
}

/** What is known only of a call that may be sent, or is, a second time beside the first. */
export interface Hedge<In, Out> {
  /** When the second one is sent, if the first is still flying then, in ms of the clock; `Infinity`: it was, or is itself. */
  at: number;
  readonly isSecond: boolean;
  /** The other one, while it is not settled. */
  twin: Call<In, Out> | undefined;
  /** The socket of the first one, which the second must not share. */
  readonly avoid: Flight | undefined;
  /** Of the first one, while it waits for the second. */
  parked: Parked | undefined;
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

/**
 * See the file's comment. There are hundreds of thousands in a second: what few of them need is in `past` and `hedge`.
 */
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
  /** When the present attempt began. */
  triedAt: number;
  /** When it got its socket. */
  flownAt = 0;
  /** What has it now. */
  flight: Flight | undefined;
  /** With several endpoints, the one at which it flies, or has flown last. */
  at: PoolMember<In, Out> | undefined;
  batch: Batch | undefined;
  /** What is to be written, until it is. */
  bytes: EncodedFrame | undefined;
  /** Its id on the socket it was given to, in a protocol with ids. */
  id = 0;
  /** Its pass through the breaker, while an attempt is under way. */
  pass: Pass | undefined;
  past: Past<In, Out> | undefined;
  hedge: Hedge<In, Out> | undefined;
  /** If its time is measured. */
  sample: Sample | undefined;
  /** Stops listening to signals. */
  deafen: (() => void) | undefined;
  /** Its neighbours among the calls that are not settled. */
  previous: Call<In, Out> | undefined;
  next: Call<In, Out> | undefined;
  /** Whose message leaves, and whose reply is due, after its own on the same socket. */
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

  /** Moves it, or throws: a step that the table does not know is a bug of ours. */
  moveTo(next: CallState): void {
    if (!CALL_TRANSITIONS[this.state].includes(next)) throw illegal(this.state, next);
    this.state = next;
  }

  /** From waiting to flying. With `settle` one of the two steps of every call, apart since constant names cost nothing. */
  fly(): void {
    if (this.state !== 'waiting') throw illegal(this.state, 'flying');
    this.state = 'flying';
  }

  /** To the end. */
  settle(): void {
    if (this.state === 'settled') throw illegal(this.state, 'settled');
    this.state = 'settled';
  }

  /** Only a socket that has served nobody will do. */
  get mustBeFresh(): boolean {
    return this.past?.mustBeFresh === true;
  }

  /** When something of it is due: its deadline, or its second try. */
  get dueAt(): number {
    return this.hedge === undefined ? this.deadlineAt : Math.min(this.deadlineAt, this.hedge.at);
  }

  /** What is known of its attempts before this one. */
  remember(): Past<In, Out> {
    this.past ??= {
      sent: 'none',
      errors: [],
      retries: 0,
      freeTries: 0,
      wasFresh: false,
      mustBeFresh: false,
      avoid: undefined,
      timer: undefined,
      acquireMs: 0,
      exchangeMs: 0,
      backoffMs: 0,
    };
    return this.past;
  }
}

function illegal(from: CallState, to: CallState): Error {
  return new Error(`bug: a call cannot go from ${from} to ${to}`);
}

/**
 * Opens connections: p-retry around one dial at a time, each under the back-off of its endpoint. It decides when an
 * attempt may start and when to give up; how a dial works, to which endpoint the next one goes, and who is waiting for
 * it, is told from outside.
 *
 * While an endpoint is failing there is a single probe of it: whoever finds no other endpoint ends quietly
 * (`elided`), and the pool asks again when the probe has an answer.
 */
import pRetry, { AbortError } from 'p-retry';
import { onAbort } from '../abort.ts';
import { type Clock, pause } from '../clock.ts';
import { messageOf, PulsepoolError } from '../errors.ts';
import type { Connection } from '../transport/connection.ts';
import type { PoolMember } from './pool-member.ts';
import type { Slot } from './slot.ts';

/** How an opening ended. */
export type Opening<In, Out> =
  | { readonly kind: 'opened'; readonly connection: Connection<In, Out> }
  | { readonly kind: 'failed'; readonly error: PulsepoolError }
  /** Not needed any more, or somebody else probes. */
  | { readonly kind: 'elided' };

/** What an opener needs. */
export interface OpenerParts<In, Out> {
  readonly endpoint: string;
  /** One attempt: dial and handshake, over at `deadlineAt` at the latest. Destroys what comes late. */
  readonly connect: Connect<In, Out>;
  /** Finds out which endpoints there are, by `deadlineAt` at the latest. Rejects when none may be dialed. */
  readonly locate: (signal: AbortSignal, deadlineAt: number) => Promise<void>;
  /** For all phases of an attempt together, in ms. */
  readonly connectTimeoutMs: number;
  readonly members: DialTargets<In, Out>;
  /** Attempts after the first one, unless there are more endpoints to be tried. */
  readonly retries: number;
  readonly clock: Clock;
  /** Aborted when the pool closes. */
  readonly signal: AbortSignal;
  /** Whether an attempt that has not started is still worth starting, given how many are running. */
  readonly isWanted: (running: number) => boolean;
  readonly onFailed: (
    error: PulsepoolError,
    member: PoolMember<In, Out>,
    startedAt: number,
    backoffMs: number,
  ) => void;
  /** A dial takes so long that another endpoint may be tried meanwhile. */
  readonly onSlow: () => void;
}

/** One attempt to dial, handshake included. */
export type Connect<In, Out> = (
  slot: Slot<In, Out>,
  member: PoolMember<In, Out>,
  signal: AbortSignal,
  deadlineAt: number,
) => Promise<Connection<In, Out>>;

/** The endpoints, as whoever dials sees them. */
export interface DialTargets<In, Out> {
  readonly size: number;
  /** How long all of them have to be left alone, in ms; 0 when one may be dialed at once. */
  readonly waitMs: (now: number) => number;
  /** The one to be dialed now; none while those that may be dialed are being probed. */
  readonly toDial: (now: number) => PoolMember<In, Out> | undefined;
  /** Aborted when there is another one to dial. */
  readonly news: AbortSignal | undefined;
  /** Whether it stands for all of them while none is known. */
  readonly isUnknown: (member: PoolMember<In, Out>) => boolean;
  /** A dial to it begins, takes long, and has ended; what has opened is counted by `onArrived`. */
  readonly onDial: (member: PoolMember<In, Out>) => void;
  readonly onSlow: (member: PoolMember<In, Out>) => void;
  readonly onDialed: (member: PoolMember<In, Out>, wasSlow: boolean, hasOpened: boolean) => void;
}

// As for the addresses of one name: RFC 8305, section 5.
const SLOW_MS = 250;

class Elided extends Error {}

/** See the file's comment. */
export class Opener<In, Out> {
  readonly #parts: OpenerParts<In, Out>;
  #running = 0;
  // A whole series of attempts has failed since the last success: more series are one attempt for each endpoint long.
  #isDown = false;

  constructor(parts: OpenerParts<In, Out>) {
    this.#parts = parts;
  }

  /** A whole series of attempts has failed, and none has succeeded since. */
  get isDown(): boolean {
    return this.#isDown;
  }

  /** Opens one connection. Never rejects: generic-pool would ask again at once, for ever. */
  async open(slot: Slot<In, Out>): Promise<Opening<In, Out>> {
    const hopeless = new Set<PoolMember<In, Out>>();
    try {
      const connection = await pRetry(() => this.#attempt(slot), {
        retries: Math.max(this.#isDown ? 0 : this.#parts.retries, this.#parts.members.size - 1),
        // The wait is the endpoint's own, in #attempt: p-retry's has no jitter once it reaches its cap.
        minTimeout: 0,
        factor: 1,
        // What is of no use at one endpoint, such as a certificate for another name, says nothing about the others.
        shouldRetry: ({ error }) => {
          if (!(error instanceof PulsepoolError)) return false;
          const { member } = slot;
          const { members } = this.#parts;
          if (error.retryable || member === undefined) return error.retryable;
          return !members.isUnknown(member) && hopeless.add(member).size < members.size;
        },
      });
      this.#isDown = false;
      return { kind: 'opened', connection };
    } catch (error) {
      if (error instanceof Elided) return { kind: 'elided' };
      this.#isDown = true;
      return { kind: 'failed', error: this.#explain(error) };
    }
  }

  async #attempt(slot: Slot<In, Out>): Promise<Connection<In, Out>> {
    const { clock, isWanted, members, signal } = this.#parts;
    // Time may have been added while we slept.
    for (let wait = members.waitMs(clock.now()); wait > 0; wait = members.waitMs(clock.now())) {
      await pause(wait, clock, signal, members.news);
      if (signal.aborted) break;
    }
    const isNeeded = !signal.aborted && isWanted(this.#running);
    let member = isNeeded ? members.toDial(clock.now()) : undefined;
    if (member === undefined) throw new AbortError(new Elided());
    this.#running += 1;
    try {
      const startedAt = clock.now();
      if (members.isUnknown(member)) {
        const unknown = member;
        slot.member = unknown;
        await this.#probed(unknown, () => this.#locate(startedAt, unknown));
        if (signal.aborted || !isWanted(this.#running - 1)) throw new AbortError(new Elided());
        member = members.toDial(clock.now());
        if (member === undefined) throw new AbortError(new Elided());
      }
      const found = member;
      slot.member = found;
      return await this.#probed(found, () => this.#dial(slot, found, startedAt));
    } finally {
      this.#running -= 1;
    }
  }

  /** While an endpoint fails, nobody else dials it. */
  async #probed<T>(member: PoolMember<In, Out>, attempt: () => Promise<T>): Promise<T> {
    const isProbe = member.backoff.isFailing;
    if (isProbe) member.isProbing = true;
    try {
      return await attempt();
    } finally {
      if (isProbe) member.isProbing = false;
    }
  }

  /** Which endpoints there are. To find that out is as good as a dial: it may fail, and then has its back-off. */
  async #locate(startedAt: number, unknown: PoolMember<In, Out>): Promise<void> {
    const { clock, connectTimeoutMs, locate, signal } = this.#parts;
    try {
      await locate(signal, startedAt + connectTimeoutMs);
      unknown.backoff.opened(startedAt, clock.now());
    } catch (thrown) {
      throw this.#failed(thrown, unknown, startedAt);
    }
  }

  async #dial(
    slot: Slot<In, Out>,
    member: PoolMember<In, Out>,
    startedAt: number,
  ): Promise<Connection<In, Out>> {
    const { clock, connect, connectTimeoutMs, members, onSlow, signal } = this.#parts;
    let isSlow = false;
    let hasOpened = false;
    let isOver = false;
    const timer =
      members.size < 2
        ? undefined
        : clock.after(SLOW_MS, () => {
            // One turn: it may have been our own loop that took long.
            clock.turn(() => {
              if (isOver) return;
              isSlow = true;
              members.onSlow(member);
              onSlow();
            });
          });
    // Whoever opens one to an endpoint that has left would have to close it at once.
    const cut = member.leaving === undefined ? undefined : new AbortController();
    const stops = [signal, member.leaving].map((one) => {
      return cut === undefined || one === undefined ? undefined : onAbort(one, () => cut.abort(one.reason));
    });
    members.onDial(member);
    try {
      const connection = await connect(slot, member, cut?.signal ?? signal, startedAt + connectTimeoutMs);
      // It may have died in the turns since.
      if (!connection.isOpen) throw connection.error ?? new Error('the connection ended at once');
      member.backoff.opened(startedAt, clock.now());
      hasOpened = true;
      return connection;
    } catch (thrown) {
      throw this.#failed(thrown, member, startedAt);
    } finally {
      isOver = true;
      timer?.cancel();
      for (const stop of stops) stop?.();
      members.onDialed(member, isSlow, hasOpened);
    }
  }

  /** Tells of a failure. Returns what is to be thrown for it. */
  #failed(thrown: unknown, member: PoolMember<In, Out>, startedAt: number): Error {
    const { clock, onFailed, signal } = this.#parts;
    if (signal.aborted || member.isGone) return new AbortError(new Elided());
    const error = this.#explain(thrown);
    onFailed(error, member, startedAt, member.backoff.failed(error, startedAt, clock.now()));
    return error;
  }

  /** Not even the error of a function of the user's may escape: whoever waits would wait for ever. */
  #explain(error: unknown): PulsepoolError {
    if (error instanceof PulsepoolError) return error;
    const what = messageOf(error);
    return new PulsepoolError('ERR_CONNECT', `Could not connect to ${this.#parts.endpoint}: ${what}`, {
      retryable: false,
      hint: 'Something that was called for the new connection threw, such as the codec’s factory: see the cause.',
      cause: error,
    });
  }
}

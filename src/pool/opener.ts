/**
 * Opens connections: p-retry around one dial at a time, each under the back-off of its endpoint. It decides when an
 * attempt may start and when to give up; how a dial works, to which endpoint the next one goes, and who is waiting for
 * it, is told from outside.
 *
 * While an endpoint is failing there is a single probe of it: whoever finds no other endpoint ends quietly
 * (`elided`), and the pool asks again when the probe has an answer.
 */
import pRetry, { AbortError } from 'p-retry';
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
  /** One attempt: dial and handshake. Destroys what comes late. */
  readonly connect: (slot: Slot<In, Out>, signal: AbortSignal) => Promise<Connection<In, Out>>;
  readonly members: DialTargets<In, Out>;
  /** Attempts after the first one, unless there are more endpoints to be tried. */
  readonly retries: number;
  readonly clock: Clock;
  /** Aborted when the pool closes. */
  readonly signal: AbortSignal;
  /** Whether an attempt that has not started is still worth starting, given how many are running. */
  readonly isWanted: (running: number) => boolean;
  readonly onFailed: (error: PulsepoolError, member: PoolMember<In, Out>, backoffMs: number) => void;
}

/** The endpoints, as whoever dials sees them. */
export interface DialTargets<In, Out> {
  readonly size: number;
  /** How long all of them have to be left alone, in ms; 0 when one may be dialed at once. */
  readonly waitMs: (now: number) => number;
  /** The one to be dialed now; none while those that may be dialed are being probed. */
  readonly toDial: (now: number) => PoolMember<In, Out> | undefined;
  /** A dial to it begins, and has ended. */
  readonly onDial: (member: PoolMember<In, Out>) => void;
  readonly onDialed: (member: PoolMember<In, Out>) => void;
}

class Elided extends Error {}

/** See the file's comment. */
export class Opener<In, Out> {
  readonly #parts: OpenerParts<In, Out>;
  #running = 0;
  // A whole series of attempts has failed since the last success: more series are one attempt long.
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
    try {
      const connection = await pRetry(() => this.#attempt(slot), {
        retries: this.#isDown ? 0 : Math.max(this.#parts.retries, this.#parts.members.size - 1),
        // The wait is the endpoint's own, in #attempt: p-retry's has no jitter once it reaches its cap.
        minTimeout: 0,
        factor: 1,
        shouldRetry: ({ error }) => error instanceof PulsepoolError && error.retryable,
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
    const { clock, connect, isWanted, members, onFailed, signal } = this.#parts;
    // Time may have been added while we slept.
    for (let wait = members.waitMs(clock.now()); wait > 0; wait = members.waitMs(clock.now())) {
      await pause(wait, clock, signal);
      if (signal.aborted) break;
    }
    const isNeeded = !signal.aborted && isWanted(this.#running);
    const member = isNeeded ? members.toDial(clock.now()) : undefined;
    if (member === undefined) throw new AbortError(new Elided());
    const { backoff } = member;
    const isProbe = backoff.isFailing;
    if (isProbe) member.isProbing = true;
    slot.member = member;
    this.#running += 1;
    members.onDial(member);
    const startedAt = clock.now();
    try {
      const connection = await connect(slot, signal);
      // It may have died in the turns since.
      if (!connection.isOpen) throw connection.error ?? new Error('the connection ended at once');
      backoff.opened(startedAt, clock.now());
      return connection;
    } catch (thrown) {
      if (signal.aborted) throw new AbortError(new Elided());
      const error = this.#explain(thrown);
      onFailed(error, member, backoff.failed(error, startedAt, clock.now()));
      throw error;
    } finally {
      this.#running -= 1;
      members.onDialed(member);
      if (isProbe) member.isProbing = false;
    }
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

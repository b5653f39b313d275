/**
 * The dials of one pool: where slots come into being. It knows whether one more may exist, how many dials may run side by
 * side, and how each one ended. How many are wanted, and who gets a new socket, is the roster's business.
 */
import { AsyncResource } from 'node:async_hooks';
import type { Clock, RandomSource } from '../clock.ts';
import type { PulsepoolError } from '../errors.ts';
import { messageOf } from '../errors.ts';
import type { BackoffBounds } from '../transport/backoff.ts';
import type { Connection } from '../transport/connection.ts';
import { Ledger } from './ledger.ts';
import type { Members } from './members.ts';
import { type Connect, Opener, type Opening } from './opener.ts';
import type { PoolMember } from './pool-member.ts';
import type { Slot } from './slot.ts';

/** Who wanted the slots. */
export interface DialsOwner<In, Out> {
  /** How many dials there is a use for now. */
  readonly wanted: () => number;
  readonly onOpened: (slot: Slot<In, Out>, connection: Connection<In, Out>, dialMs: number) => void;
  /** It has no socket, and never will. With an error, the dial has failed for good; without, it was not needed. */
  readonly onNotOpened: (slot: Slot<In, Out>, error: PulsepoolError | undefined) => void;
  /** One attempt has failed; there may be more. */
  readonly onDialFailed: (
    error: PulsepoolError,
    member: PoolMember<In, Out>,
    startedAt: number,
    backoffMs: number,
  ) => void;
  /** There is a use for more dials: one takes long, and another endpoint may be quicker. */
  readonly onSlow: () => void;
}

/** What a set of dials needs. */
export interface DialsParts<In, Out> {
  readonly endpoint: string;
  readonly sizes: { readonly max: number };
  readonly maxConnecting: number;
  readonly retry: BackoffBounds & { readonly retries: number };
  readonly connect: Connect<In, Out>;
  /** Finds out which endpoints there are; rejects when none may be dialed. */
  readonly locate: (signal: AbortSignal, deadlineAt: number) => Promise<void>;
  /** DNS, TCP, TLS and handshake together, in ms. */
  readonly connectTimeoutMs: number;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly members: Members<In, Out>;
}

// Whoever comes so shortly before the next attempt had better wait for it: the server may just have come back.
const SOON_MS = 100;

/** See the file's comment. */
export class Dials<In, Out> {
  readonly #owner: DialsOwner<In, Out>;
  readonly #clock: Clock;
  readonly #ledger: Ledger<Slot<In, Out>>;
  readonly #members: Members<In, Out>;
  readonly #opener: Opener<In, Out>;
  readonly #maxConnecting: number;
  // Dials side by side while open sockets serve: see `limit`.
  #ramp = 1;
  readonly #aborter: AbortController = new AbortController();
  // Dials run in the context in which the pool was made, not in that of the caller who happened to need one: a
  // socket's events, and the timers set when it opens, keep that context for life.
  readonly #context: AsyncResource = new AsyncResource('pulsepool');

  constructor(parts: DialsParts<In, Out>, owner: DialsOwner<In, Out>) {
    const { clock, members, retry } = parts;
    this.#owner = owner;
    this.#clock = clock;
    this.#ledger = new Ledger(parts.sizes.max);
    this.#maxConnecting = parts.maxConnecting;
    this.#members = members;
    this.#opener = new Opener({
      ...parts,
      retries: retry.retries,
      signal: this.#aborter.signal,
      isWanted: (running) => running < owner.wanted(),
      onFailed: (error, member, startedAt, backoffMs) =>
        owner.onDialFailed(error, member, startedAt, backoffMs),
      onSlow: () => owner.onSlow(),
    });
  }

  /** Whether one more slot may exist. */
  get hasRoom(): boolean {
    return this.#ledger.hasRoom;
  }

  /** Slots on the books. */
  get size(): number {
    return this.#ledger.size;
  }

  /** Whether the newest thing known about each endpoint is a failure. */
  get isFailing(): boolean {
    return this.#members.isFailing;
  }

  /** Why the last dial failed, however long ago. */
  get lastFailure(): PulsepoolError | undefined {
    return this.#members.lastFailure;
  }

  /** All endpoints are known to be down: every attempt has failed, and the next one is not due soon. */
  get isDown(): boolean {
    return this.#opener.isDown && this.#members.waitMs(this.#clock.now()) > SOON_MS;
  }

  /** When the next attempt is due, in ms from now. */
  get waitMs(): number {
    return this.#members.waitMs(this.#clock.now());
  }

  /**
   * How many dials may run side by side. While all endpoints fail: a single probe. While open sockets are serving
   * callers, who may all be served before a dial is done: one, and twice as many after each that was still needed. Those
   * that take long do not count, as long as another endpoint may be quicker.
   */
  limit(isServing: boolean): number {
    const { isFailing, slow } = this.#members;
    if (isFailing) return 1 + slow;
    return (isServing ? Math.min(this.#ramp, this.#maxConnecting) : this.#maxConnecting) + slow;
  }

  /** A dial is done, and somebody was waiting for its socket, or nobody. */
  learn(wasNeeded: boolean): void {
    this.#ramp = wasNeeded ? Math.min(this.#ramp * 2, this.#maxConnecting) : 1;
  }

  /** Changes how many slots may exist. */
  resize(max: number): void {
    this.#ledger.resize(max);
  }

  /** Enters a slot on the books and opens its socket. Ask `hasRoom` first. */
  start(slot: Slot<In, Out>): void {
    const startedAt = this.#clock.now();
    let opening: Opening<In, Out> = { kind: 'elided' };
    const birth = (): Promise<void> =>
      this.#context.runInAsyncScope(async () => {
        opening = await this.#opener.open(slot);
      });
    this.#context.runInAsyncScope(() => {
      this.#ledger
        .enter(slot, birth)
        .then(() => this.#onEntered(slot, opening, startedAt))
        .catch(warn);
    });
  }

  /** Takes a slot off the books: its place is free at once. */
  forget(slot: Slot<In, Out>): void {
    this.#ledger.strike(slot);
  }

  /** A socket was lost that should have lived: as good as a failed dial, or its server would be dialed for ever. */
  countLoss(slot: Slot<In, Out>, error: PulsepoolError, openedAt: number): void {
    if (slot.member !== undefined) this.#members.onLoss(slot.member, error, openedAt, this.#clock.now());
  }

  /** Ends every dial that runs or waits; none is started any more. */
  abort(): void {
    this.#aborter.abort();
  }

  /** Closes the books. Every slot must be off them. */
  end(): Promise<void> {
    this.#aborter.abort();
    return this.#ledger.end();
  }

  #onEntered(slot: Slot<In, Out>, opening: Opening<In, Out>, startedAt: number): void {
    if (opening.kind !== 'opened') {
      this.#owner.onNotOpened(slot, opening.kind === 'failed' ? opening.error : undefined);
      return;
    }
    const { connection } = opening;
    if (slot.member !== undefined) this.#members.onArrived(slot.member);
    const now = this.#clock.now();
    if (connection.isOpen) {
      this.#owner.onOpened(slot, connection, now - startedAt);
      return;
    }
    if (connection.error !== undefined) this.countLoss(slot, connection.error, connection.openedAt);
    this.#owner.onNotOpened(slot, undefined);
  }
}

function warn(error: unknown): void {
  // Nothing above is meant to throw. If it does, hiding it would leave callers waiting for ever.
  process.emitWarning(error instanceof Error ? error : messageOf(error), 'PulsepoolWarning');
}

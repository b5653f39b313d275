/**
 * The roster: every slot of the pool, who holds it, and who waits. It decides which caller gets which socket,
 * when one more is opened, and what a socket's end leads to.
 *
 * Bytes are the connection's business, dials the opener's, pings the heartbeat's; callers talk to the pool.
 */
import { AsyncResource } from 'node:async_hooks';
import type { Clock, ProcessHold, RandomSource } from '../clock.ts';
import { AcquireError, formatCounts, PulsepoolError } from '../errors.ts';
import { Heartbeat, type HeartbeatSettings } from '../heartbeat/heartbeat.ts';
import { Backoff, type BackoffBounds } from '../transport/backoff.ts';
import type { CloseReason } from '../transport/close-reason.ts';
import type { Connection } from '../transport/connection.ts';
import type { Announcer } from './announcer.ts';
import { Lease, type LeaseHome } from './lease.ts';
import { Ledger } from './ledger.ts';
import { Opener, type Opening } from './opener.ts';
import { Shelf } from './shelf.ts';
import { Slot, type SlotKeeper, SlotTally } from './slot.ts';
import { Counters } from './stats.ts';
import { Sweep } from './sweep.ts';
import { type Waiter, Waiters, type WaitOptions } from './waiters.ts';

/** What a roster is made of; `createPool` fills it in. */
export interface RosterParts<In, Out> {
  readonly endpoint: string;
  readonly min: number;
  readonly maxIdle: number;
  readonly max: number;
  readonly acquireTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxLifetimeMs: number;
  readonly heartbeat: HeartbeatSettings | undefined;
  readonly retry: BackoffBounds & { readonly retries: number };
  /** One attempt to dial, handshake included. */
  readonly connect: (slot: Slot<In, Out>, signal: AbortSignal) => Promise<Connection<In, Out>>;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly hold: ProcessHold;
}

/** Told once: every slot meant to be open is, or the dial has failed for good. */
export interface ReadyWatcher {
  readonly onReady: () => void;
  readonly onFailed: (error: PulsepoolError) => void;
}

// A socket that spoke or was checked this recently is lent as it is. One that rested longer is given two turns of the event
// loop first, in which a FIN or RST that the kernel holds is read: 2 us, no round trip. The bound is as short as
// a stall of the loop that goes unnoticed.
const FRESH_MS = 25;

// Dials at once while nothing is open, and while open sockets turn over. MongoDB's maxConnecting is 2.
const COLD_DIALS = 4;
const WARM_DIALS = 2;

// Lifetimes are shortened by up to this share, so that sockets opened together do not end together.
const LIFETIME_JITTER = 0.1;

/** See the file's comment. */
export class Roster<In, Out> implements LeaseHome<In, Out>, SlotKeeper<In, Out> {
  readonly tally: SlotTally = new SlotTally();
  readonly counters: Counters = new Counters();
  readonly waiters: Waiters<Lease<In, Out>>;
  readonly #parts: RosterParts<In, Out>;
  readonly #announcer: Announcer;
  readonly #slots: Set<Slot<In, Out>> = new Set();
  readonly #shelf: Shelf<In, Out> = new Shelf();
  readonly #ledger: Ledger<Slot<In, Out>>;
  readonly #heartbeat: Heartbeat | undefined;
  readonly #backoff: Backoff;
  readonly #opener: Opener<In, Out>;
  readonly #sweep: Sweep;
  readonly #dials: AbortController = new AbortController();
  // Dials run in the context in which the pool was made, not in that of the caller who happened to need one: a
  // socket's events keep that context for life.
  readonly #context: AsyncResource = new AsyncResource('pulsepool');
  readonly #readyWatchers: Set<ReadyWatcher> = new Set();
  #lastId = 0;
  // Slots being checked for a waiter, and slots whose first ping is out: both are likely to serve one soon.
  #borrowChecks = 0;
  #firstPings = 0;
  #isDraining = false;
  #onEmpty: (() => void) | undefined;

  constructor(parts: RosterParts<In, Out>, announcer: Announcer) {
    const { clock, hold, random } = parts;
    this.#parts = parts;
    this.#announcer = announcer;
    this.#ledger = new Ledger(parts.max);
    this.waiters = new Waiters(parts.acquireTimeoutMs, clock, hold, {
      onTimeout: (waiter) => this.#timeOut(waiter),
      onGone: () => this.#onWaiterGone(),
    });
    this.#heartbeat =
      parts.heartbeat === undefined
        ? undefined
        : new Heartbeat(parts.heartbeat, clock, random, (lateMs) => {
            this.counters.suspended += 1;
            announcer.tell('suspended', { lateMs });
          });
    this.#backoff = new Backoff(parts.retry, random);
    this.#opener = new Opener({
      connect: parts.connect,
      backoff: this.#backoff,
      retries: parts.retry.retries,
      clock,
      signal: this.#dials.signal,
      isWanted: (running) => running < this.#wanted(),
      onFailed: (error, backoffMs) => {
        this.counters.dialFailed += 1;
        announcer.tell('dialFailed', {
          endpoint: parts.endpoint,
          error,
          failures: this.#backoff.failures,
          backoffMs,
        });
      },
    });
    this.#sweep = new Sweep(
      [parts.idleTimeoutMs, parts.maxLifetimeMs],
      clock,
      (now) => this.#retire(now),
      () => this.#slots.size > 0,
    );
  }

  /** A socket that can be lent this very moment, if there is one. The warm path of `acquire`. */
  lendFresh(): Lease<In, Out> | undefined {
    const slot = this.#shelf.top;
    if (slot === undefined || this.waiters.size > 0 || slot.state.name !== 'idle') return undefined;
    const now = this.#parts.clock.now();
    const { connection } = slot.state;
    if (now - connection.lastReadAt >= FRESH_MS && now - slot.checkedAt >= FRESH_MS) return undefined;
    this.#shelf.remove(slot);
    return this.#lend(slot, connection, now, undefined);
  }

  /** Joins the queue. */
  wait(options: WaitOptions | undefined): Promise<Lease<In, Out>> {
    const lease = this.waiters.wait(options);
    this.serve();
    return lease;
  }

  /** A lease has ended: the socket goes to the next caller, to the shelf, or away. */
  takeBack(slot: Slot<In, Out>, lease: Lease<In, Out>): void {
    const { state } = slot;
    // The socket may have died in the caller's hands; then its slot is somebody else's business already.
    if (state.name !== 'leased' || state.lease !== lease) return;
    const { connection } = state;
    if (!connection.isClean) {
      connection.destroy('dirty');
      return;
    }
    connection.rest();
    this.tally.takeBack(slot, connection);
    if (slot.isExpired) connection.end('lifetime');
    else this.#offer(slot, connection);
    if (this.#announcer.hears('released')) {
      const heldMs = this.#parts.clock.now() - lease.acquiredAt;
      this.#announcer.tell('released', { connectionId: slot.id, heldMs });
    }
  }

  /** Gives waiters what there is, and opens what is missing. Safe to call at any time. */
  serve(): void {
    while (this.waiters.size > this.#borrowChecks) {
      const slot = this.#shelf.top;
      if (slot === undefined || slot.state.name !== 'idle') break;
      this.#shelf.remove(slot);
      this.#handOver(slot, slot.state.connection);
    }
    if (this.#isDraining) this.#drainWaiters();
    else this.#grow();
  }

  /** Watches until `min` sockets are open, at least one. Returns how to stop watching. */
  watchReady(watcher: ReadyWatcher): () => void {
    this.#readyWatchers.add(watcher);
    if (this.isReady) watcher.onReady();
    else this.serve();
    return () => {
      this.#readyWatchers.delete(watcher);
    };
  }

  /** Whether `min` sockets are open, and at least one. */
  get isReady(): boolean {
    return this.tally.open >= Math.max(this.#parts.min, 1);
  }

  /** The counts as users see them. */
  get counts(): ReturnType<SlotTally['snapshot']> {
    return this.tally.snapshot(this.waiters.size);
  }

  /** Starts to close: nothing new is opened, idle sockets end. Resolves when no slot is left. */
  drain(): Promise<void> {
    this.#isDraining = true;
    this.#sweep.end();
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    this.serve();
    for (const slot of this.#slots) {
      if (slot.state.name === 'idle' || (slot.state.name === 'checking' && slot.state.by === 'heartbeat')) {
        slot.state.connection.end('shutdown');
      }
    }
    this.#checkEmpty();
    return empty;
  }

  /** Ends whatever is left, by force. Returns how many leases were cut off. */
  kill(error: PulsepoolError): number {
    this.waiters.rejectAll(() => error);
    this.#dials.abort(error);
    const forced = this.tally.count('leased');
    for (const slot of this.#slots) {
      if (slot.state.name !== 'dialing' && slot.state.name !== 'closed')
        slot.state.connection.destroy('shutdown', error);
    }
    return forced;
  }

  /** Stops every timer. No slot may be left. */
  async end(): Promise<void> {
    this.#dials.abort();
    this.#heartbeat?.end();
    this.#sweep.end();
    this.waiters.end();
    await this.#ledger.end();
  }

  /** The story of a caller who got nothing. */
  acquireError(
    code: 'ERR_ACQUIRE_TIMEOUT' | 'ERR_ACQUIRE_FAILED' | 'ERR_POOL_CLOSED',
    waitedMs: number,
  ): AcquireError {
    const counts = this.counts;
    const cause = this.#backoff.lastError;
    const spent = Math.round(waitedMs);
    const numbers = formatCounts(counts);
    const { endpoint, max } = this.#parts;
    switch (code) {
      case 'ERR_POOL_CLOSED':
        return new AcquireError(code, `The pool to ${endpoint} is closed or closing (${numbers}).`, {
          retryable: false,
          hint: 'Close the pool last, when nothing can call it any more.',
          waitedMs,
          counts,
        });
      case 'ERR_ACQUIRE_FAILED':
        return new AcquireError(
          code,
          `Could not open a connection to ${endpoint} after ${spent} ms (${numbers}): ${cause?.message ?? 'unknown'}`,
          {
            retryable: cause?.retryable ?? true,
            hint: cause?.hint ?? 'See the cause.',
            cause,
            waitedMs,
            counts,
          },
        );
      case 'ERR_ACQUIRE_TIMEOUT':
        return new AcquireError(
          code,
          `No socket to ${endpoint} became free within ${spent} ms (${numbers}).`,
          {
            retryable: true,
            hint:
              counts.leased >= max
                ? 'All sockets are leased: look for leases that are never released, for a slow server, or raise `max`.'
                : 'Sockets could not be opened in time: see the cause, and the dialFailed events.',
            // With sockets open and all of them leased, an old dial failure is not why.
            ...(this.#backoff.isFailing ? { cause } : {}),
            waitedMs,
            counts,
          },
        );
    }
  }

  // ---- lending -------------------------------------------------------------------------------------------

  #lend(
    slot: Slot<In, Out>,
    connection: Connection<In, Out>,
    now: number,
    waiter: Waiter<Lease<In, Out>> | undefined,
  ): Lease<In, Out> {
    const lease = new Lease(slot, connection, this, now);
    this.tally.lend(slot, connection, lease);
    connection.serve();
    slot.uses += 1;
    this.counters.acquired += 1;
    if (waiter !== undefined) this.counters.waited += 1;
    if (this.#announcer.hears('acquired')) {
      this.#announcer.tell('acquired', {
        connectionId: slot.id,
        waitedMs: waiter === undefined ? 0 : now - waiter.since,
      });
    }
    return lease;
  }

  /** An idle slot that is on no shelf finds its next place. */
  #offer(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    if (this.waiters.size > 0) this.#handOver(slot, connection);
    else if (this.#isDraining) connection.end('shutdown');
    else if (this.#shelf.size >= this.#parts.maxIdle) connection.end('surplus');
    else this.#shelf.push(slot);
  }

  /** Lends an idle slot to the first waiter, after a check when it has rested. */
  #handOver(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    const now = this.#parts.clock.now();
    const silentMs = now - connection.lastReadAt;
    if (silentMs < FRESH_MS || now - slot.checkedAt < FRESH_MS) {
      this.#giveToWaiter(slot, connection, now);
      return;
    }
    this.tally.move(slot, { name: 'checking', connection, by: 'borrow' });
    this.#borrowChecks += 1;
    if (
      slot.beat !== undefined &&
      this.#parts.heartbeat !== undefined &&
      silentMs > this.#parts.heartbeat.intervalMs
    ) {
      this.#heartbeat?.checkNow(slot.beat);
      return;
    }
    // Two turns: from an I/O callback, the first one runs before the next poll.
    const { clock } = this.#parts;
    clock.turn(() => clock.turn(() => this.#onChecked(slot)));
  }

  #onChecked(slot: Slot<In, Out>): void {
    const { state } = slot;
    if (state.name !== 'checking') return;
    if (state.by === 'borrow') this.#borrowChecks -= 1;
    this.tally.move(slot, { name: 'idle', connection: state.connection });
    slot.checkedAt = this.#parts.clock.now();
    this.#offer(slot, state.connection);
  }

  #giveToWaiter(slot: Slot<In, Out>, connection: Connection<In, Out>, now: number): void {
    const waiter = this.waiters.shift();
    if (waiter === undefined) throw new Error('bug: a slot was handed over with nobody waiting');
    waiter.resolve(this.#lend(slot, connection, now, waiter));
  }

  #timeOut(waiter: Waiter<Lease<In, Out>>): void {
    this.counters.timedOut += 1;
    const error = this.acquireError('ERR_ACQUIRE_TIMEOUT', this.#parts.clock.now() - waiter.since);
    waiter.reject(error);
    this.#announcer.tell('acquireFailed', { error });
  }

  #onWaiterGone(): void {
    if (this.#isDraining) this.serve();
  }

  // ---- opening -------------------------------------------------------------------------------------------

  /** How many dials there is a use for. */
  #wanted(): number {
    if (this.#isDraining) return 0;
    const { min } = this.#parts;
    const floor = this.#readyWatchers.size > 0 ? Math.max(min, 1) : min;
    return Math.max(this.waiters.size - this.#borrowChecks - this.#firstPings, floor - this.tally.open);
  }

  #grow(): void {
    const limit = this.#backoff.isFailing ? 1 : this.tally.open === 0 ? COLD_DIALS : WARM_DIALS;
    const wanted = Math.min(this.#wanted(), limit);
    while (this.tally.count('dialing') < wanted) {
      if (!this.#ledger.hasRoom) {
        this.#sacrificeSuspect();
        return;
      }
      this.#open();
    }
  }

  /** A socket that missed a ping holds a place that a waiter needs: it is not worth another interval. */
  #sacrificeSuspect(): void {
    if (this.waiters.size === 0) return;
    for (const slot of this.#slots) {
      const { state } = slot;
      if (state.name === 'checking' && slot.beat !== undefined && slot.beat.missed > 0) {
        state.connection.destroy('heartbeat', this.#heartbeatError(slot.beat.missed));
        return;
      }
    }
  }

  #open(): void {
    this.#lastId += 1;
    const slot = new Slot<In, Out>(this.#lastId, this);
    const startedAt = this.#parts.clock.now();
    this.tally.add();
    this.#slots.add(slot);
    let opening: Opening<In, Out> = { kind: 'elided' };
    const birth = async (): Promise<void> => {
      opening = await this.#opener.open(slot);
    };
    this.#context
      .runInAsyncScope(() => this.#ledger.enter(slot, birth))
      .then(() => this.#onOpened(slot, opening, startedAt))
      .catch((error: unknown) => this.#onBug(error));
  }

  #onOpened(slot: Slot<In, Out>, opening: Opening<In, Out>, startedAt: number): void {
    const { clock, endpoint, maxLifetimeMs, random } = this.#parts;
    if (opening.kind !== 'opened' || !opening.connection.isOpen) {
      this.#forget(slot);
      if (opening.kind === 'failed') this.#onOutOfReach(opening.error);
      if (opening.kind === 'opened') this.#countBirthFailure(opening.connection, clock.now());
      this.serve();
      return;
    }
    const { connection } = opening;
    this.tally.move(slot, { name: 'idle', connection });
    slot.expiresAt = connection.openedAt + maxLifetimeMs * (1 - LIFETIME_JITTER * random());
    slot.beat = this.#heartbeat?.watch(slot);
    this.counters.opened += 1;
    if (!this.#isDraining) this.#sweep.start();
    this.#offer(slot, connection);
    if (this.isReady) for (const watcher of this.#readyWatchers) watcher.onReady();
    this.#announcer.tell('opened', { connectionId: slot.id, endpoint, dialMs: clock.now() - startedAt });
    this.serve();
  }

  /** The dial has failed for good. Whoever has no open socket to hope for is told why, at once. */
  #onOutOfReach(error: PulsepoolError): void {
    for (const watcher of this.#readyWatchers) watcher.onFailed(error);
    if (this.tally.open > 0) return;
    const { clock } = this.#parts;
    const now = clock.now();
    this.waiters.rejectAll((waiter) => {
      const failure = this.acquireError('ERR_ACQUIRE_FAILED', now - waiter.since);
      this.#announcer.tell('acquireFailed', { error: failure });
      return failure;
    });
  }

  /** A server that accepts and then closes counts as one that can't be dialed, or it would be dialed for ever. */
  #countBirthFailure(connection: Connection<In, Out>, now: number): void {
    if (connection.error === undefined || !connection.diedYoung) return;
    this.#backoff.failed(connection.error, now, now);
  }

  // ---- what a socket tells -------------------------------------------------------------------------------

  /** @internal */
  ping(slot: Slot<In, Out>): boolean {
    const { state } = slot;
    if (state.name === 'idle') {
      this.#shelf.remove(slot);
      this.tally.move(slot, { name: 'checking', connection: state.connection, by: 'heartbeat' });
      this.#firstPings += 1;
      slot.isFirstPing = true;
    } else if (state.name !== 'checking') {
      return false;
    }
    state.connection.ping();
    return state.connection.isOpen;
  }

  /** @internal */
  onPong(slot: Slot<In, Out>): void {
    const { state, beat } = slot;
    if (state.name !== 'checking' || beat === undefined) return;
    this.#loseHope(slot);
    const rttMs = this.#heartbeat?.answered(beat) ?? 0;
    this.counters.pinged += 1;
    this.#onChecked(slot);
    if (this.#announcer.hears('pinged')) this.#announcer.tell('pinged', { connectionId: slot.id, rttMs });
  }

  /** @internal */
  onMissed(slot: Slot<In, Out>, missed: number): void {
    const maxMissed = this.#parts.heartbeat?.maxMissed ?? 0;
    this.#loseHope(slot);
    this.counters.pingMissed += 1;
    this.#announcer.tell('pingMissed', { connectionId: slot.id, missed, maxMissed });
    // It no longer counts as likely to serve: a waiter may need another socket now.
    this.serve();
  }

  /** @internal */
  onDead(slot: Slot<In, Out>, missed: number): void {
    const { state } = slot;
    this.counters.pingMissed += 1;
    this.#announcer.tell('pingMissed', {
      connectionId: slot.id,
      missed,
      maxMissed: this.#parts.heartbeat?.maxMissed ?? 0,
    });
    if (state.name === 'checking') state.connection.destroy('heartbeat', this.#heartbeatError(missed));
  }

  /** @internal */
  onEnding(slot: Slot<In, Out>, reason: CloseReason, error: PulsepoolError | undefined): void {
    const { state, beat } = slot;
    // While dialing, the opener has the connection and notices by itself.
    if (state.name === 'dialing' || state.name === 'closing' || state.name === 'closed') return;
    const { connection } = state;
    if (state.name === 'checking') {
      if (state.by === 'borrow') this.#borrowChecks -= 1;
      else this.#loseHope(slot);
    }
    this.#shelf.remove(slot);
    if (beat !== undefined) this.#heartbeat?.unwatch(beat);
    this.tally.move(slot, { name: 'closing', connection, reason });
    this.counters.countClosed(reason);
    const now = this.#parts.clock.now();
    this.#countBirthFailure(connection, now);
    if (this.#announcer.hears('closed')) {
      this.#announcer.tell('closed', {
        connectionId: slot.id,
        endpoint: this.#parts.endpoint,
        reason,
        error,
        ageMs: now - connection.openedAt,
        uses: slot.uses,
      });
    }
  }

  /** @internal */
  onClosed(slot: Slot<In, Out>): void {
    if (slot.state.name !== 'closing') return;
    this.#forget(slot);
    this.serve();
  }

  #forget(slot: Slot<In, Out>): void {
    this.tally.move(slot, { name: 'closed' });
    this.#slots.delete(slot);
    this.#ledger.strike(slot);
    this.#checkEmpty();
  }

  /** Its first ping was answered or missed: it no longer counts as likely to serve a waiter soon. */
  #loseHope(slot: Slot<In, Out>): void {
    if (!slot.isFirstPing) return;
    slot.isFirstPing = false;
    this.#firstPings -= 1;
  }

  #heartbeatError(missed: number): PulsepoolError {
    return new PulsepoolError(
      'ERR_HEARTBEAT',
      `${this.#parts.endpoint} did not answer ${missed} ping(s) in a row.`,
      {
        retryable: true,
        hint: 'The server is stuck or gone, or something in between drops packets.',
      },
    );
  }

  // ---- ending --------------------------------------------------------------------------------------------

  #retire(now: number): void {
    const { idleTimeoutMs, min } = this.#parts;
    for (const slot of this.#slots) {
      if (slot.expiresAt > now || slot.isExpired) continue;
      slot.isExpired = true;
      if (slot.state.name === 'idle') slot.state.connection.end('lifetime');
    }
    let surplus = this.tally.open - min;
    for (let slot = this.#shelf.bottom; slot !== undefined && surplus > 0; ) {
      const { above, state } = slot;
      if (state.name === 'idle' && now - state.connection.lastUsedAt >= idleTimeoutMs) {
        surplus -= 1;
        state.connection.end('idle');
      }
      slot = above;
    }
    this.serve();
  }

  /** While draining, waiters are served by what is still open. When nothing is, they are told. */
  #drainWaiters(): void {
    if (this.waiters.size > 0 && this.tally.open === 0) {
      const now = this.#parts.clock.now();
      this.waiters.rejectAll((waiter) => this.acquireError('ERR_POOL_CLOSED', now - waiter.since));
    }
    if (this.waiters.size === 0) this.#dials.abort();
  }

  #checkEmpty(): void {
    if (this.#isDraining && this.#slots.size === 0) this.#onEmpty?.();
  }

  #onBug(error: unknown): void {
    // Nothing above is meant to throw. If it does, hiding it would leave callers waiting for ever.
    process.emitWarning(error instanceof Error ? error : String(error), 'PulsepoolWarning');
  }
}

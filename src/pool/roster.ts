/**
 * The roster: every slot of the pool, who holds it, and who waits. It decides which caller gets which socket,
 * when one more is opened, and what a socket's end leads to.
 *
 * Bytes are the connection's business, dials the dials', pings the heartbeat's; callers talk to the pool.
 */
import type { Clock, ProcessHold, RandomSource, Timer } from '../clock.ts';
import type { AcquireError, PulsepoolError } from '../errors.ts';
import type { CloseReason } from '../transport/close-reason.ts';
import type { Connection } from '../transport/connection.ts';
import {
  type AcquireStory,
  acquireFailedError,
  acquireTimeoutError,
  poolClosedError,
} from './acquire-error.ts';
import type { Announcer } from './announcer.ts';
import { Dials, type DialsParts } from './dials.ts';
import { Lease, type LeaseHome } from './lease.ts';
import { Pinger, type PingerParts } from './pinger.ts';
import { Readiness, type ReadyWatcher } from './readiness.ts';
import { Shelf } from './shelf.ts';
import { Slot, type SlotKeeper, SlotTally } from './slot.ts';
import { Counters } from './stats.ts';
import { Sweep } from './sweep.ts';
import { type Waiter, Waiters, type WaitOptions } from './waiters.ts';

/** What a roster is made of; `createPool` fills it in. */
export interface RosterParts<In, Out> extends DialsParts<In, Out>, PingerParts {
  readonly min: number;
  readonly maxIdle: number;
  readonly acquireTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxLifetimeMs: number;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly hold: ProcessHold;
}

// A socket that spoke or was checked this recently is lent as it is. One that rested longer is given two turns of
// the event loop first, in which a FIN or RST that the kernel holds is read: 2 us, no round trip. The bound is as
// short as a stall of the loop that goes unnoticed.
const FRESH_MS = 25;

// How long a waiter counts on a socket whose ping is out, before another one is opened: much longer than most round
// trips, much shorter than a ping's timeout.
const PATIENCE_MS = 100;

// Lifetimes are shortened by up to this share, so that sockets opened together do not end together.
const LIFETIME_JITTER = 0.1;

/** See the file's comment. */
export class Roster<In, Out> implements LeaseHome<In, Out>, SlotKeeper<In, Out> {
  readonly tally: SlotTally = new SlotTally();
  readonly counters: Counters = new Counters();
  readonly waiters: Waiters<Lease<In, Out>>;
  readonly dials: Dials<In, Out>;
  readonly #parts: RosterParts<In, Out>;
  readonly #announcer: Announcer;
  readonly #slots: Set<Slot<In, Out>> = new Set();
  readonly #shelf: Shelf<In, Out> = new Shelf();
  readonly #pinger: Pinger<In, Out>;
  readonly #readiness: Readiness;
  readonly #sweep: Sweep;
  #lastId = 0;
  // Slots being checked for a waiter: likely to serve one soon.
  #borrowChecks = 0;
  #patience: Timer | undefined;
  #isDraining = false;
  #onEmpty: (() => void) | undefined;

  constructor(parts: RosterParts<In, Out>, announcer: Announcer) {
    const { clock, endpoint, hold } = parts;
    this.#parts = parts;
    this.#announcer = announcer;
    this.waiters = new Waiters(parts.acquireTimeoutMs, clock, hold, {
      onTimeout: (waiter) => this.#timeOut(waiter),
      onGone: () => this.#onWaiterGone(),
    });
    this.#readiness = new Readiness(parts.min);
    this.#pinger = new Pinger(parts, this.counters, announcer, {
      withdraw: (slot) => this.#withdraw(slot),
      restore: (slot) => this.#onChecked(slot),
      onDoubt: () => this.serve(),
    });
    this.dials = new Dials(parts, {
      wanted: () => this.#wanted(),
      onOpened: (slot, connection, dialMs) => this.#onOpened(slot, connection, dialMs),
      onNotOpened: (slot, error) => this.#onNotOpened(slot, error),
      onDialFailed: (error, failures, backoffMs) => {
        this.counters.dialFailed += 1;
        announcer.tell('dialFailed', () => ({ endpoint, error, failures, backoffMs }));
      },
    });
    this.#sweep = new Sweep(
      [parts.idleTimeoutMs, parts.maxLifetimeMs],
      clock,
      (now) => this.#retire(now),
      () => this.#slots.size > 0 && !this.#isDraining,
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
    if (this.#announcer.hears('released')) this.#tellReleased(slot.id, lease.acquiredAt);
    this.#offer(slot, connection);
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
    if (this.waiters.size > 0 && this.#pinger.firstPings > 0) this.#armPatience();
  }

  /** Watches until `min` sockets are open, at least one. Returns how to stop watching. */
  watchReady(watcher: ReadyWatcher): () => void {
    const stop = this.#readiness.watch(watcher);
    this.#readiness.see(this.tally.open);
    this.serve();
    return stop;
  }

  /** The counts as users see them. */
  get counts(): ReturnType<SlotTally['snapshot']> {
    return this.tally.snapshot(this.waiters.size);
  }

  /** Starts to close: nothing new is opened, idle sockets end. Resolves when no slot is left. Call it once. */
  drain(): Promise<void> {
    this.#isDraining = true;
    this.#sweep.end();
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    this.#readiness.fail(this.closedError(0));
    this.serve();
    this.#checkEmpty();
    return empty;
  }

  /** Ends whatever is left, by force. Returns how many leases were cut off. */
  kill(error: PulsepoolError): number {
    const now = this.#parts.clock.now();
    this.waiters.rejectAll((waiter) => this.closedError(now - waiter.since));
    this.dials.abort();
    const forced = this.tally.count('leased');
    for (const slot of this.#slots) {
      if (slot.state.name !== 'dialing' && slot.state.name !== 'closed')
        slot.state.connection.destroy('shutdown', error);
    }
    return forced;
  }

  /** Stops every timer. No slot may be left. */
  async end(): Promise<void> {
    this.#pinger.end();
    this.#sweep.end();
    this.#patience?.cancel();
    this.waiters.end();
    await this.dials.end();
  }

  /** What a caller is told once the pool closes. */
  closedError(waitedMs: number): AcquireError {
    return poolClosedError(this.#story(waitedMs));
  }

  /** Whether the pool has begun to close. */
  get isClosing(): boolean {
    return this.#isDraining;
  }

  /** @internal What must add up after every step; read by tests. */
  get books(): {
    readonly slots: ReadonlySet<Slot<In, Out>>;
    readonly shelved: number;
    readonly borrowChecks: number;
    readonly firstPings: number;
  } {
    return {
      slots: this.#slots,
      shelved: this.#shelf.size,
      borrowChecks: this.#borrowChecks,
      firstPings: this.#pinger.firstPings,
    };
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
    connection.lastUsedAt = Math.floor(now);
    slot.uses += 1;
    this.counters.acquired += 1;
    if (waiter !== undefined) this.counters.waited += 1;
    if (this.#announcer.hears('acquired')) {
      this.#tellAcquired(slot.id, waiter === undefined ? 0 : now - waiter.since);
    }
    return lease;
  }

  // Apart, because a closure in #lend or takeBack would cost every acquire and release a context object.
  #tellAcquired(connectionId: number, waitedMs: number): void {
    this.#announcer.tell('acquired', () => ({ connectionId, waitedMs }));
  }

  #tellReleased(connectionId: number, acquiredAt: number): void {
    const heldMs = this.#parts.clock.now() - acquiredAt;
    this.#announcer.tell('released', () => ({ connectionId, heldMs }));
  }

  /** An idle slot that is on no shelf finds its next place. */
  #offer(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    if (slot.isExpired) {
      connection.end('lifetime');
      // A caller may have hoped for it while others rest.
      if (this.waiters.size > 0) this.serve();
    } else if (this.waiters.size > 0) this.#handOver(slot, connection);
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
    const mustPing = this.#pinger.mustPing(slot, silentMs);
    this.tally.move(slot, { name: 'checking', connection, by: mustPing ? 'borrow-ping' : 'borrow-turns' });
    slot.isBorrowCheck = true;
    this.#borrowChecks += 1;
    if (mustPing) {
      this.#armPatience();
      this.#pinger.check(slot);
      return;
    }
    // Two turns: from an I/O callback, the first one runs before the next poll.
    const { clock } = this.#parts;
    clock.turn(() => clock.turn(() => this.#onChecked(slot)));
  }

  #withdraw(slot: Slot<In, Out>): void {
    if (slot.state.name !== 'idle') return;
    this.#shelf.remove(slot);
    this.tally.move(slot, { name: 'checking', connection: slot.state.connection, by: 'heartbeat' });
  }

  #onChecked(slot: Slot<In, Out>): void {
    const { state } = slot;
    if (state.name !== 'checking') return;
    this.#endBorrowCheck(slot);
    this.tally.move(slot, { name: 'idle', connection: state.connection });
    slot.checkedAt = Math.floor(this.#parts.clock.now());
    this.#offer(slot, state.connection);
  }

  #endBorrowCheck(slot: Slot<In, Out>): void {
    if (!slot.isBorrowCheck) return;
    slot.isBorrowCheck = false;
    this.#borrowChecks -= 1;
  }

  #armPatience(): void {
    this.#patience ??= this.#parts.clock.after(PATIENCE_MS, () => {
      this.#patience = undefined;
      if (this.waiters.size === 0) return;
      for (const slot of this.#slots) {
        if (slot.state.name !== 'checking' || slot.state.by === 'borrow-turns') continue;
        this.#endBorrowCheck(slot);
        this.#pinger.loseHope(slot);
      }
      this.serve();
    });
  }

  #giveToWaiter(slot: Slot<In, Out>, connection: Connection<In, Out>, now: number): void {
    const waiter = this.waiters.shift();
    if (waiter === undefined) throw new Error('bug: a slot was handed over with nobody waiting');
    waiter.resolve(this.#lend(slot, connection, now, waiter));
    if (this.#isDraining && this.waiters.size === 0) this.#endResting();
  }

  #timeOut(waiter: Waiter<Lease<In, Out>>): void {
    this.counters.timedOut += 1;
    const error = acquireTimeoutError(this.#story(this.#parts.clock.now() - waiter.since));
    waiter.reject(error);
    this.#announcer.tell('acquireFailed', () => ({ error }));
  }

  #onWaiterGone(): void {
    if (this.#isDraining) this.serve();
  }

  #story(waitedMs: number): AcquireStory {
    const { endpoint, max } = this.#parts;
    const { isFailing, lastFailure } = this.dials;
    return { endpoint, max, waitedMs, counts: this.counts, lastFailure, isFailing };
  }

  // ---- opening -------------------------------------------------------------------------------------------

  /** How many dials there is a use for. */
  #wanted(): number {
    if (this.#isDraining) return 0;
    const unserved = this.waiters.size - this.#borrowChecks - this.#pinger.firstPings;
    return Math.max(unserved, this.#readiness.floor - this.tally.open);
  }

  #grow(): void {
    const wanted = Math.min(this.#wanted(), this.dials.limit(this.tally.open));
    while (this.tally.count('dialing') < wanted) {
      if (!this.dials.hasRoom) {
        this.#endSuspect();
        return;
      }
      this.#lastId += 1;
      const slot = new Slot<In, Out>(this.#lastId, this, this.#pinger);
      this.tally.add();
      this.#slots.add(slot);
      this.dials.start(slot);
    }
  }

  /** A socket that missed a ping holds a place that a waiter needs: it is not worth another interval. */
  #endSuspect(): void {
    // A place that is about to be free, or a dial under way, serves a waiter each.
    if (this.waiters.size <= this.tally.count('closing') + this.tally.count('dialing')) return;
    this.#pinger.endSuspect(this.#slots);
  }

  #onOpened(slot: Slot<In, Out>, connection: Connection<In, Out>, dialMs: number): void {
    const { endpoint, maxLifetimeMs, random } = this.#parts;
    this.tally.move(slot, { name: 'idle', connection });
    slot.expiresAt = Math.floor(connection.openedAt + maxLifetimeMs * (1 - LIFETIME_JITTER * random()));
    this.#pinger.watch(slot);
    this.counters.opened += 1;
    if (!this.#isDraining) this.#sweep.start();
    this.#announcer.tell('opened', () => ({ connectionId: slot.id, endpoint, dialMs }));
    // Before it is offered: with `maxIdle` 0 it may not stay.
    this.#readiness.see(this.tally.open);
    this.#offer(slot, connection);
    this.serve();
  }

  #onNotOpened(slot: Slot<In, Out>, error: PulsepoolError | undefined): void {
    this.#forget(slot);
    if (error !== undefined) this.#onOutOfReach(error);
    this.serve();
  }

  /** The dial has failed for good. Whoever has no open socket to hope for is told why, at once. */
  #onOutOfReach(error: PulsepoolError): void {
    this.#readiness.fail(error);
    if (this.tally.open > 0) return;
    const now = this.#parts.clock.now();
    this.waiters.rejectAll((waiter) => {
      const failure = acquireFailedError(this.#story(now - waiter.since));
      this.#announcer.tell('acquireFailed', () => ({ error: failure }));
      return failure;
    });
  }

  // ---- what a socket tells -------------------------------------------------------------------------------

  onEnding(slot: Slot<In, Out>, reason: CloseReason, error: PulsepoolError | undefined): void {
    const { state } = slot;
    // While dialing, the opener has the connection and notices by itself.
    if (state.name === 'dialing' || state.name === 'closing' || state.name === 'closed') return;
    const { connection } = state;
    const wasForBorrower = slot.isBorrowCheck;
    this.#endBorrowCheck(slot);
    this.#shelf.remove(slot);
    this.#pinger.unwatch(slot);
    this.tally.move(slot, { name: 'closing', connection, reason });
    this.counters.countClosed(reason);
    const ageMs = this.#parts.clock.now() - connection.openedAt;
    if (error !== undefined && connection.diedYoung) {
      this.dials.countLoss(error, connection.openedAt);
    }
    const { endpoint } = this.#parts;
    this.#announcer.tell('closed', () => {
      return { connectionId: slot.id, endpoint, reason, error, ageMs, uses: slot.uses };
    });
    // Its borrower need not wait until it has closed when another one rests.
    if (wasForBorrower) this.serve();
  }

  onClosed(slot: Slot<In, Out>): void {
    if (slot.state.name !== 'closing') return;
    this.#forget(slot);
    this.serve();
  }

  #forget(slot: Slot<In, Out>): void {
    this.tally.move(slot, { name: 'closed' });
    // The heartbeat's agenda may remember the slot for a while: let go of the socket.
    slot.rest = undefined;
    this.#slots.delete(slot);
    this.dials.forget(slot);
    this.#checkEmpty();
  }

  // ---- ending --------------------------------------------------------------------------------------------

  #retire(now: number): void {
    const { idleTimeoutMs, min } = this.#parts;
    for (const slot of this.#slots) {
      const { state } = slot;
      // Resting begins when the lease comes back, not when it last read; the warm path does not look at the clock.
      if (state.name === 'leased') state.connection.lastUsedAt = Math.floor(now);
      if (state.name === 'dialing' || slot.expiresAt > now || slot.isExpired) continue;
      slot.isExpired = true;
      if (state.name === 'idle') state.connection.end('lifetime');
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
      this.waiters.rejectAll((waiter) => this.closedError(now - waiter.since));
    }
    if (this.waiters.size === 0) this.#endResting();
  }

  /** While draining, with nobody left to serve: what rests is of no more use, nor is what is being dialed. */
  #endResting(): void {
    this.dials.abort();
    if (this.tally.count('idle') + this.tally.count('checking') === 0) return;
    for (const { state } of this.#slots) {
      if (state.name === 'idle' || state.name === 'checking') state.connection.end('shutdown');
    }
  }

  #checkEmpty(): void {
    if (this.#isDraining && this.#slots.size === 0) this.#onEmpty?.();
  }
}

/**
 * The roster: every slot of the pool, who holds it, and who waits. It decides which caller gets which socket,
 * when one more is opened, and what a socket's end leads to.
 *
 * Bytes are the connection's business, dials the dials', pings the heartbeat's; who is to be replaced says the
 * retirement, and what is looked at from time to time the upkeep. Callers talk to the pool.
 */
import type { Clock, ProcessHold, RandomSource, Timer } from '../clock.ts';
import { type AcquireError, PulsepoolError } from '../errors.ts';
import type { LeaseHolder } from '../events.ts';
import type { CloseReason } from '../transport/close-reason.ts';
import type { Connection } from '../transport/connection.ts';
import {
  type AcquireStory,
  acquireFailedError,
  acquireTimeoutError,
  overloadedError,
  poolClosedError,
} from './acquire-error.ts';
import type { AdviceFacts } from './advice.ts';
import type { Announcer } from './announcer.ts';
import { Dials, type DialsParts } from './dials.ts';
import { Holders } from './holders.ts';
import { Hooks, type HooksParts } from './hooks.ts';
import { IdleLimit } from './idle-limit.ts';
import { Lease, type LeaseHome } from './lease.ts';
import { Pinger, type PingerParts } from './pinger.ts';
import { Readiness, type ReadyWatcher } from './readiness.ts';
import { Retirement } from './retirement.ts';
import { Shelf } from './shelf.ts';
import type { Sizes } from './sizes.ts';
import { type LeasedState, Slot, type SlotKeeper, SlotTally } from './slot.ts';
import { Counters } from './stats.ts';
import type { Trace } from './trace.ts';
import { Upkeep } from './upkeep.ts';
import { type Waiter, Waiters, type WaitOptions } from './waiters.ts';

/** What a roster is made of; `createPool` fills it in. */
export interface RosterParts<In, Out> extends DialsParts<In, Out>, PingerParts, HooksParts<In, Out> {
  readonly sizes: Sizes;
  readonly maxWaiting: number;
  readonly maxUses: number;
  readonly acquireTimeoutMs: number;
  readonly shedAfterMs: number;
  readonly idleTimeoutMs: number;
  readonly maxLifetimeMs: number;
  readonly leakAfterMs: number;
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
  readonly #hooks: Hooks<In, Out>;
  readonly #holders: Holders<In, Out>;
  readonly #retirement: Retirement<In, Out>;
  readonly #upkeep: Upkeep<In, Out>;
  readonly #idleLimit: IdleLimit = new IdleLimit();
  readonly #maxUses: number;
  #sizes: Sizes;
  #lastId = 0;
  // Slots being checked for a waiter: likely to serve one soon.
  #borrowChecks = 0;
  #patience: Timer | undefined;
  // A socket at hand is lent in the turn in which it is asked for: nothing has to be done before.
  #lendsAtOnce: boolean;
  #isSuspended = false;
  #isDraining = false;
  #onEmpty: (() => void) | undefined;
  // Somebody who did not wait would have liked one more socket.
  #isWished = false;
  // Resets so far, the slots that are older than the last one, and who waits for their end.
  #generation = 0;
  #outdated = 0;
  #onRenewed: (() => void)[] = [];
  #stalledAt = 0;
  readonly #bornAt: number;
  // Of so many leases, one is measured, minus one: a power of two.
  #measureMask = 0;
  #acquiredBefore = 0;
  #shortages = 0;

  constructor(parts: RosterParts<In, Out>, announcer: Announcer) {
    const { clock, endpoint, hold, sizes } = parts;
    this.#parts = parts;
    this.#sizes = sizes;
    this.#maxUses = parts.maxUses;
    this.#bornAt = clock.now();
    this.#announcer = announcer;
    this.waiters = new Waiters(parts, clock, hold, {
      onTimeout: (waiter) => this.#timeOut(waiter),
      onCancelled: () => {
        this.counters.cancelled += 1;
      },
      onShed: (waiter, why) => this.#refuse(waiter, why),
      onGone: () => this.#onWaiterGone(),
      isExhausted: () =>
        !this.dials.hasRoom && this.#shelf.size === 0 && !this.dials.isFailing && !this.#isSuspended,
      spare: () => Math.max(0, this.#sizes.max - this.tally.count('leased')),
    });
    this.#readiness = new Readiness(sizes);
    this.#hooks = new Hooks(parts);
    this.#lendsAtOnce = !this.#hooks.hasOnAcquire;
    this.#holders = new Holders(parts.leakAfterMs, announcer, this.counters, clock, (slot) =>
      this.#onLost(slot),
    );
    this.#pinger = new Pinger(parts, this.counters, announcer, {
      withdraw: (slot) => this.#withdraw(slot),
      restore: (slot) => this.#onChecked(slot),
      onDoubt: () => this.serve(),
      // One that died in silence: those that rest beside it may have lost the same server.
      onDeath: () => this.#suspectAll(),
      onStalled: (lateMs) => this.#onStalled(lateMs),
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
    this.#retirement = new Retirement(parts.maxConnecting, clock, {
      hasRoom: () => this.dials.hasRoom,
      isHeld: () => this.dials.isFailing || this.#isSuspended || this.#isDraining,
      end: (slot) => this.#endHealthy(slot, slot.staleBy ?? 'lifetime'),
      onOrdered: () => this.#grow(),
    });
    this.#upkeep = new Upkeep(
      {
        ...parts,
        slots: this.#slots,
        idleLimitMs: (now) => this.#idleLimit.limitMs(now),
        surplus: () => this.#surplus(),
        bottom: () => this.#shelf.bottom,
        isNeeded: () => this.#slots.size > 0 && !this.#isDraining,
      },
      {
        onIdle: (slot) => this.#endHealthy(slot, 'idle'),
        onOld: (slot) => {
          // Nobody has ever needed it, nor will its successor be needed.
          if (slot.uses === 0 && this.#surplus() > 0) this.#endHealthy(slot, 'lifetime');
          else this.#retirement.mark(slot, 'lifetime');
        },
        // While no other socket can be had, one that works is worth more than a rule about its age.
        onTooOld: (slot) => {
          if (!this.dials.isFailing) this.#retirement.hurry(slot);
        },
        onLeased: (slot, now) => {
          if (slot.state.name === 'leased') this.#holders.look(slot, slot.state, now);
        },
        onStalled: (lateMs) => {
          this.#onStalled(lateMs);
          this.#suspectAll();
        },
        onDone: (now) => this.#onLookedAfter(now),
      },
    );
  }

  /** A socket that can be lent this very moment, if there is one. The warm path of `acquire`. */
  lendFresh(trace?: Trace | undefined): Lease<In, Out> | undefined {
    const slot = this.#shelf.top;
    if (slot === undefined || this.waiters.size > 0 || !this.#lendsAtOnce || slot.state.name !== 'idle')
      return undefined;
    const now = this.#parts.clock.now();
    const { connection } = slot.state;
    if (now - connection.lastReadAt >= FRESH_MS && now - connection.provenAt >= FRESH_MS) return undefined;
    this.#shelf.remove(slot);
    const state = this.tally.lend(slot, connection);
    const lease = this.#grant(slot, connection, state, now);
    if (trace !== undefined) this.#trace(slot, state, 0, trace);
    return lease;
  }

  /** Joins the queue. */
  wait(options: WaitOptions | undefined, trace: Trace | undefined): Promise<Lease<In, Out>> {
    if (this.#isOutOfReach()) {
      this.#wish();
      return this.#refuseAtOnce(trace);
    }
    const lease = this.waiters.wait(options, trace);
    this.serve();
    if (this.waiters.size > 0 && this.tally.count('leased') >= this.#sizes.max) this.#onShort(trace);
    return lease;
  }

  /** Somebody waits because all sockets are leased. */
  #onShort(trace: Trace | undefined): void {
    this.#shortages += 1;
    if ((this.#shortages & this.#measureMask) === 0) {
      this.counters.demand.short(this.waiters.size, this.#parts.clock.now(), this.#measureMask + 1);
    }
    if (trace !== undefined) this.#suspectDeadlock(trace);
  }

  /** A lease on a socket that is open and at rest, without waiting for anybody or for a dial. */
  async tryLend(trace: Trace | undefined): Promise<Lease<In, Out> | undefined> {
    const fresh = this.lendFresh(trace);
    if (fresh !== undefined) return fresh;
    const { clock } = this.#parts;
    while (this.waiters.size === 0 && !this.#isSuspended && !this.#isDraining) {
      const slot = this.#shelf.top;
      if (slot === undefined || slot.state.name !== 'idle') break;
      const { connection } = slot.state;
      if (this.#pinger.mustPing(slot, clock.now() - connection.lastReadAt)) break;
      this.#shelf.remove(slot);
      this.tally.move(slot, { name: 'checking', connection, by: 'borrow-turns' });
      await new Promise<void>((resolve) => clock.turn(() => clock.turn(resolve)));
      if (!isChecking(slot)) continue;
      this.tally.move(slot, { name: 'idle', connection });
      connection.proved(clock.now());
      if (slot.mustGo || this.#isSuspended) {
        this.#offer(slot, connection);
        break;
      }
      const lease = await this.#lendPrepared(slot, connection, trace);
      if (lease !== undefined) return lease;
    }
    // Who never waits would never have a socket opened.
    if (this.#shelf.size === 0) this.#wish();
    return undefined;
  }

  /** A lease has ended: the socket goes to the next caller, to the shelf, or away. */
  takeBack(slot: Slot<In, Out>, use: number): void {
    const { state } = slot;
    // The socket may have died in the caller's hands; then its slot is somebody else's business already.
    if (state.name !== 'leased' || slot.uses !== use) return;
    const { connection } = state;
    if (!connection.isClean) {
      connection.destroy('dirty');
      return;
    }
    if (this.#announcer.hears('released')) this.#tellReleased(slot.id, state);
    this.#endLease(slot, state);
    if (this.#hooks.hasOnRelease && this.#mayServeAgain(slot)) this.#cleanUp(slot, state);
    else this.#backFromLease(slot, connection);
  }

  #mayServeAgain(slot: Slot<In, Out>): boolean {
    return !(slot.mustGo || (this.#isDraining && this.waiters.size === 0));
  }

  /** Gives waiters what there is, and opens what is missing. Safe to call at any time. */
  serve(): void {
    if (this.#isSuspended) return;
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

  /** Watches until `min` and `minIdle` sockets are open, at least one. Returns how to stop watching. */
  watchReady(watcher: ReadyWatcher): () => void {
    const stop = this.#readiness.watch(watcher);
    this.#readiness.see(this.tally.open);
    this.serve();
    return stop;
  }

  /** Lends nothing and opens nothing until `resume`; callers wait. */
  suspend(): void {
    if (this.#isDraining) return;
    this.#isSuspended = true;
    this.#lendsAtOnce = false;
  }

  /** Serves again. */
  resume(): void {
    if (!this.#isSuspended) return;
    this.#isSuspended = false;
    this.#lendsAtOnce = !this.#hooks.hasOnAcquire;
    this.#retirement.step();
    this.serve();
  }

  get isSuspended(): boolean {
    return this.#isSuspended;
  }

  get sizes(): Sizes {
    return this.#sizes;
  }

  /** Changes the sizes. What is too much ends when it is at rest. */
  resize(sizes: Sizes): void {
    this.#sizes = sizes;
    this.dials.resize(sizes.max);
    this.#readiness.resize(sizes);
    while (this.#shelf.size > sizes.maxIdle || (this.tally.open > sizes.max && this.#shelf.size > 0)) {
      const { bottom } = this.#shelf;
      if (bottom === undefined) break;
      this.#endHealthy(bottom, 'surplus');
    }
    this.#readiness.see(this.tally.open);
    this.serve();
  }

  /** Replaces every socket that is there now, at most `perSecond`. Resolves when none of them is left. */
  renew(perSecond: number): Promise<void> {
    this.#generation += 1;
    this.#outdated = this.#slots.size;
    this.#idleLimit.forget();
    if (this.#outdated === 0) return Promise.resolve();
    const renewed = new Promise<void>((resolve) => {
      this.#onRenewed.push(resolve);
    });
    this.#retirement.limitRate(perSecond);
    for (const slot of this.#slots) {
      const { name } = slot.state;
      if (name === 'idle' || name === 'checking' || name === 'leased') this.#outdate(slot);
    }
    this.#retirement.step();
    return renewed;
  }

  /** Opened before the last reset. While nobody is served, it need not wait for a successor. */
  #outdate(slot: Slot<In, Out>): void {
    this.#retirement.mark(slot, 'reset');
    if (!this.#isSuspended) return;
    slot.mustGo = true;
    if (slot.state.name === 'idle') this.#endHealthy(slot, 'reset');
  }

  /** The counts as users see them. */
  get counts(): ReturnType<SlotTally['snapshot']> {
    return this.tally.snapshot(this.waiters.size);
  }

  /** How long a socket may rest: what the option says, or less when the server was seen to allow less, in ms. */
  get idleTimeoutMs(): number {
    return Math.min(this.#parts.idleTimeoutMs, this.#idleLimit.limitMs(this.#parts.clock.now()));
  }

  /** What advice is drawn from. */
  facts(now: number): AdviceFacts {
    const { acquired, demand, waited } = this.counters;
    const learnedMs = this.#idleLimit.learnedMs(now);
    return {
      sizes: this.#sizes,
      ...this.counters.times(now),
      demand: demand.summary(now),
      acquired,
      waited,
      uptimeMs: now - this.#bornAt,
      serverIdleMs: learnedMs,
      idleTimeoutMs: this.#parts.idleTimeoutMs,
    };
  }

  /** Starts to close: nothing new is opened, idle sockets end. Resolves when no slot is left. Call it once. */
  drain(): Promise<void> {
    this.#isDraining = true;
    this.#isSuspended = false;
    this.#upkeep.end();
    this.#retirement.end();
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    this.#readiness.fail(this.closedError(0));
    this.serve();
    this.#checkEmpty();
    return empty;
  }

  /** Ends whatever is left, by force. Returns whose leases were cut off. */
  kill(error: PulsepoolError): LeaseHolder[] {
    const now = this.#parts.clock.now();
    const holders = this.#holders.list(this.#slots, now);
    this.dials.abort();
    this.#rejectAll(now);
    for (const slot of this.#slots) {
      if (slot.state.name !== 'dialing' && slot.state.name !== 'closed')
        slot.state.connection.destroy('shutdown', error);
    }
    // Who was about to get one of these is in the queue again.
    this.#rejectAll(now);
    return holders;
  }

  /** Stops every timer. No slot may be left. */
  async end(): Promise<void> {
    this.#pinger.end();
    this.#upkeep.end();
    this.#retirement.end();
    this.#holders.end();
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

  /** Every slot, for those who list them. */
  get slots(): ReadonlySet<Slot<In, Out>> {
    return this.#slots;
  }

  /** @internal What must add up after every step; read by tests. */
  get books(): {
    readonly slots: ReadonlySet<Slot<In, Out>>;
    readonly shelved: number;
    readonly borrowChecks: number;
    readonly firstPings: number;
    readonly outdated: number;
    readonly stale: number;
    readonly ordered: number;
  } {
    return {
      slots: this.#slots,
      shelved: this.#shelf.size,
      borrowChecks: this.#borrowChecks,
      firstPings: this.#pinger.firstPings,
      outdated: this.#outdated,
      stale: this.#retirement.size,
      ordered: this.#retirement.ordered,
    };
  }

  // ---- lending -------------------------------------------------------------------------------------------

  /** Makes the lease of a slot that is leased already. */
  #grant(
    slot: Slot<In, Out>,
    connection: Connection<In, Out>,
    state: LeasedState<In, Out>,
    now: number,
  ): Lease<In, Out> {
    slot.uses += 1;
    const lease = new Lease(slot, connection, this, slot.uses);
    state.lease = lease;
    state.lentAt = now;
    connection.serve();
    connection.lastUsedAt = Math.floor(now);
    if ((this.counters.acquired & this.#measureMask) === 0) state.isMeasured = true;
    this.counters.acquired += 1;
    if (slot.uses >= this.#maxUses) this.#onLastUse(slot);
    return lease;
  }

  #trace(slot: Slot<In, Out>, state: LeasedState<In, Out>, waitedMs: number, trace: Trace): void {
    state.trace = trace;
    trace.granted(slot.id, state.lentAt);
    this.#announcer.tell('acquired', () => ({ connectionId: slot.id, waitedMs }), trace);
  }

  #tellReleased(connectionId: number, { lentAt, trace }: LeasedState<In, Out>): void {
    const heldMs = this.#parts.clock.now() - lentAt;
    this.#announcer.tell('released', () => ({ connectionId, heldMs }), trace);
  }

  /** What a lease leaves behind, however it ended. */
  #endLease(slot: Slot<In, Out>, state: LeasedState<In, Out>): void {
    if (state.isMeasured) {
      state.isMeasured = false;
      const now = this.#parts.clock.now();
      this.counters.hold.record(now - state.lentAt, now, this.#measureMask + 1);
    }
    if (state.trace !== undefined || state.isTold) {
      this.#holders.ended(slot, state, this.#parts.clock.now());
      state.trace = undefined;
      state.isTold = false;
    }
    state.lease = undefined;
  }

  /** Resets the session, then the socket may serve again. */
  #cleanUp(slot: Slot<In, Out>, state: LeasedState<In, Out>): void {
    const { connection } = state;
    state.hook = 'onRelease';
    this.#hooks.onRelease(slot, connection).then(
      () => {
        state.hook = undefined;
        if (slot.state === state) this.#backFromLease(slot, connection);
      },
      (error) => this.#onHookFailed(slot, connection, 'onRelease', error),
    );
  }

  #backFromLease(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    connection.rest();
    this.tally.takeBack(slot, connection);
    this.#offer(slot, connection);
  }

  /** An idle slot that is on no shelf finds its next place. */
  #offer(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    if (slot.mustGo) {
      this.#endHealthy(slot, slot.staleBy ?? 'lifetime');
      // A caller may have hoped for it while others rest.
      if (this.waiters.size > 0) this.serve();
    } else if (this.tally.open > this.#sizes.max) this.#endHealthy(slot, 'surplus');
    else if (this.waiters.size > 0 && !this.#isSuspended) this.#handOver(slot, connection);
    else if (this.#isDraining) this.#endHealthy(slot, 'shutdown');
    else if (this.#shelf.size >= this.#sizes.maxIdle) this.#endHealthy(slot, 'surplus');
    // What is to be replaced is lent last.
    else if (slot.staleBy !== undefined) this.#shelf.pushBottom(slot);
    else this.#shelf.push(slot);
  }

  /** Lends an idle slot to the first waiter, after a check when it has rested. */
  #handOver(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    const now = this.#parts.clock.now();
    const silentMs = now - connection.lastReadAt;
    if (silentMs < FRESH_MS || now - connection.provenAt < FRESH_MS) {
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
    state.connection.proved(this.#parts.clock.now());
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
    const waiter = this.#hooks.hasOnAcquire ? this.waiters.shift() : this.waiters.take();
    // Whoever waited may have been refused at this very moment.
    if (waiter === undefined) {
      this.#offer(slot, connection);
      return;
    }
    const state = this.tally.lend(slot, connection);
    if (this.#hooks.hasOnAcquire) this.#prepare(slot, state, waiter);
    else this.#settle(slot, state, waiter, now);
    if (this.#isDraining && this.waiters.size === 0) this.#endResting();
  }

  #settle(
    slot: Slot<In, Out>,
    state: LeasedState<In, Out>,
    waiter: Waiter<Lease<In, Out>>,
    now: number,
  ): void {
    const lease = this.#grant(slot, state.connection, state, now);
    const waitedMs = now - waiter.since;
    this.counters.waited += 1;
    this.counters.wait.record(waitedMs, now);
    if (waiter.trace !== undefined) this.#trace(slot, state, waitedMs, waiter.trace);
    waiter.resolve(lease);
  }

  /** Runs `onAcquire` before the caller gets the socket. If that fails, the caller is in the queue again. */
  #prepare(slot: Slot<In, Out>, state: LeasedState<In, Out>, waiter: Waiter<Lease<In, Out>>): void {
    const { connection } = state;
    const { clock, hold } = this.#parts;
    state.hook = 'onAcquire';
    state.waiter = waiter;
    hold.take();
    this.#hooks
      .onAcquire(slot, connection)
      .then(
        () => {
          // The socket has ended, and the caller waits for another one.
          if (slot.state !== state || state.waiter !== waiter) return;
          state.hook = undefined;
          state.waiter = undefined;
          if (this.waiters.isWanted(waiter)) this.#settle(slot, state, waiter, clock.now());
          else this.#backFromLease(slot, connection);
        },
        (error: PulsepoolError) => {
          waiter.losses = { count: waiter.losses?.count ?? 0, error };
          this.#onHookFailed(slot, connection, 'onAcquire', error);
        },
      )
      .finally(() => hold.drop());
  }

  /** The socket that a caller was about to get has ended. */
  #tryAgain(waiter: Waiter<Lease<In, Out>>): void {
    if (!this.waiters.isWanted(waiter)) return;
    const losses = { count: (waiter.losses?.count ?? 0) + 1, error: waiter.losses?.error };
    waiter.losses = losses;
    if (losses.count <= this.#parts.retry.retries) {
      this.waiters.requeue(waiter);
      return;
    }
    const now = this.#parts.clock.now();
    this.waiters.reject(waiter, this.#failed(now - waiter.since, waiter.trace, losses.error));
  }

  #onHookFailed(
    slot: Slot<In, Out>,
    connection: Connection<In, Out>,
    hook: 'onAcquire' | 'onRelease' | 'onClose',
    error: PulsepoolError,
  ): void {
    this.counters.hookFailed += 1;
    this.#announcer.tell('hookFailed', () => ({ connectionId: slot.id, hook, error }));
    // Else a hook that always fails would have the server dialed without a pause.
    if (connection.isOpen && hook !== 'onClose') this.dials.countLoss(error, connection.openedAt);
    connection.destroy('hook', error);
  }

  /** For who does not wait: an idle slot that is on no shelf, made ready. */
  async #lendPrepared(
    slot: Slot<In, Out>,
    connection: Connection<In, Out>,
    trace: Trace | undefined,
  ): Promise<Lease<In, Out> | undefined> {
    const state = this.tally.lend(slot, connection);
    if (this.#hooks.hasOnAcquire) {
      state.hook = 'onAcquire';
      try {
        await this.#hooks.onAcquire(slot, connection);
      } catch (error) {
        this.#onHookFailed(slot, connection, 'onAcquire', error as PulsepoolError);
        return undefined;
      }
      if (slot.state !== state) return undefined;
      state.hook = undefined;
    }
    const lease = this.#grant(slot, connection, state, this.#parts.clock.now());
    if (trace !== undefined) this.#trace(slot, state, 0, trace);
    return lease;
  }

  #onLastUse(slot: Slot<In, Out>): void {
    this.#retirement.mark(slot, 'uses');
    this.#retirement.step();
  }

  #timeOut(waiter: Waiter<Lease<In, Out>>): void {
    this.counters.timedOut += 1;
    const waitedMs = this.#parts.clock.now() - waiter.since;
    const holding = waiter.trace?.heldBefore() ?? [];
    const error = acquireTimeoutError({ ...this.#story(waitedMs), holding: holding.length });
    this.waiters.reject(waiter, error);
    this.#announcer.tell('acquireFailed', () => ({ error }), waiter.trace);
  }

  #refuse(waiter: Waiter<Lease<In, Out>>, why: 'full' | 'overload'): void {
    this.counters.refused += 1;
    // A turn later, as in #refuseAtOnce.
    if (why === 'full') this.#parts.clock.turn(() => this.#tellRefused(waiter, why));
    else this.#tellRefused(waiter, why);
  }

  #tellRefused(waiter: Waiter<Lease<In, Out>>, why: 'full' | 'overload'): void {
    if (!this.waiters.isWanted(waiter)) return;
    const error = overloadedError(this.#story(this.#parts.clock.now() - waiter.since), why);
    this.waiters.reject(waiter, error);
    this.#announcer.tell('acquireFailed', () => ({ error }), waiter.trace);
  }

  #failed(waitedMs: number, trace: Trace | undefined, cause = this.dials.lastFailure): AcquireError {
    this.counters.failed += 1;
    const error = acquireFailedError({ ...this.#story(waitedMs), lastFailure: cause });
    this.#announcer.tell('acquireFailed', () => ({ error }), trace);
    return error;
  }

  #rejectAll(now: number): void {
    this.waiters.rejectAll((waiter) => this.closedError(now - waiter.since));
  }

  #onWaiterGone(): void {
    if (this.#isDraining) this.serve();
  }

  #suspectDeadlock(trace: Trace): void {
    const held = trace.heldBefore();
    if (held.length === 0) return;
    const now = this.#parts.clock.now();
    const holding = held.map(({ connectionId, stack, lentAt }) => {
      return { connectionId, heldMs: now - lentAt, stack };
    });
    this.counters.deadlocksSuspected += 1;
    this.#announcer.tell('deadlockSuspected', () => ({ holding, stack: trace.stack }), trace);
  }

  #onLost(slot: Slot<In, Out>): void {
    if (slot.state.name === 'leased')
      slot.state.connection.destroy('leaked', lostError(this.#parts.endpoint));
  }

  #story(waitedMs: number): AcquireStory {
    const { endpoint } = this.#parts;
    const { isFailing, lastFailure } = this.dials;
    const retryInMs = this.#isOutOfReach() ? this.dials.waitMs : undefined;
    const { isSuspended, counts } = this;
    return {
      endpoint,
      max: this.#sizes.max,
      waitedMs,
      counts,
      lastFailure,
      isFailing,
      isSuspended,
      retryInMs,
    };
  }

  // ---- opening -------------------------------------------------------------------------------------------

  /** How many dials there is a use for. */
  #wanted(): number {
    if (this.#isDraining || this.#isSuspended) return 0;
    const { minIdle, max } = this.#sizes;
    const { open } = this.tally;
    const unserved = Math.max(0, this.waiters.size - this.#borrowChecks - this.#pinger.firstPings);
    const spare = minIdle - this.tally.count('idle') - this.tally.count('checking');
    const needed = Math.max(
      unserved + Math.max(0, spare),
      this.#readiness.floor - open,
      this.#isWished ? 1 : 0,
    );
    return Math.min(needed + this.#retirement.ordered, max - open - this.tally.count('closing'));
  }

  #grow(): void {
    if (!this.dials.hasRoom) {
      this.#endSuspect();
      return;
    }
    const { open } = this.tally;
    const isServing =
      open > 0 && open >= this.#readiness.floor && this.waiters.size + this.tally.count('leased') > 0;
    const wanted = Math.min(this.#wanted(), this.dials.limit(isServing));
    while (this.tally.count('dialing') < wanted) {
      if (!this.dials.hasRoom) break;
      this.#lastId += 1;
      const slot = new Slot<In, Out>(this.#lastId, this.#generation, this, this.#pinger);
      this.tally.add();
      this.#slots.add(slot);
      this.dials.start(slot);
    }
    if (!this.dials.hasRoom) this.#endSuspect();
  }

  /** A socket that missed a ping holds a place that a waiter needs: it is not worth another interval. */
  #endSuspect(): void {
    // A place that is about to be free, or a dial under way, serves a waiter each.
    if (
      !this.#pinger.hasSuspects ||
      this.waiters.size <= this.tally.count('closing') + this.tally.count('dialing')
    )
      return;
    this.#pinger.endSuspect(this.#slots);
  }

  /** One more socket would be welcome, though nobody waits for it. */
  #wish(): void {
    this.#isWished = true;
    this.#grow();
  }

  /** A turn later: a caller who asks again and again must not starve the event loop, and with it the probe. */
  #refuseAtOnce(trace: Trace | undefined): Promise<never> {
    const { clock } = this.#parts;
    return new Promise((_, reject) => {
      clock.turn(() => reject(this.#isDraining ? this.closedError(0) : this.#failed(0, trace)));
    });
  }

  /** Nothing is open, every attempt has failed, and the next one is not due. */
  #isOutOfReach(): boolean {
    return this.tally.open === 0 && !this.#isDraining && !this.#isSuspended && this.dials.isDown;
  }

  #onOpened(slot: Slot<In, Out>, connection: Connection<In, Out>, dialMs: number): void {
    const { clock, endpoint, random } = this.#parts;
    this.tally.move(slot, { name: 'idle', connection });
    slot.expiresAt = this.#upkeep.expiry(connection.openedAt, random());
    this.#pinger.watch(slot);
    this.#isWished = false;
    this.counters.opened += 1;
    this.counters.dial.record(dialMs, clock.now());
    if (!this.#isDraining) this.#upkeep.start();
    this.#announcer.tell('opened', () => ({ connectionId: slot.id, endpoint, dialMs }));
    // Before it is offered: with `maxIdle` 0 it may not stay.
    this.#readiness.see(this.tally.open);
    this.dials.learn(this.waiters.size > this.#borrowChecks);
    if (slot.generation < this.#generation) this.#outdate(slot);
    else this.#retirement.succeeded();
    if (slot.state.name !== 'idle') return;
    this.#offer(slot, connection);
    this.#retirement.step();
    this.serve();
  }

  #onNotOpened(slot: Slot<In, Out>, error: PulsepoolError | undefined): void {
    this.#isWished = false;
    this.#forget(slot);
    if (error !== undefined) this.#onOutOfReach(error);
    this.serve();
  }

  /** The dial has failed for good. Whoever has no open socket to hope for is told why, at once. */
  #onOutOfReach(error: PulsepoolError): void {
    if (this.#isSuspended) return;
    this.#readiness.fail(error);
    if (this.tally.open > 0) return;
    const now = this.#parts.clock.now();
    this.waiters.rejectAll((waiter) => this.#failed(now - waiter.since, waiter.trace));
  }

  // ---- what a socket tells -------------------------------------------------------------------------------

  onEnding(slot: Slot<In, Out>, reason: CloseReason, error: PulsepoolError | undefined): void {
    const { state } = slot;
    // While dialing, the opener has the connection and notices by itself.
    if (state.name === 'dialing' || state.name === 'closing' || state.name === 'closed') return;
    const { connection } = state;
    const wasForBorrower = slot.isBorrowCheck;
    const wasPeer = reason === 'peer-closed' || reason === 'peer-reset';
    if (wasPeer && state.name !== 'leased') this.#learnIdleLimit(slot, connection);
    this.#leave(slot, connection, reason, error);
    if (error !== undefined && connection.diedYoung) {
      this.dials.countLoss(error, connection.openedAt);
    }
    // Its borrower need not wait until it has closed when another one rests.
    if (wasForBorrower || this.waiters.size > 0) this.serve();
  }

  onClosed(slot: Slot<In, Out>): void {
    if (slot.state.name !== 'closing') return;
    this.#forget(slot);
    this.#retirement.step();
    this.serve();
  }

  /** Ends an idle slot that is in good health, after a goodbye. */
  #endHealthy(slot: Slot<In, Out>, reason: CloseReason): void {
    const { state } = slot;
    if (state.name !== 'idle') return;
    const { connection } = state;
    if (!this.#hooks.hasOnClose) {
      connection.end(reason);
      return;
    }
    this.#leave(slot, connection, reason, undefined);
    this.#hooks
      .onClose(slot, connection, reason)
      .catch((error: PulsepoolError) => this.#onHookFailed(slot, connection, 'onClose', error))
      .finally(() => connection.end(reason));
  }

  /** It serves nobody any more. */
  #leave(
    slot: Slot<In, Out>,
    connection: Connection<In, Out>,
    reason: CloseReason,
    error: PulsepoolError | undefined,
  ): void {
    const { state } = slot;
    let trace: Trace | undefined;
    let waiter: Waiter<Lease<In, Out>> | undefined;
    this.#endBorrowCheck(slot);
    this.#shelf.remove(slot);
    this.#pinger.unwatch(slot);
    this.#retirement.forget(slot);
    if (state.name === 'leased') {
      trace = state.trace;
      if (state.hook === undefined) this.#endLease(slot, state);
      waiter = state.waiter;
      state.waiter = undefined;
    }
    this.tally.move(slot, { name: 'closing', connection, reason });
    this.counters.countClosed(reason);
    const ageMs = this.#parts.clock.now() - connection.openedAt;
    const { endpoint } = this.#parts;
    const { id: connectionId, uses } = slot;
    this.#announcer.tell('closed', () => ({ connectionId, endpoint, reason, error, ageMs, uses }), trace);
    if (waiter !== undefined) this.#tryAgain(waiter);
  }

  #learnIdleLimit(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    const { clock, endpoint, idleTimeoutMs: configuredMs } = this.#parts;
    const now = clock.now();
    const { bottom } = this.#shelf;
    const eldest = bottom === slot ? bottom.above : bottom;
    const longestOpenMs = eldest === undefined ? 0 : now - eldest.lastReadAt;
    const limitMs = this.#idleLimit.ended(now - connection.lastReadAt, longestOpenMs, now);
    if (limitMs === undefined || limitMs >= configuredMs) return;
    this.#announcer.tell('idleLimitLearned', () => ({ endpoint, idleTimeoutMs: limitMs, configuredMs }));
  }

  /** The places of a socket on the books and in the counts are free. */
  #forget(slot: Slot<In, Out>): void {
    this.tally.move(slot, { name: 'closed' });
    this.#slots.delete(slot);
    this.dials.forget(slot);
    if (slot.generation < this.#generation) {
      this.#outdated -= 1;
      if (this.#outdated === 0) for (const tell of this.#onRenewed.splice(0)) tell();
    }
    this.#checkEmpty();
  }

  // ---- upkeep --------------------------------------------------------------------------------------------

  /** How many of those at rest are more than the sizes ask for. */
  #surplus(): number {
    const { min, minIdle } = this.#sizes;
    return Math.min(this.tally.open - min, this.#shelf.size - minIdle);
  }

  #onLookedAfter(now: number): void {
    this.counters.demand.see(this.tally.takePeak(), now);
    const { acquired } = this.counters;
    this.#measureMask = measureMask(acquired - this.#acquiredBefore);
    this.#acquiredBefore = acquired;
    this.#holders.sweep();
    // The next rush begins with one dial again, however the last one ended.
    if (this.waiters.size === 0) this.dials.learn(false);
    this.#retirement.step();
    this.serve();
  }

  #onStalled(lateMs: number): void {
    const now = this.#parts.clock.now();
    // The heartbeat and the upkeep notice the same one.
    if (now - lateMs <= this.#stalledAt) return;
    this.#stalledAt = now;
    this.counters.stalled += 1;
    this.#announcer.tell('stalled', () => ({ lateMs }));
  }

  #suspectAll(): void {
    const now = this.#parts.clock.now();
    for (let slot = this.#shelf.bottom; slot !== undefined; slot = slot.above)
      this.#pinger.suspect(slot, now);
  }

  /** While draining, waiters are served by what is still open. When nothing is, they are told. */
  #drainWaiters(): void {
    if (this.waiters.size > 0 && this.tally.open === 0) this.#rejectAll(this.#parts.clock.now());
    if (this.waiters.size === 0) this.#endResting();
  }

  /** While draining, with nobody left to serve: what rests is of no more use, nor is what is being dialed. */
  #endResting(): void {
    this.dials.abort();
    if (this.tally.count('idle') + this.tally.count('checking') === 0) return;
    for (const slot of this.#slots) {
      if (slot.state.name === 'idle') this.#endHealthy(slot, 'shutdown');
      else if (slot.state.name === 'checking') slot.state.connection.end('shutdown');
    }
  }

  #checkEmpty(): void {
    if (this.#isDraining && this.#slots.size === 0) this.#onEmpty?.();
  }
}

function isChecking<In, Out>(slot: Slot<In, Out>): boolean {
  return slot.state.name === 'checking';
}

// Above this many leases in one look, one of 16 is measured: reading the clock is a third of a warm acquire.
const MANY_LEASES = 2_000;

function measureMask(leases: number): number {
  return leases > MANY_LEASES ? 15 : 0;
}

function lostError(endpoint: string): PulsepoolError {
  return new PulsepoolError(
    'ERR_LEAKED',
    `A lease of a socket to ${endpoint} was garbage-collected without having been released.`,
    {
      retryable: false,
      hint: 'Use pool.use() or `await using`; set `leakAfterMs` to see the stack that took it.',
    },
  );
}

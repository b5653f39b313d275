/**
 * The roster: every slot of the pool, from its dial to its end. It decides when one more is opened, what the end of
 * one leads to, and carries out what the upkeep and the retirement find.
 *
 * Who gets which socket is the lender's business, bytes are the connection's, dials the dials', pings the heartbeat's.
 * Callers talk to the pool.
 */
import type { Clock, ProcessHold, RandomSource } from '../clock.ts';
import { PulsepoolError } from '../errors.ts';
import type { LeaseHolder } from '../events.ts';
import type { RetryBudget } from '../retry/budget.ts';
import type { CloseReason } from '../transport/close-reason.ts';
import type { Connection } from '../transport/connection.ts';
import type { AdviceFacts } from './advice.ts';
import type { Announcer } from './announcer.ts';
import { Dials, type DialsParts } from './dials.ts';
import { Holders } from './holders.ts';
import { type HookName, Hooks, type HooksParts } from './hooks.ts';
import { IdleLimit } from './idle-limit.ts';
import type { Lease } from './lease.ts';
import { Lender } from './lender.ts';
import type { Members, Wish } from './members.ts';
import { Pinger, type PingerParts } from './pinger.ts';
import { Placement } from './placement.ts';
import type { PoolMember } from './pool-member.ts';
import { PoolState } from './pool-state.ts';
import { Readiness, type ReadyWatcher } from './readiness.ts';
import { Refusals } from './refusals.ts';
import { Renewal } from './renewal.ts';
import { Retirement } from './retirement.ts';
import type { Sizes } from './sizes.ts';
import { Slot, type SlotKeeper } from './slot.ts';
import type { Trace } from './trace.ts';
import { Upkeep } from './upkeep.ts';
import { type Waiter, Waiters } from './waiters.ts';

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
  readonly members: Members<In, Out>;
  /** A dial has failed, or a socket was lost: the addresses may have changed. */
  readonly onTrouble: (member: PoolMember<In, Out> | undefined) => void;
  /** There are sockets, or dials, or none any more. */
  readonly onInUse: (isInUse: boolean) => void;
  /** Shared with the requests of a client: dials and pings after a failure take from it, and are never refused. */
  readonly budget: RetryBudget;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly hold: ProcessHold;
}

// As many as reset() and the placement allow: ten a second.
const WARMING_EVERY_MS = 100;

/** See the file's comment. */
export class Roster<In, Out> implements SlotKeeper<In, Out> {
  readonly state: PoolState<In, Out>;
  readonly waiters: Waiters<Lease<In, Out>, Wish<In, Out>>;
  readonly dials: Dials<In, Out>;
  readonly lender: Lender<In, Out>;
  readonly refusals: Refusals<In, Out>;
  /** Who is told when the sizes have changed. */
  readonly onResized: (() => void)[] = [];
  /** Who is told when the pool begins to close. */
  readonly onDrain: (() => void)[] = [];
  readonly #parts: RosterParts<In, Out>;
  readonly #announcer: Announcer;
  readonly #pinger: Pinger<In, Out>;
  readonly #readiness: Readiness;
  readonly #hooks: Hooks<In, Out>;
  readonly #holders: Holders<In, Out>;
  readonly #renewal: Renewal = new Renewal();
  readonly #retirement: Retirement<In, Out>;
  readonly #placement: Placement<In, Out>;
  readonly #upkeep: Upkeep<In, Out>;
  readonly #idleLimit: IdleLimit = new IdleLimit();
  readonly #bornAt: number;
  #lastId = 0;
  #onEmpty: (() => void) | undefined;
  // Somebody who did not wait would have liked one more socket.
  #isWished = false;
  #stalledAt = 0;
  #isSuspecting = false;
  #wasFrozen = false;
  // Who waits until no lease is held, while the pool is suspended.
  readonly #onQuiet: (() => void)[] = [];

  constructor(parts: RosterParts<In, Out>, announcer: Announcer) {
    const { clock, endpoint, hold, sizes } = parts;
    const state = new PoolState<In, Out>(sizes, parts.members);
    const { counters, shelf, slots, tally } = state;
    this.#parts = parts;
    this.#announcer = announcer;
    this.#bornAt = clock.now();
    this.state = state;
    this.refusals = new Refusals({
      endpoint,
      clock,
      announcer,
      state,
      reach: () => this.dials,
      waiters: () => this.waiters,
    });
    this.waiters = new Waiters(parts, clock, hold, {
      onTimeout: (waiter) => this.refusals.timeOut(waiter),
      onShed: (waiter, why) => this.refusals.shed(waiter, why),
      onCancelled: () => {
        counters.cancelled += 1;
      },
      onGone: () => {
        if (state.isDraining) this.lender.serve();
      },
      // With nothing open, it is the dial that keeps everybody waiting.
      isExhausted: () =>
        tally.open > 0 &&
        !this.dials.hasRoom &&
        shelf.size === 0 &&
        !this.dials.isFailing &&
        !state.isSuspended,
      spare: () => Math.max(0, state.sizes.max - tally.count('leased')),
    });
    this.#readiness = new Readiness(sizes);
    this.#hooks = new Hooks(parts);
    this.#holders = new Holders(parts.leakAfterMs, announcer, counters, clock, (slot) => this.#onLost(slot));
    this.#pinger = new Pinger(parts, counters, announcer, {
      withdraw: (slot) => this.#withdraw(slot),
      restore: (slot) => {
        if (slot.member !== undefined) parts.members.onPong(slot.member, clock.now());
        this.lender.onChecked(slot);
      },
      onDoubt: () => this.lender.serve(),
      // One that died in silence: those that rest beside it may have lost the same server.
      onDeath: () => this.#suspectAll(),
      onStalled: (lateMs) => this.#onStalled(lateMs),
    });
    this.lender = new Lender(
      {
        ...parts,
        state,
        announcer,
        waiters: this.waiters,
        hooks: this.#hooks,
        holders: this.#holders,
        pinger: this.#pinger,
        refusals: this.refusals,
      },
      {
        grow: () => this.#grow(),
        wish: () => this.#wish(),
        end: (slot, reason) => this.#endHealthy(slot, reason),
        onStale: (slot) => {
          this.#retirement.mustGoNow(slot);
        },
        onLastUse: (slot) => {
          this.#retirement.mark(slot, 'uses');
          this.#retirement.step();
        },
        onHookFailed: (slot, hook, error) => this.#onHookFailed(slot, hook, error),
        onDrained: () => this.#endResting(),
        onRested: () => this.#checkQuiet(),
      },
    );
    this.dials = new Dials(parts, {
      wanted: () => this.#wanted(),
      onOpened: (slot, connection, dialMs) => this.#onOpened(slot, connection, dialMs),
      onNotOpened: (slot, error) => this.#onNotOpened(slot, error),
      onSlow: () => this.serve(),
      onDialFailed: (error, member, startedAt, backoffMs) => {
        counters.dialFailed += 1;
        // One more is to come, at the expense of what requests may repeat.
        parts.budget.withdraw(clock.now());
        const { failures } = member.backoff;
        announcer.tell('dialFailed', () => ({ endpoint: member.name, error, failures, backoffMs }));
        parts.members.onDialFailed(member, error, startedAt, clock.now());
        parts.onTrouble(member);
        // Another endpoint has to do for those who waited for this one, and may have a socket at rest.
        if (this.waiters.wishing > 0) this.serve();
      },
    });
    parts.members.owner = {
      onMissing: (member) => this.#onMissing(member),
      onTurned: () => this.#repin(),
      wantedAnywhere: () => this.#wantedAnywhere(),
      turn: () => (this.waiters.pinned === 0 ? undefined : this.waiters.head?.pin),
    };
    this.#retirement = new Retirement(parts.maxConnecting, clock, {
      hasRoom: () => this.dials.hasRoom,
      isFull: () => tally.open >= state.sizes.max,
      // While no other socket can be had, one that works is worth more than a rule about its age. But in a full pool
      // nobody dials, and an old failure would never be found to be over: then one attempt is worth a socket.
      isFailing: () => this.dials.isFailing && this.dials.waitMs > 0,
      isHeld: () => state.phase !== 'serving',
      mayRest: () => state.sizes.maxIdle > 0,
      end: (slot) => this.#endHealthy(slot, slot.staleBy ?? 'lifetime'),
      onOrdered: () => this.#grow(),
    });
    this.#placement = new Placement(state, clock, {
      end: (slot, reason) => this.#endHealthy(slot, reason),
      replace: (slot, reason, perSecond) => {
        this.#retirement.limitRateIfNone(perSecond);
        this.#retirement.mark(slot, reason);
      },
      spare: (slot) => this.#retirement.spare(slot),
      onReplaced: () => this.#retirement.step(),
    });
    this.#upkeep = new Upkeep(
      {
        ...parts,
        slots,
        idleLimitMs: (now) => this.#idleLimit.limitMs(now),
        surplus: () => state.surplus,
        bottom: () => shelf.bottom,
        isNeeded: () => slots.size > 0 && !state.isDraining,
      },
      {
        onIdle: (slot, isSpare) => {
          // The server is about to end one that is needed: its successor comes first.
          if (isSpare) this.#endHealthy(slot, 'idle');
          else if (slot.staleBy === undefined) this.#retirement.mark(slot, 'idle');
        },
        onOld: (slot, isUnneeded) => {
          if (isUnneeded) this.#endHealthy(slot, 'lifetime');
          else this.#retirement.mark(slot, 'lifetime');
        },
        onTooOld: (slot) => this.#retirement.hurry(slot),
        onLeased: (slot, now) => {
          if (slot.state.name === 'leased') this.#holders.look(slot, slot.state, now);
        },
        onStalled: (lateMs, sleptMs) => {
          this.#onStalled(lateMs, sleptMs);
          this.#suspectAll(true);
        },
        onDone: (now) => this.#onLookedAfter(now),
      },
    );
  }

  /** Gives waiters what there is, and opens what is missing. Safe to call at any time. */
  serve(): void {
    this.lender.serve();
  }

  /** Watches until `min` and `minIdle` sockets are open, at least one. Returns how to stop watching. */
  watchReady(watcher: ReadyWatcher): () => void {
    const stop = this.#readiness.watch(watcher);
    this.#readiness.see(this.state.tally.open);
    this.serve();
    return stop;
  }

  /** Lends nothing and opens nothing until `resume`; callers wait. Resolves when no lease is held. */
  suspend(): Promise<void> {
    if (this.state.phase === 'serving') this.state.phase = 'suspended';
    return new Promise((resolve) => {
      this.#onQuiet.push(resolve);
      this.#checkQuiet();
    });
  }

  #checkQuiet(): void {
    const { phase, tally } = this.state;
    if (phase === 'suspended' && tally.count('leased') > 0) return;
    for (const tell of this.#onQuiet.splice(0)) tell();
  }

  /** Serves again. */
  resume(): void {
    if (this.state.phase !== 'suspended') return;
    this.state.phase = 'serving';
    this.#checkQuiet();
    this.#retirement.step();
    this.serve();
  }

  /** Changes the sizes. What is too much ends when it is at rest. */
  resize(sizes: Sizes): void {
    const { shelf, tally } = this.state;
    this.state.sizes = sizes;
    // Advice is about the sizes there are.
    this.state.counters.wait.forget();
    this.state.counters.demand.forget();
    this.dials.resize(sizes.max);
    this.#readiness.resize(sizes);
    while (shelf.size > sizes.maxIdle || (tally.open > sizes.max && shelf.size > 0)) {
      const { bottom } = shelf;
      if (bottom === undefined) break;
      this.#endHealthy(bottom, 'surplus');
    }
    this.#readiness.see(tally.open);
    this.serve();
    for (const tell of this.onResized) tell();
  }

  /** Replaces every socket that is there now, at most `perSecond`. Resolves when none of them is left. */
  renew(perSecond: number): Promise<void> {
    const { slots } = this.state;
    const renewed = this.#renewal.begin(slots.size);
    this.#idleLimit.forget();
    this.#retirement.limitRate(perSecond);
    for (const slot of slots) {
      const { name } = slot.state;
      if (name === 'idle' || name === 'checking' || name === 'leased') this.#outdate(slot);
      else if (name === 'dialing' && this.state.isSuspended) {
        // It may open after `resume`, and must not be lent then.
        slot.staleBy = 'reset';
        slot.mustGo = true;
      }
    }
    this.#retirement.step();
    return renewed;
  }

  /** What advice is drawn from. */
  facts(now: number): AdviceFacts {
    const { counters, sizes } = this.state;
    return {
      sizes,
      ...counters.times(now),
      demand: counters.demand.summary(now),
      acquired: counters.acquired,
      waited: counters.waited,
      uptimeMs: now - this.#bornAt,
      serverIdleMs: this.#idleLimit.learnedMs(now),
      idleTimeoutMs: this.#parts.idleTimeoutMs,
    };
  }

  /** Starts to close: nothing new is opened, idle sockets end. Resolves when no slot is left. Call it once. */
  drain(): Promise<void> {
    this.state.phase = 'draining';
    for (const tell of this.onDrain) tell();
    this.#checkQuiet();
    this.#upkeep.end();
    this.#retirement.end();
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    this.#readiness.fail(this.refusals.closed(0));
    this.lender.failNew(() => this.refusals.closed(0));
    this.#repin();
    this.serve();
    this.#checkEmpty();
    return empty;
  }

  /** Ends whatever is left, by force. Returns whose leases were cut off. */
  kill(error: PulsepoolError): LeaseHolder[] {
    const { slots } = this.state;
    const holders = this.#holders.list(slots, this.#parts.clock.now());
    this.dials.abort();
    this.refusals.closeAll();
    for (const slot of slots) {
      if (slot.state.name !== 'dialing' && slot.state.name !== 'closed')
        slot.state.connection.destroy('shutdown', error);
    }
    // Who was about to get one of these is in the queue again.
    this.refusals.closeAll();
    return holders;
  }

  /** Stops every timer. No slot may be left. */
  async end(): Promise<void> {
    this.#pinger.end();
    this.#upkeep.end();
    this.#retirement.end();
    this.#holders.end();
    this.lender.end();
    this.waiters.end();
    await this.dials.end();
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
      slots: this.state.slots,
      shelved: this.state.shelf.size,
      borrowChecks: this.lender.borrowChecks,
      firstPings: this.#pinger.firstPings,
      outdated: this.#renewal.outdated,
      stale: this.#retirement.size,
      ordered: this.#retirement.ordered,
    };
  }

  // ---- endpoints come and go -----------------------------------------------------------------------------

  /** An endpoint is new, or well again. */
  onJoined(): void {
    this.#placement.rebalance();
    this.#repin();
    this.serve();
  }

  /** An endpoint has left, or was put out. */
  onVacated(member: PoolMember<In, Out>, reason: 'removed' | 'ejected'): void {
    this.#repin();
    this.#placement.vacate(member, reason);
    this.serve();
  }

  /** An endpoint that is known by its name has these addresses from now on. */
  onMoved(member: PoolMember<In, Out>, addresses: ReadonlySet<string>): void {
    this.#placement.move(member, addresses);
  }

  /** The machine has another network: what used these local addresses goes, and whatever else rests must prove that it lives. */
  onNetworkChanged(goneLocal: ReadonlySet<string>): void {
    this.#placement.vacateLocal(goneLocal);
    this.#suspectAll(true);
    this.serve();
  }

  // ---- a slot is born ------------------------------------------------------------------------------------

  /** How many dials there is a use for. */
  #wanted(): number {
    const { members, phase, sizes, tally } = this.state;
    if (phase !== 'serving') return 0;
    const needed = this.#wantedAnywhere() + members.needed(this.#parts.clock.now());
    return Math.min(needed, sizes.max - tally.open - tally.count('closing'));
  }

  /** Those that may lead to any endpoint. */
  #wantedAnywhere(): number {
    const { members, phase, sizes, tally } = this.state;
    if (phase !== 'serving') return 0;
    const { waiters } = this;
    const waiting = waiters.size - waiters.pinned;
    // What is checked at the endpoint of those who wait for no other is for them.
    const taken = waiters.pinned === 0 ? 0 : members.hopes(true);
    const hopes = this.lender.borrowChecks + this.#pinger.firstPings - taken;
    const unserved = Math.max(0, waiting - hopes);
    const spare = Math.max(0, sizes.minIdle - tally.count('idle') - tally.count('checking'));
    const asked = unserved + spare + this.lender.wishesForNew;
    const needed = Math.max(asked, this.#readiness.floor - tally.open, this.#isWished ? 1 : 0);
    const { ordered, owed } = this.#retirement;
    // Whatever one that went before its successor is missed for, that successor will do.
    return Math.max(needed, owed) + ordered - owed;
  }

  #grow(): void {
    if (!this.dials.hasRoom) {
      this.#endSuspect();
      return;
    }
    const { slots, tally } = this.state;
    const wanted = Math.min(this.#wanted(), this.dials.limit(this.#servesSoon()));
    while (tally.count('dialing') < wanted) {
      if (!this.dials.hasRoom) break;
      this.#lastId += 1;
      const slot = new Slot<In, Out>(this.#lastId, this.#renewal.generation, this, this.#pinger);
      tally.add();
      slots.add(slot);
      if (slots.size === 1) this.#parts.onInUse(true);
      this.dials.start(slot);
    }
    if (!this.dials.hasRoom) this.#endSuspect();
  }

  /** Whether the sockets that are open may serve everybody who waits before a dial is done. */
  #servesSoon(): boolean {
    const { counters, tally } = this.state;
    const { open } = tally;
    const waiting = this.waiters.size;
    if (open === 0 || open < this.#readiness.floor || waiting + tally.count('leased') === 0) return false;
    // What is not known yet is thought to be short: a dial too many costs more than one too late.
    return (waiting / open) * counters.usualHoldMs <= Math.max(1, counters.slowDialMs);
  }

  /** A socket that missed a ping holds a place that a waiter needs: it is not worth another interval. */
  #endSuspect(): void {
    if (!this.#pinger.hasSuspects) return;
    const { slots, tally } = this.state;
    // A place that is about to be free, or a dial under way, serves a waiter each.
    if (this.waiters.size <= tally.count('closing') + tally.count('dialing')) return;
    this.#pinger.endSuspect(slots);
  }

  /** One more socket would be welcome, though nobody waits for it. */
  #wish(): void {
    this.#isWished = true;
    this.#grow();
    // There is no place for it, or now is no time: nobody may want it any more when there is.
    if (this.state.tally.count('dialing') === 0) this.#isWished = false;
  }

  /** A caller was to go there: one more socket to it would be welcome, if it may rest. */
  #onMissing(member: PoolMember<In, Out>): void {
    if (this.state.phase !== 'serving' || this.state.sizes.maxIdle === 0) return;
    const isInDoubt = member.record.state.name === 'probing' || member.backoff.isFailing;
    // In a full pool the sweep sees to it, but for one that can't be known to be well again otherwise.
    if (!this.dials.hasRoom && !isInDoubt) return;
    const now = this.#parts.clock.now();
    // A server that is new or has just come back need not shake hands with everybody at once.
    if (member.record.state.name === 'warming' && now < member.wantedAt + WARMING_EVERY_MS) return;
    member.wanted = 1;
    member.wantedAt = now;
    if (this.dials.hasRoom) this.#grow();
    else this.#placement.makeRoom();
  }

  /** Whoever waits for one endpoint may have to wait for another one by now. */
  #repin(): void {
    this.waiters.repin((wish) => this.lender.matching.pinOf(wish));
  }

  #onOpened(slot: Slot<In, Out>, connection: Connection<In, Out>, dialMs: number): void {
    const { clock, members, random } = this.#parts;
    const { counters, isDraining, tally } = this.state;
    const endpoint = this.#endpointOf(slot);
    tally.move(slot, { name: 'idle', connection });
    if (slot.member !== undefined) members.onOpened(slot.member, clock.now());
    slot.expiresAt = this.#upkeep.expiry(connection.openedAt, random());
    this.#pinger.watch(slot);
    this.#isWished = false;
    counters.opened += 1;
    counters.dial.record(dialMs, clock.now());
    if (!isDraining) this.#upkeep.start();
    this.#announcer.tell('opened', () => ({ connectionId: slot.id, endpoint, dialMs }));
    // Before it is offered: with `maxIdle` 0 it may not stay.
    this.#readiness.see(tally.open);
    this.dials.learn(this.waiters.size > this.lender.borrowChecks);
    // One more is open, whatever it was opened for: an older one may go.
    this.#retirement.succeeded();
    if (this.#renewal.isOutdated(slot)) this.#outdate(slot);
    // Its endpoint left while it was dialed.
    if (slot.member?.isGone === true && slot.state.name === 'idle') this.#endHealthy(slot, 'removed');
    // While suspended, one that is outdated has ended already.
    if (slot.state.name !== 'idle') return;
    this.lender.offer(slot, connection);
    this.#retirement.step();
    this.serve();
  }

  #onNotOpened(slot: Slot<In, Out>, error: PulsepoolError | undefined): void {
    this.#isWished = false;
    this.#forget(slot);
    if (error !== undefined) this.#onOutOfReach(error);
    this.serve();
  }

  /**
   * The dial has failed for good. Whoever has no open socket to hope for is told why, at once, unless another endpoint is
   * just being tried, or will be.
   */
  #onOutOfReach(error: PulsepoolError): void {
    const { isSuspended, members } = this.state;
    if (isSuspended || (members.size > 1 && !members.isOutOfReach)) return;
    this.#readiness.fail(error);
    this.#retirement.giveUp();
    this.lender.failNew(() => this.refusals.unopened());
    if (this.state.tally.open === 0) this.refusals.failAll();
  }

  #endpointOf({ member }: Slot<In, Out>): string {
    return member?.name ?? this.#parts.endpoint;
  }

  // ---- a slot ends ---------------------------------------------------------------------------------------

  onEnding(slot: Slot<In, Out>, reason: CloseReason, error: PulsepoolError | undefined): void {
    const { state } = slot;
    // While dialing, the opener has the connection and notices by itself.
    if (state.name === 'dialing' || state.name === 'closing' || state.name === 'closed') return;
    const { connection } = state;
    const wasForBorrower = slot.isBorrowCheck;
    const wasPeer = reason === 'peer-closed' || reason === 'peer-reset';
    if (wasPeer && state.name !== 'leased') this.#learnIdleLimit(slot, connection);
    this.#leave(slot, connection, reason, error);
    if (error !== undefined && connection.diedYoung) this.dials.countLoss(slot, error, connection.openedAt);
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
      .catch((error: PulsepoolError) => this.#onHookFailed(slot, 'onClose', error))
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
    const { counters, shelf, tally } = this.state;
    let trace: Trace | undefined;
    let waiter: Waiter<Lease<In, Out>, Wish<In, Out>> | undefined;
    this.lender.endBorrowCheck(slot);
    shelf.remove(slot);
    this.#pinger.unwatch(slot);
    this.#retirement.forget(slot);
    if (state.name === 'leased') {
      trace = state.trace;
      waiter = state.waiter;
      state.waiter = undefined;
      const isByHolder =
        reason === 'destroyed' || reason === 'detached' || reason === 'dirty' || reason === 'failed';
      if (state.hook === undefined) this.lender.endLease(slot, state, isByHolder);
    }
    tally.move(slot, { name: 'closing', connection, reason });
    this.#checkQuiet();
    counters.countClosed(reason);
    const { clock, members } = this.#parts;
    const endpoint = this.#endpointOf(slot);
    const now = clock.now();
    if (slot.member !== undefined) {
      const leasedAt = state.name === 'leased' ? state.lentAt : undefined;
      members.onLeft(slot.member, leasedAt, reason, error, now);
    }
    if (error !== undefined) this.#parts.onTrouble(slot.member);
    const ageMs = now - connection.openedAt;
    const { id: connectionId, uses } = slot;
    this.#announcer.tell('closed', () => ({ connectionId, endpoint, reason, error, ageMs, uses }), trace);
    if (waiter !== undefined) this.lender.tryAgain(waiter, error);
  }

  /** The places of a socket on the books and in the counts are free. */
  #forget(slot: Slot<In, Out>): void {
    this.state.tally.move(slot, { name: 'closed' });
    this.state.slots.delete(slot);
    if (this.state.slots.size === 0) this.#parts.onInUse(false);
    this.#hooks.ended(slot);
    this.dials.forget(slot);
    this.#renewal.forget(slot);
    this.#checkEmpty();
  }

  #onHookFailed(slot: Slot<In, Out>, hook: HookName, error: PulsepoolError): void {
    const { state } = slot;
    const connection = state.name === 'dialing' || state.name === 'closed' ? undefined : state.connection;
    // The socket was lost under the hook: that is told by its end.
    if (connection === undefined || (!connection.isOpen && connection.error !== undefined)) return;
    this.state.counters.hookFailed += 1;
    this.#announcer.tell('hookFailed', () => ({ connectionId: slot.id, hook, error }));
    // Else a hook that fails on each new socket would have the server dialed without a pause. One that has served shows
    // that the server can be used.
    if (slot.uses === 0 && connection.isOpen && hook === 'onAcquire') {
      this.dials.countLoss(slot, error, connection.openedAt);
      if (slot.member !== undefined) this.state.members.onHookFailed(slot.member, this.#parts.clock.now());
    }
    connection.destroy('hook', error);
  }

  /** Nobody can release it any more. */
  #onLost(slot: Slot<In, Out>): void {
    const { state } = slot;
    if (state.name === 'leased') state.connection.destroy('leaked', lostError(this.#endpointOf(slot)));
  }

  /** While draining, with nobody left to serve: what rests is of no more use, nor is what is being dialed. */
  #endResting(): void {
    const { slots, tally } = this.state;
    this.dials.abort();
    if (tally.count('idle') + tally.count('checking') === 0) return;
    for (const slot of slots) {
      if (slot.state.name === 'idle') this.#endHealthy(slot, 'shutdown');
      else if (slot.state.name === 'checking') slot.state.connection.end('shutdown');
    }
  }

  #checkEmpty(): void {
    if (this.state.isDraining && this.state.slots.size === 0) this.#onEmpty?.();
  }

  // ---- what is found about a slot ------------------------------------------------------------------------

  /** Its heartbeat is about to ping it. */
  #withdraw(slot: Slot<In, Out>): void {
    if (slot.state.name !== 'idle') return;
    const { connection } = slot.state;
    this.state.shelf.remove(slot);
    this.state.tally.move(slot, { name: 'checking', connection, by: 'heartbeat' });
  }

  /** Opened before the last reset. While nobody is served, it need not wait for a successor. */
  #outdate(slot: Slot<In, Out>): void {
    this.#retirement.mark(slot, 'reset');
    if (!this.state.isSuspended) return;
    slot.mustGo = true;
    this.#endHealthy(slot, 'reset');
  }

  #learnIdleLimit(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    const { clock, idleTimeoutMs: configuredMs } = this.#parts;
    const endpoint = this.#endpointOf(slot);
    const { bottom } = this.state.shelf;
    const now = clock.now();
    const eldest = bottom === slot ? bottom.above : bottom;
    const longestOpenMs = eldest === undefined ? 0 : now - eldest.lastReadAt;
    const limitMs = this.#idleLimit.ended(now - connection.lastReadAt, longestOpenMs, now);
    if (limitMs === undefined || limitMs >= configuredMs) return;
    this.#announcer.tell('idleLimitLearned', () => ({ endpoint, idleTimeoutMs: limitMs, configuredMs }));
  }

  #onLookedAfter(now: number): void {
    const { counters, tally } = this.state;
    counters.demand.see(tally.takePeak(), now);
    counters.lookBack(now);
    this.#holders.sweep();
    // A goodbye is no reason to let callers wait.
    if (this.waiters.size > 0 && !this.dials.hasRoom) this.#hooks.cutGoodbyes();
    this.#placement.rebalance();
    if (this.waiters.size > 0) this.state.members.tryOut(now);
    // The next rush begins with one dial again, however the last one ended.
    if (this.waiters.size === 0) this.dials.learn(false);
    this.#retirement.step();
    this.serve();
  }

  #onStalled(lateMs: number, sleptMs = 0): void {
    const now = this.#parts.clock.now();
    // The heartbeat and the upkeep notice the same one; only the upkeep looks at the clock on the wall.
    if (sleptMs === 0 && now - lateMs <= this.#stalledAt) return;
    this.#stalledAt = now;
    this.state.counters.stalled += 1;
    this.#announcer.tell('stalled', () => ({ lateMs: lateMs + sleptMs }));
  }

  /** Has all that rest pinged in the next turn, as far as they have not spoken just now: once, however many died. */
  #suspectAll(isFrozen = false): void {
    this.#wasFrozen ||= isFrozen;
    if (this.#isSuspecting) return;
    this.#isSuspecting = true;
    const { clock } = this.#parts;
    clock.turn(() => {
      const wasFrozen = this.#wasFrozen;
      this.#isSuspecting = false;
      this.#wasFrozen = false;
      const now = clock.now();
      for (let slot = this.state.shelf.bottom; slot !== undefined; ) {
        // A ping takes it off the shelf.
        const { above } = slot;
        this.#pinger.suspect(slot, now, wasFrozen);
        slot = above;
      }
    });
  }
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

/**
 * The lender: which caller gets which socket. It looks after a socket from the moment it rests until its lease has
 * come back: the checks at borrow, the hooks around a lease, and where an idle socket finds its next place.
 *
 * How a slot is born and how it ends is the roster's business, who is refused that of the refusals.
 */
import { onAbort } from '../abort.ts';
import type { Clock, ProcessHold, Timer } from '../clock.ts';
import type { PulsepoolError } from '../errors.ts';
import type { CloseReason } from '../transport/close-reason.ts';
import type { Connection } from '../transport/connection.ts';
import type { Announcer } from './announcer.ts';
import type { Holders } from './holders.ts';
import type { HookName, Hooks } from './hooks.ts';
import { Lease, type LeaseHome } from './lease.ts';
import { Matching } from './matching.ts';
import type { Members, Wish } from './members.ts';
import type { Pinger } from './pinger.ts';
import type { PoolMember } from './pool-member.ts';
import type { PoolState } from './pool-state.ts';
import type { Refusals } from './refusals.ts';
import type { LeasedState, Slot } from './slot.ts';
import type { Trace } from './trace.ts';
import type { Waiter, Waiters, WaitOptions } from './waiters.ts';

/** What the lender needs of the roster. */
export interface LenderOwner<In, Out> {
  /** Sockets are missing: opens what is. */
  readonly grow: () => void;
  /** One more socket would be welcome, though nobody waits for it. */
  readonly wish: () => void;
  /** Ends an idle slot that is in good health. */
  readonly end: (slot: Slot<In, Out>, reason: CloseReason) => void;
  /** One that is to be replaced rests for a moment: it may have to go now. */
  readonly onStale: (slot: Slot<In, Out>) => void;
  /** Its last lease has begun. */
  readonly onLastUse: (slot: Slot<In, Out>) => void;
  readonly onHookFailed: (slot: Slot<In, Out>, hook: HookName, error: PulsepoolError) => void;
  /** While suspended: a lease has come back. */
  readonly onRested: () => void;
  /** While draining: the last caller has been served, or none can be. */
  readonly onDrained: () => void;
}

/** What a lender works with. */
export interface LenderParts<In, Out> {
  readonly maxUses: number;
  readonly acquireTimeoutMs: number;
  readonly retry: { readonly retries: number };
  readonly clock: Clock;
  readonly hold: ProcessHold;
  readonly state: PoolState<In, Out>;
  readonly waiters: Waiters<Lease<In, Out>, Wish<In, Out>>;
  readonly announcer: Announcer;
  readonly hooks: Hooks<In, Out>;
  readonly holders: Holders<In, Out>;
  readonly pinger: Pinger<In, Out>;
  readonly refusals: Refusals<In, Out>;
}

// A socket that spoke or was checked this recently is lent as it is. One that rested longer is given two turns of
// the event loop first, in which a FIN or RST that the kernel holds is read: 2 us, no round trip. The bound is as
// short as a stall of the loop that goes unnoticed.
const FRESH_MS = 25;

// How long a waiter counts on a socket whose ping is out, before another one is opened: much longer than most round
// trips, much shorter than a ping's timeout.
const PATIENCE_MS = 100;

/** Somebody who wants a socket that has served nobody. */
interface NewcomerWish<In, Out> {
  readonly resolve: (lease: Lease<In, Out>) => void;
  readonly reject: (reason: unknown) => void;
  readonly trace: Trace | undefined;
  /** Takes away what was armed for it. */
  release: () => void;
}

/** See the file's comment. */
export class Lender<In, Out> implements LeaseHome<In, Out> {
  /** Whether there are several endpoints to choose from, which go by how long replies take. */
  readonly isTimed: boolean;
  /** Who may have which socket, where not every one does for all. */
  readonly matching: Matching<In, Out>;
  readonly #owner: LenderOwner<In, Out>;
  readonly #parts: LenderParts<In, Out>;
  // Kept at hand for the warm path.
  readonly #state: PoolState<In, Out>;
  readonly #clock: Clock;
  readonly #members: Members<In, Out>;
  readonly #waiters: Waiters<Lease<In, Out>, Wish<In, Out>>;
  readonly #hooks: Hooks<In, Out>;
  readonly #pinger: Pinger<In, Out>;
  readonly #announcer: Announcer;
  readonly #maxUses: number;
  // Slots being checked for a waiter: likely to serve one soon.
  #borrowChecks = 0;
  // Who wants a socket that has served nobody yet.
  readonly #forNew: NewcomerWish<In, Out>[] = [];
  // It was chosen for a caller who could not have it at once: a choice is not made twice, or whoever takes turns would
  // skip every other endpoint.
  #chosen: Slot<In, Out> | undefined;
  #patience: Timer | undefined;

  constructor(parts: LenderParts<In, Out>, owner: LenderOwner<In, Out>) {
    this.#parts = parts;
    this.#owner = owner;
    this.#state = parts.state;
    this.#clock = parts.clock;
    this.#members = parts.state.members;
    this.isTimed = parts.state.members.balancer !== undefined;
    this.#waiters = parts.waiters;
    this.matching = new Matching(parts.state, parts.waiters);
    this.#hooks = parts.hooks;
    this.#pinger = parts.pinger;
    this.#announcer = parts.announcer;
    this.#maxUses = parts.maxUses;
  }

  /** Callers that wait for a socket which has served nobody. */
  get wishesForNew(): number {
    return this.#forNew.length;
  }

  /** Slots that are being checked for a waiter. */
  get borrowChecks(): number {
    return this.#borrowChecks;
  }

  // ---- callers come --------------------------------------------------------------------------------------

  /** A socket that can be lent this very moment, if there is one. The warm path of `acquire`. */
  lendFresh(trace?: Trace | undefined, wish?: Wish<In, Out> | undefined): Lease<In, Out> | undefined {
    const { phase, shelf, sizes, tally } = this.#state;
    if (this.#waiters.size > 0 || phase === 'suspended' || this.#hooks.hasOnAcquire) return undefined;
    const slot = this.isTimed ? this.#top(wish) : shelf.top;
    if (slot === undefined || slot.state.name !== 'idle') return undefined;
    const now = this.#clock.now();
    const { connection } = slot.state;
    if (now - connection.lastReadAt >= FRESH_MS && now - connection.provenAt >= FRESH_MS) {
      if (this.isTimed) this.#chosen = slot;
      return undefined;
    }
    shelf.remove(slot);
    const state = tally.lend(slot, connection);
    const lease = this.#grant(slot, connection, state, now);
    if (trace !== undefined) this.#trace(slot, state, 0, trace);
    if (shelf.size < sizes.minIdle) this.#owner.grow();
    return lease;
  }

  /** The slot that is to be lent next, still on the shelf. */
  #top(wish?: Wish<In, Out> | undefined): Slot<In, Out> | undefined {
    if (!this.isTimed) return this.#state.shelf.top;
    const chosen = this.#chosen;
    if (chosen !== undefined) {
      this.#chosen = undefined;
      if (chosen.isShelved && wish === undefined) return chosen;
    }
    return this.#members.top(wish);
  }

  /** Joins the queue. */
  wait(
    options: WaitOptions | undefined,
    trace: Trace | undefined,
    wish?: Wish<In, Out> | undefined,
  ): Promise<Lease<In, Out>> {
    const { phase, sizes, tally } = this.#state;
    // Nothing to lend, nothing to check and no place for another: the usual case of a busy pool.
    if (phase === 'serving' && tally.count('leased') >= sizes.max) {
      const lease = this.#join(options, trace, wish);
      if (this.#waiters.size > 0) this.onShort(this.#waiters.size, trace);
      return lease;
    }
    const { refusals } = this.#parts;
    if (refusals.isOutOfReach) {
      this.#owner.wish();
      return refusals.atOnce(options?.signal, trace);
    }
    const lease = this.#join(options, trace, wish);
    this.serve();
    // With all places open, those that no lease holds serve somebody soon: whoever else waits is short of a socket.
    if (phase === 'serving' && tally.open >= sizes.max) {
      const missing = this.#waiters.size - (sizes.max - tally.count('leased'));
      if (missing > 0 && this.#waiters.size > 0) this.onShort(missing, trace);
    }
    return lease;
  }

  #join(
    options: WaitOptions | undefined,
    trace: Trace | undefined,
    wish: Wish<In, Out> | undefined,
  ): Promise<Lease<In, Out>> {
    return wish === undefined || !this.isTimed
      ? this.#waiters.wait(options, trace)
      : this.#waiters.wait(options, trace, wish, this.matching.pinOf(wish));
  }

  /** A lease on a socket that is open and at rest, without waiting for anybody or for a dial. */
  async tryLend(trace: Trace | undefined): Promise<Lease<In, Out> | undefined> {
    const fresh = this.lendFresh(trace);
    if (fresh !== undefined) return fresh;
    const { shelf, tally } = this.#state;
    let losses = 0;
    while (this.#waiters.size === 0 && this.#state.phase === 'serving') {
      const slot = this.#top();
      if (slot === undefined || slot.state.name !== 'idle') break;
      const { connection } = slot.state;
      if (this.#pinger.mustPing(slot, this.#clock.now() - connection.lastReadAt)) break;
      shelf.remove(slot);
      tally.move(slot, { name: 'checking', connection, by: 'borrow-turns' });
      await new Promise<void>((resolve) => this.#afterTwoTurns(resolve));
      // It has died, or the pool has ended it.
      if (!isChecking(slot)) continue;
      tally.move(slot, { name: 'idle', connection });
      connection.proved(this.#clock.now());
      if (slot.mustGo || this.#state.isSuspended) {
        this.offer(slot, connection);
        break;
      }
      const lease = await this.#lendPrepared(slot, connection, trace);
      if (lease !== undefined) return lease;
      // As many as for one who waits: with `minIdle` a hook that always fails is given new sockets without end.
      losses += 1;
      if (losses > this.#parts.retry.retries) break;
    }
    // Who never waits would never have a socket opened.
    if (shelf.size === 0 && this.#state.sizes.maxIdle > 0) this.#owner.wish();
    return undefined;
  }

  /**
   * A lease on a socket that is opened for it: one at rest gives up its place if need be. When all are leased, the next
   * one to come back must do, which at least is alive. Its signal must not be aborted yet.
   */
  lendNew(options: WaitOptions | undefined, trace: Trace | undefined): Promise<Lease<In, Out>> {
    const { phase, shelf, sizes, tally } = this.#state;
    if (phase === 'draining' || tally.count('leased') >= sizes.max) return this.wait(options, trace);
    return new Promise((resolve, reject) => {
      const wish: NewcomerWish<In, Out> = { resolve, reject, trace, release: () => undefined };
      this.#forNew.push(wish);
      this.#boundWish(wish, options ?? {});
      const { bottom } = shelf;
      if (tally.total >= sizes.max && bottom !== undefined) this.#owner.end(bottom, 'surplus');
      this.#owner.grow();
    });
  }

  #boundWish(wish: NewcomerWish<In, Out>, bounds: WaitOptions): void {
    const { signal, timeoutMs = this.#parts.acquireTimeoutMs } = bounds;
    const since = this.#clock.now();
    const giveUp = (reason: () => unknown): void => {
      const at = this.#forNew.indexOf(wish);
      if (at < 0) return;
      this.#forNew.splice(at, 1);
      wish.release();
      wish.reject(reason());
    };
    const late = (): unknown => this.#parts.refusals.lateForNew(this.#clock.now() - since);
    const deafen = signal === undefined ? undefined : onAbort(signal, () => giveUp(() => signal.reason));
    // One turn, as for all who wait.
    const timer = this.#clock.after(timeoutMs, () => this.#clock.turn(() => giveUp(late)));
    wish.release = () => {
      deafen?.();
      timer.cancel();
    };
  }

  /** No socket can be opened, or none will be. */
  failNew(error: () => PulsepoolError): void {
    for (const { reject, release } of this.#forNew.splice(0)) {
      release();
      reject(error());
    }
  }

  /** Gives waiters what there is, and has opened what is missing. Safe to call at any time. */
  serve(): void {
    const { phase, shelf } = this.#state;
    if (phase === 'suspended') return;
    while (this.#waiters.pinned > 0 || this.#waiters.size > this.#borrowChecks) {
      const slot =
        this.#waiters.wishing === 0
          ? this.#top()
          : this.matching.next(this.#borrowChecks, (wish) => this.#top(wish));
      if (slot === undefined || slot.state.name !== 'idle') break;
      shelf.remove(slot);
      this.#handOver(slot, slot.state.connection);
    }
    if (phase === 'draining') this.#drain();
    else {
      const spare = this.#waiters.pinned > 0 ? this.matching.spare : undefined;
      if (spare !== undefined) this.#owner.end(spare, 'rebalanced');
      this.#owner.grow();
    }
    if (this.#waiters.size > 0 && this.#pinger.firstPings > 0) this.#armPatience();
  }

  /** While draining, waiters are served by what is still open. When nothing is, they are told. */
  #drain(): void {
    if (this.#waiters.size > 0 && this.#state.tally.open === 0) this.#parts.refusals.closeAll();
    if (this.#waiters.size === 0) this.#owner.onDrained();
  }

  /** So many wait for leases of somebody else's. */
  onShort(missing: number, trace: Trace | undefined): void {
    const { counters } = this.#state;
    const weight = counters.countShort();
    if (weight > 0) counters.demand.short(missing, this.#clock.now(), weight);
    if (trace !== undefined) this.#parts.refusals.suspectDeadlock(trace);
  }

  // ---- a lease begins ------------------------------------------------------------------------------------

  /** Makes the lease of a slot that is leased already. */
  #grant(
    slot: Slot<In, Out>,
    connection: Connection<In, Out>,
    state: LeasedState<In, Out>,
    now: number,
  ): Lease<In, Out> {
    const { counters } = this.#state;
    slot.uses += 1;
    if (this.isTimed) this.#count(slot, state);
    const lease = new Lease(slot, connection, this, slot.uses);
    state.lease = lease;
    state.lentAt = now;
    connection.serve();
    connection.lastUsedAt = Math.floor(now);
    state.weight = counters.countAcquired();
    if (slot.uses >= this.#maxUses) this.#owner.onLastUse(slot);
    return lease;
  }

  /** One more at its endpoint. */
  #count(slot: Slot<In, Out>, state: LeasedState<In, Out>): void {
    slot.isTimed = false;
    state.isCounted = true;
    slot.member?.lent();
  }

  #trace(slot: Slot<In, Out>, state: LeasedState<In, Out>, waitedMs: number, trace: Trace): void {
    state.trace = trace;
    trace.granted(slot.id, state.lentAt);
    this.#announcer.tell('acquired', () => ({ connectionId: slot.id, waitedMs }), trace);
  }

  #giveToWaiter(slot: Slot<In, Out>, connection: Connection<In, Out>, now: number): void {
    const { member } = slot;
    const waiter = this.#hooks.hasOnAcquire ? this.#waiters.shift(member) : this.#waiters.take(member);
    // Whoever waited may have been refused at this very moment.
    if (waiter === undefined) {
      this.offer(slot, connection);
      return;
    }
    const state = this.#state.tally.lend(slot, connection);
    if (this.#hooks.hasOnAcquire) this.#prepare(slot, state, waiter);
    else this.#settle(slot, state, waiter, now);
    if (this.#state.isDraining && this.#waiters.size === 0) this.#owner.onDrained();
    // While it was being checked it counted as a spare one.
    else if (this.#state.shelf.size < this.#state.sizes.minIdle) this.#owner.grow();
  }

  #settle(
    slot: Slot<In, Out>,
    state: LeasedState<In, Out>,
    waiter: Waiter<Lease<In, Out>, Wish<In, Out>>,
    now: number,
  ): void {
    const { counters } = this.#state;
    const lease = this.#grant(slot, state.connection, state, now);
    const waitedMs = now - waiter.since;
    counters.waited += 1;
    if (state.weight > 0) counters.wait.record(waitedMs, now, state.weight);
    if (waiter.trace !== undefined) this.#trace(slot, state, waitedMs, waiter.trace);
    waiter.resolve(lease);
  }

  /** Runs `onAcquire` before the caller gets the socket. If that fails, the caller is in the queue again. */
  #prepare(
    slot: Slot<In, Out>,
    state: LeasedState<In, Out>,
    waiter: Waiter<Lease<In, Out>, Wish<In, Out>>,
  ): void {
    const { connection } = state;
    const { hold } = this.#parts;
    state.hook = 'onAcquire';
    state.waiter = waiter;
    hold.take();
    // Whose event it is that brings the socket must not matter: the hook runs for this caller.
    const run = (): Promise<void> => this.#hooks.onAcquire(slot, connection);
    (waiter.trace === undefined ? run() : waiter.trace.run(run))
      .then(
        () => {
          // The socket has ended, and the caller waits for another one.
          if (slot.state !== state || state.waiter !== waiter) return;
          state.hook = undefined;
          state.waiter = undefined;
          if (this.#state.isSuspended) this.#requeue(waiter);
          else if (this.#waiters.isWanted(waiter)) {
            this.#settle(slot, state, waiter, this.#clock.now());
            return;
          }
          // What was prepared for somebody who does not get it must not reach the next one.
          this.#giveBack(slot, state);
        },
        (error: PulsepoolError) => {
          waiter.losses = { count: waiter.losses?.count ?? 0, error };
          this.#owner.onHookFailed(slot, 'onAcquire', error);
        },
      )
      .finally(() => hold.drop());
  }

  /** For who does not wait: an idle slot that is on no shelf, made ready. */
  async #lendPrepared(
    slot: Slot<In, Out>,
    connection: Connection<In, Out>,
    trace: Trace | undefined,
  ): Promise<Lease<In, Out> | undefined> {
    const state = this.#state.tally.lend(slot, connection);
    if (this.#hooks.hasOnAcquire) {
      state.hook = 'onAcquire';
      try {
        await this.#hooks.onAcquire(slot, connection);
      } catch (error) {
        this.#owner.onHookFailed(slot, 'onAcquire', error as PulsepoolError);
        return undefined;
      }
      if (slot.state !== state) return undefined;
      state.hook = undefined;
      if (this.#state.isSuspended) {
        this.#giveBack(slot, state);
        return undefined;
      }
    }
    const lease = this.#grant(slot, connection, state, this.#clock.now());
    if (trace !== undefined) this.#trace(slot, state, 0, trace);
    return lease;
  }

  /** The socket that a caller was about to get has ended, for this reason if it is known. */
  tryAgain(waiter: Waiter<Lease<In, Out>, Wish<In, Out>>, error: PulsepoolError | undefined): void {
    if (!this.#waiters.isWanted(waiter)) return;
    // Suspended: nobody fails before their deadline.
    if (this.#state.isSuspended) {
      this.#requeue(waiter);
      return;
    }
    const losses = { count: (waiter.losses?.count ?? 0) + 1, error: error ?? waiter.losses?.error };
    waiter.losses = losses;
    if (losses.count <= this.#parts.retry.retries) this.#requeue(waiter);
    else this.#parts.refusals.fail(waiter, losses.error);
  }

  /** While it was apart, the endpoint that it had to wait for may have begun to fail, or left. */
  #requeue(waiter: Waiter<Lease<In, Out>, Wish<In, Out>>): void {
    if (waiter.wish !== undefined) waiter.pin = this.matching.pinOf(waiter.wish);
    this.#waiters.requeue(waiter);
  }

  // ---- a lease ends --------------------------------------------------------------------------------------

  /** The socket goes to the next caller, to the shelf, or away. */
  takeBack(slot: Slot<In, Out>, use: number): void {
    const { state } = slot;
    // The socket may have died in the caller's hands; then its slot is somebody else's business already.
    if (state.name !== 'leased' || slot.uses !== use) return;
    const { connection } = state;
    if (!connection.isClean) {
      connection.destroy('dirty');
      return;
    }
    state.trace?.enterContext();
    if (this.#announcer.hears('released')) this.#tellReleased(slot.id, state);
    this.endLease(slot, state, true);
    this.#giveBack(slot, state);
  }

  /** Nobody holds it any more: its session is reset, if it is to serve again. */
  #giveBack(slot: Slot<In, Out>, state: LeasedState<In, Out>): void {
    if (this.#hooks.hasOnRelease && this.#mayServeAgain(slot)) this.#cleanUp(slot, state);
    else this.#backFromLease(slot, state.connection);
  }

  /** What a lease leaves behind, however it ended; `cameBack`: by its holder's hand. */
  endLease(slot: Slot<In, Out>, state: LeasedState<In, Out>, cameBack: boolean): void {
    if (state.weight > 0) {
      const { counters } = this.#state;
      const now = this.#clock.now();
      counters.hold.record(now - state.lentAt, now, state.weight);
      state.weight = 0;
    }
    if (state.trace !== undefined || state.isTold) {
      this.#parts.holders.ended(slot, state, this.#clock.now(), cameBack);
      state.trace = undefined;
      state.isTold = false;
    }
    state.lease = undefined;
    state.isShared = false;
    if (this.isTimed) this.#uncount(slot, state, cameBack);
  }

  /** One less at its endpoint, and what became of it. */
  #uncount(slot: Slot<In, Out>, state: LeasedState<In, Out>, cameBack: boolean): void {
    const { member } = slot;
    if (member === undefined) return;
    if (state.isCounted) member.returned();
    state.isCounted = false;
    const { connection } = state;
    const hasHeard = cameBack && connection.isOpen && connection.lastReadAt >= state.lentAt;
    if (slot.isTimed || !hasHeard) this.#members.forgo(member);
    else this.#members.onReply(member, undefined, this.#clock.now());
  }

  onReply(slot: Slot<In, Out>, latencyMs: number, now: number): void {
    slot.isTimed = true;
    if (slot.member !== undefined) this.#members.onReply(slot.member, latencyMs, now);
  }

  async timed<T>(slot: Slot<In, Out>, reply: Promise<T>): Promise<T> {
    const askedAt = this.#clock.now();
    slot.member?.asked(askedAt);
    try {
      const frame = await reply;
      const now = this.#clock.now();
      this.onReply(slot, now - askedAt, now);
      return frame;
    } finally {
      slot.member?.answered(this.#clock.now());
    }
  }

  countsCalls(slot: Slot<In, Out>): PoolMember<In, Out> | undefined {
    if (slot.state.name !== 'leased' || !this.isTimed) return undefined;
    if (slot.state.isCounted) slot.member?.returned();
    slot.state.isCounted = false;
    return slot.member;
  }

  passOn({ state }: Slot<In, Out>, waitedMs: number, now: number): void {
    if (state.name !== 'leased') return;
    const { counters } = this.#state;
    if (state.weight > 0) counters.hold.record(now - state.lentAt, now, state.weight);
    state.lentAt = now;
    state.weight = counters.countAcquired();
    counters.waited += 1;
    if (state.weight > 0) counters.wait.record(waitedMs, now, state.weight);
  }

  isWantedBack(slot: Slot<In, Out>): boolean {
    const { phase, sizes, tally } = this.#state;
    return slot.mustGo || phase === 'suspended' || tally.open > sizes.max;
  }

  #tellReleased(connectionId: number, { lentAt, trace }: LeasedState<In, Out>): void {
    const heldMs = this.#clock.now() - lentAt;
    this.#announcer.tell('released', () => ({ connectionId, heldMs }), trace);
  }

  #mayServeAgain(slot: Slot<In, Out>): boolean {
    return !(slot.mustGo || (this.#state.isDraining && this.#waiters.size === 0));
  }

  /** Resets the session, then the socket may serve again. */
  #cleanUp(slot: Slot<In, Out>, state: LeasedState<In, Out>): void {
    const { connection } = state;
    state.hook = 'onRelease';
    this.#hooks.onRelease(slot, connection).then(
      () => {
        if (slot.state !== state) return;
        state.hook = undefined;
        this.#backFromLease(slot, connection);
      },
      (error) => this.#owner.onHookFailed(slot, 'onRelease', error),
    );
  }

  #backFromLease(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    connection.rest();
    this.#state.tally.takeBack(slot, connection);
    this.offer(slot, connection);
    if (this.#state.isSuspended) this.#owner.onRested();
  }

  // ---- an idle socket finds its place --------------------------------------------------------------------

  /** An idle slot that is on no shelf: to a waiter, to the shelf, or away. */
  offer(slot: Slot<In, Out>, connection: Connection<In, Out>, wasPinged = false): void {
    const { phase, shelf, sizes, tally } = this.#state;
    if (this.#forNew.length > 0 && phase === 'serving' && !slot.mustGo) {
      // Where no other one can be opened, one that has just come back is alive at least.
      if (slot.uses === 0 || (tally.total >= sizes.max && shelf.size === 0)) {
        this.#giveNew(slot, connection);
        return;
      }
    }
    const isPinned = this.#waiters.pinned > 0;
    if (slot.staleBy !== undefined && !slot.mustGo) this.#owner.onStale(slot);
    if (slot.mustGo) {
      this.#owner.end(slot, slot.staleBy ?? 'lifetime');
      // A caller may have hoped for it while others rest.
      if (this.#waiters.size > 0) this.serve();
    } else if (tally.open > sizes.max) this.#owner.end(slot, 'surplus');
    else if (isPinned && phase === 'serving' && this.matching.isOwed(slot))
      this.#owner.end(slot, 'rebalanced');
    else if (this.#isAwaited(slot) && phase !== 'suspended') this.#handOver(slot, connection);
    else if (isPinned && this.matching.isWantedElsewhere(slot)) this.#owner.end(slot, 'rebalanced');
    else if (phase === 'draining') this.#owner.end(slot, 'shutdown');
    else if (shelf.size >= sizes.maxIdle) this.#owner.end(slot, 'surplus');
    // What is to be replaced is lent last, and so is what was pinged: it has rested for longer than those that were not.
    else if (slot.staleBy !== undefined || wasPinged) shelf.pushBottom(slot);
    else shelf.push(slot);
  }

  #isAwaited({ member }: Slot<In, Out>): boolean {
    return this.#waiters.pinned === 0 ? this.#waiters.size > 0 : this.#waiters.wants(member);
  }

  #giveNew(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    const wish = this.#forNew.shift();
    wish?.release();
    this.#lendPrepared(slot, connection, wish?.trace).then(
      (lease) => {
        if (lease !== undefined) wish?.resolve(lease);
        // Its hook failed, or it ended on the way.
        else wish?.reject(this.#parts.refusals.unopened());
      },
      (error) => wish?.reject(error),
    );
  }

  /** Lends an idle slot to the first waiter, after a check when it has rested. */
  #handOver(slot: Slot<In, Out>, connection: Connection<In, Out>): void {
    const now = this.#clock.now();
    const silentMs = now - connection.lastReadAt;
    if (silentMs < FRESH_MS || now - connection.provenAt < FRESH_MS) {
      this.#giveToWaiter(slot, connection, now);
      return;
    }
    const mustPing = this.#pinger.mustPing(slot, silentMs);
    const by = mustPing ? 'borrow-ping' : 'borrow-turns';
    this.#state.tally.move(slot, { name: 'checking', connection, by });
    slot.isBorrowCheck = true;
    this.#borrowChecks += 1;
    if (slot.member !== undefined) slot.member.checked += 1;
    if (mustPing) {
      this.#armPatience();
      this.#pinger.check(slot);
    } else this.#afterTwoTurns(() => this.onChecked(slot));
  }

  /** Two: from an I/O callback, the first turn comes before the next poll. */
  #afterTwoTurns(fn: () => void): void {
    this.#clock.turn(() => this.#clock.turn(fn));
  }

  /** A slot has proved that it lives: it may serve again. */
  onChecked(slot: Slot<In, Out>): void {
    const { state } = slot;
    if (state.name !== 'checking') return;
    this.endBorrowCheck(slot);
    this.#state.tally.move(slot, { name: 'idle', connection: state.connection });
    state.connection.proved(this.#clock.now());
    this.offer(slot, state.connection, state.by !== 'borrow-turns');
    // Somebody else may have got it than the one it was checked for, who can't have the other's.
    if (this.#waiters.pinned > 0) this.serve();
  }

  /** No waiter counts on this slot any more. */
  endBorrowCheck(slot: Slot<In, Out>): void {
    if (!slot.isBorrowCheck) return;
    slot.isBorrowCheck = false;
    this.#borrowChecks -= 1;
    if (slot.member !== undefined) slot.member.checked -= 1;
  }

  #armPatience(): void {
    this.#patience ??= this.#clock.after(PATIENCE_MS, () => {
      this.#patience = undefined;
      if (this.#waiters.size === 0) return;
      for (const slot of this.#state.slots) {
        if (slot.state.name !== 'checking' || slot.state.by === 'borrow-turns') continue;
        this.endBorrowCheck(slot);
        this.#pinger.loseHope(slot);
      }
      this.serve();
    });
  }

  /** Stops its timer. */
  end(): void {
    this.#patience?.cancel();
  }
}

// Apart, so that the compiler does not think that nothing happens while we wait.
function isChecking<In, Out>(slot: Slot<In, Out>): boolean {
  return slot.state.name === 'checking';
}

/**
 * Callers who wait for a lease: who is served next, how long each may wait, how many may, and who is refused when
 * there are more than the sockets can serve. Who gets which socket is decided elsewhere.
 *
 * A caller leaves the queue when a socket is found for it, and may still be unsettled then, while a hook prepares
 * that socket. It stands apart: its signal and its deadline hold as before, and it may come back to its old place.
 *
 *     wait ─► queue, a list for each priority ─shift─► apart ─► resolved
 *                         ▲                              │
 *                         └───────────requeue────────────┘
 */
import { onAbort } from '../abort.ts';
import type { Clock, ProcessHold, Timer } from '../clock.ts';
import type { Trace } from './trace.ts';
import { type Pin, Waiter, type WaiterKeeper, WaiterList } from './waiter-list.ts';

export type { Pin, Waiter } from './waiter-list.ts';

/** Bounds of one wait. */
export interface WaitOptions {
  readonly signal?: AbortSignal | undefined;
  /** In ms; the pool's `acquireTimeoutMs` when left out. */
  readonly timeoutMs?: number | undefined;
  /**
   * From -10 to 10; higher is served first, and each level is worth one second of waiting, so that nobody waits for
   * ever. Default: 0.
   */
  readonly priority?: number | undefined;
  /**
   * With `balance: 'consistent-hash'`: callers with one key get sockets to one endpoint, as long as it serves. Default:
   * none, any endpoint will do.
   */
  readonly key?: string | undefined;
}

/** Bounds of every wait. */
export interface WaitBounds {
  readonly acquireTimeoutMs: number;
  /** Whoever comes when so many wait is refused. */
  readonly maxWaiting: number;
  /** `Infinity`: nobody is refused for having waited. */
  readonly shedAfterMs: number;
}

/** What the queue asks, and whom it tells. A waiter that comes with a call has left the queue: reject it. */
export interface WaitHooks<T, W = undefined> {
  /** Its time is up. */
  readonly onTimeout: (waiter: Waiter<T, W>) => void;
  /** There are too many: it came last, or has waited too long. */
  readonly onShed: (waiter: Waiter<T, W>, why: 'full' | 'overload') => void;
  /** One has given up, and has been rejected. */
  readonly onCancelled: () => void;
  /** One who was in the queue has left unserved: its time, its signal or overload did it. */
  readonly onGone: () => void;
  /** Whether no more sockets can be had. Asked between two events, never while a socket changes hands. */
  readonly isExhausted: () => boolean;
  /** Places that no lease holds: so many of those who wait will soon be served, and are not counted as waiting. */
  readonly spare: () => number;
}

// So long must a waiter of the next lower priority have waited more to be served first.
const LEVEL_MS = 1_000;

/**
 * The one with the smallest `since − priority × 1 s` is served next. All age at the same rate, so this order never
 * changes, and comparing the heads of the lists is enough.
 *
 * Overload is handled as in Facebook's "Fail at Scale" (ACM Queue, 2015), adaptive LIFO with controlled delay. When
 * the one whose turn it is has waited for `shedAfterMs` and no more sockets can be had, the queue stands. Not being
 * empty is no sign of it: a pool whose callers come back as soon as they are served always has a queue. While it stands
 * the newest of the list whose turn it is goes first, because its caller surely is still there, and whoever has waited
 * for `shedAfterMs` is refused. It ends when the queue is empty, or could be within `shedAfterMs`.
 */
export class Waiters<T, W = undefined> implements WaiterKeeper<T, W> {
  readonly #bounds: WaitBounds;
  readonly #clock: Clock;
  readonly #hold: ProcessHold;
  readonly #hooks: WaitHooks<T, W>;
  // Priority 0. Most queues have no other one.
  readonly #usual: WaiterList<T, W> = new WaiterList(this, 0);
  readonly #lists: WaiterList<T, W>[] = [this.#usual];
  // Off the queue, and unsettled.
  readonly #apart: WaiterList<T, W> = new WaiterList(this, 0);
  #size = 0;
  // Shared by all who have the pool's own time limit.
  #timer: Timer | undefined;
  #look: Timer | undefined;
  // Those in the queue that wish for something, and those of them that are pinned.
  #wishing = 0;
  #pinned = 0;
  // So many were served since then; counted while the queue stands.
  #taken = 0;
  #countedSince = 0;
  #isStanding = false;

  constructor(bounds: WaitBounds, clock: Clock, hold: ProcessHold, hooks: WaitHooks<T, W>) {
    this.#bounds = bounds;
    this.#clock = clock;
    this.#hold = hold;
    this.#hooks = hooks;
  }

  /** How many are in the queue. */
  get size(): number {
    return this.#size;
  }

  /** How many of them wish for something. */
  get wishing(): number {
    return this.#wishing;
  }

  /** How many of them will have no socket but those of one endpoint. */
  get pinned(): number {
    return this.#pinned;
  }

  /** How long the one who has waited longest has been in the queue, in ms; 0 when it is empty. */
  oldestMs(now: number): number {
    let since = now;
    for (const { first } of this.#lists) {
      if (first !== undefined && first.since < since) since = first.since;
    }
    return now - since;
  }

  /** Joins the queue, or is refused at once. */
  wait(
    options: WaitOptions | undefined,
    trace: Trace | undefined,
    wish?: W | undefined,
    pin?: Pin | undefined,
  ): Promise<T> {
    const since = this.#clock.now();
    return new Promise((resolve, reject) => {
      const waiter = new Waiter<T, W>(
        since,
        options?.timeoutMs ?? this.#bounds.acquireTimeoutMs,
        options?.priority ?? 0,
        trace,
        wish,
        pin,
        resolve,
        reject,
      );
      const { maxWaiting } = this.#bounds;
      if (this.#size >= maxWaiting && this.#size >= maxWaiting + this.#hooks.spare()) {
        this.#apart.push(waiter);
        this.#hooks.onShed(waiter, 'full');
        // It may be told a little later, and be aborted before.
        if (waiter.list !== undefined && options?.signal !== undefined) {
          this.#bound(waiter, { signal: options.signal, timeoutMs: Number.POSITIVE_INFINITY });
        }
        return;
      }
      this.#listOf(waiter.priority).push(waiter);
      this.#onEntered(waiter, since);
      if (options !== undefined) this.#bound(waiter, options);
      else if (this.#timer === undefined) this.#armShared(waiter.deadlineAt);
    });
  }

  /** In the order in which they are served, those of one priority. */
  *inOrder(): Generator<Waiter<T, W>> {
    for (const list of this.#lists) {
      for (let waiter = list.first; waiter !== undefined; waiter = waiter.next) yield waiter;
    }
  }

  /** Whether a socket of that endpoint would do for one of them. */
  wants(at: Pin | undefined): boolean {
    return this.#size > this.#pinned || (at !== undefined && at.pinned > 0);
  }

  /** Whose turn it is, wherever it may be served. */
  get head(): Waiter<T, W> | undefined {
    return this.#head();
  }

  /** Asks again where those who are pinned may be served. */
  repin(find: (wish: W) => Pin | undefined): void {
    if (this.#wishing === 0) return;
    for (const waiter of this.inOrder()) {
      if (waiter.wish === undefined) continue;
      this.#count(waiter, -1);
      waiter.pin = find(waiter.wish);
      this.#count(waiter, 1);
    }
  }

  /** Takes the next one for whom a socket of that endpoint will do off the queue for good: resolve it before anything else happens. */
  take(at?: Pin | undefined): Waiter<T, W> | undefined {
    const waiter = this.#next(at);
    if (waiter !== undefined) {
      this.#taken += 1;
      this.leave(waiter);
    }
    return waiter;
  }

  /** Called by a waiter that is settled. */
  leave(waiter: Waiter<T, W>): void {
    const { bound, list } = waiter;
    if (list === undefined) return;
    list.remove(waiter);
    if (list !== this.#apart) this.#onLeft(waiter);
    if (bound === undefined) return;
    bound.deafen?.();
    bound.timer?.cancel();
    waiter.bound = undefined;
  }

  /** Takes the next one off the queue: to be resolved, rejected or put back. */
  shift(at?: Pin | undefined): Waiter<T, W> | undefined {
    const waiter = this.#next(at);
    if (waiter !== undefined) {
      this.#taken += 1;
      this.#setApart(waiter);
    }
    return waiter;
  }

  /** Whether it still waits, in the queue or apart. */
  isWanted(waiter: Waiter<T, W>): boolean {
    return waiter.list !== undefined;
  }

  /** Gives its old place back to one that was taken off the queue, unless it is settled. */
  requeue(waiter: Waiter<T, W>): void {
    if (waiter.list !== this.#apart) return;
    this.#apart.remove(waiter);
    this.#listOf(waiter.priority).putBack(waiter);
    this.#onEntered(waiter, this.#clock.now());
  }

  /** Rejects everybody who waits now, in the queue or apart. */
  rejectAll(reason: (waiter: Waiter<T, W>) => unknown): void {
    const waiters: Waiter<T, W>[] = [];
    for (const { first } of [...this.#lists, this.#apart]) {
      for (let waiter = first; waiter !== undefined; waiter = waiter.next) waiters.push(waiter);
    }
    for (const waiter of waiters) {
      if (this.isWanted(waiter)) waiter.reject(reason(waiter));
    }
  }

  /** Stops every timer. Nobody may wait any more. */
  end(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#look?.cancel();
    this.#look = undefined;
  }

  // ---- places --------------------------------------------------------------------------------------------

  #listOf(priority: number): WaiterList<T, W> {
    if (priority === 0) return this.#usual;
    let list = this.#lists.find((one) => one.priority === priority);
    if (list === undefined) {
      list = new WaiterList(this, priority);
      this.#lists.push(list);
    }
    return list;
  }

  #next(at: Pin | undefined): Waiter<T, W> | undefined {
    if (this.#pinned > 0) return this.#nextAt(at);
    const head = this.#head();
    return this.#isStanding ? head?.list?.last : head;
  }

  /** Whose turn it is, wherever it may be served. */
  #head(): Waiter<T, W> | undefined {
    let next = this.#usual.first;
    if (this.#lists.length > 1) {
      for (const { first } of this.#lists) {
        if (first !== undefined && (next === undefined || isAhead(first, next))) next = first;
      }
    }
    return next;
  }

  /** As `#next`, with some that not every socket will do for. */
  #nextAt(at: Pin | undefined): Waiter<T, W> | undefined {
    const isFit = ({ pin }: Waiter<T, W>): boolean => pin === undefined || pin === at;
    let next: Waiter<T, W> | undefined;
    for (const { first } of this.#lists) {
      let waiter = first;
      while (waiter !== undefined && !isFit(waiter)) waiter = waiter.next;
      if (waiter !== undefined && (next === undefined || isAhead(waiter, next))) next = waiter;
    }
    if (!this.#isStanding) return next;
    let last = next?.list?.last;
    while (last !== undefined && !isFit(last)) last = last.previous;
    return last;
  }

  #setApart(waiter: Waiter<T, W>): void {
    const { list } = waiter;
    if (list === undefined || list === this.#apart) return;
    list.remove(waiter);
    this.#apart.push(waiter);
    this.#onLeft(waiter);
  }

  #onEntered(waiter: Waiter<T, W>, now: number): void {
    this.#size += 1;
    if (waiter.wish !== undefined) this.#count(waiter, 1);
    if (this.#size > 1) return;
    this.#hold.take();
    this.#armLook(now + this.#bounds.shedAfterMs);
  }

  /** One with a wish comes or goes. */
  #count({ pin }: Waiter<T, W>, by: 1 | -1): void {
    this.#wishing += by;
    if (pin === undefined) return;
    this.#pinned += by;
    pin.pinned += by;
  }

  #onLeft(waiter: Waiter<T, W>): void {
    this.#size -= 1;
    if (waiter.wish !== undefined) this.#count(waiter, -1);
    if (this.#size > 0) return;
    this.#hold.drop();
    this.#isStanding = false;
  }

  // ---- signals and deadlines -----------------------------------------------------------------------------

  #bound(waiter: Waiter<T, W>, { signal, timeoutMs }: WaitOptions): void {
    const deafen = signal === undefined ? undefined : onAbort(signal, () => this.#cancel(waiter, signal));
    const timer =
      timeoutMs === undefined
        ? undefined
        : // One turn: a socket may have come back while our own loop was blocked.
          this.#clock.after(timeoutMs, () => this.#clock.turn(() => this.#expire(waiter)));
    if (timer === undefined) this.#armShared(waiter.deadlineAt);
    if (deafen !== undefined || timer !== undefined) waiter.bound = { deafen, timer };
  }

  #cancel(waiter: Waiter<T, W>, signal: AbortSignal): void {
    // Whoever hears of the same signal first may have settled it.
    if (!this.isWanted(waiter)) return;
    waiter.reject(signal.reason);
    this.#hooks.onCancelled();
    this.#hooks.onGone();
  }

  #expire(waiter: Waiter<T, W>): void {
    if (!this.isWanted(waiter)) return;
    this.#setApart(waiter);
    this.#hooks.onTimeout(waiter);
    this.#hooks.onGone();
  }

  /** Left as it is when those it was armed for are served: one timer for each `acquireTimeoutMs` at most. */
  #armShared(at: number): void {
    if (this.#timer !== undefined || at === Number.POSITIVE_INFINITY) return;
    this.#timer = this.#clock.after(at - this.#clock.now(), () => this.#clock.turn(() => this.#expireDue()));
  }

  #expireDue(): void {
    this.#timer = undefined;
    const now = this.#clock.now();
    const due: Waiter<T, W>[] = [];
    let nextAt = Number.POSITIVE_INFINITY;
    for (const list of [...this.#lists, this.#apart]) {
      for (let waiter = list.first; waiter !== undefined; waiter = waiter.next) {
        if (waiter.bound?.timer !== undefined) continue;
        if (waiter.deadlineAt <= now) due.push(waiter);
        else {
          nextAt = Math.min(nextAt, waiter.deadlineAt);
          // In the queue they stand in the order of their deadlines.
          if (list !== this.#apart) break;
        }
      }
    }
    // Armed first: somebody who hears of an end may join the queue, with a later deadline.
    this.#armShared(nextAt);
    for (const waiter of due) this.#expire(waiter);
  }

  // ---- overload ------------------------------------------------------------------------------------------

  /** Left as it is when the queue empties, as the shared timer. */
  #armLook(at: number): void {
    if (this.#look !== undefined || at === Number.POSITIVE_INFINITY) return;
    // One turn, as for a deadline.
    this.#look = this.#clock.after(at - this.#clock.now(), () => {
      this.#clock.turn(() => this.#lookForOverload(at));
    });
  }

  #lookForOverload(dueAt: number): void {
    this.#look = undefined;
    if (this.#size === 0) return;
    const { shedAfterMs } = this.#bounds;
    const now = this.#clock.now();
    // When our own loop was blocked for so long, it is we who kept them waiting.
    const wasBlocked = now - dueAt >= shedAfterMs;
    if (wasBlocked || !this.#hooks.isExhausted() || this.#hasEased(now)) {
      this.#isStanding = false;
      this.#armLook(now + shedAfterMs);
      return;
    }
    if (!this.#isStanding) {
      const lateAt = (this.#head()?.since ?? now) + shedAfterMs;
      if (now < lateAt) {
        this.#armLook(lateAt);
        return;
      }
      this.#isStanding = true;
      this.#countFrom(now);
    }
    this.#shedOld(now);
  }

  /** Whether as many as wait now were served in the last `shedAfterMs`: so all of them can be, in time. */
  #hasEased(now: number): boolean {
    const elapsedMs = now - this.#countedSince;
    const { shedAfterMs } = this.#bounds;
    if (!this.#isStanding || elapsedMs < shedAfterMs) return false;
    const inTime = (this.#taken * shedAfterMs) / elapsedMs;
    this.#countFrom(now);
    return this.#size <= inTime;
  }

  #countFrom(now: number): void {
    this.#taken = 0;
    this.#countedSince = now;
  }

  #shedOld(now: number): void {
    const { shedAfterMs } = this.#bounds;
    const old: Waiter<T, W>[] = [];
    let nextAt = now + shedAfterMs;
    for (const { first } of this.#lists) {
      for (let waiter = first; waiter !== undefined; waiter = waiter.next) {
        if (waiter.since + shedAfterMs > now) {
          nextAt = Math.min(nextAt, waiter.since + shedAfterMs);
          break;
        }
        old.push(waiter);
      }
    }
    this.#armLook(nextAt);
    for (const waiter of old) {
      // Somebody who heard of the one before may have brought a socket.
      if (waiter.list === undefined || waiter.list === this.#apart) continue;
      this.#setApart(waiter);
      this.#hooks.onShed(waiter, 'overload');
      this.#hooks.onGone();
    }
  }
}

/** Whether the first is served before the second, each being the head of a list. */
function isAhead<T, W>(one: Waiter<T, W>, other: Waiter<T, W>): boolean {
  const lead = other.since - other.priority * LEVEL_MS - (one.since - one.priority * LEVEL_MS);
  // At par, who has waited longer.
  return lead > 0 || (lead === 0 && one.since < other.since);
}

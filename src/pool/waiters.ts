/**
 * Callers who wait for a lease: first come, first served, each with its own deadline and signal. Who gets which
 * socket is decided elsewhere.
 */
import { onAbort } from '../abort.ts';
import type { Clock, ProcessHold, Timer } from '../clock.ts';

/** One caller who waits. */
export interface Waiter<T> {
  readonly since: number;
  readonly deadlineAt: number;
  readonly resolve: (value: T) => void;
  readonly reject: (reason: unknown) => void;
  /** Undoes the signal's listener and the caller's own timer. */
  release: (() => void) | undefined;
  next: Waiter<T> | undefined;
  previous: Waiter<T> | undefined;
  isWaiting: boolean;
}

/** Bounds of one wait. */
export interface WaitOptions {
  readonly signal?: AbortSignal | undefined;
  /** In ms; the pool's `acquireTimeoutMs` when left out. */
  readonly timeoutMs?: number | undefined;
}

/**
 * A doubly linked queue. Waiters with the pool's own timeout share one timer: they stand in the order of their
 * deadlines, so looking at the first ones is enough.
 */
export class Waiters<T> {
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  readonly #hold: ProcessHold;
  readonly #hooks: {
    readonly onTimeout: (waiter: Waiter<T>) => void;
    readonly onGone: () => void;
  };
  #first: Waiter<T> | undefined;
  #last: Waiter<T> | undefined;
  #size = 0;
  #timer: Timer | undefined;

  constructor(
    timeoutMs: number,
    clock: Clock,
    hold: ProcessHold,
    hooks: {
      /** Rejects a waiter whose time is up; it has left the queue. */
      readonly onTimeout: (waiter: Waiter<T>) => void;
      /** Somebody left without having been served. */
      readonly onGone: () => void;
    },
  ) {
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
    this.#hold = hold;
    this.#hooks = hooks;
  }

  get size(): number {
    return this.#size;
  }

  /** How long the first one has waited, in ms; 0 when nobody waits. */
  oldestMs(now: number): number {
    return this.#first === undefined ? 0 : now - this.#first.since;
  }

  /** Joins the queue. */
  wait(options: WaitOptions | undefined): Promise<T> {
    const since = this.#clock.now();
    return new Promise((resolve, reject) => {
      const waiter: Waiter<T> = {
        since,
        deadlineAt: since + (options?.timeoutMs ?? this.#timeoutMs),
        resolve,
        reject,
        release: undefined,
        next: undefined,
        previous: this.#last,
        isWaiting: true,
      };
      if (this.#last === undefined) this.#first = waiter;
      else this.#last.next = waiter;
      this.#last = waiter;
      this.#size += 1;
      if (this.#size === 1) this.#hold.take();
      if (options === undefined) this.#armShared(waiter.deadlineAt);
      else this.#bound(waiter, options);
    });
  }

  /** Takes the first one off the queue. */
  shift(): Waiter<T> | undefined {
    const waiter = this.#first;
    if (waiter !== undefined) this.#remove(waiter);
    return waiter;
  }

  /** Rejects everybody who waits now. */
  rejectAll(reason: (waiter: Waiter<T>) => unknown): void {
    for (const waiter of this.#listed(() => true)) {
      if (!waiter.isWaiting) continue;
      const error = reason(waiter);
      this.#remove(waiter);
      waiter.reject(error);
    }
  }

  /** Stops the shared timer. Nobody may wait any more. */
  end(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #bound(waiter: Waiter<T>, { signal, timeoutMs }: WaitOptions): void {
    const leave = (): void => {
      if (!waiter.isWaiting) return;
      this.#remove(waiter);
      waiter.reject(signal?.reason);
      this.#hooks.onGone();
    };
    const stop = signal === undefined ? undefined : onAbort(signal, leave);
    let timer: Timer | undefined;
    if (timeoutMs === undefined) this.#armShared(waiter.deadlineAt);
    else {
      // One turn: a socket may have come back while our own loop was blocked.
      timer = this.#clock.after(timeoutMs, () => this.#clock.turn(() => this.#expire(waiter)));
    }
    waiter.release = () => {
      stop?.();
      timer?.cancel();
    };
  }

  #armShared(at: number): void {
    if (this.#timer !== undefined || at === Number.POSITIVE_INFINITY) return;
    this.#timer = this.#clock.after(at - this.#clock.now(), () => this.#clock.turn(() => this.#expireDue()));
  }

  #expireDue(): void {
    this.#timer = undefined;
    const now = this.#clock.now();
    // Listed first: somebody who hears of it may change the queue.
    for (const waiter of this.#listed(({ deadlineAt }) => deadlineAt <= now)) this.#expire(waiter);
    let nextAt = Number.POSITIVE_INFINITY;
    for (let waiter = this.#first; waiter !== undefined; waiter = waiter.next) {
      nextAt = Math.min(nextAt, waiter.deadlineAt);
    }
    this.#armShared(nextAt);
  }

  #listed(isMeant: (waiter: Waiter<T>) => boolean): Waiter<T>[] {
    const list: Waiter<T>[] = [];
    for (let waiter = this.#first; waiter !== undefined; waiter = waiter.next) {
      if (isMeant(waiter)) list.push(waiter);
    }
    return list;
  }

  #expire(waiter: Waiter<T>): void {
    if (!waiter.isWaiting) return;
    this.#remove(waiter);
    this.#hooks.onTimeout(waiter);
    this.#hooks.onGone();
  }

  #remove(waiter: Waiter<T>): void {
    waiter.isWaiting = false;
    if (waiter.previous === undefined) this.#first = waiter.next;
    else waiter.previous.next = waiter.next;
    if (waiter.next === undefined) this.#last = waiter.previous;
    else waiter.next.previous = waiter.previous;
    waiter.next = undefined;
    waiter.previous = undefined;
    waiter.release?.();
    waiter.release = undefined;
    this.#size -= 1;
    if (this.#size === 0) this.#hold.drop();
  }
}

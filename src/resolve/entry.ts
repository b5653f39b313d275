/**
 * What is known of one name: the last good answer, how old it is, who waits for a better one, and when to ask again.
 * What a name stands for (addresses, or services) and how resolvers are asked is left to others.
 *
 * The rules, in the order in which they matter:
 *
 * - One look-up at a time, whoever asks. A caller who gives up leaves it alone.
 * - A failure takes nothing away: the last good answer is served for `maxStaleMs`.
 * - "No such name" is believed of a name that had an answer only when all resolvers have said so twice, 30 s apart.
 * - Who watches is never told of a removal because of a failure, not even at the end of `maxStaleMs`: with all resolvers
 *   down for hours and all backends healthy, to drop what works would turn the one outage into the other. The bound is
 *   for those who ask anew.
 */
import { onAbort } from '../abort.ts';
import type { Clock, RandomSource, Timer } from '../clock.ts';
import { fullJitterMs } from '../transport/backoff.ts';
import type { Found, Outcome } from './chain.ts';
import { ResolveError } from './resolve-error.ts';
import { distinct, type KeyOf, lacking, type Watcher, Watchers } from './watchers.ts';

/** A good answer. */
export interface Known<Item> {
  readonly items: readonly Item[];
  /** The name of the resolver it is from; `fallback` for static ones. */
  readonly source: string;
  /** Its age, in ms. */
  readonly ageMs: number;
  /** Whether it should have been renewed by now. */
  readonly isStale: boolean;
}

/** How long answers last. */
interface EntryTimes {
  /** How long an answer without a TTL is fresh, and the longest time between two look-ups of a watched name, in ms. */
  readonly refreshMs: number;
  /** How old an answer may become when no other comes, in ms. */
  readonly maxStaleMs: number;
}

/** What an entry needs to know. */
export interface EntryParts<Item> {
  readonly name: string;
  readonly times: EntryTimes;
  /** Served when there is no answer. */
  readonly fallback: readonly Item[];
  /** Two of the same are one. Shown in events. */
  readonly keyOf: KeyOf<Item>;
  /** Asks all resolvers. Rejects only when aborted. */
  readonly ask: (signal: AbortSignal) => Promise<Outcome<Item>>;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly owner: EntryOwner;
}

/** Who is told. None may throw. */
export interface EntryOwner {
  onAsked(): void;
  onServedStale(): void;
  /** `staleMs`: the age of the last good answer, in ms. */
  onFailed(name: string, error: ResolveError, staleMs: number | undefined): void;
  onChanged(name: string, added: readonly string[], removed: readonly string[]): void;
}

/**
 * - `resting`: nothing is asked; the next look-up may be due at some time
 * - `asking`: the look-up runs; callers are served what is `old` without waiting for it once it has taken long, and what
 *   was given as a `fallback` once it has taken longer
 * - `ended`: for good
 */
export type EntryPhase =
  | { readonly name: 'resting' }
  | {
      readonly name: 'asking';
      readonly run: AbortController;
      readonly instead: 'nothing' | 'old' | 'fallback';
    }
  | { readonly name: 'ended' };

/** Which phase may follow which. */
export const ENTRY_TRANSITIONS: Readonly<Record<EntryPhase['name'], readonly EntryPhase['name'][]>> = {
  resting: ['asking', 'ended'],
  asking: ['asking', 'resting', 'ended'],
  ended: [],
};

/** The only way from phase to phase: returns the next one, or throws, since any other step is a bug of ours. */
export function follow(phase: EntryPhase, next: EntryPhase): EntryPhase {
  if (ENTRY_TRANSITIONS[phase.name].includes(next.name)) return next;
  throw new Error(`bug: a name cannot go from ${phase.name} to ${next.name}`);
}

// RFC 8767, section 5: how long a client waits before it is given stale data.
const RESPONSE_MS = 1_800;
// The same for addresses that were given: there may be another resolver. A second is left for dialing, of the usual five.
const FALLBACK_AFTER_MS = 4_000;
// A TTL of 0 must not be taken as "ask for every call", nor one of a week as "for ever".
const SHORTEST_TTL_MS = 5_000;
const LONGEST_TTL_MS = 300_000;
// Between two look-ups of a name for which a hint is the only reason.
const MIN_GAP_MS = 5_000;
// RFC 8767, section 5, wants failures rechecked no more often than every 30 s; the first of them may be a lost packet.
const FAILURE_BACKOFF = { baseMs: 1_000, capMs: 30_000 };
// "No such name" must still be said so long after it was first said.
const CONFIRM_AFTER_MS = 30_000;
// Clients that started together spread by so much. Late, never early: a caching resolver asked before the TTL is over
// gives what is left of it, and would have to be asked again at once.
const JITTER = 0.1;

interface Good<Item> {
  readonly items: readonly Item[];
  readonly source: string;
  readonly at: number;
  /** When nothing in it was left over from the answer before it. */
  readonly wholeAt: number;
  readonly freshUntil: number;
  /** When a watched name is asked for again. */
  readonly dueAt: number;
}

interface Waiter<Item> {
  readonly resolve: (known: Known<Item>) => void;
  readonly reject: (reason: unknown) => void;
}

/** See the file's comment. */
export class Entry<Item> {
  readonly #parts: EntryParts<Item>;
  readonly #waiters: Set<Waiter<Item>> = new Set();
  readonly #watchers: Watchers<Item>;
  #phase: EntryPhase = { name: 'resting' };
  #good: Good<Item> | undefined;
  #failures = 0;
  #lastError: ResolveError | undefined;
  #nextAskAt = Number.NEGATIVE_INFINITY;
  #settledAt = Number.NEGATIVE_INFINITY;
  #deniedAt: number | undefined;
  #isHinted = false;
  #usedAt: number;
  #dueTimer: Timer | undefined;
  #lateTimer: Timer | undefined;

  constructor(parts: EntryParts<Item>) {
    this.#parts = parts;
    this.#watchers = new Watchers(parts.keyOf);
    this.#usedAt = parts.clock.now();
  }

  /** Whether nobody has used it for so long that its answer would be of no use. */
  get isForgotten(): boolean {
    const { clock, times } = this.#parts;
    if (this.#watchers.size > 0 || this.#waiters.size > 0 || this.#phase.name !== 'resting') return false;
    return clock.now() - this.#usedAt > Math.max(times.maxStaleMs, LONGEST_TTL_MS);
  }

  /** How old the last good answer is that should have been renewed and is in use, in ms; 0 when there is none. */
  get staleMs(): number {
    // However old: when it is too old for whoever asks anew, things are worse, not better.
    const good = this.#good;
    const now = this.#parts.clock.now();
    if (good === undefined || now < good.freshUntil) return 0;
    // Of a name that nobody watches none is in use, unless the last look-up was in vain.
    return this.#watchers.size > 0 || this.#failures > 0 ? now - good.at : 0;
  }

  /**
   * The answer, at once or after a look-up.
   *
   * @throws ResolveError when there is none; `signal.reason` when aborted
   */
  get(signal: AbortSignal | undefined): Promise<Known<Item>> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const now = this.#parts.clock.now();
      this.#usedAt = now;
      const good = this.#usable();
      if (good !== undefined && now < good.freshUntil && this.#phase.name !== 'ended') {
        resolve(this.#known(good));
        return;
      }
      if (this.#phase.name === 'resting' && now >= this.#nextAskAt) this.#ask();
      if (!this.#isWorthWaiting(good)) {
        this.#serve({ resolve, reject });
        return;
      }
      const stop = signal === undefined ? undefined : onAbort(signal, () => leave(signal.reason));
      const waiter: Waiter<Item> = {
        resolve: (known) => {
          stop?.();
          resolve(known);
        },
        reject: (reason) => {
          stop?.();
          reject(reason);
        },
      };
      const leave = (reason: unknown): void => {
        this.#waiters.delete(waiter);
        reject(reason);
      };
      this.#waiters.add(waiter);
    });
  }

  /** Tells what there is, then what changes, and looks for changes until the returned function is called. */
  watch(watcher: Watcher<Item>): () => void {
    if (this.#phase.name === 'ended') return () => undefined;
    this.#watchers.add(watcher);
    // Not before the caller has what ends it.
    this.#parts.clock.soon(() => {
      const items = this.#current();
      if (items !== undefined) this.#watchers.tell(watcher, items);
    });
    this.#schedule();
    return () => {
      if (!this.#watchers.remove(watcher)) return;
      this.#usedAt = this.#parts.clock.now();
      this.#schedule();
    };
  }

  /** There may be news: asks again, though not within 5 s of the last look-up, nor before a failed one may be repeated. */
  hint(): void {
    if (this.#phase.name === 'ended') return;
    // A look-up that runs may have been answered before whatever this is about.
    this.#isHinted = true;
    this.#schedule();
  }

  /** All that is known is in doubt: the network has changed. What runs is begun anew, what failed is forgotten. */
  force(isToAsk: boolean): void {
    if (this.#phase.name === 'ended') return;
    const now = this.#parts.clock.now();
    this.#failures = 0;
    this.#nextAskAt = now;
    this.#deniedAt = undefined;
    if (this.#good !== undefined) this.#good = { ...this.#good, freshUntil: now, dueAt: now };
    if (this.#phase.name === 'asking') {
      this.#phase.run.abort();
      this.#ask();
    } else if (isToAsk || this.#watchers.size > 0) this.#ask();
  }

  /** Nothing is left of it. Those who wait are told so. */
  end(): void {
    if (this.#phase.name === 'ended') return;
    const phase = this.#phase;
    this.#phase = follow(phase, { name: 'ended' });
    this.#dueTimer?.cancel();
    this.#lateTimer?.cancel();
    this.#watchers.clear();
    if (phase.name === 'asking') phase.run.abort();
    this.#serveAll();
  }

  #ask(): void {
    const { ask, clock, owner } = this.#parts;
    const run = new AbortController();
    this.#phase = follow(this.#phase, { name: 'asking', run, instead: 'nothing' });
    this.#isHinted = false;
    this.#dueTimer?.cancel();
    this.#lateTimer?.cancel();
    this.#lateTimer = clock.after(RESPONSE_MS, () => clock.turn(() => this.#late(run, 'old')));
    owner.onAsked();
    ask(run.signal).then(
      (outcome) => this.#settle(run, outcome),
      // Aborted, or a bug of ours, which is told as a failure.
      (error: unknown) => this.#settle(run, { kind: 'failed', failures: [{ resolver: 'chain', error }] }),
    );
  }

  #late(run: AbortController, instead: 'old' | 'fallback'): void {
    if (this.#phase.name !== 'asking' || this.#phase.run !== run) return;
    this.#phase = follow(this.#phase, { name: 'asking', run, instead });
    if (this.#usable() !== undefined) this.#serveAll();
    else if (this.#parts.fallback.length === 0) return;
    else if (instead === 'fallback') this.#serveAll();
    else {
      const { clock } = this.#parts;
      const ms = FALLBACK_AFTER_MS - RESPONSE_MS;
      this.#lateTimer = clock.after(ms, () => clock.turn(() => this.#late(run, 'fallback')));
    }
  }

  #settle(run: AbortController, outcome: Outcome<Item>): void {
    // It was begun anew, or all has ended; perhaps just when the answer was there.
    if (run.signal.aborted) return;
    this.#lateTimer?.cancel();
    this.#phase = follow(this.#phase, { name: 'resting' });
    this.#settledAt = this.#parts.clock.now();
    if (outcome.kind === 'found') this.#found(outcome.found, outcome.source);
    else this.#failed(outcome);
  }

  #found(found: Found<Item>, source: string): void {
    const { keyOf, random, times } = this.#parts;
    const now = this.#settledAt;
    const before = this.#good;
    const kept = this.#leftOver(found);
    const freshMs =
      found.ttlMs === undefined
        ? times.refreshMs
        : Math.min(LONGEST_TTL_MS, Math.max(SHORTEST_TTL_MS, found.ttlMs));
    const late = 1 + JITTER * random();
    this.#good = {
      items: distinct([...found.items, ...kept], keyOf),
      source,
      at: now,
      wholeAt: kept.length > 0 && before !== undefined ? before.wholeAt : now,
      freshUntil: now + freshMs * late,
      dueAt: now + Math.min(freshMs, times.refreshMs) * late,
    };
    this.#failures = 0;
    this.#nextAskAt = now;
    this.#lastError = undefined;
    this.#deniedAt = undefined;
    this.#schedule();
    this.#serveAll();
    this.#tellAll(before?.items ?? [], this.#good.items);
  }

  /** What the last answer had of that of which nothing was learned now. */
  #leftOver({ isUnknown, items }: Found<Item>): readonly Item[] {
    const { keyOf, times } = this.#parts;
    const good = this.#good;
    if (isUnknown === undefined || good === undefined) return [];
    if (this.#settledAt - good.wholeAt > times.maxStaleMs) return [];
    const keys = new Set(items.map(keyOf));
    return good.items.filter((item) => isUnknown(item) && !keys.has(keyOf(item)));
  }

  #failed(outcome: Outcome<Item> & { readonly kind: 'failed' }): void {
    const { name, owner, random } = this.#parts;
    const now = this.#settledAt;
    const before = this.#good;
    const ageMs = before === undefined ? undefined : now - before.at;
    const error = new ResolveError(name, outcome.failures, ageMs);
    this.#lastError = error;
    this.#nextAskAt = now + fullJitterMs(this.#failures, FAILURE_BACKOFF, random);
    this.#failures += 1;
    if (error.isDenied) {
      this.#deniedAt ??= now;
      if (now - this.#deniedAt >= CONFIRM_AFTER_MS) this.#good = undefined;
    }
    this.#schedule();
    this.#serveAll();
    owner.onFailed(name, error, this.#good === undefined ? undefined : now - this.#good.at);
    this.#tellAll(before?.items ?? [], this.#good?.items ?? []);
    this.#watchers.tellFailed(error);
  }

  #schedule(): void {
    this.#dueTimer?.cancel();
    if (this.#phase.name !== 'resting') return;
    const { clock } = this.#parts;
    const now = clock.now();
    let dueAt = Number.POSITIVE_INFINITY;
    if (this.#watchers.size > 0) dueAt = this.#failures > 0 ? this.#nextAskAt : (this.#good?.dueAt ?? now);
    if (this.#isHinted) dueAt = Math.min(dueAt, Math.max(this.#settledAt + MIN_GAP_MS, this.#nextAskAt));
    this.#dueTimer = clock.after(Math.max(0, dueAt - now), () => this.#ask());
  }

  /** Whether a caller who comes now waits for the look-up: not for one that is late, nor while the last was in vain. */
  #isWorthWaiting(good: Good<Item> | undefined): boolean {
    if (this.#phase.name !== 'asking') return false;
    const { instead } = this.#phase;
    if (good !== undefined) return instead === 'nothing' && this.#failures === 0;
    return this.#parts.fallback.length === 0 || (instead !== 'fallback' && this.#failures === 0);
  }

  /** The last good answer, while it is not too old. */
  #usable(): Good<Item> | undefined {
    const { clock, times } = this.#parts;
    const good = this.#good;
    if (good === undefined) return undefined;
    const now = clock.now();
    // A long TTL may end after a short bound.
    return now - good.at <= times.maxStaleMs || now < good.freshUntil ? good : undefined;
  }

  #known(good: Good<Item>): Known<Item> {
    const now = this.#parts.clock.now();
    return {
      items: good.items,
      source: good.source,
      ageMs: now - good.at,
      isStale: now >= good.freshUntil,
    };
  }

  #serveAll(): void {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) this.#serve(waiter);
  }

  /** The best there is without waiting. */
  #serve(waiter: Waiter<Item>): void {
    const { clock, fallback, name, owner } = this.#parts;
    const good = this.#usable();
    const ageMs = this.#good === undefined ? undefined : clock.now() - this.#good.at;
    if (this.#phase.name === 'ended') {
      waiter.reject(new ResolveError(name, [], ageMs, 'ECANCELLED'));
    } else if (good !== undefined) {
      const known = this.#known(good);
      if (known.isStale) owner.onServedStale();
      waiter.resolve(known);
    } else if (fallback.length > 0) {
      waiter.resolve({ items: fallback, source: 'fallback', ageMs: 0, isStale: false });
    } else {
      waiter.reject(new ResolveError(name, this.#lastError?.failures ?? [], ageMs));
    }
  }

  #tellAll(before: readonly Item[], after: readonly Item[]): void {
    const { keyOf, name, owner } = this.#parts;
    const added = lacking(before, after, keyOf);
    const removed = lacking(after, before, keyOf);
    if (added.length + removed.length > 0) owner.onChanged(name, added.map(keyOf), removed.map(keyOf));
    const items = this.#current();
    if (items !== undefined) this.#watchers.tellAll(items);
  }

  /** What those who watch go by. None before a look-up has ended, if there is something to fall back on. */
  #current(): readonly Item[] | undefined {
    if (this.#good !== undefined) return this.#good.items;
    if (this.#parts.fallback.length > 0) return this.#failures > 0 ? this.#parts.fallback : undefined;
    return [];
  }
}

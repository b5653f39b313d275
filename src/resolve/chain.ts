/**
 * One run through the resolvers, in order, until one has a good answer. Each has a time of its own, kept by our own
 * clock; whatever comes later than that is dropped. Caching, and when to ask again, is left to others.
 *
 * That a resolver says "no such name" does not end a run: a wrong first one must not take the name away.
 */
import { onAbort } from '../abort.ts';
import type { Clock } from '../clock.ts';
import { type Lookup, lookupError } from './lookup.ts';
import type { LookupFailure } from './resolve-error.ts';

/** What one resolver found. */
export interface Found<Item> {
  readonly items: readonly Item[];
  /** How long it may be kept, in ms, where that is known. */
  readonly ttlMs: number | undefined;
  /** The items of which nothing was learned: that they are missing means nothing. */
  readonly isUnknown?: ((item: Item) => boolean) | undefined;
}

/** How a run ended. */
export type Outcome<Item> =
  | { readonly kind: 'found'; readonly found: Found<Item>; readonly source: string }
  | { readonly kind: 'failed'; readonly failures: readonly LookupFailure[] };

/** What a run needs to know. */
export interface ChainParts<Item> {
  readonly lookups: readonly Lookup[];
  /** Rejects, never throws. */
  readonly ask: (lookup: Lookup, signal: AbortSignal) => Promise<Found<Item>>;
  /** For each resolver, in ms. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** @throws `signal.reason` when the whole run is aborted */
export async function askInTurn<Item>(parts: ChainParts<Item>, signal: AbortSignal): Promise<Outcome<Item>> {
  const failures: LookupFailure[] = [];
  for (const lookup of parts.lookups) {
    try {
      return { kind: 'found', found: await askOne(lookup, parts, signal), source: lookup.name };
    } catch (error) {
      signal.throwIfAborted();
      failures.push({ resolver: lookup.name, error });
    }
  }
  return { kind: 'failed', failures };
}

function askOne<Item>(lookup: Lookup, parts: ChainParts<Item>, signal: AbortSignal): Promise<Found<Item>> {
  const { ask, clock, timeoutMs } = parts;
  return new Promise((resolve, reject) => {
    const controller = new AbortController();
    let isSettled = false;
    const settle = (): void => {
      isSettled = true;
      timer.cancel();
      stop();
    };
    const giveUp = (reason: unknown): void => {
      if (isSettled) return;
      settle();
      reject(reason);
      controller.abort(reason);
    };
    const timer = clock.after(timeoutMs, () => {
      // Timers run before the poll phase: the answer may already be in the kernel.
      clock.turn(() => giveUp(lookupError('ETIMEOUT', `no answer within ${timeoutMs} ms`)));
    });
    const stop = onAbort(signal, () => giveUp(signal.reason));
    // Both look first: it may come after all when nobody waits for it any longer.
    const onFound = (found: Found<Item>): void => {
      if (isSettled) return;
      settle();
      if (found.items.length > 0) resolve(found);
      else reject(lookupError('ENODATA', 'an empty answer'));
    };
    const onFailed = (error: unknown): void => {
      if (isSettled) return;
      settle();
      reject(error);
    };
    ask(lookup, controller.signal).then(onFound, onFailed);
  });
}

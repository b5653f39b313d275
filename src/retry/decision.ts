/**
 * Whether a request that failed is done again, when, and at whose expense: one pure table. To gather the facts, to wait,
 * to charge the budget and to find another socket is left to others.
 *
 * Sources: gRFC A6, transparent retries (what never left the client is repeated for free, what the server has not taken
 * up is repeated once); Go's net/http, `shouldRetryRequest` (only a connection that had served before may have been
 * closed for its rest); Finagle's RetryBudget (repetitions are a bounded share of the requests).
 */
import type { Sent } from '../errors.ts';

/** What is known when an attempt has failed. */
export interface Facts {
  /** How much of the request had left in this attempt. What earlier ones had sent was found safe to repeat. */
  readonly sent: Sent;
  /** A byte had come back since the request was written. */
  readonly firstByte: boolean;
  /** The socket had served before. */
  readonly reused: boolean;
  /** The peer or the network ended the connection; `false` for silence and for time limits of ours. */
  readonly died: boolean;
  /** It failed by a reply in which the server says: not done, come again. */
  readonly isRefusal: boolean;
  /** The same call may succeed later. */
  readonly retryable: boolean;
  /** Doing it twice is as good as once. */
  readonly idempotent: boolean;
  /** The one `fresh` repetition of this request was made. */
  readonly isFreshUsed: boolean;
  /** How often it may still be repeated because nothing was sent: at most the `max` of the pool and one, in all. */
  readonly freeTriesLeft: number;
  /** How often it may still be repeated by policy. */
  readonly retriesLeft: number;
  /** The budget would pay for one repetition: its balance, of which nothing has been withdrawn yet. */
  readonly hasBudget: boolean;
  /** How long the breaker lets nothing through, in ms; 0: it does. */
  readonly breakerOpenMs: number;
  /** To the caller's deadline, in ms; `Infinity`: there is none. */
  readonly remainingMs: number;
  /** The wait by back-off, in ms, drawn with full jitter beforehand. */
  readonly backoffMs: number;
  /** How long the server wants us to wait, in ms; 0: it said nothing; `Infinity`: it wants no repetition. */
  readonly serverDelayMs: number;
}

/** Why a request is not done again. */
type FailReason =
  | 'not-retryable'
  | 'may-have-been-done'
  | 'no-retries-left'
  | 'no-budget'
  | 'deadline'
  | 'server-says-never';

/**
 * - `again`: at once, on any other socket; takes a free try, no retry and no budget
 * - `fresh`: at once, on a socket that has not served yet; once for each request, no retry and no budget
 * - `later`: after a wait, by policy; takes one retry, and the budget is to be charged
 * - `fail`: not again
 */
export type Decision =
  | { readonly kind: 'again'; readonly because: 'not-sent' }
  | { readonly kind: 'fresh' }
  | { readonly kind: 'later'; readonly waitMs: number }
  | { readonly kind: 'fail'; readonly because: FailReason };

/** The first rule that applies decides. */
export function decide(facts: Facts): Decision {
  const { breakerOpenMs, isRefusal, remainingMs, sent, serverDelayMs } = facts;
  if (remainingMs <= 0) return fail('deadline');
  if (!facts.retryable) return fail('not-retryable');
  if (serverDelayMs === Number.POSITIVE_INFINITY) return fail('server-says-never');
  // What is free of budget must not hurt a server that is in trouble: it has not asked for time, nor the breaker for it.
  const mayGoAtOnce = !isRefusal && serverDelayMs === 0 && breakerOpenMs === 0;
  if (sent === 'none') {
    if (mayGoAtOnce && facts.freeTriesLeft > 0) return { kind: 'again', because: 'not-sent' };
  } else {
    if (!isRefusal && !facts.idempotent) return fail('may-have-been-done');
    // It was closed for its rest, most likely, and so may be all others that rest: a fresh one tells.
    const diedOfRest = facts.died && facts.reused && !facts.firstByte;
    if (mayGoAtOnce && diedOfRest && !facts.isFreshUsed) return { kind: 'fresh' };
  }
  if (facts.retriesLeft <= 0) return fail('no-retries-left');
  const waitMs = Math.max(facts.backoffMs, serverDelayMs, breakerOpenMs);
  if (waitMs >= remainingMs) return fail('deadline');
  // The last question, so that the budget is charged only for what will be repeated.
  if (!facts.hasBudget) return fail('no-budget');
  return { kind: 'later', waitMs };
}

function fail(because: FailReason): Decision {
  return { kind: 'fail', because };
}

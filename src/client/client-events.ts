/**
 * What a client tells beside its pool: what became of requests that did not succeed at once.
 */
import type { PulsepoolError } from '../errors.ts';

/** A request is sent again. */
export interface RetriedEvent {
  /** Why; `undefined` when the server asked for it, by a reply that `retryAfter` knows. */
  readonly error: PulsepoolError | undefined;
  /**
   * `again`: at once, since nothing had been sent; `fresh`: at once, on a new socket, since an old one had died at rest;
   * `later`: after a wait, by policy and out of the budget.
   */
  readonly how: 'again' | 'fresh' | 'later';
  readonly waitMs: number;
  /** How many attempts have been made, the failed one included. */
  readonly attempts: number;
}

/** A request has taken longer than nearly all others: a second try was sent beside it. */
export interface HedgedEvent {
  readonly afterMs: number;
}

/** Requests have failed too often: none is let through for a while. */
export interface BreakerOpenedEvent {
  readonly endpoint: string;
  /** The failure that opened it. */
  readonly error: PulsepoolError;
  readonly openMs: number;
}

/** A probe succeeded: requests are let through again. */
export interface BreakerClosedEvent {
  readonly endpoint: string;
}

/** Every event and its payload. */
export interface ClientEvents {
  retried: (event: RetriedEvent) => void;
  hedged: (event: HedgedEvent) => void;
  breakerOpened: (event: BreakerOpenedEvent) => void;
  breakerClosed: (event: BreakerClosedEvent) => void;
}

/** The names of all events. */
export const CLIENT_EVENT_NAMES: readonly (keyof ClientEvents)[] = [
  'retried',
  'hedged',
  'breakerOpened',
  'breakerClosed',
];

/**
 * One resolver of a chain: what it is asked, and what its errors mean. Patience, caching and who is asked next are left
 * to others.
 */
import type { Address } from './address.ts';

/** The addresses of a name. At least one. */
export interface Answer {
  readonly addresses: readonly Address[];
  /** How long it may be kept, in ms, where the resolver says so. */
  readonly ttlMs: number | undefined;
  /**
   * The family of which nothing was learned: its question failed, or was not waited for. That addresses of it are missing
   * means nothing then.
   */
  readonly unknown?: 4 | 6 | undefined;
}

/** One SRV record (RFC 2782). */
export interface SrvRecord {
  /** The target: empty or `.` when the service is decidedly not available at this domain. */
  readonly host: string;
  readonly port: number;
  /** Those with the lowest are used first. */
  readonly priority: number;
  /** Share among those of one priority. */
  readonly weight: number;
}

/** The SRV records of a name. */
export interface ServiceAnswer {
  readonly records: readonly SrvRecord[];
  readonly ttlMs: number | undefined;
}

/**
 * A resolver. Both reject with an error that has a `code`: `ENOTFOUND` and `ENODATA` say that there is no such name, or
 * none of that kind; anything else that nothing was learned. When the signal is aborted nobody waits any longer.
 */
export interface Lookup {
  /** Names it in errors and statistics. */
  readonly name: string;
  addresses(host: string, signal: AbortSignal): Promise<Answer>;
  services(name: string, signal: AbortSignal): Promise<ServiceAnswer>;
}

/** An error with a code, as those of `node:dns`. */
export function lookupError(code: string, message: string): Error & { readonly code: string } {
  return Object.assign(new Error(message), { code });
}

/** The code of what a resolver rejected with; `EUNKNOWN` when it has none. */
export function codeOf(error: unknown): string {
  const code: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, 'code') : undefined;
  return typeof code === 'string' ? code : 'EUNKNOWN';
}

/** Whether the code is a resolver's word that there is nothing by that name. */
export function isDenial(code: string): boolean {
  return code === 'ENOTFOUND' || code === 'ENODATA';
}

// What is said on this side, when no resolver has said anything.
const SILENCE = new Set([
  'EAI_AGAIN',
  'ECANCELLED',
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'ETIMEOUT',
]);

/** Whether the code means that no resolver has answered. */
export function isSilence(code: string): boolean {
  return SILENCE.has(code);
}

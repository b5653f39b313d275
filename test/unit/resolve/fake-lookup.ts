/**
 * Resolvers of a test: each says what it is told to say, when it is told to.
 */

import type { Address } from '../../../src/resolve/address.ts';
import { parseAddress } from '../../../src/resolve/address.ts';
import {
  type Answer,
  type Lookup,
  lookupError,
  type ServiceAnswer,
  type SrvRecord,
} from '../../../src/resolve/lookup.ts';
import { Names, type NamesOptions } from '../../../src/resolve/names.ts';
import type { ResolveError } from '../../../src/resolve/resolve-error.ts';
import { VirtualClock } from '../../support/virtual-clock.ts';

type Reply = () => Promise<Answer>;

export function addressesOf(...texts: string[]): Address[] {
  return texts.map((text) => {
    const address = parseAddress(text);
    if (address === undefined) throw new Error(`${text} is no address`);
    return address;
  });
}

export function textsOf(addresses: readonly Address[]): string[] {
  return addresses.map(({ address }) => address);
}

export class FakeLookup implements Lookup {
  readonly name: string;
  readonly #clock: VirtualClock;
  /** The names that were asked for, in order. */
  readonly asked: string[] = [];
  /** Those of them that nobody waits for any more. */
  cut = 0;
  #delayMs = 0;
  #reply: Reply = () => Promise.reject(lookupError('ENOTFOUND', 'no such name'));
  readonly #replies: Map<string, Reply> = new Map();
  #records: () => Promise<ServiceAnswer> = () => Promise.reject(lookupError('ENOTFOUND', 'no such service'));

  constructor(name: string, clock: VirtualClock) {
    this.name = name;
    this.#clock = clock;
  }

  /** Every name has these addresses, or only `host` does. */
  has(addresses: string[], options: { ttlMs?: number; unknown?: 4 | 6; host?: string } = {}): this {
    const { host, ttlMs, unknown } = options;
    return this.#set(host, () => Promise.resolve({ addresses: addressesOf(...addresses), ttlMs, unknown }));
  }

  fails(code: string, host?: string): this {
    return this.#set(host, () => Promise.reject(lookupError(code, code)));
  }

  hangs(host?: string): this {
    return this.#set(host, () => new Promise(() => undefined));
  }

  /** Each answer takes so long. */
  takes(ms: number): this {
    this.#delayMs = ms;
    return this;
  }

  serves(...records: Partial<SrvRecord>[]): this {
    const whole = records.map((one) => ({ host: 'a', port: 7000, priority: 0, weight: 1, ...one }));
    this.#records = () => Promise.resolve({ records: whole, ttlMs: undefined });
    return this;
  }

  failsToServe(code: string): this {
    this.#records = () => Promise.reject(lookupError(code, code));
    return this;
  }

  addresses(host: string, signal: AbortSignal): Promise<Answer> {
    this.#note(host, signal);
    return this.#after(this.#replies.get(host) ?? this.#reply);
  }

  services(name: string, signal: AbortSignal): Promise<ServiceAnswer> {
    this.#note(name, signal);
    return this.#after(this.#records);
  }

  #note(name: string, signal: AbortSignal): void {
    this.asked.push(name);
    signal.addEventListener('abort', () => {
      this.cut += 1;
    });
  }

  #set(host: string | undefined, reply: Reply): this {
    if (host === undefined) this.#reply = reply;
    else this.#replies.set(host, reply);
    return this;
  }

  #after<T>(reply: () => Promise<T>): Promise<T> {
    if (this.#delayMs === 0) return reply();
    // What it says is what it was told to say when it was asked.
    const said = reply();
    said.catch(() => undefined);
    return new Promise((resolve) => {
      this.#clock.after(this.#delayMs, () => resolve(said));
    });
  }
}

/** One or more resolvers, a clock, and what the owner was told. */
export class NamesWorld {
  readonly clock: VirtualClock = new VirtualClock();
  readonly first: FakeLookup = new FakeLookup('first', this.clock);
  readonly second: FakeLookup = new FakeLookup('second', this.clock);
  readonly changed: { name: string; added: readonly string[]; removed: readonly string[] }[] = [];
  readonly failed: { name: string; error: ResolveError; staleMs: number | undefined }[] = [];
  readonly names: Names;

  /** Chance is in the middle unless told otherwise: what is fresh for 30 s is so for 31.5. */
  constructor(options: Partial<NamesOptions> & { isAlone?: boolean } = {}) {
    const { isAlone = false, ...rest } = options;
    this.names = new Names({
      lookups: isAlone ? [this.first] : [this.first, this.second],
      clock: this.clock,
      random: () => 0.5,
      owner: {
        onFailed: (name, error, staleMs) => this.failed.push({ name, error, staleMs }),
        onChanged: (name, added, removed) => this.changed.push({ name, added, removed }),
      },
      ...rest,
    });
  }

  /** Resolves a name without moving time, and tells what came, as text. */
  async ask(host = 'orders', ms = 0): Promise<string> {
    let told = 'waiting';
    this.names.addresses(host).then(
      ({ addresses, isStale, source }) => {
        told = `${textsOf(addresses).join(' ')} from ${source}${isStale ? ', stale' : ''}`;
      },
      (error: ResolveError) => {
        told = error.code;
      },
    );
    if (ms === 0) await this.clock.flush();
    else await this.clock.advance(ms);
    return told;
  }
}

/**
 * The system's own resolver: hosts file, search domains, nsswitch, mDNS and whatever else this machine is set up with.
 * Patience is left to the caller.
 *
 * getaddrinfo can be neither bounded nor cancelled, and each takes one of libuv's threads; no more than half of them, 2
 * by default, are given to such work (libuv 1.23). So at most 2 run at once, others stand in line, and one that nobody
 * waits for any more is still there to be joined: with a dead first name server glibc needs 5 s, which a caller who
 * gives up after 3 s would never see otherwise, however often it asked.
 */
import dns from 'node:dns/promises';
import { onAbort } from '../abort.ts';
import { type Address, parseAddress } from './address.ts';
import { type Answer, type Lookup, lookupError } from './lookup.ts';
import { resolveServices } from './name-server-lookup.ts';

const MOST_AT_ONCE = 2;

/** `getaddrinfo`, as it can be passed in by a test: all addresses of a name, in the system's order. */
export type GetAddresses = (host: string) => Promise<readonly { readonly address: string }[]>;

// In the system's order (RFC 6724), which knows the routes of this machine.
const getAddresses: GetAddresses = (host) => dns.lookup(host, { all: true, verbatim: true });

/** The resolver that the system is set up with. How long an answer may be kept is unknown. */
export function systemLookup(getAll: GetAddresses = getAddresses): Lookup {
  const lookups = new SystemLookups(getAll);
  return {
    name: 'system',
    addresses: (host, signal) => lookups.addresses(host, signal),
    services: (name, signal) => resolveServices(undefined, name, signal),
  };
}

class SystemLookups {
  readonly #getAll: GetAddresses;
  readonly #running: Map<string, Promise<Answer>> = new Map();
  /** Those who wait for a thread, each with what lets it go on. */
  readonly #line: Set<() => void> = new Set();

  constructor(getAll: GetAddresses) {
    this.#getAll = getAll;
  }

  async addresses(host: string, signal: AbortSignal): Promise<Answer> {
    while (!this.#running.has(host) && this.#running.size >= MOST_AT_ONCE) await this.#place(signal);
    signal.throwIfAborted();
    return unlessAborted(this.#running.get(host) ?? this.#start(host), signal);
  }

  #start(host: string): Promise<Answer> {
    const running = this.#ask(host).finally(() => {
      this.#running.delete(host);
      // All of them: the first may have gone, or may now join a look-up that another one starts.
      for (const goOn of [...this.#line]) goOn();
    });
    this.#running.set(host, running);
    return running;
  }

  async #ask(host: string): Promise<Answer> {
    const found = await this.#getAll(host);
    const addresses = found
      .map(({ address }) => parseAddress(address))
      .filter((address): address is Address => address !== undefined);
    if (addresses.length === 0) throw lookupError('ENODATA', `getaddrinfo found no address of ${host}`);
    return { addresses, ttlMs: undefined };
  }

  #place(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const goOn = (): void => {
        this.#line.delete(goOn);
        stop();
        resolve();
      };
      const stop = onAbort(signal, () => {
        this.#line.delete(goOn);
        reject(signal.reason);
      });
      this.#line.add(goOn);
    });
  }
}

/** What the promise brings, or the signal’s reason when it is aborted first. It must not be aborted yet. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = onAbort(signal, () => reject(signal.reason));
    void promise.then(resolve, reject).finally(stop);
  });
}

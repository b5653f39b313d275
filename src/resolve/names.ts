/**
 * Names into addresses, and services into records: what is known of each name, shared by all who ask. How one name is
 * kept is left to its entry, and asking to the resolvers of the chain.
 */
import type { Clock, RandomSource } from '../clock.ts';
import { type Address, parseAddress } from './address.ts';
import { askInTurn, type Found } from './chain.ts';
import { Entry, type EntryOwner, type Known } from './entry.ts';
import { type Lookup, lookupError, type SrvRecord } from './lookup.ts';
import { ResolveError } from './resolve-error.ts';
import type { Change } from './watchers.ts';

/** How names are resolved. */
export interface NamesOptions {
  /** Asked in this order, until one has a good answer. */
  readonly lookups: readonly Lookup[];
  /** For each of them, in ms; then it is cancelled, and the next one is asked. Default: 3,000. */
  readonly timeoutMs?: number;
  /**
   * How long an answer without a TTL is fresh, in ms; one with a TTL is for that, but 5 s at least and 300 s at most. A
   * watched name is asked for again after no longer than this, plus up to 10 %. Default: 30,000 (gRPC's least time
   * between two look-ups).
   */
  readonly refreshMs?: number;
  /** How old an answer may become while no resolver has another, in ms. Default: 900,000. */
  readonly maxStaleMs?: number;
  /** Served when a name has no answer, of any age. Default: none. */
  readonly fallbackAddresses?: readonly Address[];
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly owner?: NamesOwner;
}

/** Who is told. Neither may throw. */
interface NamesOwner {
  /** No resolver had an answer. `staleMs`: the age of the last good one, in ms. */
  onFailed(name: string, error: ResolveError, staleMs: number | undefined): void;
  /** A good answer differs from the one before it, or the name was confirmed to be gone. */
  onChanged(name: string, added: readonly string[], removed: readonly string[]): void;
}

/** The addresses of a name, and how good they are. */
export interface Resolved {
  readonly addresses: readonly Address[];
  /** The name of the resolver that knew; `literal` or `fallback`. */
  readonly source: string;
  /** In ms. */
  readonly ageMs: number;
  /** Whether they should have been renewed by now. */
  readonly isStale: boolean;
}

/** The services of a name, and how good they are. */
export interface ResolvedServices {
  readonly records: readonly SrvRecord[];
  readonly source: string;
  /** In ms. */
  readonly ageMs: number;
  readonly isStale: boolean;
}

/** What has changed since the watcher was last told: at first, everything was added. */
export interface AddressChange {
  /** All there are now. Empty only once the name was confirmed to be gone. */
  readonly addresses: readonly Address[];
  readonly added: readonly Address[];
  readonly removed: readonly Address[];
}

/** As that one. */
export interface ServiceChange {
  readonly records: readonly SrvRecord[];
  readonly added: readonly SrvRecord[];
  readonly removed: readonly SrvRecord[];
}

/** Counts since the beginning, and one gauge. */
export interface NamesStats {
  /** Runs through the resolvers. */
  readonly lookups: number;
  /** Those of them in which none had an answer. */
  readonly failures: number;
  /** Callers who were given an answer that should have been renewed. */
  readonly staleServed: number;
  /** The age of the oldest answer in use that should have been renewed, in ms, though it be older than `maxStaleMs`; 0 when all are fresh. */
  readonly oldestStaleMs: number;
}

/** Whether a hint is more than one. */
export interface RefreshOptions {
  /** The network has changed: ask at once, whatever was asked lately or failed, and serve nothing as fresh. */
  readonly force?: boolean;
}

/** See the file's comment. */
export class Names {
  readonly #options: NamesOptions;
  readonly #hosts: Map<string, Entry<Address>> = new Map();
  readonly #services: Map<string, Entry<SrvRecord>> = new Map();
  #lookups = 0;
  #failures = 0;
  #staleServed = 0;
  #isEnded = false;

  constructor(options: NamesOptions) {
    this.#options = options;
  }

  /**
   * The addresses of a host. An address is its own, and nobody is asked.
   *
   * @throws ResolveError when none is known, fallback included; `signal.reason` when aborted, which leaves the look-up
   *   to others
   */
  async addresses(host: string, signal?: AbortSignal): Promise<Resolved> {
    signal?.throwIfAborted();
    const literal = parseAddress(host);
    if (literal !== undefined) return { addresses: [literal], source: 'literal', ageMs: 0, isStale: false };
    const { items, ...rest } = await this.#get(this.#host(host), host, signal);
    return { addresses: items, ...rest };
  }

  /**
   * The SRV records of a name.
   *
   * @throws ResolveError when none is known; `signal.reason` when aborted
   */
  async services(name: string, signal?: AbortSignal): Promise<ResolvedServices> {
    signal?.throwIfAborted();
    const { items, ...rest } = await this.#get(this.#service(name), name, signal);
    return { records: items, ...rest };
  }

  /**
   * Tells the addresses of a host as soon as they are known, and every change of the set until the returned function is
   * called. `onFailed` is told of each look-up that was in vain; a failure removes nothing. Never calls before it has
   * returned; what it calls must not throw.
   */
  watch(
    host: string,
    onChange: (change: AddressChange) => void,
    onFailed?: (error: ResolveError) => void,
  ): () => void {
    const literal = parseAddress(host);
    if (literal !== undefined) return this.#tellOnce(literal, onChange);
    const tell = ({ items, ...rest }: Change<Address>): void => onChange({ addresses: items, ...rest });
    return this.#host(host)?.watch({ onChange: tell, onFailed }) ?? nothing;
  }

  /** The same for SRV records. */
  watchServices(
    name: string,
    onChange: (change: ServiceChange) => void,
    onFailed?: (error: ResolveError) => void,
  ): () => void {
    const tell = ({ items, ...rest }: Change<SrvRecord>): void => onChange({ records: items, ...rest });
    return this.#service(name)?.watch({ onChange: tell, onFailed }) ?? nothing;
  }

  /** A dial has failed, or a socket died: there may be news of this host. What nobody has asked for is left alone. */
  refresh(host: string, options: RefreshOptions = {}): void {
    hint(this.#hosts.get(keyOfName(host)), options);
  }

  /** The same for SRV records; not for their targets. */
  refreshServices(name: string, options: RefreshOptions = {}): void {
    hint(this.#services.get(keyOfName(name)), options);
  }

  /** The network has changed: all that is watched or asked now is asked anew, the rest when it is next needed. */
  refreshAll(): void {
    for (const entry of this.#entries()) entry.force(false);
  }

  get stats(): NamesStats {
    return {
      lookups: this.#lookups,
      failures: this.#failures,
      staleServed: this.#staleServed,
      oldestStaleMs: Math.max(0, ...this.#entries().map(({ staleMs }) => staleMs)),
    };
  }

  /** Ends every look-up and timer. Who waits, or comes later, is rejected with code `ECANCELLED`. */
  end(): void {
    this.#isEnded = true;
    for (const entry of this.#entries()) entry.end();
    this.#hosts.clear();
    this.#services.clear();
  }

  #get<Item>(
    entry: Entry<Item> | undefined,
    name: string,
    signal: AbortSignal | undefined,
  ): Promise<Known<Item>> {
    if (entry !== undefined) return entry.get(signal);
    return Promise.reject(new ResolveError(name, [], undefined, 'ECANCELLED'));
  }

  #host(host: string): Entry<Address> | undefined {
    const { fallbackAddresses = [] } = this.#options;
    const keyOf = ({ address }: Address): string => address;
    return this.#entry(this.#hosts, host, addressesFrom, fallbackAddresses, keyOf);
  }

  #service(name: string): Entry<SrvRecord> | undefined {
    return this.#entry(this.#services, name, servicesFrom, [], keyOfRecord);
  }

  #entry<Item>(
    entries: Map<string, Entry<Item>>,
    name: string,
    from: (lookup: Lookup, name: string, signal: AbortSignal) => Promise<Found<Item>>,
    fallback: readonly Item[],
    keyOf: (item: Item) => string,
  ): Entry<Item> | undefined {
    if (this.#isEnded) return undefined;
    const key = keyOfName(name);
    const there = entries.get(key);
    if (there !== undefined) return there;
    // Discovery may go through many names in a pool's life.
    for (const [old, entry] of entries) if (entry.isForgotten) entries.delete(old);
    const {
      clock,
      lookups,
      maxStaleMs = 900_000,
      random,
      refreshMs = 30_000,
      timeoutMs = 3_000,
    } = this.#options;
    const entry = new Entry<Item>({
      name,
      times: { refreshMs, maxStaleMs },
      fallback,
      keyOf,
      ask: (signal) =>
        askInTurn({ lookups, ask: (lookup, cut) => from(lookup, name, cut), timeoutMs, clock }, signal),
      clock,
      random,
      owner: this.#counting(),
    });
    entries.set(key, entry);
    return entry;
  }

  #counting(): EntryOwner {
    const { owner } = this.#options;
    return {
      onAsked: () => {
        this.#lookups += 1;
      },
      onServedStale: () => {
        this.#staleServed += 1;
      },
      onFailed: (name, error, staleMs) => {
        this.#failures += 1;
        owner?.onFailed(name, error, staleMs);
      },
      onChanged: (name, added, removed) => owner?.onChanged(name, added, removed),
    };
  }

  #entries(): { staleMs: number; force(isToAsk: boolean): void; end(): void }[] {
    return [...this.#hosts.values(), ...this.#services.values()];
  }

  #tellOnce(literal: Address, onChange: (change: AddressChange) => void): () => void {
    let isOver = false;
    this.#options.clock.soon(() => {
      if (!isOver && !this.#isEnded) onChange({ addresses: [literal], added: [literal], removed: [] });
    });
    return () => {
      isOver = true;
    };
  }
}

/** `orders:7000`, and whatever else makes it another record. */
function keyOfRecord({ host, port, priority, weight }: SrvRecord): string {
  return `${host}:${port} (priority ${priority}, weight ${weight})`;
}

function keyOfName(name: string): string {
  return name.toLowerCase();
}

function hint<Item>(entry: Entry<Item> | undefined, options: RefreshOptions): void {
  if (options.force === true) entry?.force(true);
  else entry?.hint();
}

// Async, since a resolver of the user's may throw.
async function addressesFrom(lookup: Lookup, host: string, signal: AbortSignal): Promise<Found<Address>> {
  const { addresses, ttlMs, unknown } = await lookup.addresses(host, signal);
  return {
    items: addresses,
    ttlMs,
    isUnknown: unknown === undefined ? undefined : ({ family }) => family === unknown,
  };
}

async function servicesFrom(lookup: Lookup, name: string, signal: AbortSignal): Promise<Found<SrvRecord>> {
  const { records, ttlMs } = await lookup.services(name, signal);
  const items = records.filter(({ host }) => host !== '' && host !== '.');
  if (records.length > 0 && items.length === 0) {
    // RFC 2782. Like any other word that there is nothing, it is believed once it is confirmed.
    throw lookupError('ENOTFOUND', 'the service is decidedly not available at this domain (target ".")');
  }
  return { items, ttlMs };
}

const nothing = (): void => undefined;

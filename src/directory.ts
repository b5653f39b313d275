/**
 * The directory of a pool: which endpoints there are. It has the names looked up, follows the list (a given one, DNS, SRV
 * records or a function of the user's), watches the network of the machine, and keeps the members of the pool in step.
 *
 * What becomes of sockets is told to the roster; the way to one endpoint is the route's business.
 */
import { onAbort } from './abort.ts';
import type { ResolvedDns, Target } from './address-options.ts';
import type { Clock, RandomSource } from './clock.ts';
import type { Announcer } from './pool/announcer.ts';
import type { Members } from './pool/members.ts';
import type { PoolMember } from './pool/pool-member.ts';
import { parseAddress } from './resolve/address.ts';
import { discoverSource } from './resolve/discover-source.ts';
import { dnsSource } from './resolve/dns-source.ts';
import type { EndpointSource } from './resolve/endpoint-source.ts';
import { endpointKey, type FoundEndpoint } from './resolve/given-endpoint.ts';
import { type Lookup, lookupError } from './resolve/lookup.ts';
import { Names, type NamesStats } from './resolve/names.ts';
import { type GetInterfaces, NetworkWatch } from './resolve/network-watch.ts';
import { srvSource } from './resolve/srv-source.ts';
import { Route } from './route.ts';
import {
  type DialError,
  dialTimeout,
  discoverFailed,
  discoverSilent,
  resolveFailed,
} from './transport/dial-error.ts';
import type { Endpoint } from './transport/endpoint.ts';

/** What a directory is made of. */
export interface DirectoryParts<In, Out> {
  readonly target: Target;
  /** What the target is called in errors. */
  readonly name: string;
  readonly dns: ResolvedDns;
  readonly lookups: readonly Lookup[];
  readonly interfaces: GetInterfaces;
  readonly members: Members<In, Out>;
  readonly makeMember: (endpoint: Endpoint, place: FoundEndpoint) => PoolMember<In, Out>;
  readonly announcer: Announcer;
  readonly connectTimeoutMs: number;
  readonly clock: Clock;
  readonly random: RandomSource;
}

/** Who is told. */
export interface DirectoryOwner<In, Out> {
  /** There are endpoints that were not there before, or whether they may be dialed is another matter now. */
  onJoined(): void;
  /** It is no longer one of them. */
  onVacated(member: PoolMember<In, Out>, reason: 'removed'): void;
  /** An endpoint that is known by its name has these addresses from now on. */
  onMoved(member: PoolMember<In, Out>, addresses: ReadonlySet<string>): void;
  /** The machine has another network; these local addresses have gone. */
  onNetworkChanged(goneLocal: ReadonlySet<string>): void;
}

// How long a family of addresses is kept that was tried because the other one was in vain.
const FAMILY_MS = 5_000;

interface Seeker {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** See the file's comment. */
export class Directory<In, Out> {
  readonly route: Route;
  readonly #parts: DirectoryParts<In, Out>;
  readonly #names: Names;
  readonly #network: NetworkWatch;
  readonly #byKey: Map<string, PoolMember<In, Out>> = new Map();
  // Dials that wait for the first list.
  readonly #seekers: Set<Seeker> = new Set();
  #source: EndpointSource | undefined;
  #hasStarted = false;
  #lastError: unknown;
  #owner: DirectoryOwner<In, Out> | undefined;
  // How to stop watching the names of those endpoints that are known by name.
  readonly #watches: Map<PoolMember<In, Out>, () => void> = new Map();
  #isInUse = false;
  #familyUntil: number = Number.NEGATIVE_INFINITY;
  #isEnded = false;

  constructor(parts: DirectoryParts<In, Out>) {
    const { announcer, clock, connectTimeoutMs, dns, interfaces, random } = parts;
    this.#parts = parts;
    this.#names = new Names({
      ...dns,
      ...parts,
      owner: {
        onFailed: (name, error, staleMs) =>
          announcer.tell('resolveFailed', () => ({ name, error: resolveFailed(error, name), staleMs })),
        onChanged: (name, added, removed) =>
          announcer.tell('addressesChanged', () => ({ name, added, removed })),
      },
    });
    this.route = new Route({ names: this.#names, clock, random, connectTimeoutMs });
    this.#network = new NetworkWatch({
      interfaces,
      clock,
      onChange: ({ added, removed, wokeMs }) => this.#onNetwork(added, removed, wokeMs),
    });
    const { target } = parts;
    if (target.kind === 'many' && target.from.kind === 'list') this.#take(target.from.list);
    else this.#source = this.#makeSource();
  }

  /** Numbers about the names. */
  get stats(): NamesStats {
    return this.#names.stats;
  }

  /** Who is told of what happens from now on. */
  set owner(owner: DirectoryOwner<In, Out>) {
    this.#owner = owner;
  }

  /** There are sockets or dials, or none any more: only meanwhile are the network and the names of single endpoints watched. */
  use(isInUse: boolean): void {
    if (!isInUse) {
      this.#rest();
      return;
    }
    const { members, target } = this.#parts;
    if (this.#isEnded || (target.kind === 'one' && target.endpoint.kind === 'unix')) return;
    this.#isInUse = true;
    this.#network.start();
    for (const member of members.list) this.#watch(member);
  }

  /** Its sockets follow its name. One with an address of its own stays there. */
  #watch(member: PoolMember<In, Out>): void {
    const { endpoint } = member;
    if (!this.#isInUse || endpoint.kind === 'unix' || this.#watches.has(member)) return;
    const { address, host } = endpoint;
    if (parseAddress(address ?? host) !== undefined) return;
    const stop = this.#names.watch(host, ({ addresses }) => {
      // Its name is gone: its sockets may still serve, and nothing says where else to go.
      if (addresses.length > 0) this.#owner?.onMoved(member, new Set(addresses.map((one) => one.address)));
    });
    this.#watches.set(member, stop);
  }

  #unwatch(member: PoolMember<In, Out>): void {
    this.#watches.get(member)?.();
    this.#watches.delete(member);
  }

  /** Resolves when endpoints are known. @throws DialError `ERR_DNS` or `ERR_CONNECT_TIMEOUT`; `signal.reason`. */
  async locate(signal: AbortSignal, deadlineAt: number): Promise<void> {
    const { clock, members } = this.#parts;
    this.#begin();
    this.#source?.refresh();
    if (members.isDenied) throw this.#denied();
    if (!members.isBlind) return;
    let stop = (): void => undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const seeker: Seeker = { resolve, reject };
        this.#seekers.add(seeker);
        const timer = clock.after(deadlineAt - clock.now(), () => {
          clock.turn(() => reject(this.#failure() ?? this.#tooLate()));
        });
        const deafen = onAbort(signal, () => reject(signal.reason));
        stop = () => {
          timer.cancel();
          deafen();
          this.#seekers.delete(seeker);
        };
      });
    } finally {
      stop();
    }
  }

  /** A dial has failed, or a socket was lost: there may be news. */
  onTrouble(member: PoolMember<In, Out> | undefined): void {
    const { members } = this.#parts;
    this.#source?.refresh();
    if (member?.endpoint.kind === 'tcp') this.#names.refresh(member.endpoint.host);
    if (members.isFailing && !members.isBlind) this.#changeFamily();
  }

  /**
   * All were dialed in vain: where there are two families, the other one may be reachable. Not while a socket is open, which
   * would be closed for it; and not again at once, since the new endpoints know of no back-off.
   */
  #changeFamily(): void {
    const { clock, members } = this.#parts;
    const now = clock.now();
    if (now < this.#familyUntil || members.list.some(({ open }) => open > 0)) return;
    if (this.#source?.tryOtherFamily?.() === true) this.#familyUntil = now + FAMILY_MS;
  }

  /** Ends every look-up and timer. */
  end(): void {
    this.#isEnded = true;
    this.#rest();
    this.#source?.end();
    this.#names.end();
  }

  #rest(): void {
    this.#isInUse = false;
    this.#network.end();
    for (const member of [...this.#watches.keys()]) this.#unwatch(member);
  }

  // ---- the list ------------------------------------------------------------------------------------------

  #makeSource(): EndpointSource | undefined {
    const { target } = this.#parts;
    if (target.kind === 'one') return undefined;
    const { from } = target;
    switch (from.kind) {
      case 'list':
        return undefined;
      case 'dns':
        return dnsSource(this.#names, from);
      case 'srv':
        return srvSource(this.#names, { srv: from.srv, clock: this.#parts.clock });
      case 'discover':
        return discoverSource(from.discover, this.#parts);
    }
  }

  #begin(): void {
    if (this.#hasStarted || this.#isEnded) return;
    this.#hasStarted = true;
    this.#source?.start({
      onEndpoints: (list) => {
        if (list.length > 0) this.#take(list);
        else this.#deny();
      },
      onFailed: (error) => this.#onFailed(error),
    });
  }

  #onFailed(error: unknown): void {
    this.#lastError = error;
    const { announcer, members, name } = this.#parts;
    // Those of names are told by the names.
    if (this.#isDiscovered) {
      announcer.tell('resolveFailed', () => ({
        name,
        error: discoverFailed(error, name),
        staleMs: undefined,
      }));
    }
    if (members.isBlind) this.#settle(({ reject }) => reject(this.#failure()));
  }

  /** What the last look-up failed with, made anew: each dial has its own. */
  #failure(): DialError | undefined {
    if (this.#lastError === undefined) return undefined;
    return (this.#isDiscovered ? discoverFailed : resolveFailed)(this.#lastError, this.#parts.name);
  }

  #tooLate(): DialError {
    const { connectTimeoutMs, name } = this.#parts;
    return this.#isDiscovered
      ? discoverSilent(name, connectTimeoutMs)
      : dialTimeout('dns', name, connectTimeoutMs);
  }

  get #isDiscovered(): boolean {
    const { target } = this.#parts;
    return target.kind === 'many' && target.from.kind === 'discover';
  }

  #denied(): DialError {
    const { name } = this.#parts;
    return this.#failure() ?? resolveFailed(lookupError('ENOTFOUND', `${name} was not found`), name);
  }

  /** The name is gone: nothing new is dialed, since the addresses may belong to somebody else by now. */
  #deny(): void {
    this.#parts.members.isDenied = true;
    this.#settle(({ reject }) => reject(this.#denied()));
    this.#owner?.onJoined();
  }

  /** The whole list: what is missing in it is gone. */
  #take(list: readonly FoundEndpoint[]): void {
    const { announcer, clock, makeMember, members } = this.#parts;
    const now = clock.now();
    const wasDenied = members.isDenied;
    members.isDenied = false;
    this.#lastError = undefined;
    const left = new Map(this.#byKey);
    const added: PoolMember<In, Out>[] = [];
    for (const found of list) {
      const key = endpointKey(found);
      const known = left.get(key);
      left.delete(key);
      if (known !== undefined) {
        members.change(known, found, now);
        continue;
      }
      const member = makeMember(endpointOf(found), found);
      this.#byKey.set(key, member);
      members.add(member, now);
      this.#watch(member);
      added.push(member);
    }
    for (const [key, member] of left) {
      this.#byKey.delete(key);
      this.#unwatch(member);
      members.remove(member, now);
    }
    if (added.length > 0 || left.size > 0) {
      const names = (some: Iterable<PoolMember<In, Out>>): string[] => [...some].map(({ name }) => name);
      announcer.tell('endpointsChanged', () => ({
        added: names(added),
        removed: names(left.values()),
        total: members.size,
      }));
    }
    for (const member of left.values()) this.#owner?.onVacated(member, 'removed');
    this.#settle(({ resolve }) => resolve());
    if (added.length > 0 || wasDenied) this.#owner?.onJoined();
  }

  #settle(how: (seeker: Seeker) => void): void {
    for (const seeker of this.#seekers) how(seeker);
  }

  // ---- the network ---------------------------------------------------------------------------------------

  #onNetwork(added: readonly string[], removed: readonly string[], wokeMs: number): void {
    const { announcer } = this.#parts;
    announcer.tell('networkChanged', () => ({ added, removed, wokeMs }));
    this.#names.refreshAll();
    this.#source?.refresh(true);
    this.route.forget();
    this.#owner?.onNetworkChanged(new Set(removed.map(addressOf)));
  }
}

function endpointOf({ address, host, port }: FoundEndpoint): Endpoint {
  return { kind: 'tcp', host, port, address };
}

/** The address in `eth0 10.0.0.5/24`. */
function addressOf(text: string): string {
  return text.slice(text.indexOf(' ') + 1).split('/')[0] ?? text;
}

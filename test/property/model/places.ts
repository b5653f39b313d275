/**
 * Where the server of a pool is, and what happens there: one name or several endpoints, which of them can be reached,
 * which there are, what names stand for, and which network the machine has. Questions and answers are the world's
 * business: see world.ts.
 */
import type { NetworkInterfaceInfo } from 'node:os';
import type { BalancePolicy } from '../../../src/balance/policies.ts';
import type { PoolOptions } from '../../../src/options.ts';
import type { PoolMember } from '../../../src/pool/pool-member.ts';
import type { GivenEndpoint } from '../../../src/resolve/given-endpoint.ts';
import { type DialOutcome, type FakeNet, fakeLookup } from '../../support/fake-net.ts';
import { Feed } from '../../support/feed.ts';

/** How endpoints are found: a single name, a list, a function that yields lists, or the addresses of a name. */
export type Place =
  | { readonly kind: 'one' }
  | { readonly kind: 'list' | 'dns'; readonly balance: BalancePolicy }
  /** The first list `isLate` when it is not there from the beginning. */
  | { readonly kind: 'feed'; readonly balance: BalancePolicy; readonly isLate: boolean };

/** What becomes of an address. `crash`: it refuses, and what was open is lost. */
export const FATES = ['ok', 'refuse', 'hang', 'untrusted', 'silent', 'crash'] as const;
export type Fate = (typeof FATES)[number];

const OUTCOMES: Partial<Record<Fate, DialOutcome>> = {
  refuse: { kind: 'refuse', afterMs: 1 },
  crash: { kind: 'refuse', afterMs: 1 },
  // The dialer's own deadline ends it.
  hang: { kind: 'refuse', afterMs: 500 },
  untrusted: { kind: 'refuse', retryable: false },
};

/** All addresses there are. */
export const ADDRESSES = ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5'] as const;
const THREE = ADDRESSES.slice(0, 3);

/** What a look-up ends with. */
export const DNS_ANSWERS = ['first', 'second', 'both', 'three', 'broken', 'unknown', 'silent'] as const;
export type DnsAnswer = (typeof DNS_ANSWERS)[number];

/** What happens to a list of endpoints. */
export const LIST_CHANGES = ['join', 'leave', 'replaceAll', 'move', 'feedFails', 'feedErrs'] as const;
export type ListChange = (typeof LIST_CHANGES)[number];

const LOCAL = ['198.51.100.7', '198.51.100.8'] as const;
/** Which of the two local addresses are up. */
export const NETWORKS = [[0, 1], [0], [1]] as const;
export type Network = (typeof NETWORKS)[number];

// What began before an endpoint was well may fail until then: a dial, and the longest back-off.
const SURE_AFTER_MS = 1_000;

/** See the file's comment. */
export class Places {
  readonly #net: FakeNet;
  readonly #place: Place;
  readonly #feed: Feed | undefined;
  readonly #fates: Map<string, Fate> = new Map();
  /** Since when whoever dialed an address was served. */
  readonly #wellSince: Map<string, number> = new Map();
  #list: { readonly host: string; readonly weight: number; readonly tier: number }[];
  #isTold: boolean;
  #isFollowed = false;
  #answer: DnsAnswer = 'first';
  /** A look-up has failed: names may be left alone for a while. */
  #hadDnsTrouble = false;

  constructor(net: FakeNet, place: Place) {
    this.#net = net;
    this.#place = place;
    this.#list = THREE.map((host) => ({ host, weight: 1, tier: 0 }));
    this.#isTold = place.kind !== 'feed' || !place.isLate;
    this.#feed = place.kind === 'feed' ? new Feed(this.#isTold ? this.#given : undefined) : undefined;
    if (place.kind === 'dns') this.#answer = 'three';
    net.lookups = [fakeLookup(() => this.#lookUp())];
    net.interfaces = interfacesOf(NETWORKS[0]);
    net.localAddress = LOCAL[0];
  }

  get options(): Pick<PoolOptions<string, string>, 'host' | 'port' | 'endpoints' | 'balance' | 'dns'> {
    const place = this.#place;
    const dns = { timeoutMs: 300, refreshMs: 1_000 };
    if (place.kind === 'one') return { host: 'fake', port: 1, dns };
    const { balance } = place;
    if (place.kind === 'dns') return { endpoints: { host: 'fake', port: 1 }, balance, dns };
    const discover = this.#feed?.discover;
    if (discover !== undefined) {
      const follow: typeof discover = (signal) => {
        this.#isFollowed = true;
        return discover(signal);
      };
      return { endpoints: follow, balance };
    }
    return { endpoints: THREE.map((host) => `${host}:1`), balance };
  }

  /** Whether callers may have keys. */
  get isKeyed(): boolean {
    return this.#place.kind !== 'one' && this.#place.balance === 'consistent-hash';
  }

  get isNamed(): boolean {
    return this.#place.kind === 'one' || this.#place.kind === 'dns';
  }

  get isFed(): boolean {
    return this.#feed !== undefined;
  }

  /** How long all may have to wait until a name is looked up again, in ms. */
  get calmMs(): number {
    return this.#hadDnsTrouble ? 31_000 : 0;
  }

  isSilent(address: string): boolean {
    return this.#fates.get(address) === 'silent';
  }

  // ---- what happens --------------------------------------------------------------------------------------

  decide(address: string, fate: Fate): void {
    this.#fates.set(address, fate);
    this.doubt(address);
    const outcome = OUTCOMES[fate];
    if (outcome === undefined) this.#net.outcomes.delete(address);
    else this.#net.outcomes.set(address, outcome);
    if (fate !== 'crash') return;
    for (const peer of this.#net.openPeers) if (peer.address === address) peer.reset();
  }

  change(how: ListChange, pick: number): void {
    const at = pick % Math.max(1, this.#list.length);
    const others = ADDRESSES.filter((one) => this.#list.every(({ host }) => host !== one));
    switch (how) {
      case 'join': {
        const host = others[pick % Math.max(1, others.length)];
        if (host !== undefined) this.#list.push({ host, weight: 1, tier: 0 });
        break;
      }
      case 'leave':
        // An empty list is not believed.
        if (this.#list.length > 1) this.#list.splice(at, 1);
        break;
      case 'replaceAll':
        if (others.length > 0) this.#list = others.map((host) => ({ host, weight: 1, tier: 0 }));
        break;
      case 'move': {
        const { host } = this.#list[at] ?? { host: ADDRESSES[0] };
        this.#list[at] = { host, weight: 1 + (pick % 3), tier: (pick >> 1) % 2 };
        break;
      }
      case 'feedFails':
        // It is called again later and later, as long as it has told nothing.
        if (this.#isTold && this.#isFollowed) this.#feed?.fail(new Error('the registry is down'));
        this.#isFollowed = false;
        return;
      case 'feedErrs':
        if (this.#isTold) this.#feed?.tell([]);
        return;
    }
    this.#tell();
  }

  answer(answer: DnsAnswer): void {
    this.#answer = answer;
  }

  connectTo(network: Network, sleptMs: number): void {
    const { clock } = this.#net;
    this.#net.interfaces = interfacesOf(network);
    this.#net.localAddress = LOCAL[network.at(-1) ?? 0] ?? LOCAL[0];
    clock.sleptMs += sleptMs;
  }

  /** All is well from now on, but for one of several when `down` says so. */
  heal(down: Fate = 'ok'): void {
    for (const address of ADDRESSES) this.decide(address, 'ok');
    this.#answer = this.#place.kind === 'one' ? 'first' : 'three';
    const isAlone = this.#place.kind === 'one' || this.#list.length < 2;
    const [first] = this.#place.kind === 'dns' ? THREE : this.#list.map(({ host }) => host);
    if (down !== 'ok' && !isAlone && first !== undefined) this.decide(first, down);
    this.#tell();
  }

  // ---- what may be relied on -----------------------------------------------------------------------------

  /** Whoever dials it now may fail; all of them without an address. */
  doubt(address?: string): void {
    const now = this.#net.clock.now();
    for (const one of address === undefined ? ADDRESSES : [address]) this.#wellSince.set(one, now);
  }

  /** Whether whoever has dialed it since then must have been served. */
  isSure({ endpoint }: PoolMember<string, string>, since: number): boolean {
    const address = endpoint.kind === 'tcp' ? (endpoint.address ?? endpoint.host) : '';
    const fate = this.#fates.get(address) ?? 'ok';
    return fate === 'ok' && (this.#wellSince.get(address) ?? 0) + SURE_AFTER_MS < since;
  }

  // ---- the list and the names ----------------------------------------------------------------------------

  get #given(): readonly GivenEndpoint[] {
    return this.#list.map((one) => ({ ...one, port: 1 }));
  }

  #tell(): void {
    this.#isTold = true;
    this.#feed?.tell(this.#given);
  }

  async #lookUp(): Promise<readonly string[]> {
    switch (this.#answer) {
      case 'first':
        return ADDRESSES.slice(0, 1);
      case 'second':
        return ADDRESSES.slice(1, 2);
      case 'both':
        return ADDRESSES.slice(0, 2);
      case 'three':
        return THREE;
      case 'silent':
        this.#hadDnsTrouble = true;
        return new Promise(() => undefined);
      default:
        this.#hadDnsTrouble = true;
        throw Object.assign(new Error('no answer'), {
          code: this.#answer === 'unknown' ? 'ENOTFOUND' : 'ESERVFAIL',
        });
    }
  }
}

function interfacesOf(network: Network): NodeJS.Dict<NetworkInterfaceInfo[]> {
  const found: NodeJS.Dict<NetworkInterfaceInfo[]> = {};
  for (const index of network) {
    const address = LOCAL[index];
    const place = { address, netmask: '255.255.255.0', family: 'IPv4', mac: '', internal: false } as const;
    found[`eth${index}`] = [{ ...place, cidr: `${address}/24` }];
  }
  return found;
}

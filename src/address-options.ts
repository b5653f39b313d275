/**
 * The options that say where the server is: one endpoint or many, how names are resolved, and how endpoints are chosen.
 * The other options of a pool are in options.ts.
 */
import { BALANCE_POLICIES, type BalancePolicy } from './balance/policies.ts';
import { systemClock } from './clock.ts';
import {
  checkDuration,
  checkInteger,
  checkKeys,
  checkOneOf,
  invalidOption,
  valueOr,
} from './option-check.ts';
import { type Address, parseAddress } from './resolve/address.ts';
import type { Discover } from './resolve/discover-source.ts';
import { distinctEndpoints } from './resolve/endpoint-source.ts';
import { type FoundEndpoint, type GivenEndpoint, parseGivenEndpoint } from './resolve/given-endpoint.ts';
import { nameServerLookup } from './resolve/name-server-lookup.ts';
import type { Endpoint } from './transport/endpoint.ts';

/** Every address of a name is an endpoint: a Kubernetes headless service, a name with many addresses. */
export interface DnsEndpoints {
  readonly host: string;
  readonly port: number;
}

/** The targets of SRV records, with their priorities as tiers and their weights: Kubernetes, Consul. */
export interface SrvEndpoints {
  /** `_orders._tcp.example.com` */
  readonly srv: string;
}

/** Where many endpoints come from: a list, a name, SRV records, or a function that yields lists. */
export type Endpoints = readonly GivenEndpoint[] | DnsEndpoints | SrvEndpoints | Discover;

/** How names are resolved. */
export interface DnsOptions {
  /**
   * Who is asked, one after the other until one has a good answer: `'system'` (the hosts file and what else the machine
   * is set up with), or the address of a name server, `'10.0.0.2'` or `'10.0.0.2:5353'`. Default: `['system']`.
   */
  readonly resolvers?: readonly string[];
  /** How long each of them may take, in ms; all together should fit into `connectTimeoutMs`. Default: 3,000. */
  readonly timeoutMs?: number;
  /**
   * How long an answer without a TTL is fresh, and how often a name is asked for again at least while it is in use, in
   * ms. Default: 30,000 (gRPC).
   */
  readonly refreshMs?: number;
  /**
   * How old an answer may become that `host` is dialed by while no resolver has another, in ms. Endpoints that DNS gave stay
   * until an answer says otherwise. Default: 900,000.
   */
  readonly maxStaleMs?: number;
  /**
   * Addresses of the one name, dialed when no resolver has answered within 4 s and there is no answer that is young enough:
   * `connectTimeoutMs` must be longer than that. Default: none.
   */
  readonly fallbackAddresses?: readonly string[];
}

/** Those of a pool's options that say where the server is. */
export interface AddressOptions {
  /** Host name or address; with `port`. All addresses of the name are one endpoint: the first that answers is used. */
  readonly host?: string;
  /** TCP port, 1 to 65,535. */
  readonly port?: number;
  /** Path of a Unix socket, instead of `host` and `port`. */
  readonly path?: string;
  /**
   * Many endpoints instead of `host` and `port`, all under this pool's limits: a list of `'host:port'` or objects with
   * `weight`, `tier` and `zone`; `{ host, port }`, every address of which is an endpoint; `{ srv }`; or a function that
   * yields lists.
   */
  readonly endpoints?: Endpoints;
  /** How names are resolved. */
  readonly dns?: DnsOptions;
  /** How an endpoint is chosen. Default: `'p2c'`, the power of two choices by latency and load. */
  readonly balance?: BalancePolicy;
  /** Where this client runs: endpoints of the same zone are preferred while at least half of them are well. Default: none. */
  readonly zone?: string;
}

/** The defaults, as the README's table prints them. */
const DNS_DEFAULTS = { timeoutMs: 3_000, refreshMs: 30_000, maxStaleMs: 900_000 } as const;

/** The name of the resolver that the machine is set up with. */
export const SYSTEM_RESOLVER = 'system';

/** How names are resolved, with every default filled in. */
export interface ResolvedDns {
  readonly resolvers: readonly string[];
  readonly timeoutMs: number;
  readonly refreshMs: number;
  readonly maxStaleMs: number;
  readonly fallbackAddresses: readonly Address[];
}

/** Where a pool's sockets lead: to one endpoint, or to many. */
export type Target =
  | { readonly kind: 'one'; readonly endpoint: Endpoint }
  | {
      readonly kind: 'many';
      /** What they are called together, in errors and logs. */
      readonly name: string;
      readonly from:
        | { readonly kind: 'list'; readonly list: readonly FoundEndpoint[] }
        | ({ readonly kind: 'dns' } & DnsEndpoints)
        | ({ readonly kind: 'srv' } & SrvEndpoints)
        | { readonly kind: 'discover'; readonly discover: Discover };
      readonly balance: BalancePolicy;
      readonly zone: string | undefined;
    };

/** What {@link AddressOptions} are made into. */
export interface ResolvedAddresses {
  readonly target: Target;
  readonly dns: ResolvedDns;
}

/**
 * Checks the options and fills in defaults.
 *
 * @throws PulsepoolError `ERR_INVALID_OPTION`
 */
export function resolveAddresses(options: AddressOptions): ResolvedAddresses {
  const target = options.endpoints === undefined ? one(options) : many(options.endpoints, options);
  for (const name of ['balance', 'zone'] as const) {
    if (options[name] !== undefined && target.kind === 'one') {
      throw invalidOption(name, 'come with `endpoints`', options[name]);
    }
  }
  return { target, dns: resolveDns(options.dns, target) };
}

function one(options: AddressOptions): Target {
  const { host, path, port } = options;
  if (path !== undefined) {
    if (host !== undefined || port !== undefined) {
      throw invalidOption('path', 'stand alone, without `host` and `port`', path);
    }
    if (typeof path !== 'string' || path === '')
      throw invalidOption('path', 'be the path of a Unix socket', path);
    return { kind: 'one', endpoint: { kind: 'unix', path } };
  }
  if (typeof host !== 'string' || host === '') throw invalidOption('host', 'be a host name or address', host);
  return {
    kind: 'one',
    endpoint: { kind: 'tcp', host, port: checkInteger('port', port, { min: 1, max: 65_535 }) },
  };
}

function many(given: Endpoints, options: AddressOptions): Target {
  for (const name of ['host', 'port', 'path'] as const) {
    if (options[name] !== undefined) throw invalidOption(name, 'be left out with `endpoints`', options[name]);
  }
  const how = {
    kind: 'many',
    balance: checkOneOf('balance', valueOr(options.balance, 'p2c'), BALANCE_POLICIES),
    zone: resolveZone(options.zone),
  } as const;
  if (typeof given === 'function') {
    return { ...how, name: 'the discovered endpoints', from: { kind: 'discover', discover: given } };
  }
  if (Array.isArray(given)) {
    const list = distinctEndpoints(
      given.map((value: unknown, at) => parseGivenEndpoint(value, `endpoints[${at}]`)),
    );
    const [first] = list;
    if (first === undefined) throw invalidOption('endpoints', 'hold at least one endpoint', given);
    // A list that comes from the environment may shrink to one: what is said about choosing must not be refused then.
    const isChosen = options.balance !== undefined || options.zone !== undefined;
    if (list.length > 1 || isChosen) return { ...how, name: namesOf(list), from: { kind: 'list', list } };
    // With one there is nothing to choose.
    const { address, host, port } = first;
    return {
      kind: 'one',
      endpoint: { kind: 'tcp', host, port, address: address === host ? undefined : address },
    };
  }
  if (typeof given !== 'object' || given === null) {
    throw invalidOption('endpoints', 'be an array, { host, port }, { srv } or a function', given);
  }
  checkKeys('`endpoints`', given, ['host', 'port', 'srv']);
  const { host, port, srv } = given as Partial<DnsEndpoints & SrvEndpoints>;
  if (srv !== undefined) {
    if (typeof srv !== 'string' || srv === '' || host !== undefined || port !== undefined) {
      throw invalidOption('endpoints.srv', 'be the name of SRV records, without `host` and `port`', srv);
    }
    return { ...how, name: srv, from: { kind: 'srv', srv } };
  }
  const found = parseGivenEndpoint({ host, port }, 'endpoints');
  if (found.address !== undefined) {
    throw invalidOption(
      'endpoints.host',
      'be a name',
      host,
      'One address is one endpoint: give it as `host`.',
    );
  }
  return {
    ...how,
    name: `${found.host}:${found.port}`,
    from: { kind: 'dns', host: found.host, port: found.port },
  };
}

function namesOf(list: readonly FoundEndpoint[]): string {
  const [first, second] = list.map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`);
  if (list.length < 3) return second === undefined ? `${first}` : `${first} and ${second}`;
  return `${first} and ${list.length - 1} more`;
}

function resolveZone(zone: unknown): string | undefined {
  if (zone === undefined || (typeof zone === 'string' && zone !== '')) return zone;
  throw invalidOption('zone', 'be the name of a zone', zone);
}

const DNS_KEYS = ['resolvers', 'timeoutMs', 'refreshMs', 'maxStaleMs', 'fallbackAddresses'];

function resolveDns(given: DnsOptions | undefined, target: Target): ResolvedDns {
  const options = valueOr(given, {});
  checkKeys('dns', options, DNS_KEYS);
  if (given !== undefined && !isAsked(target)) {
    throw invalidOption('dns', 'be left out: there is no name to resolve', given);
  }
  const { fallbackAddresses = [], resolvers = [SYSTEM_RESOLVER] } = options;
  if (!Array.isArray(resolvers) || resolvers.length === 0) {
    throw invalidOption('dns.resolvers', "be an array such as ['system', '10.0.0.2']", resolvers);
  }
  resolvers.forEach((resolver: unknown, at) => {
    if (resolver === SYSTEM_RESOLVER) return;
    const name = `dns.resolvers[${at}]`;
    if (typeof resolver !== 'string')
      throw invalidOption(name, "be 'system' or the address of a name server", resolver);
    nameServerLookup(resolver, systemClock, name);
  });
  if (!Array.isArray(fallbackAddresses)) {
    throw invalidOption('dns.fallbackAddresses', 'be an array of IP addresses', fallbackAddresses);
  }
  const isOfOneName = target.kind === 'one' || target.from.kind === 'dns';
  if (fallbackAddresses.length > 0 && !isOfOneName) {
    throw invalidOption(
      'dns.fallbackAddresses',
      'come with one host: each name would get them',
      fallbackAddresses,
    );
  }
  return {
    resolvers: [...resolvers],
    timeoutMs: checkDuration('dns.timeoutMs', valueOr(options.timeoutMs, DNS_DEFAULTS.timeoutMs), 1),
    refreshMs: checkDuration('dns.refreshMs', valueOr(options.refreshMs, DNS_DEFAULTS.refreshMs), 1),
    maxStaleMs: checkDuration('dns.maxStaleMs', valueOr(options.maxStaleMs, DNS_DEFAULTS.maxStaleMs), 0),
    fallbackAddresses: fallbackAddresses.map((value: unknown, at) => {
      const address = typeof value === 'string' ? parseAddress(value) : undefined;
      if (address !== undefined) return address;
      throw invalidOption(`dns.fallbackAddresses[${at}]`, 'be a literal IP address', value);
    }),
  };
}

/** Whether any name may be looked up. */
function isAsked(target: Target): boolean {
  if (target.kind === 'one') {
    const { endpoint } = target;
    return (
      endpoint.kind === 'tcp' && endpoint.address === undefined && parseAddress(endpoint.host) === undefined
    );
  }
  return target.from.kind !== 'list' || target.from.list.some(({ address }) => address === undefined);
}

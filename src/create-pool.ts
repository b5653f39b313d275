/**
 * Wires the layers: options, dial, connection, handshake, roster, pool. Nothing else knows all of them.
 */
import { AsyncResource } from 'node:async_hooks';
import { networkInterfaces } from 'node:os';
import { SYSTEM_RESOLVER } from './address-options.ts';
import { Balancer } from './balance/balancer.ts';
import type { MemberPlace } from './balance/member.ts';
import { OUTLIER_DEFAULTS } from './balance/outliers.ts';
import { type Clock, clockOf, type RandomSource, systemClock, TimerHold } from './clock.ts';
import { Directory } from './directory.ts';
import { type PoolOptions, type ResolvedOptions, resolveOptions } from './options.ts';
import { Announcer } from './pool/announcer.ts';
import { handshake } from './pool/handshake.ts';
import { Members } from './pool/members.ts';
import type { Connect } from './pool/opener.ts';
import { Pool } from './pool/pool.ts';
import { PoolMember } from './pool/pool-member.ts';
import { Roster } from './pool/roster.ts';
import { Tracer } from './pool/trace.ts';
import type { Lookup } from './resolve/lookup.ts';
import { nameServerLookup } from './resolve/name-server-lookup.ts';
import type { GetInterfaces } from './resolve/network-watch.ts';
import { systemLookup } from './resolve/system-lookup.ts';
import { BUDGET_DEFAULTS, RetryBudget } from './retry/budget.ts';
import type { Route } from './route.ts';
import { Connection, type ConnectionProfile, type DuplexSocket } from './transport/connection.ts';
import { dial } from './transport/dial.ts';
import { type Endpoint, endpointName } from './transport/endpoint.ts';

/** How a socket is opened. Tests pass one of their own. */
type Dialer = <T>(
  options: Parameters<typeof dial>[0],
  clock: Clock,
  signal: AbortSignal,
  adopt: (socket: DuplexSocket) => T,
) => Promise<T>;

/** The world around a pool: time, chance, the process and the network. */
export interface Surroundings {
  readonly clock: Clock;
  readonly random: RandomSource;
  /** What keeps the process alive, one for each pool. */
  readonly makeHold: () => Pick<TimerHold, 'take' | 'drop' | 'end'>;
  readonly dial: Dialer;
  /** The resolvers of names, in the order in which they are asked. */
  readonly makeLookups: (resolvers: readonly string[], clock: Clock) => readonly Lookup[];
  /** The network of the machine. */
  readonly interfaces: GetInterfaces;
}

/** The real ones. */
export const REAL: Surroundings = {
  clock: systemClock,
  random: Math.random,
  makeHold: () => new TimerHold(),
  dial,
  makeLookups: (resolvers, clock) =>
    resolvers.map((one) => (one === SYSTEM_RESOLVER ? systemLookup() : nameServerLookup(one, clock))),
  interfaces: networkInterfaces,
};

// As Finagle's and Envoy's usual settings: long enough for caches and a just-in-time compiler to warm up.
const SLOW_START_MS = 30_000;

/**
 * Makes a pool of sockets to one server, or to several endpoints of one service. Nothing is dialed before the next turn of the event loop, and nothing
 * at all before somebody needs a socket when `min` is 0.
 *
 * @throws PulsepoolError `ERR_INVALID_OPTION` for an unknown or impossible option.
 */
export function createPool<In, Out>(options: PoolOptions<In, Out>): Pool<In, Out> {
  return createPoolIn(REAL, options);
}

/** The same in surroundings of one's own: how the tests pass a clock, chance and a network. */
export function createPoolIn<In, Out>(around: Surroundings, given: PoolOptions<In, Out>): Pool<In, Out> {
  return assemble(around, given).pool;
}

/** The pool and the roster behind it, which tests audit. */
export function assemble<In, Out>(
  around: Surroundings,
  given: PoolOptions<In, Out>,
): { readonly pool: Pool<In, Out>; readonly roster: Roster<In, Out> } {
  const { pool, roster } = assembleParts(around, given, new RetryBudget(BUDGET_DEFAULTS));
  return { pool, roster };
}

/** A pool and all that a client above it shares with it. */
export interface PoolAssembly<In, Out> {
  readonly pool: Pool<In, Out>;
  readonly roster: Roster<In, Out>;
  readonly tracer: Tracer;
  readonly options: ResolvedOptions<In, Out>;
  /** `host:port` or path, or what several endpoints are called together, as errors name it. */
  readonly endpoint: string;
  readonly clock: Clock;
  readonly hold: Pick<TimerHold, 'take' | 'drop' | 'end'>;
}

/** Requests, dials and pings draw on one `budget`. */
export function assembleParts<In, Out>(
  around: Surroundings,
  given: PoolOptions<In, Out>,
  budget: RetryBudget,
): PoolAssembly<In, Out> {
  const options = resolveOptions(given);
  const { random } = around;
  const clock = clockOf(around.clock, new AsyncResource('pulsepool.timers'));
  const hold = around.makeHold();
  const { target } = options;
  const endpoint = target.kind === 'one' ? endpointName(target.endpoint) : target.name;
  const announcer = new Announcer();
  const makeMember = (at: Endpoint, place: MemberPlace): PoolMember<In, Out> => {
    const profile = profileOf(options, endpointName(at), clock, hold);
    return new PoolMember({ endpoint: at, profile, retry: options.retry, random }, place, clock.now());
  };
  // With many, it stands for all of them while none is known: nothing is ever dialed there.
  const first = makeMember(target.kind === 'one' ? target.endpoint : { kind: 'unix', path: endpoint }, {});
  const balancer =
    target.kind === 'one'
      ? undefined
      : new Balancer<PoolMember<In, Out>>({
          policy: target.balance,
          zone: target.zone,
          random,
          slowStartMs: SLOW_START_MS,
          outliers: OUTLIER_DEFAULTS,
          onEjected: (member, { kind, reason }, forMs) => {
            roster.state.counters.ejected += 1;
            announcer.tell('ejected', () => ({ endpoint: member.name, reason, kind, forMs }));
            // In the next turn: whatever failed is still being cleared away.
            clock.turn(() => {
              if (!member.record.isIn) roster.onVacated(member, 'ejected');
            });
          },
          onRestored: (member) => {
            announcer.tell('restored', () => ({ endpoint: member.name }));
            clock.turn(() => roster.onJoined());
          },
        });
  const members = new Members(first, balancer, clock);
  const directory = new Directory<In, Out>({
    ...options,
    name: endpoint,
    lookups: around.makeLookups(options.dns.resolvers, clock),
    interfaces: around.interfaces,
    members,
    makeMember,
    announcer,
    clock,
    random,
  });
  const roster: Roster<In, Out> = new Roster<In, Out>(
    {
      ...options,
      endpoint,
      members,
      onTrouble: (member) => directory.onTrouble(member),
      onInUse: (isInUse) => directory.use(isInUse),
      locate: (signal, deadlineAt) => directory.locate(signal, deadlineAt),
      heartbeat: options.probe === undefined ? undefined : options.heartbeat,
      connect: connector(options, directory.route, around, clock),
      budget,
      clock,
      random,
      hold,
    },
    announcer,
  );
  directory.owner = roster;
  const { retry } = options;
  const tracer = new Tracer(options);
  const pool = new Pool({
    roster,
    announcer,
    clock,
    hold,
    tracer,
    directory,
    isKeyed: balancer?.isKeyed === true,
    request: { endpoint, retry, budget, clock, random, hold },
  });
  return { pool, roster, tracer, options, endpoint, clock, hold };
}

/** What the connections to one endpoint share. */
function profileOf<In, Out>(
  options: ResolvedOptions<In, Out>,
  endpoint: string,
  clock: Clock,
  hold: Pick<TimerHold, 'take' | 'drop' | 'end'>,
): ConnectionProfile<In, Out> {
  const { answer, frameTimeoutMs, probe, readTimeoutMs, writeTimeoutMs } = options;
  return { endpoint, readTimeoutMs, writeTimeoutMs, frameTimeoutMs, probe, answer, clock, hold };
}

/** A connection, and where it leads. */
interface Dialed<In, Out> {
  readonly connection: Connection<In, Out>;
  readonly address: string;
  readonly localAddress: string;
}

/** Opens one socket: DNS, and for one address after the other TCP, TLS and handshake, all by one deadline. */
function connector<In, Out>(
  options: ResolvedOptions<In, Out>,
  route: Route,
  around: Surroundings,
  clock: Clock,
): Connect<In, Out> {
  const { connectTimeoutMs, onConnect } = options;
  return async (slot, member, signal, deadlineAt) => {
    const { address, connection, localAddress } = await route.open<Dialed<In, Out>>(
      member.endpoint,
      signal,
      async (at, until, cut) => {
        // Before the dial: a factory that throws inside a socket's event would end the process.
        const codec = options.makeCodec();
        let local = '';
        const opened = await around.dial(
          { ...options, address: at, endpoint: member.endpoint, remainingMs: until - clock.now() },
          clock,
          cut,
          (socket) => {
            local = localAddressOf(socket);
            return new Connection(slot.id, socket, codec, member.profile, slot);
          },
        );
        if (onConnect !== undefined) {
          const parts = { onConnect, endpoint: member.name, address: at ?? '', connectTimeoutMs, clock };
          await handshake(slot, opened, until - clock.now(), cut, parts);
        }
        return { connection: opened, address: at ?? '', localAddress: local };
      },
      (late) => late.connection.destroy('surplus'),
      deadlineAt,
    );
    slot.address = address;
    slot.localAddress = localAddress;
    return connection;
  };
}

/** Ours; empty for what has none, such as a Unix socket. */
function localAddressOf(socket: DuplexSocket & { readonly localAddress?: string }): string {
  return socket.localAddress ?? '';
}

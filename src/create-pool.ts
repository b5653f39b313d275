/**
 * Wires the layers: options, dial, connection, handshake, roster, pool. Nothing else knows all of them.
 */
import { AsyncResource } from 'node:async_hooks';
import { type Clock, clockOf, type RandomSource, systemClock, TimerHold } from './clock.ts';
import { type PoolOptions, type ResolvedOptions, resolveOptions } from './options.ts';
import { Announcer } from './pool/announcer.ts';
import { handshake } from './pool/handshake.ts';
import { Members } from './pool/members.ts';
import { Pool } from './pool/pool.ts';
import { PoolMember } from './pool/pool-member.ts';
import { Roster } from './pool/roster.ts';
import type { Slot } from './pool/slot.ts';
import { Tracer } from './pool/trace.ts';
import type { Lookup } from './resolve/lookup.ts';
import { Names } from './resolve/names.ts';
import { systemLookup } from './resolve/system-lookup.ts';
import { BUDGET_DEFAULTS, RetryBudget } from './retry/budget.ts';
import { Route } from './route.ts';
import { Connection, type ConnectionProfile, type DuplexSocket } from './transport/connection.ts';
import { dial } from './transport/dial.ts';
import { endpointName } from './transport/endpoint.ts';

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
  readonly makeLookups: () => readonly Lookup[];
}

/** The real ones. */
export const REAL: Surroundings = {
  clock: systemClock,
  random: Math.random,
  makeHold: () => new TimerHold(),
  dial,
  makeLookups: () => [systemLookup()],
};

/**
 * Makes a pool of sockets to one server. Nothing is dialed before the next turn of the event loop, and nothing
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
  /** `host:port` or path, as errors name it. */
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
  const endpoint = endpointName(options.endpoint);
  const profile: ConnectionProfile<In, Out> = {
    endpoint,
    readTimeoutMs: options.readTimeoutMs,
    writeTimeoutMs: options.writeTimeoutMs,
    frameTimeoutMs: options.frameTimeoutMs,
    probe: options.probe,
    answer: options.answer,
    clock,
    hold,
  };
  const announcer = new Announcer();
  const names = new Names({ lookups: around.makeLookups(), clock, random });
  const route = new Route({ names, clock, random, connectTimeoutMs: options.connectTimeoutMs });
  const { endpoint: target } = options;
  const member = new PoolMember(
    { endpoint: options.endpoint, profile, retry: options.retry, random },
    {},
    clock.now(),
  );
  const roster = new Roster<In, Out>(
    {
      ...options,
      endpoint,
      members: new Members(member, undefined, clock),
      onTrouble: () => {
        if (target.kind === 'tcp') route.refresh(target.host);
      },
      heartbeat: options.probe === undefined ? undefined : options.heartbeat,
      connect: (slot, signal) => connect(slot, signal, options, slot.member ?? member, route, around),
      budget,
      clock,
      random,
      hold,
    },
    announcer,
  );
  const { retry } = options;
  const tracer = new Tracer(options);
  const pool = new Pool({
    roster,
    announcer,
    clock,
    hold,
    tracer,
    onEnd: () => names.end(),
    request: { endpoint, retry, budget, clock, random, hold },
  });
  return { pool, roster, tracer, options, endpoint, clock, hold };
}

/** One socket: DNS, and for one address after the other TCP, TLS and handshake, under one deadline. */
async function connect<In, Out>(
  slot: Slot<In, Out>,
  signal: AbortSignal,
  options: ResolvedOptions<In, Out>,
  member: PoolMember<In, Out>,
  route: Route,
  around: Surroundings,
): Promise<Connection<In, Out>> {
  const { clock } = member.profile;
  const { connectTimeoutMs, onConnect } = options;
  return route.open<Connection<In, Out>>(
    member.endpoint,
    signal,
    async (address, deadlineAt, cut) => {
      // Before the dial: a factory that throws inside a socket's event would end the process.
      const codec = options.makeCodec();
      const connection = await around.dial(
        { ...options, address, endpoint: member.endpoint, remainingMs: deadlineAt - clock.now() },
        clock,
        cut,
        (socket) => new Connection(slot.id, socket, codec, member.profile, slot),
      );
      if (onConnect !== undefined) {
        const parts = { onConnect, endpoint: member.name, connectTimeoutMs, clock };
        await handshake(slot, connection, deadlineAt - clock.now(), cut, parts);
      }
      return connection;
    },
    (late) => late.destroy('surplus'),
  );
}

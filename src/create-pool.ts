/**
 * Wires the layers: options, dial, connection, handshake, roster, pool. Nothing else knows all of them.
 */
import { AsyncResource } from 'node:async_hooks';
import { type Clock, clockOf, type RandomSource, systemClock, TimerHold } from './clock.ts';
import { type PoolOptions, type ResolvedOptions, resolveOptions } from './options.ts';
import { Announcer } from './pool/announcer.ts';
import { handshake } from './pool/handshake.ts';
import { Pool } from './pool/pool.ts';
import { Roster } from './pool/roster.ts';
import type { Slot } from './pool/slot.ts';
import { Tracer } from './pool/trace.ts';
import { BUDGET_DEFAULTS, RetryBudget } from './retry/budget.ts';
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
}

/** The real ones. */
export const REAL: Surroundings = {
  clock: systemClock,
  random: Math.random,
  makeHold: () => new TimerHold(),
  dial,
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
  const roster = new Roster<In, Out>(
    {
      ...options,
      endpoint,
      heartbeat: options.probe === undefined ? undefined : options.heartbeat,
      connect: (slot, signal) => connect(slot, signal, options, profile, around),
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
    request: { endpoint, retry, budget, clock, random, hold },
  });
  return { pool, roster, tracer, options, endpoint, clock, hold };
}

/** One attempt: DNS, TCP, TLS and handshake, under one deadline. */
async function connect<In, Out>(
  slot: Slot<In, Out>,
  signal: AbortSignal,
  options: ResolvedOptions<In, Out>,
  profile: ConnectionProfile<In, Out>,
  around: Surroundings,
): Promise<Connection<In, Out>> {
  const { clock } = around;
  const { connectTimeoutMs, onConnect } = options;
  const deadlineAt = clock.now() + connectTimeoutMs;
  // Before the dial: a factory that throws inside a socket's event would end the process.
  const codec = options.makeCodec();
  const connection = await around.dial(
    options,
    clock,
    signal,
    (socket) => new Connection(slot.id, socket, codec, profile, slot),
  );
  if (onConnect !== undefined) {
    const parts = { onConnect, endpoint: profile.endpoint, connectTimeoutMs, clock };
    await handshake(slot, connection, deadlineAt - clock.now(), signal, parts);
  }
  return connection;
}

/**
 * Wires a client: a pool, requests above it, and a carrier between them.
 */

import type { Carrier, CarrierOwner, LeaseSource } from './client/carrier.ts';
import { Client } from './client/client.ts';
import type { ClientEvents } from './client/client-events.ts';
import { ClientCounters } from './client/client-stats.ts';
import { Exclusive } from './client/exclusive.ts';
import { ById, type Flights, Ids, InOrder } from './client/flights.ts';
import { Requests } from './client/requests.ts';
import { Shared } from './client/shared.ts';
import { Subscriptions } from './client/subscriptions.ts';
import { type ClientOptions, resolveClientOptions } from './client-options.ts';
import { assembleParts, REAL, type Surroundings } from './create-pool.ts';
import { Announcer } from './pool/announcer.ts';
import type { Lease } from './pool/lease.ts';
import type { Pool } from './pool/pool.ts';
import type { Roster } from './pool/roster.ts';
import type { WaitOptions } from './pool/waiters.ts';
import { Breaker } from './retry/breaker.ts';
import { RetryBudget } from './retry/budget.ts';

/**
 * Makes a client of one service: a pool, and requests that share its sockets as `mode` says. Nothing is dialed before the
 * next turn of the event loop, and nothing at all before somebody needs a socket when `min` is 0.
 *
 * @throws PulsepoolError `ERR_INVALID_OPTION` for an unknown or impossible option.
 */
export function createClient<In, Out>(options: ClientOptions<In, Out>): Client<In, Out> {
  return assembleClient(REAL, options).client;
}

/** The client, its pool and the roster behind it, in surroundings of one's own: for tests. */
export function assembleClient<In, Out>(
  around: Surroundings,
  given: ClientOptions<In, Out>,
): { readonly client: Client<In, Out>; readonly pool: Pool<In, Out>; readonly roster: Roster<In, Out> } {
  const { own, pools } = resolveClientOptions(given);
  const budget = new RetryBudget(own.retryBudget);
  const { clock, endpoint, hold, options, pool, roster, tracer } = assembleParts(around, pools, budget);
  const announcer = new Announcer<ClientEvents>();
  const counters = new ClientCounters();
  const breaker =
    own.breaker === undefined
      ? undefined
      : new Breaker(own.breaker, around.random, (state) => {
          if (state.name === 'closed') announcer.tell('breakerClosed', () => ({ endpoint }));
          if (state.name !== 'open') return;
          const openMs = state.until - clock.now();
          announcer.tell('breakerOpened', () => ({ endpoint, error: state.cause, openMs }));
        });
  const isPlain =
    options.hooks.onAcquire === undefined &&
    options.hooks.onRelease === undefined &&
    options.maxWaiting === Number.POSITIVE_INFINITY &&
    options.shedAfterMs === Number.POSITIVE_INFINITY &&
    options.maxUses === Number.POSITIVE_INFINITY;
  const endpoints = roster.state.members.balancer === undefined ? undefined : roster.state.members;
  const source: LeaseSource<In, Out> = {
    isBalanced: endpoints !== undefined,
    acquireTimeoutMs: options.acquireTimeoutMs,
    // While traces are made, the usual way makes them.
    atOnce: (wish) =>
      tracer.isOn || roster.state.isDraining ? undefined : roster.lender.lendFresh(undefined, wish),
    // A request gives back by itself what it takes: whoever makes the next one holds nothing.
    acquire: (bounds, wish) => tracer.apart(() => pool.acquireFor(bounds, wish)),
    acquireNew: async (bounds) => {
      const trace = tracer.trace();
      try {
        return await roster.lender.lendNew(bounds, trace);
      } catch (error) {
        trace?.ended();
        throw error;
      }
    },
    max: () => roster.state.sizes.max,
    onResized: (fn) => roster.onResized.push(fn),
    othersWaiting: () => roster.waiters.size + roster.lender.wishesForNew,
    explain: (waitedMs) => roster.refusals.late(waitedMs),
    isPlain: () => isPlain && !tracer.isOn,
    onShort: (missing) => roster.lender.onShort(missing, undefined),
  };
  let end = (): void => undefined;
  const ids = new Ids(own.correlate?.maxId ?? Number.MAX_SAFE_INTEGER);
  const makeFlights = (): Flights<In, Out> =>
    own.correlate === undefined ? new InOrder() : new ById(own.correlate, ids);
  const makeCarrier = (owner: CarrierOwner<In, Out>): Carrier<In, Out> => {
    if (own.mode === 'exclusive') return new Exclusive(source, clock, owner);
    const shared = new Shared<In, Out>(
      {
        source,
        endpoint,
        endpoints,
        maxInFlight: own.maxInFlight,
        makeFlights,
        isInOrder: own.mode === 'pipelined',
        max: () => roster.state.sizes.max,
        othersWaiting: () => roster.waiters.size,
        counts: () => roster.state.counts(roster.waiters.size),
        acquireTimeoutMs: options.acquireTimeoutMs,
        maxWaiting: options.maxWaiting,
        shedAfterMs: options.shedAfterMs,
        clock,
        hold,
      },
      owner,
    );
    end = () => shared.end();
    return shared;
  };
  const requests = new Requests<In, Out>(
    {
      endpoint,
      retry: options.retry,
      freeTries: () => roster.state.sizes.max + 1,
      hasOthers: () => roster.state.members.size > 1,
      budget,
      breaker,
      retryAfter: own.retryAfter,
      hedges: own.hedge,
      counters,
      announcer,
      clock,
      random: around.random,
      hold,
    },
    makeCarrier,
  );
  const acquire = (bounds: WaitOptions | undefined): Promise<Lease<In, Out>> => pool.acquire(bounds);
  roster.onDrain.push(() => requests.close());
  const subscriptions = new Subscriptions<In, Out>({
    acquire,
    probe: options.probe,
    heartbeat: options.heartbeat,
    budget,
    endpoint,
    retry: options.retry,
    clock,
    random: around.random,
    hold,
  });
  const client = new Client({
    pool,
    requests,
    streams: {
      acquire,
      acquireTimeoutMs: options.acquireTimeoutMs,
      freeTries: () => roster.state.sizes.max + 1,
      endpoint,
      clock,
    },
    subscriptions,
    announcer,
    counters,
    budget,
    breaker,
    timeoutMs: own.timeoutMs,
    isClosing: () => roster.state.isDraining,
    makeHold: around.makeHold,
    refusedAsClosed: () => roster.refusals.closed(0),
    clock,
    end: () => end(),
  });
  return { client, pool, roster };
}

/**
 * A pool in a world of its own: virtual time, a network in memory, and an audit of everything after every step. When
 * a test ends, the pool is closed and must have left nothing behind.
 */
import { afterEach } from 'vitest';
import { assemble } from '../../src/create-pool.ts';
import type { PoolOptions } from '../../src/options.ts';
import type { Lease } from '../../src/pool/lease.ts';
import type { Pool } from '../../src/pool/pool.ts';
import { lines } from '../../src/transport/lines.ts';
import { Audit } from './audit.ts';
import { echoLines, FakeNet } from './fake-net.ts';
import type { VirtualClock } from './virtual-clock.ts';

export type Options = Partial<PoolOptions<string, string>>;

/** What a test holds in its hands. */
export interface World {
  readonly net: FakeNet;
  readonly clock: VirtualClock;
  readonly pool: Pool<string, string>;
  /** Checks the books; `pass` and `now` do so by themselves. */
  readonly audit: () => void;
  /** Lets time pass. */
  readonly pass: (ms: number) => Promise<void>;
  /** Lets everything happen that is due now. */
  readonly now: () => Promise<void>;
  /** The order in which events were told: `closed:idle`, `opened`. */
  readonly told: string[];
}

/** A promise that can be asked without waiting for it. */
export interface Outcome<T> {
  readonly value: T | undefined;
  readonly error: unknown;
  readonly isSettled: boolean;
}

const worlds: { world: World; finish: () => Promise<void> }[] = [];

afterEach(async () => {
  for (const { finish } of worlds.splice(0)) await finish();
});

/** Pings as the fake server answers them. */
export const HEARTBEAT = {
  intervalMs: 1_000,
  timeoutMs: 200,
  maxMissed: 2,
  ping: 'PING',
  isPong: (line: string) => line === 'PONG',
};

/** Makes a pool of lines to a server that echoes them. */
export function setUp(options: Options = {}, net: FakeNet = new FakeNet()): World {
  if (worlds.every(({ world }) => world.net !== net)) net.onPeer = echoLines;
  const { clock } = net;
  const both = assemble<string, string>(net.surroundings, {
    ...(options.endpoints === undefined ? { host: 'fake', port: 1 } : {}),
    codec: lines({ maxFrameBytes: 64 }),
    ...options,
  });
  const audit = new Audit(both, net);
  const { pool } = both;
  const told: string[] = [];
  for (const event of ['opened', 'dialFailed', 'acquired', 'acquireFailed', 'released', 'pinged'] as const)
    pool.on(event, () => told.push(event));
  pool.on('pingMissed', ({ missed }) => told.push(`pingMissed:${missed}`));
  pool.on('stalled', () => told.push('stalled'));
  pool.on('closed', ({ reason }) => told.push(`closed:${reason}`));
  pool.on('poolClosed', () => told.push('poolClosed'));
  const world: World = {
    net,
    clock,
    pool,
    told,
    audit: () => audit.check(),
    pass: async (ms) => {
      // Step by step, so that the books are checked on the way.
      const steps = Math.min(20, Math.max(1, Math.ceil(ms / 10)));
      for (let step = 0; step < steps; step++) {
        await clock.advance(ms / steps);
        audit.check();
      }
    },
    now: async () => {
      await clock.advance(0);
      audit.check();
    },
  };
  worlds.push({
    world,
    finish: async () => {
      const closing = pool.close({ timeoutMs: 0 });
      await clock.advance(1_000);
      await closing;
      audit.checkEnd();
    },
  });
  return world;
}

/** Watches a promise without waiting for it. */
export function watch<T>(promise: Promise<T>): Outcome<T> {
  const outcome: { value: T | undefined; error: unknown; isSettled: boolean } = {
    value: undefined,
    error: undefined,
    isSettled: false,
  };
  promise.then(
    (value) => Object.assign(outcome, { value, isSettled: true }),
    (error: unknown) => Object.assign(outcome, { error, isSettled: true }),
  );
  return outcome;
}

/** As many leases, all held. */
export async function take(world: World, count: number): Promise<Lease<string, string>[]> {
  const asked = Array.from({ length: count }, () => world.pool.acquire());
  await world.now();
  return Promise.all(asked);
}

/**
 * Three endpoints on a network in memory, and where the sockets of a pool lead.
 */
import type { Lease } from '../../src/pool/lease.ts';
import { FakeNet } from './fake-net.ts';
import { type Options, setUp, type World, watch } from './pool-world.ts';

export const A = '10.0.0.1';
export const B = '10.0.0.2';
export const C = '10.0.0.3';
export const THREE: readonly string[] = [`${A}:1`, `${B}:1`, `${C}:1`];

/** A network whose chance is not always the same. */
export function netOf(seed = 1): FakeNet {
  const net = new FakeNet();
  let state = seed;
  net.random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  return net;
}

/** A pool over the three. */
export function setUpThree(options: Options = {}, net: FakeNet = netOf()): World {
  return setUp({ endpoints: THREE, max: 9, ...options }, net);
}

/** How many open sockets lead to each address. */
export function spread({ net }: World): Record<string, number> {
  const found: Record<string, number> = {};
  for (const { address } of net.openPeers) found[address] = (found[address] ?? 0) + 1;
  return found;
}

/** Where the socket of a lease leads; empty without a lease. */
export function addressOf(lease: Lease<string, string> | undefined, { pool }: World): string {
  return pool.sockets().find(({ connectionId }) => connectionId === lease?.connectionId)?.address ?? '';
}

/** Where a caller with that key is served, if with one. */
export async function serverOf(world: World, key: string | undefined): Promise<string> {
  const lease = watch(world.pool.acquire({ key }));
  await world.pass(10);
  const at = addressOf(lease.value, world);
  lease.value?.release();
  await world.now();
  return at;
}

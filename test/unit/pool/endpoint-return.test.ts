/**
 * An endpoint that could not be dialed for a while and can be again: it must be found out, even where nobody has to go
 * there.
 */
import { describe, expect, it } from 'vitest';
import { type Options, take, type World } from '../../support/pool-world.ts';
import { A, serverOf, setUpThree as setUpPool, spread } from '../../support/three-endpoints.ts';

const RETRY = { retries: 3, baseMs: 10, capMs: 500 };

const setUpThree = (options: Options): World => setUpPool({ retry: RETRY, ...options });

/** It goes down; nobody notices more than that it can't be dialed. */
async function lose(world: World, address: string): Promise<void> {
  world.net.outcomes.set(address, { kind: 'refuse' });
  for (const peer of world.net.openPeers) if (peer.address === address) peer.fin();
  await world.now();
}

describe('an endpoint that can be dialed again', () => {
  it('gets sockets again though the pool is full by now', async () => {
    const world = setUpThree({ max: 6 });
    for (const lease of await take(world, 6)) lease.release();
    await lose(world, A);
    const held = await take(world, 6);
    await world.pass(100);
    for (const lease of held) lease.release();
    await world.now();
    expect(spread(world)[A]).toBeUndefined();
    expect(world.net.openSockets).toBe(6);
    expect(world.pool.endpoints()[0]).toMatchObject({
      state: expect.stringMatching(/healthy|failing/),
      open: 0,
    });
    world.net.outcomes.delete(A);
    for (let n = 0; n < 20; n++) {
      await serverOf(world, undefined);
      await world.pass(500);
    }
    expect(spread(world)[A]).toBeGreaterThan(0);
  });

  it('gives up no more than one socket for each time that it is tried in vain', async () => {
    const world = setUpThree({ max: 6 });
    for (const lease of await take(world, 6)) lease.release();
    await lose(world, A);
    for (const lease of await take(world, 6)) lease.release();
    const before = world.net.dialedTo.filter((address) => address === A).length;
    for (let n = 0; n < 100; n++) {
      await serverOf(world, undefined);
      await world.pass(100);
    }
    const tried = world.net.dialedTo.filter((address) => address === A).length - before;
    const { closedBy } = world.pool.stats();
    expect(tried).toBeGreaterThan(0);
    expect(tried).toBeLessThan(20);
    expect(closedBy.rebalanced ?? 0).toBeLessThanOrEqual(tried);
    expect(world.net.openSockets).toBe(6);
  });

  it('gets its keys back, though all callers have keys', async () => {
    const world = setUpThree({ max: 9, balance: 'consistent-hash' });
    const keys = Array.from({ length: 20 }, (_, n) => `key ${n}`);
    const ask = async (): Promise<string[]> => {
      const found: string[] = [];
      for (const key of keys) found.push(await serverOf(world, key));
      return found;
    };
    const before = await ask();
    await lose(world, A);
    expect(await ask()).not.toContain(A);
    world.net.outcomes.delete(A);
    for (let round = 0; round < 12; round++) {
      await ask();
      await world.pass(5_000);
    }
    expect(await ask()).toEqual(before);
  });
});

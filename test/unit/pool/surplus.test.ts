/**
 * What is more than the sizes ask for. Found by the model: test/property/replacement.test.ts.
 */
import { expect, it } from 'vitest';
import { setUp, take } from '../../support/pool-world.ts';

it('does not count a socket that goes when its lease ends: the successor of a long lease is kept', async () => {
  const world = setUp({ min: 1, max: 5, maxLifetimeMs: 10_000, idleTimeoutMs: 60_000 });
  await world.pass(9_000);
  const [long] = await take(world, 1);
  // Its successor opens, and is old itself before the lease ends.
  await world.pass(21_000);
  const opened: number[] = [];
  world.pool.on('closed', () => opened.push(world.pool.stats().idle));
  long?.release();
  await world.now();
  expect(opened).toEqual([1]);
});

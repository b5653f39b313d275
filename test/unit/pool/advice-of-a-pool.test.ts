import { describe, expect, it } from 'vitest';
import type { GivenSizes } from '../../../src/pool/sizes.ts';
import { type Options, setUp, type World } from '../../support/pool-world.ts';

/** So many callers, one after the other in each of `lanes`, each with a lease for `holdMs`, at moments that differ. */
async function load(world: World, lanes: number, each: number, holdMs: number, restMs = 0): Promise<void> {
  const { clock, pool } = world;
  const sleep = (ms: number): Promise<void> => new Promise((resolve) => clock.after(ms, resolve));
  let done = 0;
  for (let lane = 0; lane < lanes; lane++) {
    void (async () => {
      for (let turn = 0; turn < each; turn++) {
        const lease = await pool.acquire();
        await sleep(holdMs);
        lease.release();
        await sleep((turn * 37 + lane * 13) % (restMs + 1));
      }
      done += 1;
    })();
  }
  while (done < lanes) await world.pass(50);
}

function kinds(world: World): string[] {
  return world.pool.advice().map(({ kind }) => kind);
}

/** What is advised about sizes, as it can be given to `resize`. */
function sizesOf(world: World): GivenSizes {
  const sizes: Record<string, number> = {};
  for (const { kind, suggest } of world.pool.advice()) {
    if (kind !== 'set-idle-timeout') Object.assign(sizes, suggest);
  }
  return sizes;
}

function busy(options: Options = {}): World {
  return setUp({ idleTimeoutMs: 7_200_000, maxLifetimeMs: 72_000_000, ...options });
}

describe('advice() of a pool', () => {
  it('is empty before anything was seen', () => {
    expect(setUp().pool.advice()).toEqual([]);
  });

  it('says that a pool is too small, how much larger it should be, and is silent once it is', async () => {
    const world = busy({ max: 2 });
    await load(world, 4, 60, 10, 40);
    expect(kinds(world)).toEqual(['raise-max']);
    world.pool.resize(sizesOf(world));
    expect(world.pool.stats().max).toBeGreaterThan(2);
    expect(world.pool.stats().max).toBeLessThanOrEqual(4);
    // What was seen before is out of sight after an hour.
    await world.pass(3_600_000);
    await load(world, 4, 60, 10, 40);
    expect(kinds(world)).not.toContain('raise-max');
  });

  it('says nothing of a size that fits', async () => {
    const world = busy({ max: 4 });
    await load(world, 4, 60, 10, 90);
    await world.pass(1_000);
    expect(world.pool.advice()).toEqual([]);
  });

  it('says that a pool is too large, not before it has seen enough of the day', async () => {
    const world = busy({ max: 20 });
    await load(world, 2, 100, 10, 10);
    expect(kinds(world)).toEqual([]);
    await world.pass(3_600_000);
    await load(world, 2, 100, 10, 10);
    await world.pass(1_000);
    expect(world.pool.advice()).toMatchObject([{ kind: 'lower-max', suggest: { max: 3 } }]);
    world.pool.resize(sizesOf(world));
    expect(world.pool.stats().max).toBe(3);
  });

  it('never says both', async () => {
    const world = busy({ max: 2 });
    await load(world, 6, 60, 10, 5);
    await world.pass(3_600_000);
    await load(world, 6, 60, 10, 5);
    const said = kinds(world);
    expect(said.filter((kind) => kind === 'lower-max').length).toBe(0);
    expect(said.length).toBeLessThanOrEqual(1);
  });
});

import { describe, expect, it } from 'vitest';
import { HEARTBEAT, setUp, take, watch } from '../../support/pool-world.ts';

describe('close()', () => {
  it('leaves no timer from the moment it resolves, not even one that would do nothing', async () => {
    const world = setUp({
      min: 2,
      max: 3,
      heartbeat: HEARTBEAT,
      idleTimeoutMs: 20_000,
      maxLifetimeMs: 60_000,
    });
    const [lease] = await take(world, 1);
    // One who waited under the pool's own limit: its timer is shared, and outlives the wait.
    const others = await take(world, 2);
    const waited = watch(world.pool.acquire());
    await world.now();
    lease?.release();
    await world.now();
    waited.value?.release();
    for (const other of others) other.release();
    await world.now();
    expect(world.clock.pendingTimers).toBeGreaterThan(1);
    const closing = watch(world.pool.close());
    await world.now();
    expect(closing.value).toMatchObject({ forced: 0 });
    expect(world.clock.pendingTimers).toBe(0);
    expect(world.clock.pendingTurns).toBe(0);
  });

  it('holds the process until the last lease has come back, and no longer', async () => {
    const world = setUp();
    const [lease] = await take(world, 1);
    expect(world.net.hold.count).toBe(0);
    const closing = watch(world.pool.close());
    await world.now();
    expect(closing.isSettled).toBe(false);
    expect(world.net.hold.count).toBe(1);
    lease?.release();
    await world.now();
    expect(closing.isSettled).toBe(true);
    expect(world.net.hold).toMatchObject({ count: 0, isEnded: true });
  });
});

import { describe, expect, it } from 'vitest';
import { formatCounts } from '../../../src/errors.ts';
import { Ledger } from '../../../src/pool/ledger.ts';
import { setUp, take, watch } from '../../support/pool-world.ts';

describe('the message for a caller who got no lease', () => {
  it('holds every count', () => {
    const counts = { total: 10, idle: 1, leased: 2, dialing: 3, closing: 4, waiting: 5 };
    expect(formatCounts(counts)).toBe('total=10, idle=1, leased=2, dialing=3, closing=4, waiting=5');
  });

  it.each([
    ['time was up', 'ERR_ACQUIRE_TIMEOUT', 'total=1, idle=0, leased=1, dialing=0, closing=0, waiting=0'],
    ['the dial failed for good', 'ERR_ACQUIRE_FAILED', 'total=0, idle=0, leased=0, dialing=0, closing=0'],
    ['the pool closes', 'ERR_POOL_CLOSED', 'total=1, idle=0, leased=1, dialing=0, closing=0, waiting=0'],
  ])('prints the counts when %s', async (_why, code, counts) => {
    const world = setUp({ max: 1, acquireTimeoutMs: 100 });
    if (code === 'ERR_ACQUIRE_FAILED') world.net.outcome = { kind: 'refuse', retryable: false };
    const leases = code === 'ERR_ACQUIRE_FAILED' ? [] : await take(world, 1);
    if (code === 'ERR_POOL_CLOSED') void world.pool.close();
    const asked = watch(world.pool.acquire());
    await world.pass(200);
    expect(asked.error).toMatchObject({ code, message: expect.stringContaining(`(${counts}`) });
    for (const lease of leases) lease.release();
  });
});

describe('a listener', () => {
  it('is called after the step that it hears of, never inside it', async () => {
    const world = setUp();
    await world.pool.request('warm');
    await world.now();
    const heard: string[] = [];
    world.pool.on('acquired', () => heard.push('acquired'));
    world.pool.on('released', () => heard.push('released'));
    const asked = world.pool.acquire();
    expect(world.pool.stats().leased).toBe(1);
    expect(heard).toEqual([]);
    const lease = await asked;
    await world.now();
    lease.release();
    expect(heard).toEqual(['acquired']);
    await world.now();
    expect(heard).toEqual(['acquired', 'released']);
  });
});

describe('the ledger', () => {
  it('takes no entry once its books are closed', async () => {
    const ledger = new Ledger<object>(1);
    await ledger.end();
    await expect(ledger.enter({}, () => Promise.resolve())).rejects.toThrow('draining');
  });
});

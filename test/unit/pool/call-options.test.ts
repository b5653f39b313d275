import { describe, expect, it, vi } from 'vitest';
import type { PoolEvents } from '../../../src/events.ts';
import type { Lease } from '../../../src/pool/lease.ts';
import type { Pool } from '../../../src/pool/pool.ts';
import { setUp, take } from '../../support/pool-world.ts';

/** What JavaScript lets a user pass. */
function bad<T>(options: unknown): T {
  return options as T;
}

/** Each call of a lease that takes options. */
const LEASE_CALLS: readonly (readonly [
  string,
  (lease: Lease<string, string>, options: unknown) => Promise<unknown>,
])[] = [
  ['request()', (lease, options) => lease.request('pay', bad(options))],
  ['send()', (lease, options) => lease.send('pay', bad(options))],
  ['receive()', (lease, options) => lease.receive(bad(options))],
];

/** Each call of a pool that takes options. */
const POOL_CALLS: readonly (readonly [
  string,
  (pool: Pool<string, string>, options: unknown) => Promise<unknown>,
])[] = [
  ['request()', (pool, options) => pool.request('pay', bad(options))],
  ['acquire()', (pool, options) => pool.acquire(bad(options))],
  ['ready()', (pool, options) => pool.ready(bad(options))],
  ['close()', (pool, options) => pool.close(bad(options))],
];

describe.each(LEASE_CALLS)('lease.%s', (name, call) => {
  it.each([
    ['a controller instead of its signal', { signal: new AbortController() }],
    ['null', null],
    ['a number', 100],
    ['a signal of null', { signal: null }],
    ['an unknown key', { timeout: 100 }],
    ['a misspelt key', { idempotant: true }],
  ])('refuses %s, and sends nothing', async (_what, options) => {
    const world = setUp();
    const [lease] = await take(world, 1);
    if (lease === undefined) throw new Error('no lease');
    await expect(call(lease, options)).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION', sent: 'none' });
    await world.now();
    expect(world.net.lastPeer.received).toBe('');
    expect(lease.isUsable).toBe(true);
    lease.release();
    expect(world.pool.stats()).toMatchObject({ idle: 1, closed: 0 });
  });

  it('names the key that it does not know, and itself', async () => {
    const world = setUp();
    const [lease] = await take(world, 1);
    if (lease === undefined) throw new Error('no lease');
    await expect(call(lease, { timeout: 100 })).rejects.toThrow(`Unknown option \`timeout\` of ${name}`);
    await expect(call(lease, { idempotant: true })).rejects.toThrow(
      `Unknown option \`idempotant\` of ${name}`,
    );
  });
});

describe.each(POOL_CALLS)('pool.%s', (name, call) => {
  it.each([
    ['a controller instead of its signal', { signal: new AbortController() }],
    ['null', null],
    ['an unknown key', { timeout: 100 }],
    ['a misspelt key', { idempotant: true }],
  ])('refuses %s, and dials nothing', async (_what, options) => {
    const world = setUp();
    await expect(call(world.pool, options)).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION' });
    await world.now();
    expect(world.net.dialedAt).toEqual([]);
    // A close() that was refused has not begun.
    const asked = world.pool.request('hello');
    await world.now();
    expect(await asked).toBe('Echo: hello');
  });

  it('names the key that it does not know, and itself', async () => {
    const { pool } = setUp();
    await expect(call(pool, { timeout: 100 })).rejects.toThrow(`Unknown option \`timeout\` of ${name}`);
    await expect(call(pool, { idempotant: true })).rejects.toThrow(
      `Unknown option \`idempotant\` of ${name}`,
    );
  });
});

describe('pool.request()', () => {
  it('guesses which key was meant', async () => {
    const { pool } = setUp();
    await expect(pool.request('pay', bad({ idempotant: true }))).rejects.toThrow(
      'Did you mean `idempotent`?',
    );
    await expect(pool.request('pay', bad({ timeout: 5 }))).rejects.toThrow('Did you mean `timeoutMs`?');
  });
});

describe('a listener', () => {
  it.each(['on', 'once'] as const)('of an event that there is not is refused by name: %s', (method) => {
    const { pool } = setUp();
    const event = bad<keyof PoolEvents>('close');
    expect(() => pool[method](event, () => undefined)).toThrow("'poolClosed'");
    expect(() => pool[method](event, () => undefined)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_OPTION' }),
    );
  });
});

describe('use()', () => {
  it.each(['notfn', undefined, null, {}])('of %j is refused, and nothing is acquired', async (fn) => {
    const world = setUp();
    const acquire = vi.spyOn(world.pool, 'acquire');
    await expect(world.pool.use(bad(fn))).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION' });
    await world.now();
    expect(acquire).not.toHaveBeenCalled();
    expect(world.net.dialedAt).toEqual([]);
  });
});

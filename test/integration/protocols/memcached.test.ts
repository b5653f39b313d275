/**
 * The memcached codec of the examples against memcached.
 */
import { randomBytes } from 'node:crypto';
import type { Pool, PoolOptions } from 'pulsepool';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  correlate,
  heartbeat,
  memcached,
  type Reply,
  type Request,
} from '../../../examples/protocols/memcached.mjs';
import { openClient } from '../support/clients.ts';
import { describeWithServers, type MemcachedServer, startMemcached } from '../support/containers.ts';
import { type Diary, openPool } from '../support/pools.ts';

let server: MemcachedServer;

function open(options: Partial<PoolOptions<Request, Reply>> = {}): {
  pool: Pool<Request, Reply>;
  diary: Diary;
} {
  return openPool<Request, Reply>({
    host: server.host,
    port: server.port,
    codec: memcached(),
    max: 1,
    ...options,
  });
}

describeWithServers('the memcached codec', () => {
  beforeAll(async () => {
    server = await startMemcached();
  });
  afterAll(() => server?.stop());

  test('stores, finds, adds up and deletes', async () => {
    const { pool, diary } = open();
    const status = async (request: Request) => (await pool.request(request)).status;
    expect(await status({ command: 'md', key: 'a' })).toMatch(/^(HD|NF)$/);
    expect(await status({ command: 'mg', key: 'a', flags: ['v'] })).toBe('EN');
    expect(await status({ command: 'ms', key: 'a', value: '41' })).toBe('HD');
    expect(await status({ command: 'ms', key: 'a', value: 'x', flags: ['ME'] })).toBe('NS');
    expect(await status({ command: 'ma', key: 'a' })).toBe('HD');
    expect(await pool.request({ command: 'mg', key: 'a', flags: ['v', 't'] })).toEqual({
      status: 'VA',
      flags: ['t-1'],
      opaque: undefined,
      value: Buffer.from('42'),
    });
    expect(await status({ command: 'mg', key: 'a' })).toBe('HD');
    expect(await status({ command: 'md', key: 'a' })).toBe('HD');
    expect(await status({ command: 'md', key: 'a' })).toBe('NF');
    expect(diary.of('closed')).toEqual([]);
  });

  test('carries every byte, line ends and what looks like a reply, and values of many chunks', async () => {
    const { pool } = open();
    const values = [
      Buffer.alloc(0),
      Buffer.from('\r\nEN\r\nVA 3\r\n'),
      Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
      randomBytes(900_000),
    ];
    for (const value of values) {
      expect(await pool.request({ command: 'ms', key: 'schlüssel', value })).toMatchObject({ status: 'HD' });
      const reply = await pool.request({ command: 'mg', key: 'schlüssel', flags: ['v'] });
      expect(reply.value?.equals(value)).toBe(true);
    }
  });

  test('gets its number back with every reply, hit or miss', async () => {
    const { pool } = open();
    const ask = async (request: Request, id: number) =>
      correlate.read(await pool.request(correlate.write(request, id)));
    expect(await ask({ command: 'ms', key: 'n', value: '1' }, 7)).toBe(7);
    expect(await ask({ command: 'mg', key: 'n', flags: ['v', 'k'] }, 8)).toBe(8);
    expect(await ask({ command: 'ma', key: 'n', flags: ['v'] }, 9)).toBe(9);
    expect(await ask({ command: 'ms', key: 'n', value: '1', flags: ['ME'] }, 10)).toBe(10);
    expect(await ask({ command: 'md', key: 'n' }, 11)).toBe(11);
    expect(await ask({ command: 'md', key: 'n' }, 12)).toBe(12);
    expect(await ask({ command: 'mg', key: 'n', flags: ['v', 'k'] }, 4_294_967_296)).toBe(4_294_967_296);
  });

  test('gives an error as a value, without a number, and goes on in step', async () => {
    const { pool, diary } = open();
    const value = Buffer.alloc(1_500_000);
    const reply = await pool.request({ command: 'ms', key: 'large', value, opaque: 1 });
    expect(reply).toMatchObject({ status: 'SERVER_ERROR', opaque: undefined });
    expect(reply.flags.join(' ')).toBe('object too large for cache');
    expect(await pool.request({ command: 'mg', key: 'a', flags: ['zz'] })).toMatchObject({
      status: 'CLIENT_ERROR',
    });
    expect(await pool.request({ command: 'mn' })).toMatchObject({ status: 'MN' });
    expect(diary.of('closed')).toEqual([]);
  });

  test('refuses what memcached would take for something else, and sends nothing of it', async () => {
    const { pool, diary } = open();
    const refused: Request[] = [
      { command: 'mg', key: 'a\r\nflush_all' },
      { command: 'mg', key: 'two words' },
      { command: 'mg', key: 'ü'.repeat(126) },
      { command: 'mg', key: '' },
      { command: 'mg', key: 'a', flags: ['v', 'q'] },
      { command: 'mg', key: 'a', value: 'x' },
      { command: 'ms', key: 'a' },
      { command: 'mg' },
      { command: 'mn', key: 'a' },
    ];
    for (const request of refused) {
      await expect(pool.request(request)).rejects.toMatchObject({ code: 'ERR_FRAME', sent: 'none' });
    }
    expect(await pool.request({ command: 'mg', key: 'ü'.repeat(125) })).toMatchObject({ status: 'EN' });
    expect(diary.of('closed')).toEqual([]);
  });

  test('sends mn, which MN answers', async () => {
    const { pool, diary } = open({
      min: 2,
      max: 2,
      heartbeat: { ...heartbeat, intervalMs: 50, timeoutMs: 1_000 },
    });
    await pool.ready();
    await diary.has('pinged', 6);
    expect(pool.stats()).toMatchObject({ pingMissed: 0, closed: 0 });
  });

  test('multiplexes many callers over one socket by number, hits and misses', async () => {
    const { client, diary } = openClient<Request, Reply>({
      host: server.host,
      port: server.port,
      codec: memcached(),
      heartbeat,
      mode: 'multiplexed',
      correlate,
      max: 1,
    });
    await Promise.all(
      Array.from({ length: 300 }, async (_, caller) => {
        const key = `caller ${caller}`.replace(' ', '-');
        expect(await client.request({ command: 'mg', key, flags: ['v', 'k'] })).toMatchObject({
          status: 'EN',
        });
        await client.request({ command: 'ms', key, value: `value ${caller}` });
        const reply = await client.request({ command: 'mg', key, flags: ['v', 'k'] });
        expect(reply.flags).toContain(`k${key}`);
        expect(`${reply.value}`).toBe(`value ${caller}`);
      }),
    );
    expect(client.pool.stats()).toMatchObject({ opened: 1, closed: 0 });
    expect(diary.of('closed')).toEqual([]);
  });

  test('ends a socket with an error that may be anybody’s, and repeats what may be repeated', async () => {
    const { client, diary } = openClient<Request, Reply>({
      host: server.host,
      port: server.port,
      codec: memcached(),
      mode: 'multiplexed',
      correlate,
      max: 1,
    });
    await client.request({ command: 'ms', key: 'small', value: 'x' });
    const outcomes = await Promise.allSettled([
      client.request({ command: 'ms', key: 'large', value: Buffer.alloc(1_500_000) }),
      ...Array.from({ length: 20 }, () =>
        client.request({ command: 'mg', key: 'small', flags: ['v'] }, { idempotent: true }),
      ),
    ]);
    const [tooLarge, ...others] = outcomes;
    expect(tooLarge).toMatchObject({ reason: { code: 'ERR_UNSOLICITED', sent: 'full' } });
    for (const other of others) expect(other).toMatchObject({ value: { value: Buffer.from('x') } });
    expect(diary.reasons).toEqual(['unsolicited']);
  });
});

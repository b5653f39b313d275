/**
 * The Redis codec of the examples, on redis-parser, against Redis.
 */
import { randomBytes } from 'node:crypto';
import type { Pool, PoolOptions } from 'pulsepool';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Command, heartbeat, type Reply, redis } from '../../../examples/protocols/redis.mjs';
import { openClient } from '../support/clients.ts';
import { describeWithServers, type RedisServer, startRedis } from '../support/containers.ts';
import { type Diary, openPool, until } from '../support/pools.ts';

let server: RedisServer;

function open(options: Partial<PoolOptions<Command, Reply>> = {}): {
  pool: Pool<Command, Reply>;
  diary: Diary;
} {
  return openPool<Command, Reply>({ host: server.host, port: server.port, codec: redis, max: 1, ...options });
}

/** What an operator does, from inside the container. */
async function cli(...command: string[]): Promise<string> {
  const { exitCode, output } = await server.exec(['redis-cli', ...command]);
  expect(exitCode).toBe(0);
  return output;
}

describeWithServers('the Redis codec', () => {
  beforeAll(async () => {
    server = await startRedis();
  });
  beforeEach(() => cli('flushall'));
  afterAll(() => server?.stop());

  test('reads simple strings, numbers, nil and arrays, one within the other', async () => {
    const { pool, diary } = open();
    expect(await pool.request(['SET', 'key', 'a\r\nb'])).toBe('OK');
    expect(await pool.request(['GET', 'key'])).toBe('a\r\nb');
    expect(await pool.request(['GET', 'nothing'])).toBe(null);
    expect(await pool.request(['SET', 'empty', ''])).toBe('OK');
    expect(await pool.request(['GET', 'empty'])).toBe('');
    expect(await pool.request(['DECR', 'counter'])).toBe(-1);
    expect(await pool.request(['LRANGE', 'nothing', '0', '-1'])).toEqual([]);
    expect(await pool.request(['BLPOP', 'nothing', '0.01'])).toBe(null);
    const script = 'return {1, "two", {3, false, {}}, redis.status_reply("FOUR")}';
    expect(await pool.request(['EVAL', script, '0'])).toEqual([1, 'two', [3, null, []], 'FOUR']);
    expect(diary.of('closed')).toEqual([]);
  });

  test('gives errors as values, alone and within an array, and the socket stays', async () => {
    const { pool, diary } = open();
    const error = await pool.request(['NOSUCH']);
    expect(error).toBeInstanceOf(Error);
    expect(String(error)).toMatch(/ERR unknown command/);
    const replies = await pool.use(async (lease) => {
      await lease.request(['MULTI']);
      await lease.request(['SET', 'text', 'x']);
      await lease.request(['INCR', 'text']);
      return lease.request(['EXEC']);
    });
    expect(replies).toEqual([
      'OK',
      expect.objectContaining({ message: expect.stringMatching(/^ERR value/) }),
    ]);
    expect(await pool.request(['GET', 'text'])).toBe('x');
    expect(diary.of('closed')).toEqual([]);
  });

  test('carries every byte, and a megabyte that comes in many chunks', async () => {
    const { pool } = open({ codec: () => redis({ asBuffers: true }) });
    const values = [Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)), randomBytes(1024 * 1024)];
    for (const value of values) {
      expect(String(await pool.request(['SET', Buffer.from('\0\r\nkey'), value]))).toBe('OK');
      const reply = await pool.request(['GET', Buffer.from('\0\r\nkey')]);
      expect(Buffer.isBuffer(reply) && reply.equals(value)).toBe(true);
    }
  });

  test('keeps many replies that come in one chunk in order', async () => {
    const { pool, diary } = open();
    const count = 5_000;
    await pool.use(async (lease) => {
      // One write, which Redis answers with as few as it can.
      for (let number = 0; number < count; number++) void lease.send(['ECHO', `${number}`]);
      for (let number = 0; number < count; number++) expect(await lease.receive()).toBe(`${number}`);
    });
    expect(await pool.request(['ECHO', 'clean'])).toBe('clean');
    expect(diary.of('closed')).toEqual([]);
  });

  test.each([{ asBuffers: false }, { asBuffers: true }])(
    'sends PING, which PONG answers (%o)',
    async (options) => {
      const { pool, diary } = open({
        codec: () => redis(options),
        min: 2,
        max: 2,
        heartbeat: { ...heartbeat, intervalMs: 50, timeoutMs: 1_000 },
      });
      await pool.ready();
      await diary.has('pinged', 6);
      expect(pool.stats()).toMatchObject({ pingMissed: 0, closed: 0 });
    },
  );

  test('refuses a command without words, to which Redis would say nothing', async () => {
    const { pool, diary } = open();
    await expect(pool.request([])).rejects.toMatchObject({ code: 'ERR_FRAME', sent: 'none' });
    expect(await pool.request(['ECHO', 'after'])).toBe('after');
    expect(diary.of('closed')).toEqual([]);
  });

  test('pipelines a thousand callers over one socket, each with its own reply', async () => {
    const { client, diary } = openClient<Command, Reply>({
      host: server.host,
      port: server.port,
      codec: redis,
      heartbeat,
      mode: 'pipelined',
      max: 1,
    });
    const replies = await Promise.all(
      Array.from({ length: 1_000 }, async (_, caller) => [
        await client.request(['ECHO', `${caller}`]),
        await client.request(['INCR', 'counter']),
        String(await client.request(['NOSUCH', `${caller}`])),
      ]),
    );
    for (const [caller, [echo, , error]] of replies.entries()) {
      expect(echo).toBe(`${caller}`);
      expect(error).toMatch(new RegExp(`unknown command .*'${caller}'`));
    }
    const numbers = replies.map(([, number]) => Number(number)).sort((a, b) => a - b);
    expect(numbers).toEqual(Array.from({ length: 1_000 }, (_, index) => index + 1));
    expect(client.pool.stats()).toMatchObject({ opened: 1, closed: 0 });
    expect(diary.of('closed')).toEqual([]);
  });

  test('leaves out the late reply to a caller who has gone, and gives the next one to whom it belongs', async () => {
    const { client, diary } = openClient<Command, Reply>({
      host: server.host,
      port: server.port,
      codec: redis,
      mode: 'pipelined',
      max: 1,
    });
    const waiting = client.request(['BLPOP', 'late', '0'], { timeoutMs: 100 });
    const behind = client.request(['ECHO', 'behind']);
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_DEADLINE', sent: 'full' });
    await cli('rpush', 'late', 'news');
    expect(await behind).toBe('behind');
    expect(diary.of('closed')).toEqual([]);
  });

  test('is told what is published, in silence and after its socket was killed', async () => {
    const { client } = openClient<Command, Reply>({
      host: server.host,
      port: server.port,
      codec: redis,
      heartbeat: { ...heartbeat, intervalMs: 50, timeoutMs: 1_000 },
      retry: { baseMs: 20, capMs: 100 },
      mode: 'pipelined',
      max: 2,
    });
    const heard: Reply[] = [];
    const told: string[] = [];
    const subscription = client.subscribe([['SUBSCRIBE', 'news']], (reply) => void heard.push(reply), {
      onLost: () => told.push('lost'),
      onRestored: () => told.push('restored'),
    });
    await until(() => heard.length === 1, 'the subscription is in force');
    const pings = async () =>
      Number(/cmdstat_ping:calls=(\d+)/.exec(await cli('info', 'commandstats'))?.[1] ?? 0);
    const before = await pings();
    await until(async () => (await pings()) >= before + 5, 'five pings in silence');
    expect(await client.request(['PUBLISH', 'news', 'hello'])).toBe(1);
    await until(() => heard.length === 2, 'it is heard');
    expect(told).toEqual([]);
    await cli('client', 'kill', 'type', 'pubsub');
    await until(() => heard.length === 3, 'the subscription is in force again');
    expect(await client.request(['PUBLISH', 'news', 'hello again'])).toBe(1);
    await until(() => heard.length === 4, 'it is heard');
    expect(heard).toEqual([
      ['subscribe', 'news', 1],
      ['message', 'news', 'hello'],
      ['subscribe', 'news', 1],
      ['message', 'news', 'hello again'],
    ]);
    expect(told).toEqual(['lost', 'restored']);
    await subscription.close();
  });
});

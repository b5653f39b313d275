/**
 * Redis, a real protocol with a real server: heartbeats, pipelines, passwords, and the ways in which Redis itself
 * ends or holds up its clients.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Pool, type PoolOptions, PulsepoolError } from 'pulsepool';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { requireBuild, runNode } from '../package/child.ts';
import { describeWithServers, type RedisServer, startRedis } from './support/containers.ts';
import { type Diary, dialBound, dialFailure, failureOf, figure, openPool, until } from './support/pools.ts';
import { RespError, type RespValue, resp } from './support/resp.ts';

type Command = readonly string[];

const RETRY = { retries: 3, baseMs: 20, capMs: 200 };
const PASSWORD = 'correct horse';
const WRONG_PASSWORD = 'battery staple';

let redis: RedisServer;

function open(options: Partial<PoolOptions<Command, RespValue>> = {}): {
  pool: Pool<Command, RespValue>;
  diary: Diary;
} {
  return openPool<Command, RespValue>({
    host: redis.host,
    port: redis.port,
    codec: resp(),
    max: 5,
    retry: RETRY,
    ...options,
  });
}

/** AUTH on each new connection, as a service would write it. */
const auth = (password: string) => ({
  onConnect: async (lease: { request(command: Command): Promise<RespValue> }) => {
    const reply = await lease.request(['AUTH', password]);
    if (reply instanceof RespError) throw new Error(reply.message);
  },
});

/** What an operator does, from inside the container. */
async function cli(...command: string[]): Promise<string> {
  const { exitCode, output } = await redis.exec(['redis-cli', ...command]);
  expect(exitCode).toBe(0);
  return output.trim();
}

describeWithServers('a pool of connections to Redis', () => {
  beforeAll(async () => {
    redis = await startRedis({ pinned: true });
  });
  afterEach(async () => {
    // Whatever a test has set; when that can't be undone any more, by a new start.
    const asAnybody = [`-a '${PASSWORD}'`, `-a '${WRONG_PASSWORD}'`, '']
      .map((login) => `redis-cli ${login} --no-auth-warning config set requirepass ''; `)
      .join('');
    const { output } = await redis.exec([
      'sh',
      '-c',
      `${asAnybody} redis-cli config set maxclients 10000 && redis-cli flushall`,
    ]);
    if (!output.trimEnd().endsWith('OK\nOK')) await redis.restart();
  });
  afterAll(() => redis?.stop());

  test('is what the example for Redis opens, and its heartbeats are answered', async () => {
    requireBuild();
    const env = { REDIS_HOST: redis.host, REDIS_PORT: String(redis.port) };
    const { status, stdout } = await runNode(['examples/05-redis-heartbeat.mjs'], env);
    expect(stdout.trim().split('\n')).toEqual([
      'SET OK',
      'GET "hello\\r\\nworld"',
      'after DEL null',
      'sockets that answered a PING while they rested: 2 of 2',
    ]);
    expect(status).toBe(0);
  });

  test('counts 1,000 INCR of 200 callers, each number once', async () => {
    const { pool } = open();
    const numbers = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const own: RespValue[] = [];
        for (let round = 0; round < 5; round++) own.push(await pool.request(['INCR', 'counter']));
        return own;
      }),
    );
    expect(numbers.flat().sort((a, b) => Number(a) - Number(b))).toEqual(
      Array.from({ length: 1_000 }, (_, n) => n + 1),
    );
    expect(pool.stats()).toMatchObject({ opened: 5, closed: 0 });
  });

  test('keeps pipelines of many callers apart', async () => {
    const { pool } = open();
    const wrong: string[] = [];
    await Promise.all(
      Array.from({ length: 100 }, (_, caller) =>
        pool.use(async (lease) => {
          // One send of several commands, whose replies are told beforehand.
          await lease.send(['SET', `key ${caller}`, `${caller}`]);
          await lease.send(['GET', `key ${caller}`]);
          await lease.send(['LRANGE', 'nothing', '0', '-1']);
          await lease.send(['NOSUCH']);
          const replies = [
            await lease.receive(),
            await lease.receive(),
            await lease.receive(),
            await lease.receive(),
          ];
          const error = replies[3];
          if (replies[0] !== 'OK' || replies[1] !== `${caller}`) wrong.push(JSON.stringify(replies));
          if (!Array.isArray(replies[2]) || !(error instanceof RespError))
            wrong.push(JSON.stringify(replies));
        }),
      ),
    );
    expect(wrong).toEqual([]);
    expect(pool.stats()).toMatchObject({ closed: 0 });
  });

  test('takes a command with several replies: send({ replies }), then receive, and the lease is clean', async () => {
    const { pool, diary } = open({ max: 1 });
    const replies = await pool.use(async (lease) => {
      await lease.send(['SUBSCRIBE', 'a', 'b', 'c'], { replies: 3 });
      const subscribed = [await lease.receive(), await lease.receive(), await lease.receive()];
      await lease.send(['UNSUBSCRIBE', 'a', 'b', 'c'], { replies: 3 });
      for (let n = 0; n < 3; n++) await lease.receive();
      return subscribed;
    });
    expect(replies).toEqual([
      ['subscribe', 'a', 1],
      ['subscribe', 'b', 2],
      ['subscribe', 'c', 3],
    ]);
    expect(await pool.request(['ECHO', 'clean'])).toBe('clean');
    expect(diary.of('closed')).toEqual([]);
  });

  test('ends a lease that leaves with replies due, so that the next caller gets its own', async () => {
    const { pool, diary } = open({ max: 1 });
    await pool.use(async (lease) => {
      await lease.send(['SUBSCRIBE', 'a', 'b', 'c'], { replies: 3 });
      await lease.receive();
    });
    expect(await pool.request(['ECHO', 'mine'])).toBe('mine');
    expect(diary.reasons).toEqual(['dirty']);
  });

  test('proves idle connections alive with PING and +PONG', async () => {
    const heartbeat = {
      intervalMs: 100,
      timeoutMs: 1_000,
      ping: ['PING'],
      isPong: (reply: RespValue) => reply === 'PONG',
    };
    const { pool, diary } = open({ min: 3, heartbeat });
    await pool.ready();
    await until(() => pool.stats().idle === 3, 'min is there');
    await diary.has('pinged', 9);
    expect(new Set(diary.of('pinged').map((event) => event.connectionId)).size).toBe(3);
    expect(pool.stats()).toMatchObject({ pingMissed: 0, closed: 0 });
  });

  test('lets CLIENT PAUSE pass when it is short, and finds it when it is long', async () => {
    const heartbeat = {
      intervalMs: 300,
      timeoutMs: 200,
      ping: ['PING'],
      isPong: (reply: RespValue) => reply === 'PONG',
    };
    const { pool, diary } = open({ min: 2, max: 2, heartbeat });
    await pool.ready();
    await until(() => pool.stats().idle === 2, 'min is there');
    // Shorter than the two misses take: 2 × 0.9 × 300 + 200 ms after the last byte, which is 300 ms old at most.
    await cli('client', 'pause', '150', 'all');
    await sleep(300);
    expect(diary.of('closed')).toEqual([]);
    // Longer than they take. Nothing undoes it: CLIENT UNPAUSE would be held up as well.
    await cli('client', 'pause', '1200', 'all');
    const call = failureOf(pool.request(['ECHO', 'held up'], { timeoutMs: 300 }));
    expect(await call).toMatchObject({ code: 'ERR_DEADLINE' });
    await until(() => (pool.stats().closedBy.heartbeat ?? 0) >= 1, 'a connection is found dead');
    expect(await pool.request(['ECHO', 'after'], { idempotent: true, timeoutMs: 10_000 })).toBe('after');
    await until(() => pool.stats().idle === 2, 'min is there again');
  });

  test('authenticates each connection before anybody gets it', async () => {
    await cli('config', 'set', 'requirepass', PASSWORD);
    const { pool, diary } = open(auth(PASSWORD));
    const replies = await Promise.all(Array.from({ length: 50 }, (_, id) => pool.request(['ECHO', `${id}`])));
    expect(replies).toEqual(replies.map((_, id) => `${id}`));
    expect(diary.of('dialFailed')).toEqual([]);
  });

  test('without a password gets Redis’ own error as a reply, and the connection stays', async () => {
    await cli('config', 'set', 'requirepass', PASSWORD);
    const { pool } = open({ max: 1 });
    const reply = await pool.request(['ECHO', 'hello']);
    expect(reply).toBeInstanceOf(RespError);
    expect((reply as RespError).message).toMatch(/^NOAUTH/);
    expect(pool.stats()).toMatchObject({ opened: 1, closed: 0 });
  });

  test('with a wrong password fails once with ERR_HANDSHAKE, whose cause says why', async () => {
    await cli('config', 'set', 'requirepass', PASSWORD);
    const { pool, diary } = open(auth(WRONG_PASSWORD));
    const errors = await Promise.all(
      Array.from({ length: 5 }, () => failureOf(pool.request(['PING'], { idempotent: true }))),
    );
    for (const error of errors) {
      expect(dialFailure(error)).toMatchObject({
        code: 'ERR_HANDSHAKE',
        phase: 'handshake',
        retryable: false,
      });
      expect(dialFailure(error).message).toMatch(/WRONGPASS/);
    }
    await sleep(300);
    // Five callers come to an empty pool, and at most four dials start before the first answer.
    expect(diary.of('dialFailed').length).toBeLessThanOrEqual(4);
    await cli('-a', PASSWORD, '--no-auth-warning', 'config', 'set', 'requirepass', WRONG_PASSWORD);
    expect(await pool.request(['ECHO', 'in'])).toBe('in');
  });

  test('loses idle connections to CLIENT KILL unseen by callers', async () => {
    const { pool, diary } = open({ min: 3 });
    await Promise.all(Array.from({ length: 5 }, () => pool.request(['PING'])));
    await cli('client', 'kill', 'type', 'normal');
    await diary.has('closed', 5);
    expect(await pool.request(['ECHO', 'after'])).toBe('after');
    await until(() => pool.stats().idle >= 3, 'min is refilled');
    expect(diary.reasons.slice(0, 5).every((reason) => reason.startsWith('peer-'))).toBe(true);
    expect(pool.stats().dialFailed).toBe(0);
  });

  test('tells a caller whose connection is killed under its request, and repeats it for one who allows that', async () => {
    const { pool, diary } = open();
    await Promise.all(Array.from({ length: 3 }, () => pool.request(['PING'])));
    const once = failureOf(pool.request(['BLPOP', 'nothing', '0']));
    const repeated = pool.request(['BLPOP', 'something', '0'], { idempotent: true });
    await until(
      async () => Number((await cli('info', 'clients')).match(/blocked_clients:(\d+)/)?.[1]) === 2,
      'both wait',
    );
    await cli('client', 'kill', 'type', 'normal');
    expect(await once).toMatchObject({ code: 'ERR_CONNECTION_LOST', retryable: true, sent: 'full' });
    await until(async () => /blocked_clients:1/.test(await cli('info', 'clients')), 'one waits again');
    await cli('rpush', 'something', 'good');
    expect(await repeated).toEqual(['something', 'good']);
    expect(diary.reasons.length).toBeGreaterThanOrEqual(2);
  });

  /** Fills Redis up: a client of ours is in, and nobody else may come. */
  async function fillUp() {
    const { pool: insider } = open({ max: 1 });
    expect(await insider.request(['CONFIG', 'SET', 'maxclients', '1'])).toBe('OK');
    return {
      async rejected() {
        const info = String(await insider.request(['INFO', 'stats']));
        return Number(/rejected_connections:(\d+)/.exec(info)?.[1]);
      },
      async makeRoom() {
        expect(await insider.request(['CONFIG', 'SET', 'maxclients', '10000'])).toBe('OK');
      },
    };
  }

  test('without room for another client does not dial in a tight loop to keep min, says why, and heals', async () => {
    const { makeRoom, rejected } = await fillUp();
    const before = await rejected();
    const { pool, diary } = open({ min: 2, max: 4 });
    const begun = performance.now();
    await sleep(1_000);
    const dials = (await rejected()) - before;
    const bound = dialBound(performance.now() - begun, RETRY, 2);
    figure(`maxclients, min 2: ${dials} dials in a second (bound ${bound})`);
    // Redis says "-ERR max number of clients reached" to nobody's question, and closes.
    const { error, reason } = diary.of('closed')[0] ?? {};
    expect(reason).toMatch(/^(unsolicited|peer-closed)$/);
    expect(`${error?.message} ${error?.hint}`).toMatch(/Redis|full/);
    expect(dials).toBeGreaterThan(1);
    expect(dials).toBeLessThanOrEqual(bound);
    await makeRoom();
    await until(() => pool.stats().idle >= 2, 'min is refilled');
    expect(await pool.request(['ECHO', 'in'])).toBe('in');
  });

  test('without room for another client tells each caller, and serves them when there is room', async () => {
    const { makeRoom } = await fillUp();
    const { pool } = open({ max: 4 });
    const told = new Set<string>();
    for (let call = 0; call < 5; call++) {
      const outcome: unknown = await pool.request(['PING']).catch((error: unknown) => error);
      // When its question was under way already, what Redis says to nobody in particular looks like an answer.
      if (outcome instanceof RespError) expect(outcome.message).toMatch(/max number of clients/);
      else expect(outcome).toBeInstanceOf(PulsepoolError);
      told.add(outcome instanceof PulsepoolError ? outcome.code : 'reply');
    }
    figure(`maxclients: callers were told ${[...told].join(', ')}`);
    for (const code of told)
      expect(code).toMatch(/^(reply|ERR_(UNSOLICITED|SERVER_FULL|CONNECTION_LOST|ACQUIRE_FAILED))$/);
    await makeRoom();
    expect(await pool.request(['ECHO', 'in'], { idempotent: true })).toBe('in');
  });

  test('without room for another client fails the handshake, if there is one, with what Redis said', async () => {
    const { makeRoom } = await fillUp();
    const { pool } = open({
      max: 1,
      retry: { ...RETRY, retries: 0 },
      onConnect: async (lease) => {
        const reply = await lease.request(['PING']);
        if (reply instanceof RespError) throw new Error(reply.message);
      },
    });
    const error = dialFailure(await failureOf(pool.request(['PING'])));
    expect(error.code).toMatch(/^ERR_(HANDSHAKE|SERVER_FULL|UNSOLICITED)$/);
    expect(`${error.message} ${error.hint}`).toMatch(/max number of clients|Redis|full/);
    await makeRoom();
    expect(await pool.request(['ECHO', 'in'])).toBe('in');
  });

  test('heals when Redis restarts', async () => {
    const { pool } = open({ min: 2 });
    await pool.ready();
    expect(await pool.request(['SET', 'key', 'value'])).toBe('OK');
    await redis.kill();
    await until(() => pool.stats().idle === 0, 'idle connections are gone');
    const error = await failureOf(pool.request(['GET', 'key'], { timeoutMs: 5_000 }));
    expect(dialFailure(error)).toMatchObject({ code: 'ERR_REFUSED' });
    await redis.start();
    await until(() => pool.stats().idle >= 2, 'min is refilled');
    expect(await pool.request(['GET', 'key'])).toBe(null);
  });
});

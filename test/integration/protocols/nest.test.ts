/**
 * The NestJS codec of the examples against a NestJS microservice.
 */
import type { Pool, PoolOptions } from 'pulsepool';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { correlate, heartbeat, nest, type Packet, type Reply } from '../../../examples/protocols/nest.mjs';
import { openClient } from '../support/clients.ts';
import { describeWithServers, type NestServer, startNest } from '../support/containers.ts';
import { type Diary, openPool, until } from '../support/pools.ts';

let server: NestServer;

function open(options: Partial<PoolOptions<Packet, Reply>> = {}): {
  pool: Pool<Packet, Reply>;
  diary: Diary;
} {
  return openPool<Packet, Reply>({ host: server.host, port: server.port, codec: nest(), max: 1, ...options });
}

function clientOf(max: number): ReturnType<typeof openClient<Packet, Reply>> {
  const { host, port } = server;
  return openClient<Packet, Reply>({
    host,
    port,
    codec: nest(),
    heartbeat,
    mode: 'multiplexed',
    correlate,
    max,
  });
}

/** A question to the handler of that name. */
const ask = (cmd: string, data: unknown, id = 1): Packet => ({ pattern: { cmd }, data, id });

describeWithServers('the NestJS codec', () => {
  beforeAll(async () => {
    server = await startNest();
  });
  afterAll(() => server?.stop());

  test('has its questions answered, each with its own id', async () => {
    const { pool, diary } = open({ max: 3 });
    const ids = Array.from({ length: 60 }, (_, index) => index + 1);
    const replies = await Promise.all(
      ids.map((id) => pool.request(correlate.write(ask('sum', [id, 1_000]), id))),
    );
    expect(replies).toEqual(ids.map((id) => ({ id, response: id + 1_000, isDisposed: true })));
    expect(replies.map(correlate.read)).toEqual(ids);
    expect(diary.of('closed')).toEqual([]);
  });

  test('counts characters as Nest does: umlauts, emoji, halves of them, and marks within the text', async () => {
    const { pool, diary } = open();
    const texts = [
      '',
      '#',
      '12#{"id":7}',
      'Grüße',
      '→ 5 €',
      '🫖',
      '\ud83e',
      '\ufeff\u2028\0',
      'ü'.repeat(100_000),
      '🫖'.repeat(100_000),
    ];
    for (const text of texts) {
      expect(await pool.request(ask('echo', text))).toEqual({ id: 1, response: text, isDisposed: true });
    }
    expect(diary.of('closed')).toEqual([]);
  });

  test('gives errors as values, and the socket stays', async () => {
    const { pool, diary } = open();
    expect(await pool.request(ask('fail', 'no such order'))).toMatchObject({
      id: 1,
      err: { status: 'error', message: 'no such order' },
    });
    expect(await pool.request(ask('nobody', 0, 2))).toMatchObject({ id: 2, err: expect.any(String) });
    expect(await pool.request(ask('sum', [1, 2], 3))).toMatchObject({ response: 3 });
    expect(diary.of('closed')).toEqual([]);
  });

  test('receives the values of an Observable one by one, until it is disposed of', async () => {
    const { pool, diary } = open();
    const values: unknown[] = [];
    await pool.use(async (lease) => {
      await lease.send(ask('count', 5), { replies: Number.POSITIVE_INFINITY });
      for await (const { isDisposed, response } of lease) {
        if (response !== undefined) values.push(response);
        if (isDisposed) break;
      }
      lease.markClean();
    });
    expect(values).toEqual([1, 2, 3, 4, 5]);
    expect(await pool.request(ask('sum', [1]))).toMatchObject({ response: 1 });
    expect(diary.of('closed')).toEqual([]);
  });

  test('sends events, which nobody answers', async () => {
    const { pool, diary } = open();
    const event = `order ${Math.random()}`;
    await pool.use((lease) => lease.send({ pattern: 'release', data: event }, { replies: 0 }));
    await until(async () => {
      const { response } = await pool.request(ask('released', null));
      return Array.isArray(response) && response.includes(event);
    }, 'the event has come');
    expect(diary.of('closed')).toEqual([]);
  });

  test('takes any answer to its ping for a pong', async () => {
    const { pool, diary } = open({
      min: 2,
      max: 2,
      heartbeat: { ...heartbeat, intervalMs: 50, timeoutMs: 1_000 },
    });
    await pool.ready();
    await diary.has('pinged', 6);
    expect(pool.stats()).toMatchObject({ pingMissed: 0, closed: 0 });
  });

  test('multiplexes many callers over one socket by id, answered in any order', async () => {
    const { client, diary } = clientOf(1);
    const slow = client.request({ pattern: { cmd: 'hold' } });
    await Promise.all(
      Array.from({ length: 300 }, async (_, caller) => {
        const data = `caller ${caller} 🫖`;
        expect(await client.request({ pattern: { cmd: 'echo' }, data })).toMatchObject({ response: data });
      }),
    );
    await open().pool.use((lease) => lease.send({ pattern: 'release', data: 'at last' }, { replies: 0 }));
    expect(await slow).toMatchObject({ response: 'at last', isDisposed: true });
    expect(client.pool.stats()).toMatchObject({ opened: 1, closed: 0 });
    expect(diary.of('closed')).toEqual([]);
  });

  test('streams an Observable beside them', async () => {
    const { client, diary } = clientOf(2);
    const values: unknown[] = [];
    const stream = async (): Promise<void> => {
      const isLast = ({ isDisposed }: Reply): boolean => isDisposed === true;
      for await (const { response } of client.stream(ask('count', 500), { isLast })) {
        if (response !== undefined) values.push(response);
      }
    };
    const sum = async (caller: number): Promise<void> => {
      const reply = await client.request({ pattern: { cmd: 'sum' }, data: [caller, 1] });
      expect(reply).toMatchObject({ response: caller + 1 });
    };
    await Promise.all([stream(), ...Array.from({ length: 50 }, (_, caller) => sum(caller))]);
    expect(values).toEqual(Array.from({ length: 500 }, (_, index) => index + 1));
    expect(diary.of('closed')).toEqual([]);
  });
});

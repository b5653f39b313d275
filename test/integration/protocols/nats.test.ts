/**
 * The NATS codec of the examples against a NATS server, which pings its clients.
 */
import type { ClientOptions, Lease, Pool, PoolOptions } from 'pulsepool';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import {
  connect,
  correlate,
  type Frame,
  heartbeat,
  type Message,
  type Msg,
  nats,
} from '../../../examples/protocols/nats.mjs';
import { openClient } from '../support/clients.ts';
import { describeWithServers, type NatsServer, startNats } from '../support/containers.ts';
import { type Diary, dialFailure, failureOf, openPool, until } from '../support/pools.ts';

let server: NatsServer;

function open(options: Partial<PoolOptions<Message, Frame>> = {}): {
  pool: Pool<Message, Frame>;
  diary: Diary;
} {
  return openPool<Message, Frame>({
    host: server.host,
    port: server.port,
    codec: nats,
    onConnect: connect(),
    heartbeat,
    max: 1,
    ...options,
  });
}

/** The next message, which must be one. */
async function nextMsg(lease: Lease<Message, Frame>): Promise<Msg> {
  const frame = await lease.receive();
  if (frame.op !== 'MSG') throw new Error(`a MSG was expected, ${JSON.stringify(frame)} came`);
  return frame;
}

function clientOf(
  options: Partial<ClientOptions<Message, Frame>>,
): ReturnType<typeof openClient<Message, Frame>> {
  return openClient<Message, Frame>({
    host: server.host,
    port: server.port,
    codec: nats,
    onConnect: connect(),
    heartbeat,
    mode: 'multiplexed',
    correlate,
    ...options,
  });
}

/** Takes requests to a subject, and answers them with `<payload>!` unless told otherwise, until the test has ended. */
async function answering(subject: string, take?: (msg: Msg) => void): Promise<void> {
  const { pool } = open();
  const lease = await pool.acquire();
  onTestFinished(() => lease.destroy());
  await lease.send({ op: 'SUB', subject, sid: 'answers' }, { replies: 0 });
  // Once this is answered, the subscription is in force.
  expect(await lease.request({ op: 'PING' })).toEqual({ op: 'PONG' });
  const serve = async (): Promise<void> => {
    while (true) {
      const msg = await nextMsg(lease);
      if (take !== undefined) take(msg);
      else
        await lease.send({ op: 'PUB', subject: `${msg.reply}`, payload: `${msg.payload}!` }, { replies: 0 });
    }
  };
  serve().catch((error: unknown) => {
    if (lease.isHeld) throw error;
  });
}

describeWithServers('the NATS codec', () => {
  beforeAll(async () => {
    server = await startNats({ pinned: true });
  });
  afterAll(() => server?.stop());

  test('has requests answered over the inbox of its connection, with the number of the request', async () => {
    await answering('shout');
    const { pool, diary } = open({ max: 3, onConnect: connect({ name: 'a name of words' }) });
    await Promise.all(
      Array.from({ length: 60 }, async (_, id) => {
        const message: Message = { op: 'REQUEST', subject: 'shout', payload: `hey ${id}`, id };
        const frame = await pool.request(message);
        expect(frame).toMatchObject({ op: 'MSG', sid: 'inbox', id, payload: Buffer.from(`hey ${id}!`) });
        expect(correlate.read(frame)).toBe(id);
      }),
    );
    expect(pool.stats().opened).toBe(3);
    expect(diary.of('closed')).toEqual([]);
  });

  test('is told at once when nobody is there to answer', async () => {
    const { pool } = open();
    const frame = await pool.request({ op: 'REQUEST', subject: 'nobody.here', payload: '', id: 5 });
    expect(frame).toMatchObject({ op: 'MSG', id: 5, headers: 'NATS/1.0 503', payload: Buffer.alloc(0) });
  });

  test('delivers what is published, every byte of it and in order, until it unsubscribes', async () => {
    const { pool, diary } = open({ max: 2 });
    const payloads = [
      Buffer.alloc(0),
      Buffer.from('\r\nMSG news 9 3\r\nxyz\r\n'),
      Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
      Buffer.alloc(700_000, 'large'),
    ];
    await pool.use(async (reader) => {
      await reader.send({ op: 'SUB', subject: 'news.*', sid: '9' }, { replies: 0 });
      expect(await reader.request({ op: 'PING' })).toEqual({ op: 'PONG' });
      await pool.use(async (writer) => {
        for (const payload of payloads) {
          await writer.send({ op: 'PUB', subject: 'news.today', payload }, { replies: 0 });
        }
        expect(await writer.request({ op: 'PING' })).toEqual({ op: 'PONG' });
      });
      for (const payload of payloads) {
        const msg = await nextMsg(reader);
        expect(msg).toMatchObject({ subject: 'news.today', sid: '9', reply: undefined, id: undefined });
        expect(msg.payload.equals(payload)).toBe(true);
      }
      await reader.send({ op: 'UNSUB', sid: '9' }, { replies: 0 });
      expect(await reader.request({ op: 'PING' })).toEqual({ op: 'PONG' });
    });
    await pool.request({ op: 'PING' });
    expect(pool.stats()).toMatchObject({ opened: 2, idle: 2 });
    expect(diary.of('closed')).toEqual([]);
  });

  test('answers the server’s own pings, at rest and while lent', async () => {
    let pings = 0;
    const answer = (frame: Frame): Message | undefined => {
      const reply = heartbeat.answer?.(frame);
      if (reply !== undefined) pings += 1;
      return reply;
    };
    const { pool, diary } = open({ heartbeat: { answer }, min: 1 });
    await pool.ready();
    // The server gives a client up that has left two of them unanswered.
    await until(() => pings >= 4, 'four pings of the server’s at rest');
    await pool.use(async (lease) => {
      await until(() => pings >= 5, 'a ping while lent');
      // What answers our ping is no ping of the server's.
      expect(await lease.request({ op: 'PING' })).toEqual({ op: 'PONG' });
    });
    expect(pool.stats()).toMatchObject({ opened: 1, closed: 0 });
    expect(diary.of('closed')).toEqual([]);
  });

  test('without an answer to them loses sockets at rest', async () => {
    const { pool, diary } = open({ heartbeat: {}, min: 1 });
    await pool.ready();
    await diary.has('closed', 1);
    expect(diary.of('closed')[0]).toMatchObject({ reason: 'unsolicited' });
  });

  test('sends PING, which PONG answers, while the server does the same', async () => {
    const { pool, diary } = open({
      min: 2,
      max: 2,
      heartbeat: { ...heartbeat, intervalMs: 50, timeoutMs: 1_000 },
    });
    await pool.ready();
    await diary.has('pinged', 6);
    expect(pool.stats()).toMatchObject({ pingMissed: 0, closed: 0 });
  });

  test('fails the handshake with what the server said', async () => {
    const { pool } = open({ onConnect: connect({ protocol: 99 }), retry: { retries: 0 } });
    const error = dialFailure(await failureOf(pool.request({ op: 'PING' })));
    expect(error).toMatchObject({ code: 'ERR_HANDSHAKE', phase: 'handshake' });
    expect(error.message).toMatch(/-ERR/);
  });

  test('refuses a subject that would be another command, and sends nothing of it', async () => {
    const { pool, diary } = open();
    for (const subject of ['a 5\r\nhello', 'two words', '', 'tab\t']) {
      const call = pool.request({ op: 'REQUEST', subject, payload: '', id: 1 });
      await expect(call).rejects.toMatchObject({ code: 'ERR_FRAME', sent: 'none' });
    }
    expect(await pool.request({ op: 'PING' })).toEqual({ op: 'PONG' });
    expect(diary.of('closed')).toEqual([]);
  });

  test('multiplexes many requests over one socket, answered in any order', async () => {
    const held: Msg[] = [];
    await answering('shout');
    await answering('hold', (msg) => void held.push(msg));
    const { client, diary } = clientOf({ max: 1 });
    const slow = client.request({ op: 'REQUEST', subject: 'hold', payload: 'later' });
    await Promise.all(
      Array.from({ length: 300 }, async (_, caller) => {
        const reply = await client.request({ op: 'REQUEST', subject: 'shout', payload: `${caller}` });
        expect(reply).toMatchObject({ op: 'MSG', payload: Buffer.from(`${caller}!`) });
      }),
    );
    await until(() => held.length === 1, 'the slow one has come');
    const { pool: writer } = open();
    await writer.use(async (lease) => {
      for (const { reply } of held) {
        await lease.send({ op: 'PUB', subject: `${reply}`, payload: 'at last' }, { replies: 0 });
      }
      await lease.request({ op: 'PING' });
    });
    expect(await slow).toMatchObject({ payload: Buffer.from('at last') });
    expect(client.pool.stats()).toMatchObject({ opened: 1, closed: 0 });
    expect(diary.of('closed')).toEqual([]);
  });

  test('goes on with a subscription after the server was away', async () => {
    const { client } = clientOf({ max: 2, retry: { baseMs: 20, capMs: 100 } });
    const heard: string[] = [];
    const told: string[] = [];
    const subscription = client.subscribe(
      { op: 'SUB', subject: 'news', sid: '1' },
      (frame) => {
        if (frame.op === 'MSG') heard.push(`${frame.payload}`);
      },
      { onLost: () => told.push('lost'), onRestored: () => told.push('restored') },
    );
    await subscription.ready;
    const { pool: writer } = open({ retry: { baseMs: 20, capMs: 100 } });
    /** Says it until it was heard: that the SUB has been sent does not mean that the server has read it. */
    const say = (payload: string): Promise<void> =>
      until(async () => {
        await writer.use(async (lease) => {
          await lease.send({ op: 'PUB', subject: 'news', payload }, { replies: 0 });
          await lease.request({ op: 'PING' });
        });
        return heard.includes(payload);
      }, `${payload} was heard`);
    await say('before');
    await server.kill();
    await until(() => told.includes('lost'), 'the loss is told');
    await server.start();
    await until(() => told.includes('restored'), 'the subscription is restored');
    await say('after');
    expect(told).toEqual(['lost', 'restored']);
    await subscription.close();
  });
});

/**
 * The MQTT codec of the examples, on mqtt-packet, against mosquitto.
 */
import type { Packet } from 'mqtt-packet';
import type { Lease, Pool, PoolOptions } from 'pulsepool';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect, correlate, heartbeat, mqtt, publish } from '../../../examples/protocols/mqtt.mjs';
import { openClient } from '../support/clients.ts';
import { describeWithServers, type MosquittoServer, startMosquitto } from '../support/containers.ts';
import { type Diary, dialFailure, failureOf, openPool, until } from '../support/pools.ts';

let server: MosquittoServer;

function open(options: Partial<PoolOptions<Packet, Packet>> = {}): {
  pool: Pool<Packet, Packet>;
  diary: Diary;
} {
  return openPool<Packet, Packet>({
    host: server.host,
    port: server.port,
    codec: mqtt(),
    onConnect: connect(),
    max: 1,
    ...options,
  });
}

const subscribe = (topic: string): Packet => ({
  cmd: 'subscribe',
  messageId: 1,
  subscriptions: [{ topic, qos: 1 }],
});

/** The next packet, which must be a PUBLISH, acknowledged when the broker waits for that. */
async function nextPublish(
  lease: Lease<Packet, Packet>,
): Promise<{ topic: string; payload: string | Buffer }> {
  const packet = await lease.receive();
  if (packet.cmd !== 'publish') throw new Error(`a PUBLISH was expected, ${JSON.stringify(packet)} came`);
  const { messageId, payload, qos, topic } = packet;
  if (qos === 1) await lease.send({ cmd: 'puback', messageId: messageId ?? 0 }, { replies: 0 });
  return { topic, payload };
}

describeWithServers('the MQTT codec', () => {
  beforeAll(async () => {
    server = await startMosquitto();
  });
  afterAll(() => server?.stop());

  test('publishes with QoS 1, and the PUBACK has the number of its PUBLISH', async () => {
    const { pool, diary } = open({ max: 3 });
    const ids = Array.from({ length: 60 }, (_, index) => index + 1);
    const answers = await Promise.all(
      ids.map((id) => pool.request(correlate.write(publish('lamp/3', `on ${id}`), id))),
    );
    expect(answers.map(({ cmd }) => cmd)).toEqual(ids.map(() => 'puback'));
    expect(answers.map(correlate.read)).toEqual(ids);
    expect(pool.stats().opened).toBe(3);
    expect(diary.of('closed')).toEqual([]);
  });

  test('is delivered what others publish, every byte and in order, until it unsubscribes', async () => {
    const { pool, diary } = open({ max: 2 });
    const payloads = [
      Buffer.alloc(0),
      Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
      Buffer.alloc(100, 'one byte of length'),
      Buffer.alloc(10_000, 'two'),
      Buffer.alloc(100_000, 'three'),
      Buffer.alloc(3_000_000, 'four'),
    ];
    await pool.use(async (reader) => {
      const suback = await reader.request(subscribe('news/#'));
      expect(suback).toMatchObject({ cmd: 'suback', messageId: 1, granted: [1] });
      expect(correlate.read(suback)).toBe(1);
      for (const payload of payloads) await pool.request(publish('news/today', payload));
      for (const payload of payloads) {
        const came = await nextPublish(reader);
        expect(came.topic).toBe('news/today');
        expect(payload.equals(Buffer.from(came.payload))).toBe(true);
      }
      await reader.request({ cmd: 'unsubscribe', messageId: 2, unsubscriptions: ['news/#'] });
    });
    expect(pool.stats()).toMatchObject({ opened: 2, idle: 2 });
    expect(diary.of('closed')).toEqual([]);
  });

  test('does not take the broker’s own numbers for those of its questions', async () => {
    const { pool } = open();
    await pool.use(async (lease) => {
      await lease.request(subscribe('mirror'));
      await lease.send({ ...publish('mirror', 'me'), messageId: 1 });
      const frames = [await lease.receive(), await lease.receive()];
      // Both have the number 1, in whatever order they come.
      expect(frames.map(({ cmd, messageId }) => `${cmd} ${messageId}`).sort()).toEqual([
        'puback 1',
        'publish 1',
      ]);
      expect(frames.map((frame) => `${frame.cmd} ${correlate.read(frame)}`).sort()).toEqual([
        'puback 1',
        'publish undefined',
      ]);
      lease.destroy();
    });
  });

  test('outlives with heartbeats the silence after which the broker hangs up', async () => {
    const onConnect = connect({ keepalive: 1 });
    const silent = open({ onConnect, min: 1 });
    const beating = open({
      onConnect,
      min: 1,
      heartbeat: { ...heartbeat, intervalMs: 300, timeoutMs: 1_000 },
    });
    await beating.pool.ready();
    await silent.pool.ready();
    await silent.diary.has('closed', 1);
    expect(silent.diary.reasons[0]).toBe('peer-closed');
    expect(beating.pool.stats()).toMatchObject({ opened: 1, closed: 0, pingMissed: 0 });
    expect(beating.diary.of('pinged').length).toBeGreaterThan(3);
  });

  test('fails the handshake when the broker does not let it in', async () => {
    const { pool } = open({ port: server.ports.members, retry: { retries: 0 } });
    const error = dialFailure(await failureOf(pool.request(publish('lamp/3', 'on'))));
    expect(error).toMatchObject({ code: 'ERR_HANDSHAKE', phase: 'handshake' });
    expect(error.message).toMatch(/CONNECT was answered with .*"returnCode":5/);
  });

  test('refuses a packet that can’t be sent, and sends nothing of it', async () => {
    const { pool, diary } = open();
    const wrong: Packet[] = [
      { ...publish('lamp/3', 'on'), messageId: 65_536 },
      publish('x'.repeat(65_536), 'on'),
      { cmd: 'subscribe', messageId: 1, subscriptions: [] },
    ];
    for (const packet of wrong) {
      await expect(pool.request(packet)).rejects.toMatchObject({ code: 'ERR_FRAME', sent: 'none' });
    }
    expect(await pool.request(publish('lamp/3', 'on'))).toMatchObject({ cmd: 'puback' });
    expect(diary.of('closed')).toEqual([]);
  });

  test('multiplexes many QoS 1 publishes over one socket by number, while another one is subscribed', async () => {
    const { client, diary } = openClient<Packet, Packet>({
      host: server.host,
      port: server.port,
      codec: mqtt(),
      onConnect: connect({ keepalive: 30 }),
      heartbeat,
      mode: 'multiplexed',
      correlate,
      max: 2,
    });
    const heard: string[] = [];
    // QoS 0: what comes need not be acknowledged.
    const subscription = client.subscribe(
      { cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'orders/+', qos: 0 }] },
      (packet) => {
        if (packet.cmd === 'publish') heard.push(`${packet.topic} ${packet.payload}`);
        else heard.push(packet.cmd);
      },
    );
    await until(() => heard.includes('suback'), 'the subscription is in force');
    const callers = Array.from({ length: 300 }, (_, caller) => caller);
    const replies = await Promise.all(
      callers.map((caller) => client.request(publish(`orders/${caller}`, `order ${caller}`))),
    );
    expect(new Set(replies.map(({ messageId }) => messageId)).size).toBe(300);
    await until(() => heard.length > 300, 'all orders are heard');
    expect(new Set(heard)).toEqual(
      new Set(['suback', ...callers.map((caller) => `orders/${caller} order ${caller}`)]),
    );
    expect(client.pool.stats()).toMatchObject({ opened: 2, closed: 0 });
    expect(diary.of('closed')).toEqual([]);
    await subscription.close();
  });

  test('begins at 1 again when the numbers are used up', async () => {
    const { client, diary } = openClient<Packet, Packet>({
      host: server.host,
      port: server.port,
      codec: mqtt(),
      onConnect: connect(),
      mode: 'multiplexed',
      correlate,
      max: 1,
    });
    const given: (number | undefined)[] = [];
    const ask = async (): Promise<void> => {
      while (given.length < 66_000) given.push((await client.request(publish('lamp/3', 'on'))).messageId);
    };
    await Promise.all(Array.from({ length: 200 }, ask));
    expect(new Set(given).size).toBe(65_535);
    expect(diary.of('closed')).toEqual([]);
  });
});

import { describe, expect, it } from 'vitest';
import { createPoolIn } from '../../../src/create-pool.ts';
import type { Codec } from '../../../src/transport/codec.ts';
import { raw } from '../../../src/transport/raw.ts';
import { ManualSocket, rigOfLines, rigWith } from '../../support/connection-rig.ts';
import { FakeNet } from '../../support/fake-net.ts';
import { watch } from '../../support/pool-world.ts';

describe('markClean()', () => {
  it('does not make bytes leave: with nothing heard since, the connection stays dirty until they have', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(raw(), {}, socket);
    connection.serve();
    await connection.send('question');
    connection.markClean();
    expect(connection.isClean).toBe(false);
    socket.takeOne();
    await clock.flush();
    expect(connection.isClean).toBe(true);
  });

  it('is believed once something has come back since, whatever the socket still counts', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(raw(), {}, socket);
    connection.serve();
    await connection.send('question');
    socket.push('answer');
    await clock.flush();
    expect(String(await connection.receive())).toBe('answer');
    connection.markClean();
    expect(socket.writableLength).toBeGreaterThan(0);
    expect(connection.isClean).toBe(true);
  });

  it('is not believed for a message that was sent after the answer had come', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(raw(), {}, socket);
    connection.serve();
    await connection.send('question');
    socket.push('answer');
    await clock.flush();
    await connection.receive();
    await connection.send('another');
    connection.markClean();
    expect(connection.isClean).toBe(false);
  });

  it('is not believed while slices of a large message wait, though an answer has come', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(raw(), {}, socket);
    connection.serve();
    const sending = connection.send('x'.repeat(300_000));
    socket.push('answer');
    await clock.flush();
    await connection.receive();
    connection.markClean();
    expect(connection.isClean).toBe(false);
    while (socket.takeOne()) await clock.flush();
    await sending;
    expect(connection.isClean).toBe(true);
  });

  it('is not believed while so much waits to be received that the socket is paused', async () => {
    const { connection, peer, clock, socket } = rigOfLines();
    connection.serve();
    peer.write('pushed\n'.repeat(1_500));
    await clock.flush();
    expect(socket.isPaused()).toBe(true);
    connection.markClean();
    expect(connection.isClean).toBe(false);
    for (let frame = 0; frame < 1_500; frame++) await connection.receive();
    await clock.flush();
    connection.markClean();
    expect(connection.isClean).toBe(true);
  });
});

describe('a complete reply', () => {
  it('does not make the connection clean while slices of its question still wait', async () => {
    const socket = new ManualSocket();
    const codec: Codec<string, string> = {
      encode: (message) => Buffer.from(message),
      decode: (bytes) => (bytes.length === 0 ? undefined : bytes.takeAll().toString()),
    };
    const { connection, clock } = rigWith(codec, {}, socket);
    connection.serve();
    const reply = connection.request('x'.repeat(300_000));
    socket.push('early');
    await clock.flush();
    expect(await reply).toBe('early');
    expect(connection.isClean).toBe(false);
  });
});

describe('a lease without frames', () => {
  /** A pool to a server that accepts, and reads nothing until it is told to. */
  function setUp() {
    const net = new FakeNet();
    net.onPeer = (peer) => void peer.stream.pause();
    const pool = createPoolIn(net.surroundings, { host: 'fake', port: 1, codec: raw(), max: 1 });
    return { net, pool, clock: net.clock };
  }

  it('that was vouched for before its question had left is ended as dirty', async () => {
    const { net, pool, clock } = setUp();
    const lease = await pool.acquire();
    const sending = watch(lease.send('x'.repeat(65_536)));
    await clock.flush();
    lease.markClean();
    lease.release();
    await clock.advance(1_000);
    expect(pool.stats()).toMatchObject({ total: 0, closedBy: { dirty: 1 } });
    expect(net.openSockets).toBe(0);
    expect(sending.error).toMatchObject({ sent: 'maybe' });
    await pool.close({ timeoutMs: 0 });
  });

  it('that was vouched for after an answer is lent again', async () => {
    const { net, pool, clock } = setUp();
    const lease = await pool.acquire();
    const sending = watch(lease.send('x'.repeat(65_536)));
    net.lastPeer.write('answer');
    await clock.flush();
    await lease.receive();
    lease.markClean();
    lease.release();
    expect(pool.stats()).toMatchObject({ idle: 1, closed: 0 });
    expect(sending.isSettled).toBe(false);
    const closing = pool.close({ timeoutMs: 0 });
    await clock.advance(1_000);
    await closing;
  });
});

import { describe, expect, it } from 'vitest';
import { lengthPrefixed } from '../../../src/transport/length-prefixed.ts';
import { lines } from '../../../src/transport/lines.ts';
import { ManualSocket, rigOfLines, rigWith, watched } from '../../support/connection-rig.ts';

describe('a lease that does not read', () => {
  it('pauses its socket at 1,000 frames, and loses none of them', async () => {
    const { connection, peer, socket, clock } = rigOfLines();
    connection.serve();
    for (let i = 0; i < 3_000; i++) peer.write(`${i}\n`);
    await clock.flush();
    expect(socket.isPaused()).toBe(true);
    for (let i = 0; i < 3_000; i++) {
      expect(await connection.receive()).toBe(String(i));
      if (i % 500 === 0) await clock.flush();
    }
    await clock.flush();
    expect(socket.isPaused()).toBe(false);
    expect(connection.isClean).toBe(true);
  });

  it('pauses its socket when one read brings more than 1,000 frames', async () => {
    const { connection, peer, socket, clock } = rigOfLines();
    connection.serve();
    peer.write('x\n'.repeat(2_500));
    await clock.flush();
    expect(socket.isPaused()).toBe(true);
    for (let i = 0; i < 2_500; i++) expect(await connection.receive()).toBe('x');
    expect(connection.isClean).toBe(true);
  });

  it('pauses its socket at 1 MiB of frames', async () => {
    const { connection, peer, socket, clock } = rigWith(lengthPrefixed());
    connection.serve();
    const frame = Buffer.concat([Buffer.from([0, 0, 0xff, 0xfc]), Buffer.alloc(0xfffc, 1)]);
    let sent = 0;
    while (!socket.isPaused() && sent < 100) {
      peer.write(frame);
      sent += 1;
      await clock.flush();
    }
    expect(sent).toBe(16);
  });

  it('sees the end of the peer only once it has read everything, and then does', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.serve();
    peer.write('x\n'.repeat(1_200));
    await clock.flush();
    peer.write('last\n');
    peer.fin();
    await clock.flush();
    expect(owner.told).toEqual([]);
    for (let i = 0; i < 1_200; i++) await connection.receive();
    await clock.flush();
    expect(owner.told[0]).toBe('ending: peer-closed');
    expect(await connection.receive()).toBe('last');
  });

  it('is dirty', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    peer.write('x\n'.repeat(1_500));
    await clock.flush();
    expect(connection.isClean).toBe(false);
  });

  it('gets what had come before a reset, and then the loss', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    peer.write('x\n'.repeat(1_500));
    await clock.flush();
    peer.reset();
    await clock.flush();
    for (let i = 0; i < 1_000; i++) expect(await connection.receive()).toBe('x');
    await expect(connection.receive()).rejects.toMatchObject({ code: 'ERR_CONNECTION_LOST' });
  });
});

describe('a message that waits', () => {
  const big = 'x'.repeat(300_000);

  it('leaves in slices of 64 KiB, each when the one before has been taken', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(lines({ maxFrameBytes: 1_000_000 }), {}, socket);
    connection.serve();
    const sending = watched(connection.send(big, { replies: 0 }));
    await clock.flush();
    expect(socket.writtenBytes).toBe(64 * 1024);
    expect(sending.outcome.state).toBe('pending');
    let slices = 0;
    while (socket.takeOne()) {
      slices += 1;
      await clock.flush();
    }
    expect(slices).toBe(5);
    expect(socket.writtenBytes).toBe(big.length + 1);
    expect(sending.outcome.state).toBe('resolved');
    expect(connection.isClean).toBe(true);
  });

  it('keeps the messages behind it whole and in order', async () => {
    const { connection, peer, clock } = rigWith(lines({ maxFrameBytes: 1_000_000 }));
    connection.serve();
    peer.stream.pause();
    void connection.send(big, { replies: 0 });
    void connection.send('small', { replies: 0 });
    void connection.send(big, { replies: 0 });
    await clock.flush();
    peer.stream.resume();
    await clock.flush();
    expect(peer.received).toBe(`${big}\nsmall\n${big}\n`);
  });

  it('keeps the answer to a server’s ping out of its middle', async () => {
    const answer = (frame: string) => (frame === 'SRV' ? 'ACK' : undefined);
    const { connection, peer, clock } = rigWith(lines({ maxFrameBytes: 1_000_000 }), { answer });
    connection.serve();
    peer.stream.pause();
    void connection.send(big, { replies: 0 });
    peer.write('SRV\n');
    await clock.flush();
    peer.stream.resume();
    await clock.flush();
    expect(peer.received).toBe(`${big}\nACK\n`);
  });

  it('is rejected when the connection is destroyed meanwhile, and tells how much had left', async () => {
    const socket = new ManualSocket();
    const { connection, clock, hold } = rigWith(lines({ maxFrameBytes: 1_000_000 }), {}, socket);
    connection.serve();
    const first = watched(connection.send(big));
    const second = watched(connection.send(big));
    await clock.flush();
    expect(hold.count).toBe(2);
    connection.destroy('destroyed');
    await clock.flush();
    expect(first.outcome).toMatchObject({ reason: { code: 'ERR_CONNECTION_LOST', sent: 'maybe' } });
    expect(second.outcome).toMatchObject({ reason: { code: 'ERR_CONNECTION_LOST', sent: 'none' } });
    expect(hold.count).toBe(0);
  });

  it('lets a request behind it fail as unsent when the connection is lost', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(lines({ maxFrameBytes: 1_000_000 }), {}, socket);
    connection.serve();
    void connection.send(big, { replies: 0 }).catch(() => undefined);
    const request = watched(connection.request('a'));
    await clock.flush();
    connection.destroy('destroyed');
    await clock.flush();
    expect(request.outcome).toMatchObject({ reason: { sent: 'none' } });
  });
});

describe('a small message', () => {
  it('leaves in one write, header and payload together', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(lengthPrefixed(), {}, socket);
    connection.serve();
    void connection.send('hello');
    await clock.flush();
    expect(socket.writes.length).toBe(1);
    expect(Buffer.concat(socket.writes[0] ?? []).toString('latin1')).toBe('\0\0\0\x05hello');
  });

  it('lets send() resolve at once while the socket takes more', async () => {
    const socket = new ManualSocket();
    const { connection } = rigWith(lines(), {}, socket);
    connection.serve();
    const sending = watched(connection.send('a'));
    await Promise.resolve();
    await Promise.resolve();
    expect(sending.outcome.state).toBe('resolved');
  });

  it('lets send() wait once the socket is full, until it has drained', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(lines(), {}, socket);
    connection.serve();
    const first = watched(connection.send('x'.repeat(20_000), { replies: 0 }));
    await clock.flush();
    expect(first.outcome.state).toBe('pending');
    socket.takeOne();
    await clock.flush();
    expect(first.outcome.state).toBe('resolved');
  });
});

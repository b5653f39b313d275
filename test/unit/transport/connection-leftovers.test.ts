import { describe, expect, it } from 'vitest';
import { lines } from '../../../src/transport/lines.ts';
import { rigOfLines, rigWith, watched } from '../../support/connection-rig.ts';
import { setUp, take, watch } from '../../support/pool-world.ts';

const LONG = { maxFrameBytes: 1_000_000 };

describe('a connection is not clean', () => {
  it('while a call listens, though nothing is owed', async () => {
    const { connection, clock } = rigOfLines();
    connection.serve();
    const listening = watched(connection.receive());
    await clock.flush();
    expect(listening.outcome.state).toBe('pending');
    expect(connection.isClean).toBe(false);
  });

  it('while a short message that wants no reply has not left', async () => {
    const { connection, peer, clock, socket } = rigWith(lines(LONG));
    connection.serve();
    peer.stream.pause();
    // Two, each of one write: the first may still fit into what the other side holds.
    for (let message = 0; message < 2; message++) {
      watched(connection.send('x'.repeat(60_000), { replies: 0 }));
    }
    await clock.flush();
    expect(socket.writableLength).toBeGreaterThan(0);
    expect(connection.isClean).toBe(false);
    peer.stream.resume();
    await clock.flush();
    expect(connection.isClean).toBe(true);
  });

  it('while slices of a message wait whose reply has come already', async () => {
    const { connection, peer, clock } = rigWith(lines(LONG));
    connection.serve();
    peer.stream.pause();
    const reply = connection.request('x'.repeat(300_000));
    peer.write('too long for me\n');
    expect(await reply).toBe('too long for me');
    expect(connection.isClean).toBe(false);
    peer.stream.resume();
    await clock.flush();
    expect(connection.isClean).toBe(true);
  });

  it('while slices of a message wait, whatever its user vouches for', async () => {
    const { connection, peer, clock } = rigWith(lines(LONG));
    connection.serve();
    peer.stream.pause();
    watched(connection.send('x'.repeat(300_000)));
    await clock.flush();
    connection.markClean();
    expect(connection.isClean).toBe(false);
  });
});

describe('a call that is given up', () => {
  it('ends the connection when part of a frame has come, though nothing is owed', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.serve();
    const controller = new AbortController();
    const listening = watched(connection.receive({ signal: controller.signal }));
    peer.write('str');
    await clock.flush();
    controller.abort('enough');
    await clock.flush();
    expect(listening.outcome).toEqual({ state: 'rejected', reason: 'enough' });
    expect(owner.told).toEqual(['ending: aborted', 'closed']);
  });
});

describe('a lease released while it listens', () => {
  it('takes no frame of the next caller’s: its socket is destroyed', async () => {
    const world = setUp({ max: 1 });
    const [lease] = await take(world, 1);
    const listening = watch(lease?.receive() ?? Promise.resolve(''));
    await world.now();
    lease?.release();
    const next = watch(world.pool.request('mine'));
    await world.now();
    expect(listening.error).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
    expect(next.value).toBe('Echo: mine');
    expect(world.pool.stats()).toMatchObject({ opened: 2, closedBy: { dirty: 1 } });
  });
});

describe('proof of life', () => {
  it('is nothing that we write: no ping, no message, only a byte that was read', async () => {
    const { connection, peer, clock } = rigOfLines();
    const born = connection.lastReadAt;
    await clock.advance(100);
    connection.ping();
    await clock.advance(100);
    expect(peer.received).toBe('PING\n');
    expect(connection.lastReadAt).toBe(born);
    peer.write('PONG\n');
    await clock.flush();
    expect(connection.lastReadAt).toBe(born + 200);
    connection.serve();
    await clock.advance(100);
    watched(connection.request('a'));
    watched(connection.send('b', { replies: 0 }));
    await clock.flush();
    expect(connection.lastReadAt).toBe(born + 200);
  });
});

import { describe, expect, it } from 'vitest';
import { raw } from '../../../src/transport/raw.ts';
import { ManualSocket, rejection, rigOfLines, rigWith, watched } from '../../support/connection-rig.ts';

describe('a receive() that is cut off after a send()', () => {
  it.each(['fin', 'reset'] as const)('by the server (%s) says that the message had left', async (how) => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    await connection.send('pay');
    const reply = watched(connection.receive());
    await clock.flush();
    expect(peer.received).toBe('pay\n');
    peer[how]();
    await clock.flush();
    expect(reply.outcome).toMatchObject({ state: 'rejected', reason: { sent: 'full' } });
  });

  it('says that some of it may have left, when the system has not taken it', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(raw(), {}, socket);
    connection.serve();
    await connection.send('pay');
    const reply = watched(connection.receive());
    socket.destroy(new Error('read ECONNRESET'));
    await clock.flush();
    expect(reply.outcome).toMatchObject({ state: 'rejected', reason: { sent: 'maybe' } });
  });

  it('by silence, or by bytes that are no frame, says so, too', async () => {
    const silent = rigOfLines({ readTimeoutMs: 100 });
    silent.connection.serve();
    await silent.connection.send('pay');
    const first = rejection(silent.connection.receive());
    await silent.clock.advance(101);
    expect(await first).toMatchObject({ code: 'ERR_READ_TIMEOUT', sent: 'full' });

    const babbling = rigOfLines();
    babbling.connection.serve();
    await babbling.connection.send('pay');
    const second = rejection(babbling.connection.receive());
    await babbling.clock.flush();
    babbling.peer.write('x'.repeat(200_000));
    expect(await second).toMatchObject({ code: 'ERR_FRAME', sent: 'full' });
  });

  it('by its own limit says so, too', async () => {
    const { connection, clock } = rigOfLines();
    connection.serve();
    await connection.send('pay');
    const reply = rejection(connection.receive({ timeoutMs: 100 }));
    await clock.advance(101);
    expect(await reply).toMatchObject({ code: 'ERR_DEADLINE', sent: 'full' });
  });

  it('says none when everything that was sent before has been answered', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    const reply = connection.request('pay');
    peer.write('paid\n');
    await reply;
    const pushed = watched(connection.receive());
    peer.fin();
    await clock.flush();
    expect(pushed.outcome).toMatchObject({ state: 'rejected', reason: { sent: 'none' } });
  });

  it.each(['a note that nobody answers', 'a message that was vouched for'])(
    'says none when what was sent before, %s, was another lease’s',
    async (what) => {
      const isNote = what.includes('note');
      const { connection, peer, clock } = rigOfLines();
      connection.serve();
      await connection.send('theirs', { replies: isNote ? 0 : Number.POSITIVE_INFINITY });
      await clock.flush();
      if (!isNote) connection.markClean();
      expect(connection.isClean).toBe(true);
      connection.rest();
      connection.serve();
      const pushed = watched(connection.receive());
      peer.fin();
      await clock.flush();
      expect(pushed.outcome).toMatchObject({ state: 'rejected', reason: { sent: 'none' } });
    },
  );
});

describe('a call on a connection that had ended before', () => {
  it('says that nothing of it was sent, whatever was sent earlier', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    await connection.send('pay');
    await clock.flush();
    peer.fin();
    await clock.flush();
    expect(await rejection(connection.request('more'))).toMatchObject({ sent: 'none', firstByte: false });
    expect(await rejection(connection.send('more'))).toMatchObject({ sent: 'none', firstByte: false });
    expect(peer.received).toBe('pay\n');
  });
});

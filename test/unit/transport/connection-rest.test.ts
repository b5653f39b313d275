import { describe, expect, it } from 'vitest';
import {
  answerServerPings,
  pushParser,
  rejection,
  rigOfLines,
  watched,
} from '../../support/connection-rig.ts';

describe('a resting connection', () => {
  it('ends at the first byte', async () => {
    const { peer, clock, owner } = rigOfLines();
    peer.write('x');
    await clock.flush();
    expect(owner.told).toEqual(['ending: unsolicited', 'closed']);
    expect(owner.error).toMatchObject({ code: 'ERR_UNSOLICITED' });
    expect(owner.error?.message).toContain('78');
  });

  it('says what the unasked bytes look like', async () => {
    const { peer, clock, owner } = rigOfLines();
    peer.write('HTTP/1.1 408 Request Timeout\r\n');
    await clock.flush();
    expect(owner.error?.hint).toContain('HTTP');
  });

  it('sees the end of its peer at once', async () => {
    const { peer, clock, owner } = rigOfLines();
    peer.fin();
    await clock.flush();
    expect(owner.told).toEqual(['ending: peer-closed', 'closed']);
  });

  it('ends at a byte after it came back from a lease', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.serve();
    const reply = connection.request('a');
    peer.write('1\n');
    await reply;
    connection.rest();
    peer.write('late\n');
    await clock.flush();
    expect(owner.told[0]).toBe('ending: unsolicited');
  });

  it('was born dead when its server greeted or closed it before serving anybody', async () => {
    const greeted = rigOfLines({ answer: answerServerPings });
    greeted.peer.write('too many connections\n');
    await greeted.clock.flush();
    expect(greeted.connection.diedYoung).toBe(true);

    const hungUp = rigOfLines({ answer: answerServerPings });
    hungUp.peer.write('go aw');
    hungUp.peer.fin();
    await hungUp.clock.flush();
    expect(hungUp.connection.diedYoung).toBe(true);

    const afterHandshake = rigOfLines();
    afterHandshake.connection.serve();
    const welcome = afterHandshake.connection.request('AUTH');
    afterHandshake.peer.write('OK\n');
    await welcome;
    afterHandshake.connection.rest(true);
    afterHandshake.peer.fin();
    await afterHandshake.clock.flush();
    expect(afterHandshake.connection.diedYoung).toBe(true);
  });

  it('was not born dead when it had served, grew old, or was ended on this side', async () => {
    const served = rigOfLines();
    served.connection.serve();
    const reply = served.connection.request('a');
    served.peer.write('1\n');
    await reply;
    served.peer.fin();
    await served.clock.flush();
    expect(served.connection.diedYoung).toBe(false);

    const old = rigOfLines();
    await old.clock.advance(1_000);
    old.peer.fin();
    await old.clock.flush();
    expect(old.connection.diedYoung).toBe(false);

    const ours = rigOfLines();
    ours.connection.destroy('idle');
    expect(ours.connection.diedYoung).toBe(false);
  });
});

describe('a ping of the server', () => {
  it('is answered while the connection rests, and it keeps resting', async () => {
    const { connection, peer, clock, owner } = rigOfLines({ answer: answerServerPings });
    peer.write('SRV 1\nSRV 2\n');
    await clock.flush();
    expect(peer.received).toBe('ACK 1\nACK 2\n');
    expect(connection.isClean).toBe(true);
    expect(owner.told).toEqual([]);
  });

  it('is no use of the connection', async () => {
    const { connection, peer, clock } = rigOfLines({ answer: answerServerPings });
    const { lastUsedAt } = connection;
    await clock.advance(5_000);
    peer.write('SRV 1\n');
    await clock.flush();
    expect(connection.lastUsedAt).toBe(lastUsedAt);
    expect(connection.lastReadAt).toBe(lastUsedAt + 5_000);
  });

  it('is answered while our own ping is out', async () => {
    const { connection, peer, clock, owner } = rigOfLines({ answer: answerServerPings });
    connection.ping();
    peer.write('SRV 1\nPONG\nSRV 2\n');
    await clock.flush();
    expect(peer.received).toBe('PING\nACK 1\nACK 2\n');
    expect(owner.told).toEqual(['pong']);
    expect(connection.isClean).toBe(true);
  });

  it('is answered while a lease works, and disturbs no reply', async () => {
    const { connection, peer, clock } = rigOfLines({ answer: answerServerPings });
    connection.serve();
    const replies = [connection.request('a'), connection.request('b')];
    peer.write('SRV 1\none\nSRV 2\ntwo\n');
    expect(await Promise.all(replies)).toEqual(['one', 'two']);
    await clock.flush();
    expect(peer.received).toBe('a\nb\nACK 1\nACK 2\n');
    expect(connection.isClean).toBe(true);
  });

  it('that has come in part does not spoil the request of whoever gets the connection', async () => {
    const { connection, peer, clock } = rigOfLines({ answer: answerServerPings });
    peer.write('SR');
    await clock.flush();
    connection.serve();
    const reply = connection.request('a');
    peer.write('V 1\none\n');
    expect(await reply).toBe('one');
    await clock.flush();
    expect(peer.received).toBe('a\nACK 1\n');
    expect(connection.isClean).toBe(true);
  });

  it('that stays incomplete ends the connection after frameTimeoutMs', async () => {
    const { peer, clock, owner } = rigOfLines({ answer: answerServerPings });
    peer.write('SR');
    await clock.advance(19_999);
    expect(owner.told).toEqual([]);
    await clock.advance(1);
    expect(owner.error).toMatchObject({ code: 'ERR_FRAME_TIMEOUT' });
  });

  it('behind our pong, in part, keeps the connection from callers until it is complete', async () => {
    const { connection, peer, clock, owner } = rigOfLines({ answer: answerServerPings });
    connection.ping();
    peer.write('PONG\nSR');
    await clock.flush();
    expect(owner.told).toEqual([]);
    peer.write('V 1\n');
    await clock.flush();
    expect(owner.told).toEqual(['pong']);
    expect(peer.received).toBe('PING\nACK 1\n');
    expect(connection.isOpen).toBe(true);
  });

  it('behind our pong, in part, does not hide the ping that follows', async () => {
    const { connection, peer, clock, owner } = rigOfLines({ answer: answerServerPings });
    connection.ping();
    peer.write('PONG\nSR');
    await clock.flush();
    connection.ping();
    peer.write('V 1\n');
    await clock.flush();
    expect(owner.told).toEqual([]);
    peer.write('PONG\n');
    await clock.flush();
    expect(owner.told).toEqual(['pong']);
  });

  it('that nobody can answer any more harms nothing', async () => {
    const rig = rigOfLines({
      answer: (frame) => {
        rig.connection.end('shutdown');
        return frame;
      },
    });
    rig.peer.write('SRV 1\n');
    await rig.clock.advance(500);
    expect(rig.owner.told).toEqual(['ending: shutdown', 'closed']);
    expect(rig.peer.received).toBe('');
  });
});

describe('a pong', () => {
  it('brings the connection back to rest', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.ping();
    await clock.flush();
    expect(peer.received).toBe('PING\n');
    peer.write('PONG\n');
    await clock.flush();
    expect(owner.told).toEqual(['pong']);
    peer.write('x');
    await clock.flush();
    expect(owner.told).toEqual(['pong', 'ending: unsolicited', 'closed']);
  });

  it('may come in pieces', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.ping();
    for (const byte of 'PONG\n') {
      expect(owner.told).toEqual([]);
      peer.write(byte);
      await clock.flush();
    }
    expect(owner.told).toEqual(['pong']);
  });

  it('to the first of two pings is not yet told', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.ping();
    connection.ping();
    peer.write('PONG\n');
    await clock.flush();
    expect(owner.told).toEqual([]);
    peer.write('PONG\n');
    await clock.flush();
    expect(owner.told).toEqual(['pong']);
  });

  it('too many ends the connection', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.ping();
    peer.write('PONG\nPONG\n');
    await clock.flush();
    expect(owner.told).toEqual(['ending: unsolicited', 'closed']);
  });

  it.each(['PONG\nstray\n', 'PONG\nstr'])(
    'with more behind it in one read (%j) reaches no caller',
    async (bytes) => {
      const { connection, peer, clock, owner } = rigOfLines();
      connection.ping();
      peer.write(bytes);
      await clock.flush();
      expect(owner.told).toEqual(['ending: unsolicited', 'closed']);
    },
  );

  it('with part of a frame behind it that the codec keeps to itself reaches no caller', async () => {
    const { connection, peer, clock, owner } = rigOfLines({}, pushParser());
    connection.ping();
    peer.write('PONG\nstr');
    await clock.flush();
    expect(owner.told).toEqual(['ending: unsolicited', 'closed']);
  });

  it('is what isPong says: any other frame ends the connection', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.ping();
    peer.write('PANG\n');
    await clock.flush();
    expect(owner.told).toEqual(['ending: unsolicited', 'closed']);
  });

  it('comes before the next caller may have the connection: its request is matched', async () => {
    const rig = rigOfLines();
    let reply: { outcome: unknown } | undefined;
    rig.owner.onPong = () => {
      rig.connection.serve();
      reply = watched(rig.connection.request('a'));
    };
    rig.connection.ping();
    rig.peer.write('PONG\n');
    await rig.clock.flush();
    rig.peer.write('1\n');
    await rig.clock.flush();
    expect(reply?.outcome).toEqual({ state: 'resolved', value: '1' });
    expect(rig.peer.received).toBe('PING\na\n');
  });
});

describe('a ping', () => {
  it('of a connection that has ended does nothing', async () => {
    const { connection, clock, peer } = rigOfLines();
    connection.destroy('idle');
    connection.ping();
    await clock.flush();
    expect(peer.received).toBe('');
    expect(clock.pendingTimers).toBe(0);
  });

  it('that can’t be encoded ends its connection', async () => {
    const { connection, owner } = rigOfLines({ probe: { ping: 'two\nlines', isPong: () => true } });
    connection.ping();
    expect(owner.told[0]).toBe('ending: protocol');
    expect(await rejection(connection.request('a'))).toMatchObject({ code: 'ERR_FRAME' });
  });
});

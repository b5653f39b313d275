import { describe, expect, it } from 'vitest';
import { LeaseError } from '../../../src/errors.ts';
import { raw } from '../../../src/transport/raw.ts';
import {
  answerServerPings,
  pushParser,
  rejection,
  rigOfLines,
  rigWith,
  watched,
} from '../../support/connection-rig.ts';

describe('replies', () => {
  it('go to their requests in order, with several under way', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    const replies = [connection.request('a'), connection.request('b'), connection.request('c')];
    await clock.flush();
    expect(peer.received).toBe('a\nb\nc\n');
    peer.write('1\n2\n3\n');
    expect(await Promise.all(replies)).toEqual(['1', '2', '3']);
    expect(connection.isClean).toBe(true);
  });

  it('may come in any pieces', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    const replies = [connection.request('a'), connection.request('b')];
    for (const byte of 'first\nsecond\n') {
      peer.write(byte);
      await clock.flush();
    }
    expect(await Promise.all(replies)).toEqual(['first', 'second']);
  });

  it('to several sends are received in order, by callers who ask before or after they come', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    await connection.send('a', { replies: 2 });
    const early = connection.receive();
    peer.write('1\n2\n');
    await clock.flush();
    expect(await early).toBe('1');
    expect(await connection.receive()).toBe('2');
    expect(connection.isClean).toBe(true);
  });
});

describe('a connection is clean', () => {
  it('until something is sent, and again when its reply is complete', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    expect(connection.isClean).toBe(true);
    const reply = connection.request('a');
    expect(connection.isClean).toBe(false);
    peer.write('par');
    await clock.flush();
    expect(connection.isClean).toBe(false);
    peer.write('t\n');
    expect(await reply).toBe('part');
    expect(connection.isClean).toBe(true);
  });

  it('once as many frames were received as a send had announced', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    await connection.send('a', { replies: 2 });
    peer.write('1\n');
    await clock.flush();
    expect(await connection.receive()).toBe('1');
    expect(connection.isClean).toBe(false);
    peer.write('2\n');
    await clock.flush();
    expect(connection.isClean).toBe(false);
    expect(await connection.receive()).toBe('2');
    expect(connection.isClean).toBe(true);
  });

  it('after a send that nothing answers', async () => {
    const { connection, clock } = rigOfLines();
    connection.serve();
    await connection.send('a', { replies: 0 });
    await clock.flush();
    expect(connection.isClean).toBe(true);
  });

  it.each([-1, 1.5, Number.NaN])(
    'never because of a send with %s replies, which is refused',
    async (replies) => {
      const { connection, peer, clock } = rigOfLines();
      connection.serve();
      await connection.send('a');
      expect(await rejection(connection.send('b', { replies }))).toMatchObject({
        code: 'ERR_INVALID_OPTION',
        sent: 'none',
      });
      await clock.flush();
      expect(peer.received).toBe('a\n');
      expect(connection.isClean).toBe(false);
    },
  );

  it('without frames only when its user says so, and has read what came', async () => {
    const { connection, peer, clock } = rigWith(raw());
    connection.serve();
    const first = connection.request('a');
    peer.write('some');
    expect((await first).toString()).toBe('some');
    expect(connection.isClean).toBe(false);
    peer.write('more');
    await clock.flush();
    connection.markClean();
    expect(connection.isClean).toBe(false);
    expect((await connection.receive()).toString()).toBe('more');
    connection.markClean();
    expect(connection.isClean).toBe(true);
  });

  it('after a send without frames only when its user says so', async () => {
    const { connection, peer, clock } = rigWith(raw());
    connection.serve();
    await connection.send('a');
    peer.write('some');
    await clock.flush();
    await connection.receive();
    expect(connection.isClean).toBe(false);
    connection.markClean();
    expect(connection.isClean).toBe(true);
  });

  it('with an unknown number of replies only when its user says so', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    await connection.send('a', { replies: Number.POSITIVE_INFINITY });
    peer.write('1\n');
    await clock.flush();
    await connection.receive();
    expect(connection.isClean).toBe(false);
    connection.markClean();
    expect(connection.isClean).toBe(true);
  });

  it('not while its codec keeps bytes of its own', async () => {
    const { connection, peer, clock } = rigOfLines({}, pushParser());
    connection.serve();
    const reply = connection.request('a');
    peer.write('1\nstr');
    expect(await reply).toBe('1');
    await clock.flush();
    expect(connection.isClean).toBe(false);
  });

  it('not while a message is still on its way out', async () => {
    const { connection, peer, clock } = rigOfLines({}, pushParser());
    connection.serve();
    peer.stream.pause();
    void connection.send('x'.repeat(200_000), { replies: 0 });
    await clock.flush();
    expect(connection.isClean).toBe(false);
    peer.stream.resume();
    await clock.flush();
    expect(connection.isClean).toBe(true);
  });
});

describe('a frame that nobody asked for', () => {
  it('before a request makes the request fail unsent, and ends the connection', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.serve();
    peer.write('stray\n');
    await clock.flush();
    const error = await rejection(connection.request('a'));
    expect(error).toMatchObject({ code: 'ERR_UNSOLICITED', sent: 'none', retryable: true });
    await clock.flush();
    expect(peer.received).toBe('');
    expect(owner.told).toEqual(['ending: unsolicited', 'closed']);
  });

  it('of which a part came before the request ends the connection, too', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.serve();
    peer.write('str');
    await clock.flush();
    expect(await rejection(connection.request('a'))).toMatchObject({ code: 'ERR_UNSOLICITED', sent: 'none' });
    expect(owner.told[0]).toBe('ending: unsolicited');
  });

  it('of which a part is kept inside the codec ends the connection, too', async () => {
    const { connection, peer, clock } = rigOfLines({}, pushParser());
    connection.serve();
    peer.write('str');
    await clock.flush();
    expect(await rejection(connection.request('a'))).toMatchObject({ code: 'ERR_UNSOLICITED', sent: 'none' });
  });

  it('is no reply even where servers may ping, when it began before the request', async () => {
    const { connection, peer, clock, owner } = rigOfLines({ answer: answerServerPings });
    connection.serve();
    peer.write('str');
    await clock.flush();
    const reply = watched(connection.request('a'));
    peer.write('ay\n');
    await clock.flush();
    expect(reply.outcome).toMatchObject({ state: 'rejected', reason: { code: 'ERR_UNSOLICITED' } });
    expect(owner.told[0]).toBe('ending: unsolicited');
  });

  it('behind a reply in the same read leaves the connection dirty', async () => {
    const { connection, peer } = rigOfLines();
    connection.serve();
    const reply = connection.request('a');
    peer.write('1\nstray\n');
    expect(await reply).toBe('1');
    expect(connection.isClean).toBe(false);
    expect(await rejection(connection.request('b'))).toMatchObject({ code: 'ERR_UNSOLICITED' });
  });

  it('is not counted as a reply of a message sent after it began', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    peer.write('pu');
    await clock.flush();
    await connection.send('a');
    peer.write('sh\n');
    await clock.flush();
    expect(await connection.receive()).toBe('push');
    expect(connection.isClean).toBe(false);
    peer.write('reply\n');
    await clock.flush();
    expect(await connection.receive()).toBe('reply');
    expect(connection.isClean).toBe(true);
  });

  it('is no reply to a request of which nothing has left', async () => {
    const { connection, peer, clock } = rigOfLines({}, pushParser());
    connection.serve();
    peer.stream.pause();
    void connection.send('x'.repeat(300_000), { replies: 0 }).catch(() => undefined);
    const reply = watched(connection.request('a'));
    peer.write('too early\n');
    await clock.flush();
    expect(reply.outcome).toMatchObject({ reason: { code: 'ERR_UNSOLICITED', sent: 'none' } });
  });

  it('can be received by a lease that listens', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    const pushed = connection.receive();
    peer.write('news\n');
    expect(await pushed).toBe('news');
    await clock.flush();
    expect(connection.isClean).toBe(true);
  });
});

describe('request()', () => {
  it('refuses to guess while replies of a send have not been received', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    await connection.send('a');
    expect(await rejection(connection.request('b'))).toBeInstanceOf(LeaseError);
    peer.write('1\n');
    await clock.flush();
    expect(await rejection(connection.request('b'))).toBeInstanceOf(LeaseError);
    expect(await connection.receive()).toBe('1');
    const reply = connection.request('b');
    peer.write('2\n');
    expect(await reply).toBe('2');
  });

  it('sends nothing that it could not wait for', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    expect(await rejection(connection.request('a', { timeoutMs: 0 }))).toMatchObject({
      code: 'ERR_DEADLINE',
      sent: 'none',
    });
    await clock.flush();
    expect(peer.received).toBe('');
    expect(connection.isClean).toBe(true);
  });

  it('tells apart a new socket from one that served before, and a silent server from one that began to answer', async () => {
    const fresh = rigOfLines();
    fresh.connection.serve();
    fresh.connection.rest(true);
    fresh.connection.serve();
    const first = fresh.connection.request('a');
    fresh.peer.fin();
    expect(await rejection(first)).toMatchObject({ reused: false, firstByte: false });

    const used = rigOfLines();
    used.connection.serve();
    const served = used.connection.request('a');
    used.peer.write('1\n');
    await served;
    used.connection.rest();
    used.connection.serve();
    const second = used.connection.request('b');
    const third = used.connection.request('c');
    await used.clock.flush();
    used.peer.write('2');
    await used.clock.flush();
    used.peer.reset();
    expect(await rejection(second)).toMatchObject({ reused: true, firstByte: true, sent: 'full' });
    expect(await rejection(third)).toMatchObject({ reused: true, firstByte: true, sent: 'full' });
  });
});

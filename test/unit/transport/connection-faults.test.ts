import { describe, expect, it } from 'vitest';
import { FrameError } from '../../../src/errors.ts';
import type { Codec } from '../../../src/transport/codec.ts';
import { lengthPrefixed } from '../../../src/transport/length-prefixed.ts';
import { lines } from '../../../src/transport/lines.ts';
import { pushParser, rejection, rigOfLines, rigWith } from '../../support/connection-rig.ts';

/** The lines codec with some of it replaced. */
function brokenLines(parts: Partial<Codec<string, string>>): Codec<string, string> {
  return { ...lines(), ...parts };
}

function fail(): never {
  throw new Error('a bug of the user’s');
}

describe('a codec', () => {
  it('that throws in decode ends its connection with its own error as cause', async () => {
    const { connection, peer, owner, clock } = rigOfLines({}, brokenLines({ decode: fail }));
    connection.serve();
    const reply = connection.request('a');
    peer.write('1\n');
    const error = await rejection(reply);
    expect(error).toBeInstanceOf(FrameError);
    expect(error).toMatchObject({ fault: 'codec-threw', sent: 'full', retryable: false });
    await clock.flush();
    expect(owner.told).toEqual(['ending: protocol', 'closed']);
    expect(owner.error?.cause).toMatchObject({ message: 'a bug of the user’s' });
  });

  it('that throws no Error at all does, too', async () => {
    const decode = (): never => {
      throw 'just a string';
    };
    const { connection, peer, owner } = rigOfLines({}, brokenLines({ decode }));
    connection.serve();
    const reply = connection.request('a');
    peer.write('1\n');
    expect(await rejection(reply)).toMatchObject({ code: 'ERR_FRAME' });
    expect(owner.error?.message).toContain('just a string');
  });

  it('that returns a frame without taking bytes is stopped', async () => {
    const { connection, peer } = rigOfLines({}, brokenLines({ decode: () => 'again' }));
    connection.serve();
    const reply = connection.request('a');
    peer.write('1\n');
    expect(await rejection(reply)).toMatchObject({ fault: 'codec-threw' });
  });

  it('that throws in encode leaves the connection as it was', async () => {
    const { connection, peer, clock, owner } = rigOfLines({}, brokenLines({ encode: fail }));
    connection.serve();
    expect(await rejection(connection.request('a'))).toMatchObject({ fault: 'bad-message', sent: 'none' });
    expect(await rejection(connection.send('a'))).toMatchObject({ fault: 'bad-message', sent: 'none' });
    await clock.flush();
    expect(peer.received).toBe('');
    expect(owner.told).toEqual([]);
    expect(connection.isClean).toBe(true);
  });

  it.each([undefined, null, true, 7, ['text'], {}])(
    'whose encode returns %j sends nothing',
    async (encoded) => {
      const encode = (() => encoded) as unknown as Codec<string, string>['encode'];
      const { connection, peer, clock } = rigOfLines({}, brokenLines({ encode }));
      connection.serve();
      expect(await rejection(connection.request('a'))).toMatchObject({ fault: 'bad-message', sent: 'none' });
      expect(await rejection(connection.send('a'))).toMatchObject({ fault: 'bad-message', sent: 'none' });
      await clock.flush();
      expect(peer.received).toBe('');
      expect(connection.isClean).toBe(true);
    },
  );

  it('that ends the connection while it encodes leaves no caller hanging', async () => {
    const codec = brokenLines({
      encode: (message) => {
        rig.connection.destroy('destroyed');
        return Buffer.from(`${message}\n`);
      },
    });
    const rig = rigOfLines({}, codec);
    rig.connection.serve();
    expect(await rejection(rig.connection.request('a'))).toMatchObject({
      code: 'ERR_CONNECTION_LOST',
      sent: 'none',
    });
    expect(rig.hold.count).toBe(0);
    expect(rig.clock.pendingTimers).toBe(0);
  });

  it('that throws in isIdle ends its connection, and never the caller who asked', async () => {
    const { connection, owner } = rigOfLines({}, brokenLines({ isIdle: fail }));
    connection.serve();
    expect(connection.isClean).toBe(false);
    expect(owner.told[0]).toBe('ending: protocol');
  });
});

describe('a heartbeat function that throws', () => {
  it('ends its connection: isPong', async () => {
    const { connection, peer, clock, owner } = rigOfLines({ probe: { ping: 'PING', isPong: fail } });
    connection.ping();
    peer.write('PONG\n');
    await clock.flush();
    expect(owner.told).toEqual(['ending: protocol', 'closed']);
  });

  it('ends its connection: answer', async () => {
    const { peer, clock, owner } = rigOfLines({ answer: fail });
    peer.write('SRV 1\n');
    await clock.flush();
    expect(owner.told).toEqual(['ending: protocol', 'closed']);
  });

  it('ends its connection: an answer that can’t be encoded', async () => {
    const { peer, clock, owner } = rigOfLines({ answer: () => 'two\nlines' });
    peer.write('SRV 1\n');
    await clock.flush();
    expect(owner.told).toEqual(['ending: protocol', 'closed']);
  });
});

describe('a frame over the limit', () => {
  it('ends the connection when its length is promised, not when it has come', async () => {
    const { connection, peer, owner } = rigWith(lengthPrefixed({ maxFrameBytes: 1_000 }));
    connection.serve();
    const reply = connection.request('a');
    peer.write(Buffer.from([0x7f, 0xff, 0xff, 0xff, 0x00]));
    expect(await rejection(reply)).toMatchObject({ code: 'ERR_FRAME', fault: 'too-large', sent: 'full' });
    expect(owner.told[0]).toBe('ending: protocol');
  });

  it('ends the connection of a codec that knows no limit itself', async () => {
    const greedy: Codec<string, string> = {
      maxFrameBytes: 100_000,
      encode: (message) => Buffer.from(message),
      decode: () => undefined,
    };
    const { connection, peer, clock, owner } = rigWith(greedy);
    connection.serve();
    const reply = rejection(connection.request('a'));
    const chunk = Buffer.alloc(10_000);
    let sent = 0;
    while (connection.isOpen && sent < 1_000_000) {
      peer.write(chunk);
      sent += chunk.length;
      await clock.flush();
    }
    expect(await reply).toMatchObject({ fault: 'too-large', limitBytes: 100_000 });
    expect(sent).toBeLessThanOrEqual(100_000 + 64 * 1024 + chunk.length);
    expect(owner.told[0]).toBe('ending: protocol');
  });

  it('is 8 MiB where a codec names none', async () => {
    const greedy: Codec<string, string> = {
      encode: (message) => Buffer.from(message),
      decode: () => undefined,
    };
    const { connection, peer, clock } = rigWith(greedy);
    connection.serve();
    const reply = rejection(connection.request('a'));
    for (let i = 0; i < 9 && connection.isOpen; i++) {
      peer.write(Buffer.alloc(1024 * 1024));
      await clock.flush();
    }
    expect(await reply).toMatchObject({ fault: 'too-large', limitBytes: 8 * 1024 * 1024 });
  });
});

describe('the end of the stream', () => {
  it('in the middle of a frame says so, and what the bytes look like', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    const reply = rejection(connection.request('a'));
    await clock.flush();
    peer.write(Buffer.from('150301000202', 'hex'));
    await clock.flush();
    peer.fin();
    const error = await reply;
    expect(error).toMatchObject({
      code: 'ERR_CONNECTION_LOST',
      sent: 'full',
      retryable: true,
      firstByte: true,
    });
    expect(error).toMatchObject({ message: expect.stringContaining('in the middle of a frame') });
    expect(error).toMatchObject({ hint: expect.stringContaining('TLS') });
    expect(error).toMatchObject({ cause: { cause: { fault: 'truncated', head: '150301000202' } } });
  });

  it('in the middle of a frame says so when the codec keeps the bytes', async () => {
    const { connection, peer, clock } = rigOfLines({}, pushParser());
    connection.serve();
    const reply = rejection(connection.request('a'));
    peer.write('par');
    await clock.flush();
    peer.fin();
    expect(await reply).toMatchObject({ cause: { cause: { fault: 'truncated' } } });
  });

  it('between frames is told as a loss, with no word of frames', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    const first = connection.request('a');
    peer.write('1\n');
    await first;
    const second = rejection(connection.request('b'));
    await clock.flush();
    peer.fin();
    expect(await second).toMatchObject({
      code: 'ERR_CONNECTION_LOST',
      message: 'Lost the connection to fake:1: the server closed it.',
    });
  });

  it.each(['fin', 'reset'] as const)(
    'of a new connection, by %s and without a word, means a full server',
    async (how) => {
      const { connection, peer, owner } = rigOfLines();
      connection.serve();
      const reply = rejection(connection.request('a'));
      peer[how]();
      expect(await reply).toMatchObject({ code: 'ERR_SERVER_FULL', retryable: true });
      expect(connection.diedYoung).toBe(true);
      expect(owner.told[0]).toBe(how === 'fin' ? 'ending: peer-closed' : 'ending: peer-reset');
    },
  );

  it('by a TLS alert about our certificate is no loss to retry, even late', async () => {
    const { connection, socket, clock } = rigOfLines();
    await clock.advance(5_000);
    connection.serve();
    const reply = rejection(connection.request('a'));
    const code = 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED';
    socket.destroy(Object.assign(new Error('alert certificate required'), { code }));
    expect(await reply).toMatchObject({ code: 'ERR_TLS_TRUST', retryable: false });
  });

  it('by a TLS record that went bad on the way is an ordinary loss', async () => {
    const { connection, socket, clock } = rigOfLines();
    await clock.advance(5_000);
    connection.serve();
    const reply = rejection(connection.request('a'));
    const code = 'ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC';
    socket.destroy(Object.assign(new Error('bad record mac'), { code }));
    expect(await reply).toMatchObject({ code: 'ERR_CONNECTION_LOST', retryable: true });
  });
});

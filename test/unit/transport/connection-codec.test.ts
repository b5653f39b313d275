import vm from 'node:vm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FrameError } from '../../../src/errors.ts';
import type { Codec } from '../../../src/transport/codec.ts';
import { fixedLength } from '../../../src/transport/fixed-length.ts';
import { lengthPrefixed } from '../../../src/transport/length-prefixed.ts';
import { lines } from '../../../src/transport/lines.ts';
import { raw } from '../../../src/transport/raw.ts';
import { rejection, rigOfLines, rigWith, watched } from '../../support/connection-rig.ts';
import { settle } from '../../support/virtual-clock.ts';

const unhandled: unknown[] = [];
const note = (reason: unknown): void => {
  unhandled.push(reason);
};
beforeEach(() => {
  unhandled.length = 0;
  process.on('unhandledRejection', note);
});
afterEach(async () => {
  await settle();
  process.off('unhandledRejection', note);
  expect(unhandled, 'unhandled rejections').toEqual([]);
});

/** What JavaScript lets a user pass: functions that return promises where none is allowed. */
const ASYNC: readonly (readonly [string, () => Promise<never>])[] = [
  ['resolves', () => Promise.resolve('frame' as never)],
  ['rejects', () => Promise.reject(new Error('a bug of the user’s'))],
];

describe.each(ASYNC)('a function that is async and %s', (_how, promised) => {
  it('as decode ends its own connection with a FrameError', async () => {
    const decode = promised as unknown as Codec<string, string>['decode'];
    const { connection, peer, clock, owner } = rigOfLines({}, { ...lines(), decode });
    connection.serve();
    const reply = rejection(connection.request('a'));
    await clock.flush();
    peer.write('1\n');
    await clock.flush();
    const error = await reply;
    expect(error).toBeInstanceOf(FrameError);
    expect(error).toMatchObject({ fault: 'codec-threw', sent: 'full', retryable: false });
    expect(error).toMatchObject({ message: expect.stringContaining('promise') });
    expect(owner.told).toEqual(['ending: protocol', 'closed']);
  });

  it('as isPong ends its own connection with a FrameError, instead of taking every frame for a pong', async () => {
    const isPong = promised as unknown as () => boolean;
    const { connection, peer, clock, owner } = rigOfLines({ probe: { ping: 'PING', isPong } });
    connection.ping();
    peer.write('PONG\n');
    await clock.flush();
    expect(owner.pongs).toBe(0);
    expect(owner.told).toEqual(['ending: protocol', 'closed']);
    expect(owner.error).toBeInstanceOf(FrameError);
    expect(owner.error?.message).toContain('isPong');
  });

  it('as encode sends nothing, and leaves the connection as it was', async () => {
    const encode = promised as unknown as Codec<string, string>['encode'];
    const { connection, peer, clock, owner } = rigOfLines({}, { ...lines(), encode });
    connection.serve();
    for (const call of [connection.request('a'), connection.send('a')]) {
      expect(await rejection(call)).toMatchObject({ code: 'ERR_FRAME', fault: 'bad-message', sent: 'none' });
    }
    await clock.flush();
    expect(peer.received).toBe('');
    expect(owner.told).toEqual([]);
    expect(connection.isClean).toBe(true);
  });

  it('as answer ends its own connection with a FrameError', async () => {
    const answer = promised as unknown as () => string | undefined;
    const { peer, clock, owner } = rigOfLines({ answer });
    peer.write('SRV 1\n');
    await clock.flush();
    expect(owner.told).toEqual(['ending: protocol', 'closed']);
    expect(owner.error).toBeInstanceOf(FrameError);
  });
});

describe('isPong', () => {
  it.each([
    ['a match', (frame: string) => frame.match(/PONG/)],
    ['a word', (frame: string) => frame],
    ['a number', () => 1],
  ])('may say yes by %s', async (_what, verdict) => {
    const isPong = verdict as unknown as (frame: string) => boolean;
    const { connection, peer, clock, owner } = rigOfLines({ probe: { ping: 'PING', isPong } });
    connection.ping();
    peer.write('PONG\n');
    await clock.flush();
    expect(owner.told).toEqual(['pong']);
  });

  it.each([null, undefined, 0, ''])('says no by %j', async (verdict) => {
    const isPong = (() => verdict) as unknown as () => boolean;
    const { connection, peer, clock, owner } = rigOfLines({ probe: { ping: 'PING', isPong } });
    connection.ping();
    peer.write('PONG\n');
    await clock.flush();
    expect(owner.told[0]).toBe('ending: unsolicited');
  });
});

describe('bytes of another realm', () => {
  // What a worker of a test runner or a sandbox hands over: a Uint8Array, but not an instance of ours.
  const foreign: Uint8Array = vm.runInNewContext('new Uint8Array([104, 105, 10])');

  it('are not an instance of our Uint8Array', () => {
    expect(foreign instanceof Uint8Array).toBe(false);
  });

  it.each([
    ['raw', raw(), 'hi\n'],
    ['lengthPrefixed', lengthPrefixed(), '\0\0\0\x03hi\n'],
    ['fixedLength', fixedLength(3), 'hi\n'],
  ])('can be sent with %s', async (_name, codec, wire) => {
    const { connection, peer, clock } = rigWith(codec);
    connection.serve();
    await connection.send(foreign);
    await clock.flush();
    expect(peer.received).toBe(wire);
  });

  it.each([
    ['alone', () => foreign],
    ['among several pieces', () => [foreign, Buffer.from('more')]],
  ])('may be what encode returns, %s', async (_how, encode) => {
    const { connection, peer, clock } = rigOfLines({}, { ...lines(), encode });
    connection.serve();
    const reply = connection.request('a');
    await clock.flush();
    expect(peer.received.startsWith('hi\n')).toBe(true);
    peer.write('1\n');
    expect(await reply).toBe('1');
  });
});

describe('an encode that returns no piece at all', () => {
  it('is refused, and nothing is sent', async () => {
    const { connection, peer, clock, owner } = rigOfLines({}, { ...lines(), encode: () => [] });
    connection.serve();
    const calls = [watched(connection.request('a')), watched(connection.send('a'))];
    await clock.flush();
    for (const { outcome } of calls) {
      expect(outcome).toMatchObject({ state: 'rejected', reason: { fault: 'bad-message', sent: 'none' } });
    }
    expect(peer.received).toBe('');
    expect(owner.told).toEqual([]);
    expect(connection.isClean).toBe(true);
  });
});

describe('a message over the maxFrameBytes of a user’s codec', () => {
  const codec: Codec<string, string> = {
    ...lines(),
    name: 'mine',
    maxFrameBytes: 10,
    encode: (message) => [Buffer.from(message), Buffer.from('\n')],
  };

  it('is refused, and nothing is sent', async () => {
    const { connection, peer, clock } = rigOfLines({}, codec);
    connection.serve();
    const asked = watched(connection.request('x'.repeat(10)));
    await clock.flush();
    const details = { code: 'ERR_FRAME', fault: 'too-large', sent: 'none', limitBytes: 10 };
    expect(asked.outcome).toMatchObject({ state: 'rejected', reason: details });
    expect(asked.outcome).toMatchObject({ reason: { message: expect.stringContaining('mine') } });
    expect(peer.received).toBe('');
    expect(connection.isClean).toBe(true);
  });

  it('begins one byte above it', async () => {
    const { connection, peer, clock } = rigOfLines({}, codec);
    connection.serve();
    await connection.send('x'.repeat(9));
    await clock.flush();
    expect(peer.received).toBe(`${'x'.repeat(9)}\n`);
  });

  it('is none where there are no frames', async () => {
    const { connection, peer, clock } = rigWith({ ...raw(), maxFrameBytes: 10 });
    connection.serve();
    await connection.send('x'.repeat(1_000));
    await clock.flush();
    expect(peer.received.length).toBe(1_000);
  });
});

import { type Duplex, Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, expect, it } from 'vitest';
import { assemble } from '../../../src/create-pool.ts';
import type { Lease } from '../../../src/pool/lease.ts';
import type { Codec } from '../../../src/transport/codec.ts';
import { raw } from '../../../src/transport/raw.ts';
import { FakeNet, type FakePeer } from '../../support/fake-net.ts';
import { type Options, setUp as setUpPool, take, type World, watch } from '../../support/pool-world.ts';

/** A lease of lines, its stream, and the server's end. */
async function setUp(options: Options = {}, net: FakeNet = new FakeNet()) {
  const world = setUpPool({ max: 1, ...options }, net);
  const [lease] = await take(world, 1);
  if (lease === undefined) throw new Error('no lease');
  return { world, lease, duplex: lease.duplex(), peer: world.net.lastPeer };
}

/** The same with bytes, and no audit. The pool is closed by `end`. */
async function setUpRaw(onPeer: (peer: FakePeer) => void = () => undefined) {
  const net = new FakeNet();
  net.onPeer = onPeer;
  const { pool } = assemble(net.surroundings, { host: 'fake', port: 1, codec: raw(), max: 1 });
  const asked = pool.acquire();
  await net.clock.advance(0);
  const lease = await asked;
  const end = async (): Promise<void> => {
    const closing = pool.close({ timeoutMs: 0 });
    await net.clock.advance(1_000);
    await closing;
    expect(net.openSockets).toBe(0);
  };
  return { net, pool, lease, duplex: lease.duplex(), peer: net.lastPeer, end };
}

/** Writes down what a stream says. */
function heard(duplex: Duplex) {
  const seen = { frames: [] as unknown[], error: undefined as unknown, isEnded: false, isClosed: false };
  duplex
    .on('data', (frame) => seen.frames.push(frame))
    .on('error', (error) => {
      seen.error = error;
    })
    .on('end', () => {
      seen.isEnded = true;
    })
    .on('close', () => {
      seen.isClosed = true;
    });
  return seen;
}

/** A sink that takes one after the other when the test says so. */
function slowSink(objectMode: boolean) {
  const waiting: (() => void)[] = [];
  const taken: unknown[] = [];
  const sink = new Writable({
    objectMode,
    highWaterMark: 1,
    write: (chunk, _encoding, callback) => {
      taken.push(chunk);
      waiting.push(callback);
    },
  });
  return { sink, taken, next: () => waiting.shift()?.(), waiting };
}

async function settle(world: World): Promise<void> {
  for (let round = 0; round < 5; round++) await world.now();
}

describe('a stream over a lease', () => {
  it('writes messages and reads frames, and the released lease serves on', async () => {
    const { duplex, lease, world } = await setUp();
    const seen = heard(duplex);
    duplex.write('one');
    duplex.write('two');
    await settle(world);
    expect(seen.frames).toEqual(['Echo: one', 'Echo: two']);
    lease.release();
    await settle(world);
    expect(seen).toMatchObject({ isClosed: true, isEnded: false, error: undefined });
    expect(duplex.destroyed).toBe(true);
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0, closed: 0 });
    const next = watch(world.pool.request('next'));
    await world.now();
    expect(next.value).toBe('Echo: next');
  });

  it('is the same one as long as it lives', async () => {
    const { duplex, lease } = await setUp();
    expect(lease.duplex()).toBe(duplex);
    duplex.destroy();
    expect(lease.duplex()).not.toBe(duplex);
    lease.release();
    expect(() => lease.duplex()).toThrow(expect.objectContaining({ code: 'ERR_LEASE' }));
  });

  it('that is destroyed between exchanges leaves the lease as it was', async () => {
    const { duplex, lease, world } = await setUp();
    const seen = heard(duplex);
    duplex.write('one');
    await settle(world);
    duplex.destroy();
    await settle(world);
    expect(seen).toMatchObject({ frames: ['Echo: one'], error: undefined, isClosed: true });
    expect(lease.isUsable).toBe(true);
    const asked = watch(lease.request('two'));
    await world.now();
    expect(asked.value).toBe('Echo: two');
    lease.release();
    expect(world.pool.stats()).toMatchObject({ idle: 1, closed: 0 });
  });

  it('that is destroyed in the middle of an exchange, or with an error, ends the socket', async () => {
    const net = new FakeNet();
    const { duplex, lease, peer, world } = await setUp({}, net);
    peer.isMute = true;
    heard(duplex);
    duplex.write('one');
    await settle(world);
    duplex.destroy();
    await settle(world);
    expect(lease.isUsable).toBe(false);
    expect(peer.isClientGone).toBe(true);
    lease.release();
    const [second] = await take(world, 1);
    const other = second?.duplex();
    if (other === undefined) throw new Error('no stream');
    const seen = heard(other);
    other.destroy(new Error('mine'));
    await settle(world);
    expect(seen.error).toMatchObject({ message: 'mine' });
    expect(second?.isUsable).toBe(false);
    expect(world.pool.stats()).toMatchObject({ closed: 2, leased: 0 });
  });

  it('that is destroyed when nobody has read the answer ends the socket', async () => {
    const { duplex, lease, peer, world } = await setUp();
    peer.isMute = true;
    duplex.write('one');
    await settle(world);
    expect(peer.received).toBe('one\n');
    duplex.destroy();
    await settle(world);
    expect(lease.isUsable).toBe(false);
    expect(peer.isClientGone).toBe(true);
  });

  it('that holds frames which nobody has read, or messages that have not left, is no clean end', async () => {
    const { duplex, lease, peer, world } = await setUp();
    // One is read ahead.
    duplex.on('readable', () => undefined);
    await settle(world);
    peer.write('stray\n');
    await settle(world);
    expect(duplex.readableLength).toBe(1);
    lease.release();
    await settle(world);
    expect(world.pool.stats()).toMatchObject({ closed: 1, idle: 0 });
    const [second] = await take(world, 1);
    const other = second?.duplex();
    other?.cork();
    other?.write('one');
    second?.release();
    await settle(world);
    expect(world.pool.stats()).toMatchObject({ closed: 2, idle: 0 });
    expect(world.net.lastPeer.received).toBe('');
  });

  it('that leaves a loop early ends the socket, unless the exchange was complete', async () => {
    const { duplex, lease, world } = await setUp();
    duplex.write('one');
    const read = watch(
      (async () => {
        for await (const frame of duplex) return frame as string;
        return undefined;
      })(),
    );
    await settle(world);
    expect(read.value).toBe('Echo: one');
    expect(lease.isUsable).toBe(true);
    lease.duplex().write('two');
    lease.duplex().write('three');
    for await (const _ of lease.duplex()) break;
    expect(lease.isUsable).toBe(false);
    lease.release();
    expect(world.pool.stats()).toMatchObject({ idle: 0, closedBy: { destroyed: 1 } });
  });

  it('works with pipeline, in both directions', async () => {
    const { duplex, lease, world } = await setUp();
    const messages = Array.from({ length: 500 }, (_, index) => `message ${index}`);
    const frames: string[] = [];
    const sent = watch(pipeline(Readable.from(messages), duplex));
    const received = watch(
      pipeline(
        duplex,
        new Writable({
          objectMode: true,
          write: (frame: string, _encoding, callback) => {
            frames.push(frame);
            callback();
          },
        }),
      ),
    );
    await settle(world);
    expect(sent).toMatchObject({ isSettled: true, error: undefined });
    expect(frames).toEqual(messages.map((message) => `Echo: ${message}`));
    expect(received.isSettled).toBe(false);
    expect(lease.isUsable).toBe(true);
    lease.release();
    await settle(world);
    expect(received.error).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
    expect(world.pool.stats()).toMatchObject({ idle: 1, closed: 0 });
  });

  it('reads no faster than its reader', async () => {
    const { duplex, peer, world } = await setUp();
    const { next, sink, taken, waiting } = slowSink(true);
    const done = watch(pipeline(duplex, sink));
    await settle(world);
    let written = 0;
    while (written < 10_000_000) {
      const isRoom = peer.stream.write(`${'x'.repeat(60)}\n`.repeat(100));
      written += 6_100;
      if (isRoom) continue;
      await settle(world);
      if (peer.stream.writableNeedDrain) break;
    }
    expect(written).toBeLessThan(2_500_000);
    expect(taken.length).toBe(1);
    while (waiting.length > 0) {
      next();
      await world.clock.flush();
      if (taken.length > 5_000) break;
    }
    await settle(world);
    expect(peer.stream.writableNeedDrain).toBe(false);
    duplex.destroy();
    await settle(world);
    expect(done.isSettled).toBe(true);
  });

  it('writes no faster than the server takes it', async () => {
    const { duplex, peer, world } = await setUp();
    peer.stream.pause();
    let made = 0;
    const source = new Readable({
      objectMode: true,
      read() {
        made += 1;
        this.push('x'.repeat(50));
      },
    });
    const done = watch(pipeline(source, duplex));
    await settle(world);
    const before = made;
    expect(before).toBeLessThan(5_000);
    await settle(world);
    expect(made).toBe(before);
    duplex.destroy();
    await settle(world);
    expect(done.isSettled).toBe(true);
  });

  it('ends by an error of the house when the server closes, and tells what cannot be sent', async () => {
    const { duplex, peer, world } = await setUp();
    const seen = heard(duplex);
    duplex.write('one');
    await world.pass(2_000);
    peer.fin();
    await settle(world);
    expect(seen).toMatchObject({
      frames: ['Echo: one'],
      error: { code: 'ERR_CONNECTION_LOST' },
      isEnded: false,
      isClosed: true,
    });
    const [second] = await take(world, 1);
    const other = second?.duplex();
    if (other === undefined) throw new Error('no stream');
    const told = heard(other);
    other.write('two\nlines');
    await settle(world);
    expect(told.error).toMatchObject({ code: 'ERR_FRAME' });
    expect(second?.isUsable).toBe(false);
  });

  it('ends by the error of its lease when that is destroyed under it', async () => {
    const { duplex, lease, world } = await setUp();
    const seen = heard(duplex);
    await settle(world);
    lease.destroy();
    await settle(world);
    expect(seen.error).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
    expect(seen.isClosed).toBe(true);
  });

  it('may be silent while more may be written, and not when all was', async () => {
    const { duplex, peer, world } = await setUp({ readTimeoutMs: 1_000 });
    peer.isMute = true;
    const seen = heard(duplex);
    duplex.write('one');
    await world.pass(60_000);
    expect(seen.error).toBeUndefined();
    duplex.end();
    await world.pass(990);
    expect(seen.error).toBeUndefined();
    await world.pass(20);
    expect(seen.error).toMatchObject({ code: 'ERR_READ_TIMEOUT' });
  });

  it('leaves the lease’s own calls as they are: silence is a fault again', async () => {
    const { duplex, lease, peer, world } = await setUp({ readTimeoutMs: 1_000 });
    peer.isMute = true;
    duplex.destroy();
    const asked = watch(lease.request('one'));
    await world.pass(1_010);
    expect(asked.error).toMatchObject({ code: 'ERR_READ_TIMEOUT' });
  });

  it('has no place for a frame of null, and says so', async () => {
    const net = new FakeNet();
    const codec: Codec<string, string | null> = {
      encode: (message) => Buffer.from(`${message}\n`),
      decode(bytes) {
        const end = bytes.indexOf(Buffer.from('\n'));
        if (end < 0) return undefined;
        bytes.skip(end + 1);
        return null;
      },
    };
    const { pool } = assemble(net.surroundings, { host: 'fake', port: 1, codec });
    const asked = pool.acquire();
    await net.clock.advance(0);
    const lease: Lease<string, string | null> = await asked;
    const seen = heard(lease.duplex());
    net.lastPeer.write('nil\n');
    await net.clock.flush();
    expect(seen.error).toMatchObject({ code: 'ERR_LEASE', message: expect.stringContaining('null') });
    expect(seen.isEnded).toBe(false);
    const closing = pool.close({ timeoutMs: 0 });
    await net.clock.advance(1_000);
    await closing;
  });
});

describe('a stream of bytes', () => {
  it('takes text and bytes, and reads what comes as it comes', async () => {
    const { duplex, end, net, peer } = await setUpRaw();
    const seen = heard(duplex);
    duplex.write('text ');
    duplex.write(Buffer.from('bytes'));
    await net.clock.flush();
    expect(peer.received).toBe('text bytes');
    peer.write('answer');
    await net.clock.flush();
    expect(Buffer.concat(seen.frames as Buffer[]).toString()).toBe('answer');
    duplex.destroy();
    await end();
  });

  it('goes back with its lease after markClean(), and not without', async () => {
    const { duplex, end, lease, net, peer, pool } = await setUpRaw();
    heard(duplex);
    duplex.write('ask');
    await net.clock.flush();
    peer.write('answer');
    await net.clock.flush();
    lease.markClean();
    lease.release();
    await net.clock.flush();
    expect(duplex.destroyed).toBe(true);
    expect(pool.stats()).toMatchObject({ idle: 1, closed: 0 });
    const again = await pool.acquire();
    const other = heard(again.duplex());
    again.duplex().write('ask');
    await net.clock.flush();
    peer.write('answer');
    await net.clock.flush();
    again.release();
    await net.clock.flush();
    expect(other.isClosed).toBe(true);
    expect(pool.stats()).toMatchObject({ idle: 0, closed: 1 });
    await end();
  });

  it('ends with the server’s FIN, and by an error when it is reset', async () => {
    for (const how of ['fin', 'reset'] as const) {
      const { duplex, end, net, peer } = await setUpRaw();
      const seen = heard(duplex);
      duplex.end('ask');
      await net.clock.flush();
      peer.write('answer');
      await net.clock.flush();
      await net.clock.advance(2_000);
      peer[how]();
      await net.clock.flush();
      expect(String(seen.frames[0])).toBe('answer');
      expect(seen).toMatchObject({ isEnded: how === 'fin', isClosed: true });
      if (how === 'fin') expect(seen.error).toBeUndefined();
      else expect(seen.error).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
      await end();
    }
  });

  it('that ends tells who goes on writing', async () => {
    const { duplex, end, net, peer } = await setUpRaw();
    const seen = heard(duplex);
    peer.write('hello');
    await net.clock.flush();
    peer.fin();
    await net.clock.flush();
    expect(seen).toMatchObject({ isEnded: true, error: undefined, isClosed: false });
    duplex.write('more');
    await net.clock.flush();
    expect(seen.error).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
    await end();
  });

  it('works with pipeline from a source through the server to a sink', async () => {
    const { duplex, end, net } = await setUpRaw((peer) => {
      peer.stream.on('data', (chunk: Buffer) => {
        peer.write(chunk);
        if (String(chunk).endsWith('.')) peer.fin();
      });
    });
    const got: Buffer[] = [];
    const done = watch(
      pipeline(
        Readable.from([Buffer.from('a'), Buffer.from('b'), Buffer.from('c.')]),
        duplex,
        async (frames: AsyncIterable<Buffer>) => {
          for await (const chunk of frames) got.push(chunk);
        },
      ),
    );
    await net.clock.flush();
    await net.clock.flush();
    expect(done).toMatchObject({ isSettled: true, error: undefined });
    expect(Buffer.concat(got).toString()).toBe('abc.');
    await end();
  });

  it('is left by detach() with no listener and no byte lost', async () => {
    const { duplex, end, lease, net, peer, pool } = await setUpRaw();
    const seen = heard(duplex);
    duplex.write('ask');
    await net.clock.flush();
    peer.write('answer');
    await net.clock.flush();
    expect(String(seen.frames[0])).toBe('answer');
    const socket = lease.detach();
    await net.clock.flush();
    expect(seen).toMatchObject({ isClosed: true, error: undefined });
    for (const event of ['data', 'drain', 'error', 'close', 'readable', 'finish']) {
      expect([event, socket.listenerCount(event)]).toEqual([event, 0]);
    }
    socket.on('error', () => undefined);
    const later: string[] = [];
    socket.on('data', (chunk: Buffer) => later.push(String(chunk)));
    socket.resume();
    socket.write('mine');
    peer.write('yours');
    await net.clock.flush();
    expect([peer.received, later.join('')]).toEqual(['askmine', 'yours']);
    expect(pool.stats().closedBy).toEqual({ detached: 1 });
    socket.destroy();
    await net.clock.flush();
    await end();
  });

  it('refuses detach() while it holds bytes, and goes on', async () => {
    const { duplex, end, lease, net, peer } = await setUpRaw();
    duplex.on('readable', () => undefined);
    await net.clock.flush();
    peer.write('answer');
    await net.clock.flush();
    expect(() => lease.detach()).toThrow(expect.objectContaining({ code: 'ERR_LEASE' }));
    expect(lease.isUsable).toBe(true);
    expect(String(duplex.read())).toBe('answer');
    await net.clock.flush();
    const socket = lease.detach();
    socket.destroy();
    await net.clock.flush();
    await end();
  });

  it('does not lose what is on its way when it is left', async () => {
    const { duplex, end, lease, net, peer } = await setUpRaw();
    const reader = duplex.on('readable', () => undefined);
    await net.clock.flush();
    // Synchronously, as when a socket's own event runs the code that detaches.
    peer.stream.write('answer');
    expect(reader.readableLength).toBe(0);
    expect(() => lease.detach()).toThrow(expect.objectContaining({ code: 'ERR_LEASE' }));
    await net.clock.flush();
    expect(String(duplex.read())).toBe('answer');
    duplex.destroy();
    await end();
  });
});

import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { lines } from '../../../src/transport/lines.ts';
import {
  ManualSocket,
  pushParser,
  rejection,
  rigOfLines,
  rigWith,
  watched,
} from '../../support/connection-rig.ts';
import type { FakePeer } from '../../support/fake-net.ts';
import type { VirtualClock } from '../../support/virtual-clock.ts';

/** From now on, bytes are in the kernel whenever somebody waits one turn for a verdict. */
function arrivesDuringTurn(clock: VirtualClock, peer: FakePeer, bytes: string): void {
  const turn = clock.turn.bind(clock);
  let isFirst = true;
  clock.turn = (fn) => {
    if (isFirst) peer.write(bytes);
    isFirst = false;
    turn(fn);
  };
}

describe('readTimeoutMs', () => {
  it('ends a connection that is silent for so long while a reply is due', async () => {
    const { connection, clock, owner } = rigOfLines();
    connection.serve();
    const reply = watched(connection.request('a'));
    await clock.advance(59_999);
    expect(reply.outcome.state).toBe('pending');
    await clock.advance(1);
    expect(reply.outcome).toMatchObject({
      reason: { code: 'ERR_READ_TIMEOUT', sent: 'full', firstByte: false, retryable: true },
    });
    expect(owner.told).toEqual(['ending: timeout', 'closed']);
  });

  it('counts from the last byte, whole frame or not', async () => {
    const { connection, peer, clock } = rigOfLines({ frameTimeoutMs: Number.POSITIVE_INFINITY });
    connection.serve();
    const reply = watched(connection.request('a'));
    for (let i = 0; i < 5; i++) {
      await clock.advance(59_000);
      peer.write('x');
    }
    await clock.advance(59_999);
    expect(reply.outcome.state).toBe('pending');
    await clock.advance(1);
    expect(reply.outcome).toMatchObject({ reason: { code: 'ERR_READ_TIMEOUT', firstByte: true } });
  });

  it('is not put off by what we write', async () => {
    const { connection, clock } = rigOfLines();
    connection.serve();
    const first = watched(connection.request('a'));
    for (let i = 0; i < 7; i++) {
      await clock.advance(10_000);
      if (connection.isOpen) watched(connection.request('more'));
    }
    expect(first.outcome).toMatchObject({ reason: { code: 'ERR_READ_TIMEOUT' } });
  });

  it('does not count while the question is still leaving', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(lines({ maxFrameBytes: 1_000_000 }), {}, socket);
    connection.serve();
    const reply = watched(connection.request('x'.repeat(300_000)));
    for (let isLeaving = true; isLeaving; ) {
      await clock.advance(20_000);
      isLeaving = socket.takeOne();
      expect(reply.outcome.state).toBe('pending');
    }
    expect(socket.writtenBytes).toBe(300_001);
    await clock.advance(30_000);
    expect(reply.outcome.state).toBe('pending');
    await clock.advance(60_000);
    expect(reply.outcome).toMatchObject({ reason: { code: 'ERR_READ_TIMEOUT', sent: 'full' } });
  });

  it('gives a reply that is already in the kernel its turn before the verdict', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    const reply = watched(connection.request('a'));
    await clock.flush();
    arrivesDuringTurn(clock, peer, '1\n');
    await clock.advance(60_000);
    expect(reply.outcome).toEqual({ state: 'resolved', value: '1' });
    expect(connection.isClean).toBe(true);
  });

  it('does not end a connection on which nothing is due', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    const reply = connection.request('a');
    peer.write('1\n');
    await reply;
    await clock.advance(600_000);
    expect(connection.isClean).toBe(true);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('frameTimeoutMs', () => {
  it('ends a connection whose frame stays incomplete, though bytes keep coming', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    const reply = watched(connection.request('a'));
    peer.write('x');
    for (let i = 0; i < 19; i++) {
      await clock.advance(1_000);
      peer.write('x');
    }
    await clock.advance(999);
    expect(reply.outcome.state).toBe('pending');
    await clock.advance(1);
    expect(reply.outcome).toMatchObject({ reason: { code: 'ERR_FRAME_TIMEOUT', firstByte: true } });
  });

  it('counts for each frame: a stream whose every read ends within a frame goes on', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    peer.write('fra');
    for (let i = 0; i < 60; i++) {
      await clock.advance(1_000);
      const frame = connection.receive();
      peer.write('me\nfra');
      expect(await frame).toBe('frame');
    }
    expect(connection.isOpen).toBe(true);
  });

  it('does not count while our own caller keeps the socket paused', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    peer.write('fra');
    await clock.flush();
    peer.write(`me\n${'more\n'.repeat(1_500)}rest`);
    await clock.advance(60_000);
    expect(connection.isOpen).toBe(true);
    expect(await connection.receive()).toBe('frame');
  });

  it('counts for a codec that keeps the bytes itself', async () => {
    const { connection, peer, clock, owner } = rigOfLines({}, pushParser());
    connection.serve();
    void connection.request('a').catch(() => undefined);
    peer.write('par');
    await clock.advance(20_000);
    expect(owner.error).toMatchObject({ code: 'ERR_FRAME_TIMEOUT' });
  });
});

describe('writeTimeoutMs', () => {
  it('ends a connection whose peer takes no bytes', async () => {
    const socket = new ManualSocket();
    const { connection, clock, owner } = rigWith(lines({ maxFrameBytes: 1_000_000 }), {}, socket);
    connection.serve();
    const sending = watched(connection.send('x'.repeat(300_000)));
    await clock.advance(29_999);
    expect(sending.outcome.state).toBe('pending');
    await clock.advance(1);
    expect(sending.outcome).toMatchObject({ reason: { code: 'ERR_WRITE_TIMEOUT', sent: 'maybe' } });
    expect(owner.told).toEqual(['ending: timeout', 'closed']);
  });

  it('counts from the last progress, and notices a stall a quarter late at most', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(lines({ maxFrameBytes: 10_000_000 }), {}, socket);
    connection.serve();
    const sending = watched(connection.send('x'.repeat(3_000_000)));
    for (let i = 0; i < 10; i++) {
      await clock.advance(25_000);
      socket.takeOne();
    }
    await clock.advance(29_999);
    expect(sending.outcome.state).toBe('pending');
    await clock.advance(7_501);
    expect(sending.outcome).toMatchObject({ reason: { code: 'ERR_WRITE_TIMEOUT' } });
  });

  it('holds for a small message, too: whoever waits for its reply is told that it never left', async () => {
    const socket = new ManualSocket();
    const { connection, clock } = rigWith(lines(), {}, socket);
    connection.serve();
    const reply = watched(connection.request('a'));
    await clock.advance(30_000);
    expect(reply.outcome).toMatchObject({ reason: { code: 'ERR_WRITE_TIMEOUT', sent: 'maybe' } });
  });
});

describe('timeoutMs of a call', () => {
  it('ends the connection with the call, and tells the others that it is lost', async () => {
    const { connection, clock, owner } = rigOfLines();
    connection.serve();
    const first = watched(connection.request('a', { timeoutMs: 100 }));
    const second = watched(connection.request('b'));
    await clock.advance(100);
    expect(first.outcome).toMatchObject({ reason: { code: 'ERR_DEADLINE', sent: 'full', firstByte: false } });
    expect(second.outcome).toMatchObject({ reason: { code: 'ERR_CONNECTION_LOST', sent: 'full' } });
    expect(owner.told).toEqual(['ending: timeout', 'closed']);
  });

  it('gives a reply that is already in the kernel its turn', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    const reply = watched(connection.request('a', { timeoutMs: 100 }));
    await clock.flush();
    arrivesDuringTurn(clock, peer, '1\n');
    await clock.advance(100);
    expect(reply.outcome).toEqual({ state: 'resolved', value: '1' });
    expect(connection.isClean).toBe(true);
  });

  it('leaves the connection alone when nothing was due', async () => {
    const { connection, clock, owner } = rigOfLines();
    connection.serve();
    const push = watched(connection.receive({ timeoutMs: 100 }));
    await clock.advance(100);
    expect(push.outcome).toMatchObject({ reason: { code: 'ERR_DEADLINE' } });
    expect(owner.told).toEqual([]);
    expect(connection.isClean).toBe(true);
  });
});

describe('abort', () => {
  const reason = new Error('changed my mind');

  it('before the call sends nothing and harms nothing', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    const signal = AbortSignal.abort(reason);
    expect(await rejection(connection.request('a', { signal }))).toBe(reason);
    expect(await rejection(connection.send('a', { signal }))).toBe(reason);
    expect(await rejection(connection.receive({ signal }))).toBe(reason);
    await clock.flush();
    expect(peer.received).toBe('');
    expect(connection.isClean).toBe(true);
  });

  it('before receive() leaves the frame that waits to the next call', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    peer.write('news\n');
    await clock.flush();
    expect(await rejection(connection.receive({ signal: AbortSignal.abort(reason) }))).toBe(reason);
    expect(await connection.receive()).toBe('news');
  });

  it.each([
    ['after the write', ''],
    ['in the middle of the reply', 'par'],
  ])('%s ends the connection: a late reply reaches nobody', async (_when, seen) => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.serve();
    const controller = new AbortController();
    const first = watched(connection.request('a', { signal: controller.signal }));
    const second = watched(connection.request('b'));
    peer.write(seen);
    await clock.flush();
    controller.abort(reason);
    await clock.flush();
    expect(first.outcome).toEqual({ state: 'rejected', reason });
    expect(second.outcome).toMatchObject({ reason: { code: 'ERR_CONNECTION_LOST', sent: 'full' } });
    expect(owner.told).toEqual(['ending: aborted', 'closed']);
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  });

  it('after the reply does nothing', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.serve();
    const controller = new AbortController();
    const reply = connection.request('a', { signal: controller.signal, timeoutMs: 100 });
    peer.write('1\n');
    expect(await reply).toBe('1');
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
    controller.abort(reason);
    await clock.advance(1_000);
    expect(owner.told).toEqual([]);
    expect(connection.isClean).toBe(true);
  });

  it('reaches every call that shares the signal as itself', async () => {
    const { connection, clock } = rigOfLines();
    connection.serve();
    const controller = new AbortController();
    const { signal } = controller;
    const calls = [connection.request('a', { signal }), connection.request('b', { signal })].map(watched);
    await clock.flush();
    controller.abort(reason);
    await clock.flush();
    expect(calls.map(({ outcome }) => outcome)).toEqual([
      { state: 'rejected', reason },
      { state: 'rejected', reason },
    ]);
  });

  it('of one call in the middle lets none take another’s reply', async () => {
    const { connection, clock } = rigOfLines();
    connection.serve();
    const controller = new AbortController();
    const first = watched(connection.request('a'));
    const second = watched(connection.request('b', { signal: controller.signal }));
    const third = watched(connection.request('c'));
    await clock.flush();
    controller.abort(reason);
    await clock.flush();
    expect([first, second, third].map(({ outcome }) => outcome.state)).toEqual(Array(3).fill('rejected'));
  });

  it('of a receive with nothing due leaves the connection clean', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.serve();
    const controller = new AbortController();
    const push = watched(connection.receive({ signal: controller.signal }));
    controller.abort(reason);
    await clock.flush();
    expect(push.outcome).toEqual({ state: 'rejected', reason });
    expect(owner.told).toEqual([]);
    expect(connection.isClean).toBe(true);
    const reply = connection.request('a');
    peer.write('1\n');
    expect(await reply).toBe('1');
  });

  it('of a receive for which a reply is due ends the connection', async () => {
    const { connection, clock, owner } = rigOfLines();
    connection.serve();
    await connection.send('a');
    const controller = new AbortController();
    const reply = watched(connection.receive({ signal: controller.signal }));
    controller.abort(reason);
    await clock.flush();
    expect(reply.outcome).toEqual({ state: 'rejected', reason });
    expect(owner.told).toEqual(['ending: aborted', 'closed']);
  });

  it('after a send has drained does nothing', async () => {
    const socket = new ManualSocket();
    const { connection, clock, owner } = rigWith(lines(), {}, socket);
    connection.serve();
    const controller = new AbortController();
    const sending = connection.send('x'.repeat(20_000), { signal: controller.signal, replies: 0 });
    await clock.flush();
    socket.takeOne();
    await sending;
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
    controller.abort(reason);
    await clock.flush();
    expect(owner.told).toEqual([]);
    expect(connection.isClean).toBe(true);
  });

  it('of a send in the middle of its message ends the connection', async () => {
    const socket = new ManualSocket();
    const { connection, clock, owner, hold } = rigWith(lines({ maxFrameBytes: 1_000_000 }), {}, socket);
    connection.serve();
    const controller = new AbortController();
    const sending = watched(connection.send('x'.repeat(300_000), { signal: controller.signal }));
    await clock.flush();
    controller.abort(reason);
    await clock.flush();
    expect(sending.outcome).toEqual({ state: 'rejected', reason });
    expect(owner.told).toEqual(['ending: aborted', 'closed']);
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
    expect(hold.count).toBe(0);
  });
});

import type { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { LeaseError, PulsepoolError } from '../../../src/errors.ts';
import { lines } from '../../../src/transport/lines.ts';
import {
  ManualSocket,
  pushParser,
  type Rig,
  rejection,
  rigOfLines,
  rigWith,
  watched,
} from '../../support/connection-rig.ts';

function listenerCounts(socket: Duplex): Record<string, number> {
  const events = ['data', 'drain', 'end', 'error', 'close'];
  return Object.fromEntries(events.map((event) => [event, socket.listenerCount(event)]));
}

describe('end()', () => {
  it('says goodbye and is done when the peer answers', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.end('idle');
    expect(connection.isOpen).toBe(false);
    await clock.flush();
    expect(peer.isEnded).toBe(true);
    expect(owner.told).toEqual(['ending: idle', 'closed']);
    expect(clock.pendingTimers).toBe(0);
  });

  it('destroys the socket after 500 ms when the peer says nothing', async () => {
    const socket = new ManualSocket();
    const { connection, clock, owner } = rigWith(lines(), {}, socket);
    connection.end('idle');
    await clock.advance(499);
    expect(socket.destroyed).toBe(false);
    await clock.advance(1);
    expect(socket.destroyed).toBe(true);
    expect(owner.told).toEqual(['ending: idle', 'closed']);
    expect(clock.pendingTimers).toBe(0);
  });

  it('is overtaken by destroy()', async () => {
    const socket = new ManualSocket();
    const { connection, clock, owner } = rigWith(lines(), {}, socket);
    connection.end('idle');
    connection.destroy('shutdown');
    await clock.flush();
    expect(owner.told).toEqual(['ending: idle', 'closed']);
    expect(clock.pendingTimers).toBe(0);
  });

  it('lets bytes that come during the goodbye reach nobody', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    peer.stream.removeAllListeners('end');
    connection.end('idle');
    peer.write('late\n');
    await clock.advance(1_000);
    expect(owner.told).toEqual(['ending: idle', 'closed']);
  });
});

describe('after the end', () => {
  it('every method is refused, with the reason', async () => {
    const { connection, peer, clock } = rigOfLines();
    await clock.advance(5_000);
    peer.fin();
    await clock.flush();
    for (const call of [connection.request('a'), connection.send('a'), connection.receive()]) {
      expect(await rejection(call)).toMatchObject({ code: 'ERR_CONNECTION_LOST', sent: 'none' });
    }
    expect(() => connection.detach()).toThrow(PulsepoolError);
    expect(connection.isClean).toBe(false);
  });

  it('the frames that had come are still received', async () => {
    const { connection, peer, clock } = rigOfLines();
    connection.serve();
    await connection.send('a', { replies: 2 });
    peer.write('1\n2\n');
    peer.fin();
    await clock.flush();
    expect(connection.isOpen).toBe(false);
    expect(await connection.receive()).toBe('1');
    expect(await connection.receive()).toBe('2');
    expect(await rejection(connection.receive())).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
  });

  it('late events of the socket are harmless', async () => {
    const { connection, socket, clock, owner } = rigOfLines();
    connection.destroy('destroyed');
    await clock.flush();
    for (const event of ['drain', 'end', 'close']) socket.emit(event);
    socket.emit('data', Buffer.from('late\n'));
    socket.emit('error', new Error('late'));
    await clock.advance(100_000);
    expect(owner.told).toEqual(['ending: destroyed', 'closed']);
  });

  it('bytes that come late are no frames of anybody', async () => {
    const { connection, socket, clock } = rigOfLines();
    connection.serve();
    await connection.send('a');
    connection.destroy('destroyed');
    socket.emit('data', Buffer.from('late\n'));
    await clock.flush();
    expect(await rejection(connection.receive())).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
  });

  it('its first cause stands, whatever follows', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    connection.serve();
    const reply = watched(connection.request('a'));
    await clock.flush();
    const first = new PulsepoolError('ERR_HEARTBEAT', 'first', { retryable: true, hint: 'none' });
    connection.destroy('heartbeat', first);
    connection.destroy(
      'destroyed',
      new PulsepoolError('ERR_LEASE', 'second', { retryable: false, hint: '' }),
    );
    peer.reset();
    await clock.flush();
    expect(owner.told).toEqual(['ending: heartbeat', 'closed']);
    expect(connection.error).toBe(first);
    expect(reply.outcome).toMatchObject({ reason: { code: 'ERR_HEARTBEAT', cause: first, sent: 'full' } });
  });

  it('a verdict that was waiting for its turn is dropped', async () => {
    const { connection, clock, owner } = rigOfLines();
    connection.serve();
    const reply = watched(connection.request('a', { timeoutMs: 60_000 }));
    const turn = clock.turn.bind(clock);
    clock.turn = (fn) => {
      connection.destroy('destroyed');
      turn(fn);
    };
    await clock.advance(60_000);
    expect(owner.told).toEqual(['ending: destroyed', 'closed']);
    expect(reply.outcome).toMatchObject({ reason: { code: 'ERR_CONNECTION_LOST' } });
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('detach()', () => {
  it('gives the socket away: paused, our listeners gone and Node’s own kept, what was not decoded put back', async () => {
    const [foreign, rig] = [() => undefined, rigOfLines()];
    const before = listenerCounts(new ManualSocket());
    rig.socket.on('end', foreign);
    rig.connection.serve();
    rig.peer.write('par');
    await rig.clock.flush();
    const socket = rig.connection.detach();
    expect(socket).toBe(rig.socket);
    expect(rig.owner.told).toEqual(['ending: detached', 'closed']);
    expect(socket.isPaused()).toBe(true);
    expect(listenerCounts(socket)).toEqual({ ...before, end: 1 });
    expect(rig.clock.pendingTimers).toBe(0);

    rig.connection.destroy('shutdown');
    rig.connection.end('shutdown');
    rig.peer.write('tial');
    await rig.clock.flush();
    expect(socket.destroyed).toBe(false);
    expect(socket.read()?.toString()).toBe('partial');
    socket.write('mine');
    await rig.clock.flush();
    expect(rig.peer.received).toBe('mine');
    expect(rig.owner.told.length).toBe(2);
  });

  it('lets the socket hold the process again', () => {
    const socket = new ManualSocket();
    let isRef = false;
    Object.assign(socket, {
      ref: () => {
        isRef = true;
      },
    });
    const { connection } = rigWith(lines(), {}, socket);
    connection.serve();
    connection.detach();
    expect(isRef).toBe(true);
  });

  it.each<[string, (rig: Rig<string, string>) => void]>([
    ['a frame that nobody has received', ({ peer }) => peer.write('news\n')],
    ['a call under way', ({ connection }) => void connection.receive().catch(() => undefined)],
    [
      'a message that is still leaving',
      ({ connection, peer }) => {
        peer.stream.pause();
        void connection.send('x'.repeat(200_000)).catch(() => undefined);
      },
    ],
    ['bytes inside the codec', ({ peer }) => peer.write('par')],
  ])('refuses over %s', async (_what, arrange) => {
    const rig = rigOfLines({}, pushParser());
    rig.connection.serve();
    arrange(rig);
    await rig.clock.flush();
    expect(() => rig.connection.detach()).toThrow(LeaseError);
    expect(rig.connection.isOpen).toBe(true);
  });
});

describe('whatever the end, the hold is dropped as often as taken and no timer is left', () => {
  const reason = new Error('enough');
  const ways: Record<string, (rig: Rig<string, string>) => unknown> = {
    'every reply came': ({ peer }) => peer.write('1\n2\n3\n'),
    'the peer closed': ({ peer }) => peer.fin(),
    'the peer reset': ({ peer }) => peer.reset(),
    'destroyed here': ({ connection }) => connection.destroy('destroyed'),
    'ended here': ({ connection }) => connection.end('shutdown'),
    'a bad frame': ({ peer }) => peer.write('x'.repeat(100_000)),
    silence: ({ clock }) => clock.advance(60_000),
    'one reply, then silence': async ({ clock, peer }) => {
      peer.write('1\n');
      await clock.advance(60_000);
    },
  };
  it.each(Object.keys(ways))('%s', async (way) => {
    const rig = rigOfLines();
    rig.connection.serve();
    const controller = new AbortController();
    const calls = [
      rig.connection.request('a', { signal: controller.signal, timeoutMs: 500_000 }),
      rig.connection.request('b'),
      rig.connection.request('c', { timeoutMs: 600_000 }),
    ].map(watched);
    expect(rig.hold.count).toBe(1);
    await ways[way]?.(rig);
    await rig.clock.advance(500);
    expect(calls.every(({ outcome }) => outcome.state !== 'pending')).toBe(true);
    expect(rig.hold.count).toBe(0);
    rig.connection.destroy('shutdown');
    controller.abort(reason);
    await rig.clock.flush();
    expect(rig.hold.count).toBe(0);
    expect(rig.clock.pendingTimers).toBe(0);
    expect(rig.owner.told.at(-1)).toBe('closed');
  });

  it('one receive after another was aborted', async () => {
    const rig = rigOfLines();
    rig.connection.serve();
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 0, 2],
    ]) {
      const controllers = [new AbortController(), new AbortController(), new AbortController()];
      for (const { signal } of controllers) watched(rig.connection.receive({ signal }));
      for (const index of order) {
        expect(rig.hold.count).toBe(1);
        controllers[index]?.abort(reason);
      }
      expect(rig.hold.count).toBe(0);
    }
    const frames = [rig.connection.receive(), rig.connection.receive()];
    rig.peer.write('1\n2\n');
    expect(await Promise.all(frames)).toEqual(['1', '2']);
    expect(rig.hold.count).toBe(0);
    expect(rig.hold.takes).toBe(4);
  });
});

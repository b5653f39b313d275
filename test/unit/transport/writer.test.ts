import { describe, expect, it } from 'vitest';
import { Writer } from '../../../src/transport/writer.ts';
import { ManualSocket, watched } from '../../support/connection-rig.ts';
import { settle } from '../../support/virtual-clock.ts';

function setUp() {
  const socket = new ManualSocket();
  const writer = new Writer(socket);
  socket.on('drain', () => writer.onDrain());
  socket.on('error', () => undefined);
  return { socket, writer };
}

describe('a writer', () => {
  it('knows how much of each message has left', async () => {
    const { socket, writer } = setUp();
    const first = writer.write(Buffer.alloc(150_000));
    const second = writer.write(Buffer.from('b'));
    expect([writer.sent(first), writer.sent(second)]).toEqual(['maybe', 'none']);
    socket.takeOne();
    await settle();
    expect([writer.sent(first), writer.sent(second)]).toEqual(['maybe', 'none']);
    socket.takeOne();
    await settle();
    socket.takeOne();
    await settle();
    expect(writer.sent(first)).toBe('full');
    expect(writer.sent(second)).not.toBe('none');
    while (socket.takeOne()) await settle();
    expect([writer.sent(first), writer.sent(second)]).toEqual(['full', 'full']);
    expect(writer.isFlushed).toBe(true);
  });

  it('counts nothing as sent that the socket refused', async () => {
    const { socket, writer } = setUp();
    socket.destroy();
    const mark = writer.write(Buffer.from('a'));
    await settle();
    expect(writer.sent(mark)).toBe('maybe');
    expect(writer.isFlushed).toBe(false);
  });

  it('writes the pieces of a message back to back, gathered where they are small', async () => {
    const { socket, writer } = setUp();
    writer.write([Buffer.from('head'), Buffer.from('body')]);
    expect(socket.writes.map((pieces) => pieces.map(String))).toEqual([['head', 'body']]);
  });

  it('shows progress with every slice of a large piece', async () => {
    const { socket, writer } = setUp();
    writer.write([Buffer.from('head'), Buffer.alloc(200_000, 1)]);
    const seen = [writer.flushedWrites];
    while (socket.takeOne()) {
      await settle();
      seen.push(writer.flushedWrites);
    }
    expect(seen.length).toBeGreaterThan(3);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(socket.writtenBytes).toBe(200_004);
    expect(writer.hasBacklog).toBe(false);
  });

  it('wakes who waits when everything can be written again, or when the socket has ended', async () => {
    const { socket, writer } = setUp();
    writer.write(Buffer.alloc(100_000));
    expect(writer.isCongested).toBe(true);
    const first = watched(writer.drained());
    socket.takeOne();
    await settle();
    expect(first.outcome.state).toBe('pending');
    socket.takeOne();
    await settle();
    expect(first.outcome.state).toBe('resolved');

    writer.write(Buffer.alloc(100_000));
    const second = watched(writer.drained());
    writer.wake();
    await settle();
    expect(second.outcome.state).toBe('resolved');
  });

  it('sends an empty message as nothing at all', () => {
    const { socket, writer } = setUp();
    const mark = writer.write([]);
    expect(writer.sent(mark)).toBe('full');
    expect(socket.writes).toEqual([]);
    expect(writer.isFlushed).toBe(true);
  });
});

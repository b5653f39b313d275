import { describe, expect, it } from 'vitest';
import { lines } from '../../../src/transport/lines.ts';
import { answerServerPings, ManualSocket, rigOfLines, rigWith } from '../../support/connection-rig.ts';

/** As many pings of the server's. */
function pings(count: number): string {
  return 'SRV 1\n'.repeat(count);
}

describe('a server that pings', () => {
  it('and reads nothing ends its own connection after 1,000 answers, instead of filling our memory', async () => {
    const socket = new ManualSocket();
    const { connection, clock, owner } = rigWith(lines(), { answer: answerServerPings }, socket);
    let asked = 0;
    while (connection.isOpen && asked < 5_000) {
      socket.push(pings(100));
      asked += 100;
      await clock.flush();
    }
    expect(owner.told[0]).toBe('ending: unsolicited');
    expect(owner.error).toMatchObject({ code: 'ERR_UNSOLICITED' });
    expect(asked).toBeGreaterThan(1_000);
    expect(socket.writtenBytes).toBeLessThan(1_200 * 'ACK 1\n'.length);
  });

  it('and reads nothing ends it, too, while a lease holds it', async () => {
    const socket = new ManualSocket();
    const { connection, clock, owner } = rigWith(lines(), { answer: answerServerPings }, socket);
    connection.serve();
    for (let round = 0; round < 20; round++) {
      socket.push(pings(100));
      await clock.flush();
    }
    expect(owner.told[0]).toBe('ending: unsolicited');
  });

  it('and reads is answered as often as it likes', async () => {
    const { connection, peer, clock, owner } = rigOfLines({ answer: answerServerPings });
    for (let round = 0; round < 20; round++) {
      peer.write(pings(500));
      await clock.flush();
    }
    expect(peer.received.length).toBe(20 * 500 * 'ACK 1\n'.length);
    expect(owner.told).toEqual([]);
    expect(connection.isClean).toBe(true);
  });

  it('and reads is answered even when more than 1,000 of its pings come at once', async () => {
    const { peer, clock, owner } = rigOfLines({ answer: answerServerPings });
    peer.write(pings(2_000));
    await clock.flush();
    expect(owner.told).toEqual([]);
    expect(peer.received.length).toBe(2_000 * 'ACK 1\n'.length);
  });

  it('and reads late, but before 1,000 answers wait, starts afresh', async () => {
    const socket = new ManualSocket();
    const { connection, clock, owner } = rigWith(lines(), { answer: answerServerPings }, socket);
    for (let round = 0; round < 5; round++) {
      socket.push(pings(900));
      await clock.flush();
      while (socket.takeOne()) await clock.flush();
    }
    expect(owner.told).toEqual([]);
    expect(connection.isOpen).toBe(true);
  });
});

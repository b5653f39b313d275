/**
 * Streams, subscriptions and duplexes over real sockets: large bodies whose memory is bounded whoever is slow, and
 * pushes that come again after the server was away.
 */
import type net from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { type ClientOptions, createClient, lengthPrefixed, lines, raw } from '../../src/index.ts';
import { EchoServer } from '../support/echo-server.ts';
import { collectGarbage } from '../support/gc.ts';
import { closeLocal, onCloseLocal, plainServer } from '../support/local-servers.ts';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  closeLocal();
});

const MIB = 1024 * 1024;
const FRAME_BYTES = 64 * 1024;
const TOTAL_BYTES = 100 * MIB;
const FRAMES = TOTAL_BYTES / FRAME_BYTES;

function clientOf<In, Out>(port: number, options: Omit<ClientOptions<In, Out>, 'host' | 'port'>) {
  const client = createClient<In, Out>({ host: '127.0.0.1', port, max: 4, ...options });
  closers.push(() => client.close({ timeoutMs: 100 }));
  return client;
}

/** Sends frames of 64 KiB as fast as they are taken, each with its number in front, and counts them. */
async function pour(socket: net.Socket, count: number, sent: { frames: number }): Promise<void> {
  const closed = new Promise((resolve) => socket.once('close', resolve));
  const header = Buffer.alloc(8);
  const body = Buffer.alloc(FRAME_BYTES - 4);
  header.writeUInt32BE(FRAME_BYTES, 0);
  for (let index = 0; index < count; index++) {
    header.writeUInt32BE(index, 4);
    socket.write(Buffer.from(header));
    sent.frames += 1;
    if (!socket.write(body))
      await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), closed]);
    if (socket.destroyed) return;
  }
}

/** The most that heap and buffers grew while `work` went on, without garbage. */
async function growth(work: () => Promise<void>): Promise<number> {
  const used = async (): Promise<number> => {
    await collectGarbage();
    const { arrayBuffers, heapUsed } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = await used();
  let most = 0;
  let isDone = false;
  const watched = (async () => {
    while (!isDone) {
      most = Math.max(most, (await used()) - before);
      await sleep(20);
    }
  })();
  await work().finally(() => {
    isDone = true;
  });
  await watched;
  return most;
}

const BOUND_BYTES = TOTAL_BYTES / 5;
// What the kernel of both ends, our inbox, and the streams in between may hold.
const ON_THE_WAY_BYTES = 20 * MIB;

/** Waits until a number does not change any more: the system's buffers are full. */
async function untilStill(count: () => number): Promise<void> {
  for (let before = -1; before !== count(); ) {
    before = count();
    await sleep(300);
  }
}

describe('a stream of 100 MB', () => {
  it('with a slow reader takes little memory, and the server waits', async () => {
    const sent = { frames: 0 };
    const port = await plainServer((socket) => {
      socket.once('data', () => void pour(socket, FRAMES, sent));
    });
    const client = clientOf(port, { codec: lengthPrefixed() });
    let read = 0;
    const grown = await growth(async () => {
      const frames = client.stream('all', {
        isLast: (frame) => frame.readUInt32BE(0) === FRAMES - 1,
        timeoutMs: 15_000,
      });
      for await (const frame of frames) {
        expect(frame.readUInt32BE(0)).toBe(read);
        expect(frame.length).toBe(FRAME_BYTES);
        read += 1;
        if (read === 100) {
          await untilStill(() => sent.frames);
          expect((sent.frames - read) * FRAME_BYTES).toBeLessThan(ON_THE_WAY_BYTES);
        }
        if (read % 20 === 0) await sleep(1);
      }
    });
    expect(read).toBe(FRAMES);
    expect(grown).toBeLessThan(BOUND_BYTES);
    expect(client.pool.stats()).toMatchObject({ idle: 1, leased: 0, closed: 0 });
  });

  it('to a server that reads slowly takes little memory, and its source waits', async () => {
    let got = 0;
    let pauses = 0;
    const port = await plainServer((socket) => {
      socket.on('data', (chunk: Buffer) => {
        got += chunk.length;
        if (got >= TOTAL_BYTES) socket.write(Buffer.from([0, 0, 0, 2, 0x6f, 0x6b]));
        else if (got > pauses * 5 * MIB) {
          pauses += 1;
          socket.pause();
          setTimeout(() => socket.resume(), 30);
        }
      });
    });
    const client = clientOf(port, { codec: lengthPrefixed() });
    const body = Buffer.alloc(FRAME_BYTES - 4);
    let given = 0;
    let most = 0;
    async function* messages(): AsyncGenerator<Buffer> {
      for (; given < TOTAL_BYTES; given += FRAME_BYTES) {
        most = Math.max(most, given - got);
        yield body;
      }
    }
    const replies: string[] = [];
    const grown = await growth(async () => {
      for await (const frame of client.stream(messages(), { isLast: () => true })) replies.push(`${frame}`);
    });
    expect(replies).toEqual(['ok']);
    expect(got).toBe(TOTAL_BYTES);
    expect(most).toBeLessThan(ON_THE_WAY_BYTES);
    expect(grown).toBeLessThan(BOUND_BYTES);
    expect(client.pool.stats()).toMatchObject({ idle: 1, leased: 0, closed: 0 });
  });

  it('there and back through a duplex of bytes takes little memory, whoever is slow', async () => {
    const port = await plainServer((socket) => {
      let echoed = 0;
      socket.on('data', (chunk: Buffer) => {
        echoed += chunk.length;
        if (!socket.write(chunk)) {
          socket.pause();
          socket.once('drain', () => socket.resume());
        }
        if (echoed === TOTAL_BYTES) socket.end();
      });
    });
    const client = clientOf(port, { codec: raw() });
    const lease = await client.pool.acquire();
    let given = 0;
    const source = Readable.from(
      (function* () {
        for (; given < TOTAL_BYTES; given += FRAME_BYTES)
          yield Buffer.alloc(FRAME_BYTES, given / FRAME_BYTES);
      })(),
    );
    let read = 0;
    let most = 0;
    const grown = await growth(() =>
      pipeline(source, lease.duplex(), async (chunks: AsyncIterable<Buffer>) => {
        let waits = 0;
        for await (const chunk of chunks) {
          // Each byte is that which was sent at its place.
          expect(chunk[0]).toBe(Math.floor(read / FRAME_BYTES) % 256);
          read += chunk.length;
          most = Math.max(most, given - read);
          if (read > waits * 10 * MIB) {
            waits += 1;
            await sleep(30);
          }
        }
      }),
    );
    expect(read).toBe(TOTAL_BYTES);
    expect(most).toBeLessThan(ON_THE_WAY_BYTES);
    expect(grown).toBeLessThan(BOUND_BYTES);
    lease.release();
  });

  it('that is left in the middle ends the socket, and the next request has its own reply', async () => {
    const sent = { frames: 0 };
    const port = await plainServer((socket) => {
      socket.on('data', (chunk: Buffer) => {
        if (chunk.includes('all')) void pour(socket, FRAMES, sent);
        else socket.write(Buffer.from([0, 0, 0, 2, 0x6f, 0x6b]));
      });
    });
    const client = clientOf(port, { codec: lengthPrefixed(), max: 1 });
    for await (const _ of client.stream('all', { isLast: () => false })) break;
    expect(String(await client.request('next'))).toBe('ok');
    expect(client.pool.stats()).toMatchObject({ opened: 2, closedBy: { destroyed: 1 } });
    expect(sent.frames).toBeLessThan(FRAMES);
  });
});

describe('a subscription over a real socket', () => {
  const heartbeat = {
    intervalMs: 100,
    timeoutMs: 100,
    maxMissed: 2,
    ping: 'PING',
    isPong: (line: string) => line === 'PONG',
  };

  function subscribeTo(server: EchoServer) {
    const told: string[] = [];
    const client = clientOf(server.port, { codec: lines(), heartbeat });
    const subscription = client.subscribe('SUB', (line) => void told.push(line), {
      onLost: ({ code }) => told.push(`lost: ${code}`),
      onRestored: () => told.push('restored'),
    });
    const until = async (start: string): Promise<void> => {
      const giveUpAt = performance.now() + 10_000;
      while (!told.some((line) => line.startsWith(start))) {
        if (performance.now() > giveUpAt) throw new Error(`${start} was not told: ${told.join(', ')}`);
        await sleep(5);
      }
    };
    return { client, subscription, told, until };
  }

  async function pushServer(): Promise<EchoServer> {
    const server = new EchoServer();
    server.onLine = (line, socket) => {
      if (line === 'SUB') socket.write(`welcome ${server.accepted}\n`);
      else if (line === 'PING') socket.write('PONG\n');
    };
    await server.listen();
    onCloseLocal(() => void server.close());
    return server;
  }

  it('that is half open is found, and restored', async () => {
    const server = await pushServer();
    const { subscription, told, until } = subscribeTo(server);
    await subscription.ready;
    await until('welcome 1');
    await sleep(500);
    expect(told).toEqual(['welcome 1']);
    // The first socket still stands, as behind a firewall that has forgotten it: nothing comes through any more.
    const [stuck] = server.sockets;
    const { onLine } = server;
    server.onLine = (line, socket) => {
      if (socket !== stuck) onLine(line, socket);
    };
    const since = performance.now();
    await until('welcome 2');
    expect(performance.now() - since).toBeLessThan(2_000);
    expect(told).toEqual(['welcome 1', 'lost: ERR_HEARTBEAT', 'restored', 'welcome 2']);
    await subscription.close();
  });

  it('survives a restart of the server', async () => {
    const server = await pushServer();
    const { client, subscription, told, until } = subscribeTo(server);
    await until('welcome 1');
    await server.close();
    await until('lost');
    await sleep(300);
    expect(told).toEqual(['welcome 1', expect.stringMatching(/^lost: /)]);
    await server.listen();
    await until('welcome 2');
    expect(told.slice(2)).toEqual(['restored', 'welcome 2']);
    for (const socket of server.sockets) socket.write('news\n');
    await until('news');
    await subscription.close();
    await client.close();
    expect(client.pool.stats()).toMatchObject({ total: 0, leased: 0 });
  });
});

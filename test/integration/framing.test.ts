/**
 * Sticky and split packets against real servers: whatever the network makes of the bytes, frames come out whole,
 * in order and once.
 */
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { type Codec, delimited, fixedLength, lengthPrefixed, lines } from 'pulsepool';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  describeWithServers,
  type EchoServer,
  type MisbehaveServer,
  type SocatServer,
  startEcho,
  startMisbehave,
  startSocat,
} from './support/containers.ts';
import { failureOf, openPool } from './support/pools.ts';

const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describeWithServers('frames on the wire', () => {
  let echo: EchoServer;
  let socat: SocatServer;
  let misbehave: MisbehaveServer;
  beforeAll(async () => {
    [echo, socat, misbehave] = await Promise.all([startEcho(), startSocat(), startMisbehave()]);
  });
  afterAll(() => Promise.all([echo?.stop(), socat?.stop(), misbehave?.stop()]));

  const toFrames = () => ({ host: echo.host, port: echo.ports.frames });
  const toRaw = () => ({ host: echo.host, port: echo.ports.raw });

  test('10,000 frames sent at once come back in order, none lost and none twice', async () => {
    const { pool } = openPool({ ...toFrames(), codec: lengthPrefixed(), max: 1 });
    await pool.use(async (lease) => {
      const sending = (async () => {
        for (let n = 0; n < 10_000; n++) await lease.send(`frame ${n}`);
      })();
      for (let n = 0; n < 10_000; n++) {
        const frame = String(await lease.receive());
        if (frame !== `frame ${n}`) throw new Error(`${frame} came in place of frame ${n}`);
      }
      await sending;
    });
    expect(pool.stats()).toMatchObject({ opened: 1, closed: 0 });
  });

  test('a frame of 32 MiB comes back whole, both ways through full buffers', async () => {
    const codec = lengthPrefixed({ maxFrameBytes: 33 << 20 });
    const { pool } = openPool({ ...toFrames(), codec, max: 1 });
    const frame = randomBytes(32 << 20);
    expect(hash(await pool.request(frame))).toBe(hash(frame));
    expect(String(await pool.request('small'))).toBe('small');
    expect(pool.stats().opened).toBe(1);
  });

  test('frames of all sizes from many callers at once keep their content', async () => {
    const { pool } = openPool({ ...toFrames(), codec: lengthPrefixed(), max: 4 });
    const sizes = [0, 1, 2, 3, 4, 5, 255, 256, 1_447, 1_448, 1_449, 65_535, 65_536, 65_537, 1 << 20];
    await Promise.all(
      Array.from({ length: 60 }, async (_, n) => {
        const frame = randomBytes(sizes[n % sizes.length] ?? 0);
        expect(hash(await pool.request(frame))).toBe(hash(frame));
      }),
    );
  });

  test('a frame over the limit is refused before anything is sent, and one that comes ends its connection only', async () => {
    const { pool } = openPool({ ...toFrames(), codec: lengthPrefixed({ maxFrameBytes: 1_000 }), max: 1 });
    const error = await failureOf(pool.request(Buffer.alloc(2_000)));
    expect(error).toMatchObject({ code: 'ERR_FRAME', fault: 'too-large', sent: 'none', retryable: false });
    expect(String(await pool.request('next'))).toBe('next');
    expect(pool.stats()).toMatchObject({ opened: 1, closed: 0 });
  });

  test('lines that come byte by byte are whole', async () => {
    const { pool } = openPool({ host: misbehave.host, port: misbehave.port, codec: lines(), max: 3 });
    const replies = await Promise.all(
      Array.from({ length: 6 }, (_, n) => pool.request(`!split 1 äöü € ${n}`)),
    );
    expect(replies).toEqual(replies.map((_, n) => `Echo: äöü € ${n}`));
    expect(pool.stats().closed).toBe(0);
  });

  const codecs: [string, Codec<Uint8Array | string, Buffer>, () => Buffer][] = [
    [
      'a delimiter of many bytes',
      delimited({ delimiter: '\r\n--\r\n' }),
      () => Buffer.from(randomBytes(randomInt(200)).toString('hex')),
    ],
    ['a fixed length', fixedLength(37), () => randomBytes(37)],
    [
      'a length of 2 bytes, little endian',
      lengthPrefixed({ lengthBytes: 2, endian: 'LE' }),
      () => randomBytes(randomInt(5_000)),
    ],
    ['a length of 8 bytes', lengthPrefixed({ lengthBytes: 8 }), () => randomBytes(randomInt(5_000))],
  ];

  test.each(codecs)(
    'frames with %s survive a server that knows nothing of frames',
    async (_, codec, make) => {
      const { pool: small } = openPool({ host: socat.host, port: socat.port, codec, max: 5 });
      const { pool: large } = openPool({ ...toRaw(), codec, max: 2 });
      const wrong: string[] = [];
      await Promise.all(
        Array.from({ length: 50 }, async (_, caller) => {
          const pool = caller % 2 === 0 ? small : large;
          for (let round = 0; round < 4; round++) {
            // Pipelined, so that several frames share a packet and some are cut.
            const frames = Array.from({ length: 8 }, make);
            await pool.use(async (lease) => {
              for (const frame of frames) await lease.send(frame);
              for (const frame of frames) {
                const reply = await lease.receive();
                if (!reply.equals(frame)) wrong.push(`${reply.toString('hex')} for ${frame.toString('hex')}`);
              }
            });
          }
        }),
      );
      expect(wrong).toEqual([]);
      expect(small.stats().closed + large.stats().closed).toBe(0);
    },
  );

  test('a reader that is slow makes the server wait, and gets everything in the end', async () => {
    const { pool } = openPool({ ...toFrames(), codec: lengthPrefixed(), max: 1 });
    const frame = randomBytes(64 * 1024);
    await pool.use(async (lease) => {
      const sending = (async () => {
        for (let n = 0; n < 300; n++) await lease.send(frame);
      })();
      // Nobody receives for a while: 19 MiB are on their way, of which little may pile up here.
      await new Promise((resolve) => setTimeout(resolve, 200));
      for (let n = 0; n < 300; n++) expect((await lease.receive()).equals(frame)).toBe(true);
      await sending;
    });
    expect(String(await pool.request('next'))).toBe('next');
    expect(pool.stats()).toMatchObject({ opened: 1, closed: 0 });
  });
});

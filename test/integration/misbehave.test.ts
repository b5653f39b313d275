/**
 * A server that misbehaves on command: what the caller is told, what becomes of the socket, and that the next
 * caller is none the worse for it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Codec, FrameError, lengthPrefixed, lines, type Pool, type PoolOptions } from 'pulsepool';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { describeWithServers, type MisbehaveServer, startMisbehave } from './support/containers.ts';
import {
  type Diary,
  dialBound,
  expectBackoffKept,
  failureOf,
  figure,
  openPool,
  until,
} from './support/pools.ts';

const RETRY = { retries: 3, baseMs: 20, capMs: 200 };

let server: MisbehaveServer;

function open(options: Partial<PoolOptions<string, string>> = {}): {
  pool: Pool<string, string>;
  diary: Diary;
} {
  return openPool<string, string>({
    host: server.host,
    port: server.port,
    codec: lines(),
    max: 1,
    retry: RETRY,
    ...options,
  });
}

/** A pool with one warm socket: one that is known to serve. */
async function openWarm(
  options: Partial<PoolOptions<string, string>> = {},
): Promise<ReturnType<typeof open>> {
  const opened = open(options);
  expect(await opened.pool.request('PING')).toBe('PONG');
  return opened;
}

async function nextCallerIsFine(pool: Pool<string, string>): Promise<void> {
  expect(await pool.request('next')).toBe('Echo: next');
}

describeWithServers('a pool and', () => {
  beforeAll(async () => {
    server = await startMisbehave();
  });
  afterEach(() => server.control('behave'));
  afterAll(() => server?.stop());

  describe('bytes that nobody asked for', () => {
    test('a stray byte ends the idle socket at once, is counted, and the next caller is fine', async () => {
      const { pool, diary } = open();
      expect(await pool.request('!stray 30')).toBe('OK');
      await diary.has('closed', 1);
      expect(diary.of('closed')).toMatchObject([
        { reason: 'unsolicited', error: { code: 'ERR_UNSOLICITED' }, uses: 1 },
      ]);
      expect(pool.stats()).toMatchObject({ closed: 1, closedBy: { unsolicited: 1 } });
      await nextCallerIsFine(pool);
      expect(pool.stats()).toMatchObject({ opened: 2, dialFailed: 0 });
    });

    test('a stray byte ends each idle socket of many, and min is refilled', async () => {
      const { pool, diary } = open({ min: 5, max: 5 });
      await pool.ready();
      expect(await Promise.all(Array.from({ length: 5 }, () => pool.request('!stray 50')))).toEqual(
        Array(5).fill('OK'),
      );
      await until(() => pool.stats().closedBy.unsolicited === 5, 'five sockets have ended');
      await until(() => pool.stats().idle === 5, 'min is refilled');
      expect(new Set(diary.reasons)).toEqual(new Set(['unsolicited']));
      await nextCallerIsFine(pool);
    });

    test('a stray byte with the end right behind it counts as a stray byte', async () => {
      const { pool, diary } = open();
      expect(await pool.request('!strayfin 30')).toBe('OK');
      await diary.has('closed', 1);
      expect(diary.reasons).toEqual(['unsolicited']);
      await nextCallerIsFine(pool);
    });

    test('a stray byte under a lease that is not asking is found by its next request, before it is sent', async () => {
      const { pool } = open();
      const lease = await pool.acquire();
      expect(await lease.request('!stray 20')).toBe('OK');
      await sleep(100);
      const error = await failureOf(lease.request('hello'));
      expect(error).toMatchObject({ code: 'ERR_UNSOLICITED', sent: 'none' });
      lease.release();
      await nextCallerIsFine(pool);
    });

    test('a second reply never reaches the next caller', async () => {
      const { pool, diary } = open();
      const wrong: string[] = [];
      for (let round = 0; round < 50; round++) {
        expect(await pool.request(`!double first ${round}`)).toBe(`Echo: first ${round}`);
        const reply = await pool.request(`second ${round}`);
        if (reply !== `Echo: second ${round}`) wrong.push(reply);
      }
      expect(wrong).toEqual([]);
      expect(new Set(diary.reasons)).toEqual(new Set(['dirty']));
      expect(diary.reasons.length).toBe(50);
    });

    test('a reply that comes after its caller’s deadline reaches nobody', async () => {
      const { pool, diary } = open();
      const late = Array.from({ length: 5 }, (_, id) =>
        failureOf(pool.request(`!late 300 old ${id}`, { timeoutMs: 60 })),
      );
      const errors = await Promise.all(late);
      expect(errors.map((error) => error.code)).toEqual(Array(5).fill('ERR_DEADLINE'));
      const until = performance.now() + 400;
      for (let id = 0; performance.now() < until; id++) {
        expect(await pool.request(`new ${id}`)).toBe(`Echo: new ${id}`);
      }
      expect(diary.reasons).not.toContain('unsolicited');
    });

    test('a reply that comes after its caller’s abort reaches nobody, and the abort’s reason comes back as it was', async () => {
      const { pool } = open();
      const reason = { not: 'even an error' };
      const controller = new AbortController();
      const call = pool.request('!late 100 old', { signal: controller.signal });
      await until(() => pool.stats().leased === 1, 'the request is under way');
      controller.abort(reason);
      await expect(call).rejects.toBe(reason);
      await nextCallerIsFine(pool);
      await sleep(150);
      await nextCallerIsFine(pool);
    });
  });

  describe('a server that does not answer as it should', () => {
    test('is silent: ERR_READ_TIMEOUT after readTimeoutMs, and the next caller gets a new socket', async () => {
      const { pool, diary } = await openWarm({ readTimeoutMs: 150 });
      const begun = performance.now();
      const error = await failureOf(pool.request('!silent'));
      expect(error).toMatchObject({ code: 'ERR_READ_TIMEOUT', retryable: true, sent: 'full' });
      expect(performance.now() - begun).toBeGreaterThanOrEqual(149);
      expect(diary.reasons).toEqual(['timeout']);
      await nextCallerIsFine(pool);
    });

    test('answers late, but in time: nothing happens', async () => {
      const { pool, diary } = await openWarm({ readTimeoutMs: 2_000 });
      expect(await pool.request('!late 100 text')).toBe('Echo: text');
      expect(diary.of('closed')).toEqual([]);
    });

    test.each(['!drop', '!reset'])(
      'ends instead of an answer (%s): the connection is lost',
      async (command) => {
        const { pool, diary } = await openWarm();
        const error = await failureOf(pool.request(command));
        expect(error).toMatchObject({ code: 'ERR_CONNECTION_LOST', retryable: true });
        expect(error.sent).not.toBe('none');
        expect(diary.reasons[0]).toMatch(/^peer-/);
        await nextCallerIsFine(pool);
      },
    );

    test('ends in the middle of an answer: the cause is a frame that was cut off', async () => {
      const { pool } = await openWarm();
      const error = await failureOf(pool.request('!half text'));
      expect(error.code).toBe('ERR_CONNECTION_LOST');
      const story: unknown[] = [];
      for (let at: unknown = error; at instanceof Error; at = at.cause) story.push(at);
      expect(story.find((cause) => cause instanceof FrameError)).toMatchObject({ fault: 'truncated' });
      await nextCallerIsFine(pool);
    });

    test('answers and ends: the caller has the answer, the next one a new socket', async () => {
      const { pool, diary } = await openWarm();
      expect(await pool.request('!bye text')).toBe('Echo: text');
      await diary.has('closed', 1);
      expect(diary.reasons[0]).toMatch(/^peer-/);
      await nextCallerIsFine(pool);
    });

    test('answers byte by byte: the answer is whole', async () => {
      const { pool } = open();
      expect(await pool.request('!split 2 text')).toBe('Echo: text');
    });

    test('answers byte by byte, longer than frameTimeoutMs though never silent: ERR_FRAME_TIMEOUT', async () => {
      const { pool } = await openWarm({ frameTimeoutMs: 100, readTimeoutMs: 5_000 });
      const error = await failureOf(pool.request('!split 30 a rather long text'));
      expect(error).toMatchObject({ code: 'ERR_FRAME_TIMEOUT', retryable: true });
      await nextCallerIsFine(pool);
    });

    test.each([
      ['a TLS alert', '!garbage tls', /TLS/],
      ['an HTTP response', '!garbage http', /HTTP/],
    ])('answers with %s: a FrameError that says so', async (_, command, hint) => {
      const frames = lengthPrefixed();
      const codec: Codec<string, Buffer> = {
        encode: (line) => Buffer.from(`${line}\n`),
        decode: (bytes) => frames.decode(bytes),
      };
      const { pool, diary } = openPool({ host: server.host, port: server.port, codec, max: 1, retry: RETRY });
      const error = await failureOf(pool.request(command, { idempotent: true }));
      expect(error).toBeInstanceOf(FrameError);
      expect(error).toMatchObject({ code: 'ERR_FRAME', retryable: false, fault: 'too-large' });
      expect(error.hint).toMatch(hint);
      expect((error as FrameError).head).toMatch(/^[0-9a-f]{14,}$/);
      expect(diary.reasons).toEqual(['protocol']);
      // Not repeated, however idempotent.
      expect(pool.stats()).toMatchObject({ acquired: 1, opened: 1 });
    });

    test('answers with a line over the limit: a FrameError with both numbers, and the pool is fine', async () => {
      const { pool, diary } = open();
      const error = await failureOf(pool.request('!long 1000000'));
      expect(error).toMatchObject({ code: 'ERR_FRAME', fault: 'too-large', limitBytes: 65_536 });
      expect((error as FrameError).declaredBytes).toBeGreaterThanOrEqual(65_536);
      expect(diary.reasons).toEqual(['protocol']);
      await nextCallerIsFine(pool);
    });

    test('stops reading: ERR_WRITE_TIMEOUT once nothing moves for writeTimeoutMs', async () => {
      const { pool, diary } = open({ writeTimeoutMs: 300, codec: lines({ maxFrameBytes: 128 << 20 }) });
      const lease = await pool.acquire();
      await lease.send('!deaf', { replies: 0 });
      const error = await failureOf(lease.send('x'.repeat(48 << 20), { replies: 0 }));
      expect(error).toMatchObject({ code: 'ERR_WRITE_TIMEOUT', retryable: true, sent: 'maybe' });
      expect(diary.reasons).toEqual(['timeout']);
      lease.release();
      await nextCallerIsFine(pool);
    });

    test('falls silent to everybody and comes back: callers get their deadline, then their answers', async () => {
      const { pool } = await openWarm({ max: 4 });
      await server.control('mute on');
      const errors = await Promise.all(
        Array.from({ length: 10 }, (_, id) => failureOf(pool.request(`${id}`, { timeoutMs: 200 }))),
      );
      expect(new Set(errors.map((error) => error.code))).toEqual(new Set(['ERR_DEADLINE']));
      await server.control('mute off');
      await nextCallerIsFine(pool);
    });
  });

  describe('a server that is full', () => {
    test('tells its callers so, and is not dialed in a tight loop', async () => {
      const { pool, diary } = open({ max: 10 });
      await server.control('full on');
      const before = await server.count();
      const begun = performance.now();
      const codes = new Set<string>();
      let failures = 0;
      await Promise.all(
        Array.from({ length: 10 }, async () => {
          while (performance.now() - begun < 1_000) {
            const error = await failureOf(pool.request('hello'));
            codes.add(
              error.code === 'ERR_ACQUIRE_FAILED'
                ? `cause ${(error.cause as { code: string }).code}`
                : error.code,
            );
            failures += 1;
          }
        }),
      );
      const elapsed = performance.now() - begun;
      const dials = (await server.count()).total - before.total;
      // A pool with no socket dials four side by side.
      const bound = dialBound(elapsed, RETRY, 4);
      figure(`full: ${dials} dials in ${Math.round(elapsed)} ms, bound ${bound}, ${failures} callers told`);
      expect([...codes].filter((code) => !/ERR_SERVER_FULL$/.test(code))).toEqual([]);
      expect(dials).toBeLessThanOrEqual(bound);
      await server.control('full off');
      expect(await pool.request('hello', { idempotent: true, timeoutMs: 5_000 })).toBe('Echo: hello');
      expect(diary.peak).toBeLessThanOrEqual(10);
    });

    test('is not dialed in a tight loop to keep min either, and min is refilled when it has room', async () => {
      await server.control('full on');
      const before = await server.count();
      const { pool, diary } = open({ min: 3, max: 5 });
      const begun = performance.now();
      await sleep(1_000);
      const dials = (await server.count()).total - before.total;
      const bound = dialBound(performance.now() - begun, RETRY, 3);
      figure(`full, min 3: ${dials} dials in a second, bound ${bound}`);
      expect(dials).toBeGreaterThan(1);
      expect(dials).toBeLessThanOrEqual(bound);
      expectBackoffKept(diary.of('dialFailed'));
      await server.control('full off');
      await until(() => pool.stats().idle === 3, 'min is refilled');
      await nextCallerIsFine(pool);
    });

    test('keeps serving those who are in while it lets nobody else in', async () => {
      const { pool } = await openWarm({ max: 5 });
      await server.control('full on');
      const replies = await Promise.all(
        Array.from({ length: 20 }, (_, id) => pool.request(`${id}`, { idempotent: true, timeoutMs: 10_000 })),
      );
      expect(replies).toEqual(replies.map((_, id) => `Echo: ${id}`));
    });
  });

  describe('a server with habits of its own', () => {
    /** Holds up our own event loop, as a long computation would. */
    const block = (milliseconds: number) => {
      const end = performance.now() + milliseconds;
      while (performance.now() < end);
    };

    test('closes idle connections while our own event loop is blocked: the next caller sees nothing of it', async () => {
      const { pool, diary } = open({ max: 3 });
      await Promise.all(Array.from({ length: 3 }, (_, id) => pool.request(`!late 20 ${id}`)));
      await server.control('idle 50');
      block(300);
      // In the very turn in which the loop goes on: the end of each socket is still unread.
      expect(await Promise.all(Array.from({ length: 3 }, (_, id) => pool.request(`${id}`)))).toEqual([
        'Echo: 0',
        'Echo: 1',
        'Echo: 2',
      ]);
      expect(pool.stats().closedBy['peer-closed']).toBe(3);
      expect(diary.of('acquireFailed')).toEqual([]);
    });

    test('answers pings in time while our own event loop is blocked: no socket is held to be dead', async () => {
      const heartbeat = {
        intervalMs: 100,
        timeoutMs: 100,
        ping: 'PING',
        isPong: (line: string) => line === 'PONG',
      };
      const { pool, diary } = open({ min: 5, max: 5, heartbeat });
      await pool.ready();
      await until(() => pool.stats().idle === 5, 'min is there');
      for (let round = 0; round < 4; round++) {
        await sleep(85 + round * 10);
        block(350);
      }
      const pongs = diary.of('pinged').length;
      await diary.has('pinged', pongs + 5);
      expect(diary.of('closed')).toEqual([]);
    });

    test('closes idle connections: no caller sees it', async () => {
      const { pool, diary } = open({ max: 5 });
      await server.control('idle 80');
      for (let round = 1; round <= 4; round++) {
        const replies = await Promise.all(
          Array.from({ length: 5 }, (_, id) => pool.request(`!late 5 ${id}`)),
        );
        expect(replies).toEqual(['Echo: 0', 'Echo: 1', 'Echo: 2', 'Echo: 3', 'Echo: 4']);
        await until(() => pool.stats().total === 0, 'the server has closed them all');
      }
      expect(new Set(diary.reasons)).toEqual(new Set(['peer-closed']));
      expect(pool.stats().dialFailed).toBe(0);
    });

    test('closes idle connections as they are borrowed: no caller of an idempotent request sees it', async () => {
      const { pool } = open({ max: 5 });
      await server.control('idle 40');
      // Pauses just around the server's limit: each request races with the end of its socket.
      await Promise.all(
        Array.from({ length: 5 }, async (_, caller) => {
          for (let round = 0; round < 15; round++) {
            expect(await pool.request(`${caller}.${round}`, { idempotent: true })).toBe(
              `Echo: ${caller}.${round}`,
            );
            await sleep(34 + Math.random() * 10);
          }
        }),
      );
    });

    test('closes idle connections sooner than min’s sockets are used: min is kept, without a tight loop', async () => {
      await server.control('idle 50');
      const before = await server.count();
      const { pool } = open({ min: 2, max: 2 });
      const begun = performance.now();
      await sleep(600);
      const dials = (await server.count()).total - before.total;
      const bound = 2 * Math.ceil((performance.now() - begun) / 50 + 1);
      figure(`idle limit 50 ms, min 2: ${dials} dials in 600 ms, at most ${bound}`);
      expect(dials).toBeLessThanOrEqual(bound);
      await server.control('idle 0');
      await until(() => pool.stats().idle === 2, 'min is kept');
      await nextCallerIsFine(pool);
    });

    const answering = {
      heartbeat: { answer: (frame: string) => (frame === 'SPING' ? 'SPONG' : undefined) },
    };

    test('pings its clients: an idle socket answers by itself and stays', async () => {
      const { pool, diary } = open(answering);
      expect(await pool.request('!ping 30')).toBe('OK');
      await until(async () => (await pool.request('!ponged')) === 'Ponged: 1', 'the ping has been answered');
      expect(await pool.request('!ping 60')).toBe('OK');
      await sleep(200);
      expect(await pool.request('!ponged')).toBe('Ponged: 2');
      expect(diary.of('closed')).toEqual([]);
      expect(pool.stats().opened).toBe(1);
    });

    test('pings its clients in the middle of an exchange: the caller gets its reply and no ping', async () => {
      const { pool, diary } = open(answering);
      expect(await pool.request('!ping 0')).toBe('OK');
      expect(await pool.request('!ponged')).toBe('Ponged: 1');
      const lease = await pool.acquire();
      for (let id = 0; id < 5; id++) await lease.send(id === 2 ? '!ping 0' : `${id}`);
      const replies: string[] = [];
      for (let id = 0; id < 5; id++) replies.push(await lease.receive());
      expect(replies).toEqual(['Echo: 0', 'Echo: 1', 'OK', 'Echo: 3', 'Echo: 4']);
      lease.release();
      expect(diary.of('closed')).toEqual([]);
    });

    test('pings its clients who do not know how to answer: the idle socket ends as one that got a stray frame', async () => {
      const { pool, diary } = open();
      expect(await pool.request('!ping 30')).toBe('OK');
      await diary.has('closed', 1);
      expect(diary.of('closed')[0]).toMatchObject({ reason: 'unsolicited' });
      expect(diary.of('closed')[0]?.error?.hint).toMatch(/heartbeat\.answer/);
      await nextCallerIsFine(pool);
    });

    test('ends every connection at once: idle ones are gone, min is refilled, callers are fine', async () => {
      const { pool, diary } = open({ min: 4, max: 8 });
      await pool.ready();
      await until(() => pool.stats().idle === 4, 'min is there');
      // A socket that has never said a word and is closed in its first second counts as refused.
      await Promise.all(Array.from({ length: 4 }, () => pool.request('!late 20 x')));
      await server.control('dropall');
      await until(() => diary.of('closed').length >= 4, 'all are gone');
      await until(() => pool.stats().idle >= 4, 'min is refilled');
      await nextCallerIsFine(pool);
    });
  });
});

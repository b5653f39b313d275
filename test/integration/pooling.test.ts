/**
 * Many callers, few sockets, real servers: every reply reaches the one who asked, the pool never exceeds its
 * size, and close() leaves nothing at the server.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Lease, lengthPrefixed, lines, type Pool, PulsepoolError, raw } from 'pulsepool';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  describeWithServers,
  type EchoServer,
  type MisbehaveServer,
  type Server,
  type SocatServer,
  startEcho,
  startMisbehave,
  startSocat,
} from './support/containers.ts';
import { type Diary, failureOf, figure, openPool, until } from './support/pools.ts';

const CALLERS = 200;
const MAX = 10;

/** Runs `each` from many callers at once, `rounds` times each. Ids are unique over all. */
async function fromManyCallers(
  rounds: number,
  each: (id: number) => Promise<void>,
  callers = CALLERS,
): Promise<void> {
  await Promise.all(
    Array.from({ length: callers }, async (_, caller) => {
      for (let round = 0; round < rounds; round++) await each(caller * rounds + round);
    }),
  );
}

/** How many clients of a port the server's kernel sees. */
async function clientsOf(server: Server, port: number): Promise<number> {
  const { exitCode, output } = await server.exec([
    'ss',
    '-Htn',
    'state',
    'established',
    `( sport = :${port} )`,
  ]);
  expect(exitCode).toBe(0);
  return output.split('\n').filter((line) => line.trim() !== '').length;
}

/** Counts again and again while `work` runs. Returns the highest count. */
async function peakDuring(work: Promise<void>, count: () => Promise<number>): Promise<number> {
  let running = true;
  const watched = work.finally(() => {
    running = false;
  });
  let peak = 0;
  while (running) {
    peak = Math.max(peak, await count());
    await sleep(5);
  }
  await watched;
  return peak;
}

/** What holds for a pool that nothing has disturbed: it grew to its size once, and never beyond. */
function expectUndisturbed(pool: Pool<never, never>, diary: Diary, requests: number): void {
  const { acquired, closed, dialFailed, opened, total, waiting } = pool.stats();
  expect({ acquired, closed, dialFailed, waiting }).toEqual({
    acquired: requests,
    closed: 0,
    dialFailed: 0,
    waiting: 0,
  });
  expect(opened).toBeLessThanOrEqual(MAX);
  expect(total).toBe(opened);
  expect(diary.peak).toBeLessThanOrEqual(MAX);
  expect(diary.samples).toBeGreaterThanOrEqual(requests);
}

describeWithServers('a pool and', () => {
  let echo: EchoServer;
  let socat: SocatServer;
  let misbehave: MisbehaveServer;
  beforeAll(async () => {
    [echo, socat, misbehave] = await Promise.all([startEcho(), startSocat(), startMisbehave()]);
  });
  afterAll(() => Promise.all([echo?.stop(), socat?.stop(), misbehave?.stop()]));

  describe('200 callers on 10 sockets', () => {
    test('each get the answer to their own line from the Go echo', async () => {
      const { pool, diary } = openPool({ host: echo.host, port: echo.ports.line, codec: lines(), max: MAX });
      const wrong: string[] = [];
      const work = fromManyCallers(20, async (id) => {
        const reply = await pool.request(`question ${id}`);
        if (reply !== `Echo: question ${id}`) wrong.push(`${id} got ${reply}`);
      });
      const peak = await peakDuring(work, () => clientsOf(echo, 7000));
      expect(wrong).toEqual([]);
      expect(peak).toBeLessThanOrEqual(MAX);
      expectUndisturbed(pool as never, diary, 4_000);
    });

    test('each get their own frame back, of whatever size, from the length-prefixed echo', async () => {
      const { pool, diary } = openPool({
        host: echo.host,
        port: echo.ports.frames,
        codec: lengthPrefixed(),
        max: MAX,
      });
      const wrong: number[] = [];
      const noise = randomBytes(64 * 1024);
      const work = fromManyCallers(15, async (id) => {
        const frame = Buffer.concat([
          Buffer.from(`${id}:`),
          noise.subarray(0, randomInt(id % 50 === 0 ? noise.length : 500)),
        ]);
        if (!(await pool.request(frame)).equals(frame)) wrong.push(id);
      });
      const peak = await peakDuring(work, () => clientsOf(echo, 7002));
      expect(wrong).toEqual([]);
      expect(peak).toBeLessThanOrEqual(MAX);
      expectUndisturbed(pool as never, diary, 3_000);
    });

    test('each get their own line back from socat', async () => {
      const { pool, diary } = openPool({ host: socat.host, port: socat.port, codec: lines(), max: MAX });
      const wrong: string[] = [];
      const work = fromManyCallers(10, async (id) => {
        const reply = await pool.request(`question ${id}`);
        if (reply !== `question ${id}`) wrong.push(`${id} got ${reply}`);
      });
      const peak = await peakDuring(work, () => clientsOf(socat, 7));
      expect(wrong).toEqual([]);
      expect(peak).toBeLessThanOrEqual(MAX);
      expectUndisturbed(pool as never, diary, 2_000);
    });

    test('each get their own bytes back from socat where no codec tells where a reply ends', async () => {
      const { pool, diary } = openPool({ host: socat.host, port: socat.port, codec: raw(), max: MAX });
      const wrong: number[] = [];
      const work = fromManyCallers(10, (id) =>
        pool.use(async (lease) => {
          const sent = Buffer.concat([Buffer.from(`${id}:`), randomBytes(randomInt(300))]);
          await lease.send(sent);
          let received = Buffer.alloc(0);
          while (received.length < sent.length) received = Buffer.concat([received, await lease.receive()]);
          if (!received.equals(sent)) wrong.push(id);
          lease.markClean();
        }),
      );
      const peak = await peakDuring(work, () => clientsOf(socat, 7));
      expect(wrong).toEqual([]);
      expect(peak).toBeLessThanOrEqual(MAX);
      expectUndisturbed(pool as never, diary, 2_000);
    });

    test('are never more than 10 connections to the server, at once and in all', async () => {
      const before = await misbehave.count();
      const { pool, diary } = openPool({
        host: misbehave.host,
        port: misbehave.port,
        codec: lines(),
        max: MAX,
      });
      const wrong: string[] = [];
      const work = fromManyCallers(20, async (id) => {
        // Some answers take time, so that callers pile up.
        const reply = await pool.request(id % 40 === 0 ? `!late 2 question ${id}` : `question ${id}`);
        if (reply !== `Echo: question ${id}`) wrong.push(`${id} got ${reply}`);
      });
      const peak = await peakDuring(work, async () => (await misbehave.count()).open);
      expect(wrong).toEqual([]);
      expect(peak).toBe(MAX);
      expect((await misbehave.count()).total - before.total).toBe(MAX);
      expectUndisturbed(pool as never, diary, 4_000);
    });

    test('share several exchanges and pipelines fairly, a lease at a time', async () => {
      const { pool, diary } = openPool({ host: echo.host, port: echo.ports.line, codec: lines(), max: MAX });
      const wrong: string[] = [];
      await fromManyCallers(3, (id) =>
        pool.use(async (lease) => {
          for (let step = 0; step < 5; step++) await lease.send(`${id}.${step}`);
          for (let step = 0; step < 5; step++) {
            const reply = await lease.receive();
            if (reply !== `Echo: ${id}.${step}`) wrong.push(`${id}.${step} got ${reply}`);
          }
        }),
      );
      expect(wrong).toEqual([]);
      expectUndisturbed(pool as never, diary, 600);
      // First come, first served: nobody waited for long while others went twice.
      const waits = diary.of('acquired').map((event) => event.waitedMs);
      expect(Math.max(...waits)).toBeLessThan(10_000);
    });
  });

  describe('20,000 requests, some of them aborted, timed out, thrown out of or cut off', () => {
    const MISHAP = new Error('the caller threw');
    const ABORT = new Error('the caller has lost interest');

    /** What innocents may end with: their socket was lost or the server closed it, never a wrong answer. */
    const MAY_FAIL = new Set(['ERR_CONNECTION_LOST', 'ERR_SERVER_FULL', 'ERR_DEADLINE']);

    type Mishap = (pool: Pool<string, string>, text: string) => Promise<string | undefined>;

    const lend = async (
      pool: Pool<string, string>,
      fn: (lease: Lease<string, string>) => Promise<string | undefined>,
    ): Promise<string | undefined> => pool.use(fn);

    const BYE = 'gets its answer and the end';

    /** Ways to misuse a socket. Each returns the reply it got, or nothing. */
    const MISHAPS: Record<string, Mishap> = {
      'aborts somewhere on the way': (pool, text) => {
        const controller = new AbortController();
        const call = pool.request(text, { signal: controller.signal });
        if (Math.random() < 0.5) setTimeout(() => controller.abort(ABORT), Math.random() * 3);
        else setImmediate(() => controller.abort(ABORT));
        return call;
      },
      'has little time, most of it spent in the queue': (pool, text) =>
        pool.request(`!late ${randomInt(5)} ${text}`, { timeoutMs: randomInt(1, 5) }),
      'aborts in the middle of an exchange': (pool, text) =>
        lend(pool, (lease) => {
          const controller = new AbortController();
          setTimeout(() => controller.abort(ABORT), Math.random() * 3);
          return lease.request(`!late ${randomInt(3)} ${text}`, { signal: controller.signal });
        }),
      'runs out of time in the middle of an exchange': (pool, text) =>
        lend(pool, (lease) => lease.request(`!late ${randomInt(4)} ${text}`, { timeoutMs: randomInt(1, 4) })),
      'throws before the reply': (pool, text) =>
        lend(pool, async (lease) => {
          await lease.send(text);
          throw MISHAP;
        }),
      'leaves before the reply': (pool, text) =>
        lend(pool, async (lease) => {
          await lease.send(text);
          return undefined;
        }),
      'leaves in the middle of a pipeline': (pool, text) =>
        lend(pool, async (lease) => {
          for (let n = 0; n < 4; n++) await lease.send(text);
          await lease.receive();
          return lease.receive();
        }),
      'gets one answer too many': (pool, text) => pool.request(`!double ${text}`),
      [BYE]: (pool, text) => pool.request(`!bye ${text}`),
      'gets half an answer': (pool, text) => pool.request(`!half ${text}`),
      'destroys its socket': (pool, text) =>
        lend(pool, async (lease) => {
          void lease.request(text).catch(() => undefined);
          lease.destroy();
          return undefined;
        }),
      'leaves a request running': (pool, text) =>
        lend(pool, async (lease) => {
          void lease.request(text).catch(() => undefined);
          return undefined;
        }),
    };

    test('never give anybody another one’s answer', { timeout: 120_000 }, async () => {
      const { pool, diary } = openPool({
        host: misbehave.host,
        port: misbehave.port,
        codec: lines(),
        min: 2,
        max: MAX,
      });
      const wrong: string[] = [];
      const unexpected: string[] = [];
      const seen = { answered: 0, failed: 0, mishaps: 0, innocentsFailed: 0, byes: 0 };
      const kinds = Object.entries(MISHAPS);
      await fromManyCallers(
        200,
        async (id) => {
          const text = `question ${id}`;
          const mishap = Math.random() < 0.1 ? kinds[randomInt(kinds.length)] : undefined;
          if (mishap !== undefined) seen.mishaps += 1;
          if (mishap?.[0] === BYE) seen.byes += 1;
          try {
            const reply = await (mishap === undefined ? pool.request(text) : mishap[1](pool, text));
            if (reply === undefined) return;
            seen.answered += 1;
            if (reply !== `Echo: ${text}`) wrong.push(`${text} got ${reply} (${mishap?.[0] ?? 'innocent'})`);
          } catch (error) {
            seen.failed += 1;
            if (mishap === undefined) seen.innocentsFailed += 1;
            const isExpected =
              error === ABORT ||
              error === MISHAP ||
              (error instanceof PulsepoolError && MAY_FAIL.has(error.code));
            if (!isExpected) unexpected.push(`${mishap?.[0] ?? 'innocent'}: ${error}`);
          }
        },
        100,
      );
      figure(
        `torture: ${JSON.stringify(seen)}, ${pool.stats().opened} sockets, ${diary.samples} samples of stats`,
      );
      figure(`torture: closed by ${JSON.stringify(pool.stats().closedBy)}`);
      expect(wrong).toEqual([]);
      expect(unexpected).toEqual([]);
      expect(seen.answered).toBeGreaterThan(15_000);
      // The end that follows an answer can cross with the next caller's request; nothing else may harm an innocent.
      expect(seen.innocentsFailed).toBeLessThanOrEqual(seen.byes);
      // It has met what it is about.
      const { aborted = 0, dirty = 0, timeout = 0, failed = 0 } = pool.stats().closedBy;
      expect(Math.min(aborted, dirty, timeout, failed)).toBeGreaterThan(20);
      expect(diary.peak).toBeLessThanOrEqual(MAX);
      // All is over: what is left are idle sockets, as many as the server sees.
      await until(
        async () => (await misbehave.count()).open === pool.stats().idle,
        'both sides count the same',
      );
      expect(pool.stats()).toMatchObject({ leased: 0, waiting: 0 });
      expect(await pool.request('afterwards')).toBe('Echo: afterwards');
    });
  });

  describe('close()', () => {
    const open = (options: { max?: number; min?: number } = {}) =>
      openPool({ host: misbehave.host, port: misbehave.port, codec: lines(), max: MAX, ...options });
    const serverSeesNobody = () =>
      until(async () => (await misbehave.count()).open === 0, 'the server sees no connection');

    test('lets requests in flight and callers in the queue finish, and then the server sees nobody', async () => {
      const { pool, diary } = open({ max: 4 });
      const calls = Array.from({ length: 12 }, (_, id) => pool.request(`!late 100 ${id}`));
      await until(() => pool.stats().leased === 4, 'four requests are under way');
      const closing = pool.close();
      expect((await failureOf(pool.request('too late'))).code).toBe('ERR_POOL_CLOSED');
      expect(await Promise.all(calls)).toEqual(calls.map((_, id) => `Echo: ${id}`));
      expect(await closing).toMatchObject({ forced: 0 });
      expect(diary.reasons).toEqual(Array(4).fill('shutdown'));
      await serverSeesNobody();
    });

    test('ends a leaked lease at the deadline, tells its holder why, and the server sees nobody', async () => {
      const { pool, diary } = open();
      const leaked = await pool.acquire();
      const stuck = failureOf(leaked.request('!silent'));
      const begun = performance.now();
      expect(await pool.close({ timeoutMs: 200 })).toMatchObject({ forced: 1 });
      expect(performance.now() - begun).toBeGreaterThanOrEqual(199);
      expect((await stuck).code).toBe('ERR_POOL_CLOSED');
      expect(leaked.isUsable).toBe(false);
      expect(diary.of('poolClosed')).toMatchObject([{ forced: 1 }]);
      await serverSeesNobody();
    });

    test('ends idle sockets and those that are just being dialed', async () => {
      const { pool } = open({ min: 6 });
      await pool.ready();
      const { pool: dialing } = open({ min: 6 });
      await new Promise((resolve) => setImmediate(resolve));
      expect(await Promise.all([pool.close(), dialing.close(), pool.close()])).toEqual(
        Array(3).fill({ forced: 0, holders: [] }),
      );
      expect([pool.stats().total, dialing.stats().total]).toEqual([0, 0]);
      await serverSeesNobody();
    });
  });
});

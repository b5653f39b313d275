/**
 * Servers that die, freeze, restart and vanish behind a firewall: what callers are told meanwhile, how soon it is
 * found, how hard the server is dialed, and that the pool heals by itself.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectionError, lines, type Pool, type PoolOptions, PulsepoolError } from 'pulsepool';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { ask, describeWithServers, type EchoServer, startEcho } from './support/containers.ts';
import {
  type Diary,
  dialBound,
  dialFailure,
  expectBackoffKept,
  failureOf,
  figure,
  openPool,
  timesToDetection,
  until,
} from './support/pools.ts';

const RETRY = { retries: 3, baseMs: 20, capMs: 200 };
const PING = { ping: 'PING', isPong: (line: string) => line === 'PONG' };

let echo: EchoServer;

function open(options: Partial<PoolOptions<string, string>> = {}): {
  pool: Pool<string, string>;
  diary: Diary;
} {
  return openPool<string, string>({
    host: echo.host,
    port: echo.port,
    codec: lines(),
    retry: RETRY,
    ...options,
  });
}

/** Calls again and again from several callers until stopped. */
function keepCalling(callers: number, call: (id: string) => Promise<string>) {
  let running = true;
  const answered = { count: 0 };
  const wrong: string[] = [];
  const errors: PulsepoolError[] = [];
  const work = Promise.all(
    Array.from({ length: callers }, async (_, caller) => {
      for (let round = 0; running; round++) {
        const id = `${caller}.${round}`;
        try {
          const reply = await call(id);
          answered.count += 1;
          if (reply !== `Echo: ${id}`) wrong.push(`${id} got ${reply}`);
        } catch (error) {
          if (!(error instanceof PulsepoolError)) throw error;
          errors.push(error);
        }
      }
    }),
  );
  return {
    answered,
    errors,
    async stop() {
      running = false;
      await work;
      expect(wrong).toEqual([]);
    },
  };
}

/** Undoes what a test has done to the server, whether or not the test got that far. */
async function revive(): Promise<void> {
  await echo.unpause().catch(() => undefined);
  await ask(echo.host, echo.port, 'PING\n', 500).catch(() => echo.restart());
}

describeWithServers('a pool and', () => {
  beforeAll(async () => {
    echo = await startEcho({ pinned: true, netAdmin: true });
  });
  afterEach(revive);
  afterAll(() => echo?.stop());

  describe('a server that is killed and started again on the same port', () => {
    test('costs callers an error with its story, few dials, and nothing once it is back', async () => {
      const { pool, diary } = open({ min: 3, max: 6 });
      await pool.ready();
      expect(await pool.request('before')).toBe('Echo: before');

      await echo.kill();
      const downSince = performance.now();
      await until(() => pool.stats().idle === 0, 'idle sockets are gone');
      // Docker's proxy may outlive the server by a moment, and hang up in its place.
      await until(() => diary.of('dialFailed').at(-1)?.error.code === 'ERR_REFUSED', 'the port refuses');
      const dialsBefore = diary.of('dialFailed').length;
      // Many callers, again and again: none of them waits for its full time, and none adds dials.
      const calls = keepCalling(20, (id) => pool.request(id, { timeoutMs: 5_000 }));
      await sleep(1_500);
      await calls.stop();
      const downFor = performance.now() - downSince;
      expect(calls.answered.count).toBe(0);
      expect(calls.errors.length).toBeGreaterThan(0);
      for (const error of calls.errors) {
        expect(dialFailure(error)).toMatchObject({ code: 'ERR_REFUSED', retryable: true, phase: 'tcp' });
        expect(error.message).toMatch(/waiting=\d+/);
      }
      const dials = diary.of('dialFailed').length - dialsBefore;
      // Dials side by side happen only before the first failure is known: four at most.
      const bound = dialBound(downFor, RETRY, 1) + 4;
      expect(dials).toBeLessThanOrEqual(bound);
      expect(dials).toBeGreaterThan(2);
      expectBackoffKept(diary.of('dialFailed'));

      const startedAt = performance.now();
      await echo.start();
      const answersAt = performance.now();
      // Nobody calls, nobody resets anything: min comes back by itself, within a back-off or two.
      await until(() => pool.stats().idle >= 3, 'min is refilled');
      const healedAt = performance.now();
      figure(
        `killed: ${dials} dials in ${Math.round(downFor)} ms (bound ${bound}), ${calls.errors.length} callers told; ` +
          `started in ${Math.round(answersAt - startedAt)} ms, healed ${Math.round(healedAt - answersAt)} ms later`,
      );
      expect(await pool.request('after')).toBe('Echo: after');
      expect(pool.stats()).toMatchObject({ waiting: 0, leased: 0 });
    });

    test('is not dialed at all while nobody needs it and min is 0', async () => {
      const { pool, diary } = open({ max: 4 });
      await Promise.all(Array.from({ length: 4 }, (_, id) => pool.request(`${id}`)));
      await echo.kill();
      await until(() => pool.stats().total === 0, 'all sockets are gone');
      await sleep(500);
      expect(diary.of('dialFailed')).toEqual([]);
      await echo.start();
      expect(await pool.request('after')).toBe('Echo: after');
    });

    test('serves those who wait as soon as it is back, when their time and the retries allow it', async () => {
      const { pool } = open({ max: 4, retry: { retries: 100, baseMs: 20, capMs: 100 } });
      await echo.kill();
      const calls = Promise.allSettled(
        Array.from({ length: 10 }, (_, id) => pool.request(`${id}`, { timeoutMs: 20_000 })),
      );
      // Dials that began side by side, before the first failure was known, end one after another.
      await until(() => pool.stats().total === 1, 'only one dial is left');
      expect(pool.stats()).toMatchObject({ waiting: 10, dialing: 1 });
      await echo.start();
      for (const [id, outcome] of (await calls).entries()) {
        if (outcome.status === 'fulfilled') expect(outcome.value).toBe(`Echo: ${id}`);
        // A dial may meet the server's port before its server: then a request, once sent, is lost with it.
        else expect((outcome.reason as PulsepoolError).sent).not.toBe('none');
      }
    });
  });

  describe('a server that restarts under load', () => {
    test('fails only requests that had been sent, and none that may be repeated', async () => {
      // Enough retries, each at most 100 ms apart, to outlast the restart.
      const retry = { retries: 100, baseMs: 10, capMs: 100 };
      const { pool, diary } = open({ min: 2, max: 8, retry });
      await pool.ready();
      const once = keepCalling(10, (id) => pool.request(id, { timeoutMs: 20_000 }));
      const repeated = keepCalling(10, (id) => pool.request(id, { timeoutMs: 20_000, idempotent: true }));
      await until(() => once.answered.count > 200 && repeated.answered.count > 200, 'load before');
      let downFor = 0;
      for (let round = 0; round < 2; round++) {
        const begun = performance.now();
        await echo.restart();
        downFor += performance.now() - begun;
        const before = { once: once.answered.count, repeated: repeated.answered.count };
        await until(
          () => once.answered.count > before.once + 200 && repeated.answered.count > before.repeated + 200,
          'load after the restart',
        );
      }
      await Promise.all([once.stop(), repeated.stop()]);
      figure(
        `restart under load: ${once.answered.count} + ${repeated.answered.count} answered, ` +
          `${once.errors.length} sent and lost: ${JSON.stringify([...new Set(once.errors.map((error) => error.code))])}`,
      );
      expect(repeated.errors).toEqual([]);
      for (const error of once.errors) {
        expect(error).toBeInstanceOf(ConnectionError);
        expect(error.code).toMatch(/^ERR_(CONNECTION_LOST|SERVER_FULL)$/);
        expect(error.sent).not.toBe('none');
        expect(error.retryable).toBe(true);
      }
      expect(once.errors.length).toBeGreaterThan(0);
      // One for each socket, each time the server went; and one for each dial that a half-started server accepted
      // and then hung up on, two side by side at most.
      expect(once.errors.length).toBeLessThanOrEqual(2 * 8 + dialBound(downFor, retry, 2));
      expectBackoffKept(diary.of('dialFailed'));
      await until(() => pool.stats().idle >= 2, 'min is there');
    });
  });

  describe('a server that is paused', () => {
    const HEARTBEAT = { intervalMs: 400, timeoutMs: 200, maxMissed: 2, ...PING };
    const BOUND_MS = HEARTBEAT.intervalMs * HEARTBEAT.maxMissed + HEARTBEAT.timeoutMs;

    /** For scheduling only; a verdict that our own late event loop put off may come that much later. */
    const tolerance = (diary: Diary) =>
      diary.of('stalled').reduce((sum, event) => sum + event.lateMs + HEARTBEAT.timeoutMs, 200);

    test('is found by heartbeats within interval × misses + timeout, and serves again when it goes on', async () => {
      const { pool, diary } = open({ min: 4, max: 6, heartbeat: HEARTBEAT });
      await pool.ready();
      await until(() => pool.stats().idle === 4, 'min is there');
      await diary.has('pinged', 8);
      await echo.pause();
      const pausedAt = performance.now();
      const ids = [...diary.lastAlive.keys()];
      await until(
        () => ids.every((id) => diary.of('closed').some((event) => event.connectionId === id)),
        'all are found',
      );
      const times = timesToDetection(diary).slice(0, 4);
      const first = diary.of('closed').slice(0, 4);
      figure(
        `paused: found ${times.map(Math.round).join(', ')} ms after their last byte (bound ${BOUND_MS}), ` +
          `${first.map((event) => Math.round(event.at - pausedAt)).join(', ')} ms after the pause`,
      );
      for (const event of first) {
        expect(event).toMatchObject({
          reason: 'heartbeat',
          error: { code: 'ERR_HEARTBEAT', retryable: true },
        });
        expect(event.at - (diary.lastAlive.get(event.connectionId) ?? 0)).toBeLessThanOrEqual(
          BOUND_MS + tolerance(diary),
        );
      }
      for (const id of ids) {
        const misses = diary.of('pingMissed').filter((event) => event.connectionId === id);
        expect(misses.map((event) => [event.missed, event.maxMissed])).toEqual([
          [1, 2],
          [2, 2],
        ]);
      }
      await echo.unpause();
      expect(await pool.request('after', { timeoutMs: 10_000, idempotent: true })).toBe('Echo: after');
      const pongs = diary.of('pinged').length;
      await diary.has('pinged', pongs + 4);
      await until(() => pool.stats().idle >= 4, 'min is there and lives');
    });

    test('is asked once an interval whether it lives, also when it would be given longer to answer', async () => {
      const heartbeat = { ...HEARTBEAT, intervalMs: 100, timeoutMs: 5_000 };
      const { pool, diary } = open({ min: 1, max: 1, heartbeat });
      await pool.ready();
      await until(() => diary.of('pinged').length >= 5, 'five pongs, which take half a second', 4_000);
    });

    test('for less than that loses no socket, though a ping is missed', async () => {
      const heartbeat = { ...HEARTBEAT, intervalMs: 1_000, timeoutMs: 150 };
      const { pool, diary } = open({ min: 3, max: 3, heartbeat });
      await pool.ready();
      await until(() => pool.stats().idle === 3, 'min is there');
      await echo.pause();
      // From its first miss on, a socket has at least 0.9 intervals left.
      await diary.has('pingMissed', 1);
      await echo.unpause();
      await diary.has('pinged', 6);
      expect(diary.of('closed')).toEqual([]);
      expect(pool.stats()).toMatchObject({ idle: 3, opened: 3 });
      expect(await pool.request('after')).toBe('Echo: after');
    });

    test('costs requests in flight ERR_READ_TIMEOUT, and leases their own deadlines', async () => {
      const { pool, diary } = open({ max: 6, readTimeoutMs: 400 });
      // Each socket has served before, so that its silence is not that of a new one.
      await Promise.all(Array.from({ length: 4 }, (_, id) => pool.request(`${id}`)));
      const lease = await pool.acquire();
      await echo.pause();
      const begun = performance.now();
      const inFlight = failureOf(pool.request('in flight'));
      const leased = await failureOf(lease.request('leased', { timeoutMs: 100 }));
      const leasedAfter = performance.now() - begun;
      expect(leased).toMatchObject({ code: 'ERR_DEADLINE', retryable: true, sent: 'full' });
      expect(leasedAfter).toBeGreaterThanOrEqual(99);
      const bounded = await failureOf(pool.request('bounded', { timeoutMs: 150, idempotent: true }));
      expect(bounded).toMatchObject({ code: 'ERR_DEADLINE', phases: { backoffMs: 0 }, attempts: 1 });
      expect(await inFlight).toMatchObject({ code: 'ERR_READ_TIMEOUT', retryable: true, sent: 'full' });
      lease.release();
      expect(diary.reasons).toEqual(['timeout', 'timeout', 'timeout']);
      await echo.unpause();
      expect(await pool.request('after')).toBe('Echo: after');
    });

    test('accepts new connections all the same: the handshake runs into the connect deadline', async () => {
      const { pool, diary } = open({
        max: 4,
        connectTimeoutMs: 250,
        retry: { retries: 1, baseMs: 20, capMs: 50 },
        onConnect: async (lease) => {
          expect(await lease.request('PING')).toBe('PONG');
        },
      });
      await echo.pause();
      const begun = performance.now();
      const error = dialFailure(await failureOf(pool.request('hello')));
      expect(error).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', phase: 'handshake', retryable: true });
      expect(performance.now() - begun).toBeGreaterThanOrEqual(499);
      expect(diary.of('dialFailed').map((event) => event.error.code)).toEqual(
        Array(2).fill('ERR_CONNECT_TIMEOUT'),
      );
      expect(pool.stats()).toMatchObject({ opened: 0, total: 0 });
      await echo.unpause();
      expect(await pool.request('after')).toBe('Echo: after');
    });

    test('does not hold up close(), neither with idle sockets nor with a ping or a dial under way', async () => {
      const heartbeat = { ...HEARTBEAT, intervalMs: 100, timeoutMs: 10_000 };
      const { pool: resting } = open({ min: 3 });
      const { pool: pinging, diary } = open({ min: 3, heartbeat });
      await Promise.all([resting.ready(), pinging.ready()]);
      await diary.has('pinged', 3);
      await echo.pause();
      await sleep(200);
      const { pool: dialing } = open({
        min: 2,
        onConnect: async (lease) => {
          await lease.request('PING');
        },
      });
      await until(() => dialing.stats().dialing === 2, 'dials are under way');
      const begun = performance.now();
      const pools = [resting, pinging, dialing];
      expect(await Promise.all(pools.map((pool) => pool.close()))).toEqual(
        Array(3).fill({ forced: 0, holders: [] }),
      );
      figure(`paused: closed in ${Math.round(performance.now() - begun)} ms`);
      // Far less than the ten seconds that leases would be given.
      expect(performance.now() - begun).toBeLessThan(5_000);
      expect(pools.map((pool) => pool.stats().total)).toEqual([0, 0, 0]);
    });

    test('does not make a caller wait for all the misses: a socket that missed one is replaced for it', async () => {
      const heartbeat = { ...HEARTBEAT, intervalMs: 200, timeoutMs: 100, maxMissed: 1_000 };
      const { pool, diary } = open({ max: 1, heartbeat });
      expect(await pool.request('before')).toBe('Echo: before');
      await echo.pause();
      await diary.has('pingMissed', 1);
      const call = pool.request('during');
      await diary.has('opened', 2);
      expect(diary.of('closed')).toMatchObject([{ connectionId: 1, reason: 'heartbeat' }]);
      await echo.unpause();
      expect(await call).toBe('Echo: during');
    });
  });

  describe('a network that drops packets', () => {
    const RULE = ['-p', 'tcp', '--dport', '7000', '-j', 'DROP'];
    const iptables = async (action: '-A' | '-D') => {
      expect((await echo.exec(['iptables', action, 'INPUT', ...RULE])).exitCode).toBe(0);
    };

    test('is found on established connections by heartbeats, and the pool recovers when it is over', async () => {
      const heartbeat = { intervalMs: 300, timeoutMs: 150, maxMissed: 2, ...PING };
      const boundMs = heartbeat.intervalMs * heartbeat.maxMissed + heartbeat.timeoutMs;
      const { pool, diary } = open({ min: 2, max: 4, heartbeat, readTimeoutMs: 400 });
      await pool.ready();
      await diary.has('pinged', 2);
      await iptables('-A');
      await until(() => pool.stats().closedBy.heartbeat !== undefined, 'a socket is found dead');
      await until(() => (pool.stats().closedBy.heartbeat ?? 0) >= 2, 'both are found dead');
      const late = diary.of('stalled').reduce((sum, event) => sum + event.lateMs + heartbeat.timeoutMs, 200);
      figure(
        `dropped: found ${timesToDetection(diary).map(Math.round).join(', ')} ms after their last byte (bound ${boundMs})`,
      );
      expect(timesToDetection(diary)[0]).toBeLessThanOrEqual(boundMs + late);
      const error = await failureOf(pool.request('into the void'));
      expect(error.code).toMatch(/^ERR_(READ_TIMEOUT|ACQUIRE_FAILED)$/);
      await iptables('-D');
      const overAt = performance.now();
      expect(await pool.request('after', { idempotent: true, timeoutMs: 15_000 })).toBe('Echo: after');
      figure(`dropped: served again ${Math.round(performance.now() - overAt)} ms after the rule was gone`);
      const pongs = diary.of('pinged').length;
      await diary.has('pinged', pongs + 2);
    });

    test('for a moment only costs nothing but time', async () => {
      const { pool, diary } = open({ max: 4, readTimeoutMs: 10_000 });
      await Promise.all(Array.from({ length: 4 }, (_, id) => pool.request(`${id}`)));
      await iptables('-A');
      const calls = Promise.all(Array.from({ length: 8 }, (_, id) => pool.request(`${id}`)));
      await sleep(300);
      await iptables('-D');
      expect(await calls).toEqual(Array.from({ length: 8 }, (_, id) => `Echo: ${id}`));
      expect(diary.of('closed')).toEqual([]);
    });
  });

  describe('connections that somebody cuts', () => {
    const cut = async () => {
      expect((await echo.exec(['ss', '-K', 'sport', '=', ':7000'])).exitCode).toBe(0);
    };

    test('idle ones are gone at once and replaced, leased ones tell their callers', async () => {
      const { pool, diary } = open({ min: 3, max: 5 });
      await Promise.all(Array.from({ length: 5 }, (_, id) => pool.request(`${id}`)));
      const lease = await pool.acquire();
      expect(await lease.request('mine')).toBe('Echo: mine');
      const before = diary.of('closed').length;
      const push = failureOf(lease.receive());
      await cut();
      expect((await push).code).toBe('ERR_CONNECTION_LOST');
      expect(lease.isUsable).toBe(false);
      expect((await failureOf(lease.request('again'))).code).toBe('ERR_CONNECTION_LOST');
      lease.release();
      await until(() => diary.of('closed').length > before, 'sockets have ended');
      await until(() => pool.stats().idle >= 3, 'min is refilled');
      expect(await pool.request('after')).toBe('Echo: after');
    });
  });
});

describe('the bound on dials', () => {
  test('holds for full jitter itself, and is not far above it', () => {
    for (let trial = 0; trial < 2_000; trial++) {
      let elapsed = 0;
      let dials = 0;
      for (let failures = 0; elapsed < 1_500; failures++, dials++) {
        elapsed += Math.random() * Math.min(RETRY.capMs, RETRY.baseMs * 2 ** failures);
      }
      expect(dials).toBeLessThanOrEqual(dialBound(1_500, RETRY, 1));
    }
    expect(dialBound(1_500, RETRY, 1)).toBeLessThan(40);
  });
});

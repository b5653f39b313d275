/**
 * A pool of three servers with addresses of their own, one of which is killed, frozen, cut off the network or slow: what
 * callers see of it, and whether all is as before when it is back.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, type ClientOptions, createClient, type GivenEndpoint, lines } from 'pulsepool';
import { describe, expect, test } from 'vitest';
import { describeWithOwnAddresses } from './support/containers.ts';
import { type EchoGroup, type EchoMember, startEchoGroup } from './support/echo-group.ts';
import { type Load, percentile, sharesOf, startLoad } from './support/load.ts';
import { Diary, figure, until } from './support/pools.ts';

type Three = readonly [EchoMember, EchoMember, EchoMember];

// Room for each choice: in a pool that is full, callers go where a socket rests.
const MAX = 30;

/** What a user would set who wants faults to be found within a second. */
const WATCHFUL = {
  max: MAX,
  codec: lines(),
  connectTimeoutMs: 1_000,
  readTimeoutMs: 500,
  heartbeat: { intervalMs: 300, timeoutMs: 300, ping: 'PING', isPong: (line: string) => line === 'PONG' },
  retry: { retries: 5, baseMs: 20, capMs: 500 },
} as const;

/** Any request will do that tells who answered. */
const WHO = 'WHOAMI';

function threeOf({ members: [a, b, c] }: EchoGroup): Three {
  if (!a || !b || !c) throw new Error('three servers were asked for');
  return [a, b, c];
}

function placeOf({ address, port }: EchoMember): string {
  return `${address}:${port}`;
}

/** A client whose life is the test's block: of tests that run side by side, none knows which one is ending. */
interface Made extends AsyncDisposable {
  readonly client: Client<string, string>;
  /** Endpoints put out and come back, and sockets opened, in order. Not a whole diary, whose cost would be measured, too. */
  readonly ejected: readonly string[];
  readonly restored: readonly string[];
  readonly opened: readonly { readonly endpoint: string; readonly at: number }[];
}

function clientOf(options: Omit<ClientOptions<string, string>, 'codec'>): Made {
  const client = createClient({ ...WATCHFUL, ...options });
  const ejected: string[] = [];
  const restored: string[] = [];
  const opened: { endpoint: string; at: number }[] = [];
  client.pool.on('ejected', ({ endpoint }) => ejected.push(endpoint));
  client.pool.on('restored', ({ endpoint }) => restored.push(endpoint));
  client.pool.on('opened', ({ endpoint }) => opened.push({ endpoint, at: performance.now() }));
  return {
    client,
    ejected,
    restored,
    opened,
    [Symbol.asyncDispose]: () => client.close({ timeoutMs: 500 }).then(() => undefined),
  };
}

function askWho(client: Client<string, string>): () => Promise<string> {
  return () => client.request(WHO, { idempotent: true, timeoutMs: 10_000 });
}

/** How many lines each has echoed. */
function countsOf(members: readonly EchoMember[]): Promise<number[]> {
  return Promise.all(members.map((member) => member.count()));
}

function sumOf(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}

/** What was lost, in words. */
function lossesOf({ failed }: Load): string[] {
  return failed.map(({ error, tookMs }) => `${error} after ${Math.round(tookMs)} ms`);
}

describeWithOwnAddresses('a client of three servers, under a steady load', () => {
  // They run side by side, each with servers of its own: one that is back takes half a minute to its full share.
  describe.concurrent('when one of them', () => {
    const FAULTS: [string, (one: EchoMember) => Promise<void>, (one: EchoMember) => Promise<void>][] = [
      ['is killed and started again', (one) => one.kill(), (one) => one.start()],
      ['freezes and goes on', (one) => one.pause(), (one) => one.unpause()],
      ['is cut off the network and plugged in again', (one) => one.disconnect(), (one) => one.reconnect()],
    ];

    test.each(FAULTS)(
      '%s, loses no request that was safe to repeat, and spreads them evenly again',
      { timeout: 75_000 },
      async (what, strike, heal) => {
        // A service time beside which the noise of a busy machine counts for little.
        await using group = await startEchoGroup(3, { delayMs: 20 });
        const three = threeOf(group);
        const [a, ...others] = three;
        await using made = clientOf({ endpoints: three.map(placeOf) });
        const { client, ejected } = made;
        const rowOfA = () => client.pool.endpoints().find(({ endpoint }) => endpoint === placeOf(a));
        await using load = startLoad(200, () =>
          client.request('hello', { idempotent: true, timeoutMs: 10_000 }),
        );
        await load.next(300);
        for (const served of await countsOf(three)) expect(served).toBeGreaterThan(50);

        await strike(a);
        await until(() => ejected.length > 0, 'the one that failed is put out');
        const before = sumOf(await countsOf(others));
        const without = await load.next(400);
        expect(sumOf(await countsOf(others)) - before).toBeGreaterThanOrEqual(400);
        expect(percentile(without, 99)).toBeLessThan(500);

        const healedAt = performance.now();
        await heal(a);
        await until(() => rowOfA()?.state === 'healthy', 'it is well again', 60_000);
        figure(`${what}: well again after ${Math.round(performance.now() - healedAt)} ms`);
        load.perSecond = 300;
        await load.next(300);
        const from = await countsOf(three);
        await load.next(3_000);
        const served = (await countsOf(three)).map((count, at) => count - (from[at] ?? 0));
        figure(
          `${what}: ${served.join(' ')}; ${JSON.stringify(client.pool.endpoints().map(({ latencyMs, open }) => ({ latencyMs, open })))}`,
        );
        for (const one of served) {
          expect(one, served.join(' ')).toBeGreaterThan((0.9 * sumOf(served)) / 3);
          expect(one, served.join(' ')).toBeLessThan((1.1 * sumOf(served)) / 3);
        }
        await load.stop();
        expect(lossesOf(load)).toEqual([]);
      },
    );

    test('is the primary: the standby serves while it is down, and gives back bit by bit', {
      timeout: 75_000,
    }, async () => {
      await using group = await startEchoGroup(3);
      const [a, b, c] = threeOf(group);
      const places: GivenEndpoint[] = [
        { host: a.address, port: a.port },
        { host: b.address, port: b.port, tier: 1 },
        { host: c.address, port: c.port, tier: 2 },
      ];
      await using made = clientOf({ endpoints: places });
      const { client, ejected, opened: all, restored } = made;
      const openedAtA = () => all.filter(({ endpoint }) => endpoint === placeOf(a));
      await using load = startLoad(200, askWho(client));
      expect(sharesOf(await load.next(300))).toEqual({ a: 1 });

      await a.kill();
      await until(() => ejected.length > 0, 'the primary is put out');
      expect(sharesOf(await load.next(400))).toEqual({ b: 1 });

      await a.start();
      const before = openedAtA().length;
      await until(() => restored.length > 0, 'the primary is well again', 20_000);
      // Its share grows for half a minute: a client that came back at once would meet a server that is cold.
      const early = sharesOf(await load.next(400));
      expect(early['a']).toBeGreaterThan(0);
      expect(early['a']).toBeLessThan(0.5);
      await until(
        () => client.pool.endpoints().every(({ state }) => state === 'healthy'),
        'the primary has warmed up',
        45_000,
      );
      await until(async () => sharesOf(await load.next(100))['a'] === 1, 'the primary has it all again');
      const opened = openedAtA().slice(before);
      const busiest = Math.max(
        ...opened.map(({ at }) => opened.filter((one) => one.at >= at && one.at < at + 1_000).length),
      );
      figure(
        `failback: ${opened.length} sockets, at most ${busiest} in one second; early ${JSON.stringify(early)}`,
      );
      // Half of its sockets at the very most: 10 a second are moved, and some follow the callers.
      expect(busiest).toBeLessThanOrEqual(MAX / 2);
      await load.stop();
      expect(lossesOf(load)).toEqual([]);
      expect(load.answered.every(({ reply }) => reply !== 'c')).toBe(true);
    });

    test('dies and comes back, keeps to its max over all of them, as the kernel counts', async () => {
      await using group = await startEchoGroup(3);
      const three = threeOf(group);
      const [a] = three;
      await using made = clientOf({ endpoints: three.map(placeOf), max: 6 });
      const { client } = made;
      const diary = new Diary(client.pool as never);
      const kernelPlaces = new Set(three.map(kernelPlaceOf));
      const hasSocketToA = () =>
        client.pool.sockets().some(({ address, state }) => address === a.address && state !== 'closing');
      let most: readonly string[] = [];
      // While a server starts, one is the test's own, which finds out when it has.
      let others = 0;
      let isOver = false;
      const counting = (async () => {
        for (; !isOver; await sleep(2)) {
          const open = openTo(kernelPlaces).slice(others);
          if (open.length > most.length) most = open;
        }
      })();
      await using load = startLoad(200, askWho(client));
      await load.next(200);
      await a.kill();
      await until(() => !hasSocketToA(), 'no socket leads there');
      await load.next(400);
      others = 1;
      await a.start();
      others = 0;
      await until(async () => (sharesOf(await load.next(50))['a'] ?? 0) > 0, 'it serves again', 20_000);
      await load.stop();
      isOver = true;
      await counting;
      figure(`max 6: at most ${most.length} by the kernel, ${diary.peak} by the pool`);
      expect(lossesOf(load)).toEqual([]);
      expect(most.length).toBeGreaterThan(1);
      expect(most.length, most.join('\n')).toBeLessThanOrEqual(6);
      expect(diary.peak).toBeLessThanOrEqual(6);
      expect(diary.broken).toEqual([]);
    });

    test('dies, sends its keys to others, and leaves the other keys where they are', async () => {
      await using group = await startEchoGroup(3);
      const three = threeOf(group);
      const [, b] = three;
      await using made = clientOf({ endpoints: three.map(placeOf), balance: 'consistent-hash' });
      const { pool } = made.client;
      const keys = Array.from({ length: 60 }, (_, n) => `user ${n}`);
      /** Each key, and who serves it. */
      const ask = async (): Promise<ReadonlyMap<string, string>> => {
        const found = new Map<string, string>();
        for (const key of keys) {
          await using lease = await pool.acquire({ key, timeoutMs: 10_000 });
          found.set(key, await lease.request(WHO));
        }
        return found;
      };
      const first = await ask();
      expect(new Set(first.values())).toEqual(new Set(['a', 'b', 'c']));
      expect(await ask()).toEqual(first);
      await b.kill();
      await until(() => pool.sockets().every(({ address }) => address !== b.address), 'its sockets end');
      const second = await ask();
      for (const key of keys) {
        if (first.get(key) === 'b') expect(second.get(key), key).not.toBe('b');
        else expect(second.get(key), key).toBe(first.get(key));
      }
      expect(await ask()).toEqual(second);
      await b.start();
      await until(async () => [...(await ask()).values()].includes('b'), 'keys return');
    });

    const SHARED = [
      ['pipelined', { mode: 'pipelined' }],
      [
        'multiplexed',
        {
          mode: 'multiplexed',
          correlate: {
            write: (message: string, id: number) => `${id} ${message}`,
            read: (reply: string) => Number(/^Echo: (\d+) /.exec(reply)?.[1]),
          },
        },
      ],
    ] as const;

    test.each(SHARED)(
      'dies and comes back, loses nothing with shared sockets either: %s',
      async (_, mode) => {
        await using group = await startEchoGroup(3, { delayMs: 1 });
        const three = threeOf(group);
        const [a] = three;
        await using made = clientOf({ endpoints: three.map(placeOf), max: 6, ...mode });
        const { client } = made;
        let sent = 0;
        await using load = startLoad(300, async () => {
          const message = `hello ${sent++}`;
          const reply = await client.request(message, { idempotent: true, timeoutMs: 10_000 });
          return reply.endsWith(` ${message}`) ? 'right' : `${reply} for ${message}`;
        });
        await load.next(600);
        for (const served of await countsOf(three)) expect(served).toBeGreaterThan(0);
        await a.kill();
        await load.next(600);
        await a.start();
        await until(async () => (await a.count()) > 0, 'it serves again', 20_000);
        await load.stop();
        expect(lossesOf(load)).toEqual([]);
        expect(sharesOf(load.answered)).toEqual({ right: 1 });
      },
    );

    test('is the only one in the zone of the client, has all the load, and has the others help when it dies', async () => {
      await using group = await startEchoGroup(3);
      const [a, b, c] = threeOf(group);
      const near = { host: a.address, port: a.port, zone: 'here' };
      const far = [b, c].map(({ address, port }) => ({ host: address, port, zone: 'there' }));
      await using made = clientOf({ endpoints: [...far, near], zone: 'here' });
      const { client, ejected } = made;
      await using load = startLoad(200, askWho(client));
      expect(sharesOf(await load.next(400))).toEqual({ a: 1 });
      await a.kill();
      await until(() => ejected.length > 0, 'the near one is put out');
      expect(Object.keys(sharesOf(await load.next(400))).sort()).toEqual(['b', 'c']);
      await a.start();
      await until(
        async () => (sharesOf(await load.next(50))['a'] ?? 0) > 0,
        'the near one serves again',
        20_000,
      );
      await load.stop();
      expect(lossesOf(load)).toEqual([]);
    });
  });

  test('answers nearly as fast as ever when one of them is slowed by 100 ms', {
    timeout: 90_000,
  }, async () => {
    await using group = await startEchoGroup(3, { delayMs: 20 });
    const three = threeOf(group);
    const [, , c] = three;
    await using client = createClient({ ...WATCHFUL, endpoints: three.map(placeOf) });
    await using load = startLoad(250, () => client.request('hello', { idempotent: true }));
    await load.next(500);
    const usual = percentile(await load.next(2_500), 99);
    await c.delay(120);
    const windows: number[] = [];
    do {
      const before = await c.count();
      const slowed = await load.next(2_500);
      const served = (await c.count()) - before;
      windows.push(percentile(slowed, 99));
      figure(`p99 ${usual.toFixed(1)} ms, with one slow ${windows.at(-1)?.toFixed(1)} ms; it got ${served}`);
      expect(served).toBeLessThan(0.05 * slowed.length);
      // A machine that is busy otherwise spoils a window: all of three only if it is not the machine.
    } while (windows.length < 3 && !(Math.min(...windows) < 1.3 * usual));
    expect(load.failed).toEqual([]);
    expect(Math.min(...windows)).toBeLessThan(1.3 * usual);
  });
});

/** An endpoint as /proc/net/tcp writes it: the bytes of the address in reverse, and the port. */
function kernelPlaceOf({ address, port }: EchoMember): string {
  const bytes = address.split('.').map((byte) => Number(byte).toString(16).padStart(2, '0'));
  return `${bytes.reverse().join('')}:${port.toString(16).padStart(4, '0')}`.toUpperCase();
}

/** The sockets of this machine that are open, or opening, to one of these places. */
function openTo(places: ReadonlySet<string>): readonly string[] {
  const [ESTABLISHED, SYN_SENT] = ['01', '02'];
  const open = new Set<string>();
  for (const line of readFileSync('/proc/net/tcp', 'utf8').split('\n')) {
    const [, local = '', remote = '', state = ''] = line.trim().split(/\s+/);
    if (!places.has(remote) || (state !== ESTABLISHED && state !== SYN_SENT)) continue;
    // Of a list that changes while it is read some lines come twice.
    open.add(`${local} to ${remote}, state ${state}`);
  }
  return [...open];
}

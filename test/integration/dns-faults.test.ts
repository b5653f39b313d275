/**
 * A pool whose names are resolved by a real DNS server that dies, lies, is slow, or changes its mind, while the servers
 * that the names stand for come and go.
 */
import { once } from 'node:events';
import type net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { type Client, type DnsOptions, lines, type PoolOptions } from 'pulsepool';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type Identity, makeCertificates } from './support/certificates.ts';
import { openClient } from './support/clients.ts';
import { compile } from './support/compiled.ts';
import { describeWithOwnAddresses, freePort } from './support/containers.ts';
import {
  type DnsServer,
  describeWithSystemResolver,
  runWithSystemResolver,
  startDnsServer,
} from './support/dns-server.ts';
import { type EchoGroup, type EchoMember, startEchoGroup } from './support/echo-group.ts';
import { percentile, sharesOf, startLoad } from './support/load.ts';
import { dialFailure, failureOf, figure, openPool, until } from './support/pools.ts';

const PORT = 7000;
const WHO = 'WHOAMI';
const QUICK = { refreshMs: 200, timeoutMs: 500 } as const;

const WATCHFUL = {
  codec: lines(),
  max: 12,
  connectTimeoutMs: 1_000,
  readTimeoutMs: 500,
  heartbeat: { intervalMs: 300, timeoutMs: 300, ping: 'PING', isPong: (line: string) => line === 'PONG' },
  retry: { retries: 5, baseMs: 20, capMs: 500 },
} as const;

let group: EchoGroup;
let a: EchoMember;
let b: EchoMember;
let c: EchoMember;
/** The one whose answers are bent, and one that tells the truth. */
let server: DnsServer;
let backup: DnsServer;
/** Nobody listens there, so questions are refused at once; and nobody is there, so they are not answered. */
let refusing: string;
let silent: string;
/** Each test has a name of its own. */
let name = '';
let tests = 0;

async function setUp(): Promise<void> {
  group = await startEchoGroup(3);
  const [first, second, third] = group.members;
  if (!first || !second || !third) throw new Error('three servers were asked for');
  [a, b, c] = [first, second, third];
  [server, backup] = await Promise.all([startDnsServer(), startDnsServer()]);
  refusing = `127.0.0.1:${await freePort()}`;
  silent = group.freeAddress();
}

async function tearDown(): Promise<void> {
  await Promise.all([server?.stop(), backup?.stop()]);
  await group?.stop();
}

/** A pool of one name: all its addresses are one endpoint. */
function poolOf(dns: DnsOptions, options: Partial<PoolOptions<string, string>> = {}) {
  return openPool<string, string>({
    ...WATCHFUL,
    host: name,
    port: PORT,
    dns: { ...QUICK, ...dns },
    ...options,
  });
}

/** A client of one name, each address of which is an endpoint. */
function clientOf(dns: DnsOptions = {}, options: Partial<PoolOptions<string, string>> = {}) {
  return openClient<string, string>({
    ...WATCHFUL,
    endpoints: { host: name, port: PORT },
    dns: { resolvers: [server.server], ...QUICK, ...dns },
    ...options,
  });
}

function askWho(client: Client<string, string>, timeoutMs = 10_000): () => Promise<string> {
  return () => client.request(WHO, { idempotent: true, timeoutMs });
}

/** How many lines each has echoed. */
function countsOf(members: readonly EchoMember[]): Promise<number[]> {
  return Promise.all(members.map((member) => member.count()));
}

/** The addresses to which sockets are open. */
function addressesOf(pool: {
  sockets(): readonly { readonly address: string; readonly state: string }[];
}): string[] {
  const open = pool.sockets().filter(({ state }) => state !== 'dialing' && state !== 'closing');
  return [...new Set(open.map(({ address }) => address))].sort();
}

describeWithOwnAddresses('names whose DNS server has faults:', () => {
  beforeAll(setUp);
  afterAll(tearDown);
  afterEach(async () => {
    await Promise.all([a, b, c].map((member) => member.delay(0)));
  });
  beforeEach(() => {
    tests += 1;
    name = `test${tests}.echo.test`;
  });

  describe('at the start', () => {
    test.each([
      ['refuses connections', () => refusing],
      ['is silent', () => silent],
    ])('a first resolver that %s is passed over: the next one of the chain answers', async (_, dead) => {
      await backup.setAddresses(name, [a.address]);
      const { pool, diary } = poolOf({ resolvers: [dead(), backup.server] });
      expect(await pool.request(WHO)).toBe('a');
      expect(diary.of('resolveFailed')).toEqual([]);
      expect(pool.stats().dns).toMatchObject({ failures: 0, staleServed: 0 });
    });

    test.each([
      ['fails (SERVFAIL)', () => server.fail(name)],
      ['refuses to answer (REFUSED)', () => server.refuse(name)],
      ['does not answer', () => server.drop(name)],
      ['denies that there is such a name (NXDOMAIN)', () => server.remove(name)],
      ['knows the name and no address (NODATA)', () => server.setAddresses(name, [])],
    ])('a first resolver that %s is passed over: the next one of the chain answers', async (_, bend) => {
      await Promise.all([bend(), backup.setAddresses(name, [a.address])]);
      const { pool, diary } = poolOf({ resolvers: [server.server, backup.server] });
      expect(await pool.request(WHO)).toBe('a');
      expect(diary.of('resolveFailed')).toEqual([]);
    });

    test('a first resolver that is slow is passed over after timeoutMs, and used again once it answers in time', async () => {
      await Promise.all([server.setAddresses(name, [b.address]), backup.setAddresses(name, [a.address])]);
      await server.pause();
      try {
        const { pool, diary } = poolOf({ resolvers: [server.server, backup.server], timeoutMs: 300 });
        const begun = performance.now();
        expect(await pool.request(WHO)).toBe('a');
        const tookMs = performance.now() - begun;
        expect(tookMs).toBeGreaterThan(290);
        expect(tookMs).toBeLessThan(1_000);
        await server.unpause();
        // From now on it answers in time, and is the first one: only then are its addresses the right ones.
        await diary.has('addressesChanged', 2);
        expect(diary.of('addressesChanged')).toMatchObject([
          { added: [a.address], removed: [] },
          { added: [b.address], removed: [a.address] },
        ]);
      } finally {
        await server.unpause().catch(() => undefined);
      }
    });

    test('no resolver answers: the fallback addresses are dialed, until a resolver knows better', async () => {
      await server.fail(name);
      const { pool, diary } = poolOf(
        { resolvers: [refusing, server.server], fallbackAddresses: [a.address] },
        { min: 2 },
      );
      expect(await pool.request(WHO)).toBe('a');
      expect(diary.of('resolveFailed')[0]).toMatchObject({ name, staleMs: undefined });
      await server.setAddresses(name, [b.address]);
      await until(() => addressesOf(pool).join() === b.address, 'its sockets lead where the name does');
      expect(await pool.request(WHO)).toBe('b');
    });

    test('no resolver answers and there is no fallback: ERR_DNS says what each of them said; it serves once one is back', async () => {
      await server.fail(name);
      const { pool } = poolOf({ resolvers: [refusing, server.server] }, { retry: { retries: 0 } });
      const error = dialFailure(await failureOf(pool.request(WHO)));
      expect(error).toMatchObject({ code: 'ERR_DNS', retryable: true });
      expect(error.message).toContain(`${refusing}: ECONNREFUSED; ${server.server}: ESERVFAIL`);
      await server.setAddresses(name, [a.address]);
      await until(
        () =>
          pool.request(WHO).then(
            (who) => who === 'a',
            () => false,
          ),
        'it serves',
      );
    });
  });

  describe('later', () => {
    test('the DNS server dies: the last answer serves on, new sockets too, and how old it is is told', async () => {
      await server.setAddresses(name, [a.address]);
      const { pool, diary } = poolOf({ resolvers: [server.server] });
      expect(await pool.request(WHO)).toBe('a');
      await server.kill();
      try {
        await diary.has('resolveFailed', 1);
        // An answer with a TTL is fresh for 5 s at least.
        await until(() => pool.stats().dns.oldestStaleMs > 5_000, 'the answer is old');
        const before = pool.stats();
        const leases = await Promise.all(Array.from({ length: 5 }, () => pool.acquire({ timeoutMs: 2_000 })));
        for (const lease of leases) expect(await lease.request(WHO)).toBe('a');
        const { dns, opened } = pool.stats();
        expect(opened).toBeGreaterThan(before.opened);
        expect(dns.staleServed).toBeGreaterThan(0);
        for (const lease of leases) lease.release();
        const ages = diary.of('resolveFailed').map(({ staleMs }) => staleMs ?? Number.NaN);
        expect(ages).toEqual([...ages].sort((one, other) => one - other));
        expect(diary.reasons).toEqual([]);
      } finally {
        await server.start();
      }
      await until(() => pool.stats().dns.oldestStaleMs === 0, 'the answer is fresh again', 20_000);
    });

    test.each([
      ['fails (SERVFAIL)', () => server.fail(name)],
      ['refuses to answer (REFUSED)', () => server.refuse(name)],
      ['does not answer', () => server.drop(name)],
      ['denies the name for a moment (NXDOMAIN)', () => server.remove(name)],
    ])('the DNS server %s: nobody loses a socket, and no request fails', async (_, bend) => {
      await server.setAddresses(name, [a.address, b.address]);
      const { client, diary } = clientOf();
      await using load = startLoad(100, askWho(client));
      await load.next(100);
      const served = addressesOf(client.pool);
      expect(served).toEqual([a.address, b.address].sort());
      await bend();
      await diary.has('resolveFailed', 2);
      for (const { staleMs } of diary.of('resolveFailed')) expect(staleMs).toBeGreaterThan(0);
      await load.next(50);
      await server.setAddresses(name, [a.address, b.address]);
      const { failures, lookups } = client.pool.stats().dns;
      await until(() => {
        const { dns } = client.pool.stats();
        return dns.lookups - dns.failures > lookups - failures;
      }, 'the name is found again');
      await load.stop();
      expect(load.failed).toEqual([]);
      expect(diary.reasons).toEqual([]);
      expect(addressesOf(client.pool)).toEqual(served);
      expect(diary.of('endpointsChanged')).toHaveLength(1);
    });
  });

  describe('records that change:', () => {
    test('the address of a removed record gets no new leases, its sockets at rest end, and a lease in use finishes', async () => {
      await server.setAddresses(name, [a.address, b.address, c.address]);
      const { client, diary } = clientOf();
      const { pool } = client;
      const leases = await Promise.all(Array.from({ length: 9 }, () => pool.acquire()));
      const servedBy = await Promise.all(leases.map((lease) => lease.request(WHO)));
      expect([...new Set(servedBy)].sort()).toEqual(['a', 'b', 'c']);
      const held = leases.filter((_, at) => servedBy[at] === 'b').at(0);
      if (held === undefined) throw new Error('there is a lease of b');
      for (const lease of leases) if (lease !== held) lease.release();

      await server.setAddresses(name, [a.address, c.address]);
      await diary.has('endpointsChanged', 2);
      expect(diary.of('endpointsChanged')[1]).toMatchObject({
        added: [],
        removed: [`${name}/${b.address}:${PORT}`],
      });
      await until(
        () => pool.sockets().filter(({ address }) => address === b.address).length === 1,
        'one is left',
      );
      expect(new Set(diary.reasons)).toEqual(new Set(['removed']));
      await using load = startLoad(200, askWho(client));
      await until(() => new Set(load.answered.map(({ reply }) => reply)).size > 1, 'both others have served');
      await load.stop();
      expect(Object.keys(sharesOf(load.answered)).sort()).toEqual(['a', 'c']);
      expect(await held.request(WHO)).toBe('b');
      held.release();
      await until(
        () => addressesOf(pool).join() === [a.address, c.address].sort().join(),
        'the last one ends',
      );
      expect(new Set(diary.reasons)).toEqual(new Set(['removed']));
      expect(load.failed).toEqual([]);
    });

    test('the address of a new record gets its share', async () => {
      // A service time beside which the noise of a busy machine counts for little.
      await Promise.all([a, b, c].map((member) => member.delay(20)));
      await server.setAddresses(name, [a.address, b.address]);
      const { client, diary } = clientOf({}, { max: 30 });
      await using load = startLoad(300, () => client.request('hello', { idempotent: true }));
      await load.next(100);
      const before = await c.count();
      await load.next(100);
      expect(await c.count()).toBe(before);
      await server.setAddresses(name, [a.address, b.address, c.address]);
      await diary.has('endpointsChanged', 2);
      await load.next(100);
      const counts = await countsOf([a, b, c]);
      await load.next(1_500);
      const served = (await countsOf([a, b, c])).map((count, at) => count - (counts[at] ?? 0));
      figure(`record added: ${served.join(' ')}`);
      for (const one of served) {
        expect(one, served.join(' ')).toBeGreaterThan(400);
        expect(one, served.join(' ')).toBeLessThan(600);
      }
      await load.stop();
      expect(load.failed).toEqual([]);
    });

    test('a single name that moves has its sockets replaced, each after its successor has opened', async () => {
      await server.setAddresses(name, [a.address]);
      const { pool, diary } = poolOf({ resolvers: [server.server] }, { min: 4 });
      await pool.ready();
      let least = Number.POSITIVE_INFINITY;
      const look = (): void => {
        const { idle, leased } = pool.stats();
        least = Math.min(least, idle + leased);
      };
      pool.on('opened', look).on('closed', look);
      await server.setAddresses(name, [b.address]);
      await until(
        () => diary.reasons.length === 4 && addressesOf(pool).join() === b.address,
        'all are replaced',
      );
      expect(new Set(diary.reasons)).toEqual(new Set(['removed']));
      expect(least).toBeGreaterThanOrEqual(4);
      expect(await pool.request(WHO)).toBe('b');
    });

    test('all servers go for 40 s, and come back at new addresses: who waits that long is served', {
      timeout: 120_000,
    }, async () => {
      const members = [a, b, c];
      await server.setAddresses(
        name,
        members.map(({ address }) => address),
      );
      const { client } = clientOf(
        {},
        { retry: { retries: 100, baseMs: 50, capMs: 1_000 }, acquireTimeoutMs: 100_000 },
      );
      await using load = startLoad(50, askWho(client, 100_000));
      await load.next(100);
      await Promise.all(members.map((member) => member.kill()));
      const goneAt = performance.now();
      await until(() => client.pool.stats().idle + client.pool.stats().leased === 0, 'no socket is left');
      await sleep(40_000);
      await Promise.all(members.map((member) => member.moveTo(group.freeAddress())));
      const backAt = performance.now();
      await server.setAddresses(
        name,
        members.map(({ address }) => address),
      );
      const toldAt = performance.now();
      await until(
        () => load.answered.some(({ sentAt, tookMs }) => sentAt + tookMs > backAt),
        'the first answer',
      );
      const recoveredMs = performance.now() - toldAt;
      await load.next(100);
      load.perSecond = 0;
      await load.stop();
      figure(
        `all gone for ${Math.round(backAt - goneAt)} ms: served ${Math.round(recoveredMs)} ms after the records changed; ` +
          `${load.answered.length} answered, the slowest after ${Math.round(percentile(load.answered, 100))} ms`,
      );
      expect(load.failed.map(({ error }) => String(error))).toEqual([]);
      expect(recoveredMs).toBeLessThan(3_000);
    });

    test('SRV records: weights are shares, and a lower priority serves only while the first one is down', async () => {
      const service = `_line._tcp.${name}`;
      const members = [a, b, c];
      await Promise.all(
        members.map((member) => server.setAddresses(`${member.name}.${name}`, [member.address])),
      );
      await server.setServices(service, [
        { target: `a.${name}`, port: PORT, weight: 30 },
        { target: `b.${name}`, port: PORT, weight: 10 },
        { target: `c.${name}`, port: PORT, priority: 1, weight: 10 },
      ]);
      const { client, diary } = openClient<string, string>({
        ...WATCHFUL,
        max: 60,
        endpoints: { srv: service },
        dns: { resolvers: [server.server], ...QUICK },
      });
      // Many are in flight: of few, one more or less counts for more than the weights.
      await Promise.all(members.map((member) => member.delay(100)));
      const hello = () => client.request('hello', { idempotent: true, timeoutMs: 10_000 });
      const load = startLoad(300, hello);
      await load.next(300);
      const before = await countsOf(members);
      await load.next(3_000);
      await load.stop();
      const counts = await Promise.all(
        members.map(async (member, at) => (await member.count()) - (before[at] ?? 0)),
      );
      figure(`SRV 30:10: ${counts.join(' ')}`);
      const [ofA = 0, ofB = 0, ofC] = counts;
      expect(ofC).toBe(0);
      const shares = { a: ofA / (ofA + ofB), b: ofB / (ofA + ofB) };
      expect(shares.a).toBeGreaterThan(0.75 * 0.9);
      expect(shares.a).toBeLessThan(0.75 * 1.1);
      expect(shares.b).toBeGreaterThan(0.25 * 0.9);
      expect(shares.b).toBeLessThan(0.25 * 1.1);
      expect(load.failed).toEqual([]);

      await using later = startLoad(200, askWho(client));
      await later.next(200);
      await Promise.all([a.kill(), b.kill()]);
      await until(() => diary.of('ejected').length >= 2, 'the first tier is out');
      expect(sharesOf(await later.next(200))).toEqual({ c: 1 });
      const startedAt = performance.now();
      await Promise.all([a.start(), b.start()]);
      await until(() => diary.of('restored').length > 0, 'one of the first tier is back', 20_000);
      await until(async () => (sharesOf(await later.next(50))['a'] ?? 0) > 0, 'the first tier serves again');
      const opened = diary
        .of('opened')
        .filter(({ at, endpoint }) => at > startedAt && !endpoint.includes(c.address));
      const busiest = Math.max(
        ...opened.map(({ at }) => opened.filter((one) => one.at >= at && one.at < at + 1_000).length),
      );
      figure(`SRV failback: ${opened.length} sockets, at most ${busiest} in one second`);
      expect(busiest).toBeLessThanOrEqual(15);
      await later.stop();
      expect(later.failed.map(({ error }) => String(error))).toEqual([]);
    });
  });

  describe('an address that another service has taken over', () => {
    const certificates = makeCertificates();

    /** Answers every line with its name. */
    async function startTls(
      identity: Identity,
      address: string,
      port: number,
      who: string,
    ): Promise<tls.Server> {
      const sockets = new Set<net.Socket>();
      const listening = tls.createServer({ ...identity }, (socket) => {
        socket.on('data', (data: Buffer) => {
          socket.write(`${who}\n`.repeat(data.toString().split('\n').length - 1));
        });
        socket.on('error', () => undefined);
      });
      listening.on('connection', (socket: net.Socket) => {
        sockets.add(socket);
        socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
      });
      listening.on('tlsClientError', () => undefined);
      listening.on('close', () => undefined);
      listening.listen(port, address);
      await once(listening, 'listening');
      const end = listening.close.bind(listening);
      listening.close = (done) => {
        for (const socket of sockets) socket.destroy();
        return end(done);
      };
      onTestFinished(() => void listening.close());
      return listening;
    }

    function secure(port: number) {
      return openClient<string, string>({
        codec: lines(),
        max: 6,
        retry: WATCHFUL.retry,
        connectTimeoutMs: 1_000,
        tls: { ca: certificates.ca },
        endpoints: { host: 'elsewhere.test', port },
        dns: { resolvers: [server.server], ...QUICK },
      });
    }

    test('is refused with ERR_TLS_TRUST, and the right one serves on', async () => {
      const port = await freePort();
      const taken = await startTls(certificates.elsewhere, '127.0.0.2', port, 'first');
      await startTls(certificates.elsewhere, '127.0.0.3', port, 'second');
      await server.setAddresses('elsewhere.test', ['127.0.0.2', '127.0.0.3']);
      const { client, diary } = secure(port);
      await using load = startLoad(100, askWho(client));
      expect(Object.keys(sharesOf(await load.next(200))).sort()).toEqual(['first', 'second']);
      taken.close();
      await startTls(certificates.server, '127.0.0.2', port, 'stranger');
      await until(
        () => diary.of('dialFailed').some(({ error }) => error.code === 'ERR_TLS_TRUST'),
        'the stranger is refused',
      );
      const refused = diary.of('dialFailed').find(({ error }) => error.code === 'ERR_TLS_TRUST');
      expect(refused).toMatchObject({
        endpoint: `elsewhere.test/127.0.0.2:${port}`,
        error: { phase: 'tls' },
      });
      expect(sharesOf(await load.next(100))).toEqual({ second: 1 });
      await load.stop();
      expect(load.failed.map(({ error }) => String(error))).toEqual([]);
      expect(load.answered.every(({ reply }) => reply !== 'stranger')).toBe(true);
    });

    test('is refused from the start, and keeps nobody from the right one', async () => {
      const port = await freePort();
      await startTls(certificates.server, '127.0.0.2', port, 'stranger');
      await startTls(certificates.elsewhere, '127.0.0.3', port, 'second');
      await server.setAddresses('elsewhere.test', ['127.0.0.2', '127.0.0.3']);
      for (let round = 0; round < 4; round++) {
        const { client } = secure(port);
        expect(await client.request(WHO, { timeoutMs: 5_000 })).toBe('second');
        await client.close();
      }
    });
  });
});

describeWithSystemResolver('the system resolver of a process', () => {
  beforeAll(setUp);
  afterAll(tearDown);

  test('dies: new sockets are dialed by its last answer, which is told with its age', async () => {
    await using compiled = await compile();
    await server.setAddresses('system.test', [a.address]);
    const running = runWithSystemResolver(
      `
      import { createPool, lines } from ${JSON.stringify(compiled.url)};
      const pool = createPool({ host: 'system.test', port: ${PORT}, codec: lines(), dns: ${JSON.stringify(QUICK)} });
      let onFailed;
      const failed = new Promise((resolve) => { onFailed = resolve; });
      pool.on('resolveFailed', (event) => onFailed(event));
      const told = [await pool.request('WHOAMI')];
      const keep = setInterval(() => undefined, 1_000);
      const { error, staleMs } = await failed;
      clearInterval(keep);
      told.push(error.code, staleMs > 0);
      const leases = await Promise.all([pool.acquire(), pool.acquire(), pool.acquire()]);
      for (const lease of leases) told.push(await lease.request('WHOAMI'));
      for (const lease of leases) lease.release();
      const { dns, opened } = pool.stats();
      told.push(dns.staleServed > 0, opened > 1);
      console.log(told.join(' '));
      await pool.close();`,
      server,
    );
    await until(async () => (await server.queries('system.test')) >= 4, 'the process has asked twice');
    await server.kill();
    expect(await running).toEqual({ stdout: 'a ERR_DNS true a a a true true\n', stderr: '', exitCode: 0 });
  });
});

/**
 * TLS and mutual TLS: right certificates work, wrong ones are their own error and are dialed once, and ports that
 * speak something else are told apart.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { lengthPrefixed, lines, type PoolOptions, type PulsepoolError, type TlsOptions } from 'pulsepool';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Identity, makeCertificates } from './support/certificates.ts';
import { describeWithServers, type EchoServer, startEcho } from './support/containers.ts';
import {
  type Diary,
  dialBound,
  dialFailure,
  expectBackoffKept,
  failureOf,
  figure,
  openPool,
  until,
} from './support/pools.ts';

const certificates = makeCertificates();
const RETRY = { retries: 3, baseMs: 5, capMs: 50 };

let echo: EchoServer;

function secure(tls: TlsOptions, options: Partial<PoolOptions<string, string>> = {}) {
  return openPool<string, string>({
    host: echo.host,
    port: echo.ports.tls,
    codec: lines(),
    tls,
    max: 4,
    retry: RETRY,
    ...options,
  });
}

/** Nothing more is dialed for a while, in which every back-off of {@link RETRY} would have passed. */
async function expectDialedOnce(diary: Diary): Promise<void> {
  await sleep(150);
  expect(diary.of('dialFailed').length + diary.of('opened').length).toBe(1);
}

describeWithServers('a server with certificates and', () => {
  beforeAll(async () => {
    echo = await startEcho({ certificates });
  });
  afterAll(() => echo?.stop());

  describe('a pool over TLS', () => {
    test('trusts a right certificate, asks for the name and agrees on the protocol', async () => {
      const { pool } = secure({ ca: certificates.ca, servername: 'localhost', ALPNProtocols: ['echo/1'] });
      expect(await pool.request('WHO')).toBe('sni=localhost alpn=echo/1 client=-');
      const replies = await Promise.all(
        Array.from({ length: 200 }, (_, id) => pool.request(`question ${id}`)),
      );
      expect(replies).toEqual(replies.map((_, id) => `Echo: question ${id}`));
      expect(pool.stats()).toMatchObject({ opened: 4, dialFailed: 0 });
    });

    test('asks for the host by name, and trusts an address by the certificate’s address', async () => {
      const { pool: byName } = secure({ ca: certificates.ca }, { host: 'localhost' });
      expect(await byName.request('WHO')).toMatch(/^sni=localhost /);
      const { pool: byAddress } = secure({ ca: certificates.ca }, { host: '127.0.0.1' });
      expect(await byAddress.request('WHO')).toMatch(/^sni=- /);
    });

    test('keeps its sockets alive with heartbeats under TLS', async () => {
      const heartbeat = {
        intervalMs: 100,
        timeoutMs: 1_000,
        ping: 'PING',
        isPong: (line: string) => line === 'PONG',
      };
      const { pool, diary } = secure({ ca: certificates.ca }, { min: 2, heartbeat });
      await pool.ready();
      await diary.has('pinged', 6);
      expect(diary.of('closed')).toEqual([]);
    });

    test.each([
      ['a CA that it does not know', { ca: certificates.unrelated.ca }, /tls\.ca/],
      ['no CA of its own', {}, /tls\.ca/],
      ['another name', { ca: certificates.ca, servername: 'elsewhere.test' }, /tls\.servername/],
    ])('refuses a server for %s: ERR_TLS_TRUST, dialed once', async (_, tls, hint) => {
      const { pool, diary } = secure(tls);
      const error = dialFailure(await failureOf(pool.request('hello', { idempotent: true })));
      expect(error).toMatchObject({ code: 'ERR_TLS_TRUST', retryable: false, phase: 'tls' });
      expect(error.hint).toMatch(hint);
      expect(error.cause).toBeInstanceOf(Error);
      await expectDialedOnce(diary);
    });

    /** Signed by itself, by somebody who knows how: openssl. */
    async function selfSigned(): Promise<Identity> {
      const command =
        'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout /tmp/key';
      const made = await echo.exec([
        ...command.split(' '),
        '-subj',
        '/CN=localhost',
        '-addext',
        'subjectAltName=DNS:localhost',
        '-out',
        '/tmp/cert',
      ]);
      expect(made.exitCode).toBe(0);
      const [cert, key] = await Promise.all(
        ['/tmp/cert', '/tmp/key'].map((file) => echo.exec(['cat', file])),
      );
      return { cert: cert?.output ?? '', key: key?.output ?? '' };
    }

    const BAD: [string, () => Identity | Promise<Identity>, string][] = [
      ['expired', () => certificates.expired, 'CERT_HAS_EXPIRED'],
      ['for another host', () => certificates.elsewhere, 'ERR_TLS_CERT_ALTNAME_INVALID'],
      ['of an unrelated CA', () => certificates.unrelated.server, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
      ['self-signed', selfSigned, 'DEPTH_ZERO_SELF_SIGNED_CERT'],
    ];

    test('refuses certificates that are expired, for another host, of another CA or self-signed, each dialed once', async () => {
      await Promise.all(
        BAD.map(async ([what, identity, code]) => {
          await using shady = await startEcho({ certificates, identity: await identity() });
          const { pool, diary } = secure(
            { ca: certificates.ca, servername: 'localhost' },
            { host: shady.host, port: shady.ports.tls },
          );
          const error = dialFailure(await failureOf(pool.request('hello', { idempotent: true })));
          expect(error, what).toMatchObject({
            code: 'ERR_TLS_TRUST',
            retryable: false,
            phase: 'tls',
            cause: { code },
          });
          await expectDialedOnce(diary);
        }),
      );
    });

    test('dials a server that it does not trust no more often than the back-off allows, to keep min', async () => {
      const begun = performance.now();
      const { pool, diary } = secure({ ca: certificates.unrelated.ca }, { min: 2 });
      expect(await failureOf(pool.ready())).toMatchObject({ code: 'ERR_TLS_TRUST' });
      await sleep(500);
      const dials = diary.of('dialFailed').length;
      const bound = dialBound(performance.now() - begun, RETRY, 1) + 2;
      figure(
        `no trust, min 2: ${dials} dials in ${Math.round(performance.now() - begun)} ms (bound ${bound})`,
      );
      expect(dials).toBeLessThanOrEqual(bound);
      expectBackoffKept(diary.of('dialFailed'));
    });
  });

  describe('a pool over mutual TLS', () => {
    const mutual = (tls: TlsOptions, options: Partial<PoolOptions<string, string>> = {}) =>
      secure(
        { ca: certificates.ca, servername: 'localhost', ...tls },
        { port: echo.ports.mutualTls, ...options },
      );

    test('is known to the server by its certificate', async () => {
      const { pool } = mutual(certificates.client);
      expect(await pool.request('WHO')).toMatch(/client=client$/);
    });

    const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;
    const CLIENTS = [
      ['without a certificate', {}],
      ['with a certificate of an unrelated CA', certificates.unrelated.client],
    ] as const;

    test.each(VERSIONS.flatMap((version) => CLIENTS.map(([who, tls]) => [who, version, tls] as const)))(
      'is refused %s over %s: ERR_TLS_TRUST, not repeated',
      async (_, version, tls) => {
        const { pool, diary } = mutual({ ...tls, minVersion: version, maxVersion: version });
        const error = await failureOf(pool.request('WHO', { idempotent: true }));
        // TLS 1.3 tells the client that it is in before the server has looked at its certificate.
        const told: PulsepoolError = error.code === 'ERR_ACQUIRE_FAILED' ? dialFailure(error) : error;
        expect(told).toMatchObject({ code: 'ERR_TLS_TRUST', retryable: false });
        expect(told.hint).toMatch(/tls\.cert/);
        await expectDialedOnce(diary);
      },
    );

    test('is refused in the handshake when there is one: ERR_TLS_TRUST is the dial’s own failure', async () => {
      const { pool, diary } = mutual(
        {},
        {
          onConnect: async (lease) => {
            await lease.request('PING');
          },
        },
      );
      const error = dialFailure(await failureOf(pool.request('WHO')));
      let root: unknown = error;
      while (root instanceof Error && (root as PulsepoolError).code !== 'ERR_TLS_TRUST') root = root.cause;
      expect(root).toMatchObject({ code: 'ERR_TLS_TRUST' });
      expect(error.retryable).toBe(false);
      await expectDialedOnce(diary);
    });
  });

  describe('TLS on one side only', () => {
    test('a client with TLS on a plain port that answers: ERR_TLS', async () => {
      const { pool, diary } = secure({ ca: certificates.ca }, { port: echo.ports.raw });
      const error = dialFailure(await failureOf(pool.request('hello')));
      expect(error).toMatchObject({ code: 'ERR_TLS', retryable: false, phase: 'tls' });
      await expectDialedOnce(diary);
    });

    test('a client with TLS on a plain port that hangs up: ERR_TLS', async () => {
      // The hello's first four bytes are a length over the frame echo's limit.
      const { pool } = secure({ ca: certificates.ca }, { port: echo.ports.frames });
      const error = dialFailure(await failureOf(pool.request('hello')));
      expect(error).toMatchObject({ code: 'ERR_TLS', phase: 'tls' });
      expect(error.hint).toMatch(/plain port/);
    });

    test('a client with TLS on a plain port that waits for more: ERR_CONNECT_TIMEOUT in phase tls, or ERR_TLS', async () => {
      // The line echo answers a hello only if some byte of it happens to be a line feed.
      const { pool } = secure({ ca: certificates.ca }, { port: echo.ports.line, connectTimeoutMs: 150 });
      const error = dialFailure(await failureOf(pool.request('hello')));
      expect(error.code).toMatch(/^ERR_(CONNECT_TIMEOUT|TLS)$/);
      expect(error).toMatchObject({ phase: 'tls' });
      expect(error.hint).toMatch(/plain port/);
    });

    test.each([
      ['lines', lines()],
      ['length-prefixed', lengthPrefixed()],
    ])('a plain client (%s) on a TLS port: an error that names TLS', async (_, codec) => {
      const { pool } = openPool<string, unknown>({
        host: echo.host,
        port: echo.ports.tls,
        codec: codec as never,
        max: 1,
        retry: RETRY,
      });
      const error = await failureOf(pool.request('hello, is anybody there?'));
      expect(error.code).toMatch(/^ERR_(SERVER_FULL|FRAME)$/);
      expect(error.hint).toMatch(/TLS/);
      await until(() => pool.stats().total === 0, 'the socket is gone');
    });
  });
});

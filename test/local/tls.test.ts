import { once } from 'node:events';
import type net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { createPool } from '../../src/create-pool.ts';
import type { TlsOptions } from '../../src/transport/dial.ts';
import { lines } from '../../src/transport/lines.ts';
import { makeCertificates } from '../integration/support/certificates.ts';
import {
  closeLocal,
  dialFailure,
  dialLocal,
  echo,
  onCloseLocal,
  plainServer,
  tlsServer,
} from '../support/local-servers.ts';
import { startRemoteEcho } from '../support/remote-echo.ts';
import { SELF_SIGNED } from '../support/self-signed.ts';

afterEach(closeLocal);

const { ca, client, elsewhere, expired, server, unrelated } = makeCertificates();

/** A pool of lines over TLS, closed at the end of the test. */
function poolOf(port: number, tls: TlsOptions) {
  const pool = createPool({ host: '127.0.0.1', port, tls, codec: lines(), retry: { retries: 0 } });
  onCloseLocal(() => void pool.close({ timeoutMs: 1 }));
  return pool;
}

describe('a dial over TLS', () => {
  it('opens a socket whose server the CA vouches for', async () => {
    const socket = (await dialLocal({ port: await tlsServer(server, echo), tls: { ca } })) as TLSSocket;
    expect(socket.authorized).toBe(true);
    socket.write('hello');
    const [chunk] = await once(socket, 'data');
    expect(String(chunk)).toBe('hello');
  });

  it.each([
    ['a CA we do not know', unrelated.server, 'tls.ca', ''],
    ['itself', SELF_SIGNED, 'tls.ca', 'DEPTH_ZERO_SELF_SIGNED_CERT'],
    ['a CA that let it expire', expired, 'dates', 'CERT_HAS_EXPIRED'],
    ['our CA, but for another name', elsewhere, 'servername', 'ERR_TLS_CERT_ALTNAME_INVALID'],
  ])('refuses a certificate signed by %s, for good', async (_who, identity, hint, cause) => {
    const error = await dialFailure({ host: 'localhost', port: await tlsServer(identity), tls: { ca } });
    expect(error).toMatchObject({ code: 'ERR_TLS_TRUST', phase: 'tls', retryable: false, sent: 'none' });
    expect(error.hint).toContain(hint);
    expect(error.message).toContain(cause);
  });

  it('refuses what the user’s own check refuses, for good', async () => {
    const wrongPin = new Error('wrong pin');
    const tls = { ca, checkServerIdentity: () => wrongPin };
    const error = await dialFailure({ port: await tlsServer(server), tls });
    expect(error).toMatchObject({ code: 'ERR_TLS_TRUST', retryable: false, cause: wrongPin });
  });

  it('can be told not to look', async () => {
    const socket = await dialLocal({
      port: await tlsServer(SELF_SIGNED, echo),
      tls: { rejectUnauthorized: false },
    });
    expect(socket.destroyed).toBe(false);
  });

  it('sends the name it dials as SNI, the one it is told, and none for an address', async () => {
    const names: unknown[] = [];
    const port = await tlsServer(server, (socket) => names.push(Reflect.get(socket, 'servername')));
    await dialLocal({ host: 'localhost', port, tls: { ca } });
    await dialLocal({ host: '127.0.0.1', port, tls: { ca, servername: 'localhost' } });
    await dialLocal({ host: '127.0.0.1', port, tls: { ca } });
    await expect.poll(() => names).toEqual(['localhost', 'localhost', false]);
  });

  it('agrees on a protocol by ALPN', async () => {
    const port = await tlsServer({ ...server, ALPNProtocols: ['orders/2', 'orders/1'] });
    const socket = (await dialLocal({ port, tls: { ca, ALPNProtocols: ['orders/1'] } })) as TLSSocket;
    expect(socket.alpnProtocol).toBe('orders/1');
    const error = await dialFailure({ port, tls: { ca, ALPNProtocols: ['other'] } });
    expect(error).toMatchObject({ code: 'ERR_TLS', retryable: false });
  });

  it('to a server that speaks an older TLS only: never retried', async () => {
    const port = await tlsServer({ ...server, maxVersion: 'TLSv1.2' });
    const error = await dialFailure({ port, tls: { ca, minVersion: 'TLSv1.3' } });
    expect(error).toMatchObject({ code: 'ERR_TLS', phase: 'tls', retryable: false });
  });

  it.each<[string, TlsOptions]>([
    ['a certificate that is none', { cert: 'nonsense', key: 'nonsense' }],
    ['a key of another certificate', { cert: client.cert, key: server.key }],
    ['a TLS version that does not exist', { minVersion: 'TLSv9' as 'TLSv1.3' }],
    ['ciphers that do not exist', { ciphers: 'nonsense' }],
  ])('with %s is never made', async (_what, tls) => {
    const error = await dialFailure({ port: 1, tls });
    expect(error).toMatchObject({ code: 'ERR_TLS', phase: 'tls', retryable: false });
  });

  it.each([
    ['greets in plain text', (socket: net.Socket) => void socket.write('220 hello\r\n')],
    [
      'answers as HTTP',
      (socket: net.Socket) => void socket.once('data', () => socket.end('HTTP/1.1 400 Bad\r\n\r\n')),
    ],
    ['echoes', echo],
  ])('to a plain port that %s: never retried', async (_what, onSocket) => {
    const error = await dialFailure({ port: await plainServer(onSocket), tls: { ca } });
    expect(error).toMatchObject({ code: 'ERR_TLS', phase: 'tls', retryable: false });
  });

  it.each(['end', 'resetAndDestroy'] as const)(
    'to a server that hangs up (%s) may do better next time',
    async (how) => {
      const port = await plainServer((socket) => void socket.once('data', () => socket[how]()));
      const error = await dialFailure({ port, tls: { ca } });
      expect(error).toMatchObject({ code: 'ERR_TLS', phase: 'tls', retryable: true });
    },
  );
});

describe('mutual TLS', () => {
  const demanding = { ...server, ca, requestCert: true, rejectUnauthorized: true };

  it('lets in a client whose certificate the server’s CA has signed', async () => {
    const pool = poolOf(await tlsServer(demanding, echo), { ca, ...client });
    expect(await pool.request('hello')).toBe('hello');
  });

  it('over TLS 1.3 tells the first request of a client without a certificate, every time and for good', async () => {
    // The client's handshake is over before the server has looked: the dial has succeeded by then.
    const port = await tlsServer(demanding);
    for (let i = 0; i < 10; i++) {
      await dialLocal({ port, tls: { ca } });
      await expect(poolOf(port, { ca }).request('hello')).rejects.toMatchObject({
        code: 'ERR_TLS_TRUST',
        retryable: false,
        hint: expect.stringContaining('tls.key'),
      });
    }
  });

  it('over TLS 1.2 fails the dial of a client without a certificate, for good', async () => {
    const port = await tlsServer({ ...demanding, maxVersion: 'TLSv1.2' });
    const error = await dialFailure({ port, tls: { ca } });
    expect(error).toMatchObject({ code: 'ERR_TLS', phase: 'tls', retryable: false });
    expect(error.hint).toContain('client certificate');
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'over %s hints at the certificate when the server hangs up on it without a word',
    async (maxVersion) => {
      // As Node's own servers do with a certificate of a CA that they don't know.
      const port = await tlsServer({ ...demanding, maxVersion });
      const error: unknown = await poolOf(port, { ca, ...unrelated.client })
        .request('hello')
        .catch((reason) => reason);
      expect(error).toMatchObject({ hint: expect.stringContaining('certificate') });
    },
  );

  it('over TLS 1.3, without a certificate, fails the handshake of onConnect for what it is', async () => {
    const port = await tlsServer(demanding);
    const pool = createPool({
      host: '127.0.0.1',
      port,
      tls: { ca },
      codec: lines(),
      onConnect: async (lease) => {
        await lease.request('AUTH');
      },
    });
    onCloseLocal(() => void pool.close({ timeoutMs: 1 }));
    await expect(pool.acquire()).rejects.toMatchObject({
      code: 'ERR_ACQUIRE_FAILED',
      retryable: false,
      cause: { code: 'ERR_TLS_TRUST' },
    });
  });
});

describe('a connection over TLS', () => {
  // Node tells of the end of a TLS write only after the reply to it may have come: a lease released then is clean.
  // It takes a server in another process and a caller that pauses to see it.
  it('is used again after every complete exchange', async () => {
    const remote = await startRemoteEcho(server);
    try {
      const pool = createPool({ host: 'localhost', port: remote.port, tls: { ca }, codec: lines(), max: 1 });
      for (let round = 0; round < 60; round++) {
        await sleep(3);
        expect(await pool.request(`hello ${round}`)).toBe(`Echo: hello ${round}`);
      }
      await pool.close();
      expect(pool.stats()).toMatchObject({ opened: 1, closedBy: { shutdown: 1 } });
    } finally {
      await remote.stop();
    }
  });

  it('is clean at once after a message that wants no reply', async () => {
    const port = await tlsServer(server, (socket) => socket.resume());
    const pool = poolOf(port, { ca });
    for (let round = 0; round < 10; round++) {
      const lease = await pool.acquire();
      await lease.send('x'.repeat(2_000), { replies: 0 });
      lease.release();
    }
    expect(pool.stats()).toMatchObject({ opened: 1, closed: 0 });
  });
});

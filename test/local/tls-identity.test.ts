import { once } from 'node:events';
import tls from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { createPoolIn, REAL } from '../../src/create-pool.ts';
import { dial, type TlsOptions } from '../../src/transport/dial.ts';
import type { DialError } from '../../src/transport/dial-error.ts';
import type { Endpoint } from '../../src/transport/endpoint.ts';
import { lines } from '../../src/transport/lines.ts';
import { makeCertificates } from '../integration/support/certificates.ts';
import { closeLocal, echo, onCloseLocal } from '../support/local-servers.ts';
import { HAS_IPV6, HAS_MANY_LOOPBACKS, listenAt, lookupOf } from '../support/loopback.ts';

afterEach(closeLocal);

// `server` is for localhost, 127.0.0.1 and ::1; `elsewhere` for elsewhere.test only.
const { ca, elsewhere, server } = makeCertificates();
const SECOND = '127.0.0.2';

/** Starts a server with this certificate at `at`, and dials it there as `host`. */
async function meet(
  identity: tls.TlsOptions,
  host: string,
  at: string,
  more: TlsOptions = {},
  where: 'endpoint' | 'dial' = 'endpoint',
): Promise<tls.TLSSocket> {
  const port = await listenAt(tls.createServer(identity, echo), at);
  // An endpoint that was found with its address, or one whose name was resolved for the dial.
  const endpoint: Endpoint =
    where === 'endpoint' ? { kind: 'tcp', host, port, address: at } : { kind: 'tcp', host, port };
  const socket = await dial(
    {
      endpoint,
      ...(where === 'dial' ? { address: at } : {}),
      tls: { ca, ...more },
      connectTimeoutMs: 5_000,
    },
    systemClock,
    new AbortController().signal,
    (opened) => opened.on('error', () => undefined),
  );
  onCloseLocal(() => socket.destroy());
  if (!(socket instanceof tls.TLSSocket)) throw new Error('not a TLS socket');
  return socket;
}

/** The same, to be refused for good. */
async function refusal(...args: Parameters<typeof meet>): Promise<DialError> {
  const error: unknown = await meet(...args).then(
    () => 'it was let in',
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({
    name: 'DialError',
    code: 'ERR_TLS_TRUST',
    phase: 'tls',
    retryable: false,
    sent: 'none',
    cause: { code: 'ERR_TLS_CERT_ALTNAME_INVALID' },
  });
  return error as DialError;
}

describe('a certificate for the endpoint’s name', () => {
  it.each(['endpoint', 'dial'] as const)(
    'is accepted at an address that it does not name (%s)',
    async (where) => {
      const socket = await meet(elsewhere, 'elsewhere.test', '127.0.0.1', {}, where);
      expect(socket.authorized).toBe(true);
      socket.write('hello');
      const [chunk] = await once(socket, 'data');
      expect(String(chunk)).toBe('hello');
    },
  );

  it.skipIf(!HAS_MANY_LOOPBACKS)('is accepted at whichever address the name has today', async () => {
    expect((await meet(server, 'localhost', SECOND)).authorized).toBe(true);
    expect((await meet(server, 'localhost', '127.0.0.3')).authorized).toBe(true);
  });

  it.skipIf(!HAS_IPV6)('is accepted over IPv6', async () => {
    expect((await meet(elsewhere, 'elsewhere.test', '::1')).authorized).toBe(true);
  });

  it('is accepted for the absolute form of the name, too', async () => {
    expect((await meet(elsewhere, 'elsewhere.test.', '127.0.0.1')).authorized).toBe(true);
  });

  it('is accepted when no SNI is sent', async () => {
    const socket = await meet(elsewhere, 'elsewhere.test', '127.0.0.1', { servername: '' });
    expect(socket.authorized).toBe(true);
  });
});

describe('a certificate for another name', () => {
  it.each(['endpoint', 'dial'] as const)(
    'is refused although it names the address that was dialed (%s)',
    async (where) => {
      const error = await refusal(server, 'orders.test', '127.0.0.1', {}, where);
      expect(error.hint).toContain('servername');
      expect(error.address).toBe('127.0.0.1');
      expect(error.message).toContain('127.0.0.1');
    },
  );

  it('is refused at an address that another service has taken over', async () => {
    await refusal(elsewhere, 'localhost', '127.0.0.1');
  });

  it('is refused when no SNI is sent', async () => {
    await refusal(server, 'orders.test', '127.0.0.1', { servername: '' });
  });

  it('is accepted when `tls.servername` says so', async () => {
    const socket = await meet(elsewhere, 'orders.test', '127.0.0.1', { servername: 'elsewhere.test' });
    expect(socket.authorized).toBe(true);
  });

  it('is refused when `tls.servername` says another one, though it has the endpoint’s name', async () => {
    await refusal(elsewhere, 'elsewhere.test', '127.0.0.1', { servername: 'orders.test' });
  });
});

describe('an endpoint that has no name but an address', () => {
  it('is checked against that address', async () => {
    expect((await meet(server, '127.0.0.1', '127.0.0.1')).authorized).toBe(true);
    await refusal(elsewhere, '127.0.0.1', '127.0.0.1');
  });

  it.skipIf(!HAS_IPV6)('is checked against that address over IPv6', async () => {
    expect((await meet(server, '::1', '::1')).authorized).toBe(true);
    await refusal(elsewhere, '::1', '::1');
  });

  it.skipIf(!HAS_MANY_LOOPBACKS)(
    'is checked against its own address, not against the one dialed',
    async () => {
      expect((await meet(server, '127.0.0.1', SECOND)).authorized).toBe(true);
      await refusal(server, SECOND, '127.0.0.1');
    },
  );

  it.skipIf(!HAS_MANY_LOOPBACKS)('is refused at an address that its certificate does not name', async () => {
    await refusal(server, SECOND, SECOND);
  });

  it('is checked against `tls.servername` if there is one', async () => {
    const socket = await meet(elsewhere, '127.0.0.1', '127.0.0.1', { servername: 'elsewhere.test' });
    expect(socket.authorized).toBe(true);
    await refusal(server, '127.0.0.1', '127.0.0.1', { servername: 'orders.test' });
  });
});

describe('the server', () => {
  it('hears the endpoint’s name (SNI), without the dot that ends an absolute one, and never an address', async () => {
    const heard: string[] = [];
    const SNICallback: tls.TlsOptions['SNICallback'] = (name, done) => {
      heard.push(name);
      done(null);
    };
    await meet({ ...elsewhere, SNICallback }, 'elsewhere.test', '127.0.0.1');
    await meet({ ...elsewhere, SNICallback }, 'elsewhere.test.', '127.0.0.1');
    await meet({ ...elsewhere, SNICallback }, '127.0.0.1', '127.0.0.1', { servername: 'elsewhere.test' });
    expect(heard.splice(0)).toEqual(['elsewhere.test', 'elsewhere.test', 'elsewhere.test']);
    await meet({ ...server, SNICallback }, '127.0.0.1', '127.0.0.1');
    await meet({ ...elsewhere, SNICallback }, 'elsewhere.test', '127.0.0.1', { servername: '' });
    expect(heard).toEqual([]);
  });
});

describe('a check of the user’s', () => {
  it('is asked about the endpoint’s name, not about the address', async () => {
    const asked: string[] = [];
    const checkServerIdentity = (name: string): undefined => {
      asked.push(name);
    };
    await meet(server, 'orders.test', '127.0.0.1', { checkServerIdentity });
    await meet(server, 'orders.test', '127.0.0.1', { checkServerIdentity, servername: 'users.test' });
    await meet(server, 'orders.test', '127.0.0.1', { checkServerIdentity, servername: '' });
    await meet(server, '127.0.0.1', '127.0.0.1', { checkServerIdentity });
    expect(asked).toEqual(['orders.test', 'users.test', 'orders.test', '127.0.0.1']);
  });
});

describe('a pool over TLS', () => {
  it('checks the name that it was given, whatever address that has', async () => {
    const port = await listenAt(tls.createServer(elsewhere, echo), '127.0.0.1');
    const around = { ...REAL, makeLookups: () => [lookupOf('127.0.0.1')] };
    const options = { port, tls: { ca }, codec: lines(), retry: { retries: 0 } };
    const right = createPoolIn(around, { ...options, host: 'elsewhere.test' });
    const wrong = createPoolIn(around, { ...options, host: 'orders.test' });
    onCloseLocal(() => {
      for (const pool of [right, wrong]) void pool.close({ timeoutMs: 1 });
    });
    expect(await right.request('hello')).toBe('hello');
    await expect(wrong.request('hello')).rejects.toMatchObject({
      code: 'ERR_ACQUIRE_FAILED',
      retryable: false,
      cause: { code: 'ERR_TLS_TRUST', endpoint: `orders.test:${port}` },
    });
  });
});

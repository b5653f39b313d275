import http from 'node:http';
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createPool } from '../../src/create-pool.ts';
import type { PulsepoolError } from '../../src/errors.ts';
import type { PoolOptions } from '../../src/options.ts';
import { fixedLength } from '../../src/transport/fixed-length.ts';
import { lengthPrefixed } from '../../src/transport/length-prefixed.ts';
import { lines } from '../../src/transport/lines.ts';
import { makeCertificates } from '../integration/support/certificates.ts';
import { closeLocal, echo, listen, onCloseLocal, plainServer, tlsServer } from '../support/local-servers.ts';

afterEach(closeLocal);

/** A pool to a port of this machine, without retries, closed at the end of the test. */
function poolTo<In, Out>(port: number, options: Omit<PoolOptions<In, Out>, 'host' | 'port'>) {
  const pool = createPool({ host: '127.0.0.1', port, retry: { retries: 0 }, ...options });
  onCloseLocal(() => void pool.close({ timeoutMs: 1 }));
  return pool;
}

async function failure(promise: Promise<unknown>): Promise<PulsepoolError> {
  return promise.then(
    () => Promise.reject(new Error('it was expected to reject')),
    (reason) => reason,
  );
}

describe('a server that is full', () => {
  it.each(['end', 'resetAndDestroy'] as const)(
    'and hangs up on new sockets (%s) is told as such',
    async (how) => {
      const port = await plainServer((socket) => void socket[how]());
      const error = await failure(poolTo(port, { codec: lines() }).request('hello'));
      // A reset may come before the socket counts as open: then it is the dial that fails.
      const story = error.code === 'ERR_ACQUIRE_FAILED' ? error.cause : error;
      expect(story).toMatchObject({ code: 'ERR_SERVER_FULL', retryable: true });
      expect(error.hint).toContain('full');
    },
  );

  it('hangs up during the handshake of onConnect, and is told as such', async () => {
    const port = await plainServer((socket) => void socket.end());
    const onConnect: PoolOptions<string, string>['onConnect'] = async (lease) => {
      await lease.request('AUTH').catch(() => undefined);
    };
    const error = await failure(poolTo(port, { codec: lines(), onConnect }).acquire());
    expect(error.cause).toMatchObject({ code: 'ERR_SERVER_FULL', retryable: true });
  });
});

describe('a server of another protocol', () => {
  const { server } = makeCertificates();

  it.each([
    ['lengthPrefixed', lengthPrefixed(), 'hello'],
    ['fixedLength', fixedLength(64), 'x'.repeat(64)],
    ['lines', lines(), 'hello'],
  ])('TLS instead of plain is guessed with %s', async (_name, codec, message) => {
    const port = await tlsServer(server);
    const pool = createPool<string, unknown>({
      host: '127.0.0.1',
      port,
      codec: codec as PoolOptions<string, unknown>['codec'],
      retry: { retries: 0 },
    });
    onCloseLocal(() => void pool.close({ timeoutMs: 1 }));
    const error = await failure(pool.request(message));
    expect(error.hint).toContain('TLS');
  });

  it('HTTP instead of a binary one is guessed', async () => {
    const server = http.createServer();
    server.on('clientError', (_error, socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    const error = await failure(poolTo(await listen(server), { codec: lengthPrefixed() }).request('hello'));
    expect(error).toMatchObject({ code: 'ERR_FRAME', retryable: false });
    expect(error.hint).toContain('HTTP');
  });
});

describe('the connect deadline', () => {
  it('covers a handshake whose server is silent', async () => {
    const port = await plainServer((socket) => void socket.resume());
    const onConnect: PoolOptions<string, string>['onConnect'] = async (lease) => {
      await lease.request('AUTH');
    };
    const pool = poolTo(port, { codec: lines(), onConnect, connectTimeoutMs: 100 });
    const error = await failure(pool.acquire());
    expect(error.cause).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', phase: 'handshake', retryable: true });
    expect(error.hint).toContain('onConnect');
  });

  it('covers an onConnect that never comes to an end', async () => {
    const port = await plainServer(echo);
    let isTold = false;
    const onConnect: PoolOptions<string, string>['onConnect'] = (_lease, { signal }) => {
      signal.addEventListener('abort', () => {
        isTold = true;
      });
      return new Promise(() => undefined);
    };
    const pool = poolTo(port, { codec: lines(), onConnect, connectTimeoutMs: 100 });
    const error = await failure(pool.acquire());
    expect(error.cause).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', phase: 'handshake' });
    expect(isTold).toBe(true);
  });
});

describe('detach()', () => {
  it('gives away a real socket that works, with only Node’s own listeners', async () => {
    const port = await plainServer(echo);
    const plain = net.connect(port, '127.0.0.1');
    onCloseLocal(() => plain.destroy());
    await new Promise((resolve) => plain.once('connect', resolve));
    const pool = poolTo(port, { codec: lines() });
    const lease = await pool.acquire();
    expect(await lease.request('hello')).toBe('hello');
    const socket = lease.detach();
    onCloseLocal(() => socket.destroy());
    for (const event of ['data', 'drain', 'end', 'error', 'close', 'timeout']) {
      expect([event, socket.listenerCount(event)]).toEqual([event, plain.listenerCount(event)]);
    }
    await pool.close({ timeoutMs: 1 });
    const answer = new Promise((resolve) => socket.once('data', (chunk) => resolve(String(chunk))));
    socket.resume();
    socket.write('mine');
    expect(await answer).toBe('mine');
  });
});

describe('a large exchange', () => {
  it('passes both ways through a real socket', async () => {
    const pool = poolTo(await plainServer(echo), { codec: lengthPrefixed() });
    const message = Buffer.alloc(5_000_000, 'pulse');
    const reply = await pool.request(message);
    expect(reply.equals(message)).toBe(true);
  });
});

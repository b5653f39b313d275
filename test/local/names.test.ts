import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createPool } from '../../src/create-pool.ts';
import { lines } from '../../src/transport/lines.ts';
import { closedPort, closeLocal, echo, onCloseLocal, plainServer } from '../support/local-servers.ts';
import { HAS_IPV6, listenAt } from '../support/loopback.ts';

afterEach(closeLocal);

/** A pool of lines to a name that the system resolves. */
function poolOf(host: string, port: number) {
  const pool = createPool({ host, port, codec: lines(), retry: { retries: 0 } });
  onCloseLocal(() => void pool.close({ timeoutMs: 1 }));
  return pool;
}

describe('a pool with the system’s resolver', () => {
  it('reaches a name that this machine knows', async () => {
    const pool = poolOf('localhost', await plainServer(echo));
    expect(await pool.request('hello')).toBe('hello');
    expect(pool.stats().dns).toMatchObject({ lookups: 1, failures: 0 });
  });

  it.skipIf(!HAS_IPV6)('reaches a server that listens on ::1 only, by its address', async () => {
    const pool = poolOf('::1', await listenAt(net.createServer(echo), '::1'));
    expect(await pool.request('hello')).toBe('hello');
    expect(pool.stats().dns).toMatchObject({ lookups: 0 });
  });

  it('tells of a name that does not exist: ERR_DNS, in phase dns, with what the system said', async () => {
    const pool = poolOf('nowhere.invalid', 7000);
    const error: unknown = await pool.acquire().catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'ERR_ACQUIRE_FAILED',
      sent: 'none',
      cause: {
        name: 'DialError',
        code: 'ERR_DNS',
        phase: 'dns',
        retryable: true,
        endpoint: 'nowhere.invalid:7000',
        address: undefined,
        // Without a network nobody can say that there is no such name, or nobody does in time.
        message: expect.stringMatching(/system: (ENOTFOUND|EAI_AGAIN|ETIMEOUT)/),
        hint: expect.stringMatching(/no such name|says nothing about the name/),
        cause: { code: expect.stringMatching(/^(ENOTFOUND|EAI_AGAIN|ETIMEOUT)$/) },
      },
    });
    expect(pool.stats()).toMatchObject({ opened: 0, dns: { lookups: 1, failures: 1 } });
  });

  it('tells the name of which nothing serves the port', async () => {
    const port = await closedPort();
    const error: unknown = await poolOf('localhost', port)
      .acquire()
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'ERR_ACQUIRE_FAILED',
      cause: { code: 'ERR_REFUSED', phase: 'tcp', endpoint: `localhost:${port}` },
    });
  });
});

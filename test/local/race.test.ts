import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../src/clock.ts';
import { createPoolIn, REAL } from '../../src/create-pool.ts';
import type { Route } from '../../src/route.ts';
import { dial, type TlsOptions } from '../../src/transport/dial.ts';
import { lines } from '../../src/transport/lines.ts';
import { makeCertificates } from '../integration/support/certificates.ts';
import { closeLocal, echo, onCloseLocal } from '../support/local-servers.ts';
import {
  HAS_IPV6,
  HAS_MANY_LOOPBACKS,
  listenAt,
  lookupOf,
  routeBy,
  StillClock,
} from '../support/loopback.ts';

afterEach(closeLocal);

const FIRST = '127.0.0.1';
const SECOND = '127.0.0.2';
const THIRD = '127.0.0.3';

const { ca, elsewhere, server } = makeCertificates();

const LIMIT_MS = 5_000;
const STAGGER_MS = 250;

/** The way to `localhost`, and its clock. */
class Way {
  readonly clock: StillClock;
  readonly route: Route;
  readonly #clock: Clock;

  /** No timer goes off unless the test says so, or `clock` is another one. */
  constructor(addresses: readonly string[], clock?: Clock, limitMs = LIMIT_MS) {
    this.clock = new StillClock();
    this.#clock = clock ?? this.clock;
    this.route = routeBy(addresses, this.#clock, limitMs);
  }

  /** Opens a socket, as a pool does. */
  async open(
    port: number,
    more: { readonly tls?: TlsOptions; readonly signal?: AbortSignal } = {},
  ): Promise<net.Socket> {
    const { signal = new AbortController().signal, ...options } = more;
    const endpoint = { kind: 'tcp', host: 'localhost', port } as const;
    const clock = this.#clock;
    const socket = await this.route.open(
      endpoint,
      signal,
      (address, deadlineAt, cut) => {
        const remainingMs = deadlineAt - clock.now();
        const where = { endpoint, address, connectTimeoutMs: LIMIT_MS, remainingMs };
        return dial({ ...where, ...options }, clock, cut, (opened) => opened.on('error', () => undefined));
      },
      (late) => late.destroy(),
    );
    onCloseLocal(() => socket.destroy());
    expect(this.clock.pendingTimers).toBe(0);
    return socket;
  }

  /** Opens a socket, and tells to which address. */
  async reach(...args: Parameters<Way['open']>): Promise<string | undefined> {
    return (await this.open(...args)).remoteAddress;
  }
}

/** A server that accepts and never says a word; what came to it, and what of that has gone again. */
async function silentAt(address: string, port?: number) {
  const came: net.Socket[] = [];
  const gone: Promise<unknown>[] = [];
  const server = net.createServer((socket) => {
    came.push(socket.resume());
    gone.push(once(socket, 'close'));
  });
  return { port: await listenAt(server, address, port), came, gone, server };
}

describe.skipIf(!HAS_MANY_LOOPBACKS)('a name with several addresses', () => {
  it('is reached by its first one, and nobody else is bothered', async () => {
    const port = await listenAt(net.createServer(echo), FIRST);
    const other = await silentAt(SECOND, port);
    const socket = await new Way([FIRST, SECOND]).open(port);
    expect(socket.remoteAddress).toBe(FIRST);
    socket.write('hello');
    const [chunk] = await once(socket, 'data');
    expect(String(chunk)).toBe('hello');
    expect(other.came).toEqual([]);
  });

  it('is reached by the second without a wait when the first refuses', async () => {
    const port = await listenAt(net.createServer(echo), SECOND);
    expect(await new Way([FIRST, SECOND]).reach(port)).toBe(SECOND);
  });

  it('is reached by the last of many without a wait when all others refuse', async () => {
    const port = await listenAt(net.createServer(echo), '127.0.0.9');
    const addresses = Array.from({ length: 9 }, (_, i) => `127.0.0.${i + 1}`);
    expect(await new Way(addresses).reach(port)).toBe('127.0.0.9');
  });

  it('is reached by what answered last time, once another has refused', async () => {
    const port = await listenAt(net.createServer(echo), SECOND);
    const way = new Way([FIRST, SECOND]);
    await way.open(port);
    // It is back, and would be first again if it were not for its failure.
    const back = await silentAt(FIRST, port);
    expect(await way.reach(port)).toBe(SECOND);
    expect(back.came).toEqual([]);
    way.route.forget();
    expect(await way.reach(port)).toBe(FIRST);
  });

  it('of which none is served tells of each', async () => {
    const port = await listenAt(net.createServer(echo), '127.0.0.9');
    await expect(new Way([FIRST, SECOND, THIRD]).open(port)).rejects.toMatchObject({
      code: 'ERR_REFUSED',
      phase: 'tcp',
      retryable: true,
      message: expect.stringMatching(/localhost.*127\.0\.0\.1: .*127\.0\.0\.2: .*127\.0\.0\.3: /),
    });
  });
});

describe.skipIf(!HAS_IPV6)('a name with addresses of both families', () => {
  it('is reached by IPv6', async () => {
    const port = await listenAt(net.createServer(echo), '::1');
    expect(await new Way([FIRST, '::1']).reach(port)).toBe('::1');
  });

  it('is reached by IPv4 without a wait when only that is served, and by it first from then on', async () => {
    const port = await listenAt(net.createServer(echo), FIRST);
    const way = new Way([FIRST, '::1']);
    expect(await way.reach(port)).toBe(FIRST);
    const back = await silentAt('::1', port);
    expect(await way.reach(port)).toBe(FIRST);
    expect(back.came).toEqual([]);
  });
});

describe.skipIf(!HAS_MANY_LOOPBACKS)('an address that accepts and then stays silent', () => {
  it('in the TLS handshake, is overtaken after 250 ms, and sees its socket closed', async () => {
    const stuck = await silentAt(FIRST);
    await listenAt(tls.createServer(server, echo), SECOND, stuck.port);
    const startedAt = systemClock.now();
    const socket = await new Way([FIRST, SECOND], systemClock).open(stuck.port, { tls: { ca } });
    expect(socket.remoteAddress).toBe(SECOND);
    // Node's timers may be early by the fraction of a millisecond.
    expect(systemClock.now() - startedAt).toBeGreaterThan(248);
    expect(stuck.came).toHaveLength(1);
    await Promise.all(stuck.gone);
    expect(socket.destroyed).toBe(false);
  });

  it('is not tried first again', async () => {
    const stuck = await silentAt(FIRST);
    await listenAt(tls.createServer(server, echo), SECOND, stuck.port);
    const way = new Way([FIRST, SECOND]);
    const reached = way.reach(stuck.port, { tls: { ca } });
    await once(stuck.server, 'connection');
    way.clock.ring(STAGGER_MS);
    expect(await reached).toBe(SECOND);
    expect(await way.reach(stuck.port, { tls: { ca } })).toBe(SECOND);
    expect(stuck.came).toHaveLength(1);
  });

  it('wins after all when it answers before the one that was started later', async () => {
    const first = tls.createServer(server, echo);
    const waiting: net.Socket[] = [];
    const port = await listenAt(
      net.createServer((socket) => waiting.push(socket)),
      FIRST,
    );
    const second = await silentAt(SECOND, port);
    // The first speaks TLS only when the second has been called.
    second.server.once('connection', () => {
      for (const socket of waiting) first.emit('connection', socket);
    });
    expect(await new Way([FIRST, SECOND], systemClock).reach(port, { tls: { ca } })).toBe(FIRST);
    expect(second.came).toHaveLength(1);
    await Promise.all(second.gone);
  });

  it('as all others do, is given up with them when the time is up', async () => {
    const first = await silentAt(FIRST);
    const second = await silentAt(SECOND, first.port);
    const startedAt = systemClock.now();
    const way = new Way([FIRST, SECOND], systemClock, 600);
    await expect(way.open(first.port, { tls: { ca } })).rejects.toMatchObject({
      code: 'ERR_CONNECT_TIMEOUT',
      phase: 'tls',
      retryable: true,
    });
    expect(systemClock.now() - startedAt).toBeGreaterThan(595);
    expect([first.came.length, second.came.length]).toEqual([1, 1]);
    await Promise.all([...first.gone, ...second.gone]);
  });

  it('sees its socket closed when the caller changes his mind', async () => {
    const first = await silentAt(FIRST);
    const second = await silentAt(SECOND, first.port);
    const control = new AbortController();
    const reason = new Error('changed my mind');
    const way = new Way([FIRST, SECOND]);
    const opening = way.open(first.port, { tls: { ca }, signal: control.signal });
    opening.catch(() => undefined);
    await once(first.server, 'connection');
    way.clock.ring(STAGGER_MS);
    await once(second.server, 'connection');
    control.abort(reason);
    await expect(opening).rejects.toBe(reason);
    expect(way.clock.pendingTimers).toBe(0);
    await Promise.all([...first.gone, ...second.gone]);
  });

  it('in the handshake of onConnect, is overtaken, and sees its socket closed', async () => {
    const stuck = await silentAt(FIRST);
    await listenAt(net.createServer(echo), SECOND, stuck.port);
    const pool = createPoolIn(
      { ...REAL, random: () => 0, makeLookups: () => [lookupOf(FIRST, SECOND)] },
      {
        host: 'orders',
        port: stuck.port,
        codec: lines(),
        max: 1,
        onConnect: async (lease) => {
          await lease.request('HELLO');
        },
      },
    );
    onCloseLocal(() => void pool.close({ timeoutMs: 1 }));
    expect(await pool.request('hello')).toBe('hello');
    expect(stuck.came).toHaveLength(1);
    await Promise.all(stuck.gone);
    // The end of the loser is not taken for that of the winner.
    expect(await pool.request('hello again')).toBe('hello again');
    expect(pool.stats()).toMatchObject({ total: 1, idle: 1, opened: 1, closed: 0, failed: 0 });
  });
});

describe.skipIf(!HAS_MANY_LOOPBACKS)('an address at which another service answers', () => {
  it('is passed over, without a wait, for one at which the right one does', async () => {
    const port = await listenAt(tls.createServer(elsewhere, echo), FIRST);
    await listenAt(tls.createServer(server, echo), SECOND, port);
    expect(await new Way([FIRST, SECOND]).reach(port, { tls: { ca } })).toBe(SECOND);
  });

  it('ends the matter for good only when it does so at all of them', async () => {
    const port = await listenAt(tls.createServer(elsewhere, echo), FIRST);
    await listenAt(tls.createServer(elsewhere, echo), SECOND, port);
    await expect(new Way([FIRST, SECOND]).open(port, { tls: { ca } })).rejects.toMatchObject({
      code: 'ERR_TLS_TRUST',
      retryable: false,
    });
    await expect(new Way([FIRST, SECOND, THIRD]).open(port, { tls: { ca } })).rejects.toMatchObject({
      code: 'ERR_REFUSED',
      retryable: true,
    });
  });
});

import { describe, expect, it } from 'vitest';
import { createPoolIn } from '../../../src/create-pool.ts';
import type { PoolOptions } from '../../../src/options.ts';
import type { HandshakeContext } from '../../../src/pool/handshake.ts';
import type { Lease } from '../../../src/pool/lease.ts';
import { lines } from '../../../src/transport/lines.ts';
import { rejection, watched } from '../../support/connection-rig.ts';
import { echoLines, FakeNet } from '../../support/fake-net.ts';

type OnConnect = NonNullable<PoolOptions<string, string>['onConnect']>;

function setUp(onConnect: OnConnect, options: Partial<PoolOptions<string, string>> = {}) {
  const net = new FakeNet();
  net.onPeer = echoLines;
  const codec = lines();
  const pool = createPoolIn(net.surroundings, {
    host: 'fake',
    port: 1,
    codec,
    onConnect,
    retry: { retries: 0 },
    ...options,
  });
  return { net, pool, clock: net.clock };
}

async function failureOf(onConnect: OnConnect, advanceMs = 0): Promise<unknown> {
  const { clock, net, pool } = setUp(onConnect);
  const failing = rejection(pool.acquire());
  await clock.advance(advanceMs);
  const error = await failing;
  await clock.advance(1_000);
  expect(net.openSockets).toBe(0);
  return error instanceof Error ? error.cause : error;
}

describe('a handshake', () => {
  it('comes before anybody gets the socket, which then counts as new', async () => {
    const { net, pool, clock } = setUp(async (lease) => {
      expect(await lease.request('AUTH')).toBe('Echo: AUTH');
    });
    const lease = await pool.acquire();
    net.onPeer = () => undefined;
    net.lastPeer.stream.removeAllListeners('data');
    const failing = rejection(lease.request('hello'));
    net.lastPeer.reset();
    expect(await failing).toMatchObject({ reused: false });
    await clock.advance(1_000);
  });

  it('that throws is told with its error as cause, and not retried', async () => {
    const wrong = new Error('wrong password');
    const refuse: OnConnect = async (lease) => {
      await lease.request('AUTH');
      throw wrong;
    };
    expect(await failureOf(refuse)).toMatchObject({
      code: 'ERR_HANDSHAKE',
      phase: 'handshake',
      retryable: false,
      cause: wrong,
    });
  });

  it('that throws before it awaits anything is told the same', async () => {
    const wrong = new Error('no password');
    const refuse: OnConnect = () => {
      throw wrong;
    };
    expect(await failureOf(refuse)).toMatchObject({ code: 'ERR_HANDSHAKE', cause: wrong });
  });

  it('must read every reply it asks for', async () => {
    const leave: OnConnect = async (lease) => {
      await lease.send('AUTH');
    };
    expect(await failureOf(leave)).toMatchObject({ code: 'ERR_HANDSHAKE', retryable: false });
  });

  it('whose server hangs up without a word tells of a full server, whatever onConnect made of it', async () => {
    const hangUp = (swallow: boolean): Promise<unknown> => {
      const net = new FakeNet();
      net.onPeer = (peer) => peer.fin();
      const pool = createPoolIn(net.surroundings, {
        host: 'fake',
        port: 1,
        codec: lines(),
        retry: { retries: 0 },
        onConnect: async (lease) => {
          const reply = lease.request('AUTH');
          await (swallow ? reply.catch(() => undefined) : reply);
        },
      });
      return rejection(pool.acquire());
    };
    for (const swallow of [true, false]) {
      expect(await hangUp(swallow)).toMatchObject({ cause: { code: 'ERR_SERVER_FULL', retryable: true } });
    }
  });

  it('that is cut off later may do better next time', async () => {
    const { net, pool, clock } = setUp(async (lease) => {
      await lease.request('AUTH');
      await lease.receive();
    });
    const failing = rejection(pool.acquire());
    await clock.flush();
    net.lastPeer.fin();
    expect(await failing).toMatchObject({
      cause: { code: 'ERR_HANDSHAKE', retryable: true, cause: { code: 'ERR_CONNECTION_LOST' } },
    });
  });

  it('may not keep the socket', async () => {
    const take: OnConnect = (lease) => {
      lease.detach().destroy();
    };
    expect(await failureOf(take)).toMatchObject({ code: 'ERR_HANDSHAKE', retryable: false });
  });

  it('has what is left of the connect deadline', async () => {
    let context: HandshakeContext | undefined;
    const { net, pool, clock } = setUp((_lease, given) => {
      context = given;
      return new Promise(() => undefined);
    });
    net.script = [{ kind: 'open', afterMs: 3_000 }];
    const failing = watched(pool.acquire());
    await clock.advance(4_999);
    expect(failing.outcome.state).toBe('pending');
    expect(context?.signal.aborted).toBe(false);
    await clock.advance(1);
    expect(failing.outcome).toMatchObject({
      reason: { cause: { code: 'ERR_CONNECT_TIMEOUT', phase: 'handshake' } },
    });
    expect(context?.signal.aborted).toBe(true);
    expect(net.openSockets).toBe(0);
  });

  it('in time, with its deadline passing that very moment, is not aborted afterwards', async () => {
    let context: HandshakeContext | undefined;
    let done = (): void => undefined;
    const { pool, clock } = setUp((_lease, given) => {
      context = given;
      return new Promise<void>((resolve) => {
        done = resolve;
      });
    });
    const lease = pool.acquire();
    await clock.flush();
    const turn = clock.turn.bind(clock);
    clock.turn = (fn) => {
      done();
      turn(fn);
    };
    await clock.advance(5_000);
    (await lease).release();
    expect(context?.signal.aborted).toBe(false);
  });

  it('leaves a lease that can do nothing any more', async () => {
    let kept: Lease<string, string> | undefined;
    const { pool } = setUp((lease) => {
      kept = lease;
    });
    const lease = await pool.acquire();
    await expect(kept?.request('late')).rejects.toMatchObject({ code: 'ERR_LEASE' });
    expect(() => kept?.release()).toThrow();
    expect(await lease.request('mine')).toBe('Echo: mine');
  });

  it('ends when the pool closes', async () => {
    const { net, pool, clock } = setUp(() => new Promise(() => undefined));
    const failing = rejection(pool.acquire());
    await clock.flush();
    const closing = pool.close({ timeoutMs: 10 });
    await clock.advance(1_000);
    expect(await failing).toMatchObject({ code: 'ERR_POOL_CLOSED' });
    await closing;
    expect(net.openSockets).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });
});

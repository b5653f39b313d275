import { describe, expect, it } from 'vitest';
import { createPoolIn } from '../../src/create-pool.ts';
import { lines } from '../../src/transport/lines.ts';
import { echoLines, FakeNet } from '../support/fake-net.ts';

function setUp(options: { min?: number; max?: number; maxIdle?: number } = {}) {
  const net = new FakeNet();
  net.onPeer = echoLines;
  const pool = createPoolIn(net.surroundings, { host: 'fake', port: 1, codec: lines(), ...options });
  return { net, pool, clock: net.clock };
}

describe('a pool', () => {
  it('dials nothing before somebody needs a socket', async () => {
    const { net, clock } = setUp();
    await clock.advance(60_000);
    expect(net.dialedAt).toEqual([]);
  });

  it('hands a socket to one caller at a time, first come first served', async () => {
    const { net, pool, clock } = setUp({ max: 1 });
    const order: string[] = [];
    const first = pool.acquire();
    const second = pool.acquire().then((lease) => {
      order.push('second');
      return lease;
    });
    const third = pool.acquire().then((lease) => {
      order.push('third');
      return lease;
    });
    const lease = await first;
    await clock.flush();
    expect(order).toEqual([]);
    lease.release();
    (await second).release();
    (await third).release();
    expect(order).toEqual(['second', 'third']);
    expect(net.dialedAt.length).toBe(1);
  });

  it('answers a request over an open socket', async () => {
    const { pool } = setUp();
    expect(await pool.request('hello')).toBe('Echo: hello');
  });

  it('closes with nothing left', async () => {
    const { net, pool, clock } = setUp({ min: 2 });
    await pool.ready();
    const closing = pool.close();
    await clock.advance(1_000);
    expect(await closing).toMatchObject({ forced: 0 });
    expect(net.openSockets).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });
});

import { describe, expect, it } from 'vitest';
import { DeadlineError } from '../../../src/errors.ts';
import { setUp, watch } from '../../support/pool-world.ts';

/** Retries that do not wait. */
const AT_ONCE = { retries: 3, baseMs: 1, capMs: 1 };

describe('the last error of a request that was tried more than once', () => {
  it('says that the first attempt was sent, when the second one found no socket', async () => {
    const world = setUp({ readTimeoutMs: 100, retry: AT_ONCE });
    world.net.onPeer = () => undefined;
    world.net.script = [{ kind: 'open' }, { kind: 'refuse', retryable: false }];
    const asked = watch(world.pool.request('pay', { idempotent: true }));
    await world.pass(500);
    expect(world.net.peers.map((peer) => peer.received)).toEqual(['pay\n']);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', sent: 'full' });
  });

  it('says so when the deadline passed while the second one waited for a socket', async () => {
    const world = setUp({ readTimeoutMs: 100, retry: AT_ONCE });
    world.net.onPeer = () => undefined;
    world.net.script = [{ kind: 'open' }, { kind: 'hang' }];
    const asked = watch(world.pool.request('pay', { idempotent: true, timeoutMs: 400 }));
    await world.pass(401);
    expect(asked.error).toBeInstanceOf(DeadlineError);
    expect(asked.error).toMatchObject({ attempts: 2, sent: 'full' });
  });

  it('says so when no place became free for the second one in time', async () => {
    const world = setUp({ max: 1, readTimeoutMs: 100, acquireTimeoutMs: 200, retry: AT_ONCE });
    world.net.onPeer = () => undefined;
    const asked = watch(world.pool.request('pay', { idempotent: true }));
    const holding = watch(world.pool.acquire({ timeoutMs: 10_000 }));
    await world.pass(500);
    expect(holding.value?.isHeld).toBe(true);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT', sent: 'full' });
  });

  it('says none when no attempt has sent anything', async () => {
    const world = setUp({ retry: AT_ONCE });
    world.net.outcome = { kind: 'hang' };
    const asked = watch(world.pool.request('pay', { idempotent: true, timeoutMs: 100 }));
    await world.pass(101);
    expect(asked.error).toMatchObject({ code: 'ERR_DEADLINE', attempts: 1, sent: 'none' });
  });
});

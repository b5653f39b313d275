import { describe, expect, it, vi } from 'vitest';
import { type Options, setUp, take, type World, watch } from '../../support/pool-world.ts';

/** What the kernel holds while our own loop is blocked: it is read after the timers, before the next turn. */
function readBeforeNextTurn(world: World, happen: () => void): void {
  const turn = world.clock.turn.bind(world.clock);
  vi.spyOn(world.clock, 'turn').mockImplementationOnce((fn) => {
    happen();
    turn(fn);
  });
}

/** One socket, held by somebody whose reply is late; the function lets it come. */
async function busy(options: Options) {
  const world = setUp({ max: 1, ...options });
  world.net.onPeer = () => undefined;
  const [lease] = await take(world, 1);
  if (lease === undefined) throw new Error('no lease');
  // A socket that has just been read needs no check before it is lent again.
  const reply = lease.request('slow').then(
    () => lease.release(),
    () => undefined,
  );
  return { world, reply, finish: () => world.net.lastPeer.write('done\n') };
}

describe('a caller whose time passed while our own loop was blocked', () => {
  it.each([
    ['the pool’s limit', { acquireTimeoutMs: 500 }, undefined],
    ['a limit of their own', {}, { timeoutMs: 500 }],
  ])('under %s gets the socket that came back meanwhile', async (_name, options, bounds) => {
    const { world, reply, finish } = await busy(options);
    const asked = watch(world.pool.acquire(bounds));
    world.clock.freeze(600);
    readBeforeNextTurn(world, finish);
    await world.now();
    expect(asked.error).toBeUndefined();
    expect(asked.value?.connectionId).toBe(1);
    expect(world.pool.stats().timedOut).toBe(0);
    await reply;
  });

  it.each([
    ['the pool’s limit', { acquireTimeoutMs: 500 }, undefined],
    ['a limit of their own', {}, { timeoutMs: 500 }],
  ])('under %s is told so when nothing had come back', async (_name, options, bounds) => {
    const { world, reply, finish } = await busy(options);
    const asked = watch(world.pool.acquire(bounds));
    world.clock.freeze(600);
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT' });
    finish();
    await world.now();
    await reply;
  });
});

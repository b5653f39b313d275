import { describe, expect, it } from 'vitest';
import { setUp, take, watch } from '../support/pool-world.ts';

/** What no string can be made of: `String()` of it throws a TypeError of its own. */
function odd(): unknown {
  return Object.create(null);
}

describe('something thrown of which no string can be made', () => {
  it('by a listener harms neither the pool nor the next listener', async () => {
    const world = setUp();
    const heard: string[] = [];
    world.pool.on('acquired', () => {
      throw odd();
    });
    world.pool.on('acquired', () => heard.push('acquired'));
    await take(world, 1);
    await world.now();
    expect(heard).toEqual(['acquired']);
  });

  it('by a listener that returns a promise harms nobody', async () => {
    const world = setUp();
    world.pool.on('acquired', () => Promise.reject(odd()));
    await take(world, 1);
    await world.now();
  });

  it('by onConnect is told to who waits, and leaves no socket', async () => {
    const world = setUp({ onConnect: () => Promise.reject(odd()) });
    const asked = watch(world.pool.acquire());
    await world.pass(3_000);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_HANDSHAKE' } });
    expect(world.net.dialedAt.length).toBe(1);
  });

  it('by encode or decode is a FrameError to who asked', async () => {
    const world = setUp({
      codec: {
        encode: (message) => {
          if (message === 'bad') throw odd();
          return Buffer.from(message);
        },
        decode: () => {
          throw odd();
        },
      },
    });
    const unsent = watch(world.pool.request('bad'));
    const sent = watch(world.pool.request('PING\n'));
    await world.now();
    expect(unsent.error).toMatchObject({ code: 'ERR_FRAME', sent: 'none' });
    expect(sent.error).toMatchObject({ code: 'ERR_FRAME' });
  });

  it('by a dial is told to who waits', async () => {
    const world = setUp();
    world.net.outcome = { kind: 'throw', error: odd() };
    const asked = watch(world.pool.acquire());
    await world.pass(3_000);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_CONNECT' } });
    expect(world.net.dialedAt.length).toBe(1);
  });
});

/**
 * A verdict waits for one turn of the event loop, in which what the kernel holds is read. Here the kernel is the
 * test: whatever waits in it is read when somebody asks the clock for a turn, and not before.
 */
import { describe, expect, it } from 'vitest';
import { Heartbeat } from '../../src/heartbeat/heartbeat.ts';
import { setUp, take, watch } from '../support/pool-world.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

/** Reads `what`, once, at the next turn that anybody asks for. */
function holdInKernel(clock: VirtualClock, what: () => void): void {
  const turn = clock.turn.bind(clock);
  clock.turn = (fn) => {
    clock.turn = turn;
    turn(what);
    turn(fn);
  };
}

describe('a verdict that falls due while something waits in the kernel', () => {
  it('of the heartbeat lets a pong be read first', async () => {
    const clock = new VirtualClock();
    const told: string[] = [];
    const target = {
      lastReadAt: clock.now(),
      ping: () => {
        told.push('ping');
        return true;
      },
      onMissed: () => told.push('missed'),
      onDead: () => told.push('dead'),
    };
    const settings = { intervalMs: 1_000, timeoutMs: 100, maxMissed: 1 };
    const heartbeat = new Heartbeat(
      settings,
      clock,
      () => 0,
      () => told.push('stalled'),
    );
    const beat = heartbeat.watch(target);
    await clock.advance(1_050);
    expect(told).toEqual(['ping']);
    holdInKernel(clock, () => {
      target.lastReadAt = clock.now();
      heartbeat.answered(beat);
    });
    await clock.advance(100);
    expect(told).toEqual(['ping']);
  });

  it.each([
    ['the pool’s own limit', 20, undefined],
    ['a limit of the caller’s', 30_000, { timeoutMs: 20 }],
  ])('of a wait lets a socket come back first: %s', async (_whose, acquireTimeoutMs, options) => {
    const world = setUp({ max: 1, acquireTimeoutMs });
    const [lease] = await take(world, 1);
    const asked = watch(world.pool.acquire(options));
    await world.pass(10);
    // It has spoken a moment ago, so that it needs no turns of its own.
    holdInKernel(world.clock, () => lease?.release());
    await world.pass(12);
    expect(asked.error).toBeUndefined();
    expect(asked.value?.connectionId).toBe(1);
    expect(world.pool.stats().timedOut).toBe(0);
  });
});

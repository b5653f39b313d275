import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import type { Timer } from '../../../src/clock.ts';
import { type Beat, Heartbeat, type HeartbeatTarget } from '../../../src/heartbeat/heartbeat.ts';
import { settle, VirtualClock } from '../../support/virtual-clock.ts';

const SETTINGS = { intervalMs: 1_000, timeoutMs: 100, maxMissed: 2 };

/** Writes down for how long timers were asked for. */
class CountingClock extends VirtualClock {
  readonly asked: number[] = [];

  override after(ms: number, fn: () => void): Timer {
    this.asked.push(ms);
    return super.after(ms, fn);
  }
}

function target(clock: VirtualClock, onPing: () => void = () => undefined): HeartbeatTarget {
  return {
    lastReadAt: clock.now(),
    ping: () => {
      onPing();
      return true;
    },
    onMissed: () => undefined,
    onDead: () => undefined,
  };
}

function setUp(intervalMs: number) {
  const clock = new CountingClock();
  const heartbeat = new Heartbeat(
    { ...SETTINGS, intervalMs },
    clock,
    () => 0,
    () => undefined,
  );
  return { clock, heartbeat };
}

/** Watches a target that nobody else knows. */
function watchStranger(heartbeat: Heartbeat, clock: VirtualClock): { beat: Beat; seen: WeakRef<object> } {
  const stranger = target(clock);
  return { beat: heartbeat.watch(stranger), seen: new WeakRef(stranger) };
}

async function collectGarbage(): Promise<void> {
  setFlagsFromString('--expose-gc');
  // A WeakRef holds what was seen through it until the end of the job.
  await settle();
  runInNewContext('gc')();
  await settle();
}

describe('a target that is watched no longer', () => {
  it('can be collected at once, though its time on the agenda has not come', async () => {
    const { clock, heartbeat } = setUp(1_000_000);
    const { beat, seen } = watchStranger(heartbeat, clock);
    await collectGarbage();
    expect(seen.deref()).toBeDefined();
    heartbeat.unwatch(beat);
    await collectGarbage();
    expect(seen.deref()).toBeUndefined();
    // Both are in use still: what held the target is not the end of this test.
    expect(beat.phase).toBe('ended');
    heartbeat.end();
  });

  it('is neither pinged nor told anything when that time comes', async () => {
    const { clock, heartbeat } = setUp(1_000);
    let pings = 0;
    const beat = heartbeat.watch(
      target(clock, () => {
        pings += 1;
      }),
    );
    heartbeat.unwatch(beat);
    await clock.advance(10_000);
    expect(pings).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('an interval without end', () => {
  it('sets no timer, and nothing is ever pinged', async () => {
    const { clock, heartbeat } = setUp(Number.POSITIVE_INFINITY);
    let pings = 0;
    for (let count = 0; count < 3; count++) {
      heartbeat.watch(
        target(clock, () => {
          pings += 1;
        }),
      );
    }
    expect(clock.asked).toEqual([]);
    await clock.advance(1_000_000);
    expect(clock.pendingTimers).toBe(0);
    expect(pings).toBe(0);
  });

  it('remembers nothing of what was watched', async () => {
    const { clock, heartbeat } = setUp(Number.POSITIVE_INFINITY);
    const { seen } = watchStranger(heartbeat, clock);
    await collectGarbage();
    expect(seen.deref()).toBeUndefined();
    heartbeat.end();
  });
});

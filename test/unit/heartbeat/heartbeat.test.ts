import { describe, expect, it } from 'vitest';
import { type Beat, Heartbeat, type HeartbeatTarget } from '../../../src/heartbeat/heartbeat.ts';
import { VirtualClock } from '../../support/virtual-clock.ts';

const SETTINGS = { intervalMs: 1_000, timeoutMs: 100, maxMissed: 2 };

/** A target that writes down what it is told. */
class Socket implements HeartbeatTarget {
  lastReadAt: number;
  readonly told: string[] = [];
  isInUse = false;
  /** What happens inside ping(). */
  onPing: () => void = () => undefined;
  readonly #clock: VirtualClock;

  constructor(clock: VirtualClock) {
    this.#clock = clock;
    this.lastReadAt = clock.now();
  }

  ping(): boolean {
    if (this.isInUse) return false;
    this.told.push(`ping ${this.#clock.now() - 1_000}`);
    this.onPing();
    return true;
  }

  onMissed(missed: number): void {
    this.told.push(`missed ${missed}`);
  }

  onDead(missed: number): void {
    this.told.push(`dead ${missed}`);
  }

  reads(): void {
    this.lastReadAt = this.#clock.now();
  }
}

function setUp(settings: Partial<typeof SETTINGS> = {}, random: () => number = () => 0) {
  const clock = new VirtualClock();
  const stalled: number[] = [];
  const heartbeat = new Heartbeat({ ...SETTINGS, ...settings }, clock, random, (lateMs) =>
    stalled.push(lateMs),
  );
  const socket = new Socket(clock);
  const beat = heartbeat.watch(socket);
  const answer = (target = socket, of: Beat = beat): number => {
    target.reads();
    return heartbeat.answered(of);
  };
  return { clock, heartbeat, socket, beat, stalled, answer };
}

describe('the heartbeat', () => {
  it('pings only what has been silent for an interval', async () => {
    const { clock, socket, answer } = setUp();
    for (let spoke = 0; spoke < 5; spoke++) {
      await clock.advance(900);
      socket.reads();
    }
    expect(socket.told).toEqual([]);
    await clock.advance(1_000);
    expect(socket.told).toEqual(['ping 5500']);
    await clock.advance(30);
    expect(answer()).toBe(30);
    await clock.advance(999);
    expect(socket.told.length).toBe(1);
    await clock.advance(1);
    expect(socket.told.length).toBe(2);
  });

  it('shortens each interval by up to a tenth, so that sockets do not ping in step', async () => {
    let draw = 0;
    const { clock, heartbeat } = setUp({}, () => (draw++ % 10) / 10);
    const sockets = Array.from({ length: 100 }, () => new Socket(clock));
    for (const socket of sockets) {
      const beat = heartbeat.watch(socket);
      socket.onPing = () => {
        socket.reads();
        heartbeat.answered(beat);
      };
    }
    await clock.advance(899);
    expect(sockets.every((socket) => socket.told.length === 0)).toBe(true);
    await clock.advance(101);
    const times = new Set(sockets.map((socket) => socket.told[0]));
    expect(times.size).toBeGreaterThan(5);
    expect(sockets.every((socket) => socket.told.length === 1)).toBe(true);
  });

  it('goes on at its interval when the timeout is the longer of the two', async () => {
    const { clock, socket, answer } = setUp({ intervalMs: 100, timeoutMs: 5_000 });
    socket.onPing = () => clock.turn(() => answer());
    await clock.advance(1_000);
    expect(socket.told.length).toBe(10);
  });

  it.each([1, 2, 3])('finds a dead target within interval x %d + timeout', async (maxMissed) => {
    const { clock, socket } = setUp({ maxMissed });
    await clock.advance(1_000 * maxMissed + 99);
    expect(socket.told.at(-1)).not.toBe(`dead ${maxMissed}`);
    await clock.advance(1);
    expect(socket.told.at(-1)).toBe(`dead ${maxMissed}`);
    expect(socket.told.filter((told) => told.startsWith('ping')).length).toBe(maxMissed);
    await clock.advance(60_000);
    expect(clock.pendingTimers).toBe(0);
  });

  it('starts to count anew after a pong', async () => {
    const { clock, socket, answer } = setUp();
    await clock.advance(1_500);
    answer();
    await clock.advance(1_150);
    expect(socket.told).toEqual(['ping 1000', 'missed 1', 'ping 2500', 'missed 1']);
  });

  it('is saved by a byte read in the very turn of the verdict', async () => {
    const { clock, socket, answer } = setUp({ maxMissed: 1 });
    await clock.advance(1_050);
    // As in Node's loop: what the kernel holds is read after the timer of the verdict, and before the turn it asks for.
    const turn = clock.turn.bind(clock);
    let hasBeenRead = false;
    clock.turn = (fn) => {
      turn(() => {
        if (!hasBeenRead) answer();
        hasBeenRead = true;
        fn();
      });
    };
    await clock.advance(100);
    expect(hasBeenRead).toBe(true);
    expect(socket.told).toEqual(['ping 1000']);
  });

  it('takes a byte that is not yet the pong for life, and does not ping into it', async () => {
    const { clock, socket, answer } = setUp({ maxMissed: 1 });
    await clock.advance(1_050);
    socket.reads();
    await clock.advance(100);
    expect(socket.told).toEqual(['ping 1000']);
    answer();
    await clock.advance(500);
    expect(socket.told).toEqual(['ping 1000']);
  });

  it('does not wait for ever for one who talks and never answers', async () => {
    const { clock, socket } = setUp();
    for (let step = 0; step < 80; step++) {
      await clock.advance(50);
      if (socket.told.length > 0) socket.reads();
    }
    expect(socket.told.at(-1)).toBe('dead 2');
  });

  it('never pings what is in use, and looks again soon', async () => {
    const { clock, socket } = setUp();
    socket.isInUse = true;
    await clock.advance(10_000);
    expect(socket.told).toEqual([]);
    socket.isInUse = false;
    await clock.advance(250);
    expect(socket.told.length).toBe(1);
  });

  it('pings again instead of passing a verdict when our own loop was blocked', async () => {
    const { clock, socket, stalled, answer } = setUp({ maxMissed: 1 });
    await clock.advance(1_050);
    clock.freeze(5_000);
    await clock.advance(0);
    expect(socket.told).toEqual(['ping 1000', 'ping 6050']);
    expect(stalled).toEqual([4_950]);
    answer();
    await clock.advance(500);
    expect(socket.told.length).toBe(2);
  });

  it('passes the verdict when the loop was late by less than a stall', async () => {
    const { clock, socket, stalled } = setUp({ maxMissed: 1 });
    await clock.advance(1_050);
    clock.freeze(200);
    await clock.advance(0);
    expect(socket.told).toEqual(['ping 1000', 'dead 1']);
    expect(stalled).toEqual([]);
  });

  it('allows no miss to a target that somebody waits for', async () => {
    const { clock, heartbeat, socket, beat } = setUp();
    heartbeat.checkNow(beat);
    await clock.advance(100);
    expect(socket.told).toEqual(['ping 0', 'dead 1']);
  });

  it('allows misses again once that target has answered', async () => {
    const { clock, heartbeat, socket, beat, answer } = setUp();
    heartbeat.checkNow(beat);
    answer();
    await clock.advance(1_100);
    expect(socket.told.at(-1)).toBe('missed 1');
  });

  it('does not judge a ping by the time of an earlier one', async () => {
    const { clock, heartbeat, socket, beat, answer } = setUp({ maxMissed: 1 });
    clock.after(1_100, () =>
      clock.turn(() => {
        answer();
        heartbeat.checkNow(beat);
      }),
    );
    await clock.advance(1_150);
    expect(socket.told).toEqual(['ping 1000', 'ping 1100']);
    answer();
    await clock.advance(500);
    expect(socket.told.length).toBe(2);
  });

  it('loses a target whose ping throws, and goes on with the others', async () => {
    const { clock, heartbeat, socket } = setUp();
    const other = new Socket(clock);
    heartbeat.watch(other);
    socket.onPing = () => {
      throw new Error('broken');
    };
    await clock.advance(1_000);
    expect(socket.told).toEqual(['ping 1000', 'dead 0']);
    expect(other.told).toEqual(['ping 1000']);
  });

  it('leaves alone a target that ended inside its own ping', async () => {
    const { clock, heartbeat, socket, beat } = setUp();
    socket.onPing = () => heartbeat.unwatch(beat);
    socket.ping = () => {
      heartbeat.unwatch(beat);
      return false;
    };
    await clock.advance(5_000);
    expect(socket.told).toEqual([]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('tells nothing of a target that is watched no longer, whatever it was waiting for', async () => {
    const { clock, heartbeat, socket, beat } = setUp();
    await clock.advance(1_050);
    heartbeat.unwatch(beat);
    heartbeat.checkNow(beat);
    expect(heartbeat.answered(beat)).toBe(0);
    await clock.advance(10_000);
    expect(socket.told).toEqual(['ping 1000']);
  });

  it('costs one timer for ten thousand targets', async () => {
    const { clock, heartbeat } = setUp({}, Math.random);
    const sockets = Array.from({ length: 10_000 }, () => new Socket(clock));
    for (const socket of sockets) heartbeat.watch(socket);
    expect(clock.pendingTimers).toBe(1);
    clock.freeze(950);
    await clock.advance(0);
    expect(clock.pendingTimers).toBe(1);
    expect(sockets.some((socket) => socket.told.length > 0)).toBe(true);
    heartbeat.end();
    expect(clock.pendingTimers).toBe(0);
  });
});

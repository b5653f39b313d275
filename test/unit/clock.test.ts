import { getEventListeners } from 'node:events';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { pause, systemClock, TimerHold } from '../../src/clock.ts';
import { watch } from '../support/pool-world.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

afterEach(() => {
  vi.useRealTimers();
});

const timersHeld = (): number =>
  process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;

describe('the system clock', () => {
  it('fires once, unless it is cancelled, and holds no process', () => {
    const before = timersHeld();
    vi.useFakeTimers();
    const fired: string[] = [];
    systemClock.after(10, () => fired.push('a'));
    const cancelled = systemClock.after(10, () => fired.push('b'));
    cancelled.cancel();
    cancelled.cancel();
    vi.advanceTimersByTime(30);
    expect(fired).toEqual(['a']);
    vi.useRealTimers();
    const real = systemClock.after(60_000, () => undefined);
    expect(timersHeld()).toBe(before);
    real.cancel();
  });

  it('never fires after Infinity, nor after more than a Node timer can hold', () => {
    vi.useFakeTimers();
    let fired = 0;
    systemClock.after(Number.POSITIVE_INFINITY, () => fired++).cancel();
    systemClock.after(2 ** 31, () => fired++);
    vi.advanceTimersByTime(5_000);
    expect([fired, vi.getTimerCount()]).toEqual([0, 0]);
  });
});

describe('the hold', () => {
  it('keeps the process while anybody waits, and leaves nothing when it ends', () => {
    const before = timersHeld();
    const hold = new TimerHold();
    hold.take();
    hold.take();
    expect(timersHeld()).toBe(before + 1);
    hold.drop();
    expect(timersHeld()).toBe(before + 1);
    hold.drop();
    expect(timersHeld()).toBe(before);
    hold.take();
    expect(timersHeld()).toBe(before + 1);
    hold.drop();
    hold.end();
    hold.end();
    expect(timersHeld()).toBe(before);
  });
});

describe('a pause', () => {
  it('ends in time', async () => {
    const clock = new VirtualClock();
    const paused = watch(pause(100, clock));
    await clock.advance(99);
    expect(paused.isSettled).toBe(false);
    await clock.advance(1);
    expect(paused.isSettled).toBe(true);
  });

  it('ends as soon as one of its signals is aborted, and leaves neither timer nor listener', async () => {
    const clock = new VirtualClock();
    const [first, second] = [new AbortController(), new AbortController()];
    const paused = pause(100, clock, first.signal, undefined, second.signal);
    second.abort();
    await paused;
    expect(clock.pendingTimers).toBe(0);
    for (const { signal } of [first, second]) expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('does not begin when a signal was aborted before', async () => {
    const clock = new VirtualClock();
    await pause(100, clock, undefined, AbortSignal.abort());
    await pause(Number.POSITIVE_INFINITY, clock, AbortSignal.abort());
    expect(clock.pendingTimers).toBe(0);
  });
});

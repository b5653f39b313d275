import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { onAbort } from '../../src/abort.ts';

describe('a signal that many calls share', () => {
  it('has one listener, whoever calls, and none when nobody does', () => {
    const { signal } = new AbortController();
    const stops = Array.from({ length: 100 }, () => onAbort(signal, () => undefined));
    expect(getEventListeners(signal, 'abort').length).toBe(1);
    for (const stop of stops) stop();
    expect(getEventListeners(signal, 'abort').length).toBe(0);
  });

  it('calls everybody once, in order, but those who have stopped', () => {
    const controller = new AbortController();
    const called: string[] = [];
    const listen = (name: string) => onAbort(controller.signal, () => called.push(name));
    listen('first');
    const stop = listen('second');
    listen('third');
    stop();
    stop();
    controller.abort();
    controller.abort();
    expect(called).toEqual(['first', 'third']);
    expect(getEventListeners(controller.signal, 'abort').length).toBe(0);
  });

  it('can be listened to again after everybody has stopped, and twice by the same function', () => {
    const controller = new AbortController();
    let calls = 0;
    const count = (): void => {
      calls += 1;
    };
    onAbort(controller.signal, count)();
    onAbort(controller.signal, count);
    onAbort(controller.signal, count);
    controller.abort();
    expect(calls).toBe(2);
  });
});

import { afterEach, describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../src/clock.ts';
import { dial } from '../../src/transport/dial.ts';
import { closedPort, closeLocal, echo, onCloseLocal, plainServer } from '../support/local-servers.ts';

afterEach(closeLocal);

/** A clock whose timers are set off by the test, and which knows how many are left. */
class HandClock implements Clock {
  wall(): number {
    return this.now();
  }

  readonly #timers = new Set<() => void>();

  now(): number {
    return systemClock.now();
  }

  after(_ms: number, fn: () => void): { cancel: () => void } {
    this.#timers.add(fn);
    return { cancel: () => this.#timers.delete(fn) };
  }

  soon(fn: () => void): void {
    process.nextTick(fn);
  }

  turn(fn: () => void): void {
    systemClock.turn(fn);
  }

  get pendingTimers(): number {
    return this.#timers.size;
  }

  ring(): void {
    for (const fn of this.#timers) fn();
  }
}

function dialOn(clock: Clock, port: number, signal = new AbortController().signal) {
  return dial(
    { endpoint: { kind: 'tcp', host: '127.0.0.1', port }, connectTimeoutMs: 5_000 },
    clock,
    signal,
    (socket) => {
      onCloseLocal(() => socket.destroy());
      return socket;
    },
  );
}

describe('a dial', () => {
  it('whose time is up while the answer waits in the kernel succeeds', async () => {
    const port = await plainServer(echo);
    const clock = new HandClock();
    // From here on in the phase of the loop in which timers run, before it polls.
    await new Promise((resolve) => setTimeout(resolve, 0));
    const dialed = dialOn(clock, port);
    // Node begins to connect in a nextTick of its own, which comes before this one.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    // Our own loop was blocked past the limit: the timer goes off before anything is read.
    clock.ring();
    const socket = await dialed;
    expect(socket.readyState).toBe('open');
  });

  it('leaves no timer, whether it succeeds, fails or is aborted', async () => {
    const clock = new HandClock();
    await dialOn(clock, await plainServer(echo));
    expect(clock.pendingTimers).toBe(0);
    await expect(dialOn(clock, await closedPort())).rejects.toMatchObject({ code: 'ERR_REFUSED' });
    expect(clock.pendingTimers).toBe(0);
    const controller = new AbortController();
    const aborted = dialOn(clock, await plainServer(echo), controller.signal);
    expect(clock.pendingTimers).toBe(1);
    controller.abort('enough');
    await expect(aborted).rejects.toBe('enough');
    expect(clock.pendingTimers).toBe(0);
  });
});

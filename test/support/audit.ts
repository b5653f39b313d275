/**
 * What must be true of a pool after every step, whatever happened: the counts add up, `max` holds, every socket is in
 * one place, and nobody waits for something that is there.
 */
import { expect } from 'vitest';
import type { assemble } from '../../src/create-pool.ts';
import type { FakeNet } from './fake-net.ts';

/** A pool and the roster behind it. */
export type Assembled = ReturnType<typeof assemble<string, string>>;

/** Checks everything that can be seen from outside a step. Call it when the clock has been flushed. */
export function audit({ pool, roster }: Assembled, net: FakeNet): void {
  const stats = pool.stats();
  const { slots, shelved, borrowChecks, firstPings } = roster.books;
  const inState = (name: string): number => [...slots].filter((slot) => slot.state.name === name).length;
  const forBorrowers = [...slots].filter((slot) => slot.isBorrowCheck);
  for (const { state } of forBorrowers) expect(state.name, 'a slot checked for a borrower').toBe('checking');

  expect(stats.idle + stats.leased + stats.dialing + stats.closing, 'the counts sum').toBe(stats.total);
  expect(stats.total, 'max').toBeLessThanOrEqual(stats.max);
  expect(roster.dials.size, 'slots on the books').toBe(slots.size);
  expect(stats.total, 'slots').toBe(slots.size);
  expect(inState('idle') + inState('checking'), 'idle').toBe(stats.idle);
  for (const name of ['leased', 'dialing', 'closing'] as const) expect(inState(name), name).toBe(stats[name]);

  expect(shelved, 'every idle socket is on the shelf').toBe(inState('idle'));
  expect(shelved, 'maxIdle').toBeLessThanOrEqual(stats.maxIdle);
  expect(borrowChecks, 'checks for a borrower').toBe(forBorrowers.length);
  expect(firstPings, 'first pings').toBe([...slots].filter((slot) => slot.isFirstPing).length);

  const open = stats.idle + stats.leased;
  // A slot whose dial is over, but which is not open yet, may have a handshake under way.
  const shakingHands = stats.dialing - net.dialing;
  expect(net.openSockets, 'no socket is lost').toBeLessThanOrEqual(open + stats.closing + shakingHands);
  expect(net.openSockets, 'no socket is imagined').toBeGreaterThanOrEqual(open);

  if (stats.waiting > borrowChecks) expect(shelved, 'nobody waits while a socket rests').toBe(0);
  if (stats.waiting > 0) expect(stats.total, 'a waiter has something to wait for').toBeGreaterThan(0);
  if (open + stats.closing < stats.min && net.hold.isEnded === false && !roster.isClosing) {
    expect(stats.dialing, 'min is being refilled').toBeGreaterThan(0);
  }
  expect(net.hold.count, 'the process is never held by less than nobody').toBeGreaterThanOrEqual(0);
}

/** Checks that a pool has closed and left nothing behind. */
export function auditEnd({ pool, roster }: Assembled, net: FakeNet): void {
  audit({ pool, roster }, net);
  expect(pool.stats()).toMatchObject({ total: 0, waiting: 0 });
  expect(net.openSockets, 'sockets').toBe(0);
  expect(net.dialing, 'dials').toBe(0);
  expect(net.clock.pendingTimers, 'timers').toBe(0);
  expect(net.clock.pendingTurns, 'turns').toBe(0);
  expect(net.hold, 'holds').toMatchObject({ count: 0, isEnded: true });
}

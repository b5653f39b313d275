/**
 * What must be true of a pool after every step, whatever happened: the counts add up, `max` holds, every socket is in
 * one place, nobody waits for something that is there, and what is missing is being opened.
 *
 * An audit knows only the pool and its network. Who asked for what, and whether they got it in time, the test knows.
 */

import { expect } from 'vitest';
import type { assemble } from '../../src/create-pool.ts';
import type { SlotStateName } from '../../src/pool/slot.ts';
import type { FakeNet } from './fake-net.ts';
import { viewOf } from './roster-view.ts';

/** A pool and the roster behind it. */
export type Assembled = ReturnType<typeof assemble<string, string>>;

// How long the pool may take to look at its sockets again.
const LOOK_MS = 1_000;

/** One pool's auditor. It watches from the beginning, since some promises are about what was before. */
export class Audit {
  readonly #roster: Assembled['roster'];
  readonly #pool: Assembled['pool'];
  readonly #net: FakeNet;
  // Resets so far, the newest slot at the last resize, and what was true when the pool was suspended.
  #resets = 0;
  #lastIdAtResize = 0;
  #atSuspend: { readonly dials: number; readonly acquired: number; readonly prepared: number } | undefined;
  #before: readonly number[] = [];
  // Since when fewer are open than `min`, or rest than `minIdle`, and nothing is dialed though there is room.
  #shortSince: { readonly at: number; readonly opened: number } | undefined;

  constructor({ pool, roster }: Assembled, net: FakeNet) {
    this.#pool = pool;
    this.#roster = roster;
    this.#net = net;
    const { drain, renew, resize, resume, suspend } = roster;
    roster.renew = (perSecond) => {
      this.#resets += 1;
      return renew.call(roster, perSecond);
    };
    roster.resize = (sizes) => {
      this.#lastIdAtResize = Math.max(this.#lastIdAtResize, ...[...roster.state.slots].map(({ id }) => id));
      resize.call(roster, sizes);
    };
    roster.suspend = () => {
      const suspended = suspend.call(roster);
      if (!roster.state.isSuspended) return suspended;
      // Whoever's socket is being prepared is as good as served.
      const prepared = [...roster.state.slots].filter(
        ({ state }) => state.name === 'leased' && state.hook === 'onAcquire',
      );
      const { acquired } = roster.state.counters;
      // A dial that has begun goes on, though its name may have been resolved only now.
      const begun = roster.state.members.list.reduce((sum, { dialing }) => sum + dialing, 0) - net.dialing;
      const dials = net.dialedAt.length + begun;
      this.#atSuspend ??= { dials, acquired, prepared: prepared.length };
      return suspended;
    };
    roster.resume = () => {
      this.#atSuspend = undefined;
      resume.call(roster);
    };
    roster.drain = () => {
      this.#atSuspend = undefined;
      return drain.call(roster);
    };
  }

  /** How often the pool was reset. */
  get resets(): number {
    return this.#resets;
  }

  /** How many slots are older than the reset of that number, the first one being 1. */
  olderThan(reset: number): number {
    let count = 0;
    for (const { generation } of this.#roster.state.slots) if (generation < reset) count += 1;
    return count;
  }

  /** Callers who have left the queue, and whose socket is being prepared. */
  get prepared(): number {
    let count = 0;
    for (const { state } of this.#roster.state.slots) {
      if (state.name !== 'leased' || state.waiter === undefined) continue;
      if (this.#roster.waiters.isWanted(state.waiter)) count += 1;
    }
    return count;
  }

  /** Checks everything that can be seen from outside a step. Call it when the clock has been flushed. */
  check(): void {
    this.#checkPlaces();
    this.#checkBooks();
    this.#checkSockets();
    this.#checkNeeds();
    this.#checkCounters();
  }

  /** The same, and that the pool has closed and left nothing behind. */
  checkEnd(): void {
    this.check();
    const { clock, dialing, hold, openSockets } = this.#net;
    const { total, waiting } = this.#pool.stats();
    equal(total, 0, 'slots at the end');
    equal(waiting, 0, 'waiters at the end');
    equal(openSockets, 0, 'sockets at the end');
    equal(dialing, 0, 'dials at the end');
    equal(clock.pendingTimers, 0, 'timers at the end');
    equal(clock.pendingTurns, 0, 'turns at the end');
    expect(hold, 'holds at the end').toMatchObject({ count: 0, isEnded: true });
  }

  /** Each slot is in one state, and in the place that goes with it. */
  #checkPlaces(): void {
    const { counts, sizes, slots } = viewOf(this.#roster);
    const seen: Record<SlotStateName, number> = {
      dialing: 0,
      idle: 0,
      checking: 0,
      leased: 0,
      closing: 0,
      closed: 0,
    };
    let newest = 0;
    for (const slot of slots) {
      const { name } = slot.state;
      seen[name] += 1;
      if (slot.id > newest) newest = slot.id;
      if (slot.isShelved !== (name === 'idle'))
        fail(`slot ${slot.id} is ${name}, shelved: ${slot.isShelved}`);
      if (name !== 'checking' && (slot.isBorrowCheck || slot.isFirstPing))
        fail(`slot ${slot.id} is ${name}, and checked for a borrower or by a first ping`);
      if (slot.state.name === 'idle' || slot.state.name === 'leased') {
        if (!slot.state.connection.isOpen) fail(`slot ${slot.id} is ${name} with a dead connection`);
      }
      if (name === 'idle' && slot.mustGo) fail(`slot ${slot.id} rests, and must go`);
    }
    equal(
      counts.idle + counts.leased + counts.dialing + counts.closing,
      counts.total,
      'the sum of the counts',
    );
    equal(slots.size, counts.total, 'slots');
    equal(seen.closed, 0, 'closed slots that have a place');
    equal(seen.idle + seen.checking, counts.idle, 'idle');
    equal(seen.leased, counts.leased, 'leased');
    equal(seen.dialing, counts.dialing, 'dialing');
    equal(seen.closing, counts.closing, 'closing');
    // What was open when `max` was made smaller may stay for a while. Nothing new may.
    if (counts.total > sizes.max && newest > this.#lastIdAtResize)
      fail(`${counts.total} slots, the newest ${newest}, with max ${sizes.max}`);
    if (counts.idle - seen.checking + counts.leased > sizes.max) equal(seen.idle, 0, 'at rest above max');
    atMost(seen.idle, sizes.maxIdle, 'maxIdle');
    equal(this.#roster.books.shelved, seen.idle, 'on the shelf');
  }

  #checkBooks(): void {
    const { books, dials, slots } = viewOf(this.#roster);
    let borrowChecks = 0;
    let firstPings = 0;
    let outdated = 0;
    let stale = 0;
    for (const slot of slots) {
      if (slot.isBorrowCheck) borrowChecks += 1;
      if (slot.isFirstPing) firstPings += 1;
      if (slot.generation < this.#resets) outdated += 1;
      const { name } = slot.state;
      const isOpen = name === 'idle' || name === 'checking' || name === 'leased';
      if (isOpen && slot.staleBy !== undefined) stale += 1;
      if (isOpen && slot.generation < this.#resets && slot.staleBy === undefined)
        fail(`slot ${slot.id} is older than the last reset, and is not to be replaced`);
    }
    equal(dials.size, slots.size, 'slots on the ledger');
    equal(books.borrowChecks, borrowChecks, 'checks for a borrower');
    equal(books.firstPings, firstPings, 'first pings');
    equal(books.outdated, outdated, 'older than the last reset');
    atMost(books.stale, stale, 'to be replaced');
    if (books.ordered < 0) fail(`${books.ordered} successors ordered`);
  }

  #checkSockets(): void {
    const { dialing, openSockets } = this.#net;
    const { counts } = viewOf(this.#roster);
    const open = counts.idle + counts.leased;
    // A slot whose dial is over, but which is not open yet, may have a handshake under way.
    atMost(openSockets, open + counts.closing + counts.dialing - dialing, 'sockets: one is lost');
    atMost(open, openSockets, 'open slots: a socket is imagined');
  }

  /** Nobody waits for what is there, and what is missing is on its way. */
  #checkNeeds(): void {
    const { books, counts, dials, isClosing, isSuspended, sizes, waiters } = viewOf(this.#roster);
    const { dialedAt, hold } = this.#net;
    if (hold.count < 0) fail(`the process is held by ${hold.count}`);
    if (this.#atSuspend !== undefined) {
      const { acquired, dials: dialed, prepared } = this.#atSuspend;
      atMost(dialedAt.length, dialed, 'dials since the pool was suspended');
      atMost(
        this.#roster.state.counters.acquired,
        acquired + prepared,
        'leases since the pool was suspended',
      );
      return;
    }
    const shortSince = this.#shortSince;
    this.#shortSince = undefined;
    if (isSuspended) return;
    const waiting = waiters.size;
    if (waiting > books.borrowChecks) equal(books.shelved, 0, 'sockets at rest while somebody waits');
    if (waiting > 0 && counts.total === 0) fail('somebody waits for nothing');
    if (isClosing || counts.dialing > 0 || !dials.hasRoom) return;
    const open = counts.idle + counts.leased;
    if (waiting > books.borrowChecks + books.firstPings)
      fail('somebody waits, there is room, and nothing is dialed');
    if (open + counts.closing < sizes.min)
      fail(`${open} are open, min is ${sizes.min}, and nothing is dialed`);
    // The warm path of acquire dials nothing, nor does a socket that begins to end: the next look does.
    if (open >= sizes.min && counts.idle >= sizes.minIdle) return;
    const now = this.#net.clock.now();
    // What was opened since then has made up for it, and was lent or lost again.
    const { opened } = this.#roster.state.counters;
    const since = shortSince?.opened === opened ? shortSince : { at: now, opened };
    this.#shortSince = since;
    if (now - since.at > LOOK_MS)
      fail(
        `${open} are open, ${counts.idle} rest, min is ${sizes.min}, minIdle ${sizes.minIdle}, and nothing is dialed`,
      );
  }

  #checkCounters(): void {
    const { counters, counts } = viewOf(this.#roster);
    equal(counters.opened - counters.closed, counts.idle + counts.leased, 'opened less closed');
    atMost(counters.waited, counters.acquired, 'waited');
    const now = [
      counters.acquired,
      counters.waited,
      counters.timedOut,
      counters.cancelled,
      counters.refused,
      counters.failed,
      counters.leaked,
      counters.deadlocksSuspected,
      counters.hookFailed,
      counters.opened,
      counters.dialFailed,
      counters.pinged,
      counters.pingMissed,
      counters.stalled,
      counters.closed,
    ];
    for (const [index, count] of this.#before.entries()) {
      if ((now[index] ?? 0) < count) fail(`counter ${index} fell from ${count} to ${now[index]}`);
    }
    this.#before = now;
  }

  /** What users see is the same, and adds up. Apart, because histograms cost much. */
  checkStats(): void {
    const stats = this.#pool.stats();
    const { counts, sizes, isSuspended } = viewOf(this.#roster);
    expect(stats).toMatchObject({ ...counts, ...sizes, isSuspended });
    const closed = Object.values(stats.closedBy).reduce((sum, count) => sum + count, 0);
    equal(closed, stats.closed, 'closed by reason');
    equal(this.#pool.sockets().length, counts.total, 'rows of sockets');
  }
}

function equal(actual: number, expected: number, what: string): void {
  if (actual !== expected) fail(`${what}: ${actual} instead of ${expected}`);
}

function atMost(actual: number, limit: number, what: string): void {
  if (actual > limit) fail(`${what}: ${actual}, at most ${limit}`);
}

function fail(what: string): never {
  throw new Error(`audit: ${what}`);
}

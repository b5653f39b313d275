/**
 * What must be true of a pool after every step, whatever happened: the counts add up, for all endpoints together and for
 * each, `max` holds, every socket is in one place, nobody waits for something that is there, and what is missing is being
 * opened.
 *
 * An audit knows only the pool and its network. Who asked for what, and whether they got it in time, the test knows.
 */

import { isIP } from 'node:net';
import { expect } from 'vitest';
import type { assemble } from '../../src/create-pool.ts';
import type { PoolMember } from '../../src/pool/pool-member.ts';
import type { Slot, SlotStateName } from '../../src/pool/slot.ts';
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
  #atSuspend:
    | { readonly dials: number; readonly begun: number; readonly acquired: number; readonly prepared: number }
    | undefined;
  #before: readonly number[] = [];
  // Every endpoint there ever was: what has left must be forgotten to the last count.
  readonly #members: Set<PoolMember<string, string>> = new Set();
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
      let begun = 0;
      for (const { dialing } of this.#meet()) begun += dialing;
      this.#atSuspend ??= { dials: net.dialedAt.length, begun, acquired, prepared: prepared.length };
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
    this.#checkMembers();
    this.#checkWaiters();
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
    for (const { arriving, dialing: dials, inFlight, name, open, pinned, resting, slow } of this.#meet()) {
      const left = { open, resting: resting.length, dialing: dials, arriving, slow, inFlight, pinned };
      for (const [what, count] of Object.entries(left)) equal(count, 0, `${what} of ${name} at the end`);
    }
  }

  /** Every endpoint there is or was. */
  #meet(): ReadonlySet<PoolMember<string, string>> {
    const { members, slots } = this.#roster.state;
    for (const member of members.list) this.#members.add(member);
    for (const { member } of slots) if (member !== undefined) this.#members.add(member);
    return this.#members;
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

  /** A dial by name may race over all the addresses that the name has had. */
  get #racing(): number {
    const isByName = this.#roster.state.members.list.some(({ endpoint: to }) => {
      return to.kind === 'tcp' && isIP(to.address ?? to.host) === 0;
    });
    return isByName ? Math.max(1, new Set(this.#net.dialedTo).size) : 1;
  }

  #checkSockets(): void {
    const { dialing, openSockets } = this.#net;
    const { counts } = viewOf(this.#roster);
    const open = counts.idle + counts.leased;
    // A slot whose dial is over, but which is not open yet, may have a handshake under way.
    const arriving = counts.dialing * this.#racing - dialing;
    atMost(openSockets, open + counts.closing + arriving, 'sockets: one is lost');
    atMost(open, openSockets, 'open slots: a socket is imagined');
  }

  /** Each endpoint knows what it has: sockets, those that rest, leases, dials, and who waits for it. */
  #checkMembers(): void {
    const { members, shelf, slots } = this.#roster.state;
    const isBalanced = members.balancer !== undefined;
    const books = new Map<PoolMember<string, string>, MemberBooks>();
    for (const member of this.#meet())
      books.set(member, { open: 0, counted: 0, uncounted: 0, checked: 0, pinged: 0, dialing: 0 });
    for (const { id, isBorrowCheck, isFirstPing, member, state } of slots) {
      const own = member === undefined ? undefined : books.get(member);
      if (own === undefined) {
        if (state.name !== 'dialing') fail(`slot ${id} is ${state.name}, and leads nowhere`);
        continue;
      }
      if (state.name === 'dialing') own.dialing += 1;
      if (state.name === 'idle' || state.name === 'checking' || state.name === 'leased') own.open += 1;
      if (state.name === 'idle' && member?.isGone === true)
        fail(`slot ${id} rests, and ${member.name} has left`);
      if (isBorrowCheck) own.checked += 1;
      if (isFirstPing) own.pinged += 1;
      if (state.name === 'leased' && state.isCounted) own.counted += 1;
      else if (state.name === 'leased' && state.hook === undefined) own.uncounted += 1;
    }
    const resting = new Map<PoolMember<string, string>, Slot<string, string>[]>();
    for (let slot = shelf.bottom; slot !== undefined && isBalanced; slot = slot.above) {
      if (slot.member !== undefined) resting.set(slot.member, [...(resting.get(slot.member) ?? []), slot]);
    }
    let running = 0;
    let slow = 0;
    for (const [member, own] of books) {
      const { name } = member;
      equal(member.open, own.open, `open at ${name}`);
      // The calls of a client count, and not its lease.
      if (own.uncounted === 0) equal(member.inFlight, own.counted, `in flight at ${name}`);
      else if (member.inFlight < own.counted) fail(`${member.inFlight} in flight at ${name}`);
      const shelved = resting.get(member) ?? [];
      equal(member.resting.length, shelved.length, `at rest at ${name}`);
      if (member.resting.some((slot, at) => slot !== shelved[at]))
        fail(`the order of those at rest at ${name}`);
      equal(member.arriving, 0, `opened and not told, at ${name}`);
      if (member.dialing < 0 || member.slow < 0)
        fail(`${member.dialing} dials to ${name}, ${member.slow} slow`);
      atMost(member.dialing, own.dialing, `dials to ${name}`);
      atMost(member.slow, member.dialing, `slow dials to ${name}`);
      if (member.isGone && (members.list.includes(member) || member.wanted !== 0))
        fail(`${name} has left, and is wanted`);
      equal(member.checked, own.checked, `checked for somebody at ${name}`);
      equal(member.pinged, own.pinged, `first pings at ${name}`);
      if (member.wanted !== 0 && member.wanted !== 1) fail(`${name} is wanted ${member.wanted} times`);
      running += member.dialing;
      slow += member.slow;
    }
    // Dials of a race over the addresses of one name are one dial.
    if (this.#net.dialing > 0 && running === 0) fail('a dial is under way, and no endpoint knows of it');
    if (members.slow < 0 || members.slow > slow) fail(`${members.slow} dials are slow, not ${slow}`);
  }

  /** Who waits for one endpoint is known there. */
  #checkWaiters(): void {
    const { waiters } = this.#roster;
    let size = 0;
    let wishing = 0;
    let pinned = 0;
    const pins = new Map<object, number>();
    for (const { pin, wish } of waiters.inOrder()) {
      size += 1;
      if (wish !== undefined) wishing += 1;
      else if (pin !== undefined) fail('somebody waits for one endpoint without having wished for it');
      if (pin === undefined) continue;
      pinned += 1;
      pins.set(pin, (pins.get(pin) ?? 0) + 1);
    }
    equal(waiters.size, size, 'waiters');
    equal(waiters.wishing, wishing, 'waiters who wish for something');
    equal(waiters.pinned, pinned, 'waiters who wait for one endpoint');
    for (const member of this.#meet()) {
      const { isGone, name } = member;
      equal(member.pinned, pins.get(member) ?? 0, `waiters for ${name}`);
      pins.delete(member);
      if (isGone && member.pinned > 0) fail(`${member.pinned} wait for ${name}, which has left`);
    }
    equal(pins.size, 0, 'unknown endpoints that somebody waits for');
  }

  /** Nobody waits for what is there, and what is missing is on its way. */
  #checkNeeds(): void {
    const { books, counts, dials, isClosing, isSuspended, sizes, waiters } = viewOf(this.#roster);
    const { dialedAt, hold } = this.#net;
    if (hold.count < 0) fail(`the process is held by ${hold.count}`);
    if (this.#atSuspend !== undefined) {
      const { acquired, begun, dials: dialed, prepared } = this.#atSuspend;
      atMost(dialedAt.length, dialed + begun * this.#racing, 'dials since the pool was suspended');
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
    if (waiting > books.borrowChecks || waiters.pinned > 0) this.#checkShelf();
    if (waiting > 0 && counts.total === 0) fail('somebody waits for nothing');
    if (isClosing || counts.dialing > 0 || !dials.hasRoom) return;
    const open = counts.idle + counts.leased;
    const { members } = this.#roster.state;
    const taken = waiters.pinned === 0 ? 0 : members.hopes(true);
    if (waiting - waiters.pinned > books.borrowChecks + books.firstPings - taken || members.unmet > 0)
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

  /** Nothing rests that would do for somebody who waits, and for whom nothing is being checked. */
  #checkShelf(): void {
    const { state, waiters } = this.#roster;
    const checked = new Map<PoolMember<string, string>, number>();
    let left = 0;
    for (const { isBorrowCheck, member } of state.slots) {
      if (!isBorrowCheck || member === undefined) continue;
      checked.set(member, (checked.get(member) ?? 0) + 1);
    }
    for (const [member, count] of checked) left += Math.max(0, count - member.pinned);
    const isFree = waiters.size - waiters.pinned > left;
    for (let slot = state.shelf.bottom; slot !== undefined; slot = slot.above) {
      const { id, member } = slot;
      const isHoped = member !== undefined && member.pinned > (checked.get(member) ?? 0);
      if (this.#isUsurped(slot)) fail(`slot ${id} rests, its place is wanted for another endpoint`);
      if (isFree || isHoped)
        fail(`slot ${id} to ${member?.name} rests while somebody waits who would have it`);
    }
  }

  /** Whether its place in a full pool is what somebody waits for. */
  #isUsurped({ member }: Slot<string, string>): boolean {
    const { counts, isClosing, sizes } = viewOf(this.#roster);
    if (isClosing || counts.total < sizes.max || counts.closing + counts.dialing > 0) return false;
    return member?.pinned === 0 && this.#roster.state.members.unmet > 0;
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

interface MemberBooks {
  open: number;
  /** Leases that count as in flight, and those whose calls do. */
  counted: number;
  uncounted: number;
  checked: number;
  pinged: number;
  /** Slots that are dialing, or wait for that, and whose last attempt led there. */
  dialing: number;
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

/**
 * The pinger: the heartbeat as the pool uses it. It takes a slot out of service for its ping, brings it back with its
 * pong, and ends it when none comes. When to ping, and what silence means, is the heartbeat's business.
 */
import type { Clock, RandomSource } from '../clock.ts';
import { PulsepoolError } from '../errors.ts';
import { Heartbeat, type HeartbeatSettings } from '../heartbeat/heartbeat.ts';
import type { RetryBudget } from '../retry/budget.ts';
import type { Announcer } from './announcer.ts';
import type { Slot, SlotPulse } from './slot.ts';
import type { Counters } from './stats.ts';

/** Who puts slots into service. */
export interface PingerOwner<In, Out> {
  /** Takes an idle slot out of service. */
  readonly withdraw: (slot: Slot<In, Out>) => void;
  /** A slot has proved that it lives: it may serve again. */
  readonly restore: (slot: Slot<In, Out>) => void;
  /** A slot can't be counted on any more. */
  readonly onDoubt: () => void;
  /** A slot has died in silence. */
  readonly onDeath: () => void;
  /** Our own event loop was blocked, or the process frozen. */
  readonly onStalled: (lateMs: number) => void;
}

/** What a pinger needs. */
export interface PingerParts {
  readonly endpoint: string;
  /** Nothing is pinged without it. */
  readonly heartbeat: HeartbeatSettings | undefined;
  /** Shared with requests. */
  readonly budget: RetryBudget;
  readonly clock: Clock;
  readonly random: RandomSource;
}

/** See the file's comment. */
export class Pinger<In, Out> implements SlotPulse<In, Out> {
  readonly #owner: PingerOwner<In, Out>;
  readonly #endpoint: string;
  readonly #settings: HeartbeatSettings | undefined;
  readonly #heartbeat: Heartbeat | undefined;
  readonly #counters: Counters;
  readonly #budget: RetryBudget;
  readonly #clock: Clock;
  readonly #announcer: Announcer;
  #firstPings = 0;
  #suspects = 0;

  constructor(parts: PingerParts, counters: Counters, announcer: Announcer, owner: PingerOwner<In, Out>) {
    const { clock, endpoint, heartbeat, random } = parts;
    this.#owner = owner;
    this.#endpoint = endpoint;
    this.#settings = heartbeat;
    this.#counters = counters;
    this.#budget = parts.budget;
    this.#clock = clock;
    this.#announcer = announcer;
    this.#heartbeat =
      heartbeat === undefined ? undefined : new Heartbeat(heartbeat, clock, random, owner.onStalled);
  }

  /** Slots whose first ping is out: most will be back in a moment. */
  get firstPings(): number {
    return this.#firstPings;
  }

  /** Whether there is a slot that has missed a ping. */
  get hasSuspects(): boolean {
    return this.#suspects > 0;
  }

  /** Watches a slot that has just been opened. */
  watch(slot: Slot<In, Out>): void {
    slot.beat = this.#heartbeat?.watch(slot);
  }

  /** Watches it no longer. */
  unwatch(slot: Slot<In, Out>): void {
    this.loseHope(slot);
    this.#trust(slot);
    if (slot.beat === undefined) return;
    this.#heartbeat?.unwatch(slot.beat);
    slot.beat = undefined;
  }

  /** Whether a socket was silent so long that only a ping can prove it. */
  mustPing(slot: Slot<In, Out>, silentMs: number): boolean {
    return slot.beat !== undefined && this.#settings !== undefined && silentMs > this.#settings.intervalMs;
  }

  /** Pings a slot for a borrower. */
  check(slot: Slot<In, Out>): void {
    if (slot.beat !== undefined) this.#heartbeat?.checkNow(slot.beat);
  }

  /**
   * Pings a slot at rest at once: one beside it has died in silence, or our own process was frozen. One that has
   * spoken within a ping's timeout need not prove anything, unless the clock may have stood still, too.
   */
  suspect(slot: Slot<In, Out>, now: number, wasFrozen: boolean): void {
    if (slot.beat === undefined || this.#settings === undefined || slot.state.name !== 'idle') return;
    if (wasFrozen || now - slot.lastReadAt > this.#settings.timeoutMs) this.#heartbeat?.pingNow(slot.beat);
  }

  /** Ends one slot that has missed a ping, if there is one: its place is worth more than its hope. */
  endSuspect(slots: Iterable<Slot<In, Out>>): void {
    for (const { beat, isSuspect, state } of slots) {
      if (isSuspect && state.name === 'checking' && beat !== undefined) {
        state.connection.destroy('heartbeat', unansweredError(this.#endpoint, beat.missed));
        this.#owner.onDeath();
        return;
      }
    }
  }

  end(): void {
    this.#heartbeat?.end();
  }

  ping(slot: Slot<In, Out>): boolean {
    if (slot.state.name === 'idle') {
      this.#owner.withdraw(slot);
      this.#firstPings += 1;
      if (slot.member !== undefined) slot.member.pinged += 1;
      slot.isFirstPing = true;
    }
    const { state } = slot;
    if (state.name !== 'checking' || state.by === 'borrow-turns') return false;
    state.connection.ping();
    return state.connection.isOpen;
  }

  onPong(slot: Slot<In, Out>): void {
    const { state, beat } = slot;
    if (state.name !== 'checking' || beat === undefined) return;
    this.loseHope(slot);
    this.#trust(slot);
    const rttMs = this.#heartbeat?.answered(beat) ?? 0;
    slot.rttMs = Math.round(rttMs);
    this.#counters.pinged += 1;
    this.#counters.ping.record(rttMs, this.#clock.now());
    this.#announcer.tell('pinged', () => ({ connectionId: slot.id, rttMs }));
    this.#owner.restore(slot);
  }

  onMissed(slot: Slot<In, Out>, missed: number): void {
    this.loseHope(slot);
    if (!slot.isSuspect) this.#suspects += 1;
    slot.isSuspect = true;
    this.#tellMissed(slot, missed);
    this.#owner.onDoubt();
  }

  onDead(slot: Slot<In, Out>, missed: number): void {
    this.#tellMissed(slot, missed);
    const { state } = slot;
    if (state.name !== 'checking') return;
    state.connection.destroy('heartbeat', unansweredError(this.#endpoint, missed));
    this.#owner.onDeath();
  }

  /** It no longer counts as likely to be back in a moment. */
  loseHope(slot: Slot<In, Out>): void {
    if (!slot.isFirstPing) return;
    slot.isFirstPing = false;
    this.#firstPings -= 1;
    if (slot.member !== undefined) slot.member.pinged -= 1;
  }

  #trust(slot: Slot<In, Out>): void {
    if (!slot.isSuspect) return;
    slot.isSuspect = false;
    this.#suspects -= 1;
  }

  #tellMissed(slot: Slot<In, Out>, missed: number): void {
    this.#counters.pingMissed += 1;
    // One more is to come, at the expense of what requests may repeat.
    this.#budget.withdraw(this.#clock.now());
    const maxMissed = this.#settings?.maxMissed ?? 0;
    this.#announcer.tell('pingMissed', () => ({ connectionId: slot.id, missed, maxMissed }));
  }
}

/** Pings went unanswered, so many in a row. */
export function unansweredError(endpoint: string, missed: number): PulsepoolError {
  return new PulsepoolError('ERR_HEARTBEAT', `${endpoint} did not answer ${missed} ping(s) in a row.`, {
    retryable: true,
    hint: 'The server is stuck or gone, or something in between drops packets.',
  });
}

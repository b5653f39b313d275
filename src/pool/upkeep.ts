/**
 * The upkeep: what is looked at from time to time. Which sockets rested or lived too long, which leases are held
 * too long, whether our own event loop stood still, and how busy the pool was.
 *
 * It finds; what follows is the roster's business.
 */
import { type Clock, STALLED_MS } from '../clock.ts';
import type { Slot } from './slot.ts';
import { Sweep } from './sweep.ts';

/** What the upkeep finds. */
export interface UpkeepFindings<In, Out> {
  /** A socket at rest that nobody needs, or that its server is about to close. */
  readonly onIdle: (slot: Slot<In, Out>, isSpare: boolean) => void;
  /** It is time to open its successor, unless it is one of those that are not needed, and has never been. */
  readonly onOld: (slot: Slot<In, Out>, isUnneeded: boolean) => void;
  /** It can't wait for its successor any longer. */
  readonly onTooOld: (slot: Slot<In, Out>) => void;
  /** A lease that is held now. */
  readonly onLeased: (slot: Slot<In, Out>, now: number) => void;
  /** Nothing ran for so long, and for so long the machine slept while the clock stood still. */
  readonly onStalled: (lateMs: number, sleptMs: number) => void;
  /** All slots have been looked at. */
  readonly onDone: (now: number) => void;
}

/** What the upkeep needs to know. */
export interface UpkeepParts<In, Out> {
  readonly slots: ReadonlySet<Slot<In, Out>>;
  readonly idleTimeoutMs: number;
  readonly maxLifetimeMs: number;
  readonly leakAfterMs: number;
  /** The longest that the server lets a socket rest, as far as is known, in ms. */
  readonly idleLimitMs: (now: number) => number;
  /** How many of the sockets at rest are more than `min` and `minIdle` ask for. */
  readonly surplus: () => number;
  readonly bottom: () => Slot<In, Out> | undefined;
  readonly isNeeded: () => boolean;
  readonly clock: Clock;
}

// Lifetimes are shortened by up to this share, so that sockets opened together do not end together. The successor is
// opened in its first half, and the second half is left for finding a place for it.
const LIFETIME_JITTER = 0.1;

/** See the file's comment. */
export class Upkeep<In, Out> {
  readonly #parts: UpkeepParts<In, Out>;
  readonly #findings: UpkeepFindings<In, Out>;
  readonly #sweep: Sweep;

  constructor(parts: UpkeepParts<In, Out>, findings: UpkeepFindings<In, Out>) {
    const { clock, idleTimeoutMs, isNeeded, leakAfterMs, maxLifetimeMs } = parts;
    this.#parts = parts;
    this.#findings = findings;
    this.#sweep = new Sweep(
      // Often enough that a successor which was ordered can open before the grace is over.
      [idleTimeoutMs, maxLifetimeMs * LIFETIME_JITTER * 2.5, leakAfterMs],
      clock,
      (now, lateMs, sleptMs) => this.#look(now, lateMs, sleptMs),
      isNeeded,
    );
  }

  /** When the successor of a socket opened at `openedAt` is to be opened, in whole ms. */
  expiry(openedAt: number, chance: number): number {
    const { maxLifetimeMs } = this.#parts;
    return Math.floor(openedAt + maxLifetimeMs * (1 - LIFETIME_JITTER * (1 + chance) * 0.5));
  }

  /** Looks from time to time, as long as it is needed. */
  start(): void {
    this.#sweep.start();
  }

  end(): void {
    this.#sweep.end();
  }

  #look(now: number, lateMs: number, sleptMs: number): void {
    const { maxLifetimeMs, slots, surplus } = this.#parts;
    const findings = this.#findings;
    const frozenMs = lateMs > STALLED_MS ? Math.floor(lateMs) : 0;
    const graceMs = maxLifetimeMs * LIFETIME_JITTER * 0.5;
    // Looked up once: it asks all slots.
    let spare: number | undefined;
    for (const slot of slots) {
      const { state } = slot;
      if (state.name === 'dialing' || state.name === 'closing' || state.name === 'closed') continue;
      // While nothing ran, nothing rested or aged: a frozen process must not end all its sockets when it thaws.
      slot.expiresAt += frozenMs;
      if (state.name === 'leased') {
        // Resting begins when the lease comes back, not when it last read; the warm path does not look at the clock.
        state.connection.lastUsedAt = Math.floor(now);
        findings.onLeased(slot, now);
      } else state.connection.lastUsedAt += frozenMs;
      if (slot.mustGo || slot.expiresAt > now) continue;
      if (slot.staleBy === undefined) {
        const wasNeeded = slot.uses > 0 || state.name !== 'idle';
        if (!wasNeeded && spare === undefined) spare = surplus();
        const isUnneeded = !wasNeeded && spare !== undefined && spare > 0;
        if (isUnneeded && spare !== undefined) spare -= 1;
        findings.onOld(slot, isUnneeded);
      } else if (slot.expiresAt + graceMs <= now) findings.onTooOld(slot);
    }
    if (frozenMs > 0 || sleptMs > STALLED_MS) findings.onStalled(frozenMs, Math.floor(sleptMs));
    else this.#lookAtRest(now);
    findings.onDone(now);
  }

  #lookAtRest(now: number): void {
    const { bottom, idleLimitMs, idleTimeoutMs, surplus } = this.#parts;
    const serverMs = idleLimitMs(now);
    // Before the next look it would be too late.
    const limitMs = Math.max(serverMs - this.#sweep.everyMs, serverMs / 2);
    let spare = surplus();
    for (let slot = bottom(); slot !== undefined; ) {
      const { above, state } = slot;
      if (state.name === 'idle') {
        const isUnused = spare > 0 && now - state.connection.lastUsedAt >= idleTimeoutMs;
        if (isUnused || now - state.connection.lastReadAt >= limitMs) {
          this.#findings.onIdle(slot, spare > 0);
          spare -= 1;
        }
      }
      slot = above;
    }
  }
}

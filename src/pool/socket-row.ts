/**
 * One line about one place of the pool, as `pool.sockets()` lists them.
 */
import type { Slot, SlotStateName, StaleReason } from './slot.ts';

/** What one socket is doing. Times are in ms; those of a state that it is not in are 0. */
export interface SocketRow {
  readonly connectionId: number;
  /** Where it leads, or its last attempt: as events name it. */
  readonly endpoint: string;
  /** The address at the other end; empty for a Unix socket, and before it is open. */
  readonly address: string;
  readonly state: Exclude<SlotStateName, 'closed'>;
  /** Since it was opened; 0 while dialing. */
  readonly ageMs: number;
  /** Since it was last used, while it rests. */
  readonly idleMs: number;
  /** Since it was lent. */
  readonly heldMs: number;
  /** Since a byte was last read. */
  readonly silentMs: number;
  /** How often it was lent. */
  readonly uses: number;
  /** How long its last pong took; 0 before the first one. */
  readonly rttMs: number;
  /** Pings in a row without an answer. */
  readonly missed: number;
  /** Where its lease was acquired, when `leakAfterMs` or `detectDeadlocks` is set. */
  readonly stack: string | undefined;
  /** Why it is to be replaced, when it is. */
  readonly staleBy: StaleReason | undefined;
}

/** The row of a slot; none when it has closed. */
export function socketRow<In, Out>(slot: Slot<In, Out>, now: number): SocketRow | undefined {
  const { address, beat, id: connectionId, member, rttMs, staleBy, state, uses } = slot;
  if (state.name === 'closed') return undefined;
  const connection = state.name === 'dialing' ? undefined : state.connection;
  const isResting = state.name === 'idle' || state.name === 'checking';
  return Object.freeze({
    connectionId,
    endpoint: member?.name ?? '',
    address,
    state: state.name,
    ageMs: since(connection?.openedAt, now),
    idleMs: isResting ? since(connection?.lastUsedAt, now) : 0,
    heldMs: state.name === 'leased' && state.hook === undefined ? since(state.lentAt, now) : 0,
    silentMs: since(connection?.lastReadAt, now),
    uses,
    rttMs,
    missed: beat?.missed ?? 0,
    stack: state.name === 'leased' ? state.trace?.stack : undefined,
    staleBy,
  });
}

function since(at: number | undefined, now: number): number {
  return at === undefined ? 0 : Math.max(0, Math.round(now - at));
}

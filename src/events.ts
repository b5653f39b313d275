/**
 * What a pool tells: past-tense facts, in the order of a socket's life. Nothing is built when nobody listens.
 */
import type { EjectionReason, OutcomeKind } from './balance/health.ts';
import type { PulsepoolError } from './errors.ts';
import type { CloseReason } from './transport/close-reason.ts';

/** A dial, with its handshake, succeeded. */
export interface OpenedEvent {
  readonly connectionId: number;
  readonly endpoint: string;
  /** From the first attempt to the end of the handshake, back-off included, in ms. */
  readonly dialMs: number;
}

/** One attempt to dial failed. */
export interface DialFailedEvent {
  readonly endpoint: string;
  readonly error: PulsepoolError;
  /** Failures in a row, this one included. */
  readonly failures: number;
  /** No dial starts before this many ms have passed. */
  readonly backoffMs: number;
}

/** No resolver knew a name, or the user's function that finds endpoints failed. What was known before is used on. */
export interface ResolveFailedEvent {
  /** The name that was looked up. */
  readonly name: string;
  readonly error: PulsepoolError;
  /** How old the last good answer is, in ms; none when there is none, or its age is not known. */
  readonly staleMs: number | undefined;
}

/** A name has other addresses, or other SRV targets, than before. */
export interface AddressesChangedEvent {
  readonly name: string;
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** Endpoints came or left. With several `endpoints` only. */
export interface EndpointsChangedEvent {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** How many there are now. */
  readonly total: number;
}

/** An endpoint was put out: no new callers are sent there. With several `endpoints` only. */
export interface EjectedEvent {
  readonly endpoint: string;
  /** Failures in a row, their share, or far longer times than those of its peers. */
  readonly reason: EjectionReason;
  /** What failed last. */
  readonly kind: OutcomeKind;
  /** After so many ms one caller tries whether it is well again. */
  readonly forMs: number;
}

/** An endpoint that had been put out is well again, and gets more and more callers. */
export interface RestoredEvent {
  readonly endpoint: string;
}

/** The machine has other network addresses, or has slept: names are looked up anew, and sockets at rest must prove that they live. */
export interface NetworkChangedEvent {
  /** `eth0 10.0.0.5/24` */
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** For how long nothing ran, in ms; 0 when the machine did not sleep. */
  readonly wokeMs: number;
}

/** A caller got a lease. */
export interface AcquiredEvent {
  readonly connectionId: number;
  /** How long the caller waited, in ms; 0 when a socket was at hand that had spoken just now. */
  readonly waitedMs: number;
}

/** A caller gave a lease back clean. `closed` follows when the socket is too old, or one too many at rest. */
export interface ReleasedEvent {
  readonly connectionId: number;
  readonly heldMs: number;
}

/** A caller got no lease: time was up, too many waited, or the dial failed for good. Not told of those who gave up. */
export interface AcquireFailedEvent {
  readonly error: PulsepoolError;
}

/** A ping was answered. */
export interface PingedEvent {
  readonly connectionId: number;
  readonly rttMs: number;
}

/** A ping was not answered in time. */
export interface PingMissedEvent {
  readonly connectionId: number;
  /** Misses in a row. */
  readonly missed: number;
  readonly maxMissed: number;
}

/** A lease has been held for longer than `leakAfterMs`, or was garbage-collected without having been released. */
export interface LeakedEvent {
  readonly connectionId: number;
  readonly heldMs: number;
  /** Where it was acquired, when `leakAfterMs` is set. */
  readonly stack: string | undefined;
  /** Nobody can release it any more: the socket is closed, and its place is free again. */
  readonly isLost: boolean;
}

/** A lease that had been told as leaked came back after all: it was slow, not lost. */
export interface UnleakedEvent {
  readonly connectionId: number;
  readonly heldMs: number;
  readonly stack: string | undefined;
}

/**
 * Somebody who already holds a lease waits for another one while every socket is leased. When all holders do so,
 * nobody ever goes on.
 */
export interface DeadlockSuspectedEvent {
  /** What the same async context holds. */
  readonly holding: readonly LeaseHolder[];
  /** Where it waits. */
  readonly stack: string | undefined;
}

/** A hook of the user's failed; its socket was closed. */
export interface HookFailedEvent {
  readonly connectionId: number;
  readonly hook: 'onAcquire' | 'onRelease' | 'onClose';
  readonly error: PulsepoolError;
}

/** The server closes sockets at about the same idle age: they are closed before it does, from now on. */
export interface IdleLimitLearnedEvent {
  readonly endpoint: string;
  /** How long a socket may rest from now on, in ms. Worth setting as `idleTimeoutMs`. */
  readonly idleTimeoutMs: number;
  /** What the option says, in ms. */
  readonly configuredMs: number;
}

/**
 * Our own event loop was blocked, or the process frozen: nobody was judged, and the sockets at rest are checked
 * again.
 */
export interface StalledEvent {
  /** How late a timer fired, in ms. */
  readonly lateMs: number;
}

/** A socket began to end; nothing can be sent on it any more. */
export interface ClosedEvent {
  readonly connectionId: number;
  readonly endpoint: string;
  readonly reason: CloseReason;
  readonly error: PulsepoolError | undefined;
  readonly ageMs: number;
  /** How often it was lent. */
  readonly uses: number;
}

/** Who holds a lease. */
export interface LeaseHolder {
  readonly connectionId: number;
  readonly heldMs: number;
  /** Where it was acquired, when `leakAfterMs` or `detectDeadlocks` is set. */
  readonly stack: string | undefined;
}

/** The pool has closed; no event follows. */
export interface PoolClosedEvent {
  /** Leases that were still held at the deadline, and were ended. */
  readonly forced: number;
  /** Who held them. */
  readonly holders: readonly LeaseHolder[];
}

/** Every event and its payload, in lifecycle order. */
export interface PoolEvents {
  opened: (event: OpenedEvent) => void;
  dialFailed: (event: DialFailedEvent) => void;
  resolveFailed: (event: ResolveFailedEvent) => void;
  addressesChanged: (event: AddressesChangedEvent) => void;
  endpointsChanged: (event: EndpointsChangedEvent) => void;
  ejected: (event: EjectedEvent) => void;
  restored: (event: RestoredEvent) => void;
  networkChanged: (event: NetworkChangedEvent) => void;
  acquired: (event: AcquiredEvent) => void;
  acquireFailed: (event: AcquireFailedEvent) => void;
  released: (event: ReleasedEvent) => void;
  leaked: (event: LeakedEvent) => void;
  unleaked: (event: UnleakedEvent) => void;
  deadlockSuspected: (event: DeadlockSuspectedEvent) => void;
  hookFailed: (event: HookFailedEvent) => void;
  pinged: (event: PingedEvent) => void;
  pingMissed: (event: PingMissedEvent) => void;
  stalled: (event: StalledEvent) => void;
  idleLimitLearned: (event: IdleLimitLearnedEvent) => void;
  closed: (event: ClosedEvent) => void;
  poolClosed: (event: PoolClosedEvent) => void;
}

/** The names of all events, in lifecycle order. */
export const EVENT_NAMES: readonly (keyof PoolEvents)[] = [
  'opened',
  'dialFailed',
  'resolveFailed',
  'addressesChanged',
  'endpointsChanged',
  'ejected',
  'restored',
  'networkChanged',
  'acquired',
  'acquireFailed',
  'released',
  'leaked',
  'unleaked',
  'deadlockSuspected',
  'hookFailed',
  'pinged',
  'pingMissed',
  'stalled',
  'idleLimitLearned',
  'closed',
  'poolClosed',
];

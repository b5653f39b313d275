/**
 * The user's hooks on sockets that are open: `onAcquire`, `onRelease`, `onClose`. Each gets a lease of its own, a
 * signal and a limited time. Whatever it does, it can cost its own socket only; what follows from a failure is the
 * roster's business. `onConnect` belongs to the dial: see handshake.ts.
 */
import type { Clock } from '../clock.ts';
import { messageOf, PulsepoolError } from '../errors.ts';
import type { CloseReason } from '../transport/close-reason.ts';
import type { Connection } from '../transport/connection.ts';
import { Lease, NOWHERE } from './lease.ts';
import type { Slot } from './slot.ts';

/** What `onAcquire` and `onRelease` get beside the lease. */
export interface HookContext {
  /** Aborted when `hookTimeoutMs` has passed, or the socket has closed. */
  readonly signal: AbortSignal;
}

/** What `onClose` gets beside the lease. */
export interface CloseContext extends HookContext {
  readonly reason: CloseReason;
}

/** The hooks of this file. */
export type HookName = 'onAcquire' | 'onRelease' | 'onClose';

/**
 * A hook: it may use the lease until it returns, or until what it returns has settled, and must read every reply it
 * asks for.
 */
export type Hook<In, Out, Context> = (lease: Lease<In, Out>, context: Context) => unknown;

/** Those that were given. */
export interface HookSet<In, Out> {
  readonly onAcquire: Hook<In, Out, HookContext> | undefined;
  readonly onRelease: Hook<In, Out, HookContext> | undefined;
  readonly onClose: Hook<In, Out, CloseContext> | undefined;
}

/** What the hooks need. */
export interface HooksParts<In, Out> {
  readonly hooks: HookSet<In, Out>;
  readonly hookTimeoutMs: number;
  readonly endpoint: string;
  readonly clock: Clock;
}

// Why a hook is not waited for any longer.
const LOST = new Error('its socket has closed');

/** See the file's comment. */
export class Hooks<In, Out> {
  readonly #parts: HooksParts<In, Out>;
  readonly hasOnAcquire: boolean;
  readonly hasOnRelease: boolean;
  readonly hasOnClose: boolean;
  // How to stop waiting for the hook that has a slot now.
  readonly #running: Map<Slot<In, Out>, AbortController> = new Map();

  constructor(parts: HooksParts<In, Out>) {
    this.#parts = parts;
    this.hasOnAcquire = parts.hooks.onAcquire !== undefined;
    this.hasOnRelease = parts.hooks.onRelease !== undefined;
    this.hasOnClose = parts.hooks.onClose !== undefined;
  }

  /** Prepares a socket for its caller. @throws PulsepoolError `ERR_HOOK` */
  onAcquire(slot: Slot<In, Out>, connection: Connection<In, Out>): Promise<void> {
    const { onAcquire } = this.#parts.hooks;
    return this.#run('onAcquire', slot, connection, (lease, signal) => onAcquire?.(lease, { signal }));
  }

  /** Resets the session after its caller. @throws PulsepoolError `ERR_HOOK` */
  onRelease(slot: Slot<In, Out>, connection: Connection<In, Out>): Promise<void> {
    const { onRelease } = this.#parts.hooks;
    return this.#run('onRelease', slot, connection, (lease, signal) => onRelease?.(lease, { signal }));
  }

  /** Says goodbye. @throws PulsepoolError `ERR_HOOK` */
  onClose(slot: Slot<In, Out>, connection: Connection<In, Out>, reason: CloseReason): Promise<void> {
    const { onClose } = this.#parts.hooks;
    return this.#run('onClose', slot, connection, (lease, signal) => onClose?.(lease, { signal, reason }));
  }

  /** Somebody waits for the places of those that say goodbye. */
  cutGoodbyes(): void {
    for (const [slot, limit] of this.#running) if (slot.state.name === 'closing') limit.abort(LOST);
  }

  /** The socket has closed: what a hook still does with it is not waited for. */
  ended(slot: Slot<In, Out>): void {
    this.#running.get(slot)?.abort(LOST);
  }

  async #run(
    name: HookName,
    slot: Slot<In, Out>,
    connection: Connection<In, Out>,
    call: (lease: Lease<In, Out>, signal: AbortSignal) => unknown,
  ): Promise<void> {
    const { clock, endpoint, hookTimeoutMs } = this.#parts;
    const lease = new Lease<In, Out>(slot, connection, NOWHERE, 0);
    const limit = new AbortController();
    // One turn: what the hook waits for may already be in the kernel.
    const timer = clock.after(hookTimeoutMs, () => {
      clock.turn(() => limit.abort(tooSlow(name, endpoint, hookTimeoutMs)));
    });
    connection.serve();
    this.#running.set(slot, limit);
    try {
      await new Promise((resolve, reject) => {
        limit.signal.addEventListener('abort', () => reject(limit.signal.reason), { once: true });
        Promise.resolve(call(lease, limit.signal)).then(resolve, reject);
      });
      // onClose may have ended the socket itself, or seen the server do so: that is what it is for.
      if (name !== 'onClose' && !connection.isClean) throw connection.error ?? unfinished(name, endpoint);
    } catch (error) {
      if (limit.signal.reason !== LOST) {
        throw limit.signal.aborted ? limit.signal.reason : explain(name, error, endpoint);
      }
      if (name !== 'onClose') throw explain(name, connection.error ?? LOST, endpoint);
    } finally {
      timer.cancel();
      this.#running.delete(slot);
      lease.finish();
    }
  }
}

function tooSlow(name: string, endpoint: string, limitMs: number): PulsepoolError {
  return new PulsepoolError(
    'ERR_HOOK',
    `${name} did not finish within ${limitMs} ms on a socket to ${endpoint}.`,
    {
      retryable: true,
      hint: 'The server is slow, or the hook waits for something else: see `hookTimeoutMs`.',
    },
  );
}

function unfinished(name: string, endpoint: string): PulsepoolError {
  return new PulsepoolError('ERR_HOOK', `${name} returned with a socket to ${endpoint} that is not clean.`, {
    retryable: false,
    hint: 'Await every reply in the hook, and leave the lease as it is: throw to refuse the socket.',
  });
}

function explain(name: string, error: unknown, endpoint: string): PulsepoolError {
  if (error instanceof PulsepoolError && error.code === 'ERR_HOOK') return error;
  return new PulsepoolError('ERR_HOOK', `${name} failed on a socket to ${endpoint}: ${messageOf(error)}`, {
    retryable: error instanceof PulsepoolError && error.retryable,
    hint: `${name} threw: see the cause. Its socket was closed; others were not touched.`,
    cause: error,
  });
}

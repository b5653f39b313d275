/**
 * Traces: who asked for a lease. The async context, the stack, and what the same context holds already, as far as
 * somebody wants to know. With no listener and no option that asks for it, none is made.
 *
 * What is told with them is the business of the roster and the holders.
 */
import { AsyncLocalStorage, AsyncResource, executionAsyncId } from 'node:async_hooks';

/** What a tracer is to record. */
export interface TracerSettings {
  /** Leases held this long are told with their stack, in ms. `Infinity`: no stacks for that. */
  readonly leakAfterMs: number;
  readonly detectDeadlocks: boolean;
}

// Frames of ours at the top of a stack say nothing; ten of the caller's are enough to find the place.
const STACK_FRAMES = 16;
const OWN_FRAME = /[\\/](?:pulsepool|src|dist)[\\/](?:pool[\\/])?(?:pool|roster|trace|request)\.[jt]s/;

/** One call for a lease, and the lease that came of it. */
export class Trace {
  readonly #context: AsyncResource = new AsyncResource('pulsepool.caller');
  readonly #place: { readonly stack?: string } | undefined;
  readonly #asyncId: number;
  readonly #parent: Trace | undefined;
  #state: 'asking' | 'holding' | 'ended' = 'asking';
  /** Of its lease. */
  connectionId = 0;
  /** When it was lent, in ms of the clock. */
  lentAt = 0;

  constructor(place: { readonly stack?: string } | undefined, asyncId: number, parent: Trace | undefined) {
    this.#place = place;
    this.#asyncId = asyncId;
    this.#parent = parent;
  }

  /** Where the lease was asked for, without our own frames. */
  get stack(): string | undefined {
    const stack = this.#place?.stack;
    if (stack === undefined) return undefined;
    const frames = stack.split('\n').slice(1);
    const first = frames.findIndex((frame) => !OWN_FRAME.test(frame));
    return frames.slice(Math.max(0, first)).join('\n');
  }

  /** Calls `fn` in the caller's async context. */
  run(fn: () => void): void {
    this.#context.runInAsyncScope(fn);
  }

  /** The caller has got a lease. */
  granted(connectionId: number, now: number): void {
    this.#state = 'holding';
    this.connectionId = connectionId;
    this.lentAt = now;
  }

  /** The lease has ended, or the caller got none. */
  ended(): void {
    this.#state = 'ended';
  }

  /** Leases that the same async context had got before it asked for this one, and still holds. */
  heldBefore(): readonly Trace[] {
    const held: Trace[] = [];
    for (let trace = this.#parent; trace !== undefined; trace = trace.#parent) {
      if (trace.#state === 'holding') held.push(trace);
    }
    return held;
  }

  /**
   * The nearest of its line, itself included, that may still matter to a call made in `asyncId`. Calls made in one
   * stretch without an `await` are beside each other, as are workers that one loop has started: none of them had
   * its lease when the next one asked.
   */
  nearest(asyncId: number): Trace | undefined {
    let trace: Trace | undefined = this;
    while (trace !== undefined && (trace.#state === 'ended' || trace.#asyncId === asyncId))
      trace = trace.#parent;
    return trace;
  }
}

/** Makes traces while somebody wants them. */
export class Tracer {
  readonly #wantsStacks: boolean;
  // The last call of each async context; those before it hang on to it.
  readonly #calls: AsyncLocalStorage<Trace> | undefined;
  /** Whether traces are made: the only question on the warm path. */
  isOn: boolean;

  constructor({ detectDeadlocks, leakAfterMs }: TracerSettings) {
    this.#wantsStacks = detectDeadlocks || leakAfterMs !== Number.POSITIVE_INFINITY;
    this.#calls = detectDeadlocks ? new AsyncLocalStorage() : undefined;
    this.isOn = this.#wantsStacks;
  }

  /** Traces whatever comes from now on: somebody listens, and is to be told in the context of the caller. */
  turnOn(): void {
    this.isOn = true;
  }

  /** Call it in the caller's own stretch of code, before anything is awaited. */
  trace(): Trace | undefined {
    if (!this.isOn) return undefined;
    const calls = this.#calls;
    if (calls === undefined) return new Trace(this.#place(), 0, undefined);
    const asyncId = executionAsyncId();
    const trace = new Trace(this.#place(), asyncId, calls.getStore()?.nearest(asyncId));
    calls.enterWith(trace);
    return trace;
  }

  end(): void {
    this.isOn = false;
    this.#calls?.disable();
  }

  /** V8 captures the frames now, and formats them when somebody looks. */
  #place(): { readonly stack?: string } | undefined {
    if (!this.#wantsStacks) return undefined;
    const { stackTraceLimit } = Error;
    const place: { readonly stack?: string } = {};
    Error.stackTraceLimit = STACK_FRAMES;
    Error.captureStackTrace(place, this.trace);
    Error.stackTraceLimit = stackTraceLimit;
    return place;
  }
}

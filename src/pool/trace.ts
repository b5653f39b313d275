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
  /** `onAcquire` is to run in the context of the caller for whom it prepares a socket. */
  readonly hooks: { readonly onAcquire: unknown };
}

// Frames of ours say nothing; ten of the caller's are enough to find the place.
const STACK_FRAMES = 20;
// By their whole path: a caller's own src/pool.ts must not be taken for ours.
const OWN_FILES: readonly string[] = [
  ...['pool', 'request', 'trace'].map((name) => `${new URL(name, import.meta.url).pathname}.`),
  '/node_modules/p-retry/',
  'node:internal/',
];

/** One call for a lease, and the lease that came of it. */
export class Trace {
  #context: AsyncResource | undefined = new AsyncResource('pulsepool.caller');
  readonly #place: { readonly stack?: string } | undefined;
  readonly #stretch: Stretch | undefined;
  #parent: Trace | undefined;
  #state: 'asking' | 'holding' | 'ended' = 'asking';
  /** Of its lease. */
  connectionId = 0;
  /** When it was lent, in ms of the clock. */
  lentAt = 0;

  constructor(
    place: { readonly stack?: string } | undefined,
    stretch: Stretch | undefined,
    parent: Trace | undefined,
  ) {
    this.#place = place;
    this.#stretch = stretch;
    this.#parent = parent;
  }

  /** Where the lease was asked for, without our own frames. */
  get stack(): string | undefined {
    const stack: unknown = this.#place?.stack;
    // A `prepareStackTrace` of the user's may make anything of it.
    if (typeof stack !== 'string') return undefined;
    const frames = stack.split('\n').slice(1);
    const theirs = frames.filter((frame) => !OWN_FILES.some((file) => frame.includes(file)));
    return (theirs.length > 0 ? theirs : frames).join('\n');
  }

  /** Calls `fn` in the caller's async context, as long as it is kept. */
  run<T>(fn: () => T): T {
    return this.#context === undefined ? fn() : this.#context.runInAsyncScope(fn);
  }

  /** Lets go of the context. */
  leaveContext(): void {
    this.#context = undefined;
  }

  /** The holder is here, and gives its lease back. */
  enterContext(): void {
    this.#context ??= new AsyncResource('pulsepool.caller');
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
   * The nearest of its line, itself included, that may still matter to a call made in `stretch`. Calls made in one
   * stretch without an `await` are beside each other, as are workers that one loop has started: none of them had
   * its lease when the next one asked.
   */
  nearest(stretch: Stretch): Trace | undefined {
    let nearest: Trace | undefined = this;
    while (nearest !== undefined && (nearest.#state === 'ended' || nearest.#isIn(stretch)))
      nearest = nearest.#parent;
    // A line that never ends, each lease taken before the one before it is given back, must not grow.
    for (let trace = nearest; trace !== undefined; trace = trace.#parent) {
      let parent = trace.#parent;
      while (parent !== undefined && parent.#state === 'ended') parent = parent.#parent;
      trace.#parent = parent;
    }
    return nearest;
  }

  #isIn({ asyncId, number }: Stretch): boolean {
    const own = this.#stretch;
    return own !== undefined && (own.number === number || (asyncId !== 0 && own.asyncId === asyncId));
  }
}

/** A stretch of code that runs without an `await`. */
interface Stretch {
  readonly number: number;
  /**
   * The same for every call of one timer or one socket, which keep what the last call left; 0 when unknown, as after
   * an `await` since Node 24.
   */
  readonly asyncId: number;
}

/** Makes traces while somebody wants them. */
export class Tracer {
  readonly #wantsStacks: boolean;
  readonly #isAlwaysOn: boolean;
  // The last call of each async context; those before it hang on to it.
  readonly #calls: AsyncLocalStorage<Trace | undefined> | undefined;
  #stretchNumber = 0;
  #isStretchOver = true;
  /** Whether traces are made: the only question on the warm path. */
  isOn: boolean;

  constructor({ detectDeadlocks, hooks, leakAfterMs }: TracerSettings) {
    this.#wantsStacks = detectDeadlocks || leakAfterMs !== Number.POSITIVE_INFINITY;
    this.#calls = detectDeadlocks ? new AsyncLocalStorage() : undefined;
    this.#isAlwaysOn = this.#wantsStacks || hooks.onAcquire !== undefined;
    this.isOn = this.#isAlwaysOn;
  }

  /** Traces whatever comes from now on: somebody listens, and is to be told in the context of the caller. */
  turnOn(): void {
    this.isOn = true;
  }

  /** Nobody listens any more. */
  turnOff(): void {
    this.isOn = this.#isAlwaysOn;
  }

  /** Call it in the caller's own stretch of code, before anything is awaited. */
  trace(): Trace | undefined {
    if (!this.isOn) return undefined;
    const calls = this.#calls;
    const place = this.#place();
    if (calls === undefined) return new Trace(place, undefined, undefined);
    const stretch = this.#stretch();
    const parent = calls.getStore()?.nearest(stretch);
    // Outside of the line: the context that a trace keeps would hold the one before it, and so all of them, for ever.
    const trace = calls.run(undefined, () => new Trace(place, stretch, parent));
    calls.enterWith(trace);
    return trace;
  }

  /** Whatever goes on after an `await` does so after this microtask. */
  #stretch(): Stretch {
    if (this.#isStretchOver) {
      this.#isStretchOver = false;
      this.#stretchNumber += 1;
      void Promise.resolve().then(() => {
        this.#isStretchOver = true;
      });
    }
    return { number: this.#stretchNumber, asyncId: executionAsyncId() };
  }

  /**
   * Calls `fn`, which gives back by itself what it takes: the caller goes on as if it had not been called, and may
   * start the next one beside it.
   */
  apart<T>(fn: () => T): T {
    const calls = this.#calls;
    if (calls === undefined) return fn();
    const before = calls.getStore();
    try {
      return fn();
    } finally {
      calls.enterWith(before);
    }
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

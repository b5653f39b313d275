/**
 * A race over several addresses (RFC 8305, section 5): the next one starts when the one before is slow or has failed, the
 * first that is done wins, and nothing is left of the others. What an attempt does, and in which order the addresses
 * come, is left to others; so is the deadline of each attempt.
 */
import { onAbort } from '../abort.ts';
import type { Clock, Timer } from '../clock.ts';
import { allFailed, type RaceFailure } from './race-error.ts';

/** Somewhere to dial; what else it holds is the attempt's affair. */
export interface RaceTarget {
  /** The name by which a failure is told. */
  readonly address: string;
}

/** What a race needs to know. */
export interface RaceParts<A, T> {
  /** `host:port`, as errors name it. */
  readonly endpoint: string;
  readonly clock: Clock;
  /** Ends the race at once, with `signal.reason`. */
  readonly signal: AbortSignal;
  /**
   * From this moment of the clock on no attempt but the first is started. Those that run should end by then, each by
   * itself. Default: never.
   */
  readonly deadlineAt?: number | undefined;
  /** Gets what an attempt came to after the race was over. Must not throw. */
  readonly discard: (late: T) => void;
  /**
   * Told of each target that failed, and of each that was overtaken by one that started later: it had a head start, so
   * it hangs. Not of those that were merely beaten or aborted. Must not throw.
   */
  readonly onFailed?: ((target: A) => void) | undefined;
}

/** Who won, and with what. */
export interface RaceResult<A, T> {
  readonly won: T;
  readonly target: A;
}

// How long an attempt runs alone before the next one joins it: RFC 8305, section 8.
const STAGGER_MS = 250;

/**
 * Runs `attempt` for the first of `targets`, and for each next one as soon as one has failed or the stagger has passed.
 * The first to fulfil wins; the signals of the others are aborted. A single target gets the outer signal, and nothing
 * is made around it.
 *
 * @throws what a single target's attempt rejected with; for several a DialError that lists what each came to;
 * `signal.reason` when aborted.
 */
export async function race<A extends RaceTarget, T>(
  targets: readonly A[],
  attempt: (target: A, signal: AbortSignal) => Promise<T>,
  parts: RaceParts<A, T>,
): Promise<RaceResult<A, T>> {
  const { signal } = parts;
  signal.throwIfAborted();
  const [first] = targets;
  if (first === undefined) throw new Error('bug: a race without targets');
  if (targets.length > 1) {
    return new Promise((resolve, reject) => {
      new Race(targets, attempt, parts, resolve, reject).begin();
    });
  }
  try {
    return { won: await attempt(first, signal), target: first };
  } catch (error) {
    if (!signal.aborted) parts.onFailed?.(first);
    throw error;
  }
}

interface Runner<A> {
  readonly target: A;
  readonly control: AbortController;
}

/** Invariant: until it is over, an attempt runs, or a stagger waits for its verdict behind one that does. */
class Race<A extends RaceTarget, T> {
  readonly #targets: readonly A[];
  readonly #attempt: (target: A, signal: AbortSignal) => Promise<T>;
  readonly #parts: RaceParts<A, T>;
  readonly #resolve: (result: RaceResult<A, T>) => void;
  readonly #reject: (reason: unknown) => void;
  // In the order of their starts.
  readonly #running: Set<Runner<A>> = new Set();
  readonly #failures: RaceFailure[] = [];
  readonly #stopListening: () => void;
  #started = 0;
  #stagger: Timer | undefined;
  #isOver = false;

  constructor(
    targets: readonly A[],
    attempt: (target: A, signal: AbortSignal) => Promise<T>,
    parts: RaceParts<A, T>,
    resolve: (result: RaceResult<A, T>) => void,
    reject: (reason: unknown) => void,
  ) {
    this.#targets = targets;
    this.#attempt = attempt;
    this.#parts = parts;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#stopListening = onAbort(parts.signal, () => {
      const { reason } = parts.signal;
      this.#end(reason);
      reject(reason);
    });
  }

  begin(): void {
    this.#startNext();
  }

  #startNext(): void {
    this.#stagger?.cancel();
    const { clock, deadlineAt } = this.#parts;
    const target = this.#targets[this.#started];
    const isLate = this.#started > 0 && deadlineAt !== undefined && clock.now() >= deadlineAt;
    if (target === undefined || isLate) {
      if (this.#running.size === 0) this.#lose();
      return;
    }
    this.#started += 1;
    const runner: Runner<A> = { target, control: new AbortController() };
    this.#running.add(runner);
    if (this.#started < this.#targets.length) this.#armStagger();
    this.#run(runner).then(
      (value) => this.#finished(runner, value),
      (error: unknown) => this.#failed(runner, error),
    );
  }

  /** Also turns what `attempt` throws before its first wait into a rejection. */
  async #run({ target, control }: Runner<A>): Promise<T> {
    return this.#attempt(target, control.signal);
  }

  #armStagger(): void {
    const { clock } = this.#parts;
    const started = this.#started;
    this.#stagger = clock.after(STAGGER_MS, () => {
      // Timers run before the poll phase: the answer may be in the kernel already.
      clock.turn(() => {
        if (!this.#isOver && this.#started === started) this.#startNext();
      });
    });
  }

  #finished(runner: Runner<A>, value: T): void {
    if (this.#isOver) {
      this.#parts.discard(value);
      return;
    }
    const { target } = runner;
    const overtaken = [...this.#running];
    overtaken.splice(overtaken.indexOf(runner));
    this.#running.delete(runner);
    this.#end(new DOMException('Another address was faster', 'AbortError'));
    for (const slow of overtaken) this.#parts.onFailed?.(slow.target);
    this.#resolve({ won: value, target });
  }

  #failed(runner: Runner<A>, error: unknown): void {
    // That of a loser is the echo of its abort: everybody has been told how the race ended.
    if (this.#isOver) return;
    this.#running.delete(runner);
    this.#failures.push({ address: runner.target.address, error });
    this.#parts.onFailed?.(runner.target);
    this.#startNext();
  }

  #lose(): void {
    this.#end(undefined);
    const untried = this.#targets.slice(this.#started).map(({ address }) => address);
    this.#reject(allFailed(this.#parts.endpoint, this.#failures, untried));
  }

  #end(reason: unknown): void {
    this.#isOver = true;
    this.#stagger?.cancel();
    this.#stopListening();
    for (const { control } of this.#running) control.abort(reason);
    this.#running.clear();
  }
}

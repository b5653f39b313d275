/** What all clients of a world count together: callers, tries, how they ended and how long callers waited. */
import type { Call } from './attempt.ts';
import type { Line } from './line.ts';
import { percentiles, Series } from './series.ts';

const WIDTH_MS = 1_000;

/** See the file's comment. */
export class Tally {
  /** Requests of callers, by when they were made. */
  readonly asked: Series = new Series(WIDTH_MS);
  /** Tries. */
  readonly tries: Series = new Series(WIDTH_MS);
  /** Callers who got an answer, and who got an error. */
  readonly answers: Series = new Series(WIDTH_MS);
  readonly failures: Series = new Series(WIDTH_MS);
  readonly dials: Series = new Series(WIDTH_MS);
  /** Called for each try, by who wants to know more. */
  onSent: ((call: Call, line: Line) => void) | undefined;
  // Of the answers since `watch`.
  readonly #latencies: number[] = [];
  #isWatching = false;

  /** Latencies from now on. */
  watch(): void {
    this.#latencies.length = 0;
    this.#isWatching = true;
  }

  /** What each of these shares of the callers did not exceed, in ms. */
  latenciesMs(...shares: readonly number[]): number[] {
    return percentiles(this.#latencies, shares);
  }

  ask(now: number): void {
    this.asked.add(now);
  }

  sent(call: Call, line: Line, now: number): void {
    this.tries.add(now);
    this.onSent?.(call, line);
  }

  answered(call: Call, now: number): void {
    this.answers.add(now);
    if (this.#isWatching) this.#latencies.push(now - call.askedAt);
  }

  failed(now: number): void {
    this.failures.add(now);
  }

  dialed(now: number): void {
    this.dials.add(now);
  }
}

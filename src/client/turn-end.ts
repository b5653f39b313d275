/**
 * What is to be written, on any socket of a client, when the present turn of the event loop ends: one moment for all of
 * them. Writes that follow each other at once find the server awake, and wake it once; spread over a turn each wakes it
 * anew, which costs more than all of ours (docs/benchmarks.md).
 */
import type { Clock } from '../clock.ts';

/** Who has something to write. */
export interface Writing {
  flush(): void;
}

/** See the file's comment. */
export class TurnEnd {
  readonly #clock: Clock;
  readonly #isQuiet: () => boolean;
  #due: Writing[] = [];

  /** `isQuiet`: nothing is in flight on any socket, so that nothing else is to be expected in this turn. */
  constructor(clock: Clock, isQuiet: () => boolean) {
    this.#clock = clock;
    this.#isQuiet = isQuiet;
  }

  /** Has it flushed. Ask once for each flush. */
  add(writing: Writing): void {
    this.#due.push(writing);
    if (this.#due.length > 1) return;
    // A lone caller need not wait for the others.
    if (this.#isQuiet()) this.#clock.soon(this.#flush);
    else this.#clock.turn(this.#flush);
  }

  readonly #flush = (): void => {
    const due = this.#due;
    this.#due = [];
    for (const writing of due) writing.flush();
  };
}

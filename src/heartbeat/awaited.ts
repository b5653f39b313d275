/**
 * Pings that wait for their pong, first sent first due: all have the same time, so a queue keeps them in order for
 * nothing, where a heap would touch a dozen cold entries for each.
 */
import type { Due } from './agenda.ts';

// Taken entries at the front are let go once there are this many, and more of them than others.
const COMPACT_AT = 1_024;

/** First in, first out. Entries must be added in the order of their times. */
export class Awaited<T extends Due> {
  #entries: T[] = [];
  #first = 0;

  /** What is due first, still in the queue. */
  peek(): T | undefined {
    return this.#entries[this.#first];
  }

  add(entry: T): void {
    this.#entries.push(entry);
  }

  /** Takes off what is due first. */
  take(): void {
    this.#first += 1;
    if (this.#first === this.#entries.length) this.clear();
    else if (this.#first >= COMPACT_AT && this.#first * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
    }
  }

  clear(): void {
    this.#entries = [];
    this.#first = 0;
  }
}

/**
 * The renewal: which slots are older than a `reset()`, and who waits until none of them is left. In what order and how
 * fast they go is the retirement's business.
 */
import type { Slot } from './slot.ts';

interface Waiting {
  /** Slots of an earlier generation are meant. */
  readonly generation: number;
  left: number;
  readonly resolve: () => void;
}

/** See the file's comment. */
export class Renewal {
  #generation = 0;
  #outdated = 0;
  #waiting: Waiting[] = [];

  /** Resets so far: what is born now belongs to the last one. */
  get generation(): number {
    return this.#generation;
  }

  /** Slots that are older than the last reset. */
  get outdated(): number {
    return this.#outdated;
  }

  /** From now on `count` slots, all there are, are outdated. Resolves when none of them is left. */
  begin(count: number): Promise<void> {
    this.#generation += 1;
    this.#outdated = count;
    if (count === 0) return Promise.resolve();
    const generation = this.#generation;
    return new Promise((resolve) => {
      this.#waiting.push({ generation, left: count, resolve });
    });
  }

  isOutdated<In, Out>(slot: Slot<In, Out>): boolean {
    return slot.generation < this.#generation;
  }

  /** A slot has closed. */
  forget<In, Out>(slot: Slot<In, Out>): void {
    if (!this.isOutdated(slot)) return;
    this.#outdated -= 1;
    for (const waiting of this.#waiting) if (slot.generation < waiting.generation) waiting.left -= 1;
    const done = this.#waiting.filter(({ left }) => left === 0);
    this.#waiting = this.#waiting.filter(({ left }) => left > 0);
    for (const { resolve } of done) resolve();
  }
}

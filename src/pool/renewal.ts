/**
 * The renewal: which slots are older than the last `reset()`, and who waits until none of them is left. In what order
 * and how fast they go is the retirement's business.
 */
import type { Slot } from './slot.ts';

/** See the file's comment. */
export class Renewal {
  #generation = 0;
  #outdated = 0;
  #waiting: (() => void)[] = [];

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
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  isOutdated<In, Out>(slot: Slot<In, Out>): boolean {
    return slot.generation < this.#generation;
  }

  /** A slot has closed. */
  forget<In, Out>(slot: Slot<In, Out>): void {
    if (!this.isOutdated(slot)) return;
    this.#outdated -= 1;
    if (this.#outdated > 0) return;
    for (const tell of this.#waiting.splice(0)) tell();
  }
}

/**
 * Endpoints among which a pick is made, and chance that goes by their weights. Made anew whenever something about them
 * changes, and then frozen.
 */
import type { Member } from './member.ts';

/** See the file's comment. */
export class Group<M extends Member> {
  readonly members: readonly M[];
  /** The sum of their pulls. */
  readonly total: number;
  // Where the stretch of each begins on the line from 0 to `total`. Not needed while all pull alike.
  readonly #starts: Float64Array | undefined;

  constructor(members: readonly M[]) {
    this.members = members;
    const [first] = members;
    let total = 0;
    let isEven = true;
    const starts = new Float64Array(members.length);
    for (let index = 0; index < members.length; index += 1) {
      const pull = members[index]?.pull ?? 0;
      starts[index] = total;
      total += pull;
      if (pull !== first?.pull) isEven = false;
    }
    this.total = total;
    this.#starts = isEven ? undefined : starts;
  }

  /** The place of one of them, by weight. `chance` is uniform in [0, 1). */
  draw(chance: number): number {
    return this.#starts === undefined
      ? Math.floor(chance * this.members.length)
      : this.#at(chance * this.total);
  }

  /** The place of another one, by weight. There must be two. */
  drawOther(than: number, chance: number): number {
    const { members } = this;
    if (this.#starts === undefined) {
      const place = Math.floor(chance * (members.length - 1));
      return place < than ? place : place + 1;
    }
    const pull = members[than]?.pull ?? 0;
    const point = chance * (this.total - pull);
    const place = this.#at(point < (this.#starts[than] ?? 0) ? point : point + pull);
    // Sums of fractions are not exact.
    return place === than ? (than + 1) % members.length : place;
  }

  /** The last one that begins at or before the point. */
  #at(point: number): number {
    const starts = this.#starts;
    if (starts === undefined) return 0;
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((starts[middle] ?? 0) <= point) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

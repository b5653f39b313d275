/**
 * Where idle slots rest: last in, first out, so that the pool can shrink from the bottom while the top stays
 * warm. Any slot can be taken from the middle at once, because a dead socket must not wait to be found.
 *
 *     bottom (rested longest) ◄─below─ slot ─above─► top (lent next)
 */
import type { Slot } from './slot.ts';

/** A linked list through the slots themselves: no allocation, every operation O(1). */
export class Shelf<In, Out> {
  #top: Slot<In, Out> | undefined;
  #bottom: Slot<In, Out> | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The slot that is lent next, still on the shelf. */
  get top(): Slot<In, Out> | undefined {
    return this.#top;
  }

  /** The slot that has rested longest, still on the shelf. */
  get bottom(): Slot<In, Out> | undefined {
    return this.#bottom;
  }

  push(slot: Slot<In, Out>): void {
    slot.isShelved = true;
    slot.below = this.#top;
    if (this.#top === undefined) this.#bottom = slot;
    else this.#top.above = slot;
    this.#top = slot;
    this.#size += 1;
  }

  /** Puts a slot where it is lent last. */
  pushBottom(slot: Slot<In, Out>): void {
    slot.isShelved = true;
    slot.above = this.#bottom;
    if (this.#bottom === undefined) this.#top = slot;
    else this.#bottom.below = slot;
    this.#bottom = slot;
    this.#size += 1;
  }

  /** Takes a slot off, wherever it is; does nothing when it is not here. */
  remove(slot: Slot<In, Out>): void {
    if (!slot.isShelved) return;
    if (slot.above === undefined) this.#top = slot.below;
    else slot.above.below = slot.below;
    if (slot.below === undefined) this.#bottom = slot.above;
    else slot.below.above = slot.above;
    slot.above = undefined;
    slot.below = undefined;
    slot.isShelved = false;
    this.#size -= 1;
  }
}

/** The same over many endpoints: each of them knows its own that rest. */
export class MemberShelf<In, Out> extends Shelf<In, Out> {
  override push(slot: Slot<In, Out>): void {
    super.push(slot);
    slot.member?.resting.push(slot);
  }

  override pushBottom(slot: Slot<In, Out>): void {
    super.pushBottom(slot);
    slot.member?.resting.unshift(slot);
  }

  override remove(slot: Slot<In, Out>): void {
    if (!slot.isShelved) return;
    super.remove(slot);
    const resting = slot.member?.resting;
    // The one that is lent next is the last.
    const at = resting?.lastIndexOf(slot) ?? -1;
    if (at >= 0) resting?.splice(at, 1);
  }
}

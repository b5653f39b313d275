/**
 * Two counts over the recent past, in a ring of ten buckets. What they count, and what follows from them, is their
 * owner's business.
 *
 * There is no timer: buckets whose time is over are emptied when somebody looks, however long that takes. Buckets begin
 * at multiples of their width, so the past is at least nine tenths of the window, and less than all of it.
 */

const BUCKETS = 10;

/** What there was in a bucket, or in all of them. */
export interface Counts {
  requests: number;
  /** What the owner holds against them: withdrawals, failures. */
  charges: number;
}

class Bucket implements Counts {
  requests = 0;
  charges = 0;
  next: Bucket = this;
}

/** See the file's comment. */
export class SlidingCounts {
  readonly #bucketMs: number;
  #current: Bucket = new Bucket();
  // Over before it began: the first look finds its place in time.
  #endsAt: number = Number.NEGATIVE_INFINITY;

  constructor(windowMs: number) {
    this.#bucketMs = windowMs / BUCKETS;
    for (let size = 1; size < BUCKETS; size += 1) {
      const bucket = new Bucket();
      bucket.next = this.#current.next;
      this.#current.next = bucket;
    }
  }

  /** The bucket of this moment, to be added to at once. It costs one comparison. */
  at(now: number): Counts {
    if (now >= this.#endsAt) this.#turn(now);
    return this.#current;
  }

  /** All that is remembered. */
  sum(now: number): Counts {
    if (now >= this.#endsAt) this.#turn(now);
    const sum: Counts = { requests: 0, charges: 0 };
    let bucket = this.#current;
    do {
      sum.requests += bucket.requests;
      sum.charges += bucket.charges;
      bucket = bucket.next;
    } while (bucket !== this.#current);
    return sum;
  }

  #turn(now: number): void {
    const begun = Math.floor((now - this.#endsAt) / this.#bucketMs) + 1;
    // Time may have jumped by hours: once round is enough.
    for (let turns = Math.min(begun, BUCKETS); turns > 0; turns -= 1) {
      this.#current = this.#current.next;
      this.#current.requests = 0;
      this.#current.charges = 0;
    }
    this.#endsAt = (Math.floor(now / this.#bucketMs) + 1) * this.#bucketMs;
  }
}

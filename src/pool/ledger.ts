/**
 * The ledger: generic-pool, asked only what it is good at. It says whether one more socket may exist and keeps
 * each one on its books from birth to death. Idle sockets, waiters, validation and errors are elsewhere:
 * docs/decisions/0001 says why.
 */
import { createPool, type Pool as GenericPool } from 'generic-pool';

interface Entering<T> {
  readonly entry: T;
  readonly birth: () => Promise<void>;
}

/** A bounded set of things that are made by a promise and removed by hand. */
export class Ledger<T extends object> {
  readonly #max: number;
  readonly #books: GenericPool<T>;
  // What create is to make, in order: generic-pool may call it a few microtasks after it was asked.
  readonly #entering: Entering<T>[] = [];
  // generic-pool gives whatever is born first to whoever asked first. Each entry's own `enter` is told instead,
  // or dials that overtake each other would be mistaken for one another.
  readonly #onLent: Map<T, () => void> = new Map();
  #open = 0;

  constructor(max: number) {
    this.#max = max;
    this.#books = createPool<T>(
      {
        // generic-pool calls create again at once when it fails, so ours never does: decision 1 has the figures.
        create: async () => {
          const next = this.#entering.shift();
          if (next === undefined) throw new Error('bug: generic-pool created an entry that nobody asked for');
          await next.birth();
          return next.entry;
        },
        destroy: () => Promise.resolve(),
      },
      // Every entry is on loan from birth to death: nothing is ever idle in the books, so nothing is validated
      // or evicted there.
      { max, min: 0, testOnBorrow: false, evictionRunIntervalMillis: 0 },
    );
  }

  /** Whether one more may exist. */
  get hasRoom(): boolean {
    return this.#open < this.#max && this.#books.spareResourceCapacity > 0;
  }

  /** How many exist. */
  get size(): number {
    return this.#open;
  }

  /** How many generic-pool counts; equal to `size` whenever no promise is between two steps. */
  get booked(): number {
    return this.#books.size;
  }

  /**
   * Enters `entry` on the books at once and runs `birth`, which must never reject. Resolves when `entry` can be
   * removed. Ask `hasRoom` first.
   */
  enter(entry: T, birth: () => Promise<void>): Promise<void> {
    this.#open += 1;
    this.#entering.push({ entry, birth });
    return new Promise((resolve, reject) => {
      this.#onLent.set(entry, resolve);
      this.#books.acquire().then((lent) => {
        this.#onLent.get(lent)?.();
        this.#onLent.delete(lent);
      }, reject);
    });
  }

  /** Strikes `entry` off: its place is free at once. */
  strike(entry: T): void {
    this.#open -= 1;
    this.#books.destroy(entry).catch((error: unknown) => {
      throw new Error('bug: struck an entry that is not on the books', { cause: error });
    });
  }

  /** Closes the books. Everything must have been struck off. */
  async end(): Promise<void> {
    await this.#books.drain();
    await this.#books.clear();
  }
}

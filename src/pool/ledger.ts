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
  #max: number;
  // One volume, and one more each time `max` was raised above all that was: generic-pool's own `max` is fixed.
  readonly #volumes: Volume<T>[];
  #open = 0;

  constructor(max: number) {
    this.#max = max;
    this.#volumes = [new Volume(max)];
  }

  /** How many may exist. */
  get max(): number {
    return this.#max;
  }

  /** Changes how many may exist. When there are more already, none is entered until enough have been struck off. */
  resize(max: number): void {
    const capacity = this.#volumes.reduce((sum, volume) => sum + volume.max, 0);
    if (max > capacity) this.#volumes.push(new Volume(max - capacity));
    this.#max = max;
  }

  /** Whether one more may exist. */
  get hasRoom(): boolean {
    return this.#open < this.#max && this.#volumes.some((volume) => volume.hasRoom);
  }

  /** How many exist. */
  get size(): number {
    return this.#open;
  }

  /** How many generic-pool counts; equal to `size` whenever no promise is between two steps. */
  get booked(): number {
    return this.#volumes.reduce((sum, volume) => sum + volume.booked, 0);
  }

  /**
   * Enters `entry` on the books at once and runs `birth`, which must never reject. Resolves when `entry` can be
   * removed. Ask `hasRoom` first.
   */
  enter(entry: T, birth: () => Promise<void>): Promise<void> {
    const volume = this.#volumes.find(({ hasRoom }) => hasRoom);
    if (volume === undefined) return Promise.reject(new Error('bug: entered where there is no room'));
    this.#open += 1;
    return volume.enter(entry, birth);
  }

  /** Strikes `entry` off: its place is free at once. */
  strike(entry: T): void {
    this.#open -= 1;
    const volume = this.#volumes.find((candidate) => candidate.has(entry));
    if (volume === undefined) throw new Error('bug: struck an entry that is not on the books');
    volume.strike(entry);
  }

  /** Closes the books. Everything must have been struck off. */
  async end(): Promise<void> {
    await Promise.all(this.#volumes.map((volume) => volume.end()));
  }
}

/** One generic-pool. */
class Volume<T extends object> {
  readonly #books: GenericPool<T>;
  // What create is to make, in order: generic-pool may call it a few microtasks after it was asked.
  readonly #entering: Entering<T>[] = [];
  // generic-pool gives whatever is born first to whoever asked first. Each entry's own `enter` is told instead,
  // or dials that overtake each other would be mistaken for one another.
  readonly #onLent: Map<T, () => void> = new Map();

  constructor(max: number) {
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

  get max(): number {
    return this.#books.max;
  }

  get hasRoom(): boolean {
    return this.#books.spareResourceCapacity > 0;
  }

  get booked(): number {
    return this.#books.size;
  }

  has(entry: T): boolean {
    return this.#books.isBorrowedResource(entry);
  }

  enter(entry: T, birth: () => Promise<void>): Promise<void> {
    this.#entering.push({ entry, birth });
    return new Promise((resolve, reject) => {
      this.#onLent.set(entry, resolve);
      this.#books.acquire().then((lent) => {
        this.#onLent.get(lent)?.();
        this.#onLent.delete(lent);
      }, reject);
    });
  }

  strike(entry: T): void {
    this.#books.destroy(entry).catch((error: unknown) => {
      throw new Error('bug: struck an entry that is not on the books', { cause: error });
    });
  }

  async end(): Promise<void> {
    await this.#books.drain();
    await this.#books.clear();
  }
}

/**
 * Who watches a list: each is told what there is, and then what has changed since it was last told. When there is
 * something to tell is left to others.
 */
import type { ResolveError } from './resolve-error.ts';

/** What has changed since the watcher was last told. */
export interface Change<Item> {
  /** All there are now. */
  readonly items: readonly Item[];
  readonly added: readonly Item[];
  readonly removed: readonly Item[];
}

/** Who watches. Neither may throw. */
export interface Watcher<Item> {
  readonly onChange: (change: Change<Item>) => void;
  /** A look-up was in vain; nothing is removed for it. */
  readonly onFailed?: ((error: ResolveError) => void) | undefined;
}

/** Two of the same key are one. */
export type KeyOf<Item> = (item: Item) => string;

/** See the file's comment. Any of them may leave, or make others leave, while they are told. */
export class Watchers<Item> {
  readonly #keyOf: KeyOf<Item>;
  /** Each with what it was told last. */
  readonly #told: Map<Watcher<Item>, readonly Item[]> = new Map();

  constructor(keyOf: KeyOf<Item>) {
    this.#keyOf = keyOf;
  }

  get size(): number {
    return this.#told.size;
  }

  add(watcher: Watcher<Item>): void {
    this.#told.set(watcher, []);
  }

  /** Returns whether it was there. */
  remove(watcher: Watcher<Item>): boolean {
    return this.#told.delete(watcher);
  }

  clear(): void {
    this.#told.clear();
  }

  tell(watcher: Watcher<Item>, items: readonly Item[]): void {
    const before = this.#told.get(watcher);
    if (before === undefined) return;
    const added = lacking(before, items, this.#keyOf);
    const removed = lacking(items, before, this.#keyOf);
    if (added.length + removed.length === 0) return;
    this.#told.set(watcher, items);
    watcher.onChange({ items, added, removed });
  }

  tellAll(items: readonly Item[]): void {
    for (const watcher of [...this.#told.keys()]) this.tell(watcher, items);
  }

  tellFailed(error: ResolveError): void {
    for (const watcher of [...this.#told.keys()]) if (this.#told.has(watcher)) watcher.onFailed?.(error);
  }
}

/** Those of `all` that `some` lacks. */
export function lacking<Item>(
  some: readonly Item[],
  all: readonly Item[],
  keyOf: KeyOf<Item>,
): readonly Item[] {
  const keys = new Set(some.map(keyOf));
  return all.filter((item) => !keys.has(keyOf(item)));
}

/** Each once. */
export function distinct<Item>(items: readonly Item[], keyOf: KeyOf<Item>): readonly Item[] {
  const found = new Map<string, Item>();
  for (const item of items) if (!found.has(keyOf(item))) found.set(keyOf(item), item);
  return [...found.values()];
}

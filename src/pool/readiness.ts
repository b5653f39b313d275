/**
 * Who waits for the pool to be ready, and how many sockets are to be kept open because of it.
 */
import type { PulsepoolError } from '../errors.ts';

/** Told once: every socket meant to be open is, or it can't be. */
export interface ReadyWatcher {
  readonly onReady: () => void;
  readonly onFailed: (error: PulsepoolError) => void;
}

/** Ready means: `min` sockets are open, and at least one. */
export class Readiness {
  readonly #min: number;
  readonly #watchers: Set<ReadyWatcher> = new Set();

  constructor(min: number) {
    this.#min = min;
  }

  /** How many sockets are to be open though no caller needs them: `min`, and one when somebody asks for proof. */
  get floor(): number {
    return this.#watchers.size > 0 ? Math.max(this.#min, 1) : this.#min;
  }

  /** Returns how to stop watching. */
  watch(watcher: ReadyWatcher): () => void {
    this.#watchers.add(watcher);
    return () => {
      this.#watchers.delete(watcher);
    };
  }

  /** So many are open now. */
  see(open: number): void {
    if (open >= Math.max(this.#min, 1)) this.#end((watcher) => watcher.onReady());
  }

  /** It can't be, for this reason. */
  fail(error: PulsepoolError): void {
    this.#end((watcher) => watcher.onFailed(error));
  }

  #end(tell: (watcher: ReadyWatcher) => void): void {
    for (const watcher of this.#watchers) tell(watcher);
    // From now on they are no reason to keep a socket open.
    this.#watchers.clear();
  }
}

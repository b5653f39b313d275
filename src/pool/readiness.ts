/**
 * Who waits for the pool to be ready, and how many sockets are to be kept open because of it.
 */
import type { PulsepoolError } from '../errors.ts';
import type { Sizes } from './sizes.ts';

/** Told once: every socket meant to be open is, or it can't be. */
export interface ReadyWatcher {
  readonly onReady: () => void;
  readonly onFailed: (error: PulsepoolError) => void;
}

/** Ready means: `min` sockets are open, and `minIdle`, and at least one. */
export class Readiness {
  #min: number;
  #ready: number;
  readonly #watchers: Set<ReadyWatcher> = new Set();

  constructor({ min, minIdle }: Pick<Sizes, 'min' | 'minIdle'>) {
    this.#min = min;
    this.#ready = Math.max(min, minIdle, 1);
  }

  /** Something else is meant from now on. */
  resize({ min, minIdle }: Pick<Sizes, 'min' | 'minIdle'>): void {
    this.#min = min;
    this.#ready = Math.max(min, minIdle, 1);
  }

  /** How many sockets are to be open though no caller needs them: `min`, and all that are meant when somebody asks for proof. */
  get floor(): number {
    return this.#watchers.size > 0 ? this.#ready : this.#min;
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
    if (open >= this.#ready) this.#end((watcher) => watcher.onReady());
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

/**
 * Lists of endpoints that a test gives when it likes, as a `discover` function.
 */
import type { Discover } from '../../src/resolve/discover-source.ts';
import type { GivenEndpoint } from '../../src/resolve/given-endpoint.ts';

/** The newest list is told to whoever begins to listen. */
export class Feed {
  #list: readonly GivenEndpoint[] | undefined;
  #error: Error | undefined;
  #wake: () => void = () => undefined;

  constructor(list?: readonly GivenEndpoint[]) {
    this.#list = list;
  }

  /** For `endpoints`. */
  get discover(): Discover {
    return (signal) => this.#run(signal);
  }

  /** Tells another list. */
  tell(list: readonly GivenEndpoint[]): void {
    this.#list = list;
    this.#wake();
  }

  /** Throws. */
  fail(error: Error): void {
    this.#error = error;
    this.#wake();
  }

  async *#run(signal: AbortSignal): AsyncGenerator<readonly GivenEndpoint[]> {
    signal.addEventListener('abort', () => this.#wake(), { once: true });
    let told: readonly GivenEndpoint[] | undefined;
    while (!signal.aborted) {
      if (this.#error !== undefined) {
        const error = this.#error;
        this.#error = undefined;
        throw error;
      }
      if (this.#list !== undefined && this.#list !== told) {
        told = this.#list;
        yield told;
        continue;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

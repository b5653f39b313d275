/**
 * Lost leases: those that were garbage-collected, so that nobody can release them any more. A net under the callers,
 * not a policy: the collector decides when, and whether at all, it looks.
 */

/** Tells when what it watches has been collected. `Token` must not lead back to it. */
export class LostLeases<Token> {
  readonly #registry: FinalizationRegistry<Token>;
  #isEnded = false;

  constructor(onLost: (token: Token) => void) {
    this.#registry = new FinalizationRegistry((token) => {
      if (!this.#isEnded) onLost(token);
    });
  }

  /** Watches a lease, without holding it. */
  watch(lease: WeakKey, token: Token): void {
    this.#registry.register(lease, token);
  }

  /** Tells nothing any more. */
  end(): void {
    this.#isEnded = true;
  }
}

/**
 * Counts what callers experience: replies, their latency, and errors by code.
 */

const WINDOW_MS = 1_000;
const BUCKET_MS = 500;
// Two minutes of history are more than any terminal is wide.
const MAX_BUCKETS = 240;

/** @typedef {{ served: number, failed: number }} Bucket */

export class Meter {
  served = 0;
  failed = 0;
  /** Replies that belonged to another question. Must stay 0. */
  mismatched = 0;
  /** Replies that did not repeat the question, as from a server that is no echo server. */
  unrelated = 0;
  /** @type {string | undefined} */
  firstMismatch;
  /** @type {Error | undefined} */
  lastError;
  /** @type {Map<string, { count: number, causes: Set<string> }>} */
  errors = new Map();
  /** Replies and errors in each half second. @type {Bucket[]} */
  history = [];
  #startedAt = performance.now();
  /** Replies not older than the window, oldest first. @type {{ at: number, latencyMs: number }[]} */
  #recent = [];
  /** All latencies, in counts of a tenth of a millisecond: enough for percentiles, and small. */
  #latencies = new Uint32Array(100_000);
  /** How many half seconds there have been. */
  #filled = 0;
  /** Told of the next reply. @type {((at: number) => void) | undefined} */
  #onNextReply;

  /** @param {number} latencyMs */
  reply(latencyMs) {
    const at = performance.now();
    this.served += 1;
    this.#bucket(at).served += 1;
    this.#recent.push({ at, latencyMs });
    const index = Math.min(Math.round(latencyMs * 10), this.#latencies.length - 1);
    this.#latencies[index] = (this.#latencies[index] ?? 0) + 1;
    this.#onNextReply?.(at);
    this.#onNextReply = undefined;
  }

  /** @param {Error} error */
  error(error) {
    this.failed += 1;
    this.lastError = error;
    this.#bucket(performance.now()).failed += 1;
    const code = codeOf(error) ?? error.name;
    const known = this.errors.get(code) ?? { count: 0, causes: new Set() };
    known.count += 1;
    const cause = codeOf(error.cause);
    if (cause !== undefined && cause !== code) known.causes.add(cause);
    this.errors.set(code, known);
  }

  /** Resolves to how long it took from now to the next reply, in ms. @returns {Promise<number>} */
  untilNextReply() {
    const from = performance.now();
    return new Promise((resolve) => {
      this.#onNextReply = (at) => resolve(at - from);
    });
  }

  /** Replies in a second, and the percentiles of their latency, over the last second. */
  recent() {
    const now = performance.now();
    const from = now - WINDOW_MS;
    const first = this.#recent.findIndex(({ at }) => at >= from);
    this.#recent.splice(0, first === -1 ? this.#recent.length : first);
    const sorted = Float64Array.from(this.#recent, ({ latencyMs }) => latencyMs).sort();
    const windowMs = Math.max(1, Math.min(WINDOW_MS, now - this.#startedAt));
    return {
      perSecond: (sorted.length * 1000) / windowMs,
      p50: sorted[Math.floor(sorted.length * 0.5)],
      p99: sorted[Math.floor(sorted.length * 0.99)],
    };
  }

  /** The latency that a share of all replies stayed under, in ms. @param {number} share */
  percentile(share) {
    let left = this.served * share;
    for (const [index, count] of this.#latencies.entries()) {
      left -= count;
      if (left < 0) return index / 10;
    }
    return undefined;
  }

  /** @param {number} at */
  #bucket(at) {
    const index = Math.floor((at - this.#startedAt) / BUCKET_MS);
    this.fill(index);
    return /** @type {Bucket} */ (this.history.at(-1));
  }

  /** Adds the empty half seconds up to now, in which nobody was answered. */
  fill(index = Math.floor((performance.now() - this.#startedAt) / BUCKET_MS)) {
    for (; this.#filled <= index; this.#filled += 1) this.history.push({ served: 0, failed: 0 });
    if (this.history.length > MAX_BUCKETS) this.history.splice(0, this.history.length - MAX_BUCKETS);
  }
}

/**
 * @param {unknown} error
 * @returns {string | undefined}
 */
export function codeOf(error) {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/**
 * The idle limit of the server, learned from how long sockets had rested when it closed them. A raw TCP server has no
 * way to announce it: sockets that keep dying at about the same idle age are the only sign.
 *
 * What is done with it is the business of the roster and the upkeep.
 */

// So many deaths, at moments of their own, make a habit. Two could be chance.
const SAMPLES = 3;
// Ages this close are the same: a server looks once a second, or at every tenth of its limit.
const SPREAD = 0.1;
const SPREAD_MS = 1_000;
// Below this, sockets die for another reason, or the server can't be served by a pool.
const SHORTEST_MS = 1_000;
// Closed this much earlier than the server would: a socket lent in the last moment dies in the caller's hands.
const MARGIN = 0.1;
// Servers are configured anew: what was learned must be learned again.
const BELIEVED_MS = 3_600_000;

interface Sample {
  readonly idleMs: number;
  readonly at: number;
}

/** See the file's comment. */
export class IdleLimit {
  #samples: Sample[] = [];
  #diedAtMs: number | undefined;
  #learnedAt = 0;

  /** How long a socket may rest, in ms; `Infinity` when nothing is known. */
  limitMs(now: number): number {
    const diedAtMs = this.learnedMs(now);
    return diedAtMs === undefined ? Number.POSITIVE_INFINITY : Math.floor(diedAtMs * (1 - MARGIN));
  }

  /** At which idle age the server closes sockets, in ms, as far as is known. */
  learnedMs(now: number): number | undefined {
    if (now - this.#learnedAt > BELIEVED_MS) this.#diedAtMs = undefined;
    return this.#diedAtMs;
  }

  /**
   * The server has closed a socket that had rested for `idleMs`, while another one that is still open has rested for
   * `longestOpenMs`. Returns the limit when this taught a new one.
   */
  ended(idleMs: number, longestOpenMs: number, now: number): number | undefined {
    // One that rests longer lives on: it was not for its age.
    if (idleMs < SHORTEST_MS || longestOpenMs > idleMs + spreadOf(idleMs)) {
      this.#samples = [];
      return undefined;
    }
    const last = this.#samples.at(-1);
    // Those that die together died of one cause, such as a restart: they are one sample.
    if (last !== undefined && now - last.at < Math.min(idleMs / 2, SPREAD_MS)) return undefined;
    this.#samples.push({ idleMs, at: now });
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    if (this.#samples.length < SAMPLES) return undefined;
    const ages = this.#samples.map((sample) => sample.idleMs);
    const least = Math.min(...ages);
    if (Math.max(...ages) - least > spreadOf(least)) return undefined;
    const known = this.learnedMs(now);
    this.#learnedAt = now;
    if (known !== undefined && known <= least) return undefined;
    this.#diedAtMs = least;
    return this.limitMs(now);
  }

  /** The server may be another one from now on. */
  forget(): void {
    this.#samples = [];
    this.#diedAtMs = undefined;
  }
}

function spreadOf(ms: number): number {
  return Math.max(ms * SPREAD, SPREAD_MS);
}

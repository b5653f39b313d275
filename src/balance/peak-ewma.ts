/**
 * How long requests take at one endpoint: an average that jumps up when it gets slow and comes down with time.
 * After Finagle’s Peak EWMA (`com.twitter.finagle.loadbalancer.PeakEwma`), tamed: there a single reply that takes 20 times as
 * long counts until it has decayed, for 10 s x ln 20, half a minute. Pure arithmetic.
 *
 * Measured in virtual time, with three endpoints of 20 ms (lognormal, sigma 0.3) of whose replies 0.5 % take 20 times as
 * long, at 10 to 5,000 requests a second and with 1 to 100 callers, together with what cost.ts makes of it: each gets
 * its third within 4 %. One that is slowed to 120 ms gets 0.4 % or less, never two at once for long, and its third again
 * 1 to 16 s after it is fast again, half of the time within 6 s. At 10 a second it gets 1.3 %: one every 8 s.
 * With 5 s instead of 10 it is found within 9 s, for nearly twice as many requests: more than 0.5 % with one caller.
 */

// How many samples in a row it takes: one in 200 may be slow by accident, and three of them in a row are no accident.
const PROOF = 3;
// Finagle's decay time.
const TAU_MS = 10_000;
// No single sample weighs more, however long there was none.
const MAX_WEIGHT = 0.3;
// Silence counts as evidence from here on.
const SILENCE_MS = TAU_MS / 4;

/** See the file's comment. All times are in ms of one clock. */
export class PeakEwma {
  #estimate = 0;
  #samples = 0;
  #sampledAt = 0;
  // The last two.
  #last = 0;
  #beforeLast = 0;
  // Samples in a row above the estimate: how many, the lowest one, and when the first one came.
  #above = 0;
  #lowest = Number.POSITIVE_INFINITY;
  #aboveSince = 0;

  /** What the samples say, in ms; 0 before the first. */
  get ms(): number {
    return this.#estimate;
  }

  /** The same, forgotten by and by since the last sample. */
  fadedMs(now: number): number {
    return this.#estimate * Math.exp((this.#sampledAt - now) / TAU_MS);
  }

  /** A request took so long. */
  add(sampleMs: number, now: number): void {
    if (this.#samples < PROOF) this.#begin(sampleMs);
    else if (!this.#hasJumped(sampleMs, now)) this.#average(sampleMs, now);
    this.#beforeLast = this.#last;
    this.#last = sampleMs;
    this.#sampledAt = now;
  }

  /** As if it were new. */
  forget(): void {
    this.#estimate = 0;
    this.#samples = 0;
    this.#above = 0;
  }

  /** The first request on a new socket is seldom a fast one. */
  #begin(sampleMs: number): void {
    this.#estimate = this.#samples === 0 ? sampleMs : Math.min(this.#estimate, sampleMs);
    this.#samples += 1;
  }

  #hasJumped(sampleMs: number, now: number): boolean {
    if (sampleMs <= this.#estimate) {
      this.#above = 0;
      return false;
    }
    if (this.#above === 0) {
      this.#aboveSince = now;
      this.#lowest = sampleMs;
    }
    this.#above += 1;
    this.#lowest = Math.min(this.#lowest, sampleMs);
    if (this.#above < PROOF || now - this.#aboveSince < this.#estimate) return false;
    this.#estimate = this.#lowest;
    this.#above = 0;
    return true;
  }

  #average(sampleMs: number, now: number): void {
    const before = this.#estimate;
    const silentMs = now - this.#sampledAt;
    const kept = Math.exp(-silentMs / TAU_MS);
    const faded = before * kept;
    // Faster than even forgetting had it: it is over.
    if (sampleMs < faded && silentMs > SILENCE_MS) {
      this.#estimate = (faded + sampleMs) / 2;
      return;
    }
    const sample =
      sampleMs < before ? sampleMs : Math.max(before, median(sampleMs, this.#last, this.#beforeLast));
    this.#estimate = before + (sample - before) * Math.min(MAX_WEIGHT, 1 - kept);
  }
}

function median(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}

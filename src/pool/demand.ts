/**
 * What the pool was asked for at once, in the last 30 to 60 minutes: the most leases held together, and how many
 * sockets were missing when callers had to wait because all were leased.
 *
 * It remembers; what follows for the sizes says the advice.
 */
import { Buckets, Windows } from './histogram.ts';

/** A frozen summary of the last 30 to 60 minutes. */
export interface DemandSummary {
  /** The most leases held at once. */
  readonly peakLeased: number;
  /** How many sockets were missing, in all but one in a hundred such moments: exact below 16, then within 6.25 %. */
  readonly shortP99: number;
  /** How often a caller had to wait because all sockets were leased. */
  readonly shortCount: number;
  /** How long a time this is about, in ms. */
  readonly coveredMs: number;
}

// Long enough to see most schedules' peak, short enough that a change of load shows within the hour.
const WINDOW_MS = 1_800_000;

class DemandWindow {
  readonly shortages: Buckets = new Buckets();
  peakLeased = 0;

  clear(): void {
    this.shortages.clear();
    this.peakLeased = 0;
  }
}

/** See the file's comment. */
export class Demand {
  readonly #windows: Windows<DemandWindow> = new Windows(WINDOW_MS, new DemandWindow(), new DemandWindow());

  /**
   * A caller joins the queue and must wait for a lease of somebody else's, as `missing` callers do now, itself
   * included. `weight`: it stands for so many.
   */
  short(missing: number, now: number, weight = 1): void {
    this.#windows.rotate(now);
    this.#windows.current.shortages.add(missing, weight);
  }

  /** At most so many leases were held at once since the last call. */
  see(peakLeased: number, now: number): void {
    this.#windows.rotate(now);
    const { current } = this.#windows;
    current.peakLeased = Math.max(current.peakLeased, peakLeased);
  }

  /** The sizes have changed: what was missing is no measure any more. */
  forget(): void {
    this.#windows.clear();
  }

  /** A frozen summary. */
  summary(now: number): DemandSummary {
    this.#windows.rotate(now);
    const { current, previous } = this.#windows;
    return Object.freeze({
      peakLeased: Math.max(current.peakLeased, previous.peakLeased),
      // Below 16 a bucket holds one integer, its lower edge.
      shortP99: Math.floor(Buckets.percentile(0.99, current.shortages, previous.shortages)),
      shortCount: current.shortages.count + previous.shortages.count,
      coveredMs: this.#windows.coveredMs(now),
    });
  }
}

/**
 * How much may be repeated: a share of the requests of the last 10 s, and a floor for those who send few. It keeps many
 * callers, each within their own retries, from multiplying the load of a server that is in trouble.
 *
 * When to ask, and what a repetition costs, is left to others. Time is passed in; there is no timer.
 *
 * Source: Finagle's RetryBudget, with deposits that expire after 10 s (tower has the same).
 */
import { SlidingCounts } from './sliding-counts.ts';

/** How large the budget is. */
export interface BudgetOptions {
  /** Repetitions for each request. Default: 0.2 (Finagle). */
  readonly ratio: number;
  /** Repetitions that are allowed in each second besides, averaged over 10 s. Default: 5 (half of Finagle's). */
  readonly minPerSecond: number;
}

/** The defaults, with their sources at {@link BudgetOptions}. */
export const BUDGET_DEFAULTS: BudgetOptions = { ratio: 0.2, minPerSecond: 5 };

// As long as Finagle's: short enough that the traffic of an hour ago pays for nothing, long enough for bursts.
const WINDOW_MS = 10_000;

/** See the file's comment. All times are in ms of one clock. */
export class RetryBudget {
  readonly #ratio: number;
  readonly #floor: number;
  readonly #counts: SlidingCounts = new SlidingCounts(WINDOW_MS);

  constructor(options: BudgetOptions) {
    this.#ratio = options.ratio;
    this.#floor = (options.minPerSecond * WINDOW_MS) / 1_000;
  }

  /** A caller's request begins; its repetitions are none. On the hot path: a comparison and an increment. */
  deposit(now: number): void {
    this.#counts.at(now).requests += 1;
  }

  /** Pays for a repetition, or refuses and takes nothing. `cost` is 1 by default; the AWS SDKs have 2 for a timeout. */
  tryWithdraw(now: number, cost: number = 1): boolean {
    if (this.balance(now) < cost) return false;
    this.withdraw(now, cost);
    return true;
  }

  /**
   * For what has a pace of its own, such as dials under their back-off: never refused, but requests have less to spend.
   * `cost` is 1 by default.
   */
  withdraw(now: number, cost: number = 1): void {
    if (!(cost >= 0)) throw new Error(`bug: a repetition cannot cost ${cost}`);
    this.#counts.at(now).charges += cost;
  }

  /** How much may be withdrawn now. Below 0 when more was withdrawn than may be; it is forgotten after 10 s as well. */
  balance(now: number): number {
    const { charges, requests } = this.#counts.sum(now);
    return this.#floor + this.#ratio * requests - charges;
  }
}

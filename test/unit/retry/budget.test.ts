import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BUDGET_DEFAULTS, type BudgetOptions, RetryBudget } from '../../../src/retry/budget.ts';

const SECOND = 1_000;
const HOUR = 3_600_000;
// Anywhere but at 0 or at a whole second: nothing may depend on where the clock stands.
const START = 7 * HOUR + 123;

/** A budget without a floor, to count by. */
function shareOnly(requests: number, now: number, ratio = 0.2): RetryBudget {
  return deposited(new RetryBudget({ ratio, minPerSecond: 0 }), requests, now);
}

function deposited(budget: RetryBudget, requests: number, now: number): RetryBudget {
  for (let request = 0; request < requests; request += 1) budget.deposit(now);
  return budget;
}

/** How many repetitions it pays for, one after the other. 9,999 are without end. */
function spend(budget: RetryBudget, now: number): number {
  let paid = 0;
  while (paid < 9_999 && budget.tryWithdraw(now)) paid += 1;
  return paid;
}

describe('a retry budget', () => {
  it('pays for a fifth of the requests, and 50 besides, by default', () => {
    expect(BUDGET_DEFAULTS).toEqual({ ratio: 0.2, minPerSecond: 5 });
    expect(spend(deposited(new RetryBudget(BUDGET_DEFAULTS), 100, START), START)).toBe(70);
  });

  it('pays for 5 a second of a caller that sends next to nothing, all 50 at once if need be', () => {
    const budget = new RetryBudget(BUDGET_DEFAULTS);
    expect(spend(budget, START)).toBe(50);
    expect(spend(budget, START + 8 * SECOND)).toBe(0);
    expect(spend(budget, START + 10 * SECOND)).toBe(50);
  });

  it('pays for a whole repetition only', () => {
    expect(spend(shareOnly(4, START), START)).toBe(0);
    expect(spend(shareOnly(5, START), START)).toBe(1);
    expect(spend(shareOnly(9, START), START)).toBe(1);
  });

  it('takes nothing when it refuses', () => {
    const budget = shareOnly(5, START);
    expect(budget.tryWithdraw(START, 2)).toBe(false);
    expect(budget.balance(START)).toBe(1);
    expect(budget.tryWithdraw(START)).toBe(true);
    expect(budget.balance(START)).toBe(0);
  });

  it('takes 2 for a timeout, when its owner says so', () => {
    const budget = shareOnly(25, START);
    expect(budget.tryWithdraw(START, 2)).toBe(true);
    expect(budget.tryWithdraw(START, 2)).toBe(true);
    expect(budget.tryWithdraw(START, 2)).toBe(false);
    expect(budget.balance(START)).toBe(1);
  });

  it('never refuses what has a pace of its own, but then refuses requests until it is forgotten', () => {
    const budget = shareOnly(5, START);
    budget.withdraw(START);
    budget.withdraw(START, 3);
    expect(budget.balance(START)).toBe(-3);
    expect(deposited(budget, 15, START).tryWithdraw(START)).toBe(false);
    expect(deposited(budget, 5, START).tryWithdraw(START)).toBe(true);
    expect(deposited(budget, 5, START + 10 * SECOND).balance(START + 10 * SECOND)).toBe(1);
  });

  it('may be off, and may be for all', () => {
    expect(spend(shareOnly(1_000, START, 0), START)).toBe(0);
    expect(spend(shareOnly(1_000, START, 1), START)).toBe(1_000);
  });

  it.each([-1, Number.NaN])('cannot be filled or spoilt by a cost of %d', (cost) => {
    const budget = new RetryBudget(BUDGET_DEFAULTS);
    expect(() => budget.withdraw(START, cost)).toThrow(`bug: a repetition cannot cost ${cost}`);
    expect(() => budget.tryWithdraw(START, cost)).toThrow('bug');
    expect(budget.balance(START)).toBe(50);
  });
});

describe('the window of a budget', () => {
  it.each([
    ['at the start of a second', 7 * HOUR],
    ['in the middle of a second', START],
    ['at the end of a second', 7 * HOUR + 999],
    ['on a clock that has just started', 0],
    ['on a clock that counts from far below zero', -7 * HOUR - 1],
  ])('remembers a request for 9 s at least, and for 10 s at most: %s', (_when, at) => {
    const budget = shareOnly(5, at);
    expect(budget.balance(at)).toBe(1);
    expect(budget.balance(at + 9 * SECOND)).toBe(1);
    expect(budget.balance(at + 10 * SECOND)).toBe(0);
  });

  it('moves on in whole seconds', () => {
    const budget = shareOnly(5, 999);
    deposited(budget, 5, 1_000);
    expect(budget.balance(9_999)).toBe(2);
    expect(budget.balance(10_000)).toBe(1);
    expect(budget.balance(10_999)).toBe(1);
    expect(budget.balance(11_000)).toBe(0);
  });

  it('forgets withdrawals as it forgets requests', () => {
    const budget = new RetryBudget(BUDGET_DEFAULTS);
    spend(budget, START);
    expect(budget.balance(START + 9 * SECOND)).toBe(0);
    expect(budget.balance(START + 10 * SECOND)).toBe(50);
  });

  it.each([10 * SECOND, 11 * SECOND, HOUR, 1e12])('is empty after %d ms in which nobody looked', (ms) => {
    const budget = shareOnly(5, START);
    for (let second = 0; second < 10; second += 1) deposited(budget, 5, START + second * SECOND);
    expect(budget.balance(START + 9 * SECOND + ms)).toBe(0);
    expect(deposited(budget, 5, START + 9 * SECOND + ms).balance(START + 9 * SECOND + ms)).toBe(1);
  });
});

/** The same by hand: every request and every withdrawal, each with its time. */
class Ledger {
  readonly #options: BudgetOptions;
  readonly #requests: number[] = [];
  readonly #withdrawn: { readonly at: number; readonly cost: number }[] = [];

  constructor(options: BudgetOptions) {
    this.#options = options;
  }

  deposit(at: number): void {
    this.#requests.push(at);
  }

  withdraw(at: number, cost: number): void {
    this.#withdrawn.push({ at, cost });
  }

  balance(now: number): number {
    const isRecent = (at: number) => Math.floor(at / SECOND) > Math.floor(now / SECOND) - 10;
    const requests = this.#requests.filter(isRecent).length;
    const withdrawn = this.#withdrawn
      .filter(({ at }) => isRecent(at))
      .reduce((sum, { cost }) => sum + cost, 0);
    return this.#options.minPerSecond * 10 + this.#options.ratio * requests - withdrawn;
  }
}

type Step =
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'deposit'; readonly times: number }
  | { readonly kind: 'tryWithdraw' | 'withdraw'; readonly cost: number };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(2_500) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(25_000) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('deposit' as const), times: fc.nat(20) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom('tryWithdraw', 'withdraw'),
      cost: fc.integer({ min: 1, max: 3 }),
    }),
  },
);

describe('a budget beside a ledger', () => {
  it('has the same balance after any steps, and pays when that would do', () => {
    fc.assert(
      fc.property(
        // Shares whose multiples are exact, so that both may be compared to the last bit.
        fc.record({ ratio: fc.constantFrom(0, 0.25, 0.5, 1), minPerSecond: fc.nat(1) }),
        fc.integer({ min: -20_000, max: 20_000 }),
        fc.array(anyStep, { maxLength: 60, size: 'max' }),
        (options, start, steps) => {
          const budget = new RetryBudget(options);
          const ledger = new Ledger(options);
          let now = start;
          for (const step of steps) {
            if (step.kind === 'wait') now += step.ms;
            else if (step.kind === 'deposit') {
              deposited(budget, step.times, now);
              for (let time = 0; time < step.times; time += 1) ledger.deposit(now);
            } else if (step.kind === 'withdraw') {
              budget.withdraw(now, step.cost);
              ledger.withdraw(now, step.cost);
            } else {
              const mayPay = ledger.balance(now) >= step.cost;
              expect(budget.tryWithdraw(now, step.cost)).toBe(mayPay);
              if (mayPay) ledger.withdraw(now, step.cost);
            }
            // Not after each step: looking must not be what keeps it right.
            if (step.kind !== 'wait') expect(budget.balance(now)).toBe(ledger.balance(now));
          }
          expect(budget.balance(now)).toBe(ledger.balance(now));
        },
      ),
      { numRuns: 300 },
    );
  });
});

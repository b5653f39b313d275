/** How a client chooses: by the real balancer, or by plain chance, which is what all policies are measured against. */
import { Balancer, type BalancerOptions } from '../src/balance/balancer.ts';
import type { BalancePolicy, Wish } from '../src/balance/policies.ts';
import type { RandomSource } from '../src/clock.ts';
import type { Line } from './line.ts';

/** What a client needs of a balancer. */
export type Chooser = Pick<
  Balancer<Line>,
  'add' | 'failed' | 'forgo' | 'opened' | 'pick' | 'remove' | 'succeeded'
>;

/** A policy, or none. */
export type ChooserName = BalancePolicy | 'random';

export function chooserOf(name: ChooserName, options: Omit<BalancerOptions<Line>, 'policy'>): Chooser {
  return name === 'random' ? new Chance(options.random) : new Balancer({ ...options, policy: name });
}

/** Any one that is there, whatever is known about it. */
class Chance implements Chooser {
  readonly #random: RandomSource;
  #lines: Line[] = [];

  constructor(random: RandomSource) {
    this.#random = random;
  }

  add(line: Line): void {
    this.#lines.push(line);
  }

  remove(line: Line): void {
    this.#lines = this.#lines.filter((one) => one !== line);
  }

  pick(_now: number, wish?: Wish<Line>): Line | undefined {
    const first = this.#drawn(this.#lines);
    if (first === undefined || wish === undefined || suits(first, wish)) return first;
    return this.#drawn(this.#lines.filter((line) => suits(line, wish)));
  }

  // It learns nothing.
  failed(): void {
    return;
  }

  forgo(): void {
    return;
  }

  opened(): void {
    return;
  }

  succeeded(): void {
    return;
  }

  #drawn(lines: readonly Line[]): Line | undefined {
    return lines[Math.floor(this.#random() * lines.length)];
  }
}

function suits(line: Line, { accept, avoid }: Wish<Line>): boolean {
  return line !== avoid && (accept === undefined || accept(line));
}

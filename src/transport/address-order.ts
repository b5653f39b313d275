/**
 * In which order the addresses of a name are tried: RFC 8305, section 4, with a little memory of what went well and what
 * did not. Finding the addresses and racing them is left to others.
 */
import type { RandomSource } from '../clock.ts';

/** A literal IP address. */
export interface IpAddress {
  readonly address: string;
  readonly family: 4 | 6;
}

// RFC 8305, section 4: what is remembered of a network is worth some ten minutes.
const WON_FOR_MS = 600_000;
// As long as a first answer without TTL is taken for fresh: afterwards the address may be another machine's.
const FAILED_FOR_MS = 30_000;
// More than any race gets through in that time.
const MOST_FAILED = 256;

/** What is remembered of the addresses that were dialed. All times are in ms of one clock. */
export class FamilyMemory {
  #won: { readonly family: 4 | 6; readonly at: number } | undefined;
  // In the order of the failures, so that the oldest is forgotten first.
  readonly #failedAt: Map<string, number> = new Map();

  /** How many failed addresses are remembered. */
  get failures(): number {
    return this.#failedAt.size;
  }

  /**
   * A dial to `target` was won. While its family is the remembered one, its ten minutes go on: renewed by each dial
   * they would never end, and IPv6 that has come back would never be seen.
   */
  won(target: IpAddress, now: number): void {
    this.#failedAt.delete(target.address);
    if (this.#won?.family !== target.family || now - this.#won.at >= WON_FOR_MS) {
      this.#won = { family: target.family, at: now };
    }
  }

  /** A dial to `target` failed, or another one that began later has overtaken it. */
  failed(target: IpAddress, now: number): void {
    this.#failedAt.delete(target.address);
    this.#failedAt.set(target.address, now);
    for (const [address, at] of this.#failedAt) {
      if (this.#failedAt.size <= MOST_FAILED && now - at < FAILED_FOR_MS) break;
      this.#failedAt.delete(address);
    }
  }

  /** Forgets everything: the machine's network is another one now. */
  clear(): void {
    this.#won = undefined;
    this.#failedAt.clear();
  }

  /** The family to begin with: the one that won in the last ten minutes, or IPv6. */
  firstFamily(now: number): 4 | 6 {
    return this.#won === undefined || now - this.#won.at >= WON_FOR_MS ? 6 : this.#won.family;
  }

  /** Whether the newest thing known of `target` is a failure of the last 30 s. */
  hasFailed(target: IpAddress, now: number): boolean {
    const at = this.#failedAt.get(target.address);
    return at !== undefined && now - at < FAILED_FOR_MS;
  }
}

/**
 * The addresses in the order in which to try them: shuffled, so that clients spread, and the families in turns, so that
 * one that does not work costs a single stagger. Those that failed in the last 30 s come after all others.
 */
export function orderAddresses<A extends IpAddress>(
  addresses: readonly A[],
  memory: FamilyMemory,
  now: number,
  random: RandomSource,
): A[] {
  if (addresses.length < 2) return [...addresses];
  const first = memory.firstFamily(now);
  const shuffled = shuffle(addresses, random);
  const good = shuffled.filter((address) => !memory.hasFailed(address, now));
  const bad = shuffled.filter((address) => memory.hasFailed(address, now));
  return [...inTurns(good, first), ...inTurns(bad, first)];
}

/** Fisher and Yates: each order is as likely as any other. */
function shuffle<A>(given: readonly A[], random: RandomSource): A[] {
  const rest = [...given];
  const shuffled: A[] = [];
  while (rest.length > 0) shuffled.push(...rest.splice(Math.floor(random() * rest.length), 1));
  return shuffled;
}

/** One of the `first` family, one of the other, and so on; what is left of the longer comes last. */
function inTurns<A extends IpAddress>(addresses: readonly A[], first: 4 | 6): A[] {
  const ahead = addresses.filter(({ family }) => family === first);
  const behind = addresses.filter(({ family }) => family !== first);
  const longest = Math.max(ahead.length, behind.length);
  return Array.from({ length: longest }, (_, i) => [ahead[i], behind[i]])
    .flat()
    .filter((address) => address !== undefined);
}

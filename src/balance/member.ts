/**
 * One endpoint as the balancer sees it: its place (tier, zone, weight), its load, how fast it answers, how it is.
 *
 * Its owner makes it, keeps the load and tells the balancer what happens there. To attach things of its own (an address,
 * sockets), the owner extends the class.
 */
import { HealthRecord } from './health.ts';
import { PeakEwma } from './peak-ewma.ts';

/** Where an endpoint stands among the others. */
export interface MemberPlace {
  /** Its share beside those of others: more than 0. Default: 1. */
  readonly weight?: number;
  /** 0 first; 1 and more stand by. Default: 0. */
  readonly tier?: number;
  /** Default: none. */
  readonly zone?: string | undefined;
}

// As many as PeakEwma believes.
const SILENT_REQUESTS = 3;

/** See the file's comment. All times are in ms of one clock. */
export class Member {
  /** Unique among those of one balancer, and the same in every process: consistent hashing goes by it. */
  readonly name: string;
  /** When it was made. */
  readonly joinedAt: number;
  /** Leases or requests that are there now; read only, but for {@link lent} and {@link returned}. */
  inFlight = 0;
  /** How long requests take there. */
  readonly latency: PeakEwma = new PeakEwma();

  // What follows is written by the balancer alone.

  /** Changed by `Balancer.change`. */
  weight: number;
  /** Changed by `Balancer.change`. */
  tier: number;
  /** Changed by `Balancer.change`. */
  zone: string | undefined;
  /** How it is, and what led to that. */
  readonly record: HealthRecord = new HealthRecord();
  /** Its weight, or less of it while it warms up. */
  pull: number;
  /** Round robin's: what it is owed. */
  credit = 0;
  /** Decides between equals where the same order in every process would make all of them go to the same endpoint. */
  lot = 0;
  /** Consistent hashing's: the hash of its name. */
  readonly hash: number;

  #awaited = 0;
  // Invariant: nothing was answered since, and three have been awaited all the time, if they are now.
  #silentSince = 0;

  constructor(name: string, place: MemberPlace, now: number) {
    this.name = name;
    this.weight = place.weight ?? 1;
    this.tier = place.tier ?? 0;
    this.zone = place.zone;
    this.joinedAt = now;
    this.pull = this.weight;
    this.hash = hashOf(name);
  }

  /** One more lease or request is there. */
  lent(): void {
    this.inFlight += 1;
  }

  /** One less. */
  returned(): void {
    this.inFlight -= 1;
  }

  /**
   * A request was sent whose reply will be timed; it counts as in flight too. Optional: without it a member that hangs
   * is known by its load alone.
   */
  asked(now: number): void {
    this.#awaited += 1;
    if (this.#awaited === SILENT_REQUESTS) this.#silentSince = now;
  }

  /** One of those asked is over, whatever came of it. */
  answered(now: number): void {
    this.#awaited -= 1;
    this.#silentSince = now;
  }

  /**
   * For how long at least three requests have been out while nothing came, in ms; else 0. Each of three is at least so
   * old: samples in the making, for two numbers instead of a list.
   */
  silentForMs(now: number): number {
    return this.#awaited < SILENT_REQUESTS ? 0 : now - this.#silentSince;
  }
}

/**
 * A 32 bit hash: FNV-1a over UTF-16 units, then murmur3's finisher, since FNV alone leaves names that differ in their
 * last letter close together.
 */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return finished(hash);
}

/** Murmur3's finisher: every bit of the input changes half of those of the result. */
export function finished(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

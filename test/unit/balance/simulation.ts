/**
 * Endpoints, callers and a balancer between them, in virtual time: what a policy does with a given load. Chance comes from
 * a seed, so a run is the same each time.
 */

import { Balancer, type BalancerOptions } from '../../../src/balance/balancer.ts';
import { Member, type MemberPlace } from '../../../src/balance/member.ts';
import { OUTLIER_DEFAULTS } from '../../../src/balance/outliers.ts';
import type { RandomSource } from '../../../src/clock.ts';

/** Mulberry32: chance that is the same each time. */
export function seeded(seed: number): RandomSource {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What is done after so long. */
interface Event {
  readonly at: number;
  readonly run: () => void;
}

/** A binary heap by time. */
class Agenda {
  readonly #heap: Event[] = [];

  get next(): Event | undefined {
    return this.#heap[0];
  }

  push(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = heap[up];
      if (parent === undefined || parent.at <= event.at) break;
      heap[at] = parent;
      at = up;
    }
    heap[at] = event;
  }

  pop(): Event | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      const a = heap[left];
      if (a === undefined) break;
      const b = heap[left + 1];
      const isRight = b !== undefined && b.at < a.at;
      const child = isRight ? b : a;
      if (child.at >= last.at) break;
      heap[at] = child;
      at = isRight ? left + 1 : left;
    }
    heap[at] = last;
    return top;
  }
}

/** An endpoint that answers. */
export class Server extends Member {
  /** The median of its latencies, in ms. */
  medianMs: number;
  /** Refuses everything, after 1 ms. */
  isDown = false;
  /** Requests that went there, and how many are there at most at once. */
  served = 0;
  most = 0;

  constructor(name: string, medianMs: number, place: MemberPlace = {}, now = 0) {
    super(name, place, now);
    this.medianMs = medianMs;
  }

  /** Counts anew. */
  clear(): void {
    this.served = 0;
    this.most = 0;
  }
}

/** What comes in. */
export interface Load {
  /** Requests for each second, at random moments. */
  readonly rate?: number;
  /** Or so many callers, each of whom asks again as soon as it has its answer. */
  readonly concurrency?: number;
  /** The spread of latencies: sigma of a lognormal. Default: 0.3. */
  readonly sigma?: number;
  /** The share of requests that take 20 times as long. Default: 0.005. */
  readonly spikes?: number;
}

/** See the file's comment. */
export class Simulation {
  now = 0;
  readonly random: RandomSource;
  readonly balancer: Balancer<Server>;
  readonly servers: Server[];
  readonly latencies: number[] = [];
  readonly #agenda = new Agenda();
  readonly #load: Load;

  constructor(
    servers: readonly Server[],
    load: Load,
    options: Partial<BalancerOptions<Server>> = {},
    seed = 1,
  ) {
    this.random = seeded(seed);
    this.#load = load;
    this.servers = [...servers];
    this.balancer = new Balancer<Server>({
      policy: 'p2c',
      random: this.random,
      slowStartMs: 30_000,
      outliers: OUTLIER_DEFAULTS,
      ...options,
    });
    for (const server of servers) this.balancer.add(server, 0);
    for (let caller = 0; caller < (load.concurrency ?? 0); caller += 1) this.#ask(true);
    if (load.rate !== undefined) this.#arrive(load.rate);
  }

  /** Lets so much time pass. */
  run(ms: number): void {
    const until = this.now + ms;
    for (let next = this.#agenda.next; next !== undefined && next.at <= until; next = this.#agenda.next) {
      this.#agenda.pop();
      this.now = next.at;
      next.run();
    }
    this.now = until;
  }

  clear(): void {
    for (const server of this.servers) server.clear();
    this.latencies.length = 0;
  }

  /** Of all requests since the last look, the share that went to each. */
  shares(): number[] {
    const total = this.servers.reduce((sum, { served }) => sum + served, 0);
    return this.servers.map(({ served }) => served / total);
  }

  /** Asks once, and tells the balancer what came of it. */
  #ask(isForEver: boolean): void {
    const server = this.balancer.pick(this.now);
    if (server === undefined) throw new Error('nobody could be picked');
    server.served += 1;
    server.lent();
    server.most = Math.max(server.most, server.inFlight);
    const askedAt = this.now;
    server.asked(askedAt);
    const ms = server.isDown ? 1 : this.#latencyOf(server);
    const done = () => {
      server.returned();
      server.answered(this.now);
      this.latencies.push(ms);
      if (server.isDown) this.balancer.failed(server, 'request', this.now);
      else this.balancer.succeeded(server, ms, this.now);
      if (isForEver) this.#ask(true);
    };
    this.#agenda.push({ at: this.now + ms, run: done });
  }

  #arrive(rate: number): void {
    const gap = (-Math.log(1 - this.random()) * 1_000) / rate;
    this.#agenda.push({
      at: this.now + gap,
      run: () => {
        this.#ask(false);
        this.#arrive(rate);
      },
    });
  }

  #latencyOf(server: Server): number {
    const { sigma = 0.3, spikes = 0.005 } = this.#load;
    const normal = Math.sqrt(-2 * Math.log(1 - this.random())) * Math.cos(2 * Math.PI * this.random());
    const ms = server.medianMs * Math.exp(sigma * normal);
    return this.random() < spikes ? ms * 20 : ms;
  }
}

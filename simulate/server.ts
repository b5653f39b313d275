/**
 * An endpoint: some workers, one bounded queue in the order of arrival, and the ways in which it may be unwell. It does not
 * know who gives up: a reply that nobody waits for costs as much as any other, which is what makes overload last.
 *
 * Since a queue in order can be worked out in advance, a request is one event: its reply.
 */
import type { RandomSource } from '../src/clock.ts';
import type { Agenda } from './agenda.ts';
import type { Attempt } from './attempt.ts';
import { lognormal } from './chance.ts';
import { Series } from './series.ts';

/** What a server is made of. */
export interface ServerParts {
  readonly workers: number;
  /** The mean time of a request with its worker, in ms. */
  readonly serviceMs: number;
  /** Requests that are there at most, those with a worker included; more are refused. */
  readonly room: number;
  readonly random: RandomSource;
}

/**
 * - `up`: it answers
 * - `failing`: it accepts, and answers each request with an error, at once
 * - `down`: it refuses dials
 */
export type ServerState = 'up' | 'failing' | 'down';

/** To the server and back, without its work, in ms: two machines in one data centre. */
export const ROUND_TRIP_MS = 1;
/** The spread of service times: sigma of a lognormal. */
export const SIGMA = 0.5;
/** After a start it takes so many times as long, and comes down evenly: caches and compilers are cold. */
export const COLD_FACTOR = 3;
/** For so long, in ms. */
export const COLD_MS = 20_000;

const WIDTH_MS = 250;

/** See the file's comment. */
export class Server {
  readonly name: string;
  readonly workers: number;
  /** Added to each reply on its way, in ms; takes no worker. */
  delayMs = 0;
  /** What came here, attempts that were refused included. */
  readonly received: Series = new Series(WIDTH_MS);
  readonly #parts: ServerParts;
  readonly #agenda: Agenda;
  // When each worker is free.
  readonly #free: number[];
  readonly #flights: Set<Attempt> = new Set();
  #state: ServerState = 'up';
  #startedAt = Number.NEGATIVE_INFINITY;

  constructor(name: string, parts: ServerParts, agenda: Agenda) {
    this.name = name;
    this.workers = parts.workers;
    this.#parts = parts;
    this.#agenda = agenda;
    this.#free = Array.from({ length: parts.workers }, () => 0);
  }

  get state(): ServerState {
    return this.#state;
  }

  /** Requests for each second that it can answer, once it is warm. */
  get capacity(): number {
    return (this.workers / this.#parts.serviceMs) * 1_000;
  }

  /** Its process ends: what is there is lost. */
  crash(): void {
    this.#state = 'down';
    const lost = [...this.#flights];
    this.#flights.clear();
    for (const attempt of lost) attempt.settle('lost');
  }

  /** Its process starts, with nothing to do and everything cold. */
  start(): void {
    const { now } = this.#agenda;
    this.#state = 'up';
    this.#startedAt = now;
    this.#free.fill(now);
  }

  /** Answers with errors from now on, or no longer. */
  setFailing(isFailing: boolean): void {
    this.#state = isFailing ? 'failing' : 'up';
  }

  /** A request comes in. */
  take(attempt: Attempt): void {
    const { now } = this.#agenda;
    this.received.add(now);
    if (this.#state !== 'up' || this.#flights.size >= this.#parts.room) {
      this.#agenda.after(ROUND_TRIP_MS, () => attempt.settle('refused'));
      return;
    }
    this.#flights.add(attempt);
    const worker = this.#firstFree();
    const beginsAt = Math.max(now, this.#free[worker] ?? now);
    const doneAt =
      beginsAt + lognormal(this.#parts.serviceMs * this.#slowness(now), SIGMA, this.#parts.random);
    this.#free[worker] = doneAt;
    const repliedAt = doneAt + ROUND_TRIP_MS + this.delayMs;
    this.#agenda.at(repliedAt, attempt);
    if (repliedAt > attempt.timeoutAt) {
      this.#agenda.at(attempt.timeoutAt, { happen: () => attempt.settle('timeout') });
    }
  }

  /** Its reply is there, if the process lived so long. */
  reply(attempt: Attempt): void {
    if (this.#flights.delete(attempt)) attempt.settle('answered');
  }

  #firstFree(): number {
    let first = 0;
    for (let worker = 1; worker < this.#free.length; worker += 1) {
      if ((this.#free[worker] ?? 0) < (this.#free[first] ?? 0)) first = worker;
    }
    return first;
  }

  #slowness(now: number): number {
    return 1 + (COLD_FACTOR - 1) * Math.max(0, 1 - (now - this.#startedAt) / COLD_MS);
  }
}

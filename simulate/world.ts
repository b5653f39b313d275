/**
 * Servers, clients and the callers between them, on one agenda. What happens to the servers is told by the scenarios.
 *
 * All callers together are a Poisson process, each at a client drawn by chance: all clients are equally busy.
 */
import { OUTLIER_DEFAULTS, type OutlierOptions } from '../src/balance/outliers.ts';
import type { RandomSource } from '../src/clock.ts';
import { BUDGET_DEFAULTS } from '../src/retry/budget.ts';
import { Agenda } from './agenda.ts';
import { Call } from './attempt.ts';
import { exponential, seeded } from './chance.ts';
import { type ChooserName, chooserOf } from './chooser.ts';
import { Client, DIAL_BACKOFF, type RetryRule } from './client.ts';
import { Line } from './line.ts';
import { sumOf } from './series.ts';
import { Server } from './server.ts';
import { Tally } from './tally.ts';

/** How a world is made. */
export interface Setting {
  readonly clients: number;
  readonly servers: number;
  /** How many of the servers each client knows, drawn by chance. Default: all. */
  readonly known?: number;
  readonly policy: ChooserName;
  /** Requests of callers, as a share of what all servers can do. */
  readonly load: number;
  /** Of each server, by its number. Default: 4. */
  readonly workersOf?: (server: number) => number;
  /** Of each server, by its number. Default: 1. */
  readonly weightOf?: (server: number) => number;
  /** Requests that a server has at most. Default: 400, 2 s of work. */
  readonly room?: number;
  /** As the pool has it. Default: 30,000. */
  readonly slowStartMs?: number;
  /** As the pool has them. */
  readonly outliers?: Partial<OutlierOptions>;
  /** As the client has them: 3 retries, with back-off and budget. */
  readonly retry?: RetryRule;
  /** So many keys, drawn evenly. Default: no keys. */
  readonly keys?: number;
}

/** The retries of a client as it is by default, of requests that may be repeated. */
export const RETRY_DEFAULTS: RetryRule = { retries: 3, backoff: DIAL_BACKOFF, budget: BUDGET_DEFAULTS };
/** The mean time of a request with its worker, in ms. */
export const SERVICE_MS = 20;
/** For each try, in ms. */
export const TIMEOUT_MS = 1_000;
const WORKERS = 4;
const ROOM = 400;
const SLOW_START_MS = 30_000;
const LONG_AGO_MS = 600_000;

interface Known {
  readonly client: Client;
  readonly line: Line;
}

/** See the file's comment. */
export class World {
  readonly agenda: Agenda = new Agenda();
  readonly tally: Tally = new Tally();
  readonly servers: readonly Server[];
  readonly clients: readonly Client[];
  /** Requests of callers, as a share of what the first servers can do. */
  load: number;
  readonly #setting: Setting;
  readonly #known: Map<Server, Known[]> = new Map();
  readonly #capacity: number;
  readonly #arrivals: RandomSource;
  readonly #service: RandomSource;

  constructor(setting: Setting, seed: number) {
    this.#setting = setting;
    this.load = setting.load;
    const draw = seeded(seed);
    this.#arrivals = seeded(seed + 1);
    this.#service = seeded(seed + 2);
    const random = seeded(seed + 3);
    this.servers = Array.from({ length: setting.servers }, (_, at) => this.makeServer(`10.0.0.${at}:80`, at));
    this.#capacity = sumOf(this.servers.map(({ capacity }) => capacity));
    this.clients = Array.from({ length: setting.clients }, () => {
      const chooser = chooserOf(setting.policy, {
        random,
        slowStartMs: setting.slowStartMs ?? SLOW_START_MS,
        outliers: { ...OUTLIER_DEFAULTS, ...setting.outliers },
      });
      const retry = setting.retry ?? RETRY_DEFAULTS;
      return new Client({
        agenda: this.agenda,
        tally: this.tally,
        chooser,
        retry,
        timeoutMs: TIMEOUT_MS,
        random,
      });
    });
    for (const client of this.clients) {
      for (const at of this.#someServers(draw)) {
        const server = this.servers[at];
        if (server !== undefined) this.#introduce(client, server, setting.weightOf?.(at) ?? 1, true);
      }
    }
    this.#arrive();
  }

  /** One that nobody knows yet. */
  makeServer(name: string, at: number = 0): Server {
    const { room = ROOM, workersOf } = this.#setting;
    const workers = workersOf?.(at) ?? WORKERS;
    return new Server(name, { workers, serviceMs: SERVICE_MS, room, random: this.#service }, this.agenda);
  }

  runTo(ms: number): void {
    this.agenda.runTo(ms);
  }

  at(ms: number, fn: () => void): void {
    this.agenda.at(ms, { happen: fn });
  }

  /** Its process ends, and everybody sees their sockets close. */
  crash(server: Server): void {
    for (const { client, line } of this.linesTo(server)) client.onClosed(line);
    server.crash();
  }

  /** It leaves the address list and finishes what it has. */
  retire(server: Server): void {
    for (const { client, line } of this.linesTo(server)) client.chooser.remove(line, this.agenda.now);
  }

  /** A new one is on the address list of everybody, at once. */
  welcome(server: Server): void {
    for (const client of this.clients) this.#introduce(client, server, 1, false);
  }

  /** Each client's side of it. */
  linesTo(server: Server): readonly Known[] {
    return this.#known.get(server) ?? [];
  }

  #introduce(client: Client, server: Server, weight: number, isOpen: boolean): void {
    // Those that are there from the start have long warmed up.
    const since = isOpen ? -LONG_AGO_MS : this.agenda.now;
    const line = new Line(server, { weight }, since);
    line.isOpen = isOpen;
    client.chooser.add(line, since);
    const known = this.#known.get(server);
    if (known === undefined) this.#known.set(server, [{ client, line }]);
    else known.push({ client, line });
  }

  #someServers(draw: RandomSource): number[] {
    const { known, servers } = this.#setting;
    const all = Array.from({ length: servers }, (_, at) => at);
    if (known === undefined) return all;
    return Array.from({ length: known }, () => all.splice(Math.floor(draw() * all.length), 1)[0] ?? 0);
  }

  #arrive(): void {
    const gapMs = exponential(1_000 / (this.load * this.#capacity), this.#arrivals);
    this.agenda.after(gapMs, () => {
      const { now } = this.agenda;
      const client = this.clients[Math.floor(this.#arrivals() * this.clients.length)];
      const { keys } = this.#setting;
      const key = keys === undefined ? undefined : `user-${Math.floor(this.#arrivals() * keys)}`;
      this.tally.ask(now);
      client?.ask(new Call(now, key));
      this.#arrive();
    });
  }
}

/**
 * One name server, asked by c-ares over UDP (TCP for long answers): no hosts file and no search domains, but TTLs, and
 * questions that can be cancelled. How long to wait is the caller's business, since c-ares can't be trusted with it:
 * its `timeout` is for one try of several (nodejs/node#39562), is only a first guess since c-ares 1.32 (#57839), and was
 * doubled with one try (#65340).
 */
import { Resolver } from 'node:dns/promises';
import { isIP } from 'node:net';
import { onAbort } from '../abort.ts';
import type { Clock } from '../clock.ts';
import { invalidOption } from '../option-check.ts';
import type { Address } from './address.ts';
import { type Answer, codeOf, isDenial, type Lookup, lookupError, type ServiceAnswer } from './lookup.ts';

// A lost packet is sent again after so long, and then after twice as long. In Kubernetes one of two questions sent at
// once may be lost in conntrack.
const TRY_MS = 1_000;
const TRIES = 3;

// RFC 8305, section 3: how long a family is waited for when the other has answered.
const RESOLUTION_DELAY_MS = 50;

/**
 * The name server at `server`: `10.0.0.2`, `10.0.0.2:5353`, `2001:db8::53` or `[2001:db8::53]:53`.
 *
 * @throws PulsepoolError `ERR_INVALID_OPTION` for anything else
 */
export function nameServerLookup(server: string, clock: Clock, option = 'resolvers'): Lookup {
  checkServer(server, option);
  return {
    name: server,
    addresses: (host, signal) => new Question(server, host, clock, signal).answer,
    services: (name, signal) => resolveServices(server, name, signal),
  };
}

/** The SRV records of a name, from one server or from those that the system is set up with. */
export async function resolveServices(
  server: string | undefined,
  name: string,
  signal: AbortSignal,
): Promise<ServiceAnswer> {
  signal.throwIfAborted();
  const resolver = resolverFor(server);
  const stop = onAbort(signal, () => resolver.cancel());
  try {
    const found = await resolver.resolveSrv(name);
    const records = found.map((one) => ({
      host: one.name,
      port: one.port,
      priority: one.priority,
      weight: one.weight,
    }));
    // Node passes no TTL on with these.
    return { records, ttlMs: undefined };
  } finally {
    stop();
  }
}

/**
 * One for each question (35 µs): `cancel()` ends all that a resolver was asked, and the servers of the system are read
 * when it is made, so that a change of them is seen.
 */
function resolverFor(server: string | undefined): Resolver {
  const resolver = new Resolver({ timeout: TRY_MS, tries: TRIES });
  if (server !== undefined) resolver.setServers([server]);
  return resolver;
}

interface Part {
  readonly addresses: readonly Address[];
  readonly ttlMs: number | undefined;
  readonly error: unknown;
}

/** A and AAAA of one name, side by side. */
class Question {
  readonly answer: Promise<Answer>;
  readonly #host: string;
  readonly #resolver: Resolver;
  readonly #parts: Map<4 | 6, Part> = new Map();

  constructor(server: string, host: string, clock: Clock, signal: AbortSignal) {
    this.#host = host;
    this.#resolver = resolverFor(server);
    this.answer = this.#ask(clock, signal);
  }

  async #ask(clock: Clock, signal: AbortSignal): Promise<Answer> {
    signal.throwIfAborted();
    const stop = onAbort(signal, () => this.#resolver.cancel());
    try {
      const both = [this.#part(4), this.#part(6)];
      await Promise.race(both);
      if (this.#hasAddresses) await this.#whileDelayed(both, clock);
      else await Promise.all(both);
      return this.#told();
    } finally {
      stop();
      this.#resolver.cancel();
    }
  }

  async #part(family: 4 | 6): Promise<void> {
    try {
      const found = await (family === 4
        ? this.#resolver.resolve4(this.#host, { ttl: true })
        : this.#resolver.resolve6(this.#host, { ttl: true }));
      // The first to expire decides for all.
      const ttlMs = found.length === 0 ? undefined : Math.min(...found.map(({ ttl }) => ttl)) * 1_000;
      const addresses = found.map(({ address }) => ({ address, family }));
      this.#parts.set(family, { addresses, ttlMs, error: undefined });
    } catch (error) {
      this.#parts.set(family, { addresses: [], ttlMs: undefined, error });
    }
  }

  get #hasAddresses(): boolean {
    return [...this.#parts.values()].some(({ addresses }) => addresses.length > 0);
  }

  #whileDelayed(both: readonly Promise<void>[], clock: Clock): Promise<unknown> {
    return new Promise((resolve) => {
      const timer = clock.after(RESOLUTION_DELAY_MS, () => clock.turn(() => resolve(undefined)));
      void Promise.all(both).then(() => {
        timer.cancel();
        resolve(undefined);
      });
    });
  }

  #told(): Answer {
    const v4 = this.#parts.get(4);
    const v6 = this.#parts.get(6);
    const addresses = [...(v4?.addresses ?? []), ...(v6?.addresses ?? [])];
    if (addresses.length === 0) throw this.#failure(v4?.error, v6?.error);
    const ttls = [v4?.ttlMs, v6?.ttlMs].filter((ttlMs) => ttlMs !== undefined);
    const ttlMs = ttls.length === 0 ? undefined : Math.min(...ttls);
    const unknown = isUnknown(v4) ? 4 : isUnknown(v6) ? 6 : undefined;
    return { addresses, ttlMs, unknown };
  }

  /** The error of the family that may yet have addresses; if none may, the one that knows the name. */
  #failure(v4: unknown, v6: unknown): unknown {
    const errors = [v4, v6].filter((error) => error !== undefined);
    return (
      errors.find((error) => !isDenial(codeOf(error))) ??
      errors.find((error) => codeOf(error) === 'ENODATA') ??
      errors[0] ??
      lookupError('ENODATA', `${this.#host} has no addresses`)
    );
  }
}

function isUnknown(part: Part | undefined): boolean {
  return part === undefined || (part.error !== undefined && !isDenial(codeOf(part.error)));
}

function checkServer(server: string, option: string): void {
  if (typeof server === 'string') {
    if (isIP(server) !== 0) return;
    const [, v6, v4, port] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(server) ?? [];
    const isAddress = v6 === undefined ? isIP(v4 ?? '') === 4 : isIP(v6) === 6;
    const isPort = port === undefined || (Number(port) >= 1 && Number(port) <= 65_535);
    if (isAddress && isPort) return;
  }
  throw invalidOption(
    option,
    "be the address of a name server, '10.0.0.2', '10.0.0.2:5353' or '[2001:db8::53]:53'",
    server,
  );
}

/**
 * The way to an endpoint: its name resolved, its addresses in order, a race over them, all under one deadline. What one
 * attempt does is told from outside; how names are kept is in resolve/, how a race goes in transport/.
 */

import { onAbort } from './abort.ts';
import type { Clock, RandomSource } from './clock.ts';
import { parseAddress } from './resolve/address.ts';
import type { Names } from './resolve/names.ts';
import { FamilyMemory, type IpAddress, orderAddresses } from './transport/address-order.ts';
import { dialTimeout, resolveFailed } from './transport/dial-error.ts';
import { type Endpoint, endpointName } from './transport/endpoint.ts';
import { race } from './transport/race.ts';

/** What a route needs. */
export interface RouteParts {
  readonly names: Names;
  readonly clock: Clock;
  readonly random: RandomSource;
  /** DNS, TCP, TLS and handshake together, in ms. */
  readonly connectTimeoutMs: number;
}

/** One attempt; `address`: none for a path. It is over at `deadlineAt` at the latest. */
export type Attempt<T> = (address: string | undefined, deadlineAt: number, signal: AbortSignal) => Promise<T>;

/** See the file's comment. */
export class Route {
  readonly #parts: RouteParts;
  readonly #memory: FamilyMemory = new FamilyMemory();

  constructor(parts: RouteParts) {
    this.#parts = parts;
  }

  /**
   * Runs `attempt` for one address after the other, or side by side when one is slow, until one is done.
   *
   * @throws DialError; `signal.reason` when aborted.
   */
  async open<T>(
    endpoint: Endpoint,
    signal: AbortSignal,
    attempt: Attempt<T>,
    discard: (late: T) => void,
    deadlineAt: number = this.#parts.clock.now() + this.#parts.connectTimeoutMs,
  ): Promise<T> {
    signal.throwIfAborted();
    const { clock, random } = this.#parts;
    if (endpoint.kind === 'unix') return attempt(undefined, deadlineAt, signal);
    const literal = parseAddress(endpoint.address ?? endpoint.host);
    if (literal !== undefined) return attempt(literal.address, deadlineAt, signal);
    const found = await this.#resolve(endpoint.host, endpointName(endpoint), signal, deadlineAt);
    const memory = this.#memory;
    const { target, won } = await race<IpAddress, T>(
      orderAddresses(found, memory, clock.now(), random),
      ({ address }, cut) => attempt(address, deadlineAt, cut),
      {
        endpoint: endpointName(endpoint),
        clock,
        signal,
        deadlineAt,
        discard,
        onFailed: (failed) => memory.failed(failed, clock.now()),
      },
    );
    memory.won(target, clock.now());
    return won;
  }

  /** The network has changed: what was learned of families and addresses is of no use. */
  forget(): void {
    this.#memory.clear();
  }

  /** The addresses of a name, within the deadline. */
  async #resolve(
    host: string,
    name: string,
    signal: AbortSignal,
    deadlineAt: number,
  ): Promise<readonly IpAddress[]> {
    const { clock, connectTimeoutMs, names } = this.#parts;
    const limit = new AbortController();
    const stop = onAbort(signal, () => limit.abort(signal.reason));
    const timer = clock.after(deadlineAt - clock.now(), () =>
      clock.turn(() => limit.abort(dialTimeout('dns', name, connectTimeoutMs))),
    );
    try {
      return (await names.addresses(host, limit.signal)).addresses;
    } catch (error) {
      if (limit.signal.aborted) throw limit.signal.reason;
      throw resolveFailed(error, name);
    } finally {
      timer.cancel();
      stop();
    }
  }
}

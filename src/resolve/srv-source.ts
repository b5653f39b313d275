/**
 * The endpoints of a service's SRV records (RFC 2782: Kubernetes, Consul): each address of each target. Priorities become
 * tiers and weights shares.
 *
 * A target that can't be resolved is left out, and takes no other with it.
 */
import type { Clock, Timer } from '../clock.ts';
import type { Address } from './address.ts';
import { distinctEndpoints, type EndpointSource, type SourceOwner } from './endpoint-source.ts';
import { Family } from './family.ts';
import type { FoundEndpoint } from './given-endpoint.ts';
import type { SrvRecord } from './lookup.ts';
import type { Names } from './names.ts';

/** Where the records are. */
export interface SrvSourceOptions {
  /** `_orders._tcp.example.com` */
  readonly srv: string;
  readonly clock: Clock;
}

// How long a list is held back for targets that have not been resolved yet: without the first tier it would send
// everybody to the standby.
const HELD_BACK_MS = 500;

// RFC 2782: a target of weight 0 has a very small chance beside others. So much of the smallest other one.
const SHARE_OF_ZERO = 0.01;

/** See the file's comment. `names` is ended by whoever made it, and must have no `fallbackAddresses`: each target would get them. */
export function srvSource(names: Names, options: SrvSourceOptions): EndpointSource {
  return new SrvSource(names, options);
}

interface Target {
  readonly family: Family;
  readonly stop: () => void;
  /** None are known until the first look-up has ended; then none means that it was in vain. */
  addresses: readonly Address[] | undefined;
}

class SrvSource implements EndpointSource {
  readonly #names: Names;
  readonly #options: SrvSourceOptions;
  readonly #targets: Map<string, Target> = new Map();
  #records: readonly SrvRecord[] = [];
  #owner: SourceOwner | undefined;
  #stop: (() => void) | undefined;
  #heldBack: Timer | undefined;

  constructor(names: Names, options: SrvSourceOptions) {
    this.#names = names;
    this.#options = options;
  }

  start(owner: SourceOwner): void {
    this.#owner = owner;
    this.#stop = this.#names.watchServices(
      this.#options.srv,
      ({ records }) => this.#take(records),
      (error) => owner.onFailed(error),
    );
  }

  refresh(force = false): void {
    this.#names.refreshServices(this.#options.srv, { force });
    for (const host of this.#targets.keys()) this.#names.refresh(host, { force });
  }

  tryOtherFamily(): boolean {
    let hasChanged = false;
    for (const { addresses, family } of this.#targets.values()) {
      if (family.change(addresses ?? [])) hasChanged = true;
    }
    if (hasChanged) this.#tell();
    return hasChanged;
  }

  end(): void {
    this.#owner = undefined;
    this.#stop?.();
    this.#heldBack?.cancel();
    this.#heldBack = undefined;
    for (const { stop } of this.#targets.values()) stop();
    this.#targets.clear();
  }

  #take(records: readonly SrvRecord[]): void {
    this.#records = records;
    const hosts = new Set(records.map(({ host }) => host));
    for (const [host, { stop }] of this.#targets) {
      if (hosts.has(host)) continue;
      stop();
      this.#targets.delete(host);
    }
    for (const host of hosts) if (!this.#targets.has(host)) this.#targets.set(host, this.#watch(host));
    this.#tellWhenResolved();
  }

  #watch(host: string): Target {
    const stop = this.#names.watch(
      host,
      ({ addresses }) => {
        target.addresses = addresses;
        this.#tellWhenResolved();
      },
      (error) => {
        target.addresses ??= [];
        this.#tellWhenResolved(error);
      },
    );
    const target: Target = { family: new Family(), stop, addresses: undefined };
    return target;
  }

  #tellWhenResolved(error?: unknown): void {
    const isWhole = [...this.#targets.values()].every(({ addresses }) => addresses !== undefined);
    if (isWhole) {
      this.#tell(error);
      return;
    }
    const { clock } = this.#options;
    this.#heldBack ??= clock.after(HELD_BACK_MS, () => clock.turn(() => this.#tell()));
  }

  #tell(error?: unknown): void {
    this.#heldBack?.cancel();
    this.#heldBack = undefined;
    const list = this.#endpoints();
    if (list.length > 0 || this.#records.length === 0) this.#owner?.onEndpoints(list);
    // While some are still being asked there is nothing to complain of.
    else if (error !== undefined) this.#owner?.onFailed(error);
  }

  #endpoints(): readonly FoundEndpoint[] {
    const priorities = [...new Set(this.#records.map(({ priority }) => priority))].sort((a, b) => a - b);
    const list = priorities.flatMap((priority, tier) => {
      const records = this.#records.filter((record) => record.priority === priority);
      const ofZero = shareOfZero(records);
      return records.flatMap(({ host, port, weight }) => {
        const target = this.#targets.get(host);
        const addresses = target?.family.of(target.addresses ?? []) ?? [];
        // The weight is the target's, however many addresses it has.
        const share = (weight === 0 ? ofZero : weight) / addresses.length;
        return addresses.map(({ address }) => ({
          host,
          port,
          address,
          weight: share,
          tier,
          zone: undefined,
        }));
      });
    });
    return distinctEndpoints(list);
  }
}

/** All of them alike, if none has more. */
function shareOfZero(records: readonly SrvRecord[]): number {
  const weights = records.map(({ weight }) => weight).filter((weight) => weight > 0);
  return weights.length === 0 ? 1 : Math.min(...weights) * SHARE_OF_ZERO;
}

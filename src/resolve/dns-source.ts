/**
 * Each address of one name is an endpoint: a headless service, a round-robin name.
 */
import type { Address } from './address.ts';
import { distinctEndpoints, type EndpointSource, type SourceOwner } from './endpoint-source.ts';
import { Family } from './family.ts';
import type { Names } from './names.ts';

/** The name to resolve, and the port of all its addresses. */
export interface DnsSourceOptions {
  readonly host: string;
  readonly port: number;
}

/** See the file's comment. `names` is ended by whoever made it. */
export function dnsSource(names: Names, options: DnsSourceOptions): EndpointSource {
  return new DnsSource(names, options);
}

class DnsSource implements EndpointSource {
  readonly #names: Names;
  readonly #options: DnsSourceOptions;
  readonly #family: Family = new Family();
  #addresses: readonly Address[] = [];
  #owner: SourceOwner | undefined;
  #stop: (() => void) | undefined;

  constructor(names: Names, options: DnsSourceOptions) {
    this.#names = names;
    this.#options = options;
  }

  start(owner: SourceOwner): void {
    this.#owner = owner;
    this.#stop = this.#names.watch(
      this.#options.host,
      ({ addresses }) => {
        this.#addresses = addresses;
        this.#tell();
      },
      (error) => owner.onFailed(error),
    );
  }

  refresh(force = false): void {
    this.#names.refresh(this.#options.host, { force });
  }

  tryOtherFamily(): boolean {
    if (!this.#family.change(this.#addresses)) return false;
    this.#tell();
    return true;
  }

  end(): void {
    this.#stop?.();
    this.#owner = undefined;
  }

  #tell(): void {
    const { host, port } = this.#options;
    const list = this.#family
      .of(this.#addresses)
      .map(({ address }) => ({ host, port, address, weight: 1, tier: 0, zone: undefined }));
    this.#owner?.onEndpoints(distinctEndpoints(list));
  }
}

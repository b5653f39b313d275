/**
 * Whether the network of this machine has changed: its addresses, looked at every 5 s, or a sleep it has woken from. What
 * follows from that is left to others.
 *
 * A look costs 0.1 ms with four interfaces (`os.networkInterfaces()`, measured), every 5 s: 0.002 % of a core.
 */
import type { NetworkInterfaceInfo } from 'node:os';
import type { Clock, Timer } from '../clock.ts';
import { warnOf } from '../warning.ts';

/** As `os.networkInterfaces`. */
export type GetInterfaces = () => NodeJS.Dict<NetworkInterfaceInfo[]>;

/** What has changed. */
export interface NetworkChange {
  /** `eth0 10.0.0.5/24` */
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** How long nothing ran, in ms: asleep, or frozen. 0 when it was not. */
  readonly wokeMs: number;
}

/** What a network watch needs to know. */
export interface NetworkWatchParts {
  readonly interfaces: GetInterfaces;
  readonly clock: Clock;
  /** Must not throw. */
  readonly onChange: (change: NetworkChange) => void;
}

const LOOK_EVERY_MS = 5_000;
// Shorter than that no peer or NAT forgets a connection, and a clock that is set right mostly moves by less.
const SLEPT_MS = 2_000;

/** See the file's comment. */
export class NetworkWatch {
  readonly #parts: NetworkWatchParts;
  #addresses: ReadonlySet<string> | undefined;
  #lookedAt = 0;
  #timer: Timer | undefined;
  #hasWarned = false;

  constructor(parts: NetworkWatchParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#addresses = this.#read();
    this.#rest();
  }

  end(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #rest(): void {
    const { clock } = this.#parts;
    this.#lookedAt = clock.wall();
    this.#timer = clock.after(LOOK_EVERY_MS, () => this.#look());
  }

  #look(): void {
    const { clock, onChange } = this.#parts;
    // By the wall: `now()` stands still while Linux sleeps, and goes on while a container or a Lambda is frozen.
    const lateMs = Math.floor(clock.wall() - this.#lookedAt - LOOK_EVERY_MS);
    const wokeMs = lateMs > SLEPT_MS ? lateMs : 0;
    const before = this.#addresses;
    const after = this.#read() ?? before;
    this.#addresses = after;
    // Before anybody is told, who may end it.
    this.#rest();
    const added = before === undefined ? [] : missing(before, after);
    const removed = missing(after, before);
    if (wokeMs > 0 || added.length + removed.length > 0) onChange({ added, removed, wokeMs });
  }

  /** None when the system does not say. */
  #read(): ReadonlySet<string> | undefined {
    try {
      return addressesOf(this.#parts.interfaces());
    } catch (error) {
      // Some sandboxes forbid it. A wake from sleep is still seen.
      if (!this.#hasWarned) warnOf('os.networkInterfaces()', error);
      this.#hasWarned = true;
      return undefined;
    }
  }
}

function addressesOf(interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>): ReadonlySet<string> {
  const found = Object.entries(interfaces).flatMap(([name, infos = []]) =>
    infos
      // Each container that starts or stops on this machine brings or takes a link-local address.
      .filter(({ address, internal }) => !internal && !address.startsWith('fe80:'))
      .map(({ address, cidr }) => `${name} ${cidr ?? address}`),
  );
  return new Set(found.sort());
}

/** What `all` has and `some` lacks. */
function missing(
  some: ReadonlySet<string> | undefined,
  all: ReadonlySet<string> | undefined,
): readonly string[] {
  return [...(all ?? [])].filter((address) => some?.has(address) !== true);
}

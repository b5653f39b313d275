/**
 * A network in memory: dials are scripted, and the test holds the server's end of every socket. Streams are
 * Node's own (`duplexPair`), so backpressure, FIN and destruction behave as on a socket.
 */

import type { NetworkInterfaceInfo } from 'node:os';
import { type Duplex, duplexPair } from 'node:stream';
import type { Surroundings } from '../../src/create-pool.ts';
import type { Lookup } from '../../src/resolve/lookup.ts';
import { DialError } from '../../src/transport/dial-error.ts';
import { VirtualClock } from './virtual-clock.ts';

/** How one dial ends. */
export type DialOutcome =
  | { readonly kind: 'open'; readonly afterMs?: number }
  | { readonly kind: 'refuse'; readonly afterMs?: number; readonly retryable?: boolean }
  /** Rejects with whatever a function of the user's might throw. */
  | { readonly kind: 'throw'; readonly error: unknown }
  | { readonly kind: 'hang' };

/** The server's end of one socket. */
export class FakePeer {
  readonly stream: Duplex;
  /** Where it was dialed: an address, or the path of a socket. */
  readonly address: string;
  /** Everything the client has written. */
  received = '';
  isEnded = false;
  /** Reads, but neither answers nor says goodbye, as a stopped process would. */
  isMute = false;
  readonly #client: Duplex;

  constructor(stream: Duplex, client: Duplex, address: string) {
    this.stream = stream;
    this.address = address;
    this.#client = client;
    stream.on('data', (chunk: Buffer) => {
      this.received += chunk.toString('latin1');
    });
    stream.on('end', () => {
      this.isEnded = true;
      if (!this.isMute) stream.end();
    });
    stream.on('error', () => undefined);
  }

  /** Whether the client's socket has been destroyed. */
  get isClientGone(): boolean {
    return this.#client.destroyed;
  }

  /** Sends bytes to the client. Like a network's, they arrive after the call that asked for them. */
  write(bytes: string | Uint8Array): void {
    process.nextTick(() => {
      if (!this.stream.writableEnded && !this.stream.destroyed) this.stream.write(bytes);
    });
  }

  /** Closes with a FIN. */
  fin(): void {
    process.nextTick(() => this.stream.end());
  }

  /** Breaks the connection as an RST would. */
  reset(): void {
    const error = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
    this.#client.destroy(error);
  }
}

/** Counts who keeps the process alive. */
export class CountingHold {
  count = 0;
  isEnded = false;

  take(): void {
    this.count += 1;
  }

  drop(): void {
    this.count -= 1;
  }

  end(): void {
    this.isEnded = true;
  }
}

/** Scripted dials and the sockets they opened. */
export class FakeNet {
  readonly clock: VirtualClock = new VirtualClock();
  readonly peers: FakePeer[] = [];
  #open: FakePeer[] = [];
  /** When each dial started, in virtual ms. */
  readonly dialedAt: number[] = [];
  /** Dials that have started and not ended. */
  dialing = 0;
  /** What the next dials do, in order; afterwards `outcome`. */
  script: DialOutcome[] = [];
  outcome: DialOutcome = { kind: 'open' };
  /** The same for dials to one address, which is asked first. */
  readonly outcomes: Map<string, DialOutcome> = new Map();
  /** Where each dial went, as `dialedAt`. */
  readonly dialedTo: string[] = [];
  /** The addresses of every name, unless `lookups` says otherwise. */
  addresses: readonly string[] = ['192.0.2.1'];
  /** What names are resolved by. */
  lookups: readonly Lookup[] = [fakeLookup(async () => this.addresses)];
  /** The network of the machine. */
  localAddress = '198.51.100.7';
  interfaces: NodeJS.Dict<NetworkInterfaceInfo[]> = {};
  /** Called for each new server end, before the client may use it. */
  onPeer: (peer: FakePeer) => void = () => undefined;
  random: () => number = () => 0.5;
  /** Of the newest pool. */
  hold: CountingHold = new CountingHold();

  /** For `createPoolIn`. */
  get surroundings(): Surroundings {
    return {
      clock: this.clock,
      random: () => this.random(),
      makeHold: () => {
        this.hold = new CountingHold();
        return this.hold;
      },
      makeLookups: () => this.lookups,
      interfaces: () => this.interfaces,
      dial: async (options, clock, signal, adopt) => {
        const at = options.address ?? (options.endpoint.kind === 'unix' ? options.endpoint.path : '');
        this.dialedAt.push(clock.now());
        this.dialedTo.push(at);
        const outcome = this.outcomes.get(at) ?? this.script.shift() ?? this.outcome;
        this.dialing += 1;
        try {
          const afterMs =
            outcome.kind === 'hang'
              ? Number.POSITIVE_INFINITY
              : outcome.kind === 'throw'
                ? 0
                : (outcome.afterMs ?? 0);
          if (afterMs > 0) await this.#delay(afterMs, signal);
          signal.throwIfAborted();
        } finally {
          this.dialing -= 1;
        }
        if (outcome.kind === 'throw') throw outcome.error;
        if (outcome.kind !== 'open')
          throw refusal(outcome.kind === 'refuse' ? (outcome.retryable ?? true) : true);
        const [client, server] = duplexPair({ allowHalfOpen: false });
        // The server says goodbye when it wants to: a stopped one does not.
        server.allowHalfOpen = true;
        const peer = new FakePeer(server, client, at);
        this.peers.push(peer);
        this.#open.push(peer);
        this.onPeer(peer);
        return adopt(Object.assign(client, { localAddress: this.localAddress }));
      },
    };
  }

  /** The newest server end. */
  get lastPeer(): FakePeer {
    const peer = this.peers.at(-1);
    if (peer === undefined) throw new Error('nothing was dialed yet');
    return peer;
  }

  /** Server ends whose client socket is still there. */
  get openPeers(): readonly FakePeer[] {
    if (this.#open.some((peer) => peer.isClientGone))
      this.#open = this.#open.filter((peer) => !peer.isClientGone);
    return this.#open;
  }

  get openSockets(): number {
    return this.openPeers.length;
  }

  #delay(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        timer.cancel();
        reject(signal.reason);
      };
      const timer = this.clock.after(ms, () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      });
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}

function refusal(retryable: boolean): DialError {
  return new DialError('ERR_REFUSED', 'Could not connect to fake:1: the connection was refused.', {
    phase: 'tcp',
    endpoint: 'fake:1',
    retryable,
    hint: 'This is a test.',
  });
}

/** A resolver whose answers a test gives; it has no services. */
export function fakeLookup(answer: (host: string) => Promise<readonly string[]>): Lookup {
  return {
    name: 'fake',
    addresses: async (host) => ({
      addresses: (await answer(host)).map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
      ttlMs: undefined,
    }),
    services: () => Promise.reject(new Error('no services')),
  };
}

/** Makes a peer answer each line with `Echo: <line>`, and `PING` with `PONG`, unless it is mute. */
export function echoLines(peer: FakePeer): void {
  let pending = '';
  peer.stream.on('data', (chunk: Buffer) => {
    pending += chunk.toString('latin1');
    for (let end = pending.indexOf('\n'); end >= 0; end = pending.indexOf('\n')) {
      const line = pending.slice(0, end);
      pending = pending.slice(end + 1);
      if (!peer.isMute) peer.write(line === 'PING' ? 'PONG\n' : `Echo: ${line}\n`);
    }
  });
}

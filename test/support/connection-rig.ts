/**
 * One connection on a bench: a socket in memory, a clock that stands still, an owner that writes down what it
 * is told, and a hold that counts.
 */
import { Duplex, duplexPair } from 'node:stream';
import type { ProcessHold } from '../../src/clock.ts';
import type { PulsepoolError } from '../../src/errors.ts';
import type { CloseReason } from '../../src/transport/close-reason.ts';
import type { Codec } from '../../src/transport/codec.ts';
import { Connection, type ConnectionOwner, type ConnectionProfile } from '../../src/transport/connection.ts';
import { lines } from '../../src/transport/lines.ts';
import { FakePeer } from './fake-net.ts';
import { VirtualClock } from './virtual-clock.ts';

/** Counts, and refuses to be dropped more often than taken. */
class CountingHold implements ProcessHold {
  count = 0;
  takes = 0;

  take(): void {
    this.count += 1;
    this.takes += 1;
  }

  drop(): void {
    if (this.count === 0) throw new Error('dropped more often than taken');
    this.count -= 1;
  }
}

/** Writes down what a connection tells. */
class RecordingOwner implements ConnectionOwner {
  readonly told: string[] = [];
  error: PulsepoolError | undefined;
  pongs = 0;
  onEndingToo: () => void = () => undefined;

  onPong(): void {
    this.pongs += 1;
    this.told.push('pong');
  }

  onEnding(reason: CloseReason, error: PulsepoolError | undefined): void {
    this.error = error;
    this.told.push(`ending: ${reason}`);
    this.onEndingToo();
  }

  onClosed(): void {
    this.told.push('closed');
  }
}

export interface Rig<In, Out> {
  readonly connection: Connection<In, Out>;
  readonly peer: FakePeer;
  readonly socket: Duplex;
  readonly clock: VirtualClock;
  readonly hold: CountingHold;
  readonly owner: RecordingOwner;
}

/** A connection with any codec, on a pair of streams or on a socket of the test's own. */
export function rigWith<In, Out>(
  codec: Codec<In, Out>,
  profile: Partial<ConnectionProfile<In, Out>> = {},
  ownSocket?: Duplex,
): Rig<In, Out> {
  const [client, server] = duplexPair({ allowHalfOpen: false });
  const clock = new VirtualClock();
  const hold = new CountingHold();
  const owner = new RecordingOwner();
  const peer = new FakePeer(server, client, 'fake');
  const socket = ownSocket ?? client;
  const connection = new Connection<In, Out>(
    7,
    socket,
    codec,
    {
      endpoint: 'fake:1',
      readTimeoutMs: 60_000,
      writeTimeoutMs: 30_000,
      frameTimeoutMs: 20_000,
      probe: undefined,
      answer: undefined,
      clock,
      hold,
      ...profile,
    },
    owner,
  );
  return { connection, peer, socket, clock, hold, owner };
}

/** A connection that speaks lines; `PING` is answered by `PONG`. */
export function rigOfLines(
  profile: Partial<ConnectionProfile<string, string>> = {},
  codec: Codec<string, string> = lines(),
): Rig<string, string> {
  const probe = { ping: 'PING', isPong: (frame: string) => frame === 'PONG' };
  return rigWith(codec, { probe, ...profile });
}

/** For servers that ping: `SRV n` is answered by `ACK n`. */
export function answerServerPings(frame: string): string | undefined {
  return frame.startsWith('SRV') ? frame.replace('SRV', 'ACK') : undefined;
}

/**
 * A lines codec that keeps incomplete lines inside itself, as a push parser does, and says so by `isIdle`.
 */
export function pushParser(): Codec<string, string> {
  let kept = '';
  const whole: string[] = [];
  return {
    encode: (message) => Buffer.from(`${message}\n`),
    decode(bytes) {
      kept += bytes.takeAll().toString('latin1');
      for (let end = kept.indexOf('\n'); end >= 0; end = kept.indexOf('\n')) {
        whole.push(kept.slice(0, end));
        kept = kept.slice(end + 1);
      }
      return whole.shift();
    },
    isIdle: () => kept === '' && whole.length === 0,
  };
}

/** What a promise came to, without waiting for it. */
export type Outcome<T> =
  | { readonly state: 'pending' }
  | { readonly state: 'resolved'; readonly value: T }
  | { readonly state: 'rejected'; readonly reason: unknown };

/** Watches a promise; a rejection is taken as seen. */
export function watched<T>(promise: Promise<T>): { outcome: Outcome<T> } {
  const seen: { outcome: Outcome<T> } = { outcome: { state: 'pending' } };
  promise.then(
    (value) => {
      seen.outcome = { state: 'resolved', value };
    },
    (reason: unknown) => {
      seen.outcome = { state: 'rejected', reason };
    },
  );
  return seen;
}

/** The reason a promise was rejected with. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (reason) {
    return reason;
  }
  throw new Error('it was expected to reject');
}

/** A socket whose writes leave only when the test says so, and which writes down how they came. */
export class ManualSocket extends Duplex {
  /** Each write or gathered write, as its pieces. */
  readonly writes: Buffer[][] = [];
  readonly #waiting: (() => void)[] = [];

  constructor() {
    super({ allowHalfOpen: false, writableHighWaterMark: 16 * 1024 });
  }

  override _read(): void {
    // Bytes come by push() alone.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.writes.push([chunk]);
    this.#waiting.push(callback);
  }

  override _writev(chunks: { chunk: Buffer }[], callback: () => void): void {
    this.writes.push(chunks.map(({ chunk }) => chunk));
    this.#waiting.push(callback);
  }

  /** How many bytes have been handed to the kernel or wait for it. */
  get writtenBytes(): number {
    return this.writes.flat().reduce((sum, { length }) => sum + length, 0);
  }

  /** The kernel takes the oldest write. Returns whether there was one. */
  takeOne(): boolean {
    const callback = this.#waiting.shift();
    callback?.();
    return callback !== undefined;
  }
}

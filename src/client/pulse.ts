/**
 * The heartbeat of one subscription's socket, which the pool does not ping since it is leased: a ping when nothing was
 * read for an interval, and which frame answers it. When to ping, and what silence means, is the heartbeat's business.
 */
import type { Beat, Heartbeat, HeartbeatTarget } from '../heartbeat/heartbeat.ts';
import type { Lease } from '../pool/lease.ts';
import { unansweredError } from '../pool/pinger.ts';
import type { Connection } from '../transport/connection.ts';
import { asFrameError, isAsync } from '../transport/stream-fault.ts';

/** What pulses are made of. */
export interface PulseParts<In, Out> {
  readonly heartbeat: Heartbeat;
  readonly probe: { readonly ping: In; readonly isPong: (frame: Out) => boolean };
  readonly endpoint: string;
  /** A ping was not answered in time. */
  readonly onMissed: () => void;
}

// Its answer does not count as a reply: the lease is never given back.
const NO_REPLY = { replies: 0 };

/** See the file's comment. */
export class Pulse<In, Out> implements HeartbeatTarget {
  readonly #parts: PulseParts<In, Out>;
  readonly #lease: Lease<In, Out>;
  readonly #connection: Connection<In, Out>;
  readonly #beat: Beat;
  #pongsDue = 0;
  /** A handler has a frame: it may take as long as it likes, and the pong would wait behind others. */
  isBusy = false;

  constructor(parts: PulseParts<In, Out>, lease: Lease<In, Out>, connection: Connection<In, Out>) {
    this.#parts = parts;
    this.#lease = lease;
    this.#connection = connection;
    this.#beat = parts.heartbeat.watch(this);
  }

  get lastReadAt(): number {
    return this.#connection.lastReadAt;
  }

  ping(): boolean {
    if (this.isBusy) return false;
    this.#pongsDue += 1;
    this.#lease.send(this.#parts.probe.ping, NO_REPLY).catch((error: unknown) => {
      // Does nothing when it is the end of the connection that is told here.
      this.#connection.destroy('protocol', asFrameError(error, 'bad-message'));
    });
    return true;
  }

  onMissed(): void {
    // The next one decides, at the expense of what requests may repeat. The pool tells of its own sockets; of this one
    // the subscriber is told when it is lost.
    this.#parts.onMissed();
  }

  onDead(missed: number): void {
    this.#connection.destroy('heartbeat', unansweredError(this.#parts.endpoint, missed));
  }

  /** A frame has come: it is life, whatever it says. Returns whether it is a pong that was waited for. */
  heard(frame: Out): boolean {
    if (this.#beat.phase !== 'quiet') this.#parts.heartbeat.answered(this.#beat);
    if (this.#pongsDue === 0) return false;
    const isPong: unknown = this.#parts.probe.isPong(frame);
    if (isPong instanceof Promise) throw isAsync('heartbeat.isPong', isPong);
    if (!isPong) return false;
    this.#pongsDue -= 1;
    return true;
  }

  end(): void {
    this.#parts.heartbeat.unwatch(this.#beat);
  }
}

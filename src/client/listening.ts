/**
 * One socket of a subscription, from its lease to its loss: the messages go out, and the frames that come are handed to
 * the handler, one after the other. What follows from the loss is the subscription's business.
 *
 * Frames are pulled with `receive()`, not pushed to a sink: so the connection's inbox pauses the socket by itself while a
 * handler takes its time. What a sink would do better, to see a pong behind frames that wait, is not needed: while frames
 * wait nothing is pinged, and each of them is life.
 */
import { PulsepoolError } from '../errors.ts';
import type { Lease } from '../pool/lease.ts';
import { asFrameError } from '../transport/stream-fault.ts';
import { warnOf } from '../warning.ts';
import { Pulse, type PulseParts } from './pulse.ts';

/** Who listens. */
export interface ListeningOwner<Out> {
  readonly onFrame: (frame: Out) => unknown;
  /** All messages have been taken by the system, or the socket takes more. */
  readonly onReady: () => void;
}

// No reply completes an exchange: the lease is never given back.
const UNKNOWN = { replies: Number.POSITIVE_INFINITY };

/** See the file's comment. */
export class Listening<In, Out> {
  readonly #lease: Lease<In, Out>;
  readonly #pulse: Pulse<In, Out> | undefined;
  readonly #owner: ListeningOwner<Out>;
  #failure: PulsepoolError | undefined;

  /** Nothing is pinged without `pulse`. */
  constructor(lease: Lease<In, Out>, pulse: PulseParts<In, Out> | undefined, owner: ListeningOwner<Out>) {
    this.#lease = lease;
    this.#owner = owner;
    const connection = lease.keep();
    // Nothing is due: there may be no news.
    lease.expectReply(false);
    this.#pulse = pulse === undefined ? undefined : new Pulse(pulse, lease, connection);
  }

  /** Sends the messages and reads until the socket is lost, or `end()` was called. Resolves to the reason. */
  async run(messages: readonly In[]): Promise<PulsepoolError> {
    // All at once, beside the reading: a server may say much before it reads on.
    Promise.all(messages.map((message) => this.#lease.send(message, UNKNOWN))).then(
      () => {
        if (this.#lease.isUsable) this.#owner.onReady();
      },
      (error: unknown) => {
        // When the connection has ended, reading tells, after the frames that came before.
        if (this.#lease.isUsable) this.#fail(error);
      },
    );
    try {
      while (true) await this.#take(await this.#lease.receive());
    } catch (error) {
      return this.#fail(error);
    } finally {
      this.#pulse?.end();
    }
  }

  /** Ends the socket. The handler is called no more. */
  end(): void {
    this.#lease.destroy();
  }

  async #take(frame: Out): Promise<void> {
    // Ended while it was on its way.
    if (!this.#lease.isHeld || this.#pulse?.heard(frame) === true) return;
    if (this.#pulse !== undefined) this.#pulse.isBusy = true;
    await guarded('The handler of a subscription', () => this.#owner.onFrame(frame));
    if (this.#pulse !== undefined) this.#pulse.isBusy = false;
  }

  /** The first cause is told; the others are its consequences. */
  #fail(error: unknown): PulsepoolError {
    this.#failure ??= asPulsepoolError(error);
    this.#lease.destroy();
    return this.#failure;
  }
}

/** Calls a function of the user's, and waits for it. What it throws is reported, and harms nothing else. */
export async function guarded(what: string, call: () => unknown): Promise<void> {
  try {
    await call();
  } catch (error) {
    warnOf(what, error);
  }
}

/** All that is not ours comes from a codec or a heartbeat function. */
export function asPulsepoolError(error: unknown): PulsepoolError {
  return error instanceof PulsepoolError ? error : asFrameError(error, 'codec-threw');
}

/**
 * What one stream sends on one lease: its first message at once, the others as fast as the server takes them and the
 * source gives them. How much of all that has left is known here; what comes back is the stream's business.
 */
import type { Clock } from '../clock.ts';
import { moreSent, PulsepoolError, type Sent } from '../errors.ts';
import type { Lease } from '../pool/lease.ts';
import type { Source } from './source.ts';

// Nobody knows how many frames answer a stream before the last one.
const UNKNOWN = { replies: Number.POSITIVE_INFINITY };
const DONE: Promise<void> = Promise.resolve();
// As long as neither the source nor the socket has anybody wait, nothing else in the process gets a turn. After so many
// messages it does.
const MESSAGES_PER_TURN = 100;

/** See the file's comment. */
export class Outflow<In, Out> {
  readonly #source: Source<In>;
  readonly #lease: Lease<In, Out>;
  readonly #clock: Clock;
  readonly #onFailed: (error: unknown) => void;
  #posted = 0;
  #isAllPosted = false;
  #isUntouched = true;

  /** `onFailed`: the source threw, or gave what can't be sent. The end of the connection is not told: reading tells. */
  constructor(source: Source<In>, lease: Lease<In, Out>, clock: Clock, onFailed: (error: unknown) => void) {
    this.#source = source;
    this.#lease = lease;
    this.#clock = clock;
    this.#onFailed = onFailed;
  }

  /** Whether the lease is as it was: nothing was sent, and no frame is to be read. */
  get isUntouched(): boolean {
    return this.#isUntouched;
  }

  /** Whether the source has no more, and the lease has everything. */
  get isAllPosted(): boolean {
    return this.#isAllPosted;
  }

  /** Of all messages, as far as that is known without asking the socket. */
  get sent(): Sent {
    return this.#posted === 0 ? 'none' : 'maybe';
  }

  /**
   * Sends the first message, and goes on with the others.
   *
   * @throws FrameError, ConnectionError when that can be told at once, before anything is read.
   */
  async start(first: IteratorResult<In, undefined>): Promise<void> {
    this.#isAllPosted = this.#source.isSingle || first.done === true;
    // While there is more to be sent the server need not say anything.
    this.#lease.expectReply(this.#isAllPosted);
    this.#isUntouched = false;
    if (first.done === true) return;
    this.#posted = 1;
    const sending = this.#lease.send(first.value, UNKNOWN);
    try {
      // A promise that is rejected already wins this race, and one that waits for the server loses it.
      await Promise.race([sending, DONE]);
    } catch (error) {
      this.#posted = 0;
      this.#isUntouched = true;
      throw error;
    }
    void this.#goOn(sending);
  }

  /** What the lease tells of its newest message, told of all of them. */
  explain(error: unknown): unknown {
    if (!(error instanceof PulsepoolError)) return error;
    if (this.#posted > 1) error.sent = moreSent(error.sent, 'maybe');
    if (!this.#isAllPosted && error.sent === 'full') error.sent = 'maybe';
    return error;
  }

  async #goOn(first: Promise<void>): Promise<void> {
    for (let sending = first; ; ) {
      try {
        await sending;
      } catch (error) {
        // Frames may have come before the connection ended: who reads them is told of its end, too.
        if (this.#lease.isUsable) this.#onFailed(this.explain(error));
        return;
      }
      if (this.#isAllPosted) return;
      if (this.#posted % MESSAGES_PER_TURN === 0) {
        await new Promise<void>((resolve) => this.#clock.turn(resolve));
      }
      let next: IteratorResult<In, undefined>;
      try {
        next = await this.#source.next();
      } catch (error) {
        this.#onFailed(error);
        return;
      }
      // The stream was left, or its connection ended.
      if (!this.#lease.isUsable) return;
      if (next.done === true) {
        this.#isAllPosted = true;
        this.#lease.expectReply(true);
        return;
      }
      this.#posted += 1;
      sending = this.#lease.send(next.value, UNKNOWN);
    }
  }
}

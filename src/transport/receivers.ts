/**
 * The receivers of one connection: the calls that wait for a frame, first come first served. While there are
 * any, they hold the process. Why one of them is given up is decided elsewhere.
 */
import type { ProcessHold } from '../clock.ts';
import type { WriteMark } from './writer.ts';

/** What an error about one call is told from. */
export interface Call {
  /** Where its message stands in the stream of writes; `undefined` when it sent none. */
  readonly mark: WriteMark | undefined;
  /** How many reads the connection had seen when the message was written. */
  readonly readsBefore: number;
}

/** A call that waits for a frame. */
export interface Receiver<Out> extends Call {
  readonly resolve: (frame: Out) => void;
  readonly reject: (reason: unknown) => void;
  readonly signal: AbortSignal | undefined;
  /** Undoes the signal's listener and the call's own timer; `undefined` once that is done. */
  release: (() => void) | undefined;
  /** Who came after it; see {@link Receivers}. */
  next: Receiver<Out> | undefined;
}

/** See the file's comment. Invariant: the hold is taken once while `size` is above zero. */
export class Receivers<Out> {
  readonly #hold: ProcessHold;
  #first: Receiver<Out> | undefined;
  #last: Receiver<Out> | undefined;
  #size = 0;

  constructor(hold: ProcessHold) {
    this.#hold = hold;
  }

  /** Who waits longest. */
  get first(): Receiver<Out> | undefined {
    return this.#first;
  }

  get size(): number {
    return this.#size;
  }

  /** Lets one more wait, behind all others. */
  add(receiver: Receiver<Out>): void {
    if (this.#last === undefined) {
      this.#first = receiver;
      this.#hold.take();
    } else {
      this.#last.next = receiver;
    }
    this.#last = receiver;
    this.#size += 1;
  }

  /** Takes away one that may stand anywhere. Does nothing when it waits no longer. */
  remove(receiver: Receiver<Out>): void {
    let previous: Receiver<Out> | undefined;
    let current = this.#first;
    while (current !== undefined && current !== receiver) {
      previous = current;
      current = current.next;
    }
    if (current === undefined) return;
    if (previous === undefined) this.#first = current.next;
    else previous.next = current.next;
    if (this.#last === current) this.#last = previous;
    this.#left(current, this.#size - 1);
  }

  /** Takes away the first one and gives it the frame. */
  resolveFirst(frame: Out): void {
    const receiver = this.#first;
    if (receiver === undefined) throw new Error('bug: a frame was given to nobody');
    this.#first = receiver.next;
    if (receiver.next === undefined) this.#last = undefined;
    this.#left(receiver, this.#size - 1);
    receiver.resolve(frame);
  }

  /** Takes away and rejects everybody, each with a reason of its own. */
  rejectAll(reason: (receiver: Receiver<Out>) => unknown): void {
    let receiver = this.#first;
    if (receiver === undefined) return;
    this.#first = undefined;
    this.#last = undefined;
    this.#size = 0;
    this.#hold.drop();
    for (; receiver !== undefined; receiver = receiver.next) {
      receiver.release?.();
      receiver.reject(reason(receiver));
    }
  }

  #left(receiver: Receiver<Out>, size: number): void {
    this.#size = size;
    if (size === 0) this.#hold.drop();
    receiver.release?.();
  }
}

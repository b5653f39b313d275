/**
 * The calls whose replies are due on one socket, and which reply is whose: by its place, or by an id that a hook of
 * the user's writes and reads.
 */
import { isAsync } from '../transport/stream-fault.ts';
import type { Call } from './call.ts';

/** How ids get into messages and out of frames. */
export interface Correlate<In, Out> {
  /** The message with this id in it: 1, 2, 3 … on each socket. */
  readonly write: (message: In, id: number) => In;
  /** The id of the message that a frame answers. */
  readonly read: (frame: Out) => number | undefined;
}

/** See the file's comment. */
export interface Flights<In, Out> {
  readonly size: number;
  /** The message of a call as it goes out on this socket. */
  prepare(call: Call<In, Out>): In;
  /** Its message goes out now, behind all others. */
  add(call: Call<In, Out>): void;
  /** Whose reply this is; `undefined`: nobody's. */
  of(frame: Out): Call<In, Out> | undefined;
  /** The reply of that call, which `of` has just found, has come. */
  landed(call: Call<In, Out>): void;
  /** Takes all of them off. `mayHaveBegun`: whether the reply may have begun to come, if part of a frame has. */
  clear(each: (call: Call<In, Out>, mayHaveBegun: boolean) => void): void;
}

/** Replies come in the order of the messages. */
export class InOrder<In, Out> implements Flights<In, Out> {
  #first: Call<In, Out> | undefined;
  #last: Call<In, Out> | undefined;
  size = 0;

  prepare(call: Call<In, Out>): In {
    return call.message;
  }

  add(call: Call<In, Out>): void {
    if (this.#last === undefined) this.#first = call;
    else this.#last.behind = call;
    this.#last = call;
    this.size += 1;
  }

  of(): Call<In, Out> | undefined {
    return this.#first;
  }

  landed(call: Call<In, Out>): void {
    this.#first = call.behind;
    if (call.behind === undefined) this.#last = undefined;
    else call.behind = undefined;
    this.size -= 1;
  }

  clear(each: (call: Call<In, Out>, mayHaveBegun: boolean) => void): void {
    let call = this.#first;
    let isFirst = true;
    this.#first = undefined;
    this.#last = undefined;
    this.size = 0;
    while (call !== undefined) {
      const { behind } = call;
      // It may be sent again, on another socket, before this returns.
      call.behind = undefined;
      each(call, isFirst);
      isFirst = false;
      call = behind;
    }
  }
}

/** Replies come in any order, each with the id of its message. An id is used once on a socket. */
export class ById<In, Out> implements Flights<In, Out> {
  readonly #correlate: Correlate<In, Out>;
  readonly #calls: Map<number, Call<In, Out>> = new Map();
  #lastId = 0;

  constructor(correlate: Correlate<In, Out>) {
    this.#correlate = correlate;
  }

  get size(): number {
    return this.#calls.size;
  }

  prepare(call: Call<In, Out>): In {
    this.#lastId += 1;
    call.id = this.#lastId;
    return this.#correlate.write(call.message, call.id);
  }

  add(call: Call<In, Out>): void {
    this.#calls.set(call.id, call);
  }

  of(frame: Out): Call<In, Out> | undefined {
    const id: unknown = this.#correlate.read(frame);
    if (id instanceof Promise) throw isAsync('correlate.read', id);
    return typeof id === 'number' ? this.#calls.get(id) : undefined;
  }

  landed(call: Call<In, Out>): void {
    this.#calls.delete(call.id);
  }

  clear(each: (call: Call<In, Out>, mayHaveBegun: boolean) => void): void {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) each(call, true);
  }
}

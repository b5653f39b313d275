/**
 * The calls whose replies are due on one socket, and which reply is whose: by its place, or by an id that a hook of
 * the user's writes and reads. How many there may be is the carrier's business.
 */
import { isAsync } from '../transport/stream-fault.ts';
import type { Call } from './call.ts';

/** How ids get into messages and out of frames. */
export interface Correlate<In, Out> {
  /**
   * The message with this id in it: 1, 2, 3 … over all sockets of the client, so that a reply that comes twice, or too
   * late, finds nobody.
   */
  readonly write: (message: In, id: number) => In;
  /** The id of the message that a frame answers. */
  readonly read: (frame: Out) => number | undefined;
  /**
   * The largest id that the protocol has room for, such as 65,535 for 16 bits as in MQTT: after it they begin at 1 again,
   * and those that are still in flight on the socket are passed over. `maxInFlight` may not exceed it. Default:
   * `Number.MAX_SAFE_INTEGER`.
   */
  readonly maxId?: number | undefined;
}

/** The ids of one client. */
export class Ids {
  readonly #max: number;
  #last = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** The next one, which is not the next one of any other socket. */
  next(): number {
    this.#last = this.#last >= this.#max ? 1 : this.#last + 1;
    return this.#last;
  }
}

/** See the file's comment. */
export interface Flights<In, Out> {
  /** Calls whose messages have gone out. */
  readonly size: number;
  /** Of these, the one that went out first. */
  readonly oldest: Call<In, Out> | undefined;
  /** The message of a call as it goes out on this socket. */
  prepare(call: Call<In, Out>): In;
  /** What was prepared does not go out. */
  drop(call: Call<In, Out>): void;
  /** Its message goes out now, behind all others. */
  add(call: Call<In, Out>): void;
  /** Whose reply this is; `undefined`: nobody's. */
  of(frame: Out): Call<In, Out> | undefined;
  /** The reply of that call, which `of` has just found, has come. */
  landed(call: Call<In, Out>): void;
  /** Takes all of them off. */
  clear(each: (call: Call<In, Out>) => void): void;
}

/** Replies come in the order of the messages. */
export class InOrder<In, Out> implements Flights<In, Out> {
  #first: Call<In, Out> | undefined;
  #last: Call<In, Out> | undefined;
  size = 0;

  get oldest(): Call<In, Out> | undefined {
    return this.#first;
  }

  prepare(call: Call<In, Out>): In {
    return call.message;
  }

  drop(): void {
    // Nothing is kept of what has not gone out.
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

  clear(each: (call: Call<In, Out>) => void): void {
    let call = this.#first;
    this.#first = undefined;
    this.#last = undefined;
    this.size = 0;
    while (call !== undefined) {
      const { behind } = call;
      // It may be sent again, on another socket, before this returns.
      call.behind = undefined;
      each(call);
      call = behind;
    }
  }
}

/** Replies come in any order, each with the id of its message. */
export class ById<In, Out> implements Flights<In, Out> {
  readonly #correlate: Correlate<In, Out>;
  readonly #ids: Ids;
  // Those that have not gone out yet included: their ids are taken.
  readonly #calls: Map<number, Call<In, Out>> = new Map();
  size = 0;

  constructor(correlate: Correlate<In, Out>, ids: Ids) {
    this.#correlate = correlate;
    this.#ids = ids;
  }

  get oldest(): Call<In, Out> | undefined {
    return this.#calls.values().next().value;
  }

  prepare(call: Call<In, Out>): In {
    do call.id = this.#ids.next();
    while (this.#calls.has(call.id));
    this.#calls.set(call.id, call);
    const message: unknown = this.#correlate.write(call.message, call.id);
    if (message instanceof Promise) throw isAsync('correlate.write', message);
    return message as In;
  }

  drop(call: Call<In, Out>): void {
    this.#calls.delete(call.id);
  }

  add(): void {
    this.size += 1;
  }

  of(frame: Out): Call<In, Out> | undefined {
    const id: unknown = this.#correlate.read(frame);
    if (id instanceof Promise) throw isAsync('correlate.read', id);
    return typeof id === 'number' ? this.#calls.get(id) : undefined;
  }

  landed(call: Call<In, Out>): void {
    this.#calls.delete(call.id);
    this.size -= 1;
  }

  clear(each: (call: Call<In, Out>) => void): void {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    this.size = 0;
    for (const call of calls) each(call);
  }
}

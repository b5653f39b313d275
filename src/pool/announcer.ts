/**
 * Tells listeners what happened. Nothing is built when nobody listens.
 *
 * A listener is called after the step that it hears of, never in the middle of it, in the order of the facts. What
 * concerns a lease is told in the async context of the caller who asked for it, everything else in that in which the
 * pool was made. A listener may call the pool; if it throws, or returns a promise that rejects, that is reported as a
 * process warning and harms nobody.
 */

import { AsyncResource } from 'node:async_hooks';
import { EventEmitter } from 'eventemitter3';
import type { PoolEvents } from '../events.ts';
import { warnOf } from '../warning.ts';
import type { Trace } from './trace.ts';

type Payload<Listener> = Listener extends (payload: infer Event) => void ? Event : never;
type Guard = (payload: unknown) => void;

/** See the file's comment. */
export class Announcer<Events extends { [Event in keyof Events]: (payload: never) => void } = PoolEvents> {
  readonly #emitter: EventEmitter = new EventEmitter();
  // One guard for each event and listener, so that off() finds it again.
  readonly #guards: Map<keyof Events, WeakMap<object, Guard>> = new Map();
  readonly #context: AsyncResource = new AsyncResource('pulsepool.events');
  #outbox: (readonly [keyof Events & string, unknown, Trace | undefined])[] = [];
  // Nobody ever listened: the usual case, and the cheapest question.
  #wasHeard = false;

  on<Event extends keyof Events & string>(event: Event, listener: Events[Event]): void {
    this.#wasHeard = true;
    this.#emitter.on(event, this.#guard(event, listener));
  }

  once<Event extends keyof Events & string>(event: Event, listener: Events[Event]): void {
    this.#wasHeard = true;
    this.#emitter.once(event, this.#guard(event, listener));
  }

  off<Event extends keyof Events & string>(event: Event, listener: Events[Event]): void {
    const guard = this.#guards.get(event)?.get(listener);
    // Without a function, eventemitter3 would remove every listener of the event.
    if (guard !== undefined) this.#emitter.off(event, guard);
  }

  /** Whether anybody listens. */
  hears(event: keyof Events & string): boolean {
    return this.#wasHeard && this.#emitter.listenerCount(event) > 0;
  }

  /** Tells everybody, soon. `build` is called now, if anybody listens. `trace`: whose context to tell it in. */
  tell<Event extends keyof Events & string>(
    event: Event,
    build: () => Payload<Events[Event]>,
    trace?: Trace | undefined,
  ): void {
    if (!this.hears(event)) return;
    this.#outbox.push([event, build(), trace]);
    if (this.#outbox.length > 1) return;
    void Promise.resolve().then(() => this.#deliver());
  }

  /** Tells what is still untold, and forgets every listener. */
  end(): void {
    this.#deliver();
    this.#emitter.removeAllListeners();
  }

  #deliver(): void {
    const outbox = this.#outbox;
    this.#outbox = [];
    this.#context.runInAsyncScope(() => {
      for (const [event, payload, trace] of outbox) {
        if (trace === undefined) this.#emitter.emit(event, payload);
        else trace.run(() => this.#emitter.emit(event, payload));
      }
    });
  }

  #guard<Event extends keyof Events & string>(event: Event, listener: Events[Event]): Guard {
    if (typeof listener !== 'function') throw new TypeError(`The listener of '${event}' must be a function`);
    let guards = this.#guards.get(event);
    if (guards === undefined) {
      guards = new WeakMap();
      this.#guards.set(event, guards);
    }
    let guard = guards.get(listener);
    if (guard === undefined) {
      const call = listener as unknown as (payload: unknown) => unknown;
      const what = `A listener of '${event}'`;
      guard = (payload) => {
        try {
          const result = call(payload);
          if (result instanceof Promise) result.catch((error: unknown) => warnOf(what, error));
        } catch (error) {
          warnOf(what, error);
        }
      };
      guards.set(listener, guard);
    }
    return guard;
  }
}

/**
 * Tells listeners what happened. A listener that throws is reported as a process warning and can harm nothing
 * of the pool's; nothing is built when nobody listens.
 */
import { EventEmitter } from 'eventemitter3';
import type { PoolEvents } from '../events.ts';

type Payload<Event extends keyof PoolEvents> = Parameters<PoolEvents[Event]>[0];

/** The pool's events. */
export class Announcer {
  readonly #emitter: EventEmitter = new EventEmitter();
  // Nobody ever listened: the usual case, and the cheapest question.
  #wasHeard = false;

  on<Event extends keyof PoolEvents>(event: Event, listener: PoolEvents[Event]): void {
    this.#wasHeard = true;
    this.#emitter.on(event, listener);
  }

  once<Event extends keyof PoolEvents>(event: Event, listener: PoolEvents[Event]): void {
    this.#wasHeard = true;
    this.#emitter.once(event, listener);
  }

  off<Event extends keyof PoolEvents>(event: Event, listener: PoolEvents[Event]): void {
    // A listener added by once() is removed too; eventemitter3 compares the function itself.
    this.#emitter.off(event, listener);
  }

  /** Whether anybody listens: ask before building a payload. */
  hears(event: keyof PoolEvents): boolean {
    return this.#wasHeard && this.#emitter.listenerCount(event) > 0;
  }

  /** Tells everybody. Call it last: a listener may call the pool again. */
  tell<Event extends keyof PoolEvents>(event: Event, payload: Payload<Event>): void {
    try {
      this.#emitter.emit(event, payload);
    } catch (error) {
      const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
      process.emitWarning(`A listener of '${event}' threw: ${what}`, 'PulsepoolWarning');
    }
  }

  /** Forgets every listener. */
  end(): void {
    this.#emitter.removeAllListeners();
  }
}

/**
 * All subscriptions of a client that have not ended, and the heartbeat that they share.
 */
import type { Clock, RandomSource } from '../clock.ts';
import { Heartbeat, type HeartbeatSettings } from '../heartbeat/heartbeat.ts';
import type { RetryBudget } from '../retry/budget.ts';
import type { PulseParts } from './pulse.ts';
import { type SubscribeOptions, Subscription, type SubscriptionParts } from './subscription.ts';

/** What they are made of. */
export interface SubscriptionsParts<In, Out> extends Omit<SubscriptionParts<In, Out>, 'pulse'> {
  /** Nothing is pinged without it. */
  readonly probe: PulseParts<In, Out>['probe'] | undefined;
  readonly heartbeat: HeartbeatSettings;
  /** Shared with requests. */
  readonly budget: RetryBudget;
  readonly clock: Clock;
  readonly random: RandomSource;
}

/** See the file's comment. */
export class Subscriptions<In, Out> {
  readonly #parts: SubscriptionParts<In, Out>;
  readonly #heartbeat: Heartbeat;
  readonly #open: Set<Subscription<In, Out>> = new Set();

  constructor(parts: SubscriptionsParts<In, Out>) {
    const { budget, clock, endpoint, probe, random } = parts;
    // That our own loop was blocked is told by the pool, which notices it as well.
    this.#heartbeat = new Heartbeat(parts.heartbeat, clock, random, () => undefined);
    const pulse =
      probe === undefined
        ? undefined
        : { heartbeat: this.#heartbeat, probe, endpoint, onMissed: () => budget.withdraw(clock.now()) };
    this.#parts = { ...parts, pulse };
  }

  open(
    messages: readonly In[],
    onFrame: (frame: Out) => unknown,
    options: SubscribeOptions,
  ): Subscription<In, Out> {
    const subscription = new Subscription(messages, onFrame, options, this.#parts);
    this.#open.add(subscription);
    void subscription.ended.then(() => this.#open.delete(subscription));
    return subscription;
  }

  /** Ends all of them now. Resolves when no handler runs any more, or after `timeoutMs`. */
  close(timeoutMs: number): Promise<void> {
    const quiet = Promise.all([...this.#open].map((subscription) => subscription.close()));
    return new Promise((resolve) => {
      const timer = this.#parts.clock.after(timeoutMs, resolve);
      void quiet.then(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  /** Stops the heartbeat's timer. None may be left. */
  end(): void {
    this.#heartbeat.end();
  }
}

/**
 * One call at a time on a socket: each takes a lease of the pool's, in the pool's own queue, and gives it back when its
 * reply has come. A caller who goes before that ends the socket, since the reply could come later.
 */
import type { Clock } from '../clock.ts';
import type { Lease } from '../pool/lease.ts';
import type { Call } from './call.ts';
import { boundsOf, type Carrier, type CarrierOwner, type LeaseSource } from './carrier.ts';
import { Channel, type ChannelOwner } from './channel.ts';
import { type Flights, InOrder } from './flights.ts';
import { TurnEnd } from './turn-end.ts';

/** See the file's comment. */
export class Exclusive<In, Out> implements Carrier<In, Out>, ChannelOwner<In, Out> {
  readonly #source: LeaseSource<In, Out>;
  readonly #clock: Clock;
  readonly #owner: CarrierOwner<In, Out>;
  readonly #turnEnd: TurnEnd;
  #flying = 0;
  waiting = 0;

  constructor(source: LeaseSource<In, Out>, clock: Clock, owner: CarrierOwner<In, Out>) {
    this.#source = source;
    this.#clock = clock;
    this.#owner = owner;
    this.#turnEnd = new TurnEnd(clock, () => false);
  }

  start(call: Call<In, Out>): void {
    if (!call.mustBeFresh) {
      const lease = this.#source.atOnce();
      if (lease !== undefined) {
        this.#fly(call, lease, call.triedAt);
        return;
      }
    }
    const { acquire, acquireNew, acquireTimeoutMs } = this.#source;
    this.waiting += 1;
    const bounds = boundsOf(call, acquireTimeoutMs);
    const asked = call.mustBeFresh ? acquireNew(bounds) : acquire(bounds);
    asked.then(
      (lease) => {
        this.waiting -= 1;
        const at = Math.floor(this.#clock.now());
        if (call.state === 'waiting' && at < call.deadlineAt) {
          this.#fly(call, lease, at);
          return;
        }
        lease.release();
        if (call.state === 'waiting') this.#owner.onLost(call, undefined);
      },
      (error: unknown) => {
        this.waiting -= 1;
        if (call.state === 'waiting') this.#owner.onLost(call, error);
      },
    );
  }

  abandon(call: Call<In, Out>, why: 'aborted' | 'timeout'): void {
    call.flight?.destroy(why);
  }

  #fly(call: Call<In, Out>, lease: Lease<In, Out>, at: number): void {
    call.flownAt = at;
    this.#flying += 1;
    const flights: Flights<In, Out> = new InOrder();
    const channel = new Channel(lease, flights, this.#clock, this.#turnEnd, this);
    // Nobody else will write in this turn, as far as one can see.
    if (this.#flying === 1) channel.sendNow(call);
    else channel.add(call);
  }

  onReply(call: Call<In, Out>, reply: Out, now: number): void {
    this.#owner.onReply(call, reply, now);
  }

  onLost(call: Call<In, Out>, error: unknown): void {
    this.#owner.onLost(call, error);
  }

  onRoom(channel: Channel<In, Out>): void {
    if (channel.inFlight === 0) this.#giveBack(channel);
  }

  onEnded(channel: Channel<In, Out>): void {
    // Its place in the pool was given up when the socket ended: the lease is to end as well.
    this.#giveBack(channel);
  }

  /** Giving it back may end it, which is told here as well. */
  #giveBack(channel: Channel<In, Out>): void {
    if (channel.isGivenBack) return;
    channel.isGivenBack = true;
    this.#flying -= 1;
    channel.release();
  }
}

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

/** See the file's comment. */
export class Exclusive<In, Out> implements Carrier<In, Out>, ChannelOwner<In, Out> {
  readonly #source: LeaseSource<In, Out>;
  readonly #clock: Clock;
  readonly #owner: CarrierOwner<In, Out>;
  waiting = 0;

  constructor(source: LeaseSource<In, Out>, clock: Clock, owner: CarrierOwner<In, Out>) {
    this.#source = source;
    this.#clock = clock;
    this.#owner = owner;
  }

  start(call: Call<In, Out>): void {
    if (!call.mustBeFresh) {
      const lease = this.#source.atOnce();
      if (lease !== undefined) {
        this.#fly(call, lease);
        return;
      }
    }
    const { acquire, acquireNew, acquireTimeoutMs } = this.#source;
    this.waiting += 1;
    const asked = call.mustBeFresh ? acquireNew() : acquire(boundsOf(call, acquireTimeoutMs));
    asked.then(
      (lease) => {
        this.waiting -= 1;
        if (call.state === 'waiting') this.#fly(call, lease);
        else lease.release();
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

  #fly(call: Call<In, Out>, lease: Lease<In, Out>): void {
    call.flownAt = Math.floor(this.#clock.now());
    const flights: Flights<In, Out> = new InOrder();
    new Channel(lease, flights, this.#clock, this).sendNow(call);
  }

  onReply(call: Call<In, Out>, reply: Out, now: number): void {
    this.#owner.onReply(call, reply, now);
  }

  onLost(call: Call<In, Out>, error: unknown): void {
    this.#owner.onLost(call, error);
  }

  onRoom(channel: Channel<In, Out>): void {
    if (channel.inFlight === 0) channel.release();
  }

  onEnded(channel: Channel<In, Out>): void {
    // Its place in the pool was given up when the socket ended: the lease is to end as well.
    channel.release();
  }
}

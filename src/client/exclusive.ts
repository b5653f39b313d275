/**
 * One call at a time on a socket. A call takes a lease of the pool's, in the pool's own queue, and gives it back when its
 * reply has come. A caller who goes before that ends the socket, since the reply could come later.
 *
 * While all sockets are in our hands, calls stand in a line of ours, and the next one flies on the socket whose reply has
 * just come: giving a lease back only to take it again is a third of what such a call costs. The pool's queue, with its
 * priorities, bounds and hooks, is not passed over: as soon as anybody needs it, or a socket is lost or wanted back, the
 * whole line joins it.
 */
import type { Clock } from '../clock.ts';
import type { PulsepoolError } from '../errors.ts';
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
  // First come, first served. While anybody stands in it, all sockets fly calls of ours and the pool's queue is empty, or
  // a socket that comes back finds that it is not.
  readonly #line: Set<Call<In, Out>> = new Set();
  #flying = 0;
  #asking = 0;
  // Of the channel that is being given the next call: it may tell of room before it has it.
  #isPassing = false;

  constructor(source: LeaseSource<In, Out>, clock: Clock, owner: CarrierOwner<In, Out>) {
    this.#source = source;
    this.#clock = clock;
    this.#owner = owner;
    this.#turnEnd = new TurnEnd(clock, () => false);
  }

  get waiting(): number {
    return this.#asking + this.#line.size;
  }

  start(call: Call<In, Out>): void {
    if (!call.mustBeFresh) {
      const lease = this.#source.atOnce();
      if (lease !== undefined) {
        this.#fly(call, lease, call.triedAt);
        return;
      }
      if (this.#mayStand(call)) {
        this.#line.add(call);
        this.#source.onShort(this.#line.size);
        return;
      }
    }
    this.#dissolve();
    this.#ask(call, call.triedAt);
  }

  abandon(call: Call<In, Out>, why: 'aborted' | 'timeout'): void {
    if (call.flight === undefined) this.#line.delete(call);
    else call.flight.destroy(why);
  }

  canHedge(): boolean {
    return true;
  }

  whyLate(call: Call<In, Out>, at: number): PulsepoolError | undefined {
    return this.#line.has(call) ? this.#source.explain(at - call.triedAt) : undefined;
  }

  /** Nothing is to be had from the pool, and nothing but its own deadline bounds the wait. */
  #mayStand({ bounds, deadlineAt, triedAt }: Call<In, Out>): boolean {
    const { acquireTimeoutMs, isPlain, max, othersWaiting } = this.#source;
    return (
      this.#flying >= max() &&
      deadlineAt - triedAt <= acquireTimeoutMs &&
      (bounds.priority ?? 0) === 0 &&
      othersWaiting() === 0 &&
      isPlain()
    );
  }

  #next(): Call<In, Out> | undefined {
    for (const call of this.#line) {
      this.#line.delete(call);
      return call;
    }
    return undefined;
  }

  #ask(call: Call<In, Out>, at: number): void {
    const { acquire, acquireNew, acquireTimeoutMs } = this.#source;
    this.#asking += 1;
    const bounds = boundsOf(call, acquireTimeoutMs, at);
    const asked = call.mustBeFresh ? acquireNew(bounds) : acquire(bounds);
    asked.then(
      (lease) => {
        this.#asking -= 1;
        const grantedAt = Math.floor(this.#clock.now());
        if (call.state === 'waiting' && grantedAt < call.deadlineAt) {
          this.#fly(call, lease, grantedAt);
          return;
        }
        lease.release();
        if (call.state === 'waiting') this.#owner.onLost(call, undefined);
      },
      (error: unknown) => {
        this.#asking -= 1;
        if (call.state === 'waiting') this.#owner.onLost(call, error);
      },
    );
  }

  /** The line is no place to wait any more: whoever stands in it joins the pool's queue, in the same order. */
  #dissolve(): void {
    if (this.#line.size === 0) return;
    const calls = [...this.#line];
    this.#line.clear();
    const at = Math.floor(this.#clock.now());
    for (const call of calls) this.#ask(call, at);
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

  onRoom(channel: Channel<In, Out>, now: number): void {
    if (channel.inFlight > 0 || this.#isPassing) return;
    this.#isPassing = true;
    this.#passOn(channel, now);
    this.#isPassing = false;
    if (channel.inFlight === 0) this.#giveBack(channel);
  }

  /** Has it carry the next call, if it may. */
  #passOn(channel: Channel<In, Out>, now: number): void {
    const at = Math.floor(now);
    while (channel.inFlight === 0 && channel.mayGoOn && this.#source.othersWaiting() === 0) {
      const call = this.#next();
      if (call === undefined) return;
      if (at >= call.deadlineAt) {
        this.#owner.onLost(call, undefined);
        continue;
      }
      channel.passOn(at - call.triedAt, now);
      call.flownAt = at;
      channel.add(call);
    }
  }

  onPlace(channel: Channel<In, Out>): void {
    this.onRoom(channel, this.#clock.now());
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
    this.#dissolve();
  }
}

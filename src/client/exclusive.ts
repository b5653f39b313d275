/**
 * One call at a time on a socket. A call takes a lease of the pool's, in the pool's own queue, and gives it back when its
 * reply has come. A caller who goes before that ends the socket, since the reply could come later.
 *
 * Calls that only wait for a socket stand in a line of ours, for which leases are asked; the next one flies on the socket
 * whose reply has just come, since giving a lease back only to take it again is a third of what such a call costs. The
 * pool's queue, with its priorities, bounds and hooks, is not passed over: what needs it goes there by itself, as does who
 * wishes for one endpoint or for any but one, and while anybody else waits there, sockets go back to the pool.
 */
import type { Clock } from '../clock.ts';
import type { PulsepoolError } from '../errors.ts';
import type { Lease } from '../pool/lease.ts';
import type { Wish } from '../pool/members.ts';
import type { Call } from './call.ts';
import { boundsOf, type Carrier, type CarrierOwner, copyOf, type LeaseSource, wishOf } from './carrier.ts';
import { Channel, type ChannelOwner } from './channel.ts';
import { type Flights, InOrder } from './flights.ts';
import { TurnEnd } from './turn-end.ts';

/** See the file's comment. */
export class Exclusive<In, Out> implements Carrier<In, Out>, ChannelOwner<In, Out> {
  readonly #source: LeaseSource<In, Out>;
  readonly #clock: Clock;
  readonly #owner: CarrierOwner<In, Out>;
  readonly #turnEnd: TurnEnd;
  // First come, first served. While anybody stands in it, a call flies or a lease is asked for, and either sees to them.
  readonly #line: Set<Call<In, Out>> = new Set();
  // For the line, not for one call.
  readonly #asks: AbortController[] = [];
  #flying = 0;
  #asking = 0;
  // Those that are being given their next call: they may tell of room before they have it.
  readonly #passing: Set<Channel<In, Out>> = new Set();

  constructor(source: LeaseSource<In, Out>, clock: Clock, owner: CarrierOwner<In, Out>) {
    this.#source = source;
    this.#clock = clock;
    this.#owner = owner;
    this.#turnEnd = new TurnEnd(clock, () => false);
    source.onResized(() => this.#askForLine());
  }

  get waiting(): number {
    return this.#asking + this.#line.size;
  }

  start(call: Call<In, Out>): void {
    const wish = this.#source.isBalanced ? wishOf(call) : undefined;
    if (!call.mustBeFresh) {
      const lease = this.#source.atOnce(wish);
      if (lease !== undefined) {
        this.#fly(call, lease, call.triedAt);
        return;
      }
      if (wish === undefined && this.#mayStand(call)) {
        this.#line.add(call);
        if (this.#flying >= this.#source.max()) this.#source.onShort(this.#line.size);
        else this.#askForLine();
        return;
      }
    }
    this.#ask(call, wish);
  }

  abandon(call: Call<In, Out>, why: 'aborted' | 'timeout'): void {
    if (call.flight !== undefined) call.flight.destroy(why);
    else if (this.#line.delete(call)) this.#trim();
  }

  canHedge(): boolean {
    return true;
  }

  whyLate(call: Call<In, Out>, at: number): PulsepoolError | undefined {
    return this.#line.has(call) ? this.#source.explain(at - call.triedAt) : undefined;
  }

  /** Nothing but its own deadline bounds its wait. */
  #mayStand({ bounds, deadlineAt, triedAt }: Call<In, Out>): boolean {
    const { acquireTimeoutMs, isPlain } = this.#source;
    // Times of a call are whole ms, the one rounded up and the other down.
    const isFirst = deadlineAt - triedAt <= acquireTimeoutMs + 1;
    return isFirst && (bounds.priority ?? 0) === 0 && isPlain();
  }

  #next(): Call<In, Out> | undefined {
    for (const call of this.#line) {
      this.#line.delete(call);
      return call;
    }
    return undefined;
  }

  /** For a call that waits by itself. */
  #ask(call: Call<In, Out>, wish: Wish<In, Out> | undefined): void {
    const { acquire, acquireNew, acquireTimeoutMs } = this.#source;
    this.#asking += 1;
    const bounds = boundsOf(call, acquireTimeoutMs);
    const asked = call.mustBeFresh ? acquireNew(bounds) : acquire(bounds, wish);
    asked.then(
      (lease) => {
        this.#asking -= 1;
        const at = Math.floor(this.#clock.now());
        if (call.state === 'waiting' && at < call.deadlineAt) {
          this.#fly(call, lease, at);
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

  /** As many leases as the line could use and there may be. */
  #askForLine(): void {
    const { acquire, max } = this.#source;
    while (this.#asks.length < this.#line.size && this.#flying + this.#asks.length < max()) {
      const ask = new AbortController();
      this.#asks.push(ask);
      acquire({ timeoutMs: Number.POSITIVE_INFINITY, signal: ask.signal }).then(
        (lease) => {
          this.#strike(ask);
          this.#serve(lease);
        },
        (error: unknown) => {
          if (this.#strike(ask)) this.#onRefused(error);
        },
      );
    }
  }

  /** Takes back what was asked for and is of no use. */
  #trim(): void {
    while (this.#asks.length > this.#line.size) this.#asks.pop()?.abort();
  }

  /** Returns whether it was still wanted. */
  #strike(ask: AbortController): boolean {
    const at = this.#asks.indexOf(ask);
    if (at >= 0) this.#asks.splice(at, 1);
    return at >= 0;
  }

  /** A lease for whoever is first in the line. */
  #serve(lease: Lease<In, Out>): void {
    const at = Math.floor(this.#clock.now());
    for (let call = this.#next(); call !== undefined; call = this.#next()) {
      if (at < call.deadlineAt) {
        this.#fly(call, lease, at);
        return;
      }
      this.#owner.onLost(call, undefined);
    }
    lease.release();
  }

  /** No socket can be had. Who hopes for one that is in use goes on waiting. */
  #onRefused(error: unknown): void {
    if (this.#flying > 0 || this.#asks.length > 0) return;
    const calls = [...this.#line];
    this.#line.clear();
    for (const call of calls) this.#owner.onLost(call, copyOf(error));
  }

  #fly(call: Call<In, Out>, lease: Lease<In, Out>, at: number): void {
    call.flownAt = at;
    this.#flying += 1;
    const flights: Flights<In, Out> = new InOrder();
    const member = this.#source.isBalanced ? lease.countsCalls() : undefined;
    const channel = new Channel(lease, flights, this.#clock, this.#turnEnd, this, member);
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
    if (channel.inFlight > 0 || this.#passing.has(channel)) return;
    if (this.#line.size > 0) {
      this.#passing.add(channel);
      this.#passOn(channel, now);
      this.#passing.delete(channel);
    }
    if (channel.inFlight === 0) this.#giveBack(channel);
  }

  /** Has it carry the next call, if it may. */
  #passOn(channel: Channel<In, Out>, now: number): void {
    const at = Math.floor(now);
    while (channel.inFlight === 0 && channel.mayGoOn && this.#source.othersWaiting() <= this.#asks.length) {
      const call = this.#next();
      if (call === undefined) break;
      if (at >= call.deadlineAt) {
        this.#owner.onLost(call, undefined);
        continue;
      }
      channel.passOn(at - call.triedAt, now);
      call.flownAt = at;
      channel.add(call);
    }
    this.#trim();
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
    this.#askForLine();
  }
}

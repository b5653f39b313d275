/**
 * One pool with its server and its callers: what they ask for, what they hold, and what they were promised. What
 * they do next is drawn elsewhere: see actions.ts.
 */

import { getEventListeners } from 'node:events';
import { assemble } from '../../../src/create-pool.ts';
import { PulsepoolError } from '../../../src/errors.ts';
import type { PoolOptions } from '../../../src/options.ts';
import type { Lease } from '../../../src/pool/lease.ts';
import { lines } from '../../../src/transport/lines.ts';
import { type Assembled, Audit } from '../../support/audit.ts';
import { FakeNet, type FakePeer } from '../../support/fake-net.ts';
import { viewOf } from '../../support/roster-view.ts';
import { type Fate, type Place, Places } from './places.ts';
import { GATES, type Gate, type ServerMode, SLOW_MS, type Trouble, type Way, walk } from './ways.ts';

/** What a pool and its world are made of. */
export interface Drawn {
  readonly min: number;
  readonly minIdle: number;
  readonly maxIdle: number;
  readonly max: number;
  readonly maxConnecting: number;
  readonly maxWaiting: number;
  readonly maxUses: number;
  readonly shedAfterMs: number;
  readonly leakAfterMs: number;
  readonly detectDeadlocks: boolean;
  readonly isShortLived: boolean;
  /** Which of the gates there are: a hook that was not given costs nothing. */
  readonly gates: readonly Gate[];
  /** Listeners to the events of leases are there, and one that acquires. */
  readonly isHeard: boolean;
  /** Lives on in good health at the end, until everything has been served. */
  readonly isCalmedDown: boolean;
  /** Where the server is. Default: one name. */
  readonly place?: Place;
  /** One of several endpoints stays as bad as that when all the rest calms down. Default: none. */
  readonly down?: Fate;
  readonly seed: number;
}

/** A call whose end is awaited: what it is, and until when it must have ended. */
interface Pending {
  readonly what: string;
  deadlineAt: number;
  /** The bound is the test's own guess, not a promise: a frozen process has longer. */
  readonly isGuess: boolean;
  readonly since: number;
  readonly priority: number;
  /** Only some sockets may do for it. */
  isKeyed: boolean;
  readonly order: number;
}

const ACQUIRE_TIMEOUT_MS = 2_000;
const READ_TIMEOUT_MS = 1_500;
const HOOK_TIMEOUT_MS = 150;
const CLOSE_TIMEOUT_MS = 300;
const HOOKS: readonly Gate[] = ['onAcquire', 'onRelease', 'onClose'];
// How long the pool waits for the server's FIN.
const GOODBYE_MS = 500;
const LATE_MS = 120;
const RETRIES = 2;
// What is left of the longest that anything of ours waits for, once all is well.
const CALM_MS = 9_000;
// What is pinged, dialed after a back-off, or closed with a goodbye is done by then.
const CALM_AT_LEAST_MS = 1_500;
// A dial that hangs takes so long, and while it holds the last place there is no other.
const HANG_MS = 500;
// Nobody asks so often what time it is unless for ever.
const MOST_READINGS = 200_000;

type Bounds = {
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
  priority?: number | undefined;
  key?: string | undefined;
};

/** See the file's comment. */
export class World {
  readonly net: FakeNet = new FakeNet();
  readonly places: Places;
  readonly both: Assembled;
  readonly audit: Audit;
  readonly leases: Lease<string, string>[] = [];
  readonly ended: Lease<string, string>[] = [];
  readonly aborters: AbortController[] = [];
  readonly ways: Record<Gate, Way> = {
    dial: 'ok',
    handshake: 'ok',
    onAcquire: 'ok',
    onRelease: 'ok',
    onClose: 'ok',
    ping: 'ok',
  };
  trouble: Trouble = 'refuse';
  /** Called when the pool begins to wait at a gate; the dial's is seen in `net.dialing`. */
  onGate: (gate: Gate) => void = () => undefined;
  /** Called when a caller of `acquire` has got a lease. */
  onLease: () => void = () => undefined;
  mode: ServerMode = 'ok';
  isClosed = false;
  /** What happened, and how often: a test in which nothing happens must fail. */
  readonly tally: Map<string, number>;
  readonly #drawn: Drawn;
  readonly #pending: Set<Pending> = new Set();
  // The number of the reset that a call has asked for.
  readonly #resets: WeakMap<Pending, number> = new WeakMap();
  readonly #signals: Set<AbortSignal> = new Set();
  // Wrong replies, broken promises, and errors that are not ours.
  readonly #faults: unknown[] = [];
  readonly #granted: { readonly call: Pending; readonly at: number }[] = [];
  readonly #busyUntil: WeakMap<FakePeer, number> = new WeakMap();
  readonly #goOn: WeakMap<FakePeer, () => void> = new WeakMap();
  readonly #silent: WeakSet<FakePeer> = new WeakSet();
  readonly #asking: WeakSet<object> = new WeakSet();
  readonly #detached: { destroy(): void }[] = [];
  // Sockets that a hook failed on, and those that were closed for it.
  readonly #hookFailed: Set<number> = new Set();
  readonly #closedByHook: Set<number> = new Set();
  #order = 0;
  #questions = 0;
  #hooks = 0;
  #checks = 0;
  #meddlings = 0;
  #thawedAt = 0;
  #readings = 0;

  constructor(drawn: Drawn, tally: Map<string, number>) {
    this.#drawn = drawn;
    this.tally = tally;
    let state = drawn.seed;
    this.net.random = () => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
      return state / 2 ** 31;
    };
    this.net.onPeer = (peer) => this.#serve(peer);
    this.places = new Places(this.net, drawn.place ?? { kind: 'one' });
    this.#watchClock();
    this.both = assemble<string, string>(this.net.surroundings, this.#options(drawn));
    this.audit = new Audit(this.both, this.net);
    this.net.clock.onQuiet = () => {
      this.#readings = 0;
      this.check();
    };
    this.#listen(drawn.isHeard);
  }

  get pool(): Assembled['pool'] {
    return this.both.pool;
  }

  /** What came of an action, for the books. */
  saw(what: string, times = 1): void {
    this.tally.set(what, (this.tally.get(what) ?? 0) + times);
  }

  /** What goes on for ever without time would never come to an end that a test could see. */
  #watchClock(): void {
    const { clock } = this.net;
    const { now } = clock;
    clock.now = () => {
      this.#readings += 1;
      if (this.#readings <= MOST_READINGS) return now.call(clock);
      // Whoever asked may swallow it.
      const fault = new Error('something goes on for ever, and time stands still');
      this.#faults.push(fault);
      throw fault;
    };
  }

  // ---- what callers do -----------------------------------------------------------------------------------

  /** A signal that an action may abort some day. */
  signal(): AbortSignal {
    const aborter = new AbortController();
    this.aborters.push(aborter);
    this.#signals.add(aborter.signal);
    return aborter.signal;
  }

  acquire(bounds: Bounds | undefined): void {
    const call = this.#call('acquire', bounds?.timeoutMs ?? ACQUIRE_TIMEOUT_MS, bounds?.priority ?? 0);
    call.isKeyed = bounds?.key !== undefined;
    this.#track(call, this.pool.acquire(bounds), (lease) => {
      this.#granted.push({ call, at: this.#order });
      this.leases.push(lease);
      this.onLease();
    });
  }

  tryAcquire(): void {
    // It tries one after the other of those at rest, and onAcquire may take its time for each.
    const call = this.#call('tryAcquire', HOOK_TIMEOUT_MS * (RETRIES + 1), 0, true);
    this.#track(call, this.pool.tryAcquire(), (lease) => {
      this.saw(lease === undefined ? 'tryAcquire: nothing' : 'tryAcquire: lease');
      if (lease !== undefined) this.leases.push(lease);
    });
  }

  /** One question at a time: behind an unanswered one, a stray frame could not be told from its reply. */
  ask(lease: Lease<string, string>, bounds: Omit<Bounds, 'priority' | 'key'>): void {
    if (this.#asking.has(lease)) return;
    this.#asking.add(lease);
    const question = this.#nextQuestion();
    const { timeoutMs } = bounds;
    const call = this.#call('ask', timeoutMs ?? READ_TIMEOUT_MS * 2, 0, timeoutMs === undefined);
    this.#track(call, lease.request(question, bounds), (reply) => {
      this.#asking.delete(lease);
      this.#checkReply(reply, question);
    });
  }

  request(bounds: Bounds & { idempotent: boolean }): void {
    const question = this.#nextQuestion();
    // Attempts that each wait, read and sleep as long as they may.
    const { timeoutMs = (RETRIES + 2) * (ACQUIRE_TIMEOUT_MS + 2 * READ_TIMEOUT_MS + 200) } = bounds;
    const call = this.#call('request', timeoutMs, bounds.priority ?? 0, bounds.timeoutMs === undefined);
    this.#track(call, this.pool.request(question, bounds), (reply) => this.#checkReply(reply, question));
  }

  use(bounds: Bounds, ending: 'return' | 'throw' | 'ask' | 'nest', ms: number): void {
    const { clock } = this.net;
    const call = this.#call('use', bounds.timeoutMs ?? ACQUIRE_TIMEOUT_MS, bounds.priority ?? 0);
    const used = this.pool.use(async (lease) => {
      // From here on it is the callback that takes its time, and a frozen process makes it longer.
      call.deadlineAt = Number.POSITIVE_INFINITY;
      if (ms > 0) await new Promise<void>((resolve) => clock.after(ms, resolve));
      if (ending === 'throw') throw new DOMException('a use callback threw');
      // One more for somebody who holds one: how pools lock up.
      if (ending === 'nest') (await this.pool.acquire({ timeoutMs: 80 })).release();
      if (ending !== 'ask') return;
      call.deadlineAt = clock.now() + READ_TIMEOUT_MS * 2;
      this.#checkReply(await lease.request('use'), 'use');
    }, bounds);
    this.#track(call, used, () => undefined);
  }

  ready(signal: AbortSignal | undefined): void {
    this.#track(
      this.#call('ready', Number.POSITIVE_INFINITY, 0),
      this.pool.ready({ signal }),
      () => undefined,
    );
  }

  reset(perSecond: number): void {
    const call = this.#call('reset', Number.POSITIVE_INFINITY, 0);
    const done = this.pool.reset({ perSecond });
    const number = this.audit.resets;
    this.#resets.set(call, number);
    this.#track(call, done, () => {
      if (this.audit.olderThan(number) > 0) throw new Error('reset() is done, and old sockets are left');
    });
  }

  suspend(): void {
    const call = this.#call('suspend', Number.POSITIVE_INFINITY, 0);
    this.#track(call, this.pool.suspend(), () => undefined);
  }

  close(): void {
    this.isClosed = true;
    const call = this.#call('close', CLOSE_TIMEOUT_MS + GOODBYE_MS, 0);
    this.#track(call, this.pool.close({ timeoutMs: CLOSE_TIMEOUT_MS }), () => undefined);
  }

  /** Takes the raw socket, and keeps it for a while. */
  detach(lease: Lease<string, string>): void {
    try {
      const socket = lease.detach();
      // Its errors are its new owner's.
      socket.on('error', () => undefined);
      this.#detached.push(socket);
      this.saw('detached');
    } catch (error) {
      if (!(error instanceof PulsepoolError)) throw error;
      lease.destroy();
    }
  }

  /** Nothing of ours runs for so long. */
  freeze(ms: number): void {
    this.net.clock.freeze(ms);
    if (ms > 0) this.places.doubt();
    if (ms > 0) this.#thawedAt = this.net.clock.now();
    for (const call of this.#pending) if (call.isGuess) call.deadlineAt += ms;
  }

  // ---- what is checked -----------------------------------------------------------------------------------

  /** Calls that have not ended. */
  get pendingCalls(): number {
    return this.#pending.size;
  }

  /** Everything that must be true whenever nothing moves. */
  check(): void {
    for (const fault of this.#faults) throw fault;
    // What was detached is none of the pool's business any more.
    for (const socket of this.#detached.splice(0)) socket.destroy();
    this.audit.check();
    this.#checks += 1;
    if (this.#checks % 32 === 0) this.audit.checkStats();
    this.#checkCalls();
    this.#checkOrder();
    this.#checkLeases();
    for (const id of this.#closedByHook) {
      if (!this.#hookFailed.has(id)) throw new Error(`socket ${id} was closed for a hook that did not fail`);
    }
  }

  /** From now on everything that is waited for ends well. */
  heal(down: Fate = 'ok'): void {
    for (const gate of GATES) this.ways[gate] = 'ok';
    this.mode = 'ok';
    this.applyDial();
    this.places.heal(down);
    for (const peer of this.net.openPeers) this.stop(peer, false);
  }

  /** That address is well from now on, or not. */
  decide(address: string, fate: Fate): void {
    this.places.decide(address, fate);
    for (const peer of this.net.openPeers) if (peer.address === address) this.stop(peer, fate === 'silent');
  }

  /** Lets the world calm down: everybody must get what they wait for. */
  async calmDown(): Promise<void> {
    const { clock } = this.net;
    this.heal(this.#drawn.down);
    this.pool.resume();
    for (const lease of this.leases.splice(0)) lease.destroy();
    // Those that were mute have lost what was sent to them.
    for (const peer of this.net.openPeers) peer.reset();
    await clock.advance(this.places.calmMs);
    for (let ms = 0; ms < CALM_MS; ms += 250) {
      await clock.advance(250);
      for (const lease of this.leases.splice(0)) lease.release();
      if (this.#pending.size === 0 && ms >= CALM_AT_LEAST_MS) break;
    }
    // What the last of them gave back is reset, or replaced.
    await clock.advance(500);
    const hangMs = this.#drawn.down === 'hang' ? HANG_MS : 0;
    const { sizes } = this.both.roster.state;
    const spare = Math.min(sizes.max, Math.max(sizes.min, sizes.minIdle));
    // The last place may be held by a dial that hangs, until the next one finds another endpoint.
    if (viewOf(this.both.roster).counts.idle < spare) await clock.advance(hangMs * 1.5);
    const { books, counts } = viewOf(this.both.roster);
    for (const { what } of this.#pending) {
      throw new Error(`${what} has no end though all is well`);
    }
    if (counts.idle < spare)
      throw new Error(
        `${counts.idle} rest though all is well, and min is ${sizes.min}, minIdle ${sizes.minIdle}`,
      );
    if (books.outdated > 0)
      throw new Error(`${books.outdated} are older than the last reset though all is well`);
    // Who comes now is served.
    this.request({ timeoutMs: 500 + hangMs, idempotent: false });
    const served = this.tally.get('request: ok') ?? 0;
    await clock.advance(400 + hangMs);
    if (this.tally.get('request: ok') !== served + 1) throw new Error('nobody is served though all is well');
    this.saw('calm');
    if (this.#drawn.down !== undefined && this.#drawn.down !== 'ok')
      this.saw(`calm but for one: ${this.#drawn.down}`);
  }

  /** Closes the pool, if it is not closed yet: nothing may be left. */
  async end(): Promise<void> {
    const { clock } = this.net;
    this.close();
    await clock.advance(CLOSE_TIMEOUT_MS + GOODBYE_MS + HOOK_TIMEOUT_MS);
    // Callbacks of use(), the server's late replies, and slow hooks are timers too.
    await clock.advance(1_000);
    this.audit.checkEnd();
    for (const [reason, times] of Object.entries(this.pool.stats().closedBy))
      this.saw(`closed ${reason}`, times);
    this.check();
    for (const { what } of this.#pending) throw new Error(`${what} has no end though the pool has closed`);
    for (const signal of this.#signals) {
      const left = getEventListeners(signal, 'abort').length;
      if (left > 0) throw new Error(`${left} listener(s) are left on a signal`);
    }
  }

  #checkCalls(): void {
    const now = this.net.clock.now();
    const { roster } = this.both;
    let acquiring = 0;
    let others = 0;
    let using = 0;
    for (const call of this.#pending) {
      if (call.deadlineAt < now) throw new Error(`${call.what} had to end ${now - call.deadlineAt} ms ago`);
      if (call.what === 'acquire') acquiring += 1;
      if (call.what === 'request' || call.what === 'use') {
        others += 1;
        using += 1;
      }
      const reset = this.#resets.get(call);
      if (reset !== undefined && this.audit.olderThan(reset) === 0) throw new Error('reset() has no end');
      if (
        call.what === 'suspend' &&
        !(roster.state.isSuspended && roster.state.counts(roster.waiters.size).leased > 0)
      )
        throw new Error('suspend() has no end');
      if (call.what === 'ready' && this.isClosed) throw new Error('ready() has no end');
    }
    const waiting = roster.waiters.size + this.audit.prepared;
    if (acquiring > waiting) throw new Error(`${acquiring} wait, and the pool knows of ${waiting}`);
    if (waiting > acquiring + others)
      throw new Error(`the pool knows of ${waiting} waiters, ${acquiring} wait`);
    const usable = this.leases.filter((lease) => lease.isUsable);
    let lent = 0;
    for (const { state } of roster.state.slots)
      if (state.name === 'leased' && state.hook === undefined) lent += 1;
    if (lent > usable.length + using) throw new Error(`${lent} are lent, ${usable.length} are held`);
    if (lent < usable.length) throw new Error(`${usable.length} are held, ${lent} are lent`);
  }

  /**
   * First come, first served within a priority, and each level is worth a second. Not while the overload policy
   * stands; and with `onAcquire`, who is served first may have to wait longer for its end.
   */
  #checkOrder(): void {
    const granted = this.#granted.splice(0);
    const { gates, shedAfterMs } = this.#drawn;
    if (gates.includes('onAcquire') || shedAfterMs !== Number.POSITIVE_INFINITY) return;
    for (const { at, call } of granted) {
      for (const other of this.#pending) {
        // Not every socket does for a key.
        if (other.what !== 'acquire' || other.isKeyed || other.order > at) continue;
        const lead = weight(call) - weight(other);
        if (lead > 0 || (lead === 0 && call.since === other.since && call.order > other.order))
          throw new Error(`caller ${call.order} was served before caller ${other.order}, who was first`);
      }
    }
  }

  #checkLeases(): void {
    const held = new Set<number>();
    for (const lease of this.leases) {
      if (!lease.isUsable) continue;
      if (held.has(lease.connectionId)) throw new Error(`socket ${lease.connectionId} was lent twice`);
      held.add(lease.connectionId);
    }
  }

  #checkReply(reply: string, question: string): void {
    this.saw('reply');
    if (reply !== `Echo: ${question}`) throw new Error(`the reply to ${question} is ${reply}`);
  }

  #nextQuestion(): string {
    this.#questions += 1;
    return `q${this.#questions}`;
  }

  #call(what: string, timeoutMs: number, priority: number, isGuess = false): Pending {
    this.#order += 1;
    const since = this.net.clock.now();
    return {
      what,
      deadlineAt: since + timeoutMs,
      isGuess,
      since,
      priority,
      isKeyed: false,
      order: this.#order,
    };
  }

  #track<T>(call: Pending, promise: Promise<T>, onValue: (value: T) => void): void {
    this.#pending.add(call);
    promise
      .then(
        (value) => {
          this.#pending.delete(call);
          this.saw(`${call.what}: ok`);
          onValue(value);
        },
        (error: unknown) => {
          this.#pending.delete(call);
          if (error instanceof PulsepoolError) this.#sawError(call, error);
          else if (error instanceof DOMException) this.saw(`${call.what}: aborted`);
          else throw error;
        },
      )
      .catch((error: unknown) => this.#faults.push(error));
  }

  #sawError({ since, what }: Pending, error: PulsepoolError): void {
    this.saw(`${what}: ${error.code}`);
    if (error.code !== 'ERR_ACQUIRE_FAILED' || this.#drawn.gates.includes('onAcquire')) return;
    const { members } = this.both.roster.state;
    if (members.balancer !== undefined && !members.isBlind && this.#isServing) {
      const well = members.list.find((member) => this.places.isSure(member, since));
      if (well !== undefined) throw new Error(`${what} has failed though ${well.name} was well all the time`);
      this.saw('all endpoints down');
    }
    // Whoever waits is told when a dial has failed for good; whoever comes later is told at once.
    if (since === this.net.clock.now()) this.saw(`${what}: told at once`);
    else if (this.#thawedAt < since) this.saw(`${what}: told while waiting`);
  }

  /** Whether whoever can be reached opens a socket that can be used. */
  get #isServing(): boolean {
    const { gates } = this.#drawn;
    if (this.ways.dial !== 'ok') return false;
    return !gates.includes('handshake') || (this.ways.handshake === 'ok' && this.mode === 'ok');
  }

  // ---- the server ----------------------------------------------------------------------------------------

  /** Dials end from now on as `ways.dial` and `trouble` say. */
  applyDial(): void {
    const { net, trouble } = this;
    const way = this.ways.dial;
    this.places.doubt();
    net.outcome = { kind: 'open' };
    if (way === 'slow') net.outcome = { kind: 'open', afterMs: SLOW_MS };
    // The dialer's own deadline ends it.
    if (way === 'never') net.outcome = { kind: 'refuse', afterMs: 500 };
    if (way !== 'error') return;
    if (trouble === 'refuse') net.outcome = { kind: 'refuse', afterMs: 1 };
    if (trouble === 'hang') net.outcome = { kind: 'refuse', afterMs: 200 };
    if (trouble === 'untrusted') net.outcome = { kind: 'refuse', retryable: false };
    if (trouble === 'throw')
      net.outcome = { kind: 'throw', error: new TypeError('a lookup of the user’s threw') };
  }

  /** Stops a server's process, or lets it go on with everything that has come meanwhile. */
  stop(peer: FakePeer, isMute: boolean): void {
    if (this.#silent.has(peer)) return;
    if (isMute) this.places.doubt(peer.address);
    peer.isMute = isMute;
    this.#goOn.get(peer)?.();
  }

  #serve(peer: FakePeer): void {
    if (this.ways.dial === 'error' && this.trouble === 'hangUp') peer.fin();
    if (this.places.isSilent(peer.address)) peer.isMute = true;
    let text = '';
    const goOn = (): void => {
      for (let end = text.indexOf('\n'); end >= 0 && !peer.isMute; end = text.indexOf('\n')) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        this.#answer(peer, line);
      }
    };
    this.#goOn.set(peer, goOn);
    peer.stream.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      goOn();
    });
  }

  #answer(peer: FakePeer, line: string): void {
    const reply = `Echo: ${line}\n`;
    if (line === 'PING') this.#answerPing(peer);
    else if (this.mode === 'ok') this.#send(peer, reply, 0);
    else if (this.mode === 'late') this.#send(peer, reply, LATE_MS);
    else if (this.mode === 'garbage') this.#send(peer, 'x'.repeat(100), 0);
    else if (this.mode === 'stray') this.#send(peer, `${reply}stray\n`, 0);
    // For good: a server that skips one question and answers the next can't be told from one that is late.
    else if (this.mode === 'never') this.#silence(peer);
    else {
      peer.write(reply.slice(0, 3));
      peer.fin();
    }
  }

  #answerPing(peer: FakePeer): void {
    const way = this.ways.ping;
    this.saw(`ping ${way}`);
    this.onGate('ping');
    if (way === 'ok') this.#send(peer, 'PONG\n', 1);
    else if (way === 'slow') this.#send(peer, 'PONG\n', SLOW_MS);
    else if (way === 'error') this.#send(peer, 'PANG\n', 1);
    else this.#silence(peer);
  }

  #silence(peer: FakePeer): void {
    peer.isMute = true;
    this.#silent.add(peer);
  }

  /** Answers in the order of the questions. */
  #send(peer: FakePeer, text: string, delayMs: number): void {
    const { clock } = this.net;
    const now = clock.now();
    const at = Math.max(now + delayMs, this.#busyUntil.get(peer) ?? 0);
    this.#busyUntil.set(peer, at);
    if (at > now) clock.after(at - now, () => peer.write(text));
    else peer.write(text);
  }

  // ---- the pool ------------------------------------------------------------------------------------------

  #options(drawn: Drawn): PoolOptions<string, string> {
    const hook = (gate: Gate) => (lease: Lease<string, string>) => {
      this.#hooks += 1;
      const way = this.ways[gate];
      this.saw(`${gate} ${way}`);
      this.onGate(gate);
      return walk(way, this.#hooks, lease, this.net.clock);
    };
    const has = (gate: Gate): boolean => drawn.gates.includes(gate);
    return {
      ...this.places.options,
      codec: lines({ maxFrameBytes: 64 }),
      min: drawn.min,
      minIdle: drawn.minIdle,
      maxIdle: drawn.maxIdle,
      max: drawn.max,
      maxConnecting: drawn.maxConnecting,
      maxWaiting: drawn.maxWaiting,
      maxUses: drawn.maxUses,
      shedAfterMs: drawn.shedAfterMs,
      leakAfterMs: drawn.leakAfterMs,
      detectDeadlocks: drawn.detectDeadlocks,
      connectTimeoutMs: 500,
      acquireTimeoutMs: ACQUIRE_TIMEOUT_MS,
      readTimeoutMs: READ_TIMEOUT_MS,
      idleTimeoutMs: drawn.isShortLived ? 300 : 55_000,
      maxLifetimeMs: drawn.isShortLived ? 1_000 : 1_800_000,
      retry: { retries: RETRIES, baseMs: 20, capMs: 200 },
      ...(has('handshake') ? { onConnect: hook('handshake') } : {}),
      ...(has('onAcquire') ? { onAcquire: hook('onAcquire') } : {}),
      ...(has('onRelease') ? { onRelease: hook('onRelease') } : {}),
      ...(has('onClose') ? { onClose: hook('onClose') } : {}),
      ...(HOOKS.some(has) ? { hookTimeoutMs: HOOK_TIMEOUT_MS } : {}),
      ...(has('ping')
        ? {
            heartbeat: {
              intervalMs: 200,
              timeoutMs: 100,
              maxMissed: 2,
              ping: 'PING',
              isPong: (line: string) => line === 'PONG',
            },
          }
        : {}),
    };
  }

  #doubt(names: readonly string[]): void {
    for (const { endpoint, name } of this.both.roster.state.members.list) {
      if (names.includes(name) && endpoint.kind === 'tcp')
        this.places.doubt(endpoint.address ?? endpoint.host);
    }
  }

  #listen(isHeard: boolean): void {
    const { pool } = this;
    pool.on('hookFailed', ({ connectionId, hook }) => {
      this.saw(`hookFailed ${hook}`);
      this.#hookFailed.add(connectionId);
    });
    pool.on('dialFailed', () => this.saw('dialFailed'));
    pool.on('pingMissed', () => this.saw('pingMissed'));
    for (const event of [
      'ejected',
      'restored',
      'endpointsChanged',
      'addressesChanged',
      'resolveFailed',
      'networkChanged',
    ] as const)
      pool.on(event, () => this.saw(event));
    // A young socket that is lost is as good as a failed dial, and a new endpoint may be any.
    pool.on('closed', ({ endpoint, error }) => {
      if (error !== undefined) this.#doubt([endpoint]);
    });
    pool.on('endpointsChanged', ({ added }) => this.#doubt(added));
    if (!isHeard) return;
    for (const event of [
      'acquired',
      'released',
      'leaked',
      'unleaked',
      'deadlockSuspected',
      'stalled',
    ] as const)
      pool.on(event, () => this.saw(event));
    // Listeners that meddle: nothing they do may hurt.
    pool.on('closed', ({ connectionId, reason }) => {
      if (reason === 'hook') this.#closedByHook.add(connectionId);
      pool.stats();
    });
    pool.on('acquireFailed', () => {
      // Who asks again at every refusal would never let virtual time go on.
      this.#meddlings += 1;
      if (this.#meddlings % 3 === 0) this.acquire({ timeoutMs: 50, priority: -10 });
    });
  }
}

/** Who has the least is served first. */
function weight({ since, priority }: Pending): number {
  return since - priority * 1_000;
}

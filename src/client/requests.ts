/**
 * Every request of a client, from its caller to a carrier and back: what bounds it, whether it is sent again, and how
 * its caller is told. How it gets to a socket is the carrier's business; whether repeating is safe, retry/decision.ts
 * says.
 */
import { onAbort } from '../abort.ts';
import { type Clock, type ProcessHold, type RandomSource, STALLED_MS } from '../clock.ts';
import {
  AcquireError,
  ConnectionError,
  type DeadlineError,
  moreSent,
  PulsepoolError,
  type Sent,
} from '../errors.ts';
import type { Announcer } from '../pool/announcer.ts';
import type { Breaker } from '../retry/breaker.ts';
import type { RetryBudget } from '../retry/budget.ts';
import { type Decision, decide } from '../retry/decision.ts';
import { type BackoffBounds, fullJitterMs } from '../transport/backoff.ts';
import { Call, type CallBounds } from './call.ts';
import { circuitOpenError, closedError, deadlineError, retryAfterThrew } from './call-error.ts';
import type { Carrier, CarrierOwner } from './carrier.ts';
import type { ClientEvents } from './client-events.ts';
import type { ClientCounters } from './client-stats.ts';
import { LiveCalls } from './live-calls.ts';

/** What requests are made of. */
export interface RequestsParts<Out> {
  readonly endpoint: string;
  readonly retry: BackoffBounds & { readonly retries: number };
  /** How often what was not sent is repeated. */
  readonly freeTries: () => number;
  readonly budget: RetryBudget;
  readonly breaker: Breaker | undefined;
  readonly retryAfter: ((reply: Out) => number | undefined) | undefined;
  readonly hedges: boolean;
  readonly counters: ClientCounters;
  readonly announcer: Announcer<ClientEvents>;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly hold: ProcessHold;
}

/** What the breaker learns of an attempt. */
type Outcome = 'replied' | 'failed' | 'unknown';

// Whoever gives up sooner says more about himself than about the server.
const PATIENT_MS = 1_000;
// A caller who waited so long for nothing had the server work for nothing: it costs twice (as in the AWS SDKs).
const TIMEOUT_COST = 2;

/** See the file's comment. */
export class Requests<In, Out> implements CarrierOwner<In, Out> {
  readonly #parts: RequestsParts<Out>;
  // Kept at hand for the usual way of a call.
  readonly #clock: Clock;
  readonly #counters: ClientCounters;
  readonly #carrier: Carrier<In, Out>;
  readonly #live: LiveCalls<In, Out>;
  #isClosing = false;

  constructor(parts: RequestsParts<Out>, makeCarrier: (owner: CarrierOwner<In, Out>) => Carrier<In, Out>) {
    this.#parts = parts;
    this.#clock = parts.clock;
    this.#counters = parts.counters;
    this.#live = new LiveCalls(parts.clock, parts.hold, (call, now) => this.#onDue(call, now));
    this.#carrier = makeCarrier(this);
  }

  /** Calls that are not settled. */
  get live(): number {
    return this.#live.size;
  }

  /** Calls that wait for a place on a socket. */
  get waiting(): number {
    return this.#carrier.waiting;
  }

  /** Sends a message, and resolves to its reply. `timeoutMs`: for everything; `Infinity`: none. */
  send(message: In, bounds: CallBounds | undefined, timeoutMs: number): Promise<Out> {
    return new Promise((resolve, reject) => {
      const now = this.#clock.now();
      // Whole ms, and never too soon.
      const at = Math.floor(now);
      const call = new Call(message, at, at + Math.ceil(timeoutMs), bounds, resolve, reject);
      call.sample = this.#counters.begin(now, at);
      if (bounds !== undefined) this.#bound(call, bounds);
      this.#live.add(call);
      this.#parts.budget.deposit(at);
      this.#begin(call, at);
    });
  }

  /** The client closes: what sleeps between two attempts is told why it failed, and nothing is repeated any more. */
  close(): void {
    this.#isClosing = true;
    for (const call of this.#live.all()) {
      if (call.state === 'resting')
        this.#fail(call, call.past?.errors.at(-1) ?? closedError(this.#parts.endpoint));
    }
  }

  /** Stops its timer. No call may be left. */
  end(): void {
    this.#live.end();
  }

  // ---- an attempt begins ---------------------------------------------------------------------------------

  #bound(call: Call<In, Out>, { familySignal, hedge, idempotent, signal }: CallBounds): void {
    if (signal !== undefined) call.deafen = onAbort(signal, () => this.#abort(call, signal));
    if (familySignal !== undefined) {
      const { deafen } = call;
      const ignore = onAbort(familySignal, () => this.#abort(call, familySignal));
      call.deafen = () => {
        deafen?.();
        ignore();
      };
    }
    if (idempotent === true && (hedge ?? this.#parts.hedges)) {
      call.hedgeAt = call.startedAt + this.#counters.hedgeAfterMs(call.startedAt);
    }
  }

  #begin(call: Call<In, Out>, at: number): void {
    const { breaker } = this.#parts;
    call.triedAt = at;
    if (breaker !== undefined) {
      const pass = breaker.admit(at);
      if (pass === undefined) {
        const error = circuitOpenError(this.#parts.endpoint, breaker.openForMs(at), breaker.cause);
        this.#fail(call, error);
        return;
      }
      call.pass = pass;
    }
    this.#carrier.start(call);
  }

  // ---- what carriers tell --------------------------------------------------------------------------------

  onReply(call: Call<In, Out>, reply: Out, now: number): void {
    const { retryAfter } = this.#parts;
    if (retryAfter !== undefined) {
      let waitMs: number | undefined;
      try {
        waitMs = retryAfter(reply);
      } catch (error) {
        // Not let through: the connection would be ended for it.
        this.#fail(call, retryAfterThrew(error));
        return;
      }
      if (waitMs !== undefined) {
        this.#onRefusal(call, reply, waitMs, now);
        return;
      }
    }
    this.#succeed(call, reply, now);
  }

  onLost(call: Call<In, Out>, thrown: unknown): void {
    const at = Math.floor(this.#clock.now());
    const past = call.remember();
    const hasFlown = call.state === 'flying';
    if (hasFlown) {
      past.acquireMs += call.flownAt - call.triedAt;
      past.exchangeMs += at - call.flownAt;
    } else past.acquireMs += at - call.triedAt;
    call.flight = undefined;
    const error = this.#explained(call, thrown, at);
    this.#learn(call, isTheServers(error) ? 'failed' : 'unknown', at, error);
    if (this.#leaveToTwin(call, error)) return;
    this.#afterFailure(call, error, at);
  }

  // ---- and then ------------------------------------------------------------------------------------------

  #afterFailure(call: Call<In, Out>, error: unknown, at: number): void {
    const past = call.remember();
    if (error instanceof PulsepoolError) past.sent = moreSent(past.sent, error.sent);
    // The dial has its own retries under its own back-off, and the queue its own limit: a second layer would multiply them.
    const isFinal = !(error instanceof PulsepoolError) || error instanceof AcquireError || this.#isClosing;
    if (isFinal) {
      this.#fail(call, error);
      return;
    }
    const decision = decide({
      ...this.#facts(call, at),
      sent: error.sent,
      firstByte: error instanceof ConnectionError && error.firstByte,
      reused: error instanceof ConnectionError && error.reused,
      died: error.code === 'ERR_CONNECTION_LOST' || error.code === 'ERR_SERVER_FULL',
      isRefusal: false,
      retryable: error.retryable,
      serverDelayMs: 0,
    });
    this.#follow(call, decision, error, at);
  }

  /** A reply in which the server says: not done, come again in so many ms. */
  #onRefusal(call: Call<In, Out>, reply: Out, waitMs: number, now: number): void {
    const at = Math.floor(now);
    const past = call.remember();
    past.acquireMs += call.flownAt - call.triedAt;
    past.exchangeMs += at - call.flownAt;
    const decision = decide({
      ...this.#facts(call, at),
      sent: 'full',
      firstByte: true,
      reused: false,
      died: false,
      isRefusal: true,
      retryable: !this.#isClosing,
      serverDelayMs: waitMs,
    });
    // Who can't come again is shown what the server said.
    if (decision.kind !== 'later') {
      this.#succeed(call, reply, now);
      return;
    }
    this.#learn(call, 'unknown', at, undefined);
    this.#follow(call, decision, undefined, at);
  }

  #facts(
    call: Call<In, Out>,
    at: number,
  ): Pick<
    Parameters<typeof decide>[0],
    | 'idempotent'
    | 'isFreshUsed'
    | 'freeTriesLeft'
    | 'retriesLeft'
    | 'hasBudget'
    | 'breakerOpenMs'
    | 'remainingMs'
    | 'backoffMs'
  > {
    const { breaker, budget, freeTries, random, retry } = this.#parts;
    const past = call.remember();
    return {
      idempotent: call.bounds.idempotent === true,
      isFreshUsed: past.wasFresh,
      freeTriesLeft: freeTries() - past.freeTries,
      retriesLeft: retry.retries - past.retries,
      hasBudget: budget.balance(at) >= 1,
      breakerOpenMs: breaker?.openForMs(at) ?? 0,
      remainingMs: call.deadlineAt - at,
      backoffMs: fullJitterMs(past.retries, retry, random),
    };
  }

  #follow(call: Call<In, Out>, decision: Decision, error: PulsepoolError | undefined, at: number): void {
    const { announcer, budget } = this.#parts;
    const past = call.remember();
    if (decision.kind === 'fail') {
      if (decision.because === 'no-budget') this.#counters.retriesRefused += 1;
      this.#fail(call, decision.because === 'deadline' ? this.#late(call, error) : error);
      return;
    }
    if (error !== undefined) past.errors.push(error);
    const waitMs = decision.kind === 'later' ? decision.waitMs : 0;
    this.#counters.retried[decision.kind] += 1;
    announcer.tell('retried', () => ({ error, how: decision.kind, waitMs, attempts: attemptsOf(call) }));
    call.mustBeFresh = decision.kind === 'fresh';
    if (decision.kind === 'again') past.freeTries += 1;
    else if (decision.kind === 'fresh') past.wasFresh = true;
    else {
      past.retries += 1;
      budget.withdraw(at, error?.code === 'ERR_READ_TIMEOUT' ? TIMEOUT_COST : 1);
    }
    call.moveTo('resting');
    if (waitMs > 0) {
      call.timer = this.#clock.after(waitMs, () => this.#wake(call, waitMs));
      return;
    }
    // A microtask later: whatever ended the socket is still at it.
    void Promise.resolve().then(() => this.#wake(call, 0));
  }

  #wake(call: Call<In, Out>, restedMs: number): void {
    if (call.state !== 'resting') return;
    call.timer = undefined;
    call.remember().backoffMs += restedMs;
    call.moveTo('waiting');
    this.#begin(call, Math.floor(this.#clock.now()));
  }

  /** The breaker learns from each attempt, once. */
  #learn(call: Call<In, Out>, outcome: Outcome, at: number, error: unknown): void {
    const { pass } = call;
    const { breaker } = this.#parts;
    call.pass = undefined;
    if (pass === undefined || breaker === undefined) return;
    if (outcome === 'replied') breaker.succeeded(at, pass);
    else if (outcome === 'failed' && error instanceof PulsepoolError) breaker.failed(at, pass, error);
    else breaker.release(pass);
  }

  // ---- hedging -------------------------------------------------------------------------------------------

  /** It has taken longer than nearly all others: a second one is sent beside it. */
  #hedge(call: Call<In, Out>, at: number): void {
    call.hedgeAt = Number.POSITIVE_INFINITY;
    const { announcer, breaker, budget } = this.#parts;
    if (call.state !== 'flying' || this.#isClosing || (breaker?.openForMs(at) ?? 0) > 0) return;
    if (!budget.tryWithdraw(at)) {
      this.#counters.retriesRefused += 1;
      return;
    }
    const { bounds, deadlineAt, message, reject, resolve } = call;
    const twin = new Call<In, Out>(message, at, deadlineAt, { priority: bounds.priority }, resolve, reject);
    twin.isHedge = true;
    twin.twin = call;
    twin.avoid = call.flight;
    call.twin = twin;
    this.#counters.hedged += 1;
    announcer.tell('hedged', () => ({ afterMs: at - call.startedAt }));
    this.#live.add(twin);
    this.#begin(twin, at);
  }

  /** Of two tries, the one that is left decides. */
  #leaveToTwin(call: Call<In, Out>, error: unknown): boolean {
    const { twin } = call;
    if (call.isHedge) {
      this.#forget(call);
      if (twin === undefined) return true;
      twin.twin = undefined;
      const { parked } = twin;
      if (parked === undefined) return true;
      // The first one had failed before.
      twin.parked = undefined;
      this.#afterFailure(twin, parked, Math.floor(this.#clock.now()));
      return true;
    }
    if (twin === undefined) return false;
    call.parked = error;
    call.moveTo('resting');
    return true;
  }

  /** The other try is of no use any more. */
  #dropTwin(call: Call<In, Out>): void {
    const { twin } = call;
    if (twin === undefined) return;
    call.twin = undefined;
    twin.twin = undefined;
    if (twin.state === 'settled') return;
    this.#dismiss(twin, 'aborted');
  }

  // ---- the end -------------------------------------------------------------------------------------------

  #succeed(call: Call<In, Out>, reply: Out, now: number): void {
    this.#learn(call, 'replied', now, undefined);
    this.#forget(call);
    const { twin } = call;
    const first = call.isHedge ? twin : call;
    if (call.isHedge) this.#counters.hedgesWon += 1;
    this.#dropTwin(call);
    this.#counters.succeeded(first?.sample, now);
    call.resolve(reply);
  }

  #fail(call: Call<In, Out>, error: unknown): void {
    if (call.isHedge) {
      this.#leaveToTwin(call, error);
      return;
    }
    this.#learn(call, 'unknown', 0, undefined);
    this.#forget(call);
    this.#dropTwin(call);
    const { past } = call;
    if (error instanceof PulsepoolError && past !== undefined) {
      error.sent = moreSent(error.sent, past.sent);
      error.earlier = past.errors.filter((one) => one !== error);
    }
    this.#counters.failed += 1;
    call.reject(error);
  }

  #abort(call: Call<In, Out>, signal: AbortSignal): void {
    if (call.state === 'settled') return;
    this.#counters.cancelled += 1;
    this.#dismiss(call, 'aborted');
    this.#dropTwin(call);
    call.reject(signal.reason);
  }

  #onDue(call: Call<In, Out>, now: number): void {
    const at = Math.floor(now);
    if (call.deadlineAt > at) {
      if (call.hedgeAt <= at) this.#hedge(call, at);
      return;
    }
    if (call.isHedge) return;
    // Who waits in a queue is told by the queue, which knows why, and has the same limit.
    if (call.state === 'waiting' && !call.mustBeFresh && at - call.deadlineAt < STALLED_MS) {
      this.#live.watchAt(at + STALLED_MS);
      return;
    }
    const past = call.remember();
    if (call.state === 'flying') {
      past.acquireMs += call.flownAt - call.triedAt;
      past.exchangeMs += at - call.flownAt;
      past.sent = moreSent(past.sent, sentOf(call));
    } else if (call.state === 'waiting') past.acquireMs += at - call.triedAt;
    const isPatient = call.state === 'flying' && at - call.flownAt >= PATIENT_MS;
    const error = this.#late(call, past.errors.at(-1));
    this.#learn(call, isPatient ? 'failed' : 'unknown', at, error);
    this.#dismiss(call, 'timeout');
    this.#dropTwin(call);
    this.#counters.timedOut += 1;
    call.reject(error);
  }

  /** Its caller is told, or need not be; on its socket it may keep its place. */
  #dismiss(call: Call<In, Out>, why: 'aborted' | 'timeout'): void {
    const isFlying = call.state === 'flying';
    this.#learn(call, 'unknown', 0, undefined);
    this.#forget(call);
    if (isFlying) this.#carrier.abandon(call, why);
  }

  #forget(call: Call<In, Out>): void {
    call.moveTo('settled');
    this.#live.remove(call);
    call.deafen?.();
    call.timer?.cancel();
  }

  // ---- words ---------------------------------------------------------------------------------------------

  /** An error of the queue that is due to the caller's own deadline is one of the deadline. */
  #explained(call: Call<In, Out>, thrown: unknown, at: number): unknown {
    if (!(thrown instanceof AcquireError) || thrown.code !== 'ERR_ACQUIRE_TIMEOUT') return thrown;
    // A real timer may fire a little early.
    return call.deadlineAt - at <= 1 ? this.#late(call, thrown) : thrown;
  }

  #late(call: Call<In, Out>, cause: PulsepoolError | undefined): DeadlineError {
    return deadlineError(this.#parts.endpoint, call, attemptsOf(call), cause);
  }
}

function sentOf<In, Out>(call: Call<In, Out>): Sent {
  return call.flight?.sentOf(call.batch) ?? 'none';
}

function attemptsOf<In, Out>({ past }: Call<In, Out>): number {
  return 1 + (past === undefined ? 0 : past.errors.length);
}

/** Whether an error is of the server's or the network's making, as far as the breaker is concerned. */
function isTheServers(error: unknown): boolean {
  if (!(error instanceof PulsepoolError)) return false;
  switch (error.code) {
    case 'ERR_CONNECTION_LOST':
    case 'ERR_READ_TIMEOUT':
    case 'ERR_WRITE_TIMEOUT':
    case 'ERR_FRAME_TIMEOUT':
    case 'ERR_SERVER_FULL':
    case 'ERR_UNSOLICITED':
    case 'ERR_ACQUIRE_FAILED':
      return true;
    case 'ERR_FRAME':
      return error.sent !== 'none';
    default:
      return false;
  }
}

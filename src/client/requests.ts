/**
 * Every request of a client, from its caller to a carrier and back: what bounds it, whether it is sent again, and how
 * its caller is told. How it gets to a socket is the carrier's business; whether repeating is safe, retry/decision.ts
 * says.
 */
import { onAbort } from '../abort.ts';
import { type Clock, type ProcessHold, type RandomSource, STALLED_MS } from '../clock.ts';
import { AcquireError, ConnectionError, moreSent, PulsepoolError, type Sent } from '../errors.ts';
import type { Announcer } from '../pool/announcer.ts';
import type { Breaker } from '../retry/breaker.ts';
import type { RetryBudget } from '../retry/budget.ts';
import { type Decision, decide } from '../retry/decision.ts';
import { type BackoffBounds, fullJitterMs } from '../transport/backoff.ts';
import { Call, type CallBounds, type Hedge, type Parked, type Past } from './call.ts';
import {
  circuitOpenError,
  closedError,
  deadlineError,
  retryAfterGave,
  retryAfterThrew,
} from './call-error.ts';
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
  /** Whether there is more than one endpoint. */
  readonly hasOthers: () => boolean;
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
  // Second tries among those that are live.
  #seconds = 0;
  // What the breaker has last learned of, a socket by its number: its end counts once, however many calls flew on it.
  #blamed: unknown;
  #isClosing = false;

  constructor(parts: RequestsParts<Out>, makeCarrier: (owner: CarrierOwner<In, Out>) => Carrier<In, Out>) {
    this.#parts = parts;
    this.#clock = parts.clock;
    this.#counters = parts.counters;
    this.#live = new LiveCalls(parts.clock, parts.hold, (call, now) => this.#onDue(call, now));
    this.#carrier = makeCarrier(this);
  }

  /** Callers who have not been told. */
  get live(): number {
    return this.#live.size - this.#seconds;
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
      const call = new Call(message, at, Math.ceil(now + timeoutMs), bounds, resolve, reject);
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
      // Its second try may still be answered.
      if (call.state !== 'resting' || call.hedge?.twin !== undefined) continue;
      this.#fail(call, call.past?.errors.at(-1) ?? closedError(this.#parts.endpoint));
    }
  }

  /** The pool has closed: stops the timer. */
  end(): void {
    // A net. Nobody should be left, but a promise that never settles is worse than any error.
    for (const call of this.#live.all()) {
      if (call.state !== 'settled') this.#fail(call, closedError(this.#parts.endpoint));
    }
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
      // Whole ms, as all times of a call: at a fraction it would be looked at too soon, and never again.
      const at = call.startedAt + Math.ceil(this.#counters.hedgeAfterMs(call.startedAt));
      call.hedge = { at, isSecond: false, twin: undefined, avoid: undefined, parked: undefined };
    }
  }

  #begin(call: Call<In, Out>, at: number): void {
    const { breaker } = this.#parts;
    call.triedAt = at;
    if (breaker !== undefined) {
      const pass = breaker.admit(at);
      if (pass === undefined) {
        this.#onOpenBreaker(call, breaker, at);
        return;
      }
      call.pass = pass;
    }
    this.#carrier.start(call);
  }

  /**
   * The breaker lets nobody through. Who comes for the first time is told at once; who was told to come again, and finds
   * that a probe is out, looks again later.
   */
  #onOpenBreaker(call: Call<In, Out>, breaker: Breaker, at: number): void {
    const { endpoint, random, retry } = this.#parts;
    const { past } = call;
    const openForMs = breaker.openForMs(at);
    const error = circuitOpenError(endpoint, openForMs, breaker.cause);
    if (past === undefined || this.#isClosing) {
      this.#fail(call, error);
      return;
    }
    const waitMs = Math.ceil(openForMs + fullJitterMs(past.retries, retry, random));
    if (waitMs >= call.deadlineAt - at) {
      this.#expire(call, error, at);
      return;
    }
    call.moveTo('resting');
    past.timer = this.#clock.after(waitMs, () => this.#wake(call, waitMs));
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
        if (!hasGone(call)) this.#fail(call, retryAfterThrew(error));
        return;
      }
      // The hook may have aborted it.
      if (hasGone(call)) return;
      if (waitMs !== undefined) {
        if (isWait(waitMs)) this.#onRefusal(call, reply, waitMs, now);
        else this.#fail(call, retryAfterGave(waitMs));
        return;
      }
    }
    this.#succeed(call, reply, now);
  }

  onLost(call: Call<In, Out>, thrown: unknown): void {
    const at = Math.floor(this.#clock.now());
    const past = spend(call, at);
    call.flight = undefined;
    if (thrown instanceof PulsepoolError) past.sent = moreSent(past.sent, thrown.sent);
    this.#learn(call, this.#isNews(thrown) ? 'failed' : 'unknown', at, thrown);
    const resume = (later: number): void => this.#afterFailure(call, thrown, later);
    if (!this.#leaveToTwin(call, { error: thrown, resume }, at)) resume(at);
  }

  // ---- and then ------------------------------------------------------------------------------------------

  #afterFailure(call: Call<In, Out>, error: unknown, at: number): void {
    if (error === undefined || isOfTheDeadline(call, error, at)) {
      this.#expire(call, error, at);
      return;
    }
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
      died: hasDied(error),
      isRefusal: false,
      retryable: error.retryable,
      serverDelayMs: 0,
    });
    this.#follow(call, decision, error, at);
  }

  /** A reply in which the server says: not done, come again in so many ms. */
  #onRefusal(call: Call<In, Out>, reply: Out, waitMs: number, now: number): void {
    const at = Math.floor(now);
    spend(call, at).sent = 'full';
    const { hedge } = call;
    const first = hedge?.isSecond === true ? hedge.twin : call;
    const resume = (later: number): void => {
      if (first !== undefined) this.#afterRefusal(first, reply, waitMs, later);
    };
    // The first try had failed, and this is what the server has said since.
    const parked = first === call ? undefined : first?.hedge?.parked;
    if (first?.hedge !== undefined && parked !== undefined)
      first.hedge.parked = { error: parked.error, resume };
    if (hedge?.twin === undefined) resume(now);
    else {
      this.#learn(call, 'unknown', at, undefined);
      this.#leaveToTwin(call, { error: undefined, resume }, at);
    }
  }

  #afterRefusal(call: Call<In, Out>, reply: Out, waitMs: number, now: number): void {
    const at = Math.floor(now);
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
      this.#countRefused(decision);
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
    const backoffMs = fullJitterMs(past.retries, retry, random);
    const openForMs = breaker?.openForMs(at) ?? 0;
    return {
      idempotent: call.bounds.idempotent === true,
      isFreshUsed: past.wasFresh,
      freeTriesLeft: freeTries() - past.freeTries,
      retriesLeft: retry.retries - past.retries,
      hasBudget: budget.balance(at) >= 1,
      // Spread: those who wait for it must not all come when it opens.
      breakerOpenMs: openForMs > 0 ? Math.ceil(openForMs + backoffMs) : 0,
      remainingMs: call.deadlineAt - at,
      backoffMs,
    };
  }

  #follow(call: Call<In, Out>, decision: Decision, error: PulsepoolError | undefined, at: number): void {
    const { announcer, budget } = this.#parts;
    const past = call.remember();
    if (decision.kind === 'fail') {
      this.#countRefused(decision);
      if (decision.because === 'deadline') this.#expire(call, error, at);
      else this.#fail(call, error);
      return;
    }
    if (error !== undefined) past.errors.push(error);
    const waitMs = decision.kind === 'later' ? decision.waitMs : 0;
    this.#counters.retried[decision.kind] += 1;
    announcer.tell('retried', () => ({ error, how: decision.kind, waitMs, attempts: attemptsOf(call) }));
    // On a socket to another endpoint, if there is one: that one tells as much.
    past.mustBeFresh = decision.kind === 'fresh' && (call.at === undefined || !this.#parts.hasOthers());
    // A key is to stay where it is, unless its endpoint has failed: a refusal, or a socket that was closed for its rest,
    // says nothing of the kind.
    const mayMove = call.bounds.key === undefined || (decision.kind === 'later' && error !== undefined);
    past.avoid = mayMove ? call.at : undefined;
    if (decision.kind === 'again') past.freeTries += 1;
    else if (decision.kind === 'fresh') past.wasFresh = true;
    else {
      past.retries += 1;
      budget.withdraw(at, error?.code === 'ERR_READ_TIMEOUT' ? TIMEOUT_COST : 1);
    }
    // It rests already if it has waited for its second try.
    if (call.state !== 'resting') call.moveTo('resting');
    if (waitMs > 0) {
      past.timer = this.#clock.after(waitMs, () => this.#wake(call, waitMs));
      return;
    }
    // A microtask later: whatever ended the socket is still at it.
    void Promise.resolve().then(() => this.#wake(call, 0));
  }

  #countRefused(decision: Decision): void {
    if (decision.kind === 'fail' && decision.because === 'no-budget') this.#counters.retriesRefused += 1;
  }

  #wake(call: Call<In, Out>, restedMs: number): void {
    if (call.state !== 'resting') return;
    const past = call.remember();
    past.timer = undefined;
    past.backoffMs += restedMs;
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
  #hedge(call: Call<In, Out>, hedge: Hedge<In, Out>, at: number): void {
    hedge.at = Number.POSITIVE_INFINITY;
    const { announcer, breaker, budget } = this.#parts;
    if (call.state !== 'flying' || this.#isClosing || (breaker?.openForMs(at) ?? 0) > 0) return;
    // What can't be sent must not be paid for.
    if (!this.#carrier.canHedge(call)) return;
    if (!budget.tryWithdraw(at)) {
      this.#counters.retriesRefused += 1;
      return;
    }
    const { bounds, deadlineAt, message, reject, resolve } = call;
    const own = { priority: bounds.priority, key: bounds.key, waits: new AbortController() };
    const twin = new Call<In, Out>(message, at, deadlineAt, own, resolve, reject);
    if (call.at !== undefined) twin.remember().avoid = call.at;
    twin.hedge = { at: hedge.at, isSecond: true, twin: call, avoid: call.flight, parked: undefined };
    hedge.twin = twin;
    this.#counters.hedged += 1;
    announcer.tell('hedged', () => ({ afterMs: at - call.startedAt }));
    this.#live.add(twin);
    this.#seconds += 1;
    this.#begin(twin, at);
  }

  /**
   * One of two tries has come to nothing: the one that is left decides. Returns whether it is left to the other one.
   * `parked`: what follows when that fails, too.
   */
  #leaveToTwin(call: Call<In, Out>, parked: Parked, at: number): boolean {
    const { hedge } = call;
    if (hedge === undefined) return false;
    const { isSecond, twin } = hedge;
    if (!isSecond) {
      if (twin === undefined) return false;
      hedge.parked = parked;
      call.moveTo('resting');
      // From now on its time is that of the second.
      call.triedAt = at;
      return true;
    }
    const first = twin?.hedge;
    if (twin !== undefined && first !== undefined) {
      shareSent(twin);
      if (first.parked !== undefined) spend(twin, at);
      first.twin = undefined;
    }
    this.#forget(call);
    const before = first?.parked;
    if (first !== undefined && before !== undefined) {
      // The first one had failed before.
      first.parked = undefined;
      before.resume(at);
    }
    return true;
  }

  /** The other try is of no use any more. */
  #dropTwin({ hedge }: Call<In, Out>): void {
    const twin = hedge?.twin;
    if (hedge === undefined || twin === undefined) return;
    hedge.twin = undefined;
    if (twin.hedge !== undefined) twin.hedge.twin = undefined;
    if (twin.state !== 'settled') this.#dismiss(twin, 'aborted');
  }

  // ---- the end -------------------------------------------------------------------------------------------

  #succeed(call: Call<In, Out>, reply: Out, now: number): void {
    this.#learn(call, 'replied', now, undefined);
    this.#forget(call);
    const { hedge } = call;
    let { sample } = call;
    if (hedge !== undefined) {
      if (hedge.isSecond) {
        sample = hedge.twin?.sample;
        this.#counters.hedgesWon += 1;
      }
      this.#dropTwin(call);
    }
    this.#counters.succeeded(sample, now);
    call.resolve(reply);
  }

  #fail(call: Call<In, Out>, error: unknown): void {
    this.#learn(call, 'unknown', 0, undefined);
    if (call.hedge?.isSecond === true) {
      if (error instanceof PulsepoolError) call.remember().sent = moreSent(call.remember().sent, error.sent);
      const nothing = { error, resume: () => undefined };
      this.#leaveToTwin(call, nothing, Math.floor(this.#clock.now()));
      return;
    }
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
      const { hedge } = call;
      if (hedge !== undefined && hedge.at <= at) this.#hedge(call, hedge, at);
      return;
    }
    if (call.hedge?.isSecond === true) return;
    // Who waits in a queue is told by the queue, which knows why, and has the same limit.
    const late = call.state === 'waiting' ? this.#carrier.whyLate(call, at) : undefined;
    if (call.state === 'waiting' && late === undefined && at - call.deadlineAt < STALLED_MS) {
      this.#live.watchAt(at + STALLED_MS);
      return;
    }
    const past = spend(call, at);
    this.#expire(call, late ?? call.hedge?.parked?.error ?? past.errors.at(-1), at);
  }

  /** Its time is up, or would be before it could be sent again: told and counted here, and nowhere else. */
  #expire(call: Call<In, Out>, cause: unknown, at: number): void {
    const { hedge } = call;
    const past = call.remember();
    past.sent = moreSent(past.sent, sentOf(call));
    shareSent(call);
    const isPatient = call.state === 'flying' && at - call.flownAt >= PATIENT_MS;
    const attempts = attemptsOf(call) + (hedge?.parked === undefined ? 0 : 1);
    const error = deadlineError(this.#parts.endpoint, call, {
      attempts,
      cause,
      leftMs: call.deadlineAt - at,
    });
    error.earlier = past.errors.filter((one) => one !== cause);
    this.#learn(call, isPatient ? 'failed' : 'unknown', at, error);
    this.#dismiss(call, 'timeout');
    this.#dropTwin(call);
    this.#counters.timedOut += 1;
    call.reject(error);
  }

  /** Its caller is told, or need not be; on its socket it may keep its place. */
  #dismiss(call: Call<In, Out>, why: 'aborted' | 'timeout'): void {
    const { state } = call;
    this.#learn(call, 'unknown', 0, undefined);
    this.#forget(call);
    if (state === 'resting') return;
    this.#carrier.abandon(call, why);
    if (state === 'waiting') call.bounds.waits?.abort();
  }

  #forget(call: Call<In, Out>): void {
    call.settle();
    this.#live.remove(call);
    if (call.hedge?.isSecond === true) this.#seconds -= 1;
    if (call.deafen !== undefined) call.deafen();
    if (call.past !== undefined) call.past.timer?.cancel();
  }

  // ---- what an error says --------------------------------------------------------------------------------

  /**
   * Whether the breaker is to learn that the server has failed. A socket that was closed for its rest says nothing of the
   * server, and one that died under many calls has died once.
   */
  #isNews(error: unknown): boolean {
    if (!isTheServers(error)) return false;
    const isOfSocket = error instanceof ConnectionError;
    if (isOfSocket && hasDied(error) && error.reused && !error.firstByte) return false;
    // A failed dial is told to each caller with the same cause, and so is garbage to each call.
    const culprit = isOfSocket
      ? error.connectionId
      : error instanceof PulsepoolError
        ? (error.cause ?? error)
        : error;
    if (culprit === this.#blamed) return false;
    this.#blamed = culprit;
    return true;
  }
}

/** A real timer of the queue's may fire a little early. */
function isOfTheDeadline<In, Out>(call: Call<In, Out>, error: unknown, at: number): boolean {
  return error instanceof AcquireError && error.code === 'ERR_ACQUIRE_TIMEOUT' && call.deadlineAt - at <= 1;
}

/** Whether the peer or the network has ended the connection. */
function hasDied(error: PulsepoolError): boolean {
  return error.code === 'ERR_CONNECTION_LOST' || error.code === 'ERR_SERVER_FULL';
}

/** What `retryAfter` may return beside `undefined`. */
function isWait(given: unknown): boolean {
  return typeof given === 'number' && given >= 0;
}

/** Books the time since the present attempt began, or since it was left to the second try. */
function spend<In, Out>(call: Call<In, Out>, at: number): Past<In, Out> {
  const past = call.remember();
  const { hedge, state, triedAt } = call;
  const second = hedge?.parked === undefined ? undefined : hedge.twin;
  const one = second ?? call;
  if (state === 'resting' && second === undefined) return past;
  const flownAt = one.state === 'flying' ? Math.max(triedAt, one.flownAt) : at;
  past.acquireMs += flownAt - triedAt;
  past.exchangeMs += at - flownAt;
  return past;
}

/** What the second try has sent, the first has: who pays twice must know. */
function shareSent<In, Out>(first: Call<In, Out>): void {
  const second = first.hedge?.twin;
  if (second === undefined) return;
  const past = first.remember();
  past.sent = moreSent(past.sent, moreSent(second.past?.sent ?? 'none', sentOf(second)));
}

// Apart, so that the compiler does not think that nothing happens in a hook.
function hasGone<In, Out>(call: Call<In, Out>): boolean {
  return call.state === 'settled';
}

function sentOf<In, Out>(call: Call<In, Out>): Sent {
  return call.flight?.sentOf(call.batch) ?? 'none';
}

/** How many attempts were made, the present one included. */
function attemptsOf<In, Out>({ past }: Call<In, Out>): number {
  return past === undefined ? 1 : 1 + past.retries + past.freeTries + (past.wasFresh ? 1 : 0);
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

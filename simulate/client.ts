/**
 * A client: one process with its own balancer and its own retry budget, which knows of the servers only what its own
 * requests and dials have met. It is what the pool and the client above it do, without sockets: the balancer says where a
 * request should go; without a socket there, one is dialed for the next caller, and this one goes where there is a socket.
 */
import type { RandomSource } from '../src/clock.ts';
import { PulsepoolError } from '../src/errors.ts';
import { type BudgetOptions, RetryBudget } from '../src/retry/budget.ts';
import { decide } from '../src/retry/decision.ts';
import { Backoff, type BackoffBounds, fullJitterMs } from '../src/transport/backoff.ts';
import type { Agenda } from './agenda.ts';
import { Attempt, type AttemptOwner, type Call, type Outcome } from './attempt.ts';
import type { Chooser } from './chooser.ts';
import type { Line } from './line.ts';
import { ROUND_TRIP_MS } from './server.ts';
import type { Tally } from './tally.ts';

/** How a client repeats requests. */
export interface RetryRule {
  /** After the first try. */
  readonly retries: number;
  /** The wait before each, with full jitter; none: at once. */
  readonly backoff: BackoffBounds | undefined;
  /** None: everything may be repeated. */
  readonly budget: BudgetOptions | undefined;
}

/** What a client is made of. */
export interface ClientParts {
  readonly agenda: Agenda;
  readonly tally: Tally;
  readonly chooser: Chooser;
  readonly retry: RetryRule;
  /** For each try, in ms. */
  readonly timeoutMs: number;
  readonly random: RandomSource;
}

/** The back-off of dials, as the pool has it by default. */
export const DIAL_BACKOFF: BackoffBounds = { baseMs: 100, capMs: 2_000 };
// As the AWS SDKs have it: a request that timed out has cost its server more than one that was refused.
const TIMEOUT_COST = 2;
const REFUSED = new PulsepoolError('ERR_REFUSED', 'the server does not listen', {
  hint: 'It is a simulation.',
  retryable: true,
});

/** See the file's comment. */
export class Client implements AttemptOwner {
  readonly chooser: Chooser;
  /** Tries that are out. */
  inFlight = 0;
  readonly #parts: ClientParts;
  readonly #budget: RetryBudget | undefined;

  constructor(parts: ClientParts) {
    this.chooser = parts.chooser;
    this.#parts = parts;
    this.#budget = parts.retry.budget === undefined ? undefined : new RetryBudget(parts.retry.budget);
  }

  /** A caller asks. */
  ask(call: Call): void {
    this.#budget?.deposit(call.askedAt);
    this.#send(call);
  }

  /** Its server has gone: the socket is closed. */
  onClosed(line: Line): void {
    line.isOpen = false;
  }

  onSettled(attempt: Attempt, outcome: Outcome): void {
    const { chooser, tally } = this.#parts;
    const { call, line, sentAt } = attempt;
    const now = this.#parts.agenda.now;
    line.returned();
    line.answered(now);
    this.inFlight -= 1;
    if (outcome === 'answered') {
      chooser.succeeded(line, now - sentAt, now);
      tally.answered(call, now);
      return;
    }
    chooser.failed(line, 'request', now, sentAt);
    call.last = line;
    this.#repeat(call, outcome);
  }

  // ---- sending -------------------------------------------------------------------------------------------

  #send(call: Call): void {
    const { agenda, tally, timeoutMs } = this.#parts;
    const { now } = agenda;
    const line = this.#lineFor(call, now);
    if (line === undefined) {
      this.#repeat(call, 'refused');
      return;
    }
    if (line.server.state === 'down') throw new Error('bug: a socket outlived its server');
    line.lent();
    line.asked(now);
    this.inFlight += 1;
    tally.sent(call, line, now);
    line.server.take(new Attempt(call, line, now, timeoutMs, this));
  }

  #lineFor({ key, last }: Call, now: number): Line | undefined {
    const { chooser } = this.#parts;
    const wish = key === undefined && last === undefined ? undefined : { key, avoid: last };
    const picked = chooser.pick(now, wish);
    if (picked === undefined || picked.isOpen) return picked;
    if (picked.mayDial(now)) this.#dial(picked, now);
    else if (!picked.isDialing) chooser.forgo(picked, now);
    return chooser.pick(now, { ...wish, accept: isOpen });
  }

  #dial(line: Line, startedAt: number): void {
    const { agenda, chooser, random, tally } = this.#parts;
    line.isDialing = true;
    tally.dialed(startedAt);
    agenda.after(ROUND_TRIP_MS, () => {
      const { now } = agenda;
      line.isDialing = false;
      if (line.server.state === 'down') {
        line.backoff ??= new Backoff(DIAL_BACKOFF, random);
        line.backoff.failed(REFUSED, startedAt, now);
        chooser.failed(line, 'dial', now, startedAt);
        return;
      }
      line.isOpen = true;
      line.backoff?.opened(startedAt, now);
      chooser.opened(line, now);
      chooser.forgo(line, now);
    });
  }

  // ---- repeating -----------------------------------------------------------------------------------------

  #repeat(call: Call, outcome: Exclude<Outcome, 'answered'>): void {
    const { agenda, random, retry, tally } = this.#parts;
    const { now } = agenda;
    const decision = decide({
      sent: 'full',
      firstByte: outcome === 'refused',
      reused: true,
      died: outcome === 'lost',
      isRefusal: outcome === 'refused',
      retryable: true,
      idempotent: true,
      isFreshUsed: call.wasFresh,
      freeTriesLeft: 0,
      retriesLeft: retry.retries - call.retries,
      hasBudget: this.#budget === undefined || this.#budget.balance(now) >= 1,
      breakerOpenMs: 0,
      remainingMs: Number.POSITIVE_INFINITY,
      backoffMs: retry.backoff === undefined ? 0 : fullJitterMs(call.retries, retry.backoff, random),
      serverDelayMs: 0,
    });
    if (decision.kind === 'fail') {
      tally.failed(now);
      return;
    }
    if (decision.kind === 'fresh') call.wasFresh = true;
    else {
      call.retries += 1;
      this.#budget?.withdraw(now, outcome === 'timeout' ? TIMEOUT_COST : 1);
    }
    agenda.after(decision.kind === 'later' ? decision.waitMs : 0, () => this.#send(call));
  }
}

function isOpen(line: Line): boolean {
  return line.isOpen;
}

/**
 * Random lives of a client: callers ask, abort and are late; the server answers, refuses, stays silent, talks nonsense,
 * dies and comes back, alone or as one of three endpoints; other callers take sockets of the same pool; time passes and freezes; in the end the client closes.
 * What must be true whatever happens: each caller is told once, with their own reply or an error that tells how much was
 * sent; what is not idempotent reaches servers at most once; the books balance after every step, and nothing is left, nor
 * counted at any endpoint.
 *
 * `PULSEPOOL_MODEL_STEPS` sets how many things happen (20,000 by default). A failure prints what is to be set to see it
 * again: `PULSEPOOL_MODEL_SEED`, `PULSEPOOL_MODEL_PATH`.
 */
import process from 'node:process';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Client } from '../../src/client/client.ts';
import type { ClientMode } from '../../src/client-options.ts';
import { assembleClient } from '../../src/create-client.ts';
import type { Sent } from '../../src/errors.ts';
import type { Lease } from '../../src/pool/lease.ts';
import type { Pool } from '../../src/pool/pool.ts';
import { lines } from '../../src/transport/lines.ts';
import { Audit } from '../support/audit.ts';
import { bodyOf } from '../support/client-steps.ts';
import { Backend, ClientAudit, IDS, MODES, type Options, optionsOf } from '../support/client-world.ts';
import { FakeNet } from '../support/fake-net.ts';

const USUAL_STEPS = 20_000;
const STEPS = Number(process.env['PULSEPOOL_MODEL_STEPS'] ?? USUAL_STEPS);
const SEED = Number(process.env['PULSEPOOL_MODEL_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const PATH = process.env['PULSEPOOL_MODEL_PATH'];

// Lives in one search: when one fails, it is shrunk from here.
const LIVES = 50;
const MS_PER_STEP = 20;

const ADDRESSES = ['10.0.0.1', '10.0.0.2', '10.0.0.3'];

// What must have been seen in a run of the usual length.
const OUTCOMES = [
  'ok',
  'aborted',
  'ERR_DEADLINE',
  'ERR_CONNECTION_LOST',
  'ERR_READ_TIMEOUT',
  'ERR_ACQUIRE_FAILED',
  'ERR_ACQUIRE_TIMEOUT',
  'ERR_CIRCUIT_OPEN',
  'ERR_FRAME',
  'ERR_UNSOLICITED',
  'ERR_OVERLOADED',
  'ERR_POOL_CLOSED',
  'retried again',
  'retried fresh',
  'retried later',
  'hedged',
  'hedge won',
  'refused by the server',
  'breakerOpened',
  'breakerClosed',
];

/** One thing that happens. `pick` chooses among what there is. */
type Step =
  | {
      readonly does: 'ask';
      readonly idempotent: boolean;
      readonly timeoutMs: number | undefined;
      readonly isAbortable: boolean;
      readonly isInFamily: boolean;
      /** Where keys say where calls go. */
      readonly key?: string | undefined;
      readonly isBad: boolean;
      /** Sockets die before it can leave. */
      readonly isHasty: boolean;
    }
  | { readonly does: 'pass' | 'freeze'; readonly ms: number }
  | {
      readonly does: 'abort' | 'answer' | 'refuse' | 'reset' | 'fin' | 'garble' | 'stray' | 'giveBack';
      readonly pick: number;
    }
  | { readonly does: 'lend' | 'suspend' | 'resume' | 'renew' }
  | { readonly does: 'dials'; readonly as: 'open' | 'slow' | 'refuse' }
  | { readonly does: 'resize'; readonly max: number }
  /** One of several endpoints dies, or comes back. */
  | { readonly does: 'kill' | 'revive'; readonly pick: number };

const pick = fc.nat(1_000);
const always = <T>(value: T): fc.Arbitrary<T> => fc.constant(value);
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 30,
    arbitrary: fc.record({
      does: always('ask' as const),
      idempotent: fc.boolean(),
      timeoutMs: fc.constantFrom(undefined, undefined, 30, 300, 2_500),
      isAbortable: fc.boolean(),
      isInFamily: fc.boolean(),
      key: fc.constantFrom(undefined, 'a', 'b', 'c'),
      isBad: fc.nat(30).map((chance) => chance === 0),
      isHasty: fc.nat(30).map((chance) => chance === 0),
    }),
  },
  {
    weight: 12,
    arbitrary: fc.record({ does: always('pass' as const), ms: fc.constantFrom(1, 7, 60, 250, 1_500) }),
  },
  { weight: 1, arbitrary: fc.record({ does: always('freeze' as const), ms: fc.constantFrom(20, 600) }) },
  { weight: 30, arbitrary: fc.record({ does: always('answer' as const), pick }) },
  {
    weight: 12,
    arbitrary: fc.record({
      does: fc.constantFrom('abort', 'refuse', 'reset', 'fin', 'garble', 'stray', 'giveBack'),
      pick,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ does: fc.constantFrom('lend', 'suspend', 'resume', 'resume', 'renew') }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      does: always('dials' as const),
      as: fc.constantFrom('open', 'open', 'slow', 'refuse'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ does: always('resize' as const), max: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 2, arbitrary: fc.record({ does: fc.constantFrom('kill', 'revive', 'revive'), pick }) },
);

const worlds = fc.record({
  mode: fc.constantFrom(...MODES),
  // None: a single endpoint.
  balance: fc.constantFrom(undefined, undefined, 'p2c', 'round-robin', 'consistent-hash'),
  max: fc.integer({ min: 1, max: 3 }),
  maxInFlight: fc.integer({ min: 1, max: 5 }),
  maxId: fc.constantFrom(undefined, 6),
  hedge: fc.boolean(),
  hasBreaker: fc.boolean(),
  isWarm: fc.boolean(),
  maxWaiting: fc.constantFrom(Number.POSITIVE_INFINITY, 3),
  maxUses: fc.constantFrom(Number.POSITIVE_INFINITY, 4),
  // Not 0: with no back-off at all, dials that are refused in no time would never let time pass.
  chance: fc.constantFrom(0.1, 0.5, 0.99),
});

type Drawn = typeof worlds extends fc.Arbitrary<infer T> ? T : never;

const tally = new Map<string, number>();
const count = (what: string, by = 1): void => {
  tally.set(what, (tally.get(what) ?? 0) + by);
};

/** One caller, as the model knows it. */
interface Caller {
  readonly message: string;
  readonly idempotent: boolean;
  readonly controller: AbortController | undefined;
  told: number;
}

/** One life. */
class Life {
  readonly #net: FakeNet = new FakeNet();
  readonly #backend: Backend;
  readonly #client: Client<string, string>;
  readonly #pool: Pool<string, string>;
  readonly #audit: Audit;
  readonly #books: ClientAudit;
  readonly #mode: ClientMode;
  readonly #isKeyed: boolean;
  readonly #callers: Caller[] = [];
  readonly #leases: Lease<string, string>[] = [];
  readonly #seen: Map<string, number> = new Map();
  // So often the server has said that it did not do it.
  readonly #refused: Map<string, number> = new Map();
  readonly #family: AbortController = new AbortController();

  constructor(drawn: Drawn) {
    const { balance, chance, hasBreaker, hedge, max, maxId, maxInFlight, maxUses, maxWaiting, mode } = drawn;
    this.#net.random = () => chance;
    this.#mode = mode;
    this.#isKeyed = balance === 'consistent-hash';
    const own: Options = {
      ...(balance === undefined ? {} : { balance, endpoints: ADDRESSES.map((address) => `${address}:1`) }),
      max,
      maxUses,
      maxWaiting,
      hedge,
      codec: lines({ maxFrameBytes: 500 }),
      readTimeoutMs: 400,
      acquireTimeoutMs: 1_000,
      timeoutMs: 5_000,
      retry: { retries: 2, baseMs: 20, capMs: 100 },
      retryAfter: (reply) => (bodyOf(reply).startsWith('Busy') ? 40 : undefined),
      ...(mode === 'exclusive' ? {} : { maxInFlight }),
      ...(mode === 'multiplexed' ? { correlate: { ...IDS, maxId } } : {}),
      ...(hasBreaker ? { breaker: { failures: 3, openMs: 500, maxOpenMs: 2_000 } } : {}),
    };
    this.#backend = new Backend(this.#net, mode === 'multiplexed', false);
    this.#backend.onQuestion = (_, line) => {
      const question = bodyOf(line);
      this.#seen.set(question, (this.#seen.get(question) ?? 0) + 1);
    };
    const both = assembleClient<string, string>(this.#net.surroundings, optionsOf(mode, own));
    this.#client = both.client;
    this.#pool = both.pool;
    this.#audit = new Audit(both, this.#net);
    this.#books = new ClientAudit(this.#client, mode, this.#net);
    this.#client.on('breakerOpened', () => count('breakerOpened'));
    this.#client.on('breakerClosed', () => count('breakerClosed'));
  }

  /** As many as hedging needs. */
  async warmUp(): Promise<void> {
    this.#backend.isEchoing = true;
    for (let round = 0; round < 120; round++) {
      this.#ask({
        idempotent: false,
        timeoutMs: undefined,
        isAbortable: false,
        isInFamily: false,
        isBad: false,
      });
      await this.#net.clock.advance(1);
    }
    this.#backend.isEchoing = false;
  }

  async live(step: Step): Promise<void> {
    count('steps');
    const { clock } = this.#net;
    switch (step.does) {
      case 'ask':
        this.#ask(step);
        if (step.isHasty) {
          for (const { due, peer } of this.#backend.sides)
            if (due.length > 0 && !peer.isClientGone) peer.reset();
          await new Promise((resolve) => setImmediate(resolve));
        }
        break;
      case 'pass':
        await clock.advance(step.ms);
        break;
      case 'freeze':
        clock.freeze(step.ms);
        break;
      case 'abort':
        this.#abort(step.pick);
        break;
      case 'lend':
        this.#pool.acquire({ timeoutMs: 300 }).then(
          (lease) => this.#leases.push(lease),
          () => undefined,
        );
        break;
      case 'giveBack':
        this.#leases.splice(step.pick % (this.#leases.length + 1), 1)[0]?.release();
        break;
      case 'suspend':
        this.#pool.suspend().catch(() => undefined);
        break;
      case 'resume':
        this.#pool.resume();
        break;
      case 'renew':
        this.#pool.reset().catch(() => undefined);
        break;
      case 'resize':
        this.#pool.resize({ max: step.max });
        break;
      case 'kill':
        this.#kill(ADDRESSES[step.pick % ADDRESSES.length] ?? '');
        break;
      case 'revive':
        this.#net.outcomes.delete(ADDRESSES[step.pick % ADDRESSES.length] ?? '');
        break;
      case 'dials':
        this.#net.outcome =
          step.as === 'refuse' ? { kind: 'refuse' } : { kind: 'open', afterMs: step.as === 'slow' ? 90 : 0 };
        break;
      default:
        this.#serve(step.does, step.pick);
    }
    await clock.advance(0);
    this.#check();
  }

  async end(): Promise<void> {
    const { clock } = this.#net;
    const closing = this.#client.close({ timeoutMs: 700 });
    this.#ask({
      idempotent: true,
      timeoutMs: undefined,
      isAbortable: false,
      isInFamily: false,
      isBad: false,
    });
    await clock.advance(300);
    this.#check();
    for (const side of this.#backend.sides)
      if (!side.peer.isClientGone && side.due.length > 0) side.answer(1);
    for (const lease of this.#leases.splice(1)) lease.release();
    await clock.advance(2_000);
    await closing;
    this.#audit.checkEnd();
    this.#books.checkEnd();
    for (const caller of this.#callers) {
      if (caller.told !== 1) throw new Error(`${caller.message} was told ${caller.told} times`);
    }
    this.#checkSeen();
    for (const { endpoint, inFlight } of this.#pool.endpoints()) {
      if (inFlight !== 0) throw new Error(`${inFlight} in flight at ${endpoint} at the end`);
    }
    const { hedged, hedgesWon, retried } = this.#client.stats();
    for (const how of ['again', 'fresh', 'later'] as const) count(`retried ${how}`, retried[how]);
    count('hedged', hedged);
    count('hedge won', hedgesWon);
  }

  #kill(address: string): void {
    this.#net.outcomes.set(address, { kind: 'refuse' });
    for (const peer of this.#net.openPeers) if (peer.address === address) peer.reset();
    count('killed');
  }

  #check(): void {
    for (const { endpoint, inFlight } of this.#pool.endpoints()) {
      if (inFlight < 0) throw new Error(`${inFlight} in flight at ${endpoint}`);
    }
    this.#audit.check();
    this.#books.check();
    this.#checkSeen();
  }

  #checkSeen(): void {
    for (const { idempotent, message } of this.#callers) {
      const seen = this.#seen.get(message) ?? 0;
      const allowed = 1 + (this.#refused.get(message) ?? 0);
      if (!idempotent && seen > allowed)
        throw new Error(`servers saw ${message} ${seen} times, ${allowed} allowed`);
    }
  }

  #ask(how: Omit<Extract<Step, { does: 'ask' }>, 'does' | 'isHasty'>): void {
    const { idempotent, isAbortable, isBad, isInFamily, timeoutMs } = how;
    const controller = isAbortable ? new AbortController() : undefined;
    const message = `m${this.#callers.length}${isBad ? '\nbad' : ''}`;
    const caller: Caller = { message, idempotent, controller, told: 0 };
    this.#callers.push(caller);
    const key = this.#isKeyed ? how.key : undefined;
    const hasOptions =
      isAbortable || idempotent || timeoutMs !== undefined || isInFamily || key !== undefined;
    const options = hasOptions ? { idempotent, timeoutMs, signal: controller?.signal, key } : undefined;
    const request = async (): Promise<string> =>
      isInFamily
        ? this.#client.withDeadline({ signal: this.#family.signal }).request(message, options)
        : this.#client.request(message, options);
    request().then(
      (reply) => this.#onReply(caller, bodyOf(reply)),
      (error: unknown) => this.#onError(caller, error),
    );
  }

  #onReply(caller: Caller, reply: string): void {
    caller.told += 1;
    if (reply !== `Echo: ${caller.message}` && reply !== `Busy: ${caller.message}`) {
      throw new Error(`${caller.message} was told ${reply}`);
    }
    count('ok');
  }

  #onError(caller: Caller, error: unknown): void {
    caller.told += 1;
    if (error === 'enough') {
      count('aborted');
      return;
    }
    const { code, sent } = error as { code: string; sent: Sent };
    count(code);
    const seen = this.#seen.get(caller.message) ?? 0;
    if (seen > 0 && sent === 'none') throw new Error(`${caller.message}: ${code} says that nothing was sent`);
  }

  #abort(at: number): void {
    const able = this.#callers.filter(({ controller, told }) => controller !== undefined && told === 0);
    able[at % Math.max(1, able.length)]?.controller?.abort('enough');
    if (at % 40 === 0) this.#family.abort('enough');
  }

  #serve(does: 'answer' | 'refuse' | 'reset' | 'fin' | 'garble' | 'stray', at: number): void {
    const open = this.#backend.sides.filter(({ peer }) => !peer.isClientGone);
    const busy = open.filter(({ due }) => due.length > 0);
    const resting = open.filter(({ due }) => due.length === 0);
    let among = does === 'answer' || does === 'refuse' || at % 3 > 0 ? busy : open;
    // Without ids a stray frame that comes while a reply is due looks like that reply: nobody can tell.
    if (does === 'stray' && this.#mode !== 'multiplexed') among = resting;
    const side = among[at % Math.max(1, among.length)];
    if (side === undefined) return;
    if (does === 'reset') side.peer.reset();
    else if (does === 'fin') side.peer.fin();
    else if (does === 'garble') side.say('x'.repeat(600));
    else if (does === 'stray') side.say(at % 2 === 0 ? '77777:stray\n' : 'half');
    else {
      const index = this.#mode === 'multiplexed' ? at % side.due.length : 0;
      const [line = ''] = side.due.splice(index, 1);
      if (does === 'answer') side.say(this.#backend.replyTo(line));
      else {
        const question = bodyOf(line);
        count('refused by the server');
        this.#refused.set(question, (this.#refused.get(question) ?? 0) + 1);
        side.say(this.#backend.replyTo(line).replace('Echo', 'Busy'));
      }
    }
  }
}

const warnings: Error[] = [];
const onWarning = (warning: Error): void => {
  if (warning.name === 'PulsepoolWarning') warnings.push(warning);
};
const thrown: unknown[] = [];
const onThrown = (error: unknown): void => {
  thrown.push(error);
};

// Vitest asks for a hundred frames, and most of what happens here is errors.
const { stackTraceLimit } = Error;

beforeAll(() => {
  Error.stackTraceLimit = 10;
  process.on('warning', onWarning);
  process.prependListener('unhandledRejection', onThrown);
  process.prependListener('uncaughtException', onThrown);
});

afterAll(() => {
  Error.stackTraceLimit = stackTraceLimit;
  process.off('warning', onWarning);
  process.off('unhandledRejection', onThrown);
  process.off('uncaughtException', onThrown);
});

const life = fc.asyncProperty(
  worlds,
  fc.array(steps, { maxLength: 120, size: 'max' }),
  async (drawn, happens) => {
    const lived = new Life(drawn);
    if (drawn.isWarm) await lived.warmUp();
    for (const step of happens) {
      await lived.live(step);
      if (thrown.length > 0) throw thrown.splice(0)[0];
    }
    await lived.end();
    if (thrown.length > 0) throw thrown.splice(0)[0];
    if (warnings.length > 0) throw new Error(`something threw inside: ${warnings.splice(0)[0]?.message}`);
  },
);

it(
  `keeps what a client promises for ${STEPS.toLocaleString('en')} steps`,
  async () => {
    for (let seed = SEED; (tally.get('steps') ?? 0) < STEPS; seed++) {
      await fc.assert(life, {
        seed,
        numRuns: LIVES,
        includeErrorInReport: true,
        ...(PATH === undefined ? {} : { path: PATH }),
      });
      if (PATH !== undefined) return;
    }
    if (process.env['PULSEPOOL_MODEL_TALLY'] !== undefined)
      console.log(Object.fromEntries([...tally].sort()));
    if (STEPS >= USUAL_STEPS)
      expect(OUTCOMES.filter((what) => !tally.has(what) || tally.get(what) === 0)).toEqual([]);
  },
  60_000 + STEPS * MS_PER_STEP,
);

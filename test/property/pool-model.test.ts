/**
 * Random lives of a pool: callers come, go, abort and forget; the server answers, stalls, dies and comes back; time
 * passes and freezes. After every step the books must balance, and at the end nothing may be left.
 *
 * `PULSEPOOL_MODEL_RUNS` sets how many lives are lived (400 by default, about 50 steps each).
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { assemble } from '../../src/create-pool.ts';
import { PulsepoolError } from '../../src/errors.ts';
import type { Lease } from '../../src/pool/lease.ts';
import { lines } from '../../src/transport/lines.ts';
import { type Assembled, audit, auditEnd } from '../support/audit.ts';
import { FakeNet, type FakePeer } from '../support/fake-net.ts';

const RUNS = Number(process.env['PULSEPOOL_MODEL_RUNS'] ?? 400);

const SERVER_MODES = ['ok', 'late', 'never', 'garbage', 'stray', 'drop'] as const;
type ServerMode = (typeof SERVER_MODES)[number];

interface Sizes {
  readonly min: number;
  readonly idle: number;
  readonly max: number;
  readonly pings: boolean;
  readonly shortLived: boolean;
}

type Action =
  | { readonly do: 'acquire'; readonly timeoutMs: number | undefined; readonly isAbortable: boolean }
  | {
      readonly do: 'abort' | 'release' | 'destroy' | 'releaseAgain' | 'fin' | 'reset' | 'stray';
      readonly pick: number;
    }
  | { readonly do: 'mute'; readonly pick: number; readonly isMute: boolean }
  | { readonly do: 'ask'; readonly pick: number; readonly timeoutMs: number | undefined }
  | {
      readonly do: 'request';
      readonly timeoutMs: number | undefined;
      readonly idempotent: boolean;
      readonly frozenMs: number;
    }
  | { readonly do: 'server'; readonly mode: ServerMode }
  | { readonly do: 'network'; readonly is: 'up' | 'slow' | 'down' | 'hanging' | 'untrusted' | 'closing' }
  | { readonly do: 'ready' | 'close' }
  | { readonly do: 'pass' | 'freeze'; readonly ms: number };

const timeoutMs = fc.option(fc.constantFrom(0, 1, 50, 400, 3_000), { nil: undefined });
const pick = fc.nat(7);

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 20,
    arbitrary: fc.record({ do: fc.constant('acquire' as const), timeoutMs, isAbortable: fc.boolean() }),
  },
  {
    weight: 24,
    arbitrary: fc.record({
      do: fc.constantFrom('abort', 'release', 'release', 'destroy', 'releaseAgain', 'fin', 'reset', 'stray'),
      pick,
    }) as fc.Arbitrary<Action>,
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('mute' as const), pick, isMute: fc.boolean() }) },
  { weight: 12, arbitrary: fc.record({ do: fc.constant('ask' as const), pick, timeoutMs }) },
  {
    weight: 16,
    arbitrary: fc.record({
      do: fc.constant('request' as const),
      timeoutMs,
      idempotent: fc.boolean(),
      frozenMs: fc.constantFrom(0, 0, 0, 25),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('server' as const), mode: fc.constantFrom(...SERVER_MODES) }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('network' as const),
      is: fc.constantFrom('up', 'slow', 'down', 'hanging', 'untrusted', 'closing'),
    }),
  },
  {
    weight: 24,
    arbitrary: fc.record({
      do: fc.constant('pass' as const),
      ms: fc.constantFrom(0, 1, 10, 30, 100, 170, 450, 1_200),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('freeze' as const), ms: fc.constantFrom(20, 300, 2_000) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('ready' as const, 'close' as const) }) },
);

const sizes: fc.Arbitrary<Sizes> = fc
  .record({
    min: fc.nat(2),
    idle: fc.nat(4),
    max: fc.integer({ min: 1, max: 4 }),
    pings: fc.boolean(),
    shortLived: fc.boolean(),
  })
  .map((drawn) => {
    const min = Math.min(drawn.min, drawn.max);
    return { ...drawn, min, idle: Math.min(drawn.max, Math.max(min, drawn.idle)) };
  });

/** A call whose end is awaited: what it is, and until when it must have ended. */
interface Pending {
  readonly what: string;
  readonly deadlineAt: number;
  isSettled: boolean;
}

const ACQUIRE_TIMEOUT_MS = 2_000;
const READ_TIMEOUT_MS = 1_500;
const LATE_MS = 120;

/** One pool with its server and its callers. */
class World {
  readonly net: FakeNet = new FakeNet();
  readonly both: Assembled;
  readonly leases: Lease<string, string>[] = [];
  readonly ended: Lease<string, string>[] = [];
  readonly aborters: AbortController[] = [];
  readonly pending: Pending[] = [];
  /** Wrong replies, and errors that are not ours. */
  readonly faults: unknown[] = [];
  mode: ServerMode = 'ok';
  readonly #busyUntil: WeakMap<FakePeer, number> = new WeakMap();
  readonly #goOn: WeakMap<FakePeer, () => void> = new WeakMap();
  readonly #silent: WeakSet<FakePeer> = new WeakSet();
  readonly #asking: WeakSet<object> = new WeakSet();
  #callers = 0;
  #lastServed = 0;
  #questions = 0;

  constructor({ idle, max, min, pings, shortLived }: Sizes, seed: number) {
    let state = seed;
    this.net.random = () => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
      return state / 2 ** 31;
    };
    this.net.onPeer = (peer) => this.#serve(peer);
    this.both = assemble<string, string>(this.net.surroundings, {
      host: 'fake',
      port: 1,
      codec: lines({ maxFrameBytes: 64 }),
      min,
      maxIdle: idle,
      max,
      connectTimeoutMs: 500,
      acquireTimeoutMs: ACQUIRE_TIMEOUT_MS,
      readTimeoutMs: READ_TIMEOUT_MS,
      idleTimeoutMs: shortLived ? 300 : 55_000,
      maxLifetimeMs: shortLived ? 1_000 : 1_800_000,
      retry: { retries: 2, baseMs: 20, capMs: 200 },
      ...(pings
        ? {
            heartbeat: {
              intervalMs: 200,
              timeoutMs: 100,
              maxMissed: 2,
              ping: 'PING',
              isPong: (line) => line === 'PONG',
            },
          }
        : {}),
    });
    // Listeners that meddle: nothing they do may hurt.
    const { pool } = this.both;
    pool.on('closed', () => {
      pool.stats();
    });
    pool.on('acquireFailed', () => {
      this.acquire(50, undefined);
    });
  }

  acquire(timeoutMs: number | undefined, signal: AbortSignal | undefined): void {
    this.#callers += 1;
    const caller = this.#callers;
    const promise = this.both.pool.acquire({ signal, timeoutMs });
    this.#track('acquire', timeoutMs ?? ACQUIRE_TIMEOUT_MS, promise, (lease) => {
      expect(caller, 'first come, first served').toBeGreaterThan(this.#lastServed);
      this.#lastServed = caller;
      this.leases.push(lease);
    });
  }

  /** One question at a time: behind an unanswered one, a stray frame could not be told from its reply. */
  ask(lease: Lease<string, string>, timeoutMs: number | undefined): void {
    if (this.#asking.has(lease)) return;
    this.#asking.add(lease);
    const question = this.#nextQuestion();
    this.#track('ask', timeoutMs ?? READ_TIMEOUT_MS * 2, lease.request(question, { timeoutMs }), (reply) => {
      this.#asking.delete(lease);
      expect(reply, 'the reply to the right question').toBe(`Echo: ${question}`);
    });
  }

  request(timeoutMs: number | undefined, idempotent: boolean): void {
    const question = this.#nextQuestion();
    // Four attempts that each wait, read and sleep as long as they may.
    const limit = timeoutMs ?? 4 * (ACQUIRE_TIMEOUT_MS + 2 * READ_TIMEOUT_MS + 200);
    this.#track('request', limit, this.both.pool.request(question, { timeoutMs, idempotent }), (reply) => {
      expect(reply, 'the reply to the right question').toBe(`Echo: ${question}`);
    });
  }

  ready(): void {
    this.#track('ready', Number.POSITIVE_INFINITY, this.both.pool.ready(), () => undefined);
  }

  check(): void {
    for (const fault of this.faults) throw fault;
    audit(this.both, this.net);
    const now = this.net.clock.now();
    for (const call of this.pending) {
      // A ms of grace for each turn that a verdict waits.
      if (!call.isSettled)
        expect(call.deadlineAt, `${call.what} ends in time`).toBeGreaterThanOrEqual(now - 5);
    }
    const requests = this.pending.filter((call) => call.what === 'request' && !call.isSettled).length;
    const usable = this.leases.filter((lease) => lease.isUsable).length;
    expect(this.both.pool.stats().leased, 'nobody holds what no caller has').toBeLessThanOrEqual(
      usable + requests,
    );
    const held = this.leases.filter((lease) => lease.isUsable).map((lease) => lease.connectionId);
    expect(new Set(held).size, 'one holder for each socket').toBe(held.length);
  }

  #nextQuestion(): string {
    this.#questions += 1;
    return `q${this.#questions}`;
  }

  #track<T>(what: string, timeoutMs: number, promise: Promise<T>, onValue: (value: T) => void): void {
    const call: Pending = { what, deadlineAt: this.net.clock.now() + timeoutMs, isSettled: false };
    this.pending.push(call);
    promise
      .then(onValue, (error: unknown) => {
        if (!(error instanceof PulsepoolError) && !(error instanceof DOMException)) throw error;
      })
      .catch((error: unknown) => this.faults.push(error))
      .finally(() => {
        call.isSettled = true;
      });
  }

  /** Stops a server's process, or lets it go on with everything that has come meanwhile. */
  stop(peer: FakePeer, isMute: boolean): void {
    if (this.#silent.has(peer)) return;
    peer.isMute = isMute;
    this.#goOn.get(peer)?.();
  }

  #serve(peer: FakePeer): void {
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
    if (line === 'PING') this.#send(peer, 'PONG\n', 1);
    else if (this.mode === 'ok') this.#send(peer, reply, 0);
    else if (this.mode === 'late') this.#send(peer, reply, LATE_MS);
    else if (this.mode === 'garbage') this.#send(peer, 'x'.repeat(100), 0);
    else if (this.mode === 'stray') this.#send(peer, `${reply}stray\n`, 0);
    // For good: a server that skips one question and answers the next can't be told from one that is late.
    else if (this.mode === 'never') {
      peer.isMute = true;
      this.#silent.add(peer);
    } else {
      peer.write(reply.slice(0, 3));
      peer.fin();
    }
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
}

function step(world: World, act: Action): void {
  const { net, leases, ended, aborters } = world;
  const { pool } = world.both;
  const open = net.peers.filter((peer) => !peer.isClientGone && !peer.stream.writableEnded);
  switch (act.do) {
    case 'acquire': {
      const aborter = act.isAbortable ? new AbortController() : undefined;
      if (aborter !== undefined) aborters.push(aborter);
      world.acquire(act.timeoutMs, aborter?.signal);
      return;
    }
    case 'abort':
      aborters.splice(act.pick % Math.max(1, aborters.length), 1)[0]?.abort();
      return;
    case 'release':
    case 'destroy': {
      const lease = leases.splice(act.pick % Math.max(1, leases.length), 1)[0];
      if (lease === undefined) return;
      if (act.do === 'release') lease.release();
      else lease.destroy();
      ended.push(lease);
      return;
    }
    case 'releaseAgain': {
      const lease = ended[act.pick % Math.max(1, ended.length)];
      if (lease === undefined) return;
      // After destroy() one release is allowed, and changes nothing either.
      try {
        pool.release(lease);
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_LEASE' });
      }
      return;
    }
    case 'fin':
      open[act.pick % Math.max(1, open.length)]?.fin();
      return;
    case 'reset':
      open[act.pick % Math.max(1, open.length)]?.reset();
      return;
    case 'stray': {
      // Only where nobody has asked: a stray frame ahead of a due reply can't be told from it.
      const resting = open.filter((peer) => peer.received === '' || peer.received.endsWith('PING\n'));
      if (world.leases.length === 0 && pool.stats().leased === 0)
        resting[act.pick % Math.max(1, resting.length)]?.write('stray\n');
      return;
    }
    case 'mute': {
      const peer = open[act.pick % Math.max(1, open.length)];
      if (peer !== undefined) world.stop(peer, act.isMute);
      return;
    }
    case 'ask': {
      const lease = leases[act.pick % Math.max(1, leases.length)];
      if (lease !== undefined) world.ask(lease, act.timeoutMs);
      return;
    }
    case 'request':
      // Before anything that fell due meanwhile.
      net.clock.freeze(act.frozenMs);
      world.request(act.timeoutMs, act.idempotent);
      return;
    case 'server':
      world.mode = act.mode;
      return;
    case 'network':
      setNetwork(world, act.is);
      return;
    case 'ready':
      world.ready();
      return;
    case 'close':
      pool.close({ timeoutMs: 300 }).catch(() => undefined);
      return;
    case 'pass':
    case 'freeze':
      return;
  }
}

function setNetwork({ net }: World, is: Extract<Action, { do: 'network' }>['is']): void {
  const serve = net.onPeer;
  const onPeer = baseOnPeer.get(net) ?? serve;
  baseOnPeer.set(net, onPeer);
  net.onPeer = onPeer;
  net.outcome = { kind: 'open' };
  if (is === 'slow') net.outcome = { kind: 'open', afterMs: 60 };
  if (is === 'down') net.outcome = { kind: 'refuse', afterMs: 1 };
  if (is === 'hanging') net.outcome = { kind: 'refuse', afterMs: 500 };
  if (is === 'untrusted') net.outcome = { kind: 'refuse', retryable: false };
  if (is === 'closing') net.onPeer = (peer) => peer.fin();
}

const baseOnPeer = new WeakMap<FakeNet, FakeNet['onPeer']>();

it(`keeps every promise in ${RUNS} random lives`, async () => {
  let steps = 0;
  await fc.assert(
    fc.asyncProperty(
      sizes,
      fc.nat(),
      fc.array(action, { minLength: 5, maxLength: 90, size: 'max' }),
      async (drawn, seed, acts) => {
        const world = new World(drawn, seed);
        const { clock } = world.net;
        for (const act of acts) {
          steps += 1;
          step(world, act);
          if (act.do === 'freeze') {
            // Whatever comes next happens before anything that fell due meanwhile.
            clock.freeze(act.ms);
            continue;
          }
          if (act.do === 'pass') await clock.advance(act.ms);
          else await clock.advance(0);
          world.check();
        }
        const closing = world.both.pool.close({ timeoutMs: 300 });
        await clock.advance(300 + 600);
        expect(await Promise.race([closing, 'still open'])).toMatchObject({ forced: expect.any(Number) });
        // The server's own late replies are timers too.
        await clock.advance(LATE_MS);
        auditEnd(world.both, world.net);
        for (const call of world.pending) expect(call.isSettled, `${call.what} has ended`).toBe(true);
      },
    ),
    { numRuns: RUNS, interruptAfterTimeLimit: 100_000 },
  );
  console.log(`${steps} steps`);
});

import { getEventListeners } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import { lookupError } from '../../src/resolve/lookup.ts';
import { type Attempt, Route } from '../../src/route.ts';
import { DialError, dialTimeout } from '../../src/transport/dial-error.ts';
import type { Endpoint } from '../../src/transport/endpoint.ts';
import { NamesWorld } from './resolve/fake-lookup.ts';

const LIMIT_MS = 1_000;
const ORDERS: Endpoint = { kind: 'tcp', host: 'orders', port: 7000 };

interface Lane {
  readonly address: string | undefined;
  /** In ms since the route was made. */
  readonly startedAt: number;
  readonly deadlineAt: number;
  readonly signal: AbortSignal;
  readonly win: (value: string) => void;
  readonly lose: (error: unknown) => void;
}

const worlds: RouteWorld[] = [];
afterEach(() => {
  for (const world of worlds.splice(0)) world.names.end();
});

/** A route whose resolver says what it is told to, and whose attempts end when the test says so. */
class RouteWorld extends NamesWorld {
  readonly route: Route;
  readonly begunAt: number;
  readonly lanes: Lane[] = [];
  readonly discarded: string[] = [];
  readonly control: AbortController = new AbortController();

  constructor(options: ConstructorParameters<typeof NamesWorld>[0] = {}) {
    super({ isAlone: true, ...options });
    const { clock, names } = this;
    this.begunAt = clock.now();
    // With this chance addresses stay in the order in which they came.
    this.route = new Route({ names, clock, random: () => 0, connectTimeoutMs: LIMIT_MS });
    worlds.push(this);
  }

  /** Each attempt waits for the test to end it. */
  readonly attempt: Attempt<string> = (address, deadlineAt, signal) =>
    new Promise((win, lose) => {
      const startedAt = this.clock.now() - this.begunAt;
      this.lanes.push({ address, startedAt, deadlineAt, signal, win, lose });
    });

  /** Each attempt hangs until its time is up, as a dial to nobody does. */
  readonly hanging: Attempt<string> = (address, deadlineAt, signal) => {
    const attempt = this.attempt(address, deadlineAt, signal);
    const lane = this.lane(this.lanes.length - 1);
    this.clock.after(Math.max(0, deadlineAt - this.clock.now()), () =>
      this.clock.turn(() => lane.lose(dialTimeout('tcp', 'orders:7000', LIMIT_MS, address))),
    );
    return attempt;
  };

  open(endpoint: Endpoint = ORDERS, attempt: Attempt<string> = this.attempt, deadlineAt?: number) {
    const opened = this.route.open<string>(
      endpoint,
      this.control.signal,
      attempt,
      (late) => this.discarded.push(late),
      deadlineAt,
    );
    opened.catch(() => undefined);
    return opened;
  }

  lane(at: number): Lane {
    const found = this.lanes[at];
    if (found === undefined) throw new Error(`attempt ${at} has not started`);
    return found;
  }

  /** Opens one by the first address that is not among the `bad` ones. Tells which were tried, in order. */
  async tried(...bad: readonly string[]): Promise<string> {
    const from = this.lanes.length;
    const opened = this.open();
    for (let at = from; ; at++) {
      await this.clock.flush();
      const { address = '', lose, win } = this.lane(at);
      if (bad.includes(address)) {
        lose(refused(address));
        continue;
      }
      win(address);
      await opened;
      return this.lanes
        .slice(from)
        .map((lane) => lane.address)
        .join(' ');
    }
  }
}

function refused(address: string): DialError {
  return new DialError('ERR_REFUSED', 'made up', {
    phase: 'tcp',
    endpoint: 'orders:7000',
    address,
    retryable: true,
    hint: 'a hint',
  });
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error('it was expected to reject');
    },
    (reason: unknown) => reason,
  );
}

describe('where the way is known', () => {
  it.each<[string, Endpoint, string | undefined]>([
    ['an IPv4 address', { kind: 'tcp', host: '10.0.0.1', port: 7000 }, '10.0.0.1'],
    [
      'an IPv6 address, written as it is compared',
      { kind: 'tcp', host: '2001:DB8:0::1', port: 7000 },
      '2001:db8::1',
    ],
    ['an address of its own under a name', { ...ORDERS, address: '10.0.0.7' }, '10.0.0.7'],
    ['the path of a Unix socket', { kind: 'unix', path: '/run/orders.sock' }, undefined],
  ])('by %s, no resolver is asked and nothing is timed here', async (_what, endpoint, address) => {
    const world = new RouteWorld();
    const opened = world.open(endpoint);
    expect(world.lanes).toMatchObject([{ address, startedAt: 0, deadlineAt: world.begunAt + LIMIT_MS }]);
    expect(world.lane(0).signal).toBe(world.control.signal);
    expect(world.clock.pendingTimers).toBe(0);
    world.lane(0).win('open');
    expect(await opened).toBe('open');
    expect(world.first.asked).toEqual([]);
  });

  it('the error of the only attempt is passed on as it is', async () => {
    const world = new RouteWorld();
    const error = refused('10.0.0.7');
    const opened = world.open({ ...ORDERS, address: '10.0.0.7' });
    world.lane(0).lose(error);
    await expect(opened).rejects.toBe(error);
  });
});

describe('a name', () => {
  it('is resolved, and its address dialed', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1']);
    const opened = world.open();
    await world.clock.flush();
    expect(world.lanes).toMatchObject([{ address: '10.0.0.1', startedAt: 0 }]);
    world.lane(0).win('open');
    expect(await opened).toBe('open');
    expect(world.first.asked).toEqual(['orders']);
    expect(world.clock.pendingTimers).toBe(0);
  });

  it('with several addresses has them raced: the next one joins after 250 ms, or at once after a failure', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1', '10.0.0.2', '10.0.0.3']);
    const opened = world.open();
    await world.clock.advance(300);
    world.lane(1).lose(refused('10.0.0.2'));
    await world.clock.flush();
    expect(world.lanes).toMatchObject([
      { address: '10.0.0.1', startedAt: 0 },
      { address: '10.0.0.2', startedAt: 250 },
      { address: '10.0.0.3', startedAt: 300 },
    ]);
    world.lane(2).win('third');
    expect(await opened).toBe('third');
    expect(world.lane(0).signal.aborted).toBe(true);
    expect(world.control.signal.aborted).toBe(false);
    expect(world.clock.pendingTimers).toBe(0);
  });

  it('that no address of answers is told under its own name, with each address', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1', '10.0.0.2']);
    const opened = world.open();
    await world.clock.flush();
    world.lane(0).lose(refused('10.0.0.1'));
    await world.clock.flush();
    world.lane(1).lose(refused('10.0.0.2'));
    const error = await rejection(opened);
    expect(error).toMatchObject({ code: 'ERR_REFUSED', endpoint: 'orders:7000', retryable: true });
    expect(String(error)).toContain('10.0.0.1: made up; 10.0.0.2: made up');
  });

  it('is not asked for again while its answer is fresh', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1']);
    await world.tried();
    await world.tried();
    expect(world.first.asked).toEqual(['orders']);
  });

  it('whose second socket comes late has it thrown away', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1', '10.0.0.2']);
    const opened = world.open();
    await world.clock.advance(250);
    world.lane(1).win('second');
    expect(await opened).toBe('second');
    world.lane(0).win('first');
    await world.clock.flush();
    expect(world.discarded).toEqual(['first']);
  });
});

describe('the time of a connection', () => {
  it('is one for the look-up and all dials: what DNS takes is taken from them', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4']).takes(600);
    const opened = world.open(ORDERS, world.hanging);
    let isOver = false;
    opened.catch(() => {
      isOver = true;
    });
    await world.clock.advance(LIMIT_MS - 1);
    // The third would have begun 100 ms after the end.
    expect(world.lanes.map(({ startedAt }) => startedAt)).toEqual([600, 850]);
    expect(world.lanes.map(({ deadlineAt }) => deadlineAt - world.begunAt)).toEqual([LIMIT_MS, LIMIT_MS]);
    expect(isOver).toBe(false);
    await world.clock.advance(1);
    const error = await rejection(opened);
    expect(error).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', phase: 'tcp', endpoint: 'orders:7000' });
    expect(String(error)).toContain('2 not tried');
    expect(world.lanes).toHaveLength(2);
    expect(world.clock.pendingTimers).toBe(0);
  });

  it('is up at the same moment when every attempt begins with what is left of it', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1', '10.0.0.2']).takes(999);
    const opened = world.open(ORDERS, world.hanging);
    await world.clock.advance(LIMIT_MS);
    expect(await rejection(opened)).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', phase: 'tcp' });
  });

  it('spent on a look-up alone ends it in phase dns, and nothing is dialed then or later', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1']).takes(LIMIT_MS + 500);
    const opened = world.open();
    let told: unknown = 'nothing yet';
    opened.catch((error: unknown) => {
      told = error;
    });
    await world.clock.advance(LIMIT_MS - 1);
    expect(told).toBe('nothing yet');
    await world.clock.advance(1);
    expect(told).toMatchObject({
      code: 'ERR_CONNECT_TIMEOUT',
      phase: 'dns',
      retryable: true,
      sent: 'none',
      endpoint: 'orders:7000',
      hint: expect.stringContaining('resolver'),
      message: expect.stringContaining('1000 ms'),
    });
    await world.clock.advance(1_000);
    expect(world.lanes).toEqual([]);
  });

  it('that a look-up has spent was not in vain: the next caller has its answer', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1']).takes(LIMIT_MS + 500);
    await world.clock.flush();
    void world.open();
    await world.clock.advance(LIMIT_MS + 500);
    expect(await world.tried()).toBe('10.0.0.1');
    expect(world.first.asked).toEqual(['orders']);
  });

  it('that is up while the answer is in the kernel is not held against the resolver', async () => {
    const world = new RouteWorld();
    let answer = (): void => undefined;
    const { clock, first } = world;
    first.addresses = () =>
      new Promise((resolve) => {
        answer = () => resolve({ addresses: [{ address: '10.0.0.1', family: 4 }], ttlMs: undefined });
      });
    const turn = clock.turn.bind(clock);
    // What the poll phase brings, after the timers and before the turn.
    clock.turn = (fn) => {
      answer();
      turn(fn);
    };
    const opened = world.open();
    await clock.advance(LIMIT_MS);
    expect(world.lanes).toMatchObject([{ address: '10.0.0.1', startedAt: LIMIT_MS }]);
    world.lane(0).win('open');
    expect(await opened).toBe('open');
  });

  it('may have begun before: then it ends as much earlier', async () => {
    const world = new RouteWorld();
    world.first.hangs();
    const opened = world.open(ORDERS, world.attempt, world.begunAt + 400);
    await world.clock.advance(400);
    expect(await rejection(opened)).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', phase: 'dns' });
    const literal = new RouteWorld();
    void literal.open({ ...ORDERS, address: '10.0.0.7' }, literal.attempt, literal.begunAt + 400);
    expect(literal.lane(0).deadlineAt).toBe(literal.begunAt + 400);
  });
});

describe('a look-up that fails', () => {
  it('is told as ERR_DNS in phase dns, with what each resolver said, and nothing is dialed', async () => {
    const world = new RouteWorld({ isAlone: false });
    world.first.fails('ETIMEOUT');
    world.second.fails('ESERVFAIL');
    const opened = world.open();
    await world.clock.flush();
    const error = await rejection(opened);
    expect(error).toBeInstanceOf(DialError);
    expect(error).toMatchObject({
      code: 'ERR_DNS',
      phase: 'dns',
      retryable: true,
      sent: 'none',
      endpoint: 'orders:7000',
      cause: { code: 'ESERVFAIL' },
    });
    expect(String(error)).toContain('first: ETIMEOUT; second: ESERVFAIL');
    expect(world.lanes).toEqual([]);
  });

  it('leaves no timer and no listener', async () => {
    const world = new RouteWorld();
    world.first.fails('ENOTFOUND');
    const opened = world.open();
    await world.clock.flush();
    await rejection(opened);
    expect(world.clock.pendingTimers).toBe(0);
    expect(getEventListeners(world.control.signal, 'abort')).toEqual([]);
  });

  it('does not matter while an older answer is there to be served', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1'], { ttlMs: 5_000 });
    await world.tried();
    await world.clock.advance(60_000);
    world.first.fails('ESERVFAIL');
    expect(await world.tried()).toBe('10.0.0.1');
    expect(world.first.asked).toHaveLength(2);
  });
});

describe('an abort', () => {
  it('before anything has begun asks nobody, and dials nobody', async () => {
    const reason = new Error('changed my mind');
    const endpoints: Endpoint[] = [ORDERS, { ...ORDERS, address: '10.0.0.7' }, { kind: 'unix', path: '/x' }];
    for (const endpoint of endpoints) {
      const world = new RouteWorld();
      world.first.hangs();
      world.control.abort(reason);
      let told: unknown = 'nothing';
      world.open(endpoint).catch((error: unknown) => {
        told = error;
      });
      await world.clock.flush();
      expect(told).toBe(reason);
      expect(world.first.asked).toEqual([]);
      expect(world.lanes).toEqual([]);
      expect(world.clock.pendingTimers).toBe(0);
    }
  });

  it('during the look-up rejects at once with its reason, and leaves no timer or listener', async () => {
    const world = new RouteWorld();
    world.first.hangs();
    const opened = world.open();
    await world.clock.advance(100);
    const reason = new Error('changed my mind');
    world.control.abort(reason);
    await expect(opened).rejects.toBe(reason);
    expect(world.clock.now() - world.begunAt).toBe(100);
    expect(getEventListeners(world.control.signal, 'abort')).toEqual([]);
    // The look-up goes on for others, until the names end.
    expect(world.first.cut).toBe(0);
    world.names.end();
    expect(world.clock.pendingTimers).toBe(0);
  });

  it('just when the answer has come starts no dial', async () => {
    const world = new RouteWorld();
    let answer = (): void => undefined;
    world.first.addresses = () =>
      new Promise((resolve) => {
        answer = () => resolve({ addresses: [{ address: '10.0.0.1', family: 4 }], ttlMs: undefined });
      });
    const opened = world.open();
    await world.clock.flush();
    answer();
    world.control.abort(new Error('changed my mind'));
    await world.clock.flush();
    await expect(opened).rejects.toThrow('changed my mind');
    expect(world.lanes).toEqual([]);
  });

  it('during the race ends all that run, and holds nothing against their addresses', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1', '10.0.0.2']);
    const opened = world.open();
    await world.clock.advance(250);
    const reason = new Error('changed my mind');
    world.control.abort(reason);
    await expect(opened).rejects.toBe(reason);
    expect(world.lanes.map(({ signal }) => signal.reason)).toEqual([reason, reason]);
    expect(world.clock.pendingTimers).toBe(0);
    const next = new AbortController();
    world.route.open(ORDERS, next.signal, world.attempt, () => undefined).catch(() => undefined);
    await world.clock.flush();
    expect(world.lane(2).address).toBe('10.0.0.1');
  });
});

describe('what a route learns', () => {
  it('an address that failed is tried last next time, for 30 s', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1', '10.0.0.2', '10.0.0.3']);
    expect(await world.tried('10.0.0.1')).toBe('10.0.0.1 10.0.0.2');
    expect(await world.tried()).toBe('10.0.0.2');
    expect(await world.tried('10.0.0.2', '10.0.0.3')).toBe('10.0.0.2 10.0.0.3 10.0.0.1');
    await world.clock.advance(30_000);
    expect(await world.tried()).toBe('10.0.0.1');
  });

  it('an address that was overtaken is tried last next time, since it hangs', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1', '10.0.0.2']);
    const opened = world.open();
    await world.clock.advance(250);
    world.lane(1).win('second');
    await opened;
    expect(await world.tried()).toBe('10.0.0.2');
  });

  it('the only address of a name that failed is tried last once others join it', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1'], { ttlMs: 5_000 });
    const opened = world.open();
    await world.clock.flush();
    world.lane(0).lose(refused('10.0.0.1'));
    await rejection(opened);
    world.first.has(['10.0.0.1', '10.0.0.2'], { ttlMs: 5_000 });
    await world.clock.advance(6_000);
    expect(await world.tried()).toBe('10.0.0.2');
  });

  it('the family that won goes first for ten minutes', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1', '2001:db8::1']);
    expect(await world.tried('2001:db8::1')).toBe('2001:db8::1 10.0.0.1');
    // The failure is forgotten by now, the family is not.
    await world.clock.advance(31_000);
    expect(await world.tried()).toBe('10.0.0.1');
    await world.clock.advance(568_000);
    expect(await world.tried()).toBe('10.0.0.1');
    await world.clock.advance(1_000);
    expect(await world.tried()).toBe('2001:db8::1');
  });

  it('is shared by all names', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1', '2001:db8::1'], { host: 'orders' });
    world.first.has(['10.0.1.1', '2001:db8::2'], { host: 'users' });
    await world.tried('2001:db8::1');
    void world.open({ kind: 'tcp', host: 'users', port: 7001 });
    await world.clock.flush();
    expect(world.lanes.at(-1)?.address).toBe('10.0.1.1');
  });

  it('is forgotten when the network changes', async () => {
    const world = new RouteWorld();
    world.first.has(['10.0.0.1', '2001:db8::1']);
    await world.tried('2001:db8::1');
    expect(await world.tried()).toBe('10.0.0.1');
    world.route.forget();
    expect(await world.tried()).toBe('2001:db8::1');
  });
});

describe('a route whose names have ended', () => {
  it('says so at once', async () => {
    const world = new RouteWorld();
    world.first.hangs();
    const opened = world.open();
    await world.clock.flush();
    world.names.end();
    expect(await rejection(opened)).toMatchObject({ code: 'ERR_DNS', cause: { code: 'ECANCELLED' } });
    expect(world.clock.pendingTimers).toBe(0);
  });
});

describe('an attempt that throws', () => {
  it('before its first wait is a failure like any other', async () => {
    const world = new RouteWorld();
    const bug = lookupError('EBUG', 'the codec could not be made');
    const attempt: Attempt<string> = () => {
      throw bug;
    };
    await expect(world.open({ ...ORDERS, address: '10.0.0.7' }, attempt)).rejects.toBe(bug);
    world.first.has(['10.0.0.1', '10.0.0.2']);
    const opened = world.open(ORDERS, attempt);
    await world.clock.flush();
    expect(await rejection(opened)).toMatchObject({ cause: { errors: [bug, bug] } });
    expect(world.clock.pendingTimers).toBe(0);
  });
});

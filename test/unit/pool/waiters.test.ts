import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { type Waiter, Waiters, type WaitOptions } from '../../../src/pool/waiters.ts';
import { VirtualClock } from '../../support/virtual-clock.ts';

/** A queue in a world of its own. Every outcome is told with its moment: `0 a: served`, `500 b: timeout`. */
class World {
  readonly clock: VirtualClock = new VirtualClock();
  readonly told: string[] = [];
  readonly waiters: Waiters<string>;
  readonly signals: AbortSignal[] = [];
  held = 0;
  gone = 0;
  cancelled = 0;
  isExhausted = true;
  spare = 0;
  onGone: () => void = () => undefined;

  constructor(bounds: { acquireTimeoutMs?: number; maxWaiting?: number; shedAfterMs?: number } = {}) {
    const never = Number.POSITIVE_INFINITY;
    const hold = {
      take: () => {
        this.held += 1;
      },
      drop: () => {
        this.held -= 1;
      },
    };
    this.waiters = new Waiters(
      { acquireTimeoutMs: never, maxWaiting: never, shedAfterMs: never, ...bounds },
      this.clock,
      hold,
      {
        onTimeout: (waiter) => this.#refuse(waiter, 'timeout'),
        onShed: (waiter, why) => this.#refuse(waiter, why),
        onCancelled: () => {
          this.cancelled += 1;
        },
        onGone: () => {
          this.gone += 1;
          this.onGone();
        },
        isExhausted: () => this.isExhausted,
        spare: () => this.spare,
      },
    );
  }

  get nowMs(): number {
    return this.clock.now() - START_MS;
  }

  ask(name: string, options?: WaitOptions): void {
    if (options?.signal !== undefined) this.signals.push(options.signal);
    const tell = (outcome: unknown) => this.told.push(`${this.nowMs} ${name}: ${outcome}`);
    this.waiters.wait(options, undefined).then(tell, tell);
  }

  askAll(...names: string[]): void {
    for (const name of names) this.ask(name);
  }

  /** A socket comes back, as often as `times` says. */
  serve(times = 1): void {
    for (let time = 0; time < times; time++) this.waiters.shift()?.resolve('served');
  }

  /** Takes one off the queue, as for a hook. */
  prepare(): Waiter<string> {
    const waiter = this.waiters.shift();
    if (waiter === undefined) throw new Error('Nobody waits.');
    return waiter;
  }

  pass(ms: number): Promise<void> {
    return this.clock.advance(ms);
  }

  /** Everybody is told, and nothing may be left. */
  async end(): Promise<void> {
    this.waiters.rejectAll(() => 'end');
    this.waiters.end();
    await this.clock.flush();
    expect({ size: this.waiters.size, held: this.held, timers: this.clock.pendingTimers }).toEqual({
      size: 0,
      held: 0,
      timers: 0,
    });
    expect(this.signals.flatMap((signal) => getEventListeners(signal, 'abort'))).toEqual([]);
  }

  #refuse(waiter: Waiter<string>, why: string): void {
    // It has left the queue before anybody hears of it.
    waiter.reject(`${why}, ${this.waiters.size} wait`);
  }
}

const START_MS = 1_000;

const worlds: World[] = [];

function setUp(...args: ConstructorParameters<typeof World>): World {
  const world = new World(...args);
  worlds.push(world);
  return world;
}

afterEach(async () => {
  for (const world of worlds.splice(0)) await world.end();
});

/** Happens at the next turn that anybody asks for: what the kernel holds is read then. */
function holdInKernel(clock: VirtualClock, what: () => void): void {
  const turn = clock.turn.bind(clock);
  clock.turn = (fn) => {
    clock.turn = turn;
    turn(what);
    turn(fn);
  };
}

describe('who is served next', () => {
  it('is the first who came, among equals', async () => {
    const world = setUp();
    world.askAll('a', 'b', 'c');
    world.ask('d', { priority: 0 });
    world.serve(4);
    await world.pass(0);
    expect(world.told).toEqual(['0 a: served', '0 b: served', '0 c: served', '0 d: served']);
    expect(world.waiters.shift()).toBeUndefined();
  });

  it('is the one with the higher priority, whoever came first', async () => {
    const world = setUp();
    for (const priority of [-10, 0, 3, 10, 3]) {
      world.ask(`p${priority}`, { priority });
      await world.pass(1);
    }
    world.serve(5);
    await world.pass(0);
    expect(world.told).toEqual([
      '5 p10: served',
      '5 p3: served',
      '5 p3: served',
      '5 p0: served',
      '5 p-10: served',
    ]);
  });

  it('is one of low priority once it has waited a second longer for each level', async () => {
    const world = setUp();
    world.ask('low', { priority: -1 });
    await world.pass(1_999);
    world.ask('before', { priority: 1 });
    await world.pass(1);
    world.ask('after', { priority: 1 });
    world.serve(3);
    await world.pass(0);
    expect(world.told).toEqual(['2000 before: served', '2000 low: served', '2000 after: served']);
  });

  it('is nobody twice, and nobody is starved by a stream of higher ones', async () => {
    const world = setUp();
    world.ask('low', { priority: -10 });
    for (let second = 0; second < 25; second++) {
      world.ask('high', { priority: 10 });
      world.serve();
      await world.pass(1_000);
    }
    expect(world.told.indexOf('20000 low: served')).toBe(20);
  });

  it('can be asked for while the ages are known over all priorities', async () => {
    const world = setUp();
    expect(world.waiters.oldestMs(world.clock.now())).toBe(0);
    world.ask('low', { priority: -1 });
    await world.pass(10);
    world.ask('usual');
    await world.pass(5);
    expect(world.waiters.oldestMs(world.clock.now())).toBe(15);
    await world.pass(1_000);
    world.ask('high', { priority: 1 });
    world.serve();
    expect(world.waiters.oldestMs(world.clock.now())).toBe(1_015);
    expect(world.waiters.size).toBe(2);
  });
});

describe('a queue with a bound', () => {
  it('refuses the next one at once, who never was in it and leaves nothing behind', async () => {
    const world = setUp({ maxWaiting: 2 });
    const { signal } = new AbortController();
    world.ask('a');
    world.ask('b', { priority: -1 });
    world.ask('c', { priority: 10, signal, timeoutMs: 50 });
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    expect(world.clock.pendingTimers).toBe(0);
    await world.clock.flush();
    expect(world.told).toEqual(['0 c: full, 2 wait']);
    expect(world.gone).toBe(0);
    world.serve();
    world.ask('d');
    world.serve(2);
    await world.pass(100);
    expect(world.told.slice(1)).toEqual(['0 a: served', '0 d: served', '0 b: served']);
  });

  it('may have no place at all', async () => {
    const world = setUp({ maxWaiting: 0, acquireTimeoutMs: 100, shedAfterMs: 10 });
    world.ask('a');
    expect([world.clock.pendingTimers, world.held]).toEqual([0, 0]);
    await world.pass(0);
    expect(world.told).toEqual(['0 a: full, 0 wait']);
  });

  it('does not count who was taken off, and takes them back all the same', async () => {
    const world = setUp({ maxWaiting: 1 });
    world.ask('a');
    const first = world.prepare();
    world.ask('b');
    world.waiters.requeue(first);
    expect(world.waiters.size).toBe(2);
    world.ask('c');
    world.serve(2);
    await world.pass(0);
    expect(world.told).toEqual(['0 c: full, 2 wait', '0 a: served', '0 b: served']);
  });
});

describe('a deadline', () => {
  it('holds for many waiters with several priorities, on one timer', async () => {
    const world = setUp({ acquireTimeoutMs: 500 });
    world.ask('a');
    world.ask('b', { priority: -5 });
    await world.pass(100);
    world.ask('c', { priority: 5 });
    world.ask('d', { priority: -5 });
    expect(world.clock.pendingTimers).toBe(1);
    await world.pass(50);
    world.ask('e', { timeoutMs: 100 });
    world.ask('f', { priority: 5, timeoutMs: 900 });
    world.ask('g', { priority: 5 });
    expect(world.clock.pendingTimers).toBe(3);
    await world.pass(2_000);
    expect(world.told).toEqual([
      '250 e: timeout, 6 wait',
      '500 a: timeout, 5 wait',
      '500 b: timeout, 4 wait',
      '600 d: timeout, 3 wait',
      '600 c: timeout, 2 wait',
      '650 g: timeout, 1 wait',
      '1050 f: timeout, 0 wait',
    ]);
    expect(world.gone).toBe(7);
    expect([world.clock.pendingTimers, world.held]).toEqual([0, 0]);
  });

  it.each([
    ['the pool’s', { acquireTimeoutMs: 0 }, undefined],
    ['of one’s own', {}, { timeoutMs: 0 }],
  ])('of 0 ms waits one turn, in which a socket may come back: %s', async (_whose, bounds, options) => {
    const world = setUp(bounds);
    world.ask('a', options);
    world.ask('b', options);
    holdInKernel(world.clock, () => world.serve());
    await world.pass(0);
    expect(world.told).toEqual(['0 a: served', '0 b: timeout, 0 wait']);
  });

  it('is nothing to whom a socket reaches while another one is told', async () => {
    const world = setUp({ acquireTimeoutMs: 500 });
    world.askAll('a', 'b');
    world.onGone = () => world.serve();
    await world.pass(500);
    expect(world.told).toEqual(['500 a: timeout, 1 wait', '500 b: served']);
    expect(world.gone).toBe(1);
  });

  it('holds when somebody who hears of another one joins the queue', async () => {
    const world = setUp({ acquireTimeoutMs: 500 });
    world.ask('a');
    await world.pass(100);
    world.ask('b');
    world.onGone = () => {
      world.onGone = () => undefined;
      world.ask('c');
    };
    await world.pass(1_000);
    expect(world.told).toEqual([
      '500 a: timeout, 1 wait',
      '600 b: timeout, 1 wait',
      '1000 c: timeout, 0 wait',
    ]);
  });

  it('that never comes arms nothing', async () => {
    const world = setUp();
    world.ask('a', { timeoutMs: Number.POSITIVE_INFINITY });
    world.ask('b', { priority: 1 });
    expect(world.clock.pendingTimers).toBe(0);
    expect(world.held).toBe(1);
  });

  it('no longer matters to whoever was served', async () => {
    const world = setUp({ acquireTimeoutMs: 500 });
    world.ask('a', { timeoutMs: 100 });
    world.ask('b');
    world.serve(2);
    await world.pass(1_000);
    expect(world.told).toEqual(['0 a: served', '0 b: served']);
    expect([world.clock.pendingTimers, world.gone]).toEqual([0, 0]);
  });
});

describe('a signal', () => {
  it('takes its caller out of the queue at once, with its reason', async () => {
    const world = setUp();
    const controller = new AbortController();
    const { signal } = controller;
    world.ask('a', { signal, priority: 1 });
    world.ask('b', { signal });
    world.ask('c');
    controller.abort('enough');
    expect([world.waiters.size, world.cancelled, world.gone]).toEqual([1, 2, 2]);
    world.serve();
    await world.pass(0);
    expect(world.told).toEqual(['0 a: enough', '0 b: enough', '0 c: served']);
  });

  it('is nothing to whom a socket reaches while another one is told', async () => {
    const world = setUp();
    const controller = new AbortController();
    world.ask('a', { signal: controller.signal });
    world.ask('b', { signal: controller.signal });
    world.onGone = () => world.serve();
    controller.abort('enough');
    await world.pass(0);
    expect(world.told).toEqual(['0 a: enough', '0 b: served']);
    expect([world.cancelled, world.gone]).toEqual([1, 1]);
  });

  it('has no listener left once its caller was served, refused or put off', async () => {
    const world = setUp({ shedAfterMs: 100 });
    const { signal } = new AbortController();
    for (const name of ['a', 'b', 'c', 'd']) world.ask(name, { signal });
    world.serve();
    world.prepare().reject('lost');
    expect(getEventListeners(signal, 'abort').length).toBe(1);
    await world.pass(100);
    expect(world.told).toEqual([
      '0 a: served',
      '0 b: lost',
      '100 c: overload, 1 wait',
      '100 d: overload, 0 wait',
    ]);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});

describe('a waiter whose socket is being prepared', () => {
  it('is out of the queue, and wanted until it is served', async () => {
    const world = setUp();
    world.ask('a');
    const waiter = world.prepare();
    expect([world.waiters.size, world.held, world.waiters.isWanted(waiter)]).toEqual([0, 0, true]);
    expect(world.waiters.shift()).toBeUndefined();
    waiter.resolve('served');
    expect(world.waiters.isWanted(waiter)).toBe(false);
    waiter.reject('too late');
    world.waiters.requeue(waiter);
    expect(world.waiters.size).toBe(0);
    await world.pass(0);
    expect(world.told).toEqual(['0 a: served']);
  });

  it('may give up', async () => {
    const world = setUp();
    const controller = new AbortController();
    world.ask('a', { signal: controller.signal });
    const waiter = world.prepare();
    await world.pass(10);
    controller.abort('enough');
    expect([world.waiters.isWanted(waiter), world.cancelled, world.gone]).toEqual([false, 1, 1]);
    waiter.resolve('served');
    await world.pass(0);
    expect(world.told).toEqual(['10 a: enough']);
  });

  it('keeps its deadline, its own or the pool’s', async () => {
    const world = setUp({ acquireTimeoutMs: 500 });
    world.ask('a', { timeoutMs: 100 });
    world.ask('b');
    const waiters = [world.prepare(), world.prepare()];
    expect(waiters.map((waiter) => waiter.deadlineAt - START_MS)).toEqual([100, 500]);
    await world.pass(200);
    world.ask('c');
    await world.pass(1_000);
    expect(world.told).toEqual([
      '100 a: timeout, 0 wait',
      '500 b: timeout, 1 wait',
      '700 c: timeout, 0 wait',
    ]);
    expect(waiters.map((waiter) => world.waiters.isWanted(waiter))).toEqual([false, false]);
  });

  it('keeps the pool’s deadline even when it was taken off out of turn', async () => {
    const world = setUp({ acquireTimeoutMs: 500 });
    world.ask('a');
    await world.pass(10);
    world.ask('b');
    await world.pass(10);
    world.ask('c', { priority: 1 });
    world.prepare();
    world.prepare();
    await world.pass(1_000);
    expect(world.told).toEqual([
      '500 a: timeout, 1 wait',
      '510 b: timeout, 0 wait',
      '520 c: timeout, 0 wait',
    ]);
  });

  it('gets its old place back when its socket is lost', async () => {
    const world = setUp({ acquireTimeoutMs: 500 });
    for (const name of ['a', 'b', 'c', 'd']) {
      world.ask(name, { priority: 2 });
      await world.pass(1);
    }
    world.ask('usual');
    const [a, b, c] = [world.prepare(), world.prepare(), world.prepare()];
    for (const waiter of [b, a, c]) world.waiters.requeue(waiter);
    expect([world.waiters.size, world.held]).toEqual([5, 1]);
    world.serve(4);
    await world.pass(500);
    expect(world.told).toEqual([
      '4 a: served',
      '4 b: served',
      '4 c: served',
      '4 d: served',
      '504 usual: timeout, 0 wait',
    ]);
  });

  it('gets it back when it was the last, or the only one', async () => {
    const world = setUp();
    world.ask('a');
    world.waiters.requeue(world.prepare());
    expect([world.waiters.size, world.held]).toEqual([1, 1]);
    await world.pass(1);
    world.ask('b');
    const [a, b] = [world.prepare(), world.prepare()];
    world.waiters.requeue(a);
    world.waiters.requeue(b);
    world.waiters.requeue(b);
    expect(world.waiters.size).toBe(2);
    world.serve(2);
    await world.pass(0);
    expect(world.told).toEqual(['1 a: served', '1 b: served']);
  });

  it('is told when everybody is', async () => {
    const world = setUp();
    world.askAll('a', 'b');
    world.ask('low', { priority: -1 });
    const waiter = world.prepare();
    waiter.losses = { count: 1, error: undefined };
    const ages: number[] = [];
    await world.pass(10);
    world.waiters.rejectAll((one) => {
      ages.push(world.clock.now() - one.since);
      // Whoever joins now is not meant; whoever is settled now is told once.
      waiter.reject('by hand');
      if (ages.length === 1) world.ask('late');
      return 'closed';
    });
    await world.clock.flush();
    expect(ages).toEqual([10, 10]);
    expect(world.told.toSorted()).toEqual(['10 a: by hand', '10 b: closed', '10 low: closed']);
    expect([world.waiters.size, world.gone]).toEqual([1, 0]);
  });
});

describe('under overload the queue', () => {
  it('serves the newest first, but only once the next in turn has waited for shedAfterMs', async () => {
    const world = setUp({ shedAfterMs: 100 });
    world.askAll('a', 'b');
    await world.pass(50);
    world.ask('c');
    await world.pass(10);
    world.ask('d');
    await world.pass(10);
    world.ask('e');
    await world.pass(29);
    world.serve(2);
    await world.pass(51);
    world.ask('f');
    world.serve(3);
    await world.pass(0);
    expect(world.told).toEqual([
      '99 a: served',
      '99 b: served',
      '150 c: overload, 2 wait',
      '150 f: served',
      '150 e: served',
      '150 d: served',
    ]);
  });

  it('does not stand because it is never empty: callers who come back as soon as they are served wait in turn', async () => {
    const world = setUp({ shedAfterMs: 100 });
    const callers = ['a', 'b', 'c', 'd', 'e', 'f'];
    world.askAll(...callers);
    for (let step = 0; step < 100; step++) {
      await world.pass(15);
      world.serve();
      await world.pass(0);
      world.ask(callers[step % 6] ?? '');
    }
    expect(world.told.map((line) => line.slice(line.indexOf(' ') + 1))).toEqual(
      Array.from({ length: 100 }, (_, step) => `${callers[step % 6]}: served`),
    );
  });

  it('is served in turn again when as many as wait were served in the last shedAfterMs', async () => {
    const world = setUp({ shedAfterMs: 100 });
    world.ask('late');
    await world.pass(50);
    world.askAll('a', 'b');
    await world.pass(50);
    expect(world.told).toEqual(['100 late: overload, 2 wait']);
    world.askAll('c', 'd', 'e');
    world.serve(2);
    await world.pass(20);
    expect(world.told.slice(1)).toEqual(['100 e: served', '100 d: served']);
    world.ask('f');
    world.serve();
    // `a` and `b` are refused, as the newest still go first; then one waits, and three were served.
    await world.pass(80);
    expect(world.told.slice(3)).toEqual([
      '120 f: served',
      '150 a: overload, 2 wait',
      '150 b: overload, 1 wait',
    ]);
    world.ask('g');
    world.serve(2);
    await world.pass(0);
    expect(world.told.slice(6)).toEqual(['200 c: served', '200 g: served']);
  });

  it('refuses whoever has waited for shedAfterMs, though no socket ever comes back', async () => {
    const world = setUp({ shedAfterMs: 100, acquireTimeoutMs: 30_000 });
    world.ask('a');
    await world.pass(30);
    world.ask('c');
    await world.pass(100);
    world.ask('d', { priority: -1 });
    world.waiters.shift();
    await world.pass(200);
    expect(world.told).toEqual(['100 a: overload, 1 wait', '130 c: overload, 0 wait']);
    expect(world.gone).toBe(2);
  });

  it('refuses nobody of low priority for waiting behind others who are served in time', async () => {
    const world = setUp({ shedAfterMs: 100 });
    world.ask('low', { priority: -10 });
    for (let step = 0; step < 20; step++) {
      world.ask(`${step}`);
      await world.pass(30);
      world.serve();
    }
    await world.pass(0);
    expect(world.told.length).toBe(20);
    expect(world.told.every((line) => line.endsWith('served'))).toBe(true);
    await world.pass(100);
    expect(world.told.at(-1)).toBe('640 low: overload, 0 wait');
  });

  it('goes on refusing, each in time, for as long as it is never empty', async () => {
    const world = setUp({ shedAfterMs: 100 });
    for (let step = 0; step <= 10; step++) {
      world.ask(`${step}`);
      await world.pass(40);
    }
    expect(world.told.slice(0, 4)).toEqual([
      '100 0: overload, 2 wait',
      '140 1: overload, 2 wait',
      '180 2: overload, 2 wait',
      '220 3: overload, 2 wait',
    ]);
  });

  it('picks the priority as ever, and its newest', async () => {
    const world = setUp({ shedAfterMs: 100 });
    world.ask('first', { priority: 1 });
    await world.pass(60);
    world.ask('low', { priority: -1 });
    world.ask('high', { priority: 1 });
    world.ask('usual');
    await world.pass(40);
    world.ask('higher', { priority: 1 });
    world.ask('lower', { priority: -1 });
    world.serve(5);
    await world.pass(0);
    expect(world.told).toEqual([
      '100 first: overload, 3 wait',
      '100 higher: served',
      '100 high: served',
      '100 usual: served',
      '100 lower: served',
      '100 low: served',
    ]);
  });

  it('is served in turn again, and has time again, once it was empty', async () => {
    const world = setUp({ shedAfterMs: 100 });
    world.ask('a');
    await world.pass(90);
    world.ask('b');
    await world.pass(10);
    world.serve();
    world.askAll('c', 'd');
    world.serve();
    await world.pass(99);
    world.ask('e');
    world.serve();
    await world.pass(1);
    expect(world.told).toEqual([
      '100 a: overload, 1 wait',
      '100 b: served',
      '100 c: served',
      '199 d: served',
    ]);
    await world.pass(98);
    world.ask('f');
    expect(world.told.length).toBe(4);
    await world.pass(1);
    expect(world.told.slice(4)).toEqual(['299 e: overload, 1 wait']);
  });

  it('refuses nobody when it was empty a moment ago, however long it was busy', async () => {
    const world = setUp({ shedAfterMs: 100 });
    for (let step = 0; step < 20; step++) {
      world.askAll(`${step}`, `${step} and a half`);
      await world.pass(90);
      world.serve(2);
    }
    await world.pass(0);
    expect(world.told.length).toBe(40);
    expect(world.told.every((line) => line.endsWith('served'))).toBe(true);
    expect(world.told[0]).toBe('90 0: served');
    await world.pass(200);
    expect(world.clock.pendingTimers).toBe(0);
    world.askAll('next', 'last');
    world.serve();
    await world.pass(0);
    expect(world.told.at(-1)).toBe('2000 next: served');
  });

  it('is served in turn, and nobody is refused, while sockets are missing rather than in use', async () => {
    const world = setUp({ shedAfterMs: 100 });
    world.isExhausted = false;
    world.askAll('a', 'b', 'c');
    await world.pass(1_000);
    world.serve();
    await world.pass(0);
    expect(world.told).toEqual(['1000 a: served']);
    world.isExhausted = true;
    await world.pass(100);
    expect(world.told.slice(1)).toEqual(['1100 b: overload, 1 wait', '1100 c: overload, 0 wait']);
  });

  it('is in order again when sockets go missing while it stands', async () => {
    const world = setUp({ shedAfterMs: 100 });
    world.ask('a');
    await world.pass(60);
    world.askAll('b', 'c');
    await world.pass(40);
    world.isExhausted = false;
    await world.pass(1_000);
    world.serve();
    await world.pass(0);
    expect(world.told).toEqual(['100 a: overload, 2 wait', '1100 b: served']);
  });

  it('does not refuse those whose socket comes back in the turn after a stall', async () => {
    const world = setUp({ shedAfterMs: 100 });
    world.askAll('a', 'b', 'c');
    world.clock.freeze(150);
    holdInKernel(world.clock, () => world.serve(2));
    await world.pass(0);
    expect(world.told).toEqual(['150 a: served', '150 b: served', '150 c: overload, 0 wait']);
  });

  it('blames nobody for a stall of our own that was as long as shedAfterMs', async () => {
    const world = setUp({ shedAfterMs: 100 });
    world.askAll('a', 'b');
    world.clock.freeze(200);
    await world.pass(99);
    world.serve();
    await world.pass(1);
    expect(world.told).toEqual(['299 a: served', '300 b: overload, 0 wait']);
  });

  it('leaves alone whose socket is being prepared, and refuses it when it is back', async () => {
    const world = setUp({ shedAfterMs: 100 });
    world.askAll('a', 'b');
    const waiter = world.prepare();
    await world.pass(100);
    world.ask('c');
    expect(world.waiters.isWanted(waiter)).toBe(true);
    await world.pass(50);
    world.ask('d');
    world.waiters.requeue(waiter);
    await world.pass(99);
    expect(world.told).toEqual([
      '100 b: overload, 0 wait',
      '200 a: overload, 2 wait',
      '200 c: overload, 1 wait',
    ]);
  });

  it('refuses nobody whom a socket reaches while another one is refused', async () => {
    const world = setUp({ shedAfterMs: 100 });
    world.askAll('a', 'b', 'c');
    world.onGone = () => world.serve();
    await world.pass(100);
    expect(world.told).toEqual(['100 a: overload, 2 wait', '100 c: served', '100 b: overload, 0 wait']);
    expect(world.gone).toBe(2);
  });

  it('costs nothing when that is off', async () => {
    const world = setUp();
    world.clock.after = () => {
      throw new Error('A timer was asked for.');
    };
    world.askAll('a', 'b');
    await world.pass(1_000_000);
    expect(world.told).toEqual([]);
  });
});

// ---- random lives ------------------------------------------------------------------------------------------

type Step =
  | {
      readonly do: 'ask';
      readonly priority: number | undefined;
      readonly timeoutMs: number | undefined;
      readonly isAbortable: boolean;
    }
  | { readonly do: 'shift' | 'abort' | 'resolve' | 'reject' | 'requeue'; readonly pick: number }
  | { readonly do: 'pass' | 'freeze'; readonly ms: number };

const ms = fc.constantFrom(0, 1, 7, 100, 499, 500, 1_000, 2_500);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('ask' as const),
      priority: fc.option(fc.integer({ min: -2, max: 2 }), { nil: undefined }),
      timeoutMs: fc.option(ms, { nil: undefined }),
      isAbortable: fc.boolean(),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('shift', 'shift', 'abort', 'resolve', 'reject', 'requeue'),
      pick: fc.nat(9),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('pass', 'pass', 'freeze'), ms }) },
);

interface Caller {
  readonly name: string;
  readonly since: number;
  readonly deadlineAt: number;
  readonly priority: number;
  readonly controller: AbortController | undefined;
  waiter: Waiter<string> | undefined;
  fate: string | undefined;
}

/** What a queue is, in arrays. */
class Model {
  readonly callers: Caller[] = [];
  /** In the order of coming. */
  readonly queue: Caller[] = [];

  join(caller: Caller): void {
    this.callers.push(caller);
    this.queue.push(caller);
  }

  next(): Caller | undefined {
    const key = ({ since, priority }: Caller) => since - priority * 1_000;
    return this.queue.toSorted((one, other) => key(one) - key(other) || one.since - other.since)[0];
  }

  leave(caller: Caller): void {
    if (this.queue.includes(caller)) this.queue.splice(this.queue.indexOf(caller), 1);
  }

  putBack(caller: Caller): void {
    const place = this.queue.findIndex(({ since }) => since >= caller.since);
    this.queue.splice(place === -1 ? this.queue.length : place, 0, caller);
  }

  settle(caller: Caller, fate: string): void {
    this.leave(caller);
    caller.fate ??= fate;
  }

  get open(): Caller[] {
    return this.callers.filter(({ fate }) => fate === undefined);
  }

  get prepared(): Caller[] {
    return this.open.filter((caller) => !this.queue.includes(caller));
  }
}

/** One step, in the queue and in the model. */
async function take(now: Step, world: World, model: Model): Promise<void> {
  const { waiters } = world;
  if (now.do === 'ask') {
    const { isAbortable, priority, timeoutMs } = now;
    const controller = isAbortable ? new AbortController() : undefined;
    const since = world.clock.now();
    const name = `${model.callers.length}`;
    const deadlineAt = since + (timeoutMs ?? 500);
    model.join({
      name,
      since,
      deadlineAt,
      priority: priority ?? 0,
      controller,
      waiter: undefined,
      fate: undefined,
    });
    const isBare = priority === undefined && timeoutMs === undefined && controller === undefined;
    world.ask(name, isBare ? undefined : { priority, timeoutMs, signal: controller?.signal });
  } else if (now.do === 'shift') {
    const caller = model.next();
    const waiter = waiters.shift();
    expect(waiter && [waiter.since, waiter.priority]).toEqual(caller && [caller.since, caller.priority]);
    if (caller === undefined) return;
    caller.waiter = waiter;
    model.leave(caller);
  } else if ('ms' in now) {
    if (now.do === 'freeze') {
      world.clock.freeze(now.ms);
      return;
    }
    await world.pass(now.ms);
    for (const caller of model.open) {
      if (caller.deadlineAt <= world.clock.now()) model.settle(caller, 'timeout');
    }
  } else if (now.do === 'abort') {
    const caller = model.callers.filter(({ controller }) => controller !== undefined)[now.pick];
    caller?.controller?.abort('aborted');
    if (caller !== undefined) model.settle(caller, 'aborted');
  } else {
    const caller = model.prepared[now.pick % Math.max(1, model.prepared.length)];
    if (caller?.waiter === undefined) return;
    expect(waiters.isWanted(caller.waiter)).toBe(true);
    if (now.do === 'requeue') {
      waiters.requeue(caller.waiter);
      model.putBack(caller);
    } else if (now.do === 'resolve') {
      caller.waiter.resolve('served');
      model.settle(caller, 'served');
    } else {
      caller.waiter.reject('lost');
      model.settle(caller, 'lost');
    }
  }
}

describe('a queue in a random life', () => {
  it('does as a naive one would, step by step', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
        const world = new World({ acquireTimeoutMs: 500 });
        const model = new Model();
        for (const now of steps) {
          await take(now, world, model);
          expect(world.waiters.size).toBe(model.queue.length);
          expect(world.held).toBe(model.queue.length > 0 ? 1 : 0);
          const oldest = Math.max(0, ...model.queue.map(({ since }) => world.clock.now() - since));
          expect(world.waiters.oldestMs(world.clock.now())).toBe(oldest);
        }
        await world.end();
        for (const caller of model.open) model.settle(caller, 'end');
        const told = world.told.map((line) => line.replace(/^\d+ |, \d+ wait$/g, ''));
        expect(told.toSorted()).toEqual(model.callers.map(({ name, fate }) => `${name}: ${fate}`).toSorted());
      }),
      { numRuns: 200 },
    );
  });

  it('with every bound on tells each caller once, and leaves nothing', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 60 }),
        fc.constantFrom(1, 90, 400),
        async (steps, shedAfterMs) => {
          const world = new World({ acquireTimeoutMs: 500, maxWaiting: 4, shedAfterMs });
          const controllers: AbortController[] = [];
          const prepared: Waiter<string>[] = [];
          let asked = 0;
          for (const now of steps) {
            if (now.do === 'ask') {
              const controller = new AbortController();
              controllers.push(controller);
              asked += 1;
              world.ask(`${asked}`, { ...now, signal: controller.signal });
            } else if ('ms' in now) {
              if (now.do === 'pass') await world.pass(now.ms);
              else {
                world.clock.freeze(now.ms);
                world.isExhausted = !world.isExhausted;
              }
            } else if (now.do === 'abort') controllers[now.pick]?.abort('aborted');
            else if (now.do === 'shift') {
              const waiter = world.waiters.shift();
              if (waiter !== undefined) prepared.push(waiter);
            } else {
              const [waiter] = prepared.splice(now.pick % Math.max(1, prepared.length), 1);
              if (now.do === 'requeue' && waiter !== undefined) world.waiters.requeue(waiter);
              else waiter?.[now.do === 'resolve' ? 'resolve' : 'reject']('settled');
            }
            expect(world.held).toBe(world.waiters.size > 0 ? 1 : 0);
          }
          await world.end();
          expect(new Set(world.told.map((line) => line.split(':')[0]?.split(' ')[1])).size).toBe(asked);
          expect(world.told.length).toBe(asked);
        },
      ),
      { numRuns: 200 },
    );
  });
});

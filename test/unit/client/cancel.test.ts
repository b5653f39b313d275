import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { ask, serveOnce, told, warmUp, watchQuestions } from '../../support/client-steps.ts';
import { MODES, SHARED, setUpClient } from '../../support/client-world.ts';
import { watch } from '../../support/pool-world.ts';

const REASONS: [string, unknown][] = [
  ['an Error', new Error('enough')],
  ['a word', 'enough'],
  ['null', null],
];

describe.each(MODES)('a request of a %s client that is aborted', (mode) => {
  it.each(REASONS)('with %s rejects with that very thing, wherever it was', async (_what, reason) => {
    const world = setUpClient(
      mode,
      { max: 1, readTimeoutMs: 100, retry: { baseMs: 2_000, capMs: 2_000 } },
      { isEchoing: false },
    );
    const lease = await world.pool.acquire();
    const attempt = async (ms: number): Promise<unknown> => {
      const controller = new AbortController();
      const asked = watch(world.client.request('x', { idempotent: true, signal: controller.signal }));
      await world.pass(ms);
      expect(asked.isSettled).toBe(false);
      controller.abort(reason);
      await world.now();
      expect(asked.isSettled).toBe(true);
      return asked.error;
    };
    expect(await attempt(50)).toBe(reason); // while it waits
    expect(world.pool.stats()).toMatchObject({ waiting: 0 });
    lease.release();
    expect(await attempt(50)).toBe(reason); // while it exchanges
    await world.pass(100);
    expect(await attempt(150)).toBe(reason); // while it sleeps
    const before = watch(world.client.request('x', { signal: AbortSignal.abort(reason) }));
    await world.now();
    expect(before.error).toBe(reason);
    expect(world.client.stats()).toMatchObject({ requests: 3, cancelled: 3, failed: 0, timedOut: 0 });
  });

  it('leaves no listener on its signals', async () => {
    const world = setUpClient(mode);
    const own = new AbortController().signal;
    const family = new AbortController().signal;
    const asked = watch(world.client.withDeadline({ signal: family }).request('a', { signal: own }));
    await world.now();
    expect(asked.isSettled).toBe(true);
    expect([...getEventListeners(own, 'abort'), ...getEventListeners(family, 'abort')]).toEqual([]);
  });

  it.each(['own', 'family'])('by its %s signal of two waits for no socket any more', async (which) => {
    const world = setUpClient(mode, { max: 1 });
    const lease = await world.pool.acquire();
    const own = new AbortController();
    const family = new AbortController();
    const client = world.client.withDeadline({ signal: family.signal });
    const asked = watch(client.request('a', { signal: own.signal }));
    await world.now();
    (which === 'own' ? own : family).abort('enough');
    await world.now();
    expect(asked.error).toBe('enough');
    expect(world.client.stats()).toMatchObject({ waiting: 0, cancelled: 1 });
    expect(world.pool.stats().waiting).toBe(0);
    expect(world.net.hold.count).toBe(0);
    lease.release();
    await world.now();
    expect(world.backend.times('a')).toBe(0);
  });

  it('while its second try waits for a socket waits no more with either', async () => {
    const world = setUpClient(mode, {
      max: 1,
      hedge: true,
      ...(mode === 'exclusive' ? {} : { maxInFlight: 200 }),
    });
    await warmUp(world);
    const controller = new AbortController();
    watch(world.client.request('slow', { idempotent: true, signal: controller.signal }));
    await world.pass(100);
    controller.abort('enough');
    await world.now();
    expect(world.pool.stats().waiting).toBe(0);
    expect(world.client.stats()).toMatchObject({ inFlight: 0, waiting: 0, cancelled: 1 });
  });

  it('while it waits for a new socket lets go of that wish', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    await serveOnce(world);
    world.net.outcome = { kind: 'open', afterMs: 200 };
    const controller = new AbortController();
    const asked = watch(world.client.request('a', { idempotent: true, signal: controller.signal }));
    await world.now();
    world.backend.side(0).peer.reset();
    await world.now();
    expect(world.told).toContain('retried:fresh');
    expect(world.client.stats().waiting).toBe(1);
    controller.abort('enough');
    await world.now();
    expect(asked.error).toBe('enough');
    expect(world.client.stats().waiting).toBe(0);
    expect(world.net.hold.count).toBeLessThanOrEqual(1);
    // The dial goes on, and its socket is lent to nobody.
    const { acquired } = world.pool.stats();
    await world.pass(300);
    expect(world.pool.stats()).toMatchObject({ acquired, idle: 1 });
    expect(world.net.dialedAt.length).toBe(2);
  });
});

describe('a request of an exclusive client that is aborted', () => {
  it('ends its socket, since the reply could come later', async () => {
    const world = setUpClient('exclusive', { max: 1 }, { isEchoing: false });
    const controller = new AbortController();
    watch(world.client.request('a', { signal: controller.signal }));
    await world.now();
    controller.abort('enough');
    await world.now();
    expect(world.told).toEqual(['opened', 'closed:aborted']);
  });
});

describe.each(SHARED)('a request of a %s client that is aborted', (mode) => {
  it('leaves its socket to the others, and its late reply reaches nobody', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const controller = new AbortController();
    const asked = [
      ...ask(world, 'a'),
      watch(world.client.request('b', { signal: controller.signal })),
      ...ask(world, 'c'),
    ];
    await world.now();
    controller.abort('enough');
    await world.now();
    expect(told(asked)).toEqual(['pending', 'enough', 'pending']);
    world.backend.side(0).answer();
    await world.now();
    expect(told(asked)).toEqual(['Echo: a', 'enough', 'Echo: c']);
    expect(world.told).toEqual(['opened']);
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 0 });
  });

  it('keeps its place until the late reply has come', async () => {
    const world = setUpClient(mode, { max: 1, maxInFlight: 2 }, { isEchoing: false });
    const controller = new AbortController();
    ask(world, 'a');
    watch(world.client.request('b', { signal: controller.signal }));
    const [third] = ask(world, 'c');
    await world.now();
    controller.abort('enough');
    await world.now();
    expect(world.backend.times('c')).toBe(0);
    world.backend.side(0).answer();
    await world.now();
    expect(world.backend.times('c')).toBe(1);
    world.backend.side(0).answer();
    await world.now();
    expect(third?.isSettled).toBe(true);
  });

  it('in the turn in which it was made is never sent', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const controller = new AbortController();
    const gone = watch(world.client.request('a', { signal: controller.signal }));
    const asked = ask(world, 'b');
    controller.abort('enough');
    await world.now();
    world.backend.answerAll();
    await world.now();
    expect(told([gone, ...asked])).toEqual(['enough', 'Echo: b']);
    expect(world.backend.asked).toEqual([['b']]);
    expect(world.pool.stats().leased).toBe(0);
  });

  it('alone in that turn has nothing written, and the socket given back', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    await serveOnce(world);
    const controller = new AbortController();
    const gone = watch(world.client.request('a', { signal: controller.signal }));
    controller.abort('enough');
    await world.now();
    expect(told([gone])).toEqual(['enough']);
    expect(world.backend.side(0).chunks.length).toBe(1);
    expect(world.pool.stats()).toMatchObject({ leased: 0, idle: 1 });
  });

  it('beside one that flies has nothing written', async () => {
    const world = setUpClient(mode, { readTimeoutMs: 100 }, { isEchoing: false });
    const asked = ask(world, 'x');
    await world.now();
    const { stream } = world.backend.side(0).peer;
    let reads = 0;
    stream.on('data', () => {
      reads += 1;
    });
    const controller = new AbortController();
    watch(world.client.request('a', { signal: controller.signal }));
    controller.abort('enough');
    await world.pass(10);
    expect(reads).toBe(0);
    expect(world.backend.asked).toEqual([['x']]);
    world.backend.answerAll();
    await world.pass(10);
    expect(told(asked)).toEqual(['Echo: x']);
    expect(world.pool.stats()).toMatchObject({ leased: 0, idle: 1 });
  });

  it('while its place is on its way leaves it to the next one', async () => {
    const world = setUpClient(mode, { max: 1, maxInFlight: 1 }, { isEchoing: false });
    const sides = watchQuestions(world);
    const controller = new AbortController();
    const [first] = ask(world, 'a');
    const second = watch(world.client.request('b', { signal: controller.signal }));
    const [third] = ask(world, 'c');
    await world.now();
    // The reply frees the place, and whoever hears of it first aborts the one who is to have it.
    const leave = async (): Promise<void> => {
      while (first?.isSettled !== true) await Promise.resolve();
      controller.abort('enough');
    };
    world.backend.side(0).answer();
    await new Promise((resolve) => process.nextTick(resolve));
    void leave();
    await world.now();
    world.backend.answerAll();
    await world.now();
    world.backend.answerAll();
    await world.now();
    expect(told([third ?? second])).toEqual(['Echo: c']);
    expect(sides('c').length).toBe(1);
  });
});

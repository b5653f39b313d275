import { describe, expect, it } from 'vitest';
import { lines } from '../../../src/transport/lines.ts';
import { ask, serveOnce, told } from '../../support/client-steps.ts';
import { MODES, type Options, SHARED, setUpClient } from '../../support/client-world.ts';
import { watch } from '../../support/pool-world.ts';

// With chance at 0.5 it opens for exactly 1,000 ms.
const BREAKER: Options = {
  readTimeoutMs: 100,
  retry: { retries: 3, baseMs: 100, capMs: 100 },
  breaker: { failures: 2, openMs: 1_000, maxOpenMs: 8_000 },
};

describe.each(MODES)('the breaker of a %s client', (mode) => {
  it('opens after failures in a row, refuses at once, and closes when a probe succeeds', async () => {
    const world = setUpClient(mode, BREAKER, { isEchoing: false });
    for (const message of ['a', 'b']) {
      ask(world, message);
      await world.pass(101);
    }
    expect(world.client.stats().breaker).toBe('open');
    const refused = ask(world, 'c');
    await world.now();
    expect(told(refused)).toEqual(['ERR_CIRCUIT_OPEN']);
    expect(refused[0]?.error).toMatchObject({
      sent: 'none',
      retryable: true,
      cause: { code: 'ERR_READ_TIMEOUT' },
    });
    expect(world.backend.times('c')).toBe(0);
    await world.pass(1_000);
    const probe = ask(world, 'd');
    await world.now();
    expect(world.client.stats().breaker).toBe('probing');
    const beside = ask(world, 'e');
    await world.now();
    expect(told(beside)).toEqual(['ERR_CIRCUIT_OPEN']);
    world.backend.answerAll();
    await world.now();
    expect(told(probe)).toEqual(['Echo: d']);
    expect(world.client.stats().breaker).toBe('closed');
    expect(world.told.filter((what) => what.startsWith('breaker'))).toEqual([
      'breakerOpened',
      'breakerClosed',
    ]);
  });

  it('does not open for messages that can’t be sent, for aborts, or for impatient callers', async () => {
    const world = setUpClient(mode, BREAKER, { isEchoing: false });
    for (let round = 0; round < 5; round++) {
      const controller = new AbortController();
      watch(world.client.request('a', { signal: controller.signal }));
      watch(world.client.request('b', { timeoutMs: 20 }));
      ask(world, 'two\nlines');
      await world.pass(25);
      controller.abort('enough');
      await world.now();
      if (mode !== 'exclusive') world.backend.answerAll();
    }
    expect(world.client.stats().breaker).toBe('closed');
  });

  it('opens for callers who waited patiently and got no answer', async () => {
    const world = setUpClient(mode, { ...BREAKER, readTimeoutMs: 60_000 }, { isEchoing: false });
    for (const message of ['a', 'b']) watch(world.client.request(message, { timeoutMs: 1_000 }));
    await world.pass(1_001);
    expect(world.client.stats().breaker).toBe('open');
  });

  it('does not open for sockets that were closed at rest, which say nothing about the server', async () => {
    const world = setUpClient(mode, { ...BREAKER, min: 3, max: 3 }, { isEchoing: false });
    await world.now();
    const leases = await Promise.all([1, 2, 3].map(() => world.pool.acquire()));
    const known = leases.map((lease) => lease.request('known'));
    await world.now();
    world.backend.answerAll();
    await Promise.all(known);
    for (const lease of leases) lease.release();
    const asked = ['a', 'b', 'c'].map((message) =>
      watch(world.client.request(message, { idempotent: true })),
    );
    const not = ask(world, 'not');
    await world.now();
    for (const side of world.backend.sides.slice(0, 3)) side.peer.reset();
    world.backend.isEchoing = true;
    world.backend.answerAll();
    await world.pass(1_000);
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b', 'Echo: c']);
    expect(told(not)).toEqual([mode === 'exclusive' ? 'Echo: not' : 'ERR_CONNECTION_LOST']);
    expect(world.told).not.toContain('breakerOpened');
  });

  it('has repetitions wait until it opens, and spreads them', async () => {
    const world = setUpClient(mode, { ...BREAKER, max: 2 }, { isEchoing: false });
    const at: [string, number][] = [];
    world.backend.onQuestion = (_, line) => at.push([line.replace(/^\d+:/, ''), world.clock.now() - 1_000]);
    watch(world.client.request('a'));
    const asked = watch(world.client.request('b', { idempotent: true }));
    // In a shared mode they die with one socket, which counts once.
    await world.pass(101);
    ask(world, 'c');
    await world.pass(101);
    if (world.client.stats().breaker === 'closed') {
      ask(world, 'd');
      await world.pass(101);
    }
    expect(world.client.stats().breaker).toBe('open');
    world.backend.isEchoing = true;
    await world.pass(3_000);
    expect(told([asked])).toEqual(['Echo: b']);
    expect(world.client.stats().breaker).toBe('closed');
  });

  it('adds the back-off to the wait until it opens', async () => {
    const world = setUpClient(
      mode,
      { ...BREAKER, breaker: { ...BREAKER.breaker, failures: 1 } },
      { isEchoing: false },
    );
    const at: number[] = [];
    world.backend.onQuestion = () => at.push(world.clock.now() - 1_000);
    const asked = watch(world.client.request('a', { idempotent: true }));
    await world.pass(101);
    expect(world.client.stats().breaker).toBe('open');
    world.backend.isEchoing = true;
    await world.pass(1_200);
    // It is open for 1,000 ms from 100 on; half of 100 is the jitter.
    expect(at).toEqual([0, 1_150]);
    expect(told([asked])).toEqual(['Echo: a']);
  });

  it('has a repetition that wakes while the probe is out look again, within its deadline', async () => {
    const world = setUpClient(
      mode,
      { ...BREAKER, breaker: { ...BREAKER.breaker, failures: 1 } },
      { isEchoing: false },
    );
    const asked = watch(world.client.request('a', { idempotent: true }));
    const at: number[] = [];
    world.backend.onQuestion = (_, line) => {
      if (line.endsWith('a')) at.push(world.clock.now() - 1_000);
    };
    const short = watch(world.client.request('b', { idempotent: true, timeoutMs: 1_250 }));
    await world.pass(101);
    await world.pass(1_000);
    // Somebody else is the probe.
    const probe = ask(world, 'probe');
    await world.pass(90);
    expect(world.client.stats().breaker).toBe('probing');
    expect(told([asked])).toEqual(['pending']);
    // The next look would be after its deadline.
    expect(told([short])).toEqual(['ERR_DEADLINE']);
    expect(short.error).toMatchObject({
      message: expect.stringMatching(/too late/),
      cause: { code: 'ERR_CIRCUIT_OPEN' },
      earlier: [{ code: 'ERR_READ_TIMEOUT' }],
      sent: 'full',
    });
    world.backend.isEchoing = true;
    world.backend.answerAll();
    await world.pass(500);
    expect(told([...probe, asked])).toEqual(['Echo: probe', 'Echo: a']);
    // It woke at 1,150, when the probe had been out for less than 100 ms, and spread its next look.
    expect(at).toEqual([0, 1_300]);
    expect(world.client.stats()).toMatchObject({ retried: { later: 2 }, timedOut: 1, failed: 0 });
  });

  it('lets the next one probe when the probe’s caller has gone', async () => {
    const world = setUpClient(
      mode,
      { ...BREAKER, breaker: { ...BREAKER.breaker, failures: 1 } },
      { isEchoing: false },
    );
    ask(world, 'a');
    await world.pass(101);
    await world.pass(1_000);
    const controller = new AbortController();
    watch(world.client.request('b', { signal: controller.signal }));
    await world.now();
    controller.abort('enough');
    world.backend.isEchoing = true;
    const asked = ask(world, 'c');
    await world.now();
    world.backend.answerAll();
    await world.now();
    expect(told(asked)).toEqual(['Echo: c']);
    expect(world.client.stats().breaker).toBe('closed');
  });

  it('opens when nothing can be dialed', async () => {
    const world = setUpClient(mode, { ...BREAKER, retry: { retries: 0 } });
    world.net.outcome = { kind: 'refuse' };
    for (const message of ['a', 'b']) {
      ask(world, message);
      await world.pass(300);
    }
    expect(world.client.stats().breaker).toBe('open');
    const refused = ask(world, 'c');
    await world.now();
    expect(refused[0]?.error).toMatchObject({
      code: 'ERR_CIRCUIT_OPEN',
      cause: { code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_REFUSED' } },
    });
  });

  it('tells for how long it opens, and why', async () => {
    const world = setUpClient(
      mode,
      { ...BREAKER, breaker: { ...BREAKER.breaker, failures: 1 } },
      { isEchoing: false },
    );
    const events: unknown[] = [];
    world.client.on('breakerOpened', (event) => events.push(event));
    ask(world, 'a');
    await world.pass(101);
    expect(events).toMatchObject([
      { endpoint: 'fake:1', openMs: 1_000, error: { code: 'ERR_READ_TIMEOUT' } },
    ]);
  });
});

describe.each(SHARED)('the breaker of a %s client', (mode) => {
  it('learns of garbage once, however many calls it was told to', async () => {
    const world = setUpClient(
      mode,
      { ...BREAKER, codec: lines({ maxFrameBytes: 64 }) },
      { isEchoing: false },
    );
    for (const [index, state] of ['closed', 'open'].entries()) {
      ask(world, 'a', 'b', 'c');
      await world.pass(10);
      world.backend.side(index).say('x'.repeat(100));
      await world.pass(1_000);
      expect(world.client.stats()).toMatchObject({ failed: 3 * (index + 1), breaker: state });
    }
  });

  it('learns of a socket’s death once, however many calls flew on it', async () => {
    const world = setUpClient(mode, BREAKER, { isEchoing: false });
    ask(world, 'a', 'b', 'c', 'd');
    await world.now();
    world.backend.side(0).peer.reset();
    await world.pass(10);
    expect(world.client.stats()).toMatchObject({ failed: 4, breaker: 'closed' });
    await world.pass(2_000);
    ask(world, 'e');
    await world.now();
    world.backend.side(1).peer.reset();
    await world.now();
    expect(world.client.stats()).toMatchObject({ failed: 5, breaker: 'open' });
  });
});

it('a client without a breaker has none', async () => {
  const world = setUpClient('exclusive', {}, { isEchoing: true });
  await serveOnce(world);
  expect(world.client.stats().breaker).toBeUndefined();
});

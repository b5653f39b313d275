import { describe, expect, it } from 'vitest';
import { ClientCounters } from '../../../src/client/client-stats.ts';
import { ask } from '../../support/client-steps.ts';
import { MODES, setUpClient } from '../../support/client-world.ts';
import { watch } from '../../support/pool-world.ts';

describe.each(MODES)('the statistics of a %s client', (mode) => {
  it('count each request once, by what became of it', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const controller = new AbortController();
    ask(world, 'a', 'two\nlines');
    watch(world.client.request('b', { signal: controller.signal }));
    watch(world.client.request('c', { timeoutMs: 50 }));
    await world.pass(10);
    expect(world.client.stats()).toMatchObject({ requests: 4, inFlight: 3, failed: 1 });
    controller.abort('enough');
    await world.pass(50);
    world.backend.answerAll();
    await world.now();
    expect(world.client.stats()).toEqual({
      requests: 4,
      inFlight: 0,
      waiting: 0,
      succeeded: 1,
      failed: 1,
      timedOut: 1,
      cancelled: 1,
      retried: { again: 0, fresh: 0, later: 0 },
      retriesRefused: 0,
      retryBudget: 50,
      hedged: 0,
      hedgesWon: 0,
      breaker: undefined,
      latency: expect.objectContaining({ count: 1, sumMs: 60, maxMs: 60 }),
    });
  });

  it('are frozen', () => {
    const stats = setUpClient(mode).client.stats();
    expect([stats, stats.retried, stats.latency].every((one) => Object.isFrozen(one))).toBe(true);
  });

  it('measure from the request to its reply, all attempts included', async () => {
    const world = setUpClient(
      mode,
      { readTimeoutMs: 100, retry: { baseMs: 100, capMs: 100 } },
      { isEchoing: false },
    );
    watch(world.client.request('a', { idempotent: true }));
    await world.pass(120);
    world.backend.isEchoing = true;
    await world.pass(100);
    expect(world.client.stats().latency).toMatchObject({ count: 1, maxMs: 150 });
  });

  it('tell how much may still be repeated', async () => {
    const world = setUpClient(mode, { retryBudget: { ratio: 0.5, minPerSecond: 0 } });
    ask(world, 'a', 'b', 'c', 'd', 'e');
    await world.now();
    expect(world.client.stats().retryBudget).toBe(2);
    await world.pass(10_001);
    expect(world.client.stats().retryBudget).toBe(0);
  });
});

it('above 2,000 requests in a second one of 16 is measured, and counted as 16', () => {
  const counters = new ClientCounters();
  let measured = 0;
  for (let n = 0; n < 4_000; n++) {
    const sample = counters.begin(1_000, 1_000);
    if (sample !== undefined) measured += 1;
    counters.succeeded(sample, 1_005);
  }
  expect(measured).toBe(2_000 + 2_000 / 16);
  const gauges = { inFlight: 0, waiting: 0, retryBudget: 0, breaker: undefined };
  expect(counters.snapshot(gauges, 1_005)).toMatchObject({ succeeded: 4_000, latency: { count: 4_000 } });
  expect(counters.begin(2_000, 2_000)).toEqual({ from: 2_000, weight: 1 });
});

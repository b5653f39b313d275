import { describe, expect, it } from 'vitest';
import { ask, bodyOf, told } from '../../support/client-steps.ts';
import { MODES, type Options, setUpClient } from '../../support/client-world.ts';
import { watch } from '../../support/pool-world.ts';

/** `Echo: no 300` says: come again in 300 ms. */
const HOOK: Options = {
  retryAfter: (reply) => {
    const [, ms] = / no (\S+)$/.exec(reply) ?? [];
    return ms === undefined ? undefined : Number(ms);
  },
};

describe.each(MODES)('retryAfter of a %s client', (mode) => {
  it('has a request sent again when its time has come, though it is not idempotent', async () => {
    const world = setUpClient(mode, {
      retryAfter: (reply) => (world.clock.now() < 1_300 && reply.endsWith('a') ? 300 : undefined),
    });
    const events: unknown[] = [];
    world.client.on('retried', (event) => events.push(event));
    const asked = ask(world, 'a', 'b');
    await world.pass(299);
    expect(told(asked)).toEqual(['pending', 'Echo: b']);
    await world.pass(2);
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b']);
    expect(world.backend.times('a')).toBe(2);
    expect(events).toEqual([{ error: undefined, how: 'later', waitMs: 300, attempts: 1 }]);
    expect(world.client.stats()).toMatchObject({ succeeded: 2, retried: { later: 1 } });
  });

  it('is not obeyed past the deadline, the retries or the budget: then the reply is shown', async () => {
    const world = setUpClient(mode, { ...HOOK, retry: { retries: 1 } });
    const late = watch(world.client.request('no 300', { timeoutMs: 200 }));
    const often = watch(world.client.request('no 10'));
    await world.pass(200);
    expect(told([late, often])).toEqual(['Echo: no 300', 'Echo: no 10']);
    expect([world.backend.times('no 300'), world.backend.times('no 10')]).toEqual([1, 2]);
    const poor = setUpClient(mode, { ...HOOK, retryBudget: { ratio: 0, minPerSecond: 0 } });
    const asked = ask(poor, 'no 10');
    await poor.now();
    expect(told(asked)).toEqual(['Echo: no 10']);
    expect(poor.client.stats()).toMatchObject({ retriesRefused: 1, succeeded: 1, failed: 0 });
  });

  it('of Infinity shows the reply at once', async () => {
    const world = setUpClient(mode, HOOK);
    const asked = ask(world, 'no Infinity');
    await world.now();
    expect(told(asked)).toEqual(['Echo: no Infinity']);
  });

  it('of 0 waits for the back-off, as every retry', async () => {
    const world = setUpClient(mode, { ...HOOK, retry: { retries: 1, baseMs: 100, capMs: 100 } });
    const asked = ask(world, 'no 0');
    await world.pass(49);
    expect(told(asked)).toEqual(['pending']);
    await world.pass(2);
    expect(told(asked)).toEqual(['Echo: no 0']);
  });

  it.each([
    ['a promise', () => Promise.reject(new Error('never mind'))],
    ['NaN', () => Number.NaN],
    ['a string', () => '5'],
    ['null', () => null],
    ['a negative number', () => -1],
  ])('that returns %s fails the request, and no other one', async (_what, given) => {
    const world = setUpClient(mode, {
      retryAfter: (reply) => (reply.endsWith('a') ? (given() as never) : undefined),
    });
    const asked = ask(world, 'a', 'b');
    await world.pass(100);
    expect(told(asked)).toEqual(['ERR_HOOK', 'Echo: b']);
    expect(asked[0]?.error).toMatchObject({
      sent: 'full',
      retryable: false,
      message: expect.stringMatching(/returned/),
    });
    expect(world.backend.times('a')).toBe(1);
    expect(world.told.filter((what) => what !== 'opened')).toEqual([]);
  });

  it('that throws fails the request, and no other one', async () => {
    const thrown = new Error('no');
    const world = setUpClient(mode, {
      retryAfter: (reply) => {
        if (reply.endsWith('a')) throw thrown;
        return undefined;
      },
    });
    const asked = ask(world, 'a', 'b');
    await world.pass(100);
    expect(told(asked)).toEqual(['ERR_HOOK', 'Echo: b']);
    expect(asked[0]?.error).toMatchObject({ sent: 'full', message: 'retryAfter threw: no', cause: thrown });
    expect(world.told.filter((what) => what !== 'opened')).toEqual([]);
  });

  it('is part of the story at the deadline', async () => {
    const world = setUpClient(mode, HOOK, { isEchoing: false });
    const asked = watch(world.client.request('no 100', { timeoutMs: 1_000 }));
    await world.pass(200);
    world.backend.answerAll();
    await world.pass(900);
    expect(asked.error).toMatchObject({
      code: 'ERR_DEADLINE',
      sent: 'full',
      phases: { acquireMs: 0, exchangeMs: 900, backoffMs: 100 },
    });
  });

  it('leaves what was sent in the story of what comes after it', async () => {
    const world = setUpClient(mode, { ...HOOK, retry: { retries: 1, baseMs: 1, capMs: 1 } });
    const asked = ask(world, 'no 100');
    await world.pass(50);
    world.net.outcome = { kind: 'refuse' };
    for (const { peer } of world.backend.sides) peer.reset();
    await world.pass(5_000);
    expect(asked[0]?.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', sent: 'full' });
  });

  it('is told of the client’s close with its own error', async () => {
    const world = setUpClient(mode, HOOK);
    const asked = ask(world, 'no 1000');
    await world.pass(50);
    void world.client.close();
    await world.now();
    expect(told(asked)).toEqual(['ERR_POOL_CLOSED']);
    expect(asked[0]?.error).toMatchObject({ sent: 'full' });
    expect(bodyOf(asked[0]?.value)).toBe('undefined');
  });
});

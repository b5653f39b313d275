import { describe, expect, it } from 'vitest';
import { CLIENT_DEFAULTS, resolveClientOptions } from '../../../src/client-options.ts';
import { createClient } from '../../../src/create-client.ts';
import { IDS, MODES, type Options, optionsOf, setUpClient } from '../../support/client-world.ts';

const WRONG: [Options | Record<string, unknown>, RegExp][] = [
  [{ mode: 'shared' }, /`mode`/],
  [{ maxInflight: 3 }, /`maxInflight` of createClient\(\)\. Did you mean `maxInFlight`/],
  [{ timeoutMs: 0 }, /`timeoutMs`/],
  [{ timeoutMs: '5' }, /`timeoutMs`/],
  [{ retryAfter: 5 }, /`retryAfter`/],
  [{ retryBudget: { ratio: -1 } }, /`retryBudget.ratio`/],
  [{ retryBudget: { ratio: Number.NaN } }, /`retryBudget.ratio`/],
  [{ retryBudget: { ration: 1 } }, /`ration` of retryBudget/],
  [{ retryBudget: { minPerSecond: -1 } }, /`retryBudget.minPerSecond`/],
  [{ breaker: true }, /breaker/],
  [{ breaker: { failures: 0 } }, /`breaker.failures`/],
  [{ breaker: { failureRate: 0 } }, /`breaker.failureRate`/],
  [{ breaker: { failureRate: 1.1 } }, /`breaker.failureRate`/],
  [{ breaker: { minRequests: 1.5 } }, /`breaker.minRequests`/],
  [{ breaker: { windowMs: 999 } }, /`breaker.windowMs`/],
  [{ breaker: { openMs: 2 ** 31 } }, /`breaker.openMs`/],
  [
    { breaker: { openMs: 100, maxOpenMs: 50 } },
    /`breaker.maxOpenMs` to be at least `breaker.openMs` \(100\)/,
  ],
  [{ breaker: { half: 1 } }, /`half` of breaker/],
  [{ hedge: 1 }, /`hedge`/],
];

describe.each(MODES)('createClient with the mode %s', (mode) => {
  it.each(WRONG)('refuses %o', (options, message) => {
    const make = (): unknown => createClient(optionsOf(mode, options as Options));
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_INVALID_OPTION' }));
    expect(make).toThrow(message);
  });

  it('takes undefined for what is left out', () => {
    const options = {
      timeoutMs: undefined,
      retryAfter: undefined,
      retryBudget: undefined,
      breaker: { failures: undefined },
      hedge: undefined,
      ...(mode === 'exclusive' ? { mode: undefined } : {}),
    };
    const { own } = resolveClientOptions(optionsOf(mode, options as never));
    const { maxInFlight, timeoutMs, hedge, retryBudget, breaker } = CLIENT_DEFAULTS;
    expect(own).toMatchObject({ mode, maxInFlight, timeoutMs, hedge, retryBudget, breaker });
  });

  it('has no breaker when none is asked for', () => {
    expect(resolveClientOptions(optionsOf(mode)).own.breaker).toBeUndefined();
    expect(resolveClientOptions(optionsOf(mode, { breaker: {} })).own.breaker).toEqual(
      CLIENT_DEFAULTS.breaker,
    );
  });

  it.each([
    { timeout: 5 },
    { timeoutMs: -1 },
    { priority: 11 },
    { priority: 1.5 },
    { idempotent: 'yes' },
    { hedge: 1, idempotent: true },
    { hedge: true },
    { hedge: true, idempotent: false },
    { signal: 5 },
    5,
  ])('has requests with %o refused, and nothing sent', async (options) => {
    const world = setUpClient(mode);
    await expect(world.client.request('a', options as never)).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
    });
    await world.now();
    expect(world.net.dialedAt).toEqual([]);
    expect(world.client.stats().requests).toBe(0);
  });

  it('has `hedge: false` allowed for what is not idempotent', async () => {
    const world = setUpClient(mode);
    await expect(world.client.request('a', { hedge: false })).resolves.toMatch(/Echo: a$/);
  });

  it('has listeners added, once, and taken away; and unknown events refused', async () => {
    const world = setUpClient(mode, { readTimeoutMs: 100 }, { isEchoing: false });
    const heard: string[] = [];
    const listener = (): void => {
      heard.push('on');
    };
    world.client.on('retried', listener).once('retried', () => {
      heard.push('once');
    });
    void world.client.request('a', { idempotent: true }).catch(() => undefined);
    await world.pass(500);
    world.client.off('retried', listener);
    await world.pass(5_000);
    expect(heard.filter((what) => what === 'once').length).toBe(1);
    expect(heard.filter((what) => what === 'on').length).toBe(world.client.stats().retried.later);
    for (const add of ['on', 'once', 'off'] as const) {
      expect(() => world.client[add]('opened' as 'retried', () => undefined)).toThrow(/`event`/);
    }
  });
});

describe('createClient', () => {
  it.each([
    [{ mode: 'exclusive', maxInFlight: 3 }, /`maxInFlight` to come with the mode/],
    [{ mode: 'pipelined', maxInFlight: 0 }, /`maxInFlight`/],
    [{ mode: 'pipelined', correlate: IDS }, /`correlate` to come with the mode/],
    [{ mode: 'exclusive', correlate: IDS }, /`correlate` to come with the mode/],
    [{ mode: 'multiplexed', correlate: undefined }, /`correlate` to be given/],
    [{ mode: 'multiplexed', correlate: { write: IDS.write } }, /`correlate.read`/],
    [{ mode: 'multiplexed', correlate: { read: IDS.read } }, /`correlate.write`/],
    [{ mode: 'multiplexed', correlate: { ...IDS, id: 1 } }, /`id` of correlate/],
    [{ mode: 'multiplexed', correlate: { ...IDS, maxId: 1.5 } }, /`correlate.maxId`/],
  ])('refuses %o', (options, message) => {
    expect(() => createClient({ ...optionsOf('pipelined'), ...options } as never)).toThrow(message);
  });

  it('fills sockets to 1,000 requests, or to `correlate.maxId`', () => {
    const maxInFlightOf = (options: Options): number =>
      resolveClientOptions(optionsOf('multiplexed', options)).own.maxInFlight;
    expect(maxInFlightOf({})).toBe(1_000);
    expect(maxInFlightOf({ correlate: { ...IDS, maxId: 255 } })).toBe(255);
    expect(maxInFlightOf({ correlate: { ...IDS, maxId: 65_535 } })).toBe(1_000);
    expect(maxInFlightOf({ correlate: { ...IDS, maxId: 255 }, maxInFlight: 255 })).toBe(255);
  });

  it('takes the options of a pool, and refuses what that refuses', () => {
    expect(() => createClient(optionsOf('exclusive', { max: 0 }))).toThrow(/`max`/);
    expect(() => createClient({ mode: 'exclusive' } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_OPTION' }),
    );
  });
});

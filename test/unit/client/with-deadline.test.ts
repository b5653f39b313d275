import { describe, expect, it } from 'vitest';
import { told } from '../../support/client-steps.ts';
import { MODES, setUpClient } from '../../support/client-world.ts';
import { watch } from '../../support/pool-world.ts';

describe.each(MODES)('a family of calls of a %s client', (mode) => {
  it('shares one deadline, which starts with the family', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const family = world.client.withDeadline(300);
    await world.pass(200);
    expect(family.remainingMs).toBe(100);
    const asked = [watch(family.request('a')), watch(family.request('b', { timeoutMs: 50 }))];
    await world.pass(51);
    expect(told(asked)).toEqual(['pending', 'ERR_DEADLINE']);
    await world.pass(50);
    expect(told(asked)).toEqual(['ERR_DEADLINE', 'ERR_DEADLINE']);
    expect(asked[0]?.error).toMatchObject({ phases: { exchangeMs: 100 } });
  });

  it('sends nothing once its deadline has passed', async () => {
    const world = setUpClient(mode);
    const family = world.client.withDeadline({ timeoutMs: 10 });
    await world.pass(11);
    expect(family.remainingMs).toBe(0);
    await expect(family.request('a')).rejects.toMatchObject({
      code: 'ERR_DEADLINE',
      sent: 'none',
      attempts: 0,
    });
    expect(world.backend.asked.flat()).toEqual([]);
    expect(world.client.stats().requests).toBe(0);
  });

  it('is aborted together, before and during its requests', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const controller = new AbortController();
    const family = world.client.withDeadline({ signal: controller.signal });
    const own = new AbortController();
    const asked = [
      watch(family.request('a')),
      watch(family.request('b', { signal: own.signal })),
      watch(family.request('c', { signal: own.signal })),
    ];
    await world.now();
    own.abort('own');
    await world.now();
    expect(told(asked)).toEqual(['pending', 'own', 'own']);
    controller.abort('all');
    await world.now();
    expect(told(asked)).toEqual(['all', 'own', 'own']);
    await expect(family.request('d')).rejects.toBe('all');
    expect(world.client.stats()).toMatchObject({ requests: 3, cancelled: 3 });
  });

  it('keeps the client’s own limit when its deadline is later, or none', async () => {
    const world = setUpClient(mode, { timeoutMs: 100 }, { isEchoing: false });
    const asked = [
      watch(world.client.withDeadline(1_000).request('a')),
      watch(world.client.withDeadline({}).request('b')),
    ];
    expect(world.client.withDeadline({}).remainingMs).toBe(Number.POSITIVE_INFINITY);
    await world.pass(101);
    expect(told(asked)).toEqual(['ERR_DEADLINE', 'ERR_DEADLINE']);
  });

  it('has the same bounds for repetitions', async () => {
    const world = setUpClient(
      mode,
      { readTimeoutMs: 100, retry: { retries: 9, baseMs: 10, capMs: 10 } },
      { isEchoing: false },
    );
    const asked = watch(world.client.withDeadline(250).request('a', { idempotent: true }));
    await world.pass(251);
    expect(told([asked])).toEqual(['ERR_DEADLINE']);
    expect(world.backend.times('a')).toBe(3);
  });

  it('refuses bounds that can’t be kept', () => {
    const world = setUpClient(mode);
    for (const bounds of [-1, Number.NaN, '5', null, { timeoutMs: -1 }, { timeout: 5 }, { signal: 5 }]) {
      expect(() => world.client.withDeadline(bounds as never)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_OPTION' }),
      );
    }
  });

  it('is refused when the client has closed', async () => {
    const world = setUpClient(mode);
    const family = world.client.withDeadline(1_000);
    void world.client.close();
    await expect(family.request('a')).rejects.toMatchObject({ code: 'ERR_POOL_CLOSED' });
  });
});

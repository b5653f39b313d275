import { describe, expect, it } from 'vitest';
import type { IdleLimitLearnedEvent } from '../../../src/events.ts';
import { IdleLimit } from '../../../src/pool/idle-limit.ts';
import { type Options, setUp, take, type World } from '../../support/pool-world.ts';

const HOUR = 3_600_000;

/** Deaths at these idle ages, a minute apart. Returns what each one taught. */
function die(limit: IdleLimit, ages: readonly number[], from = 0): (number | undefined)[] {
  return ages.map((idleMs, index) => limit.ended(idleMs, 0, from + index * 60_000));
}

describe('the idle limit of a server', () => {
  it('is learned from three deaths at about the same idle age: a tenth less than the least', () => {
    const limit = new IdleLimit();
    expect(limit.limitMs(0)).toBe(Number.POSITIVE_INFINITY);
    expect(die(limit, [60_500, 60_000, 60_900])).toEqual([undefined, undefined, 54_000]);
    expect(limit.limitMs(120_000)).toBe(54_000);
    expect(limit.learnedMs(120_000)).toBe(60_000);
  });

  it('is not learned from two', () => {
    expect(die(new IdleLimit(), [60_000, 60_000])).toEqual([undefined, undefined]);
  });

  it.each([
    ['scattered', [10_000, 60_000, 30_000, 45_000, 5_000]],
    ['just too far apart', [60_000, 63_000, 66_100]],
    ['too short to mean anything', [900, 900, 900, 900]],
  ])('is not learned from ages that are %s', (_what, ages) => {
    expect(die(new IdleLimit(), ages).every((taught) => taught === undefined)).toBe(true);
  });

  it('is learned from the last three, whatever came before', () => {
    expect(die(new IdleLimit(), [5_000, 30_000, 60_000, 60_000, 60_000]).at(-1)).toBe(54_000);
  });

  it('is not learned from those that died together, which died of one cause', () => {
    const limit = new IdleLimit();
    for (let socket = 0; socket < 20; socket++)
      expect(limit.ended(60_000, 0, 100_000 + socket)).toBeUndefined();
    expect(limit.limitMs(100_020)).toBe(Number.POSITIVE_INFINITY);
  });

  it('is not learned while another socket has rested longer and lives, which begins the count anew', () => {
    const limit = new IdleLimit();
    die(limit, [60_000, 60_000]);
    expect(limit.ended(60_000, 90_000, 200_000)).toBeUndefined();
    expect(die(limit, [60_000, 60_000], 300_000)).toEqual([undefined, undefined]);
    expect(limit.ended(60_000, 60_500, 500_000)).toBe(54_000);
  });

  it('is told again only when it is lower', () => {
    const limit = new IdleLimit();
    die(limit, [60_000, 60_000, 60_000]);
    expect(die(limit, [60_000, 60_400], 300_000)).toEqual([undefined, undefined]);
    expect(die(limit, [30_000, 30_000, 30_000], 600_000).at(-1)).toBe(27_000);
    expect(die(limit, [60_000, 60_000, 60_000], 900_000).at(-1)).toBeUndefined();
    expect(limit.limitMs(1_100_000)).toBe(27_000);
  });

  it('is forgotten after an hour, and when it is told to', () => {
    const limit = new IdleLimit();
    die(limit, [60_000, 60_000, 60_000]);
    expect(limit.limitMs(120_000 + HOUR)).toBe(54_000);
    expect(limit.limitMs(120_001 + HOUR)).toBe(Number.POSITIVE_INFINITY);
    die(limit, [60_000, 60_000, 60_000], 2 * HOUR);
    limit.forget();
    expect(limit.limitMs(2 * HOUR + 1)).toBe(Number.POSITIVE_INFINITY);
    expect(die(limit, [60_000, 60_000], 2 * HOUR + 60_000)).toEqual([undefined, undefined]);
  });
});

describe('a pool whose server closes sockets at rest', () => {
  const SERVER_LIMIT_MS = 20_000;

  function learning(options: Options = {}) {
    const world = setUp({ idleTimeoutMs: 600_000, ...options });
    const learned: IdleLimitLearnedEvent[] = [];
    world.pool.on('idleLimitLearned', (event) => learned.push(event));
    return { ...world, learned };
  }

  async function request(world: World): Promise<void> {
    const asked = world.pool.request('hello');
    await world.now();
    await asked;
  }

  async function teach(world: World, times = 3): Promise<void> {
    for (let time = 0; time < times; time++) {
      await request(world);
      await world.pass(SERVER_LIMIT_MS);
      world.net.lastPeer.fin();
      await world.now();
    }
  }

  it('learns it, says so in an event and as advice, and closes them before the server does', async () => {
    const world = learning();
    await teach(world, 2);
    expect(world.learned).toEqual([]);
    expect(world.pool.advice()).toEqual([]);
    await teach(world, 1);
    expect(world.learned).toEqual([{ endpoint: 'fake:1', idleTimeoutMs: 18_000, configuredMs: 600_000 }]);
    expect(world.pool.advice()).toMatchObject([
      { kind: 'set-idle-timeout', suggest: { idleTimeoutMs: 18_000 } },
    ]);
    await request(world);
    await world.pass(16_500);
    expect(world.pool.stats().idle).toBe(1);
    await world.pass(2_600);
    expect(world.pool.stats()).toMatchObject({ idle: 0, closedBy: { 'peer-closed': 3, idle: 1 } });
  });

  it('closes and replaces even those that min asks for', async () => {
    const world = learning();
    await teach(world);
    world.pool.resize({ min: 2 });
    await world.now();
    await world.pass(19_500);
    expect(world.pool.stats()).toMatchObject({ idle: 2, closedBy: { idle: 2 } });
  });

  it('still keeps a limit of a few seconds, which is short against the time between two looks', async () => {
    const world = learning();
    for (let time = 0; time < 3; time++) {
      await request(world);
      await world.pass(2_000);
      world.net.lastPeer.fin();
      await world.now();
    }
    expect(world.learned).toMatchObject([{ idleTimeoutMs: 1_800 }]);
    for (const offset of [0, 130, 370, 610, 940]) {
      await world.pass(offset);
      await request(world);
      await world.pass(1_990);
      expect(world.pool.stats().idle).toBe(0);
    }
  });

  it('learns nothing from a restart that kills sockets of one age together', async () => {
    const world = learning({ max: 8 });
    for (const lease of await take(world, 8)) lease.release();
    await world.pass(SERVER_LIMIT_MS);
    for (const peer of world.net.peers) peer.fin();
    await world.now();
    expect(world.pool.stats().closedBy).toEqual({ 'peer-closed': 8 });
    expect(world.learned).toEqual([]);
  });

  it('learns nothing from sockets that died in a caller’s hands', async () => {
    const world = learning();
    for (let time = 0; time < 5; time++) {
      const [lease] = await take(world, 1);
      await world.pass(SERVER_LIMIT_MS);
      world.net.lastPeer.fin();
      await world.now();
      expect(lease?.isUsable).toBe(false);
    }
    expect(world.learned).toEqual([]);
  });

  it('learns nothing while another socket rests longer', async () => {
    const world = learning({ max: 2 });
    const [old, young] = await take(world, 2);
    old?.release();
    await world.pass(10_000);
    young?.release();
    for (let time = 0; time < 4; time++) {
      // The younger one lies on top: it is lent, and dies.
      await request(world);
      await world.pass(SERVER_LIMIT_MS);
      world.net.lastPeer.fin();
      await world.now();
      const [first, second] = await take(world, 2);
      second?.release();
      await world.pass(1);
      first?.release();
    }
    expect(world.pool.stats().closedBy['peer-closed']).toBe(4);
    expect(world.learned.length).toBeLessThanOrEqual(1);
  });

  it('learns nothing from ages that differ', async () => {
    const world = learning();
    for (const restMs of [5_000, 20_000, 9_000, 40_000, 15_000]) {
      await request(world);
      await world.pass(restMs);
      world.net.lastPeer.fin();
      await world.now();
    }
    expect(world.learned).toEqual([]);
  });

  it('says nothing when the option is lower anyway', async () => {
    const world = learning({ idleTimeoutMs: 17_000, min: 1 });
    for (let time = 0; time < 4; time++) {
      await world.now();
      await world.pass(SERVER_LIMIT_MS);
      world.net.lastPeer.fin();
      await world.now();
    }
    expect(world.learned).toEqual([]);
    expect(world.pool.advice()).toEqual([]);
  });

  it('forgets it after reset(), and after an hour', async () => {
    const world = learning();
    await teach(world);
    const renewed = world.pool.reset();
    await world.now();
    await renewed;
    await request(world);
    await world.pass(30_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1 });
    expect(world.pool.advice()).toEqual([]);
    world.net.lastPeer.fin();
    await world.now();
    await teach(world);
    expect(world.learned.length).toBe(2);
    await world.pass(HOUR + 1_000);
    await request(world);
    await world.pass(30_000);
    expect(world.pool.stats()).toMatchObject({ idle: 1 });
  });
});

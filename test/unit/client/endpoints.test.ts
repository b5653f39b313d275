import { describe, expect, it } from 'vitest';
import type { ClientMode } from '../../../src/client-options.ts';
import { bodyOf, told, warmUp, watchQuestions } from '../../support/client-steps.ts';
import { type ClientWorld, MODES, type Options, SHARED, setUpClient } from '../../support/client-world.ts';
import { Feed } from '../../support/feed.ts';
import { type Outcome, watch } from '../../support/pool-world.ts';
import { A, B, C, netOf, THREE } from '../../support/three-endpoints.ts';

const ALL = [A, B, C];

function setUpThree(mode: ClientMode, options: Options = {}, isEchoing = true, net = netOf()): ClientWorld {
  return setUpClient(mode, { endpoints: THREE, max: 30, ...options }, { isEchoing, net });
}

/** Has each address answer after so long, in ms. `Infinity`: never. */
function answerAfter({ backend, clock }: ClientWorld, delays: Readonly<Record<string, number>>): void {
  backend.isEchoing = false;
  backend.onQuestion = (side) => {
    const delay = delays[side.peer.address] ?? 1;
    // With 0 in the turn after, as from a network.
    clock.after(delay, () => {
      if (!side.peer.isClientGone) side.answer(1);
    });
  };
}

/** How many questions have come to each address. */
function spread({ backend }: ClientWorld): Record<string, number> {
  const found: Record<string, number> = {};
  for (const { asked, peer } of backend.sides)
    found[peer.address] = (found[peer.address] ?? 0) + asked.length;
  return found;
}

/** How many have come since. */
async function spreadOf(world: ClientWorld, act: () => Promise<unknown>): Promise<Record<string, number>> {
  const before = spread(world);
  await act();
  const after = spread(world);
  return Object.fromEntries(ALL.map((at) => [at, (after[at] ?? 0) - (before[at] ?? 0)]));
}

/** So many calls, some of them at once. */
async function rush(
  world: ClientWorld,
  count: number,
  { atOnce = 6, everyMs = 1, options = {} }: { atOnce?: number; everyMs?: number; options?: object } = {},
): Promise<Outcome<string>[]> {
  const asked: Outcome<string>[] = [];
  while (asked.length < count) {
    for (let n = 0; n < atOnce; n++) asked.push(watch(world.client.request(`q${asked.length}`, options)));
    await world.clock.advance(everyMs);
    checkCounts(world);
  }
  world.audit();
  return asked;
}

/** What flies is counted, and what is over is not: exclusive leases and shared calls alike. */
function checkCounts({ client, pool }: ClientWorld): void {
  const inFlight = pool.endpoints().map((row) => row.inFlight);
  for (const count of inFlight) expect(count).toBeGreaterThanOrEqual(0);
  if (inFlight.length < ALL.length) return;
  const { inFlight: live, waiting } = client.stats();
  expect(inFlight.reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(live - waiting);
}

function inFlight({ pool }: ClientWorld): number[] {
  return pool.endpoints().map((row) => row.inFlight);
}

/** The addresses that a question has come to, in order. */
function watchAddresses(world: ClientWorld): (question: string) => string[] {
  const sides = watchQuestions(world);
  return (question) => sides(question).map(({ peer }) => peer.address);
}

/** Where a call with that key is answered. */
async function serverOf(world: ClientWorld, key: string): Promise<string> {
  const addresses = watchAddresses(world);
  const asked = watch(world.client.request(`for ${key}`, { key, idempotent: true }));
  for (let ms = 0; !asked.isSettled && ms < 1_000; ms += 5) await world.pass(5);
  expect(asked.error).toBeUndefined();
  expect(bodyOf(asked.value)).toBe(`Echo: for ${key}`);
  return addresses(`for ${key}`).at(-1) ?? '';
}

/** Its sockets die, and it can't be dialed any more. */
function kill({ net }: ClientWorld, address: string): void {
  net.outcomes.set(address, { kind: 'refuse' });
  for (const peer of net.openPeers) if (peer.address === address) peer.reset();
}

describe.each(MODES)('a %s client of three endpoints', (mode) => {
  it('spreads its calls within 10 % of even', async () => {
    const world = setUpThree(mode);
    await rush(world, 60);
    const found = await spreadOf(world, () => rush(world, 3_000));
    for (const at of ALL) expect(Math.abs((found[at] ?? 0) - 1_000)).toBeLessThan(100);
    expect(inFlight(world)).toEqual([0, 0, 0]);
  });

  it('takes turns with round robin', async () => {
    const world = setUpThree(mode, { balance: 'round-robin' });
    await rush(world, 60);
    const found = await spreadOf(world, () => rush(world, 600));
    for (const at of ALL) expect(Math.abs((found[at] ?? 0) - 200)).toBeLessThanOrEqual(3);
  });

  it('spreads calls that come after a rest, all at once', async () => {
    const world = setUpThree(mode);
    await rush(world, 60);
    await world.pass(200);
    const found = await spreadOf(world, async () => {
      const asked = await rush(world, 30, { atOnce: 30, everyMs: 10 });
      expect(new Set(told(asked)).size).toBe(30);
    });
    for (const at of ALL) expect(found[at]).toBeGreaterThan(3);
  });

  it('sends little to one that is slow', async () => {
    const world = setUpThree(mode);
    answerAfter(world, { [A]: 100 });
    await rush(world, 600);
    const found = await spreadOf(world, () => rush(world, 3_000));
    expect(found[A]).toBeLessThan(90);
    expect(Math.abs((found[B] ?? 0) - (found[C] ?? 0))).toBeLessThan(300);
    await world.pass(200);
    expect(inFlight(world)).toEqual([0, 0, 0]);
  });

  it('loses nothing that is safe to repeat when one dies', async () => {
    const world = setUpThree(mode);
    answerAfter(world, {});
    await rush(world, 60);
    const asked = [...(await rush(world, 60, { options: { idempotent: true } }))];
    watch(world.client.request('x', { idempotent: true }));
    kill(world, A);
    asked.push(...(await rush(world, 300, { options: { idempotent: true } })));
    await world.pass(500);
    expect(told(asked).filter((what) => !what.startsWith('Echo'))).toEqual([]);
    expect(inFlight(world)).toEqual([0, 0, 0]);
  });

  it('repeats a call at another endpoint', async () => {
    const world = setUpThree(mode, { max: 9 });
    const addresses = watchAddresses(world);
    for (let n = 0; n < 30; n++) {
      // While it is the only one that has a socket, the one that failed is better than to wait.
      world.backend.isEchoing = true;
      await rush(world, 60);
      world.backend.isEchoing = false;
      const asked = watch(world.client.request(`q ${n}`, { idempotent: true }));
      await world.now();
      world.net.openPeers.find((peer) => peer.received.endsWith(`q ${n}\n`))?.reset();
      for (let ms = 0; addresses(`q ${n}`).length < 2 && ms < 2_000; ms += 10) await world.pass(10);
      const [first, second] = addresses(`q ${n}`);
      expect(second).toBeDefined();
      expect(second).not.toBe(first);
      world.backend.answerAll();
      await world.now();
      expect(bodyOf(asked.value)).toBe(`Echo: q ${n}`);
      expect(inFlight(world)).toEqual([0, 0, 0]);
    }
  });

  it('repeats a call on a new socket when there is no other endpoint', async () => {
    const world = setUpThree(mode, {
      endpoints: new Feed([`${A}:1`]).discover,
      ...(mode === 'exclusive' ? {} : { maxInFlight: 1 }),
    });
    await rush(world, 6, { atOnce: 3 });
    world.backend.isEchoing = false;
    const sides = watchQuestions(world);
    const before = world.backend.sides.length;
    expect(before).toBeGreaterThan(1);
    const asked = watch(world.client.request('q', { idempotent: true }));
    await world.now();
    sides('q')[0]?.peer.reset();
    await world.pass(10);
    expect(world.told).toContain('retried:fresh');
    expect(world.backend.sides.indexOf(sides('q')[1] ?? world.backend.side(0))).toBe(before);
    world.backend.answerAll();
    await world.now();
    expect(bodyOf(asked.value)).toBe('Echo: q');
  });

  it('sends a call that was refused to another endpoint', async () => {
    const world = setUpThree(mode, {
      retryAfter: (reply) => (reply.includes('Busy') ? 10 : undefined),
    });
    await rush(world, 60);
    world.backend.isEchoing = false;
    const sides = watchQuestions(world);
    const asked = watch(world.client.request('q'));
    await world.now();
    const [first] = sides('q');
    const line = first?.due.shift() ?? '';
    first?.say(world.backend.replyTo(line).replace('Echo', 'Busy'));
    await world.pass(200);
    const [, second] = sides('q');
    expect(second?.peer.address).not.toBe(first?.peer.address);
    world.backend.answerAll();
    await world.now();
    expect(bodyOf(asked.value)).toBe('Echo: q');
  });

  it('sends a second try to another endpoint', async () => {
    const world = setUpThree(mode, { hedge: true });
    await rush(world, 60, { atOnce: 30 });
    await warmUp(world);
    const addresses = watchAddresses(world);
    for (let n = 0; n < 10; n++) {
      const asked = watch(world.client.request(`slow ${n}`, { idempotent: true }));
      await world.pass(100);
      const [first, second] = addresses(`slow ${n}`);
      expect(second).toBeDefined();
      expect(second).not.toBe(first);
      world.backend.answerAll();
      await world.now();
      expect(bodyOf(asked.value)).toBe(`Echo: slow ${n}`);
      await world.pass(1_000);
      world.backend.answerAll();
      await world.now();
      expect(inFlight(world)).toEqual([0, 0, 0]);
    }
  });

  it('finishes what flies to one that left, and sends it nothing more', async () => {
    const feed = new Feed(THREE);
    const world = setUpThree(mode, { endpoints: feed.discover });
    await rush(world, 60);
    world.backend.isEchoing = false;
    const addresses = watchAddresses(world);
    const asked = await rush(world, 30);
    feed.tell([`${B}:1`, `${C}:1`]);
    await world.now();
    const before = spread(world)[A];
    asked.push(...(await rush(world, 30)));
    world.backend.isEchoing = true;
    world.backend.answerAll();
    await world.now();
    asked.push(...(await rush(world, 30)));
    await world.pass(100);
    expect(addresses('q0').length).toBeGreaterThan(0);
    expect(spread(world)[A]).toBe(before);
    expect(told(asked).filter((what) => !what.startsWith('Echo'))).toEqual([]);
    expect(world.net.openPeers.filter(({ address }) => address === A)).toEqual([]);
  });

  it('serves by the others when one can’t be dialed', async () => {
    const net = netOf();
    net.outcomes.set(A, { kind: 'refuse' });
    const world = setUpThree(mode, {}, true, net);
    const asked = await rush(world, 300);
    await world.pass(10);
    expect(new Set(told(asked)).size).toBe(300);
    expect(spread(world)[A]).toBeUndefined();
    const { [B]: b = 0, [C]: c = 0 } = spread(world);
    expect(Math.min(b, c)).toBeGreaterThan(50);
  });

  it('serves by the others when dials to one hang', async () => {
    const net = netOf();
    net.outcomes.set(A, { kind: 'hang' });
    const world = setUpThree(mode, {}, true, net);
    await rush(world, 30);
    await world.pass(300);
    const asked = await rush(world, 300);
    expect(told(asked).filter((what) => what === 'pending')).toEqual([]);
    await world.pass(20_000);
  });

  it('says why when none can be dialed', async () => {
    const net = netOf();
    net.outcome = { kind: 'refuse' };
    const world = setUpThree(mode, { retry: { retries: 1, baseMs: 10, capMs: 10 } }, true, net);
    const asked = watch(world.client.request('q'));
    await world.pass(1_000);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_REFUSED' } });
  });

  it('is waited for until its endpoints are known', async () => {
    const feed = new Feed();
    const world = setUpThree(mode, { endpoints: feed.discover });
    const asked = watch(world.client.request('q'));
    await world.pass(100);
    feed.tell(THREE);
    await world.pass(100);
    expect(bodyOf(asked.value)).toBe('Echo: q');
  });

  it('tries one that was put out again by a single call, and counts it in when that is answered', async () => {
    const world = setUpThree(mode, { retry: { retries: 3, baseMs: 10, capMs: 50 } });
    // Times of calls are whole ms, those of endpoints are not.
    world.clock.freeze(0.4);
    await rush(world, 60);
    const mute = (isMute: boolean): void => {
      for (const { peer } of world.backend.sides) peer.isMute = isMute && peer.address === A;
      world.backend.onSide = ({ peer }) => {
        peer.isMute = isMute && peer.address === A;
      };
    };
    mute(true);
    for (let n = 0; n < 200 && world.pool.stats().endpointsOut === 0; n++) {
      const asked = watch(world.client.request('q', { idempotent: true, timeoutMs: 30_000 }));
      await world.clock.advance(1);
      for (const peer of world.net.openPeers)
        if (peer.address === A && peer.received.endsWith('q\n')) peer.reset();
      await world.clock.advance(20);
      expect(asked.error).toBeUndefined();
    }
    expect(world.pool.stats().endpointsOut).toBe(1);
    mute(false);
    const out = await spreadOf(world, () => rush(world, 120));
    expect(out[A]).toBe(0);
    answerAfter(world, {});
    await world.pass(8_000);
    await rush(world, 120, { everyMs: 5 });
    expect(world.pool.stats().endpointsOut).toBe(0);
    await world.pass(31_000);
    const back = await spreadOf(world, () => rush(world, 600));
    expect(back[A]).toBeGreaterThan(100);
  });
});

describe.each(MODES)('calls of a %s client are counted no longer than they last', (mode) => {
  const REST = [0, 0, 0];

  async function flying(options: Options = {}): Promise<{ world: ClientWorld; asked: Outcome<string> }> {
    const world = setUpThree(mode, options);
    await rush(world, 30);
    world.backend.isEchoing = false;
    const asked = watch(world.client.request('q', { timeoutMs: 5_000 }));
    await world.now();
    expect(inFlight(world).reduce((sum, count) => sum + count, 0)).toBe(1);
    return { world, asked };
  }

  it('when they are answered', async () => {
    const { world } = await flying();
    world.backend.answerAll();
    await world.now();
    expect(inFlight(world)).toEqual(REST);
  });

  it('when their socket is lost', async () => {
    const { world, asked } = await flying();
    for (const peer of world.net.openPeers) peer.reset();
    await world.now();
    expect(asked.isSettled).toBe(true);
    expect(inFlight(world)).toEqual(REST);
  });

  it('when the server says nothing for readTimeoutMs', async () => {
    const { world } = await flying({ readTimeoutMs: 300 });
    await world.pass(1_000);
    expect(inFlight(world)).toEqual(REST);
  });

  it('when their caller has gone: with their socket, or when the late reply has come', async () => {
    const world = setUpThree(mode);
    await rush(world, 30);
    world.backend.isEchoing = false;
    const controller = new AbortController();
    watch(world.client.request('q', { signal: controller.signal }));
    watch(world.client.request('late', { timeoutMs: 100 }));
    await world.pass(50);
    controller.abort();
    await world.pass(100);
    expect(world.client.stats().inFlight).toBe(0);
    // The server still works on it.
    const left = inFlight(world).reduce((sum, count) => sum + count, 0);
    expect(left).toBe(mode === 'exclusive' ? 0 : 2);
    world.backend.answerAll();
    await world.now();
    expect(inFlight(world)).toEqual(REST);
  });

  it('when their caller goes before anything was sent', async () => {
    const world = setUpThree(mode);
    await rush(world, 30);
    world.backend.isEchoing = false;
    watch(world.client.request('other'));
    const controller = new AbortController();
    watch(world.client.request('q', { signal: controller.signal }));
    controller.abort();
    await world.now();
    world.backend.answerAll();
    await world.now();
    expect(inFlight(world)).toEqual(REST);
  });

  it('when their message can’t be encoded', async () => {
    const world = setUpThree(mode);
    await rush(world, 30);
    const asked = watch(world.client.request('two\nlines'));
    await world.now();
    expect(asked.error).toMatchObject({ code: 'ERR_FRAME' });
    expect(inFlight(world)).toEqual(REST);
  });

  it('when the client closes', async () => {
    const { world } = await flying();
    const closing = world.client.close({ timeoutMs: 100 });
    await world.pass(1_000);
    await closing;
    expect(inFlight(world)).toEqual(REST);
  });
});

describe.each(SHARED)('a %s client of three endpoints', (mode) => {
  it('fills one socket to each before it uses more', async () => {
    const world = setUpThree(mode, { maxInFlight: 100 }, false);
    await rush(world, 300, { atOnce: 30 });
    expect(world.net.openSockets).toBeLessThanOrEqual(6);
    world.backend.answerAll();
    await world.now();
    expect(inFlight(world)).toEqual([0, 0, 0]);
  });

  it('checks one socket of each after a rest, however many calls come', async () => {
    const world = setUpThree(mode);
    await rush(world, 90);
    await world.pass(200);
    const { acquired } = world.pool.stats();
    const dials = world.net.dialedAt.length;
    await rush(world, 300, { atOnce: 300 });
    expect(world.pool.stats().acquired - acquired).toBeLessThanOrEqual(3);
    expect(world.net.dialedAt.length).toBe(dials);
  });

  it('does not feed one that has stopped answering one socket after the other', async () => {
    const world = setUpThree(mode, { balance: 'round-robin', readTimeoutMs: 60_000, maxInFlight: 20 });
    answerAfter(world, { [A]: 10, [B]: 10, [C]: 10 });
    // Until several sockets to each rest.
    await rush(world, 600, { atOnce: 150, everyMs: 20 });
    answerAfter(world, { [A]: Number.POSITIVE_INFINITY });
    const before = world.backend.sides.map(({ asked }) => asked.length);
    const asked = await rush(world, 600, { atOnce: 1, everyMs: 3 });
    const fed = world.backend.sides.filter((side, n) => side.asked.length > (before[n] ?? 0));
    const hung = fed.filter(({ peer }) => peer.address === A);
    expect(hung.length).toBe(1);
    expect(world.net.openPeers.filter(({ address }) => address === A).length).toBeGreaterThan(1);
    expect(told(asked).filter((what) => what === 'pending').length).toBeLessThanOrEqual(20);
  });

  it('measures round trips at each endpoint apart: a far one is not taken for one that hangs', async () => {
    const world = setUpThree(mode, { balance: 'round-robin' });
    answerAfter(world, { [A]: 100 });
    await rush(world, 300, { everyMs: 10 });
    await world.pass(200);
    const found = await spreadOf(world, () => rush(world, 600));
    expect(found[A]).toBeGreaterThan(190);
    await world.pass(200);
  });

  it('has calls wait for any endpoint when a socket that was to be checked dies', async () => {
    const world = setUpThree(mode);
    await rush(world, 90);
    await world.pass(200);
    const asked = Array.from({ length: 30 }, (_, n) => watch(world.client.request(`after ${n}`)));
    world.net.outcomes.set(A, { kind: 'hang' });
    for (const peer of world.net.openPeers) if (peer.address === A) peer.reset();
    await world.pass(100);
    expect(told(asked).filter((what) => what === 'pending')).toEqual([]);
  });

  it('has a call fly to another endpoint at once while one is dialed', async () => {
    const net = netOf();
    net.outcomes.set(A, { kind: 'hang' });
    const world = setUpThree(mode, { maxIdle: 30, connectTimeoutMs: 60_000 }, true, net);
    await rush(world, 60);
    await world.pass(300);
    world.backend.isEchoing = false;
    const flying = Array.from({ length: 4 }, (_, n) => watch(world.client.request(`first ${n}`)));
    await world.now();
    for (let n = 0; n < 30; n++) {
      flying.push(watch(world.client.request(`q ${n}`)));
      await world.now();
    }
    expect(world.client.stats().waiting).toBe(0);
    expect(world.pool.stats().leased).toBe(2);
    expect(world.backend.asked.flat().filter((question) => question.startsWith('q ')).length).toBe(30);
    world.backend.answerAll();
    await world.now();
    expect(new Set(told(flying)).size).toBe(34);
  });

  it('lets those who waited while the pool was suspended go first', async () => {
    const world = setUpThree(mode, { max: 3 });
    await rush(world, 60);
    world.backend.isEchoing = false;
    const order: string[] = [];
    world.backend.onQuestion = (_, line) => order.push(bodyOf(line));
    for (let n = 0; n < 9; n++) watch(world.client.request(`held ${n}`));
    await world.now();
    void world.pool.suspend();
    watch(world.client.request('early'));
    await world.now();
    world.pool.resume();
    watch(world.client.request('late'));
    await world.pass(100);
    expect(order.slice(-2)).toEqual(['early', 'late']);
  });

  it('lets nobody pass over those who wait', async () => {
    const world = setUpThree(mode, { max: 3, maxInFlight: 2 }, false);
    const first = Array.from({ length: 9 }, (_, n) => watch(world.client.request(`first ${n}`)));
    await world.now();
    expect(world.client.stats().waiting).toBe(3);
    const addresses = watchAddresses(world);
    watch(world.client.request('late'));
    world.backend.side(0).answer(1);
    await world.now();
    expect(addresses('late')).toEqual([]);
    for (let round = 0; round < 5; round++) {
      world.backend.answerAll();
      await world.now();
    }
    expect(new Set(told(first)).size).toBe(9);
    expect(addresses('late').length).toBe(1);
  });

  it('gives a call with a key a socket to its endpoint, though others keep all of them busy', async () => {
    const known = setUpThree(mode, { balance: 'consistent-hash' });
    const keys = new Map<string, string>();
    for (let n = 0; n < 30; n++) keys.set(await serverOf(known, `key ${n}`), `key ${n}`);
    const world = setUpThree(mode, {
      balance: 'consistent-hash',
      max: 2,
      maxInFlight: 2,
      idleTimeoutMs: 600_000,
    });
    answerAfter(world, { [A]: 20, [B]: 20, [C]: 20 });
    const busy = (): unknown => Array.from({ length: 4 }, () => watch(world.client.request('busy')));
    for (let n = 0; n < 20; n++) {
      busy();
      await world.clock.advance(5);
    }
    const at = ALL.find((address) => world.net.openPeers.every((peer) => peer.address !== address)) ?? '';
    const addresses = watchAddresses(world);
    const asked = watch(world.client.request('q', { key: keys.get(at) ?? '' }));
    for (let n = 0; n < 100 && !asked.isSettled; n++) {
      busy();
      await world.clock.advance(5);
    }
    expect(bodyOf(asked.value)).toBe('Echo: q');
    expect(addresses('q')).toEqual([at]);
    await world.pass(30_000);
  });

  it('sends a second try rather to another endpoint than on another socket to the same', async () => {
    const world = setUpThree(mode, { maxInFlight: 2, balance: 'round-robin', hedge: true });
    await rush(world, 60, { atOnce: 12 });
    await warmUp(world);
    await world.pass(10);
    const addresses = watchAddresses(world);
    // Each endpoint has a full socket and one with room.
    const fill = Array.from({ length: 9 }, (_, n) => watch(world.client.request(`fill ${n}`)));
    await world.now();
    const slow = [0, 1, 2].map((n) => watch(world.client.request(`slow ${n}`, { idempotent: true })));
    await world.now();
    for (const side of world.backend.sides) if (side.due.length === 2) side.answer(1);
    await world.pass(25);
    for (let n = 0; n < 3; n++) {
      const [first, second] = addresses(`slow ${n}`);
      expect(second).toBeDefined();
      expect(second).not.toBe(first);
    }
    for (let round = 0; round < 3; round++) {
      world.backend.answerAll();
      await world.now();
    }
    expect(told([...fill, ...slow]).filter((what) => what === 'pending')).toEqual([]);
  });
});

describe.each(MODES)('calls with a key of a %s client', (mode) => {
  const KEYED: Options = { balance: 'consistent-hash' };

  it('go to one endpoint each, whether sockets are fresh, at rest or not there', async () => {
    const world = setUpThree(mode, KEYED);
    const found = new Map<string, string>();
    for (let n = 0; n < 20; n++) found.set(`key ${n}`, await serverOf(world, `key ${n}`));
    expect(new Set(found.values())).toEqual(new Set(ALL));
    for (const [key, at] of found) expect(await serverOf(world, key)).toBe(at);
    await world.pass(500);
    for (const [key, at] of found) expect(await serverOf(world, key)).toBe(at);
    for (const peer of world.net.openPeers) peer.reset();
    for (const [key, at] of found) expect(await serverOf(world, key)).toBe(at);
    expect(inFlight(world)).toEqual([0, 0, 0]);
  });

  it('go elsewhere when theirs dies, and others stay', async () => {
    const world = setUpThree(mode, { ...KEYED, retry: { retries: 3, baseMs: 10_000, capMs: 10_000 } });
    const before = new Map<string, string>();
    for (let n = 0; n < 20; n++) before.set(`key ${n}`, await serverOf(world, `key ${n}`));
    kill(world, A);
    await world.pass(10);
    for (const [key, at] of before) {
      const now = await serverOf(world, key);
      if (at === A) expect([B, C]).toContain(now);
      else expect(now).toBe(at);
    }
  });

  it('go elsewhere when theirs leaves, those who wait for it included', async () => {
    const feed = new Feed(THREE);
    const world = setUpThree(mode, { ...KEYED, endpoints: feed.discover });
    const at = await serverOf(world, 'mine');
    for (const peer of world.net.openPeers) peer.reset();
    await world.now();
    world.net.outcomes.set(at, { kind: 'open', afterMs: 500 });
    const asked = watch(world.client.request('q', { key: 'mine' }));
    await world.pass(200);
    expect(asked.isSettled).toBe(false);
    feed.tell(THREE.filter((one) => !one.startsWith(at)));
    await world.pass(500);
    expect(
      world.backend.sides.filter(({ peer }) => peer.address === at).flatMap((side) => side.asked),
    ).toEqual([expect.stringContaining('for mine')]);
    expect(bodyOf(asked.value)).toBe('Echo: q');
  });

  it('wait for their own when it is full, though others have room', async () => {
    const options: Options = { ...KEYED, max: 3, ...(mode === 'exclusive' ? {} : { maxInFlight: 1 }) };
    const world = setUpThree(mode, options);
    const at = await serverOf(world, 'mine');
    world.backend.isEchoing = false;
    const addresses = watchAddresses(world);
    const asked = Array.from({ length: 4 }, (_, n) => watch(world.client.request(`q ${n}`, { key: 'mine' })));
    await world.pass(20);
    expect(asked.map(({ isSettled }) => isSettled)).toEqual([false, false, false, false]);
    for (let round = 0; round < 6; round++) {
      world.backend.answerAll();
      await world.pass(20);
    }
    expect(told(asked)).toEqual(asked.map((_, n) => `Echo: q ${n}`));
    for (let n = 0; n < 4; n++) expect(addresses(`q ${n}`)).toEqual([at]);
  });

  it('are told when their time is up, or their caller goes', async () => {
    const world = setUpThree(mode, { ...KEYED, connectTimeoutMs: 60_000 });
    const at = await serverOf(world, 'mine');
    for (const peer of world.net.openPeers) peer.reset();
    world.net.outcomes.set(at, { kind: 'hang' });
    await world.now();
    const controller = new AbortController();
    const late = watch(world.client.request('late', { key: 'mine', timeoutMs: 300 }));
    const gone = watch(world.client.request('gone', { key: 'mine', signal: controller.signal }));
    await world.pass(200);
    controller.abort('enough');
    await world.pass(200);
    expect(late.error).toMatchObject({ code: 'ERR_DEADLINE', cause: { code: 'ERR_ACQUIRE_TIMEOUT' } });
    expect(gone.error).toBe('enough');
    expect(world.pool.stats().waiting).toBe(0);
    expect(world.client.stats()).toMatchObject({ waiting: 0, inFlight: 0 });
  });

  it('are told why when no socket of theirs can be made ready', async () => {
    const bad = new Set<number>();
    const world = setUpThree(mode, {
      ...KEYED,
      onAcquire: (lease) => {
        if (bad.has(lease.connectionId)) throw new Error('not ready');
      },
      retry: { retries: 0 },
    });
    const at = await serverOf(world, 'mine');
    for (const row of world.pool.sockets()) if (row.address === at) bad.add(row.connectionId);
    const asked = watch(world.client.request('q', { key: 'mine' }));
    await world.pass(1_000);
    expect(asked.error).toMatchObject({ code: 'ERR_ACQUIRE_FAILED', cause: { code: 'ERR_HOOK' } });
  });

  it('stay with theirs when a socket was closed for its rest', async () => {
    const world = setUpThree(mode, KEYED);
    const at = await serverOf(world, 'mine');
    const addresses = watchAddresses(world);
    world.backend.isEchoing = false;
    const asked = watch(world.client.request('q', { key: 'mine', idempotent: true }));
    await world.now();
    for (const peer of world.net.openPeers) if (peer.address === at) peer.fin();
    await world.pass(50);
    world.backend.answerAll();
    await world.pass(50);
    expect(world.told).toContain('retried:fresh');
    expect(addresses('q')).toEqual([at, at]);
    expect(bodyOf(asked.value)).toBe('Echo: q');
  });

  it('have their second try at the endpoint that is next for the key', async () => {
    const world = setUpThree(mode, { ...KEYED, hedge: true });
    await rush(world, 60, { atOnce: 30 });
    await warmUp(world);
    const addresses = watchAddresses(world);
    const asked: Outcome<string>[] = [];
    for (let n = 0; n < 3; n++) {
      asked.push(watch(world.client.request(`slow ${n}`, { idempotent: true, key: 'mine' })));
      await world.pass(100);
    }
    const tries = asked.map((_, n) => addresses(`slow ${n}`));
    const [first = []] = tries;
    expect(first[1]).not.toBe(first[0]);
    for (const each of tries) expect(each).toEqual(first);
    world.backend.answerAll();
    await world.now();
  });

  it('are refused where a key would do nothing', async () => {
    const world = setUpThree(mode);
    const wrong = { code: 'ERR_INVALID_OPTION', message: expect.stringContaining('`key`') };
    await expect(world.client.request('q', { key: 'x' })).rejects.toMatchObject(wrong);
    await expect(world.client.request('q', { key: 5 as never })).rejects.toMatchObject(wrong);
    await expect(world.client.withDeadline(100).request('q', { key: 'x' })).rejects.toMatchObject(wrong);
    expect(() => world.client.stream('q', { key: 'x', isLast: () => true })).toThrow(
      expect.objectContaining(wrong),
    );
  });

  it('may be streams', async () => {
    const world = setUpThree(mode, KEYED);
    const at = await serverOf(world, 'mine');
    const addresses = watchAddresses(world);
    for (let n = 0; n < 5; n++) {
      const stream = world.client.stream(`s ${n}`, { key: 'mine', isLast: () => true });
      const frame = watch(stream.next());
      await world.pass(20);
      expect(frame.value).toMatchObject({ done: false });
      expect(addresses(`s ${n}`)).toEqual([at]);
    }
  });
});

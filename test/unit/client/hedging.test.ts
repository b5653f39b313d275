import { describe, expect, it } from 'vitest';
import { lines } from '../../../src/transport/lines.ts';
import { bodyOf, told, warmUp, watchQuestions } from '../../support/client-steps.ts';
import { type ClientWorld, MODES, type Options, type Side, setUpClient } from '../../support/client-world.ts';
import { type Outcome, watch } from '../../support/pool-world.ts';

/** A request that has taken so long that a second try was sent, and the sockets of both. */
async function hedged(
  mode: (typeof MODES)[number],
  options: Options = {},
  timeoutMs = 30_000,
): Promise<{ world: ClientWorld; asked: Outcome<string>; first: Side; second: Side }> {
  const world = setUpClient(mode, { hedge: true, ...options });
  await warmUp(world);
  const sides = watchQuestions(world);
  const asked = watch(world.client.request('slow', { idempotent: true, timeoutMs }));
  await world.pass(100);
  const [first, second] = sides('slow');
  if (first === undefined || second === undefined) throw new Error('it was not sent twice');
  expect(second).not.toBe(first);
  return { world, asked, first, second };
}

/** The server refuses, and means it. */
const REFUSING: Options = {
  retryAfter: (reply) => (reply.endsWith('no') ? Number.POSITIVE_INFINITY : undefined),
};

function refuse(side: Side, word: string): void {
  const id = /^(\d+:)?/.exec(side.due[0] ?? '')?.[1] ?? '';
  side.due.length = 0;
  side.say(`${id}${word}\n`);
}

describe.each(MODES)('a second try of a %s client', (mode) => {
  it('is sent on another socket when the first takes longer than 95 % of the others', async () => {
    const { asked, first, second, world } = await hedged(mode);
    expect(world.client.stats()).toMatchObject({ hedged: 1, inFlight: 1, requests: 101 });
    expect(world.told).toContain('hedged');
    second.answer();
    await world.now();
    expect(bodyOf(asked.value)).toBe('Echo: slow');
    expect(world.client.stats()).toMatchObject({ succeeded: 101, hedgesWon: 1, inFlight: 0 });
    // From the request, not from its second try.
    expect(world.client.stats().latency.maxMs).toBe(100);
    if (mode !== 'exclusive') first.answer();
    await world.now();
    expect(world.pool.stats().leased).toBe(0);
  });

  it('does nothing when the first is answered before it', async () => {
    const { asked, first, second, world } = await hedged(mode);
    first.answer();
    await world.now();
    expect(bodyOf(asked.value)).toBe('Echo: slow');
    expect(world.client.stats()).toMatchObject({ hedged: 1, hedgesWon: 0, inFlight: 0 });
    if (mode !== 'exclusive') second.answer();
    await world.now();
    expect(world.pool.stats().leased).toBe(0);
  });

  it('is not sent when the reply comes in the usual time, nor for what may not be done twice', async () => {
    const world = setUpClient(mode, { hedge: true });
    await warmUp(world);
    watch(world.client.request('slow'));
    watch(world.client.request('not', { idempotent: true, hedge: false }));
    await world.pass(100);
    expect(world.client.stats().hedged).toBe(0);
    world.backend.isEchoing = true;
    world.backend.answerAll();
    await world.now();
    watch(world.client.request('fast', { idempotent: true }));
    await world.pass(100);
    expect(world.client.stats().hedged).toBe(0);
  });

  it('is sent for one request when it says so, though the client does not', async () => {
    const world = setUpClient(mode);
    await warmUp(world);
    watch(world.client.request('slow', { idempotent: true, hedge: true }));
    await world.pass(100);
    expect(world.client.stats().hedged).toBe(1);
  });

  it('is not sent before a hundred requests have told how long they take', async () => {
    const world = setUpClient(mode, { hedge: true }, { isEchoing: false });
    watch(world.client.request('slow', { idempotent: true }));
    await world.pass(1_000);
    expect(world.client.stats().hedged).toBe(0);
  });

  it('is not missed when the others took a fraction of a ms', async () => {
    const world = setUpClient(mode, { hedge: true });
    await warmUp(world, 10.3);
    world.clock.freeze(0.25);
    watch(world.client.request('slow', { idempotent: true }));
    await world.pass(15);
    expect(world.client.stats().hedged).toBe(1);
  });

  it('is paid for by the budget', async () => {
    const world = setUpClient(mode, { hedge: true, retryBudget: { ratio: 0, minPerSecond: 0 } });
    await warmUp(world);
    watch(world.client.request('slow', { idempotent: true }));
    await world.pass(100);
    expect(world.client.stats()).toMatchObject({ hedged: 0, retriesRefused: 1 });
  });

  it('is all that is left when the first fails', async () => {
    const { asked, first, second, world } = await hedged(mode);
    first.peer.reset();
    await world.now();
    expect(asked.isSettled).toBe(false);
    expect(world.client.stats()).toMatchObject({ inFlight: 1 });
    second.answer();
    await world.now();
    expect(bodyOf(asked.value)).toBe('Echo: slow');
    expect(world.client.stats()).toMatchObject({ retried: { again: 0, fresh: 0, later: 0 }, hedgesWon: 1 });
  });

  it('that fails leaves all to the first', async () => {
    const { asked, first, second, world } = await hedged(mode);
    second.peer.reset();
    await world.now();
    expect(asked.isSettled).toBe(false);
    first.answer();
    await world.now();
    expect(bodyOf(asked.value)).toBe('Echo: slow');
  });

  it.each(['first', 'second'])(
    'that fails as well has the request repeated: the %s one before',
    async (which) => {
      const { asked, first, second, world } = await hedged(mode);
      const sides = which === 'first' ? [first, second] : [second, first];
      for (const { peer } of sides) {
        peer.reset();
        await world.now();
      }
      expect(asked.isSettled).toBe(false);
      world.backend.isEchoing = true;
      world.backend.answerAll();
      await world.pass(5_000);
      expect(bodyOf(asked.value)).toBe('Echo: slow');
      const { retried } = world.client.stats();
      expect(retried.again + retried.fresh + retried.later).toBe(1);
      expect(world.client.stats()).toMatchObject({ hedged: 1, inFlight: 0 });
    },
  );

  it('that the server refuses does not win over the first', async () => {
    const { asked, first, second, world } = await hedged(mode, REFUSING);
    refuse(second, 'no');
    await world.now();
    expect(asked.isSettled).toBe(false);
    first.answer();
    await world.now();
    expect(bodyOf(asked.value)).toBe('Echo: slow');
    expect(world.client.stats().hedgesWon).toBe(0);
  });

  it('may still succeed when the server has refused the first', async () => {
    const { asked, first, second, world } = await hedged(mode, REFUSING);
    refuse(first, 'no');
    await world.now();
    expect(asked.isSettled).toBe(false);
    second.answer();
    await world.now();
    expect(bodyOf(asked.value)).toBe('Echo: slow');
    expect(world.client.stats().hedgesWon).toBe(1);
  });

  it('that is refused after the first leaves the server’s word to the caller', async () => {
    const { asked, first, second, world } = await hedged(mode, REFUSING);
    refuse(first, 'no');
    await world.now();
    refuse(second, 'no');
    await world.now();
    expect(bodyOf(asked.value)).toBe('no');
    expect(world.client.stats()).toMatchObject({ succeeded: 101, inFlight: 0 });
  });

  it('that is refused after the first has died has the request wait as long as the server says', async () => {
    const { asked, first, second, world } = await hedged(mode, {
      retryAfter: (reply) => (reply.endsWith('later') ? 3_000 : undefined),
    });
    first.peer.reset();
    await world.now();
    refuse(second, 'later');
    await world.now();
    world.backend.isEchoing = true;
    world.backend.answerAll();
    await world.pass(2_999);
    expect(asked.isSettled).toBe(false);
    await world.pass(1_000);
    expect(bodyOf(asked.value)).toBe('Echo: slow');
  });

  it('on which the hook fails leaves all to the first', async () => {
    const { asked, first, second, world } = await hedged(mode, {
      retryAfter: (reply) => (reply.endsWith('bad') ? Number.NaN : undefined),
    });
    refuse(second, 'bad');
    await world.now();
    expect(asked.isSettled).toBe(false);
    first.answer();
    await world.now();
    expect(bodyOf(asked.value)).toBe('Echo: slow');
  });

  it('may still be answered when the client closes after the first has failed', async () => {
    const { asked, first, second, world } = await hedged(mode);
    first.peer.reset();
    await world.now();
    void world.client.close();
    await world.now();
    expect(asked.isSettled).toBe(false);
    second.answer();
    await world.pass(1_000);
    expect(bodyOf(asked.value)).toBe('Echo: slow');
  });

  it('that fails while the client closes has the first one’s error told', async () => {
    const { asked, first, second, world } = await hedged(mode);
    first.peer.reset();
    await world.now();
    void world.client.close();
    await world.now();
    second.peer.reset();
    await world.pass(1_000);
    expect(told([asked])).toEqual(['ERR_CONNECTION_LOST']);
    expect(asked.error).toMatchObject({ sent: 'full' });
  });

  it('is part of the story when the deadline passes after the first has failed', async () => {
    const { asked, first, world } = await hedged(mode, {}, 1_000);
    first.peer.reset();
    await world.pass(1_000);
    expect(asked.error).toMatchObject({
      code: 'ERR_DEADLINE',
      sent: 'full',
      attempts: 2,
      phases: { acquireMs: 0, exchangeMs: 1_000, backoffMs: 0 },
      cause: { code: 'ERR_CONNECTION_LOST' },
    });
    expect(world.client.stats()).toMatchObject({ timedOut: 1, inFlight: 0 });
  });

  it('that fails as well is part of the story of what comes after it', async () => {
    const { asked, first, second, world } = await hedged(mode, {}, 1_000);
    first.peer.reset();
    await world.pass(100);
    second.peer.reset();
    await world.pass(900);
    const { phases } = asked.error as {
      phases: { acquireMs: number; exchangeMs: number; backoffMs: number };
    };
    expect(told([asked])).toEqual(['ERR_DEADLINE']);
    expect(phases.acquireMs + phases.exchangeMs + phases.backoffMs).toBe(1_000);
  });

  it.each(['passes its deadline', 'fails'])(
    'that was sent in full makes it so when the request %s, though the first had not left',
    async (how) => {
      const world = setUpClient(mode, { hedge: true, max: 2, codec: lines({ maxFrameBytes: 2_000_000 }) });
      await warmUp(world);
      const { sides } = world.backend;
      for (const { peer } of sides) peer.stream.pause();
      const message = 'x'.repeat(1_000_000);
      const asked = watch(world.client.request(message, { idempotent: true, timeoutMs: 1_000 }));
      await world.now();
      const first = sides.find(({ peer }) => peer.stream.readableLength > 0);
      for (const side of sides) if (side !== first) side.peer.stream.resume();
      await world.pass(100);
      expect(world.backend.times(message)).toBe(1);
      if (how === 'fails') {
        world.net.outcome = { kind: 'refuse' };
        first?.peer.reset();
        await world.now();
        for (const side of sides) if (side !== first) side.peer.reset();
      }
      await world.pass(1_000);
      expect(asked.error).toMatchObject({ sent: 'full' });
    },
  );

  it('is dropped with the first when the deadline passes', async () => {
    const { asked, world } = await hedged(mode, {}, 1_000);
    await world.pass(1_000);
    expect(asked.error).toMatchObject({ code: 'ERR_DEADLINE', sent: 'full', attempts: 1 });
    expect(world.client.stats()).toMatchObject({ timedOut: 1, inFlight: 0 });
    if (mode === 'exclusive') expect(world.pool.stats().leased).toBe(0);
  });

  it('is dropped with the first when the request is aborted', async () => {
    const world = setUpClient(mode, { hedge: true });
    await warmUp(world);
    const controller = new AbortController();
    const asked = watch(world.client.request('slow', { idempotent: true, signal: controller.signal }));
    await world.pass(100);
    expect(world.client.stats().hedged).toBe(1);
    controller.abort('enough');
    await world.now();
    expect(asked.error).toBe('enough');
    expect(world.client.stats()).toMatchObject({ cancelled: 1, inFlight: 0 });
    world.backend.isEchoing = true;
    world.backend.answerAll();
    await world.now();
    expect(world.pool.stats().leased).toBe(0);
  });

  it('that waits for a socket waits no more once the first was answered', async () => {
    const world = setUpClient(mode, { hedge: true, max: 2 });
    await warmUp(world);
    const lease = await world.pool.acquire();
    const asked = watch(world.client.request('slow', { idempotent: true }));
    await world.pass(100);
    expect(world.client.stats().hedged).toBe(1);
    world.backend.answerAll();
    await world.now();
    expect(bodyOf(asked.value)).toBe('Echo: slow');
    expect(world.client.stats().waiting).toBe(0);
    expect(world.pool.stats()).toMatchObject({ waiting: 0, leased: 1 });
    expect(world.net.hold.count).toBe(0);
    lease.release();
  });

  it('that never gets a socket counts its time as one for a socket', async () => {
    const world = setUpClient(mode, { hedge: true, max: 2, connectTimeoutMs: 60_000 });
    await warmUp(world);
    const { idle } = world.pool.stats();
    const leases = await Promise.all(Array.from({ length: idle - 1 }, () => world.pool.acquire()));
    const asked = watch(world.client.request('slow', { idempotent: true, timeoutMs: 1_000 }));
    world.net.outcome = { kind: 'hang' };
    await world.pass(100);
    for (const side of world.backend.sides) if (side.due.length > 0) side.peer.reset();
    await world.pass(1_000);
    expect(asked.error).toMatchObject({ code: 'ERR_DEADLINE', phases: { acquireMs: 900, exchangeMs: 100 } });
    for (const lease of leases) lease.release();
  });
});

import { describe, expect, it } from 'vitest';
import { lines } from '../../../src/transport/lines.ts';
import { ask, bodyOf, serveOnce, told } from '../../support/client-steps.ts';
import { type ClientWorld, MODES, SHARED, type Side, setUpClient } from '../../support/client-world.ts';
import { type Outcome, watch } from '../../support/pool-world.ts';

/** What the servers saw of `question` when `spoil` had happened to the first socket that it came to. */
interface Row {
  readonly what: string;
  /** The socket has served before. */
  readonly isReused: boolean;
  readonly idempotent: boolean;
  readonly spoil: (side: Side, world: ClientWorld) => void;
  readonly how: readonly string[];
  readonly times: number;
  readonly told: string;
}

const reset = ({ peer }: Side): void => peer.reset();
const fin = ({ peer }: Side): void => peer.fin();
const garbage = (side: Side): void => side.say('x'.repeat(2_000));
const half = (side: Side): void => {
  side.say('half a rep');
  process.nextTick(() => process.nextTick(() => process.nextTick(() => side.peer.fin())));
};
const silence = (): void => undefined;

const TABLE: readonly Row[] = [
  // A socket that had served before and died without a word was closed for its rest, most likely.
  {
    what: 'reset',
    isReused: true,
    idempotent: true,
    spoil: reset,
    how: ['fresh'],
    times: 2,
    told: 'Echo: q',
  },
  { what: 'closed', isReused: true, idempotent: true, spoil: fin, how: ['fresh'], times: 2, told: 'Echo: q' },
  {
    what: 'reset',
    isReused: true,
    idempotent: false,
    spoil: reset,
    how: [],
    times: 1,
    told: 'ERR_CONNECTION_LOST',
  },
  {
    what: 'closed',
    isReused: true,
    idempotent: false,
    spoil: fin,
    how: [],
    times: 1,
    told: 'ERR_CONNECTION_LOST',
  },
  // A new one that dies says something about the server.
  {
    what: 'reset',
    isReused: false,
    idempotent: true,
    spoil: reset,
    how: ['later'],
    times: 2,
    told: 'Echo: q',
  },
  {
    what: 'closed',
    isReused: false,
    idempotent: true,
    spoil: fin,
    how: ['later'],
    times: 2,
    told: 'Echo: q',
  },
  {
    what: 'reset',
    isReused: false,
    idempotent: false,
    spoil: reset,
    how: [],
    times: 1,
    told: 'ERR_SERVER_FULL',
  },
  // The server had taken it up.
  { what: 'cut', isReused: true, idempotent: true, spoil: half, how: ['later'], times: 2, told: 'Echo: q' },
  {
    what: 'cut',
    isReused: true,
    idempotent: false,
    spoil: half,
    how: [],
    times: 1,
    told: 'ERR_CONNECTION_LOST',
  },
  {
    what: 'silent',
    isReused: true,
    idempotent: true,
    spoil: silence,
    how: ['later'],
    times: 2,
    told: 'Echo: q',
  },
  {
    what: 'silent',
    isReused: false,
    idempotent: false,
    spoil: silence,
    how: [],
    times: 1,
    told: 'ERR_READ_TIMEOUT',
  },
  // The same bytes would fail again.
  { what: 'garbage', isReused: true, idempotent: true, spoil: garbage, how: [], times: 1, told: 'ERR_FRAME' },
];

describe.each(MODES)('a request of a %s client', (mode) => {
  it.each(TABLE)(
    'on a socket that is $what (served before: $isReused, idempotent: $idempotent): $how',
    async ({ how, idempotent, isReused, spoil, times, told: expected }) => {
      const codec = lines({ maxFrameBytes: 1_000 });
      const world = setUpClient(mode, { codec, readTimeoutMs: 200 }, { isEchoing: false });
      if (isReused) await serveOnce(world);
      const seen: string[] = [];
      world.client.on('retried', (event) => seen.push(event.how));
      const asked = watch(world.client.request('q', { idempotent }));
      await world.pass(10);
      spoil(world.backend.side(0), world);
      await world.pass(5);
      world.backend.isEchoing = true;
      for (const side of world.backend.sides.slice(1)) if (side.due.length > 0) side.answer();
      await world.pass(2_000);
      expect(told([asked])).toEqual([expected]);
      expect(seen).toEqual(how);
      expect(world.backend.times('q')).toBe(times);
    },
  );

  it('of which nothing was sent is repeated at once, on whatever socket, and for free', async () => {
    const retryBudget = { ratio: 0, minPerSecond: 0 };
    const world = setUpClient(mode, { retryBudget, retry: { retries: 0 } }, { isEchoing: false });
    const known = await Promise.all([world.pool.acquire(), world.pool.acquire()]);
    for (const lease of known) {
      const reply = lease.request('known');
      await world.now();
      world.backend.answerAll();
      await reply;
      lease.release();
    }
    // While something is in flight, messages leave when the turn ends.
    ask(world, 'busy');
    await world.now();
    const asked = ask(world, 'q');
    for (const { peer } of world.backend.sides) peer.reset();
    world.backend.isEchoing = true;
    await new Promise((resolve) => setImmediate(resolve));
    await world.pass(500);
    expect(told(asked)).toEqual(['Echo: q']);
    expect(world.backend.times('q')).toBe(1);
    expect(world.client.stats().retried).toEqual({ again: 1, fresh: 0, later: 0 });
  });

  it('is repeated after a back-off that doubles, with full jitter, up to `retries` times', async () => {
    const world = setUpClient(
      mode,
      { readTimeoutMs: 100, retry: { retries: 3, baseMs: 100, capMs: 150 } },
      { isEchoing: false },
    );
    const at: number[] = [];
    world.backend.onQuestion = () => at.push(world.clock.now() - 1_000);
    const asked = watch(world.client.request('q', { idempotent: true }));
    await world.pass(2_000);
    expect(at).toEqual([0, 150, 325, 500]);
    expect(asked.error).toMatchObject({
      code: 'ERR_READ_TIMEOUT',
      sent: 'full',
      earlier: [{ code: 'ERR_READ_TIMEOUT' }, { code: 'ERR_READ_TIMEOUT' }, { code: 'ERR_READ_TIMEOUT' }],
    });
    expect(world.client.stats()).toMatchObject({
      requests: 1,
      failed: 1,
      retried: { again: 0, fresh: 0, later: 3 },
      retryBudget: 50 - 6,
    });
  });

  it('tells of each repetition as it is decided', async () => {
    const world = setUpClient(
      mode,
      { readTimeoutMs: 100, retry: { baseMs: 100, capMs: 100 } },
      { isEchoing: false },
    );
    const events: unknown[] = [];
    world.client.on('retried', (event) => events.push(event));
    watch(world.client.request('q', { idempotent: true }));
    await world.pass(260);
    expect(events).toMatchObject([
      { how: 'later', waitMs: 50, attempts: 1, error: { code: 'ERR_READ_TIMEOUT' } },
      { how: 'later', waitMs: 50, attempts: 2 },
    ]);
  });

  it('is not repeated when the budget would not pay for it', async () => {
    const world = setUpClient(
      mode,
      { readTimeoutMs: 100, retryBudget: { ratio: 0, minPerSecond: 0.1 } },
      { isEchoing: false },
    );
    const asked = [1, 2].map((n) => watch(world.client.request(`${n}`, { idempotent: true })));
    await world.pass(101);
    expect(told(asked).sort()).toEqual(['ERR_READ_TIMEOUT', 'pending']);
    expect(world.client.stats()).toMatchObject({ retriesRefused: 1, retried: { later: 1 }, retryBudget: 0 });
  });

  it('is not repeated when no socket could be dialed: the dial has repetitions of its own', async () => {
    const world = setUpClient(mode, { retry: { retries: 1 } });
    world.net.outcome = { kind: 'refuse' };
    const asked = watch(world.client.request('q', { idempotent: true }));
    await world.pass(1_000);
    expect(told([asked])).toEqual(['ERR_ACQUIRE_FAILED']);
    expect(world.net.dialedAt.length).toBe(2);
    expect(world.client.stats().retried).toEqual({ again: 0, fresh: 0, later: 0 });
  });

  it('that was sent once says so, though its last attempt got no socket', async () => {
    const world = setUpClient(
      mode,
      { readTimeoutMs: 100, retry: { retries: 1, baseMs: 10, capMs: 10 } },
      { isEchoing: false },
    );
    const asked = watch(world.client.request('q', { idempotent: true }));
    await world.pass(50);
    world.net.outcome = { kind: 'refuse' };
    await world.pass(1_000);
    expect(asked.error).toMatchObject({
      code: 'ERR_ACQUIRE_FAILED',
      sent: 'full',
      earlier: [{ code: 'ERR_READ_TIMEOUT' }],
    });
  });

  it('holds the process while it sleeps between attempts', async () => {
    const world = setUpClient(
      mode,
      { readTimeoutMs: 100, retry: { baseMs: 1_000, capMs: 1_000 } },
      { isEchoing: false },
    );
    const asked = watch(world.client.request('q', { idempotent: true }));
    await world.pass(200);
    expect(world.pool.stats()).toMatchObject({ total: 0, waiting: 0 });
    expect(world.net.hold.count).toBe(1);
    world.backend.isEchoing = true;
    await world.pass(1_000);
    expect(told([asked])).toEqual(['Echo: q']);
    expect(world.net.hold.count).toBe(0);
  });

  it('is repeated on a new socket once: when that dies at rest, too, by policy', async () => {
    const world = setUpClient(mode, { min: 2 }, { isEchoing: false });
    await world.now();
    const held = [await world.pool.acquire(), await world.pool.acquire()];
    world.backend.isEchoing = true;
    for (const lease of held) await lease.request('known');
    for (const lease of held) lease.release();
    world.backend.isEchoing = false;
    const asked = watch(world.client.request('q', { idempotent: true }));
    await world.now();
    for (const side of world.backend.sides) if (side.due.length > 0) side.peer.reset();
    await world.now();
    expect(world.told).toContain('retried:fresh');
    const newest = world.backend.side(-1);
    expect(newest.asked.map(bodyOf)).toEqual(['q']);
    newest.peer.reset();
    world.backend.isEchoing = true;
    await world.pass(2_000);
    expect(world.told.filter((what) => what.startsWith('retried'))).toEqual([
      'retried:fresh',
      'retried:later',
    ]);
    expect(told([asked])).toEqual(['Echo: q']);
  });
});

describe.each(SHARED)('requests of a %s client whose socket dies', (mode) => {
  it('at rest, under fifty of them, are repeated on one new socket', async () => {
    const world = setUpClient(mode, { max: 5 }, { isEchoing: false });
    await serveOnce(world);
    const asked = Array.from({ length: 50 }, (_, n) =>
      watch(world.client.request(`q${n}`, { idempotent: true })),
    );
    await world.now();
    world.backend.side(0).peer.reset();
    world.backend.isEchoing = true;
    await world.now();
    expect(world.net.dialedAt.length).toBe(2);
    expect(world.client.stats().retried).toEqual({ again: 0, fresh: 50, later: 0 });
    expect(told(asked)).toEqual(asked.map((_, n) => `Echo: q${n}`));
  });

  it('under more than one socket takes are repeated on as many as they need', async () => {
    const world = setUpClient(mode, { max: 5, maxInFlight: 20 }, { isEchoing: false });
    const held = await Promise.all([world.pool.acquire(), world.pool.acquire()]);
    for (const lease of held) {
      const known = lease.request('known');
      await world.now();
      world.backend.answerAll();
      await known;
      lease.release();
    }
    const asked = Array.from({ length: 40 }, (_, n) =>
      watch(world.client.request(`q${n}`, { idempotent: true })),
    );
    await world.now();
    for (const side of world.backend.sides) side.peer.reset();
    world.backend.isEchoing = true;
    await world.now();
    expect(world.net.dialedAt.length).toBe(4);
    expect(told(asked)).toEqual(asked.map((_, n) => `Echo: q${n}`));
  });

  it('one after the other use the socket that was opened since', async () => {
    const world = setUpClient(mode, { max: 5, maxInFlight: 2 }, { isEchoing: false });
    const held = await Promise.all([world.pool.acquire(), world.pool.acquire()]);
    for (const lease of held) {
      const known = lease.request('known');
      await world.now();
      world.backend.answerAll();
      await known;
      lease.release();
    }
    const controller = new AbortController();
    const first = watch(world.client.request('a', { idempotent: true }));
    watch(world.client.request('gone', { signal: controller.signal }));
    const second = watch(world.client.request('b', { idempotent: true }));
    await world.now();
    controller.abort('enough');
    const sideOf = (question: string) =>
      world.backend.sides.find(({ due }) => due.some((line) => line.endsWith(question)));
    sideOf('b')?.peer.reset();
    await world.now();
    expect(world.backend.side(2).asked.map(bodyOf)).toEqual(['b']);
    sideOf('a')?.peer.reset();
    await world.now();
    expect(world.backend.side(2).asked.map(bodyOf)).toEqual(['b', 'a']);
    world.backend.answerAll();
    await world.now();
    expect(told([first, second])).toEqual(['Echo: a', 'Echo: b']);
    expect(world.net.dialedAt.length).toBe(3);
  });

  it('after a reply to another one had come since they were sent, did not die of rest', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    await serveOnce(world);
    const [first] = ask(world, 'a');
    const second = watch(world.client.request('b', { idempotent: true }));
    await world.now();
    world.backend.side(0).answer(1);
    await world.now();
    // Sent after the last byte came, so the server may have said goodbye before.
    const third = watch(world.client.request('c', { idempotent: true }));
    await world.now();
    world.backend.side(0).peer.reset();
    world.backend.isEchoing = true;
    await world.pass(1_000);
    expect(told([first as Outcome<string>, second, third])).toEqual(['Echo: a', 'Echo: b', 'Echo: c']);
    expect(world.client.stats().retried).toEqual({ again: 0, fresh: 1, later: 1 });
  });

  it('are told when no new one can be opened, and so is who waits beside them', async () => {
    const world = setUpClient(mode, { max: 1, maxInFlight: 1, retry: { retries: 0 } }, { isEchoing: false });
    await serveOnce(world);
    const asked = [watch(world.client.request('a', { idempotent: true })), ...ask(world, 'b')];
    await world.now();
    world.net.outcome = { kind: 'refuse' };
    world.backend.side(0).peer.reset();
    await world.pass(5_000);
    expect(told(asked)).toEqual(['ERR_ACQUIRE_FAILED', 'ERR_ACQUIRE_FAILED']);
    expect(asked[0]?.error).toMatchObject({ sent: 'full' });
    expect(asked[1]?.error).toMatchObject({ sent: 'none' });
  });
});

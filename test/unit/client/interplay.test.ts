import { describe, expect, it } from 'vitest';
import { lines } from '../../../src/transport/lines.ts';
import { ask, bodyOf, serveOnce, told, warmUp } from '../../support/client-steps.ts';
import { MODES, SHARED, setUpClient } from '../../support/client-world.ts';
import { watch } from '../../support/pool-world.ts';

const base = lines({ maxFrameBytes: 1_000_000 });

describe('a codec that calls the client from encode', () => {
  it.each(SHARED)('%s: keeps its socket, though a request made there can’t be encoded', async (mode) => {
    let world: ReturnType<typeof setUpClient>;
    const inner: unknown[] = [];
    const codec = {
      ...base,
      decode: base.decode.bind(base),
      encode(message: string) {
        if (message.endsWith('outer')) {
          inner.push(watch(world.client.request('bad')));
        }
        if (message.endsWith('bad')) throw new Error('bad message');
        return base.encode(message);
      },
    };
    world = setUpClient(mode, { codec, max: 1 }, { isEchoing: false });
    await serveFirst(world);
    const outer = ask(world, 'outer');
    // Somebody of the pool's takes what is at rest.
    const lease = watch(world.pool.acquire());
    await world.now();
    const held = lease.value;
    const own = held === undefined ? undefined : watch(held.request('mine'));
    await world.now();
    world.backend.answerAll();
    await world.now();
    world.backend.answerAll();
    await world.now();
    held?.release();
    expect(told(outer)).toEqual(['Echo: outer']);
    if (own) expect(bodyOf(own.value)).toBe('Echo: mine');
  });
});

describe('a retryAfter that aborts its own request harms nobody else', () => {
  it.each(MODES)('in %s mode', async (mode) => {
    const controller = new AbortController();
    const world = setUpClient(
      mode,
      {
        max: 1,
        retryAfter: (reply) => {
          if (reply.includes('goaway')) controller.abort(new Error('gone'));
          return undefined;
        },
      },
      { isEchoing: false },
    );
    const one = watch(world.client.request('goaway', { signal: controller.signal }));
    const two = watch(world.client.request('other'));
    await world.now();
    world.backend.answerAll();
    await world.now();
    world.backend.answerAll();
    await world.now();
    expect((one.error as Error).message).toBe('gone');
    expect(bodyOf(two.value)).toBe('Echo: other');
    expect(world.told).toEqual(['opened']);
  });
});

describe('whoever waits while no socket is fit', () => {
  it('multiplexed: a drained socket is fed again though no reply comes', async () => {
    const world = setUpClient('multiplexed', { max: 1 }, { isEchoing: false });
    world.backend.onSide = ({ peer }) => peer.stream.pause();
    const large = ask(world, 'x'.repeat(200_000));
    await world.now();
    const small = ask(world, 'small');
    await world.now();
    world.backend.side(0).peer.stream.resume();
    await world.now();
    await world.pass(1_000);
    const later = ask(world, 'later');
    await world.now();
    expect(world.backend.times('small')).toBe(1);
    expect(told(large)).toEqual(['pending']);
    void small;
    void later;
  });
  it('multiplexed: after suspend and resume', async () => {
    const world = setUpClient('multiplexed', { max: 1 }, { isEchoing: false });
    ask(world, 'slow');
    await world.now();
    void world.pool.suspend();
    const b = ask(world, 'b');
    await world.now();
    world.pool.resume();
    await world.pass(1_000);
    const c = ask(world, 'c');
    await world.pass(1_000);
    expect([world.backend.times('b'), world.backend.times('c')]).toEqual([1, 1]);
    void b;
    void c;
  });
  it('multiplexed: after a caller of the pool has given up', async () => {
    const world = setUpClient('multiplexed', { max: 1 }, { isEchoing: false });
    ask(world, 'slow');
    await world.now();
    const lease = watch(world.pool.acquire({ timeoutMs: 100 }));
    const b = ask(world, 'b');
    await world.pass(2_000);
    expect(lease.error).toMatchObject({ code: 'ERR_ACQUIRE_TIMEOUT' });
    const c = ask(world, 'c');
    await world.pass(2_000);
    expect([world.backend.times('b'), world.backend.times('c')]).toEqual([1, 1]);
    void b;
    void c;
  });
  it('pipelined: resize gives those who wait another socket', async () => {
    const world = setUpClient('pipelined', { max: 1 }, { isEchoing: false });
    ask(world, 'slow');
    await world.pass(100);
    const b = ask(world, 'b');
    await world.now();
    world.pool.resize({ max: 2 });
    await world.pass(2_000);
    expect(world.backend.times('b')).toBe(1);
    void b;
  });
  it('multiplexed: resize to fewer', async () => {
    const world = setUpClient('multiplexed', { max: 2, maxInFlight: 2 }, { isEchoing: false });
    ask(world, 'slow', 'slow2', 'quick');
    await world.now();
    world.backend.side(0).answerTo('slow2');
    await world.now();
    world.pool.resize({ max: 1 });
    const b = ask(world, 'b');
    await world.now();
    world.backend.side(1).answerTo('quick');
    await world.pass(2_000);
    expect(world.backend.times('b')).toBe(1);
    void b;
  });
  it.each(SHARED)('%s: the place of a message that can’t be encoded', async (mode) => {
    const codec = {
      ...base,
      decode: base.decode.bind(base),
      encode: (m: string) => {
        if (m.endsWith('bad')) throw new Error('no');
        return base.encode(m);
      },
    };
    const world = setUpClient(mode, { max: 1, maxInFlight: 2, codec }, { isEchoing: false });
    ask(world, 'quick', 'slow');
    await world.now();
    const rest = ask(world, 'bad', 'good');
    await world.now();
    world.backend.side(0).answerTo('quick');
    await world.now();
    expect(told(rest)[0]).toBe('ERR_FRAME');
    expect(world.backend.times('good')).toBe(1);
  });
  it.each(SHARED)('%s: the place of a message that was aborted in its turn', async (mode) => {
    const world = setUpClient(mode, { max: 1, maxInFlight: 2 }, { isEchoing: false });
    ask(world, 'slow');
    await world.now();
    const c = new AbortController();
    watch(world.client.request('gone', { signal: c.signal }));
    const rest = ask(world, 'good');
    c.abort();
    await world.now();
    expect(world.backend.times('good')).toBe(1);
    void rest;
  });
});

describe('a pool that is closed under its client', () => {
  it.each(MODES)('%s: new callers are refused and the rest goes on', async (mode) => {
    const world = setUpClient(mode, { max: 1 }, { isEchoing: false });
    ask(world, 'a');
    await world.now();
    const closing = watch(world.pool.close({ timeoutMs: 5_000 }));
    const b = ask(world, 'b');
    await world.now();
    expect(told(b)).toEqual(['ERR_POOL_CLOSED']);
    world.backend.answerAll();
    await world.now();
    expect(closing.isSettled).toBe(true);
  });
});

describe('the wish of an exclusive client for a new socket', () => {
  it('keeps acquireTimeoutMs and leaves nothing', async () => {
    const world = setUpClient(
      'exclusive',
      { max: 1, min: 0, acquireTimeoutMs: 1_000, timeoutMs: 5_000, connectTimeoutMs: 100_000 },
      { isEchoing: false },
    );
    await serveOnce(world);
    world.net.outcome = { kind: 'hang' };
    const a = watch(world.client.request('a', { idempotent: true }));
    await world.now();
    world.backend.side(0).peer.reset();
    await world.clock.advance(1_500);
    await world.clock.advance(5_000);
    world.audit();
    expect((a.error as { code: string }).code).toBe('ERR_ACQUIRE_TIMEOUT');
  });
});

describe('second tries beside a stuck socket', () => {
  it('pipelined: need one more socket, not as many as there may be', async () => {
    const world = setUpClient('pipelined', { max: 10, hedge: true }, { isEchoing: false });
    await warmUp(world);
    const dials = world.net.dialedAt.length;
    const many = Array.from({ length: 20 }, (_, i) =>
      watch(world.client.request(`q${i}`, { idempotent: true })),
    );
    await world.now();
    await world.pass(60);
    expect(world.net.dialedAt.length - dials).toBeLessThanOrEqual(1);
    void many;
  });
});

describe('a repetition on a new socket is told as', () => {
  it('acquired and as released', async () => {
    const world = setUpClient('exclusive', { max: 1 }, { isEchoing: false });
    let n = 0,
      r = 0;
    world.pool.on('acquired', () => {
      n += 1;
    });
    world.pool.on('released', () => {
      r += 1;
    });
    await serveOnce(world);
    watch(world.client.request('a', { idempotent: true }));
    await world.now();
    world.backend.side(0).peer.reset();
    await world.now();
    world.backend.answerAll();
    await world.now();
    expect([n, r]).toEqual([3, 2]);
  });
});

describe('a message posted while replies are read', () => {
  it('pipelined: a stray in the same read as the reply before is nobody’s', async () => {
    let inner: ReturnType<typeof watch<string>> | undefined;
    const world = setUpClient(
      'pipelined',
      {
        max: 1,
        retryAfter: (reply) => {
          if (reply === 'Echo: a') inner = watch(world.client.request('b'.repeat(9_000)));
          return undefined;
        },
      },
      { isEchoing: false },
    );
    ask(world, 'a');
    await world.now();
    world.backend.side(0).due.length = 0;
    world.backend.side(0).say('Echo: a\nSTRAY\n');
    await world.now();
    world.backend.answerAll();
    await world.now();
    expect(inner?.value).not.toBe('STRAY');
  });
});

describe('for the breaker', () => {
  it.each(MODES)('%s: a series of dials that failed is one failure, however many waited', async (mode) => {
    const world = setUpClient(mode, { max: 1, retry: { retries: 0 }, breaker: { failures: 5 } });
    world.net.outcome = { kind: 'refuse' };
    ask(world, '1', '2', '3', '4', '5', '6');
    await world.now();
    expect(world.told).not.toContain('breakerOpened');
  });
});

describe('second tries at max', () => {
  it.each(SHARED)('%s: cost no budget and are not counted when there is no other socket', async (mode) => {
    const world = setUpClient(mode, { max: 1, hedge: true }, { isEchoing: false });
    await warmUp(world);
    Array.from({ length: 30 }, (_, i) => watch(world.client.request(`q${i}`, { idempotent: true })));
    await world.now();
    await world.pass(100);
    const { hedged } = world.client.stats();
    expect(hedged).toBe(0);
  });
});

describe('a deadline at a fraction of a millisecond', () => {
  it('is not kept too soon', async () => {
    const world = setUpClient('exclusive', {}, { isEchoing: false });
    await world.clock.advance(0.9);
    const t0 = world.clock.now();
    let at = 0;
    watch(
      world.client.request('a', { timeoutMs: 5 }).catch(() => {
        at = world.clock.now();
        return '';
      }),
    );
    for (let i = 0; i < 80; i++) await world.clock.advance(0.1);
    expect(at - t0).toBeGreaterThanOrEqual(5 - 1e-6);
  });
});

describe('a pool that is closed while a request sleeps', () => {
  it.each(MODES)('%s: leaves no request and no timer', async (mode) => {
    const world = setUpClient(mode, { retryAfter: () => 10_000 });
    const a = ask(world, 'a');
    await world.now();
    const closing = watch(world.pool.close());
    await world.pass(100);
    expect(closing.isSettled).toBe(true);
    expect(told(a)).not.toEqual(['pending']);
  });
});

describe('a wish for a new socket while the pool is', () => {
  it('suspended: the wish has the limit of all waits', async () => {
    const world = setUpClient(
      'exclusive',
      { max: 1, acquireTimeoutMs: 1_000, timeoutMs: Number.POSITIVE_INFINITY },
      { isEchoing: false },
    );
    await serveOnce(world);
    const a = watch(world.client.request('a', { idempotent: true }));
    await world.now();
    void world.pool.suspend();
    watch(world.client.request('b'));
    world.backend.side(0).peer.reset();
    await world.clock.advance(60_000);
    expect(told([a])).not.toEqual(['pending']);
  });
});

describe('the line of an exclusive client', () => {
  it('does not send for a caller whose time is up when a socket comes to it', async () => {
    const world = setUpClient('exclusive', { max: 1 }, { isEchoing: false });
    await serveOnce(world);
    ask(world, 'first');
    const late = watch(world.client.request('late', { timeoutMs: 50 }));
    await world.now();
    // Our own loop is blocked, and the reply is read before any timer fires.
    world.clock.freeze(100);
    world.backend.answerAll();
    await world.now();
    expect(late.error).toMatchObject({ code: 'ERR_DEADLINE', sent: 'none' });
    expect(world.backend.asked.join()).not.toContain('late');
  });

  it('is not served by a socket whose message has not left', async () => {
    const world = setUpClient('exclusive', { max: 1 }, { isEchoing: false });
    world.backend.onSide = ({ peer }) => peer.stream.pause();
    const asked = ask(world, 'x'.repeat(300_000));
    await world.now();
    asked.push(...ask(world, 'second'));
    await world.now();
    world.backend.side(0).say('stray\n');
    await world.now();
    world.backend.onSide = () => undefined;
    world.backend.side(0).peer.stream.resume();
    await world.now();
    for (const side of world.backend.sides) if (side.due.length && !side.peer.isClientGone) side.answer(1);
    await world.now();
    expect(told(asked)[1]?.slice(0, 8)).not.toBe('Echo: xx');
  });
  it('pool.close() ends though callers come without a pause', async () => {
    const world = setUpClient('exclusive', { max: 1 }, { isEchoing: false });
    let stop = false;
    const codes: string[] = [];
    const run = async (): Promise<void> => {
      while (!stop)
        await world.client.request('a').catch((e) => {
          codes.push(e.code);
          stop = true;
        });
    };
    world.backend.onQuestion = () => undefined;
    void run();
    void run();
    await world.clock.advance(1);
    world.backend.isEchoing = false;
    await world.clock.advance(0);
    const closing = watch(world.pool.close({ timeoutMs: 900 }));
    for (let i = 0; i < 50; i++) {
      world.backend.answerAll();
      await world.clock.advance(1);
    }
    const was = closing.isSettled;
    stop = true;
    for (let i = 0; i < 10; i++) {
      world.backend.answerAll();
      await world.clock.advance(1);
    }
    expect([was, codes[0]]).toEqual([true, 'ERR_POOL_CLOSED']);
  });
  it('is served when max grows', async () => {
    const world = setUpClient('exclusive', { max: 1 }, { isEchoing: false });
    ask(world, 'slow', 'second');
    await world.now();
    world.pool.resize({ max: 2 });
    await world.pass(1_000);
    expect(world.backend.times('second')).toBe(1);
  });
  it('abort and deadline in the line', async () => {
    const world = setUpClient('exclusive', { max: 1 }, { isEchoing: false });
    ask(world, 'slow');
    await world.now();
    const c = new AbortController();
    const a = watch(world.client.request('a', { signal: c.signal }));
    const b = watch(world.client.request('b', { timeoutMs: 100 }));
    await world.now();
    c.abort('x');
    await world.pass(150);
    expect(told([a, b])).toEqual(['x', 'ERR_DEADLINE']);
    expect(world.client.stats().waiting).toBe(0);
  });
});

async function serveFirst(world: ReturnType<typeof setUpClient>) {
  const a = ask(world, 'first');
  await world.now();
  world.backend.answerAll();
  await world.now();
  expect(told(a)).toEqual(['Echo: first']);
}

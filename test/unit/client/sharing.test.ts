import { describe, expect, it } from 'vitest';
import { lines } from '../../../src/transport/lines.ts';
import { ask, bodyOf, serveOnce, told, warmUp } from '../../support/client-steps.ts';
import { type ClientWorld, MODES, SHARED, type Side, setUpClient } from '../../support/client-world.ts';
import { watch } from '../../support/pool-world.ts';

const MEGABYTE = 1_000_000;

/** A server that reads only when it is told to. */
function slowly(world: ClientWorld): (side: Side, bytes: number) => void {
  world.backend.onSide = ({ peer }) => peer.stream.pause();
  return ({ peer }, bytes) => {
    peer.stream.read(Math.min(bytes, peer.stream.readableLength));
  };
}

describe.each(SHARED)('a %s client', (mode) => {
  it('serves 500 callers with one socket, in few writes', async () => {
    const world = setUpClient(mode, { max: 10 });
    const asked = ask(world, ...Array.from({ length: 500 }, (_, index) => `q${index}`));
    await world.now();
    expect(told(asked)).toEqual(asked.map((_, index) => `Echo: q${index}`));
    expect(world.net.dialedAt.length).toBe(1);
    expect(world.backend.side(0).chunks.length).toBe(1);
  });

  it('fills a socket to maxInFlight before it asks for another one', async () => {
    const world = setUpClient(mode, { maxInFlight: 3, max: 2 }, { isEchoing: false });
    const asked = ask(world, 'a', 'b', 'c', 'd', 'e', 'f', 'g');
    await world.now();
    expect(world.backend.asked.map(({ length }) => length)).toEqual([3, 3]);
    expect(world.client.stats()).toMatchObject({ inFlight: 7, waiting: 1 });
    world.backend.side(0).answer(1);
    await world.now();
    expect(world.backend.asked.map(({ length }) => length)).toEqual([4, 3]);
    world.backend.answerAll();
    await world.now();
    world.backend.answerAll();
    await world.now();
    expect(new Set(told(asked)).size).toBe(7);
  });

  it('opens no second socket while the first has room', async () => {
    const world = setUpClient(mode, { maxInFlight: 3, max: 2 }, { isEchoing: false });
    ask(world, 'a');
    await world.now();
    ask(world, 'b', 'c');
    await world.now();
    expect(world.backend.asked).toEqual([['a', 'b', 'c']]);
  });

  it('writes once in a turn, and at once when more than 8 KiB have come together', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    ask(world, 'first');
    await world.now();
    ask(world, 'a', 'b', 'c');
    expect(world.backend.side(0).chunks.length).toBe(1);
    await world.now();
    expect(world.backend.side(0).chunks.length).toBe(2);
    ask(world, 'x'.repeat(5_000), 'y'.repeat(5_000), 'z');
    await new Promise((resolve) => setImmediate(resolve));
    // The turn of the virtual clock has not ended.
    expect(world.backend.side(0).asked.length).toBe(6);
    await world.now();
    expect(world.backend.side(0).chunks.length).toBe(4);
    expect(world.backend.side(0).asked.length).toBe(7);
  });

  it('does not feed a socket that takes bytes more slowly than they come', async () => {
    const world = setUpClient(mode, { max: 2, codec: lines({ maxFrameBytes: 10 * MEGABYTE }) });
    const read = slowly(world);
    const large = ask(world, 'x'.repeat(MEGABYTE));
    await world.now();
    const small = ask(world, 'small');
    await world.now();
    read(world.backend.side(1), 100);
    await world.now();
    expect(told(small)).toEqual(['Echo: small']);
    for (let left = MEGABYTE + 100; left > 0; left -= 16_000) {
      read(world.backend.side(0), 16_000);
      await world.clock.advance(0);
    }
    expect(bodyOf(large[0]?.value).length).toBe(MEGABYTE + 'Echo: '.length);
  });

  it('does not feed one that has been silent for 50 ms while a reply is due', async () => {
    const world = setUpClient(mode, { max: 2 }, { isEchoing: false });
    ask(world, 'a');
    await world.pass(50);
    ask(world, 'b');
    await world.pass(1);
    ask(world, 'c');
    await world.now();
    expect(world.backend.asked).toEqual([['a', 'b'], ['c']]);
  });

  it('waits longer where round trips are longer', async () => {
    const world = setUpClient(mode, { max: 2 }, { isEchoing: false });
    for (let round = 0; round < 30; round++) {
      ask(world, 'known');
      await world.clock.advance(20);
      world.backend.answerAll();
      await world.clock.advance(0);
    }
    ask(world, 'a');
    await world.pass(120);
    ask(world, 'b');
    await world.now();
    expect(world.net.dialedAt.length).toBe(1);
    await world.pass(60);
    ask(world, 'c');
    await world.now();
    expect(world.net.dialedAt.length).toBe(2);
  });

  it('leaves a socket to run dry when most of its places are kept for callers who have gone', async () => {
    const world = setUpClient(mode, { max: 2, maxInFlight: 4 }, { isEchoing: false });
    const controller = new AbortController();
    for (const message of ['a', 'b', 'c'])
      watch(world.client.request(message, { signal: controller.signal }));
    await world.now();
    controller.abort('enough');
    const asked = ask(world, 'd');
    await world.now();
    expect(world.backend.asked).toEqual([['a', 'b', 'c'], ['d']]);
    world.backend.side(0).answer();
    await world.now();
    expect(world.pool.stats()).toMatchObject({ idle: 1, leased: 1 });
    world.backend.answerAll();
    await world.now();
    expect(told(asked)).toEqual(['Echo: d']);
  });

  it('goes on with other sockets when one ends, and sends nothing twice that was not idempotent', async () => {
    const world = setUpClient(mode, { max: 2, maxInFlight: 2 }, { isEchoing: false });
    const asked = ask(world, 'a', 'b', 'c', 'd', 'e');
    await world.now();
    world.backend.side(0).peer.reset();
    await world.pass(10);
    world.backend.isEchoing = true;
    world.backend.answerAll();
    await world.pass(1_000);
    const lost = 'ERR_SERVER_FULL';
    expect(told(asked)).toEqual([lost, lost, 'Echo: c', 'Echo: d', 'Echo: e']);
    for (const question of ['a', 'b', 'c', 'd', 'e']) expect(world.backend.times(question)).toBe(1);
  });

  it('tells everybody who waits when no socket can be opened, each with an error of their own', async () => {
    const world = setUpClient(mode, { retry: { retries: 0 } });
    world.net.outcome = { kind: 'refuse' };
    const asked = ask(world, 'a', 'b');
    await world.now();
    expect(told(asked)).toEqual(['ERR_ACQUIRE_FAILED', 'ERR_ACQUIRE_FAILED']);
    expect(asked[0]?.error).not.toBe(asked[1]?.error);
    expect(asked[0]?.error).toMatchObject({ cause: { code: 'ERR_REFUSED' } });
  });

  it('lets them wait for a socket that is open when no other one can be opened', async () => {
    const world = setUpClient(mode, { max: 2, maxInFlight: 1, retry: { retries: 0 } }, { isEchoing: false });
    const asked = ask(world, 'a');
    await world.now();
    world.net.outcome = { kind: 'refuse' };
    asked.push(...ask(world, 'b'));
    await world.pass(100);
    expect(told(asked)).toEqual(['pending', 'pending']);
    world.backend.answerAll();
    await world.now();
    world.backend.answerAll();
    await world.now();
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b']);
  });

  it('sends a call that had no socket to the first one that comes free', async () => {
    const world = setUpClient(mode, { max: 1 });
    const lease = await world.pool.acquire();
    const asked = ask(world, 'a', 'b');
    await world.pass(100);
    expect(world.client.stats()).toMatchObject({ waiting: 2 });
    lease.release();
    await world.now();
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b']);
  });

  it('says how full its sockets were when no place became free in time', async () => {
    const world = setUpClient(mode, { max: 1, maxInFlight: 1, acquireTimeoutMs: 100 }, { isEchoing: false });
    const asked = ask(world, 'a', 'b');
    await world.pass(101);
    expect(told(asked)).toEqual(['pending', 'ERR_ACQUIRE_TIMEOUT']);
    expect(asked[1]?.error).toMatchObject({
      message: expect.stringMatching(
        /within 100 ms \(1 in flight on 1 sockets, maxInFlight=1, 0 waiting; sockets: /,
      ),
      hint: expect.stringMatching(/server is slow or stuck/),
      sent: 'none',
      waitedMs: 100,
    });
  });

  it('survives a codec that fails on the very first message of a socket, with others waiting', async () => {
    const codec = lines({ maxFrameBytes: 1_000 });
    let isBroken = false;
    const encode = (message: string): string => {
      if (isBroken && message.endsWith('poison')) throw new Error('no');
      return codec.encode(message) as string;
    };
    const world = setUpClient(
      mode,
      { max: 1, maxInFlight: 2, codec: { ...codec, encode } },
      { isEchoing: false },
    );
    await serveOnce(world);
    const poison = watch(world.client.request('poison', { idempotent: true }));
    await world.now();
    const asked = ask(world, 'b', 'c');
    isBroken = true;
    world.backend.side(0).peer.reset();
    await world.now();
    const lease = watch(world.pool.acquire());
    await world.pass(200);
    world.backend.isEchoing = true;
    world.backend.answerAll();
    await world.pass(200);
    lease.value?.release();
    await world.pass(200);
    expect(poison.error).toMatchObject({ code: 'ERR_FRAME' });
    expect(told(asked).at(-1)).toBe('Echo: c');
  });
});

describe.each(SHARED)('callers of the pool beside a %s client', (mode) => {
  it('and the client’s are both served by one socket', async () => {
    const world = setUpClient(mode, { max: 1 });
    const asked = ask(world, 'a');
    const lease = watch(world.pool.acquire());
    await world.now();
    expect(told(asked)).toEqual(['Echo: a']);
    expect(lease.value?.isHeld).toBe(true);
    asked.push(...ask(world, 'b'));
    await world.pass(10);
    lease.value?.release();
    await world.pass(10);
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b']);
  });

  it('get the socket in turn while both ask without a pause', async () => {
    const world = setUpClient(mode, { max: 1 });
    let leases = 0;
    let replies = 0;
    const lend = async (): Promise<void> => {
      for (let round = 0; round < 20; round++) {
        (await world.pool.acquire()).release();
        leases += 1;
      }
    };
    const request = async (): Promise<void> => {
      for (let round = 0; round < 20; round++) {
        await world.client.request('a');
        replies += 1;
      }
    };
    void Promise.all([lend(), request(), request()]);
    for (let step = 0; step < 200; step++) await world.clock.advance(1);
    world.audit();
    expect({ leases, replies }).toEqual({ leases: 20, replies: 40 });
  });

  it('are served though its socket always has something in flight', async () => {
    const world = setUpClient(mode, { max: 1 }, { isEchoing: false });
    ask(world, 'long');
    await world.now();
    const lease = watch(world.pool.acquire());
    for (let round = 0; round < 20; round++) {
      await world.pass(60);
      ask(world, `${round}`);
      await world.now();
      const side = world.backend.side(0);
      side.answer(Math.max(1, side.due.length - 1));
      await world.now();
    }
    expect(lease.value?.isHeld).toBe(true);
    world.backend.isEchoing = true;
    lease.value?.release();
    await world.pass(100);
    expect(world.client.stats()).toMatchObject({ inFlight: 0, failed: 0 });
  });

  it('wait for no lease that the client needs no more', async () => {
    const world = setUpClient(mode, { max: 2, maxInFlight: 1 }, { isEchoing: false });
    const leases = [await world.pool.acquire(), await world.pool.acquire()];
    const controller = new AbortController();
    const asked = [1, 2].map((n) => watch(world.client.request(`${n}`, { signal: controller.signal })));
    const third = watch(world.client.request('third', { timeoutMs: 100 }));
    await world.now();
    expect(world.pool.stats().waiting).toBe(2);
    controller.abort('enough');
    await world.now();
    expect(told(asked)).toEqual(['enough', 'enough']);
    expect(world.pool.stats().waiting).toBe(1);
    await world.pass(101);
    expect(told([third])).toEqual(['ERR_DEADLINE']);
    expect(world.pool.stats().waiting).toBe(0);
    expect(world.net.hold.count).toBe(0);
    for (const lease of leases) lease.release();
  });
});

describe.each(SHARED)('a lease that a %s client asked for', (mode) => {
  it('is taken back when a place has come free elsewhere', async () => {
    const world = setUpClient(mode, { max: 2, maxInFlight: 1 }, { isEchoing: false });
    const lease = await world.pool.acquire();
    ask(world, 'a');
    await world.now();
    ask(world, 'b');
    await world.now();
    expect(world.pool.stats().waiting).toBe(1);
    world.backend.answerAll();
    await world.now();
    expect(world.backend.times('b')).toBe(1);
    expect(world.pool.stats().waiting).toBe(0);
    lease.release();
  });

  it('for a second try that can’t be encoded goes to who waits for it in the pool, and is written on no more', async () => {
    const codec = lines({ maxFrameBytes: 1_000 });
    let isBroken = false;
    const encode = (message: string): string => {
      if (isBroken && message.endsWith('slow')) throw new Error('no');
      return codec.encode(message) as string;
    };
    const options = { max: 2, maxInFlight: 1, hedge: true, codec: { ...codec, encode } };
    const world = setUpClient(mode, options);
    await warmUp(world);
    const lease = await world.pool.acquire();
    const slow = watch(world.client.request('slow', { idempotent: true }));
    await world.now();
    isBroken = true;
    await world.pass(2_000);
    expect(world.client.stats().hedged).toBe(1);
    const asked = ask(world, 'b');
    const next = watch(world.pool.acquire());
    await world.now();
    lease.release();
    await world.now();
    expect(next.value?.isHeld).toBe(true);
    expect(world.backend.times('b')).toBe(0);
    next.value?.release();
    await world.pass(10);
    expect(world.backend.times('b')).toBe(1);
    world.backend.answerAll();
    await world.now();
    expect(told([slow, ...asked])).toEqual(['Echo: slow', 'Echo: b']);
  });
});

describe('where all sockets are silent', () => {
  it('a pipelined client feeds none: replies would stand behind those that do not come', async () => {
    const world = setUpClient('pipelined', { max: 1 }, { isEchoing: false });
    ask(world, 'a');
    await world.pass(100);
    ask(world, 'b');
    await world.pass(100);
    expect(world.backend.asked).toEqual([['a']]);
    world.backend.side(0).answer();
    await world.now();
    expect(world.backend.asked).toEqual([['a', 'b']]);
  });

  it('a multiplexed client feeds the one with the most room: every reply may take its time', async () => {
    const world = setUpClient('multiplexed', { max: 2, maxInFlight: 3 }, { isEchoing: false });
    ask(world, 'a', 'b', 'c', 'd');
    await world.pass(100);
    ask(world, 'e');
    await world.now();
    expect(world.backend.asked).toEqual([
      ['a', 'b', 'c'],
      ['d', 'e'],
    ]);
  });
});

describe.each(MODES)('a large message of a %s client', (mode) => {
  const options = { readTimeoutMs: 100, writeTimeoutMs: 400, codec: lines({ maxFrameBytes: 10 * MEGABYTE }) };

  it('may take longer than the longest silence, as long as the server takes it', async () => {
    const world = setUpClient(mode, options);
    const read = slowly(world);
    const asked = ask(world, 'x'.repeat(MEGABYTE));
    await world.now();
    let took = 0;
    for (let left = MEGABYTE + 100; left > 0; left -= 16_000) {
      read(world.backend.side(0), 16_000);
      await world.clock.advance(20);
      took += 20;
    }
    expect(took).toBeGreaterThan(1_000);
    expect(bodyOf(asked[0]?.value).length).toBe(MEGABYTE + 'Echo: '.length);
  });

  it('is given up when the server takes nothing for writeTimeoutMs', async () => {
    const world = setUpClient(mode, options);
    slowly(world);
    const asked = ask(world, 'x'.repeat(MEGABYTE));
    await world.pass(350);
    expect(told(asked)).toEqual(['pending']);
    await world.pass(200);
    expect(told(asked)).toEqual(['ERR_WRITE_TIMEOUT']);
    expect(asked[0]?.error).toMatchObject({ sent: 'maybe' });
  });

  it('is given up when the server is silent for readTimeoutMs after the last of it has left', async () => {
    const world = setUpClient(mode, options, { isEchoing: false });
    const read = slowly(world);
    const asked = ask(world, 'x'.repeat(MEGABYTE));
    await world.pass(90);
    for (let left = MEGABYTE + 100; left > 0; left -= 16_000) {
      read(world.backend.side(0), 16_000);
      await world.clock.advance(0);
    }
    await world.pass(95);
    expect(told(asked)).toEqual(['pending']);
    await world.pass(110);
    expect(told(asked)).toEqual(['ERR_READ_TIMEOUT']);
    expect(asked[0]?.error).toMatchObject({ sent: 'full' });
  });
});

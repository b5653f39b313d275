import { describe, expect, it } from 'vitest';
import { ask, told } from '../../support/client-steps.ts';
import { type ClientWorld, MODES, type Options, SHARED, setUpClient } from '../../support/client-world.ts';
import { HEARTBEAT, watch } from '../../support/pool-world.ts';

const one = (mode: (typeof MODES)[number]): Options =>
  mode === 'exclusive' ? { max: 1 } : { max: 1, maxInFlight: 1 };

async function answerEach(world: ClientWorld, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    world.backend.answerAll();
    await world.now();
  }
}

describe.each(MODES)('with a %s client', (mode) => {
  it('onConnect, onAcquire and onRelease run around each lease', async () => {
    const ran: string[] = [];
    const world = setUpClient(mode, {
      ...one(mode),
      onConnect: async (lease) => {
        ran.push('onConnect');
        await lease.request('AUTH');
      },
      onAcquire: async () => {
        ran.push('onAcquire');
      },
      onRelease: async () => {
        ran.push('onRelease');
      },
    });
    const asked = ask(world, 'a');
    await world.pass(10);
    asked.push(...ask(world, 'b'));
    await world.pass(10);
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b']);
    expect(ran).toEqual(['onConnect', 'onAcquire', 'onRelease', 'onAcquire', 'onRelease']);
  });

  it('an onAcquire that fails on each socket is told', async () => {
    const world = setUpClient(mode, {
      retry: { retries: 1 },
      onAcquire: async () => {
        throw new Error('no');
      },
    });
    const asked = ask(world, 'a');
    await world.pass(5_000);
    expect(told(asked)).toEqual(['ERR_ACQUIRE_FAILED']);
    expect(asked[0]?.error).toMatchObject({ sent: 'none', cause: { code: 'ERR_HOOK' } });
  });

  it('leakAfterMs tells of no lease of the client’s, however long a reply takes', async () => {
    const world = setUpClient(mode, { leakAfterMs: 100 }, { isEchoing: false });
    const leaked: unknown[] = [];
    world.pool.on('leaked', (event) => leaked.push(event));
    const asked = ask(world, 'a');
    await world.pass(20_000);
    expect(leaked).toEqual([]);
    world.backend.answerAll();
    await world.now();
    expect(told(asked)).toEqual(['Echo: a']);
    const lease = await world.pool.acquire();
    await world.pass(20_000);
    expect(leaked.length).toBe(1);
    lease.release();
  });

  it('detectDeadlocks does not suspect a request that waits beside another one', async () => {
    const world = setUpClient(mode, { ...one(mode), detectDeadlocks: true }, { isEchoing: false });
    const suspected: unknown[] = [];
    world.pool.on('deadlockSuspected', (event) => suspected.push(event));
    const both = async (): Promise<string[]> => {
      const first = world.client.request('a');
      await new Promise((resolve) => setImmediate(resolve));
      return Promise.all([first, world.client.request('b')]);
    };
    const asked = watch(both());
    await world.now();
    await world.now();
    await answerEach(world, 3);
    expect(asked.value?.length).toBe(2);
    expect(suspected).toEqual([]);
  });

  it('detectDeadlocks suspects a request whose caller holds the last lease', async () => {
    const world = setUpClient(mode, { ...one(mode), detectDeadlocks: true });
    const suspected: unknown[] = [];
    world.pool.on('deadlockSuspected', (event) => suspected.push(event));
    const both = async (): Promise<unknown> => {
      const lease = await world.pool.acquire();
      try {
        return await world.client.request('b', { timeoutMs: 100 });
      } finally {
        lease.release();
      }
    };
    const asked = watch(both());
    await world.pass(200);
    expect(told([asked as never])).toEqual(['ERR_DEADLINE']);
    expect(suspected.length).toBe(1);
  });

  it('the events of its leases are told to who listens', async () => {
    const world = setUpClient(mode);
    const seen: string[] = [];
    world.pool.on('acquired', () => seen.push('acquired'));
    world.pool.on('released', () => seen.push('released'));
    for (const message of ['a', 'b']) {
      ask(world, message);
      await world.now();
    }
    expect(seen).toEqual(['acquired', 'released', 'acquired', 'released']);
  });

  it('maxUses replaces a socket after so many leases', async () => {
    const world = setUpClient(mode, { ...one(mode), maxUses: 2 });
    for (const message of ['a', 'b', 'c']) {
      const asked = ask(world, message);
      await world.pass(10);
      expect(told(asked)).toEqual([`Echo: ${message}`]);
    }
    expect(world.told).toEqual(['opened', 'closed:uses', 'opened']);
  });

  it('maxWaiting refuses whoever comes when so many wait', async () => {
    const world = setUpClient(mode, { ...one(mode), maxWaiting: 1 }, { isEchoing: false });
    const asked = ask(world, 'a');
    await world.now();
    asked.push(...ask(world, 'b', 'c'));
    await world.now();
    expect(told(asked)).toEqual(['pending', 'pending', 'ERR_OVERLOADED']);
    expect(asked[2]?.error).toMatchObject({ sent: 'none', retryable: true });
    await answerEach(world, 2);
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b', 'ERR_OVERLOADED']);
    expect(world.client.stats()).toMatchObject({ succeeded: 2, failed: 1 });
  });

  it('shedAfterMs refuses whoever has waited so long under overload', async () => {
    const world = setUpClient(mode, { ...one(mode), shedAfterMs: 100 }, { isEchoing: false });
    const asked = ask(world, 'a');
    await world.now();
    asked.push(...ask(world, 'b'));
    await world.pass(250);
    expect(told(asked)).toEqual(['pending', 'ERR_OVERLOADED']);
    expect(asked[1]?.error).toMatchObject({ message: expect.stringMatching(/Overload/) });
    await answerEach(world, 2);
  });

  it('priority serves the more important one first', async () => {
    const world = setUpClient(mode, one(mode), { isEchoing: false });
    ask(world, 'first');
    await world.now();
    ask(world, 'usual');
    watch(world.client.request('urgent', { priority: 5 }));
    watch(world.client.request('idle', { priority: -5 }));
    await world.now();
    await answerEach(world, 4);
    expect(world.backend.asked).toEqual([['first', 'urgent', 'usual', 'idle']]);
  });

  it('heartbeats ping its sockets at rest, and find dead ones', async () => {
    const world = setUpClient(mode, { heartbeat: HEARTBEAT, min: 1 });
    const asked = ask(world, 'a');
    await world.pass(2_000);
    expect(world.pool.stats().pinged).toBeGreaterThan(0);
    world.backend.side(0).peer.isMute = true;
    await world.pass(4_000);
    expect(world.told).toContain('closed:heartbeat');
    asked.push(...ask(world, 'b'));
    await world.pass(500);
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b']);
  });

  it('suspend has requests wait, and resume has them sent', async () => {
    const world = setUpClient(mode);
    const suspended = watch(world.pool.suspend());
    const asked = ask(world, 'a');
    await world.pass(100);
    expect(suspended.isSettled).toBe(true);
    expect(told(asked)).toEqual(['pending']);
    world.pool.resume();
    await world.now();
    expect(told(asked)).toEqual(['Echo: a']);
  });

  it('suspend resolves though requests come without a pause', async () => {
    const world = setUpClient(mode, { max: 1 }, { isEchoing: false });
    ask(world, 'a');
    await world.now();
    const suspended = watch(world.pool.suspend());
    for (let round = 0; round < 10; round++) {
      ask(world, `${round}`);
      await world.now();
      const side = world.backend.side(0);
      if (side.due.length > 0) side.answer(1);
      await world.now();
    }
    expect(suspended.isSettled).toBe(true);
    world.backend.isEchoing = true;
    world.pool.resume();
    await world.now();
    expect(world.client.stats()).toMatchObject({ inFlight: 0, failed: 0 });
  });

  it('reset replaces its sockets, and nobody notices', async () => {
    const world = setUpClient(mode, { max: 2 }, { isEchoing: false });
    const asked = ask(world, 'a');
    await world.now();
    const reset = watch(world.pool.reset());
    await world.pass(10);
    asked.push(...ask(world, 'b'));
    await world.now();
    world.backend.answerAll();
    await world.pass(100);
    world.backend.answerAll();
    await world.pass(1_000);
    expect(reset.isSettled).toBe(true);
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b']);
    expect(world.told).toContain('closed:reset');
  });

  it('resize has more served at once', async () => {
    const world = setUpClient(mode, one(mode), { isEchoing: false });
    ask(world, 'a', 'b', 'c');
    await world.now();
    expect(world.backend.asked.flat().length).toBe(1);
    world.pool.resize({ max: 3 });
    world.backend.side(0).answer();
    await world.pass(100);
    expect(world.backend.asked.flat().length).toBe(3);
    world.backend.answerAll();
    await world.now();
  });
});

describe.each(SHARED)('with a %s client', (mode) => {
  it('priority orders those who wait for a place', async () => {
    const world = setUpClient(mode, { max: 1, maxInFlight: 2 }, { isEchoing: false });
    ask(world, 'x', 'y');
    await world.now();
    const asked = [watch(world.client.request('b')), watch(world.client.request('a', { priority: 1 }))];
    await world.now();
    world.backend.side(0).answer(1);
    await world.now();
    expect(world.backend.asked).toEqual([['x', 'y', 'a']]);
    await answerEach(world, 2);
    expect(told(asked)).toEqual(['Echo: b', 'Echo: a']);
  });

  it('a socket to be replaced takes no more requests, and goes when it is empty', async () => {
    const world = setUpClient(mode, { max: 2, maxUses: 1 }, { isEchoing: false });
    ask(world, 'a');
    await world.pass(100);
    ask(world, 'b');
    await world.pass(100);
    expect(world.backend.asked.length).toBe(2);
    world.backend.answerAll();
    await world.pass(100);
    expect(world.told).toContain('closed:uses');
  });
});

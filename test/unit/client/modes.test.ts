import { describe, expect, it } from 'vitest';
import { lines } from '../../../src/transport/lines.ts';
import { raw } from '../../../src/transport/raw.ts';
import { ask, bodyOf, serveOnce, told } from '../../support/client-steps.ts';
import { IDS, MODES, SHARED, setUpClient } from '../../support/client-world.ts';
import { watch } from '../../support/pool-world.ts';

const ANSWER = { heartbeat: { answer: (frame: string) => (frame === 'SRV' ? 'ACK' : undefined) } };

describe.each(MODES)('a %s client', (mode) => {
  it('gives each caller its own reply, and its sockets back', async () => {
    const world = setUpClient(mode);
    const asked = ask(world, 'a', 'b', 'c');
    await world.now();
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b', 'Echo: c']);
    expect(world.pool.stats()).toMatchObject({ leased: 0, waiting: 0 });
  });

  it('finds replies in bytes that come one by one', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const [asked] = ask(world, 'a');
    await world.now();
    world.backend.side(0).spell(world.backend.replyTo(world.backend.side(0).due[0] ?? ''));
    await world.now();
    expect(bodyOf(asked?.value)).toBe('Echo: a');
    expect(world.told).toEqual(['opened']);
  });

  it('ends a socket that speaks unasked at rest, and asks on another one', async () => {
    const world = setUpClient(mode);
    await serveOnce(world);
    world.backend.side(0).say('hello?\n');
    await world.now();
    expect(world.told).toEqual(['opened', 'closed:unsolicited']);
    const asked = ask(world, 'a');
    await world.pass(100);
    expect(told(asked)).toEqual(['Echo: a']);
  });

  it('ends a socket on which a frame begins behind the last reply', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const asked = ask(world, 'a');
    await world.now();
    const side = world.backend.side(0);
    side.say(`${world.backend.replyTo(side.due[0] ?? '')}left`);
    await world.now();
    expect(told(asked)).toEqual(['Echo: a']);
    expect(world.told).toEqual(['opened', 'closed:unsolicited']);
  });

  it('lets a half ping of the server’s wait at rest while a question goes out, and answers it when it is whole', async () => {
    const world = setUpClient(mode, ANSWER, { isEchoing: false });
    await serveOnce(world);
    await world.pass(10);
    const side = world.backend.side(0);
    side.say('SR');
    await world.now();
    const asked = ask(world, 'b');
    await world.now();
    side.say('V\n');
    await world.now();
    expect(side.asked.at(-1)).toBe('ACK');
    side.answerTo('b');
    await world.now();
    expect(told(asked)).toEqual(['Echo: b']);
    expect(world.told).toEqual(['opened']);
  });

  it('takes a frame that began before the question for nobody’s reply, though it may have been a ping', async () => {
    const world = setUpClient(mode, ANSWER, { isEchoing: false });
    await serveOnce(world);
    await world.pass(10);
    const side = world.backend.side(0);
    side.say('2:');
    await world.now();
    const asked = ask(world, 'b');
    await world.now();
    side.say('stray\n');
    await world.now();
    expect(told(asked)).toEqual(['ERR_UNSOLICITED']);
    expect(world.told).toContain('closed:unsolicited');
  });

  it('tells a caller whose message can’t be encoded, and nobody else', async () => {
    const world = setUpClient(mode);
    const asked = ask(world, 'a', 'two\nlines', 'b');
    await world.now();
    expect(told(asked)).toEqual(['Echo: a', 'ERR_FRAME', 'Echo: b']);
    expect(asked[1]?.error).toMatchObject({ sent: 'none' });
    expect(world.told).not.toContain('closed:protocol');
    expect(world.pool.stats().leased).toBe(0);
  });
});

describe('an exclusive client', () => {
  it('has one request at a time on a socket', async () => {
    const world = setUpClient('exclusive', { max: 2 }, { isEchoing: false });
    const asked = ask(world, 'a', 'b', 'c');
    await world.pass(10);
    expect(world.backend.asked.flat().sort()).toEqual(['a', 'b']);
    world.backend.side(0).answer();
    await world.now();
    expect(world.backend.times('c')).toBe(1);
    world.backend.answerAll();
    await world.now();
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b', 'Echo: c']);
  });

  it('takes a chunk for the reply when a codec finds no ends of frames, and never uses that socket again', async () => {
    const world = setUpClient('exclusive', { codec: raw() as never, max: 1 }, { isEchoing: false });
    const first = watch(world.client.request('a'));
    await world.now();
    world.backend.side(0).say('one');
    await world.now();
    expect(String(first.value)).toBe('one');
    expect(world.told).toEqual(['opened', 'closed:dirty']);
    const second = watch(world.client.request('b'));
    await world.now();
    world.backend.side(0).say('more of one');
    world.backend.side(1).say('two');
    await world.now();
    expect(String(second.value)).toBe('two');
  });

  it('keeps such a socket when nothing was sent on it', async () => {
    const codec = {
      ...raw(),
      encode: () => {
        throw new Error('no');
      },
    };
    const world = setUpClient('exclusive', { codec: codec as never, max: 1 });
    const asked = ask(world, 'a');
    await world.now();
    expect(told(asked)).toEqual(['ERR_FRAME']);
    expect(world.pool.stats()).toMatchObject({ idle: 1 });
  });
});

describe.each(SHARED)('a %s client', (mode) => {
  it('has many requests on a socket, and answers as they come', async () => {
    const world = setUpClient(mode, {}, { isEchoing: false });
    const asked = ask(world, 'a', 'b', 'c');
    await world.now();
    expect(world.backend.asked).toEqual([['a', 'b', 'c']]);
    world.backend.side(0).answer(2);
    await world.now();
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b', 'pending']);
    expect(world.pool.stats().leased).toBe(1);
    world.backend.side(0).answer();
    await world.now();
    expect(world.pool.stats().leased).toBe(0);
  });

  it('refuses a codec that finds no ends of frames', () => {
    expect(() => setUpClient(mode, { codec: raw() as never })).toThrow(
      /`codec` to find the ends of frames with the mode/,
    );
  });

  it('ends the first socket whose codec turns out to find none, and tells every caller', async () => {
    const codec = (): never => ({ ...lines(), framed: false }) as never;
    const world = setUpClient(mode, { codec, max: 3 });
    const asked = ask(world, 'a', 'b');
    await world.now();
    expect(told(asked)).toEqual(['ERR_INVALID_OPTION', 'ERR_INVALID_OPTION']);
    expect(asked[0]?.error).toMatchObject({ message: expect.stringMatching(/framed: false/), sent: 'none' });
    expect(asked[0]?.error).not.toBe(asked[1]?.error);
    expect(world.told).toEqual(['opened', 'closed:protocol']);
    const later = ask(world, 'c');
    await world.pass(1_000);
    expect(told(later)).toEqual(['ERR_INVALID_OPTION']);
    expect(world.net.dialedAt.length).toBe(1);
    expect(world.backend.asked.flat()).toEqual([]);
  });

  it('refuses one that rests, too', async () => {
    const codec = (): never => ({ ...lines(), framed: false }) as never;
    const world = setUpClient(mode, { codec, max: 3 });
    (await world.pool.acquire()).release();
    const asked = ask(world, 'a');
    await world.now();
    expect(told(asked)).toEqual(['ERR_INVALID_OPTION']);
    expect(world.backend.asked.flat()).toEqual([]);
  });

  it('sends elsewhere what had not left when garbage ends the socket', async () => {
    const world = setUpClient(mode, { codec: lines({ maxFrameBytes: 64 }) }, { isEchoing: false });
    const retried: unknown[] = [];
    world.client.on('retried', ({ error, how }) => retried.push([how, error]));
    const [first] = ask(world, 'a');
    await world.now();
    world.backend.side(0).say('x'.repeat(100));
    const [second] = ask(world, 'b');
    // The garbage is read before the turn ends in which `b` would have left.
    await new Promise((resolve) => process.nextTick(resolve));
    world.backend.isEchoing = true;
    await world.pass(1_000);
    expect(first?.error).toMatchObject({ code: 'ERR_FRAME', sent: 'full', retryable: false });
    expect(bodyOf(second?.value)).toBe('Echo: b');
    expect(retried).toMatchObject([
      ['again', { code: 'ERR_CONNECTION_LOST', sent: 'none', cause: { code: 'ERR_FRAME' } }],
    ]);
    expect(world.backend.asked).toEqual([['a'], ['b']]);
  });
});

describe('a multiplexed client', () => {
  it('takes replies in any order', async () => {
    const world = setUpClient('multiplexed', {}, { isEchoing: false });
    const asked = ask(world, 'a', 'b', 'c');
    await world.now();
    for (const question of ['c', 'a', 'b']) world.backend.side(0).answerTo(question);
    await world.now();
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b', 'Echo: c']);
  });

  it('never uses an id twice, on whatever socket: a reply that is repeated finds nobody', async () => {
    const world = setUpClient('multiplexed', { max: 1 }, { isEchoing: false });
    const [first] = ask(world, 'a');
    await world.now();
    world.backend.side(0).say('1:Echo: a\n');
    await world.now();
    expect(first?.value).toBe('1:Echo: a');
    const [second] = ask(world, 'b');
    await world.now();
    world.backend.side(0).say('1:Echo: a\n');
    await world.now();
    expect(second?.error).toMatchObject({ code: 'ERR_UNSOLICITED', sent: 'full' });
    const [third] = ask(world, 'c');
    await world.pass(1_000);
    expect(world.backend.side(1).asked).toEqual(['3:c']);
    world.backend.side(1).answer();
    await world.now();
    expect(third?.value).toBe('3:Echo: c');
  });

  it('begins at 1 again after `maxId`, and passes over ids that are in flight', async () => {
    const correlate = { ...IDS, maxId: 3 };
    const world = setUpClient('multiplexed', { correlate, max: 1 }, { isEchoing: false });
    const [slow] = ask(world, 'slow');
    await world.now();
    const asked: string[] = [];
    for (let round = 0; round < 5; round++) {
      const [one] = ask(world, `${round}`);
      await world.now();
      world.backend.side(0).answerTo(`:${round}`);
      await world.now();
      asked.push(String(one?.value));
    }
    expect(asked).toEqual(['2:Echo: 0', '3:Echo: 1', '2:Echo: 2', '3:Echo: 3', '2:Echo: 4']);
    world.backend.side(0).answer();
    await world.now();
    expect(slow?.value).toBe('1:Echo: slow');
  });

  it('gives messages of one turn ids of their own, though none has left', async () => {
    const correlate = { ...IDS, maxId: 3 };
    const world = setUpClient('multiplexed', { correlate, max: 1 }, { isEchoing: false });
    const controller = new AbortController();
    const gone = watch(world.client.request('gone', { signal: controller.signal }));
    const asked = ask(world, 'a', 'b', 'c');
    await world.now();
    expect(world.backend.side(0).asked).toEqual(['1:gone', '2:a', '3:b']);
    controller.abort('enough');
    world.backend.side(0).answerTo('2:a');
    await world.now();
    // The late reply may still come: its id is not free.
    expect(world.backend.side(0).asked.slice(3)).toEqual(['2:c']);
    expect(gone.error).toBe('enough');
    world.backend.side(0).answer();
    await world.now();
    expect(told(asked)).toEqual(['Echo: a', 'Echo: b', 'Echo: c']);
  });

  it('frees the id of a message that was never sent', async () => {
    const correlate = {
      ...IDS,
      maxId: 3,
      write: (message: string, id: number) => (message === 'bad' ? 'two\nlines' : `${id}:${message}`),
    };
    const world = setUpClient('multiplexed', { correlate, max: 1 }, { isEchoing: false });
    // As long as it flies the socket is not given back, and its ids are remembered.
    const [slow] = ask(world, 'slow');
    await world.now();
    for (let round = 0; round < 5; round++) {
      const controller = new AbortController();
      watch(world.client.request('gone', { signal: controller.signal }));
      const asked = ask(world, 'bad', `${round}`);
      controller.abort('enough');
      await world.now();
      world.backend.side(0).answerTo(`:${round}`);
      await world.now();
      expect(told(asked)).toEqual(['ERR_FRAME', `Echo: ${round}`]);
    }
    expect(world.backend.times('gone')).toBe(0);
    world.backend.side(0).answer();
    await world.now();
    expect(slow?.value).toBe('1:Echo: slow');
  });

  it('holds no more than `maxId` requests on a socket', async () => {
    const world = setUpClient(
      'multiplexed',
      { correlate: { ...IDS, maxId: 2 }, max: 1 },
      { isEchoing: false },
    );
    ask(world, 'a', 'b', 'c');
    await world.now();
    expect(world.backend.asked).toEqual([['a', 'b']]);
    expect(() => setUpClient('multiplexed', { correlate: { ...IDS, maxId: 2 }, maxInFlight: 3 })).toThrow(
      /`maxInFlight`/,
    );
    expect(() => setUpClient('multiplexed', { correlate: { ...IDS, maxId: 0 } })).toThrow(
      /`correlate.maxId`/,
    );
  });

  it.each([
    ['a promise', async () => 'x'],
    [
      'nothing but an error',
      () => {
        throw new Error('no');
      },
    ],
  ])('tells the caller when `correlate.write` gives %s', async (_what, write) => {
    const world = setUpClient('multiplexed', { correlate: { ...IDS, write: write as never } });
    const asked = ask(world, 'a');
    await world.now();
    expect(told(asked)).toEqual(['ERR_FRAME']);
    expect(world.backend.asked.flat()).toEqual([]);
    expect(world.pool.stats()).toMatchObject({ idle: 1 });
  });

  it.each([
    ['a promise', (async () => 1) as never, 'ERR_FRAME'],
    ['an unknown id', () => 99, 'ERR_UNSOLICITED'],
    ['none', () => undefined, 'ERR_UNSOLICITED'],
  ])('ends the socket when `correlate.read` gives %s', async (_what, read, code) => {
    const world = setUpClient('multiplexed', { correlate: { ...IDS, read } });
    const asked = ask(world, 'a');
    await world.now();
    expect(told(asked)).toEqual([code]);
    expect(world.pool.stats()).toMatchObject({ idle: 0, leased: 0 });
  });
});

import type { Duplex } from 'node:stream';
import { expect, it } from 'vitest';
import type { Surroundings } from '../../../src/create-pool.ts';
import { FakeNet } from '../../support/fake-net.ts';
import { setUp, take, watch } from '../../support/pool-world.ts';

/** A network whose sockets take their time to close once they have been destroyed. */
class SlowNet extends FakeNet {
  readonly #closing: (() => void)[] = [];

  override get surroundings(): Surroundings {
    const around = super.surroundings;
    return {
      ...around,
      dial: (options, clock, signal, adopt) =>
        around.dial(options, clock, signal, (socket) => {
          (socket as Duplex)._destroy = (error, done) => {
            this.#closing.push(() => done(error));
          };
          return adopt(socket);
        }),
    };
  }

  /** Lets every destroyed socket close. */
  closeAll(): void {
    for (const close of this.#closing.splice(0)) close();
  }
}

it('a borrower whose socket ends in its check gets another one that rests, before the first has closed', async () => {
  const net = new SlowNet();
  const world = setUp({ max: 2 }, net);
  for (const lease of await take(world, 2)) lease.release();
  await world.pass(2_000);
  const asked = watch(world.pool.acquire());
  // The one that was used last is checked first.
  net.lastPeer.write('stray\n');
  await world.now();
  expect(world.pool.stats()).toMatchObject({ closing: 1, waiting: 0, leased: 1 });
  expect(asked.value?.connectionId).toBe(1);
  net.closeAll();
  await world.now();
  expect(world.pool.stats()).toMatchObject({ closing: 0, total: 1 });
  asked.value?.destroy();
  net.closeAll();
  await world.now();
});

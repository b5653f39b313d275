/**
 * Every way in which everything that a pool waits for can end, with a caller who gives up at every point: 1,024 pools,
 * and five callers in each. Afterwards each pool must be sane, serve whoever comes next, and leave nothing behind.
 *
 * The pattern is deadpool's tests/managed_cancellation.rs.
 */

import { describe, expect, it } from 'vitest';
import { viewOf } from '../support/roster-view.ts';
import { type Gate, WAYS, type Way } from './model/ways.ts';
import { type Drawn, World } from './model/world.ts';

/** When the caller gives up: while that gate is waited for, or with the lease in hand. */
const POINTS = ['dial', 'handshake', 'onAcquire', 'ping', 'granted'] as const;
type Point = (typeof POINTS)[number];

const FIVE_GATES = ['dial', 'handshake', 'onAcquire', 'onRelease', 'ping'] as const satisfies readonly Gate[];

const DRAWN: Drawn = {
  min: 0,
  minIdle: 0,
  maxIdle: 2,
  max: 2,
  maxConnecting: 2,
  maxWaiting: Number.POSITIVE_INFINITY,
  maxUses: Number.POSITIVE_INFINITY,
  shedAfterMs: Number.POSITIVE_INFINITY,
  leakAfterMs: Number.POSITIVE_INFINITY,
  detectDeadlocks: false,
  isShortLived: false,
  gates: FIVE_GATES,
  isHeard: false,
  isCalmedDown: true,
  seed: 7,
};

// Longer than the heartbeat's interval: who borrows now must see a pong first.
const RESTED_MS = 250;
// Longer than a caller takes to come as far as they can: four gates, each slow.
const COME_MS = 300;
// Longer than anything takes that ends by itself: two pings, a hook, a dial with its handshake and its back-off.
const OVER_MS = 800;

/** Brings the pool to a state in which a caller comes by that point. */
async function prepare(world: World, point: Point): Promise<void> {
  const { clock, openPeers } = world.net;
  world.heal();
  if (point !== 'ping') {
    // Nothing rests: the caller needs a dial.
    for (const peer of openPeers) peer.reset();
    await clock.advance(0);
    return;
  }
  world.acquire({ timeoutMs: 500 });
  await clock.advance(0);
  for (const lease of world.leases.splice(0)) lease.release();
  await clock.advance(0);
  // Before the heartbeat's own ping.
  clock.freeze(RESTED_MS);
}

/** One caller, who gives up at `point`. Returns whether they came that far. */
async function giveUp(world: World, point: Point, ways: Readonly<Record<Gate, Way>>): Promise<boolean> {
  const { net } = world;
  await prepare(world, point);
  Object.assign(world.ways, ways);
  world.applyDial();
  const aborter = new AbortController();
  let hasGivenUp = false;
  const abort = (): void => {
    if (hasGivenUp) return;
    hasGivenUp = true;
    aborter.abort();
  };
  world.onGate = (gate) => {
    if (gate === point) abort();
  };
  world.onLease = () => {
    if (point === 'granted') abort();
  };
  world.acquire({ signal: aborter.signal });
  if (point === 'dial') {
    // A dial that takes no time is over before anybody can look.
    if (ways.dial === 'slow' || ways.dial === 'never') await net.clock.advance(1);
    expect(net.dialing + viewOf(world.both.roster).counts.dialing).toBeGreaterThan(0);
    abort();
  }
  await net.clock.advance(COME_MS);
  const hasCome = hasGivenUp;
  // Whoever could not come so far gives up now.
  abort();
  await net.clock.advance(0);
  world.onGate = () => undefined;
  world.onLease = () => undefined;
  expect(world.pendingCalls, `a caller has given up at ${point}, and still waits`).toBe(0);
  for (const lease of world.leases.splice(0)) lease.release();
  await net.clock.advance(OVER_MS);
  expect(viewOf(world.both.roster).counts).toMatchObject({ leased: 0, waiting: 0 });
  return hasCome;
}

const tally = new Map<string, number>();

describe('a caller who gives up at any point leaves a sane pool behind', () => {
  for (const dial of WAYS) {
    for (const handshake of WAYS) {
      it(`with a dial that is ${dial}, and a handshake that is ${handshake}`, async () => {
        for (const onAcquire of WAYS) {
          for (const onRelease of WAYS) {
            for (const ping of WAYS) {
              const world = new World(DRAWN, tally);
              const ways = { dial, handshake, onAcquire, onRelease, onClose: 'ok', ping } as const;
              for (const point of POINTS) {
                if (await giveUp(world, point, ways)) world.saw(`gave up: ${point}`);
              }
              await world.calmDown();
              await world.end();
              world.saw('pools');
            }
          }
        }
      });
    }
  }

  it('and they came as far as every point', () => {
    expect(tally.get('pools')).toBe(1_024);
    const came = Object.fromEntries(POINTS.map((point) => [point, tally.get(`gave up: ${point}`)]));
    // A dial must succeed for a handshake to begin, and so on; what rests was opened while all was well.
    expect(came).toEqual({ dial: 1_024, handshake: 512, onAcquire: 256, ping: 1_024, granted: 128 });
  });
});

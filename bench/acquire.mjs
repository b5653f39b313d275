/**
 * Warm acquire and release: what a caller pays when a socket rests in the pool.
 *
 * pulsepool lends real sockets on loopback, with its defaults: leases, deadlines, checks of what has rested, and
 * counters. The others lend plain objects, which costs them nothing. The floor is no pool at all: its acquire returns
 * a promise of a new object, ready made, so that it shows what any acquire that is awaited costs.
 *
 * Each loop is written out. A shared one would add a call and a promise to every contestant, and so hide a part of
 * the difference. generic-pool's release is not awaited, as most callers do: its promise tells of misuse only.
 */
import genericPool from 'generic-pool';
import * as lightning from 'lightning-pool';
import { createPool, lengthPrefixed } from 'pulsepool';
import { Pool as Tarn } from 'tarn';
import { median, race, ratioOf, row, startEchoServer } from './measure.mjs';

const MAX = 10;
const CALLERS = 100;
const MANY = 10_000;

const create = async () => ({});
const destroy = async () => undefined;

const floor = {
  acquire: () => Promise.resolve({ isHeld: true }),
  release: () => undefined,
};

function openPeers() {
  return {
    stock: genericPool.createPool({ create, destroy }, { max: MAX }),
    checked: genericPool.createPool(
      { create, destroy, validate: async () => true },
      { max: MAX, testOnBorrow: true, acquireTimeoutMillis: 30_000 },
    ),
    tarn: new Tarn({ create, destroy, min: 0, max: MAX }),
    light: new lightning.Pool({ create, destroy }, { max: MAX }),
  };
}

/**
 * @param {number} port
 * @param {number} size
 */
async function openPool(port, size) {
  const pool = createPool({ host: '127.0.0.1', port, codec: lengthPrefixed(), min: size, max: size });
  await pool.ready();
  return pool;
}

/**
 * One caller, who makes `calls` calls.
 *
 * @param {{ acquire(): Promise<{ release(): void }> }} pool
 * @param {number} calls
 */
async function lendAlone(pool, calls) {
  for (let call = 0; call < calls; call++) {
    const lease = await pool.acquire();
    lease.release();
  }
  return calls;
}

/** @param {number} port */
async function oneCaller(port) {
  const { checked, light, stock, tarn } = openPeers();
  const pool = await openPool(port, MAX);
  const calls = 20_000;
  const times = await race(
    {
      pulsepool: () => lendAlone(pool, calls),
      stock: async () => {
        for (let call = 0; call < calls; call++) {
          const resource = await stock.acquire();
          void stock.release(resource);
        }
        return calls;
      },
      checked: async () => {
        for (let call = 0; call < calls; call++) {
          const resource = await checked.acquire();
          void checked.release(resource);
        }
        return calls;
      },
      tarn: async () => {
        for (let call = 0; call < calls; call++) {
          const resource = await tarn.acquire().promise;
          tarn.release(resource);
        }
        return calls;
      },
      light: async () => {
        for (let call = 0; call < calls; call++) {
          const resource = await light.acquire();
          light.release(resource);
        }
        return calls;
      },
      floor: async () => {
        for (let call = 0; call < calls; call++) {
          await floor.acquire();
          floor.release();
        }
        return calls;
      },
    },
    41,
  );
  await pool.close();
  const ns = figures(times);
  /** Round by round, less the floor. @param {readonly number[]} of */
  const above = (of) => of.map((value, round) => value - (times.floor[round] ?? Number.NaN));
  return [
    row(
      'acquire + release, against stock generic-pool',
      ratioOf(times.stock, times.pulsepool),
      { atLeast: 5 },
      `${ns('pulsepool')} against ${ns('stock')}; the floor, an await and no pool, ${ns('floor')}`,
    ),
    row('the same, against tarn', ratioOf(times.tarn, times.pulsepool), { atLeast: 5 }, ns('tarn')),
    row(
      'the same, against lightning-pool',
      ratioOf(times.light, times.pulsepool),
      { atLeast: 5 },
      ns('light'),
    ),
    row(
      'the same, against generic-pool with testOnBorrow and acquireTimeoutMillis',
      ratioOf(times.checked, times.pulsepool),
      {},
      ns('checked'),
    ),
    row(
      'what the pool adds to the floor, against what lightning-pool adds',
      ratioOf(above(times.light), above(times.pulsepool)),
      {},
      `${median(above(times.pulsepool)).toFixed(0)} against ${median(above(times.light)).toFixed(0)} ns; generic-pool ${median(above(times.stock)).toFixed(0)} ns`,
    ),
  ];
}

/**
 * As many callers at once, each with its share of the calls.
 *
 * @param {number} calls
 * @param {(calls: number) => Promise<void>} caller
 */
async function crowd(calls, caller) {
  await Promise.all(Array.from({ length: CALLERS }, () => caller(calls / CALLERS)));
  return calls;
}

/** @param {number} port */
async function manyCallers(port) {
  const { checked, light, stock, tarn } = openPeers();
  const pool = await openPool(port, MAX);
  const calls = 10_000;
  const times = await race(
    {
      pulsepool: () =>
        crowd(calls, async (share) => {
          for (let call = 0; call < share; call++) {
            const lease = await pool.acquire();
            await undefined;
            lease.release();
          }
        }),
      stock: () =>
        crowd(calls, async (share) => {
          for (let call = 0; call < share; call++) {
            const resource = await stock.acquire();
            await undefined;
            void stock.release(resource);
          }
        }),
      checked: () =>
        crowd(calls, async (share) => {
          for (let call = 0; call < share; call++) {
            const resource = await checked.acquire();
            await undefined;
            void checked.release(resource);
          }
        }),
      tarn: () =>
        crowd(calls, async (share) => {
          for (let call = 0; call < share; call++) {
            const resource = await tarn.acquire().promise;
            await undefined;
            tarn.release(resource);
          }
        }),
      light: () =>
        crowd(calls, async (share) => {
          for (let call = 0; call < share; call++) {
            const resource = await light.acquire();
            await undefined;
            light.release(resource);
          }
        }),
    },
    31,
  );
  await pool.close();
  const ns = figures(times);
  const best = times.stock.map((stockNs, round) =>
    Math.min(stockNs, ...[times.tarn, times.light].map((peer) => peer[round] ?? Number.NaN)),
  );
  return [
    row(
      `${CALLERS} callers on ${MAX}, against the best of the others in each round`,
      ratioOf(best, times.pulsepool),
      { atLeast: 1.2 },
      `${ns('pulsepool')}; generic-pool ${ns('stock')}, with testOnBorrow ${ns('checked')}, tarn ${ns('tarn')}, lightning-pool ${ns('light')}`,
    ),
  ];
}

/** @param {number} port */
async function idleCrowd(port) {
  const few = await openPool(port, 10);
  const many = await openPool(port, MANY);
  const calls = 20_000;
  const times = await race({ few: () => lendAlone(few, calls), many: () => lendAlone(many, calls) }, 41);
  await Promise.all([few.close(), many.close()]);
  const ns = figures(times);
  return [
    row(
      `acquire + release with ${MANY.toLocaleString('en')} idle sockets, against 10`,
      ratioOf(times.many, times.few),
      { atMost: 1.15 },
      `${ns('many')} against ${ns('few')}`,
    ),
  ];
}

/**
 * @template {string} Name
 * @param {Record<Name, number[]>} times
 * @returns {(name: Name) => string}
 */
function figures(times) {
  return (name) => `${median(times[name]).toFixed(0)} ns (least ${Math.min(...times[name]).toFixed(0)})`;
}

export async function acquire() {
  const server = await startEchoServer();
  try {
    return [
      ...(await oneCaller(server.port)),
      ...(await manyCallers(server.port)),
      ...(await idleCrowd(server.port)),
    ];
  } finally {
    server.stop();
  }
}

/**
 * Requests over 10 sockets with 50 callers, against a server in another process: pulsepool, the plainest loop over
 * net.Socket, and generic-pool with net as a careful engineer writes it. All speak the same frames.
 */
import { createPool, lengthPrefixed } from 'pulsepool';
import { openGeneric, openLoop } from './by-hand.mjs';
import { median, ratioOf, row, startEchoServer } from './measure.mjs';

const SOCKETS = 10;
const CALLERS = 50;
const ROUNDS = 21;
const WARM_UPS = 4;
const REQUESTS = 4_000;
const MESSAGE = Buffer.alloc(32, 'pulsepool');

/** @typedef {(message: Buffer) => Promise<Buffer>} Request */

/**
 * One round: all callers, until their requests are done. What was sent must come back.
 *
 * @param {Request} request
 */
async function drive(request) {
  let left = REQUESTS;
  const caller = async () => {
    while (left > 0) {
      left -= 1;
      const reply = await request(MESSAGE);
      if (reply.length !== MESSAGE.length) throw new Error('bug: the wrong reply');
    }
  };
  const cpu = process.cpuUsage();
  const begun = process.hrtime.bigint();
  await Promise.all(Array.from({ length: CALLERS }, caller));
  const wallUs = Number(process.hrtime.bigint() - begun) / 1_000;
  const { system, user } = process.cpuUsage(cpu);
  return { wallUs: wallUs / REQUESTS, cpuUs: (user + system) / REQUESTS };
}

/**
 * @template {string} Name
 * @param {Record<Name, Request>} contestants
 */
async function compare(contestants) {
  const names = /** @type {Name[]} */ (Object.keys(contestants));
  /** @type {Map<Name, { wallUs: number, cpuUs: number }[]>} */
  const rounds = new Map(names.map((name) => [name, []]));
  for (let round = -WARM_UPS; round < ROUNDS; round++) {
    for (const name of names) {
      const result = await drive(contestants[name]);
      if (round >= 0) rounds.get(name)?.push(result);
    }
    names.push(...names.splice(0, 1));
  }
  /** @param {Name} name @param {'wallUs' | 'cpuUs'} what */
  const values = (name, what) => rounds.get(name)?.map((round) => round[what]) ?? [];
  return {
    /** How many times as fast the first is as the second. @param {Name} name @param {Name} peer */
    speed: (name, peer) => ratioOf(values(peer, 'wallUs'), values(name, 'wallUs')),
    /** @param {Name} name @param {Name} peer */
    detail: (name, peer) => {
      const cpu = ratioOf(values(name, 'cpuUs'), values(peer, 'cpuUs'));
      const rates = [name, peer].map((one) => {
        const wall = values(one, 'wallUs');
        return `${thousands(median(wall))} (best ${thousands(Math.min(...wall))})`;
      });
      return `${rates.join(' against ')} requests/s; CPU of this process ${cpu.toFixed(2)}x`;
    },
  };
}

/** @param {number} us */
function thousands(us) {
  return `${(1_000 / us).toFixed(1)}k`;
}

export async function request() {
  const server = await startEchoServer();
  const { port } = server;
  const pool = createPool({ host: '127.0.0.1', port, codec: lengthPrefixed(), min: SOCKETS, max: SOCKETS });
  const loop = await openLoop(port, SOCKETS);
  const careful = openGeneric(port, SOCKETS, { testOnBorrow: true });
  const trusting = openGeneric(port, SOCKETS, { testOnBorrow: false });
  await Promise.all([pool.ready(), careful.ready(), trusting.ready()]);
  const { detail, speed } = await compare({
    pool: (message) => pool.request(message),
    lease: async (message) => {
      const lease = await pool.acquire();
      try {
        return await lease.request(message);
      } finally {
        lease.release();
      }
    },
    loop: loop.request,
    careful: careful.request,
    trusting: trusting.request,
  });
  loop.close();
  await Promise.all([pool.close(), careful.close(), trusting.close()]);
  server.stop();
  return [
    row(
      'pool.request, against a hand-written loop on net.Socket',
      speed('pool', 'loop'),
      { atLeast: 0.85 },
      detail('pool', 'loop'),
    ),
    row(
      'acquire, lease.request and release, against the loop',
      speed('lease', 'loop'),
      { atLeast: 0.85 },
      detail('lease', 'loop'),
    ),
    row(
      'pool.request, against generic-pool + net by hand',
      speed('pool', 'careful'),
      { atLeast: 1.1 },
      detail('pool', 'careful'),
    ),
    row(
      'the same, without testOnBorrow: dead sockets are lent',
      speed('pool', 'trusting'),
      {},
      detail('pool', 'trusting'),
    ),
  ];
}

// A primary and a standby: tier 1 serves while tier 0 can't. The primary is killed and comes back, nobody fails, and it
// gets its load back by and by.
//
//     node examples/19-primary-and-standby.mjs         always with two servers of its own; takes about ten seconds
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient, lines } from 'pulsepool';
import { eachLine, startServer } from './own-server.mjs';

/** @param {string} name */
const answerAs = (name) => (/** @type {import('node:net').Socket} */ socket) =>
  eachLine(socket, (line) => setTimeout(() => socket.write(`${name} did ${line}\n`), 5));

const primary = await startServer(answerAs('primary'));
const standby = await startServer(answerAs('standby'));

// With names that resolve, `address` is left out. Here it is given, so that no DNS is needed.
const client = createClient({
  endpoints: [
    { host: 'primary', port: primary.port, address: primary.host },
    { host: 'standby', port: standby.port, address: standby.host, tier: 1 },
  ],
  codec: lines(),
  max: 8,
});
const { pool } = client;
pool.on('ejected', ({ endpoint, reason, kind, forMs }) => {
  console.log(`ejected: ${nameOf(endpoint)} for ${reason} (${kind}), for ${seconds(forMs)}`);
});
pool.on('restored', ({ endpoint }) => console.log(`restored: ${nameOf(endpoint)}`));

// Six callers ask all the time. What they ask for may be done twice, so that nobody fails when a server dies in the middle:
// one that failed would end this example.
/** @type {string[]} */
let replies = [];
let isOver = false;
const callers = Array.from({ length: 6 }, async (_, index) => {
  while (!isOver) {
    replies.push(await client.request(`job of caller ${index}`, { idempotent: true, timeoutMs: 5_000 }));
  }
});

// 1. The standby stands by: no callers, and no sockets.
await look(300, 'all is well');
assert.equal(repliesBy('standby'), 0);

// 2. The primary dies. Those who were in the middle are repeated at the standby. After five failures in a row the primary
//    is ejected, for 5 s the first time (± 20 %).
primary.kill();
await event('ejected');
await look(300, 'the primary is dead');
assert.equal(repliesBy('primary'), 0);

// 3. It is back. When its time is over, one caller tries it: if that goes well it is restored, and warms up for 30 s. It
//    begins with a tenth of the load, so that it is not met by all who waited for it.
const revived = await startServer(answerAs('primary'), primary.port);
await event('restored');
await look(300, 'the primary is back');
const atFirst = shareOf('primary');
await look(2_500, 'a little later');
assert.ok(atFirst < 0.2 && shareOf('primary') > atFirst && shareOf('standby') > 0);

isOver = true;
await Promise.all(callers);
const { failed, retried, succeeded } = client.stats();
console.log(
  `${succeeded} requests, ${retried.again + retried.fresh + retried.later} repeated, ${failed} failed`,
);
assert.equal(failed, 0);

await client.close();
revived.close();
standby.close();

/**
 * Watches for so long, and prints who did the work, and how the endpoints are.
 *
 * @param {number} ms
 * @param {string} title
 */
async function look(ms, title) {
  await sleep(20); // what was asked before is answered
  replies = [];
  await sleep(ms);
  console.log(
    `${title}: ${repliesBy('primary')} done by the primary, ${repliesBy('standby')} by the standby`,
  );
  console.table(
    pool.endpoints().map(({ endpoint, state, tier, share, open, ejections }) => ({
      endpoint: nameOf(endpoint),
      state,
      tier,
      share: `${Math.round(share * 100)} %`,
      open,
      ejections,
    })),
  );
}

/** @param {'ejected' | 'restored'} name */
function event(name) {
  return new Promise((resolve) => {
    pool.once(name, resolve);
  });
}

/** @param {string} name */
function repliesBy(name) {
  return replies.filter((reply) => reply.startsWith(name)).length;
}

/** @param {string} name */
function shareOf(name) {
  return pool.endpoints().find(({ endpoint }) => nameOf(endpoint) === name)?.share ?? 0;
}

/** `primary` of `primary/127.0.0.1:7000`. @param {string} endpoint */
function nameOf(endpoint) {
  return endpoint.split('/')[0] ?? endpoint;
}

/** @param {number} ms */
function seconds(ms) {
  return `${Math.round(ms / 1_000)} s`;
}

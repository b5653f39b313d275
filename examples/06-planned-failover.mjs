// A planned failover: server A hands over to server B. The callers wait a moment, nobody fails, and every reply
// that comes afterwards is B's.
//
//     node examples/06-planned-failover.mjs         always with two servers of its own, one after the other on one port
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createPool, lines } from 'pulsepool';
import { eachLine, startServer } from './own-server.mjs';

const DEADLINE_MS = 5_000;

/** @param {string} name */
const answerAs = (name) => (/** @type {import('node:net').Socket} */ socket) =>
  eachLine(socket, (line) => setTimeout(() => socket.write(`${name} did ${line}\n`), 5));

const serverA = await startServer(answerAs('A'));
const { host, port } = serverA;
const pool = createPool({ host, port, codec: lines(), min: 2, max: 4 });

// Ten callers ask all the time, and know nothing of a failover. One that failed would end this example.
/** @type {{ by: string, waitedMs: number }[]} */
const replies = [];
let isOver = false;
const callers = Array.from({ length: 10 }, async (_, index) => {
  while (!isOver) {
    const askedAt = performance.now();
    const reply = await pool.request(`job of caller ${index}`, { timeoutMs: DEADLINE_MS });
    replies.push({ by: reply.slice(0, 1), waitedMs: performance.now() - askedAt });
  }
});
await sleep(200);
console.log(`before: ${repliesBy('A')} replies from A`);

// 1. Nothing new is lent or dialed; leases that are out come back when their work is done.
await pool.suspend();
await sleep(0); // whoever got the last reply writes it down
console.log(`suspended: ${pool.stats().leased} leases are out, ${pool.stats().waiting} callers wait`);

// 2. The failover itself. A listens no more, and yet it would answer whoever still has a line to it: to a primary
//    that was demoted, that is the reply of yesterday.
serverA.close();
const before = replies.length;
await sleep(300);
const serverB = await startServer(answerAs('B'), port);
assert.equal(replies.length, before, 'somebody was served while the pool was suspended');

// 3. Whatever is connected to A goes. Suspended, the pool need not keep any of it until a successor is open.
await pool.reset();
console.log(`reset: ${pool.stats().closedBy.reset} sockets to A are closed, ${pool.stats().total} are left`);

// 4. Those who waited are served first.
pool.resume();
await sleep(200);
isOver = true;
await Promise.all(callers);

const after = replies.slice(before);
const longestMs = Math.round(Math.max(...after.map((reply) => reply.waitedMs)));
console.log(`resumed: ${repliesBy('B')} replies from B; the longest wait was ${longestMs} ms`);
assert.ok(after.length >= callers.length, 'not everybody was served after the failover');
assert.ok(
  after.every(({ by }) => by === 'B'),
  'a reply of A came after the failover',
);
assert.ok(longestMs >= 300, 'nobody waited');
assert.equal(repliesBy('A'), before);
console.log('nobody failed, and no reply of A came after the failover');

await pool.close();
serverB.close();

/** @param {string} name */
function repliesBy(name) {
  return replies.filter(({ by }) => by === name).length;
}

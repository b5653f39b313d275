// Names that outlive their servers: the primary name server dies, a backup answers; that one dies too, and the last
// answer goes on serving; and a process that starts then has addresses to fall back on.
//
//     node examples/18-dns-failover.mjs         always with servers of its own: two for names, two for requests
//
// It takes 127.0.0.2 and 127.0.0.3, which Linux has. On macOS: sudo ifconfig lo0 alias 127.0.0.2, and the same for .3
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createPool, lines } from 'pulsepool';
import { startDns } from './own-dns.mjs';
import { eachLine, startServer } from './own-server.mjs';

/** @import { PoolEvents } from 'pulsepool' */

/** @param {string} name */
const answerAs = (name) => (/** @type {import('node:net').Socket} */ socket) =>
  eachLine(socket, (line) => socket.write(`${name} says ${line}\n`));

const serverA = await startServer(answerAs('A'), 0, '127.0.0.2');
const { port } = serverA;
const serverB = await startServer(answerAs('B'), port, '127.0.0.3');
const primary = await startDns({ 'orders.internal': ['127.0.0.2'] });
const backup = await startDns({ 'orders.internal': ['127.0.0.2'] });

// Resolvers are asked in this order, each for timeoutMs at most; mostly the first one is 'system'. The default of refreshMs,
// 30 s, suits all but an example in a hurry.
const resolvers = [primary.address, backup.address];
const pool = createPool({
  host: 'orders.internal',
  port,
  codec: lines(),
  dns: { resolvers, timeoutMs: 500, refreshMs: 300 },
});

// 1. All is well: the backup has nothing to do.
console.log(`all is well: ${await pool.request('hello')}; the backup was asked ${backup.asked()} times`);

// 2. The primary dies, and then the service moves. A name in use is asked for again and again, so the pool hears of it
//    from the backup: new sockets lead to the new address, and once one is open the old ones end.
const moved = next('addressesChanged');
const closed = next('closed');
primary.close();
backup.records['orders.internal'] = ['127.0.0.3'];
const { added, removed } = await moved;
console.log(`primary dead: the backup says ${added.join()} instead of ${removed.join()}`);
console.log(`  the socket to the old address was closed: ${(await closed).reason}`);
console.log(`  ${await pool.request('hello')}`);

// 3. The backup dies as well. A failure takes nothing away: the last good answer is used, for new sockets too, until it
//    is maxStaleMs old (15 min). resolveFailed tells each time, and what stats() says is worth an alert.
const failed = next('resolveFailed');
backup.close();
const { error, name, staleMs } = await failed;
assert(staleMs !== undefined);
console.log(`backup dead: ${error.code} for ${name}; an answer of ${Math.round(staleMs)} ms ago is used on`);
while (pool.stats().dns.oldestStaleMs === 0) await sleep(100); // no answer is stale before its TTL is over
await pool.reset(); // all sockets anew
console.log(`  ${await pool.request('hello')}`);
const { failures, oldestStaleMs, staleServed } = pool.stats().dns;
console.log(
  `  the answer in use is ${(oldestStaleMs / 1_000).toFixed(1)} s old; look-ups in vain: ${failures}`,
);
assert(staleServed > 0);
await pool.close();

// 4. A process that starts now has no last answer. Without fallbackAddresses it can only say so.
{
  const dns = { resolvers, timeoutMs: 500 };
  const unaware = createPool({ host: 'orders.internal', port, codec: lines(), dns, retry: { retries: 0 } });
  await assert.rejects(unaware.request('hello'), { code: 'ERR_ACQUIRE_FAILED' });
  await unaware.close();

  const options = { host: 'orders.internal', port, codec: lines() };
  const prepared = createPool({ ...options, dns: { ...dns, fallbackAddresses: ['127.0.0.2', '127.0.0.3'] } });
  serverA.close(); // one that does not answer is skipped
  console.log(`a new process, by its fallback addresses: ${await prepared.request('hello')}`);
  await prepared.close();
}

serverB.close();

/**
 * The next event of that name.
 *
 * @template {keyof PoolEvents} Name
 * @param {Name} event
 * @returns {Promise<Parameters<PoolEvents[Name]>[0]>}
 */
function next(event) {
  return new Promise((resolve) => {
    pool.once(event, resolve);
  });
}

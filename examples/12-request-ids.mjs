// Request ids: what the pool tells about a lease is told in the async context of the caller who asked for it. So a
// logger that knows the request's id finds it in the pool's events, too, whoever had opened the socket.
//
//     node examples/12-request-ids.mjs                          against a server of its own
//     HOST=10.0.0.7 PORT=7000 node examples/12-request-ids.mjs  against your line echo server
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { createPool, lines } from 'pulsepool';
import { eachLine, ownServer } from './own-server.mjs';

const { host, port, close } = await ownServer((socket) => {
  eachLine(socket, (line) => socket.write(`Echo: ${line}\n`));
});

// Every service has these two: something that carries the id of the request, and a logger that prints it.
/** @type {AsyncLocalStorage<string>} */
const requestId = new AsyncLocalStorage();
/** @type {{ id: string | undefined, text: string }[]} */
const logged = [];
/** @param {string} text */
function log(text) {
  const id = requestId.getStore();
  logged.push({ id, text });
  console.log(`[${id ?? 'no request'}] ${text}`);
}

const pool = createPool({ host, port, codec: lines(), max: 1 });
pool.on('opened', ({ connectionId }) => log(`socket ${connectionId} opened`));
pool.on('acquired', ({ connectionId }) => log(`got socket ${connectionId}`));
pool.on('released', ({ connectionId }) => log(`gave socket ${connectionId} back`));
pool.on('acquireFailed', ({ error }) => log(`got no socket: ${error.code}`));
pool.on('closed', ({ connectionId, reason }) => log(`socket ${connectionId} closed: ${reason}`));

// Three requests share one socket, one after the other. That of the first one was opened for it, and the others were
// served in the moment in which the one before them ended: none of that is seen in the log.
await Promise.all(
  ['order-1', 'order-2', 'order-3'].map((id) =>
    requestId.run(id, async () => {
      assert.equal(await pool.request(`do ${id}`), `Echo: do ${id}`);
    }),
  ),
);
for (const id of ['order-1', 'order-2', 'order-3']) {
  assert.deepEqual(textsOf(id), ['got socket 1', 'gave socket 1 back']);
}

// One holds the socket, and another one waits in vain.
await requestId.run('order-4', async () => {
  const lease = await pool.acquire();
  await requestId.run('order-5', () => pool.acquire({ timeoutMs: 50 }).catch(() => undefined));
  lease.release();
});
assert.deepEqual(textsOf('order-5'), ['got no socket: ERR_ACQUIRE_TIMEOUT']);

// One gives the socket back with a question on its way: the answer must reach nobody, so the socket is closed, and
// the log says whose doing that was.
await requestId.run('order-6', async () => {
  const lease = await pool.acquire();
  await lease.send('never mind');
  lease.release();
});

await pool.close();
close();

assert.deepEqual(textsOf('order-6'), ['got socket 1', 'socket 1 closed: dirty']);

// What concerns no caller has no id.
assert.deepEqual(textsOf(undefined), ['socket 1 opened']);

/** @param {string | undefined} id */
function textsOf(id) {
  return logged.filter((line) => line.id === id).map((line) => line.text);
}

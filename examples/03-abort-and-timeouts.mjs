// Giving up: by a signal, by a deadline, and while waiting in line. A late reply never reaches anybody.
//
//     node examples/03-abort-and-timeouts.mjs
//
// With HOST and PORT: a line server that answers `Echo: <line>`, and takes half a second when a line says `slow`.
import { createPool, lines } from 'pulsepool';
import { eachLine, ownServer } from './own-server.mjs';

const { host, port, close } = await ownServer((socket) => {
  eachLine(socket, (line) =>
    setTimeout(() => socket.write(`Echo: ${line}\n`), line.includes('slow') ? 500 : 0),
  );
});

// One socket only, so that callers are in each other's way.
const pool = createPool({ host, port, codec: lines(), max: 1 });

// 1. A signal. What comes out is the signal's own reason, as with fetch().
const controller = new AbortController();
setTimeout(() => controller.abort(new Error('the user left')), 50);
await pool
  .request('slow, and aborted', { signal: controller.signal })
  .catch((error) => console.log(`aborted: ${error.message}`));

// The reply is still on its way to the socket that was in use. So that socket was destroyed, and the next caller
// got another one: its reply is its own.
console.log(`the next caller: ${await pool.request('mine')}`);

// 2. A deadline over everything: waiting, dialing, sending, receiving, and trying again.
await pool
  .request('slow, with a deadline', { timeoutMs: 100 })
  .catch((error) => console.log(`deadline: ${error.code} after ${error.attempts} attempt`));

// 3. Waiting in line. The error tells how the pool stood at that moment: here, who holds all the sockets.
const lease = await pool.acquire();
await pool
  .acquire({ timeoutMs: 100 })
  .catch((error) => console.log(`in line: ${error.code}, ${error.counts.leased} leased of 1`));
lease.release();

console.log(`at the end: ${await pool.request('all is well')}`);

await pool.close();
close();

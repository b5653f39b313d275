// A client in pipelined mode: many callers, one socket, replies in the order of the requests. A caller who gives up does
// not hurt the others, and its late reply reaches nobody.
//
//     node examples/16-pipelined.mjs                           against a server of its own
//     HOST=10.0.0.7 PORT=7000 node examples/16-pipelined.mjs   against your line echo server
import assert from 'node:assert/strict';
import { createClient, lines } from 'pulsepool';
import { eachLine, ownServer } from './own-server.mjs';

let packets = 0;
const { host, port, close } = await ownServer((socket) => {
  socket.on('data', () => {
    packets += 1;
  });
  eachLine(socket, (line) => socket.write(`Echo: ${line}\n`));
});

const client = createClient({ host, port, codec: lines(), mode: 'pipelined', max: 4 });
await client.request('first');

// 1. A hundred callers at once: one socket, and what they ask for in one turn leaves in one write.
packets = 0;
const replies = await Promise.all(
  Array.from({ length: 100 }, (_, index) => client.request(`caller ${index}`)),
);
assert(replies.every((reply, index) => reply === `Echo: caller ${index}`));
const { acquired, total } = client.pool.stats();
console.log(`100 callers: ${total} socket`);
// Elsewhere somebody else would have to count.
if (packets > 0) console.log(`arrived in one piece: ${packets === 1}`);
console.log(`leases taken from the pool: ${acquired}`);

// 2. One of three gives up. The socket goes on, the others get their own replies.
const controller = new AbortController();
const given = client.request('given up', { signal: controller.signal });
const neighbours = [client.request('before'), client.request('after')];
controller.abort(new Error('changed my mind'));
await assert.rejects(given, /changed my mind/);
console.log((await Promise.all(neighbours)).join(', '));
console.log(`still ${client.pool.stats().total} socket`);

await client.close();
close();

// Streaming: replies of many frames, large bodies, and a lease as a Node stream. Both directions go no faster than the
// slower side, so nothing piles up in memory, however large it is.
//
//     node examples/14-streaming.mjs                           always with a server of its own
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createClient, lines } from 'pulsepool';
import { eachLine, startServer } from './own-server.mjs';

// DUMP n is answered by n rows and END; STORE takes rows until END and says how many; whatever else is echoed.
const { host, port, close } = await startServer((socket) => {
  let stored = -1;
  eachLine(socket, (line) => {
    const [command, count] = line.split(' ');
    if (stored >= 0 && line !== 'END') stored += 1;
    else if (stored >= 0) {
      socket.write(`stored ${stored}\n`);
      stored = -1;
    } else if (command === 'STORE') stored = 0;
    else if (command === 'DUMP') {
      for (let row = 1; row <= Number(count); row++) socket.write(`row ${row}\n`);
      socket.write('END\n');
    } else socket.write(`Echo: ${line}\n`);
  });
});
const client = createClient({ host, port, codec: lines(), max: 4 });
/** @param {string} line */
const isEnd = (line) => line === 'END';

// One question, many frames. The loop's body may take its time: the server waits.
let rows = 0;
for await (const line of client.stream('DUMP 10000', { isLast: isEnd, timeoutMs: 10_000 })) {
  if (!isEnd(line)) rows += 1;
}
console.log(`read ${rows} rows`);
assert.equal(rows, 10_000);

// Many messages, one reply. The generator is asked for a message when there is room for it.
async function* upload() {
  yield 'STORE';
  for (let row = 1; row <= 10_000; row++) yield `row ${row}`;
  yield 'END';
}
for await (const line of client.stream(upload(), { isLast: () => true })) {
  console.log(line);
  assert.equal(line, 'stored 10000');
}

// Both exchanges were complete: they shared one socket, and left it clean.
console.log(`sockets so far: ${client.pool.stats().opened}`);
assert.deepEqual(client.pool.stats().closedBy, {});

// Who has seen enough just leaves. That costs the socket, since the rest of the rows is on its way.
for await (const line of client.stream('DUMP 10000', { isLast: isEnd })) {
  if (line === 'row 3') break;
}
console.log(`after a break: ${await client.request('hello')}`);
assert.deepEqual(client.pool.stats().closedBy, { destroyed: 1 });

// A lease as a Node stream, for code that knows streams: pipeline, transforms, anything.
const lease = await client.pool.acquire();
/** @type {string[]} */
const echoes = [];
lease.duplex().on('data', (line) => echoes.push(line));
await pipeline(Readable.from(['one', 'two', 'three']), lease.duplex());
while (echoes.length < 3) await new Promise((resolve) => lease.duplex().once('data', resolve));
console.log(echoes.join(', '));
// Each message has its reply: the lease goes back clean, and its stream is destroyed.
lease.release();

await client.close();
close();

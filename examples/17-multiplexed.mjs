// A client in multiplexed mode: many callers, one socket, replies in any order, each with the id of its request. This
// server answers the shortest job first.
//
//     node examples/17-multiplexed.mjs
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient, lengthPrefixed } from 'pulsepool';
import { startServer } from './own-server.mjs';

/** @typedef {{ id?: number, job: string, ms: number }} Job */

// Messages are JSON in frames of a length and a body. A codec of one's own on top of one of pulsepool's.
const frames = lengthPrefixed();
/** @type {import('pulsepool').Codec<Job, Job>} */
const codec = {
  name: 'json',
  encode: (job) => frames.encode(JSON.stringify(job)),
  decode: (bytes) => {
    const frame = frames.decode(bytes);
    return frame === undefined ? undefined : JSON.parse(frame.toString());
  },
};

const { host, port, close } = await startServer((socket) => {
  let rest = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
      const frame = rest.subarray(0, 4 + rest.readUInt32BE(0));
      rest = rest.subarray(frame.length);
      const { ms } = JSON.parse(frame.subarray(4).toString());
      // What came is sent back as it is: with the id.
      setTimeout(() => socket.write(frame), ms);
    }
  });
});

const client = createClient({
  host,
  port,
  codec,
  mode: 'multiplexed',
  correlate: {
    write: (job, id) => ({ ...job, id }),
    read: (reply) => reply.id,
  },
});

/** @type {string[]} */
const order = [];
/** @param {string} job @param {number} ms */
const run = async (job, ms) => {
  const reply = await client.request({ job, ms });
  assert.equal(reply.job, job);
  order.push(job);
};
await Promise.all([run('long', 60), run('short', 5), run('middle', 30)]);
console.log(`asked for long, short, middle; done: ${order.join(', ')}; ${client.pool.stats().total} socket`);

// One that is late is given up, and the socket goes on: its reply will be known by its id, and dropped.
await assert.rejects(client.request({ job: 'late', ms: 50 }, { timeoutMs: 10 }), { code: 'ERR_DEADLINE' });
await run('next', 1);
await sleep(60);
console.log(`after a late reply: ${client.pool.stats().total} socket, ${client.pool.stats().closed} closed`);

await client.close();
close();

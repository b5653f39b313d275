// Hello: one pool, one request, then more callers than sockets.
//
//     node examples/01-hello.mjs                              against a server of its own
//     HOST=10.0.0.7 PORT=7000 node examples/01-hello.mjs      against your line echo server
import { createPool, lines } from 'pulsepool';
import { eachLine, ownServer } from './own-server.mjs';

const { host, port, close } = await ownServer((socket) => {
  eachLine(socket, (line) => socket.write(`Echo: ${line}\n`));
});

// Nothing is dialed yet: the first caller brings the first socket.
const pool = createPool({ host, port, codec: lines(), max: 4 });

// All that most callers need: a socket is found or opened, the reply is awaited, and the socket goes back.
console.log(await pool.request('hello'));

// Ten callers at once share at most four sockets. Who finds none free waits in line; each gets its own reply.
const questions = Array.from({ length: 10 }, (_, index) => `question ${index}`);
const replies = await Promise.all(questions.map((question) => pool.request(question)));
const allMatch = replies.every((reply, index) => reply.endsWith(` ${questions[index]}`));
console.log(`${replies.length} callers, ${allMatch ? 'each with its own reply' : 'replies MIXED UP'}`);
console.log(`at most 4 sockets: ${pool.stats().opened <= 4}`);

// A lease is for several exchanges that need the same socket. It goes back however the block is left.
const lease = await pool.acquire();
try {
  console.log(await lease.request('first'));
  console.log(await lease.request('second, on the same socket'));
} finally {
  lease.release();
}

// Idle sockets would not hold the process; closing says goodbye to the server, too.
await pool.close();
close();

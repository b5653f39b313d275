// Sessions: sockets that the server knows something about. AUTH when one opens, SELECT before each caller, RESET
// after each, QUIT before it closes. When one of them fails, it costs its own socket and nobody else's.
//
//     node examples/11-sessions.mjs                           always with a server of its own
import assert from 'node:assert/strict';
import { createPool, lines } from 'pulsepool';
import { eachLine, startServer } from './own-server.mjs';

/** @typedef {import('pulsepool').Lease<string, string>} Lease */

/**
 * What each session was told, in order.
 *
 * @type {string[][]}
 */
const sessions = [];
const { host, port, close } = await startServer((socket) => {
  /** @type {string[]} */
  const heard = [];
  sessions.push(heard);
  let tenant = 'nobody';
  let isStuck = false;
  eachLine(socket, (line) => {
    heard.push(line);
    const [command, value = ''] = line.split(' ');
    if (command === 'SELECT') tenant = value;
    if (command === 'RESET') tenant = 'nobody';
    // A session that can't be cleaned up any more: a lock, a temporary table, an open transaction.
    if (command === 'BREAK') isStuck = true;
    if (command === 'RESET' && isStuck) socket.write('-ERR something is locked\n');
    else if (command === 'WHO') socket.write(`+${tenant}\n`);
    else if (command === 'QUIT') socket.end('+BYE\n');
    else socket.write('+OK\n');
  });
});

/**
 * To the pool an answer is an answer: whether it is an error says the protocol, and that is this function.
 *
 * @param {Lease} lease
 * @param {string} command
 * @param {AbortSignal} [signal]
 */
async function ask(lease, command, signal) {
  const reply = await lease.request(command, { signal });
  if (reply.startsWith('-')) throw new Error(`${command} was answered with ${reply}`);
  return reply.slice(1);
}

const pool = createPool({
  host,
  port,
  codec: lines(),
  max: 2,
  // Under connectTimeoutMs, together with the dial.
  onConnect: async (lease, { signal }) => void (await ask(lease, 'AUTH secret', signal)),
  // Under hookTimeoutMs each. The caller sees nothing of them, except that a socket which fails is not theirs.
  onAcquire: async (lease, { signal }) => void (await ask(lease, 'SELECT acme', signal)),
  onRelease: async (lease, { signal }) => void (await ask(lease, 'RESET', signal)),
  onClose: async (lease, { signal }) => void (await ask(lease, 'QUIT', signal)),
  hookTimeoutMs: 1_000,
});
pool.on('hookFailed', ({ connectionId, hook, error }) => {
  console.log(`${hook} failed on socket ${connectionId}: ${/** @type {Error} */ (error.cause).message}`);
});
pool.on('closed', ({ connectionId, reason }) => console.log(`socket ${connectionId} closed: ${reason}`));

// Two callers side by side, on a socket each.
const answers = await Promise.all([
  pool.use((lease) => ask(lease, 'WHO')),
  pool.use((lease) => ask(lease, 'WHO')),
]);
console.log(`who am I: ${answers.join(', ')}`);
assert.deepEqual(answers, ['acme', 'acme']);

// One leaves a session behind that RESET can't clean. The next caller would have inherited it.
const broken = await pool.use(async (lease) => {
  await ask(lease, 'BREAK');
  return lease.connectionId;
});

// Nobody else notices: everybody is served, and on a clean session.
const names = await Promise.all(Array.from({ length: 6 }, () => pool.use((lease) => ask(lease, 'WHO'))));
console.log(`six more callers: ${names.join(', ')}`);
assert.deepEqual(new Set(names), new Set(['acme']));
const { hookFailed, closed, closedBy } = pool.stats();
console.log(`hooks that failed: ${hookFailed}; sockets that it cost: ${closed}`);
assert.deepEqual({ hookFailed, closed, closedBy }, { hookFailed: 1, closed: 1, closedBy: { hook: 1 } });
assert.ok(pool.sockets().every((row) => row.connectionId !== broken));

// Healthy sockets say goodbye.
await pool.close();
close();

for (const heard of sessions) {
  assert.equal(heard[0], 'AUTH secret');
  // Whoever asked something had the tenant selected before.
  for (const [index, line] of heard.entries()) {
    if (line === 'WHO' || line === 'BREAK') assert.equal(heard[index - 1], 'SELECT acme');
  }
  assert.equal(heard.at(-1), heard.includes('BREAK') ? 'RESET' : 'QUIT');
}
const clean = sessions.find((heard) => !heard.includes('BREAK')) ?? [];
console.log(`the server heard: ${[...clean.slice(0, 4), '…', ...clean.slice(-2)].join(', ')}`);

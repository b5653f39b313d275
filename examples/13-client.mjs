// A client in exclusive mode: one deadline, repetitions where they are safe, a server that says "not now", a breaker, and
// a second try for the slow one in twenty.
//
//     node examples/13-client.mjs
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient, lines, PulsepoolError } from 'pulsepool';
import { eachLine, startServer } from './own-server.mjs';

let drops = 0;
let refusals = 0;
let slowOnes = 0;
const { host, port, close } = await startServer((socket) => {
  eachLine(socket, (line) => {
    if (line === 'drop' && drops++ % 2 === 0) socket.destroy();
    else if (line === 'not now' && refusals++ === 0) socket.write('BUSY 20\n');
    else if (line === 'slow' && slowOnes++ === 0) setTimeout(() => socket.write('Echo: late\n'), 500);
    else if (line !== 'mute') socket.write(`Echo: ${line}\n`);
  });
});

// 1. The server drops the connection in the middle. What may have been done is not done again, unless we say that it
//    may be.
{
  const client = createClient({ host, port, codec: lines() });
  client.on('retried', ({ error, how }) => console.log(`again (${how}): ${error?.code}`));
  await client.request('hello');
  await assert.rejects(client.request('drop'), { code: 'ERR_CONNECTION_LOST', sent: 'full' });
  drops = 0;
  await client.request('hello');
  console.log(await client.request('drop', { idempotent: true }));
  await client.close();
}

// 2. The server is busy, and says for how long. It did not do it, so it is sent again whatever we promised.
{
  const client = createClient({
    host,
    port,
    codec: lines(),
    retryAfter: (reply) => (reply.startsWith('BUSY ') ? Number(reply.slice(5)) : undefined),
  });
  console.log(await client.request('not now'));
  console.log(`retried after its wish: ${client.stats().retried.later}`);
  await client.close();
}

// 3. One deadline for several calls. What is left of it bounds each, whatever their own limits are.
{
  const client = createClient({ host, port, codec: lines() });
  const family = client.withDeadline(100);
  await family.request('quick');
  const error = await family
    .request('mute', { timeoutMs: 10_000 })
    .catch((/** @type {unknown} */ reason) => reason);
  assert(error instanceof PulsepoolError && error.code === 'ERR_DEADLINE');
  console.log(error.message.replaceAll(/\d+/g, 'N'));
  await client.close();
}

// 4. A breaker: a server that takes requests and answers none is left alone for a while.
{
  const client = createClient({
    host,
    port,
    codec: lines(),
    readTimeoutMs: 20,
    breaker: { failures: 3, openMs: 100 },
  });
  client.on('breakerOpened', ({ openMs }) => console.log(`breaker open: ${openMs > 0}`));
  client.on('breakerClosed', () => console.log('breaker closed'));
  for (let count = 0; count < 3; count++)
    await assert.rejects(client.request('mute'), { code: 'ERR_READ_TIMEOUT' });
  await assert.rejects(client.request('hello'), { code: 'ERR_CIRCUIT_OPEN' });
  await sleep(150);
  console.log(await client.request('hello'));
  await client.close();
}

// 5. Hedging: who waits longer than nearly all others sends a second one beside it.
{
  const client = createClient({ host, port, codec: lines(), hedge: true });
  for (let count = 0; count < 200; count++) await client.request('quick');
  console.log(await client.request('slow', { idempotent: true }));
  const { hedged, hedgesWon } = client.stats();
  console.log(`second tries: ${hedged}, answered first: ${hedgesWon}`);
  await client.close();
}

close();

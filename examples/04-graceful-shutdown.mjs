// Graceful shutdown: an HTTP service over a TCP backend that, on SIGTERM, finishes what it has begun and ends by
// itself. No process.exit(): if something were left behind, this process would show it by not ending.
//
//     node examples/04-graceful-shutdown.mjs                  HTTP_PORT=8080 to choose the port
//     curl http://127.0.0.1:<port>/hello & kill -TERM <pid>
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createPool, lines } from 'pulsepool';
import { eachLine, ownServer } from './own-server.mjs';

const DRAIN_MS = 5_000;

const backend = await ownServer((socket) => {
  eachLine(socket, (line) => setTimeout(() => socket.write(`Echo: ${line}\n`), 500));
});
const pool = createPool({ host: backend.host, port: backend.port, codec: lines(), min: 1, max: 4 });

const http = createServer(async (request, response) => {
  try {
    const reply = await pool.request(`${request.url}`, { timeoutMs: 2_000 });
    // A kept-alive connection would hold the server for seconds after its last answer.
    if (!http.listening) response.setHeader('connection', 'close');
    response.end(`${reply}\n`);
  } catch (error) {
    const { code, hint } = /** @type {import('pulsepool').PulsepoolError} */ (error);
    response.writeHead(503).end(`${code}: ${hint}\n`);
  }
});

process.once('SIGTERM', async () => {
  console.log('SIGTERM: no new requests');
  // From the outside in. First nobody new may come; those who are here get their answers.
  const forceful = setTimeout(() => http.closeAllConnections(), DRAIN_MS);
  http.close();
  await once(http, 'close');
  clearTimeout(forceful);
  console.log('every request is answered');

  // Then the pool: leases that are still out have until the deadline, then their sockets are destroyed.
  const { forced } = await pool.close({ timeoutMs: DRAIN_MS });
  console.log(`the pool is closed, ${forced} leases cut off`);
  backend.close();
});

http.listen(Number(process.env['HTTP_PORT'] ?? 0), '127.0.0.1');
await once(http, 'listening');
const address = /** @type {import('node:net').AddressInfo} */ (http.address());
console.log(`http://127.0.0.1:${address.port} (pid ${process.pid})`);

/**
 * The other side of the examples: a tiny TCP server in the same process, unless HOST and PORT say where a real
 * one is. No part of how to use pulsepool.
 */
import { once } from 'node:events';
import { createServer } from 'node:net';

/** @import { AddressInfo, Socket } from 'node:net' */

/**
 * @param {(socket: Socket) => void} serve what to do with each connection
 * @returns {Promise<{ host: string, port: number, close: () => void }>}
 */
export async function ownServer(serve) {
  const host = process.env['HOST'] || '127.0.0.1';
  const port = Number(process.env['PORT']);
  if (port > 0) return { host, port, close: () => undefined };
  return startServer(serve);
}

/**
 * A server of the example's own, whatever HOST and PORT say. `close()` stops listening: open connections go on.
 *
 * @param {(socket: Socket) => void} serve what to do with each connection
 * @param {number} [atPort] where to listen; any free port when left out
 * @returns {Promise<{ host: string, port: number, close: () => void }>}
 */
export async function startServer(serve, atPort = 0) {
  const server = createServer((socket) => {
    // A client that hangs up in the middle is no reason to die.
    socket.on('error', () => socket.destroy());
    serve(socket);
  });
  server.listen(atPort, '127.0.0.1');
  await once(server, 'listening');
  const { port } = /** @type {AddressInfo} */ (server.address());
  return { host: '127.0.0.1', port, close: () => server.close() };
}

/**
 * Calls `onLine` with each line that a client sends.
 *
 * @param {Socket} socket
 * @param {(line: string) => void} onLine
 */
export function eachLine(socket, onLine) {
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (/** @type {string} */ text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
}

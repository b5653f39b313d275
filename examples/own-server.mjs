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
 * `kill()` ends those as well, as when the process dies.
 *
 * @param {(socket: Socket) => void} serve what to do with each connection
 * @param {number} [atPort] where to listen; any free port when left out
 * @param {string} [atAddress] and at which address. Linux has all of 127.0.0.0/8; on macOS each but the first must be made:
 *   `sudo ifconfig lo0 alias 127.0.0.2`
 * @returns {Promise<{ host: string, port: number, close: () => void, kill: () => void }>}
 */
export async function startServer(serve, atPort = 0, atAddress = '127.0.0.1') {
  /** @type {Set<Socket>} */
  const sockets = new Set();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // A client that hangs up in the middle is no reason to die.
    socket.on('error', () => socket.destroy());
    serve(socket);
  });
  server.listen(atPort, atAddress);
  await once(server, 'listening');
  const { port } = /** @type {AddressInfo} */ (server.address());
  const close = () => {
    server.close();
  };
  const kill = () => {
    close();
    for (const socket of sockets) socket.destroy();
  };
  return { host: atAddress, port, close, kill };
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

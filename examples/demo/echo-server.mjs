/**
 * A line echo server that can be silenced, killed, and revived on the same port.
 */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** @import { AddressInfo, Server, Socket } from 'node:net' */

/** Answers each line with `Echo: <line>`, after a few milliseconds of pretended work. */
export class EchoServer {
  /** @type {Server | undefined} */
  #server;
  /** @type {Set<Socket>} */
  #sockets = new Set();
  #isMute = false;
  port = 0;

  /** Listens: on a free port at first, later on that same one. */
  async start() {
    this.#isMute = false;
    const server = createServer((socket) => this.#serve(socket));
    this.#server = server;
    server.listen(this.port, '127.0.0.1');
    await once(server, 'listening');
    this.port = /** @type {AddressInfo} */ (server.address()).port;
  }

  /** From now on it accepts and reads, but never answers: what a hung process or a stuck disk looks like. */
  mute() {
    this.#isMute = true;
  }

  /** Answers again. What it was asked meanwhile stays unanswered. */
  unmute() {
    this.#isMute = false;
  }

  /** Ends every connection and stops listening, as when the process dies. */
  async kill() {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, 'close');
    server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** @param {Socket} socket */
  #serve(socket) {
    this.#sockets.add(socket);
    socket.setEncoding('utf8').setNoDelay(true);
    socket.once('close', () => this.#sockets.delete(socket));
    // Being reset by a client is nothing that a server should die of.
    socket.on('error', () => socket.destroy());
    let rest = '';
    socket.on('data', (/** @type {string} */ text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) void this.#answer(socket, line);
    });
  }

  /**
   * @param {Socket} socket
   * @param {string} line
   */
  async #answer(socket, line) {
    if (line !== 'ping') await sleep(2 + Math.random() * 8);
    if (!this.#isMute && socket.writable) socket.write(`Echo: ${line}\n`);
  }
}

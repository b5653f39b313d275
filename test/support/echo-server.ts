/**
 * A line echo server on loopback for tests that need real sockets: it can drop its sockets, close, and come back
 * on the same port.
 */
import net from 'node:net';

/** A running server. */
export class EchoServer {
  readonly #server: net.Server;
  readonly sockets: Set<net.Socket> = new Set();
  /** Connections accepted since the start. */
  accepted = 0;
  port = 0;
  /** What to do with each line; the default answers. */
  onLine: (line: string, socket: net.Socket) => void = (line, socket) => {
    socket.write(line === 'PING' ? 'PONG\n' : `Echo: ${line}\n`);
  };

  constructor() {
    this.#server = net.createServer((socket) => {
      this.accepted += 1;
      this.sockets.add(socket);
      let pending = '';
      socket.setEncoding('utf8');
      socket.on('data', (text: string) => {
        pending += text;
        for (let end = pending.indexOf('\n'); end >= 0; end = pending.indexOf('\n')) {
          const line = pending.slice(0, end);
          pending = pending.slice(end + 1);
          this.onLine(line, socket);
        }
      });
      socket.on('error', () => undefined);
      socket.on('close', () => this.sockets.delete(socket));
    });
  }

  /** Listens; on the same port again when it has listened before. */
  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.port, '127.0.0.1', () => {
        this.#server.off('error', reject);
        const address = this.#server.address();
        if (address !== null && typeof address === 'object') this.port = address.port;
        resolve();
      });
    });
  }

  /** Ends every connection with a FIN. */
  endAll(): void {
    for (const socket of this.sockets) socket.end();
  }

  /** Breaks every connection and stops listening. */
  close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }
}

/** Starts a server. */
export async function startEcho(): Promise<EchoServer> {
  const server = new EchoServer();
  await server.listen();
  return server;
}

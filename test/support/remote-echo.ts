/**
 * A line echo server in a process of its own, for tests that block or freeze this one. SIGUSR1 makes it end all
 * its connections with a FIN.
 */
import { spawn } from 'node:child_process';

const SERVER = `
  const net = require('node:net');
  const tls = require('node:tls');
  const sockets = new Set();
  const identity = process.env.IDENTITY === undefined ? undefined : JSON.parse(process.env.IDENTITY);
  const onSocket = (socket) => {
    sockets.add(socket);
    let pending = '';
    socket.on('data', (chunk) => {
      pending += chunk;
      for (let end = pending.indexOf('\\n'); end >= 0; end = pending.indexOf('\\n')) {
        const line = pending.slice(0, end);
        pending = pending.slice(end + 1);
        socket.write(line === 'PING' ? 'PONG\\n' : 'Echo: ' + line + '\\n');
      }
    });
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  };
  const server = identity === undefined ? net.createServer(onSocket) : tls.createServer(identity, onSocket);
  process.on('SIGUSR1', () => { for (const socket of sockets) socket.end(); });
  process.on('disconnect', () => process.exit());
  server.listen(0, '127.0.0.1', () => process.send(server.address().port));
`;

/** A running server. */
export interface RemoteEcho {
  readonly port: number;
  /** Sends the server's process a signal. */
  signal(name: NodeJS.Signals): void;
  stop(): Promise<void>;
}

/** Starts a server, over TLS when it has an identity; it ends with this process. */
export function startRemoteEcho(identity?: {
  readonly cert: string;
  readonly key: string;
}): Promise<RemoteEcho> {
  // SIGUSR1 would start Node's inspector: --disable-sigusr1 is not in Node 20, but a listener takes its place.
  const child = spawn(process.execPath, ['-e', SERVER], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, ...(identity === undefined ? {} : { IDENTITY: JSON.stringify(identity) }) },
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the echo server ended with ${code}`)));
    child.once('message', (port) => {
      child.removeAllListeners('exit');
      const gone = new Promise<void>((done) => {
        child.once('exit', () => done());
      });
      resolve({
        port: Number(port),
        signal: (name) => {
          child.kill(name);
        },
        stop: () => {
          child.kill('SIGKILL');
          return gone;
        },
      });
    });
  });
}

/**
 * Servers on the loopback of this machine, and what a dial to them came to. Everything a test opens is closed
 * by {@link closeLocal}.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { systemClock } from '../../src/clock.ts';
import { type DialOptions, dial } from '../../src/transport/dial.ts';
import { DialError } from '../../src/transport/dial-error.ts';

const closers: (() => void)[] = [];

/** Closes every server, socket and directory that was opened here. */
export function closeLocal(): void {
  for (const close of closers.splice(0).reverse()) close();
}

/** Something to do in {@link closeLocal}. */
export function onCloseLocal(close: () => void): void {
  closers.push(close);
}

/** Listens on a free port of 127.0.0.1, or on a path. Resolves to the port; 0 for a path. */
export async function listen(server: net.Server, path?: string): Promise<number> {
  const sockets = new Set<net.Socket>();
  server.on('connection', (socket: net.Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  });
  server.on('tlsClientError', () => undefined);
  closers.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  if (path === undefined) server.listen(0, '127.0.0.1');
  else server.listen(path);
  await once(server, 'listening');
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** A plain server. */
export function plainServer(onSocket: (socket: net.Socket) => void): Promise<number> {
  return listen(net.createServer(onSocket));
}

/** A TLS server. */
export function tlsServer(
  options: tls.TlsOptions,
  onSocket: (socket: tls.TLSSocket) => void = () => undefined,
): Promise<number> {
  return listen(
    tls.createServer(options, (socket) => {
      socket.on('error', () => undefined);
      onSocket(socket);
    }),
  );
}

/** Writes back whatever comes. */
export function echo(socket: net.Socket): void {
  socket.pipe(socket);
}

/** A directory of its own for Unix sockets. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'pulsepool-'));
  closers.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Dials; the socket is destroyed at the end of the test. */
export function dialLocal(
  options: Partial<DialOptions> & { port?: number; host?: string; path?: string },
): Promise<net.Socket> {
  const { host = '127.0.0.1', port = 0, path, ...rest } = options;
  const endpoint =
    path === undefined ? ({ kind: 'tcp', host, port } as const) : ({ kind: 'unix', path } as const);
  return dial(
    // Whatever the name is, it is this machine.
    { endpoint, address: net.isIP(host) === 0 ? '127.0.0.1' : host, connectTimeoutMs: 5_000, ...rest },
    systemClock,
    new AbortController().signal,
    (socket) => {
      socket.on('error', () => undefined);
      closers.push(() => socket.destroy());
      return socket;
    },
  );
}

/** The story of a dial that is to fail. */
export async function dialFailure(options: Parameters<typeof dialLocal>[0]): Promise<DialError> {
  let socket: net.Socket;
  try {
    socket = await dialLocal(options);
  } catch (error) {
    if (error instanceof DialError) return error;
    throw error;
  }
  socket.destroy();
  throw new Error('the dial was expected to fail');
}

/** A port of 127.0.0.1 on which nothing listens. */
export async function closedPort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

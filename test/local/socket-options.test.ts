import { existsSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { makeCertificates } from '../integration/support/certificates.ts';
import {
  closeLocal,
  dialLocal,
  echo,
  listen,
  plainServer,
  temporaryDirectory,
  tlsServer,
} from '../support/local-servers.ts';

const noDelay = vi.spyOn(net.Socket.prototype, 'setNoDelay');
const keepAlive = vi.spyOn(net.Socket.prototype, 'setKeepAlive');

beforeEach(() => {
  noDelay.mockClear();
  keepAlive.mockClear();
});
afterEach(closeLocal);

/** The calls that were made on this very socket. */
function callsOn(spy: { mock: { calls: unknown[][]; contexts: unknown[] } }, socket: net.Socket): unknown[] {
  return spy.mock.calls.filter((_, call) => spy.mock.contexts[call] === socket);
}

/** Which timer runs in the kernel on the socket with this local port; 2 is that of keep-alive. */
function kernelTimer(port: number | undefined): string | undefined {
  const local = `:${(port ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
  const row = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .find((columns) => columns[1]?.endsWith(local));
  return row?.[5]?.split(':')[0];
}

const { ca, server } = makeCertificates();

describe.each([
  ['TCP', async () => dialLocal({ port: await plainServer(echo) })],
  ['TLS', async () => dialLocal({ port: await tlsServer(server, echo), tls: { ca } })],
])('a socket over %s', (_kind, open) => {
  it('sends small messages at once', async () => {
    const socket = await open();
    expect(callsOn(noDelay, socket)).toEqual([[true]]);
  });

  it('lets the system find a peer whose machine is gone, after 30 s', async () => {
    const socket = await open();
    expect(callsOn(keepAlive, socket)).toEqual([[true, 30_000]]);
  });

  it.runIf(existsSync('/proc/net/tcp'))('is watched by the kernel’s own timer', async () => {
    const socket = await open();
    // Retransmissions have their own timer; it is gone once everything is acknowledged.
    await expect.poll(() => kernelTimer(socket.localPort)).toBe('02');
  });
});

describe('a Unix socket', () => {
  it('has none of this: there is no machine in between', async () => {
    const path = join(temporaryDirectory(), 'echo.sock');
    await listen(net.createServer(echo), path);
    const socket = await dialLocal({ path });
    expect(callsOn(noDelay, socket)).toEqual([]);
    expect(callsOn(keepAlive, socket)).toEqual([]);
  });
});

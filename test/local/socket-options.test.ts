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

/**
 * The life of a process whose pool dials for nobody: `min` sockets that the server never opens. Runs on dist/.
 */
import { once } from 'node:events';
import net from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requireBuild, runNode } from './child.ts';

// Accepts, and never says a word: a TLS handshake with it hangs.
const sockets: net.Socket[] = [];
const server = net.createServer((socket) => {
  sockets.push(socket);
  socket.on('error', () => undefined).resume();
});

beforeAll(async () => {
  requireBuild();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
});

/** Runs a script with a pool whose dial takes 30 s to fail; resolves to what it printed and how long it lived. */
async function script(host: string, code: string): Promise<{ readonly output: string; readonly ms: number }> {
  const { port } = server.address() as net.AddressInfo;
  const startedAt = performance.now();
  const { stdout, stderr } = await runNode([
    '--input-type=module',
    '-e',
    `
      import { createPool, lines } from 'pulsepool';
      const pool = createPool({
        host: '${host}', port: ${port}, codec: lines(), tls: {}, min: 2, connectTimeoutMs: 30_000, retry: { retries: 0 },
      });
      ${code}
    `,
  ]);
  return { output: (stdout + stderr).trim(), ms: performance.now() - startedAt };
}

describe('a dial for min that hangs', () => {
  it.each(['127.0.0.1', 'localhost'])('does not hold the process, to %s', async (host) => {
    // The process lives long enough for the TCP part to be done.
    const { output, ms } = await script(
      host,
      `setTimeout(() => console.log('dialing', pool.stats().dialing), 300);`,
    );
    expect(output).toBe('dialing 2');
    expect(ms).toBeLessThan(10_000);
  });

  it('does hold it while somebody waits for the socket', async () => {
    const { output } = await script(
      '127.0.0.1',
      `pool.acquire({ timeoutMs: 700 }).catch((error) => console.log(error.code));`,
    );
    expect(output).toBe('ERR_ACQUIRE_TIMEOUT');
  });
});

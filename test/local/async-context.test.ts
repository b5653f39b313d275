/**
 * Whose async context a socket's events are told in: real sockets, plain and TLS, because there the runtime decides
 * what a callback remembers.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import type net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createPool } from '../../src/create-pool.ts';
import type { TlsOptions } from '../../src/transport/dial.ts';
import { lines } from '../../src/transport/lines.ts';
import { closeLocal, onCloseLocal, plainServer, tlsServer } from '../support/local-servers.ts';
import { SELF_SIGNED } from '../support/self-signed.ts';

afterEach(closeLocal);

const storage = new AsyncLocalStorage<string>();

/** Answers each line, and pushes one more when it is asked to. */
function answer(socket: net.Socket): void {
  let pending = '';
  socket.on('data', (chunk: Buffer) => {
    pending += chunk.toString('latin1');
    for (let end = pending.indexOf('\n'); end >= 0; end = pending.indexOf('\n')) {
      const line = pending.slice(0, end);
      pending = pending.slice(end + 1);
      socket.write(line === 'PING' ? 'PONG\n' : `Echo: ${line.slice(0, 40)}\n`);
    }
  });
}

async function setUp(kind: 'plain' | 'tls') {
  const port = kind === 'plain' ? await plainServer(answer) : await tlsServer(SELF_SIGNED, answer);
  const tls: { tls?: TlsOptions } = kind === 'plain' ? {} : { tls: { ca: SELF_SIGNED.cert } };
  const pool = storage.run('maker', () =>
    createPool({
      host: '127.0.0.1',
      port,
      codec: lines({ maxFrameBytes: 8_000_000 }),
      max: 1,
      heartbeat: { intervalMs: 30, timeoutMs: 1_000, ping: 'PING', isPong: (line) => line === 'PONG' },
      ...tls,
    }),
  );
  onCloseLocal(() => void pool.close({ timeoutMs: 1 }));
  // The socket is opened on behalf of somebody who has nothing to do with what follows.
  await storage.run('opener', () => pool.request('warm'));
  return pool;
}

describe.each(['plain', 'tls'] as const)('over a %s socket', (kind) => {
  it('replies, receive(), for await and the drain of send() go on in the holder’s context', async () => {
    const pool = await setUp(kind);
    const seen: (string | undefined)[] = [];
    const at = (): number => seen.push(storage.getStore());
    await storage.run('holder', async () => {
      await using lease = await pool.acquire();
      at();
      await lease.request('hello');
      at();
      // More than a socket takes at once.
      await lease.send('x'.repeat(4_000_000));
      at();
      await lease.receive();
      at();
      await lease.send('two', { replies: 1 });
      for await (const frame of lease) {
        at();
        if (frame === 'Echo: two') break;
      }
      await lease.request('again').then(at);
    });
    expect(seen).toEqual(Array(6).fill('holder'));
  });

  it('events are told in the context of the caller, or of the maker', async () => {
    const pool = await setUp(kind);
    const seen: string[] = [];
    for (const event of ['acquired', 'released', 'pinged', 'closed'] as const) {
      pool.on(event, () => seen.push(`${event} in ${storage.getStore()}`));
    }
    await storage.run('caller', () => pool.request('hello'));
    while (!seen.some((line) => line.startsWith('pinged'))) await once(anyPing(pool), 'ping');
    await storage.run('last', () => pool.use((lease) => lease.destroy()));
    while (!seen.some((line) => line.startsWith('closed')))
      await new Promise((resolve) => setImmediate(resolve));
    expect(seen.filter((line) => !line.startsWith('pinged'))).toEqual([
      'acquired in caller',
      'released in caller',
      'acquired in last',
      'closed in last',
    ]);
    expect(new Set(seen.filter((line) => line.startsWith('pinged')))).toEqual(new Set(['pinged in maker']));
  });

  it('a detached socket’s events are told in the context of who detached it', async () => {
    const pool = await setUp(kind);
    const seen: string[] = [];
    const socket = await storage.run('holder', async () => {
      const detached = (await pool.acquire()).detach();
      for (const event of ['data', 'drain', 'close'] as const)
        detached.on(event, () => seen.push(`${event} in ${storage.getStore()}`));
      detached.resume();
      return detached;
    });
    await storage.run('somebody', async () => {
      const drained = once(socket, 'drain');
      // As much as the system takes, which may be megabytes, and more.
      while (socket.write('x'.repeat(1_000_000)));
      socket.write('\n');
      await drained;
      await once(socket, 'data');
      socket.destroy();
      await once(socket, 'close');
    });
    expect(new Set(seen)).toEqual(new Set(['data in holder', 'drain in holder', 'close in holder']));
  });
});

/** Tells of the next ping as Node's own emitters do. */
function anyPing(pool: Awaited<ReturnType<typeof setUp>>): EventTarget {
  const target = new EventTarget();
  pool.once('pinged', () => target.dispatchEvent(new Event('ping')));
  return target;
}

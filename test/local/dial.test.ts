import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, openSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { dial } from '../../src/transport/dial.ts';
import {
  closedPort,
  closeLocal,
  dialFailure,
  dialLocal,
  echo,
  listen,
  onCloseLocal,
  plainServer,
  temporaryDirectory,
} from '../support/local-servers.ts';

afterEach(closeLocal);

/** A server that has been stopped accepts nobody; its queue of new connections is filled here. */
async function fullBacklog(where: { host: string; port: number } | { path: string }): Promise<number> {
  const script = `require('node:net').createServer().listen(${JSON.stringify({ ...where, backlog: 1 })}, function () {
    console.log(this.address().port ?? 0);
  })`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  onCloseLocal(() => child.kill('SIGKILL'));
  const [line] = await once(child.stdout, 'data');
  const port = Number(String(line));
  child.kill('SIGSTOP');
  for (let i = 0; i < 8; i++) {
    const filler = net.connect({ ...where, port });
    filler.on('error', () => undefined);
    onCloseLocal(() => filler.destroy());
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  return port;
}

describe('a dial over TCP', () => {
  it('opens a socket', async () => {
    const socket = await dialLocal({ port: await plainServer(echo) });
    socket.write('hello');
    const [chunk] = await once(socket, 'data');
    expect(String(chunk)).toBe('hello');
  });

  it('opens a socket to the address of a name', async () => {
    const socket = await dialLocal({ host: 'localhost', port: await plainServer(echo) });
    expect(socket.remoteAddress).toBe('127.0.0.1');
  });

  it('leaves none of its listeners on the socket', async () => {
    const port = await plainServer(echo);
    const plain = net.connect(port, '127.0.0.1');
    onCloseLocal(() => plain.destroy());
    await once(plain, 'connect');
    const dialed = await dial(
      { endpoint: { kind: 'tcp', host: '127.0.0.1', port }, connectTimeoutMs: 5_000 },
      systemClock,
      new AbortController().signal,
      (socket) => socket,
    );
    onCloseLocal(() => dialed.destroy());
    const counts = (socket: net.Socket) =>
      socket.eventNames().map((name) => [name, socket.listenerCount(name)]);
    expect(counts(dialed)).toEqual(counts(plain));
  });

  it('refused: in phase tcp, retryable, nothing listens', async () => {
    const error = await dialFailure({ port: await closedPort() });
    expect(error).toMatchObject({ code: 'ERR_REFUSED', phase: 'tcp', retryable: true, sent: 'none' });
    expect(error.hint).toContain('Nothing listens');
    expect(error.message).toContain('ECONNREFUSED');
  });

  it('refused under a name: in phase tcp, too', async () => {
    const error = await dialFailure({ host: 'localhost', port: await closedPort() });
    expect(error).toMatchObject({ code: 'ERR_REFUSED', phase: 'tcp' });
  });

  it('from an address that is not ours: no local address', async () => {
    const error = await dialFailure({ port: await closedPort(), localAddress: '203.0.113.1' });
    expect(error).toMatchObject({ code: 'ERR_NO_LOCAL_PORTS', phase: 'tcp', retryable: true });
    expect(error.hint).toContain('localAddress');
  });

  it('from an address of the other family: never retried', async () => {
    const error = await dialFailure({ port: await closedPort(), localAddress: '::1' });
    expect(error).toMatchObject({ code: 'ERR_CONNECT', phase: 'tcp', retryable: false });
    expect(error.hint).toContain('localAddress');
  });

  it('from something that is no address: never retried', async () => {
    const error = await dialFailure({ port: await closedPort(), localAddress: 'nonsense' });
    expect(error).toMatchObject({ code: 'ERR_CONNECT', phase: 'tcp', retryable: false });
  });

  it('aborted, rejects with the reason and leaves no socket', async () => {
    const port = await plainServer(echo);
    const controller = new AbortController();
    const reason = new Error('changed my mind');
    const options = { endpoint: { kind: 'tcp', host: '127.0.0.1', port }, connectTimeoutMs: 5_000 } as const;
    const adopted: net.Socket[] = [];
    const dialing = dial(options, systemClock, controller.signal, (socket) => adopted.push(socket));
    controller.abort(reason);
    await expect(dialing).rejects.toBe(reason);
    await expect(dial(options, systemClock, controller.signal, () => 1)).rejects.toBe(reason);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(adopted).toEqual([]);
  });

  it('whose socket can’t be adopted tells why, and leaves no socket', async () => {
    let closed: Promise<unknown> = Promise.resolve();
    const port = await plainServer((socket) => {
      closed = once(socket.resume(), 'close');
    });
    const bug = new Error('the codec could not be made');
    const dialing = dial(
      { endpoint: { kind: 'tcp', host: '127.0.0.1', port }, connectTimeoutMs: 5_000 },
      systemClock,
      new AbortController().signal,
      () => {
        throw bug;
      },
    );
    await expect(dialing).rejects.toMatchObject({ code: 'ERR_CONNECT', retryable: false, cause: bug });
    await closed;
  });
});

describe('a dial whose server does not answer', () => {
  it('to the SYN, gives up in phase tcp', async () => {
    const port = await fullBacklog({ host: '127.0.0.1', port: 0 });
    const error = await dialFailure({ port, connectTimeoutMs: 150 });
    expect(error).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', phase: 'tcp', retryable: true });
    expect(error.hint).toContain('backlog');
    expect(error.message).toContain('150 ms');
  });

  it('to the TLS hello, gives up in phase tls', async () => {
    const port = await plainServer((socket) => socket.resume());
    const error = await dialFailure({ port, tls: {}, connectTimeoutMs: 100 });
    expect(error).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', phase: 'tls', retryable: true });
    expect(error.hint).toContain('TLS hello');
  });
});

describe.skipIf(process.platform !== 'linux')('a dial of a process that is out of file descriptors', () => {
  it('says so', async () => {
    const port = await closedPort();
    const limit = (soft: string) =>
      execFileSync('/usr/bin/prlimit', ['--pid', String(process.pid), `--nofile=${soft}:`]);
    const before = execFileSync('/usr/bin/prlimit', [
      '--pid',
      String(process.pid),
      '--nofile',
      '-o',
      'SOFT',
      '--noheadings',
    ]);
    const taken: number[] = [];
    limit('200');
    try {
      for (let isFull = false; !isFull; ) {
        try {
          taken.push(openSync('/dev/null', 'r'));
        } catch {
          isFull = true;
        }
      }
      const error = await dialFailure({ port });
      expect(error).toMatchObject({ code: 'ERR_TOO_MANY_FILES', phase: 'tcp', retryable: true });
      expect(error.hint).toContain('ulimit -n');
    } finally {
      for (const descriptor of taken) closeSync(descriptor);
      limit(String(before).trim());
    }
  });
});

describe.skipIf(process.platform === 'win32')('a dial to a Unix socket', () => {
  it('opens it', async () => {
    const path = join(temporaryDirectory(), 'echo.sock');
    await listen(net.createServer(echo), path);
    const socket = await dialLocal({ path });
    socket.write('hello');
    const [chunk] = await once(socket, 'data');
    expect(String(chunk)).toBe('hello');
  });

  it('that is not there: in phase tcp, retryable, check the path', async () => {
    const path = join(temporaryDirectory(), 'missing.sock');
    const error = await dialFailure({ path });
    expect(error).toMatchObject({ code: 'ERR_REFUSED', phase: 'tcp', retryable: true, endpoint: path });
    expect(error.hint).toContain('path');
  });

  it('on which nobody listens any more: refused', async () => {
    const path = join(temporaryDirectory(), 'file');
    writeFileSync(path, '');
    const error = await dialFailure({ path });
    expect(error).toMatchObject({ code: 'ERR_REFUSED', retryable: true });
    expect(error.hint).toContain('path');
  });

  it('below something that is no directory: never retried', async () => {
    const path = join(temporaryDirectory(), 'file');
    writeFileSync(path, '');
    expect(await dialFailure({ path: join(path, 'x.sock') })).toMatchObject({
      code: 'ERR_CONNECT',
      retryable: false,
    });
  });

  it('whose path is too long: never dialed, since the system would cut it short', async () => {
    const directory = temporaryDirectory();
    const path = join(directory, 'x'.repeat(107 - directory.length));
    let visitors = 0;
    await listen(
      net.createServer(() => {
        visitors += 1;
      }),
      path.slice(0, 107),
    );
    const error = await dialFailure({ path: `${path}-tenant-b` });
    expect(error).toMatchObject({ code: 'ERR_CONNECT', retryable: false });
    expect(visitors).toBe(0);
  });

  it.skipIf(process.platform !== 'linux')('whose server does not accept: full', async () => {
    const path = join(temporaryDirectory(), 'full.sock');
    await fullBacklog({ path });
    const error = await dialFailure({ path });
    expect(error).toMatchObject({ code: 'ERR_SERVER_FULL', phase: 'tcp', retryable: true });
    expect(error.hint).toContain('accept');
  });

  it('that we may not open: permissions, never retried', async () => {
    const directory = temporaryDirectory();
    const path = join(directory, 'echo.sock');
    await listen(net.createServer(echo), path);
    chmodSync(directory, 0);
    // Root may open everything: it becomes nobody for a moment.
    const isRoot = process.geteuid?.() === 0;
    if (isRoot) process.seteuid?.(65_534);
    try {
      const error = await dialFailure({ path });
      expect(error).toMatchObject({ code: 'ERR_CONNECT', phase: 'tcp', retryable: false });
      expect(error.message).toContain('EACCES');
      expect(error.hint).toContain('permissions');
    } finally {
      if (isRoot) process.seteuid?.(0);
      chmodSync(directory, 0o700);
    }
  });
});

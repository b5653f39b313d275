/**
 * The test servers themselves, asked with plain sockets: what other tests stand on has to be true.
 * Nothing of the SDK is used here.
 */
import { existsSync } from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { makeCertificates } from './support/certificates.ts';
import {
  ask,
  describeWithServers,
  type EchoServer,
  type MisbehaveServer,
  type Server,
  startEcho,
  startMisbehave,
  startRedis,
  startSocat,
} from './support/containers.ts';

/** A socket whose bytes are kept: tests say what they wait for, and look at what came. */
class Peer {
  received = '';
  /** `'end'`, or the code of the error by which the connection was lost. */
  lost: string | undefined;
  readonly socket: net.Socket;

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (chunk) => {
      this.received += String(chunk);
    });
    socket.on('end', () => {
      this.lost ??= 'end';
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.lost ??= error.code ?? error.message;
    });
    onTestFinished(() => {
      socket.destroy();
    });
  }

  send(text: string): void {
    this.socket.write(text, 'latin1');
  }

  /** Waits until exactly this has come since the connection opened. */
  async hasReceived(text: string): Promise<void> {
    await expect.poll(() => this.received, { timeout: 5_000, interval: 2 }).toBe(text);
  }

  async isLost(): Promise<void> {
    await expect.poll(() => this.lost, { timeout: 5_000, interval: 2 }).toBeDefined();
  }

  /** Waits, and looks whether anything has come or gone meanwhile. */
  async staysSilent(milliseconds: number): Promise<void> {
    const before = this.received;
    await sleep(milliseconds);
    expect(this.received).toBe(before);
    expect(this.lost).toBeUndefined();
  }
}

function connect(server: Pick<Server, 'host' | 'port'>, port: number = server.port): Peer {
  return new Peer(net.connect({ host: server.host, port }));
}

/** The code of the error that a TCP connect ends with, `'connected'` if it succeeds. */
function tryConnect(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port });
    const settle = (outcome: string) => {
      socket.destroy();
      resolve(outcome);
    };
    socket.once('connect', () => settle('connected'));
    socket.once('error', (error: NodeJS.ErrnoException) => settle(error.code ?? error.message));
  });
}

describeWithServers('the echo server', () => {
  let echo: EchoServer;
  beforeAll(async () => {
    echo = await startEcho({ unixSocket: true });
  });
  afterAll(() => echo?.stop());

  test('answers a line with "Echo: " and the line, and PING with PONG', async () => {
    const peer = connect(echo);
    peer.send('hello\nPING\nPING me\n');
    await peer.hasReceived('Echo: hello\nPONG\nEcho: PING me\n');
  });

  test('answers a line that comes in pieces once it is whole', async () => {
    const peer = connect(echo);
    peer.send('hal');
    await peer.staysSilent(30);
    peer.send('f\n');
    await peer.hasReceived('Echo: half\n');
  });

  test('sends raw bytes back as they are', async () => {
    const bytes = String.fromCharCode(...Array.from({ length: 256 }, (_, byte) => byte));
    const peer = connect(echo, echo.ports.raw);
    peer.send(bytes);
    await peer.hasReceived(bytes);
  });

  test('sends length-prefixed frames back whole', async () => {
    const frames = '\0\0\0\x05hello\0\0\0\0\0\0\0\x01!';
    const peer = connect(echo, echo.ports.frames);
    peer.send(frames.slice(0, 7));
    await peer.staysSilent(30);
    peer.send(frames.slice(7));
    await peer.hasReceived(frames);
  });

  test('can be reached over its Unix socket', async () => {
    const peer = new Peer(net.connect({ path: echo.socketPath }));
    peer.send('hello\n');
    await peer.hasReceived('Echo: hello\n');
  });

  test('answers what was sent before the client half-closed', async () => {
    const peer = connect(echo);
    peer.socket.end('last words\n');
    await peer.hasReceived('Echo: last words\n');
    await peer.isLost();
  });
});

describeWithServers('the echo server under TLS', () => {
  const certificates = makeCertificates();
  let echo: EchoServer;
  beforeAll(async () => {
    echo = await startEcho({ certificates });
  });
  afterAll(() => echo?.stop());

  const secure = (port: number, options: tls.ConnectionOptions) =>
    new Peer(tls.connect({ host: echo.host, port, ...options }));

  test('is trusted by who trusts its CA, and sees the name and the protocol that were asked for', async () => {
    const peer = secure(echo.ports.tls, {
      ca: certificates.ca,
      servername: 'localhost',
      ALPNProtocols: ['echo/1'],
    });
    peer.send('WHO\nhello\n');
    await peer.hasReceived('sni=localhost alpn=echo/1 client=-\nEcho: hello\n');
  });

  test('is trusted by its IP address', async () => {
    const peer = secure(echo.ports.tls, { ca: certificates.ca });
    peer.send('PING\n');
    await peer.hasReceived('PONG\n');
  });

  test('is refused by who trusts another CA, or the usual ones', async () => {
    const other = secure(echo.ports.tls, { ca: certificates.unrelated.ca });
    const usual = secure(echo.ports.tls, {});
    await Promise.all([other.isLost(), usual.isLost()]);
    expect([other.lost, usual.lost]).toEqual([
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    ]);
  });

  test('is refused under a name that its certificate does not hold', async () => {
    const peer = secure(echo.ports.tls, { ca: certificates.ca, servername: 'elsewhere.test' });
    await peer.isLost();
    expect(peer.lost).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
  });

  test.each([
    ['an expired certificate', certificates.expired, 'CERT_HAS_EXPIRED'],
    ["another server's certificate", certificates.elsewhere, 'ERR_TLS_CERT_ALTNAME_INVALID'],
    ["an unrelated CA's certificate", certificates.unrelated.server, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
  ])('is refused when it shows %s', async (_, identity, code) => {
    await using shady = await startEcho({ certificates, identity });
    const peer = new Peer(
      tls.connect({ host: shady.host, port: shady.ports.tls, ca: certificates.ca, servername: 'localhost' }),
    );
    await peer.isLost();
    expect(peer.lost).toBe(code);
  });

  test('knows the client by its certificate', async () => {
    const peer = secure(echo.ports.mutualTls, { ca: certificates.ca, ...certificates.client });
    peer.send('WHO\n');
    await peer.hasReceived('sni=- alpn=- client=client\n');
  });

  test('refuses a client without a certificate, or with one of an unrelated CA', async () => {
    const without = secure(echo.ports.mutualTls, { ca: certificates.ca });
    const stranger = secure(echo.ports.mutualTls, { ca: certificates.ca, ...certificates.unrelated.client });
    await Promise.all([without.isLost(), stranger.isLost()]);
    expect([without.lost, stranger.lost]).toEqual([
      expect.stringMatching(/CERTIFICATE|ALERT|ECONNRESET|end/),
      expect.stringMatching(/CERTIFICATE|ALERT|ECONNRESET|end/),
    ]);
    expect(without.received + stranger.received).toBe('');
  });

  test('shows certificates that openssl finds right, too', async () => {
    const verify = (purpose: string, file: string) =>
      echo.exec(['openssl', 'verify', '-x509_strict', '-purpose', purpose, '-CAfile', '/tls/ca.pem', file]);
    expect((await verify('sslserver', '/tls/cert.pem')).output).toContain('/tls/cert.pem: OK');
  });
});

describeWithServers('servers that nobody here wrote', () => {
  test('socat sends every byte back', async () => {
    await using socat = await startSocat();
    const peer = connect(socat);
    peer.send('hel');
    await peer.hasReceived('hel');
    peer.send('lo\n');
    await peer.hasReceived('hello\n');
  });

  test('Redis answers a pipeline in order', async () => {
    await using redis = await startRedis();
    const peer = connect(redis);
    peer.send('PING\r\nSET key 7\r\nINCR key\r\n');
    await peer.hasReceived('+PONG\r\n+OK\r\n:8\r\n');
  });
});

describeWithServers('the server that misbehaves on command', () => {
  let server: MisbehaveServer;
  beforeAll(async () => {
    server = await startMisbehave();
  });
  afterEach(async () => {
    await server.control('behave');
    await server.control('dropall');
    await expect.poll(async () => (await server.count()).open).toBe(0);
  });
  afterAll(() => server?.stop());

  test('behaves until told otherwise', async () => {
    const peer = connect(server);
    peer.send('hello\nPING\n');
    await peer.hasReceived('Echo: hello\nPONG\n');
  });

  test('is silent from !silent on', async () => {
    const peer = connect(server);
    peer.send('!silent\nhello\nPING\n');
    await peer.staysSilent(100);
  });

  test('answers !late after the time, and what follows after that', async () => {
    const peer = connect(server);
    const begun = performance.now();
    peer.send('!late 200 text\nnext\n');
    await peer.hasReceived('Echo: text\nEcho: next\n');
    expect(performance.now() - begun).toBeGreaterThanOrEqual(195);
  });

  test('answers !split byte by byte', async () => {
    const peer = connect(server);
    let chunks = 0;
    peer.socket.on('data', () => {
      chunks++;
    });
    peer.send('!split 10 text\n');
    await peer.hasReceived('Echo: text\n');
    expect(chunks).toBeGreaterThan(2);
  });

  test('sends half an answer and ends at !half', async () => {
    const peer = connect(server);
    peer.send('!half text\n');
    await peer.isLost();
    expect(peer.received).toBe('Echo:');
  });

  test('answers twice at !double', async () => {
    const peer = connect(server);
    peer.send('!double text\n');
    await peer.hasReceived('Echo: text\nEcho: text\n');
  });

  test('answers and ends at !bye', async () => {
    const peer = connect(server);
    peer.send('!bye text\n');
    await peer.isLost();
    expect(peer.received).toBe('Echo: text\n');
  });

  test.each(['!drop', '!reset'])('ends without an answer at %s', async (command) => {
    const peer = connect(server);
    peer.send(`${command}\n`);
    await peer.isLost();
    expect(peer.received).toBe('');
  });

  test('sends a byte that nobody asked for after !stray, and goes on', async () => {
    const peer = connect(server);
    peer.send('!stray 60\n');
    await peer.hasReceived('OK\n?');
    peer.send('hello\n');
    await peer.hasReceived('OK\n?Echo: hello\n');
  });

  test('ends right after the stray byte of !strayfin', async () => {
    const peer = connect(server);
    peer.send('!strayfin 60\n');
    await peer.isLost();
    expect(peer.received).toBe('OK\n?');
  });

  test('answers in other protocols at !garbage', async () => {
    const alert = connect(server);
    alert.send('!garbage tls\n');
    await alert.hasReceived('\x15\x03\x03\0\x02\x02\x46');
    const http = connect(server);
    http.send('!garbage http\n');
    await expect.poll(() => http.received).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
  });

  test('sends a line as long as !long says', async () => {
    const peer = connect(server);
    peer.send('!long 1000000\n');
    await expect.poll(() => peer.received.length).toBe(1_000_001);
  });

  test('reads nothing after !deaf, until writing stalls', async () => {
    const peer = connect(server);
    peer.send('!deaf\n');
    const chunk = Buffer.alloc(1 << 20, 'x');
    let taken = 0;
    for (let sent = 0; sent < 64; sent++) {
      peer.socket.write(chunk, () => {
        taken++;
      });
    }
    // Buffers on the way take some of it first.
    for (let before = -1; before !== taken; ) {
      before = taken;
      await sleep(300);
    }
    expect(taken).toBeLessThan(64);
    expect(peer.lost).toBeUndefined();
  });

  test('pings the client after !ping, and counts its answers', async () => {
    const peer = connect(server);
    peer.send('!ping 20\n');
    await peer.hasReceived('OK\nSPING\n');
    peer.send('SPONG\n!ping 0\n');
    await peer.hasReceived('OK\nSPING\nSPING\nOK\n');
    peer.send('SPONG\n!ponged\n');
    await peer.hasReceived('OK\nSPING\nSPING\nOK\nPonged: 2\n');
  });

  test('counts connections, those that are open and all that ever were', async () => {
    const before = await server.count();
    expect(before.open).toBe(0);
    const peer = connect(server);
    peer.send('PING\n');
    await peer.hasReceived('PONG\n');
    expect(await server.count()).toEqual({ open: 1, total: before.total + 1 });
    peer.socket.end();
    await expect.poll(async () => (await server.count()).open).toBe(0);
  });

  test('closes new connections at once while it is full, and leaves old ones alone', async () => {
    const old = connect(server);
    old.send('PING\n');
    await old.hasReceived('PONG\n');
    await server.control('full on');
    const refused = connect(server);
    await refused.isLost();
    expect(refused.received).toBe('');
    old.send('PING\n');
    await old.hasReceived('PONG\nPONG\n');
    await server.control('behave');
    const accepted = connect(server);
    accepted.send('PING\n');
    await accepted.hasReceived('PONG\n');
  });

  test('answers nobody while it is mute', async () => {
    const peer = connect(server);
    await server.control('mute on');
    peer.send('hello\n');
    await peer.staysSilent(100);
    await server.control('mute off');
    peer.send('again\n');
    await peer.hasReceived('Echo: again\n');
  });

  test('closes connections that are idle too long', async () => {
    const peer = connect(server);
    peer.send('PING\n');
    await peer.hasReceived('PONG\n');
    await server.control('idle 50');
    await peer.isLost();
  });

  test('ends every connection at dropall', async () => {
    const peers = [connect(server), connect(server), connect(server)];
    for (const peer of peers) peer.send('PING\n');
    await Promise.all(peers.map((peer) => peer.hasReceived('PONG\n')));
    await server.control('dropall');
    await Promise.all(peers.map((peer) => peer.isLost()));
    expect((await server.count()).open).toBe(0);
  });

  test('does not guess at a command that it does not know', async () => {
    await expect(server.control('explode')).rejects.toThrow('unknown command: explode');
  });
});

describeWithServers('a server whose container', () => {
  test('is paused leaves connections open and silent, and answers when it goes on', async () => {
    await using echo = await startEcho();
    const old = connect(echo);
    old.send('PING\n');
    await old.hasReceived('PONG\n');
    await echo.pause();
    old.send('old\n');
    const fresh = connect(echo);
    fresh.send('new\n');
    await Promise.all([old.staysSilent(200), fresh.staysSilent(200)]);
    await echo.unpause();
    await old.hasReceived('PONG\nEcho: old\n');
    await fresh.hasReceived('Echo: new\n');
  });

  test('is killed ends connections and refuses, and answers on the same ports when started', async () => {
    await using echo = await startEcho({ pinned: true });
    const ports = { ...echo.ports };
    const peer = connect(echo);
    peer.send('PING\n');
    await peer.hasReceived('PONG\n');
    await echo.kill();
    await peer.isLost();
    expect(await tryConnect(echo.host, echo.port)).toBe('ECONNREFUSED');
    await echo.start();
    expect(echo.ports).toEqual(ports);
    expect(await ask(echo.host, echo.port, 'again\n', 1_000)).toBe('Echo: again');
  });

  test.each([
    ['echo', startEcho],
    ['socat', startSocat],
    ['redis', startRedis],
    ['misbehave', startMisbehave],
  ])('holds %s restarts, and its ports are known again', async (_, start) => {
    await using server = await start();
    const peer = connect(server);
    await sleep(20);
    await server.restart();
    await peer.isLost();
    expect(await tryConnect(server.host, server.port)).toBe('connected');
  });

  test('is killed three times over comes back each time', async () => {
    await using server = await startMisbehave({ pinned: true });
    for (let round = 0; round < 3; round++) {
      await server.kill();
      await server.start();
      expect(await server.count()).toEqual({ open: 0, total: 0 });
    }
  });

  test('drops packets is silent until the rule is gone', async () => {
    await using echo = await startEcho({ netAdmin: true });
    const peer = connect(echo);
    peer.send('PING\n');
    await peer.hasReceived('PONG\n');
    const rule = 'INPUT -p tcp --dport 7000 -j DROP'.split(' ');
    expect((await echo.exec(['iptables', '-A', ...rule])).exitCode).toBe(0);
    peer.send('lost\n');
    await peer.staysSilent(200);
    expect((await echo.exec(['iptables', '-D', ...rule])).exitCode).toBe(0);
    await peer.hasReceived('PONG\nEcho: lost\n');
  });

  test('is stopped while paused, and stopped twice, is gone', async () => {
    const echo = await startEcho();
    await echo.pause();
    await echo.stop();
    await echo.stop();
    expect(await tryConnect(echo.host, echo.port)).toBe('ECONNREFUSED');
  });

  test('is stopped leaves no directory of its Unix socket behind', async () => {
    const echo = await startEcho({ unixSocket: true });
    await echo.stop();
    expect(existsSync(dirname(echo.socketPath))).toBe(false);
  });
});

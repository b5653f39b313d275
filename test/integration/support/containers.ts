/**
 * Real servers in containers, for tests: start one, talk to it, break it, revive it.
 *
 * ```ts
 * describeWithServers('a pool and a server that dies', () => {
 *   let echo: EchoServer;
 *   beforeAll(async () => {
 *     echo = await startEcho({ pinned: true });
 *   });
 *   afterAll(() => echo.stop());
 *
 *   test('…', async () => {
 *     await echo.kill(); // connections end, echo.ports.line refuses
 *     await echo.start(); // the same port answers again
 *   });
 * });
 * ```
 *
 * Engine and image come from ../global-setup.ts. What a client sees through a mapped port, because Docker's
 * proxy sits between: a connect always succeeds while the container runs, paused or not; a reset by the server
 * arrives as an orderly end; bytes sent to a paused server are acknowledged. So assert that a connection was
 * lost, not how. For refused, reset and hanging connects take a plain node:net server on 127.0.0.1, or servers with
 * addresses of their own: echo-group.ts. A DNS server whose answers change: dns-server.ts.
 */
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  type ExecResult,
  GenericContainer,
  getContainerRuntimeClient,
  type StartedTestContainer,
  Wait,
} from 'testcontainers';
import { describe } from 'vitest';
import { type Certificates, type Identity, makeCertificates } from './certificates.ts';
import { archiveOfPackages } from './installed-packages.ts';
import { RUN_LABEL } from './run-label.ts';

/** True when someone asked for these tests to be left out, with PULSEPOOL_TEST_CONTAINERS=off. */
const serversAreOff = process.env['PULSEPOOL_TEST_CONTAINERS'] === 'off';

/** `describe` for tests that need containers: skipped when {@link serversAreOff}, and only then. */
export const describeWithServers: ReturnType<typeof describe.skipIf> = describe.skipIf(serversAreOff);

/**
 * `describe` for tests that need more of the machine than an engine. With a reason why that can't be had here they are
 * skipped; the reason stands in their name and on stderr, so that nobody takes them for passed.
 */
export function describeUnless(reason: string | undefined): (name: string, tests: () => void) => void {
  return (name, tests) => {
    if (serversAreOff || reason === undefined) {
      describeWithServers(name, tests);
      return;
    }
    process.stderr.write(`\n*** LEFT OUT: ${name}. ${reason} ***\n\n`);
    describe.skip(`${name} (left out: ${reason})`, tests);
  };
}

/**
 * Why containers can't be reached by their own addresses, `undefined` where they can: on Linux, when the engine's bridges
 * are on this machine's kernel and in this process's network. Not with Docker Desktop (its bridges are in a virtual machine),
 * a rootless engine, one on another machine, or when the tests themselves run in a container.
 */
export const noOwnAddresses: string | undefined =
  existsSync('/sys/class/net/docker0') && !process.env['DOCKER_HOST']?.startsWith('tcp:')
    ? undefined
    : 'There is no docker0 here, so the addresses of containers can not be reached; that takes an engine on this Linux.';

/** `describe` for tests that reach containers by their own addresses: skipped, visibly, where {@link noOwnAddresses}. */
export const describeWithOwnAddresses: ReturnType<typeof describeUnless> = describeUnless(noOwnAddresses);

export interface StartOptions {
  /**
   * Keep the same ports on the host through `kill()`, `restart()` and `start()`. Default: `false`, and Docker
   * hands out new ones at every start; {@link Server.ports} then follows.
   */
  pinned?: boolean;
  /** Let `exec()` use iptables, `ss -K` and tc inside the container. Default: `false`. */
  netAdmin?: boolean;
}

/** A server in a container. `Port` names its listeners. */
export interface Server<Port extends string = string> {
  /** Where the ports are: 127.0.0.1, unless the engine is another machine. */
  readonly host: string;
  /** The ports on the host as they are now. */
  readonly ports: Readonly<Record<Port, number>>;
  /** The server's first port, the usual one. */
  readonly port: number;
  /** For all else that testcontainers can do. Its own `restart()` can hang here: use {@link Server.restart}. */
  readonly container: StartedTestContainer;
  /** Freezes every process: connections stay open and silent, new ones open and are silent. */
  pause(): Promise<void>;
  /** Undoes {@link Server.pause}; what was sent meanwhile is answered now. */
  unpause(): Promise<void>;
  /** SIGKILL. Returns when it is gone: connections have ended, the ports refuse. */
  kill(): Promise<void>;
  /** Starts what was killed. Returns when the server answers. */
  start(): Promise<void>;
  /** SIGTERM (SIGKILL after a second), then start. Returns when the server answers. */
  restart(): Promise<void>;
  /** Runs a command in the container. */
  exec(command: string[]): Promise<ExecResult>;
  /** Removes the container, paused or dead as it may be. A second call does nothing. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface EchoOptions extends StartOptions {
  /** Default: {@link makeCertificates}. */
  certificates?: Certificates;
  /** What the server shows on `tls` and `mutualTls`. Default: `certificates.server`. */
  identity?: Identity;
  /**
   * Listen on a Unix socket, too, in a directory shared with the container. Works where the engine runs on this
   * machine's kernel: not through Docker Desktop. Default: `false`.
   */
  unixSocket?: boolean;
}

/**
 * The project's echo server (servers/echo).
 *
 * - `line`: `text\n` gets `Echo: text\n`, `PING\n` gets `PONG\n`; `!delay MS\n` slows every reply from then on, on all
 *   listeners but `raw`, and `!count\n` gets the number of lines that were echoed
 * - `raw`: bytes come back
 * - `frames`: frames with a 4-byte big-endian length come back
 * - `tls`: as `line` under TLS, ALPN `echo/1`; `WHO\n` gets `sni=… alpn=… client=…\n`
 * - `mutualTls`: the same, for clients with a certificate of `certificates.ca`
 */
export interface EchoServer extends Server<'line' | 'raw' | 'frames' | 'tls' | 'mutualTls'> {
  readonly certificates: Certificates;
  /** The path of the line echo's Unix socket, `''` without `unixSocket`. */
  readonly socketPath: string;
}

/** Starts the echo server. */
export async function startEcho(options: EchoOptions = {}): Promise<EchoServer> {
  const certificates = options.certificates ?? makeCertificates();
  const identity = options.identity ?? certificates.server;
  const directory = options.unixSocket ? await mkdtemp(join(tmpdir(), 'pulsepool-')) : '';
  const command = 'echo-server -line :7000 -raw :7001 -frames :7002 -tls :7003 -mtls :7004'.split(' ');
  command.push('-cert', '/tls/cert.pem', '-key', '/tls/key.pem', '-client-ca', '/tls/ca.pem');
  if (directory !== '') {
    command.push('-unix', '/run/pulsepool/echo.sock');
    // Where user namespaces are remapped, the container's root is a stranger to this directory.
    await chmod(directory, 0o777);
  }
  const server = await startServer(options, {
    name: 'echo',
    command,
    ports: { line: 7000, raw: 7001, frames: 7002, tls: 7003, mutualTls: 7004 },
    readyLog: /^ready/,
    probe: { port: 'line', question: 'PING\n', answer: 'PONG\n' },
    adjust(container) {
      container.withCopyContentToContainer([
        { content: identity.cert, target: '/tls/cert.pem' },
        { content: identity.key, target: '/tls/key.pem' },
        { content: certificates.ca, target: '/tls/ca.pem' },
      ]);
      if (directory !== '') container.withBindMounts([{ source: directory, target: '/run/pulsepool' }]);
    },
    cleanUp: () => (directory === '' ? Promise.resolve() : rm(directory, { recursive: true, force: true })),
  });
  return Object.assign(server, {
    certificates,
    socketPath: directory === '' ? '' : join(directory, 'echo.sock'),
  });
}

/** socat, which sends every byte back: a server that nobody here wrote. One process for each connection. */
export type SocatServer = Server<'raw'>;

export async function startSocat(options: StartOptions = {}): Promise<SocatServer> {
  return startServer(options, {
    name: 'socat',
    // Twice -d, or it doesn't log that it listens.
    command: ['socat', '-d', '-d', 'TCP-LISTEN:7,fork,reuseaddr', 'EXEC:cat'],
    ports: { raw: 7 },
    readyLog: /listening on/,
    probe: { port: 'raw', question: 'PING\n', answer: 'PING\n' },
  });
}

/** Redis, without persistence and without a password. */
export type RedisServer = Server<'redis'>;

export async function startRedis(options: StartOptions = {}): Promise<RedisServer> {
  return startServer(options, {
    name: 'redis',
    command: ['redis-server', '--protected-mode', 'no', '--save', ''],
    ports: { redis: 6379 },
    readyLog: /Ready to accept connections/,
    probe: { port: 'redis', question: 'PING\r\n', answer: '+PONG\r\n' },
  });
}

/** memcached, in memory only. */
export type MemcachedServer = Server<'memcached'>;

export async function startMemcached(options: StartOptions = {}): Promise<MemcachedServer> {
  return startServer(options, {
    name: 'memcached',
    // Twice -v, or it doesn't log that it listens.
    command: ['memcached', '-u', 'nobody', '-vv'],
    ports: { memcached: 11211 },
    readyLog: /server listening/,
    probe: { port: 'memcached', question: 'mn\r\n', answer: 'MN\r\n' },
  });
}

/** A NATS server that pings whoever is silent for half a second. */
export type NatsServer = Server<'nats'>;

export async function startNats(options: StartOptions = {}): Promise<NatsServer> {
  return startServer(options, {
    name: 'nats',
    command: ['nats-server', '-c', '/etc/nats.conf'],
    ports: { nats: 4222 },
    readyLog: /Server is ready/,
    probe: { port: 'nats', question: '', answer: 'INFO {' },
    adjust(container) {
      container.withCopyContentToContainer([{ content: 'ping_interval: "500ms"', target: '/etc/nats.conf' }]);
    },
  });
}

/** mosquitto, an MQTT broker: `mqtt` is for everybody, `members` for members, of which there are none. */
export type MosquittoServer = Server<'mqtt' | 'members'>;

export async function startMosquitto(options: StartOptions = {}): Promise<MosquittoServer> {
  return startServer(options, {
    name: 'mosquitto',
    command: ['mosquitto', '-c', '/etc/mosquitto.conf'],
    ports: { mqtt: 1883, members: 1884 },
    readyLog: /mosquitto version \S+ running/,
    // CONNECT of MQTT 3.1.1, and the CONNACK that accepts it.
    probe: {
      port: 'mqtt',
      question: '\x10\x0c\0\x04MQTT\x04\x02\0\x0a\0\0',
      answer: '\x20\x02\0\0',
    },
    adjust(container) {
      const content = [
        'per_listener_settings true',
        'listener 1883',
        'allow_anonymous true',
        'listener 1884',
        'allow_anonymous false\n',
      ].join('\n');
      container.withCopyContentToContainer([{ content, target: '/etc/mosquitto.conf' }]);
    },
  });
}

/** OpenSMTPD. It takes mail for addresses @example.test, from everybody, and delivers it to one mailbox. */
export interface SmtpServer extends Server<'smtp'> {
  /** The mails that have been delivered, one after the other in no order. */
  delivered(): Promise<string>;
}

export async function startSmtp(options: StartOptions = {}): Promise<SmtpServer> {
  const server = await startServer(options, {
    name: 'smtp',
    command: ['smtpd', '-d', '-f', '/etc/smtpd-test.conf'],
    ports: { smtp: 25 },
    readyLog: /OpenSMTPD \S+ starting/,
    probe: { port: 'smtp', question: '', answer: '220 ' },
    adjust(container) {
      const content = [
        'listen on 0.0.0.0',
        'action "deliver" maildir "/tmp/mail" virtual { "@" = nobody }',
        'match from any for domain "example.test" action "deliver"\n',
      ].join('\n');
      container.withCopyContentToContainer([
        { content, target: '/etc/smtpd-test.conf' },
        // Without a full name of its machine it doesn't start.
        { content: 'mail.example.test\n', target: '/etc/mailname' },
      ]);
    },
  });
  return Object.assign(server, {
    async delivered() {
      const { output } = await server.exec(['find', '/tmp', '-path', '*/new/*', '-exec', 'cat', '{}', '+']);
      return output;
    },
  });
}

/** A NestJS microservice over TCP (servers/nest, whose opening comment lists what it answers). */
export type NestServer = Server<'nest'>;

const NEST_PACKAGES = ['@nestjs/common', '@nestjs/core', '@nestjs/microservices', 'reflect-metadata', 'rxjs'];

export async function startNest(options: StartOptions = {}): Promise<NestServer> {
  const question = '{"pattern":{"cmd":"sum"},"data":[1,2],"id":1}';
  return startServer(options, {
    name: 'nest',
    command: ['node', '/srv/server.mjs'],
    ports: { nest: 3000 },
    readyLog: /^ready/m,
    probe: { port: 'nest', question: `${question.length}#${question}`, answer: '39#{"response":3,' },
    adjust(container) {
      const server = fileURLToPath(new URL('../servers/nest/server.mjs', import.meta.url));
      container.withCopyFilesToContainer([{ source: server, target: '/srv/server.mjs' }]);
      container.withCopyArchivesToContainer([{ tar: archiveOfPackages(NEST_PACKAGES), target: '/srv' }]);
    },
  });
}

/**
 * The line server that breaks on command (servers/misbehave, whose opening comment lists all commands).
 *
 * One connection is broken by the line it sends on `data`: `!silent`, `!late MS TEXT`, `!split MS TEXT`,
 * `!half TEXT`, `!double TEXT`, `!bye TEXT`, `!drop`, `!reset`, `!stray MS`, `!strayfin MS`, `!garbage tls|http`,
 * `!long N`, `!deaf`, `!ping MS`, `!ponged`. All are broken by {@link MisbehaveServer.control}.
 */
export interface MisbehaveServer extends Server<'data' | 'control'> {
  /**
   * `count`, `full on|off`, `mute on|off`, `idle MS`, `dropall`, `behave`: one command to the whole server, and
   * its one-line answer. An unknown one is an error. `behave` and a restart turn off all that was set.
   */
  control(command: string): Promise<string>;
  /** Connections to `data` that are open, and that were ever accepted since the server's start. */
  count(): Promise<{ open: number; total: number }>;
}

export async function startMisbehave(options: StartOptions = {}): Promise<MisbehaveServer> {
  const server = await startServer(options, {
    name: 'misbehave',
    command: ['misbehave-server', '-data', ':7100', '-control', ':7101'],
    ports: { data: 7100, control: 7101 },
    readyLog: /^ready/,
    // Asked on the control port, so that count() tells of the test's connections only.
    probe: { port: 'control', question: 'PING\n', answer: 'PONG\n' },
  });
  const control = async (command: string): Promise<string> => {
    const answer = await ask(server.host, server.ports.control, `${command}\n`, 5_000);
    if (answer.startsWith('unknown command')) throw new Error(answer);
    return answer;
  };
  return Object.assign(server, {
    control,
    async count() {
      const numbers = /^open=(\d+) total=(\d+)$/.exec(await control('count'));
      return { open: Number(numbers?.[1]), total: Number(numbers?.[2]) };
    },
  });
}

/**
 * Connects, sends `question`, and returns the first line that comes, without its end. Rejects when none has come
 * after `timeoutMs`.
 */
export async function ask(host: string, port: number, question: string, timeoutMs: number): Promise<string> {
  const received = await exchange(host, port, question, timeoutMs, (text) => text.includes('\n'));
  return received.slice(0, received.indexOf('\n')).replace(/\r$/, '');
}

/** Connects, sends `question`, and returns what has come as soon as that is enough. */
function exchange(
  host: string,
  port: number,
  question: string,
  timeoutMs: number,
  isEnough: (received: string) => boolean,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port });
    let received = '';
    const fail = (reason: string) => {
      clearTimeout(timer);
      socket.destroy();
      reject(new Error(`${reason} (asked ${JSON.stringify(question)} of ${host}:${port})`));
    };
    const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
    socket.setEncoding('utf8');
    socket.on('error', (error) => fail(error.message));
    socket.on('end', () => fail('the connection ended without an answer'));
    socket.on('data', (chunk: string) => {
      received += chunk;
      if (!isEnough(received)) return;
      clearTimeout(timer);
      socket.destroy();
      resolve(received);
    });
    socket.write(question);
  });
}

/** An address of its own on a network, instead of ports on the host. Who moves the server changes it. */
export interface Place {
  readonly network: string;
  address: string;
}

export interface Recipe<Port extends string> {
  name: string;
  command: string[];
  /** The listeners' ports inside the container, the usual one first. */
  ports: Record<Port, number>;
  readyLog: RegExp;
  /**
   * How to know that it answers, and how its answer begins; or a function that rejects until it does. An accepted
   * connection proves nothing: Docker's proxy accepts before it.
   */
  probe: { port: NoInfer<Port>; question: string; answer: string } | (() => Promise<void>);
  /** Where it is reached directly. Default: on ports of the host. */
  place?: Place;
  adjust?(container: GenericContainer): void | Promise<void>;
  cleanUp?(): Promise<void>;
}

/** Starts what the recipe says, and returns when it answers. */
export async function startServer<Port extends string>(
  options: StartOptions,
  recipe: Recipe<Port>,
): Promise<Server<Port>> {
  const names = Object.keys(recipe.ports) as Port[];
  const container = await startContainer(options, recipe, names);
  // testcontainers knows neither pause nor kill, so those go to the engine's API.
  const { container: engine } = await getContainerRuntimeClient();
  const handle = engine.getById(container.getId());
  const { place, probe } = recipe;
  const hostOfPorts = container.getHost();
  const currentHost = () => place?.address ?? hostOfPorts;
  let ports = Object.fromEntries(
    names.map((name) => [name, place ? recipe.ports[name] : container.getMappedPort(recipe.ports[name])]),
  ) as Record<Port, number>;

  /** Ports that are not pinned are others after each start. */
  const readPorts = async () => {
    if (place) return;
    const { NetworkSettings } = await handle.inspect();
    ports = Object.fromEntries(
      names.map((name) => [
        name,
        Number(NetworkSettings.Ports[`${recipe.ports[name]}/tcp`]?.[0]?.HostPort ?? Number.NaN),
      ]),
    ) as Record<Port, number>;
  };
  const ready = async () => {
    await readPorts();
    await untilAnswers(recipe.name, async () => {
      if (typeof probe === 'function') return await probe();
      const { port, question, answer } = probe;
      const isEnough = ({ length }: string) => length >= answer.length;
      const came = await exchange(currentHost(), ports[port], question, 1_000, isEnough);
      if (!came.startsWith(answer)) {
        throw new Error(`${JSON.stringify(came)} came instead of ${JSON.stringify(answer)}`);
      }
    });
  };
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= container.stop().then(() => recipe.cleanUp?.());
    return stopped;
  };
  const server: Server<Port> = {
    get host() {
      return currentHost();
    },
    container,
    get ports() {
      return ports;
    },
    get port() {
      return Object.values<number>(ports)[0] ?? Number.NaN;
    },
    pause: async () => void (await handle.pause()),
    unpause: async () => void (await handle.unpause()),
    async kill() {
      await handle.kill();
      await handle.wait();
    },
    async start() {
      await handle.start();
      await ready();
    },
    async restart() {
      await handle.restart({ t: 1 });
      await ready();
    },
    exec: (command) => container.exec(command),
    stop,
    [Symbol.asyncDispose]: stop,
  };
  try {
    await ready();
    return server;
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startContainer(
  options: StartOptions,
  recipe: Recipe<string>,
  names: readonly string[],
): Promise<StartedTestContainer> {
  const image = process.env['PULSEPOOL_SERVERS_IMAGE'];
  if (serversAreOff) {
    throw new Error(
      `PULSEPOOL_TEST_CONTAINERS=off, yet a test starts ${recipe.name}: use describeWithServers.`,
    );
  }
  if (image === undefined) {
    throw new Error('PULSEPOOL_SERVERS_IMAGE is not set: test/integration/global-setup.ts has not run.');
  }
  for (let attempt = 1; ; attempt++) {
    let log = '';
    const container = new PlacedContainer(image, recipe.place)
      .withCommand(recipe.command)
      .withLabels({ [RUN_LABEL]: process.env['PULSEPOOL_TEST_RUN'] ?? 'unknown' })
      .withStartupTimeout(20_000)
      .withLogConsumer((stream) => stream.on('data', (chunk) => (log += String(chunk))))
      // Not forListeningPorts: its connections would be counted by tests that count.
      .withWaitStrategy(Wait.forLogMessage(recipe.readyLog));
    const inside = names.map((name) => recipe.ports[name] ?? 0);
    if (recipe.place === undefined) {
      container.withExposedPorts(...(options.pinned ? await pinned(inside) : inside));
    }
    if (options.netAdmin) container.withAddedCapabilities('NET_ADMIN');
    await recipe.adjust?.(container);
    try {
      return await container.start();
    } catch (error) {
      // Between the look and the start someone else has taken a port. The rest is for teardown to remove.
      if (options.pinned && attempt < 5 && /already (allocated|in use)/.test(String(error))) continue;
      await recipe.cleanUp?.();
      throw new Error(`${recipe.name} did not start: ${error}\n${log}`, { cause: error });
    }
  }
}

/** testcontainers knows networks, but no address that is chosen. */
class PlacedContainer extends GenericContainer {
  constructor(image: string, place: Place | undefined) {
    super(image);
    if (place === undefined) return;
    this.withNetworkMode(place.network);
    this.createOpts.NetworkingConfig = {
      EndpointsConfig: { [place.network]: { IPAMConfig: { IPv4Address: place.address } } },
    };
  }
}

async function pinned(inside: readonly number[]): Promise<{ container: number; host: number }[]> {
  const bindings: { container: number; host: number }[] = [];
  for (const container of inside) {
    let host = await freePort();
    while (bindings.some((binding) => binding.host === host)) host = await freePort();
    bindings.push({ container, host });
  }
  return bindings;
}

/** A free port below 32768, from where on the system and Docker hand out their own. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 32_768);
    const free = await new Promise<boolean>((resolve) => {
      const server = net.createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '0.0.0.0', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

export async function untilAnswers(name: string, probe: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    try {
      return await probe();
    } catch (error) {
      if (Date.now() > deadline) throw new Error(`${name} does not answer: ${error}`, { cause: error });
      await sleep(20);
    }
  }
}

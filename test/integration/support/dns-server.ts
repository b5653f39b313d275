/**
 * A real DNS server (unbound) in a container, whose answers the test changes while clients ask.
 *
 * ```ts
 * await using dns = await startDnsServer({ addresses: { 'api.test': ['10.0.0.1', '10.0.0.2'] } });
 * resolver.setServers([dns.server]);
 * await dns.setAddresses('api.test', ['10.0.0.3']); // the next answer is the new one
 * await dns.fail('api.test'); // SERVFAIL
 * ```
 *
 * It has authority for all names, and asks nobody: a name that nothing was said about is NXDOMAIN, and a type that a
 * name doesn't have is NODATA. Addresses come in the order in which they were given.
 *
 * A change rewrites all records and has unbound reload them. It keeps its sockets meanwhile, so an answer is the old one
 * or the new one, never a mixture and never an error, though it may come some 60 ms late. A change takes about 0.1 s; those
 * that are asked for at once are one.
 *
 * What node:dns sees, measured:
 *
 * | | at `server`, the mapped port | at `address` |
 * |---|---|---|
 * | `fail()`, `refuse()` | ESERVFAIL, EREFUSED, within 1 ms | the same |
 * | `drop()` | ETIMEOUT | ETIMEOUT |
 * | `pause()` | ETIMEOUT; after `unpause()` what is still awaited is answered | the same |
 * | `kill()` | ECONNREFUSED, within 1 ms | ETIMEOUT |
 */
import { spawn, spawnSync } from 'node:child_process';
import dgram from 'node:dgram';
import { lookup, Resolver } from 'node:dns/promises';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { getContainerRuntimeClient } from 'testcontainers';
import {
  describeUnless,
  freePort,
  noOwnAddresses,
  type Place,
  startServer,
  untilAnswers,
} from './containers.ts';

const CONFIG = '/etc/unbound/test.conf';
/** Names that only this file asks for. */
const OWN = 'pulsepool.invalid';
/** Which set of records is being served: every change counts it up, and is done when it is answered. */
const GENERATION = `generation.${OWN}`;

export interface DnsServerOptions {
  /** What {@link DnsServer.setAddresses} would say, from the first answer on. Default: `{}`. */
  addresses?: Readonly<Record<string, readonly string[]>>;
  /** An address that stays, on an echo group's network. Default: Docker's own network, and an address that may change. */
  place?: Place;
}

/** One SRV record (RFC 2782). */
interface Service {
  target: string;
  port: number;
  /** Lower ones first. Default: 0. */
  priority?: number;
  /** Default: 1. */
  weight?: number;
}

export interface DnsServer {
  /** `ip:port`, for `resolvers` and `setServers`: UDP and TCP on this machine, the same after `kill()` and `start()`. */
  readonly server: string;
  /** Its address on its own network, where it has port 53. Reached from this machine on Linux only. */
  readonly address: string;
  /**
   * A and AAAA records instead of those before. None at all: the name exists and has no address (NODATA).
   * Undoes `fail`, `refuse` and `drop`.
   */
  setAddresses(name: string, addresses: readonly string[], ttlSeconds?: number): Promise<void>;
  /** SRV records instead of those before. `name` is the whole one: `_line._tcp.api.test`. */
  setServices(name: string, services: readonly Service[], ttlSeconds?: number): Promise<void>;
  /** NXDOMAIN. */
  remove(name: string): Promise<void>;
  /** SERVFAIL, for the name and those below it that have no records. So do the next two. */
  fail(name: string): Promise<void>;
  /** REFUSED. */
  refuse(name: string): Promise<void>;
  /** No answer at all. */
  drop(name: string): Promise<void>;
  /** Freezes the server: it answers when it goes on. Its records can't be changed meanwhile. */
  pause(): Promise<void>;
  unpause(): Promise<void>;
  /** SIGKILL. Records may be changed meanwhile: it starts with the new ones. */
  kill(): Promise<void>;
  /** Starts what was killed. Returns when it answers, with all that was said about names. */
  start(): Promise<void>;
  /**
   * How many questions have come since the first start: all, those about a name, or those of a type ('A') about it.
   * Exact for what was answered before; takes some 10 ms.
   */
  queries(name?: string, type?: string): Promise<number>;
  /** Removes the container. A second call does nothing. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** How a script ended. */
export interface ScriptResult {
  stdout: string;
  stderr: string;
  /** `null` when it was killed, by its time or otherwise. */
  exitCode: number | null;
}

/**
 * Runs JavaScript (an ES module; `pulsepool` is the build in dist/) in a Node of its own, whose system resolver, getaddrinfo
 * of `dns.lookup`, asks only this server. Waits 1 s for an answer, and asks twice: a server that is silent is
 * EAI_AGAIN after 2 s. It is killed after 30 s.
 *
 * The process sees another /etc/resolv.conf, in a mount namespace of its own: that takes Linux, `unshare` of util-linux,
 * and root or the right to make user namespaces. Where it can't be, this rejects; a test in
 * {@link describeWithSystemResolver} is left out instead, and says so.
 */
export async function runWithSystemResolver(
  script: string,
  server: Pick<DnsServer, 'address'>,
): Promise<ScriptResult> {
  const directory = await mkdtemp(join(tmpdir(), 'pulsepool-resolver-'));
  try {
    const resolv = join(directory, 'resolv.conf');
    const nsswitch = join(directory, 'nsswitch.conf');
    await writeFile(resolv, `nameserver ${server.address}\noptions timeout:1 attempts:2\n`);
    // Others would be asked before the server, by way of a socket: mDNS, systemd-resolved.
    await writeFile(nsswitch, 'hosts: files dns\n');
    const node = [process.execPath, '--input-type=module', '--eval', script];
    const child = spawn(
      UNSHARE,
      [...NAMESPACE, 'sh', '-c', OTHER_RESOLVER, 'sh', resolv, nsswitch, ...node],
      {
        cwd: fileURLToPath(new URL('../../..', import.meta.url)),
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: 30_000,
        killSignal: 'SIGKILL',
      },
    );
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    const [stdout, stderr, exitCode] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    if (/^(unshare|pulsepool): /m.test(stderr)) throw new Error(stderr);
    return { stdout, stderr, exitCode };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const UNSHARE = 'unshare';
const NAMESPACE = [
  ...(process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']),
  '--mount',
  '--propagation',
  'private',
];
// nscd, where it runs, answers from its own cache.
const OTHER_RESOLVER = `{
  mount --bind "$1" /etc/resolv.conf &&
  { [ ! -e /etc/nsswitch.conf ] || mount --bind "$2" /etc/nsswitch.conf; } &&
  { [ ! -d /run/nscd ] || mount -t tmpfs none /run/nscd; }
} || { echo 'pulsepool: it has no resolv.conf of its own' >&2; exit 1; }
shift 2
exec "$@"`;

function whyNoSystemResolver(): string | undefined {
  if (noOwnAddresses !== undefined) return noOwnAddresses;
  const same = ['/etc/resolv.conf', '/etc/nsswitch.conf'];
  const tried = spawnSync(UNSHARE, [...NAMESPACE, 'sh', '-c', OTHER_RESOLVER, 'sh', ...same, 'true']);
  if (tried.status === 0) return undefined;
  return `A process can not be given an /etc/resolv.conf of its own: ${tried.error ?? tried.stderr}`.trim();
}

/** `describe` for tests with {@link runWithSystemResolver}. */
export const describeWithSystemResolver: ReturnType<typeof describeUnless> = describeUnless(
  whyNoSystemResolver(),
);

/** What unbound says about a name: `static` is its records and nothing else. */
type Behaviour = 'static' | 'always_transparent' | 'always_refuse' | 'always_deny';

interface Zone {
  behaviour: Behaviour;
  addresses: readonly string[];
  services: readonly string[];
}

/** Starts a DNS server. */
export async function startDnsServer(options: DnsServerOptions = {}): Promise<DnsServer> {
  const { container: engine, info } = await getContainerRuntimeClient();
  const { address: host, family } = await lookup(info.containerRuntime.host);
  const zones = new Map<string, Zone>();
  let generation = 0;
  let state: 'running' | 'paused' | 'dead' = 'running';
  let server = '';
  let lastAsked = 0;

  const zone = (name: string, behaviour: Behaviour): Zone => {
    const found = zones.get(checkedName(name)) ?? { behaviour, addresses: [], services: [] };
    found.behaviour = behaviour;
    zones.set(checkedName(name), found);
    return found;
  };
  for (const [name, addresses] of Object.entries(options.addresses ?? {})) {
    zone(name, 'static').addresses = addressRecords(addresses, 1);
  }

  const textOf = async (name: string): Promise<string> => {
    // A new one each time: c-ares remembers that a server has failed.
    const resolver = new Resolver({ timeout: 500, tries: 1 });
    resolver.setServers([server]);
    return (await resolver.resolveTxt(name)).join();
  };
  /** Rejects until the present records are what is answered. */
  const served = async (): Promise<void> => {
    const found = await textOf(GENERATION);
    if (found !== String(generation)) throw new Error(`generation ${found} is served, not ${generation}`);
  };

  const started = await startServer<never>(
    // Pinned, so that a port that is taken meanwhile leads to another try.
    { pinned: true },
    {
      name: 'unbound',
      command: ['unbound', '-d', '-c', CONFIG],
      ports: {},
      readyLog: /start of service/,
      ...(options.place ? { place: options.place } : {}),
      async adjust(container) {
        const port = await freePortOfBoth();
        server = family === 6 ? `[${host}]:${port}` : `${host}:${port}`;
        container.withExposedPorts(
          { container: 53, host: port, protocol: 'udp' },
          { container: 53, host: port, protocol: 'tcp' },
        );
        container.withCopyContentToContainer([{ content: configOf(zones, generation), target: CONFIG }]);
      },
      probe: served,
    },
  );
  const handle = engine.getById(started.container.getId());
  const ownAddress = async (): Promise<string> => {
    const { Networks } = (await handle.inspect()).NetworkSettings;
    return Object.values(Networks)[0]?.IPAddress ?? '';
  };
  let address = await ownAddress();

  const write = async (): Promise<void> => {
    generation++;
    await started.container.copyContentToContainer([
      { content: configOf(zones, generation), target: CONFIG },
    ]);
    if (state === 'dead') return;
    await handle.kill({ signal: 'SIGHUP' });
    await untilAnswers('unbound', served);
  };
  const logged = async (): Promise<{ name: string; type: string }[]> => {
    const log = (await handle.logs({ stdout: true, stderr: true })).toString('latin1');
    return [...log.matchAll(/info: \S+ (\S+)\. (\S+) IN$/gm)].map(([, name = '', type = '']) => ({
      name: name.toLowerCase(),
      type,
    }));
  };
  /** What has been asked. The engine's log lags: what is asked last is waited for, so that all before it is there, too. */
  const questions = async (): Promise<{ name: string; type: string }[]> => {
    if (state !== 'running') return await logged();
    const last = `last-${++lastAsked}.${OWN}`;
    // It does not exist, and that is an answer.
    await textOf(last).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTFOUND') throw error;
    });
    for (const deadline = Date.now() + 5_000; ; await sleep(5)) {
      const found = await logged();
      if (found.some(({ name }) => name === last)) return found;
      if (Date.now() > deadline) throw new Error('the DNS server does not log what it is asked');
    }
  };
  /** Settles when the last change has; whoever asked for that one is told how. */
  let settled: Promise<void> = Promise.resolve();
  let next: Promise<void> | undefined;
  const change = async (edit: () => unknown): Promise<void> => {
    if (state === 'paused')
      throw new Error('unpause() first: a DNS server that is paused can not reload its records');
    edit();
    next ??= settled.then(() => {
      next = undefined;
      return write();
    });
    settled = next.then(
      () => undefined,
      () => undefined,
    );
    await next;
  };

  return {
    get server() {
      return server;
    },
    get address() {
      return address;
    },
    async setAddresses(name, addresses, ttlSeconds = 1) {
      const records = addressRecords(addresses, ttlSeconds);
      await change(() => {
        zone(name, 'static').addresses = records;
      });
    },
    async setServices(name, services, ttlSeconds = 1) {
      const records = serviceRecords(services, ttlSeconds);
      await change(() => {
        zone(name, 'static').services = records;
      });
    },
    remove: (name) => change(() => zones.delete(checkedName(name))),
    fail: (name) => change(() => zone(name, 'always_transparent')),
    refuse: (name) => change(() => zone(name, 'always_refuse')),
    drop: (name) => change(() => zone(name, 'always_deny')),
    async pause() {
      // From here on, so that no change is begun that can't end.
      state = 'paused';
      await settled;
      await started.pause();
    },
    async unpause() {
      await started.unpause();
      state = 'running';
    },
    async kill() {
      await settled;
      await started.kill();
      state = 'dead';
    },
    async start() {
      await settled;
      await started.start();
      state = 'running';
      address = await ownAddress();
    },
    async queries(name, type) {
      await settled;
      const wanted = name === undefined ? undefined : checkedName(name);
      return (await questions()).filter(
        (question) =>
          !question.name.endsWith(OWN) &&
          (wanted === undefined || question.name === wanted) &&
          (type === undefined || question.type === type),
      ).length;
    },
    stop: started.stop,
    [Symbol.asyncDispose]: started.stop,
  };
}

function configOf(zones: ReadonlyMap<string, Zone>, generation: number): string {
  const lines = [
    'server:',
    // To stderr, every question with it: queries() reads that.
    'use-syslog: no',
    'logfile: ""',
    'log-queries: yes',
    'chroot: ""',
    'username: ""',
    'pidfile: ""',
    'interface: 0.0.0.0',
    'access-control: 0.0.0.0/0 allow',
    'module-config: "iterator"',
    'rrset-roundrobin: no',
    // Nobody is asked: what has no zone below is NXDOMAIN.
    'local-zone: "." static',
    `local-zone: "${OWN}." static`,
    `local-data: '${GENERATION}. 0 IN TXT "${generation}"'`,
  ];
  const failing: string[] = [];
  for (const [name, { behaviour, addresses, services }] of zones) {
    lines.push(`local-zone: "${name}." ${behaviour}`);
    if (behaviour === 'static') {
      // Without any record a static zone's own name would be NXDOMAIN.
      const records = ['1 IN TXT "present"', ...addresses, ...services];
      lines.push(...records.map((record) => `local-data: '${name}. ${record}'`));
    } else if (behaviour === 'always_transparent') {
      failing.push(name);
    }
  }
  lines.push('remote-control:', 'control-enable: no');
  // unbound doesn't ask its own machine, so there is nobody to ask: SERVFAIL, at once.
  for (const name of failing) lines.push('forward-zone:', `name: "${name}."`, 'forward-addr: 127.0.0.1@9');
  return `${lines.join('\n')}\n`;
}

// A mistake in its configuration would end the server, so it is told to the test instead.

function checkedName(name: string): string {
  if (!/^[\w-]+(\.[\w-]+)*\.?$/.test(name)) throw new TypeError(`no name for DNS: ${name}`);
  return name.toLowerCase().replace(/\.$/, '');
}

function addressRecords(addresses: readonly string[], ttlSeconds: number): string[] {
  return addresses.map((address) => {
    const family = isIP(address);
    if (family === 0) throw new TypeError(`no IP address: ${address}`);
    return `${whole(ttlSeconds)} IN ${family === 4 ? 'A' : 'AAAA'} ${address}`;
  });
}

function serviceRecords(services: readonly Service[], ttlSeconds: number): string[] {
  return services.map(({ target, port, priority = 0, weight = 1 }) => {
    const numbers = [priority, weight, port].map(whole).join(' ');
    return `${whole(ttlSeconds)} IN SRV ${numbers} ${checkedName(target)}.`;
  });
}

function whole(number: number): number {
  if (!Number.isInteger(number) || number < 0) throw new TypeError(`no whole number: ${number}`);
  return number;
}

/** Free for TCP and for UDP. */
async function freePortOfBoth(): Promise<number> {
  for (;;) {
    const port = await freePort();
    const socket = dgram.createSocket('udp4');
    const free = await new Promise<boolean>((resolve) => {
      socket.once('error', () => resolve(false));
      socket.bind(port, '0.0.0.0', () => resolve(true));
    });
    socket.close();
    if (free) return port;
  }
}

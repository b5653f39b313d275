/**
 * Echo servers with addresses of their own: several containers on one network, reached directly, as a client reaches pods
 * or machines.
 *
 * ```ts
 * describeWithOwnAddresses('a client of three servers', () => {
 *   test('…', async () => {
 *     await using group = await startEchoGroup(3);
 *     const [a, b, c] = group.members;
 *     await a.kill();
 *     await a.moveTo(group.freeAddress());
 *   });
 * });
 * ```
 *
 * No proxy sits between, so a client sees what it sees on a real network. Measured on Linux 6.18 with Docker 20.10:
 *
 * | fault | a connection that was open | a new one |
 * |---|---|---|
 * | `kill()` | FIN, within 15 ms | silence, then EHOSTUNREACH, mostly after 1 to 4 s; more than 6 s were seen |
 * | `start()` after it | is gone | serves; one that was waiting gets through at its next SYN, about 1 s later |
 * | `pause()` | silent, what it writes is acknowledged | connects, silent |
 * | `unpause()` | answers what it was sent | answers what it was sent |
 * | `disconnect()` | silent, what it writes is not acknowledged | silence, then EHOSTUNREACH after 1 to 4 s |
 * | `reconnect()` | lives: 0.6 s later it answers what it was sent | serves |
 * | `moveTo()` | FIN | at the old address as after `kill()`; at the new one it serves |
 *
 * How long EHOSTUNREACH takes depends on when the kernel last heard of the neighbour (three ARP probes, one a second): so
 * assert that a connect fails or hangs, not how. Three servers and a DNS server start in about 1 s and stop in 0.5 s.
 *
 * Only on Linux, on the engine's own machine: see `noOwnAddresses` in containers.ts.
 */
import { randomInt } from 'node:crypto';
import { BlockList } from 'node:net';
import { networkInterfaces } from 'node:os';
import { getContainerRuntimeClient } from 'testcontainers';
import { ask, type Place, type Server, startServer } from './containers.ts';
import { RUN_LABEL } from './run-label.ts';

export interface EchoGroupOptions {
  /** Each server's base service time in milliseconds, before each reply of a connection. Default: 0. */
  delayMs?: number;
}

/** One echo server of a group. Its line listener is the one of `startEcho`. */
export interface EchoMember {
  /** `a`, `b`, `c`, … What it answers to the line `WHOAMI`. */
  readonly name: string;
  /** Where it is, or was last. */
  readonly address: string;
  /** 7000. */
  readonly port: number;
  /** For all else: `exec()`, the container itself. */
  readonly server: Server<'line'>;
  kill(): Promise<void>;
  /** Starts what was killed, at the same address. Its count is 0, and its delay the group's. */
  start(): Promise<void>;
  pause(): Promise<void>;
  unpause(): Promise<void>;
  /** Pulls its cable. The process goes on. */
  disconnect(): Promise<void>;
  /** Undoes {@link EchoMember.disconnect}, at the same address. */
  reconnect(): Promise<void>;
  /** Kills it, if it is alive, and starts it at another address, whatever its state. Returns when it answers there. */
  moveTo(address: string): Promise<void>;
  /** Adds this time, in milliseconds, to each reply from now on, for every connection. 0: none. */
  delay(ms: number): Promise<void>;
  /** How many lines it has echoed since its start. PING and what {@link EchoMember.delay} sends don't count. */
  count(): Promise<number>;
}

export interface EchoGroup {
  readonly members: readonly EchoMember[];
  /** An address on the group's network that nobody has or had. */
  freeAddress(): string;
  /** The same, for `startDnsServer`. Stop that server before the group. */
  freePlace(): Place;
  /** Removes the containers and their network. A second call does nothing. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts `n` echo servers, at most 26, named `a`, `b`, `c`, … */
export async function startEchoGroup(n: number, options: EchoGroupOptions = {}): Promise<EchoGroup> {
  const network = await openNetwork();
  const members: EchoMember[] = [];
  let stopped: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    const endings = await Promise.allSettled(members.map(({ server }) => server.stop()));
    await network.remove();
    for (const ending of endings) if (ending.status === 'rejected') throw ending.reason;
  };
  const stopOnce = () => {
    stopped ??= stop();
    return stopped;
  };
  const starts = await Promise.allSettled(
    Array.from({ length: n }, (_, index) =>
      startMember(network, String.fromCharCode(97 + index), options.delayMs ?? 0),
    ),
  );
  for (const start of starts) if (start.status === 'fulfilled') members.push(start.value);
  for (const start of starts) {
    if (start.status === 'fulfilled') continue;
    await stopOnce().catch((error: unknown) => {
      throw new AggregateError([start.reason, error], 'a group did not start, and could not be removed');
    });
    throw start.reason;
  }
  return {
    members,
    freeAddress: network.freeAddress,
    freePlace: () => ({ network: network.name, address: network.freeAddress() }),
    stop: stopOnce,
    [Symbol.asyncDispose]: stopOnce,
  };
}

async function startMember(network: Network, name: string, delayMs: number): Promise<EchoMember> {
  const place: Place = { network: network.name, address: network.freeAddress() };
  const server = await startServer<'line'>(
    {},
    {
      name: `echo ${name}`,
      command: `echo-server -line :7000 -name ${name} -delay ${delayMs}`.split(' '),
      ports: { line: 7000 },
      readyLog: /^ready/,
      probe: { port: 'line', question: 'PING\n', answer: 'PONG\n' },
      place,
    },
  );
  const id = server.container.getId();
  const say = (line: string) => ask(place.address, server.port, `${line}\n`, 5_000);
  let isAlive = true;
  let isConnected = true;
  const kill = async () => {
    await server.kill();
    isAlive = false;
  };
  const start = async () => {
    await server.start();
    isAlive = true;
  };
  const disconnect = async () => {
    await network.disconnect(id);
    isConnected = false;
  };
  const connect = async (address: string) => {
    await network.connect(id, address);
    isConnected = true;
  };
  return {
    name,
    get address() {
      return place.address;
    },
    port: server.port,
    server,
    kill,
    start,
    pause: server.pause,
    unpause: server.unpause,
    disconnect,
    reconnect: () => connect(place.address),
    async moveTo(address) {
      if (isAlive) await kill();
      if (isConnected) await disconnect();
      await connect(address);
      place.address = address;
      await start();
    },
    async delay(ms) {
      const answer = await say(`!delay ${ms}`);
      if (answer !== `delay=${ms}`) throw new Error(answer);
    },
    count: async () => Number(await say('!count')),
  };
}

interface Network {
  readonly name: string;
  freeAddress(): string;
  connect(container: string, address: string): Promise<void>;
  disconnect(container: string): Promise<void>;
  remove(): Promise<void>;
}

/**
 * A network whose subnet is known, so that addresses can be chosen. It is one of 198.18.0.0/15, which is set aside for
 * benchmarks (RFC 2544) and hardly ever in use on the networks that a machine is on.
 */
async function openNetwork(): Promise<Network> {
  const { container, network: networks } = await getContainerRuntimeClient();
  const run = process.env['PULSEPOOL_TEST_RUN'] ?? 'unknown';
  for (let attempt = 1; ; attempt++) {
    const prefix = `198.${randomInt(18, 20)}.${randomInt(256)}`;
    if (isOnThisMachine(prefix)) continue;
    const name = `pulsepool-${prefix}-${process.pid}`;
    try {
      await container.dockerode.createNetwork({
        Name: name,
        CheckDuplicate: true,
        Labels: { [RUN_LABEL]: run },
        IPAM: { Driver: 'default', Config: [{ Subnet: `${prefix}.0/24`, Gateway: `${prefix}.1` }] },
      });
    } catch (error) {
      // Another engine's network, or one that is left over, has it.
      if (attempt < 10 && /overlap|already exists|conflict/i.test(String(error))) continue;
      throw error;
    }
    const handle = networks.getById(name);
    let last = 1;
    return {
      name,
      freeAddress() {
        if (last === 254) throw new Error(`${prefix}.0/24 has no address left`);
        last++;
        return `${prefix}.${last}`;
      },
      connect: (id, address) =>
        handle.connect({ Container: id, EndpointConfig: { IPAMConfig: { IPv4Address: address } } }),
      disconnect: (id) => handle.disconnect({ Container: id, Force: true }),
      remove: () => handle.remove(),
    };
  }
}

function isOnThisMachine(prefix: string): boolean {
  const ours = new BlockList();
  ours.addSubnet(`${prefix}.0`, 24);
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ family, internal }) => family === 'IPv4' && !internal)
    .some(({ address, cidr }) => {
      const theirs = new BlockList();
      theirs.addSubnet(address, Number(cidr?.split('/')[1] ?? 32));
      return ours.check(address) || theirs.check(`${prefix}.0`);
    });
}

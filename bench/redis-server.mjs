/**
 * A Redis server of our own on loopback, which keeps nothing and ends with us. The program is that of the system; on
 * a Debian machine without one, root installs it, but not the package that would start a server as a service.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const START_MS = 10_000;
const NAME = 'redis-server';
// Of Debian's redis-tools: the same program, which looks at the name under which it is started.
const SAME_PROGRAM = 'redis-check-rdb';

/** Starts the server, and resolves when it answers. */
export async function startRedis() {
  const program = await findProgram();
  const port = await freePort();
  const settings = { bind: '127.0.0.1', port, save: '', appendonly: 'no', daemonize: 'no' };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const child = spawn(program, args, { argv0: NAME, stdio: 'ignore' });
  /** @type {Error | undefined} */
  let error;
  child.once('error', (reason) => {
    error = reason;
  });
  const ended = once(child, 'exit');
  const stop = () => {
    child.kill();
  };
  // Also when a benchmark throws, or is ended for taking too long.
  process.once('exit', stop);
  for (const signal of /** @type {const} */ (['SIGTERM', 'SIGINT', 'SIGHUP'])) {
    process.once(signal, () => process.exit(1));
  }
  const begun = performance.now();
  while (!(await answers(port))) {
    const hasEnded = error !== undefined || child.exitCode !== null || child.signalCode !== null;
    if (hasEnded || performance.now() - begun > START_MS) {
      stop();
      throw new Error(`redis-server did not start: ${error?.message ?? `status ${child.exitCode}`}`);
    }
    await sleep(20);
  }
  return {
    port,
    stop: async () => {
      stop();
      await ended;
    },
  };
}

/** @param {number} port */
async function answers(port) {
  const socket = net.connect({ host: '127.0.0.1', port });
  try {
    await once(socket, 'connect');
    socket.write('PING\r\n');
    const [reply] = await once(socket, 'data');
    return String(reply).startsWith('+PONG');
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** A port that nobody listens at. Redis can't be asked for one: to it, port 0 is no port at all. */
async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = /** @type {net.AddressInfo} */ (server.address());
  server.close();
  await once(server, 'close');
  return port;
}

/** What to start, installed if need be. */
async function findProgram() {
  if (await succeeds(NAME, ['--version'])) return NAME;
  if (await succeeds(SAME_PROGRAM, ['--version'], NAME)) return SAME_PROGRAM;
  if (process.getuid?.() !== 0 || !(await succeeds('apt-get', ['--version']))) {
    throw new Error(`There is no ${NAME}. Install it, or run this as root on Debian, where it is installed.`);
  }
  process.stderr.write('installing redis-tools with apt-get\n');
  // One unreachable source of several is no reason to stop.
  await succeeds('apt-get', ['update']);
  await succeeds('apt-get', ['install', '-y', '--no-install-recommends', 'redis-tools']);
  if (await succeeds(SAME_PROGRAM, ['--version'], NAME)) return SAME_PROGRAM;
  throw new Error(`apt-get could not install redis-tools; install ${NAME} yourself.`);
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {string} [argv0] another name to start it under
 */
async function succeeds(command, args, argv0 = command) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const child = spawn(command, args, { argv0, stdio: 'ignore', env });
  try {
    const [status] = await once(child, 'exit');
    return status === 0;
  } catch {
    return false;
  }
}

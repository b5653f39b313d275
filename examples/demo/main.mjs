/**
 * The demo: a server, a pool, callers, and a story, shown as it happens.
 */
import { createPool } from 'pulsepool';
import { EchoServer } from './echo-server.mjs';
import { compareMarks, compareWithEcho, Load } from './load.mjs';
import { Meter } from './meter.mjs';
import { Play } from './play.mjs';
import { PROTOCOLS } from './protocols.mjs';
import { guestStory, HEARTBEAT, ownStory } from './story.mjs';

/** @import { DemoOptions } from './options.mjs' */

/**
 * Plays the demo and leaves nothing running behind it: the process ends by itself.
 *
 * @param {DemoOptions} options
 * @param {AbortSignal} signal ends it early
 * @returns {Promise<0 | 1>} the exit code
 */
export async function runDemo(options, signal) {
  const { target } = options;
  if (target !== undefined) return visit(options, target, signal);
  const server = new EchoServer();
  await server.start();
  try {
    return await playOwn(options, server, signal);
  } finally {
    await server.kill();
  }
}

/**
 * @param {DemoOptions} options
 * @param {EchoServer} server
 * @param {AbortSignal} signal
 */
async function playOwn(options, server, signal) {
  const { codec, ask } = PROTOCOLS.lines;
  const pool = createPool({
    host: '127.0.0.1',
    port: server.port,
    codec,
    min: Math.min(4, options.max),
    max: options.max,
    // Short, so that much can be seen in little time. The defaults are in the README.
    connectTimeoutMs: 1_000,
    acquireTimeoutMs: 2_000,
    readTimeoutMs: 1_000,
    idleTimeoutMs: 2_000,
    heartbeat: { ...HEARTBEAT, ping: 'ping', isPong: (line) => line === 'Echo: ping' },
    retry: { retries: 3, baseMs: 100, capMs: Math.min(1_000, options.seconds * 50) },
  });
  const meter = new Meter();
  const load = new Load((question) => ask(pool, question, {}), compareWithEcho, meter);
  const play = new Play(pool, load, meter, options, `127.0.0.1:${server.port} (in this process)`);
  const scenes = ownStory(options, {
    server,
    load,
    onKilled: () => play.onKilled(),
    onRevived: () => play.onRevived(),
  });
  return play.run(scenes, signal);
}

/**
 * @param {DemoOptions} options
 * @param {NonNullable<DemoOptions['target']>} target
 * @param {AbortSignal} signal
 */
async function visit(options, target, signal) {
  const { host, port, tls } = target;
  const { codec, ping, ask, describe } = PROTOCOLS[target.codec];
  const pool = createPool({
    host,
    port,
    ...(tls ? { tls: {} } : {}),
    codec,
    max: options.max,
    readTimeoutMs: 5_000,
    heartbeat: { intervalMs: 1_000, timeoutMs: 1_000, maxMissed: 2, ping, isPong: () => true },
  });
  const address = `${host}:${port}${tls ? ' over TLS' : ''}`;
  process.stdout.write(
    `pulsepool demo: sends ${describe} to ${address}:\n` +
      `"pulsepool pp-<caller>-<number>" from ${options.callers} callers for ${options.seconds} s, ` +
      'and "ping" on sockets silent for 1 s.\n',
  );
  try {
    await pool.ready({ signal });
  } catch (error) {
    await pool.close();
    if (signal.aborted) return 0;
    tellStory(error);
    return 1;
  }
  const meter = new Meter();
  const load = new Load((question) => ask(pool, question, {}), compareMarks, meter);
  const play = new Play(pool, load, meter, options, address);
  const status = await play.run(guestStory(options, load), signal);
  if (meter.served > 0 || meter.lastError === undefined) return status;
  process.stderr.write('Not one request was answered. The last error:\n');
  tellStory(meter.lastError);
  return 1;
}

/** Code, what happened, and what to do about it. @param {unknown} error */
function tellStory(error) {
  if (!(error instanceof Error)) throw error;
  process.stderr.write(`${'code' in error ? `${error.code}: ` : ''}${error.message}\n`);
  if ('hint' in error) process.stderr.write(`What to do: ${error.hint}\n`);
}

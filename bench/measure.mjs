/**
 * How the benchmarks measure: contestants take turns in one process, and are compared round by round, so that a
 * machine that is slow for a while is slow for all of them.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';

/**
 * One line of the table.
 *
 * @typedef {object} Row
 * @property {string} name what is compared with what
 * @property {number} ratio
 * @property {number} [bar] the limit; none when the figure is only shown
 * @property {boolean} [isFloor] whether the ratio must be at least the bar; by default it must be at most that
 * @property {boolean} ok
 * @property {string} detail the figures behind the ratio
 */

/**
 * Nanoseconds for each call, of every contestant in every round. The order turns each round, so that nobody
 * always runs after the same neighbour's garbage. They are of the CPU of this process: what else runs on the machine
 * is left out, and collecting garbage is not.
 *
 * @template {string} Name
 * @param {Record<Name, () => Promise<number>>} contestants each makes its calls and resolves to their number
 * @param {number} rounds
 * @returns {Promise<Record<Name, number[]>>}
 */
export async function race(contestants, rounds) {
  const names = /** @type {Name[]} */ (Object.keys(contestants));
  /** @type {Partial<Record<Name, number[]>>} */
  const none = {};
  const times = /** @type {Record<Name, number[]>} */ (none);
  for (const name of names) times[name] = [];
  const warmUps = Math.ceil(rounds / 5);
  for (let round = -warmUps; round < rounds; round++) {
    for (const name of names) {
      const start = process.cpuUsage();
      const calls = await contestants[name]();
      const { system, user } = process.cpuUsage(start);
      if (round >= 0) times[name].push(((user + system) * 1_000) / calls);
    }
    names.push(...names.splice(0, 1));
  }
  return times;
}

/** @param {readonly number[]} values */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/**
 * The median of what `over` took as a multiple of `under`, round by round.
 *
 * @param {readonly number[]} over
 * @param {readonly number[]} under
 */
export function ratioOf(over, under) {
  return median(over.map((value, round) => value / (under[round] ?? Number.NaN)));
}

/**
 * @param {string} name
 * @param {number} exactRatio
 * @param {{ atLeast?: number, atMost?: number }} bar
 * @param {string} detail
 * @returns {Row}
 */
export function row(name, exactRatio, { atLeast, atMost }, detail) {
  // As it is printed: a bar that reads as met is met.
  const ratio = Math.round(exactRatio * 100) / 100;
  if (atLeast !== undefined)
    return { name, ratio, bar: atLeast, isFloor: true, ok: ratio >= atLeast, detail };
  if (atMost !== undefined) return { name, ratio, bar: atMost, ok: ratio <= atMost, detail };
  return { name, ratio, ok: true, detail };
}

/** @param {Row} row */
export function formatRow({ name, ratio, bar, isFloor, ok, detail }) {
  const limit = bar === undefined ? '' : `${isFloor ? '>=' : '<='} ${bar.toFixed(2)}`;
  const verdict = bar === undefined ? '-' : ok ? 'ok' : 'MISSED';
  const columns = [verdict.padEnd(6), `${ratio.toFixed(2)}x`.padStart(8), limit.padEnd(8), name];
  return `${columns.join('  ')}\n${' '.repeat(28)}${detail}`;
}

/**
 * Starts a file of this directory as a process of its own, which ends with this one, and waits for its first
 * message.
 *
 * @param {string} file
 * @param {{ args?: string[], flags?: string[] }} [options]
 */
export async function start(file, { args = [], flags = [] } = {}) {
  const child = fork(new URL(file, import.meta.url), args, { execArgv: flags });
  const hello = await nextMessage(child);
  return { child, hello };
}

/**
 * @param {import('node:child_process').ChildProcess} child
 * @returns {Promise<unknown>}
 */
export async function nextMessage(child) {
  const waiting = new AbortController();
  const { signal } = waiting;
  try {
    return await Promise.race([
      once(child, 'message', { signal }).then(([message]) => message),
      once(child, 'exit', { signal }).then(([code]) => {
        throw new Error(`${child.spawnargs.join(' ')} ended with ${code}`);
      }),
    ]);
  } finally {
    waiting.abort();
  }
}

/** An echo server in a process of its own, so that its work is not counted as the client's. */
export async function startEchoServer() {
  const { child, hello } = await start('./echo-server.mjs');
  return { port: Number(hello), stop: () => child.disconnect() };
}

/**
 * A server in a process of its own that greets after `greetMs`, if that is not 0, and answers after `serveMs`.
 *
 * @param {{ greetMs: number, serveMs: number }} times
 */
export async function startSlowServer({ greetMs, serveMs }) {
  const { child, hello } = await start('./slow-server.mjs', { args: [String(greetMs), String(serveMs)] });
  return { port: Number(hello), stop: () => child.disconnect() };
}

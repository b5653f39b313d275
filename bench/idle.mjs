/**
 * 10,000 idle sockets: what each costs in memory, and what each heartbeat costs in CPU, beside sockets that nobody
 * manages and a loop that writes to them and reads.
 *
 * Both sides beat at once, each in a process of its own with a server of its own, so that they share whatever else
 * the machine does. The bare side writes to its sockets in a mixed order, as jitter makes a pool do: going through
 * ten thousand sockets in the order in which they lie in memory is cheaper, and no heartbeat can. That order is
 * measured as well, in every other window, and shown.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { median, nextMessage, ratioOf, row, start, startEchoServer } from './measure.mjs';

const SOCKETS = 10_000;
const WINDOWS = 14;
const WINDOW_MS = 2_500;

/** @typedef {import('./idle-client.mjs').Report} Report */

/** @param {'pooled' | 'bare'} kind */
async function openSide(kind) {
  const server = await startEchoServer();
  const { child } = await start('./idle-client.mjs', {
    args: [kind, String(server.port), String(SOCKETS)],
    flags: ['--expose-gc'],
  });
  return {
    /**
     * @param {import('./idle-client.mjs').Order} order of the bare side's writes from now on
     * @returns {Promise<Report>}
     */
    report: async (order) => {
      const answer = nextMessage(child);
      child.send(order);
      return /** @type {Report} */ (await answer);
    },
    stop: () => {
      child.disconnect();
      server.stop();
    },
  };
}

export async function idle() {
  const [pooled, bare] = await Promise.all([openSide('pooled'), openSide('bare')]);
  // Every socket has beaten once, so that all have what they need.
  await sleep(2 * WINDOW_MS);
  const reports = [await Promise.all([pooled.report('mixed'), bare.report('mixed')])];
  for (let window = 0; window < WINDOWS; window++) {
    await sleep(WINDOW_MS);
    // Windows with an even number are mixed; this is the order of the next one.
    const order = window % 2 === 0 ? 'opened' : 'mixed';
    reports.push(await Promise.all([pooled.report(order), bare.report(order)]));
  }
  pooled.stop();
  bare.stop();
  const [ours, theirs] = [reports.map(([one]) => one), reports.map(([, other]) => other)];
  return [memoryRow(ours, theirs), cpuRow(ours, theirs)];
}

/** @param {Report[]} ours @param {Report[]} theirs */
function memoryRow(ours, theirs) {
  const bytes = (/** @type {Report[]} */ reports) => median(reports.map(({ memory }) => memory));
  const rss = (/** @type {Report[]} */ reports) => (median(reports.map((one) => one.rss)) / 1024).toFixed(1);
  return row(
    'memory of an idle socket, against a bare net.Socket',
    bytes(ours) / bytes(theirs),
    { atMost: 2 },
    `${bytes(ours).toFixed(0)} against ${bytes(theirs).toFixed(0)} bytes in JavaScript; resident ${rss(ours)} against ${rss(theirs)} KiB`,
  );
}

/** @param {Report[]} ours @param {Report[]} theirs */
function cpuRow(ours, theirs) {
  const us = (/** @type {Report[]} */ reports) =>
    reports.slice(1).map((report, index) => {
      const last = reports[index];
      if (last === undefined) throw new Error('bug: no report before');
      return (report.cpuUs - last.cpuUs) / (report.beats - last.beats);
    });
  const rate = (/** @type {Report[]} */ reports) => {
    const [first, last] = [reports[0], reports.at(-1)];
    if (first === undefined || last === undefined) throw new Error('bug: no reports');
    return Math.round(((last.beats - first.beats) / (last.at - first.at)) * 1_000);
  };
  const even = (/** @type {number[]} */ windows) => windows.filter((_, window) => window % 2 === 0);
  const [pooled, mixed] = [even(us(ours)), even(us(theirs))];
  const opened = us(theirs).filter((_, window) => window % 2 === 1);
  const figure = (/** @type {number[]} */ windows) =>
    `${median(windows).toFixed(1)} (least ${Math.min(...windows).toFixed(1)})`;
  return row(
    'CPU of a heartbeat, against a bare write and read',
    ratioOf(pooled, mixed),
    { atMost: 1.3 },
    `${figure(pooled)} against ${figure(mixed)} us; in the order of opening ${figure(opened)}; ${rate(ours)} and ${rate(theirs)} a second`,
  );
}

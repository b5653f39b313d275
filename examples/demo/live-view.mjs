/**
 * What the terminal shows, as lines: computed anew from the state of things, ten times a second.
 */

import { widthOf } from './screen.mjs';
import { many, ms } from './watch.mjs';

/**
 * @import { PoolStats } from 'pulsepool'
 * @import { Bucket, Meter } from './meter.mjs'
 * @import { Format, Line, Span } from './screen.mjs'
 * @import { Scene } from './story.mjs'
 * @import { Entry, Row, Watch } from './watch.mjs'
 *
 * @typedef {object} Moment
 * @property {string} address
 * @property {number} elapsedMs
 * @property {number} totalMs
 * @property {readonly Scene[]} scenes
 * @property {number} scene Index of the one that plays.
 * @property {string} says
 * @property {PoolStats} stats
 * @property {Meter} meter
 * @property {Watch} watch
 * @property {number} dialsPerSecond
 */

const BARS = '▁▂▃▄▅▆▇█';
const LABEL = 10;
// How long a row shows that a ping was answered.
const FLASH_MS = 150;
const FEWEST_EVENTS = 3;
// In fewer rows nothing is left blank.
const ROOMY = 24;

/**
 * @param {Moment} moment
 * @param {number} columns
 * @param {number} rows
 * @returns {Line[]}
 */
export function liveView(moment, columns, rows) {
  const { meter, stats, watch } = moment;
  const isRoomy = rows >= ROOMY;
  /** @type {Line[]} */
  const gap = isRoomy ? [[]] : [];
  const head = [
    header(moment, columns),
    timeLine(moment, columns),
    /** @type {Line} */ ([[` ${moment.says}`, 'bold']]),
    ...gap,
    socketBar(stats),
    waitingLine(stats),
    throughputLine(meter, columns),
    latencyLine(meter, moment.dialsPerSecond),
    errorLine(meter, columns),
    ...gap,
  ];
  const table = [tableHead(), ...tableRows(moment)];
  const room = rows - head.length;
  const most = Math.max(2, room - (isRoomy ? FEWEST_EVENTS : 1) - 1);
  const shown = table.length <= most ? table : [...table.slice(0, most - 1), more(table.length - most + 1)];
  // The lines below are the newest; older ones leave at the top.
  const events = watch.entries.slice(-Math.max(0, room - shown.length - 1));
  return [...head, ...shown, [[' events', 'dim']], ...events.map((entry) => eventLine(entry, moment))];
}

/**
 * @param {Moment} moment
 * @param {number} columns
 * @returns {Line}
 */
function header({ address, elapsedMs, totalMs }, columns) {
  /** @type {Line} */
  const left = [
    [' pulsepool', ['bold', 'cyan']],
    [`   ${address}`, 'dim'],
  ];
  const clock = `${(Math.min(elapsedMs, totalMs) / 1000).toFixed(1)} of ${totalMs / 1000} s   Ctrl-C ends it `;
  const gap = columns - widthOf(left) - clock.length;
  return gap < 1 ? left : [...left, ' '.repeat(gap), [clock, 'dim']];
}

/**
 * The scenes side by side, each as wide as it is long, played up to now.
 *
 * @param {Moment} moment
 * @param {number} columns
 * @returns {Line}
 */
function timeLine({ elapsedMs, totalMs, scenes, scene }, columns) {
  const shares = scenes.reduce((sum, { share }) => sum + share, 0);
  const width = columns - 2;
  const playedTo = Math.round((elapsedMs / totalMs) * width);
  /** @type {Span[]} */
  const line = [' '];
  let share = 0;
  for (const [index, { name, share: own }] of scenes.entries()) {
    const from = Math.round((share / shares) * width);
    share += own;
    const to = Math.round((share / shares) * width);
    const text = ` ${name}`.padEnd(to - from).slice(0, to - from);
    if (index !== scene) {
      line.push([text, index < scene ? ['bgBlackBright', 'white'] : 'dim']);
      continue;
    }
    const played = Math.max(0, Math.min(text.length, playedTo - from));
    line.push([text.slice(0, played), ['bgCyan', 'black', 'bold']], [text.slice(played), ['bold', 'cyan']]);
  }
  return line;
}

/**
 * @param {string} label
 * @param {...Span} spans
 * @returns {Line}
 */
function labelled(label, ...spans) {
  return [[` ${label.padEnd(LABEL)}`, 'dim'], ...spans];
}

/**
 * One cell for each socket there may be, by state.
 *
 * @param {PoolStats} stats
 * @returns {Line}
 */
function socketBar({ total, max, idle, leased, dialing, closing }) {
  // At most 40 cells; each then stands for several sockets.
  const cells = Math.min(max, 40);
  const scale = cells / max;
  const width = max <= 20 ? 2 : 1;
  /** @type {(count: number, mark: string) => string} */
  const bar = (count, mark) => mark.repeat(Math.round(count * scale) * width);
  const free = Math.max(0, max - total);
  return labelled(
    'sockets',
    [bar(leased, '█'), 'cyan'],
    [bar(idle, '▓'), 'green'],
    [bar(dialing, '░'), 'yellow'],
    [bar(closing, '░'), 'red'],
    [bar(free, '·'), 'dim'],
    [`  ${total} of ${max}`, 'bold'],
    [`   █ leased ${leased}`, leased > 0 ? 'cyan' : 'dim'],
    [`  ▓ idle ${idle}`, idle > 0 ? 'green' : 'dim'],
    [`  ░ dialing ${dialing}`, dialing > 0 ? 'yellow' : 'dim'],
    ...(closing > 0 ? [/** @type {Span} */ ([`  closing ${closing}`, 'red'])] : []),
  );
}

/**
 * @param {PoolStats} stats
 * @returns {Line}
 */
function waitingLine({ waiting, oldestWaitMs }) {
  if (waiting === 0) return labelled('waiting', ['nobody', 'dim']);
  return labelled(
    'waiting',
    [many(waiting, 'caller').padEnd(13), 'yellow'],
    `the first for ${ms(oldestWaitMs)}`,
  );
}

/**
 * @param {Meter} meter
 * @param {number} columns
 * @returns {Line}
 */
function throughputLine(meter, columns) {
  const { perSecond } = meter.recent();
  const text = `${Math.round(perSecond).toLocaleString('en')} req/s`.padEnd(13);
  // The half second that runs would always look like a drop.
  const finished = meter.history.slice(0, -1);
  const room = Math.max(1, columns - LABEL - text.length - 3);
  return labelled(
    'served',
    [text, perSecond > 0 ? 'bold' : ['bold', 'red']],
    ...history(finished.slice(-room)),
  );
}

/**
 * Half seconds as bars, red where calls failed, grey where nobody asked.
 *
 * @param {readonly Bucket[]} buckets
 * @returns {Span[]}
 */
function history(buckets) {
  const most = Math.max(1, ...buckets.map(({ served }) => served));
  return buckets.map(({ served, failed }) => {
    const bar = BARS[Math.min(BARS.length - 1, Math.floor((served / most) * BARS.length))] ?? ' ';
    return [bar, failed > 0 ? 'red' : served > 0 ? 'green' : 'dim'];
  });
}

/**
 * @param {Meter} meter
 * @param {number} dialsPerSecond
 * @returns {Line}
 */
function latencyLine(meter, dialsPerSecond) {
  const { p50, p99 } = meter.recent();
  const numbers = p50 === undefined || p99 === undefined ? 'no replies' : `p50 ${ms(p50)}   p99 ${ms(p99)}`;
  return labelled(
    'latency',
    [numbers.padEnd(30), p50 === undefined ? 'dim' : []],
    ['dials ', 'dim'],
    [`${dialsPerSecond.toFixed(1)}/s`, dialsPerSecond > 0 ? 'yellow' : 'dim'],
  );
}

/**
 * @param {Meter} meter
 * @param {number} columns
 * @returns {Line}
 */
function errorLine(meter, columns) {
  if (meter.errors.size === 0) return labelled('errors', ['none', 'green']);
  let text = [...meter.errors].map(([code, { count }]) => `${code} ${count}`).join('   ');
  // The prefix says nothing here, and eighty columns are few.
  if (text.length > columns - LABEL - 2) text = text.replaceAll('ERR_', '').replaceAll('   ', '  ');
  return labelled('errors', [text, 'red']);
}

const COLUMNS = /** @type {const} */ ([
  ['id', 4],
  ['state', 23],
  ['age', 8],
  ['uses', 7],
  ['held', 9],
  ['ping', 9],
]);

/** @returns {Line} */
function tableHead() {
  const cells = COLUMNS.map(([name, width], index) =>
    index === 1 ? name.padEnd(width) : name.padStart(width),
  );
  return [[` ${cells[0]}  ${cells.slice(1).join('')}  last pings`, 'dim']];
}

/**
 * A row for each place a socket may take, in the same order always.
 *
 * @param {Moment} moment
 * @returns {Line[]}
 */
function tableRows({ watch, stats }) {
  const now = performance.now();
  let { dialing } = stats;
  return watch.places.map((row) => {
    if (row !== undefined) return socketRow(row, now);
    if (dialing === 0) return [['    –', 'dim']];
    dialing -= 1;
    return ['    –  ', ['◌ dialing', 'yellow']];
  });
}

/**
 * @param {Row} row
 * @param {number} now
 * @returns {Line}
 */
function socketRow(row, now) {
  const [state, format] = stateOf(row, now);
  const rtt = row.rtts.at(-1);
  const age = (row.closed?.at ?? now) - row.openedAt;
  const cells = [
    `${(age / 1000).toFixed(1)} s`,
    row.uses.toLocaleString('en'),
    row.heldMs === undefined ? '–' : ms(row.heldMs),
    rtt === undefined ? '–' : ms(rtt),
  ];
  const rest = cells.map((cell, index) => cell.padStart(COLUMNS[index + 2]?.[1] ?? 0)).join('');
  const dim = row.closed === undefined ? [] : /** @type {Format} */ ('dim');
  return [
    [` ${String(row.id).padStart(COLUMNS[0][1])}  `, dim],
    [state.padEnd(COLUMNS[1][1]), format],
    [rest, dim],
    [`  ${spark(row.rtts)}`, row.closed === undefined ? 'green' : 'dim'],
  ];
}

/**
 * @param {Row} row
 * @param {number} now
 * @returns {[string, Format]}
 */
function stateOf({ closed, isHeld, missed, maxMissed, pingedAt }, now) {
  if (closed !== undefined) {
    const isCalm = ['idle', 'surplus', 'lifetime', 'shutdown'].includes(closed.reason);
    return [`✕ closed: ${closed.reason}`, isCalm ? 'dim' : 'red'];
  }
  if (isHeld) return ['● in use', 'cyan'];
  if (missed > 0) return [`◐ missed ${missed} of ${maxMissed}`, 'yellow'];
  if (now - pingedAt < FLASH_MS) return ['◉ answered a ping', ['green', 'bold']];
  return ['○ idle', 'green'];
}

/** @param {readonly number[]} values */
function spark(values) {
  const most = Math.max(...values, 1);
  return values
    .map((value) => BARS[Math.min(BARS.length - 1, Math.floor((value / most) * (BARS.length - 1)))])
    .join('');
}

/**
 * @param {Entry} entry
 * @param {Moment} moment
 * @returns {Line}
 */
function eventLine({ at, text, mood }, { elapsedMs }) {
  const seconds = ((at - (performance.now() - elapsedMs)) / 1000).toFixed(1);
  /** @type {Format} */
  const format = mood === 'bad' ? 'red' : mood === 'good' ? 'green' : [];
  return [
    [`${`${seconds} s`.padStart(8)}  `, 'dim'],
    [text, format],
  ];
}

/**
 * @param {number} count
 * @returns {Line}
 */
function more(count) {
  return [[`       … ${count} more: make the window taller to see them`, 'dim']];
}

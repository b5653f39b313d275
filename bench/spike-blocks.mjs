/**
 * The spike in a terminal: one chart a pool, a column every 4 ms, a row every 5 sockets.
 */

/** @typedef {import('./spike-picture.mjs').Scene} Scene */
/** @typedef {import('./spike.mjs').Sample} Sample */

const COLUMN_MS = 4;
const FROM_MS = -8;
const TO_MS = 200;
const ROW_SOCKETS = 5;
const LABEL = 5;

/** @param {Scene} scene */
export function blocks({ callers, courses, handshakeMs, idle, max, requestMs }) {
  return [
    `${callers} callers at once on ${idle} idle sockets; at most ${max}; handshake ${handshakeMs} ms, request ${requestMs} ms`,
    '█ leased   ▒ idle   ░ dialing   ● callers waiting',
    ...courses.map((course) => chart(course, max)),
  ].join('\n\n');
}

/**
 * @param {import('./spike.mjs').Course} course
 * @param {number} max
 */
function chart({ name, samples, servedMs, sockets }, max) {
  const columns = Array.from({ length: (TO_MS - FROM_MS) / COLUMN_MS }, (_, column) => {
    const from = FROM_MS + column * COLUMN_MS;
    return fullest(samples, from, from + COLUMN_MS);
  });
  const lines = [
    `${' '.repeat(LABEL)}${name}: ${sockets} sockets; all served after ${servedMs.toFixed(0)} ms`,
  ];
  for (let top = max; top > 0; top -= ROW_SOCKETS) {
    const label = top % 10 === 0 ? `${String(top).padStart(LABEL - 2)} ┤` : `${' '.repeat(LABEL - 1)}│`;
    lines.push(label + columns.map((sample) => cell(sample, top - ROW_SOCKETS, top)).join(''));
  }
  const axis = columns.map((_, column) => ((FROM_MS + column * COLUMN_MS) % 40 === 0 ? '┴' : '─')).join('');
  const ticks = columns.map((_, column) => {
    const ms = FROM_MS + column * COLUMN_MS;
    return ms % 40 === 0 ? String(ms).padEnd(40 / COLUMN_MS) : column * COLUMN_MS < -FROM_MS ? ' ' : '';
  });
  lines.push(`${' '.repeat(LABEL - 1)}└${axis}`, `${' '.repeat(LABEL)}${ticks.join('').trimEnd()} ms`);
  return lines.join('\n');
}

/**
 * The sample with the most callers waiting among those from `from` to `to`; the last one before when there is none.
 *
 * @param {Sample[]} samples
 * @param {number} from
 * @param {number} to
 */
function fullest(samples, from, to) {
  const within = samples.filter(({ at }) => at >= from && at < to);
  if (within.length === 0) return samples.findLast(({ at }) => at < from) ?? samples[0];
  return within.reduce((most, sample) => (sample.waiting > most.waiting ? sample : most));
}

/**
 * What is drawn between two heights.
 *
 * @param {Sample | undefined} sample
 * @param {number} bottom
 * @param {number} top
 */
function cell(sample, bottom, top) {
  if (sample === undefined) return ' ';
  const { dialing, idle, leased, waiting } = sample;
  if (waiting > bottom && waiting <= top) return '●';
  // What reaches the middle of the cell fills it; a single socket more shows, too.
  const middle = (bottom + top) / 2;
  if (leased > middle) return '█';
  if (leased + idle > middle) return '▒';
  return leased + idle + dialing > bottom ? '░' : ' ';
}

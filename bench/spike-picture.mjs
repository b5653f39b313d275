/**
 * The spike as a picture: one small chart a pool, all with the same scales. A pure function from samples to an SVG
 * that needs nothing else, and follows the reader's theme, light or dark.
 */

/**
 * @typedef {object} Scene
 * @property {number} idle sockets before the callers come
 * @property {number} max
 * @property {number} callers
 * @property {number} handshakeMs
 * @property {number} requestMs
 * @property {import('./spike.mjs').Course[]} courses
 */

/** @typedef {import('./spike.mjs').Sample} Sample */

const WIDTH = 880;
const MARGIN = 32;
const HEAD = 118;
const FOOT = 6;
const COLUMNS = 2;
const PLOT = { width: 340, height: 150, left: 48, top: 44 };
const CELL = { width: (WIDTH - 2 * MARGIN) / COLUMNS, height: PLOT.top + PLOT.height + 62 };
const FROM_MS = -10;
const TO_MS = 200;
const TICK_MS = 50;
const TICK_SOCKETS = 10;

const STYLE = `
    .card { fill: #ffffff; stroke: #d8dee6; }
    text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: #57606a; }
    .title { font-size: 19px; font-weight: 650; fill: #1f2328; }
    .name { font-size: 15px; font-weight: 650; fill: #1f2328; }
    .fact { fill: #1f2328; }
    .grid { stroke: #e4e8ed; }
    .axis { stroke: #8c959f; }
    .leased { fill: #1f6feb; }
    .idle { fill: #a8cbfa; }
    .dialing { fill: #fff1d6; }
    .hatch { stroke: #d9822b; }
    .edge { stroke: #d9822b; }
    .waiting { stroke: #a0266b; }
    .served { stroke: #1f2328; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117; stroke: #30363d; }
      text { fill: #9198a1; }
      .title, .name, .fact { fill: #f0f6fc; }
      .grid { stroke: #21262d; }
      .axis { stroke: #6e7681; }
      .leased { fill: #4493f8; }
      .idle { fill: #1f4173; }
      .dialing { fill: #33240c; }
      .hatch { stroke: #d29922; }
      .edge { stroke: #d29922; }
      .waiting { stroke: #f778ba; }
      .served { stroke: #f0f6fc; }
    }`;

/**
 * @param {Scene} scene
 * @returns {string}
 */
export function picture({ callers, courses, handshakeMs, idle, max, requestMs }) {
  const height = HEAD + Math.ceil(courses.length / COLUMNS) * CELL.height + FOOT;
  const title = `${callers} callers at once on a pool with ${idle} idle sockets`;
  const told = courses.map(
    ({ name, servedMs, sockets }) => `${name} ends with ${sockets} sockets after ${servedMs.toFixed(0)} ms`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title told">
  <title id="title">${title}</title>
  <desc id="told">${told.join('; ')}.</desc>
  <style>${STYLE}
  </style>
  <defs>
    <pattern id="hatched" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
      <rect class="dialing" width="6" height="6"/>
      <path class="hatch" d="M0 0V6" stroke-width="1.6"/>
    </pattern>
  </defs>
  <rect class="card" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="10"/>
  <text class="title" x="${MARGIN}" y="42">${title}</text>
  <text x="${MARGIN}" y="64">A handshake takes ${handshakeMs} ms, a request ${requestMs} ms; a pool may have ${max} sockets. The ${idle} serve everybody before a new one is open.</text>
  ${legend()}
${courses.map((course, index) => chart(course, index, max)).join('\n')}
</svg>
`;
}

function legend() {
  const y = 92;
  let x = MARGIN;
  const items = [
    { label: 'leased', swatch: '<rect class="leased" width="16" height="11" rx="2"/>' },
    { label: 'idle', swatch: '<rect class="idle" width="16" height="11" rx="2"/>' },
    {
      label: 'dialing',
      swatch: '<rect class="edge" width="16" height="11" rx="2" fill="url(#hatched)" stroke-width="1"/>',
    },
    { label: 'callers waiting', swatch: '<path class="waiting" d="M0 5.5H18" stroke-width="2.5"/>' },
    { label: 'all served', swatch: '<path class="served" d="M8 -2V13" stroke-dasharray="3 2.5"/>' },
  ];
  const parts = items.map(({ label, swatch }) => {
    const part = `<g transform="translate(${x} ${y - 10})">${swatch}<text x="24" y="10">${label}</text></g>`;
    x += 24 + label.length * 6.6 + 26;
    return part;
  });
  return parts.join('\n  ');
}

/**
 * @param {import('./spike.mjs').Course} course
 * @param {number} index
 * @param {number} max
 */
function chart({ name, samples, servedMs, sockets }, index, max) {
  const left = MARGIN + (index % COLUMNS) * CELL.width;
  const top = HEAD + Math.floor(index / COLUMNS) * CELL.height;
  const seen = within(samples);
  const leased = seen.map((sample) => sample.leased);
  const open = seen.map((sample) => sample.leased + sample.idle);
  const total = seen.map((sample) => sample.leased + sample.idle + sample.dialing);
  // Nothing is drawn while nobody waits.
  const isBusy = (/** @type {Sample} */ sample) => sample.waiting > 0;
  const [first, last] = [seen.findIndex(isBusy), seen.findLastIndex(isBusy)];
  const busy = seen.slice(Math.max(first - 1, 0), last + 2);
  const waiting = busy.map((sample) => sample.waiting);
  const zero = seen.map(() => 0);
  const y = (/** @type {number} */ count) => round(PLOT.height * (1 - count / max));
  const heights = Array.from({ length: max / TICK_SOCKETS + 1 }, (_, tick) => tick * TICK_SOCKETS);
  const times = Array.from({ length: TO_MS / TICK_MS + 1 }, (_, tick) => tick * TICK_MS);
  const area = (/** @type {number[]} */ from, /** @type {number[]} */ to) =>
    `${steps(seen, to, y)}${steps(seen, from, y, true)}Z`;
  return `  <g transform="translate(${left} ${top})">
    <text class="name" x="${PLOT.left}" y="14">${name}</text>
    <text class="fact" x="${PLOT.left}" y="32">${sockets} sockets at the end; all served after ${servedMs.toFixed(0)} ms</text>
    <g transform="translate(${PLOT.left} ${PLOT.top})">
      ${heights.map((count) => `<path class="grid" d="M0 ${y(count)}H${PLOT.width}"/>`).join('')}
      <path d="${area(open, total)}" fill="url(#hatched)"/>
      <path class="idle" d="${area(leased, open)}"/>
      <path class="leased" d="${area(zero, leased)}"/>
      <path class="edge" d="${steps(seen, total, y)}" fill="none" stroke-width="1"/>
      <path class="waiting" d="${steps(busy, waiting, y)}" fill="none" stroke-width="2" stroke-linejoin="round"/>
      <path class="served" d="M${x(servedMs)} 0V${PLOT.height}" stroke-dasharray="3 2.5"/>
      <path class="axis" d="M0 ${PLOT.height}H${PLOT.width}${times.map((ms) => `M${x(ms)} ${PLOT.height}v4`).join('')}"/>
      ${heights.map((count) => `<text x="-8" y="${y(count) + 4}" text-anchor="end">${count}</text>`).join('')}
      ${times.map((ms) => `<text x="${x(ms)}" y="${PLOT.height + 18}" text-anchor="middle">${ms}</text>`).join('')}
      <text x="${PLOT.width}" y="${PLOT.height + 36}" text-anchor="end">ms after the callers came</text>
      <text transform="translate(-34 ${PLOT.height / 2}) rotate(-90)" text-anchor="middle">sockets, callers</text>
    </g>
  </g>`;
}

/**
 * The samples of the plot, the first and the last at its edges.
 *
 * @param {Sample[]} samples
 */
function within(samples) {
  const seen = samples
    .filter(({ at }) => at <= TO_MS)
    .map((sample) => ({ ...sample, at: Math.max(sample.at, FROM_MS) }));
  const last = seen.at(-1);
  return last === undefined ? [] : [...seen, { ...last, at: TO_MS }];
}

/**
 * A line that keeps each value until the next sample.
 *
 * @param {Sample[]} samples
 * @param {number[]} values
 * @param {(count: number) => number} y
 * @param {boolean} [isBack] from the last to the first, continuing a path
 */
function steps(samples, values, y, isBack = false) {
  /** @type {[number, number][]} */
  const points = [];
  samples.forEach(({ at }, index) => {
    const value = values[index] ?? 0;
    const before = values[index - 1];
    if (value === before) return;
    const left = x(at);
    if (before !== undefined) points.push([left, y(before)]);
    points.push([left, y(value)]);
  });
  points.push([x(samples.at(-1)?.at ?? 0), y(values.at(-1) ?? 0)]);
  if (isBack) points.reverse();
  return `${isBack ? 'L' : 'M'}${points.map((point) => point.join(' ')).join('L')}`;
}

/** @param {number} ms */
function x(ms) {
  return round(((ms - FROM_MS) / (TO_MS - FROM_MS)) * PLOT.width);
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}

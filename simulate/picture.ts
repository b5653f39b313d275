/**
 * Line charts side by side, all with the same scales: a pure function to an SVG that needs nothing else, and follows the
 * reader's theme, light or dark. Lines differ in colour and in dash.
 */

/** Up to five, in the order of the legend. */
interface Line {
  readonly label: string;
  /** One for each `stepMs`. */
  readonly values: readonly number[];
}

/** One chart. */
export interface Panel {
  readonly name: string;
  readonly fact: string;
  readonly lines: readonly Line[];
}

/** Everything. */
export interface Scene {
  readonly title: string;
  readonly subtitle: string;
  /** Between two values of a line, in seconds. */
  readonly stepSeconds: number;
  /** Where the lines begin, in seconds. */
  readonly fromSeconds: number;
  readonly toSeconds: number;
  readonly tickSeconds: number;
  readonly xLabel: string;
  readonly yLabel: string;
  /** What the highest line may reach; what is above is cut. */
  readonly top: number;
  readonly tick: number;
  /** Shaded: the time of the fault, in seconds. */
  readonly fault: readonly [number, number];
  readonly faultLabel: string;
  readonly panels: readonly Panel[];
}

const WIDTH = 880;
const MARGIN = 32;
const HEAD = 118;
const COLUMNS = 2;
const PLOT = { width: 332, height: 170, left: 60, top: 44 };
const CELL = { width: (WIDTH - 2 * MARGIN) / COLUMNS, height: PLOT.top + PLOT.height + 62 };
const DASHES = ['', '7 3', '2 3', '9 3 2 3', '4 2'];

const STYLE = `
    .card { fill: #ffffff; stroke: #d8dee6; }
    text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: #57606a; }
    .title { font-size: 19px; font-weight: 650; fill: #1f2328; }
    .name { font-size: 15px; font-weight: 650; fill: #1f2328; }
    .fact { fill: #1f2328; }
    .grid { stroke: #e4e8ed; }
    .axis { stroke: #8c959f; }
    .fault { fill: #fff1d6; }
    .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
    .l0 { stroke: #1f6feb; } .l1 { stroke: #c4432b; } .l2 { stroke: #1a7f37; } .l3 { stroke: #8250df; } .l4 { stroke: #57606a; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117; stroke: #30363d; }
      text { fill: #9198a1; }
      .title, .name, .fact { fill: #f0f6fc; }
      .grid { stroke: #21262d; }
      .axis { stroke: #6e7681; }
      .fault { fill: #33240c; }
      .l0 { stroke: #4493f8; } .l1 { stroke: #ff7b72; } .l2 { stroke: #3fb950; } .l3 { stroke: #ab7df8; } .l4 { stroke: #9198a1; }
    }`;

export function pictureOf(scene: Scene): string {
  const height = HEAD + Math.ceil(scene.panels.length / COLUMNS) * CELL.height + 6;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title told">
  <title id="title">${scene.title}</title>
  <desc id="told">${scene.panels.map(({ fact, name }) => `${name}: ${fact}`).join('; ')}.</desc>
  <style>${STYLE}
  </style>
  <rect class="card" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="10"/>
  <text class="title" x="${MARGIN}" y="42">${scene.title}</text>
  <text x="${MARGIN}" y="64">${scene.subtitle}</text>
  ${legend(scene)}
${scene.panels.map((panel, at) => chart(panel, at, scene)).join('\n')}
</svg>
`;
}

function legend({ faultLabel, panels }: Scene): string {
  const y = 92;
  let x = MARGIN;
  const place = (swatch: string, label: string): string => {
    const part = `<g transform="translate(${x} ${y - 10})">${swatch}<text x="32" y="10">${label}</text></g>`;
    x = round(x + 32 + label.length * 6.4 + 22);
    return part;
  };
  const lines = panels[0]?.lines ?? [];
  return [
    ...lines.map(({ label }, at) => place(`<path class="line l${at}" d="M0 5.5H24" ${dash(at)}/>`, label)),
    place('<rect class="fault" width="24" height="11" rx="2"/>', faultLabel),
  ].join('\n  ');
}

function chart({ fact, lines, name }: Panel, place: number, scene: Scene): string {
  const { fault, fromSeconds, stepSeconds, tick, tickSeconds, toSeconds, top, xLabel, yLabel } = scene;
  const left = MARGIN + (place % COLUMNS) * CELL.width;
  const above = HEAD + Math.floor(place / COLUMNS) * CELL.height;
  const x = (seconds: number): number =>
    round(((seconds - fromSeconds) / (toSeconds - fromSeconds)) * PLOT.width);
  const y = (value: number): number => round(PLOT.height * (1 - Math.min(value, top) / top));
  const heights = ticks(0, top, tick);
  const times = ticks(fromSeconds, toSeconds, tickSeconds);
  const drawn = lines.map(({ values }, at) => {
    const points = values.map((value, step) => `${x(fromSeconds + (step + 0.5) * stepSeconds)} ${y(value)}`);
    return `<path class="line l${at}" d="M${points.join('L')}" ${dash(at)}/>`;
  });
  return `  <g transform="translate(${left} ${above})">
    <text class="name" x="${PLOT.left}" y="14">${name}</text>
    <text class="fact" x="${PLOT.left}" y="32">${fact}</text>
    <g transform="translate(${PLOT.left} ${PLOT.top})">
      <rect class="fault" x="${x(fault[0])}" width="${round(x(fault[1]) - x(fault[0]))}" height="${PLOT.height}"/>
      ${heights.map((value) => `<path class="grid" d="M0 ${y(value)}H${PLOT.width}"/>`).join('')}
      ${drawn.join('\n      ')}
      <path class="axis" d="M0 ${PLOT.height}H${PLOT.width}${times.map((at) => `M${x(at)} ${PLOT.height}v4`).join('')}"/>
      ${heights.map((value) => `<text x="-8" y="${y(value) + 4}" text-anchor="end">${value}</text>`).join('')}
      ${times.map((at) => `<text x="${x(at)}" y="${PLOT.height + 18}" text-anchor="middle">${at}</text>`).join('')}
      <text x="${PLOT.width}" y="${PLOT.height + 36}" text-anchor="end">${xLabel}</text>
      <text transform="translate(-46 ${PLOT.height / 2}) rotate(-90)" text-anchor="middle">${yLabel}</text>
    </g>
  </g>`;
}

function dash(at: number): string {
  const dashes = DASHES[at] ?? '';
  return dashes === '' ? '' : `stroke-dasharray="${dashes}"`;
}

function ticks(from: number, to: number, step: number): number[] {
  return Array.from({ length: Math.floor((to - from) / step + 1e-9) + 1 }, (_, at) =>
    round(from + at * step),
  );
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

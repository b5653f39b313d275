/** What a scenario has to say: words, tables and pictures, as Markdown and for the terminal. */

/** Cells are strings by then; the first column is the name of its row. */
export interface Table {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** A file beside the page. */
interface Picture {
  /** `simulation-….svg` */
  readonly file: string;
  readonly svg: string;
  /** What it shows, in words. */
  readonly alt: string;
}

/** See the file's comment. Nothing in it may depend on the machine or the hour. */
export interface Section {
  readonly title: string;
  /** What happens, with which parameters. */
  readonly scene: string;
  readonly tables: readonly Table[];
  readonly pictures: readonly Picture[];
  /** What is to be learned. */
  readonly lessons: readonly string[];
}

export function markdownOf({ lessons, pictures, scene, tables, title }: Section): string {
  return [
    `## ${title}`,
    scene,
    ...pictures.map(({ alt, file }) => `![${alt}](${file})`),
    ...tables.map(markdownTable),
    lessons.map((lesson) => `- ${lesson}`).join('\n'),
  ].join('\n\n');
}

/** Tables only: the words are on the page. */
export function plainOf({ tables, title }: Section): string {
  return [title.toUpperCase(), ...tables.map(plainTable)].join('\n\n');
}

export function percent(share: number, digits: number = 1): string {
  return `${(100 * share).toFixed(digits)} %`;
}

export function times(factor: number): string {
  return factor.toFixed(2);
}

export function ms(value: number | undefined): string {
  return value === undefined || Number.isNaN(value) ? '-' : value.toFixed(0);
}

export function whole(value: number): string {
  return Math.round(value).toLocaleString('en');
}

function markdownTable({ head, rows, title }: Table): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = line(head.map((_, at) => (at === 0 ? '---' : '---:')));
  return `${title}:\n\n${[line(head), rule, ...rows.map(line)].join('\n')}`;
}

function plainTable({ head, rows, title }: Table): string {
  const widths = head.map((name, at) => Math.max(name.length, ...rows.map((row) => row[at]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)))
      .join('  ')
      .trimEnd();
  return [title, line(head), ...rows.map(line)].join('\n');
}

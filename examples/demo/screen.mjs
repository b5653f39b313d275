/**
 * The terminal: a second screen with the cursor hidden, drawn whole each time, and put back as it was.
 */
import { styleText } from 'node:util';

/**
 * @import { WriteStream } from 'node:tty'
 * @typedef {Parameters<typeof styleText>[0]} Format
 * @typedef {string | readonly [text: string, format: Format]} Span
 * @typedef {readonly Span[]} Line
 */

const ENTER = '\x1b[?1049h\x1b[?25l\x1b[?7l';
const LEAVE = '\x1b[?7h\x1b[?25h\x1b[?1049l';

export class Screen {
  #stream;
  #isOpen = true;
  #leave = () => this.close();

  /** @param {WriteStream} stream */
  constructor(stream) {
    this.#stream = stream;
    stream.write(ENTER);
    // Whatever ends the process, the terminal stays usable.
    process.once('exit', this.#leave);
  }

  get columns() {
    return this.#stream.columns || 80;
  }

  get rows() {
    return this.#stream.rows || 24;
  }

  /** Draws lines from the top; what does not fit is cut off. @param {readonly Line[]} lines */
  draw(lines) {
    if (!this.#isOpen) return;
    const { columns, rows } = this;
    const drawn = lines.slice(0, rows).map((line) => `${paint(line, columns)}\x1b[K`);
    // In one write, over what is there: no flicker.
    this.#stream.write(`\x1b[H${drawn.join('\r\n')}\x1b[J`);
  }

  close() {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    process.off('exit', this.#leave);
    this.#stream.write(LEAVE);
  }
}

/**
 * A line in colours, at most so many characters long.
 *
 * @param {Line} line
 * @param {number} columns
 */
function paint(line, columns) {
  let room = columns;
  let painted = '';
  for (const span of line) {
    const [text, format] = typeof span === 'string' ? [span, undefined] : span;
    const part = text.slice(0, room);
    room -= part.length;
    if (part !== '') painted += format === undefined ? part : styleText(format, part);
  }
  return painted;
}

/** @param {Line} line */
export function widthOf(line) {
  return line.reduce((sum, span) => sum + (typeof span === 'string' ? span : span[0]).length, 0);
}

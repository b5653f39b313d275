/**
 * The lines codec: text lines that end with LF, and perhaps a CR before it.
 *
 * Frames are strings here. For other delimiters, or for bytes, see delimited.ts.
 *
 *     ├────────── maxFrameBytes ──────────┤
 *     │         line         │ (CR) │ LF │  next line …
 */
import { constants } from 'node:buffer';
import { checkInteger, checkKeys, checkOneOf } from '../option-check.ts';
import { type Codec, DEFAULT_MAX_LINE_BYTES } from './codec.ts';
import { badFrame, badMessage, tooLargeToSend } from './frame-hint.ts';

const LF: Buffer = Buffer.from('\n');
const CR = 0x0d;

/** How lines are read and written. */
export interface LinesOptions {
  /** The most bytes of one line on the wire, line end included. Default: 64 KiB. */
  readonly maxFrameBytes?: number;
  /**
   * `'utf8'`: bytes that aren't UTF-8 become U+FFFD, as everywhere in Node. `'latin1'`: each byte is one
   * character, so that nothing is lost; characters above U+00FF can't be sent. Default: `'utf8'`.
   */
  readonly encoding?: 'utf8' | 'latin1';
  /** What `encode` puts at the end of a line. `decode` takes both. Default: `'\n'`. */
  readonly eol?: '\n' | '\r\n';
}

const KNOWN: readonly (keyof LinesOptions)[] = ['maxFrameBytes', 'encoding', 'eol'];

/**
 * Text lines, without their ends.
 *
 * A message that would not arrive as it was sent is refused with a FrameError: one that contains LF, one that
 * ends with CR where only LF is appended, one with characters that the encoding can't carry.
 */
export function lines(options: LinesOptions = {}): Codec<string, string> {
  checkKeys('lines()', options, KNOWN);
  const name = 'lines';
  const encoding = checkOneOf('encoding', options.encoding ?? 'utf8', ['utf8', 'latin1'] as const);
  const eol = checkOneOf('eol', options.eol ?? '\n', ['\n', '\r\n'] as const);
  const maxFrameBytes = checkInteger('maxFrameBytes', options.maxFrameBytes ?? DEFAULT_MAX_LINE_BYTES, {
    min: eol.length,
    max: constants.MAX_LENGTH,
  });

  return {
    name,
    maxFrameBytes,

    encode(message) {
      if (typeof message !== 'string') throw badMessage(name, `a message is a string, got ${typeof message}`);
      if (message.includes('\n')) {
        throw badMessage(
          name,
          'the message contains a line feed',
          'It would arrive as two lines. Send it as two, or escape it.',
        );
      }
      if (eol === '\n' && message.endsWith('\r')) {
        throw badMessage(name, 'the message ends with a carriage return, which the reader would drop');
      }
      if (encoding === 'latin1' ? ABOVE_LATIN1.test(message) : LONE_SURROGATE.test(message)) {
        throw badMessage(name, `the message has a character that ${encoding} can't carry`);
      }
      const frameBytes = Buffer.byteLength(message, encoding) + eol.length;
      if (frameBytes > maxFrameBytes) throw tooLargeToSend(name, frameBytes, maxFrameBytes);
      return Buffer.from(message + eol, encoding);
    },

    decode(bytes) {
      const at = bytes.indexOf(LF);
      // A line end that hasn't come needs one more byte at least.
      const frameBytes = at === -1 ? bytes.length + 1 : at + 1;
      if (frameBytes > maxFrameBytes) {
        const seen =
          at === -1 ? `${bytes.length} bytes came without a line end` : `a line of ${frameBytes} bytes came`;
        throw badFrame(bytes, `${name}: ${seen}, the limit is ${maxFrameBytes} with it`, {
          fault: 'too-large',
          declaredBytes: at === -1 ? bytes.length : frameBytes,
          limitBytes: maxFrameBytes,
        });
      }
      if (at === -1) return undefined;
      const end = at > 0 && bytes.at(at - 1) === CR ? at - 1 : at;
      const line = bytes.text(end, 0, encoding) ?? '';
      bytes.skip(frameBytes);
      return line;
    },
  };
}

/** Sent as latin1 these would lose their upper byte, and U+010A would become a line feed. */
const ABOVE_LATIN1 = /[\u0100-\uffff]/;
/** Half a character: UTF-8 has no bytes for it. */
const LONE_SURROGATE = /\p{Surrogate}/u;

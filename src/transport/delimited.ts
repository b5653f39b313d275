/**
 * The delimited codec: each frame ends with a delimiter.
 *
 * It finds delimiters and bounds how far it looks for one. It keeps no state: the byte queue remembers how far
 * it was searched. Text lines have a codec of their own, in lines.ts.
 *
 *     ├──────────────────── maxFrameBytes ────────────────────┤
 *     │                  message                  │ delimiter │  next frame …
 */
import { constants } from 'node:buffer';
import { isUint8Array } from 'node:util/types';
import { checkBoolean, checkInteger, checkKeys, invalidOption } from '../option-check.ts';
import { type ByteQueue, MAX_NEEDLES } from './byte-queue.ts';
import { type Codec, DEFAULT_MAX_LINE_BYTES } from './codec.ts';
import { badFrame, badMessage, messageBytes, tooLargeToSend } from './frame-hint.ts';

/** Messages up to this size are copied in front of their delimiter: one small write instead of two. */
const COPY_IN = 16 * 1024;

/** A delimiter: bytes, or a string that stands for its UTF-8 bytes. */
type Delimiter = string | Uint8Array;

/** How frames end. */
export interface DelimitedOptions {
  /**
   * What ends a frame: one delimiter, or up to 32 of which any does. `encode` appends the first.
   *
   * The delimiter that ends first wins; of two that end at the same byte, the longer. No other rule gives the
   * same frames however the bytes are cut on their way. `['\n', '\r\n']` is fine. `['\r', '\r\n']` is refused: the
   * CR always ends first, so the second could never win.
   */
  readonly delimiter: Delimiter | readonly Delimiter[];
  /** The most bytes of one frame on the wire, delimiter included. Default: 64 KiB. */
  readonly maxFrameBytes?: number;
  /**
   * `true` leaves the delimiter at the end of each frame. A message may then bring its delimiter along, as
   * `decode` would return it; the first is appended to one that doesn't. Default: `false`.
   */
  readonly keepDelimiter?: boolean;
}

const KNOWN: readonly (keyof DelimitedOptions)[] = ['delimiter', 'maxFrameBytes', 'keepDelimiter'];

/**
 * Frames that end with a delimiter.
 *
 * A message that the other side would cut elsewhere, because it contains a delimiter or makes one together
 * with its own, is refused with a FrameError. Messages above 16 KiB, and those that bring their delimiter, are
 * not copied: don't change them before they are written.
 */
export function delimited(options: DelimitedOptions): Codec<Uint8Array | string, Buffer> {
  checkKeys('delimited()', options, KNOWN);
  const name = 'delimited';
  const delimiters = checkDelimiters(options.delimiter);
  const keepDelimiter = checkBoolean('keepDelimiter', options.keepDelimiter ?? false);
  const appended = delimiters[0] ?? Buffer.alloc(0);
  const longest = Math.max(...delimiters.map((delimiter) => delimiter.length));
  const maxFrameBytes = checkInteger('maxFrameBytes', options.maxFrameBytes ?? DEFAULT_MAX_LINE_BYTES, {
    min: longest,
    max: constants.MAX_LENGTH,
  });

  /** Whether the last bytes of a message and the first of its own delimiter may together make a delimiter. */
  const canJoin = delimiters.some((delimiter) => {
    for (let size = 1; size < delimiter.length; size++) {
      const ending = delimiter.subarray(delimiter.length - size);
      if (appended.subarray(0, size).equals(ending)) return true;
    }
    return false;
  });

  /** The delimiter that ends the first frame of these bytes, and where that frame ends. */
  function firstEnd(bytes: Pick<ByteQueue, 'indexOf'>): { end: number; width: number } | undefined {
    let end = Number.POSITIVE_INFINITY;
    let width = 0;
    for (const delimiter of delimiters) {
      const at = bytes.indexOf(delimiter);
      if (at === -1) continue;
      const candidate = at + delimiter.length;
      if (candidate < end || (candidate === end && delimiter.length > width)) {
        end = candidate;
        width = delimiter.length;
      }
    }
    return width === 0 ? undefined : { end, width };
  }

  /** Where the frame that waits will end at the earliest, given that no delimiter has ended yet. */
  function earliestEnd(bytes: ByteQueue): number {
    return (
      bytes.length + Math.min(...delimiters.map((delimiter) => delimiter.length - begun(bytes, delimiter)))
    );
  }

  return {
    name,
    maxFrameBytes,

    encode(message) {
      const bytes = messageBytes(name, message);
      const found = firstEnd(bytes);
      if (found !== undefined && !(keepDelimiter && found.end === bytes.length)) {
        throw badMessage(
          name,
          `the message contains a delimiter at byte ${found.end - found.width}`,
          CONTAINS,
        );
      }
      if (found !== undefined) {
        if (bytes.length > maxFrameBytes) throw tooLargeToSend(name, bytes.length, maxFrameBytes);
        return bytes;
      }
      const frameBytes = bytes.length + appended.length;
      if (frameBytes > maxFrameBytes) throw tooLargeToSend(name, frameBytes, maxFrameBytes);
      if (canJoin) {
        const tail = Buffer.concat([bytes.subarray(Math.max(0, bytes.length - longest + 1)), appended]);
        const joined = firstEnd(tail);
        if (joined?.end !== tail.length || joined.width !== appended.length) {
          throw badMessage(name, 'the end of the message and its delimiter make another delimiter', CONTAINS);
        }
      }
      if (bytes.length > COPY_IN) return [bytes, appended];
      const frame = Buffer.allocUnsafe(frameBytes);
      bytes.copy(frame);
      appended.copy(frame, bytes.length);
      return frame;
    },

    decode(bytes) {
      const found = firstEnd(bytes);
      if (found === undefined) {
        const waiting = bytes.length;
        // The bound is exact, but only worth computing where a delimiter that has begun can matter.
        if (waiting + longest <= maxFrameBytes || earliestEnd(bytes) <= maxFrameBytes) return undefined;
        const message = `${name}: ${waiting} bytes came without a delimiter, the limit is ${maxFrameBytes} with it`;
        throw badFrame(bytes, message, {
          fault: 'too-large',
          declaredBytes: waiting,
          limitBytes: maxFrameBytes,
        });
      }
      const { end, width } = found;
      if (end > maxFrameBytes) {
        throw badFrame(bytes, `${name}: a frame of ${end} bytes came, the limit is ${maxFrameBytes}`, {
          fault: 'too-large',
          declaredBytes: end,
          limitBytes: maxFrameBytes,
        });
      }
      if (keepDelimiter) return bytes.take(end);
      const frame = bytes.take(end - width);
      bytes.skip(width);
      return frame;
    },
  };
}

const CONTAINS = 'It would arrive as two messages. Escape or encode it, or use lengthPrefixed().';

/** How many bytes at the end of the queue are the beginning of this delimiter, which hasn't ended. */
function begun(bytes: ByteQueue, delimiter: Buffer): number {
  for (let size = Math.min(delimiter.length - 1, bytes.length); size > 0; size--) {
    const from = bytes.length - size;
    if (bytes.peek(size, from)?.equals(delimiter.subarray(0, size))) return size;
  }
  return 0;
}

/** Copies of the delimiters, each of which can end a frame. */
function checkDelimiters(option: unknown): readonly Buffer[] {
  const list: readonly unknown[] = Array.isArray(option) ? option : [option];
  if (list.length === 0 || list.length > MAX_NEEDLES) {
    throw invalidOption('delimiter', `be one delimiter or an array of 1 to ${MAX_NEEDLES}`, option);
  }
  const delimiters = list.map((one) => {
    if ((typeof one !== 'string' && !isUint8Array(one)) || one.length === 0) {
      throw invalidOption(
        'delimiter',
        'be a string or Uint8Array that is not empty, or an array of them',
        one,
      );
    }
    return Buffer.from(one);
  });
  for (const [index, delimiter] of delimiters.entries()) {
    for (const [other, inner] of delimiters.entries()) {
      if (index === other) continue;
      const at = delimiter.indexOf(inner);
      const ties = at === delimiter.length - inner.length && inner.length < delimiter.length;
      if (at !== -1 && !ties) {
        const expected = `hold delimiters that can all end a frame; ${shown(inner)} always ends before ${shown(delimiter)}`;
        throw invalidOption('delimiter', expected, option);
      }
    }
  }
  return delimiters;
}

function shown(delimiter: Buffer): string {
  return JSON.stringify(delimiter.toString('latin1'));
}

/**
 * The length-prefixed codec: each frame says in a field of its header how long it is.
 *
 * It takes the layouts that Netty's LengthFieldBasedFrameDecoder and tokio's LengthDelimitedCodec take, reads
 * and writes them with the same options, and refuses those that it couldn't write back. It keeps no state.
 *
 *     lengthOffset   lengthBytes        field value + lengthAdjustment
 *     ├────────────┼─────────────┼──────────────────────────────────────────┤
 *     │  preamble  │   length    │  the bytes that follow the length field  │
 *     ├────────────┴──────┬──────┴──────────────────────────────────────────┤
 *     │   strip: dropped  │              the frame, as decoded              │
 *     ├───────────────────┴─────────────────────────────────────────────────┤
 *     └──────────────────── maxFrameBytes bounds it all ────────────────────┘
 */
import { constants } from 'node:buffer';
import { isUint8Array } from 'node:util/types';
import type { FrameError } from '../errors.ts';
import { checkInteger, checkKeys, checkOneOf, invalidOption } from '../option-check.ts';
import type { ByteQueue } from './byte-queue.ts';
import { type Codec, DEFAULT_MAX_FRAME_BYTES } from './codec.ts';
import { badFrame, badMessage, hintForBinary, messageBytes, tooLargeToSend } from './frame-hint.ts';

/** Messages up to this size are copied behind their header: one small write instead of two. */
const COPY_IN = 16 * 1024;

/** The layout of a length-prefixed frame. */
export interface LengthPrefixedOptions {
  /** The size of the length field: 1, 2, 3, 4 or 8 bytes, unsigned. Default: 4. */
  readonly lengthBytes?: 1 | 2 | 3 | 4 | 8;
  /** The byte order of the length field. Default: `'BE'`, network order. */
  readonly endian?: 'BE' | 'LE';
  /** How many bytes come before the length field. Default: 0. */
  readonly lengthOffset?: number;
  /**
   * What to add to the field's value to get the number of bytes that follow the field. Negative when the field
   * counts itself or what is before it, positive when it leaves out bytes that follow it. Default: 0.
   */
  readonly lengthAdjustment?: number;
  /**
   * How many bytes to drop from the start of a frame. 0 keeps the whole header.
   * Default: `lengthOffset + lengthBytes`, which leaves what follows the length field.
   */
  readonly strip?: number;
  /**
   * What `encode` puts in front of a message: the bytes that `decode` drops, exactly `strip` of them. Those in the
   * place of the length field are overwritten. Needed when `strip` drops more than the length field, because
   * the codec can't know those bytes; `decode` doesn't compare them.
   */
  readonly prefix?: Uint8Array;
  /**
   * The most bytes of one frame on the wire, header included; checked on both sides before memory is taken.
   * Default: 8 MiB, or what the length field can express if that is less.
   */
  readonly maxFrameBytes?: number;
}

const KNOWN: readonly (keyof LengthPrefixedOptions)[] = [
  'lengthBytes',
  'endian',
  'lengthOffset',
  'lengthAdjustment',
  'strip',
  'prefix',
  'maxFrameBytes',
];

/**
 * Frames that start with their length.
 *
 * `encode` is the reverse of `decode`: it takes what `decode` gives, puts back the bytes that were stripped,
 * and fills in the length field. Where `strip` leaves part of the header in the frame, the message brings that
 * part along with room for the length field, and what it holds there doesn't matter. The caller's bytes are
 * never written to. Messages above 16 KiB are not copied: don't change them before they are written.
 *
 * The payload in these pictures is `HELLO`; `→` is what `decode` returns and `encode` takes.
 *
 * 1. The defaults: four bytes, big endian, dropped.
 *
 *        00 00 00 05 │ H E L L O                     →  H E L L O
 *
 * 2. `{ lengthBytes: 2, strip: 0 }`: the header stays.
 *
 *        00 05 │ H E L L O                           →  00 05 H E L L O
 *
 * 3. `{ lengthBytes: 2, lengthAdjustment: -2 }`: the field counts itself.
 *
 *        00 07 │ H E L L O                           →  H E L L O
 *
 * 4. `{ lengthBytes: 2, lengthOffset: 2, prefix: Buffer.from([0xca, 0xfe, 0, 0]) }`: a magic number first.
 *
 *        CA FE │ 00 05 │ H E L L O                   →  H E L L O
 *
 * 5. `{ lengthBytes: 3, lengthAdjustment: 2 }`: a two-byte type, which the length leaves out, lies between.
 *
 *        00 00 05 │ 00 01 │ H E L L O                →  00 01 H E L L O
 *
 * 6. `{ lengthBytes: 4, lengthOffset: 1, lengthAdjustment: -4, strip: 0 }`: PostgreSQL, a type and then a
 *    length that counts itself.
 *
 *        51 │ 00 00 00 09 │ H E L L O                →  51 00 00 00 09 H E L L O
 *
 * 7. `{ lengthBytes: 2, lengthOffset: 1, lengthAdjustment: -3, prefix: Buffer.from([1, 0, 0]) }`: the length
 *    counts the whole frame.
 *
 *        01 │ 00 08 │ H E L L O                      →  H E L L O
 */
export function lengthPrefixed(options: LengthPrefixedOptions = {}): Codec<Uint8Array | string, Buffer> {
  checkKeys('lengthPrefixed()', options, KNOWN);
  const name = 'lengthPrefixed';
  const lengthBytes = checkOneOf('lengthBytes', options.lengthBytes ?? 4, [1, 2, 3, 4, 8] as const);
  const endian = checkOneOf('endian', options.endian ?? 'BE', ['BE', 'LE'] as const);
  const lengthOffset = checkInteger('lengthOffset', options.lengthOffset ?? 0, {
    min: 0,
    max: constants.MAX_LENGTH,
  });
  const header = lengthOffset + lengthBytes;
  const adjustment = checkInteger('lengthAdjustment', options.lengthAdjustment ?? 0);
  const strip = checkInteger('strip', options.strip ?? header, { min: 0, max: constants.MAX_LENGTH });
  const prefix = checkPrefix(options.prefix, strip, lengthOffset, header);

  // The smallest frame has its header, a length field that isn't negative, and the bytes to strip. The largest
  // is what the field can say, as far as one Buffer can hold it.
  const smallest = Math.max(header, header + adjustment, strip);
  const fieldMax = lengthBytes === 8 ? Number.MAX_SAFE_INTEGER : 2 ** (8 * lengthBytes) - 1;
  const largest = Math.min(header + adjustment + fieldMax, constants.MAX_LENGTH);
  if (largest < Math.max(header, header + adjustment)) {
    const expected = `leave room for a frame that a length field of ${lengthBytes} bytes can describe`;
    throw invalidOption('lengthAdjustment', expected, adjustment);
  }
  if (largest < strip) throw invalidOption('strip', `be at most ${largest}, the largest frame`, strip);
  const maxFrameBytes =
    options.maxFrameBytes === undefined
      ? Math.max(smallest, Math.min(DEFAULT_MAX_FRAME_BYTES, largest))
      : checkInteger('maxFrameBytes', options.maxFrameBytes, { min: smallest, max: largest });

  /** What can't be shared with the caller's message: the stripped bytes and the whole header. */
  const front = Math.max(header, strip);

  function refused(bytes: ByteQueue, value: number, frameBytes: number): FrameError {
    if (value === Number.POSITIVE_INFINITY) {
      const message = `${name}: the length field holds more than ${Number.MAX_SAFE_INTEGER}`;
      return badFrame(bytes, message, { fault: 'bad-length', limitBytes: maxFrameBytes }, hintForBinary);
    }
    if (frameBytes < smallest) {
      const message = `${name}: a length field of ${value} makes a frame of ${frameBytes} bytes, the least is ${smallest}`;
      return badFrame(bytes, message, { fault: 'bad-length', declaredBytes: frameBytes }, hintForBinary);
    }
    const message = `${name}: a frame of ${frameBytes} bytes was announced, the limit is ${maxFrameBytes}`;
    const details = { fault: 'too-large', declaredBytes: frameBytes, limitBytes: maxFrameBytes } as const;
    return badFrame(bytes, message, details, hintForBinary);
  }

  return {
    name,
    maxFrameBytes,

    encode(message) {
      const content = typeof message === 'string' ? message : messageBytes(name, message);
      const size = Buffer.byteLength(content);
      const frameBytes = strip + size;
      if (frameBytes < smallest) {
        throw badMessage(
          name,
          `the message has ${size} bytes, this layout needs ${smallest - strip}`,
          'With these options a message includes header bytes; see the pictures at lengthPrefixed().',
        );
      }
      if (frameBytes > maxFrameBytes) throw tooLargeToSend(name, frameBytes, maxFrameBytes);
      const value = frameBytes - header - adjustment;

      // Every byte of these Buffers is written: by the prefix, the message or the length.
      if (typeof content === 'string' || size <= COPY_IN) {
        const frame = Buffer.allocUnsafe(frameBytes);
        prefix?.copy(frame);
        if (typeof content === 'string') frame.write(content, strip);
        else content.copy(frame, strip);
        writeUInt(frame, value, lengthOffset, lengthBytes, endian);
        return frame;
      }
      const head = Buffer.allocUnsafe(front);
      prefix?.copy(head);
      content.copy(head, strip, 0, front - strip);
      writeUInt(head, value, lengthOffset, lengthBytes, endian);
      return [head, content.subarray(front - strip)];
    },

    decode(bytes) {
      if (bytes.length < header) return undefined;
      const value = bytes.readUInt(lengthOffset, lengthBytes, endian);
      const frameBytes = header + adjustment + value;
      if (frameBytes > maxFrameBytes || frameBytes < smallest) throw refused(bytes, value, frameBytes);
      if (bytes.length < frameBytes) return undefined;
      if (strip > 0) bytes.skip(strip);
      return bytes.take(frameBytes - strip);
    },
  };
}

/** A copy of the prefix, which has to be there when bytes are stripped that the codec can't know. */
function checkPrefix(
  prefix: unknown,
  strip: number,
  lengthOffset: number,
  header: number,
): Buffer | undefined {
  if (prefix === undefined) {
    const known = strip === 0 || (lengthOffset === 0 && strip <= header);
    if (known) return undefined;
    throw invalidOption('prefix', `hold the ${strip} bytes that decode strips and encode puts back`, prefix);
  }
  if (isUint8Array(prefix) && prefix.length === strip) return Buffer.from(prefix);
  throw invalidOption('prefix', `be a Uint8Array of ${strip} bytes, as many as \`strip\``, prefix);
}

function writeUInt(target: Buffer, value: number, offset: number, bytes: number, endian: 'BE' | 'LE'): void {
  if (bytes === 8) {
    const high = Math.floor(value / 0x1_0000_0000);
    const low = value % 0x1_0000_0000;
    if (endian === 'BE') {
      target.writeUInt32BE(high, offset);
      target.writeUInt32BE(low, offset + 4);
    } else {
      target.writeUInt32LE(low, offset);
      target.writeUInt32LE(high, offset + 4);
    }
  } else if (endian === 'BE') {
    target.writeUIntBE(value, offset, bytes);
  } else {
    target.writeUIntLE(value, offset, bytes);
  }
}

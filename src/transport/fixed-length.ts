/**
 * The fixed-length codec: every frame has the same number of bytes, and nothing lies between frames.
 *
 *     │ bytes │ bytes │ bytes │ …
 */
import { constants } from 'node:buffer';
import { checkInteger } from '../option-check.ts';
import type { Codec } from './codec.ts';
import { badMessage, messageBytes } from './frame-hint.ts';

/**
 * Frames of exactly `bytes` bytes, both ways. A message of another size is refused with a FrameError: padding
 * is the caller's business. Messages are not copied: don't change them before they are written.
 */
export function fixedLength(bytes: number): Codec<Uint8Array | string, Buffer> {
  const size = checkInteger('bytes', bytes, { min: 1, max: constants.MAX_LENGTH });
  const name = 'fixedLength';
  return {
    name,
    maxFrameBytes: size,

    encode(message) {
      const encoded = messageBytes(name, message);
      if (encoded.length === size) return encoded;
      throw badMessage(name, `the message has ${encoded.length} bytes, every frame has ${size}`);
    },

    decode(queue) {
      return queue.length < size ? undefined : queue.take(size);
    },
  };
}

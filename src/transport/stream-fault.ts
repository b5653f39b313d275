/**
 * The faults of a byte stream as FrameErrors: a codec that failed, a frame that was cut off, bytes that make no
 * frame. What follows for the connection is decided elsewhere.
 */
import { Buffer } from 'node:buffer';
import { isUint8Array } from 'node:util/types';
import { FrameError, messageOf } from '../errors.ts';
import type { ByteQueue } from './byte-queue.ts';
import type { EncodedFrame } from './codec.ts';
import { badFrame, hintFromHead } from './frame-hint.ts';

/** Whatever a codec, a heartbeat function or a message made throw, as a FrameError. */
export function asFrameError(error: unknown, fault: 'bad-message' | 'codec-threw'): FrameError {
  if (error instanceof FrameError) return error;
  const what = messageOf(error);
  return new FrameError(
    fault === 'bad-message' ? `The codec could not encode the message: ${what}` : `The codec failed: ${what}`,
    {
      fault,
      cause: error,
      hint: 'The error came from the codec, a heartbeat function or a message; see the cause.',
    },
  );
}

/** The codec's `decode` broke its contract in a way that would repeat for ever. */
export function tookNothing(): FrameError {
  return new FrameError('The codec’s decode() returned a frame but took no bytes.', {
    fault: 'codec-threw',
    hint: 'Take the frame’s bytes from the queue with take() or skip().',
  });
}

/** A function that must answer at once returned a promise. */
export function isAsync(what: string, promise: Promise<unknown>): FrameError {
  // Its failure is not news: it must not end the process as an unhandled rejection.
  promise.catch(() => undefined);
  return new FrameError(`The codec’s ${what} returned a promise.`, {
    fault: 'codec-threw',
    hint: `${what} is called for each frame and must not be async.`,
  });
}

/** How many bytes an encoded message has. */
export function sizeOf(encoded: EncodedFrame): number {
  if (typeof encoded === 'string') return Buffer.byteLength(encoded);
  return isUint8Array(encoded) ? encoded.length : encoded.reduce((sum, piece) => sum + piece.length, 0);
}

/** The codec's `encode` returned something that can't be written. */
export function notBytes(encoded: unknown): FrameError {
  if (encoded instanceof Promise) encoded.catch(() => undefined);
  return new FrameError(
    `The codec’s encode() returned ${encoded === null ? 'null' : typeof encoded} instead of bytes.`,
    {
      fault: 'bad-message',
      hint: 'Return a Uint8Array, a string, or an array of Uint8Arrays; nothing was sent.',
    },
  );
}

/** More bytes wait than a frame may have, and the codec has not made one of them. */
export function tooMuchWaits(bytes: ByteQueue, limitBytes: number): FrameError {
  return badFrame(bytes, `${bytes.length} bytes wait without making a frame; the limit is ${limitBytes}.`, {
    fault: 'too-large',
    declaredBytes: bytes.length,
    limitBytes,
  });
}

/** The stream ended and left part of a frame. */
export function cutOff(bytes: ByteQueue): FrameError {
  // A codec that keeps bytes of its own does not say how many.
  const seen = bytes.length === 0 ? '' : `, after ${bytes.length} of its bytes`;
  return badFrame(bytes, `The stream ended in the middle of a frame${seen}.`, { fault: 'truncated' });
}

/** The first bytes that wait, as hex, and what they look like. */
export function headOf(bytes: ByteQueue): { readonly head: string; readonly hint: string | undefined } {
  const seen = bytes.peek(Math.min(16, bytes.length)) ?? Buffer.alloc(0);
  return { head: seen.toString('hex'), hint: hintFromHead(seen) };
}

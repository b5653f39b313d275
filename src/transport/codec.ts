/**
 * The codec contract: how messages become bytes and bytes become frames.
 *
 * A codec is a plain object of two functions. It holds no socket and keeps no buffer: bytes that are not yet
 * a whole frame wait in the connection's {@link ByteQueue}. Limits on memory are checked here and in the
 * built-in codecs; what a frame means is the caller's business.
 */
import type { ByteQueue } from './byte-queue.ts';

/**
 * What `encode` returns: the bytes to write, several pieces that are written back to back, or text, which is written as
 * UTF-8 and costs the least for small messages.
 */
export type EncodedFrame = Uint8Array | string | readonly Uint8Array[];

/**
 * Turns messages into bytes and bytes into frames.
 *
 * `decode` has three outcomes:
 *
 * - it returns a frame, having taken exactly that frame's bytes from the queue; it is called again at once;
 * - it returns `undefined`: more bytes are needed; it is called again when some have come;
 * - it throws: the stream is corrupt and this connection is finished. There is no resynchronising, because a
 *   frame cut at the wrong place could be handed to the wrong caller.
 *
 * @typeParam In - what callers send
 * @typeParam Out - what callers receive; never `undefined`
 */
export interface Codec<In = Uint8Array | string, Out = Buffer> {
  /** A short name for error messages. Default: `'codec'`. */
  readonly name?: string;
  /**
   * The most bytes one frame may take on the wire before the connection is ended with a FrameError.
   * The connection enforces it on the bytes that wait for `decode`, and when it is given on what `encode` returns,
   * whatever the codec does itself.
   * Default: 8,388,608 (8 MiB, as tokio's LengthDelimitedCodec).
   */
  readonly maxFrameBytes?: number;
  /**
   * `false` says that frames are mere chunks of a stream, so that the end of a reply can't be seen from
   * outside. A lease that has written is then returned only after `lease.markClean()`. Default: `true`.
   */
  readonly framed?: boolean;
  /**
   * The bytes of one message. They are kept until they have left: no Buffer may serve two messages. Throws when the
   * message can't be sent; the connection then stays as it was.
   */
  encode(message: In): EncodedFrame;
  /**
   * The next frame, or `undefined` when more bytes are needed. Throws when the bytes can't be right. It must not be
   * async, and must not keep `bytes`: the queue serves other connections in between.
   */
  decode(bytes: ByteQueue): Out | undefined;
  /**
   * For codecs that keep bytes of their own (a push parser): `true` while nothing is kept. A connection whose
   * codec is not idle is never returned to the pool. Default: always `true`.
   */
  isIdle?(): boolean;
}

/**
 * A codec, or a function that makes one for each connection. Built-in codecs keep no state and can be shared;
 * a codec with state of its own (a push parser, a negotiated format) must be given as a function.
 */
export type CodecSource<In, Out> = Codec<In, Out> | (() => Codec<In, Out>);

/** 8 MiB: tokio's LengthDelimitedCodec default. */
export const DEFAULT_MAX_FRAME_BYTES: number = 8 * 1024 * 1024;
/** 64 KiB: for delimited frames, where a missing delimiter is the usual fault. */
export const DEFAULT_MAX_LINE_BYTES: number = 64 * 1024;

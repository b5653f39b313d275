/**
 * Who takes the frames of a shared connection, on which many messages may be under way. The connection knows bytes,
 * frames and time limits; which frame belongs to whom is the sink's business.
 */
import type { CloseReason } from './close-reason.ts';
import type { WriteMark } from './writer.ts';

/** See the file's comment. */
export interface FrameSink<Out> {
  /** Since when a reply has been due, in ms of the clock; `undefined` while none is. Silence is a fault only then. */
  readonly dueSince: number | undefined;
  /** Where the message stands whose reply has been due longest: silence counts only once it has left. */
  readonly dueMark: WriteMark | undefined;
  /** A frame has come. `false`: nobody had asked for it, and the connection ends. */
  onFrame(frame: Out): boolean;
  /** Everything that has come so far was looked at. */
  onReadEnd(now: number): void;
  /** The connection has ended: nothing comes any more. Told once. */
  onEnding(reason: CloseReason): void;
}

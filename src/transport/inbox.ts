/**
 * The inbox of one connection: frames that came before anybody asked to receive them, in order. It knows when
 * it is full; pausing the socket is the connection's business.
 */

// How much may wait for a lease that does not read, before its socket is paused.
const MAX_FRAMES = 1_000;
const MAX_BYTES = 1024 * 1024;

/** See the file's comment. */
export class Inbox<Out> {
  #frames: Out[] | undefined;
  // Bytes of the frames that came since the inbox was last empty.
  #bytes = 0;
  #hasUnasked = false;

  get isEmpty(): boolean {
    return this.#frames === undefined;
  }

  /** Once full it is to be emptied before more is put in. */
  get isFull(): boolean {
    return this.#frames !== undefined && (this.#frames.length >= MAX_FRAMES || this.#bytes >= MAX_BYTES);
  }

  /** Whether a frame came, since it was last empty, that no send had asked for. */
  get hasUnasked(): boolean {
    return this.#hasUnasked;
  }

  /** Puts in a frame that took `bytes` on the wire. */
  push(frame: Out, bytes: number, isAsked: boolean): void {
    this.#frames ??= [];
    this.#frames.push(frame);
    this.#bytes += bytes;
    if (!isAsked) this.#hasUnasked = true;
  }

  /** Takes out the oldest frame. It must not be empty. */
  shift(): Out {
    const frames = this.#frames;
    if (frames === undefined) throw new Error('bug: the inbox is empty');
    const frame = frames.shift() as Out;
    if (frames.length === 0) {
      this.#frames = undefined;
      this.#bytes = 0;
      this.#hasUnasked = false;
    }
    return frame;
  }
}

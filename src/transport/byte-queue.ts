/**
 * The byte queue: received bytes that wait to be decoded.
 *
 * It stores, finds and hands out bytes. What they mean is the codec's business, how many may wait is the
 * connection's. It grows by bytes received and never by a length that somebody promised.
 *
 *     ┌───────┬────────┐ ┌────────┐ ┌────────┐ ┌─────────────┬ ─ ─ ─ ┐
 *     │ taken │  head  │ │  rest  │ │  rest  │ │    block    │ spare
 *     └───────┴────────┘ └────────┘ └────────┘ └─────────────┴ ─ ─ ─ ┘
 *             ^ start  ^ end                                 ^ blockUsed
 *
 * A chunk is kept as it came, without a copy. Chunks below 1 KiB that have to wait are gathered in a block of
 * our own, because one Buffer object may cost more than such a chunk. The usual queue is one chunk: the head
 * alone, with no list and no block. An empty queue refers to no chunk at all.
 */
import { Buffer } from 'node:buffer';
import { invalidOption } from '../option-check.ts';

/** Chunks below this size are gathered: a Buffer with its ArrayBuffer costs about 200 bytes. */
const SMALL = 1024;
const MIN_BLOCK = 256;
const MAX_BLOCK = 64 * 1024;
/** Frames up to this size are copied out of a chunk at least {@link WASTE} times their size. */
const COPY_OUT = 4 * 1024;
const WASTE = 4;
/** How many needles are remembered. Beyond it the oldest is forgotten, and searched from the head again. */
export const MAX_NEEDLES: number = 32;

const NOTHING: Buffer = Buffer.alloc(0);

/** What is known about one needle. Positions count from the start of the stream, so that taking keeps them. */
interface Cursor {
  /** The needle's bytes as latin1: a copy that a caller can't change, small enough to keep while idle. */
  readonly needle: string;
  /** No occurrence starts between the head and here. */
  next: number;
  /** Where the earliest occurrence at or after the head starts; behind the head when not known. */
  found: number;
}

/**
 * Received bytes that wait to be decoded, oldest first.
 *
 * Positions are relative to the head: `at(0)` is the oldest byte. Asking for more than waits is a mistake in
 * the codec: `peek`, `at` and `indexOf` answer `undefined` or `-1`, while `take`, `skip` and `readUInt` throw
 * a `RangeError`.
 */
export class ByteQueue {
  #length = 0;
  #head: Buffer = NOTHING;
  #start = 0;
  #end = 0;
  /** The chunks behind the head; those before `#restFirst` are used up and no longer held. */
  #rest: Buffer[] | undefined;
  #restFirst = 0;
  /** Always the last bytes of the queue. May be the head itself; then `#end === #blockUsed`. */
  #block: Buffer | undefined;
  #blockUsed = 0;
  /** Bytes that have left since the stream began. */
  #taken = 0;
  #cursors: Cursor[] | undefined;
  #oldestCursor = 0;

  /** How many bytes wait. */
  get length(): number {
    return this.#length;
  }

  /**
   * Adds bytes at the end. For the connection, and for tests of a codec. The queue keeps the chunk itself: it
   * must not change afterwards.
   */
  push(chunk: Uint8Array): void {
    const size = chunk.length;
    if (size === 0) return;
    const waiting = this.#length;
    this.#length = waiting + size;
    if (waiting === 0) {
      this.#head = asBuffer(chunk);
      this.#start = 0;
      this.#end = size;
    } else if (size < SMALL) {
      this.#gather(chunk);
    } else {
      this.#seal();
      this.#append(asBuffer(chunk));
    }
  }

  /** Forgets all bytes that wait. */
  clear(): void {
    this.#taken += this.#length;
    this.#length = 0;
    this.#reset();
  }

  /** The byte at a position, or `undefined` when there is none. */
  at(index: number): number | undefined {
    if (!(index >= 0 && index < this.#length)) return undefined;
    const inHead = this.#start + index;
    if (inHead < this.#end) return this.#head[inHead];
    const found = this.#locate(index);
    return this.#segment(found.segment)[found.within];
  }

  /**
   * The unsigned integer of 1, 2, 3, 4 or 8 bytes at a position. An 8-byte value above
   * `Number.MAX_SAFE_INTEGER` can't be told exactly and is `Infinity`.
   */
  readUInt(offset: number, bytes: 1 | 2 | 3 | 4 | 8, endian: 'BE' | 'LE' = 'BE'): number {
    const past = offset + bytes;
    if (!(offset >= 0 && past <= this.#length)) throw this.#tooFew('readUInt', past);
    const little = endian === 'LE';
    let position = this.#start + offset;
    let source = this.#head;
    if (this.#start + past > this.#end) {
      source = this.#copy(offset, bytes);
      position = 0;
    }
    switch (bytes) {
      case 1:
        return source.readUInt8(position);
      case 2:
        return little ? source.readUInt16LE(position) : source.readUInt16BE(position);
      case 3:
        return little ? source.readUIntLE(position, 3) : source.readUIntBE(position, 3);
      case 4:
        return little ? source.readUInt32LE(position) : source.readUInt32BE(position);
      case 8: {
        const high = little ? source.readUInt32LE(position + 4) : source.readUInt32BE(position);
        const low = little ? source.readUInt32LE(position) : source.readUInt32BE(position + 4);
        return high > 0x1fffff ? Number.POSITIVE_INFINITY : high * 0x1_0000_0000 + low;
      }
      default:
        throw invalidOption('bytes', 'be one of 1, 2, 3, 4, 8', bytes);
    }
  }

  /**
   * The next `n` bytes from a position, without taking them; `undefined` when fewer wait. A view where they lie
   * together, otherwise a copy: look at it, don't change or keep it.
   */
  peek(n: number, offset = 0): Buffer | undefined {
    if (!(n >= 0 && offset >= 0 && offset + n <= this.#length)) return undefined;
    const from = this.#start + offset;
    if (from + n <= this.#end) return this.#head.subarray(from, from + n);
    return this.#copy(offset, n);
  }

  /** The next `n` bytes from a position as text, without taking them; `undefined` when fewer wait. Makes no Buffer. */
  text(n: number, offset: number = 0, encoding: 'utf8' | 'latin1' = 'utf8'): string | undefined {
    if (!(n >= 0 && offset >= 0 && offset + n <= this.#length)) return undefined;
    const from = this.#start + offset;
    if (from + n <= this.#end) return this.#head.toString(encoding, from, from + n);
    return this.#copy(offset, n).toString(encoding);
  }

  /**
   * Removes and returns the next `n` bytes, together in one Buffer.
   *
   * They are a view of the chunk they came in, with two exceptions: bytes from several chunks are joined, and a
   * frame of at most 4 KiB is copied out of a chunk four times its size or more, because the view would keep
   * the whole chunk in memory for as long as the caller keeps the frame.
   */
  take(n: number): Buffer {
    if (!this.#has(n)) throw this.#tooFew('take', n);
    const from = this.#start;
    const to = from + n;
    let frame: Buffer;
    if (to <= this.#end) {
      const head = this.#head;
      if (n === head.length) frame = head;
      else if (n <= COPY_OUT && n * WASTE <= head.length) {
        frame = Buffer.allocUnsafe(n);
        head.copy(frame, 0, from, to);
      } else frame = head.subarray(from, to);
    } else {
      frame = this.#copy(0, n);
    }
    this.#drop(n);
    return frame;
  }

  /** Removes and returns all that waits; an empty Buffer when nothing does. */
  takeAll(): Buffer {
    return this.take(this.#length);
  }

  /** Removes the next `n` bytes. */
  skip(n: number): void {
    if (!this.#has(n)) throw this.#tooFew('skip', n);
    this.#drop(n);
  }

  /**
   * Where the needle first occurs, or `-1`.
   *
   * The search goes on where the last search for the same bytes ended, whatever was taken in between, so that
   * looking again after each chunk or each frame stays linear over the stream. That holds for up to
   * {@link MAX_NEEDLES} different needles on one queue.
   */
  indexOf(needle: Uint8Array): number {
    const size = needle.length;
    if (size === 0) throw invalidOption('needle', 'hold at least one byte', needle);
    const cursor = this.#cursorOf(needle);
    const taken = this.#taken;
    if (cursor.found >= taken) return cursor.found - taken;

    const from = cursor.next > taken ? cursor.next - taken : 0;
    const length = this.#length;
    if (length - from < size) return -1;
    const start = this.#start;
    let at: number;
    if (start + length === this.#end && this.#end === this.#head.length) {
      const inHead = find(this.#head, needle, start + from);
      at = inHead === -1 ? -1 : inHead - start;
    } else {
      at = this.#search(needle, from);
    }
    if (at === -1) {
      cursor.next = taken + length - size + 1;
      return -1;
    }
    cursor.found = taken + at;
    cursor.next = cursor.found + 1;
    return at;
  }

  // Storing

  /** Puts a small chunk that has to wait into the block. */
  #gather(chunk: Uint8Array): void {
    const size = chunk.length;
    let block = this.#block;
    if (block === undefined || this.#blockUsed + size > block.length) block = this.#roomFor(size);
    if (size === 1) block[this.#blockUsed] = chunk[0] ?? 0;
    else block.set(chunk, this.#blockUsed);
    this.#blockUsed += size;
    if (this.#head === block) this.#end = this.#blockUsed;
  }

  /**
   * A block with room for one more small chunk. Blocks double up to {@link MAX_BLOCK}, and live bytes move only
   * once their number has doubled or half the block has been taken: each byte is copied a few times at most.
   */
  #roomFor(size: number): Buffer {
    const block = this.#block;
    if (block === undefined) {
      const only = this.#rest === undefined && this.#end - this.#start < SMALL;
      if (only) return this.#moveHead(MIN_BLOCK, size);
      return this.#openBlock(MIN_BLOCK, size);
    }
    if (this.#head === block) {
      const live = this.#end - this.#start;
      if (live + size <= MAX_BLOCK / 2) return this.#moveHead(block.length, size);
      this.#block = undefined;
      return this.#openBlock(MAX_BLOCK, size);
    }
    const used = this.#blockUsed;
    if (used + size > MAX_BLOCK / 2) {
      this.#seal();
      return this.#openBlock(MAX_BLOCK, size);
    }
    const larger = this.#openBlock(block.length, used + size);
    block.copy(larger, 0, 0, used);
    this.#blockUsed = used;
    return larger;
  }

  /** Moves the head's live bytes into a fresh block, which becomes the head. */
  #moveHead(atLeast: number, size: number): Buffer {
    const head = this.#head;
    const live = this.#end - this.#start;
    const block = this.#openBlock(atLeast, live + size);
    head.copy(block, 0, this.#start, this.#end);
    this.#head = block;
    this.#start = 0;
    this.#end = live;
    this.#blockUsed = live;
    return block;
  }

  /** An empty block of at least twice the size that is needed now. */
  #openBlock(atLeast: number, needed: number): Buffer {
    let capacity = atLeast;
    while (capacity < needed * 2 && capacity < MAX_BLOCK) capacity *= 2;
    const block = Buffer.allocUnsafe(capacity);
    this.#block = block;
    this.#blockUsed = 0;
    return block;
  }

  /** Ends gathering, so that a larger chunk can follow. */
  #seal(): void {
    const block = this.#block;
    if (block === undefined) return;
    this.#block = undefined;
    if (block !== this.#head) this.#append(block.subarray(0, this.#blockUsed));
  }

  #append(chunk: Buffer): void {
    if (this.#rest === undefined) {
      this.#rest = [chunk];
      this.#restFirst = 0;
    } else {
      this.#rest.push(chunk);
    }
  }

  // Removing

  #drop(n: number): void {
    this.#taken += n;
    this.#length -= n;
    if (this.#length === 0) {
      this.#reset();
      return;
    }
    this.#start += n;
    while (this.#start >= this.#end) {
      const over = this.#start - this.#end;
      this.#nextHead();
      this.#start = over;
    }
  }

  /** Lets go of the head and makes the chunk behind it the head. */
  #nextHead(): void {
    const rest = this.#rest;
    if (rest === undefined) {
      this.#head = this.#block ?? NOTHING;
      this.#end = this.#blockUsed;
      return;
    }
    const first = this.#restFirst;
    this.#head = rest[first] ?? NOTHING;
    this.#end = this.#head.length;
    rest[first] = NOTHING;
    this.#restFirst = first + 1;
    if (this.#restFirst === rest.length) {
      this.#rest = undefined;
    } else if (this.#restFirst >= 64 && this.#restFirst * 2 >= rest.length) {
      // Half the list is used up, so moving the other half is paid for.
      rest.splice(0, this.#restFirst);
      this.#restFirst = 0;
    }
  }

  #reset(): void {
    this.#head = NOTHING;
    this.#start = 0;
    this.#end = 0;
    this.#rest = undefined;
    this.#block = undefined;
  }

  // Reading across chunks. The queue is seen as segments: 0 is the head, then the rest, then the block.

  #segments(): number {
    const rest = this.#rest === undefined ? 0 : this.#rest.length - this.#restFirst;
    return 1 + rest + (this.#block !== undefined && this.#block !== this.#head ? 1 : 0);
  }

  /** A segment's Buffer. The head's has used bytes in front and a block's has spare ones behind. */
  #segment(index: number): Buffer {
    if (index === 0) return this.#head;
    return this.#rest?.[this.#restFirst + index - 1] ?? this.#block ?? NOTHING;
  }

  #segmentStart(index: number): number {
    return index === 0 ? this.#start : 0;
  }

  #segmentEnd(index: number): number {
    if (index === 0) return this.#end;
    return this.#rest?.[this.#restFirst + index - 1]?.length ?? this.#blockUsed;
  }

  /**
   * The segment of a position, and the place within its Buffer. Walks from the nearer end: a search that resumes
   * starts either near the head or near the end of what was there before.
   */
  #locate(position: number): { segment: number; within: number; base: number } {
    if (position * 2 < this.#length) {
      let base = 0;
      for (let segment = 0; ; segment++) {
        const start = this.#segmentStart(segment);
        const size = this.#segmentEnd(segment) - start;
        if (position < base + size) return { segment, within: start + position - base, base };
        base += size;
      }
    }
    let base = this.#length;
    for (let segment = this.#segments() - 1; ; segment--) {
      const start = this.#segmentStart(segment);
      base -= this.#segmentEnd(segment) - start;
      if (position >= base) return { segment, within: start + position - base, base };
    }
  }

  /** A copy of bytes that may lie in several segments. */
  #copy(offset: number, n: number): Buffer {
    if (n === 0) return NOTHING;
    const { segment, within } = this.#locate(offset);
    return this.#copyFrom(segment, within, n);
  }

  #copyFrom(firstSegment: number, firstWithin: number, n: number): Buffer {
    const copy = Buffer.allocUnsafe(n);
    let segment = firstSegment;
    let within = firstWithin;
    let filled = 0;
    while (filled < n) {
      const source = this.#segment(segment);
      const end = Math.min(this.#segmentEnd(segment), within + n - filled);
      // A whole chunk is the usual case, and `set` its faster way.
      if (within === 0 && end === source.length) copy.set(source, filled);
      else source.copy(copy, filled, within, end);
      filled += end - within;
      segment += 1;
      within = 0;
    }
    return copy;
  }

  // Searching

  #cursorOf(needle: Uint8Array): Cursor {
    const cursors = this.#cursors;
    if (cursors !== undefined) {
      for (const cursor of cursors) {
        if (sameBytes(cursor.needle, needle)) return cursor;
      }
    }
    const bytes = Buffer.from(needle.buffer, needle.byteOffset, needle.length);
    const cursor: Cursor = { needle: bytes.toString('latin1'), next: 0, found: -1 };
    if (cursors === undefined) {
      // Most queues know one needle for life: a literal has room for just that.
      this.#cursors = [cursor];
    } else if (cursors.length < MAX_NEEDLES) {
      cursors.push(cursor);
    } else {
      cursors[this.#oldestCursor] = cursor;
      this.#oldestCursor = (this.#oldestCursor + 1) % MAX_NEEDLES;
    }
    return cursor;
  }

  /** The earliest occurrence that starts at `from` or later. */
  #search(needle: Uint8Array, from: number): number {
    const segments = this.#segments();
    let { segment, within, base } = this.#locate(from);
    for (; segment < segments; segment++) {
      const start = this.#segmentStart(segment);
      const end = this.#segmentEnd(segment);
      const buffer = this.#segment(segment);
      // Spare bytes of a block are garbage and can be many: they must not be searched.
      const at = find(end === buffer.length ? buffer : buffer.subarray(0, end), needle, within);
      if (at !== -1) return base + at - start;
      if (needle.length > 1 && segment + 1 < segments) {
        const across = this.#searchBorder(needle, from, segment, base);
        if (across !== -1) return across;
      }
      base += end - start;
      within = 0;
    }
    return -1;
  }

  /**
   * The earliest occurrence that begins before the end of a segment and ends behind it. It lies within
   * `needle.length - 1` bytes of the border, on both sides.
   */
  #searchBorder(needle: Uint8Array, from: number, segment: number, base: number): number {
    const reach = needle.length - 1;
    let first = segment;
    let position = base;
    const border = base + this.#segmentEnd(segment) - this.#segmentStart(segment);
    const left = Math.max(from, border - reach);
    const right = Math.min(this.#length, border + reach);
    while (position > left) {
      first -= 1;
      position -= this.#segmentEnd(first) - this.#segmentStart(first);
    }
    const within = this.#segmentStart(first) + left - position;
    const at = this.#copyFrom(first, within, right - left).indexOf(needle);
    return at === -1 ? -1 : left + at;
  }

  /** A fraction would cut the stream between two bytes: every later frame would be wrong. */
  #has(n: number): boolean {
    return Number.isSafeInteger(n) && n >= 0 && n <= this.#length;
  }

  #tooFew(method: string, n: number): RangeError {
    return new RangeError(`${method}: asked for ${n} bytes, ${this.#length} wait`);
  }
}

function asBuffer(chunk: Uint8Array): Buffer {
  return Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
}

function find(bytes: Buffer, needle: Uint8Array, from: number): number {
  return needle.length === 1 ? bytes.indexOf(needle[0] ?? 0, from) : bytes.indexOf(needle, from);
}

function sameBytes(text: string, bytes: Uint8Array): boolean {
  if (text.length !== bytes.length) return false;
  for (let index = 0; index < text.length; index++) {
    if (text.charCodeAt(index) !== bytes[index]) return false;
  }
  return true;
}

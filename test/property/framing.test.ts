/**
 * Framing: whatever is sent arrives, however the network cuts it, and whatever arrives is either frames or a
 * FrameError. The byte queue is compared with one plain Buffer, the delimited codec with a search by hand.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameError, PulsepoolError } from '../../src/errors.ts';
import { ByteQueue } from '../../src/transport/byte-queue.ts';
import type { Codec } from '../../src/transport/codec.ts';
import { delimited } from '../../src/transport/delimited.ts';
import { fixedLength } from '../../src/transport/fixed-length.ts';
import { type LengthPrefixedOptions, lengthPrefixed } from '../../src/transport/length-prefixed.ts';
import { lines } from '../../src/transport/lines.ts';
import { bytesOf as written } from '../support/bytes-of.ts';

const RUNS = { numRuns: 500 };

// How the network cuts

/** Places to cut a stream, as fractions of it, or one byte at a time. */
const cuts: fc.Arbitrary<readonly number[] | 'every byte'> = fc.oneof(
  { weight: 4, arbitrary: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 }) },
  { weight: 1, arbitrary: fc.constant('every byte' as const) },
);

function cut(stream: Buffer, where: readonly number[] | 'every byte'): Buffer[] {
  const places =
    where === 'every byte'
      ? Array.from(stream, (_, index) => index + 1)
      : where.map((fraction) => Math.round(fraction * stream.length)).sort((a, b) => a - b);
  const chunks: Buffer[] = [];
  let from = 0;
  for (const to of [...places, stream.length]) {
    // A chunk has memory of its own, as it does when a socket gives it.
    chunks.push(Buffer.from(stream.subarray(from, to)));
    from = to;
  }
  return chunks;
}

function wire<In>(codec: Codec<In, unknown>, messages: readonly In[]): Buffer {
  return Buffer.concat(messages.map((message) => written(codec.encode(message))));
}

/** What a connection does with its codec. */
function receive<Out>(
  codec: Codec<never, Out>,
  chunks: readonly Buffer[],
): { frames: Out[]; error: unknown; left: number } {
  const queue = new ByteQueue();
  const frames: Out[] = [];
  try {
    for (const chunk of chunks) {
      queue.push(chunk);
      for (;;) {
        const before = queue.length;
        const frame = codec.decode(queue);
        if (frame === undefined) break;
        frames.push(frame);
        if (queue.length >= before && before > 0) throw new Error('a frame that took no bytes');
      }
    }
  } catch (error) {
    return { frames, error, left: queue.length };
  }
  return { frames, error: undefined, left: queue.length };
}

// What is sent

/** Short messages mostly, and some that don't fit in a chunk, a block or one write. */
const size: fc.Arbitrary<number> = fc.oneof(
  { weight: 6, arbitrary: fc.nat(40) },
  { weight: 2, arbitrary: fc.nat(3000) },
  { weight: 1, arbitrary: fc.integer({ min: 16_380, max: 20_000 }) },
);

/** Bytes from a small alphabet, so that delimiters and their beginnings are frequent. */
function bytesOf(alphabet: string, length: fc.Arbitrary<number>): fc.Arbitrary<Buffer> {
  return fc
    .tuple(length, fc.array(fc.nat(alphabet.length - 1), { minLength: 1, maxLength: 40 }))
    .map(([many, pattern]) => {
      const out = Buffer.alloc(many);
      for (let index = 0; index < many; index++) {
        // The pattern shifts at each turn, so that long messages don't repeat.
        const turn = Math.floor(index / pattern.length);
        out[index] = alphabet.charCodeAt(((pattern[index % pattern.length] ?? 0) + turn) % alphabet.length);
      }
      return out;
    });
}

const anyMessages: fc.Arbitrary<Buffer[]> = fc.array(bytesOf('ab\r\n\0\xff', size), { maxLength: 12 });

describe('the byte queue', () => {
  type Step =
    | { readonly do: 'push'; readonly bytes: Buffer }
    | { readonly do: 'take' | 'skip' | 'peek' | 'at'; readonly part: number; readonly offset: number }
    | {
        readonly do: 'readUInt';
        readonly bytes: 1 | 2 | 3 | 4 | 8;
        readonly endian: 'BE' | 'LE';
        readonly offset: number;
      }
    | { readonly do: 'indexOf'; readonly needle: Buffer }
    | { readonly do: 'takeAll' | 'clear' };

  const fraction = fc.double({ min: 0, max: 1, noNaN: true });
  const chunkSize = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 0, max: 5 }) },
    { weight: 2, arbitrary: fc.integer({ min: 250, max: 1100 }) },
    { weight: 1, arbitrary: fc.integer({ min: 1000, max: 5000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 30_000, max: 70_000 }) },
  );
  const needles = ['a', 'b', 'ab', 'ba', 'aab', 'abab', 'bbbbbb', 'aaaaaaaaaaaab', 'c', 'ac'].map((text) =>
    Buffer.from(text),
  );
  const step: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({ do: fc.constant('push' as const), bytes: bytesOf('ab', chunkSize) }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constantFrom('take' as const, 'skip' as const, 'peek' as const, 'at' as const),
        // Small pieces mostly, or the queue is always near empty.
        part: fraction.map((part) => part ** 6),
        offset: fraction,
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant('readUInt' as const),
        bytes: fc.constantFrom(1 as const, 2 as const, 3 as const, 4 as const, 8 as const),
        endian: fc.constantFrom('BE' as const, 'LE' as const),
        offset: fraction,
      }),
    },
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constant('indexOf' as const), needle: fc.constantFrom(...needles) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('takeAll' as const, 'clear' as const) }) },
  );

  /** The same step on the queue and on a plain Buffer. Returns what is left of the Buffer. */
  function run(queue: ByteQueue, model: Buffer, one: Step): Buffer {
    switch (one.do) {
      case 'push':
        queue.push(Buffer.from(one.bytes));
        return Buffer.concat([model, one.bytes]);
      case 'take': {
        const many = Math.ceil(one.part * model.length);
        expectSame(queue.take(many), model.subarray(0, many));
        return model.subarray(many);
      }
      case 'skip': {
        const many = Math.ceil(one.part * model.length);
        queue.skip(many);
        return model.subarray(many);
      }
      case 'peek': {
        const offset = Math.floor(one.offset * model.length);
        const many = Math.ceil(one.part * model.length);
        const seen = queue.peek(many, offset);
        if (offset + many > model.length) expect(seen).toBeUndefined();
        else expectSame(seen, model.subarray(offset, offset + many));
        return model;
      }
      case 'at': {
        const index = Math.floor(one.offset * (model.length + 1));
        expect(queue.at(index)).toBe(model[index]);
        return model;
      }
      case 'readUInt': {
        const offset = Math.floor(one.offset * model.length);
        if (offset + one.bytes > model.length) {
          expect(() => queue.readUInt(offset, one.bytes, one.endian)).toThrow(RangeError);
        } else {
          const bytes = [...model.subarray(offset, offset + one.bytes)];
          if (one.endian === 'LE') bytes.reverse();
          const exact = BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
          const expected = exact > Number.MAX_SAFE_INTEGER ? Number.POSITIVE_INFINITY : Number(exact);
          expect(queue.readUInt(offset, one.bytes, one.endian)).toBe(expected);
        }
        return model;
      }
      case 'indexOf':
        expect(queue.indexOf(one.needle)).toBe(model.indexOf(one.needle));
        return model;
      case 'takeAll':
        expectSame(queue.takeAll(), model);
        return Buffer.alloc(0);
      case 'clear':
        queue.clear();
        return Buffer.alloc(0);
    }
  }

  function expectSame(got: Buffer | undefined, expected: Buffer): void {
    // `toEqual` compares 70,000 bytes one by one.
    if (got?.equals(expected)) return;
    expect(got).toEqual(expected);
  }

  it('does what one plain Buffer would do', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
        const queue = new ByteQueue();
        let model: Buffer = Buffer.alloc(0);
        for (const one of steps) {
          model = run(queue, model, one);
          expect(queue.length).toBe(model.length);
        }
        expectSame(queue.takeAll(), model);
      }),
      { numRuns: 1500 },
    );
  });

  it('gives frames that never change afterwards', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(bytesOf('ab', chunkSize), fraction), { maxLength: 60 }), (rounds) => {
        const queue = new ByteQueue();
        const kept: { frame: Buffer; copy: Buffer }[] = [];
        for (const [bytes, part] of rounds) {
          queue.push(Buffer.from(bytes));
          const frame = queue.take(Math.floor(queue.length * part));
          kept.push({ frame, copy: Buffer.from(frame) });
        }
        for (const { frame, copy } of kept) expectSame(frame, copy);
      }),
      RUNS,
    );
  });

  it('finds a needle wherever it lies and wherever it is cut', () => {
    fc.assert(
      fc.property(
        bytesOf('ab', fc.integer({ min: 1, max: 3000 })),
        bytesOf('ab', fc.nat(6000)),
        bytesOf('ab', fc.nat(6000)),
        cuts,
        fc.boolean(),
        (needle, before, after, where, eachTime) => {
          const stream = Buffer.concat([before, needle, after]);
          const queue = new ByteQueue();
          let seen = Buffer.alloc(0);
          for (const chunk of cut(stream, where)) {
            queue.push(chunk);
            if (!eachTime) continue;
            if (where !== 'every byte') seen = Buffer.concat([seen, chunk]);
            const at = queue.indexOf(needle);
            if (where !== 'every byte') expect(at).toBe(seen.indexOf(needle));
          }
          expect(queue.indexOf(needle)).toBe(stream.indexOf(needle));
        },
      ),
      RUNS,
    );
  });
});

describe('round trips', () => {
  const layouts: fc.Arbitrary<LengthPrefixedOptions> = fc
    .record({
      lengthBytes: fc.constantFrom(1 as const, 2 as const, 3 as const, 4 as const, 8 as const),
      endian: fc.constantFrom('BE' as const, 'LE' as const),
      lengthOffset: fc.oneof(fc.constant(0), fc.nat(9)),
      lengthAdjustment: fc.oneof(
        fc.constant(0),
        fc.integer({ min: -20, max: 20 }),
        fc.integer({ min: -300, max: 300 }),
      ),
      strip: fc.oneof(fc.constant(0), fc.constant(undefined), fc.nat(24)),
      prefixed: fc.boolean(),
      maxFrameBytes: fc.oneof(fc.constant(undefined), fc.nat(70_000)),
    })
    .map(({ prefixed, strip, maxFrameBytes, ...rest }) => ({
      ...rest,
      ...(strip === undefined ? {} : { strip }),
      ...(maxFrameBytes === undefined ? {} : { maxFrameBytes }),
      ...(prefixed ? { prefix: Buffer.alloc(strip ?? rest.lengthOffset + rest.lengthBytes, 0xca) } : {}),
    }));

  /** The codec, or `undefined` for a layout that is refused by name. */
  function accepted(options: LengthPrefixedOptions): Codec | undefined {
    try {
      return lengthPrefixed(options);
    } catch (error) {
      expect(error).toBeInstanceOf(PulsepoolError);
      expect((error as PulsepoolError).code).toBe('ERR_INVALID_OPTION');
      return undefined;
    }
  }

  it('of every lengthPrefixed layout that is accepted, under any chunking', () => {
    let layoutsSeen = 0;
    let sent = 0;
    fc.assert(
      fc.property(layouts, anyMessages, cuts, (options, messages, where) => {
        const codec = accepted(options);
        if (codec === undefined) return;
        layoutsSeen += 1;
        const offset = options.lengthOffset ?? 0;
        const width = options.lengthBytes ?? 4;
        const strip = options.strip ?? offset + width;
        const frames: Buffer[] = [];
        const pieces: Buffer[] = [];
        for (const message of messages) {
          const before = Buffer.from(message);
          let encoded: Buffer;
          try {
            encoded = wire(codec, [message]);
          } catch (error) {
            // Refused for its size and nothing else.
            expect((error as FrameError).fault).toMatch(/^(too-large|bad-message)$/);
            const frameBytes = strip + message.length;
            const least = Math.max(offset + width, offset + width + (options.lengthAdjustment ?? 0), strip);
            expect(frameBytes < least || frameBytes > (codec.maxFrameBytes ?? 0)).toBe(true);
            continue;
          }
          expect(message.equals(before)).toBe(true);
          expect(encoded.length).toBe(strip + message.length);
          sent += 1;
          // The message as it was, except where it had left room for the length.
          const expected = Buffer.from(message);
          encoded.copy(
            expected,
            Math.max(0, offset - strip),
            Math.max(offset, strip),
            Math.max(offset + width, strip),
          );
          frames.push(expected);
          pieces.push(encoded);
        }
        const received = receive(codec, cut(Buffer.concat(pieces), where));
        expect(received.error).toBeUndefined();
        expect(received.left).toBe(0);
        expect(received.frames.length).toBe(frames.length);
        for (const [index, frame] of frames.entries())
          expect(received.frames[index]?.equals(frame)).toBe(true);
        // What was received can be sent on, to the byte.
        expect(wire(codec, received.frames).equals(Buffer.concat(pieces))).toBe(true);
      }),
      { numRuns: 1500 },
    );
    expect(layoutsSeen).toBeGreaterThan(300);
    expect(sent).toBeGreaterThan(300);
  });

  it('of lines, under any chunking', () => {
    const text = fc.string({
      unit: fc.constantFrom('a', '\r', 'é', '€', '😀', ' ', '\0', '\u2028'),
      maxLength: 60,
    });
    const eol = fc.constantFrom('\n' as const, '\r\n' as const);
    fc.assert(
      fc.property(fc.array(text, { maxLength: 20 }), eol, cuts, (messages, end, where) => {
        const codec = lines({ eol: end });
        const sendable = messages.filter((message) => end === '\r\n' || !message.endsWith('\r'));
        expect(receive(codec, cut(wire(codec, sendable), where))).toEqual({
          frames: sendable,
          error: undefined,
          left: 0,
        });
      }),
      RUNS,
    );
  });

  it('of latin1 lines: every byte but the line ends survives', () => {
    const text = fc.uint8Array({ maxLength: 40 }).map((bytes) =>
      Buffer.from(bytes)
        .toString('latin1')
        .replaceAll(/[\r\n]/g, ''),
    );
    fc.assert(
      fc.property(fc.array(text, { maxLength: 10 }), cuts, (messages, where) => {
        const codec = lines({ encoding: 'latin1' });
        expect(receive(codec, cut(wire(codec, messages), where)).frames).toEqual(messages);
      }),
      RUNS,
    );
  });

  it('of fixed lengths, under any chunking', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3000 }),
        fc.array(fc.nat(255), { maxLength: 12 }),
        cuts,
        (bytes, fills, where) => {
          const codec = fixedLength(bytes);
          const messages = fills.map((fill) => Buffer.alloc(bytes, fill));
          const received = receive(codec, cut(wire(codec, messages), where));
          expect(Buffer.concat(received.frames).equals(Buffer.concat(messages))).toBe(true);
          expect(received.frames.every((frame) => frame.length === bytes)).toBe(true);
          expect(received.frames.length).toBe(messages.length);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('of 10,000 frames in one chunk, and of the same cut at random', () => {
    const messages = Array.from({ length: 10_000 }, (_, index) =>
      Buffer.from(String(index).padStart(28, 'x')),
    );
    const codecs = [lengthPrefixed(), delimited({ delimiter: ['\r\n', 'never'] }), fixedLength(28)];
    for (const codec of codecs) {
      const stream = wire(codec, messages);
      expect(receive(codec, [stream]).frames).toEqual(messages);
      fc.assert(
        fc.property(cuts, (where) => {
          const received = receive(codec, cut(stream, where));
          expect(Buffer.concat(received.frames).equals(Buffer.concat(messages))).toBe(true);
          expect(received.frames.length).toBe(messages.length);
        }),
        { numRuns: 5 },
      );
    }
  });
});

describe('delimiters', () => {
  const alphabet = 'abc';
  const delimiterLists = fc.uniqueArray(
    fc.string({ unit: fc.constantFrom(...alphabet), minLength: 1, maxLength: 4 }),
    { minLength: 1, maxLength: 4 },
  );

  /** Byte after byte: has a delimiter just ended? The longest that did is it. */
  function byHand(stream: string, delimiters: readonly string[], keep: boolean): string[] {
    const frames: string[] = [];
    let frame = '';
    for (const character of stream) {
      frame += character;
      const ended = delimiters
        .filter((delimiter) => frame.endsWith(delimiter))
        .sort((a, b) => b.length - a.length)[0];
      if (ended === undefined) continue;
      frames.push(keep ? frame : frame.slice(0, -ended.length));
      frame = '';
    }
    return frames;
  }

  /** Whether each delimiter, coming alone, is seen whole and as itself. */
  function canAllWin(delimiters: readonly string[]): boolean {
    return delimiters.every((one) => {
      const kept = byHand(one, delimiters, true);
      const dropped = byHand(one, delimiters, false);
      return kept.length === 1 && kept[0] === one && dropped[0] === '';
    });
  }

  it('are accepted when each can end a frame, and refused when one never could', () => {
    fc.assert(
      fc.property(delimiterLists, (delimiters) => {
        const make = () => delimited({ delimiter: delimiters });
        if (canAllWin(delimiters)) expect(make).not.toThrow();
        else expect(make).toThrow(PulsepoolError);
      }),
      { numRuns: 2000 },
    );
  });

  it('cut the stream as a search by hand does, however it was cut before', () => {
    fc.assert(
      fc.property(
        delimiterLists.filter(canAllWin),
        fc.string({ unit: fc.constantFrom(...alphabet), maxLength: 200, size: 'max' }),
        cuts,
        fc.boolean(),
        (delimiters, stream, where, keepDelimiter) => {
          const codec = delimited({ delimiter: delimiters, keepDelimiter });
          const expected = byHand(stream, delimiters, keepDelimiter);
          const received = receive(codec, cut(Buffer.from(stream), where));
          expect(received.error).toBeUndefined();
          expect(received.frames.map(String)).toEqual(expected);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('bring every message that encode takes, and encode refuses no other', () => {
    let refused = 0;
    let sent = 0;
    fc.assert(
      fc.property(
        delimiterLists.filter(canAllWin),
        fc.array(fc.string({ unit: fc.constantFrom(...alphabet), maxLength: 12 }), { maxLength: 8 }),
        cuts,
        fc.boolean(),
        (delimiters, messages, where, keepDelimiter) => {
          const codec = delimited({ delimiter: delimiters, keepDelimiter });
          const first = delimiters[0] ?? '';
          const arrives: string[] = [];
          const pieces: Buffer[] = [];
          for (const message of messages) {
            const whole = byHand(message, delimiters, true).join() === message && message !== '';
            const onWire = keepDelimiter && whole ? message : message + first;
            const frames = byHand(onWire, delimiters, keepDelimiter);
            // Not merely one frame, but one that ends with the delimiter that was appended.
            const dropped = byHand(onWire, delimiters, false);
            const ok = onWire === message || (dropped.length === 1 && dropped[0] === message);
            if (ok) {
              pieces.push(wire(codec, [message]));
              arrives.push(...frames);
              sent += 1;
            } else {
              expect(() => codec.encode(message)).toThrow(FrameError);
              refused += 1;
            }
          }
          const received = receive(codec, cut(Buffer.concat(pieces), where));
          expect(received.frames.map(String)).toEqual(arrives);
          expect(received.left).toBe(0);
        },
      ),
      { numRuns: 2000 },
    );
    expect(sent).toBeGreaterThan(500);
    expect(refused).toBeGreaterThan(500);
  });

  it('have their limit checked at the first byte where it is certain, never before', () => {
    fc.assert(
      fc.property(
        delimiterLists.filter(canAllWin),
        fc.integer({ min: 4, max: 12 }),
        fc.string({ unit: fc.constantFrom(...alphabet), maxLength: 20 }),
        (delimiters, maxFrameBytes, stream) => {
          const codec = delimited({ delimiter: delimiters, maxFrameBytes });
          const queue = new ByteQueue();
          let waiting = '';
          for (const character of stream) {
            queue.push(Buffer.from(character));
            waiting += character;
            const ended = delimiters.some((delimiter) => waiting.endsWith(delimiter));
            // Certain when no continuation ends in time: try to complete each delimiter from its beginning.
            const earliest = Math.min(
              ...delimiters.map((delimiter) => {
                let begun = Math.min(delimiter.length - 1, waiting.length);
                while (!waiting.endsWith(delimiter.slice(0, begun))) begun -= 1;
                return waiting.length + delimiter.length - begun;
              }),
            );
            if (ended ? waiting.length > maxFrameBytes : earliest > maxFrameBytes) {
              expect(() => codec.decode(queue)).toThrow(expect.objectContaining({ fault: 'too-large' }));
              return;
            }
            const frame = codec.decode(queue);
            expect(frame !== undefined).toBe(ended);
            if (ended) waiting = '';
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('limits', () => {
  it('hold at limit - 1, limit and limit + 1, for sender and receiver, under any chunking', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 8, max: 20_000 }),
        fc.constantFrom(-1, 0, 1),
        cuts,
        (maxFrameBytes, over, where) => {
          const frameBytes = maxFrameBytes + over;
          const roomy = { maxFrameBytes: 30_000 };
          const pairs: [Codec<string, unknown>, Codec<string, unknown>, number][] = [
            [lengthPrefixed({ maxFrameBytes }), lengthPrefixed(roomy), 4],
            [delimited({ delimiter: '\r\n', maxFrameBytes }), delimited({ delimiter: '\r\n', ...roomy }), 2],
            [lines({ maxFrameBytes }), lines(roomy), 1],
          ];
          for (const [limited, other, around] of pairs) {
            const message = 'x'.repeat(frameBytes - around);
            const stream = wire(other, [message]);
            expect(stream.length).toBe(frameBytes);
            const received = receive(limited, cut(stream, where));
            if (over <= 0) {
              expect(received.error).toBeUndefined();
              expect(received.frames.map(String)).toEqual([message]);
              expect(wire(limited, [message]).equals(stream)).toBe(true);
            } else {
              expect(received.frames).toEqual([]);
              expect(received.error).toMatchObject({ fault: 'too-large', limitBytes: maxFrameBytes });
              expect(() => limited.encode(message)).toThrow(
                expect.objectContaining({
                  fault: 'too-large',
                  declaredBytes: frameBytes,
                  limitBytes: maxFrameBytes,
                }),
              );
            }
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('garbage', () => {
  const codecs: readonly (() => Codec<never, unknown>)[] = [
    () => lengthPrefixed(),
    () => lengthPrefixed({ lengthBytes: 1 }),
    () => lengthPrefixed({ lengthBytes: 2, lengthAdjustment: -2, endian: 'LE' }),
    () => lengthPrefixed({ lengthBytes: 8, strip: 0 }),
    () => lengthPrefixed({ lengthBytes: 3, lengthAdjustment: 5, maxFrameBytes: 100 }),
    () => lengthPrefixed({ lengthBytes: 1, strip: 4, prefix: Buffer.alloc(4) }),
    () => lines({ maxFrameBytes: 50 }),
    () => delimited({ delimiter: ['\n', '\r\n', '\0\0'], maxFrameBytes: 50 }),
    () => fixedLength(7),
  ];
  /** All byte values, with those that mean something more often than chance. */
  const garbage = fc
    .array(
      fc.oneof(
        fc.uint8Array({ maxLength: 40 }),
        fc
          .constantFrom('\0', '\n', '\r\n', '\xff\xff\xff\xff', '\0\0\0\x03', '\x16\x03\x01', 'HTTP/1.1 ')
          .map((text) => Buffer.from(text, 'latin1')),
      ),
      { maxLength: 30 },
    )
    .map((parts) => Buffer.concat(parts));

  it('gives frames or a FrameError, never another error, and always ends', () => {
    fc.assert(
      fc.property(fc.constantFrom(...codecs), garbage, cuts, (make, stream, where) => {
        const codec = make();
        const { frames, error, left } = receive(codec, cut(stream, where));
        if (error !== undefined) {
          expect(error).toBeInstanceOf(FrameError);
          expect((error as FrameError).head).toMatch(/^([0-9a-f]{2}){1,16}$/);
        } else {
          expect(left).toBeLessThanOrEqual(codec.maxFrameBytes ?? Number.POSITIVE_INFINITY);
        }
        expect(frames.length).toBeLessThanOrEqual(stream.length);
      }),
      { numRuns: 5000 },
    );
  });

  it('gives the same frames and the same verdict however it is cut', () => {
    fc.assert(
      fc.property(fc.constantFrom(...codecs), garbage, cuts, cuts, (make, stream, one, other) => {
        const a = receive(make(), cut(stream, one));
        const b = receive(make(), cut(stream, other));
        expect(a.frames).toEqual(b.frames);
        expect((a.error as FrameError | undefined)?.fault).toBe((b.error as FrameError | undefined)?.fault);
      }),
      { numRuns: 3000 },
    );
  });
});

import { describe, expect, it } from 'vitest';
import { FrameError, PulsepoolError } from '../../../src/errors.ts';
import { ByteQueue } from '../../../src/transport/byte-queue.ts';
import type { Codec } from '../../../src/transport/codec.ts';
import { type LengthPrefixedOptions, lengthPrefixed } from '../../../src/transport/length-prefixed.ts';
import { bytesOf } from '../../support/bytes-of.ts';

const MIB = 1024 * 1024;

function wire(codec: Codec, message: Uint8Array | string): Buffer {
  return bytesOf(codec.encode(message));
}

function decode(codec: Codec, bytes: Uint8Array): Buffer | undefined {
  const queue = new ByteQueue();
  queue.push(bytes);
  return codec.decode(queue);
}

function thrown(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('lengthPrefixed', () => {
  it.each<[string, LengthPrefixedOptions, string, string]>([
    ['four bytes, big endian', {}, '00000005 48454c4c4f', '48454c4c4f'],
    ['little endian', { lengthBytes: 2, endian: 'LE' }, '0500 48454c4c4f', '48454c4c4f'],
    ['eight bytes', { lengthBytes: 8 }, '0000000000000005 48454c4c4f', '48454c4c4f'],
    [
      'eight bytes, little endian',
      { lengthBytes: 8, endian: 'LE' },
      '0500000000000000 48454c4c4f',
      '48454c4c4f',
    ],
    ['the header kept', { lengthBytes: 2, strip: 0 }, '0005 48454c4c4f', '0005 48454c4c4f'],
    ['a field that counts itself', { lengthBytes: 2, lengthAdjustment: -2 }, '0007 48454c4c4f', '48454c4c4f'],
    [
      'a magic number first',
      { lengthBytes: 2, lengthOffset: 2, prefix: Buffer.from('cafe0000', 'hex') },
      'cafe 0005 48454c4c4f',
      '48454c4c4f',
    ],
    [
      'a type that the length leaves out',
      { lengthBytes: 3, lengthAdjustment: 2 },
      '000005 0001 48454c4c4f',
      '0001 48454c4c4f',
    ],
    [
      'PostgreSQL',
      { lengthBytes: 4, lengthOffset: 1, lengthAdjustment: -4, strip: 0 },
      '51 00000009 48454c4c4f',
      '51 00000009 48454c4c4f',
    ],
    [
      'a length of the whole frame',
      { lengthBytes: 2, lengthOffset: 1, lengthAdjustment: -3, strip: 3, prefix: Buffer.from([1, 0, 0]) },
      '01 0008 48454c4c4f',
      '48454c4c4f',
    ],
    [
      'bytes stripped behind the header',
      { lengthBytes: 1, strip: 3, prefix: Buffer.from('00aabb', 'hex') },
      '07 aabb 48454c4c4f',
      '48454c4c4f',
    ],
    [
      'a header stripped in part',
      { lengthBytes: 2, lengthOffset: 2, strip: 1, prefix: Buffer.from([0xca]) },
      'ca fe 0005 48454c4c4f',
      'fe 0005 48454c4c4f',
    ],
  ])('reads and writes %s', (_, options, onWire, message) => {
    const codec = lengthPrefixed(options);
    const expected = Buffer.from(onWire.replaceAll(' ', ''), 'hex');
    const frame = Buffer.from(message.replaceAll(' ', ''), 'hex');
    expect(decode(codec, expected)).toEqual(frame);
    expect(wire(codec, frame)).toEqual(expected);
  });

  it('writes strings as UTF-8 and counts their bytes', () => {
    expect(wire(lengthPrefixed({ lengthBytes: 1 }), 'é€')).toEqual(Buffer.from('\x05é€'));
  });

  it('fills in the length of a message that brings its header, and leaves the caller’s bytes alone', () => {
    for (const size of [10, 100_000]) {
      const codec = lengthPrefixed({ lengthOffset: 1, strip: 0 });
      const message = Buffer.alloc(5 + size, 0xee);
      const sent = wire(codec, message);
      expect(sent[0]).toBe(0xee);
      expect(sent.readUInt32BE(1)).toBe(size);
      expect(message.every((byte) => byte === 0xee)).toBe(true);
      expect(decode(codec, sent)).toEqual(sent);
    }
  });

  it('copies up to 16 KiB behind the header and never more', () => {
    const codec = lengthPrefixed();
    const small = Buffer.alloc(16 * 1024, 'a');
    expect(codec.encode(small)).toBeInstanceOf(Buffer);
    const large = Buffer.alloc(16 * 1024 + 1, 'a');
    const pieces = codec.encode(large);
    expect(pieces).toHaveLength(2);
    expect((pieces as Uint8Array[])[1]?.buffer).toBe(large.buffer);
    expect(codec.encode('a'.repeat(100_000))).toBeInstanceOf(Buffer);
  });

  it('passes empty messages', () => {
    const codec = lengthPrefixed();
    expect(decode(codec, wire(codec, ''))).toEqual(Buffer.alloc(0));
  });

  it('waits for the whole header and the whole frame', () => {
    const codec = lengthPrefixed();
    const bytes = wire(codec, 'hello');
    const queue = new ByteQueue();
    for (const byte of bytes.subarray(0, -1)) {
      queue.push(Buffer.from([byte]));
      expect(codec.decode(queue)).toBeUndefined();
    }
    queue.push(bytes.subarray(-1));
    expect(codec.decode(queue)?.toString()).toBe('hello');
    expect(codec.decode(queue)).toBeUndefined();
  });

  it('limits the frame on the wire, on both sides, to the byte', () => {
    const codec = lengthPrefixed({ maxFrameBytes: 104 });
    const roomy = lengthPrefixed();
    for (const size of [99, 100]) {
      expect(wire(codec, Buffer.alloc(size))).toHaveLength(size + 4);
      expect(decode(codec, wire(roomy, Buffer.alloc(size)))).toHaveLength(size);
    }
    expect(thrown(() => codec.encode(Buffer.alloc(101)))).toMatchObject({
      name: 'FrameError',
      fault: 'too-large',
      declaredBytes: 105,
      limitBytes: 104,
      head: '',
    });
    expect(thrown(() => codec.encode('x'.repeat(101)))).toBeInstanceOf(FrameError);
    expect(thrown(() => decode(codec, wire(roomy, Buffer.alloc(101))))).toMatchObject({
      message: 'lengthPrefixed: a frame of 105 bytes was announced, the limit is 104',
      fault: 'too-large',
      declaredBytes: 105,
      limitBytes: 104,
      head: '00000065000000000000000000000000',
    });
  });

  it('applies the limit to the adjusted length', () => {
    const codec = lengthPrefixed({ lengthBytes: 1, lengthAdjustment: 100, maxFrameBytes: 110 });
    expect(decode(codec, Buffer.alloc(110).fill(9, 0, 1))).toHaveLength(109);
    expect(thrown(() => decode(codec, Buffer.from([10])))).toMatchObject({
      fault: 'too-large',
      declaredBytes: 111,
    });
  });

  it('refuses a length before any of its bytes have come', () => {
    const error = thrown(() => decode(lengthPrefixed(), Buffer.from('15030300', 'hex')));
    expect(error).toMatchObject({ fault: 'too-large', head: '15030300' });
    expect((error as FrameError).hint).toContain('TLS');
    expect(thrown(() => decode(lengthPrefixed(), Buffer.from('hello')))).toMatchObject({
      hint: expect.stringContaining('lines()'),
    });
  });

  it('refuses lengths that are negative after adjustment, or not safe', () => {
    const whole = lengthPrefixed({ lengthBytes: 2, lengthAdjustment: -2 });
    expect(decode(whole, Buffer.from([0, 2]))).toHaveLength(0);
    expect(thrown(() => decode(whole, Buffer.from([0, 1])))).toMatchObject({
      fault: 'bad-length',
      declaredBytes: 1,
      message: 'lengthPrefixed: a length field of 1 makes a frame of 1 bytes, the least is 2',
    });
    const wide = lengthPrefixed({ lengthBytes: 8 });
    expect(thrown(() => decode(wide, Buffer.alloc(8, 0xff)))).toMatchObject({ fault: 'bad-length' });
    expect(thrown(() => decode(wide, Buffer.from('001fffffffffffff', 'hex')))).toMatchObject({
      fault: 'too-large',
    });
    const stripped = lengthPrefixed({ lengthBytes: 1, strip: 3, prefix: Buffer.alloc(3) });
    expect(thrown(() => decode(stripped, Buffer.from([1])))).toMatchObject({ fault: 'bad-length' });
  });

  it('refuses messages that the layout has no room for', () => {
    const kept = lengthPrefixed({ strip: 0 });
    expect(thrown(() => kept.encode('abc'))).toMatchObject({
      fault: 'bad-message',
      message: 'lengthPrefixed: the message has 3 bytes, this layout needs 4',
    });
    const typed = lengthPrefixed({ lengthAdjustment: 2 });
    expect(thrown(() => typed.encode('a'))).toMatchObject({ fault: 'bad-message' });
    // @ts-expect-error a caller in plain JavaScript
    expect(thrown(() => kept.encode(5))).toMatchObject({ fault: 'bad-message' });
    // @ts-expect-error a caller in plain JavaScript
    expect(thrown(() => kept.encode(null))).toMatchObject({ message: expect.stringContaining('got null') });
  });

  it('clamps the default limit to what the field can say, and nothing that was asked for', () => {
    expect(lengthPrefixed().maxFrameBytes).toBe(8 * MIB);
    expect(lengthPrefixed({ lengthBytes: 1 }).maxFrameBytes).toBe(256);
    expect(lengthPrefixed({ lengthBytes: 2, lengthAdjustment: -2 }).maxFrameBytes).toBe(65_535);
    expect(lengthPrefixed({ lengthBytes: 8 }).maxFrameBytes).toBe(8 * MIB);
    expect(() => lengthPrefixed({ lengthBytes: 1, maxFrameBytes: 257 })).toThrow(
      'Expected `maxFrameBytes` to be an integer from 1 to 256, got 257 (number)',
    );
    const least = lengthPrefixed({ lengthBytes: 1 });
    expect(wire(least, Buffer.alloc(255))).toHaveLength(256);
    expect(thrown(() => least.encode(Buffer.alloc(256)))).toMatchObject({ fault: 'too-large' });
  });

  it.each<[string, object, string]>([
    ['an unknown key', { lenghtBytes: 4 }, 'Did you mean `lengthBytes`?'],
    [
      'a size that no field has',
      { lengthBytes: 5 },
      '`lengthBytes` to be one of 1, 2, 3, 4, 8, got 5 (number)',
    ],
    ['an unknown order', { endian: 'be' }, "`endian` to be one of 'BE', 'LE'"],
    ['a negative offset', { lengthOffset: -1 }, '`lengthOffset`'],
    ['half an adjustment', { lengthAdjustment: 0.5 }, '`lengthAdjustment` to be a safe integer'],
    ['a negative strip', { strip: -1 }, '`strip`'],
    ['an offset without a prefix', { lengthOffset: 1 }, '`prefix` to hold the 5 bytes'],
    ['more stripped than the header, without a prefix', { strip: 5 }, '`prefix`'],
    [
      'a prefix of another size',
      { lengthOffset: 1, prefix: Buffer.alloc(1) },
      '`prefix` to be a Uint8Array of 5 bytes',
    ],
    ['a prefix that is text', { lengthOffset: 1, prefix: 'abcde' }, '`prefix`'],
    ['a limit below the header', { maxFrameBytes: 3 }, '`maxFrameBytes` to be an integer from 4'],
    [
      'an adjustment that leaves no frame',
      { lengthBytes: 1, lengthAdjustment: -256 },
      '`lengthAdjustment` to leave room',
    ],
    ['an adjustment beyond one Buffer', { lengthAdjustment: Number.MAX_SAFE_INTEGER }, '`lengthAdjustment`'],
    [
      'more stripped than any frame has',
      { lengthBytes: 1, strip: 257, prefix: Buffer.alloc(257) },
      '`strip`',
    ],
    ['no object', 4 as unknown as object, 'to be an object'],
  ])('refuses %s', (_, options, words) => {
    const error = thrown(() => lengthPrefixed(options));
    expect(error).toBeInstanceOf(PulsepoolError);
    expect(error).toMatchObject({ code: 'ERR_INVALID_OPTION', message: expect.stringContaining(words) });
  });

  it('keeps a copy of the prefix', () => {
    const prefix = Buffer.from([1, 0]);
    const codec = lengthPrefixed({ lengthBytes: 1, lengthOffset: 1, prefix });
    prefix.fill(9);
    expect(wire(codec, 'a')).toEqual(Buffer.from([1, 1, 0x61]));
  });
});

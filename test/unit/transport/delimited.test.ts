import { describe, expect, it } from 'vitest';
import type { FrameError } from '../../../src/errors.ts';
import { ByteQueue } from '../../../src/transport/byte-queue.ts';
import type { Codec } from '../../../src/transport/codec.ts';
import { delimited } from '../../../src/transport/delimited.ts';
import { bytesOf } from '../../support/bytes-of.ts';

function wire(codec: Codec, message: Uint8Array | string): Buffer {
  return bytesOf(codec.encode(message));
}

/** All frames of these chunks, and the error that ended them, if one did. */
function decodeAll(
  codec: Codec,
  chunks: readonly (string | Buffer)[],
): { frames: string[]; error?: FrameError } {
  const queue = new ByteQueue();
  const frames: string[] = [];
  try {
    for (const chunk of chunks) {
      queue.push(Buffer.from(chunk));
      for (let frame = codec.decode(queue); frame !== undefined; frame = codec.decode(queue)) {
        frames.push(frame.toString());
      }
    }
  } catch (error) {
    return { frames, error: error as FrameError };
  }
  return { frames };
}

describe('delimited', () => {
  it('ends frames at the delimiter and drops it', () => {
    const codec = delimited({ delimiter: '\r\n' });
    expect(decodeAll(codec, ['a\r\n\r\nb\rc\r', '\nd'])).toEqual({ frames: ['a', '', 'b\rc'] });
    expect(wire(codec, 'a\rb').toString()).toBe('a\rb\r\n');
    expect(codec.maxFrameBytes).toBe(65_536);
  });

  it('finds a delimiter split at every place', () => {
    const codec = delimited({ delimiter: '<end>' });
    const text = 'one<en<end>two<end>';
    for (let cut = 0; cut <= text.length; cut++) {
      expect(decodeAll(codec, [text.slice(0, cut), text.slice(cut)]).frames).toEqual(['one<en', 'two']);
    }
    expect(decodeAll(codec, [...text]).frames).toEqual(['one<en', 'two']);
  });

  it('lets the delimiter win that ends first, and the longer of two that end together', () => {
    const either = delimited({ delimiter: ['\n', '\r\n'] });
    expect(decodeAll(either, ['a\r\nb\nc\r\r\n']).frames).toEqual(['a', 'b', 'c\r']);
    const crossing = delimited({ delimiter: ['abcd', 'bx', 'c!'] });
    // `abcd` begins first, but `c!` would have to end first to win.
    expect(decodeAll(crossing, ['abcd', 'abc!', 'abx']).frames).toEqual(['', 'ab', 'a']);
  });

  it('keeps the delimiter when asked', () => {
    const codec = delimited({ delimiter: ['\n', '\r\n'], keepDelimiter: true });
    expect(decodeAll(codec, ['a\r\nb\n']).frames).toEqual(['a\r\n', 'b\n']);
    expect(wire(codec, 'a').toString()).toBe('a\n');
    expect(wire(codec, 'a\n').toString()).toBe('a\n');
    expect(wire(codec, 'a\r\n').toString()).toBe('a\r\n');
    expect(() => codec.encode('a\nb\n')).toThrow('contains a delimiter at byte 1');
    expect(() => codec.encode('\n\n')).toThrow('contains a delimiter');
  });

  it('takes bytes as delimiters, and appends the first', () => {
    const codec = delimited({ delimiter: [new Uint8Array([0]), 'é'] });
    expect(decodeAll(codec, [Buffer.from('a\0bé')]).frames).toEqual(['a', 'b']);
    expect(wire(codec, Buffer.from('x'))).toEqual(Buffer.from('x\0'));
  });

  it('refuses messages that would arrive as something else', () => {
    const contains = expect.objectContaining({ name: 'FrameError', fault: 'bad-message' });
    expect(() => delimited({ delimiter: '\n' }).encode('a\nb')).toThrow(contains);
    expect(() => delimited({ delimiter: ['\n', '\0'] }).encode('a\0b')).toThrow(contains);
    // Together with what is appended, these make another delimiter, or the same one earlier.
    expect(() => delimited({ delimiter: ['\n', '\r\n'] }).encode('a\r')).toThrow(contains);
    expect(() => delimited({ delimiter: 'aba' }).encode('xab')).toThrow(contains);
    expect(wire(delimited({ delimiter: 'aba' }), 'xa').toString()).toBe('xaaba');
    expect(wire(delimited({ delimiter: ['\r\n', '\n'] }), 'a\r').toString()).toBe('a\r\r\n');
  });

  it('does not copy large messages', () => {
    const codec = delimited({ delimiter: '\n', maxFrameBytes: 1e6 });
    const large = Buffer.alloc(20_000, 'a');
    expect(codec.encode(large)).toEqual([large, Buffer.from('\n')]);
    expect((codec.encode(large) as Uint8Array[])[0]).toBe(large);
  });

  it('passes a frame at the limit however it is cut, and no longer one', () => {
    const codec = delimited({ delimiter: '\r\n', maxFrameBytes: 10 });
    for (const size of [7, 8, 9]) {
      const text = `${'x'.repeat(size)}\r\n`;
      for (let cut = 0; cut <= text.length; cut++) {
        const { frames, error } = decodeAll(codec, [text.slice(0, cut), text.slice(cut)]);
        expect(frames).toEqual(size <= 8 ? [text.slice(0, -2)] : []);
        expect(error?.fault).toBe(size <= 8 ? undefined : 'too-large');
      }
    }
    expect(wire(codec, 'x'.repeat(8))).toHaveLength(10);
    expect(() => codec.encode('x'.repeat(9))).toThrow('a frame of 11 bytes, the limit is 10');
  });

  it('gives up as soon as no delimiter can end in time, and not before', () => {
    const codec = delimited({ delimiter: '\r\n', maxFrameBytes: 10 });
    expect(decodeAll(codec, ['x'.repeat(8)]).error).toBeUndefined();
    expect(decodeAll(codec, [`${'x'.repeat(8)}\r`]).error).toBeUndefined();
    expect(decodeAll(codec, ['x'.repeat(9)]).error).toMatchObject({
      fault: 'too-large',
      declaredBytes: 9,
      limitBytes: 10,
      head: '787878787878787878',
      message: 'delimited: 9 bytes came without a delimiter, the limit is 10 with it',
    });
    const either = delimited({ delimiter: ['<end>', '\n'], maxFrameBytes: 10 });
    expect(decodeAll(either, ['x'.repeat(9)]).error).toBeUndefined();
    expect(decodeAll(either, ['x'.repeat(10)]).error?.fault).toBe('too-large');
  });

  it('says who is probably there', () => {
    const error = decodeAll(delimited({ delimiter: '\0', maxFrameBytes: 10 }), [
      'HTTP/1.1 400 Bad Request',
    ]).error;
    expect(error?.hint).toContain('HTTP');
    expect(error?.head).toBe(Buffer.from('HTTP/1.1 400 Bad').toString('hex'));
  });

  it.each<[string, object, string]>([
    ['no options', undefined as unknown as object, 'to be an object, got undefined'],
    ['no delimiter', {}, '`delimiter` to be a string or Uint8Array that is not empty'],
    ['an empty one', { delimiter: '' }, 'not empty'],
    ['an empty list', { delimiter: [] }, 'an array of 1 to 32'],
    ['too many', { delimiter: Array.from({ length: 33 }, (_, index) => String(index + 10)) }, '1 to 32'],
    ['an empty one in a list', { delimiter: ['a', ''] }, 'not empty'],
    ['a number', { delimiter: 10 }, 'got 10 (number)'],
    ['the same twice', { delimiter: ['a', 'a'] }, '"a" always ends before "a"'],
    ['one that begins another', { delimiter: ['\r', '\r\n'] }, '"\\r" always ends before "\\r\\n"'],
    ['one inside another', { delimiter: ['abc', 'b'] }, '"b" always ends before "abc"'],
    ['one that ends another but is also inside it', { delimiter: ['\n\n', '\n'] }, 'always ends before'],
    ['a limit below the delimiter', { delimiter: 'abc', maxFrameBytes: 2 }, 'an integer from 3'],
    ['an unknown key', { delimiter: 'a', maxFrameByte: 2 }, 'Did you mean `maxFrameBytes`?'],
    [
      'a keepDelimiter that is no boolean',
      { delimiter: 'a', keepDelimiter: 1 },
      '`keepDelimiter` to be true or false',
    ],
  ])('refuses %s', (_, options, words) => {
    expect(() => delimited(options as { delimiter: string })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_OPTION', message: expect.stringContaining(words) }),
    );
  });
});

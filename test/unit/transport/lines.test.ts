import { describe, expect, it } from 'vitest';
import { ByteQueue } from '../../../src/transport/byte-queue.ts';
import { type LinesOptions, lines } from '../../../src/transport/lines.ts';

function decodeAll(options: LinesOptions, chunks: readonly (string | Buffer)[]): string[] {
  const codec = lines(options);
  const queue = new ByteQueue();
  const found: string[] = [];
  for (const chunk of chunks) {
    queue.push(Buffer.from(chunk));
    for (let line = codec.decode(queue); line !== undefined; line = codec.decode(queue)) found.push(line);
  }
  return found;
}

function encode(options: LinesOptions, message: string): string {
  return Buffer.from(lines(options).encode(message) as Uint8Array).toString('latin1');
}

describe('lines', () => {
  it('ends lines at LF and drops one CR before it', () => {
    expect(decodeAll({}, ['a\nb\r\n\n\r\nc\rd\n\r\r\nrest'])).toEqual(['a', 'b', '', '', 'c\rd', '\r']);
    expect(decodeAll({}, ['a\r', '\nb', '\n'])).toEqual(['a', 'b']);
    expect(encode({}, 'a\rb')).toBe('a\rb\n');
    expect(encode({ eol: '\r\n' }, 'a')).toBe('a\r\n');
    expect(encode({}, '')).toBe('\n');
  });

  it('puts characters together that were cut', () => {
    expect(
      decodeAll(
        {},
        [...Buffer.from('é€😀\n')].map((byte) => Buffer.from([byte])),
      ),
    ).toEqual(['é€😀']);
    expect(decodeAll({ encoding: 'latin1' }, [Buffer.from([0xe9, 0x80, 0x0a])])).toEqual(['é\x80']);
    expect(encode({ encoding: 'latin1' }, 'é')).toBe('é\n');
    expect(encode({}, 'é')).toBe('\xc3\xa9\n');
  });

  it('refuses messages that would arrive as something else', () => {
    const refused = expect.objectContaining({ fault: 'bad-message' });
    expect(() => encode({}, 'a\nb')).toThrow(refused);
    expect(() => encode({ eol: '\r\n' }, 'a\r\nb')).toThrow(refused);
    expect(() => encode({}, 'a\r')).toThrow(refused);
    expect(encode({ eol: '\r\n' }, 'a\r')).toBe('a\r\r\n');
    // U+010A as latin1 would be a line feed.
    expect(() => encode({ encoding: 'latin1' }, '\u010a')).toThrow(refused);
    expect(() => encode({}, 'half a pair \ud83d')).toThrow(refused);
    expect(encode({}, '😀')).toHaveLength(5);
    // @ts-expect-error a caller in plain JavaScript
    expect(() => lines().encode(Buffer.from('a'))).toThrow(refused);
  });

  it('passes a line at the limit however it is cut, and no longer one', () => {
    for (const size of [8, 9, 10]) {
      const text = `${'x'.repeat(size)}\n`;
      for (let cut = 0; cut <= text.length; cut++) {
        const run = () => decodeAll({ maxFrameBytes: 10 }, [text.slice(0, cut), text.slice(cut)]);
        if (size <= 9) expect(run()).toEqual(['x'.repeat(size)]);
        else expect(run).toThrow(expect.objectContaining({ fault: 'too-large', limitBytes: 10 }));
      }
    }
    expect(encode({ maxFrameBytes: 10 }, 'x'.repeat(9))).toHaveLength(10);
    expect(() => encode({ maxFrameBytes: 10 }, 'x'.repeat(10))).toThrow(
      expect.objectContaining({ fault: 'too-large' }),
    );
    expect(() => encode({ maxFrameBytes: 10 }, 'é'.repeat(5))).toThrow(
      'a frame of 11 bytes, the limit is 10',
    );
  });

  it('gives up as soon as no line end can come in time', () => {
    expect(() => decodeAll({ maxFrameBytes: 10 }, ['x'.repeat(9)])).not.toThrow();
    expect(() => decodeAll({ maxFrameBytes: 10 }, ['x'.repeat(10)])).toThrow(
      'lines: 10 bytes came without a line end, the limit is 10 with it',
    );
    expect(lines().maxFrameBytes).toBe(65_536);
  });

  it.each<[object, string]>([
    [{ encoding: 'utf16le' }, "`encoding` to be one of 'utf8', 'latin1'"],
    [{ eol: '\r' }, '`eol`'],
    [{ maxFrameBytes: 0 }, '`maxFrameBytes`'],
    [{ maxLineBytes: 5 }, 'Unknown option `maxLineBytes` of lines()'],
  ])('refuses the options %o', (options, words) => {
    expect(() => lines(options)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_OPTION', message: expect.stringContaining(words) }),
    );
  });
});

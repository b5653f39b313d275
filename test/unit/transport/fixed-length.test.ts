import { describe, expect, it } from 'vitest';
import { ByteQueue } from '../../../src/transport/byte-queue.ts';
import { fixedLength } from '../../../src/transport/fixed-length.ts';

describe('fixedLength', () => {
  it('cuts the stream every so many bytes', () => {
    const codec = fixedLength(3);
    const queue = new ByteQueue();
    queue.push(Buffer.from('abcdefg'));
    expect(codec.decode(queue)?.toString()).toBe('abc');
    expect(codec.decode(queue)?.toString()).toBe('def');
    expect(codec.decode(queue)).toBeUndefined();
    queue.push(Buffer.from('hi'));
    expect(codec.decode(queue)?.toString()).toBe('ghi');
    expect(queue.length).toBe(0);
    expect(codec.maxFrameBytes).toBe(3);
  });

  it('sends messages of that size only, counted in bytes', () => {
    const codec = fixedLength(3);
    expect(codec.encode('abc')).toEqual(Buffer.from('abc'));
    expect(codec.encode('€')).toEqual(Buffer.from('€'));
    for (const wrong of ['', 'ab', 'abcd', '€€']) {
      expect(() => codec.encode(wrong)).toThrow(
        expect.objectContaining({ name: 'FrameError', fault: 'bad-message' }),
      );
    }
  });

  it.each([0, -1, 1.5, '3', undefined])('refuses a size of %o', (size) => {
    expect(() => fixedLength(size as number)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_OPTION', message: expect.stringContaining('`bytes`') }),
    );
  });
});

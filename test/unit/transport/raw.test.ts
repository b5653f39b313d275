import { describe, expect, it } from 'vitest';
import { ByteQueue } from '../../../src/transport/byte-queue.ts';
import { raw } from '../../../src/transport/raw.ts';

describe('raw', () => {
  it('hands on each chunk as it came', () => {
    const codec = raw();
    const queue = new ByteQueue();
    expect(codec.decode(queue)).toBeUndefined();
    const chunk = Buffer.from('abc');
    queue.push(chunk);
    expect(codec.decode(queue)).toBe(chunk);
    expect(codec.decode(queue)).toBeUndefined();
  });

  it('says that frames mean nothing', () => {
    expect(raw().framed).toBe(false);
  });

  it('sends bytes as they are and strings as UTF-8', () => {
    const bytes = new Uint8Array([1, 2]);
    expect(raw().encode(bytes)).toEqual(Buffer.from([1, 2]));
    expect(raw().encode('é')).toEqual(Buffer.from('é'));
    // @ts-expect-error a caller in plain JavaScript
    expect(() => raw().encode({})).toThrow('raw: a message is a string or a Uint8Array, got object');
  });
});

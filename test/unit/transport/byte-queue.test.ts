import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { beforeEach, describe, expect, it } from 'vitest';
import { ByteQueue, MAX_NEEDLES } from '../../../src/transport/byte-queue.ts';

let queue: ByteQueue;

beforeEach(() => {
  queue = new ByteQueue();
});

/** Bytes in memory of their own, as a socket gives them. */
function chunk(size: number, fill: number | string = 'x'): Buffer {
  return Buffer.allocUnsafeSlow(size).fill(fill);
}

function push(...texts: string[]): void {
  for (const text of texts) queue.push(Buffer.from(text));
}

describe('a byte queue', () => {
  it('is empty at first, and again when all was taken', () => {
    expect(queue.length).toBe(0);
    expect(queue.takeAll()).toHaveLength(0);
    push('abc');
    expect(queue.length).toBe(3);
    expect(queue.takeAll().toString()).toBe('abc');
    expect(queue.length).toBe(0);
  });

  it('ignores empty chunks', () => {
    push('', 'a', '', 'b');
    expect(queue.takeAll().toString()).toBe('ab');
  });

  it('takes a Uint8Array that is no Buffer, and gives Buffers', () => {
    queue.push(new Uint8Array([0, 1, 2, 3]).subarray(1));
    expect(queue.take(2)).toEqual(Buffer.from([1, 2]));
    expect(Buffer.isBuffer(queue.takeAll())).toBe(true);
  });

  it('joins bytes that lie in several chunks', () => {
    queue.push(chunk(2000, 'a'));
    queue.push(chunk(2000, 'b'));
    queue.push(chunk(2000, 'c'));
    expect(queue.take(5000).toString()).toBe('a'.repeat(2000) + 'b'.repeat(2000) + 'c'.repeat(1000));
    expect(queue.takeAll().toString()).toBe('c'.repeat(1000));
  });

  it('keeps the order of chunks that are gathered and chunks that are not', () => {
    const sizes = [1, 2, 3000, 5, 1023, 1024, 1, 70_000, 3, 3];
    for (const [index, size] of sizes.entries()) queue.push(chunk(size, index + 1));
    for (const [index, size] of sizes.entries()) expect(queue.take(size)).toEqual(chunk(size, index + 1));
  });

  it('takes a long list of chunks one by one', () => {
    for (let index = 0; index < 5000; index++) queue.push(chunk(1024, index % 251));
    for (let index = 0; index < 5000; index++) expect(queue.take(1024)[1023]).toBe(index % 251);
    expect(queue.length).toBe(0);
  });

  it('can be cleared in the middle of anything', () => {
    push('ab', 'c');
    queue.push(chunk(5000));
    expect(queue.indexOf(Buffer.from('c'))).toBe(2);
    queue.take(1);
    queue.clear();
    expect(queue.length).toBe(0);
    push('xxc');
    expect(queue.indexOf(Buffer.from('c'))).toBe(2);
  });

  describe('looking', () => {
    it('shows bytes without taking them, wherever they lie', () => {
      queue.push(chunk(2000, 'a'));
      queue.push(chunk(2000, 'b'));
      expect(queue.peek(2)?.toString()).toBe('aa');
      expect(queue.peek(2, 1999)?.toString()).toBe('ab');
      expect(queue.peek(2, 3998)?.toString()).toBe('bb');
      expect(queue.peek(0, 4000)).toHaveLength(0);
      expect(queue.length).toBe(4000);
    });

    it('answers undefined where there are too few', () => {
      push('abc');
      expect(queue.peek(4)).toBeUndefined();
      expect(queue.peek(1, 3)).toBeUndefined();
      expect(queue.peek(1, -1)).toBeUndefined();
      expect(queue.peek(-1)).toBeUndefined();
      expect(queue.at(3)).toBeUndefined();
      expect(queue.at(-1)).toBeUndefined();
      expect(queue.at(Number.NaN)).toBeUndefined();
      expect(queue.at(2)).toBe(0x63);
    });

    it.each([1, 2, 3, 4, 8] as const)('reads integers of %d bytes, in both orders, across chunks', (size) => {
      const bytes = Buffer.from([0x00, 0x1f, 0xff, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00]);
      const expected = { BE: 0, LE: 0 };
      for (let index = 0; index < size; index++) {
        expected.BE = expected.BE * 256 + (bytes[index] ?? 0);
        expected.LE += (bytes[index] ?? 0) * 256 ** index;
      }
      if (expected.LE > Number.MAX_SAFE_INTEGER) expected.LE = Number.POSITIVE_INFINITY;
      for (let at = 0; at <= size; at++) {
        queue.clear();
        queue.push(Buffer.concat([chunk(1500), bytes.subarray(0, at)]));
        queue.push(Buffer.concat([bytes.subarray(at), chunk(1500)]));
        expect(queue.readUInt(1500, size, 'BE')).toBe(expected.BE);
        expect(queue.readUInt(1500, size, 'LE')).toBe(expected.LE);
      }
    });

    it('reads the largest safe integer exactly, and Infinity above it', () => {
      queue.push(Buffer.from('001fffffffffffff', 'hex'));
      expect(queue.readUInt(0, 8, 'BE')).toBe(Number.MAX_SAFE_INTEGER);
      queue.clear();
      queue.push(Buffer.from('0020000000000000', 'hex'));
      expect(queue.readUInt(0, 8, 'BE')).toBe(Number.POSITIVE_INFINITY);
      expect(queue.readUInt(0, 8, 'LE')).toBe(8192);
    });
  });

  describe('asked for what it does not have', () => {
    it('throws and stays as it was', () => {
      push('abc');
      expect(() => queue.take(4)).toThrow(new RangeError('take: asked for 4 bytes, 3 wait'));
      expect(() => queue.skip(4)).toThrow(new RangeError('skip: asked for 4 bytes, 3 wait'));
      expect(() => queue.readUInt(0, 4)).toThrow(new RangeError('readUInt: asked for 4 bytes, 3 wait'));
      for (const wrong of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        expect(() => queue.take(wrong)).toThrow(RangeError);
        expect(() => queue.skip(wrong)).toThrow(RangeError);
      }
      expect(() => queue.readUInt(-1, 1)).toThrow(RangeError);
      // @ts-expect-error a codec in plain JavaScript
      expect(() => queue.readUInt(0, 0)).toThrow('Expected `bytes` to be one of 1, 2, 3, 4, 8');
      expect(queue.takeAll().toString()).toBe('abc');
    });

    it('refuses to look for nothing', () => {
      expect(() => queue.indexOf(Buffer.alloc(0))).toThrow('Expected `needle` to hold at least one byte');
    });
  });

  describe('and memory', () => {
    it('hands out a chunk that is one frame as it came', () => {
      const whole = chunk(100);
      queue.push(whole);
      expect(queue.take(100)).toBe(whole);
    });

    it('copies a small frame out of a chunk four times its size', () => {
      const large = chunk(65_536);
      queue.push(large);
      const small = queue.take(4096);
      expect(small.buffer).not.toBe(large.buffer);
      expect(small.buffer.byteLength).toBeLessThanOrEqual(Buffer.poolSize);
      expect(queue.take(4097).buffer).toBe(large.buffer);
    });

    it('gives a view of a chunk less than four times the size', () => {
      const medium = chunk(399);
      queue.push(medium);
      expect(queue.take(100).buffer).toBe(medium.buffer);
      queue.clear();
      const larger = chunk(400);
      queue.push(larger);
      expect(queue.take(100).buffer).not.toBe(larger.buffer);
    });

    it('never changes bytes that it has handed out', () => {
      for (let byte = 0; byte < 200; byte++) queue.push(chunk(1, byte));
      const early = queue.take(150);
      const copy = Buffer.from(early);
      for (let index = 0; index < 100_000; index++) queue.push(chunk(1, 0xff));
      queue.take(50);
      for (let index = 0; index < 1000; index++) queue.push(chunk(1, 0xee));
      expect(early).toEqual(copy);
    });

    it('does not keep the chunk it was given small pieces of', () => {
      const one = chunk(1, 'a');
      push('start');
      queue.push(one);
      one[0] = 0;
      expect(queue.takeAll().toString()).toBe('starta');
    });

    it('lets go of each chunk as soon as its last byte is taken', async () => {
      setFlagsFromString('--expose-gc');
      const collect: () => void = runInNewContext('gc');
      const refs = Array.from({ length: 6 }, (_, index) => {
        const one = chunk(2000, index);
        queue.push(one);
        return new WeakRef(one);
      });
      const held = () => refs.map((ref) => ref.deref() !== undefined);
      queue.skip(3999);
      // A WeakRef holds its target until the running job ends.
      await setImmediate();
      collect();
      expect(held()).toEqual([false, true, true, true, true, true]);
      await setImmediate();
      queue.skip(4001);
      collect();
      expect(held()).toEqual([false, false, false, false, true, true]);
      await setImmediate();
      queue.clear();
      collect();
      expect(held()).toEqual([false, false, false, false, false, false]);
    });

    it('takes a few bytes for each byte that comes in packets of one', () => {
      const size = 2 * 1024 * 1024;
      const one = chunk(1);
      const before = process.memoryUsage();
      for (let index = 0; index < size; index++) queue.push(one);
      const after = process.memoryUsage();
      const grown = after.arrayBuffers + after.heapUsed - before.arrayBuffers - before.heapUsed;
      // A list of Buffers would take over 100 MiB.
      expect(grown).toBeLessThan(size * 4);
      expect(queue.length).toBe(size);
    });
  });

  describe('searching', () => {
    it('finds the earliest occurrence, from the head', () => {
      push('abcabc');
      expect(queue.indexOf(Buffer.from('c'))).toBe(2);
      queue.skip(3);
      expect(queue.indexOf(Buffer.from('c'))).toBe(2);
      queue.skip(3);
      expect(queue.indexOf(Buffer.from('c'))).toBe(-1);
    });

    it('finds a needle split over chunks at every place', () => {
      const needle = Buffer.from('#end#');
      const bytes = Buffer.concat([chunk(1030, '#'), needle, chunk(1030, '#')]);
      for (let first = 1028; first < 1037; first++) {
        for (let second = first; second < 1038; second++) {
          queue.clear();
          queue.push(bytes.subarray(0, first));
          if (second % 2 === 0) expect(queue.indexOf(needle)).toBe(first < 1035 ? -1 : 1030);
          queue.push(bytes.subarray(first, second));
          queue.push(bytes.subarray(second));
          expect(queue.indexOf(needle)).toBe(1030);
        }
      }
    });

    it('finds a needle longer than the chunks it lies in', () => {
      const needle = Buffer.concat([chunk(1500, 'a'), chunk(1500, 'b'), chunk(1500, 'c')]);
      const bytes = Buffer.concat([chunk(700, 'a'), needle, chunk(2000, 'c')]);
      for (let at = 0; at < bytes.length; at += 1024) {
        expect(queue.indexOf(needle)).toBe(-1);
        queue.push(bytes.subarray(at, at + 1024));
        if (queue.length >= 700 + needle.length) break;
      }
      expect(queue.indexOf(needle)).toBe(700);
      queue.skip(701);
      expect(queue.indexOf(needle)).toBe(-1);
    });

    it('never finds bytes that have not come', () => {
      // The spare part of the block may hold anything, the needle included.
      const needle = Buffer.from('needle');
      for (let round = 0; round < 200; round++) {
        Buffer.allocUnsafe(256).fill('needle');
        push('some', 'nee');
        expect(queue.indexOf(needle)).toBe(-1);
        push('dle');
        expect(queue.indexOf(needle)).toBe(4);
        queue.clear();
      }
    });

    it('knows a needle by its bytes, not by the object', () => {
      const scratch = Buffer.from('b');
      push('abc');
      expect(queue.indexOf(scratch)).toBe(1);
      scratch.write('c');
      expect(queue.indexOf(scratch)).toBe(2);
      expect(queue.indexOf(Buffer.from('b'))).toBe(1);
    });

    it('still finds everything when it has forgotten needles', () => {
      const needles = Array.from({ length: MAX_NEEDLES + 5 }, (_, index) => Buffer.from([index]));
      queue.push(Buffer.concat(needles));
      for (let round = 0; round < 3; round++) {
        for (const [index, needle] of needles.entries()) expect(queue.indexOf(needle)).toBe(index);
      }
    });

    it('looks at each byte once, whatever is taken in between', () => {
      const bytes = chunk(1_000_000, 'x');
      for (let at = 99; at < bytes.length; at += 100) bytes[at] = 0x0a;
      queue.push(bytes);
      let looked = 0;
      const search = bytes.indexOf.bind(bytes);
      // What the native search walks over, for both needles.
      bytes.indexOf = ((value: number, from: number) => {
        const at = search(value, from);
        looked += (at === -1 ? bytes.length : at + 1) - from;
        return at;
      }) as typeof bytes.indexOf;
      const never = Buffer.from('!');
      const lf = Buffer.from('\n');
      let frames = 0;
      for (;;) {
        expect(queue.indexOf(never)).toBe(-1);
        const at = queue.indexOf(lf);
        if (at === -1) break;
        queue.skip(at + 1);
        frames += 1;
      }
      expect(frames).toBe(10_000);
      expect(looked).toBe(2 * bytes.length);
    });
  });
});

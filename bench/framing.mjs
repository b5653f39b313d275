/**
 * Framing: what the byte queue and the codecs cost beside the plainest code that does the same.
 *
 * Each row compares with a peer in the same run, in interleaved rounds, by medians: a machine that is slow today
 * is slow for both. Run it directly to print the rows; PULSEPOOL_DIST names the folder of another build.
 */
import { pathToFileURL } from 'node:url';

const MIB = 1024 * 1024;
const { PULSEPOOL_DIST } = process.env;
const dist =
  PULSEPOOL_DIST === undefined ? new URL('../dist/', import.meta.url) : pathToFileURL(`${PULSEPOOL_DIST}/`);
const { delimited, lengthPrefixed, lines } = await import(new URL('index.js', dist).href);
// The package exports its type only: a connection makes its own.
const { ByteQueue } = await import(new URL('transport/byte-queue.js', dist).href);

/**
 * Nanoseconds of one call, as the median of interleaved rounds.
 *
 * @template {string} Name
 * @param {Record<Name, () => unknown>} contestants
 * @param {number} rounds
 * @param {number} calls calls in each round
 * @returns {Record<Name, number>}
 */
function race(contestants, rounds, calls) {
  const entries = /** @type {[Name, () => unknown][]} */ (Object.entries(contestants));
  const lanes = entries.map(([name, run]) => ({ name, run, times: /** @type {number[]} */ ([]) }));
  for (let round = -2; round < rounds; round++) {
    for (const { run, times } of lanes) {
      const start = process.hrtime.bigint();
      for (let call = 0; call < calls; call++) run();
      if (round >= 0) times.push(Number(process.hrtime.bigint() - start) / calls);
    }
    // The order turns, so that none always runs after the same neighbour's garbage.
    lanes.push(...lanes.splice(0, 1));
  }
  const medians = lanes.map(({ name, times }) => [name, median(times)]);
  return /** @type {Record<Name, number>} */ (Object.fromEntries(medians));
}

/** @param {number[]} values */
function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/**
 * @param {Buffer} bytes
 * @param {number} size
 */
function cut(bytes, size) {
  const chunks = [];
  // Copies, as a socket gives them: each chunk has memory of its own.
  for (let at = 0; at < bytes.length; at += size) chunks.push(Buffer.from(bytes.subarray(at, at + size)));
  return chunks;
}

/**
 * One frame out of many chunks, through the codec.
 *
 * @param {Buffer[]} chunks
 */
function decodeOne(chunks) {
  const codec = lengthPrefixed({ maxFrameBytes: 64 * MIB });
  return () => {
    const queue = new ByteQueue();
    for (const chunk of chunks) {
      queue.push(chunk);
      const frame = codec.decode(queue);
      if (frame !== undefined) return expectFrame(frame, chunks);
    }
    throw new Error('bug: no frame');
  };
}

/**
 * The same by hand: a list, and one concat when all is there.
 *
 * @param {Buffer[]} chunks
 */
function listAndConcat(chunks) {
  return () => {
    const list = [];
    let length = 0;
    let need = Number.POSITIVE_INFINITY;
    for (const chunk of chunks) {
      list.push(chunk);
      length += chunk.length;
      if (need === Number.POSITIVE_INFINITY && length >= 4) {
        need = 4 + (list.length === 1 ? chunk : Buffer.concat(list)).readUInt32BE(0);
      }
      if (length >= need) return expectFrame(Buffer.concat(list, length).subarray(4), chunks);
    }
    throw new Error('bug: no frame');
  };
}

/**
 * What most hand-written clients do: join at every chunk.
 *
 * @param {Buffer[]} chunks
 */
function concatEachTime(chunks) {
  return () => {
    let waiting = Buffer.alloc(0);
    for (const chunk of chunks) {
      waiting = Buffer.concat([waiting, chunk]);
      if (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32BE(0)) {
        return expectFrame(waiting.subarray(4), chunks);
      }
    }
    throw new Error('bug: no frame');
  };
}

/**
 * @param {Buffer} frame
 * @param {Buffer[]} chunks
 */
function expectFrame(frame, chunks) {
  const last = chunks.at(-1);
  if (last === undefined || frame.at(-1) !== last.at(-1)) throw new Error('bug: the wrong frame');
  return frame;
}

/** @param {number} size */
function message(size) {
  return Buffer.concat(
    [lengthPrefixed({ maxFrameBytes: 64 * MIB }).encode(Buffer.alloc(size, 'pulsepool '))].flat(),
  );
}

/** @param {number} ns */
function ms(ns) {
  return `${(ns / 1e6).toFixed(ns < 1e7 ? 2 : 0)} ms`;
}

/**
 * @param {string} name
 * @param {number} ours
 * @param {number} peer
 * @param {number} bar
 * @param {string} detail
 */
function row(name, ours, peer, bar, detail) {
  const ratio = Math.round((ours / peer) * 100) / 100;
  return { name, ratio, bar, ok: ratio <= bar, detail };
}

function largeFrame() {
  const chunks = cut(message(32 * MIB), 64 * 1024);
  const times = race({ queue: decodeOne(chunks), list: listAndConcat(chunks) }, 15, 1);
  const few = cut(message(4 * MIB), 64 * 1024);
  const small = race({ queue: decodeOne(few), each: concatEachTime(few) }, 5, 1);
  return row(
    '32 MiB frame in 64 KiB chunks, against list and concat',
    times.queue,
    times.list,
    1.5,
    `${ms(times.queue)} against ${ms(times.list)}; 4 MiB: ${ms(small.queue)}, concat at each chunk ${ms(small.each)}`,
  );
}

function packets() {
  const chunks = cut(message(4 * MIB), 1400);
  // Under a millisecond each: many rounds, or the noise is all there is.
  const times = race({ queue: decodeOne(chunks), list: listAndConcat(chunks) }, 201, 1);
  const each = race({ each: concatEachTime(chunks) }, 1, 1);
  return row(
    '4 MiB frame in 1,400-byte chunks, against list and concat',
    times.queue,
    times.list,
    1.5,
    `${ms(times.queue)} against ${ms(times.list)}; concat at each chunk ${ms(each.each)}`,
  );
}

function drip() {
  const chunks = cut(message(64 * 1024), 1);
  const times = race({ queue: decodeOne(chunks), list: listAndConcat(chunks) }, 21, 1);
  const each = (/** @type {number} */ ns) => `${(ns / chunks.length).toFixed(0)} ns/byte`;
  return row(
    '64 KiB frame in 1-byte chunks, against list and concat',
    times.queue,
    times.list,
    1.5,
    `${each(times.queue)} against ${each(times.list)}`,
  );
}

function manyFrames() {
  const count = 10_000;
  const codec = lengthPrefixed();
  const payload = Buffer.alloc(28, 'x');
  const frame = /** @type {Buffer} */ (codec.encode(payload));
  const chunk = Buffer.concat(Array(count).fill(frame));
  const times = race(
    {
      codec: () => {
        const queue = new ByteQueue();
        queue.push(chunk);
        let frames = 0;
        while (codec.decode(queue) !== undefined) frames += 1;
        if (frames !== count) throw new Error('bug: frames lost');
      },
      copies: () => {
        let at = 0;
        let frames = 0;
        while (at + 4 <= chunk.length) {
          const end = at + 4 + chunk.readUInt32BE(at);
          if (end > chunk.length) break;
          if (Buffer.from(chunk.subarray(at + 4, end)).length > 0) frames += 1;
          at = end;
        }
        if (frames !== count) throw new Error('bug: frames lost');
      },
      views: () => {
        let at = 0;
        let frames = 0;
        while (at + 4 <= chunk.length) {
          const end = at + 4 + chunk.readUInt32BE(at);
          if (end > chunk.length) break;
          if (chunk.subarray(at + 4, end).length > 0) frames += 1;
          at = end;
        }
        if (frames !== count) throw new Error('bug: frames lost');
      },
    },
    41,
    5,
  );
  const each = (/** @type {number} */ ns) => `${(ns / count).toFixed(0)} ns`;
  return row(
    '10,000 frames of 32 bytes in one chunk, against an offset loop that copies each frame',
    times.codec,
    times.copies,
    1.5,
    `${each(times.codec)} a frame against ${each(times.copies)}; a loop that gives views, which keep the chunk alive, ${each(times.views)}`,
  );
}

function manyLines() {
  const count = 10_000;
  const codec = lines();
  const either = delimited({ delimiter: ['\r\n', '\0'] });
  const chunk = Buffer.from('GET key:0001 some more words\r\n'.repeat(count));
  const drain = (/** @type {{ decode(queue: object): unknown }} */ one) => () => {
    const queue = new ByteQueue();
    queue.push(chunk);
    let frames = 0;
    while (one.decode(queue) !== undefined) frames += 1;
    if (frames !== count) throw new Error('bug: frames lost');
  };
  const times = race(
    {
      lines: drain(codec),
      either: drain(either),
      loop: () => {
        let at = 0;
        let frames = 0;
        for (;;) {
          const end = chunk.indexOf(10, at);
          if (end === -1) break;
          if (chunk.toString('utf8', at, chunk[end - 1] === 13 ? end - 1 : end).length > 0) frames += 1;
          at = end + 1;
        }
        if (frames !== count) throw new Error('bug: frames lost');
      },
    },
    41,
    5,
  );
  const each = (/** @type {number} */ ns) => `${(ns / count).toFixed(0)} ns`;
  return row(
    '10,000 lines of 30 bytes in one chunk, against an offset loop',
    times.lines,
    times.loop,
    3,
    `${each(times.lines)} a line against ${each(times.loop)}; delimited with a second delimiter that never comes ${each(times.either)}`,
  );
}

/** All rows: what was compared, our time as a multiple of the peer's, and the multiple that is allowed. */
export async function framing() {
  return [largeFrame(), packets(), drip(), manyFrames(), manyLines()];
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const rows = await framing();
  for (const { name, ratio, bar, ok, detail } of rows) {
    console.log(`${ok ? 'ok  ' : 'FAIL'}  ${ratio.toFixed(2)}x (at most ${bar}x)  ${name}\n      ${detail}`);
  }
  if (rows.some(({ ok }) => !ok)) process.exitCode = 1;
}

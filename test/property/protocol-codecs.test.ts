/**
 * The codecs of examples/protocols: whatever a server sends arrives, however the network cuts it; what is cut off is
 * seen to be missing; and a byte that the protocol does not allow ends the stream instead of becoming a frame. What they
 * write is what was meant, whatever the words.
 *
 * What servers say is written down here once more, by hand, and with it which of its bytes can't change unnoticed.
 */
import fc from 'fast-check';
import { ByteQueue, type Codec } from 'pulsepool';
import { describe, expect, it } from 'vitest';
import { memcached } from '../../examples/protocols/memcached.mjs';
import { mqtt } from '../../examples/protocols/mqtt.mjs';
import { nats } from '../../examples/protocols/nats.mjs';
import { nest } from '../../examples/protocols/nest.mjs';
import { redis } from '../../examples/protocols/redis.mjs';
import { smtp } from '../../examples/protocols/smtp.mjs';
import { bytesOf } from '../support/bytes-of.ts';

const RUNS = { numRuns: 300 };

// What servers send

/** Bytes of a frame, and what no byte of them can become without being noticed. */
interface Piece {
  readonly bytes: Buffer;
  readonly isWrong: (byte: number) => boolean;
}

/** One frame: what it looks like on the wire, and what the codec makes of it. */
interface Sent {
  readonly pieces: readonly Piece[];
  readonly frame: unknown;
}

interface Protocol {
  readonly make: () => Codec<never, unknown>;
  readonly sent: fc.Arbitrary<Sent>;
}

function piece(content: string | Buffer, isWrong: Piece['isWrong'] = NONE): Piece {
  return { bytes: Buffer.from(content), isWrong };
}

const ALL_BYTES = Array.from({ length: 256 }, (_, byte) => byte);
const not =
  (characters: string): Piece['isWrong'] =>
  (byte) =>
    !characters.includes(String.fromCharCode(byte));
const NONE: Piece['isWrong'] = () => false;
const ANY: Piece['isWrong'] = () => true;
const NO_DIGIT = not('0123456789');
const NO_CAPITAL = not('ABCDEFGHIJKLMNOPQRSTUVWXYZ');
const CRLF = piece('\r\n', ANY);

/** Without CR and LF, so that nothing but the bytes behind it shows where it ends. */
const payloads: fc.Arbitrary<Buffer> = fc
  .oneof(
    { weight: 9, arbitrary: fc.uint8Array({ maxLength: 30 }) },
    { weight: 1, arbitrary: fc.uint8Array({ minLength: 1_000, maxLength: 1_200, size: 'max' }) },
  )
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0x0d || byte === 0x0a ? 0x20 : byte))));
const words: fc.Arbitrary<string> = fc.stringMatching(/^[a-zA-Z._-]{1,12}$/);
const texts: fc.Arbitrary<string> = fc.string({ unit: fc.constantFrom(...'ab 1#-"\\ßé→🫖'), maxLength: 30 });
const ids: fc.Arbitrary<number> = fc.integer({ min: 1, max: 0xffff });

// Redis

const REPLY_TYPE = not('+-:$*');

const redisReplies: fc.Arbitrary<Sent> = fc.letrec<{ reply: Sent; array: Sent }>((tie) => ({
  reply: fc.oneof(
    { maxDepth: 3 },
    texts.map((text) => ({ pieces: [piece('+', REPLY_TYPE), piece(`${text}\r\n`)], frame: text })),
    texts.map((text) => ({ pieces: [piece('-', REPLY_TYPE), piece(`${text}\r\n`)], frame: { error: text } })),
    fc.integer().map((number) => ({
      pieces: [piece(':', REPLY_TYPE), piece(`${number}\r\n`)],
      frame: number,
    })),
    fc.constantFrom('$-1\r\n', '*-1\r\n').map((nil) => ({
      pieces: [piece(nil.slice(0, 1), REPLY_TYPE), piece(nil.slice(1))],
      frame: null,
    })),
    fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => ({
      pieces: [piece('$', REPLY_TYPE), piece(`${Buffer.byteLength(text)}\r\n${text}\r\n`)],
      frame: text,
    })),
    tie('array'),
  ),
  array: fc.array(tie('reply'), { maxLength: 4 }).map((items) => ({
    pieces: [piece('*', REPLY_TYPE), piece(`${items.length}\r\n`), ...items.flatMap(({ pieces }) => pieces)],
    frame: items.map(({ frame }) => frame),
  })),
})).reply;

// memcached

const memcachedReplies: fc.Arbitrary<Sent> = fc
  .record({
    status: fc.constantFrom('HD', 'EN', 'NF', 'NS', 'EX', 'MN', 'VA', 'SERVER_ERROR'),
    flags: fc.array(words, { maxLength: 3 }),
    opaque: fc.option(ids, { nil: undefined }),
    value: payloads,
  })
  .map(({ status, flags: others, opaque, value }) => {
    // No word of chance is to look like a number.
    const flags = others.map((flag) => `t${flag}`);
    if (opaque !== undefined) flags.push(`O${opaque}`);
    const rest = piece(flags.map((flag) => ` ${flag}`).join(''));
    const frame = { status, flags, opaque, value: status === 'VA' ? value : undefined };
    if (status !== 'VA') return { pieces: [piece(status, NO_CAPITAL), rest, CRLF], frame };
    const head = [piece('VA', NO_CAPITAL), piece(' ', not(' ')), piece(`${value.length}`, NO_DIGIT)];
    return { pieces: [...head, rest, CRLF, piece(value), CRLF], frame };
  });

// NATS

const natsFrames: fc.Arbitrary<Sent> = fc.oneof(
  fc
    .constantFrom('PING', 'PONG', '+OK')
    .map((op) => ({ pieces: [piece(op, NO_CAPITAL), CRLF], frame: { op } })),
  fc
    .tuple(fc.constantFrom('INFO', '-ERR'), words)
    .map(([op, text]) => ({ pieces: [piece(op, NO_CAPITAL), piece(` ${text}`), CRLF], frame: { op, text } })),
  fc
    .record({
      subject: words,
      sid: words,
      reply: fc.option(words, { nil: undefined }),
      headers: fc.option(fc.constantFrom('NATS/1.0', 'NATS/1.0 503', 'NATS/1.0\r\nA: b'), { nil: undefined }),
      payload: payloads,
    })
    .map(({ subject, sid, reply, headers, payload }) => {
      const head = headers === undefined ? '' : `${headers}\r\n\r\n`;
      const sizes = [piece(`${head.length + payload.length}`, NO_DIGIT)];
      if (headers !== undefined) sizes.unshift(piece(`${head.length}`, NO_DIGIT), piece(' '));
      return {
        pieces: [
          piece(headers === undefined ? 'MSG' : 'HMSG', NO_CAPITAL),
          piece(` ${subject} ${sid} ${reply === undefined ? '' : `${reply} `}`),
          ...sizes,
          CRLF,
          piece(head),
          piece(payload),
          CRLF,
        ],
        frame: { op: 'MSG', subject, sid, reply, id: undefined, headers: headers ?? '', payload },
      };
    }),
);

// MQTT

/** First bytes with which nothing begins that a broker sends. */
const NO_PACKET: Piece['isWrong'] = (byte) => !/^([24579bd]0|62|3[0-58-d])$/.test(byte.toString(16));

function mqttLength(length: number): Buffer {
  const bytes: number[] = [];
  for (let rest = length; bytes.length === 0 || rest > 0; rest = Math.floor(rest / 128)) {
    bytes.push((rest % 128) + (rest >= 128 ? 128 : 0));
  }
  return Buffer.from(bytes);
}

const number16 = (number: number): Buffer => Buffer.from([number >> 8, number & 0xff]);

const mqttPackets: fc.Arbitrary<Sent> = fc.oneof(
  fc.constant({
    pieces: [piece(Buffer.from([0xd0]), NO_PACKET), piece('\0', ANY)],
    frame: { cmd: 'pingresp' },
  }),
  fc.nat(5).map((returnCode) => ({
    pieces: [piece(' ', NO_PACKET), piece('\x02', ANY), piece(Buffer.from([0, returnCode]))],
    frame: { cmd: 'connack', returnCode },
  })),
  fc
    .tuple(
      fc.constantFrom(
        [0x40, 'puback'],
        [0x50, 'pubrec'],
        [0x62, 'pubrel'],
        [0x70, 'pubcomp'],
        [0xb0, 'unsuback'],
      ),
      ids,
    )
    .map(([[first, cmd], messageId]) => ({
      pieces: [
        piece(Buffer.from([Number(first)]), NO_PACKET),
        piece('\x02', ANY),
        piece(number16(messageId)),
      ],
      frame: { cmd, messageId },
    })),
  fc
    .tuple(ids, fc.array(fc.constantFrom(0, 1, 2, 0x80), { minLength: 1, maxLength: 5 }))
    .map(([messageId, granted]) => ({
      pieces: [
        piece(Buffer.from([0x90]), NO_PACKET),
        piece(mqttLength(2 + granted.length)),
        piece(Buffer.concat([number16(messageId), Buffer.from(granted)])),
      ],
      frame: { cmd: 'suback', messageId, granted },
    })),
  fc
    .record({
      topic: texts,
      payload: payloads,
      qos: fc.constantFrom(0, 1, 2),
      messageId: ids,
      retain: fc.boolean(),
    })
    .map(({ topic, payload, qos, messageId, retain }) => {
      const name = Buffer.from(topic);
      const id = qos === 0 ? Buffer.alloc(0) : number16(messageId);
      const body = Buffer.concat([number16(name.length), name, id, payload]);
      return {
        pieces: [
          piece(Buffer.from([0x30 | (qos << 1) | Number(retain)]), NO_PACKET),
          piece(mqttLength(body.length)),
          piece(body),
        ],
        frame: { cmd: 'publish', topic, payload, qos, retain, ...(qos === 0 ? {} : { messageId }) },
      };
    }),
);

// Nest

const ASCII: Piece['isWrong'] = (byte) => byte >= 0x20 && byte < 0x7f;

const nestReplies: fc.Arbitrary<Sent> = fc
  .record({ id: fc.oneof(ids, words), response: fc.oneof(texts, fc.jsonValue()), isDisposed: fc.boolean() })
  .map((reply) => {
    const json = JSON.stringify(reply);
    // Of a character that takes more than a byte, each byte tells that the others belong to it.
    const characters = Array.from(json, (character) => piece(character, character > '~' ? ASCII : NONE));
    const pieces = [piece(`${json.length}`, ANY), piece('#', ANY), ...characters];
    return { pieces, frame: JSON.parse(json) };
  });

// SMTP

const smtpReplies: fc.Arbitrary<Sent> = fc
  .record({
    code: fc.integer({ min: 200, max: 599 }),
    lines: fc.array(texts, { minLength: 1, maxLength: 4 }),
  })
  .map(({ code, lines }) => ({
    pieces: lines.flatMap((line, index) => [
      piece(`${code}`, lines.length > 1 ? ANY : NO_DIGIT),
      piece(index === lines.length - 1 ? ' ' : '-', not(' -')),
      piece(line),
      CRLF,
    ]),
    frame: { code, lines },
  }));

const PROTOCOLS: Record<string, Protocol> = {
  Redis: { make: redis, sent: redisReplies },
  memcached: { make: memcached, sent: memcachedReplies },
  NATS: { make: nats, sent: natsFrames },
  MQTT: { make: mqtt, sent: mqttPackets },
  NestJS: { make: nest, sent: nestReplies },
  SMTP: { make: smtp, sent: smtpReplies },
};

// How it arrives

type Cuts = readonly number[] | 'every byte';

/** Places to cut a stream, as fractions of it, or one byte at a time. */
const cuts: fc.Arbitrary<Cuts> = fc.oneof(
  { weight: 4, arbitrary: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 }) },
  { weight: 1, arbitrary: fc.constant('every byte' as const) },
);

function cut(stream: Buffer, where: Cuts): Buffer[] {
  const places =
    where === 'every byte'
      ? Array.from(stream, (_, index) => index + 1)
      : where.map((fraction) => Math.round(fraction * stream.length)).sort((a, b) => a - b);
  let from = 0;
  return [...places, stream.length].map((to) => {
    // A chunk has memory of its own, as it does when a socket gives it.
    const chunk = Buffer.from(stream.subarray(from, to));
    from = to;
    return chunk;
  });
}

const onWire = (frames: readonly Sent[]): Buffer =>
  Buffer.concat(frames.flatMap(({ pieces }) => pieces.map(({ bytes }) => bytes)));

interface Received {
  readonly frames: unknown[];
  readonly error: unknown;
  /** Nothing is left over, in the queue or in the codec. */
  readonly isIdle: boolean;
}

/** What a connection does with its codec. */
function receive(codec: Codec<never, unknown>, chunks: readonly Buffer[]): Received {
  const queue = new ByteQueue();
  const frames: unknown[] = [];
  try {
    for (const chunk of chunks) {
      queue.push(chunk);
      for (let frame = codec.decode(queue); frame !== undefined; frame = codec.decode(queue))
        frames.push(frame);
    }
  } catch (error) {
    return { frames, error, isIdle: false };
  }
  return { frames, error: undefined, isIdle: queue.length === 0 && codec.isIdle?.() !== false };
}

function expectFrames({ frames }: Received, sent: readonly Sent[]): void {
  expect(frames.length).toBe(sent.length);
  for (const [index, { frame: expected }] of sent.entries()) {
    const frame = plain(frames[index]);
    // A packet has more members than those that were sent.
    if (isPacket(expected)) expect(frame).toMatchObject(expected);
    else expect(frame).toEqual(expected);
  }
}

/** Errors in it as what they say. */
function plain(frame: unknown): unknown {
  if (Array.isArray(frame)) return frame.map(plain);
  return frame instanceof Error ? { error: frame.message } : frame;
}

function isPacket(frame: unknown): frame is object {
  return typeof frame === 'object' && frame !== null && 'cmd' in frame;
}

describe.each(Object.entries(PROTOCOLS))('the %s codec', (_, { make, sent }) => {
  it('gives the frames that were sent, however they are cut, and keeps nothing', () => {
    fc.assert(
      fc.property(fc.array(sent, { maxLength: 12 }), cuts, (frames, where) => {
        const received = receive(make(), cut(onWire(frames), where));
        expect(received.error).toBeUndefined();
        expectFrames(received, frames);
        expect(received.isIdle).toBe(true);
      }),
      RUNS,
    );
  });

  it('shows by bytes that wait, or by not being idle, that a frame has not come to its end', () => {
    fc.assert(
      fc.property(
        fc.array(sent, { minLength: 1, maxLength: 4 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        cuts,
        (frames, fraction, where) => {
          const stream = onWire(frames);
          const place = Math.round(fraction * stream.length);
          let end = 0;
          const whole = frames.filter((frame) => {
            end += onWire([frame]).length;
            return end <= place;
          });
          const received = receive(make(), cut(stream.subarray(0, place), where));
          expect(received.error).toBeUndefined();
          expectFrames(received, whole);
          expect(received.isIdle).toBe(onWire(whole).length === place);
        },
      ),
      RUNS,
    );
  });

  it('makes no frame of bytes that can’t be right', () => {
    let damaged = 0;
    fc.assert(
      fc.property(
        fc.array(sent, { minLength: 1, maxLength: 4 }),
        fc.nat(),
        fc.nat(),
        cuts,
        (frames, which, what, where) => {
          const stream = onWire(frames);
          const places: { place: number; before: number; wrong: readonly number[] }[] = [];
          let place = 0;
          for (const [before, { pieces }] of frames.entries()) {
            for (const { bytes, isWrong } of pieces) {
              for (const right of bytes) {
                const others = ALL_BYTES.filter((byte) => byte !== right && isWrong(byte));
                if (others.length > 0) places.push({ place, before, wrong: others });
                place += 1;
              }
            }
          }
          const chosen = places[which % places.length];
          if (chosen === undefined) throw new Error('a frame without a byte that can be wrong');
          stream[chosen.place] = chosen.wrong[what % chosen.wrong.length] ?? 0;
          const received = receive(make(), cut(stream, where));
          expectFrames(received, frames.slice(0, chosen.before));
          expect(received.isIdle).toBe(false);
          if (received.error !== undefined) damaged += 1;
        },
      ),
      { numRuns: 600 },
    );
    // Not merely waiting for more.
    expect(damaged).toBeGreaterThan(300);
  });

  it('makes the same of any bytes, however they are cut', () => {
    fc.assert(
      fc.property(
        fc.array(sent, { minLength: 1, maxLength: 4 }),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 }),
        cuts,
        cuts,
        (frames, damages, one, other) => {
          const stream = onWire(frames);
          for (const [place, byte] of damages) stream[place % stream.length] = byte;
          const a = receive(make(), cut(stream, one));
          const b = receive(make(), cut(stream, other));
          expect(a.frames).toEqual(b.frames);
          expect(a.error === undefined).toBe(b.error === undefined);
          expect(a.isIdle).toBe(b.isIdle);
        },
      ),
      RUNS,
    );
  });
});

describe('a stream that no server sends', () => {
  it.each([
    ['Redis', 'an array too long to be one', '*9999999999\r\n'],
    ['Redis', 'what is no type', '!3\r\n'],
    ['memcached', 'two replies in a line', 'HD O1\nHD O2\r\n'],
    ['memcached', 'a word of another protocol', 'STORED\r\n'],
    ['NATS', 'headers longer than their message', 'HMSG a 1 5 4\r\nNATS'],
    ['NATS', 'a message without a subject', 'MSG 1 0\r\n\r\n'],
    ['MQTT', 'a length of a byte too many', '\x20\x81\x00\x00'],
    ['MQTT', 'a length of five bytes', '\x30\xff\xff\xff\xff\x01'],
    ['MQTT', 'an acknowledgement of nothing', '\x40\x00'],
    ['NestJS', 'a length that leaves a number', '1#00#{"id":1}'],
    ['NestJS', 'half an emoji', '7#{"a":"\xf0\x9f\xab\x96"}'],
    ['NestJS', 'no length', '#{"id":1}'],
    ['SMTP', 'a reply of two codes', '250-a\r\n251 b\r\n'],
    ['SMTP', 'a code that there is not', '150 a\r\n'],
  ])('ends the connection: to %s, %s', (name, _, stream) => {
    const { error, frames } = receive(PROTOCOLS[name]?.make() ?? redis(), [Buffer.from(stream, 'latin1')]);
    expect(frames).toEqual([]);
    expect(error).toBeInstanceOf(Error);
  });
});

describe('what is written', () => {
  /** What goes over the wire, or `undefined` when the codec refuses the message. */
  function written<In>(codec: Codec<In, unknown>, message: In): Buffer | undefined {
    try {
      return bytesOf(codec.encode(message));
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
      return undefined;
    }
  }

  /** Words, and what is none because something in it could end a word or a line. */
  const hostile = fc.oneof(
    { weight: 2, arbitrary: words },
    { weight: 1, arbitrary: fc.string({ unit: fc.constantFrom(...'ab ü\t\r\n\0'), maxLength: 6 }) },
  );
  const isWord = (text: string): boolean => /^[^\s\0]+$/.test(text);

  it('to memcached is the one line that was meant, and the value', () => {
    // Not q, which is refused.
    const flags = hostile.map((flag) => `T${flag}`);
    let sent = 0;
    fc.assert(
      fc.property(hostile, fc.array(flags, { maxLength: 2 }), payloads, ids, (key, flags, value, opaque) => {
        const wire = written(memcached(), { command: 'ms', key, flags, value, opaque });
        expect(wire !== undefined).toBe([key, ...flags].every(isWord));
        if (wire === undefined) return;
        sent += 1;
        const head = ['ms', key, value.length, ...flags, `O${opaque}`].join(' ');
        expect(wire.equals(Buffer.concat([Buffer.from(`${head}\r\n`), value, Buffer.from('\r\n')]))).toBe(
          true,
        );
      }),
      RUNS,
    );
    expect(sent).toBeGreaterThan(50);
  });

  it('to NATS is the one line that was meant, and the payload', () => {
    let sent = 0;
    fc.assert(
      fc.property(hostile, payloads, (subject, payload) => {
        const wire = written(nats(), { op: 'PUB', subject, payload });
        expect(wire !== undefined).toBe(isWord(subject));
        if (wire === undefined) return;
        sent += 1;
        const head = Buffer.from(`PUB ${subject} ${payload.length}\r\n`);
        expect(wire.equals(Buffer.concat([head, payload, Buffer.from('\r\n')]))).toBe(true);
      }),
      RUNS,
    );
    expect(sent).toBeGreaterThan(50);
  });

  it('to an SMTP server is one command, or a text that nothing within it ends', () => {
    const lineEnds = fc.string({
      unit: fc.constantFrom('a', '.', '\r', '\n', '\r\n', '\u2028'),
      maxLength: 20,
    });
    fc.assert(
      fc.property(hostile, lineEnds, (command, text) => {
        const line = written(smtp(), command);
        expect(line?.toString()).toBe(/[\r\n\0]/.test(command) ? undefined : `${command}\r\n`);

        // As a server reads it: line after line, until one is a dot.
        const lines = `${written(smtp(), { text })}`.split('\r\n');
        const end = lines.indexOf('.');
        expect(lines.slice(end)).toEqual(['.', '']);
        const read = lines.slice(0, end).map((one) => one.replace(/^\./, ''));
        const meant = text.split(/\r\n|\r|\n/);
        expect(read).toEqual(meant.at(-1) === '' ? meant.slice(0, -1) : meant);
        for (const one of lines) expect(one).not.toMatch(/[\r\n]/);
      }),
      RUNS,
    );
  });

  it('to a broker is what comes back, or is refused because a number does not fit', () => {
    const topics = fc.oneof({ weight: 9, arbitrary: texts }, fc.constant('x'.repeat(70_000)));
    fc.assert(
      fc.property(topics, payloads, fc.integer({ min: 1, max: 70_000 }), (topic, payload, messageId) => {
        const packet = {
          cmd: 'publish',
          topic,
          payload,
          qos: 1,
          dup: false,
          retain: false,
          messageId,
        } as const;
        const wire = written(mqtt(), packet);
        expect(wire !== undefined).toBe(topic.length < 70_000 && messageId <= 0xffff);
        if (wire !== undefined) expectFrames(receive(mqtt(), [wire]), [{ pieces: [], frame: packet }]);
      }),
      RUNS,
    );
  });

  it('to a NestJS server, and to Redis, is what comes back', () => {
    fc.assert(
      fc.property(fc.jsonValue(), ids, cuts, (data, id, where) => {
        const packet = { pattern: { cmd: 'echo' }, data, id };
        const wire = written(nest(), packet) ?? Buffer.alloc(0);
        expect(receive(nest(), cut(wire, where)).frames).toEqual([JSON.parse(JSON.stringify(packet))]);
      }),
      RUNS,
    );
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.string(), fc.uint8Array()), { minLength: 1 }),
        cuts,
        (command, where) => {
          const wire = written(redis(), command) ?? Buffer.alloc(0);
          const { frames } = receive(redis({ asBuffers: true }), cut(wire, where));
          expect(frames).toEqual([command.map((part) => Buffer.from(part))]);
        },
      ),
      RUNS,
    );
  });
});

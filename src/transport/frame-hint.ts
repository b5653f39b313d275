/**
 * What a codec says when it refuses: the words and details of its FrameErrors, and a guess at who is really
 * on the other side. When to refuse is the codec's business.
 */
import { Buffer } from 'node:buffer';
import { isUint8Array } from 'node:util/types';
import { type FrameDetails, FrameError } from '../errors.ts';
import type { ByteQueue } from './byte-queue.ts';

/** How many bytes of a bad frame are shown. */
const HEAD_BYTES = 16;

/** What protocols say first: text ones by their characters, binary ones by the hex of their bytes. */
const GREETINGS: readonly { readonly text?: RegExp; readonly hex?: RegExp; readonly hint: string }[] = [
  {
    hex: /^1[4-7]030[0-4]/,
    hint: 'These bytes look like TLS: set the `tls` option, or connect to the plain port.',
  },
  {
    text: /^HTTP\/\d|^<(?:html|!doctype)/i,
    hint: 'These bytes look like HTTP: a web server or proxy answers there; check host and port.',
  },
  {
    // A SETTINGS frame on stream 0.
    hex: /^0000..040[01]00000000/,
    hint: 'These bytes look like HTTP/2: a web or gRPC server answers there; check host and port.',
  },
  {
    text: /^SSH-\d/,
    hint: 'These bytes look like SSH: a login server answers there; check host and port.',
  },
  {
    text: /^220[ -]/,
    hint: 'These bytes look like an SMTP or FTP greeting: a mail or file server answers there; check host and port.',
  },
  {
    text: /^-[A-Z]{3,}\s/,
    hint: 'These bytes look like an error reply of Redis: read its text, and check host, port and password.',
  },
  {
    text: /^\+(?:OK|PONG)\s/,
    hint: 'These bytes look like Redis or POP3: check host and port.',
  },
  {
    text: /^\* OK\s/,
    hint: 'These bytes look like an IMAP greeting: a mail server answers there; check host and port.',
  },
  {
    // A broker answers with the version it speaks when it dislikes ours.
    text: /^AMQP/,
    hint: 'These bytes look like AMQP: a message broker answers there; check host and port.',
  },
  {
    // Length, sequence 0, protocol 10, and the version as text.
    hex: /^.{4}00000a3\d/,
    hint: 'These bytes look like a MySQL greeting: a MySQL server answers there; check host and port.',
  },
  {
    // `E`, length, `S` and a severity as text.
    hex: /^450000.{4}53(?:4552524f52|464154414c|50414e4943)/,
    hint: 'These bytes look like a PostgreSQL error: a PostgreSQL server answers there; check host and port.',
  },
];

/** What the first bytes of a stream look like and what to do about it; `undefined` for nothing known. */
export function hintFromHead(head: Buffer): string | undefined {
  const text = head.toString('latin1', 0, HEAD_BYTES);
  const hex = head.toString('hex', 0, HEAD_BYTES);
  return GREETINGS.find((greeting) => greeting.text?.test(text) || greeting.hex?.test(hex))?.hint;
}

/** The same, for a codec that expects binary: any text at all is suspicious. */
export function hintForBinary(head: Buffer): string | undefined {
  const known = hintFromHead(head);
  if (known !== undefined) return known;
  const isText =
    head.length >= 4 && head.every((byte) => (byte >= 0x20 && byte < 0x7f) || byte === 0x0a || byte === 0x0d);
  return isText
    ? 'These bytes are text: the server may end its messages with a delimiter; try lines() or delimited().'
    : undefined;
}

/** The error for received bytes that can't be a frame. Shows the first of those that wait. */
export function badFrame(
  bytes: ByteQueue,
  message: string,
  details: FrameDetails,
  hintFrom: (head: Buffer) => string | undefined = hintFromHead,
): FrameError {
  const head = bytes.peek(Math.min(HEAD_BYTES, bytes.length)) ?? Buffer.alloc(0);
  const hint = hintFrom(head);
  return new FrameError(message, {
    ...details,
    head: head.toString('hex'),
    ...(hint === undefined ? {} : { hint }),
  });
}

/** The error for a message that doesn't fit in one frame. */
export function tooLargeToSend(codec: string, frameBytes: number, limitBytes: number): FrameError {
  return new FrameError(
    `${codec}: the message makes a frame of ${frameBytes} bytes, the limit is ${limitBytes}`,
    {
      fault: 'too-large',
      declaredBytes: frameBytes,
      limitBytes,
      hint: 'Send less at once, or raise `maxFrameBytes` on both sides.',
    },
  );
}

/** The error for a message that this framing can't carry. */
export function badMessage(codec: string, why: string, hint?: string): FrameError {
  return new FrameError(`${codec}: ${why}`, {
    fault: 'bad-message',
    hint: hint ?? 'Correct the message; nothing was sent.',
  });
}

/** A message's bytes: strings as UTF-8, bytes as a view of the caller's own. */
export function messageBytes(codec: string, message: Uint8Array | string): Buffer {
  if (typeof message === 'string') return Buffer.from(message);
  if (Buffer.isBuffer(message)) return message;
  if (isUint8Array(message)) return Buffer.from(message.buffer, message.byteOffset, message.length);
  throw badMessage(
    codec,
    `a message is a string or a Uint8Array, got ${message === null ? 'null' : typeof message}`,
  );
}

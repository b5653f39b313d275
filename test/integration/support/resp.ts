/**
 * Enough of RESP2 to talk to Redis through a pool: commands are arrays of strings, replies are values.
 */
import type { ByteQueue, Codec } from 'pulsepool';

/** An error reply: a value like any other, since it is a whole reply and the connection is fine. */
export class RespError {
  readonly message: string;

  constructor(message: string) {
    this.message = message;
  }
}

export type RespValue = string | number | null | RespError | RespValue[];

/** The codec. It keeps no state, so a reply in many pieces is parsed again from its start: fine for tests. */
export function resp(): Codec<readonly string[], RespValue> {
  return {
    name: 'resp',
    encode(command) {
      const parts = command.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`);
      return Buffer.from(`*${command.length}\r\n${parts.join('')}`);
    },
    decode(bytes: ByteQueue) {
      const seen = bytes.peek(bytes.length);
      const parsed = seen === undefined ? undefined : parse(seen, 0);
      if (parsed === undefined) return undefined;
      bytes.skip(parsed.end);
      return parsed.value;
    },
  };
}

interface Parsed {
  value: RespValue;
  end: number;
}

function parse(bytes: Buffer, start: number): Parsed | undefined {
  const lineEnd = bytes.indexOf('\r\n', start);
  if (lineEnd === -1) return undefined;
  const text = bytes.toString('utf8', start + 1, lineEnd);
  const end = lineEnd + 2;
  switch (String.fromCharCode(bytes[start] ?? 0)) {
    case '+':
      return { value: text, end };
    case '-':
      return { value: new RespError(text), end };
    case ':':
      return { value: Number(text), end };
    case '$': {
      const length = Number(text);
      if (length === -1) return { value: null, end };
      if (bytes.length < end + length + 2) return undefined;
      return { value: bytes.toString('utf8', end, end + length), end: end + length + 2 };
    }
    case '*':
      return parseArray(bytes, end, Number(text));
    default:
      throw new Error(`not RESP: ${JSON.stringify(text)}`);
  }
}

function parseArray(bytes: Buffer, start: number, length: number): Parsed | undefined {
  if (length === -1) return { value: null, end: start };
  const value: RespValue[] = [];
  let end = start;
  while (value.length < length) {
    const item = parse(bytes, end);
    if (item === undefined) return undefined;
    value.push(item.value);
    end = item.end;
  }
  return { value, end };
}

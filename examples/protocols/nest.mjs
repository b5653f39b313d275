/**
 * NestJS: the TCP transport of @nestjs/microservices, `<length>#<json>`.
 *
 *     createClient({ host, port: 3000, codec: nest(), heartbeat, mode: 'multiplexed', correlate })
 *     await client.request({ pattern: { cmd: 'sum' }, data: [1, 2] }); // { response: 3, isDisposed: true, … }
 *
 * There is no package to frame it with. The length is that of a JavaScript string, since Nest's JsonSocket writes
 * `json.length` and compares it with the length of what it has decoded: an é counts 1 and takes two bytes, an emoji
 * counts 2 and takes four. So a codec that counts bytes works until the first umlaut.
 *
 * A message without an id is an event: nothing answers it, so `lease.send(event, { replies: 0 })`. An Observable's values
 * come one by one under the same id, and the last one says `isDisposed`: that is for `client.stream()`, with an id of one's
 * own.
 */

/** @import { ByteQueue, Codec, HeartbeatOptions } from 'pulsepool' */

/** @typedef {{ pattern: string | object, data?: unknown, id?: number | string }} Packet */
/** @typedef {{ id: number | string, response?: unknown, err?: unknown, isDisposed?: boolean }} Reply */

const MARK = Buffer.from('#');
const MAX_DIGITS = 9;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @returns {Codec<Packet, Reply>} */
export function nest() {
  return {
    name: 'Nest',
    encode(packet) {
      const json = JSON.stringify(packet);
      return Buffer.from(`${json.length}#${json}`);
    },
    decode(bytes) {
      const mark = bytes.indexOf(MARK);
      const digits = `${bytes.peek(mark === -1 ? Math.min(bytes.length, MAX_DIGITS + 1) : mark)}`;
      if (!/^\d{0,9}$/.test(digits) || mark === 0) throw new Error(`the length is no number: ${digits}`);
      if (mark === -1) return undefined;
      const size = bytesOf(bytes, mark + 1, Number(digits));
      if (size === undefined) return undefined;
      bytes.skip(mark + 1);
      const json = utf8.decode(bytes.take(size));
      // A damaged length can leave a number, which is JSON as well.
      if (!json.startsWith('{')) throw new Error(`not a packet: ${json.slice(0, 20)}`);
      return JSON.parse(json);
    },
  };
}

/**
 * How many bytes the characters take that begin at `from`: as many as the string's `length` would be. `undefined` when
 * they are not all there.
 *
 * @param {ByteQueue} bytes
 * @param {number} from
 * @param {number} length
 */
function bytesOf(bytes, from, length) {
  const all = bytes.length - from;
  // No character takes less than a byte, so that long ASCII is not looked at again with each chunk.
  const view = all < length ? undefined : bytes.peek(all, from);
  if (view === undefined) return undefined;
  let at = 0;
  for (let counted = 0; counted < length; ) {
    const first = view[at];
    if (first === undefined) return undefined;
    // UTF-8: one byte up to 7f, two from c0, three from e0, four from f0, which are two units of a string.
    at += first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    counted += first < 0xf0 ? 1 : 2;
    if (counted > length) throw new Error('the length ends within a character');
  }
  return at <= all ? at : undefined;
}

/**
 * A pattern that no handler has is answered with an error, and any answer will do.
 *
 * @type {HeartbeatOptions<Packet, Reply>}
 */
export const heartbeat = {
  ping: { pattern: 'ping', id: 'ping' },
  isPong: ({ id }) => id === 'ping',
};

/** Which reply is whose. */
export const correlate = {
  /** @type {(packet: Packet, id: number) => Packet} */
  write: (packet, id) => ({ ...packet, id }),
  /** @type {(reply: Reply) => number | undefined} */
  read: ({ id }) => (typeof id === 'number' ? id : undefined),
};

/**
 * memcached: the meta protocol (mg, ms, md, ma, mn), whose replies can carry a number of the client's.
 *
 *     createClient({ host, port: 11211, codec: memcached(), heartbeat, mode: 'multiplexed', correlate })
 *     await client.request({ command: 'ms', key: 'a', value: 'hello' }); // { status: 'HD', … }
 *     await client.request({ command: 'mg', key: 'a', flags: ['v'] }); //   { status: 'VA', value, … }
 *
 * No parser of it is published. What memcached refuses as a whole (`ERROR`, `CLIENT_ERROR`, `SERVER_ERROR`) it does not
 * give the number back for, so that `encode` lets through only what is well formed.
 */

/** @import { Codec, EncodedFrame, HeartbeatOptions } from 'pulsepool' */

/**
 * `mn` does nothing and has no key, a `value` is for `ms`, and `opaque` comes back with the reply. Flags are such as
 * `v` (return the value) or `T60` (to live 60 s).
 *
 * @typedef {{ command: 'mg' | 'ms' | 'md' | 'ma' | 'mn', key?: string, flags?: readonly string[],
 *   value?: string | Uint8Array, opaque?: number }} Request
 */
/**
 * `HD` done, `VA` a value, `EN` no such key, `NF` not found, `NS` not stored, `EX` exists, `MN` for `mn`, or an error,
 * whose words are in `flags`.
 *
 * @typedef {{ status: string, flags: readonly string[], opaque: number | undefined, value: Buffer | undefined }} Reply
 */

const CRLF = Buffer.from('\r\n');
const STATUSES = new Set(['HD', 'VA', 'EN', 'NF', 'NS', 'EX', 'MN', 'ERROR', 'CLIENT_ERROR', 'SERVER_ERROR']);
const WORD = /^[^\s\p{Cc}]+$/u;

/** @returns {Codec<Request, Reply>} */
export function memcached() {
  return {
    name: 'memcached',
    // For one item memcached's default is 1 MiB.
    maxFrameBytes: 2 * 1024 * 1024,
    encode: encodeRequest,
    decode(bytes) {
      const end = bytes.indexOf(CRLF);
      if (end === -1) return undefined;
      const line = `${bytes.peek(end)}`;
      const [status = '', ...flags] = line.split(' ');
      // A line end that was damaged would make one reply of two.
      if (!STATUSES.has(status) || /\p{Cc}/u.test(line)) throw new Error(`not what memcached says: ${line}`);
      let past = end + CRLF.length;
      let value;
      if (status === 'VA') {
        const size = flags.shift() ?? '';
        if (!/^\d{1,10}$/.test(size)) throw new Error(`the size of the value is no number: ${line}`);
        const valueEnd = past + Number(size);
        if (bytes.length < valueEnd + CRLF.length) return undefined;
        if (!bytes.peek(CRLF.length, valueEnd)?.equals(CRLF))
          throw new Error(`the value is longer than in: ${line}`);
        bytes.skip(past);
        value = bytes.take(Number(size));
        past = CRLF.length;
      }
      bytes.skip(past);
      const opaque = flags.find((flag) => /^O\d+$/.test(flag));
      return { status, flags, opaque: opaque === undefined ? undefined : Number(opaque.slice(1)), value };
    },
  };
}

/**
 * @param {Request} request
 * @returns {EncodedFrame}
 */
function encodeRequest({ command, key, flags = [], value, opaque }) {
  if ((key === undefined) !== (command === 'mn')) throw new Error(`${command} with the key ${key}`);
  if ((value === undefined) === (command === 'ms'))
    throw new Error('a value goes with ms, and with nothing else');
  if (flags.includes('q')) throw new Error('the flag q asks for silence, which no reply can end');
  const bytes = value === undefined ? undefined : Buffer.from(value);
  const number = opaque === undefined ? undefined : `O${opaque}`;
  const words = [command, key, bytes?.length, ...flags, number]
    .filter((word) => word !== undefined)
    .map(String);
  for (const word of words) {
    if (!WORD.test(word) || Buffer.byteLength(word) > 250) {
      throw new Error(`not one word of 250 bytes at most: ${JSON.stringify(word)}`);
    }
  }
  const line = Buffer.from(`${words.join(' ')}\r\n`);
  return bytes === undefined ? line : [line, bytes, CRLF];
}

/** @type {HeartbeatOptions<Request, Reply>} */
export const heartbeat = { ping: { command: 'mn' }, isPong: ({ status }) => status === 'MN' };

/** Which reply is whose. An error may be anybody's: it ends a socket that many share. */
export const correlate = {
  write: (/** @type {Request} */ request, /** @type {number} */ id) => ({ ...request, opaque: id }),
  read: (/** @type {Reply} */ reply) => reply.opaque,
};

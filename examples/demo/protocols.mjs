/**
 * The ways in which the demo can talk to a server. In all of them messages are text.
 */
import { lengthPrefixed, lines, raw } from 'pulsepool';

/**
 * @import { Codec, Pool, RequestOptions } from 'pulsepool'
 * @import { CodecName } from './options.mjs'
 *
 * @typedef {object} Protocol
 * @property {Codec<string, string>} codec
 * @property {string} ping
 * @property {string} describe What is sent, in words.
 * @property {(pool: Pool<string, string>, question: string, options: RequestOptions) => Promise<string>} ask
 */

/** @type {Readonly<Record<CodecName, Protocol>>} */
export const PROTOCOLS = {
  lines: {
    codec: lines(),
    ping: 'ping',
    describe: 'lines of text that end with LF',
    ask: (pool, question, options) => pool.request(question, options),
  },
  'length-prefixed': {
    codec: asText(lengthPrefixed()),
    ping: 'ping',
    describe: 'messages behind their length in 4 bytes, big endian',
    ask: (pool, question, options) => pool.request(question, options),
  },
  'raw-line': {
    codec: asText(raw()),
    ping: 'ping\n',
    describe: 'plain bytes that end with LF, and takes what comes back up to the next LF as the reply',
    ask: askRaw,
  },
};

/**
 * A codec of bytes made one of text.
 *
 * @param {Codec<Uint8Array | string, Buffer>} codec
 * @returns {Codec<string, string>}
 */
function asText(codec) {
  return { ...codec, decode: (bytes) => codec.decode(bytes)?.toString() };
}

/**
 * Without frames the caller has to know where a reply ends, and vouch for it with `markClean()`.
 *
 * @type {Protocol['ask']}
 */
function askRaw(pool, question, options) {
  return pool.use(async (lease) => {
    await lease.send(`${question}\n`, options);
    let reply = '';
    while (!reply.includes('\n')) reply += await lease.receive(options);
    lease.markClean();
    return reply.trimEnd();
  }, options);
}

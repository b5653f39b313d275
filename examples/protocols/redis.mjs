/**
 * Redis: RESP2 as redis-parser reads it, the parser of ioredis 5 and node_redis 3.
 *
 *     createClient({ host, port: 6379, codec: redis, heartbeat, mode: 'pipelined' })
 *     await client.request(['SET', 'key', 'value']); // 'OK'
 *
 * The parser keeps the bytes of a reply that has not come to its end, so each connection needs a codec of its own:
 * `codec: redis`, without parentheses. It looks at the byte that says what a reply is, and trusts lengths and line ends.
 */
import RedisParser from 'redis-parser';

/** @import { Codec, HeartbeatOptions } from 'pulsepool' */

/**
 * Errors are values: the exchange is complete, and the socket stays.
 *
 * @typedef {string | number | Buffer | Error | null | Reply[]} Reply
 */
/** @typedef {readonly (string | Uint8Array)[]} Command */

const CRLF = Buffer.from('\r\n');
/** Redis' own limit for one string. */
const MAX_REPLY_BYTES = 512 * 1024 * 1024;

/**
 * @param {{ asBuffers?: boolean, maxReplyBytes?: number }} [options] `asBuffers`: strings in replies are Buffers, which
 *   binary values need
 * @returns {Codec<Command, Reply>}
 */
export function redis({ asBuffers = false, maxReplyBytes = MAX_REPLY_BYTES } = {}) {
  /** @type {Reply[]} */
  const replies = [];
  /** @type {unknown} */
  let fault;
  let bytesSinceReply = 0;
  const parser = new RedisParser({
    returnBuffers: asBuffers,
    returnReply: (reply) => void replies.push(reply),
    returnError: (error) => void replies.push(error),
    returnFatalError: (error) => {
      fault = error;
    },
  });
  // No public method tells whether it waits for more; it lets go of its buffer when it does not.
  const waitsForMore = () => parser['buffer'] !== null;

  return {
    name: 'Redis',
    encode(command) {
      if (command.length === 0) throw new Error('Redis does not answer an empty command');
      const pieces = [Buffer.from(`*${command.length}\r\n`)];
      for (const part of command) {
        const bytes = Buffer.from(part);
        pieces.push(Buffer.from(`$${bytes.length}\r\n`), bytes, CRLF);
      }
      return Buffer.concat(pieces);
    },
    decode(bytes) {
      if (replies.length === 0 && fault === undefined && bytes.length > 0) {
        // The pool bounds what waits in its queue. This waits in the parser.
        bytesSinceReply += bytes.length;
        if (bytesSinceReply > maxReplyBytes)
          throw new Error(`a reply of more than ${maxReplyBytes} bytes came`);
        try {
          parser.execute(bytes.takeAll());
        } catch (error) {
          // An array of impossible length.
          fault = error;
        }
        if (replies.length > 0) bytesSinceReply = 0;
      }
      // The replies before it are good.
      if (replies.length === 0 && fault !== undefined) throw fault;
      return replies.shift();
    },
    isIdle: () => replies.length === 0 && !waitsForMore(),
  };
}

/**
 * Who has subscribed is answered with an array, ['pong', ''].
 *
 * @type {HeartbeatOptions<Command, Reply>}
 */
export const heartbeat = {
  ping: ['PING'],
  isPong: (reply) => ['PONG', 'pong,'].includes(String(reply)),
};

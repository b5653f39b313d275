/**
 * NATS: PUB, SUB and MSG, requests over an inbox, and pings in both directions.
 *
 *     createClient({ host, port: 4222, codec: nats, onConnect: connect(), heartbeat, mode: 'multiplexed', correlate })
 *     await client.request({ op: 'REQUEST', subject: 'time', payload: 'now?' }); // { op: 'MSG', payload, … }
 *     client.subscribe({ op: 'SUB', subject: 'news.*', sid: '1' }, (frame) => …);
 *
 * No parser is published on its own. NATS has no requests: a request is a PUB that names a subject for the answer, here
 * `<inbox>.<id>`. Each connection has an inbox of its own, or it would get the answers to the others as well: so
 * `codec: nats` goes without parentheses.
 */
import { randomBytes } from 'node:crypto';

/** @import { Codec, HandshakeContext, HeartbeatOptions, Lease } from 'pulsepool' */

/**
 * `LISTEN` subscribes to the inbox.
 *
 * @typedef {{ op: 'PING' | 'PONG' | 'LISTEN' } | { op: 'CONNECT', options: object }
 *   | { op: 'SUB', subject: string, sid: string } | { op: 'UNSUB', sid: string }
 *   | { op: 'PUB', subject: string, payload: string | Uint8Array }
 *   | { op: 'REQUEST', subject: string, payload: string | Uint8Array, id?: number }} Message
 */
/**
 * `id`: of the request that it answers. `headers`: as they came, such as `NATS/1.0 503` when nobody is there to answer.
 *
 * @typedef {{ op: 'MSG', subject: string, sid: string, reply: string | undefined, id: number | undefined,
 *   headers: string, payload: Buffer }} Msg
 */
/** @typedef {Msg | { op: 'PING' | 'PONG' | '+OK' } | { op: 'INFO' | '-ERR', text: string }} Frame */

const CRLF = Buffer.from('\r\n');
// subject, sid, where to answer, the size of the headers, the size of headers and payload
const MSG = /^MSG (\S+) (\S+) (?:(\S+) )?()(\d{1,9})$/;
const HMSG = /^HMSG (\S+) (\S+) (?:(\S+) )?(\d{1,9}) (\d{1,9})$/;

/** @returns {Codec<Message, Frame>} */
export function nats() {
  const inbox = `_INBOX.${randomBytes(12).toString('hex')}.`;
  return {
    name: 'NATS',
    encode: (message) => encodeMessage(message, inbox),
    decode(bytes) {
      const end = bytes.indexOf(CRLF);
      if (end === -1) return undefined;
      const line = `${bytes.peek(end)}`;
      const head = end + CRLF.length;
      const found = MSG.exec(line) ?? HMSG.exec(line);
      if (found === null) {
        bytes.skip(head);
        if (line === 'PING' || line === 'PONG' || line === '+OK') return { op: line };
        const [, op, text = ''] = /^(INFO|-ERR) (.+)$/.exec(line) ?? [];
        if (op === 'INFO' || op === '-ERR') return { op, text };
        throw new Error(`not what NATS says: ${line}`);
      }
      const [, subject = '', sid = '', reply] = found;
      const [headerSize = 0, size = 0] = found.slice(4).map(Number);
      if (headerSize > size) throw new Error(`the headers are longer than the message: ${line}`);
      if (bytes.length < head + size + CRLF.length) return undefined;
      if (!bytes.peek(CRLF.length, head + size)?.equals(CRLF))
        throw new Error(`the message is longer than in: ${line}`);
      bytes.skip(head);
      const headers = `${bytes.take(headerSize)}`.trimEnd();
      const payload = bytes.take(size - headerSize);
      bytes.skip(CRLF.length);
      const id = subject.startsWith(inbox) ? Number(subject.slice(inbox.length)) : undefined;
      return { op: 'MSG', subject, sid, reply, id, headers, payload };
    },
  };
}

/**
 * @param {Message} message
 * @param {string} inbox
 */
function encodeMessage(message, inbox) {
  switch (message.op) {
    case 'CONNECT':
      // JSON has no line end, and may have spaces.
      return Buffer.from(`CONNECT ${JSON.stringify(message.options)}\r\n`);
    case 'LISTEN':
      return line('SUB', `${inbox}*`, 'inbox');
    case 'SUB':
      return line('SUB', message.subject, message.sid);
    case 'UNSUB':
      return line('UNSUB', message.sid);
    case 'PUB':
    case 'REQUEST': {
      const payload = Buffer.from(message.payload);
      const answerTo = message.op === 'REQUEST' ? [`${inbox}${message.id ?? 0}`] : [];
      return Buffer.concat([line('PUB', message.subject, ...answerTo, `${payload.length}`), payload, CRLF]);
    }
    default:
      return line(message.op);
  }
}

/** @param {string[]} words */
function line(...words) {
  // A space or a line end in a subject would be another command.
  const bad = words.find((word) => !/^[^\s\0]+$/.test(word));
  if (bad !== undefined) throw new Error(`not one word: ${JSON.stringify(bad)}`);
  return Buffer.from(`${words.join(' ')}\r\n`);
}

/**
 * An `onConnect`: reads the greeting, logs in, opens the inbox, and waits until the server has taken all that.
 *
 * @param {object} [options] of CONNECT, such as `{ user, pass }`
 */
export function connect(options = {}) {
  return async (/** @type {Lease<Message, Frame>} */ lease, /** @type {HandshakeContext} */ { signal }) => {
    const greeting = await lease.receive({ signal });
    if (greeting.op !== 'INFO') throw new Error(`the greeting was ${JSON.stringify(greeting)}`);
    // With headers the server can tell that nobody is there to answer a request.
    const wanted = { verbose: false, headers: true, no_responders: true, ...options };
    await lease.send({ op: 'CONNECT', options: wanted }, { replies: 0 });
    await lease.send({ op: 'LISTEN' }, { replies: 0 });
    const reply = await lease.request({ op: 'PING' }, { signal });
    if (reply.op !== 'PONG') throw new Error(`CONNECT was answered with ${JSON.stringify(reply)}`);
  };
}

/** @type {HeartbeatOptions<Message, Frame>} */
export const heartbeat = {
  ping: { op: 'PING' },
  isPong: ({ op }) => op === 'PONG',
  answer: ({ op }) => (op === 'PING' ? { op: 'PONG' } : undefined),
};

/** Which MSG answers which REQUEST. */
export const correlate = {
  write: (/** @type {Message} */ message, /** @type {number} */ id) => ({ ...message, id }),
  read: (/** @type {Frame} */ frame) => (frame.op === 'MSG' ? frame.id : undefined),
};

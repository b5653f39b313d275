/**
 * SMTP: the server speaks first, replies have one line or many, and a mail's text ends with a dot of its own.
 *
 *     createPool({ host, port: 25, codec: smtp(), onConnect: greet('client.example'), onClose: quit, heartbeat })
 *     await pool.use((lease) => sendMail(lease, { from: 'a@x.example', to: ['b@y.example'], text }));
 *
 * No parser of replies is published on its own. One command at a time (a client's mode is `exclusive`): a server may refuse
 * to be told the next one before it has answered. For real mail, with attachments and logins, there is nodemailer.
 */

/** @import { Codec, HandshakeContext, HeartbeatOptions, Lease } from 'pulsepool' */

/** @typedef {string | { text: string }} Message A command, or the text of a mail after DATA. */
/** @typedef {{ code: number, lines: string[] }} Reply Such as `{ code: 250, lines: ['mail.example', 'SIZE 1000'] }`. */

const CRLF = Buffer.from('\r\n');
const MAX_REPLY_BYTES = 64 * 1024;

/** @returns {Codec<Message, Reply>} */
export function smtp() {
  return {
    name: 'SMTP',
    encode(message) {
      if (typeof message !== 'string') return Buffer.from(stuffed(message.text));
      // What follows a line end would be another command.
      if (/[\r\n\0]/.test(message)) throw new Error(`a command is one line: ${JSON.stringify(message)}`);
      return Buffer.from(`${message}\r\n`);
    },
    decode(bytes) {
      const waiting = bytes.peek(bytes.length) ?? CRLF;
      /** @type {string[]} */
      const lines = [];
      let first = '';
      for (let from = 0; ; ) {
        const end = waiting.indexOf(CRLF, from);
        if (end === -1) break;
        const line = waiting.toString('utf8', from, end);
        const [, code = '', separator, text = ''] = /^([2-5]\d\d)(?:([ -])(.*))?$/.exec(line) ?? [];
        first ||= code;
        if (code === '' || code !== first) throw new Error(`not the line of a reply: ${line}`);
        lines.push(text);
        from = end + CRLF.length;
        if (separator === '-') continue;
        bytes.skip(from);
        return { code: Number(code), lines };
      }
      if (waiting.length > MAX_REPLY_BYTES)
        throw new Error(`a reply has no end after ${waiting.length} bytes`);
      return undefined;
    },
  };
}

/**
 * Lines end with CR and LF, a dot at a line's beginning is doubled, and a dot alone is the end.
 *
 * @param {string} text
 */
function stuffed(text) {
  const lines = text.replace(/\r\n|\r|\n/g, '\r\n').replace(/(^|\n)\./g, '$1..');
  return `${lines}${lines === '' || lines.endsWith('\r\n') ? '' : '\r\n'}.\r\n`;
}

/**
 * @param {Lease<Message, Reply>} lease
 * @param {Message} message
 * @param {number} code what the answer must be
 * @param {AbortSignal} [signal]
 * @throws when it is another one
 */
async function ask(lease, message, code, signal) {
  const reply = await lease.request(message, { signal });
  if (reply.code === code) return reply;
  const asked = typeof message === 'string' ? message : 'the text';
  throw new Error(`${asked} was answered with ${reply.code} ${reply.lines.join(' ')}`);
}

/**
 * An `onConnect`: waits for the server's greeting, then greets.
 *
 * @param {string} name of this client
 */
export function greet(name) {
  return async (/** @type {Lease<Message, Reply>} */ lease, /** @type {HandshakeContext} */ { signal }) => {
    const greeting = await lease.receive({ signal });
    if (greeting.code !== 220)
      throw new Error(`the server greets with ${greeting.code} ${greeting.lines.join(' ')}`);
    await ask(lease, `EHLO ${name}`, 250, signal);
  };
}

/**
 * Sends a mail. Thrown out of `pool.use`, it costs the socket, and with it what the server was told so far.
 *
 * @param {Lease<Message, Reply>} lease
 * @param {{ from: string, to: readonly string[], text: string }} mail `text`: headers, an empty line, and the rest
 */
export async function sendMail(lease, { from, to, text }) {
  await ask(lease, `MAIL FROM:<${from}>`, 250);
  for (const address of to) await ask(lease, `RCPT TO:<${address}>`, 250);
  await ask(lease, 'DATA', 354);
  return ask(lease, { text }, 250);
}

/**
 * An `onClose`.
 *
 * @param {Lease<Message, Reply>} lease
 * @param {{ signal: AbortSignal }} context
 */
export async function quit(lease, { signal }) {
  await ask(lease, 'QUIT', 221, signal);
}

/** @type {HeartbeatOptions<Message, Reply>} */
export const heartbeat = { ping: 'NOOP', isPong: ({ code }) => code === 250 };

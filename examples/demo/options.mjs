/**
 * What the demo can be told on its command line. Imports nothing but Node, so that `--help` and a mistyped
 * option are answered before anything is installed.
 */
import { parseArgs } from 'node:util';

/**
 * @typedef {'lines' | 'length-prefixed' | 'raw-line'} CodecName
 *
 * @typedef {object} DemoOptions
 * @property {{ host: string, port: number, codec: CodecName, tls: boolean } | undefined} target
 *   A server of the user's; without it the demo brings its own.
 * @property {number} seconds How long it runs.
 * @property {number} callers
 * @property {number} max
 */

export const HELP = `npm run demo
    Starts an echo server in this process, drives a pool against it, silences, kills and revives the server,
    and shows what the pool does about it. Takes 20 seconds and needs nothing else.

npm run demo -- --host H --port P
    The same pool and callers against a server of yours, which is left in peace: nothing is killed.

    --host H       host name or address (default 127.0.0.1)
    --port P       TCP port
    --codec C      how messages are framed: lines (default), length-prefixed (4 bytes, big endian) or raw-line
    --tls          speak TLS; certificates are verified (NODE_EXTRA_CA_CERTS=file.pem adds an authority)

Both:
    --seconds N    how long it runs (default 20; the story of the demo's own server needs 5)
    --callers N    callers at the same time (default 40)
    --max N        sockets at most (default 8)
    --help         this text

On a terminal a live view is drawn. Into a pipe, with NO_COLOR or with CI set, plain lines are printed, one a
second. The exit code is 0; 1 when the server can't be reached, answers nothing, or gives a reply that does not
match its question; 2 for a mistake on the command line; 130 after Ctrl-C.
`;

/** A mistake on the command line. */
export class UsageError extends Error {}

// In less, the heartbeats have no time to find anything.
const SHORTEST_STORY_S = 5;

const CODECS = /** @type {const} */ (['lines', 'length-prefixed', 'raw-line']);

/**
 * @param {readonly string[]} args what follows `npm run demo --`
 * @returns {DemoOptions | 'help'}
 * @throws UsageError
 */
export function readOptions(args) {
  const values = parse(args);
  if (values.help) return 'help';
  const { host, port, codec, tls } = values;
  if (port === undefined && (host !== undefined || codec !== undefined || tls)) {
    throw new UsageError('--host, --codec and --tls are for a server of yours: say its --port, too.');
  }
  return {
    target:
      port === undefined
        ? undefined
        : {
            host: host ?? '127.0.0.1',
            port: wholeNumber('port', port, 1, 65_535),
            codec: codecName(codec ?? 'lines'),
            tls: tls ?? false,
          },
    seconds: wholeNumber(
      'seconds',
      values.seconds ?? '20',
      port === undefined ? SHORTEST_STORY_S : 1,
      86_400,
    ),
    callers: wholeNumber('callers', values.callers ?? '40', 1, 10_000),
    max: wholeNumber('max', values.max ?? '8', 1, 1_000),
  };
}

/** @param {readonly string[]} args */
function parse(args) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        host: { type: 'string' },
        port: { type: 'string' },
        codec: { type: 'string' },
        tls: { type: 'boolean' },
        seconds: { type: 'string' },
        callers: { type: 'string' },
        max: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    // Node adds how to pass a positional argument that looks like an option, which helps nobody here.
    const message = error instanceof Error ? error.message : String(error);
    throw new UsageError(message.replace(/\. (To specify a positional|This command).*$/s, '.'));
  }
}

/**
 * @param {string} name
 * @param {string} text
 * @param {number} least
 * @param {number} most
 */
function wholeNumber(name, text, least, most) {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw new UsageError(`--${name} must be a whole number from ${least} to ${most}, got '${text}'.`);
}

/**
 * @param {string} text
 * @returns {CodecName}
 */
function codecName(text) {
  const name = CODECS.find((known) => known === text);
  if (name !== undefined) return name;
  throw new UsageError(`--codec must be one of ${CODECS.join(', ')}, got '${text}'.`);
}

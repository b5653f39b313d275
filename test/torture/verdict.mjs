/**
 * The verdict on a torture: what was wrong, and what did not happen though it should have. A torture that tortured
 * nothing has failed, too.
 */
import { ACT_NAMES } from './acts.mjs';
import { MISDEEDS } from './misdeeds.mjs';

/** @typedef {import('./torture.mjs').Outcome} Outcome */

// Of all questions. Most of the server's misdeeds and most of the callers' whims cost an answer; more than this many
// lost ones mean that nothing was tested but failures.
const LEAST_ANSWERED = 0.5;

/** Errors that the server and the callers bring about. */
const CODES = [
  'ERR_READ_TIMEOUT',
  'ERR_FRAME_TIMEOUT',
  'ERR_DEADLINE',
  'ERR_CONNECTION_LOST',
  'ERR_FRAME',
  'ERR_UNSOLICITED',
  'ERR_POOL_CLOSED',
];

/** Errors of dials. */
const DIAL_CODES = ['ERR_REFUSED', 'ERR_SERVER_FULL', 'ERR_HANDSHAKE'];

/** Ends of sockets that must have happened. */
const REASONS = [
  'idle',
  'surplus',
  'lifetime',
  'heartbeat',
  'peer-closed',
  'peer-reset',
  'unsolicited',
  'dirty',
  'aborted',
  'timeout',
  'protocol',
  'failed',
  'destroyed',
  'detached',
  'shutdown',
];

/**
 * Everything that is wrong, in sentences. Nothing, when all is well.
 *
 * @param {Outcome} outcome
 * @returns {string[]}
 */
export function complaintsAbout({ tally, server, demanded, complaints: ofProcess }) {
  const { abandoned, aborted, answered, asked, mismatched, refused, told } = tally;
  const complaints = [
    ...tally.faults.map(({ what, times, details }) => `${what}, ${times} times: ${details.join('; ')}`),
    ...ofProcess,
  ];
  const complain = (/** @type {boolean} */ isWrong, /** @type {string} */ sentence) => {
    if (isWrong) complaints.push(sentence);
  };
  const ends = answered + mismatched + sum(refused) + aborted + abandoned + told;
  complain(ends !== asked, `${asked} questions were asked, ${ends} came to an end`);
  complain(asked < demanded, `${asked} questions were asked, ${demanded} were demanded`);
  complain(answered < LEAST_ANSWERED * asked, `only ${answered} of ${asked} questions were answered`);
  complain(
    server.nonsense > 0,
    `${server.nonsense} questions reached the server in another shape than they were asked in`,
  );
  complain(
    server.repeated.length > 0,
    `${server.repeated.length} questions were repeated though some of them had left: ${some(server.repeated)}`,
  );
  const lied = tally.neverSent.filter((id) => (server.seen[id] ?? 0) > 0);
  complain(
    lied.length > 0,
    `${lied.length} questions were told as not sent and reached the server: ${some(lied)}`,
  );
  complain(
    server.spoilt.length > 0,
    `${server.spoilt.length} questions were asked on sockets on which stray bytes had come: ${some(server.spoilt)}`,
  );
  complain(server.pingedOn > 0, `${server.pingedOn} sockets were pinged on after stray bytes had come`);
  complain(
    server.open.length > 0,
    `${server.open.length} sockets were left at the server: ${some(server.open)}`,
  );
  for (const [reason, act] of /** @type {const} */ ([
    ['destroyed', 'lease.destroy()'],
    ['failed', 'pool.use that throws'],
    ['detached', 'a socket taken away'],
  ])) {
    const closed = tally.closedBy[reason] ?? 0;
    const meant = tally.acts[act] ?? 0;
    complain(closed > meant, `${closed} sockets ended as ${reason}, ${meant} were meant to`);
  }
  return complaints;
}

/**
 * What did not happen, though a torture of this length should have seen all of it.
 *
 * @param {Outcome} outcome
 * @returns {string[]}
 */
export function missingIn({ tally, server }) {
  const happened = (/** @type {Record<string, number>} */ counts) => (/** @type {string} */ name) =>
    (counts[name] ?? 0) > 0;
  const missing = (
    /** @type {string} */ kind,
    /** @type {readonly string[]} */ names,
    /** @type {Record<string, number>} */ counts,
  ) => names.filter((name) => !happened(counts)(name)).map((name) => `${kind}: ${name}`);
  const { acquiresAborted, pinged, pingMissed } = tally;
  return [
    ...missing('misdeed', MISDEEDS, server.counts),
    ...missing('act', ACT_NAMES, tally.acts),
    ...missing('refusal', CODES, tally.refused),
    ...missing('acquire refused', ['ERR_ACQUIRE_TIMEOUT'], tally.acquiresRefused),
    ...missing('failed dial', DIAL_CODES, tally.dialsFailed),
    ...missing('end of a socket', REASONS, tally.closedBy),
    ...missing('event', ['acquires aborted', 'pings answered', 'pings missed'], {
      'acquires aborted': acquiresAborted,
      'pings answered': pinged,
      'pings missed': pingMissed,
    }),
  ];
}

/** @param {Record<string, number>} counts */
export function sum(counts) {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

function some(/** @type {readonly (number | string)[]} */ ids) {
  return ids.slice(0, 10).join(', ');
}

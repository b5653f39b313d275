/**
 * The verdict on a torture: what was wrong, and what did not happen though it should have. A torture that tortured
 * nothing has failed, too.
 */
import { ACT_NAMES } from './acts.mjs';
import { CLIENT_ACT_NAMES } from './client-acts.mjs';
import { misdeedsOf } from './misdeeds.mjs';
import { OPERATOR_ACTS } from './operator.mjs';

/** @typedef {import('./torture.mjs').Outcome} Outcome */

// Of all questions. Most of the server's misdeeds and most of the callers' whims cost an answer; more than this many
// lost ones mean that nothing was tested but failures. Callers of clients are given less time, and are many at the end.
const LEAST_ANSWERED = { pool: 0.5, exclusive: 0.3, pipelined: 0.3, multiplexed: 0.3 };

/** What must have happened to pools: errors of questions and of acquires, and ends of sockets. */
const TO_POOLS = {
  refusals: [
    'ERR_READ_TIMEOUT',
    'ERR_FRAME_TIMEOUT',
    'ERR_DEADLINE',
    'ERR_CONNECTION_LOST',
    'ERR_FRAME',
    'ERR_UNSOLICITED',
    'ERR_POOL_CLOSED',
  ],
  acquires: ['ERR_ACQUIRE_TIMEOUT'],
  dials: ['ERR_REFUSED', 'ERR_SERVER_FULL', 'ERR_HANDSHAKE'],
  ends: [
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
  ],
};

/** To clients. Leases are the other torture's. */
const TO_CLIENTS = {
  refusals: [
    'ERR_READ_TIMEOUT',
    'ERR_FRAME_TIMEOUT',
    'ERR_DEADLINE',
    'ERR_CONNECTION_LOST',
    'ERR_FRAME',
    'ERR_POOL_CLOSED',
    'ERR_ACQUIRE_TIMEOUT',
  ],
  acquires: [],
  dials: ['ERR_REFUSED', 'ERR_HANDSHAKE'],
  ends: [
    'lifetime',
    'heartbeat',
    'peer-closed',
    'peer-reset',
    'unsolicited',
    'timeout',
    'protocol',
    'reset',
    'shutdown',
  ],
};

/** What must have happened, by subject. */
const EXPECTED = {
  pool: TO_POOLS,
  // Who gives up on a socket that is not shared ends it.
  exclusive: { ...TO_CLIENTS, ends: [...TO_CLIENTS.ends, 'aborted'] },
  pipelined: TO_CLIENTS,
  multiplexed: { ...TO_CLIENTS, refusals: [...TO_CLIENTS.refusals, 'ERR_UNSOLICITED'] },
};

/** What clients must have done by themselves. */
const CLIENTS_DOINGS = ['again', 'fresh', 'later', 'hedged', 'hedgesWon'];

/**
 * Everything that is wrong, in sentences. Nothing, when all is well.
 *
 * @param {Outcome} outcome
 * @returns {string[]}
 */
export function complaintsAbout({ subject, tally, server, demanded, complaints: ofProcess }) {
  const { abandoned, aborted, answered, asked, mismatched, refusals, refused, told } = tally;
  const complaints = [
    ...tally.faults.map(({ what, times, details }) => `${what}, ${times} times: ${details.join('; ')}`),
    ...ofProcess,
  ];
  const complain = (/** @type {boolean} */ isWrong, /** @type {string} */ sentence) => {
    if (isWrong) complaints.push(sentence);
  };
  const ends = answered + mismatched + refusals + sum(refused) + aborted + abandoned + told;
  complain(ends !== asked, `${asked} questions were asked, ${ends} came to an end`);
  complain(
    demanded < Number.POSITIVE_INFINITY && asked < demanded,
    `${asked} questions were asked, ${demanded} were demanded`,
  );
  complain(
    answered < LEAST_ANSWERED[subject] * asked,
    `only ${answered} of ${asked} questions were answered`,
  );
  complain(
    server.nonsense > 0,
    `${server.nonsense} questions reached the server in another shape than they were asked in`,
  );
  complain(
    server.repeated.length > 0,
    `${server.repeated.length} questions were repeated though some of them had left: ${some(server.repeated)}`,
  );
  const lied = [...tally.neverSent].filter(([id]) => (server.seen[id] ?? 0) > 0);
  complain(
    lied.length > 0,
    `${lied.length} questions were told as not sent and reached the server: ${some(lied.map(([id, why]) => `${id} (${why})`))}`,
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
  // A client without leases ends no socket as unsolicited unless the server has given it a reason.
  const unsolicited = tally.closedBy['unsolicited'] ?? 0;
  complain(
    subject !== 'pool' && unsolicited > server.spoils,
    `${unsolicited} sockets ended as unsolicited, the server gave ${server.spoils} reasons`,
  );
  // A stream that fails ends its socket, too.
  const streams = (tally.acts['client.stream'] ?? 0) + (tally.acts['client.stream, left early'] ?? 0);
  for (const [reason, act] of /** @type {const} */ ([
    ['destroyed', 'lease.destroy()'],
    ['failed', 'pool.use that throws'],
    ['detached', 'a socket taken away'],
  ])) {
    const closed = tally.closedBy[reason] ?? 0;
    const meant = (tally.acts[act] ?? 0) + (reason === 'destroyed' ? streams : 0);
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
export function missingIn({ subject, tally, server }) {
  const happened = (/** @type {Record<string, number>} */ counts) => (/** @type {string} */ name) =>
    (counts[name] ?? 0) > 0;
  const missing = (
    /** @type {string} */ kind,
    /** @type {readonly string[]} */ names,
    /** @type {Record<string, number>} */ counts,
  ) => names.filter((name) => !happened(counts)(name)).map((name) => `${kind}: ${name}`);
  const { acquiresAborted, pinged, pingMissed, refusals } = tally;
  const { acquires, dials, ends, refusals: codes } = EXPECTED[subject];
  const isPool = subject === 'pool';
  return [
    ...missing('misdeed', misdeedsOf(subject), server.counts),
    ...missing('act', isPool ? ACT_NAMES : clientActs(subject), tally.acts),
    ...missing('refusal', codes, tally.refused),
    ...missing('acquire refused', acquires, tally.acquiresRefused),
    ...missing('failed dial', dials, tally.dialsFailed),
    ...missing('end of a socket', ends, tally.closedBy),
    ...missing('event', ['pings answered', 'pings missed'], {
      'pings answered': pinged,
      'pings missed': pingMissed,
    }),
    ...(isPool
      ? missing('event', ['acquires aborted'], { 'acquires aborted': acquiresAborted })
      : missing('a client did', CLIENTS_DOINGS, tally.clients)),
    ...(isPool ? [] : missing('event', ['refusals heard'], { 'refusals heard': refusals })),
  ];
}

/** @param {import('./doors.mjs').Subject} subject */
function clientActs(subject) {
  const acts = [
    ...CLIENT_ACT_NAMES,
    ...OPERATOR_ACTS,
    'abort in a later turn',
    'abort in the same turn',
    'the breaker opened',
  ];
  return subject === 'exclusive' ? acts : [...acts, 'a question taken back'];
}

/** @param {Record<string, number>} counts */
export function sum(counts) {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

function some(/** @type {readonly (number | string)[]} */ ids) {
  return ids.slice(0, 10).join(', ');
}

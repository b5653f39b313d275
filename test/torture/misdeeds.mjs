/**
 * What the server does wrong, how often, and which of it would be unfair.
 *
 * A protocol without ids can't tell a stray frame from the answer when the frame arrives after the next question has
 * left and before its answer (README, "What no pool can see"). A torture that sent such frames would find mismatches
 * in every pool there can be. So a frame that answers nothing is sent only where the client can't have asked again:
 *
 * - **In one write with an answer.** Whoever reads the answer has read the stray bytes with it, and has not asked yet.
 *   That takes a small answer, which leaves in one segment and is read at once; and a question that was alone on its
 *   socket, since nothing that came before may still lie in the client's kernel and shift the border of a read. The
 *   client says so in the question, and says it only if its caller goes on with `request()`, which refuses to take a
 *   stray frame for its reply, or gives the lease back. `receive()` hands out pushed frames: that is its purpose.
 * - **To a socket at rest while its whole pool is at rest.** The client's callers stand still, the server reads what is
 *   left, writes, and they go on when the pool has noticed: the farewells of a quiet moment.
 * - **In one write with a pong or a greeting**, for the same reason as an answer.
 * - **To a socket that rested for long, while the client does nothing at all**: its event loop is blocked until the server
 *   has written, and asks in the same turn (the hasty farewells of clients). It must look before it asks.
 *
 * On such a socket the server counts every question that still comes: the pool should have ended it.
 *
 * A client that shares sockets is never alone on one, except in its lonely moments, in which one caller asks when nothing
 * is under way. Where messages have marks that are never used again, and no lease without marks shares the pool, a frame
 * with a strange mark may come at any time: as a whole, because bytes that are no frame end any connection, and said
 * again later, or on another socket, as long as the client is the same. Questions that cross it are nobody's fault. But
 * whatever the server answers behind such a frame is poisoned: the bytes of a socket come in their order, so a caller
 * who hears poison has a client that did not end the socket.
 *
 * What has no bytes needs no such care: a FIN or RST at any time, silence, and above all the answer that comes late.
 * A late answer is due to nobody when its asker has given up, and the pool must have ended the socket by then. It is
 * the heart of the torture: a pool that lends such a socket again delivers every later answer to the wrong caller.
 */
import { Urn } from './chance.mjs';
import { FLAGS } from './talk.mjs';

/** What can become of any question, and how often in 10,000. The rest is answered well. */
const FAIR_TO_ALL = /** @type {const} */ ([
  ['answers late', 150],
  ['never answers', 20],
  ['answers and says FIN', 35],
  ['answers and resets', 20],
  ['FIN in the middle of a frame', 18],
  ['RST in the middle of a frame', 18],
  ['stops in the middle of a frame', 15],
  ['FIN instead of an answer', 18],
  ['RST instead of an answer', 18],
  ['garbage instead of an answer', 15],
  ['stops reading for a while', 15],
]);

/** The same for sockets that carry many questions: what ends one of them costs all of them their answers. */
const FAIR_IN_A_CROWD = /** @type {const} */ ([
  ['answers late', 120],
  ['never answers', 4],
  ['answers and says FIN', 5],
  ['answers and resets', 5],
  ['FIN in the middle of a frame', 4],
  ['RST in the middle of a frame', 4],
  ['stops in the middle of a frame', 3],
  ['FIN instead of an answer', 4],
  ['RST instead of an answer', 4],
  ['garbage instead of an answer', 4],
  ['stops reading for a while', 20],
]);

/** What can become of a question with a mark that is never used again. */
const FAIR_WITH_A_UNIQUE_MARK = /** @type {const} */ ([
  ['a mark of nobody', 5],
  ['a frame without a mark', 5],
  ['answers twice', 5],
  ['answers again later', 10],
  ['answers a question of another socket', 10],
]);

/** What can become of a question whose asker knows what it means. */
const REFUSAL = /** @type {const} */ ([['refuses', 200]]);

/** The same where few are under way on a socket. */
const FAIR_OFTEN_WITH_A_UNIQUE_MARK = FAIR_WITH_A_UNIQUE_MARK.map(
  ([name, weight]) => /** @type {const} */ ([name, 15 * weight]),
);

/** What becomes of a question that is to be asked again. */
const TRIALS = /** @type {const} */ ([
  ['answers late', 4_000],
  ['FIN instead of an answer', 800],
  ['RST instead of an answer', 800],
]);

/** What can become of a question that is alone on its socket. */
const FAIR_WHEN_ALONE = /** @type {const} */ ([
  ['stray bytes behind the answer', 40],
  ['answers twice', 40],
  ['farewell and FIN behind the answer', 25],
  ['hangs up at rest', 30],
]);

const WELL = 'answers well';

/** @typedef {typeof WELL | typeof FAIR_TO_ALL[number][0] | typeof FAIR_WHEN_ALONE[number][0] | typeof FAIR_WITH_A_UNIQUE_MARK[number][0] | typeof REFUSAL[number][0]} Misdeed */

const TRIED = urn(TRIALS);
const LATE = urn([['answers late', 5_000]]);

/** By the flags that matter. @type {Map<number, Urn<Misdeed>>} */
const ANSWERS = new Map();

/**
 * What can become of a question with these flags.
 *
 * @param {number} flags
 * @param {boolean} isSmall whether its answer is
 * @returns {Urn<Misdeed>}
 */
export function answersTo(flags, isSmall) {
  const { alone, crowded, refusable, tried, unique } = FLAGS;
  if ((flags & tried) !== 0) return (flags & crowded) === 0 ? TRIED : LATE;
  const key = flags & (isSmall ? alone | crowded | refusable | unique : crowded | refusable | unique);
  const known = ANSWERS.get(key);
  if (known !== undefined) return known;
  const has = (/** @type {number} */ flag) => (key & flag) !== 0;
  const made = urn([
    ...(has(crowded) ? FAIR_IN_A_CROWD : FAIR_TO_ALL),
    ...(has(alone) ? FAIR_WHEN_ALONE : []),
    ...(has(unique) ? (has(crowded) ? FAIR_WITH_A_UNIQUE_MARK : FAIR_OFTEN_WITH_A_UNIQUE_MARK) : []),
    ...(has(refusable) ? REFUSAL : []),
  ]);
  ANSWERS.set(key, made);
  return made;
}

/** What becomes of a ping, in 100. */
export const PONGS = new Urn(
  /** @type {const} */ ([
    ['pong', 74],
    ['pong late', 8],
    ['falls silent instead of a pong', 5],
    ['another frame instead of a pong', 4],
    ['stray bytes behind the pong', 5],
    ['RST instead of a pong', 4],
  ]),
);

/** How a server that greets first receives a new socket, in 100. */
export const GREETINGS = new Urn(
  /** @type {const} */ ([
    ['greets', 74],
    ['greets late', 18],
    ['never greets', 2],
    ['FIN instead of a greeting', 3],
    ['stray bytes behind the greeting', 3],
  ]),
);

/** What is said to a socket at rest in a quiet moment. */
export const FAREWELLS = new Urn(
  /** @type {const} */ ([
    ['a frame to a socket at rest', 25],
    ['a frame and FIN to a socket at rest', 30],
    ['one byte to a socket at rest', 15],
    ['FIN to a socket at rest', 15],
    ['RST to a socket at rest', 15],
  ]),
);

/** How an answer is cut into writes. */
export const CUTS = new Urn(
  /** @type {const} */ ([
    ['in one write', 86],
    ['in several writes', 11],
    ['byte by byte', 3],
  ]),
);

/**
 * Everything that must have happened in a torture, as it is counted.
 *
 * @param {import('./doors.mjs').Subject} subject
 */
export function misdeedsOf(subject) {
  const ofAll = [
    WELL,
    ...[...FAIR_TO_ALL, ...FAIR_WHEN_ALONE].map(([name]) => name),
    ...PONGS.names,
    ...GREETINGS.names,
    ...FAREWELLS.names,
    ...CUTS.names,
    'several answers in one write',
    'a late answer that nobody waits for',
    'stops listening for a while',
  ];
  if (subject === 'pool') return ofAll;
  const ofClients = [...ofAll, ...REFUSAL.map(([name]) => name), 'a hasty farewell'];
  if (subject !== 'multiplexed') return ofClients;
  return [...ofClients, ...FAIR_WITH_A_UNIQUE_MARK.map(([name]) => name), 'answers in another order'];
}

/** @param {readonly (readonly [Misdeed, number])[]} misdeeds @returns {Urn<Misdeed>} */
function urn(misdeeds) {
  const bad = misdeeds.reduce((sum, [, weight]) => sum + weight, 0);
  // First, because most draws are this one.
  return new Urn([[WELL, 10_000 - bad], ...misdeeds]);
}

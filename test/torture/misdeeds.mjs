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
 *
 * On such a socket the server counts every question that still comes: the pool should have ended it.
 *
 * What has no bytes needs no such care: a FIN or RST at any time, silence, and above all the answer that comes late.
 * A late answer is due to nobody when its asker has given up, and the pool must have ended the socket by then. It is
 * the heart of the torture: a pool that lends such a socket again delivers every later answer to the wrong caller.
 */
import { Urn } from './chance.mjs';

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

/** What can become of a question that is alone on its socket. */
const FAIR_WHEN_ALONE = /** @type {const} */ ([
  ['stray bytes behind the answer', 40],
  ['answers twice', 40],
  ['farewell and FIN behind the answer', 25],
  ['hangs up at rest', 30],
]);

const WELL = 'answers well';

/** For questions whose socket carries others, too. */
export const ANSWERS = urn(FAIR_TO_ALL);

/** For questions that are alone. */
export const ANSWERS_ALONE = urn([...FAIR_TO_ALL, ...FAIR_WHEN_ALONE]);

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

/** Everything that must have happened in a torture, as it is counted. */
export const MISDEEDS = [
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

/**
 * @template {string} Name
 * @param {readonly (readonly [Name, number])[]} misdeeds
 */
function urn(misdeeds) {
  const bad = misdeeds.reduce((sum, [, weight]) => sum + weight, 0);
  // First, because most draws are this one.
  /** @type {(readonly [Name | typeof WELL, number])[]} */
  const all = [[WELL, 10_000 - bad], ...misdeeds];
  return new Urn(all);
}

/**
 * The clients of a torture, in each mode: options as different as clients can have them, and how many callers each is
 * given. What the callers do is decided elsewhere.
 */
import { createClient } from 'pulsepool';

import { MOST_CALLERS, optionsFor } from './recipes.mjs';
import { FLAGS, TALKS } from './talk.mjs';

/** @typedef {import('./recipes.mjs').Message} Message */
/** @typedef {import('./recipes.mjs').Frame} Frame */
/** @typedef {import('pulsepool').Client<Message, Frame>} Client */
/** @typedef {import('pulsepool').ClientMode} Mode */
/** @typedef {Omit<Partial<import('pulsepool').ClientOptions<Message, Frame>>, 'mode' | 'codec'>} ClientOptions */

/**
 * @typedef {object} ClientRecipe
 * @property {string} name
 * @property {number} callers at once
 * @property {number} share of the usual number of requests: few callers ask slowly
 * @property {boolean} lends whether leases, streams and requests of the pool share its sockets
 * @property {boolean} [isBulky] whether its questions are large, so that the server takes them slowly
 * @property {boolean} [isRestless] whether its sockets carry few questions at once, and are given back again and again
 * @property {number} [maxId] where marks are used again; with `multiplexed`
 * @property {ClientOptions} options
 */

const BEATING = { intervalMs: 15, timeoutMs: 25, maxMissed: 2 };
// Much is repeated, so that much can be repeated wrongly.
const GENEROUS = { ratio: 2, minPerSecond: 500 };
const NERVOUS = { failures: 2, failureRate: 0.02, openMs: 15, maxOpenMs: 40 };
// Sockets that are shared die seldom, and each death counts once.
const HYSTERICAL = { ...NERVOUS, failureRate: 0.003 };

/** @type {readonly ClientRecipe[]} */
const EXCLUSIVE = [
  {
    name: 'crowded',
    callers: MOST_CALLERS,
    share: 1.5,
    lends: true,
    options: { max: 32, hedge: true, retryBudget: GENEROUS },
  },
  { name: 'calm', callers: 6, share: 0.6, lends: false, options: { max: 16, hedge: true, breaker: NERVOUS } },
  {
    name: 'beating',
    callers: 10,
    share: 0.5,
    lends: true,
    options: { min: 8, max: 24, heartbeat: BEATING, hedge: true },
  },
  {
    name: 'scarce',
    callers: 24,
    share: 0.7,
    lends: true,
    options: { max: 6, acquireTimeoutMs: 60, maxLifetimeMs: 120, retryBudget: GENEROUS },
  },
  {
    name: 'over three endpoints',
    callers: 40,
    share: 1,
    lends: true,
    options: { max: 16, hedge: true, retryBudget: GENEROUS, balance: 'p2c' },
  },
];

/** @type {readonly ClientRecipe[]} */
const SHARED = [
  {
    name: 'packed',
    callers: MOST_CALLERS,
    share: 1.5,
    lends: false,
    options: { max: 4, maxInFlight: 32, hedge: true, retryBudget: GENEROUS },
  },
  {
    name: 'narrow',
    callers: 60,
    share: 1,
    lends: true,
    options: { max: 10, maxInFlight: 3, maxLifetimeMs: 100, hedge: true, retryBudget: GENEROUS },
  },
  {
    name: 'beating',
    callers: 10,
    share: 0.5,
    lends: true,
    options: { min: 6, max: 12, maxInFlight: 2, heartbeat: BEATING, breaker: HYSTERICAL },
  },
  {
    name: 'bulky',
    callers: 40,
    share: 0.15,
    lends: false,
    isBulky: true,
    options: { max: 3, maxInFlight: 100, idleTimeoutMs: 5, retryBudget: GENEROUS },
  },
  {
    name: 'scarce',
    callers: 40,
    share: 1,
    lends: true,
    options: { max: 3, maxInFlight: 8, acquireTimeoutMs: 60 },
  },
  {
    name: 'over three endpoints',
    callers: 60,
    share: 1,
    lends: true,
    options: { max: 9, maxInFlight: 8, hedge: true, retryBudget: GENEROUS, balance: 'round-robin' },
  },
];

/** @type {ClientRecipe} */
const RESTLESS = {
  name: 'restless',
  callers: 8,
  share: 0.7,
  lends: false,
  isRestless: true,
  options: { max: 6, maxInFlight: 2, hedge: true },
};

/** @type {ClientRecipe} */
const SHORT_MARKS = {
  name: 'short marks',
  callers: 60,
  share: 1,
  lends: false,
  maxId: 20,
  options: { max: 5, maxInFlight: 18, hedge: true, retryBudget: GENEROUS },
};

/** The clients of a mode. @type {Readonly<Record<Mode, readonly ClientRecipe[]>>} */
export const CLIENT_RECIPES = {
  exclusive: EXCLUSIVE,
  pipelined: [...SHARED, RESTLESS],
  multiplexed: [...SHARED, RESTLESS, SHORT_MARKS],
};

// With marks, what never is answered is given up before long. Without them its socket has ended before that.
const TIMEOUT_MS = { exclusive: 2_000, pipelined: 2_000, multiplexed: 300 };
/** What the server may say with a refusal: to be asked again after so many ms. */
const WAITS = /** @type {const} */ ([0, 1, 4, 15, Number.POSITIVE_INFINITY]);

let lastClient = 0;

/**
 * Makes a client.
 *
 * @param {Mode} mode
 * @param {ClientRecipe} recipe
 * @param {import('./recipes.mjs').Door} door
 * @param {string} cert the server's certificate
 * @returns {Client}
 */
export function makeClient(mode, { maxId, options }, door, cert) {
  const talk = TALKS[door.talk];
  lastClient += 1;
  const number = lastClient;
  const pools = optionsFor(options, door, cert);
  return createClient({
    timeoutMs: TIMEOUT_MS[mode],
    ...options,
    ...pools,
    ...(typeof talk.ping === 'string' ? { codec: sayingText(pools.codec) } : {}),
    mode,
    retryAfter: (frame) => (talk.isKind(frame, 'refusal') ? WAITS[frame.length % WAITS.length] : undefined),
    ...(mode === 'multiplexed'
      ? {
          correlate: {
            write: (message, id) => talk.write(message, number, id),
            read: talk.markOf,
            ...(maxId === undefined ? {} : { maxId }),
          },
        }
      : {}),
  });
}

/**
 * The same codec with messages as text, which take another way into a common write than bytes.
 *
 * @param {import('./recipes.mjs').Options['codec']} codec
 * @returns {import('./recipes.mjs').Options['codec']}
 */
function sayingText(codec) {
  if (typeof codec === 'function') throw new Error('bug: a codec was expected');
  return { ...codec, encode: (message) => `${message}\n` };
}

/**
 * What every question in the crowd tells about itself, by the client's mode and recipe.
 *
 * @param {Mode} mode
 * @param {ClientRecipe} recipe
 */
export function flagsOf(mode, { isBulky, isRestless, lends, maxId }) {
  const { alone, bulky, crowded, refusable, unique } = FLAGS;
  const isUnique = mode === 'multiplexed' && !lends && maxId === undefined;
  return (
    refusable |
    (mode === 'exclusive' ? alone : isRestless ? 0 : crowded) |
    (isUnique ? unique : 0) |
    (isBulky ? bulky : 0)
  );
}

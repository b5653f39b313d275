/**
 * The pools of a torture: options as different as pools can have them, and how many callers each is given. What the
 * callers do is decided elsewhere.
 */
import { createPool, lengthPrefixed, lines } from 'pulsepool';
import { MAX_FRAME_BYTES, TALKS } from './talk.mjs';

/** @typedef {import('./talk.mjs').Message} Message */
/** @typedef {import('./talk.mjs').Frame} Frame */
/** @typedef {import('pulsepool').Pool<Message, Frame>} Pool */
/** @typedef {import('pulsepool').Lease<Message, Frame>} Lease */
/** @typedef {import('pulsepool').PoolOptions<Message, Frame>} Options */

/**
 * @typedef {object} Recipe
 * @property {string} name
 * @property {number} callers at once
 * @property {number} share of the usual number of requests: few callers ask slowly
 * @property {Partial<Options>} options
 */

/** @typedef {import('./doors.mjs').DoorPlan & { readonly port: number }} Door */

/** Callers of the recipe that has most of them. */
export const MOST_CALLERS = 100;

/** @type {readonly Recipe[]} */
export const RECIPES = [
  { name: 'crowded', callers: MOST_CALLERS, share: 2, options: { max: 32 } },
  { name: 'calm', callers: 6, share: 0.2, options: { max: 16 } },
  {
    name: 'beating',
    callers: 8,
    share: 0.4,
    options: { min: 10, max: 24, heartbeat: { intervalMs: 15, timeoutMs: 25, maxMissed: 2 } },
  },
  { name: 'short-lived', callers: MOST_CALLERS, share: 1.5, options: { max: 24, maxLifetimeMs: 80 } },
  { name: 'scarce', callers: MOST_CALLERS, share: 0.6, options: { max: 8, acquireTimeoutMs: 60 } },
  { name: 'soon idle', callers: 16, share: 0.4, options: { min: 1, max: 32, idleTimeoutMs: 5 } },
  { name: 'without a shelf', callers: 60, share: 1, options: { max: 24, maxIdle: 0 } },
  { name: 'over three endpoints', callers: 60, share: 1.5, options: { max: 24, balance: 'p2c' } },
  { name: 'with a narrow shelf', callers: 60, share: 1.5, options: { min: 2, max: 32, maxIdle: 2 } },
];

// Shorter than the server's latest answers, so that many of those come when nobody waits any more.
const LIMITS = {
  connectTimeoutMs: 250,
  acquireTimeoutMs: 1_000,
  readTimeoutMs: 45,
  frameTimeoutMs: 25,
  writeTimeoutMs: 500,
  retry: { retries: 3, baseMs: 2, capMs: 20 },
};

/**
 * Makes a pool.
 *
 * @param {Recipe} recipe
 * @param {Door} door
 * @param {string} cert the server's certificate
 * @returns {Pool}
 */
export function makePool({ options }, door, cert) {
  return createPool(optionsFor(options, door, cert));
}

/**
 * All options of a pool.
 *
 * @param {Partial<Options>} options those of its recipe
 * @param {Door} door
 * @param {string} cert
 * @returns {Options}
 */
export function optionsFor(options, door, cert) {
  const talk = TALKS[door.talk];
  const codec =
    typeof talk.ping === 'string'
      ? lines({ maxFrameBytes: MAX_FRAME_BYTES })
      : lengthPrefixed({ maxFrameBytes: MAX_FRAME_BYTES });
  return {
    ...LIMITS,
    ...options,
    ...placeOf(options, door),
    codec: /** @type {import('pulsepool').Codec<Message, Frame>} */ (codec),
    ...(options.heartbeat === undefined
      ? {}
      : {
          heartbeat: {
            ...options.heartbeat,
            ping: talk.ping,
            isPong: (/** @type {Frame} */ frame) => talk.isWord(frame, 'pong'),
          },
        }),
    ...(door.tls ? { tls: { ca: cert, servername: 'localhost' } } : {}),
    ...(door.greets
      ? {
          onConnect: async (/** @type {Lease} */ lease) => {
            const greeting = await lease.receive();
            if (!talk.isWord(greeting, 'greeting'))
              throw new Error(`greeted with ${talk.describe(greeting)}`);
          },
        }
      : {}),
  };
}

/**
 * One endpoint, or three where one is to be chosen. They are the same door, which misbehaves at all of them.
 *
 * @param {Partial<Options>} options
 * @param {Door} door
 * @returns {Pick<Options, 'host' | 'port' | 'endpoints'>}
 */
function placeOf({ balance }, { port }) {
  const address = '127.0.0.1';
  if (balance === undefined) return { host: address, port };
  return { endpoints: ['a', 'b', 'c'].map((host) => ({ host, port, address })) };
}

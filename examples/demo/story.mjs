/**
 * What happens when. A scene is data: how long, what the audience reads, and what is done at its beginning.
 */

/**
 * @import { EchoServer } from './echo-server.mjs'
 * @import { Load } from './load.mjs'
 * @import { DemoOptions } from './options.mjs'
 *
 * @typedef {object} Scene
 * @property {string} name One word, as the time line shows it.
 * @property {number} share Its part of the whole time.
 * @property {string} says What happens now, in plain words; at most 78 characters.
 * @property {() => void | Promise<void>} begin
 */

export const HEARTBEAT = { intervalMs: 300, timeoutMs: 200, maxMissed: 2 };

const THINK_MS = 10;

/**
 * The rise and fall of the demo's own server.
 *
 * @param {DemoOptions} options
 * @param {{
 *   server: EchoServer,
 *   load: Load,
 *   onKilled: () => void,
 *   onRevived: () => void,
 * }} parts
 * @returns {Scene[]}
 */
export function ownStory({ callers, max }, { server, load, onKilled, onRevived }) {
  return [
    {
      name: 'steady',
      share: 3,
      says: `${callers} callers share at most ${max} sockets. Who finds none free waits in line.`,
      begin: () => load.set(callers, THINK_MS),
    },
    {
      name: 'quiet',
      share: 4,
      says: 'Only 2 callers. Resting sockets are pinged, and closed when nobody needs them.',
      begin: () => load.set(2, 50 * THINK_MS),
    },
    {
      name: 'mute',
      share: 3.5,
      says: `The server accepts but never answers. ${HEARTBEAT.maxMissed} missed pings, and a socket is dead.`,
      begin: () => server.mute(),
    },
    {
      name: 'busy',
      share: 1.7,
      says: `The server answers again, and all ${callers} callers are back.`,
      begin: () => {
        server.unmute();
        load.set(callers, THINK_MS);
      },
    },
    {
      name: 'killed',
      share: 3.3,
      says: 'The server died in mid-work. Callers are told why at once; dials back off.',
      begin: async () => {
        onKilled();
        await server.kill();
      },
    },
    {
      name: 'revived',
      share: 2.2,
      says: 'The server is back on the same port. The pool notices by itself.',
      begin: async () => {
        await server.start();
        onRevived();
      },
    },
    {
      name: 'steady',
      share: 2.3,
      says: `Everything is as it was: ${callers} callers, at most ${max} sockets.`,
      begin: () => undefined,
    },
  ];
}

/**
 * Load, and nothing else: this server belongs to somebody.
 *
 * @param {DemoOptions} options
 * @param {Load} load
 * @returns {Scene[]}
 */
export function guestStory({ callers }, load) {
  return [
    {
      name: 'load',
      share: 1,
      says: `${callers} callers send "pulsepool pp-<caller>-<number>" and wait for the reply.`,
      begin: () => load.set(callers, THINK_MS),
    },
  ];
}

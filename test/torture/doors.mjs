/**
 * The doors of the torture's server, as both sides know them: which wire format is spoken behind which, and whether
 * the server greets first. Each lane of the client has doors of its own, so that a quiet moment of one lane is quiet
 * on the whole door.
 */

/** @typedef {'pool' | import('pulsepool').ClientMode} Subject what is tortured: the leases of pools, or clients */

/**
 * @typedef {object} DoorPlan
 * @property {string} name
 * @property {number} lane
 * @property {keyof typeof import('./talk.mjs').TALKS} talk
 * @property {boolean} tls
 * @property {boolean} greets
 */

export const LANES = 2;

/** @type {readonly [Subject, ...Subject[]]} */
export const SUBJECTS = ['pool', 'exclusive', 'pipelined', 'multiplexed'];

/** @type {readonly Omit<DoorPlan, 'lane'>[]} */
const UNMARKED = [
  { name: 'framed', talk: 'framed', tls: false, greets: false },
  { name: 'lines', talk: 'lines', tls: false, greets: false },
  { name: 'framed, greeted', talk: 'framed', tls: false, greets: true },
  { name: 'lines over TLS', talk: 'lines', tls: true, greets: false },
];

/** @type {readonly Omit<DoorPlan, 'lane'>[]} */
const MARKED = [
  { name: 'framed, marked', talk: 'framed, marked', tls: false, greets: false },
  { name: 'lines, marked', talk: 'lines, marked', tls: false, greets: false },
  { name: 'framed, marked, greeted', talk: 'framed, marked', tls: false, greets: true },
  { name: 'lines, marked, over TLS', talk: 'lines, marked', tls: true, greets: false },
];

/**
 * @param {Subject} subject
 * @returns {readonly DoorPlan[]}
 */
export function doorsOf(subject) {
  const kinds = subject === 'multiplexed' ? MARKED : UNMARKED;
  return Array.from({ length: LANES }, (_, lane) => kinds.map((kind) => ({ ...kind, lane }))).flat();
}

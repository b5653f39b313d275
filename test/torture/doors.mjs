/**
 * The doors of the torture's server, as both sides know them: which wire format is spoken behind which, and whether
 * the server greets first. Each lane of the client has doors of its own, so that a quiet moment of one lane is quiet
 * on the whole door.
 */

/**
 * @typedef {object} DoorPlan
 * @property {string} name
 * @property {number} lane
 * @property {keyof typeof import('./talk.mjs').TALKS} talk
 * @property {boolean} tls
 * @property {boolean} greets
 */

export const LANES = 2;

/** @type {readonly Omit<DoorPlan, 'lane'>[]} */
const KINDS = [
  { name: 'framed', talk: 'framed', tls: false, greets: false },
  { name: 'lines', talk: 'lines', tls: false, greets: false },
  { name: 'framed, greeted', talk: 'framed', tls: false, greets: true },
  { name: 'lines over TLS', talk: 'lines', tls: true, greets: false },
];

/** @type {readonly DoorPlan[]} */
export const DOORS = Array.from({ length: LANES }, (_, lane) =>
  KINDS.map((kind) => ({ ...kind, lane })),
).flat();

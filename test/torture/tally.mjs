/**
 * The tally of a torture: what was asked and what became of it, and every fault. What counts as a fault is decided by
 * those who see it; what the sums must come to is decided in verdict.mjs.
 */
import { PulsepoolError } from 'pulsepool';

/**
 * One thing that must not have happened.
 *
 * @typedef {object} Fault
 * @property {string} what
 * @property {number} times
 * @property {string[]} details of the first few
 */

// What never may come to a caller who does nothing wrong, against a server that is there.
const NEVER = new Set(['ERR_INVALID_OPTION', 'ERR_LEASE', 'ERR_DNS', 'ERR_TLS_TRUST']);

const DETAILS = 5;

/** See the file's comment. */
export class Tally {
  /** Questions that were asked. Each is answered, mismatched, refused by the server, failed, aborted, abandoned or only told. */
  asked = 0;
  answered = 0;
  mismatched = 0;
  /** Answered with the server's refusal, which came to its own asker. */
  refusals = 0;
  aborted = 0;
  /** Sent, with nobody left to hear the answer. */
  abandoned = 0;
  /** Sent, and no answer was expected. */
  told = 0;
  /** By error code. @type {Record<string, number>} */
  refused = {};
  /** Calls of acquire() and use() that led to no lease: by error code. @type {Record<string, number>} */
  acquiresRefused = {};
  acquiresAborted = 0;
  leases = 0;
  /** What the callers did, by name. @type {Record<string, number>} */
  acts = {};
  pools = 0;
  /** What clients did by themselves, by name. @type {Record<string, number>} */
  clients = {};
  opened = 0;
  /** Attempts to dial that failed, by error code. @type {Record<string, number>} */
  dialsFailed = {};
  pinged = 0;
  pingMissed = 0;
  /** Why sockets ended. @type {Record<string, number>} */
  closedBy = {};
  /** Questions that must not have reached the server: by their ids, why not. @type {Map<number, string>} */
  neverSent = new Map();
  /** @type {Map<string, Fault>} */
  #faults = new Map();
  #lastId = 0;

  get faults() {
    return [...this.#faults.values()];
  }

  /** An id that no other question has. */
  nextId() {
    this.#lastId += 1;
    return this.#lastId;
  }

  /** A caller did something. */
  did(/** @type {string} */ act) {
    this.acts[act] = (this.acts[act] ?? 0) + 1;
  }

  /** Something happened that must not happen. */
  fault(/** @type {string} */ what, /** @type {string} */ detail) {
    const fault = this.#faults.get(what) ?? { what, times: 0, details: [] };
    this.#faults.set(what, fault);
    fault.times += 1;
    if (fault.details.length < DETAILS) fault.details.push(detail);
  }

  /**
   * A question was not answered.
   *
   * @param {number} id
   * @param {unknown} error
   * @param {boolean} tellsOfIt whether `error.sent` speaks of this very question
   * @param {string} [where]
   */
  countRefusal(id, error, tellsOfIt, where = '') {
    const code = this.#codeOf(error, `question ${id}`);
    this.refused[code] = (this.refused[code] ?? 0) + 1;
    if (tellsOfIt && error instanceof PulsepoolError && error.sent === 'none') {
      this.neverSent.set(id, `${where}: ${storyOf(error)}`);
    }
  }

  /** A client has closed. */
  countClient(/** @type {import('pulsepool').ClientStats} */ { hedged, hedgesWon, retried, retriesRefused }) {
    for (const [event, times] of Object.entries({ ...retried, hedged, hedgesWon, retriesRefused })) {
      this.clients[event] = (this.clients[event] ?? 0) + times;
    }
  }

  /** A caller got no lease. */
  countNoLease(/** @type {unknown} */ error) {
    const code = this.#codeOf(error, 'acquire()');
    this.acquiresRefused[code] = (this.acquiresRefused[code] ?? 0) + 1;
  }

  /** An attempt to dial failed. */
  countDialFailure(/** @type {unknown} */ error) {
    const code = this.#codeOf(error, 'a dial');
    this.dialsFailed[code] = (this.dialsFailed[code] ?? 0) + 1;
  }

  /** A pool has closed. */
  countPool(/** @type {import('pulsepool').PoolStats} */ stats) {
    this.pools += 1;
    this.opened += stats.opened;
    this.pinged += stats.pinged;
    this.pingMissed += stats.pingMissed;
    for (const [reason, times] of Object.entries(stats.closedBy)) {
      this.closedBy[reason] = (this.closedBy[reason] ?? 0) + times;
    }
  }

  #codeOf(/** @type {unknown} */ error, /** @type {string} */ where) {
    if (!(error instanceof PulsepoolError)) {
      this.fault('an error that is not of the pool', `${where}: ${storyOf(error)}`);
      return 'foreign';
    }
    if (NEVER.has(error.code)) this.fault('an error that cannot be', `${where}: ${storyOf(error)}`);
    return error.code;
  }
}

/** An error in full, its causes included. */
export function storyOf(/** @type {unknown} */ error) {
  if (!(error instanceof Error)) return String(error);
  const code = error instanceof PulsepoolError ? `${error.code} (sent: ${error.sent}) ` : '';
  /** @type {string} */
  const cause = error.cause === undefined ? '' : ` ← ${storyOf(error.cause)}`;
  return `${code}${error.name}: ${error.message}${cause}`;
}

/**
 * What is known of every socket, and what has happened lately: all of it from the pool's events.
 */
import { codeOf } from './meter.mjs';

/**
 * @import { CloseReason, Pool } from 'pulsepool'
 *
 * @typedef {object} Row
 * @property {number} id
 * @property {number} openedAt
 * @property {boolean} isHeld
 * @property {number} uses
 * @property {number | undefined} heldMs How long the last lease was held.
 * @property {number[]} rtts Of its pings, newest last.
 * @property {number} pingedAt
 * @property {number} missed
 * @property {number} maxMissed
 * @property {{ at: number, reason: CloseReason } | undefined} closed
 *
 * @typedef {'good' | 'bad' | 'plain'} Mood
 *
 * @typedef {object} Entry
 * @property {number} at
 * @property {string} key What may be counted together.
 * @property {number} count
 * @property {string} text
 * @property {Mood} mood
 *
 * @typedef {{ at: number, backoffMs: number, failures: number, isEarly: boolean }} FailedDial
 */

const MAX_ENTRIES = 60;
const MAX_RTTS = 12;
// The same kind of thing within this time is one entry with a number.
const TOGETHER_MS = 1_500;
// A closed socket stays in sight for so long, unless its place is needed.
const LINGER_MS = 1_500;
// Timers fire up to a millisecond early, and clocks are read at different moments.
const EARLY_MS = 5;

export class Watch {
  /** Places on the screen: a socket keeps its own for life. @type {(Row | undefined)[]} */
  places;
  /** @type {Entry[]} */
  entries = [];
  /** @type {FailedDial[]} */
  failedDials = [];
  dials = 0;
  /** @type {Map<number, Row>} */
  #open = new Map();
  #nextDialAt = 0;
  #lastFailures = 0;

  /**
   * @param {Pick<Pool<string, string>, 'on'>} pool
   * @param {number} max
   */
  constructor(pool, max) {
    this.places = Array.from({ length: max }, () => undefined);
    pool.on('opened', ({ connectionId, dialMs }) => {
      this.dials += 1;
      this.#row(connectionId);
      this.#note('opened', 'good', (n) => `${many(n, 'socket')} opened, the last in ${ms(dialMs)}`);
    });
    pool.on('dialFailed', ({ error, failures, backoffMs }) => {
      const at = performance.now();
      this.dials += 1;
      // Dials that ran side by side count as one failure.
      const isEarly = at + EARLY_MS < this.#nextDialAt && failures !== this.#lastFailures;
      this.failedDials.push({ at, backoffMs, failures, isEarly });
      this.#nextDialAt = at + backoffMs;
      this.#lastFailures = failures;
      this.#note(
        `dialFailed ${error.code}`,
        'bad',
        () => `dial failed, ${failures} in a row: ${error.code}; the next in ${ms(backoffMs)}`,
      );
    });
    pool.on('acquired', ({ connectionId }) => {
      const row = this.#row(connectionId);
      row.isHeld = true;
      row.uses += 1;
    });
    pool.on('acquireFailed', ({ error }) => {
      const cause = codeOf(error.cause);
      const why = cause === undefined ? '' : `, because ${cause}`;
      this.#note(error.code, 'bad', (n) => `${many(n, 'waiting caller')} told ${error.code}${why}`);
    });
    pool.on('released', ({ connectionId, heldMs }) => {
      const row = this.#open.get(connectionId);
      if (row === undefined) return;
      row.isHeld = false;
      row.heldMs = heldMs;
    });
    pool.on('pinged', ({ connectionId, rttMs }) => {
      const row = this.#row(connectionId);
      row.pingedAt = performance.now();
      row.missed = 0;
      row.rtts.push(rttMs);
      if (row.rtts.length > MAX_RTTS) row.rtts.shift();
      this.#note('pinged', 'plain', (n) => `${many(n, 'ping')} answered, the last in ${ms(rttMs)}`);
    });
    pool.on('pingMissed', ({ connectionId, missed, maxMissed }) => {
      Object.assign(this.#row(connectionId), { missed, maxMissed });
      this.#note(
        `missed ${missed}`,
        'bad',
        (n) => `${many(n, 'socket')} missed ping ${missed} of ${maxMissed}`,
      );
    });
    pool.on('stalled', ({ lateMs }) => {
      this.#note('stalled', 'plain', () => `our own loop was blocked for ${ms(lateMs)}: no verdict`);
    });
    pool.on('closed', ({ connectionId, reason, uses, error }) => {
      const row = this.#row(connectionId);
      row.closed = { at: performance.now(), reason };
      row.isHeld = false;
      row.uses = uses;
      this.#open.delete(connectionId);
      const code = error === undefined ? '' : `, ${error.code}`;
      const mood = error === undefined ? 'plain' : 'bad';
      this.#note(`closed ${reason}`, mood, (n) => `${many(n, 'socket')} closed: ${reason}${code}`);
    });
  }

  /** Puts an event of the demo itself among those of the pool. @param {string} text */
  say(text) {
    this.#note(text, 'plain', () => text);
  }

  /** Takes closed sockets away that have been seen long enough. */
  tidy() {
    const now = performance.now();
    for (const [place, row] of this.places.entries()) {
      if (row?.closed !== undefined && now - row.closed.at > LINGER_MS) this.places[place] = undefined;
    }
  }

  /** @param {number} id */
  #row(id) {
    const known = this.#open.get(id);
    if (known !== undefined) return known;
    /** @type {Row} */
    const row = {
      id,
      openedAt: performance.now(),
      isHeld: false,
      uses: 0,
      heldMs: undefined,
      rtts: [],
      pingedAt: Number.NEGATIVE_INFINITY,
      missed: 0,
      maxMissed: 0,
      closed: undefined,
    };
    this.#open.set(id, row);
    this.places[this.#place()] = row;
    return row;
  }

  /** A free place; else the one that was closed longest ago; else a new one. */
  #place() {
    const free = this.places.indexOf(undefined);
    if (free !== -1) return free;
    let oldest = -1;
    for (const [place, row] of this.places.entries()) {
      if (row?.closed === undefined) continue;
      if (oldest === -1 || row.closed.at < (this.places[oldest]?.closed?.at ?? 0)) oldest = place;
    }
    return oldest === -1 ? this.places.length : oldest;
  }

  /**
   * @param {string} key
   * @param {Mood} mood
   * @param {(count: number) => string} text
   */
  #note(key, mood, text) {
    const at = performance.now();
    const same = this.entries.findIndex((entry) => entry.key === key && at - entry.at < TOGETHER_MS);
    const count = same === -1 ? 1 : (this.entries[same]?.count ?? 0) + 1;
    // It keeps its place: lines that jump about can't be read.
    const entry = {
      at: same === -1 ? at : (this.entries[same]?.at ?? at),
      key,
      mood,
      count,
      text: text(count),
    };
    if (same === -1) this.entries.push(entry);
    else this.entries[same] = entry;
    if (this.entries.length > MAX_ENTRIES) this.entries.shift();
  }
}

/** @param {number} value in ms */
export function ms(value) {
  if (value < 10) return `${value.toFixed(1)} ms`;
  return value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

/**
 * @param {number} count
 * @param {string} noun
 */
export function many(count, noun) {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
}

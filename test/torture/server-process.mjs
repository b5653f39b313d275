/**
 * The server's process as the client's side sees it: started, given orders, stopped. What it does is in server.mjs.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** @typedef {import('./server.mjs').Answer} Answer */
/** @typedef {import('./server.mjs').Order} Order */
/** @typedef {import('./server.mjs').Report} Report */

/** A running server. It ends with this process. */
export class ServerProcess {
  #child;
  #lastSerial = 0;
  /** @type {Map<number, { resolve: (answer: Answer) => void, reject: (error: Error) => void }>} */
  #open = new Map();
  #isStopped = false;
  /** Whether it ended before it was told to. */
  hasDied = false;

  /** @param {number} seed @param {import('./doors.mjs').Subject} subject */
  constructor(seed, subject) {
    // Without the flags of this process, which may be a test runner's. `advanced`: byte arrays travel as they are.
    this.#child = fork(fileURLToPath(new URL('server.mjs', import.meta.url)), [String(seed), subject], {
      execArgv: [],
      serialization: 'advanced',
    });
    this.#child.on('message', (message) => {
      const answer = /** @type {Answer} */ (message);
      this.#open.get(answer.serial)?.resolve(answer);
      this.#open.delete(answer.serial);
    });
    this.#child.on('exit', (code, signal) => {
      this.hasDied = !this.#isStopped;
      const error = new Error(`The torture's server ended with ${signal ?? code}`);
      for (const { reject } of this.#open.values()) reject(error);
      this.#open.clear();
    });
  }

  /** Resolves when every door is open. */
  async hello() {
    const { hello } = await this.#order({ order: 'hello' });
    if (hello === undefined) throw new Error('bug: no hello');
    return hello;
  }

  /** Says something to each socket of a door. Resolves to their number when it has been said. */
  async bidFarewell(/** @type {number} */ door) {
    const { sockets = 0 } = await this.#order({ order: 'farewell', door });
    return sockets;
  }

  /**
   * The same for sockets that have served. The order has left when this returns; a file at `signAt` says that it was done,
   * so that one may wait for it without a turn of the event loop.
   *
   * @param {number} door
   * @param {string} signAt
   */
  async bidHastyFarewell(door, signAt) {
    await this.#order({ order: 'farewell', door, signAt });
  }

  /** What it has done and seen, when its sockets have closed, or have had the time to. */
  async report() {
    const { report } = await this.#order({ order: 'report' });
    if (report === undefined) throw new Error('bug: no report');
    return report;
  }

  stop() {
    this.#isStopped = true;
    if (this.#child.connected) this.#child.disconnect();
  }

  /**
   * @param {Order} order
   * @returns {Promise<Answer>}
   */
  #order(order) {
    return new Promise((resolve, reject) => {
      this.#lastSerial += 1;
      const serial = this.#lastSerial;
      this.#open.set(serial, { resolve, reject });
      this.#child.send({ serial, ...order }, (error) => {
        if (error !== null) reject(error);
      });
    });
  }
}

/**
 * Callers: each asks, waits for the reply, compares it with the question, thinks, and asks again.
 */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * @import { Meter } from './meter.mjs'
 *
 * @typedef {(question: string) => Promise<string>} Ask
 * @typedef {'matched' | 'mismatched' | 'unrelated'} Verdict
 * @typedef {(reply: string, question: string) => Verdict} Compare
 */

// A caller that has failed comes back, as a user would, but not at once.
const SULK_MS = 400;

export class Load {
  #ask;
  #compare;
  #meter;
  #stop = new AbortController();
  #active = 0;
  #thinkMs = 0;
  /** @type {Map<number, Promise<void>>} */
  #callers = new Map();
  #asked = 0;

  /**
   * @param {Ask} ask
   * @param {Compare} compare
   * @param {Meter} meter
   */
  constructor(ask, compare, meter) {
    this.#ask = ask;
    this.#compare = compare;
    this.#meter = meter;
    // One for each caller that thinks.
    setMaxListeners(0, this.#stop.signal);
  }

  /**
   * From now on so many callers ask, and think for about so long between two questions.
   *
   * @param {number} callers
   * @param {number} thinkMs
   */
  set(callers, thinkMs) {
    this.#active = callers;
    this.#thinkMs = thinkMs;
    for (let number = 1; number <= callers; number += 1) {
      // One that was sent away may not have left yet: then it simply stays.
      if (!this.#callers.has(number)) this.#callers.set(number, this.#call(number));
    }
  }

  /** Lets every caller finish what it has asked. */
  async stop() {
    this.#active = 0;
    this.#stop.abort();
    await Promise.all(this.#callers.values());
  }

  /** @param {number} number */
  async #call(number) {
    while (number <= this.#active) {
      const failed = await this.#once(number);
      const pauseMs = (failed ? SULK_MS : this.#thinkMs) * (0.5 + Math.random());
      // Cut short when the load stops.
      await sleep(pauseMs, undefined, { signal: this.#stop.signal }).catch(() => undefined);
    }
    this.#callers.delete(number);
  }

  /** @param {number} number */
  async #once(number) {
    this.#asked += 1;
    const question = `pulsepool pp-${number}-${this.#asked}`;
    const askedAt = performance.now();
    try {
      const reply = await this.#ask(question);
      this.#meter.reply(performance.now() - askedAt);
      const verdict = this.#compare(reply, question);
      if (verdict === 'matched') return false;
      this.#meter[verdict] += 1;
      if (verdict === 'mismatched') this.#meter.firstMismatch ??= `asked '${question}', got '${reply}'`;
      return false;
    } catch (error) {
      this.#meter.error(/** @type {Error} */ (error));
      return true;
    }
  }
}

/**
 * For the server of the demo, which is known to the last byte.
 *
 * @type {Compare}
 */
export function compareWithEcho(reply, question) {
  return reply === `Echo: ${question}` ? 'matched' : 'mismatched';
}

/**
 * For a server that nobody knows: a reply that holds a question must hold the one that was asked.
 *
 * @type {Compare}
 */
export function compareMarks(reply, question) {
  const marks = reply.match(/pp-\d+-\d+/g);
  if (marks === null) return 'unrelated';
  return marks.every((mark) => question.endsWith(` ${mark}`)) ? 'matched' : 'mismatched';
}

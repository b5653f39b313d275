/**
 * The timers that are made while a torture runs, by the global functions: what is tortured has no others, and the torture
 * itself uses those of node:timers. When all is closed none of them may be left, not even one that holds no process.
 */
import { setTimeout as sleep } from 'node:timers/promises';

// What fires by itself within this time is no leftover.
const GRACE_MS = 30;

/** See the file's comment. One at a time. */
export class TimerWatch {
  /** Those that have neither fired nor been cleared, and their ms. @type {Map<unknown, number>} */
  #armed = new Map();
  #originals = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
    setInterval: globalThis.setInterval,
    clearInterval: globalThis.clearInterval,
  };

  constructor() {
    const { clearInterval, clearTimeout, setInterval, setTimeout } = this.#originals;
    const armed = this.#armed;
    const timeout = (
      /** @type {(...args: unknown[]) => void} */ fn,
      /** @type {number} */ ms = 0,
      /** @type {unknown[]} */ ...args
    ) => {
      const timer = setTimeout(() => {
        armed.delete(timer);
        fn(...args);
      }, ms);
      armed.set(timer, ms);
      return timer;
    };
    const interval = (
      /** @type {(...args: unknown[]) => void} */ fn,
      /** @type {number} */ ms = 0,
      /** @type {unknown[]} */ ...args
    ) => {
      const timer = setInterval(fn, ms, ...args);
      armed.set(timer, ms);
      return timer;
    };
    const clear = (/** @type {(timer: NodeJS.Timeout | undefined) => void} */ original) => {
      return (/** @type {NodeJS.Timeout | undefined} */ timer) => {
        armed.delete(timer);
        original(timer);
      };
    };
    Object.assign(globalThis, {
      setTimeout: timeout,
      setInterval: interval,
      clearTimeout: clear(clearTimeout),
      clearInterval: clear(clearInterval),
    });
  }

  /** Looks no more. */
  stop() {
    Object.assign(globalThis, this.#originals);
  }

  /** The ms of those that are left. */
  async end() {
    this.stop();
    const until = performance.now() + GRACE_MS;
    while (this.#armed.size > 0 && performance.now() < until) await sleep(20);
    return [...this.#armed.values()];
  }
}

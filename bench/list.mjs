// Every benchmark: how to run it, and what its process needs. Nothing is loaded before it is run.

/**
 * @typedef {object} Benchmark
 * @property {(options: { write: boolean }) => Promise<import('./measure.mjs').Row[]>} run may write pictures into docs/
 * @property {string[]} flags
 */

/** @type {Record<string, Benchmark>} */
export const benchmarks = {
  acquire: { run: async () => (await import('./acquire.mjs')).acquire(), flags: [] },
  request: { run: async () => (await import('./request.mjs')).request(), flags: [] },
  redis: { run: async () => (await import('./redis.mjs')).redis(), flags: [] },
  framing: { run: async () => (await import('./framing.mjs')).framing(), flags: [] },
  spike: { run: async (options) => (await import('./spike.mjs')).spike(options), flags: [] },
  overload: { run: async () => (await import('./overload.mjs')).overload(), flags: [] },
  idle: { run: async () => (await import('./idle.mjs')).idle(), flags: [] },
};

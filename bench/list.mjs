// Every benchmark: how to run it, and what its process needs. Nothing is loaded before it is run.

/** @typedef {{ run: () => Promise<import('./measure.mjs').Row[]>, flags: string[] }} Benchmark */

/** @type {Record<string, Benchmark>} */
export const benchmarks = {
  acquire: { run: async () => (await import('./acquire.mjs')).acquire(), flags: [] },
  request: { run: async () => (await import('./request.mjs')).request(), flags: [] },
  framing: { run: async () => (await import('./framing.mjs')).framing(), flags: [] },
  idle: { run: async () => (await import('./idle.mjs')).idle(), flags: [] },
};

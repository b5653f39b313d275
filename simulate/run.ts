/** One scenario, in a thread of its own: given by name and seed, answered with its section. */
import { parentPort, workerData } from 'node:worker_threads';
import { scenarios } from './list.ts';

const { name, seed } = workerData as { readonly name: string; readonly seed: number };
const scenario = scenarios[name];
if (scenario === undefined || parentPort === null) throw new Error(`there is no scenario '${name}'`);
parentPort.postMessage(scenario(seed));

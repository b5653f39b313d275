/**
 * `npm run simulate`: compiles the simulation and runs it. It is TypeScript that imports src/ itself, for it looks at
 * parts that are not exported.
 *
 *     npm run simulate -- --only restart   that one (spread, slow, restart, dials, overload, ejection or hashing)
 *     npm run simulate -- --seed 2         another course of chance
 *     npm run simulate -- --write          writes docs/simulation.md and its pictures; by default no file is written
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ensureInstalled, root, run, tool } from './install.mjs';

const compiled = join(root, '.cache', 'simulate');

await ensureInstalled();
await rm(compiled, { recursive: true, force: true });
const { status } = await run(tool('tsc'), ['-p', join('simulate', 'tsconfig.json')]);
if (status !== 0) process.exit(status);
const simulated = await run(process.execPath, [
  join(compiled, 'simulate', 'main.js'),
  ...process.argv.slice(2),
]);
process.exit(simulated.status);

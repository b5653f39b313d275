/**
 * Runs the scenarios, as many at a time as there are cores, and prints their tables. What `npm run simulate` starts; its
 * options are told in scripts/simulate.mjs.
 */
import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { scenarios } from './list.ts';
import { pageOf } from './page.ts';
import { plainOf, type Section } from './section.ts';

// Most of what is made is forgotten at once.
const YOUNG_MB = 192;

const { docs, only, seed, write } = parseArgs({
  options: {
    docs: { type: 'string', default: 'docs' },
    only: { type: 'string' },
    seed: { type: 'string', default: '1' },
    write: { type: 'boolean', default: false },
  },
}).values;

const names = Object.keys(scenarios).filter((name) => only === undefined || name === only);
if (names.length === 0) {
  process.stderr.write(`There is no scenario '${only}'; there are ${Object.keys(scenarios).join(', ')}.\n`);
  process.exit(2);
}
if (write && only !== undefined) {
  process.stderr.write('The page is written of all scenarios or not at all.\n');
  process.exit(2);
}

const sections: Section[] = [];
const waiting = [...names.entries()];
await Promise.all(
  Array.from({ length: availableParallelism() }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [place, name] = next;
      process.stderr.write(`running ${name}\n`);
      sections[place] = await sectionOf(name);
    }
  }),
);
console.log(sections.map(plainOf).join('\n\n\n'));
if (write) {
  await writeFile(join(docs, 'simulation.md'), pageOf(sections));
  for (const { file, svg } of sections.flatMap(({ pictures }) => pictures))
    await writeFile(join(docs, file), svg);
}

function sectionOf(name: string): Promise<Section> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./run.js', import.meta.url), {
      workerData: { name, seed: Number(seed) },
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB, maxOldGenerationSizeMb: 4_096 },
    });
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`scenario '${name}' ended with ${code} and no section`)));
  });
}

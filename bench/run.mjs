// Runs one benchmark in this process: `node bench/run.mjs acquire`. Its rows go to the parent, or are printed. With
// `--write`, one that draws writes its picture into docs/.
import { benchmarks } from './list.mjs';
import { formatRow } from './measure.mjs';

const name = process.argv[2] ?? '';
const benchmark = benchmarks[name];
if (benchmark === undefined) {
  throw new Error(`no benchmark '${name}'; there are ${Object.keys(benchmarks).join(', ')}`);
}
const rows = await benchmark.run({ write: process.argv.includes('--write') });
if (process.send === undefined) {
  for (const row of rows) console.log(formatRow(row));
} else {
  const send = process.send.bind(process);
  await new Promise((resolve) => send(rows, undefined, undefined, resolve));
}
// Some pools keep timers that would hold the process.
process.exit();

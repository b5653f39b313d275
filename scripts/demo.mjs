/**
 * `npm run demo`, on a fresh clone, too: installs and builds what is missing, then plays examples/demo.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { HELP, readOptions, UsageError } from '../examples/demo/options.mjs';
import { ensureInstalled, root, run } from './install.mjs';

const options = read();
if (options === 'help') process.stdout.write(HELP);
else if (options !== undefined) await play(options);

function read() {
  try {
    return readOptions(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${error.message}\nnpm run demo -- --help tells what there is.\n`);
    process.exitCode = 2;
    return undefined;
  }
}

/** @param {import('../examples/demo/options.mjs').DemoOptions} options */
async function play(options) {
  await ensureInstalled();
  if (!(await isBuilt())) {
    process.stderr.write('building dist/\n');
    const { status } = await run(process.execPath, [join(root, 'scripts', 'build.mjs')]);
    if (status !== 0) {
      process.exitCode = 1;
      return;
    }
  }
  // Not earlier: it imports 'pulsepool', which is dist/.
  const { runDemo } = await import('../examples/demo/main.mjs');
  const stop = new AbortController();
  let interrupted = 0;
  for (const [signal, status] of /** @type {const} */ ([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ])) {
    process.on(signal, () => {
      // Who asks twice does not want to wait for anything.
      if (interrupted !== 0) process.exit(status);
      interrupted = status;
      stop.abort();
    });
  }
  // The reader of a pipe may leave before the end: `npm run demo | head`.
  process.stdout.on('error', () => stop.abort());
  const status = await runDemo(options, stop.signal);
  process.exitCode = interrupted || status;
}

/** Whether dist/ is there and no source is newer. `PULSEPOOL_BUILD=done`: whoever calls has seen to that. */
async function isBuilt() {
  if (process.env['PULSEPOOL_BUILD'] === 'done') return true;
  try {
    const { mtimeMs } = await stat(join(root, 'dist', 'index.js'));
    const files = await readdir(join(root, 'src'), { recursive: true });
    const times = await Promise.all(files.map(async (file) => (await stat(join(root, 'src', file))).mtimeMs));
    return times.every((time) => time <= mtimeMs);
  } catch {
    return false;
  }
}

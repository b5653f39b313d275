/**
 * Installed packages with all that they depend on, as an archive: what a program needs to run somewhere else. What is
 * installed, and where, says npm's own list.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

const root: string = fileURLToPath(new URL('../../../', import.meta.url));
const PREFIX = 'node_modules/';

/** By path, such as `node_modules/a/node_modules/b`. */
type Packages = Record<string, { dependencies?: Record<string, string> }>;

/** A tar archive of `node_modules` with these packages and what they depend on. Peers are to be named as well. */
export function archiveOfPackages(names: readonly string[]): Readable {
  const list = readFileSync(`${root}${PREFIX}.package-lock.json`, 'utf8');
  const { packages } = JSON.parse(list) as { packages: Packages };
  const paths = new Set<string>();
  const add = (name: string, from: string): void => {
    const path = locate(packages, name, from);
    if (paths.has(path)) return;
    paths.add(path);
    for (const dependency of Object.keys(packages[path]?.dependencies ?? {})) add(dependency, path);
  };
  for (const name of names) add(name, '');

  // What lies within another one comes along with it.
  const directories = [...paths].filter((path) => path.lastIndexOf(PREFIX) === 0);
  // Two files of three are types and source maps, which nobody needs there.
  const args = ['-C', root, '--exclude=*.ts', '--exclude=*.map', '-cf', '-', ...directories];
  const tar = spawn('tar', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  tar.once('error', (error) => tar.stdout.destroy(error));
  return tar.stdout;
}

/** Where Node would find a package: in the node_modules of each directory above, the nearest first. */
function locate(packages: Packages, name: string, from: string): string {
  for (let above = from; ; above = above.slice(0, Math.max(0, above.lastIndexOf(PREFIX) - 1))) {
    const path = `${above === '' ? '' : `${above}/`}${PREFIX}${name}`;
    if (packages[path] !== undefined) return path;
    if (above === '') throw new Error(`${name} is not installed`);
  }
}

/**
 * The SDK as scripts in processes of their own can import it: compiled from src/ as it is now. dist/ may be of yesterday.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

export interface Compiled {
  /** To be imported. */
  readonly url: string;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Takes a second or two. */
export async function compile(): Promise<Compiled> {
  const root = fileURLToPath(new URL('../../..', import.meta.url));
  // Within the project, so that its dependencies are found.
  await mkdir(join(root, '.cache'), { recursive: true });
  const directory = await mkdtemp(join(root, '.cache', 'compiled-'));
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const emit = [
    '--outDir',
    directory,
    '--declaration',
    'false',
    '--declarationMap',
    'false',
    '--isolatedDeclarations',
    'false',
    '--stripInternal',
    'false',
    '--sourceMap',
    'false',
  ];
  await promisify(execFile)(process.execPath, [tsc, '-p', 'tsconfig.json', ...emit], { cwd: root });
  return {
    url: pathToFileURL(join(directory, 'index.js')).href,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

/**
 * Scripts of this repository in a process of their own, as a user runs them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root: string = fileURLToPath(new URL('../..', import.meta.url));

/** How a process ended. */
export interface Ending {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process that runs. */
export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ending>;
  /** Resolves when its output matches; rejects when it ends without having done so. */
  printed(pattern: RegExp): Promise<RegExpMatchArray>;
}

/** Throws when the tests of the package have nothing to run on. */
export function requireBuild(): void {
  if (!existsSync(`${root}/dist/index.js`)) throw new Error('dist/ is missing: run `npm run build` first');
}

/** Starts `node` with these arguments in the repository's directory, its output into pipes. */
export function startNode(args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
  const { FORCE_COLOR: _, ...inherited } = process.env;
  // Not killed at the end of its time by a signal that a handler could mistake for a request to stop.
  const child = spawn(process.execPath, [...args], {
    cwd: root,
    // Several demos run side by side, on one dist/: none of them may build it anew.
    env: { ...inherited, PULSEPOOL_BUILD: 'done', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 40_000,
    killSignal: 'SIGKILL',
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Ending>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve({ status, signal, stdout, stderr }));
  });
  const printed = (pattern: RegExp): Promise<RegExpMatchArray> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const match = stdout.match(pattern);
        if (match !== null) resolve(match);
      };
      child.stdout.on('data', look);
      look();
      ended.then(
        () => reject(new Error(`ended without printing ${pattern}: ${stdout}${stderr}`)),
        (error: unknown) => reject(error),
      );
    });
  return { child, ended, printed };
}

/** Runs `node` to its end. */
export function runNode(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ending> {
  return startNode(args, env).ended;
}

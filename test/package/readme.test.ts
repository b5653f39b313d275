/**
 * The README's code, run: its first ```js block, and every block marked ```js run, in a process of their own
 * against a line echo server. What a `console.log(…); // comment` says is what must be printed.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EchoServer, startEcho } from '../support/echo-server.ts';
import { requireBuild, runNode } from './child.ts';

interface Snippet {
  readonly line: number;
  readonly code: string;
}

const readme = readFileSync(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8');
const snippets = findSnippets(readme);

function findSnippets(text: string): Snippet[] {
  const blocks = [...text.matchAll(/^```js([^\n]*)\n(.*?)^```$/gms)];
  return blocks
    .filter(([, mark = ''], index) => index === 0 || mark.trim() === 'run')
    .map(({ index, 2: code = '' }) => ({ line: text.slice(0, index).split('\n').length, code }));
}

/** What the snippet says that it prints, in order. */
function promised(code: string): string[] {
  return [...code.matchAll(/console\.log\(.*\);\s*\/\/ *(.*)$/gm)].map(([, comment = '']) => comment.trim());
}

/** The snippet with the address of the test's server. */
function at(code: string, port: number): string {
  return code.replace(/host: '[^']*'/g, `host: '127.0.0.1'`).replace(/port: [\d_]+/g, `port: ${port}`);
}

let server: EchoServer;
beforeAll(async () => {
  requireBuild();
  server = await startEcho();
});
afterAll(() => server?.close());

describe('the README', () => {
  it('has a snippet to start with, which names an address and says what it prints', () => {
    const [first] = snippets;
    if (first === undefined) throw new Error('README.md has no ```js block');
    expect(first.code).toMatch(/host: '[^']+'/);
    expect(first.code).toMatch(/port: [\d_]+/);
    expect(promised(first.code)).not.toEqual([]);
  });

  it.each(snippets)('prints what it says in the snippet at line $line', async ({ code }) => {
    const acceptedBefore = server.accepted;
    const { status, stdout, stderr } = await runNode(['--input-type=module', '-e', at(code, server.port)]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout.trimEnd().split('\n')).toEqual(promised(code));
    expect(server.accepted).toBeGreaterThan(acceptedBefore);
  });
});

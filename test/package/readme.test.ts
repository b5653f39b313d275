/**
 * The code of the README and of docs/recipes.md, run: the README's first ```js block, and every block marked ```js run,
 * in a process of their own against a line echo server. What a `console.log(…); // comment` says is what must be
 * printed. And the links, which must lead somewhere.
 */
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EchoServer, startEcho } from '../support/echo-server.ts';
import { requireBuild, runNode } from './child.ts';

interface Snippet {
  readonly path: string;
  readonly line: number;
  readonly code: string;
}

const root = new URL('../../', import.meta.url);
const readme = findSnippets('README.md', (mark, index) => index === 0 || mark === 'run');
const recipes = findSnippets('docs/recipes.md', (mark) => mark === 'run');

function findSnippets(path: string, isWanted: (mark: string, index: number) => boolean): Snippet[] {
  const text = readFileSync(new URL(path, root), 'utf8');
  return [...text.matchAll(/^```js([^\n]*)\n(.*?)^```$/gms)]
    .filter(([, mark = ''], index) => isWanted(mark.trim(), index))
    .map(({ index, 2: code = '' }) => ({ path, line: text.slice(0, index).split('\n').length, code }));
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
    const [first] = readme;
    if (first === undefined) throw new Error('README.md has no ```js block');
    expect(first.code).toMatch(/host: '[^']+'/);
    expect(first.code).toMatch(/port: [\d_]+/);
    expect(promised(first.code)).not.toEqual([]);
  });
});

describe('the recipes', () => {
  it('have snippets that run, each of which says what it prints', () => {
    expect(recipes.map(({ code }) => promised(code).length > 0)).toEqual(recipes.map(() => true));
    expect(recipes).not.toEqual([]);
  });
});

describe('the links', () => {
  const pages = [
    'README.md',
    'CONTRIBUTING.md',
    'docs/recipes.md',
    'docs/benchmarks.md',
    'docs/simulation.md',
  ];

  it.each(pages)('of %s lead to headings and files that are there', (path) => {
    const page = new URL(path, root);
    const text = readFileSync(page, 'utf8');
    const anchors = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchorOf(heading));
    const links = [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, link = '']) => link);
    const dead = links.filter((link) =>
      link.startsWith('#')
        ? !anchors.includes(link.slice(1))
        : !link.includes(':') && !existsSync(new URL(link, page)),
    );
    expect(dead).toEqual([]);
  });
});

/** As GitHub makes it. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\w -]/g, '')
    .replaceAll(' ', '-');
}

describe('a snippet', () => {
  it.each([...readme, ...recipes])('prints what it says: $path, line $line', async ({ code }) => {
    const acceptedBefore = server.accepted;
    const { status, stdout, stderr } = await runNode(['--input-type=module', '-e', at(code, server.port)]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout.trimEnd().split('\n')).toEqual(promised(code));
    expect(server.accepted).toBeGreaterThan(acceptedBefore);
  });
});

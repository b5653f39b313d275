import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { DEFAULTS } from '../../src/options.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const readme = read('README.md');

/** The rows of the table under a heading, cells trimmed. */
function table(heading: string): string[][] {
  const section = readme.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .slice(2)
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

function codeNames(cell: string | undefined): string[] {
  return [...(cell ?? '').matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? '');
}

describe('the README', () => {
  it('explains every error code, and none that does not exist', () => {
    const union = /export type ErrorCode =\n([\s\S]*?);/.exec(read('src/errors.ts'))?.[1] ?? '';
    const codes = [...union.matchAll(/'(ERR_[A-Z_]+)'/g)].map((match) => match[1]);
    expect(codes.length).toBeGreaterThan(20);
    expect(table('Errors').flatMap((row) => codeNames(row[0]))).toEqual(codes);
  });

  it('describes every event with every field of its payload', () => {
    const source = read('src/events.ts');
    const events = [...source.matchAll(/^ {2}(\w+): \(event: (\w+)\) => void;$/gm)].map((match) => {
      const body = new RegExp(`export interface ${match[2]} \\{([\\s\\S]*?)\\n\\}`).exec(source)?.[1] ?? '';
      return [match[1], [...body.matchAll(/readonly (\w+):/g)].map((field) => field[1])];
    });
    expect(events.length).toBe(15);
    expect(table('Events').map((row) => [codeNames(row[0])[0], codeNames(row[1])])).toEqual(events);
  });

  it('names every close reason', () => {
    const union =
      /export type CloseReason =\n([\s\S]*?);/.exec(read('src/transport/close-reason.ts'))?.[1] ?? '';
    const reasons = [...union.matchAll(/'([a-z-]+)'/g)].map((match) => match[1]);
    const sentence = /`reason` is one of ([\s\S]*?)\. `pool\.stats/.exec(readme)?.[1];
    expect(codeNames(sentence)).toEqual(reasons);
  });

  it('lists every option', () => {
    const keys = /const KEYS = \[([\s\S]*?)\]/.exec(read('src/options.ts'))?.[1] ?? '';
    const known = [...keys.matchAll(/'(\w+)'/g)].map((match) => match[1]);
    const listed = table('Options')
      .flatMap((row) => codeNames(row[0]))
      .map((name) => name.split(/[.(]/)[0])
      .filter((name) => name !== '');
    expect(new Set(listed)).toEqual(new Set(known));
  });

  it('prints the defaults that the code has', () => {
    const printed = new Map(table('Options').map((row) => [codeNames(row[0])[0], row[1]]));
    const flat: [string, number][] = [];
    for (const [name, value] of Object.entries(DEFAULTS)) {
      if (typeof value === 'number') flat.push([name, value]);
      else for (const [inner, number] of Object.entries(value)) flat.push([`${name}.${inner}`, number]);
    }
    const format = (value: number): string => value.toLocaleString('en-US');
    for (const [name, value] of flat) {
      if (name === 'retry.capMs') expect(printed.get('retry.baseMs')).toBe(`100, ${format(value)}`);
      else if (name !== 'retry.baseMs') expect([name, printed.get(name)]).toEqual([name, format(value)]);
    }
    expect(flat.length).toBe(18);
  });
});

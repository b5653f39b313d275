import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const src = fileURLToPath(new URL('../../src/', import.meta.url));
const sources = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter(
  (name) => name.endsWith('.ts') && name !== 'clock.ts',
);

/** The code without comments. */
function code(file: string): string {
  return readFileSync(`${src}${file}`, 'utf8')
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/(^|\s)\/\/.*$/gm, '');
}

describe('no source but the clock', () => {
  it.each([
    ['asks for the date', /\bDate\b/],
    ['asks what time it is in any other way', /\bperformance\b|\bhrtime\b|\buptime\b/],
    ['sets a timer in disguise', /AbortSignal\.timeout|node:timers|node:perf_hooks/],
    ['rolls dice of its own', /node:crypto|\bcrypto\b|randomInt|randomUUID|randomBytes|getRandomValues/],
  ])('%s', (_what, names) => {
    expect(sources.length).toBeGreaterThan(20);
    expect(sources.filter((file) => names.test(code(file)))).toEqual([]);
  });
});

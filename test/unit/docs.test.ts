import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Client } from '../../src/client/client.ts';
import { CLIENT_EVENT_NAMES } from '../../src/client/client-events.ts';
import { CLIENT_DEFAULTS } from '../../src/client-options.ts';
import { EVENT_NAMES } from '../../src/events.ts';
import { type PoolOptions, type ResolvedOptions, resolveOptions } from '../../src/options.ts';
import { Pool } from '../../src/pool/pool.ts';
import { BREAKER_DEFAULTS } from '../../src/retry/breaker.ts';
import { BUDGET_DEFAULTS } from '../../src/retry/budget.ts';
import { lines } from '../../src/transport/lines.ts';
import { setUp } from '../support/pool-world.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const readme = read('README.md');
const optionsSource = read('src/options.ts');

function section(heading: string): string {
  return readme.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
}

/** The rows of the table under a heading, cells trimmed. */
function table(heading: string): string[][] {
  return section(heading)
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

function strings(code: string): string[] {
  return [...code.matchAll(/'([^']+)'/g)].map((match) => match[1] ?? '');
}

/** The strings that follow `start` in a source file, up to `end`. */
function quoted(source: string, start: string, end: string): string[] {
  return strings(source.split(start)[1]?.split(end)[0] ?? '');
}

// What is marked as internal is no part of the declarations that users get.
const internal = [...read('src/pool/pool.ts').matchAll(/\/\*\* @internal [^\n]*\*\/\n {2}(\w+)\(/g)].map(
  (match) => match[1],
);
const methods = Object.getOwnPropertyNames(Pool.prototype).filter(
  (name) => name !== 'constructor' && !internal.includes(name),
);

const errorCodes = quoted(read('src/errors.ts'), 'export type ErrorCode =\n', ';');

/** Every option in the order of the source: `heartbeat.intervalMs`, not `heartbeat`. */
const optionKeys = quoted(optionsSource, 'const KEYS = [', ']').flatMap((key) => {
  if (key === 'heartbeat') return innerKeys(key, 'const HEARTBEAT_KEYS = [');
  if (key === 'dns') return innerKeys(key, 'const DNS_KEYS = [', read('src/address-options.ts'));
  return key === 'retry' ? innerKeys(key, 'const RETRY_KEYS = [') : [key];
});

function innerKeys(outer: string, start: string, source: string = optionsSource): string[] {
  return quoted(source, start, ']').map((key) => `${outer}.${key}`);
}

/** The options of a cell, in full: "`retry.baseMs`, `.capMs`" are `retry.baseMs` and `retry.capMs`. */
function optionNames(cell: string | undefined): string[] {
  let group = '';
  return codeNames(cell).map((code) => {
    const name = code.split('(')[0] ?? '';
    if (name.startsWith('.')) return `${group}${name}`;
    group = name.split('.')[0] ?? '';
    return name;
  });
}

const VALID: PoolOptions<string, string> = { host: 'orders.internal', port: 7_000, codec: lines() };

/** The value of each option when only the required ones are given. */
function defaults(): ReadonlyMap<string, unknown> {
  const resolved: ResolvedOptions<string, string> = resolveOptions(VALID);
  const { answer, dns, target: _, heartbeat, hooks, makeCodec: __, probe, retry, sizes, ...rest } = resolved;
  const inner = { ...heartbeat, ping: probe?.ping, isPong: probe?.isPong, answer };
  return new Map<string, unknown>([
    ...Object.entries({ ...rest, ...sizes, ...hooks }),
    ...Object.entries(inner).map(([key, value]): [string, unknown] => [`heartbeat.${key}`, value]),
    ...Object.entries(dns).map(([key, value]): [string, unknown] => [`dns.${key}`, value]),
    ...Object.entries(retry).map(([key, value]): [string, unknown] => [`retry.${key}`, value]),
  ]);
}

// How a default is printed that no value stands for.
const REQUIRED = ['host', 'port', 'codec'];
const WORDS: ReadonlyMap<string, string> = new Map([
  ...REQUIRED.map((key): [string, string] => [key, 'required']),
  ['path', ''],
  ['localAddress', "the system's"],
  ['tls', 'plain'],
  ['balance', "`'p2c'`"],
]);

function printed(key: string, value: unknown): string {
  // It follows `max`: see the test of its own.
  if (key === 'maxIdle') return '`max`';
  if (value === undefined) return WORDS.get(key) ?? 'none';
  if (Array.isArray(value))
    return value.length === 0 ? 'none' : `\`[${value.map((one) => `'${one}'`).join(', ')}]\``;
  return Number.isFinite(value) ? Number(value).toLocaleString('en-US') : `\`${value}\``;
}

/** The lines of README.md from a heading of the third level to the next heading. */
function part(heading: string): string {
  return readme.split(`\n### ${heading}\n`)[1]?.split(/\n##/)[0] ?? '';
}

const clientSource = read('src/client-options.ts');

/** Every option that a client has beside its pool's, in the order of the source. */
const clientKeys = quoted(clientSource, 'const CLIENT_KEYS', '];').flatMap((key) => {
  if (key === 'retryBudget') return Object.keys(BUDGET_DEFAULTS).map((inner) => `${key}.${inner}`);
  return key === 'breaker' ? Object.keys(BREAKER_DEFAULTS).map((inner) => `${key}.${inner}`) : [key];
});

function clientDefault(key: string): unknown {
  const [outer = '', inner] = key.split('.');
  const value = (CLIENT_DEFAULTS as unknown as Record<string, unknown>)[outer];
  return inner === undefined ? value : (value as Record<string, unknown>)[inner];
}

describe('the README, on clients', () => {
  const rows = part('Options of a client')
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .slice(2)
    .map((line) => line.split('|').slice(1, -1));

  it('lists every option by its full name, in the order of the source', () => {
    expect(clientKeys.length).toBeGreaterThan(10);
    expect(rows.flatMap(([names]) => optionNames(names))).toEqual(clientKeys);
  });

  it('prints the default of every option', () => {
    const wrong = rows.flatMap(([names, cell = '']) => {
      const keys = optionNames(names);
      const values = cell.trim().split(', ');
      return keys.flatMap((key, index) => {
        if (key === 'correlate' || key === 'retryAfter') return [];
        const value = clientDefault(key);
        const is = typeof value === 'number' ? value.toLocaleString('en-US') : `\`${String(value)}\``;
        return values[index] === is ? [] : [[key, values[index], is]];
      });
    });
    expect(wrong).toEqual([]);
  });

  it('names every event with its fields, and everything that stats() counts', () => {
    const source = read('src/client/client-events.ts');
    const names = codeNames(/\*\*What it tells\*\*([\s\S]*?)\n- \*\*The rest/.exec(readme)?.[1]).flatMap(
      (code) => code.match(/\w+/g) ?? [],
    );
    const fields = [...source.matchAll(/readonly (\w+):/g)].map((match) => match[1] ?? '');
    const counted = [...read('src/client/client-stats.ts').matchAll(/^ {2}readonly (\w+): /gm)].map(
      (match) => match[1] ?? '',
    );
    expect(CLIENT_EVENT_NAMES.length).toBe(4);
    expect(counted.length).toBeGreaterThan(12);
    expect([...CLIENT_EVENT_NAMES, ...fields, ...counted].filter((name) => !names.includes(name))).toEqual(
      [],
    );
  });

  it('names every method of a client', () => {
    const own = Object.getOwnPropertyNames(Client.prototype).filter((name) => name !== 'constructor');
    const missing = own.filter(
      (name) => !readme.includes(`client.${name}(`) && !['once', 'off', 'on'].includes(name),
    );
    expect(missing).toEqual([]);
  });
});

describe('the README', () => {
  it('explains every error code, and none that does not exist', () => {
    expect(errorCodes.length).toBeGreaterThan(20);
    expect(table('Errors').flatMap((row) => codeNames(row[0]))).toEqual(errorCodes);
  });

  it('describes every event with every field of its payload', () => {
    const source = read('src/events.ts');
    const events = [...source.matchAll(/^ {2}(\w+): \(event: (\w+)\) => void;$/gm)].map((match) => {
      const body = new RegExp(`export interface ${match[2]} \\{([\\s\\S]*?)\\n\\}`).exec(source)?.[1] ?? '';
      return [match[1], [...body.matchAll(/readonly (\w+):/g)].map((field) => field[1])];
    });
    expect(events.map(([name]) => name)).toEqual(EVENT_NAMES);
    expect(table('Events').map((row) => [codeNames(row[0])[0], codeNames(row[1])])).toEqual(events);
  });

  it('names every close reason', () => {
    const reasons = quoted(read('src/transport/close-reason.ts'), 'export type CloseReason =\n', ';');
    expect(reasons.length).toBeGreaterThan(10);
    const sentence = /`reason` is one of ([\s\S]*?)\. `pool\.stats/.exec(readme)?.[1];
    expect(codeNames(sentence)).toEqual(reasons);
  });

  it('lists every option by its full name, in the order of the source', () => {
    expect(optionKeys).toContain('heartbeat.answer');
    expect(optionKeys).toContain('retry.capMs');
    expect(table('Options').flatMap((row) => optionNames(row[0]))).toEqual(optionKeys);
  });

  it('prints the default of every option', () => {
    const cells = new Map<string, string | undefined>();
    for (const [names, cell = ''] of table('Options')) {
      const keys = optionNames(names);
      // Two numbers for two options, or one word for both.
      const values = cell.split(', ');
      for (const [index, key] of keys.entries())
        cells.set(key, values.length === keys.length ? values[index] : cell);
    }
    const values = defaults();
    const wrong = optionKeys
      .map((key) => [key, cells.get(key), printed(key, values.get(key))])
      .filter(([, says, is]) => says !== is);
    expect(wrong).toEqual([]);
    const unknown = [...values.keys()].filter((key) => !optionKeys.includes(key));
    expect(unknown).toEqual([]);
  });

  it('is right about what is required, and about what follows max', () => {
    for (const key of REQUIRED) {
      expect(() => resolveOptions({ ...VALID, [key]: undefined })).toThrow(key);
    }
    expect(
      [resolveOptions(VALID), resolveOptions({ ...VALID, max: 3 })].map(({ sizes }) => sizes.maxIdle),
    ).toEqual([10, 3]);
  });

  it('names only options, methods, events, fields and codes that there are, where it says what the pool does', () => {
    const sources = [
      'pool/pool',
      'pool/waiters',
      'pool/request',
      'pool/sizes',
      'events',
      'address-options',
    ].map((name) => read(`src/${name}.ts`));
    const fields = sources.flatMap((source) =>
      [...source.matchAll(/^ {2}readonly (\w+)\??:/gm)].map((match) => match[1] ?? ''),
    );
    const words = [...optionKeys, 'heartbeat', 'retry', 'dns', ...EVENT_NAMES, ...errorCodes, 'isLost'];
    const rows = table('What the pool does');
    expect(rows.length).toBeGreaterThan(20);
    const unknown = rows
      .flatMap((row) => row.flatMap(codeNames))
      .filter((code) => {
        const call = /^\(?(?:await )?(?:pool\.)?(\w+)\((?:m, )?(?:\{ ([^}]*) \})?\)/.exec(code);
        if (call === null) return !words.includes(code);
        const keys = (call[2] ?? '').split(', ').map((key) => key.split(':')[0] ?? '');
        const isKnown = keys.every((key) => key === '' || fields.includes(key));
        return !isKnown || !methods.includes(call[1] ?? '');
      });
    expect(unknown).toEqual([]);
  });

  it('names every method of a pool', () => {
    const missing = methods.filter((name) => !new RegExp(`[\`.( ]${name}[(\`]`).test(readme));
    expect(missing).toEqual([]);
  });

  it('lists everything that stats() counts, and every kind of advice', () => {
    const { times, ...stats } = setUp().pool.stats();
    const list = /`pool\.stats\(\)` is a frozen snapshot:\n([\s\S]*)/.exec(section('Events'))?.[1];
    const names = codeNames(list).flatMap((code) => code.match(/\w+/g) ?? []);
    const wanted = [...Object.keys(stats), ...Object.keys(times), ...Object.keys(times.wait)];
    expect(wanted.filter((name) => !names.includes(name))).toEqual([]);
    const source = read('src/pool/advice.ts');
    const kinds = [...source.matchAll(/readonly kind: (.*);/g)].flatMap(([, union = '']) => strings(union));
    expect(table('How many sockets?').flatMap((row) => codeNames(row[0]))).toEqual(kinds);
  });
});

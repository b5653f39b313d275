import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { HEALTH_TRANSITIONS } from '../../src/balance/health.ts';
import { CALL_TRANSITIONS } from '../../src/client/call.ts';
import { SLOT_TRANSITIONS } from '../../src/pool/slot.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const sources = readdirSync(`${root}/src`, { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.ts'),
);

function read(file: string): string {
  return readFileSync(`${root}/${file}`, 'utf8');
}

/** The code without comments and strings' contents left in place: good enough to look for names. */
function code(file: string): string {
  return read(`src/${file}`)
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/(^|\s)\/\/.*$/gm, '');
}

function imports(file: string): string[] {
  return [...code(file).matchAll(/from '([^']+)'/g)].map((match) => match[1] ?? '');
}

function offenders(folder: string, forbidden: RegExp): string[] {
  return sources
    .filter((file) => file.startsWith(folder))
    .flatMap((file) =>
      imports(file)
        .filter((name) => forbidden.test(name))
        .map((name) => `${file} imports ${name}`),
    );
}

describe('the import rule', () => {
  it('finds the sources it speaks of', () => {
    expect(sources.filter((file) => file.startsWith('transport/')).length).toBeGreaterThan(5);
    expect(sources.filter((file) => file.startsWith('heartbeat/')).length).toBeGreaterThan(1);
    expect(sources.filter((file) => file.startsWith('pool/')).length).toBeGreaterThan(5);
  });

  it('keeps transport from knowing the pool or the heartbeat', () => {
    expect(offenders('transport/', /\/(pool|heartbeat)\//)).toEqual([]);
  });

  it('keeps the heartbeat from knowing sockets or the pool', () => {
    expect(offenders('heartbeat/', /\/(pool|transport)\/|^node:(net|tls)/)).toEqual([]);
  });

  it('keeps the pool from knowing node:net and node:tls', () => {
    expect(offenders('pool/', /^node:(net|tls|dns)/)).toEqual([]);
  });

  it('keeps retries from knowing sockets, the pool or the client', () => {
    expect(offenders('retry/', /\/(pool|heartbeat|client)\/|^node:/)).toEqual([]);
  });

  it('keeps resolving and balancing from knowing sockets, the pool, the client or each other', () => {
    expect(offenders('resolve/', /\/(pool|heartbeat|client|balance|retry)\/|^node:(tls|http)/)).toEqual([]);
    expect(offenders('balance/', /\/(pool|heartbeat|client|resolve|transport)\/|^node:/)).toEqual([]);
  });

  it('keeps everything below the client from knowing it', () => {
    expect(
      ['transport/', 'heartbeat/', 'pool/', 'resolve/', 'balance/'].flatMap((folder) =>
        offenders(folder, /\/client\//),
      ),
    ).toEqual([]);
  });

  it('keeps the client from knowing sockets', () => {
    expect(offenders('client/', /^node:(net|tls|dns)/)).toEqual([]);
  });

  it('keeps every folder from knowing the wiring', () => {
    const wiring =
      /\/(options|address-options|client-options|directory|route|create-pool|create-client|index)\.ts$/;
    expect([
      ...offenders('transport/', wiring),
      ...offenders('heartbeat/', wiring),
      ...offenders('pool/', wiring),
      ...offenders('retry/', wiring),
      ...offenders('resolve/', wiring),
      ...offenders('balance/', wiring),
      ...offenders('client/', wiring),
    ]).toEqual([]);
  });

  it('lets only the clock name timers and time', () => {
    const names = /\b(setTimeout|setInterval|setImmediate|queueMicrotask)\b|performance\.now|Date\.now/;
    const found = sources.filter((file) => file !== 'clock.ts' && names.test(code(file)));
    expect(found).toEqual([]);
  });

  it('lets only the wiring name chance', () => {
    expect(sources.filter((file) => /Math\.random/.test(code(file)))).toEqual(['create-pool.ts']);
  });
});

describe('ARCHITECTURE.md', () => {
  it('draws the transition table as it is', () => {
    const drawn = /<!-- slot-diagram -->\n([\s\S]*?)\n<!-- \/slot-diagram -->/.exec(
      read('ARCHITECTURE.md'),
    )?.[1];
    expect(drawn).toBe(diagramOf(SLOT_TRANSITIONS, 'dialing', 'closed'));
  });

  it('draws the states of a call as they are', () => {
    const drawn = /<!-- call-diagram -->\n([\s\S]*?)\n<!-- \/call-diagram -->/.exec(
      read('ARCHITECTURE.md'),
    )?.[1];
    expect(drawn).toBe(diagramOf(CALL_TRANSITIONS, 'waiting', 'settled'));
  });

  it('draws the health of an endpoint as it is', () => {
    const drawn = /<!-- health-diagram -->\n([\s\S]*?)\n<!-- \/health-diagram -->/.exec(
      read('ARCHITECTURE.md'),
    )?.[1];
    expect(drawn).toBe(diagramOf(HEALTH_TRANSITIONS, 'healthy', undefined));
  });

  it('names only files that exist', () => {
    const named = [...read('ARCHITECTURE.md').matchAll(/\]\((src\/[^)]+)\)/g)].map((match) => match[1] ?? '');
    expect(named.length).toBeGreaterThan(10);
    expect(named.filter((file) => !sources.includes(file.slice('src/'.length)))).toEqual([]);
  });
});

function diagramOf<Name extends string>(
  transitions: Readonly<Record<Name, readonly Name[]>>,
  first: Name,
  last: Name | undefined,
): string {
  const names = Object.keys(transitions) as Name[];
  const arrows = names.flatMap((from) => transitions[from].map((to) => `  ${from} --> ${to}`));
  const lines = [`  [*] --> ${first}`, ...arrows, ...(last === undefined ? [] : [`  ${last} --> [*]`])];
  return ['```mermaid', 'stateDiagram-v2', ...lines, '```'].join('\n');
}

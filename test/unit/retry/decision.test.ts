/**
 * The decision table: each cell of the product of all facts is compared with a table written by hand, below. The facts
 * that are numbers take a few telling values there; a property lets them take any.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Decision, decide, type Facts } from '../../../src/retry/decision.ts';

/**
 * The first row that fits a cell is right. A dot fits anything.
 *
 * `passed`, `tight`, `near` and `far` are deadlines in 0, 50, 500 and 10,000 ms. The back-off is 100 ms, the server's
 * short delay 1,000 ms, and an open breaker opens for 3,000 ms.
 */
const TABLE = `
sent        first-byte reused died refusal retryable idempotent retries free fresh  budget breaker deadline server | decision
----------- ---------- ------ ---- ------- --------- ---------- ------- ---- ------ ------ ------- -------- ------ | ----------------------
.           .          .      .    .       .         .          .       .    .      .      .       passed   .      | fail deadline
.           .          .      .    .       no        .          .       .    .      .      .       .        .      | fail not-retryable
.           .          .      .    .       .         .          .       .    .      .      .       .        never  | fail server-says-never
none        .          .      .    no      .         .          .       left .      .      closed  .        none   | again not-sent
maybe,full  .          .      .    no      .         no         .       .    .      .      .       .        .      | fail may-have-been-done
maybe,full  no         yes    yes  no      .         .          .       .    unused .      closed  .        none   | fresh
.           .          .      .    .       .         .          gone    .    .      .      .       .        .      | fail no-retries-left
.           .          .      .    .       .         .          .       .    .      .      .       tight    .      | fail deadline
.           .          .      .    .       .         .          .       .    .      .      open    near     .      | fail deadline
.           .          .      .    .       .         .          .       .    .      .      .       near     short  | fail deadline
.           .          .      .    .       .         .          .       .    .      empty  .       .        .      | fail no-budget
.           .          .      .    .       .         .          .       .    .      .      open    .        .      | later 3000
.           .          .      .    .       .         .          .       .    .      .      .       .        short  | later 1000
.           .          .      .    .       .         .          .       .    .      .      .       .        .      | later 100
`;

const YES_OR_NO = { yes: true, no: false };

/** What the words of each column mean. */
const COLUMNS: Readonly<Record<string, { fact: keyof Facts; words: Readonly<Record<string, unknown>> }>> = {
  sent: { fact: 'sent', words: { none: 'none', maybe: 'maybe', full: 'full' } },
  'first-byte': { fact: 'firstByte', words: YES_OR_NO },
  reused: { fact: 'reused', words: YES_OR_NO },
  died: { fact: 'died', words: YES_OR_NO },
  refusal: { fact: 'isRefusal', words: YES_OR_NO },
  retryable: { fact: 'retryable', words: YES_OR_NO },
  idempotent: { fact: 'idempotent', words: YES_OR_NO },
  retries: { fact: 'retriesLeft', words: { left: 1, gone: 0 } },
  free: { fact: 'freeTriesLeft', words: { left: 1, gone: 0 } },
  fresh: { fact: 'isFreshUsed', words: { unused: false, used: true } },
  budget: { fact: 'hasBudget', words: { full: true, empty: false } },
  breaker: { fact: 'breakerOpenMs', words: { closed: 0, open: 3_000 } },
  deadline: {
    fact: 'remainingMs',
    words: { passed: 0, tight: 50, near: 500, far: 10_000, none: Number.POSITIVE_INFINITY },
  },
  server: { fact: 'serverDelayMs', words: { none: 0, short: 1_000, never: Number.POSITIVE_INFINITY } },
};

/** One word for each column. */
type Cell = Readonly<Record<string, string>>;

interface Row {
  readonly text: string;
  /** What fits, column by column. */
  readonly words: readonly (readonly string[])[];
  readonly decision: string;
}

const [header = '', , ...lines] = TABLE.trim().split('\n');
const names = header.split('|')[0]?.trim().split(/ +/) ?? [];
const rows: Row[] = lines.map((text) => {
  const [words = '', decision = ''] = text.split('|').map((half) => half.trim());
  return { text, decision, words: words.split(/ +/).map((word) => word.split(',')) };
});

const cells: Cell[] = Object.entries(COLUMNS).reduce<Cell[]>(
  (sofar, [name, { words }]) =>
    sofar.flatMap((cell) => Object.keys(words).map((word) => ({ ...cell, [name]: word }))),
  [{}],
);

function rowFor(cell: Cell): Row | undefined {
  const values = names.map((name) => cell[name] ?? '');
  return rows.find((row) =>
    values.every((value, column) => row.words[column]?.some((word) => word === '.' || word === value)),
  );
}

function factsOf(cell: Cell): Facts {
  const facts = Object.entries(cell).map(([name, word]) => [COLUMNS[name]?.fact, COLUMNS[name]?.words[word]]);
  return { ...Object.fromEntries(facts), backoffMs: 100 };
}

/** A decision as the table writes it. */
function inWords(decision: Decision): string {
  const { kind } = decision;
  if (kind === 'later') return `later ${decision.waitMs}`;
  return kind === 'fresh' ? 'fresh' : `${kind} ${decision.because}`;
}

/** Every cell, worked out once. */
const outcomes = cells.map((cell) => {
  const facts = factsOf(cell);
  return { cell, facts, decision: decide(facts), row: rowFor(cell) };
});

describe('the table', () => {
  it('names every fact once, in words that the columns know', () => {
    expect(names).toEqual(Object.keys(COLUMNS));
    expect(new Set(Object.values(COLUMNS).map(({ fact }) => fact)).size).toBe(14);
    for (const row of rows) {
      expect(row.words.length, row.text).toBe(14);
      for (const [column, name] of names.entries())
        expect(['.', ...Object.keys(COLUMNS[name]?.words ?? {})]).toEqual(
          expect.arrayContaining([...(row.words[column] ?? [])]),
        );
    }
  });

  it('has every cell: 11 facts with two values, 2 with three, 1 with five', () => {
    expect(cells.length).toBe(2 ** 11 * 3 ** 2 * 5);
    expect(new Set(cells.map((cell) => Object.values(cell).join())).size).toBe(cells.length);
  });

  it('needs every row', () => {
    const hit = new Set(outcomes.map(({ row }) => row));
    expect(rows.filter((row) => !hit.has(row)).map((row) => row.text)).toEqual([]);
    expect(hit.has(undefined)).toBe(false);
  });

  it('is what is decided, in every cell', () => {
    const wrong = outcomes.filter(({ decision, row }) => inWords(decision) !== row?.decision);
    expect(wrong.slice(0, 5)).toEqual([]);
  });
});

/** Any facts, with numbers that often meet each other. */
const duration: fc.Arbitrary<number> = fc.oneof(
  fc.constantFrom(0, 100, 1_000),
  fc.nat(1_200),
  fc.double({ min: 0, max: 1_200, noNaN: true }),
);
const anyFacts: fc.Arbitrary<Facts> = fc.record({
  sent: fc.constantFrom('none', 'maybe', 'full'),
  firstByte: fc.boolean(),
  reused: fc.boolean(),
  died: fc.boolean(),
  isRefusal: fc.boolean(),
  retryable: fc.boolean(),
  idempotent: fc.boolean(),
  isFreshUsed: fc.boolean(),
  freeTriesLeft: fc.nat(2),
  retriesLeft: fc.nat(2),
  hasBudget: fc.boolean(),
  breakerOpenMs: duration,
  remainingMs: fc.oneof(duration, fc.constantFrom(Number.POSITIVE_INFINITY, -1)),
  backoffMs: duration,
  serverDelayMs: fc.oneof(duration, fc.constant(Number.POSITIVE_INFINITY)),
});

/** What must hold for a rule's own sake, whatever the table says. */
const INVARIANTS: readonly (readonly [string, (facts: Facts, decision: Decision) => boolean])[] = [
  [
    'what may have been done is repeated only when doing it twice does no harm, or the server has not done it',
    (facts, { kind }) => kind === 'fail' || facts.sent === 'none' || facts.idempotent || facts.isRefusal,
  ],
  [
    'nothing is repeated at or after the deadline, and no wait reaches it',
    (facts, decision) =>
      decision.kind === 'fail' ||
      (facts.remainingMs > 0 && (decision.kind !== 'later' || decision.waitMs < facts.remainingMs)),
  ],
  [
    'no wait is shorter than the breaker stays open, the server wishes or the back-off asks, and none is longer',
    ({ backoffMs, breakerOpenMs, serverDelayMs }, decision) =>
      decision.kind !== 'later' || decision.waitMs === Math.max(backoffMs, breakerOpenMs, serverDelayMs),
  ],
  [
    'nothing is repeated at once while the breaker is open or the server asks for time',
    (facts, { kind }) =>
      kind === 'fail' || kind === 'later' || (facts.breakerOpenMs === 0 && facts.serverDelayMs === 0),
  ],
  [
    'what the server has refused is repeated by policy only',
    (facts, { kind }) => !facts.isRefusal || kind === 'fail' || kind === 'later',
  ],
  [
    'it is `again` only when nothing was sent, and a free try is left',
    (facts, { kind }) => kind !== 'again' || (facts.sent === 'none' && facts.freeTriesLeft > 0),
  ],
  [
    'it is `fresh` once, after a death in silence of a socket that had served before',
    (facts, { kind }) =>
      kind !== 'fresh' || (facts.died && facts.reused && !facts.firstByte && !facts.isFreshUsed),
  ],
  [
    'it is `later` only with a retry and the budget for it',
    (facts, { kind }) => kind !== 'later' || (facts.retriesLeft > 0 && facts.hasBudget),
  ],
  [
    'the budget is blamed only when it alone is missing',
    (facts, decision) =>
      decision.kind !== 'fail' ||
      decision.because !== 'no-budget' ||
      decide({ ...facts, hasBudget: true }).kind === 'later',
  ],
];

describe('whatever the facts', () => {
  it.each(INVARIANTS)('%s', (_sentence, holds) => {
    expect(outcomes.filter(({ decision, facts }) => !holds(facts, decision)).slice(0, 5)).toEqual([]);
    fc.assert(
      fc.property(anyFacts, (facts) => holds(facts, decide(facts))),
      { numRuns: 2_000 },
    );
  });
});

/** An idempotent request failed after it was sent, and all that is needed to repeat it is there. */
const failed: Facts = {
  sent: 'full',
  firstByte: false,
  reused: false,
  died: false,
  isRefusal: false,
  retryable: true,
  idempotent: true,
  isFreshUsed: false,
  freeTriesLeft: 11,
  retriesLeft: 3,
  hasBudget: true,
  breakerOpenMs: 0,
  remainingMs: 1_000,
  backoffMs: 80,
  serverDelayMs: 0,
};

describe('a request that failed', () => {
  it.each<[string, Partial<Facts>, Decision]>([
    ['is repeated after the back-off', {}, { kind: 'later', waitMs: 80 }],
    [
      'is repeated as late as the server wishes, and as the breaker',
      { serverDelayMs: 300, breakerOpenMs: 200 },
      { kind: 'later', waitMs: 300 },
    ],
    [
      'is repeated at once and for free when nothing was sent, idempotent or not',
      { sent: 'none', idempotent: false, retriesLeft: 0, hasBudget: false },
      { kind: 'again', because: 'not-sent' },
    ],
    [
      'is repeated by policy when nothing was sent and no free try is left',
      { sent: 'none', idempotent: false, freeTriesLeft: 0 },
      { kind: 'later', waitMs: 80 },
    ],
    [
      'is repeated on a fresh socket when one that had rested died without an answer',
      { died: true, reused: true, retriesLeft: 0, hasBudget: false },
      { kind: 'fresh' },
    ],
    [
      'is repeated by policy when the fresh socket died as well',
      { died: true, isFreshUsed: true },
      { kind: 'later', waitMs: 80 },
    ],
    [
      'is not repeated when it may have been done and must not be done twice',
      { sent: 'maybe', idempotent: false },
      { kind: 'fail', because: 'may-have-been-done' },
    ],
    [
      'is repeated, even if it must not be done twice, when the server says that it was not done',
      { idempotent: false, isRefusal: true, serverDelayMs: 100 },
      { kind: 'later', waitMs: 100 },
    ],
    [
      'is not repeated when the wait would end with the deadline',
      { remainingMs: 80 },
      { kind: 'fail', because: 'deadline' },
    ],
    [
      'is repeated when the wait ends a moment before the deadline',
      { remainingMs: 80.001 },
      { kind: 'later', waitMs: 80 },
    ],
    [
      'is not repeated after the deadline, even if it was not sent',
      { sent: 'none', remainingMs: -5 },
      { kind: 'fail', because: 'deadline' },
    ],
  ])('%s', (_sentence, facts, decision) => {
    expect(decide({ ...failed, ...facts })).toEqual(decision);
  });
});

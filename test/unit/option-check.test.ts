import { describe, expect, it } from 'vitest';
import { checkBoolean, checkInteger, checkKeys, checkOneOf, invalidOption } from '../../src/option-check.ts';

describe('the option checker', () => {
  it('says what was expected and what came', () => {
    expect(() => checkOneOf('lengthBytes', 5, [1, 2, 3, 4, 8])).toThrow(
      'Expected `lengthBytes` to be one of 1, 2, 3, 4, 8, got 5 (number)',
    );
    expect(() => checkOneOf('endian', 'big', ['BE', 'LE'])).toThrow(
      `Expected \`endian\` to be one of 'BE', 'LE', got "big" (string)`,
    );
    expect(() => checkInteger('max', '10', { min: 1 })).toThrow(
      'Expected `max` to be an integer of at least 1, got "10" (string)',
    );
    expect(() => checkInteger('max', 11, { min: 1, max: 10 })).toThrow(
      'an integer from 1 to 10, got 11 (number)',
    );
    expect(() => checkInteger('max', 11, { max: 10 })).toThrow('an integer of at most 10, got 11 (number)');
    expect(() => checkInteger('max', 2 ** 53)).toThrow('a safe integer, got 9007199254740992 (number)');
    expect(() => checkBoolean('keep', 1)).toThrow('Expected `keep` to be true or false, got 1 (number)');
  });

  it.each([
    [null, 'null'],
    [undefined, 'undefined'],
    [Number.NaN, 'NaN (number)'],
    [10n, '10 (bigint)'],
    [Symbol('x'), 'Symbol(x) (symbol)'],
    [[1, 2], 'an array of 2'],
    [{}, '[object Object]'],
    [new Date(0), '[object Date]'],
    [() => 1, 'a function'],
    ['x'.repeat(50), `"${'x'.repeat(40)}…" (string)`],
  ])('describes %o as %s', (value, text) => {
    expect(invalidOption('a', 'be b', value).message).toBe(`Expected \`a\` to be b, got ${text}`);
  });

  it('gives back the value that passes', () => {
    expect(checkInteger('n', 3, { min: 3, max: 3 })).toBe(3);
    expect(checkOneOf('n', 'a', ['a', 'b'])).toBe('a');
    expect(checkOneOf('n', false, [false])).toBe(false);
    expect(checkBoolean('n', false)).toBe(false);
  });

  it('names an unknown key, and the one that was probably meant', () => {
    const known = ['lengthBytes', 'maxFrameBytes', 'strip'];
    const check = (options: unknown) => () => checkKeys('lengthPrefixed()', options, known);
    expect(check({ lenghtBytes: 4 })).toThrow(
      'Unknown option `lenghtBytes` of lengthPrefixed(). Did you mean `lengthBytes`?',
    );
    expect(check({ maxframebytes: 4 })).toThrow('Did you mean `maxFrameBytes`?');
    expect(check({ zebra: 1 })).toThrow(/^Unknown option `zebra` of lengthPrefixed\(\)$/);
    expect(check({ strip: undefined })).not.toThrow();
    expect(check('lines')).toThrow(
      'Expected the options of lengthPrefixed() to be an object, got "lines" (string)',
    );
    expect(check(null)).toThrow('got null');
    expect(check([])).toThrow('got an array of 0');
  });

  it('throws a PulsepoolError with a code and a hint', () => {
    expect(invalidOption('strip', 'be 1', 2)).toMatchObject({
      name: 'PulsepoolError',
      code: 'ERR_INVALID_OPTION',
      retryable: false,
      hint: 'Correct `strip`; nothing was opened.',
    });
    expect(invalidOption('strip', 'be 1', 2, 'Ask the server.').hint).toBe('Ask the server.');
  });
});

/**
 * The option checker: one voice for every option that is refused.
 *
 * Values are checked, never clamped or converted. What an option means, its default and the rules between
 * options belong to the caller.
 */
import { PulsepoolError } from './errors.ts';

/**
 * The error for an option with a wrong value. The value is shown, so don't pass secrets as `got`.
 *
 *     Expected `lengthBytes` to be one of 1, 2, 3, 4, 8, got 5 (number)
 */
export function invalidOption(name: string, expected: string, got: unknown, hint?: string): PulsepoolError {
  return new PulsepoolError(
    'ERR_INVALID_OPTION',
    `Expected \`${name}\` to ${expected}, got ${described(got)}`,
    {
      retryable: false,
      hint: hint ?? `Correct \`${name}\`; nothing was opened.`,
    },
  );
}

/**
 * Refuses anything but an object, and any key that isn't known.
 *
 * @param where - what takes the options, as the message should name it: `lengthPrefixed()`, `heartbeat`
 */
export function checkKeys(where: string, object: unknown, known: readonly string[]): void {
  if (typeof object !== 'object' || object === null || Array.isArray(object)) {
    throw new PulsepoolError(
      'ERR_INVALID_OPTION',
      `Expected the options of ${where} to be an object, got ${described(object)}`,
      { retryable: false, hint: `Known options: ${known.join(', ')}.` },
    );
  }
  for (const key of Object.keys(object)) {
    if (known.includes(key)) continue;
    const near = nearest(key, known);
    const question = near === undefined ? '' : `. Did you mean \`${near}\`?`;
    throw new PulsepoolError('ERR_INVALID_OPTION', `Unknown option \`${key}\` of ${where}${question}`, {
      retryable: false,
      hint: `Known options: ${known.join(', ')}.`,
    });
  }
}

/** The value, when it is a safe integer within the bounds (both included). */
export function checkInteger(
  name: string,
  value: unknown,
  bounds: { readonly min?: number; readonly max?: number } = {},
): number {
  const min = bounds.min ?? Number.MIN_SAFE_INTEGER;
  const max = bounds.max ?? Number.MAX_SAFE_INTEGER;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw invalidOption(name, `be ${integerBetween(bounds.min, bounds.max)}`, value);
}

/** The value, when it is one of those allowed. */
export function checkOneOf<T extends string | number | boolean>(
  name: string,
  value: unknown,
  allowed: readonly T[],
): T {
  const found = allowed.find((one) => one === value);
  if (found !== undefined) return found;
  const list = allowed.map((one) => (typeof one === 'string' ? `'${one}'` : String(one))).join(', ');
  throw invalidOption(name, `be one of ${list}`, value);
}

/** The value, when it is `true` or `false`. */
export function checkBoolean(name: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value;
  throw invalidOption(name, 'be true or false', value);
}

/**
 * Refuses options of one call that can't be kept, before anything is done under them.
 *
 * @throws `signal.reason` when the signal is aborted already
 */
export function checkCall(
  where: string,
  options: { readonly signal?: AbortSignal | undefined; readonly timeoutMs?: number | undefined },
  known: readonly string[],
): void {
  checkKeys(where, options, known);
  const { signal, timeoutMs } = options;
  if (timeoutMs !== undefined) checkDuration('timeoutMs', timeoutMs, 0);
  if (signal === undefined) return;
  // By its looks: a signal may come from another realm.
  if (typeof signal !== 'object' || signal === null || typeof signal.throwIfAborted !== 'function') {
    throw invalidOption('signal', 'be an AbortSignal', signal, 'Pass controller.signal, not the controller.');
  }
  signal.throwIfAborted();
}

function integerBetween(min: number | undefined, max: number | undefined): string {
  if (min !== undefined && max !== undefined) return `an integer from ${min} to ${max}`;
  if (min !== undefined) return `an integer of at least ${min}`;
  if (max !== undefined) return `an integer of at most ${max}`;
  return 'a safe integer';
}

function described(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  switch (typeof value) {
    case 'string':
      return `${JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)} (string)`;
    case 'function':
      return 'a function';
    case 'object':
      return Object.prototype.toString.call(value);
    default:
      return `${String(value)} (${typeof value})`;
  }
}

/** The known key that a misspelt one most resembles, if any is near. */
function nearest(key: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(1, Math.floor(key.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(key.toLowerCase(), candidate.toLowerCase());
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

// The longest delay of a Node timer.
const LONGEST_MS = 2 ** 31 - 1;

/** The value, when it is a duration in ms that a timer can keep, or `Infinity`. */
export function checkDuration(name: string, value: unknown, min: number): number {
  if (value === Number.POSITIVE_INFINITY) return value;
  if (typeof value === 'number' && value >= min && value <= LONGEST_MS) return value;
  throw invalidOption(name, `be a duration in ms from ${min} to ${LONGEST_MS}, or Infinity`, value);
}

/** The value, or its default when it is left out. `null` is a value, and refused like any other wrong one. */
export function valueOr<T>(value: T | undefined, fallback: T): T {
  return value === undefined ? fallback : value;
}

/** The value, when it is a function or left out. */
export function optionalFunction<T>(name: string, value: T | undefined): T | undefined {
  if (value === undefined || typeof value === 'function') return value;
  throw invalidOption(name, 'be a function', value);
}

/**
 * A name that no resolver of the chain could resolve, and what each of them said.
 */
import { messageOf } from '../errors.ts';
import { codeOf, isDenial, isSilence } from './lookup.ts';

/** What one resolver of the chain said. */
export interface LookupFailure {
  /** The resolver's name. */
  readonly resolver: string;
  readonly error: unknown;
}

/** No resolver of the chain had an answer. */
export class ResolveError extends Error {
  override readonly name: string = 'ResolveError';
  /**
   * The code that tells most. `ENOTFOUND` or `ENODATA` only if every resolver that answered said so; `ECANCELLED` when
   * the pool was closed.
   */
  readonly code: string;
  /** In the order in which they were asked. */
  readonly failures: readonly LookupFailure[];
  /** How old the last good answer is, in ms; `undefined` when there was none. */
  readonly lastGoodAgeMs: number | undefined;

  constructor(
    host: string,
    failures: readonly LookupFailure[],
    lastGoodAgeMs: number | undefined,
    code: string = tellingCode(failures.map(({ error }) => codeOf(error))),
  ) {
    super(`${host} could not be resolved (${code})${said(failures)}`, { cause: failures[0]?.error });
    this.code = code;
    this.failures = failures;
    this.lastGoodAgeMs = lastGoodAgeMs;
  }

  /**
   * Whether the whole chain says that there is no such name. One that did not answer might have known it: a public
   * resolver denies every private name while the private one is down.
   */
  get isDenied(): boolean {
    return this.failures.length > 0 && this.failures.every(({ error }) => isDenial(codeOf(error)));
  }
}

function tellingCode(codes: readonly string[]): string {
  const answers = codes.filter((code) => !isSilence(code));
  const trouble = answers.find((code) => !isDenial(code));
  if (trouble !== undefined) return trouble;
  // One of them knows the name.
  if (answers.includes('ENODATA')) return 'ENODATA';
  return answers[0] ?? codes[0] ?? 'EUNKNOWN';
}

function said(failures: readonly LookupFailure[]): string {
  if (failures.length === 0) return '';
  return `: ${failures.map(({ error, resolver }) => `${resolver} said ${messageOf(error)}`).join('; ')}`;
}

/**
 * What is told when every address of a race has failed: one error that speaks for all and lists what each came to.
 */
import { type ErrorCode, messageOf, PulsepoolError } from '../errors.ts';
import { DialError, type DialPhase } from './dial-error.ts';

// What is told of one address only if no other has more to tell: a family without a route, a firewall.
const SAYS_LITTLE: ReadonlySet<ErrorCode> = new Set([
  'ERR_CONNECT',
  'ERR_CONNECT_TIMEOUT',
  'ERR_NO_LOCAL_PORTS',
  'ERR_UNREACHABLE',
] as const);
const MOST_LISTED = 8;

/** What one attempt came to. */
export interface RaceFailure {
  readonly address: string;
  readonly error: unknown;
}

/** What one failure has to say. */
interface Voice {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly hint: string;
  readonly phase: DialPhase;
  readonly reason: string;
}

function voiceOf({ error }: RaceFailure): Voice {
  if (error instanceof DialError) return error;
  const phase = 'handshake';
  const reason = messageOf(error).replace(/\.$/, '');
  if (error instanceof PulsepoolError) {
    return { code: error.code, retryable: error.retryable, hint: error.hint, phase, reason };
  }
  return { code: 'ERR_CONNECT', retryable: false, hint: 'See the cause.', phase, reason };
}

/**
 * One error for all. It is retryable if any was, and speaks with the code, phase and hint of one that was: the last with
 * the commonest code, of those that say more than "no way there" if there are any. So it is a matter of trust only if
 * no address may do better next time.
 */
export function allFailed(
  endpoint: string,
  failures: readonly RaceFailure[],
  untried: readonly string[],
): DialError {
  const voices = failures.map(voiceOf);
  const retryable = voices.some((voice) => voice.retryable);
  const speaking = voices.filter((voice) => voice.retryable === retryable);
  const telling = speaking.filter(({ code }) => !SAYS_LITTLE.has(code));
  const { code, hint, phase } = commonest(telling.length > 0 ? telling : speaking);
  const said = voices.map((voice, i) => `${failures[i]?.address}: ${voice.reason}`);
  const reason = [
    ...said.slice(0, MOST_LISTED),
    ...(said.length > MOST_LISTED ? [`${said.length - MOST_LISTED} more failed`] : []),
    ...(untried.length > 0 ? [`${untried.length} not tried, for lack of time`] : []),
  ].join('; ');
  const count = failures.length + untried.length;
  return new DialError(code, `Could not connect to ${endpoint} by any of ${count} addresses. ${reason}.`, {
    phase,
    endpoint,
    retryable,
    hint,
    reason,
    cause: new AggregateError(
      failures.map(({ error }) => error),
      reason,
    ),
  });
}

/** The last of those whose code is the commonest. There is at least one. */
function commonest(voices: readonly Voice[]): Voice {
  const countOf = ({ code }: Voice): number => voices.filter((voice) => voice.code === code).length;
  return voices.reduce((best, voice) => (countOf(voice) >= countOf(best) ? voice : best));
}

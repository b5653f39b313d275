/**
 * A dial that failed, as an error with a story: which code, in which phase, by which address, whether trying again can
 * help, and what to look at. What each code of the system's means is in dial-story.ts.
 */
import net from 'node:net';
import { type ErrorCode, messageOf, PulsepoolError } from '../errors.ts';
import {
  isAboutOurCertificate,
  RESET,
  SETUP,
  type Story,
  storyOf,
  TLS_SETUP,
  tlsStory,
} from './dial-story.ts';
import { withAddress } from './endpoint.ts';

/** The steps of a dial, in order. */
export type DialPhase = 'dns' | 'tcp' | 'tls' | 'handshake';

/** What a {@link DialError} tells beside its code and message. */
export interface DialErrorDetails {
  readonly phase: DialPhase;
  readonly endpoint: string;
  readonly retryable: boolean;
  readonly hint: string;
  readonly address?: string | undefined;
  readonly reason?: string;
  readonly cause?: unknown;
}

/** A dial that failed. */
export class DialError extends PulsepoolError {
  override readonly name: string = 'DialError';
  /** The step that failed. */
  readonly phase: DialPhase;
  /** `host:port` or path. */
  readonly endpoint: string;
  /** The IP address that was dialed, where it was one. */
  readonly address: string | undefined;
  /** What went wrong, in words and without the endpoint's name: what one address has to say beside others. */
  readonly reason: string;

  constructor(code: ErrorCode, message: string, details: DialErrorDetails) {
    super(code, message, details);
    this.phase = details.phase;
    this.endpoint = details.endpoint;
    this.address = details.address;
    this.reason = details.reason ?? message;
  }
}

/** The `code` of a system error, or an empty string. */
function systemCode(error: unknown): string {
  if (!(error instanceof Error)) return '';
  const code: unknown = Reflect.get(error, 'code');
  return typeof code === 'string' ? code : '';
}

/**
 * The story of an error that ended a dial in `phase`; `undefined` when the socket closed without one.
 * `isUntrusted`: Node had refused the certificate, be it by a `checkServerIdentity` whose errors nobody knows.
 */
export function explainDialError(
  error: unknown,
  phase: DialPhase,
  endpoint: string,
  isUntrusted = false,
  address?: string,
): DialError {
  if (error instanceof DialError) return error;
  const code = systemCode(error);
  const story = storyOf(error === undefined ? undefined : code, phase === 'tls', isUntrusted);
  return tell(story, code, { phase, endpoint, address, cause: error });
}

const OF_ADDRESS = new Set(['ERR_INVALID_IP_ADDRESS', 'ENAMETOOLONG']);

/** The story of an error that was thrown before anything was dialed: trying again can't help. */
export function explainSetupError(error: unknown, isTls: boolean, endpoint: string): DialError {
  const code = systemCode(error);
  const isOfTls = isTls && !OF_ADDRESS.has(code);
  const phase = isOfTls ? 'tls' : 'tcp';
  return tell(isOfTls ? TLS_SETUP : SETUP, code, { phase, endpoint, cause: error });
}

/** A socket bound to an address of one family can't reach the other. */
export function otherFamily(localAddress: string, endpoint: string, address: string): DialError {
  const family = (ip: string): string => (net.isIPv4(ip) ? 'IPv4' : 'IPv6');
  const story: Story = {
    code: 'ERR_CONNECT',
    retryable: false,
    what: `\`localAddress\` ${localAddress} is ${family(localAddress)}, the server’s address ${address} is ${family(address)}`,
    hint: `Set \`localAddress\` to an ${family(address)} address of this machine, leave it out, or give the server’s name an ${family(localAddress)} address.`,
  };
  return tell(story, '', { phase: 'tcp', endpoint, address });
}

function tell(
  story: Story,
  code: string,
  where: { phase: DialPhase; endpoint: string; address?: string | undefined; cause?: unknown },
): DialError {
  const seen = code === '' ? '' : ` (${code})`;
  const reason = `${story.what}${seen}, in phase ${where.phase}`;
  return new DialError(
    story.code,
    `Could not connect to ${withAddress(where.endpoint, where.address)}: ${reason}.`,
    { ...where, retryable: story.retryable, hint: story.hint, reason },
  );
}

// The name is the matter, not the resolver. c-ares says ENODATA of a name that has records of other types only.
const NO_SUCH_NAME = new Set(['ENOTFOUND', 'ENODATA', 'ENONAME', 'EAI_NONAME', 'EAI_NODATA']);
const NO_SUCH_NAME_HINT =
  'There is no such name, or it has no address: check it, and the search domains (in Kubernetes: service, namespace, cluster DNS).';
const RESOLVER_FAILED_HINT =
  'No resolver gave an answer, which says nothing about the name: check the resolvers and the network to them.';

/**
 * The name has no address, or nobody would tell. Where the error carries `failures` (`{resolver, error}` each) and
 * `lastGoodAgeMs`, they are told too.
 */
export function resolveFailed(error: unknown, endpoint: string): DialError {
  if (error instanceof DialError) return error;
  const code = systemCode(error);
  const seen = code === '' ? '' : ` (${code})`;
  const asked = failuresOf(error).map(({ resolver, error: said }) => {
    return `${resolver}: ${systemCode(said) || messageOf(said)}`;
  });
  const ageMs: unknown = error instanceof Error ? Reflect.get(error, 'lastGoodAgeMs') : undefined;
  const age =
    typeof ageMs === 'number' && Number.isFinite(ageMs)
      ? [`the last good answer is ${Math.round(ageMs / 1_000)} s old`]
      : [];
  const reason = [`the name could not be resolved${seen}, in phase dns`, ...asked, ...age].join('; ');
  return new DialError('ERR_DNS', `Could not connect to ${endpoint}: ${reason}.`, {
    phase: 'dns',
    endpoint,
    retryable: true,
    hint: NO_SUCH_NAME.has(code) ? NO_SUCH_NAME_HINT : RESOLVER_FAILED_HINT,
    reason,
    cause: error,
  });
}

/** The user's function that finds endpoints has thrown. */
export function discoverFailed(error: unknown, endpoint: string): DialError {
  const reason = `the function in \`endpoints\` failed, in phase dns: ${messageOf(error)}`;
  return new DialError('ERR_DNS', `No endpoint to dial: ${reason}.`, {
    phase: 'dns',
    endpoint,
    retryable: true,
    hint: 'It is called again after a while; the last list that it gave stays. See the cause.',
    reason,
    cause: error,
  });
}

/** The user's function that finds endpoints has given no list in time. */
export function discoverSilent(endpoint: string, connectTimeoutMs: number): DialError {
  const reason = `the function in \`endpoints\` has yielded no list within ${connectTimeoutMs} ms, in phase dns`;
  return new DialError('ERR_CONNECT_TIMEOUT', `No endpoint to dial: ${reason}.`, {
    phase: 'dns',
    endpoint,
    retryable: true,
    hint: 'It must yield the whole list as soon as it knows it, and again whenever it has changed.',
    reason,
  });
}

/** What each resolver said. Read as found: the errors of resolving are not known here. */
function failuresOf(error: unknown): readonly { resolver: string; error: unknown }[] {
  const failures: unknown = error instanceof Error ? Reflect.get(error, 'failures') : undefined;
  if (!Array.isArray(failures)) return [];
  return failures.flatMap((failure: unknown) => {
    if (typeof failure !== 'object' || failure === null) return [];
    const resolver: unknown = Reflect.get(failure, 'resolver');
    return typeof resolver === 'string' ? [{ resolver, error: Reflect.get(failure, 'error') }] : [];
  });
}

const TIMEOUT_HINTS: Readonly<Record<DialPhase, string>> = {
  dns: 'The resolver did not answer: check it, and the name.',
  tcp: 'No answer to the SYN: a firewall may drop packets, the host may be down, or the backlog is full.',
  tls: 'The port accepts but does not answer the TLS hello: it may be a plain port, or the server is stuck.',
  handshake: 'The server accepted but `onConnect` did not finish: the server may be stuck or overloaded.',
};

/** The dial did not finish within its time. */
export function dialTimeout(
  phase: DialPhase,
  endpoint: string,
  afterMs: number,
  address?: string,
): DialError {
  const reason = `phase ${phase} did not finish within connectTimeoutMs (${afterMs} ms for all phases)`;
  return new DialError(
    'ERR_CONNECT_TIMEOUT',
    `Could not connect to ${withAddress(endpoint, address)}: ${reason}.`,
    { phase, endpoint, address, retryable: true, hint: TIMEOUT_HINTS[phase], reason },
  );
}

/** The server's word that it refuses our certificate; with TLS 1.3 it comes after the handshake. */
export function certificateRefused(endpoint: string, cause: unknown): DialError | undefined {
  return isAboutOurCertificate(systemCode(cause)) ? acceptedThenClosed(endpoint, cause) : undefined;
}

/** What a peer that ended a young, silent connection is told as. */
export function acceptedThenClosed(endpoint: string, cause: unknown): DialError {
  const trust = tlsStory(systemCode(cause));
  const story = trust ?? RESET;
  return new DialError(story.code, `Lost the new connection to ${endpoint}: ${story.what}.`, {
    phase: trust === undefined ? 'tcp' : 'tls',
    endpoint,
    retryable: story.retryable,
    hint: story.hint,
    reason: story.what,
    cause,
  });
}

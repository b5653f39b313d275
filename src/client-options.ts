/**
 * The options of a client beside those of its pool: their types, their defaults, and the one function that resolves
 * them. Unknown or impossible values throw; nothing is clamped or converted.
 */
import type { Correlate } from './client/flights.ts';
import {
  checkBoolean,
  checkDuration,
  checkInteger,
  checkKeys,
  checkOneOf,
  invalidOption,
  optionalFunction,
  valueOr,
} from './option-check.ts';
import { checkNames, type PoolOptions } from './options.ts';
import { BREAKER_DEFAULTS, type BreakerOptions } from './retry/breaker.ts';
import { BUDGET_DEFAULTS, type BudgetOptions } from './retry/budget.ts';

/**
 * How requests share sockets.
 *
 * - `exclusive`: one request at a time on a socket
 * - `pipelined`: many on a socket; replies come in the order of the requests
 * - `multiplexed`: many on a socket; replies come in any order, each with the id of its request
 */
export type ClientMode = 'exclusive' | 'pipelined' | 'multiplexed';

/** Everything `createClient` takes: the options of `createPool`, and these. */
export interface ClientOptions<In, Out> extends PoolOptions<In, Out> {
  /** Default: `'exclusive'`. */
  readonly mode?: ClientMode;
  /**
   * For shared modes: requests on one socket at most; it is filled before another one is used. Default: 1,000, or
   * `correlate.maxId` if that is less.
   */
  readonly maxInFlight?: number;
  /** For `multiplexed`: how an id gets into a message, and out of its reply. */
  readonly correlate?: Correlate<In, Out>;
  /**
   * For each request, in ms: waiting, dialing, sending, receiving and all repetitions. A request may have its own.
   * `Infinity`: none. Default: 30,000.
   */
  readonly timeoutMs?: number;
  /**
   * Called with each reply: how long to wait, in ms, before the request is sent again, when the reply says that the
   * server did not do it; `Infinity`: not at all; `undefined` for every other reply. Who can't be sent again gets the
   * reply. When it throws or returns anything else the request fails with `ERR_HOOK`.
   */
  readonly retryAfter?: (reply: Out) => number | undefined;
  /** How much may be repeated. Default: 20 % of the requests of the last 10 s, and 5 a second. */
  readonly retryBudget?: Partial<BudgetOptions>;
  /** A circuit breaker, with `{}` for its defaults. Default: none, since dials have a back-off of their own. */
  readonly breaker?: Partial<BreakerOptions>;
  /**
   * Sends idempotent requests a second time, on another socket, when they have taken longer than 95 % of the others; the
   * first reply wins. A request may say otherwise. Default: `false`.
   */
  readonly hedge?: boolean;
}

/** The defaults, as the README's table prints them. */
export const CLIENT_DEFAULTS: {
  readonly mode: ClientMode;
  readonly maxInFlight: number;
  readonly timeoutMs: number;
  readonly retryBudget: BudgetOptions;
  readonly breaker: BreakerOptions;
  readonly hedge: boolean;
} = {
  mode: 'exclusive',
  maxInFlight: 1_000,
  timeoutMs: 30_000,
  retryBudget: BUDGET_DEFAULTS,
  breaker: BREAKER_DEFAULTS,
  hedge: false,
};

/** The names of the options that a client has beside its pool's. */
const CLIENT_KEYS: readonly (keyof ClientOptions<unknown, unknown>)[] = [
  'mode',
  'maxInFlight',
  'correlate',
  'timeoutMs',
  'retryAfter',
  'retryBudget',
  'breaker',
  'hedge',
];

/** Options with every default filled in. */
export interface ResolvedClientOptions<In, Out> {
  readonly mode: ClientMode;
  readonly maxInFlight: number;
  readonly correlate: Correlate<In, Out> | undefined;
  readonly timeoutMs: number;
  readonly retryAfter: ((reply: Out) => number | undefined) | undefined;
  readonly retryBudget: BudgetOptions;
  readonly breaker: BreakerOptions | undefined;
  readonly hedge: boolean;
}

/**
 * Parts the options of a client from those of its pool, checks them and fills in defaults.
 *
 * @throws PulsepoolError `ERR_INVALID_OPTION` that names the option, what was expected and what came.
 */
export function resolveClientOptions<In, Out>(
  options: ClientOptions<In, Out>,
): { readonly own: ResolvedClientOptions<In, Out>; readonly pools: PoolOptions<In, Out> } {
  checkNames('createClient()', options, CLIENT_KEYS);
  const {
    mode: _1,
    maxInFlight,
    correlate,
    timeoutMs,
    retryAfter,
    retryBudget,
    breaker,
    hedge,
    ...pools
  } = options;
  const mode = checkOneOf('mode', valueOr(options.mode, CLIENT_DEFAULTS.mode), [
    'exclusive',
    'pipelined',
    'multiplexed',
  ]);
  if (mode === 'exclusive' && maxInFlight !== undefined) {
    throw invalidOption('maxInFlight', 'come with the mode `pipelined` or `multiplexed`', maxInFlight);
  }
  const { codec } = pools;
  if (mode !== 'exclusive' && typeof codec === 'object' && codec?.framed === false) {
    throw invalidOption('codec', `find the ends of frames with the mode \`${mode}\``, codec.name ?? codec);
  }
  const maxId = resolveCorrelate(mode, correlate)?.maxId ?? Number.MAX_SAFE_INTEGER;
  const usual = Math.min(CLIENT_DEFAULTS.maxInFlight, maxId);
  return {
    own: {
      mode,
      maxInFlight: checkInteger('maxInFlight', valueOr(maxInFlight, usual), { min: 1, max: maxId }),
      correlate,
      timeoutMs: checkDuration('timeoutMs', valueOr(timeoutMs, CLIENT_DEFAULTS.timeoutMs), 1),
      retryAfter: optionalFunction('retryAfter', retryAfter),
      retryBudget: resolveBudget(retryBudget),
      breaker: breaker === undefined ? undefined : resolveBreaker(breaker),
      hedge: checkBoolean('hedge', valueOr(hedge, CLIENT_DEFAULTS.hedge)),
    },
    pools,
  };
}

function resolveCorrelate<In, Out>(
  mode: ClientMode,
  correlate: Correlate<In, Out> | undefined,
): Correlate<In, Out> | undefined {
  if (mode !== 'multiplexed') {
    if (correlate === undefined) return undefined;
    throw invalidOption('correlate', 'come with the mode `multiplexed`', correlate);
  }
  if (correlate === undefined) {
    throw invalidOption(
      'correlate',
      'be given with the mode `multiplexed`: it finds out whose reply a frame is',
      correlate,
    );
  }
  checkKeys('correlate', correlate, ['write', 'read', 'maxId']);
  for (const name of ['write', 'read'] as const) {
    if (typeof correlate[name] !== 'function')
      throw invalidOption(`correlate.${name}`, 'be a function', correlate[name]);
  }
  if (correlate.maxId !== undefined) checkInteger('correlate.maxId', correlate.maxId, { min: 1 });
  return correlate;
}

function resolveBudget(given: Partial<BudgetOptions> | undefined): BudgetOptions {
  const options = valueOr(given, {});
  checkKeys('retryBudget', options, Object.keys(BUDGET_DEFAULTS));
  return {
    ratio: checkNumber('retryBudget.ratio', valueOr(options.ratio, BUDGET_DEFAULTS.ratio), 0, 10),
    minPerSecond: checkNumber(
      'retryBudget.minPerSecond',
      valueOr(options.minPerSecond, BUDGET_DEFAULTS.minPerSecond),
      0,
      Number.MAX_SAFE_INTEGER,
    ),
  };
}

function resolveBreaker(options: Partial<BreakerOptions>): BreakerOptions {
  checkKeys('breaker', options, Object.keys(BREAKER_DEFAULTS));
  const given = (name: keyof BreakerOptions): number => valueOr(options[name], BREAKER_DEFAULTS[name]);
  const resolved = {
    failures: checkInteger('breaker.failures', given('failures'), { min: 1 }),
    failureRate: checkNumber('breaker.failureRate', given('failureRate'), Number.MIN_VALUE, 1),
    minRequests: checkInteger('breaker.minRequests', given('minRequests'), { min: 1 }),
    windowMs: checkInteger('breaker.windowMs', given('windowMs'), { min: 1_000 }),
    openMs: checkInteger('breaker.openMs', given('openMs'), { min: 1, max: 2 ** 31 - 1 }),
    maxOpenMs: checkInteger('breaker.maxOpenMs', given('maxOpenMs'), { min: 1, max: 2 ** 31 - 1 }),
  };
  if (resolved.maxOpenMs < resolved.openMs) {
    throw invalidOption(
      'breaker.maxOpenMs',
      `be at least \`breaker.openMs\` (${resolved.openMs})`,
      resolved.maxOpenMs,
    );
  }
  return resolved;
}

function checkNumber(name: string, value: unknown, min: number, max: number): number {
  if (typeof value === 'number' && value >= min && value <= max) return value;
  throw invalidOption(name, `be a number from ${min} to ${max}`, value);
}

/**
 * The options of a pool: their types, their defaults, and the one function that resolves them. Unknown or
 * impossible values throw; nothing is clamped or converted.
 */
import { isIP } from 'node:net';
import { createSecureContext } from 'node:tls';
import { type AddressOptions, type ResolvedDns, resolveAddresses, type Target } from './address-options.ts';
import {
  checkBoolean,
  checkDuration,
  checkInteger,
  checkKeys,
  invalidOption,
  optionalFunction,
  valueOr,
} from './option-check.ts';
import type { HandshakeContext } from './pool/handshake.ts';
import type { CloseContext, Hook, HookContext, HookSet } from './pool/hooks.ts';
import type { Lease } from './pool/lease.ts';
import { resolveSizes, type Sizes } from './pool/sizes.ts';
import type { Codec, CodecSource } from './transport/codec.ts';
import type { TlsOptions } from './transport/dial.ts';

/** How resting sockets prove that they live. */
export interface HeartbeatOptions<In, Out> {
  /** How long a socket may be silent before it is pinged, in ms, minus up to 10 %. Default: 30,000. */
  readonly intervalMs?: number;
  /** How long a pong may take, in ms. Default: 5,000. */
  readonly timeoutMs?: number;
  /** Pings in a row that may go unanswered before the socket is dead. Default: 2. */
  readonly maxMissed?: number;
  /** The message to send. Without it nothing is pinged. */
  readonly ping?: In;
  /** Whether a frame answers the ping. Required with `ping`. */
  readonly isPong?: (frame: Out) => boolean;
  /** For servers that ping their clients: the reply to such a frame, or `undefined` for every other frame. */
  readonly answer?: (frame: Out) => In | undefined;
}

/** How failed dials and requests are repeated: full jitter, uniform in [0, min(capMs, baseMs x 2^n)]. */
export interface RetryOptions {
  /** Attempts after the first one; those of a client that are free come on top. Default: 3. */
  readonly retries?: number;
  /** Upper bound of the first delay, in ms. Default: 100. */
  readonly baseMs?: number;
  /** Upper bound of every delay, in ms. Default: 2,000. */
  readonly capMs?: number;
}

/** Everything `createPool` takes. Only the address and the codec are required. */
export interface PoolOptions<In, Out> extends AddressOptions {
  /** Local address to dial from. Default: the system's choice. */
  readonly localAddress?: string;
  /** TLS, with the options of `tls.connect`; verification is on. Default: plain. */
  readonly tls?: TlsOptions;
  /** How messages become bytes and back: `lengthPrefixed()`, `lines()`, `delimited()`, `fixedLength()`, `raw()`, or your own. */
  readonly codec: CodecSource<In, Out>;
  /** Sockets kept open even when nobody needs them. Default: 0. */
  readonly min?: number;
  /** Sockets kept at rest, ready for the next caller, beside those that are leased; `max` holds. Default: 0. */
  readonly minIdle?: number;
  /** Sockets that may rest; a lease that comes back to a full shelf is closed. Default: `max`. */
  readonly maxIdle?: number;
  /** Sockets at most, dialing and closing ones included. Default: 10 (HikariCP). */
  readonly max?: number;
  /**
   * Dials side by side at most; fewer while open sockets may serve everybody before a dial is done, as far as leases
   * and dials have been measured: one, then twice as many after each that still found somebody waiting. Default: 4.
   */
  readonly maxConnecting?: number;
  /**
   * Callers that may wait for a lease of somebody else's; the next one is refused at once. Those for whom there is a
   * place, though its socket must be dialed or checked first, do not count. Default: `Infinity`.
   */
  readonly maxWaiting?: number;
  /** DNS, TCP, TLS and `onConnect` together, in ms. Default: 5,000. */
  readonly connectTimeoutMs?: number;
  /** How long `acquire` may wait, in ms. Default: 30,000 (HikariCP). */
  readonly acquireTimeoutMs?: number;
  /**
   * For overload, in ms: when the caller whose turn it is has waited for this long while no more sockets can be had, the
   * newest is served first, and who has waited for this long is refused at once, until those who wait can be served in
   * time again. A fifth of what your callers will wait is a good value. Default: `Infinity`, first come, first served.
   */
  readonly shedAfterMs?: number;
  /** Longest silence while a reply is due, in ms. Default: 60,000. */
  readonly readTimeoutMs?: number;
  /** Longest stall of a write, in ms. Default: 30,000. */
  readonly writeTimeoutMs?: number;
  /** From the first byte of a frame to its last, in ms. Default: 30,000. */
  readonly frameTimeoutMs?: number;
  /** A socket unused for this long is closed, down to `min` and `minIdle`, in ms. Default: 55,000, under the usual 60 s reapers. */
  readonly idleTimeoutMs?: number;
  /**
   * A socket is replaced at this age, minus up to 10 %, in ms. Its successor opens first if `max` leaves room; else one
   * old socket goes first, one at a time. While the server can't be dialed, old ones serve on. Default: 1,800,000
   * (HikariCP).
   */
  readonly maxLifetimeMs?: number;
  /** A socket is closed when it has been lent this often. Default: `Infinity`. */
  readonly maxUses?: number;
  /** Pings of resting sockets. Default: none, since a ping is protocol bytes. */
  readonly heartbeat?: HeartbeatOptions<In, Out>;
  /** Default: 3 retries, 100 ms, at most 2,000 ms. */
  readonly retry?: RetryOptions;
  /**
   * Called with a lease on each new socket before anybody else gets it: AUTH, SELECT, a greeting. It must read
   * every reply it asks for. Throwing ends the socket.
   */
  readonly onConnect?: (lease: Lease<In, Out>, context: HandshakeContext) => unknown;
  /** Called with each lease before its caller gets it. Throwing ends the socket, and the caller gets another one. */
  readonly onAcquire?: Hook<In, Out, HookContext>;
  /** Called after each release, to reset the session. Throwing ends the socket. */
  readonly onRelease?: Hook<In, Out, HookContext>;
  /**
   * Called before the pool closes a healthy socket at rest, to say goodbye; not for one that is being pinged. The socket
   * ends whatever it does, and within a second when somebody waits for its place.
   */
  readonly onClose?: Hook<In, Out, CloseContext>;
  /** How long `onAcquire`, `onRelease` and `onClose` may take, in ms; then the socket ends. Default: 5,000. */
  readonly hookTimeoutMs?: number;
  /** A lease held for this long is told as `leaked`, with the stack that took it, in ms. Default: `Infinity`, no stacks. */
  readonly leakAfterMs?: number;
  /**
   * Tells, with stacks, who waits for a lease while the same async context holds one and all sockets are leased.
   * Default: `false`, since it costs an AsyncLocalStorage.
   */
  readonly detectDeadlocks?: boolean;
}

/** The defaults, as the README's table prints them. */
export const DEFAULTS = {
  min: 0,
  minIdle: 0,
  max: 10,
  maxConnecting: 4,
  connectTimeoutMs: 5_000,
  acquireTimeoutMs: 30_000,
  readTimeoutMs: 60_000,
  writeTimeoutMs: 30_000,
  frameTimeoutMs: 30_000,
  idleTimeoutMs: 55_000,
  maxLifetimeMs: 1_800_000,
  hookTimeoutMs: 5_000,
  heartbeat: { intervalMs: 30_000, timeoutMs: 5_000, maxMissed: 2 },
  retry: { retries: 3, baseMs: 100, capMs: 2_000 },
} as const;

const KEYS = [
  'host',
  'port',
  'path',
  'endpoints',
  'dns',
  'balance',
  'zone',
  'localAddress',
  'tls',
  'codec',
  'min',
  'minIdle',
  'maxIdle',
  'max',
  'maxConnecting',
  'maxWaiting',
  'connectTimeoutMs',
  'acquireTimeoutMs',
  'shedAfterMs',
  'readTimeoutMs',
  'writeTimeoutMs',
  'frameTimeoutMs',
  'idleTimeoutMs',
  'maxLifetimeMs',
  'maxUses',
  'heartbeat',
  'retry',
  'onConnect',
  'onAcquire',
  'onRelease',
  'onClose',
  'hookTimeoutMs',
  'leakAfterMs',
  'detectDeadlocks',
] as const satisfies readonly (keyof PoolOptions<unknown, unknown>)[];

const HEARTBEAT_KEYS = ['intervalMs', 'timeoutMs', 'maxMissed', 'ping', 'isPong', 'answer'];
const RETRY_KEYS = ['retries', 'baseMs', 'capMs'];

// What other pools and Node call the same thing.
const OTHER_NAMES: ReadonlyMap<string, string> = new Map([
  // generic-pool, tarn
  ['acquireTimeoutMillis', 'acquireTimeoutMs'],
  ['createTimeoutMillis', 'connectTimeoutMs'],
  ['idleTimeoutMillis', 'idleTimeoutMs'],
  ['softIdleTimeoutMillis', 'idleTimeoutMs'],
  ['maxWaitingClients', 'maxWaiting'],
  ['maxQueue', 'maxWaiting'],
  // pg, mysql2
  ['connectionTimeoutMillis', 'acquireTimeoutMs'],
  ['connectionLimit', 'max'],
  ['maxLifetimeSeconds', 'maxLifetimeMs'],
  ['queueLimit', 'maxWaiting'],
  // HikariCP
  ['maximumPoolSize', 'max'],
  ['minimumIdle', 'minIdle'],
  ['leakDetectionThreshold', 'leakAfterMs'],
  ['connectionTimeout', 'acquireTimeoutMs'],
  ['idleTimeout', 'idleTimeoutMs'],
  ['maxLifetime', 'maxLifetimeMs'],
  ['keepaliveTime', 'heartbeat.intervalMs'],
  // undici, ioredis, node:net
  ['connections', 'max'],
  ['connectTimeout', 'connectTimeoutMs'],
  ['socketPath', 'path'],
  ['hostname', 'host'],
  // node:dns, undici, gRPC, Envoy
  ['resolvers', 'dns.resolvers'],
  ['servers', 'endpoints'],
  ['nameservers', 'dns.resolvers'],
  ['fallbackAddresses', 'dns.fallbackAddresses'],
  ['discover', 'endpoints'],
  ['srv', 'endpoints.srv'],
  ['loadBalancingPolicy', 'balance'],
  ['lbPolicy', 'balance'],
]);

/** Options with every default filled in. */
export interface ResolvedOptions<In, Out> {
  readonly target: Target;
  readonly dns: ResolvedDns;
  readonly localAddress: string | undefined;
  readonly tls: TlsOptions | undefined;
  readonly makeCodec: () => Codec<In, Out>;
  readonly sizes: Sizes;
  readonly maxConnecting: number;
  readonly maxWaiting: number;
  readonly maxUses: number;
  readonly connectTimeoutMs: number;
  readonly acquireTimeoutMs: number;
  readonly shedAfterMs: number;
  readonly readTimeoutMs: number;
  readonly writeTimeoutMs: number;
  readonly frameTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxLifetimeMs: number;
  readonly hookTimeoutMs: number;
  readonly leakAfterMs: number;
  readonly detectDeadlocks: boolean;
  readonly heartbeat: { readonly intervalMs: number; readonly timeoutMs: number; readonly maxMissed: number };
  readonly probe: { readonly ping: In; readonly isPong: (frame: Out) => boolean } | undefined;
  readonly answer: ((frame: Out) => In | undefined) | undefined;
  readonly retry: { readonly retries: number; readonly baseMs: number; readonly capMs: number };
  readonly onConnect: PoolOptions<In, Out>['onConnect'];
  readonly hooks: HookSet<In, Out>;
}

/**
 * Checks options and fills in defaults.
 *
 * @throws PulsepoolError `ERR_INVALID_OPTION` that names the option, what was expected and what came.
 */
export function resolveOptions<In, Out>(options: PoolOptions<In, Out>): ResolvedOptions<In, Out> {
  checkNames('createPool()', options, []);
  const { max = DEFAULTS.max } = options;
  const sizes = resolveSizes(options, { min: DEFAULTS.min, minIdle: DEFAULTS.minIdle, maxIdle: max, max });
  const makeCodec = resolveCodec(options.codec);
  checkInterplay(options);
  const beats = resolveHeartbeat(options.heartbeat);
  if (beats.probe !== undefined) checkPing(makeCodec, beats.probe.ping);
  return Object.freeze({
    ...resolveAddresses(options),
    localAddress: optionalAddress('localAddress', options.localAddress),
    tls: resolveTls(options.tls),
    makeCodec,
    sizes,
    maxConnecting: checkInteger('maxConnecting', valueOr(options.maxConnecting, DEFAULTS.maxConnecting), {
      min: 1,
    }),
    maxWaiting: countOrInfinity('maxWaiting', options.maxWaiting, 0),
    maxUses: countOrInfinity('maxUses', options.maxUses, 1),
    ...resolveTimes(options),
    leakAfterMs: checkDuration('leakAfterMs', valueOr(options.leakAfterMs, Number.POSITIVE_INFINITY), 1),
    shedAfterMs: checkDuration('shedAfterMs', valueOr(options.shedAfterMs, Number.POSITIVE_INFINITY), 1),
    detectDeadlocks: checkBoolean('detectDeadlocks', valueOr(options.detectDeadlocks, false)),
    ...beats,
    retry: resolveRetry(options.retry),
    onConnect: optionalFunction('onConnect', options.onConnect),
    hooks: {
      onAcquire: optionalFunction('onAcquire', options.onAcquire),
      onRelease: optionalFunction('onRelease', options.onRelease),
      onClose: optionalFunction('onClose', options.onClose),
    },
  });
}

/**
 * Refuses anything but an object, and names that are not those of a pool's options or of the `others`.
 *
 * @throws PulsepoolError `ERR_INVALID_OPTION` that knows how the option is called here, if it was called otherwise.
 */
export function checkNames(where: string, options: unknown, others: readonly string[]): void {
  if (typeof options === 'object' && options !== null) {
    for (const key of Object.keys(options)) {
      const name = OTHER_NAMES.get(key);
      if (name !== undefined) throw invalidOption(key, `be called \`${name}\``, key);
    }
  }
  checkKeys(where, options, [...KEYS, ...others]);
}

/** Options that would do nothing, though their author believes that they do. */
function checkInterplay<In, Out>(options: PoolOptions<In, Out>): void {
  const { acquireTimeoutMs = DEFAULTS.acquireTimeoutMs, hookTimeoutMs, shedAfterMs } = options;
  const { onAcquire, onClose, onRelease } = options;
  if (hookTimeoutMs !== undefined && (onAcquire ?? onRelease ?? onClose) === undefined) {
    throw invalidOption('hookTimeoutMs', 'come with onAcquire, onRelease or onClose', hookTimeoutMs);
  }
  if (
    shedAfterMs !== undefined &&
    shedAfterMs !== Number.POSITIVE_INFINITY &&
    shedAfterMs >= acquireTimeoutMs
  ) {
    throw invalidOption(
      'shedAfterMs',
      `be less than \`acquireTimeoutMs\` (${acquireTimeoutMs})`,
      shedAfterMs,
    );
  }
}

function countOrInfinity(name: string, value: number | undefined, min: number): number {
  if (value === undefined || value === Number.POSITIVE_INFINITY) return Number.POSITIVE_INFINITY;
  return checkInteger(name, value, { min });
}

const TIMES = [
  'connectTimeoutMs',
  'acquireTimeoutMs',
  'readTimeoutMs',
  'writeTimeoutMs',
  'frameTimeoutMs',
  'idleTimeoutMs',
  'maxLifetimeMs',
  'hookTimeoutMs',
] as const;

type Times = Record<(typeof TIMES)[number], number>;

function resolveTimes(options: Partial<Times>): Times {
  const times: Times = { ...pick(DEFAULTS, TIMES) };
  for (const name of TIMES) times[name] = checkDuration(name, valueOr(options[name], DEFAULTS[name]), 1);
  return times;
}

function pick(from: Readonly<Times>, names: readonly (keyof Times)[]): Times {
  return Object.fromEntries(names.map((name) => [name, from[name]])) as Times;
}

function resolveTls(tls: unknown): TlsOptions | undefined {
  if (tls === undefined) return undefined;
  if (typeof tls !== 'object' || tls === null || Array.isArray(tls)) {
    throw invalidOption('tls', 'be an object of tls.connect options ({} for the defaults)', tls);
  }
  for (const key of ['host', 'port', 'path', 'socket', 'timeout']) {
    if (key in tls) throw invalidOption(`tls.${key}`, 'be left out: it is set by the pool', key);
  }
  try {
    createSecureContext(tls);
  } catch (error) {
    // The value is not shown: it may be a private key.
    const what = error instanceof Error ? error.message : String(error);
    throw invalidOption(
      'tls',
      'hold certificates, keys and ciphers that OpenSSL can read',
      tls,
      `OpenSSL says: ${what}`,
    );
  }
  return tls;
}

function resolveCodec<In, Out>(source: CodecSource<In, Out>): () => Codec<In, Out> {
  if (typeof source === 'function') {
    // Made once here, so that a factory that can't work fails now and not at the first dial.
    const make = (): Codec<In, Out> => {
      const codec = source();
      checkCodec(codec);
      return codec;
    };
    make();
    return make;
  }
  checkCodec(source);
  return () => source;
}

function checkCodec(codec: unknown): void {
  const isCodec =
    typeof codec === 'object' &&
    codec !== null &&
    'encode' in codec &&
    typeof codec.encode === 'function' &&
    'decode' in codec &&
    typeof codec.decode === 'function';
  if (isCodec) {
    const limit = 'maxFrameBytes' in codec ? codec.maxFrameBytes : undefined;
    if (limit !== undefined) checkInteger('codec.maxFrameBytes', limit, { min: 1 });
    return;
  }
  throw invalidOption(
    'codec',
    'be a codec, such as lengthPrefixed() or lines(), or a function that makes one',
    codec,
    'A codec is an object with encode(message) and decode(bytes).',
  );
}

function resolveHeartbeat<In, Out>(
  source: HeartbeatOptions<In, Out> | undefined,
): Pick<ResolvedOptions<In, Out>, 'heartbeat' | 'probe' | 'answer'> {
  const options = valueOr(source, {});
  checkKeys('heartbeat', options, HEARTBEAT_KEYS);
  const isPong = optionalFunction('heartbeat.isPong', options.isPong);
  const { ping } = options;
  if ((ping === undefined) !== (isPong === undefined)) {
    const missing = ping === undefined ? 'heartbeat.ping' : 'heartbeat.isPong';
    throw invalidOption(missing, 'be given together with the other of ping and isPong', undefined);
  }
  const resolved = {
    heartbeat: {
      intervalMs: checkDuration(
        'heartbeat.intervalMs',
        valueOr(options.intervalMs, DEFAULTS.heartbeat.intervalMs),
        1,
      ),
      timeoutMs: checkDuration(
        'heartbeat.timeoutMs',
        valueOr(options.timeoutMs, DEFAULTS.heartbeat.timeoutMs),
        1,
      ),
      maxMissed: checkInteger(
        'heartbeat.maxMissed',
        valueOr(options.maxMissed, DEFAULTS.heartbeat.maxMissed),
        {
          min: 1,
        },
      ),
    },
    probe: ping === undefined || isPong === undefined ? undefined : { ping, isPong },
    answer: optionalFunction('heartbeat.answer', options.answer),
  };
  if (ping === undefined && isPong === undefined) {
    for (const name of ['intervalMs', 'timeoutMs', 'maxMissed'] as const) {
      // It would do nothing, and its author believes that sockets are pinged.
      if (options[name] !== undefined) {
        throw invalidOption('heartbeat.ping', `be given, since \`heartbeat.${name}\` is`, undefined);
      }
    }
  }
  return resolved;
}

function resolveRetry(source: RetryOptions | undefined): ResolvedOptions<never, never>['retry'] {
  const options = valueOr(source, {});
  checkKeys('retry', options, RETRY_KEYS);
  const retries = checkInteger('retry.retries', valueOr(options.retries, DEFAULTS.retry.retries), { min: 0 });
  // Finite: a wait that no timer can keep would never end.
  const bounds = { min: 1, max: 2 ** 31 - 1 };
  const baseMs = checkInteger('retry.baseMs', valueOr(options.baseMs, DEFAULTS.retry.baseMs), bounds);
  const capMs = checkInteger('retry.capMs', valueOr(options.capMs, DEFAULTS.retry.capMs), bounds);
  if (capMs < baseMs) throw invalidOption('retry.capMs', `be at least \`retry.baseMs\` (${baseMs})`, capMs);
  return { retries, baseMs, capMs };
}

function optionalAddress(name: string, value: unknown): string | undefined {
  if (value === undefined || (typeof value === 'string' && isIP(value) !== 0)) return value;
  throw invalidOption(name, 'be an IPv4 or IPv6 address', value);
}

/** A ping that can't be sent would end every socket at its first beat. */
function checkPing<In, Out>(makeCodec: () => Codec<In, Out>, ping: In): void {
  try {
    makeCodec().encode(ping);
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw invalidOption(
      'heartbeat.ping',
      'be a message that the codec can encode',
      ping,
      `The codec says: ${what}`,
    );
  }
}

import { describe, expect, it } from 'vitest';
import { createPool } from '../../src/create-pool.ts';
import { PulsepoolError } from '../../src/errors.ts';
import { DEFAULTS, type PoolOptions, resolveOptions } from '../../src/options.ts';
import { lines } from '../../src/transport/lines.ts';

const VALID = { host: 'orders.internal', port: 7_000, codec: lines() };

function refusal(options: unknown): PulsepoolError {
  try {
    resolveOptions(options as PoolOptions<string, string>);
  } catch (error) {
    if (error instanceof PulsepoolError) return error;
    throw error;
  }
  throw new Error('the options were accepted');
}

describe('the options', () => {
  it('have the defaults that the README prints', () => {
    expect(DEFAULTS).toEqual({
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
    });
    const { max, min, minIdle, ...TIMES } = DEFAULTS;
    const resolved = resolveOptions(VALID);
    expect(resolved).toMatchObject({
      ...TIMES,
      sizes: { min, minIdle, maxIdle: 10, max },
      maxWaiting: Number.POSITIVE_INFINITY,
      maxUses: Number.POSITIVE_INFINITY,
      shedAfterMs: Number.POSITIVE_INFINITY,
      leakAfterMs: Number.POSITIVE_INFINITY,
      detectDeadlocks: false,
      target: { kind: 'one', endpoint: { kind: 'tcp', port: 7_000 } },
      dns: {
        resolvers: ['system'],
        timeoutMs: 3_000,
        refreshMs: 30_000,
        maxStaleMs: 900_000,
        fallbackAddresses: [],
      },
    });
    expect(Object.isFrozen(resolved)).toBe(true);
    expect(resolveOptions({ ...VALID, max: 3 }).sizes.maxIdle).toBe(3);
  });

  it('left out and given as undefined are the same', () => {
    const all = Object.fromEntries(
      [
        'min',
        'max',
        'maxIdle',
        'connectTimeoutMs',
        'heartbeat',
        'retry',
        'tls',
        'onConnect',
        'localAddress',
        'path',
      ].map((name) => [name, undefined]),
    );
    const given = resolveOptions({ ...VALID, ...all } as PoolOptions<string, string>);
    expect(JSON.stringify(given)).toBe(JSON.stringify(resolveOptions(VALID)));
  });

  it.each<[string, unknown, string]>([
    ['host', { ...VALID, host: undefined }, 'undefined'],
    ['host', { ...VALID, host: '' }, '"" (string)'],
    ['host', { ...VALID, host: 7 }, '7 (number)'],
    ['port', { ...VALID, port: undefined }, 'undefined'],
    ['port', { ...VALID, port: 0 }, '0 (number)'],
    ['port', { ...VALID, port: 65_536 }, '65536 (number)'],
    ['port', { ...VALID, port: '7000' }, '"7000" (string)'],
    ['port', { ...VALID, port: 1.5 }, '1.5 (number)'],
    ['path', { ...VALID, path: '/run/x.sock' }, '"/run/x.sock" (string)'],
    ['path', { path: '', codec: lines() }, '"" (string)'],
    ['path', { path: 5, codec: lines() }, '5 (number)'],
    ['localAddress', { ...VALID, localAddress: 5 }, '5 (number)'],
    ['tls', { ...VALID, tls: true }, 'true (boolean)'],
    ['tls', { ...VALID, tls: null }, 'null'],
    ['tls', { ...VALID, tls: [] }, 'an array of 0'],
    ['tls.host', { ...VALID, tls: { host: 'other' } }, '"host" (string)'],
    ['codec', { host: 'h', port: 1 }, 'undefined'],
    ['codec', { ...VALID, codec: 'lines' }, '"lines" (string)'],
    ['codec', { ...VALID, codec: { encode: () => Buffer.alloc(0) } }, '[object Object]'],
    ['codec', { ...VALID, codec: () => undefined }, 'undefined'],
    ['codec', { ...VALID, codec: lines }, ''],
    ['min', { ...VALID, min: -1 }, '-1 (number)'],
    ['min', { ...VALID, min: 11 }, '11 (number)'],
    ['min', { ...VALID, min: null }, 'null'],
    ['max', { ...VALID, max: 0 }, '0 (number)'],
    ['max', { ...VALID, max: '5' }, '"5" (string)'],
    ['max', { ...VALID, max: null }, 'null'],
    ['max', { ...VALID, max: Number.POSITIVE_INFINITY }, 'Infinity (number)'],
    ['max', { ...VALID, max: Number.NaN }, 'NaN (number)'],
    ['maxIdle', { ...VALID, maxIdle: -1 }, '-1 (number)'],
    ['maxIdle', { ...VALID, maxIdle: 11 }, '11 (number)'],
    ['maxIdle', { ...VALID, min: 3, maxIdle: 2 }, '2 (number)'],
    ['connectTimeoutMs', { ...VALID, connectTimeoutMs: 0 }, '0 (number)'],
    ['acquireTimeoutMs', { ...VALID, acquireTimeoutMs: -5 }, '-5 (number)'],
    ['readTimeoutMs', { ...VALID, readTimeoutMs: '60s' }, '"60s" (string)'],
    ['writeTimeoutMs', { ...VALID, writeTimeoutMs: Number.NaN }, 'NaN (number)'],
    ['frameTimeoutMs', { ...VALID, frameTimeoutMs: 2 ** 31 }, '2147483648 (number)'],
    ['idleTimeoutMs', { ...VALID, idleTimeoutMs: null }, 'null'],
    ['maxLifetimeMs', { ...VALID, maxLifetimeMs: 10n }, '10 (bigint)'],
    ['heartbeat.intervalMs', { ...VALID, heartbeat: { intervalMs: 0 } }, '0 (number)'],
    ['heartbeat.timeoutMs', { ...VALID, heartbeat: { timeoutMs: -1 } }, '-1 (number)'],
    ['heartbeat.maxMissed', { ...VALID, heartbeat: { maxMissed: 0 } }, '0 (number)'],
    ['heartbeat.isPong', { ...VALID, heartbeat: { ping: 'PING' } }, 'undefined'],
    ['heartbeat.ping', { ...VALID, heartbeat: { isPong: () => true } }, 'undefined'],
    ['heartbeat.isPong', { ...VALID, heartbeat: { ping: 'PING', isPong: 'PONG' } }, '"PONG" (string)'],
    ['heartbeat.answer', { ...VALID, heartbeat: { answer: 'PONG' } }, '"PONG" (string)'],
    ['retry.retries', { ...VALID, retry: { retries: -1 } }, '-1 (number)'],
    ['retry.retries', { ...VALID, retry: { retries: Number.POSITIVE_INFINITY } }, 'Infinity (number)'],
    ['retry.baseMs', { ...VALID, retry: { baseMs: 0 } }, '0 (number)'],
    ['retry.capMs', { ...VALID, retry: { baseMs: 200, capMs: 100 } }, '100 (number)'],
    ['onConnect', { ...VALID, onConnect: {} }, '[object Object]'],
  ])('refuse an impossible `%s` and say what came', (name, options, got) => {
    if (name === 'codec' && got === '') {
      // lines itself, without its brackets, is a factory: that is meant.
      expect(() => resolveOptions(options as PoolOptions<string, string>)).not.toThrow();
      return;
    }
    const error = refusal(options);
    expect(error.code).toBe('ERR_INVALID_OPTION');
    expect(error.retryable).toBe(false);
    expect(error.message.startsWith(`Expected \`${name}\` to `), error.message).toBe(true);
    expect(error.message.endsWith(`, got ${got}`), error.message).toBe(true);
    expect(error.hint).not.toBe('');
  });

  it.each([
    [{ ...VALID, heartBeat: {} }, 'Unknown option `heartBeat` of createPool(). Did you mean `heartbeat`?'],
    [{ ...VALID, maxidle: 1 }, 'Unknown option `maxidle` of createPool(). Did you mean `maxIdle`?'],
    [{ ...VALID, zebra: 1 }, 'Unknown option `zebra` of createPool()'],
    [{ ...VALID, toString: 1 }, 'Unknown option `toString` of createPool()'],
    [
      { ...VALID, heartbeat: { interval: 5 } },
      'Unknown option `interval` of heartbeat. Did you mean `intervalMs`?',
    ],
    [{ ...VALID, retry: { retrys: 5 } }, 'Unknown option `retrys` of retry. Did you mean `retries`?'],
    [{ ...VALID, heartbeat: null }, 'Expected the options of heartbeat to be an object, got null'],
    [{ ...VALID, retry: 3 }, 'Expected the options of retry to be an object, got 3 (number)'],
    [null, 'Expected the options of createPool() to be an object, got null'],
    [undefined, 'Expected the options of createPool() to be an object, got undefined'],
    ['tcp://h:1', 'Expected the options of createPool() to be an object, got "tcp://h:1" (string)'],
  ])('refuse what nobody knows: %o', (options, message) => {
    expect(refusal(options).message).toBe(message);
  });

  it.each([
    ['acquireTimeoutMillis', 'acquireTimeoutMs'],
    ['createTimeoutMillis', 'connectTimeoutMs'],
    ['idleTimeoutMillis', 'idleTimeoutMs'],
    ['softIdleTimeoutMillis', 'idleTimeoutMs'],
    ['connectionTimeoutMillis', 'acquireTimeoutMs'],
    ['connectionLimit', 'max'],
    ['maxLifetimeSeconds', 'maxLifetimeMs'],
    ['maximumPoolSize', 'max'],
    ['minimumIdle', 'minIdle'],
    ['leakDetectionThreshold', 'leakAfterMs'],
    ['maxWaitingClients', 'maxWaiting'],
    ['maxQueue', 'maxWaiting'],
    ['queueLimit', 'maxWaiting'],
    ['connectionTimeout', 'acquireTimeoutMs'],
    ['idleTimeout', 'idleTimeoutMs'],
    ['maxLifetime', 'maxLifetimeMs'],
    ['keepaliveTime', 'heartbeat.intervalMs'],
    ['connections', 'max'],
    ['connectTimeout', 'connectTimeoutMs'],
    ['socketPath', 'path'],
    ['hostname', 'host'],
  ])('point from another pool’s %s to our %s', (theirs, ours) => {
    expect(refusal({ ...VALID, [theirs]: 5 }).message).toContain(`\`${theirs}\` to be called \`${ours}\``);
  });

  it('make a codec for each connection, and refuse a factory that stops making them', () => {
    let made = 0;
    const { makeCodec } = resolveOptions({
      ...VALID,
      codec: () => {
        made += 1;
        return made < 3 ? lines() : (undefined as never);
      },
    });
    expect(makeCodec()).toHaveProperty('decode');
    expect(made).toBe(2);
    expect(() => makeCodec()).toThrow(expect.objectContaining({ code: 'ERR_INVALID_OPTION' }));
    const one = lines();
    expect(resolveOptions({ ...VALID, codec: one }).makeCodec()).toBe(one);
  });
});

describe('options that would do nothing, or fail later', () => {
  const at = { host: 'localhost', port: 1, codec: lines() };
  const isPong = () => true;

  it.each([
    ['a heartbeat that is timed and never sent', { heartbeat: { intervalMs: 1_000 } }, 'heartbeat.ping'],
    ['a ping that the codec can’t encode', { heartbeat: { ping: 'two\nlines', isPong } }, 'heartbeat.ping'],
    ['a key that OpenSSL can’t read', { tls: { key: 'garbage', cert: 'garbage' } }, 'tls'],
    ['a local address that is none', { localAddress: 'nonsense' }, 'localAddress'],
    ['a back-off that never ends', { retry: { capMs: Number.POSITIVE_INFINITY } }, 'retry.capMs'],
    ['a limit that is no number', { codec: { ...lines(), maxFrameBytes: '64k' } }, 'codec.maxFrameBytes'],
  ])('refuse %s', (_what, options, name) => {
    const make = (): unknown => createPool({ ...at, ...(options as object) });
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_INVALID_OPTION' }));
    expect(make).toThrow(name);
  });

  it('do not show a private key', () => {
    const tls = { key: 'top secret' };
    let message = '';
    try {
      createPool({ ...at, tls });
    } catch (error) {
      message = String(error);
    }
    expect(message).toMatch(/^PulsepoolError: Expected `tls`/);
    expect(message).not.toContain('top secret');
  });
});

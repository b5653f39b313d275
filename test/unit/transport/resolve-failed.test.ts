import { describe, expect, it } from 'vitest';
import { lookupError } from '../../../src/resolve/lookup.ts';
import { ResolveError } from '../../../src/resolve/resolve-error.ts';
import { DialError, dialTimeout, otherFamily, resolveFailed } from '../../../src/transport/dial-error.ts';

function failure(resolver: string, code: string) {
  return { resolver, error: lookupError(code, `${resolver} made up ${code}`) };
}

function failed(
  codes: Readonly<Record<string, string>>,
  lastGoodAgeMs?: number,
  name = 'orders:7000',
): DialError {
  const failures = Object.entries(codes).map(([resolver, code]) => failure(resolver, code));
  return resolveFailed(new ResolveError('orders', failures, lastGoodAgeMs), name);
}

describe('a name that could not be resolved', () => {
  it('is told as ERR_DNS in phase dns, before any address or byte, and may do better next time', () => {
    const cause = new ResolveError('orders', [failure('system', 'ENOTFOUND')], undefined);
    const error = resolveFailed(cause, 'orders:7000');
    expect(error).toBeInstanceOf(DialError);
    expect(error).toMatchObject({
      code: 'ERR_DNS',
      phase: 'dns',
      retryable: true,
      sent: 'none',
      endpoint: 'orders:7000',
      address: undefined,
      cause,
    });
    expect(error.message).toBe(
      'Could not connect to orders:7000: the name could not be resolved (ENOTFOUND), in phase dns; system: ENOTFOUND.',
    );
  });

  it.each(['ENOTFOUND', 'ENODATA', 'EAI_NODATA', 'EAI_NONAME', 'ENONAME'])(
    'because of %s points at the name',
    (code) => {
      const { hint } = failed({ system: code });
      expect(hint).toContain('no such name');
      expect(hint).toContain('search domains');
    },
  );

  it.each(['ESERVFAIL', 'EREFUSED', 'ETIMEOUT', 'ECONNREFUSED', 'EAI_AGAIN', 'ECANCELLED', 'EWHATEVER'])(
    'because of %s points at the resolvers, not at the name',
    (code) => {
      const { hint } = failed({ system: code });
      expect(hint).toContain('says nothing about the name');
      expect(hint).not.toContain('no such name');
    },
  );

  it('points at the resolvers when one of them failed, though another one knows no such name', () => {
    const error = failed({ system: 'ENOTFOUND', '10.0.0.2': 'ESERVFAIL' });
    expect(error.message).toContain('(ESERVFAIL)');
    expect(error.hint).toContain('says nothing about the name');
  });

  it('lists what each resolver said, in the order in which they were asked', () => {
    expect(
      failed({ system: 'EAI_AGAIN', '10.0.0.2': 'ETIMEOUT', '1.1.1.1:53': 'EREFUSED' }).reason,
    ).toContain('system: EAI_AGAIN; 10.0.0.2: ETIMEOUT; 1.1.1.1:53: EREFUSED');
  });

  it('lists the words of what has no code', () => {
    const failures = [
      { resolver: 'a', error: new Error('the file is gone') },
      { resolver: 'b', error: 'plain words' },
    ];
    const { reason } = resolveFailed(Object.assign(new Error('all failed'), { failures }), 'orders:7000');
    expect(reason).toContain('a: the file is gone; b: plain words');
  });

  it('tells how old the last good answer is, in seconds, if there was one', () => {
    expect(failed({ system: 'ETIMEOUT' }, 912_400).message).toContain('the last good answer is 912 s old');
    expect(failed({ system: 'ETIMEOUT' }).message).not.toContain('last good answer');
  });

  it('keeps its reason free of the endpoint’s name, for lists', () => {
    expect(failed({ system: 'ETIMEOUT' }).reason).not.toContain('orders:7000');
  });

  it.each([
    ['no error', 'just a string', 'the name could not be resolved, in phase dns'],
    ['nothing at all', undefined, 'the name could not be resolved, in phase dns'],
    ['an error without a code', new Error('bare'), 'the name could not be resolved, in phase dns'],
    [
      'an error of another make',
      Object.assign(new Error('odd'), {
        code: 7,
        failures: ['x', null, { resolver: 3 }, { resolver: 'ok', error: lookupError('EBAD', 'bad') }],
        lastGoodAgeMs: Number.NaN,
      }),
      'the name could not be resolved, in phase dns; ok: EBAD',
    ],
    [
      'an error whose failures are no list',
      Object.assign(new Error('odd'), { failures: 'x', lastGoodAgeMs: '5' }),
      'the name could not be resolved, in phase dns',
    ],
  ])('may have been told as %s', (_what, cause, reason) => {
    const error = resolveFailed(cause, 'orders:7000');
    expect(error).toMatchObject({ code: 'ERR_DNS', reason });
    expect(error.cause).toBe(cause);
  });

  it('is not explained twice', () => {
    const error = dialTimeout('dns', 'orders:7000', 5_000);
    expect(resolveFailed(error, 'other:1')).toBe(error);
  });
});

describe('a local address of one family and a server’s address of the other', () => {
  it.each([
    [
      '10.0.0.9',
      '2001:db8::1',
      'localAddress` 10.0.0.9 is IPv4',
      '2001:db8::1 is IPv6',
      'to an IPv6 address',
    ],
    [
      '2001:db8::9',
      '10.0.0.1',
      'localAddress` 2001:db8::9 is IPv6',
      '10.0.0.1 is IPv4',
      'to an IPv4 address',
    ],
  ])('are told as such, never to be retried: from %s to %s', (local, address, ours, theirs, advice) => {
    const error = otherFamily(local, 'orders:7000', address);
    expect(error).toMatchObject({
      code: 'ERR_CONNECT',
      phase: 'tcp',
      retryable: false,
      sent: 'none',
      endpoint: 'orders:7000',
      address,
    });
    expect(error.message).toContain(`Could not connect to orders:7000 (${address})`);
    expect(error.message).toContain(ours);
    expect(error.message).toContain(theirs);
    expect(error.hint).toContain(advice);
  });
});

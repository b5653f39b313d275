import { describe, expect, it } from 'vitest';
import {
  acceptedThenClosed,
  certificateRefused,
  type DialError,
  type DialPhase,
  dialTimeout,
  explainDialError,
  explainSetupError,
} from '../../../src/transport/dial-error.ts';

function systemError(code: string): Error {
  return Object.assign(new Error(`made up: ${code}`), { code });
}

function explained(error: unknown, phase: DialPhase = 'tcp'): DialError {
  return explainDialError(error, phase, 'db:1');
}

describe('a system error', () => {
  it.each([
    ['ECONNREFUSED', 'ERR_REFUSED', true, 'Nothing listens'],
    ['ENOENT', 'ERR_REFUSED', true, 'path'],
    ['ETIMEDOUT', 'ERR_CONNECT_TIMEOUT', true, 'firewall'],
    ['EHOSTUNREACH', 'ERR_UNREACHABLE', true, 'network'],
    ['ENETUNREACH', 'ERR_UNREACHABLE', true, 'network'],
    ['ENETDOWN', 'ERR_UNREACHABLE', true, 'network'],
    ['EMFILE', 'ERR_TOO_MANY_FILES', true, 'ulimit -n'],
    ['ENFILE', 'ERR_TOO_MANY_FILES', true, 'ulimit -n'],
    ['EADDRNOTAVAIL', 'ERR_NO_LOCAL_PORTS', true, 'TIME_WAIT'],
    ['EACCES', 'ERR_CONNECT', false, 'permissions'],
    ['EPERM', 'ERR_CONNECT', false, 'firewall'],
    ['EINVAL', 'ERR_CONNECT', false, 'localAddress'],
    ['ECONNRESET', 'ERR_SERVER_FULL', true, 'limit'],
    ['EAGAIN', 'ERR_SERVER_FULL', true, 'accept'],
    ['EWHATEVER', 'ERR_CONNECT', true, 'cause'],
  ])('%s is told as %s', (system, code, retryable, hint) => {
    const cause = systemError(system);
    const error = explained(cause);
    expect(error).toMatchObject({ code, retryable, phase: 'tcp', endpoint: 'db:1', sent: 'none', cause });
    expect(error.hint).toContain(hint);
    expect(error.message).toContain(system);
  });

  it('may be no error at all', () => {
    expect(explained('just a string').code).toBe('ERR_CONNECT');
    expect(explained(undefined).code).toBe('ERR_CONNECT');
  });

  it('is not explained twice', () => {
    const error = explained(systemError('ECONNREFUSED'));
    expect(explained(error, 'handshake')).toBe(error);
  });
});

describe('TLS', () => {
  it.each([
    'CERT_HAS_EXPIRED',
    'CERT_NOT_YET_VALID',
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'SELF_SIGNED_CERT_IN_CHAIN',
    'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'ERR_TLS_CERT_ALTNAME_INVALID',
    'CERT_REVOKED',
    'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
    'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA',
    'ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE',
    'ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED',
    'ERR_SSL_TLSV1_ALERT_ACCESS_DENIED',
  ])('%s is a matter of trust, and never retried', (code) => {
    expect(explained(systemError(code), 'tls')).toMatchObject({
      code: 'ERR_TLS_TRUST',
      retryable: false,
      phase: 'tls',
    });
  });

  it('points at the name, the CA or our own certificate, as the case may be', () => {
    expect(explained(systemError('ERR_TLS_CERT_ALTNAME_INVALID'), 'tls').hint).toContain('servername');
    expect(explained(systemError('CERT_HAS_EXPIRED'), 'tls').hint).toContain('dates');
    expect(explained(systemError('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED'), 'tls').hint).toContain(
      'tls.key',
    );
  });

  it('refused by a checkServerIdentity of the user’s is a matter of trust, whatever its error', () => {
    const error = explainDialError(new Error('wrong pin'), 'tls', 'db:1', true);
    expect(error).toMatchObject({ code: 'ERR_TLS_TRUST', retryable: false });
  });

  it('that the server does not speak is told as such', () => {
    const error = explained(systemError('ERR_SSL_WRONG_VERSION_NUMBER'), 'tls');
    expect(error).toMatchObject({ code: 'ERR_TLS', retryable: false });
    expect(error.hint).toContain('plain port');
  });

  it('that could not be agreed is not retried', () => {
    expect(explained(systemError('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION'), 'tls')).toMatchObject({
      code: 'ERR_TLS',
      retryable: false,
    });
  });

  it.each([systemError('ECONNRESET'), undefined])(
    'cut off by the server may do better next time',
    (cause) => {
      expect(explained(cause, 'tls')).toMatchObject({ code: 'ERR_TLS', retryable: true });
    },
  );
});

describe('options that can’t be used', () => {
  it('are never retried', () => {
    const pem = explainSetupError(systemError('ERR_OSSL_PEM_NO_START_LINE'), true, 'db:1');
    expect(pem).toMatchObject({ code: 'ERR_TLS', retryable: false, phase: 'tls' });
    expect(pem.hint).toContain('PEM');
    const address = explainSetupError(systemError('ERR_INVALID_IP_ADDRESS'), true, 'db:1');
    expect(address).toMatchObject({ code: 'ERR_CONNECT', retryable: false, phase: 'tcp' });
  });
});

describe('a dial that takes too long', () => {
  it.each([
    ['dns', 'resolver'],
    ['tcp', 'SYN'],
    ['tls', 'TLS hello'],
    ['handshake', 'onConnect'],
  ] as const)('in phase %s points there', (phase, hint) => {
    const error = dialTimeout(phase, 'db:1', 5_000);
    expect(error).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', phase, retryable: true });
    expect(error.hint).toContain(hint);
    expect(error.message).toContain('5000 ms');
  });
});

describe('a server that accepts and then closes', () => {
  it('is full, unless it says that our certificate is why', () => {
    expect(acceptedThenClosed('db:1', undefined)).toMatchObject({ code: 'ERR_SERVER_FULL', retryable: true });
    expect(acceptedThenClosed('db:1', systemError('ECONNRESET')).code).toBe('ERR_SERVER_FULL');
    const alert = systemError('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED');
    expect(acceptedThenClosed('db:1', alert)).toMatchObject({ code: 'ERR_TLS_TRUST', retryable: false });
    expect(certificateRefused('db:1', alert)).toMatchObject({ code: 'ERR_TLS_TRUST', cause: alert });
    expect(certificateRefused('db:1', systemError('ECONNRESET'))).toBeUndefined();
    expect(certificateRefused('db:1', undefined)).toBeUndefined();
  });
});

/**
 * What each code of the operating system's and of TLS means for a dial: our own code, whether trying again can help,
 * and what to look at. The errors themselves are made in dial-error.ts.
 */
import type { ErrorCode } from '../errors.ts';

/** What is told of one kind of failure. */
export interface Story {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly what: string;
  readonly hint: string;
}

const REFUSED: Story = {
  code: 'ERR_REFUSED',
  retryable: true,
  what: 'the connection was refused',
  hint: 'Nothing listens there: check that the server runs, and the host and port, or the path.',
};
const NO_SOCKET_FILE: Story = {
  code: 'ERR_REFUSED',
  retryable: true,
  what: 'there is no socket at this path',
  hint: 'Check that the server runs, the path, and that both sides see the same file system.',
};
const TIMED_OUT: Story = {
  code: 'ERR_CONNECT_TIMEOUT',
  retryable: true,
  what: 'the operating system gave up waiting for an answer',
  hint: 'A firewall or security group may drop the packets, or the host is down.',
};
const UNREACHABLE: Story = {
  code: 'ERR_UNREACHABLE',
  retryable: true,
  what: 'there is no route to it',
  hint: 'Check the network, the VPN, and whether the address belongs to this network.',
};
const FILES: Story = {
  code: 'ERR_TOO_MANY_FILES',
  retryable: true,
  what: 'this process or system is out of file descriptors',
  hint: 'Raise `ulimit -n`, lower `max`, and look for sockets or files that are never closed.',
};
const PORTS: Story = {
  code: 'ERR_NO_LOCAL_PORTS',
  retryable: true,
  what: 'no local port or address is left',
  hint: 'Too many short-lived sockets (TIME_WAIT), or `localAddress` is not an address of this machine.',
};
const DENIED: Story = {
  code: 'ERR_CONNECT',
  retryable: false,
  what: 'the operating system denied it',
  hint: 'Check the permissions of the socket file, or the firewall of this host.',
};
const UNFIT: Story = {
  code: 'ERR_CONNECT',
  retryable: false,
  what: 'the operating system can’t make such a connection',
  hint: 'Check the host or path; `localAddress` must be of the same family and network as the server’s address.',
};
const BACKLOG: Story = {
  code: 'ERR_SERVER_FULL',
  retryable: true,
  what: 'the server’s queue of new connections is full',
  hint: 'The server is stuck or overloaded: it does not accept as fast as clients come.',
};
/** Thrown before anything was dialed. */
export const SETUP: Story = {
  code: 'ERR_CONNECT',
  retryable: false,
  what: 'these options can’t be used',
  hint: 'See the cause: it names the option. Nothing was sent.',
};
/** As {@link SETUP}, by what `tls` holds. */
export const TLS_SETUP: Story = {
  code: 'ERR_TLS',
  retryable: false,
  what: 'the `tls` options can’t be used',
  hint: 'See the cause. `cert`, `key` and `ca` are the contents of PEM files, not their paths; a key must belong to its certificate.',
};
const UNTRUSTED: Story = {
  code: 'ERR_TLS_TRUST',
  retryable: false,
  what: 'the server’s certificate is not trusted',
  hint: 'Check `tls.ca` against the server’s issuer, the dates of the certificate, and its chain.',
};
/** Accepted, then dropped. */
export const RESET: Story = {
  code: 'ERR_SERVER_FULL',
  retryable: true,
  what: 'the server accepted and then dropped the connection',
  hint: 'It may be full (its own connection limit), starting, expect another protocol (TLS, PROXY), or refuse this client (its address, its certificate).',
};
// Node says "Client network socket disconnected before secure TLS connection was established" (ECONNRESET).
const TLS_HANG_UP: Story = {
  code: 'ERR_TLS',
  retryable: true,
  what: 'the server hung up during the TLS handshake',
  hint: 'It may be a plain port, be overloaded, or refuse the TLS version, the SNI name or this client’s certificate.',
};

const BY_SYSTEM_CODE: Readonly<Record<string, Story>> = {
  ECONNREFUSED: REFUSED,
  ENOENT: NO_SOCKET_FILE,
  ETIMEDOUT: TIMED_OUT,
  EHOSTUNREACH: UNREACHABLE,
  ENETUNREACH: UNREACHABLE,
  ENETDOWN: UNREACHABLE,
  EHOSTDOWN: UNREACHABLE,
  EMFILE: FILES,
  ENFILE: FILES,
  EADDRNOTAVAIL: PORTS,
  EADDRINUSE: PORTS,
  EACCES: DENIED,
  EPERM: DENIED,
  ECONNRESET: RESET,
  ECONNABORTED: RESET,
  EPIPE: RESET,
  // A Unix socket says so; over TCP the SYN goes unanswered instead.
  EAGAIN: BACKLOG,
  EINVAL: UNFIT,
  EAFNOSUPPORT: UNFIT,
  ENAMETOOLONG: UNFIT,
  ENOTDIR: UNFIT,
  ELOOP: UNFIT,
  EPROTOTYPE: UNFIT,
};

// OpenSSL's X509_V_ERR names as Node passes them on, and Node's own name check.
const TRUST = new Set([
  'CERT_CHAIN_TOO_LONG',
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_REJECTED',
  'CERT_REVOKED',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'CRL_HAS_EXPIRED',
  'CRL_NOT_YET_VALID',
  'CRL_SIGNATURE_FAILURE',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERROR_IN_CERT_NOT_AFTER_FIELD',
  'ERROR_IN_CERT_NOT_BEFORE_FIELD',
  'ERROR_IN_CRL_LAST_UPDATE_FIELD',
  'ERROR_IN_CRL_NEXT_UPDATE_FIELD',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'HOSTNAME_MISMATCH',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'PATH_LENGTH_EXCEEDED',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY',
  'UNABLE_TO_DECRYPT_CERT_SIGNATURE',
  'UNABLE_TO_DECRYPT_CRL_SIGNATURE',
  'UNABLE_TO_GET_CRL',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

// The peer's complaints about our certificate arrive as TLS alerts.
const ALERT_ABOUT_CERTIFICATE = /^ERR_SSL_.*ALERT_(.*CERTIFICATE.*|UNKNOWN_CA|ACCESS_DENIED)$/;

/** Whether `code` is the peer's word that it does not accept our certificate. */
export function isAboutOurCertificate(code: string): boolean {
  return ALERT_ABOUT_CERTIFICATE.test(code);
}

function trustStory(code: string): Story | undefined {
  if (TRUST.has(code)) {
    if (code !== 'ERR_TLS_CERT_ALTNAME_INVALID' && code !== 'HOSTNAME_MISMATCH') return UNTRUSTED;
    return {
      ...UNTRUSTED,
      hint: 'The certificate names other hosts: connect by a name it holds, or set `tls.servername`.',
    };
  }
  if (isAboutOurCertificate(code)) {
    return {
      code: 'ERR_TLS_TRUST',
      retryable: false,
      what: 'the server did not accept this client’s certificate',
      hint: 'Mutual TLS: set `tls.cert` and `tls.key` to a pair that the server’s CA has signed and that is in date.',
    };
  }
  return undefined;
}

/** What a TLS error is told as; `undefined` when `code` is of something else. */
export function tlsStory(code: string): Story | undefined {
  const trust = trustStory(code);
  if (trust !== undefined) return trust;
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG') {
    return {
      code: 'ERR_TLS',
      retryable: false,
      what: 'the server does not speak TLS on this port',
      hint: 'Leave `tls` out for a plain port, or use the server’s TLS port.',
    };
  }
  if (code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_') || code === 'EPROTO') {
    return {
      code: 'ERR_TLS',
      retryable: false,
      what: 'TLS could not be agreed',
      hint: 'Compare TLS versions, ciphers, ALPN protocols and SNI of both sides, and whether the server wants a client certificate; see the cause.',
    };
  }
  return undefined;
}

const OTHER: Story = {
  code: 'ERR_CONNECT',
  retryable: true,
  what: 'the connection could not be made',
  hint: 'See the cause.',
};

/** The story of what ended a dial; `code` is empty for what has none, and `undefined` for a close without an error. */
export function storyOf(code: string | undefined, isInTls: boolean, isUntrusted: boolean): Story {
  if (isUntrusted) return trustStory(code ?? '') ?? UNTRUSTED;
  if (isInTls && (code === 'ECONNRESET' || code === undefined)) return TLS_HANG_UP;
  return BY_SYSTEM_CODE[code ?? ''] ?? tlsStory(code ?? '') ?? OTHER;
}

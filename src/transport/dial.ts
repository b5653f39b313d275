/**
 * One attempt to open a socket: DNS, TCP and TLS under one deadline. Trying again, and what is said over the
 * socket once it is open, is left to others.
 */
import { Buffer } from 'node:buffer';
import net from 'node:net';
import tls from 'node:tls';
import { onAbort } from '../abort.ts';
import type { Clock } from '../clock.ts';
import { messageOf } from '../errors.ts';
import { DialError, type DialPhase, dialTimeout, explainDialError, explainSetupError } from './dial-error.ts';
import { type Endpoint, endpointName } from './endpoint.ts';

/** TLS options, as `tls.connect` takes them; verification is on unless they say otherwise. */
export type TlsOptions = Omit<tls.ConnectionOptions, 'host' | 'port' | 'path' | 'socket' | 'timeout'>;

/** What one dial needs to know. */
export interface DialOptions {
  readonly endpoint: Endpoint;
  /** TLS on top of the socket; plain when left out. */
  readonly tls?: TlsOptions | undefined;
  /** The local address to dial from. */
  readonly localAddress?: string | undefined;
  /** For all phases together, in ms. */
  readonly connectTimeoutMs: number;
}

// Keep-alive probes start after 30 s of silence (ioredis). They find a peer whose machine is gone; a peer that
// is merely stuck still answers them, which is what heartbeats are for.
const TCP_KEEPALIVE_AFTER_MS = 30_000;

// Node tries the addresses of a name one after another and kills each attempt but the last at this limit; its
// own 250 ms makes a far server with two addresses unreachable (nodejs/node#54359).
const ATTEMPT_MS = 1_000;

// sockaddr_un holds so many bytes of a path. libuv cuts a longer one short, which may be another socket's path.
const LONGEST_PATH_BYTES = process.platform === 'linux' ? 107 : 103;

function connectOptions(options: DialOptions): net.NetConnectOpts {
  const { endpoint } = options;
  if (endpoint.kind === 'unix') {
    const bytes = Buffer.byteLength(endpoint.path);
    if (bytes > LONGEST_PATH_BYTES && process.platform !== 'win32') {
      const what = `The path has ${bytes} bytes; a Unix socket’s may have ${LONGEST_PATH_BYTES}`;
      throw Object.assign(new RangeError(what), { code: 'ENAMETOOLONG' });
    }
    return { path: endpoint.path };
  }
  return {
    host: endpoint.host,
    port: endpoint.port,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: Math.min(
      ATTEMPT_MS,
      Math.max(10, Math.floor(options.connectTimeoutMs / 2)),
    ),
    ...(options.localAddress === undefined ? {} : { localAddress: options.localAddress }),
  };
}

function startTls(options: DialOptions, tlsOptions: TlsOptions): tls.TLSSocket {
  const { endpoint } = options;
  // SNI carries names only (RFC 6066); for an address the certificate is checked against the address.
  const servername =
    tlsOptions.servername ??
    (endpoint.kind === 'tcp' && net.isIP(endpoint.host) === 0 ? endpoint.host : undefined);
  return tls.connect({
    ...tlsOptions,
    ...connectOptions(options),
    ...(servername === undefined ? {} : { servername }),
  });
}

/** Whether Node has refused the server's certificate. */
function isUntrusted(socket: net.Socket): boolean {
  return socket instanceof tls.TLSSocket && Boolean(socket.authorizationError);
}

/** A codec factory of the user's threw: the next socket would fare no better. */
function unadopted(cause: unknown, endpoint: string): DialError {
  const what = messageOf(cause);
  return new DialError('ERR_CONNECT', `The socket to ${endpoint} was opened but can’t be used: ${what}`, {
    phase: 'handshake',
    endpoint,
    retryable: false,
    hint: 'The codec could not be made for it: see the cause.',
    cause,
  });
}

/**
 * Opens one socket and gives it to `adopt` in the very turn it became ready, so that no event is missed.
 *
 * @throws DialError when it can't; `signal.reason` when aborted. Either way the socket is destroyed.
 */
export function dial<T>(
  options: DialOptions,
  clock: Clock,
  signal: AbortSignal,
  adopt: (socket: net.Socket) => T,
): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    const name = endpointName(options.endpoint);
    const hasName = options.endpoint.kind === 'tcp' && net.isIP(options.endpoint.host) === 0;
    let phase: DialPhase = hasName ? 'dns' : 'tcp';
    let socket: net.Socket;
    try {
      socket =
        options.tls === undefined ? net.connect(connectOptions(options)) : startTls(options, options.tls);
    } catch (error) {
      // Certificates, keys and addresses that can't be read throw here, synchronously.
      reject(explainSetupError(error, options.tls !== undefined, name));
      return;
    }

    const onLookup = (error: Error | null): void => {
      // It also tells of a name that could not be resolved; the error follows.
      if (error === null) phase = 'tcp';
    };
    const onTcp = (): void => {
      phase = 'tls';
    };
    const onError = (error: Error): void => fail(explainDialError(error, phase, name, isUntrusted(socket)));
    const onClose = (): void => fail(explainDialError(undefined, phase, name));
    const readyEvent = options.tls === undefined ? 'connect' : 'secureConnect';

    let settled = false;
    const settle = (): void => {
      settled = true;
      timer.cancel();
      stopListening();
      socket.off('lookup', onLookup).off('connect', onTcp).off('close', onClose).off(readyEvent, onReady);
      socket.off('error', onError);
    };
    const fail = (reason: unknown): void => {
      settle();
      // The socket may still report the error that ended it; it is told already.
      socket.on('error', () => undefined);
      socket.destroy();
      reject(reason);
    };
    const onReady = (): void => {
      settle();
      if (options.endpoint.kind === 'tcp') {
        socket.setNoDelay(true);
        socket.setKeepAlive(true, TCP_KEEPALIVE_AFTER_MS);
      }
      // Again: Node makes a new handle for each address that it tries.
      socket.unref();
      try {
        resolve(adopt(socket));
      } catch (error) {
        fail(unadopted(error, name));
      }
    };
    // Timers run before the poll phase: the answer may already be in the kernel if our own loop was blocked.
    const timer = clock.after(options.connectTimeoutMs, () => {
      clock.turn(() => {
        if (!settled) fail(dialTimeout(phase, name, options.connectTimeoutMs));
      });
    });

    // All dials of a pool share one signal.
    const stopListening = onAbort(signal, () => fail(signal.reason));
    // What holds the process is the caller who waits, never a socket, nor one that is being dialed for nobody.
    socket.unref();
    socket.once('lookup', onLookup);
    if (options.tls !== undefined) socket.once('connect', onTcp);
    socket.once('error', onError).once('close', onClose).once(readyEvent, onReady);
  });
}

/**
 * One attempt to open a socket: DNS, TCP and TLS under one deadline. Trying again, and what is said over the
 * socket once it is open, is left to others.
 */
import net from 'node:net';
import tls from 'node:tls';
import type { Clock } from '../clock.ts';
import { type DialPhase, dialTimeout, explainDialError } from './dial-error.ts';
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

function connectOptions(options: DialOptions): net.NetConnectOpts {
  const { endpoint } = options;
  if (endpoint.kind === 'unix') return { path: endpoint.path };
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
    let phase: DialPhase = options.endpoint.kind === 'unix' ? 'tcp' : 'dns';
    let socket: net.Socket;
    try {
      socket =
        options.tls === undefined ? net.connect(connectOptions(options)) : startTls(options, options.tls);
    } catch (error) {
      // Certificates and keys that can't be read throw here, synchronously.
      reject(explainDialError(error, 'tls', name));
      return;
    }

    const onLookup = (): void => {
      phase = 'tcp';
    };
    const onTcp = (): void => {
      phase = 'tls';
    };
    const onError = (error: Error): void => fail(explainDialError(error, phase, name));
    const onClose = (): void => fail(explainDialError(undefined, phase, name));
    const onAbort = (): void => fail(signal.reason);
    const readyEvent = options.tls === undefined ? 'connect' : 'secureConnect';

    let settled = false;
    const settle = (): void => {
      settled = true;
      timer.cancel();
      signal.removeEventListener('abort', onAbort);
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
      // What holds the process is the caller who waits, never the socket.
      socket.unref();
      resolve(adopt(socket));
    };
    // Timers run before the poll phase: the answer may already be in the kernel if our own loop was blocked.
    const timer = clock.after(options.connectTimeoutMs, () => {
      clock.turn(() => {
        if (!settled) fail(dialTimeout(phase, name, options.connectTimeoutMs));
      });
    });

    signal.addEventListener('abort', onAbort, { once: true });
    socket.once('lookup', onLookup);
    if (options.tls !== undefined) socket.once('connect', onTcp);
    socket.once('error', onError).once('close', onClose).once(readyEvent, onReady);
  });
}

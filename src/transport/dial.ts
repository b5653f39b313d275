/**
 * One attempt to open a socket to one address: TCP and TLS under one deadline. Finding the addresses of a name, trying
 * several of them, trying again, and what is said over the socket once it is open, is left to others.
 */
import { Buffer } from 'node:buffer';
import net from 'node:net';
import tls from 'node:tls';
import { onAbort } from '../abort.ts';
import type { Clock } from '../clock.ts';
import { messageOf } from '../errors.ts';
import {
  DialError,
  type DialPhase,
  dialTimeout,
  explainDialError,
  explainSetupError,
  otherFamily,
} from './dial-error.ts';
import { type Endpoint, endpointName } from './endpoint.ts';

/** TLS options, as `tls.connect` takes them; verification is on unless they say otherwise. */
export type TlsOptions = Omit<tls.ConnectionOptions, 'host' | 'port' | 'path' | 'socket' | 'timeout'>;

/** What one dial needs to know. */
export interface DialOptions {
  readonly endpoint: Endpoint;
  /**
   * The IP address to connect to; a name is never resolved here. Default: the endpoint's own `address`, or its host when
   * that is one. A path needs none.
   */
  readonly address?: string | undefined;
  /** TLS on top of the socket; plain when left out. */
  readonly tls?: TlsOptions | undefined;
  /** The local address to dial from. */
  readonly localAddress?: string | undefined;
  /** For all phases together, in ms: the number that errors name. */
  readonly connectTimeoutMs: number;
  /** What is left of it, in ms, when some of it has been spent before. Default: all. */
  readonly remainingMs?: number | undefined;
}

// Keep-alive probes start after 30 s of silence (ioredis). They find a peer whose machine is gone; a peer that
// is merely stuck still answers them, which is what heartbeats are for.
const TCP_KEEPALIVE_AFTER_MS = 30_000;

// sockaddr_un holds so many bytes of a path. libuv cuts a longer one short, which may be another socket's path.
const LONGEST_PATH_BYTES = process.platform === 'linux' ? 107 : 103;

function connectOptions(options: DialOptions, address: string | undefined): net.NetConnectOpts {
  const { endpoint } = options;
  if (endpoint.kind === 'unix') {
    const bytes = Buffer.byteLength(endpoint.path);
    if (bytes > LONGEST_PATH_BYTES && process.platform !== 'win32') {
      const what = `The path has ${bytes} bytes; a Unix socket’s may have ${LONGEST_PATH_BYTES}`;
      throw Object.assign(new RangeError(what), { code: 'ENAMETOOLONG' });
    }
    return { path: endpoint.path };
  }
  // Node would ask the system's resolver, without a limit of time.
  if (address === undefined || net.isIP(address) === 0) {
    const what = `${address ?? endpoint.host} is no IP address; a name is resolved before it is dialed`;
    throw Object.assign(new TypeError(what), { code: 'ERR_INVALID_IP_ADDRESS' });
  }
  return {
    host: address,
    port: endpoint.port,
    // Node would kill attempts one after another; who tries several addresses here races them (race.ts).
    autoSelectFamily: false,
    ...(options.localAddress === undefined ? {} : { localAddress: options.localAddress }),
  };
}

/** Where to connect to; `undefined` for a path, and for a name that nobody has resolved. */
function addressOf({ address, endpoint }: DialOptions): string | undefined {
  if (endpoint.kind === 'unix') return undefined;
  return address ?? endpoint.address ?? (net.isIP(endpoint.host) === 0 ? undefined : endpoint.host);
}

function startTls(options: DialOptions, tlsOptions: TlsOptions, address: string | undefined): tls.TLSSocket {
  const connect = connectOptions(options, address);
  const { endpoint } = options;
  if (endpoint.kind === 'unix') return tls.connect({ ...tlsOptions, ...connect });
  // SNI carries names only, without the dot that ends an absolute one (RFC 6066, section 3).
  const ownName = net.isIP(endpoint.host) === 0 ? endpoint.host.replace(/\.$/, '') : undefined;
  const servername = tlsOptions.servername ?? ownName;
  // An empty servername asks for no SNI, not for no identity.
  const identity = servername || (ownName ?? endpoint.host);
  const check = tlsOptions.checkServerIdentity ?? tls.checkServerIdentity;
  return tls.connect({
    ...tlsOptions,
    ...connect,
    ...(servername === undefined ? {} : { servername }),
    // Left alone, Node takes the address that was dialed when there is no servername; it may be another server's today.
    checkServerIdentity: (_dialed, certificate) => check(identity, certificate),
  });
}

/** Whether Node has refused the server's certificate. */
function isUntrusted(socket: net.Socket): boolean {
  return socket instanceof tls.TLSSocket && Boolean(socket.authorizationError);
}

function areOfTwoFamilies(a: string, b: string): boolean {
  return net.isIP(a) !== net.isIP(b) && net.isIP(a) !== 0 && net.isIP(b) !== 0;
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
    const address = addressOf(options);
    const { localAddress } = options;
    if (address !== undefined && localAddress !== undefined && areOfTwoFamilies(address, localAddress)) {
      reject(otherFamily(localAddress, name, address));
      return;
    }
    let phase: DialPhase = 'tcp';
    let socket: net.Socket;
    try {
      socket =
        options.tls === undefined
          ? net.connect(connectOptions(options, address))
          : startTls(options, options.tls, address);
    } catch (error) {
      // Certificates, keys and addresses that can't be read throw here, synchronously.
      reject(explainSetupError(error, options.tls !== undefined, name));
      return;
    }

    const onTcp = (): void => {
      phase = 'tls';
    };
    const onError = (error: Error): void =>
      fail(explainDialError(error, phase, name, isUntrusted(socket), address));
    const onClose = (): void => fail(explainDialError(undefined, phase, name, false, address));
    const readyEvent = options.tls === undefined ? 'connect' : 'secureConnect';

    let settled = false;
    const settle = (): void => {
      settled = true;
      timer.cancel();
      stopListening();
      socket.off('connect', onTcp).off('close', onClose).off(readyEvent, onReady).off('error', onError);
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
      try {
        resolve(adopt(socket));
      } catch (error) {
        fail(unadopted(error, name));
      }
    };
    // Timers run before the poll phase: the answer may already be in the kernel if our own loop was blocked.
    const timer = clock.after(Math.max(0, options.remainingMs ?? options.connectTimeoutMs), () => {
      clock.turn(() => {
        if (!settled) fail(dialTimeout(phase, name, options.connectTimeoutMs, address));
      });
    });

    // All dials of a pool share one signal.
    const stopListening = onAbort(signal, () => fail(signal.reason));
    // What holds the process is the caller who waits, never a socket, nor one that is being dialed for nobody.
    socket.unref();
    if (options.tls !== undefined) socket.once('connect', onTcp);
    socket.once('error', onError).once('close', onClose).once(readyEvent, onReady);
  });
}

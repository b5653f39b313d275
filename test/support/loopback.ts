/**
 * One service at several addresses of the loopback, under one name and port, and the way to it. Linux answers at all of
 * 127.0.0.0/8. Everything is closed by `closeLocal`.
 */
import net from 'node:net';
import { type Clock, systemClock, type Timer } from '../../src/clock.ts';
import { parseAddress } from '../../src/resolve/address.ts';
import { type Lookup, lookupError } from '../../src/resolve/lookup.ts';
import { Names } from '../../src/resolve/names.ts';
import { Route } from '../../src/route.ts';
import { onCloseLocal } from './local-servers.ts';

/** Whether this machine has 127.0.0.2, as Linux does. */
export const HAS_MANY_LOOPBACKS: boolean = process.platform === 'linux';

/** Whether this machine speaks IPv6 to itself. */
export const HAS_IPV6: boolean = await canListen('::1');

async function canListen(address: string): Promise<boolean> {
  const server = net.createServer();
  const isListening = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false)).listen(0, address, () => resolve(true));
  });
  if (isListening) server.close();
  return isListening;
}

/** Listens at an address of the loopback. Resolves to the port. */
export async function listenAt(server: net.Server, address: string, port = 0): Promise<number> {
  const sockets = new Set<net.Socket>();
  server.on('connection', (socket: net.Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  });
  server.on('tlsClientError', () => undefined);
  onCloseLocal(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, address, () => resolve());
  });
  const at = server.address();
  if (typeof at !== 'object' || at === null) throw new Error('a server without a port');
  return at.port;
}

/** A resolver by which every name has these addresses. */
export function lookupOf(...texts: readonly string[]): Lookup {
  const addresses = texts.map((text) => {
    const address = parseAddress(text);
    if (address === undefined) throw new Error(`${text} is no address`);
    return address;
  });
  return {
    name: 'test',
    addresses: () => Promise.resolve({ addresses, ttlMs: undefined }),
    services: () => Promise.reject(lookupError('ENOTFOUND', 'no such service')),
  };
}

/** Real time, but for the timers: a test sets them off, or none ever goes off, however slow the machine is. */
export class StillClock implements Clock {
  readonly #timers: Set<{ readonly ms: number; readonly fn: () => void }> = new Set();

  now(): number {
    return systemClock.now();
  }

  wall(): number {
    return systemClock.wall();
  }

  after(ms: number, fn: () => void): Timer {
    const timer = { ms, fn };
    if (ms !== Number.POSITIVE_INFINITY) this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  soon(fn: () => void): void {
    systemClock.soon(fn);
  }

  turn(fn: () => void): void {
    systemClock.turn(fn);
  }

  /** Timers that have neither gone off nor been cancelled. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  /** Sets off the timers that were set for so long. */
  ring(ms: number): void {
    for (const timer of [...this.#timers].filter((one) => one.ms === ms)) {
      this.#timers.delete(timer);
      timer.fn();
    }
  }
}

/** The way to a name that has these addresses: tried in this order, but for families, which take turns. */
export function routeBy(addresses: readonly string[], clock: Clock, connectTimeoutMs: number): Route {
  const random = (): number => 0;
  const names = new Names({ lookups: [lookupOf(...addresses)], clock, random });
  onCloseLocal(() => names.end());
  return new Route({ names, clock, random, connectTimeoutMs });
}

/**
 * A client in a world of its own: virtual time, a network in memory, a server of which the test says what it answers,
 * and an audit of the pool's books and the client's after every step. When a test ends, the client is closed and must
 * have left nothing behind.
 */
import { afterEach } from 'vitest';
import type { Client } from '../../src/client/client.ts';
import type { ClientStats } from '../../src/client/client-stats.ts';
import { type ClientMode, type ClientOptions, resolveClientOptions } from '../../src/client-options.ts';
import { assembleClient } from '../../src/create-client.ts';
import type { Pool } from '../../src/pool/pool.ts';
import { lines } from '../../src/transport/lines.ts';
import { Audit } from './audit.ts';
import { FakeNet, type FakePeer } from './fake-net.ts';
import type { VirtualClock } from './virtual-clock.ts';

export type Options = Partial<ClientOptions<string, string>>;

/** All modes: what holds for each of them is tested in each. */
export const MODES: readonly ClientMode[] = ['exclusive', 'pipelined', 'multiplexed'];
export const SHARED: readonly ClientMode[] = ['pipelined', 'multiplexed'];

/** What a test holds in its hands. */
export interface ClientWorld {
  readonly net: FakeNet;
  readonly clock: VirtualClock;
  readonly client: Client<string, string>;
  readonly pool: Pool<string, string>;
  readonly backend: Backend;
  /** Checks the books; `pass` and `now` do so by themselves. */
  readonly audit: () => void;
  /** Lets time pass. */
  readonly pass: (ms: number) => Promise<void>;
  /** Lets everything happen that is due now. */
  readonly now: () => Promise<void>;
  /** The client's and the pool's events in the order in which they were told: `retried:later`, `closed:dirty`. */
  readonly told: string[];
}

/** How ids are written in front of lines: `7:hello` is answered by `7:Echo: hello`. */
export const IDS = {
  write: (message: string, id: number) => `${id}:${message}`,
  read: (frame: string) => {
    const at = frame.indexOf(':');
    return at > 0 ? Number(frame.slice(0, at)) : undefined;
  },
};

/** The server's end of one socket, as the test plays it. */
export class Side {
  readonly peer: FakePeer;
  /** What each write of the client's brought, as long as nobody held them up. */
  readonly chunks: string[] = [];
  /** All questions but pings, in the order in which they came. */
  readonly asked: string[] = [];
  /** Those that have not been answered. */
  readonly due: string[] = [];
  readonly #backend: Backend;
  #text = '';

  constructor(peer: FakePeer, backend: Backend) {
    this.peer = peer;
    this.#backend = backend;
    peer.stream.on('data', (chunk: Buffer) => {
      const text = chunk.toString('latin1');
      this.chunks.push(text);
      this.#text += text;
      this.#read();
    });
  }

  /** Answers the oldest questions, as many as said, in one write. */
  answer(count: number = this.due.length): void {
    this.say(
      this.due
        .splice(0, count)
        .map((line) => this.#backend.replyTo(line))
        .join(''),
    );
  }

  /** Answers one question, wherever it stands, by what it contains. */
  answerTo(part: string): void {
    const at = this.due.findIndex((line) => line.includes(part));
    if (at < 0) throw new Error(`nobody has asked ${part}; due are ${this.due}`);
    const [line = ''] = this.due.splice(at, 1);
    this.say(this.#backend.replyTo(line));
  }

  /** Sends bytes, in as many writes as there are. */
  say(...texts: string[]): void {
    for (const text of texts) this.peer.write(text);
  }

  /** Sends one byte after the other. */
  spell(text: string): void {
    this.say(...text);
  }

  #read(): void {
    for (let end = this.#text.indexOf('\n'); end >= 0; end = this.#text.indexOf('\n')) {
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 1);
      if (line === 'PING') {
        if (!this.peer.isMute) this.say('PONG\n');
        continue;
      }
      this.asked.push(line);
      this.due.push(line);
      this.#backend.onQuestion(this, line);
      if (this.#backend.isEchoing && !this.peer.isMute) this.answer();
    }
  }
}

/** A server with all its sockets. */
export class Backend {
  readonly sides: Side[] = [];
  /** Whether each question is answered as soon as it has come. */
  isEchoing: boolean;
  /** Called for each question, before it is answered. */
  onQuestion: (side: Side, line: string) => void = () => undefined;
  /** Called for each new socket. */
  onSide: (side: Side) => void = () => undefined;
  readonly #hasIds: boolean;

  constructor(net: FakeNet, hasIds: boolean, isEchoing: boolean) {
    this.#hasIds = hasIds;
    this.isEchoing = isEchoing;
    net.onPeer = (peer) => {
      const side = new Side(peer, this);
      this.sides.push(side);
      this.onSide(side);
    };
  }

  /** What the server says to a question. */
  replyTo(line: string): string {
    const [, id = '', question = ''] = /^(\d+:)?(.*)$/.exec(line) ?? [];
    return this.#hasIds ? `${id}Echo: ${question}\n` : `Echo: ${line}\n`;
  }

  /** Of that number, the first one being 0. */
  side(index: number): Side {
    const side = this.sides.at(index);
    if (side === undefined) throw new Error(`socket ${index} was not dialed`);
    return side;
  }

  /** Everything that was asked, without ids, socket by socket. */
  get asked(): string[][] {
    return this.sides.map(({ asked }) => asked.map(withoutId));
  }

  /** How often a question has come, on whatever socket. */
  times(question: string): number {
    return this.asked.flat().filter((one) => one === question).length;
  }

  /** Answers everything that is due. */
  answerAll(): void {
    for (const side of this.sides) if (side.due.length > 0 && !side.peer.isClientGone) side.answer();
  }
}

const worlds: { finish: () => Promise<void> }[] = [];

afterEach(async () => {
  for (const { finish } of worlds.splice(0)) await finish();
});

/** Makes a client of lines to a server that echoes them. */
export function setUpClient(
  mode: ClientMode,
  options: Options = {},
  { isEchoing = true, net = new FakeNet() }: { readonly isEchoing?: boolean; readonly net?: FakeNet } = {},
): ClientWorld {
  const { clock } = net;
  const all = optionsOf(mode, options);
  const backend = new Backend(net, all.correlate !== undefined, isEchoing);
  const both = assembleClient<string, string>(net.surroundings, all);
  const { client, pool } = both;
  const audit = new Audit(both, net);
  const books = new ClientAudit(client, resolveClientOptions(all).own.mode, net);
  const told: string[] = [];
  pool.on('opened', () => told.push('opened'));
  pool.on('dialFailed', () => told.push('dialFailed'));
  pool.on('closed', ({ reason }) => told.push(`closed:${reason}`));
  client.on('retried', ({ how }) => told.push(`retried:${how}`));
  client.on('hedged', () => told.push('hedged'));
  client.on('breakerOpened', () => told.push('breakerOpened'));
  client.on('breakerClosed', () => told.push('breakerClosed'));
  const check = (): void => {
    audit.check();
    books.check();
  };
  worlds.push({
    finish: async () => {
      const closing = client.close({ timeoutMs: 0 });
      await clock.advance(1_000);
      await closing;
      audit.checkEnd();
      books.checkEnd();
    },
  });
  return {
    net,
    clock,
    client,
    pool,
    backend,
    told,
    audit: check,
    pass: async (ms) => {
      // Step by step, so that the books are checked on the way.
      const steps = Math.min(20, Math.max(1, Math.ceil(ms / 10)));
      for (let step = 0; step < steps; step++) {
        await clock.advance(ms / steps);
        check();
      }
    },
    now: async () => {
      await clock.advance(0);
      check();
    },
  };
}

/** The options of a test with all that is needed. */
export function optionsOf(mode: ClientMode, options: Options = {}): ClientOptions<string, string> {
  return {
    ...(options.endpoints === undefined ? { host: 'fake', port: 1 } : {}),
    codec: lines({ maxFrameBytes: 1_000_000 }),
    mode,
    ...(mode === 'multiplexed' ? { correlate: IDS } : {}),
    ...options,
  };
}

function withoutId(line: string): string {
  return line.replace(/^\d+:/, '');
}

/** What must be true of a client after every step. */
export class ClientAudit {
  readonly #client: Client<string, string>;
  readonly #net: FakeNet;
  #before: readonly number[] = [];

  constructor(client: Client<string, string>, _mode: ClientMode, net: FakeNet) {
    this.#client = client;
    this.#net = net;
  }

  check(): void {
    const stats = this.#client.stats();
    const { cancelled, failed, inFlight, requests, succeeded, timedOut, waiting } = stats;
    const sum = succeeded + failed + timedOut + cancelled + inFlight;
    if (sum !== requests) fail(`${sum} are accounted for, ${requests} were made: ${JSON.stringify(stats)}`);
    if (waiting > inFlight) fail(`${waiting} wait, ${inFlight} are in flight`);
    if (inFlight > 0 && this.#net.hold.count === 0)
      fail('requests are in flight, and nothing holds the process');
    const now = countersOf(stats);
    for (const [index, count] of this.#before.entries())
      if ((now[index] ?? 0) < count) fail(`counter ${index} fell from ${count} to ${now[index]}`);
    this.#before = now;
  }

  /** The same, and that the client has closed and left nothing behind. */
  checkEnd(): void {
    this.check();
    const { inFlight, waiting } = this.#client.stats();
    if (inFlight !== 0) fail(`${inFlight} in flight at the end`);
    if (waiting !== 0) fail(`${waiting} wait at the end`);
  }
}

function countersOf(stats: ClientStats): number[] {
  const { retried } = stats;
  return [
    stats.requests,
    stats.succeeded,
    stats.failed,
    stats.timedOut,
    stats.cancelled,
    stats.retriesRefused,
    stats.hedged,
    stats.hedgesWon,
    retried.again,
    retried.fresh,
    retried.later,
    stats.latency.count,
  ];
}

function fail(what: string): never {
  throw new Error(`audit of the client: ${what}`);
}

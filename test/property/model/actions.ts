/**
 * Everything that can happen to a pool, one command each: callers, the server, the network, hooks, and time. What
 * must be true afterwards the world knows: see world.ts.
 */

import fc from 'fast-check';
import { BALANCE_POLICIES } from '../../../src/balance/policies.ts';
import { PulsepoolError } from '../../../src/errors.ts';
import type { Lease } from '../../../src/pool/lease.ts';
import type { FakePeer } from '../../support/fake-net.ts';
import { viewOf } from '../../support/roster-view.ts';
import { settle } from '../../support/virtual-clock.ts';
import {
  ADDRESSES,
  DNS_ANSWERS,
  type DnsAnswer,
  FATES,
  type Fate,
  LIST_CHANGES,
  type ListChange,
  NETWORKS,
  type Network,
  type Place,
} from './places.ts';
import {
  GATES,
  type Gate,
  SERVER_MODES,
  type ServerMode,
  TROUBLES,
  type Trouble,
  WAYS,
  type Way,
} from './ways.ts';
import type { Drawn, World } from './world.ts';

interface Bounds {
  readonly timeoutMs?: number | undefined;
  readonly priority?: number | undefined;
  /** Where callers may have one. */
  readonly key?: string | undefined;
  readonly isAbortable: boolean;
}

/** One thing that happens. */
export type Action =
  | ({ readonly do: 'acquire' } & Bounds)
  | ({ readonly do: 'request'; readonly idempotent: boolean; readonly frozenMs: number } & Bounds)
  | ({
      readonly do: 'use';
      readonly ending: 'return' | 'throw' | 'ask' | 'nest';
      readonly ms: number;
    } & Bounds)
  | { readonly do: 'acquirePlain' | 'tryAcquire' | 'suspend' | 'resume' | 'heal' | 'close' }
  | { readonly do: 'ready'; readonly isAbortable: boolean }
  | { readonly do: LeaseAction; readonly pick: number }
  | {
      readonly do: 'ask';
      readonly pick: number;
      readonly timeoutMs: number | undefined;
      readonly isAbortable: boolean;
    }
  | { readonly do: 'abort' | 'fin' | 'rst' | 'stray'; readonly pick: number }
  | { readonly do: 'mute'; readonly pick: number; readonly isMute: boolean }
  | {
      readonly do: 'resize';
      readonly min: number;
      readonly minIdle: number;
      readonly maxIdle: number;
      readonly max: number;
    }
  | { readonly do: 'reset'; readonly perSecond: number }
  | { readonly do: 'server'; readonly mode: ServerMode }
  | { readonly do: 'way'; readonly gate: Gate; readonly way: Way; readonly trouble: Trouble }
  | { readonly do: 'fate'; readonly address: string; readonly fate: Fate }
  | { readonly do: ListChange; readonly pick: number }
  | { readonly do: 'dns'; readonly answer: DnsAnswer }
  | { readonly do: 'network'; readonly network: Network; readonly sleptMs: number }
  | { readonly do: 'pass' | 'freeze'; readonly ms: number };

type LeaseAction =
  | 'release'
  | 'poolRelease'
  | 'destroy'
  | 'detach'
  | 'sendAndRelease'
  | 'releaseAgain'
  | 'dispose';

/** The names of all kinds of action: each must have happened. */
export const ACTIONS: readonly Action['do'][] = [
  'acquire',
  'request',
  'use',
  'acquirePlain',
  'tryAcquire',
  'suspend',
  'resume',
  'heal',
  'close',
  'ready',
  'release',
  'poolRelease',
  'destroy',
  'detach',
  'sendAndRelease',
  'releaseAgain',
  'dispose',
  'ask',
  'abort',
  'fin',
  'rst',
  'stray',
  'mute',
  'resize',
  'reset',
  'server',
  'way',
  'fate',
  ...LIST_CHANGES,
  'dns',
  'network',
  'pass',
  'freeze',
];

/** An action as fast-check sees it. It prints as it was drawn. */
export class Act implements fc.AsyncCommand<World, World> {
  readonly #action: Action;
  // What comes next happens before the event loop has turned: in the turns that a check or a verdict waits for.
  readonly #isHasty: boolean;

  constructor(action: Action, isHasty: boolean) {
    this.#action = action;
    this.#isHasty = isHasty;
  }

  check(world: Readonly<World>): boolean {
    return isPossible(world, this.#action);
  }

  async run(world: World): Promise<void> {
    const { clock } = world.net;
    const action = this.#action;
    world.saw('steps');
    world.saw(action.do);
    perform(world, action);
    // What comes after a freeze happens before anything that fell due meanwhile.
    if (action.do === 'freeze') world.freeze(action.ms);
    else if (this.#isHasty) {
      world.saw('in haste');
      await settle();
    } else await clock.advance(action.do === 'pass' ? action.ms : 0);
  }

  toString(): string {
    return `${JSON.stringify(this.#action)}${this.#isHasty ? ' in haste' : ''}`;
  }
}

/** Whether there is anything to do it with. */
function isPossible(world: Readonly<World>, action: Action): boolean {
  switch (action.do) {
    case 'abort':
      return world.aborters.length > 0;
    case 'release':
    case 'poolRelease':
    case 'destroy':
    case 'detach':
    case 'sendAndRelease':
    case 'dispose':
    case 'ask':
      return world.leases.length > 0;
    case 'releaseAgain':
      return world.ended.length > 0;
    case 'join':
    case 'leave':
    case 'replaceAll':
    case 'move':
    case 'feedFails':
    case 'feedErrs':
      return world.places.isFed;
    case 'dns':
      return world.places.isNamed;
    case 'fin':
    case 'rst':
    case 'mute':
      return world.net.openPeers.some(isWritable);
    case 'stray': {
      // Only where nobody has asked: a stray frame ahead of a due reply can't be told from it.
      const { counts } = viewOf(world.both.roster);
      if (counts.leased > 0 || counts.dialing > 0 || counts.closing > 0) return false;
      return world.net.openPeers.some(isResting);
    }
    default:
      return true;
  }
}

function perform(world: World, action: Action): void {
  const { pool } = world;
  switch (action.do) {
    case 'acquire':
      world.acquire(bounds(world, action));
      return;
    case 'acquirePlain':
      world.acquire(undefined);
      return;
    case 'tryAcquire':
      world.tryAcquire();
      return;
    case 'request':
      // Before anything that fell due meanwhile.
      world.freeze(action.frozenMs);
      world.request({ ...bounds(world, action), idempotent: action.idempotent });
      return;
    case 'use':
      world.use(bounds(world, action), action.ending, action.ms);
      return;
    case 'ready':
      world.ready(action.isAbortable ? world.signal() : undefined);
      return;
    case 'abort':
      // One of the newest: most of the others have nothing left to abort.
      world.aborters.splice(-1 - (action.pick % world.aborters.length), 1)[0]?.abort();
      return;
    case 'release':
    case 'poolRelease':
    case 'destroy':
    case 'detach':
    case 'sendAndRelease':
    case 'dispose': {
      const lease = take(world.leases, action.pick);
      if (lease === undefined) return;
      giveBack(world, lease, action.do);
      world.ended.push(lease);
      return;
    }
    case 'releaseAgain': {
      const lease = pickOf(world.ended, action.pick);
      // After destroy() one release is allowed, and changes nothing either.
      if (lease !== undefined) allow('ERR_LEASE', () => pool.release(lease));
      return;
    }
    case 'ask': {
      const lease = pickOf(world.leases, action.pick);
      if (lease !== undefined)
        world.ask(lease, { timeoutMs: action.timeoutMs, signal: signalFor(world, action) });
      return;
    }
    case 'fin':
    case 'rst': {
      const peer = pickOf(world.net.openPeers.filter(isWritable), action.pick);
      if (peer === undefined) return;
      // It may be one whose handshake is under way.
      world.places.doubt(peer.address);
      if (action.do === 'fin') peer.fin();
      else peer.reset();
      return;
    }
    case 'stray':
      pickOf(world.net.openPeers.filter(isResting), action.pick)?.write('stray\n');
      return;
    case 'mute': {
      const peer = pickOf(world.net.openPeers.filter(isWritable), action.pick);
      if (peer !== undefined) world.stop(peer, action.isMute);
      return;
    }
    case 'resize':
      afterClose(world, () => pool.resize(sizesOf(action)));
      return;
    case 'reset':
      world.reset(action.perSecond);
      return;
    case 'suspend':
      world.suspend();
      return;
    case 'resume':
      pool.resume();
      return;
    case 'heal':
      world.heal();
      return;
    case 'close':
      world.close();
      return;
    case 'server':
      world.mode = action.mode;
      world.places.doubt();
      return;
    case 'fate':
      world.decide(action.address, action.fate);
      world.saw(`fate ${action.fate}`);
      return;
    case 'join':
    case 'leave':
    case 'replaceAll':
    case 'move':
    case 'feedFails':
    case 'feedErrs':
      world.places.change(action.do, action.pick);
      return;
    case 'dns':
      world.places.answer(action.answer);
      world.saw(`dns ${action.answer}`);
      return;
    case 'network':
      world.places.connectTo(action.network, action.sleptMs);
      return;
    case 'way':
      world.ways[action.gate] = action.way;
      world.trouble = action.trouble;
      world.applyDial();
      return;
    case 'pass':
    case 'freeze':
      return;
  }
}

function giveBack(world: World, lease: Lease<string, string>, how: LeaseAction): void {
  switch (how) {
    case 'poolRelease':
      world.pool.release(lease);
      return;
    case 'destroy':
      lease.destroy();
      return;
    case 'detach':
      world.detach(lease);
      return;
    case 'dispose':
      lease[Symbol.asyncDispose]().catch(() => undefined);
      return;
    case 'sendAndRelease':
      // Its reply must reach nobody.
      lease.send('forgotten').catch(() => undefined);
      lease.release();
      return;
    default:
      lease.release();
  }
}

function isWritable(peer: FakePeer): boolean {
  return !peer.stream.writableEnded;
}

function isResting(peer: FakePeer): boolean {
  return isWritable(peer) && (peer.received === '' || peer.received.endsWith('PING\n'));
}

/** Calls what may be refused with this code. */
function allow(code: string, fn: () => void): void {
  try {
    fn();
  } catch (error) {
    if (!(error instanceof PulsepoolError && error.code === code)) throw error;
  }
}

/** Calls what is refused once the pool is closed, and only then. */
function afterClose(world: World, fn: () => void): void {
  if (world.isClosed) allow('ERR_POOL_CLOSED', fn);
  else fn();
}

function bounds(world: World, { isAbortable, key, priority, timeoutMs }: Bounds) {
  const { isKeyed } = world.places;
  return { timeoutMs, priority, signal: signalFor(world, { isAbortable }), ...(isKeyed ? { key } : {}) };
}

function signalFor(
  world: World,
  { isAbortable }: { readonly isAbortable: boolean },
): AbortSignal | undefined {
  return isAbortable ? world.signal() : undefined;
}

function pickOf<T>(list: readonly T[], pick: number): T | undefined {
  return list[pick % Math.max(1, list.length)];
}

function take<T>(list: T[], pick: number): T | undefined {
  return list.splice(pick % Math.max(1, list.length), 1)[0];
}

interface SizeDraw {
  readonly min: number;
  readonly minIdle: number;
  readonly maxIdle: number;
  readonly max: number;
}

/** Sizes that do not contradict each other. */
function sizesOf({ max, maxIdle, min, minIdle }: SizeDraw): SizeDraw {
  const least = { max, min: Math.min(min, max), minIdle: Math.min(minIdle, max) };
  return { ...least, maxIdle: Math.min(max, Math.max(maxIdle, least.min, least.minIdle)) };
}

// ---- what is drawn ---------------------------------------------------------------------------------------

const HASTE = [false, false, false, false, false, true];

const pick = fc.nat(7);
const isAbortable = fc.boolean();
const sizes = {
  min: fc.constantFrom(0, 0, 1, 2),
  minIdle: fc.constantFrom(0, 0, 0, 1, 2),
  maxIdle: fc.nat(5),
  max: fc.integer({ min: 1, max: 5 }),
};
const bounding = {
  timeoutMs: fc.constantFrom(undefined, undefined, 3_000, 400, 50, 0, 1),
  priority: fc.constantFrom(undefined, undefined, 0, 1, 3, -2),
  key: fc.constantFrom(undefined, 'a', 'b', 'c', 'd'),
  isAbortable,
};

/** Everything that may happen, the usual more often. */
const anything: fc.Arbitrary<Action> = fc.oneof(
  draw(16, { do: fc.constant('acquire' as const), ...bounding }),
  draw(5, { do: fc.constantFrom('acquirePlain' as const, 'tryAcquire' as const) }),
  draw(26, {
    do: fc.constantFrom(
      'release' as const,
      'release' as const,
      'release' as const,
      'release' as const,
      'poolRelease' as const,
      'destroy' as const,
      'detach' as const,
      'sendAndRelease' as const,
      'releaseAgain' as const,
      'dispose' as const,
    ),
    pick,
  }),
  draw(10, {
    do: fc.constantFrom('abort' as const, 'abort' as const, 'fin' as const, 'rst' as const, 'stray' as const),
    pick,
  }),
  draw(3, { do: fc.constant('mute' as const), pick, isMute: fc.boolean() }),
  draw(8, { do: fc.constant('ask' as const), pick, timeoutMs: bounding.timeoutMs, isAbortable }),
  draw(10, {
    do: fc.constant('request' as const),
    ...bounding,
    idempotent: fc.boolean(),
    frozenMs: fc.constantFrom(0, 0, 0, 25),
  }),
  draw(4, {
    do: fc.constant('use' as const),
    ...bounding,
    ending: fc.constantFrom(
      'return' as const,
      'throw' as const,
      'ask' as const,
      'nest' as const,
      'nest' as const,
    ),
    ms: fc.constantFrom(0, 0, 30),
  }),
  draw(3, { do: fc.constant('resize' as const), ...sizes }),
  draw(3, { do: fc.constant('reset' as const), perSecond: fc.constantFrom(1, 10, 1_000) }),
  draw(2, { do: fc.constant('suspend' as const) }),
  draw(4, { do: fc.constant('resume' as const) }),
  draw(3, { do: fc.constant('heal' as const) }),
  draw(4, { do: fc.constant('server' as const), mode: fc.constantFrom('ok' as const, ...SERVER_MODES) }),
  draw(10, {
    do: fc.constant('way' as const),
    gate: fc.constantFrom(...GATES),
    way: fc.constantFrom('ok' as const, 'ok' as const, 'ok' as const, ...WAYS),
    trouble: fc.constantFrom(...TROUBLES),
  }),
  draw(7, {
    do: fc.constant('fate' as const),
    address: fc.constantFrom(...ADDRESSES.slice(0, 3), ...ADDRESSES),
    fate: fc.constantFrom('ok' as const, ...FATES),
  }),
  draw(7, { do: fc.constantFrom(...LIST_CHANGES), pick }),
  draw(4, {
    do: fc.constant('dns' as const),
    answer: fc.constantFrom('first' as const, 'three' as const, ...DNS_ANSWERS),
  }),
  draw(2, {
    do: fc.constant('network' as const),
    network: fc.constantFrom(...NETWORKS),
    sleptMs: fc.constantFrom(0, 0, 10_000),
  }),
  draw(24, {
    do: fc.constant('pass' as const),
    ms: fc.constantFrom(0, 1, 10, 30, 30, 100, 170, 450, 1_200, 1_200, 6_000),
  }),
  draw(2, { do: fc.constant('freeze' as const), ms: fc.constantFrom(20, 300, 2_000) }),
  draw(1, { do: fc.constant('ready' as const), isAbortable }),
);

/** One of them, now and then in haste. */
export const actions: fc.Arbitrary<Act> = fc
  .tuple(anything, fc.constantFrom(...HASTE))
  .map(([action, isHasty]) => new Act(action, isHasty && action.do !== 'pass'));

function draw<Kind extends Action>(
  weight: number,
  fields: { [Field in keyof Kind]: fc.Arbitrary<Kind[Field]> },
): { weight: number; arbitrary: fc.Arbitrary<Action> } {
  return { weight, arbitrary: fc.record(fields) as fc.Arbitrary<Action> };
}

const balance = fc.constantFrom(...BALANCE_POLICIES, 'consistent-hash' as const);

/** Where the server is: a third each one name, a list, and endpoints that come and go. */
const place: fc.Arbitrary<Place> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('one' as const) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('list' as const), balance }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('feed' as const),
      balance,
      isLate: fc.constantFrom(false, false, false, true),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('dns' as const), balance }) },
);

/** A pool, and the world around it. */
export const worlds: fc.Arbitrary<Drawn> = fc
  .record({
    ...sizes,
    maxConnecting: fc.integer({ min: 1, max: 4 }),
    maxWaiting: fc.constantFrom(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 0, 3),
    maxUses: fc.constantFrom(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 1, 4),
    shedAfterMs: fc.constantFrom(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 120),
    // Stacks cost more than all the rest.
    leakAfterMs: fc.constantFrom(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 400),
    detectDeadlocks: fc.constantFrom(false, false, false, true),
    isShortLived: fc.boolean(),
    gates: fc.subarray([...GATES]),
    isHeard: fc.boolean(),
    isCalmedDown: fc.boolean(),
    place,
    down: fc.constantFrom(
      'ok' as const,
      'ok' as const,
      'refuse' as const,
      'hang' as const,
      'untrusted' as const,
    ),
    seed: fc.nat(),
  })
  .map((drawn) => ({ ...drawn, ...sizesOf(drawn) }));

/** Closing comes last, or nearly so: after it little can happen. */
export const closings: fc.Arbitrary<Act> = fc.constant(new Act({ do: 'close' }, false));

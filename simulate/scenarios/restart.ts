/** One endpoint restarts, or is replaced by a new one; or a tenth of them, one after the other: who comes running? */
import type { ChooserName } from '../chooser.ts';
import { nameOf, SERVICES, SMALL } from '../fleets.ts';
import { type Panel, pictureOf } from '../picture.ts';
import { ms, percent, type Section, type Table, times, whole } from '../section.ts';
import { sumOf } from '../series.ts';
import { COLD_FACTOR, COLD_MS, type Server } from '../server.ts';
import { type Setting, World } from '../world.ts';

const GONE_AT_MS = 5_000;
const BACK_AT_MS = 10_000;
const FOR_MS = 60_000;
const EDGES_MS = [0, 5_000, 10_000, 20_000, 30_000, 45_000, 60_000];
const ROLL_MS = 3_000;
const SLOW_START_MS = 30_000;

/** In place: the same address, dialed again. Replaced: another address, of which everybody hears at once. */
type How = 'in place' | 'replaced';

interface Case extends Setting {
  readonly how: How;
}

interface Result {
  /** Of its even share, for each second since it is back. */
  readonly perSecond: number[];
  /** The highest of them, and that of an endpoint that was there all the time. */
  readonly peak: number;
  readonly otherPeak: number;
  readonly p999: number | undefined;
  readonly retries: number;
}

export function restart(seed: number): Section {
  const policies: readonly ChooserName[] = ['random', 'p2c', 'round-robin', 'least-loaded'];
  const small = policies.flatMap((policy) =>
    (policy === 'random' ? [0] : [0, SLOW_START_MS]).map(
      (slowStartMs): Case => ({ ...SMALL, policy, load: 0.7, slowStartMs, how: 'replaced' }),
    ),
  );
  const p2c = { policy: 'p2c', how: 'in place' } as const;
  const others: Case[] = [
    { ...SMALL, ...p2c, load: 0.7, slowStartMs: 0 },
    { ...SMALL, ...p2c, load: 0.7, slowStartMs: SLOW_START_MS },
    { ...SERVICES, ...p2c, load: 0.25, slowStartMs: SLOW_START_MS },
    { ...SERVICES, ...p2c, load: 0.25, slowStartMs: SLOW_START_MS, how: 'replaced' },
  ];
  const results = [...small, ...others].map((one) => ({ one, result: run(one, seed) }));
  const panel = (slowStartMs: number): Panel => ({
    name: slowStartMs === 0 ? 'without slow start' : 'with slow start of 30 s, the default',
    fact: slowStartMs === 0 ? 'who asks finds out' : 'it gets a tenth at first, and more by and by',
    lines: policies.flatMap((policy) => {
      const found = results.find(
        ({ one }) =>
          one.how === 'replaced' &&
          one.policy === policy &&
          one.servers === SMALL.servers &&
          one.slowStartMs === (policy === 'random' ? 0 : slowStartMs),
      );
      return found === undefined ? [] : [{ label: policy, values: twoByTwo(found.result.perSecond) }];
    }),
  });
  return {
    title: 'Herding after a restart',
    scene:
      `An endpoint is gone for ${(BACK_AT_MS - GONE_AT_MS) / 1_000} s and comes back cold: requests take ${COLD_FACTOR} times ` +
      `as long, and as long as ever after ${COLD_MS / 1_000} s. In place: its sockets close, dials are refused until it is ` +
      'back. Replaced: it leaves the address list, and a new one joins it, of which all clients hear in the same moment. ' +
      '1.00 is an even share; that of a new socket is none until somebody has been sent there and had it dialed.',
    tables: [table(results), rolling(seed)],
    pictures: [
      {
        file: 'simulation-restart.svg',
        alt: 'What a cold endpoint gets after it has replaced another one: its even share at once with random choice, less by latency or load, and least with slow start.',
        svg: pictureOf({
          title: 'A cold endpoint joins twenty at 70 % load',
          subtitle:
            'What it gets of its even share, in each two seconds. Its requests take three times as long at first.',
          stepSeconds: 2,
          fromSeconds: 0,
          toSeconds: 60,
          tickSeconds: 10,
          xLabel: 's after it joined',
          yLabel: 'of an even share',
          top: 1.4,
          tick: 0.2,
          fault: [0, COLD_MS / 1_000],
          faultLabel: 'cold',
          panels: [panel(0), panel(SLOW_START_MS)],
        }),
      },
    ],
    lessons: [
      'Nobody is met by a herd, with any policy, not even for a second: the highest second is no higher than that of an endpoint that was there all the time.',
      'An even share is too much for a cold endpoint. With chance its queue fills and requests time out; so they do with round robin without slow start, until it is put out. With slow start no policy loses anything.',
      'p2c and least-loaded find out by themselves. Slow start spares the callers who would do the finding: p99.9 is that of a quiet day.',
      'With 2,000 clients of 200 endpoints it takes more than a minute to an even share: each client has to be sent there once to have a socket dialed. None of them meets enough failures to put the endpoint out, so after a restart in place there is no slow start, and no need for it.',
    ],
  };
}

function table(results: readonly { readonly one: Case; readonly result: Result }[]): Table {
  const spans = EDGES_MS.slice(1).map((to, at) => `${(EDGES_MS[at] ?? 0) / 1_000}-${to / 1_000} s`);
  const rows = results.map(({ one, result }) => [
    nameOf(one),
    one.how,
    one.policy,
    one.policy === 'random' ? '-' : `${(one.slowStartMs ?? 0) / 1_000} s`,
    times(result.peak),
    times(result.otherPeak),
    ...EDGES_MS.slice(1).map((to, at) => {
      const from = EDGES_MS[at] ?? 0;
      const seconds = result.perSecond.slice(from / 1_000, to / 1_000);
      return times(sumOf(seconds) / seconds.length);
    }),
    evenAfter(result.perSecond),
    ms(result.p999),
    whole(result.retries),
  ]);
  return {
    title: 'What the endpoint gets of its even share after it is back',
    head: [
      'fleet',
      'how',
      'policy',
      'slow start',
      'highest second',
      'of another one',
      ...spans,
      'even after',
      'p99.9 ms',
      'retries',
    ],
    rows,
  };
}

/** Within a tenth of even from then on, by the mean of ten seconds. */
function evenAfter(perSecond: readonly number[]): string {
  const isEven = (from: number): boolean => {
    const seconds = perSecond.slice(from, from + 10);
    return Math.abs(sumOf(seconds) / seconds.length - 1) <= 0.1;
  };
  for (let from = 0; from + 10 <= perSecond.length; from += 1) if (isEven(from)) return `${from} s`;
  return '> 50 s';
}

function twoByTwo(values: readonly number[]): number[] {
  return Array.from(
    { length: values.length / 2 },
    (_, at) => ((values[2 * at] ?? 0) + (values[2 * at + 1] ?? 0)) / 2,
  );
}

function run(one: Case, seed: number): Result {
  const world = new World(one, seed);
  const [victim, other] = world.servers;
  if (victim === undefined || other === undefined) throw new Error('there are too few servers');
  let back: Server = victim;
  world.at(GONE_AT_MS, () => (one.how === 'in place' ? world.crash(victim) : world.retire(victim)));
  world.at(BACK_AT_MS, () => {
    back = one.how === 'in place' ? victim : world.makeServer('10.0.1.0:80');
    back.start();
    if (one.how === 'replaced') world.welcome(back);
  });
  world.runTo(GONE_AT_MS);
  world.tally.watch();
  world.runTo(BACK_AT_MS + FOR_MS);
  const perSecond = sharesOf(back, world);
  return {
    perSecond,
    peak: Math.max(...perSecond),
    otherPeak: Math.max(...sharesOf(other, world)),
    p999: world.tally.latenciesMs(0.999)[0],
    retries: retriesOf(world),
  };
}

function sharesOf(server: Server, world: World): number[] {
  const even = world.load * server.capacity;
  return Array.from({ length: FOR_MS / 1_000 }, (_, second) => {
    const from = BACK_AT_MS + second * 1_000;
    return server.received.sum(from, from + 1_000) / even;
  });
}

function retriesOf({ tally }: World): number {
  const until = BACK_AT_MS + FOR_MS;
  return tally.tries.sum(GONE_AT_MS, until) - tally.asked.sum(GONE_AT_MS, until);
}

function rolling(seed: number): Table {
  const fleet = { clients: 20, servers: 100 };
  const rows = (['random', 'p2c'] as const).flatMap((policy) =>
    (policy === 'random' ? [0] : [0, SLOW_START_MS]).map((slowStartMs) => {
      const world = new World({ ...fleet, policy, load: 0.5, slowStartMs }, seed);
      const fresh: Server[] = [];
      for (let at = 0; at < fleet.servers / 10; at += 1) {
        const old = world.servers[at];
        world.at(GONE_AT_MS + at * ROLL_MS, () => {
          if (old !== undefined) world.retire(old);
          const server = world.makeServer(`10.0.1.${at}:80`);
          server.start();
          fresh.push(server);
          world.welcome(server);
        });
      }
      world.runTo(GONE_AT_MS);
      world.tally.watch();
      world.runTo(BACK_AT_MS + FOR_MS);
      const [p99, p999] = world.tally.latenciesMs(0.99, 0.999);
      const failed = world.tally.failures.sum(GONE_AT_MS, BACK_AT_MS + FOR_MS);
      const peak = Math.max(...fresh.flatMap((server) => sharesOf(server, world)));
      const slowStart = policy === 'random' ? '-' : `${slowStartMs / 1_000} s`;
      return [policy, slowStart, times(peak), ms(p99), ms(p999), whole(retriesOf(world)), whole(failed)];
    }),
  );
  return {
    title: `A tenth of all are replaced, one every ${ROLL_MS / 1_000} s, at ${percent(0.5, 0)} load; ${nameOf(fleet)}`,
    head: [
      'policy',
      'slow start',
      'highest second of a new one',
      'p99 ms',
      'p99.9 ms',
      'retries',
      'callers failed',
    ],
    rows,
  };
}

/** One endpoint gets slow: how soon it is left alone, and what callers feel of it. */
import type { ChooserName } from '../chooser.ts';
import { nameOf, PROXIES, SERVICES, SUBSETS } from '../fleets.ts';
import { ms, percent, type Section, times } from '../section.ts';
import { type Setting, World } from '../world.ts';

const SLOW_AT_MS = 5_000;
const DELAY_MS = 100;
const SPAN_MS = 15_000;
const LOAD = 0.25;

interface Result {
  /** Of its fair share, in the first and in the second span. */
  readonly early: number;
  readonly late: number;
  /** Of all callers, in the second span. */
  readonly p50: number | undefined;
  readonly p99: number | undefined;
}

export function slow(seed: number): Section {
  const cases: readonly (readonly [
    Pick<Setting, 'clients' | 'servers' | 'known'>,
    readonly ChooserName[],
  ])[] = [
    [SERVICES, ['random', 'p2c']],
    [SUBSETS, ['p2c']],
    [PROXIES, ['random', 'least-loaded', 'p2c']],
    ...[1, 3, 10, 30, 100].map((clients) => [{ clients, servers: 3 }, ['p2c']] as const),
    [{ clients: 3, servers: 3 }, ['random', 'round-robin', 'least-loaded']],
  ];
  const rows = cases.flatMap(([fleet, policies]) =>
    policies.map((policy) => {
      const setting = { ...fleet, policy, load: LOAD };
      const well = run(setting, 0, seed);
      const ill = run(setting, DELAY_MS, seed);
      const each = (LOAD * fleet.servers * 200) / fleet.clients;
      return [
        nameOf(fleet),
        policy,
        each.toFixed(0),
        percent(ill.early),
        percent(ill.late),
        ms(ill.p50),
        ms(ill.p99),
        times((ill.p99 ?? 0) / (well.p99 ?? 1)),
      ];
    }),
  );
  return {
    title: 'One slow endpoint',
    scene:
      `At ${percent(LOAD, 0)} load one endpoint gets ${DELAY_MS} ms slower, all at once, by its way and not by its work. ` +
      `Its share is that of an even one, in the first ${SPAN_MS / 1_000} s and in the next.`,
    tables: [
      {
        title: 'Share of the slow endpoint, and what all callers wait',
        head: [
          'fleet',
          'policy',
          'requests/s of a client',
          'share at first',
          'then',
          'p50 ms',
          'p99 ms',
          'p99 by that of all well',
        ],
        rows,
      },
    ],
    pictures: [],
    lessons: [
      'p2c leaves a slow endpoint alone after a few replies, and then asks it again once in some 15 s. That is for each client: all of them together send as many requests to find out as there are clients, in each 15 s.',
      'So with one of three slow by 100 ms, p99 stays within 1.3 of all well when a client sends 50 requests a second, and no longer when it sends 15: there those that find out are themselves the slowest hundredth.',
      'One of 2,000 clients with 200 endpoints meets the slow one every 40 s. It has hardly noticed when the half minute is over. With 20 endpoints for each client it has.',
      'Least-loaded sees only what is in flight, and round robin nothing at all.',
    ],
  };
}

function run(setting: Setting, delayMs: number, seed: number): Result {
  const world = new World(setting, seed);
  const [victim] = world.servers;
  if (victim === undefined) throw new Error('there are no servers');
  world.runTo(SLOW_AT_MS);
  victim.delayMs = delayMs;
  const shares = [SLOW_AT_MS, SLOW_AT_MS + SPAN_MS].map((from) => {
    world.tally.watch();
    world.runTo(from + SPAN_MS);
    const even = world.tally.tries.sum(from, from + SPAN_MS) / world.servers.length;
    return victim.received.sum(from, from + SPAN_MS) / even;
  });
  const [early = 0, late = 0] = shares;
  const [p50, p99] = world.tally.latenciesMs(0.5, 0.99);
  return { early, late, p50, p99 };
}

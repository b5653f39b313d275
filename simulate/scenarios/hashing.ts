/** Consistent hashing: how many keys move when endpoints come and go, and how many requests are not at home. */
import { Balancer } from '../../src/balance/balancer.ts';
import { Member } from '../../src/balance/member.ts';
import { OUTLIER_DEFAULTS } from '../../src/balance/outliers.ts';
import { seeded } from '../chance.ts';
import { nameOf, PROXIES } from '../fleets.ts';
import { percent, type Section, type Table, times } from '../section.ts';
import { spreadOf, sumOf } from '../series.ts';
import { type Setting, World } from '../world.ts';

const KEYS = 20_000;
const WARM_MS = 2_000;
const FOR_MS = 2_000;

export function hashing(seed: number): Section {
  return {
    title: 'Consistent hashing',
    scene:
      `${KEYS.toLocaleString('en')} keys. A key is at home where it goes while nothing is in flight; it goes elsewhere while its ` +
      'home has more than 1.25 times its share of what this client has in flight.',
    tables: [moves(seed), homes(seed)],
    pictures: [],
    lessons: [
      'When one of N leaves or joins, about 1/N of the keys move, and only those that were its own or become so.',
      'Up to four in flight, an endpoint is never too busy for its keys, so with many clients every request is at home. A single busy process that has three in flight at each endpoint sends a quarter to a third elsewhere: the bound that keeps hot keys from piling up is narrow there. As a cache’s key that is good enough, as an owner’s it is not.',
    ],
  };
}

function moves(seed: number): Table {
  const rows = [10, 200].flatMap((count) => {
    const before = homesOf(names(count), seed);
    const moved = (after: readonly string[]): number =>
      before.filter((home, key) => home !== after[key]).length / KEYS;
    const perServer = new Map<string, number>();
    for (const home of before) perServer.set(home, (perServer.get(home) ?? 0) + 1);
    const left = homesOf(names(count).slice(1), seed);
    const joined = homesOf(names(count + 1), seed);
    const others = before.filter((home, key) => home !== '10.0.0.0:80' && home !== left[key]).length;
    return [
      [
        String(count),
        percent(1 / count, 2),
        percent(moved(left), 2),
        String(others),
        percent(1 / (count + 1), 2),
        percent(moved(joined), 2),
        times(spreadOf([...perServer.values()]).peak),
      ],
    ];
  });
  return {
    title: 'Keys that move',
    head: [
      'endpoints',
      '1/N',
      'one leaves',
      'of them, not its own',
      '1/(N+1)',
      'one joins',
      'most keys by mean',
    ],
    rows,
  };
}

function homes(seed: number): Table {
  const fleets: Pick<Setting, 'clients' | 'servers'>[] = [
    PROXIES,
    { clients: 1, servers: 200 },
    { clients: 1, servers: 10 },
  ];
  const rows = fleets.flatMap((fleet) =>
    [0.2, 0.7].map((load) => {
      const world = new World({ ...fleet, policy: 'consistent-hash', load, keys: KEYS }, seed);
      const homeOf = homesOf(
        world.servers.map(({ name }) => name),
        seed,
      );
      world.runTo(WARM_MS);
      let atHome = 0;
      let all = 0;
      world.tally.onSent = ({ key }, line) => {
        all += 1;
        if (key !== undefined && homeOf[Number(key.slice('user-'.length))] === line.name) atHome += 1;
      };
      world.runTo(WARM_MS + FOR_MS);
      const flights =
        sumOf(world.clients.map(({ inFlight }) => inFlight)) / world.clients.length / fleet.servers;
      return [nameOf(fleet), percent(load, 0), flights.toFixed(3), percent(1 - atHome / all)];
    }),
  );
  return {
    title: 'Requests that are not at home',
    head: ['fleet', 'load', 'in flight of a client for each endpoint', 'not at home'],
    rows,
  };
}

function names(count: number): string[] {
  return Array.from({ length: count }, (_, at) => `10.0.0.${at}:80`);
}

/** Where each key goes while nothing is in flight. */
function homesOf(of: readonly string[], seed: number): string[] {
  const balancer = new Balancer<Member>({
    policy: 'consistent-hash',
    random: seeded(seed),
    slowStartMs: 0,
    outliers: OUTLIER_DEFAULTS,
  });
  for (const name of of) balancer.add(new Member(name, {}, 0), 0);
  return Array.from({ length: KEYS }, (_, key) => balancer.pick(0, { key: `user-${key}` })?.name ?? '');
}

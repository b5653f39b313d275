/** Even spread: how many requests each endpoint gets, by policy, at low and at high load, and by weight. */
import type { ChooserName } from '../chooser.ts';
import { nameOf, PROXIES, SERVICES } from '../fleets.ts';
import { ms, percent, type Section, type Table, times } from '../section.ts';
import { spreadOf, sumOf } from '../series.ts';
import { type Setting, World } from '../world.ts';

const WARM_MS = 2_000;
const FOR_MS = 4_000;
const POLICIES: readonly ChooserName[] = ['random', 'p2c', 'round-robin', 'least-loaded', 'consistent-hash'];
const LOADS = [0.2, 0.9];
const KEYS = 100_000;
const WEIGHTS = [1, 2, 4];

export function spread(seed: number): Section {
  return {
    title: 'Even spread',
    scene:
      `Nothing fails. Counted for ${FOR_MS / 1_000} s, after ${WARM_MS / 1_000} s. The coefficient of variation is ` +
      'over the requests that each endpoint got; that of chance is what a fair die gives with as many requests. ' +
      `Consistent hashing has ${KEYS.toLocaleString('en')} keys, drawn evenly.`,
    tables: [table(SERVICES, LOADS.slice(1), seed), table(PROXIES, LOADS, seed), weights(seed)],
    pictures: [],
    lessons: [
      'With thousands of clients no policy spreads more evenly than chance: each sees a two-thousandth of the load, has next to nothing in flight, and knows nothing that chance does not. It does no harm either.',
      'With few busy clients what is in flight means something. At 90 % load the slowest hundredth waits half as long as with chance.',
      'Round robin and consistent hashing keep weights to the letter. p2c and least-loaded go by load as well and depart from them by up to a fifth: nearly busy, large servers queue less than small ones, and p2c sends them more.',
      'Consistent hashing spreads keys, not load: its slowest hundredth is that of chance.',
    ],
  };
}

function table(fleet: Pick<Setting, 'clients' | 'servers'>, loads: readonly number[], seed: number): Table {
  const rows = loads.flatMap((load) =>
    POLICIES.map((policy) => {
      const { counts, latencies } = run({ ...fleet, load, policy }, seed);
      const { peak, variation } = spreadOf(counts);
      const [p50, p99] = latencies;
      const chance = Math.sqrt(counts.length / sumOf(counts));
      return [policy, percent(load, 0), percent(variation), percent(chance), times(peak), ms(p50), ms(p99)];
    }),
  );
  const head = [
    'policy',
    'load',
    'coefficient of variation',
    'of chance',
    'highest by mean',
    'p50 ms',
    'p99 ms',
  ];
  return { title: nameOf(fleet), head, rows };
}

function weights(seed: number): Table {
  const weightOf = (server: number): number => WEIGHTS[server % WEIGHTS.length] ?? 1;
  const fleet = { clients: 20, servers: 60 };
  const rows = LOADS.flatMap((load) =>
    POLICIES.filter((policy) => policy !== 'random').map((policy) => {
      const workersOf = (server: number): number => 2 * weightOf(server);
      const { counts } = run({ ...fleet, load, policy, weightOf, workersOf }, seed);
      const got = WEIGHTS.map((weight) => sumOf(counts.filter((_, server) => weightOf(server) === weight)));
      return [policy, percent(load, 0), ...got.map((count) => times(count / (got[0] ?? 1)))];
    }),
  );
  return {
    title: `Weights 1, 2 and 4 for servers with 2, 4 and 8 workers; ${nameOf(fleet)}`,
    head: ['policy', 'load', 'weight 1', 'weight 2', 'weight 4'],
    rows,
  };
}

function run(setting: Setting, seed: number): { counts: number[]; latencies: number[] } {
  const world = new World(setting.policy === 'consistent-hash' ? { ...setting, keys: KEYS } : setting, seed);
  world.runTo(WARM_MS);
  world.tally.watch();
  world.runTo(WARM_MS + FOR_MS);
  const counts = world.servers.map(({ received }) => received.sum(WARM_MS, WARM_MS + FOR_MS));
  return { counts, latencies: world.tally.latenciesMs(0.5, 0.99) };
}

/** Retry load: what repeating does to servers in trouble, and whether they recover when the trouble is over. */
import type { OutlierOptions } from '../../src/balance/outliers.ts';
import { BUDGET_DEFAULTS } from '../../src/retry/budget.ts';
import type { RetryRule } from '../client.ts';
import { nameOf } from '../fleets.ts';
import { pictureOf } from '../picture.ts';
import { percent, type Section, type Table, times } from '../section.ts';
import { RETRY_DEFAULTS, type Setting, TIMEOUT_MS, World } from '../world.ts';

const SERVERS = 10;
const LOAD = 0.7;
const OVERLOAD = 1.3;
const FROM_MS = 20_000;
const TO_MS = 40_000;
const UNTIL_MS = 70_000;
const FAILING_LOAD = 0.5;
const FAILING_MS = 30_000;

const NEVER_OUT: Partial<OutlierOptions> = {
  failures: Number.POSITIVE_INFINITY,
  failureRate: Number.POSITIVE_INFINITY,
  latencyFactor: Number.POSITIVE_INFINITY,
};

/** All but the first are of the same three retries. */
const RULES: Readonly<Record<string, RetryRule>> = {
  'no retries': { ...RETRY_DEFAULTS, retries: 0 },
  'at once, no budget': { ...RETRY_DEFAULTS, backoff: undefined, budget: undefined },
  'back-off, no budget': { ...RETRY_DEFAULTS, budget: undefined },
  'budget of 20 % and 5/s, the default': RETRY_DEFAULTS,
  'budget of 20 % and 1/s': { ...RETRY_DEFAULTS, budget: { ...BUDGET_DEFAULTS, minPerSecond: 1 } },
  'budget of 20 % alone': { ...RETRY_DEFAULTS, budget: { ...BUDGET_DEFAULTS, minPerSecond: 0 } },
};

interface Result {
  /** Of the callers, for each second. */
  readonly failed: number[];
  /** Tries by requests of callers, and callers who failed: before, within and at the end. */
  readonly spans: { readonly tries: number; readonly failed: number }[];
}

export function overload(seed: number): Section {
  const fleets = [20, 2_000].map((clients) => ({ clients, servers: SERVERS }));
  const results = fleets.map((fleet) => ({
    fleet,
    rules: Object.entries(RULES).map(([name, retry]) => ({
      name,
      result: overloaded({ ...fleet, policy: 'p2c', load: LOAD, retry }, seed),
    })),
  }));
  return {
    title: 'Retry load',
    scene:
      `Overload: ${nameOf({ clients: 20, servers: SERVERS })} or 2,000 clients, ${percent(LOAD, 0)} load; from second ` +
      `${FROM_MS / 1_000} to ${TO_MS / 1_000} callers ask for ${percent(OVERLOAD, 0)} of what the servers can do. A try times ` +
      `out after ${TIMEOUT_MS / 1_000} s, and the server does its work all the same; a full queue is 2 s long. So whoever ` +
      'repeats what timed out makes the queue longer that made it time out. Failures: a fifth of the endpoints answers each ' +
      `request with an error at once, for ${FAILING_MS / 1_000} s, at ${percent(FAILING_LOAD, 0)} load.`,
    tables: [...results.map(({ fleet, rules }) => overloadTable(fleet, rules)), failing(seed)],
    pictures: [
      {
        file: 'simulation-overload.svg',
        alt: 'Callers who fail: without a budget all of them, for ever. With the default budget 20 busy clients are well seconds after the overload; 2,000 clients that send little are not.',
        svg: pictureOf({
          title: 'Overload, and what is left of it when it is over',
          subtitle: `Callers who fail, in per cent. ${SERVERS} servers at ${percent(LOAD, 0)} load, ${percent(OVERLOAD, 0)} for 20 s.`,
          stepSeconds: 1,
          fromSeconds: 10,
          toSeconds: UNTIL_MS / 1_000,
          tickSeconds: 10,
          xLabel: 'seconds',
          yLabel: '% of callers fail',
          top: 100,
          tick: 20,
          fault: [FROM_MS / 1_000, TO_MS / 1_000],
          faultLabel: 'overload',
          panels: results.map(({ fleet, rules }) => ({
            name: `${fleet.clients.toLocaleString('en')} clients`,
            fact: `${((LOAD * SERVERS * 200) / fleet.clients).toFixed(1)} requests/s each before`,
            lines: [1, 3, 4, 0].flatMap((at) => {
              const rule = rules[at];
              if (rule === undefined) return [];
              const label = rule.name.replace(', the default', '').replace('budget of ', 'budget ');
              return [{ label, values: rule.result.failed.slice(10).map((share) => 100 * share) }];
            }),
          })),
        }),
      },
    ],
    lessons: [
      'Retries without a budget turn 20 s of overload into an outage that does not end: four times the load, nothing of which is answered in time, for as long as one looks. Back-off and jitter change nothing about that, since callers do not wait for one another.',
      'With the budget, 20 busy clients are well as soon as those that do not repeat anything.',
      'The floor of the budget, 5 repetitions a second, is for each client. 2,000 of them that send 0.7 requests a second each may repeat 10,000 a second, five times what the servers can do, and are down for good; a floor of 1 a second is still too much. **Where many processes send little, `minPerSecond` belongs near 0**, or at a fraction of what the servers can do, by the number of processes.',
      'Without a floor the budget pays for a fifth and no more, so when a fifth of the endpoints fails some callers do. Ejection brings that to nothing within seconds.',
      'Ejection must not add to an overload. When a balancer puts out half of the endpoints because all of them time out, the rest has twice the load and never recovers: with 20 endpoints at 70 % load a third of the callers went on failing. So nobody is put out while most of the others fail.',
    ],
  };
}

function overloadTable(
  fleet: Pick<Setting, 'clients' | 'servers'>,
  rules: readonly { readonly name: string; readonly result: Result }[],
): Table {
  return {
    title: `Overload of ${percent(OVERLOAD, 0)}; ${nameOf(fleet)}`,
    head: [
      'retries',
      'tries for each request, in it',
      'callers failed',
      '0-10 s after: tries',
      'failed',
      '20-30 s after: tries',
      'failed',
    ],
    rows: rules.map(({ name, result }) => [
      name,
      ...result.spans.flatMap(({ failed, tries }) => [times(tries), percent(failed)]),
    ]),
  };
}

function overloaded(setting: Setting, seed: number): Result {
  const world = new World(setting, seed);
  world.at(FROM_MS, () => {
    world.load = OVERLOAD;
  });
  world.at(TO_MS, () => {
    world.load = LOAD;
  });
  world.runTo(UNTIL_MS);
  return {
    failed: Array.from(
      { length: UNTIL_MS / 1_000 },
      (_, second) => shareOf(world, second * 1_000, second * 1_000 + 1_000).failed,
    ),
    spans: [
      shareOf(world, FROM_MS, TO_MS),
      shareOf(world, TO_MS, TO_MS + 10_000),
      shareOf(world, TO_MS + 20_000, TO_MS + 30_000),
    ],
  };
}

/** By those who ended within that time, since many have asked before it. */
function shareOf({ tally }: World, from: number, to: number): { tries: number; failed: number } {
  const failures = tally.failures.sum(from, to);
  const ended = failures + tally.answers.sum(from, to);
  return {
    tries: tally.tries.sum(from, to) / tally.asked.sum(from, to),
    failed: ended === 0 ? 0 : failures / ended,
  };
}

function failing(seed: number): Table {
  const fleet = { clients: 200, servers: SERVERS };
  const rows = [NEVER_OUT, {}].flatMap((outliers) =>
    Object.entries(RULES)
      .filter(([name]) => !name.includes('1/s'))
      .map(([name, retry]) => {
        const world = new World({ ...fleet, policy: 'p2c', load: FAILING_LOAD, retry, outliers }, seed);
        const bad = world.servers.slice(0, SERVERS / 5);
        world.at(10_000, () => {
          for (const server of bad) server.setFailing(true);
        });
        world.at(10_000 + FAILING_MS, () => {
          for (const server of bad) server.setFailing(false);
        });
        world.runTo(10_000 + FAILING_MS);
        const all = shareOf(world, 10_000, 10_000 + FAILING_MS);
        const late = shareOf(world, FAILING_MS, 10_000 + FAILING_MS);
        return [
          name,
          outliers === NEVER_OUT ? 'off' : 'on',
          times(all.tries),
          percent(all.failed, 2),
          times(late.tries),
          percent(late.failed, 2),
        ];
      }),
  );
  return {
    title: `A fifth of the endpoints fails for ${FAILING_MS / 1_000} s; ${nameOf(fleet)}`,
    head: ['retries', 'ejection', 'tries for each request', 'callers failed', 'last 10 s: tries', 'failed'],
    rows,
  };
}

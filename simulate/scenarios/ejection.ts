/** Endpoints that answer with errors: how soon they are left alone, what happens when it is half of them or all, and how they come back. */
import { nameOf, PROXIES, SERVICES, SUBSETS } from '../fleets.ts';
import { pictureOf } from '../picture.ts';
import { percent, type Section, times } from '../section.ts';
import { sumOf } from '../series.ts';
import { type Setting, World } from '../world.ts';

const BAD_AT_MS = 10_000;
const WELL_AT_MS = 50_000;
const UNTIL_MS = 90_000;
const STEP_MS = 2_000;
const LOAD = 0.2;

type Fleet = Pick<Setting, 'clients' | 'servers' | 'known'>;

interface Result {
  /** Of all tries, how many went to those that were or had been bad, for each step. */
  readonly toBad: number[];
  readonly failed: number;
  readonly failedLate: number;
  readonly tries: number;
}

const MIDDLE: Fleet = { clients: 200, servers: 200 };

export function ejection(seed: number): Section {
  const tenth = [SERVICES, SUBSETS, MIDDLE, PROXIES].map((fleet) => ({ fleet, bad: 20 }));
  const more = [{ fleet: MIDDLE, bad: 100 }, ...[100, 120, 200].map((bad) => ({ fleet: PROXIES, bad }))];
  const results = [...tenth, ...more].map((one) => ({ ...one, result: run(one.fleet, one.bad, seed) }));
  return {
    title: 'Ejection',
    scene:
      `Some of the endpoints answer each request with an error at once, for ${(WELL_AT_MS - BAD_AT_MS) / 1_000} s, at ` +
      `${percent(LOAD, 0)} load. p2c, with ejection, retries and budget as they are by default.`,
    tables: [
      {
        title: 'Of all tries, how many go to those that are or were bad',
        head: [
          'fleet',
          'bad',
          'of all',
          '0-10 s',
          '10-20 s',
          '30-40 s',
          '0-10 s after',
          '20-30 s after',
          '30-40 s after',
          'tries for each request',
          'callers failed',
          'in the last 10 s',
        ],
        rows: results.map(({ bad, fleet, result }) => [
          nameOf(fleet),
          String(bad),
          percent(bad / fleet.servers, 0),
          ...[0, 10, 30, 40, 60, 70].map((second) => percent(meanFrom(result, second))),
          times(result.tries),
          percent(result.failed, 2),
          percent(result.failedLate, 2),
        ]),
      },
    ],
    pictures: [
      {
        file: 'simulation-ejection.svg',
        alt: 'Tries that go to bad endpoints: busy clients leave them within seconds; 2,000 clients of 200 endpoints do not within 40 s.',
        svg: pictureOf({
          title: 'Who notices that endpoints are bad',
          subtitle:
            'Tries that go to them, in per cent of all; even is 10 % and 50 %. Each client has to find out for itself.',
          stepSeconds: STEP_MS / 1_000,
          fromSeconds: 0,
          toSeconds: UNTIL_MS / 1_000,
          tickSeconds: 20,
          xLabel: 'seconds',
          yLabel: '% of all tries',
          top: 60,
          tick: 10,
          fault: [BAD_AT_MS / 1_000, WELL_AT_MS / 1_000],
          faultLabel: 'they are bad',
          panels: [
            {
              name: '20 of 200 are bad',
              fact: 'by how many clients share the load',
              lines: results.slice(0, tenth.length).map(({ fleet, result }) => ({
                label:
                  fleet.known === undefined
                    ? `${fleet.clients.toLocaleString('en')} clients`
                    : '2,000, 20 endpoints each',
                values: percents(result),
              })),
            },
            {
              name: '100 of 200 are bad',
              fact: 'with more, nobody goes out',
              lines: [
                [],
                [],
                ...[MIDDLE, PROXIES].map((fleet) => {
                  const found = results.find((one) => one.bad === 100 && one.fleet === fleet);
                  return found === undefined ? [] : percents(found.result);
                }),
              ].map((values) => ({ label: '', values })),
            },
          ],
        }),
      },
    ],
    lessons: [
      'Each client finds out for itself, by five failures in a row. That takes five times the number of clients, by the requests that an endpoint gets in a second: 2.5 s with 20 clients, 25 s with 200, 250 s with 2,000. Retries carry callers over it while few are bad.',
      'When each of 2,000 clients knows only 20 of the endpoints, it is as with 200 clients. Twenty to fifty endpoints for each process are enough for any load.',
      'With half of them bad, those go out. With more, nobody does or all are picked as if nobody had: one that fails among others that fail is no outlier, and to send everything to the rest would end it too.',
      'Who was out for 40 s is back half a minute later, by one probe of each client, and warms up for 30 s.',
    ],
  };
}

function percents({ toBad }: Result): number[] {
  return toBad.map((share) => 100 * share);
}

/** Of ten seconds, counted from when they got bad. */
function meanFrom({ toBad }: Result, second: number): number {
  const from = (BAD_AT_MS + second * 1_000) / STEP_MS;
  const steps = toBad.slice(from, from + 10_000 / STEP_MS);
  return sumOf(steps) / steps.length;
}

function run(fleet: Fleet, count: number, seed: number): Result {
  const world = new World({ ...fleet, policy: 'p2c', load: LOAD }, seed);
  const { tally } = world;
  const bad = world.servers.slice(0, count);
  world.at(BAD_AT_MS, () => {
    for (const server of bad) server.setFailing(true);
  });
  world.at(WELL_AT_MS, () => {
    for (const server of bad) server.setFailing(false);
  });
  world.runTo(UNTIL_MS);
  const failedIn = (from: number, to: number): number =>
    tally.failures.sum(from, to) / tally.asked.sum(from, to);
  return {
    toBad: Array.from({ length: UNTIL_MS / STEP_MS }, (_, step) => {
      const from = step * STEP_MS;
      const all = tally.tries.sum(from, from + STEP_MS);
      return sumOf(bad.map(({ received }) => received.sum(from, from + STEP_MS))) / all;
    }),
    failed: failedIn(BAD_AT_MS, WELL_AT_MS),
    failedLate: failedIn(WELL_AT_MS - 10_000, WELL_AT_MS),
    tries: tally.tries.sum(BAD_AT_MS, WELL_AT_MS) / tally.asked.sum(BAD_AT_MS, WELL_AT_MS),
  };
}

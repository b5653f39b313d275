/** A server is gone for a while, and every client keeps a socket to it: how many dial it, and how they get in again. */
import { PulsepoolError } from '../../src/errors.ts';
import { Backoff } from '../../src/transport/backoff.ts';
import { Agenda } from '../agenda.ts';
import { seeded } from '../chance.ts';
import { DIAL_BACKOFF } from '../client.ts';
import { pictureOf } from '../picture.ts';
import { type Section, whole } from '../section.ts';
import { Series, sumOf } from '../series.ts';
import { ROUND_TRIP_MS } from '../server.ts';

const CLIENTS = 2_000;
const BACK_AT_MS = 10_000;
const FOR_MS = 20_000;
// A handshake takes the server 1 ms; so many may wait for theirs.
const HANDSHAKE_MS = 1;
const BACKLOG = 128;
const FIXED_MS = 1_000;

/** How long to wait after a dial that failed. */
type Wait = (startedAt: number, now: number) => number;

interface Way {
  readonly name: string;
  /** One for each client. */
  readonly make: () => Wait;
}

interface Result {
  readonly dials: Series;
  readonly refused: Series;
  /** When the last one was in, in ms after the server came back. */
  readonly allInMs: number;
}

const DOWN = new PulsepoolError('ERR_REFUSED', 'the server does not listen', {
  hint: 'It is a simulation.',
  retryable: true,
});

export function dials(seed: number): Section {
  const random = seeded(seed);
  const ways: readonly Way[] = [
    { name: 'full jitter', make: () => backoffWith(random) },
    { name: 'the same without jitter', make: () => backoffWith(() => 1) },
    { name: 'every second', make: () => () => FIXED_MS },
  ];
  const results = ways.map((way) => ({ ...way, ...run(way.make) }));
  return {
    title: 'Dials of a server that is down',
    scene:
      `${whole(CLIENTS)} clients keep one socket each to one server, which is gone for ${BACK_AT_MS / 1_000} s. Then it does one ` +
      `handshake in ${HANDSHAKE_MS} ms, and refuses whoever finds ${BACKLOG} waiting. Back-off as the pool has it: ` +
      `uniform between 0 and ${DIAL_BACKOFF.baseMs} ms, doubled after each failure, to ${whole(DIAL_BACKOFF.capMs)} ms.`,
    tables: [
      {
        title: 'Dials of all clients together',
        head: [
          'wait',
          'while it is down, in all',
          'highest 100 ms, after the first 3 s',
          'mean of 100 ms',
          'refused once it is back',
          'all are in after',
        ],
        rows: results.map(({ allInMs, dials: made, name, refused }) => {
          const later = made.between(3_000, BACK_AT_MS);
          return [
            name,
            whole(made.sum(0, BACK_AT_MS)),
            whole(Math.max(...later)),
            whole(sumOf(later) / later.length),
            whole(refused.sum(BACK_AT_MS, FOR_MS)),
            `${(allInMs / 1_000).toFixed(1)} s`,
          ];
        }),
      },
    ],
    pictures: [
      {
        file: 'simulation-dials.svg',
        alt: 'Dials in each 100 ms: with full jitter an even stream of about 200, without jitter all 2,000 at once every two seconds.',
        svg: pictureOf({
          title: `${whole(CLIENTS)} clients dial a server that is down for ${BACK_AT_MS / 1_000} s`,
          subtitle: 'Dials of all clients together, for each 100 ms.',
          stepSeconds: 0.1,
          fromSeconds: 0,
          toSeconds: 14,
          tickSeconds: 2,
          xLabel: 's after it went down',
          yLabel: 'dials in 100 ms',
          top: 2_000,
          tick: 500,
          fault: [0, BACK_AT_MS / 1_000],
          faultLabel: 'down',
          panels: results.slice(0, 2).map(({ allInMs, dials: made, name }) => ({
            name,
            fact: `all are in ${(allInMs / 1_000).toFixed(1)} s after it is back`,
            lines: [{ label: 'dials', values: made.between(0, 14_000) }],
          })),
        }),
      },
    ],
    lessons: [
      'Without jitter all who lost their socket in the same moment dial in the same moments for ever, and who was refused once it is back comes back together once more.',
      'Full jitter makes an even stream of them within a second or two, and all are in again three times as soon.',
    ],
  };
}

function backoffWith(random: () => number): Wait {
  const backoff = new Backoff(DIAL_BACKOFF, random);
  return (startedAt, now) => backoff.failed(DOWN, startedAt, now);
}

function run(make: () => Wait): Result {
  const agenda = new Agenda();
  const made = new Series(100);
  const refused = new Series(100);
  let freeAt = 0;
  let allInMs = 0;
  const dial = (wait: Wait): void => {
    const startedAt = agenda.now;
    made.add(startedAt);
    const isUp = startedAt >= BACK_AT_MS;
    if (isUp && freeAt - startedAt < BACKLOG * HANDSHAKE_MS) {
      freeAt = Math.max(freeAt, startedAt) + HANDSHAKE_MS;
      allInMs = freeAt + ROUND_TRIP_MS - BACK_AT_MS;
      return;
    }
    agenda.after(ROUND_TRIP_MS, () => {
      refused.add(agenda.now);
      agenda.after(wait(startedAt, agenda.now), () => dial(wait));
    });
  };
  for (let client = 0; client < CLIENTS; client += 1) {
    const wait = make();
    agenda.after(0, () => dial(wait));
  }
  agenda.runTo(FOR_MS);
  return { dials: made, refused, allInMs };
}

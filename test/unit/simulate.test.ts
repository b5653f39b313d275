import { describe, expect, it } from 'vitest';
import { Agenda } from '../../simulate/agenda.ts';
import { Attempt, Call, type Outcome } from '../../simulate/attempt.ts';
import type { RetryRule } from '../../simulate/client.ts';
import { Line } from '../../simulate/line.ts';
import { dials } from '../../simulate/scenarios/dials.ts';
import { markdownOf } from '../../simulate/section.ts';
import { Series, spreadOf } from '../../simulate/series.ts';
import { COLD_FACTOR, ROUND_TRIP_MS, Server } from '../../simulate/server.ts';
import { RETRY_DEFAULTS, type Setting, World } from '../../simulate/world.ts';

const SETTING: Setting = { clients: 10, servers: 5, policy: 'p2c', load: 0.7 };

/** One server whose requests all take 20 ms but for chance, which is in the middle: 17.6 ms. */
class Desk {
  readonly agenda = new Agenda();
  readonly server: Server;
  readonly told: [Outcome, number][] = [];

  constructor(workers: number, room = 100) {
    const parts = { workers, serviceMs: 20, room, random: () => 0.75 };
    this.server = new Server('10.0.0.1:80', parts, this.agenda);
  }

  ask(timeoutMs = 1_000): void {
    const { now } = this.agenda;
    const onSettled = (_: Attempt, outcome: Outcome) =>
      this.told.push([outcome, Math.round(this.agenda.now)]);
    const line = new Line(this.server, {}, now);
    this.server.take(new Attempt(new Call(now, undefined), line, now, timeoutMs, { onSettled }));
  }

  runTo(ms: number): this {
    this.agenda.runTo(ms);
    return this;
  }
}

describe('the agenda', () => {
  it('lets things happen in the order of their times, and what they ask for too', () => {
    const agenda = new Agenda();
    const happened: string[] = [];
    for (const ms of [50, 10, 40, 30, 20]) agenda.after(ms, () => happened.push(`${ms} at ${agenda.now}`));
    agenda.after(15, () => agenda.after(10, () => happened.push(`later at ${agenda.now}`)));
    agenda.runTo(45);
    expect(happened).toEqual(['10 at 10', '20 at 20', 'later at 25', '30 at 30', '40 at 40']);
    expect(agenda.now).toBe(45);
  });
});

describe('a simulated server', () => {
  it('serves as many at once as it has workers, and the others in turn', () => {
    const desk = new Desk(2);
    for (let asked = 0; asked < 5; asked += 1) desk.ask();
    desk.runTo(1_000);
    const [one = 0] = desk.told.map(([, at]) => at);
    expect(desk.told.map(([, at]) => Math.round((at - ROUND_TRIP_MS) / (one - ROUND_TRIP_MS)))).toEqual([
      1, 1, 2, 2, 3,
    ]);
  });

  it('refuses what finds no room, at once', () => {
    const desk = new Desk(1, 2);
    for (let asked = 0; asked < 3; asked += 1) desk.ask();
    desk.runTo(1_000);
    expect(desk.told.map(([outcome]) => outcome)).toEqual(['refused', 'answered', 'answered']);
    expect(desk.told[0]?.[1]).toBe(ROUND_TRIP_MS);
  });

  it('does the work of those who have given up, and so the next one waits', () => {
    const patient = new Desk(1);
    patient.ask();
    patient.ask();
    const hasty = new Desk(1);
    hasty.ask(5);
    hasty.ask();
    expect(hasty.runTo(1_000).told[0]).toEqual(['timeout', 5]);
    expect(hasty.told[1]).toEqual(patient.runTo(1_000).told[1]);
    expect(hasty.told).toHaveLength(2);
  });

  it('loses what it has when it ends, and is slower when it starts', () => {
    const warm = new Desk(1);
    warm.ask();
    const [, warmMs = 0] = warm.runTo(1_000).told[0] ?? [];
    const desk = new Desk(1);
    desk.ask();
    desk.server.crash();
    expect(desk.told).toEqual([['lost', 0]]);
    desk.runTo(2_000);
    desk.server.start();
    desk.ask();
    const [, at = 0] = desk.runTo(3_000).told[1] ?? [];
    expect((at - 2_000 - ROUND_TRIP_MS) / (warmMs - ROUND_TRIP_MS)).toBeCloseTo(COLD_FACTOR, 0);
    expect(desk.told).toHaveLength(2);
  });

  it('has room again after it has restarted', () => {
    const desk = new Desk(1, 1);
    desk.ask();
    desk.server.crash();
    desk.server.start();
    desk.ask();
    expect(desk.runTo(1_000).told.map(([outcome]) => outcome)).toEqual(['lost', 'answered']);
  });

  it('fails every request when it is told to', () => {
    const desk = new Desk(1);
    desk.server.setFailing(true);
    desk.ask();
    desk.server.setFailing(false);
    desk.runTo(10).ask();
    expect(desk.runTo(1_000).told.map(([outcome]) => outcome)).toEqual(['refused', 'answered']);
  });
});

describe('a simulated world', () => {
  const countsOf = (seed: number, setting: Partial<Setting> = {}) => {
    const world = new World({ ...SETTING, ...setting }, seed);
    world.runTo(10_000);
    return world.servers.map(({ received }) => received.sum(0, 10_000));
  };

  it('is the same with the same seed, and another one with another', () => {
    expect(countsOf(1)).toEqual(countsOf(1));
    expect(countsOf(2)).not.toEqual(countsOf(1));
  });

  it('has as many callers as its load says, and they all get their answers', () => {
    const world = new World(SETTING, 1);
    world.tally.watch();
    world.runTo(20_000);
    const asked = world.tally.asked.sum(0, 20_000);
    expect(asked / (20 * 5 * 200 * SETTING.load)).toBeCloseTo(1, 1);
    expect(world.tally.failures.sum(0, 20_000)).toBe(0);
    expect(asked - world.tally.answers.sum(0, 20_000)).toBeLessThan(50);
    expect(world.tally.latenciesMs(0.5)[0]).toBeGreaterThan(15);
  });

  it('sends nobody to a server that is gone, and everybody back when it is there again', () => {
    const world = new World({ ...SETTING, slowStartMs: 0 }, 1);
    const [victim] = world.servers;
    if (victim === undefined) throw new Error('there is no server');
    world.runTo(1_000);
    world.crash(victim);
    world.at(3_000, () => victim.start());
    world.runTo(60_000);
    expect(victim.received.sum(1_000, 3_000)).toBe(0);
    const even = world.tally.tries.sum(50_000, 60_000) / 5;
    expect(victim.received.sum(50_000, 60_000) / even).toBeCloseTo(1, 1);
    expect(world.tally.failures.sum(0, 60_000)).toBe(0);
  });

  it('repeats what failed as far as the budget goes, and without one as often as it may', () => {
    const triesOf = (budget: RetryRule['budget']) => {
      const world = new World({ ...SETTING, retry: { ...RETRY_DEFAULTS, budget } }, 1);
      for (const server of world.servers) server.setFailing(true);
      world.runTo(20_000);
      return world.tally.tries.sum(10_000, 20_000) / world.tally.asked.sum(10_000, 20_000);
    };
    expect(triesOf({ ratio: 0.2, minPerSecond: 0 })).toBeCloseTo(1.2, 1);
    expect(triesOf(undefined)).toBeCloseTo(4, 1);
  });

  it('starts a new server slowly, and those of the beginning not', () => {
    expect(spreadOf(countsOf(1)).peak).toBeLessThan(1.1);
    const world = new World(SETTING, 1);
    world.runTo(1_000);
    const server = world.makeServer('10.0.1.0:80');
    world.welcome(server);
    world.runTo(6_000);
    expect(server.received.sum(1_000, 6_000) / (world.tally.tries.sum(1_000, 6_000) / 6)).toBeLessThan(0.5);
  });

  it('lets each client know as many servers as it is told', () => {
    const world = new World({ ...SETTING, known: 2 }, 1);
    expect(world.servers.reduce((sum, server) => sum + world.linesTo(server).length, 0)).toBe(20);
  });
});

describe('a section of the page', () => {
  it('is the same to the letter with the same seed', () => {
    expect(markdownOf(dials(1))).toBe(markdownOf(dials(1)));
    expect(markdownOf(dials(2))).not.toBe(markdownOf(dials(1)));
  });

  it('counts by stretches of time', () => {
    const series = new Series(250);
    for (const at of [0, 249, 250, 999, 1_000]) series.add(at);
    expect(series.between(0, 1_000)).toEqual([2, 1, 0, 1]);
    expect(series.sum(0, 1_250)).toBe(5);
  });
});

/**
 * What three endpoints get, in virtual time, with replies as noisy as real ones: lognormal, and one in 200 takes 20 times
 * as long. The figures at the top of peak-ewma.ts come from here.
 */
import { describe, expect, it } from 'vitest';
import { type Load, Server, Simulation } from './simulation.ts';

const LOADS: readonly Load[] = [
  { rate: 10 },
  { rate: 100 },
  { rate: 1_000 },
  { rate: 5_000 },
  { concurrency: 1 },
  { concurrency: 3 },
  { concurrency: 10 },
  { concurrency: 100 },
];
const trio = () => [new Server('a', 20), new Server('b', 20), new Server('c', 20)];
const named = (load: Load) =>
  load.rate === undefined ? `${load.concurrency} callers` : `${load.rate} requests a second`;
const last = (simulation: Simulation) => simulation.shares().at(-1) ?? 0;

function percentile(latencies: readonly number[], share: number): number {
  return [...latencies].sort((a, b) => a - b)[Math.floor(latencies.length * share)] ?? 0;
}

/** Enough for chance to even out, and no more. */
const enough = ({ rate = 1_000 }: Load) => (rate < 100 ? 600_000 : rate < 1_000 ? 60_000 : 20_000);

describe.each(LOADS.map((load) => ({ name: named(load), load })))('with $name', ({ load }) => {
  it('like endpoints get their share within a tenth', () => {
    const simulation = new Simulation(trio(), load);
    simulation.run(5_000);
    simulation.clear();
    simulation.run(enough(load));
    for (const share of simulation.shares()) expect(Math.abs(share * 3 - 1)).toBeLessThan(0.1);
  });

  it('one that is 100 ms slower gets next to nothing, mostly one request at a time, and its third again soon', () => {
    const servers = trio();
    const slow = servers[2] as Server;
    const simulation = new Simulation(servers, load);
    simulation.run(20_000);
    slow.medianMs = 120;
    // What is under way when it gets slow, and what it takes to see that.
    simulation.run(1_000);
    simulation.clear();
    simulation.run(60_000);
    const isRare = load.rate !== undefined && load.rate < 100;
    // With few requests, one every 8 s is more than a half in a hundred.
    expect(last(simulation)).toBeLessThan(isRare ? 0.02 : 0.005);
    expect(slow.most).toBeLessThanOrEqual(2);
    if (!isRare && load.concurrency !== 1)
      expect(percentile(simulation.latencies, 0.99)).toBeLessThan(43 * 1.3);

    slow.medianMs = 20;
    let seconds = 0;
    do {
      simulation.clear();
      simulation.run(1_000);
      seconds += 1;
    } while (last(simulation) < 0.2);
    expect(seconds).toBeLessThanOrEqual(16);
  });
});

describe('with other endpoints', () => {
  it('one that is down gets its five failures and then one request in a while, and its share when it is back', () => {
    const servers = trio();
    const down = servers[2] as Server;
    const simulation = new Simulation(servers, { concurrency: 10 });
    simulation.run(20_000);
    down.isDown = true;
    simulation.clear();
    simulation.run(60_000);
    // Five, less what was there already, and probes after 5, 10, 15 and 20 s.
    expect(down.served).toBeLessThan(20);
    expect(down.served).toBeGreaterThan(5);
    down.isDown = false;
    simulation.run(60_000);
    simulation.clear();
    simulation.run(20_000);
    for (const share of simulation.shares()) expect(Math.abs(share * 3 - 1)).toBeLessThan(0.1);
  });

  it('one that comes back is not met by a herd: it gets more by and by', () => {
    const servers = trio();
    const down = servers[2] as Server;
    const simulation = new Simulation(servers, { concurrency: 30 });
    simulation.run(5_000);
    down.isDown = true;
    simulation.run(2_000);
    down.isDown = false;
    while (down.record.state.name !== 'warming') simulation.run(100);
    const shares: number[] = [];
    for (let step = 0; step < 6; step += 1) {
      simulation.clear();
      simulation.run(5_000);
      shares.push(last(simulation));
    }
    expect(shares[0]).toBeLessThan(0.15);
    expect(shares).toEqual([...shares].sort((a, b) => a - b));
  });

  it.each([1, 4, 30])('shares go by weight with %i callers', (concurrency) => {
    const servers = [new Server('a', 20), new Server('b', 20), new Server('c', 20, { weight: 2 })];
    const simulation = new Simulation(servers, { concurrency });
    simulation.run(60_000);
    expect(Math.abs(last(simulation) * 2 - 1)).toBeLessThan(0.12);
  });

  it('300 of them get like shares', () => {
    const servers = Array.from({ length: 300 }, (_, index) => new Server(`e${index}`, 20));
    const simulation = new Simulation(servers, { rate: 5_000 });
    simulation.run(60_000);
    for (const share of simulation.shares()) expect(Math.abs(share * 300 - 1)).toBeLessThan(0.25);
  });

  it('one of three that hangs with the first request it gets is left alone at once', () => {
    const servers = trio();
    const hung = servers[2] as Server;
    const simulation = new Simulation(servers, { concurrency: 30 });
    simulation.run(5_000);
    hung.medianMs = 1e9;
    simulation.clear();
    simulation.run(20_000);
    expect(hung.served).toBeLessThan(31);
    expect(simulation.latencies.length).toBeGreaterThan(8_000);
  });
});

import { describe, expect, it } from 'vitest';
import { FamilyMemory, type IpAddress, orderAddresses } from '../../../src/transport/address-order.ts';

const NOW = 5_000;
/** With this chance addresses stay in the order in which they came. */
const AS_GIVEN = (): number => 0;

function ip(...texts: readonly string[]): IpAddress[] {
  return texts.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
}

function one(address: string): IpAddress {
  return { address, family: address.includes(':') ? 6 : 4 };
}

/** The order at some moment, as text. */
function order(addresses: readonly IpAddress[], memory = new FamilyMemory(), now = NOW): string {
  return orderAddresses(addresses, memory, now, AS_GIVEN)
    .map(({ address }) => address)
    .join(' ');
}

/** The same dice for every run. */
function dice(): () => number {
  let state = 7;
  return () => {
    state = (state * 16_807) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

describe('the addresses of a name', () => {
  it('are tried with IPv6 first and the families in turns', () => {
    expect(order(ip('10.0.0.1', '10.0.0.2', '::1', '::2'))).toBe('::1 10.0.0.1 ::2 10.0.0.2');
  });

  it('of the family that has more come last', () => {
    expect(order(ip('10.0.0.1', '10.0.0.2', '10.0.0.3', '::1'))).toBe('::1 10.0.0.1 10.0.0.2 10.0.0.3');
    expect(order(ip('::1', '::2', '::3', '10.0.0.1'))).toBe('::1 10.0.0.1 ::2 ::3');
  });

  it('of one family are all tried', () => {
    expect(order(ip('10.0.0.1', '10.0.0.2', '10.0.0.3'))).toBe('10.0.0.1 10.0.0.2 10.0.0.3');
  });

  it('may be none', () => {
    expect(order([])).toBe('');
  });

  it('are tried in an order of chance, each as often as any other', () => {
    const random = dice();
    const addresses = ip('10.0.0.1', '10.0.0.2', '10.0.0.3');
    const memory = new FamilyMemory();
    const counts = new Map<string, number>();
    for (let i = 0; i < 6_000; i++) {
      const key = orderAddresses(addresses, memory, NOW, random)
        .map(({ address }) => address)
        .join(' ');
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expect(counts.size).toBe(6);
    // 1,000 of each are expected; 120 is more than four standard deviations (28.9).
    for (const count of counts.values()) expect(Math.abs(count - 1_000)).toBeLessThan(120);
  });

  it('take no chance when there is but one, and leave the list they were given alone', () => {
    const never = (): number => {
      throw new Error('there is nothing to choose');
    };
    const alone = ip('10.0.0.1');
    expect(orderAddresses(alone, new FamilyMemory(), NOW, never)).toEqual(alone);
    expect(orderAddresses([], new FamilyMemory(), NOW, never)).toEqual([]);
    const several = ip('10.0.0.1', '::1', '10.0.0.2');
    orderAddresses(several, new FamilyMemory(), NOW, dice());
    expect(several).toEqual(ip('10.0.0.1', '::1', '10.0.0.2'));
  });

  it('keep whatever else is known of them', () => {
    const known = [
      { ...one('10.0.0.1'), zone: 'a' },
      { ...one('::1'), zone: 'b' },
    ];
    const [first] = orderAddresses(known, new FamilyMemory(), NOW, AS_GIVEN);
    expect(first?.zone).toBe('b');
  });
});

describe('the family that won', () => {
  const both = ip('::1', '10.0.0.1');

  it('goes first for ten minutes, and no longer', () => {
    const memory = new FamilyMemory();
    memory.won(one('10.0.0.9'), NOW);
    expect(order(both, memory, NOW)).toBe('10.0.0.1 ::1');
    expect(order(both, memory, NOW + 599_999)).toBe('10.0.0.1 ::1');
    expect(order(both, memory, NOW + 600_000)).toBe('::1 10.0.0.1');
  });

  it('is not renewed by each further dial: IPv6 that has come back must be seen', () => {
    const memory = new FamilyMemory();
    memory.won(one('10.0.0.1'), NOW);
    memory.won(one('10.0.0.1'), NOW + 599_999);
    expect(order(both, memory, NOW + 600_000)).toBe('::1 10.0.0.1');
  });

  it('is remembered anew once its ten minutes are over', () => {
    const memory = new FamilyMemory();
    memory.won(one('10.0.0.1'), NOW);
    memory.won(one('10.0.0.1'), NOW + 600_000);
    expect(order(both, memory, NOW + 600_000)).toBe('10.0.0.1 ::1');
    expect(order(both, memory, NOW + 1_199_999)).toBe('10.0.0.1 ::1');
  });

  it('gives way to the other family as soon as that wins', () => {
    const memory = new FamilyMemory();
    memory.won(one('10.0.0.1'), NOW);
    memory.won(one('::1'), NOW + 1_000);
    expect(order(both, memory, NOW + 1_000)).toBe('::1 10.0.0.1');
    memory.won(one('10.0.0.1'), NOW + 500_000);
    expect(order(both, memory, NOW + 1_099_999)).toBe('10.0.0.1 ::1');
  });

  it('is forgotten with the network', () => {
    const memory = new FamilyMemory();
    memory.won(one('10.0.0.1'), NOW);
    memory.clear();
    expect(order(both, memory)).toBe('::1 10.0.0.1');
  });
});

describe('an address that failed', () => {
  const three = ip('10.0.0.1', '10.0.0.2', '10.0.0.3');

  it('goes last for 30 s, and no longer', () => {
    const memory = new FamilyMemory();
    memory.failed(one('10.0.0.1'), NOW);
    expect(order(three, memory, NOW)).toBe('10.0.0.2 10.0.0.3 10.0.0.1');
    expect(order(three, memory, NOW + 29_999)).toBe('10.0.0.2 10.0.0.3 10.0.0.1');
    expect(order(three, memory, NOW + 30_000)).toBe('10.0.0.1 10.0.0.2 10.0.0.3');
  });

  it('that fails again goes last for another 30 s', () => {
    const memory = new FamilyMemory();
    memory.failed(one('10.0.0.1'), NOW);
    memory.failed(one('10.0.0.1'), NOW + 20_000);
    expect(order(three, memory, NOW + 49_999)).toBe('10.0.0.2 10.0.0.3 10.0.0.1');
    expect(memory.failures).toBe(1);
  });

  it('goes behind all of the other family too', () => {
    const memory = new FamilyMemory();
    memory.failed(one('10.0.0.1'), NOW);
    expect(order(ip('10.0.0.1', '::1', '::2'), memory)).toBe('::1 ::2 10.0.0.1');
    memory.won(one('10.0.0.2'), NOW);
    expect(order(ip('10.0.0.1', '::1', '::2'), memory)).toBe('::1 ::2 10.0.0.1');
  });

  it('is still tried, in turns with others that failed', () => {
    const memory = new FamilyMemory();
    for (const failed of ip('10.0.0.1', '10.0.0.2', '::1', '::2')) memory.failed(failed, NOW);
    expect(order(ip('10.0.0.1', '10.0.0.2', '::1', '::2'), memory)).toBe('::1 10.0.0.1 ::2 10.0.0.2');
  });

  it('is as good as any other once it has won', () => {
    const memory = new FamilyMemory();
    memory.failed(one('10.0.0.1'), NOW);
    memory.won(one('10.0.0.1'), NOW + 1_000);
    expect(order(three, memory, NOW + 1_000)).toBe('10.0.0.1 10.0.0.2 10.0.0.3');
    expect(memory.failures).toBe(0);
  });

  it('is not excused by one of its family', () => {
    const memory = new FamilyMemory();
    memory.failed(one('10.0.0.1'), NOW);
    memory.won(one('10.0.0.2'), NOW);
    expect(order(three, memory)).toBe('10.0.0.2 10.0.0.3 10.0.0.1');
  });

  it('is forgotten with the network', () => {
    const memory = new FamilyMemory();
    memory.failed(one('10.0.0.1'), NOW);
    memory.clear();
    expect(order(three, memory)).toBe('10.0.0.1 10.0.0.2 10.0.0.3');
    expect(memory.failures).toBe(0);
  });
});

describe('the memory of failures', () => {
  it('holds 256 at most, and lets the oldest go first', () => {
    const memory = new FamilyMemory();
    for (let i = 0; i < 1_000; i++) memory.failed(one(`10.0.${i >> 8}.${i & 255}`), NOW + i);
    expect(memory.failures).toBe(256);
    expect(memory.hasFailed(one('10.0.3.231'), NOW + 1_000)).toBe(true);
    expect(memory.hasFailed(one('10.0.0.0'), NOW + 1_000)).toBe(false);
    // 999 − 256: the newest of those that had to go.
    expect(memory.hasFailed(one('10.0.2.231'), NOW + 1_000)).toBe(false);
    expect(memory.hasFailed(one('10.0.2.232'), NOW + 1_000)).toBe(true);
  });

  it('counts one that fails again as the newest', () => {
    const memory = new FamilyMemory();
    for (let i = 0; i < 256; i++) memory.failed(one(`10.0.0.${i}`), NOW);
    memory.failed(one('10.0.0.0'), NOW + 1);
    memory.failed(one('10.0.1.0'), NOW + 2);
    expect(memory.hasFailed(one('10.0.0.0'), NOW + 2)).toBe(true);
    expect(memory.hasFailed(one('10.0.0.1'), NOW + 2)).toBe(false);
  });

  it('lets go of what is older than 30 s with the next failure', () => {
    const memory = new FamilyMemory();
    for (let i = 0; i < 100; i++) memory.failed(one(`10.0.0.${i}`), NOW + i);
    memory.failed(one('10.0.1.0'), NOW + 30_049);
    expect(memory.failures).toBe(51);
  });
});

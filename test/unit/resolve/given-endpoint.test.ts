import { describe, expect, it } from 'vitest';
import { PulsepoolError } from '../../../src/errors.ts';
import { parseGivenEndpoint } from '../../../src/resolve/given-endpoint.ts';

const plain = { address: undefined, weight: 1, tier: 0, zone: undefined };

function refusal(value: unknown): string {
  try {
    parseGivenEndpoint(value, 'endpoints[2]');
  } catch (error) {
    if (error instanceof PulsepoolError && error.code === 'ERR_INVALID_OPTION') return error.message;
    throw error;
  }
  throw new Error('it was taken');
}

describe('an endpoint as it is given', () => {
  it.each([
    ['orders:7000', { ...plain, host: 'orders', port: 7000 }],
    ['10.0.0.1:1', { ...plain, host: '10.0.0.1', port: 1, address: '10.0.0.1' }],
    ['[::1]:65535', { ...plain, host: '::1', port: 65_535, address: '::1' }],
    [
      { host: 'orders', port: 7000 },
      { ...plain, host: 'orders', port: 7000 },
    ],
    [
      { host: '2001:DB8:0::1', port: 1 },
      { ...plain, host: '2001:DB8:0::1', port: 1, address: '2001:db8::1' },
    ],
    [
      { host: 'a', port: 1, weight: 0.5, tier: 2, zone: 'eu-1', address: '10.0.0.9' },
      { host: 'a', port: 1, weight: 0.5, tier: 2, zone: 'eu-1', address: '10.0.0.9' },
    ],
  ])('is understood: %j', (given, found) => {
    expect(parseGivenEndpoint(given, 'endpoints[2]')).toEqual(found);
  });

  it.each([
    ['orders', 'endpoints[2]'],
    ['orders:', 'endpoints[2]'],
    [':7000', 'endpoints[2]'],
    ['orders:0', 'endpoints[2]'],
    ['orders:65536', 'endpoints[2]'],
    ['orders:7000/path', 'endpoints[2]'],
    ['tcp://orders:7000', 'endpoints[2]'],
    ['::1:7000', 'endpoints[2]'],
    ['[10.0.0.1]:7000', 'endpoints[2]'],
    ['or ders:7000', 'endpoints[2]'],
    ['', 'endpoints[2]'],
    [7000, 'endpoints[2]'],
    [null, 'endpoints[2]'],
    [['orders', 7000], 'endpoints[2]'],
    [{ host: 'a', port: 1, wieght: 2 }, 'Did you mean `weight`?'],
    [{ port: 1 }, 'endpoints[2].host'],
    [{ host: '', port: 1 }, 'endpoints[2].host'],
    [{ host: 'a:1', port: 1 }, 'endpoints[2].host'],
    [{ host: '[::1]', port: 1 }, 'endpoints[2].host'],
    [{ host: 'a' }, 'endpoints[2].port'],
    [{ host: 'a', port: '1' }, 'endpoints[2].port'],
    [{ host: 'a', port: 1, weight: 0 }, 'endpoints[2].weight'],
    [{ host: 'a', port: 1, weight: -1 }, 'endpoints[2].weight'],
    [{ host: 'a', port: 1, weight: Number.POSITIVE_INFINITY }, 'endpoints[2].weight'],
    [{ host: 'a', port: 1, weight: null }, 'endpoints[2].weight'],
    [{ host: 'a', port: 1, tier: 0.5 }, 'endpoints[2].tier'],
    [{ host: 'a', port: 1, tier: -1 }, 'endpoints[2].tier'],
    [{ host: 'a', port: 1, zone: '' }, 'endpoints[2].zone'],
    [{ host: 'a', port: 1, address: 'b' }, 'endpoints[2].address'],
  ])('is refused by name: %j', (given, named) => {
    expect(refusal(given)).toContain(named);
  });
});

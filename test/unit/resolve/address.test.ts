import { describe, expect, it } from 'vitest';
import { isLiteral, parseAddress } from '../../../src/resolve/address.ts';

describe('an address', () => {
  it.each([
    ['10.0.0.1', { address: '10.0.0.1', family: 4 }],
    ['::1', { address: '::1', family: 6 }],
    ['2001:0DB8:0:0:0:0:0:1', { address: '2001:db8::1', family: 6 }],
    ['fe80::0001%eth0', { address: 'fe80::1%eth0', family: 6 }],
  ])('is read in one form, however it is written: %s', (text, address) => {
    expect(parseAddress(text)).toEqual(address);
    expect(isLiteral(text)).toBe(true);
  });

  it.each(['orders', '10.0.0', '10.0.0.256', '[::1]', '', '010.0.0.1'])('is not a name: %s', (text) => {
    expect(parseAddress(text)).toBeUndefined();
    expect(isLiteral(text)).toBe(false);
  });
});

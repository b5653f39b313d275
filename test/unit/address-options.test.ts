import { describe, expect, it } from 'vitest';
import { type AddressOptions, type Endpoints, resolveAddresses } from '../../src/address-options.ts';

const NAMED = { host: 'orders.internal', port: 7_000 };

async function* never(): AsyncGenerator<string[]> {
  yield [];
}

describe('where the server is', () => {
  it('is one endpoint with host and port, or a path', () => {
    expect(resolveAddresses(NAMED).target).toEqual({ kind: 'one', endpoint: { kind: 'tcp', ...NAMED } });
    expect(resolveAddresses({ path: '/run/orders' }).target).toEqual({
      kind: 'one',
      endpoint: { kind: 'unix', path: '/run/orders' },
    });
  });

  it('is one endpoint with a list of one, or of one twice', () => {
    const one = { kind: 'one', endpoint: { kind: 'tcp', host: 'a', port: 1, address: undefined } };
    expect(resolveAddresses({ endpoints: ['a:1'] }).target).toEqual(one);
    expect(resolveAddresses({ endpoints: ['a:1', { host: 'a', port: 1 }] }).target).toEqual(one);
    expect(resolveAddresses({ endpoints: [{ host: 'a', port: 1, address: '10.0.0.1' }] }).target).toEqual({
      kind: 'one',
      endpoint: { kind: 'tcp', host: 'a', port: 1, address: '10.0.0.1' },
    });
  });

  it('is many endpoints with a list of one when something is said about choosing: it may have been longer', () => {
    for (const how of [{ balance: 'consistent-hash' }, { zone: 'x' }] as const) {
      expect(resolveAddresses({ endpoints: ['a:1'], ...how }).target).toMatchObject({
        kind: 'many',
        name: 'a:1',
      });
    }
  });

  it('is many endpoints with a list, a name, SRV records or a function', () => {
    const all: [Endpoints, string, string][] = [
      [['a:1', 'b:2'], 'list', 'a:1 and b:2'],
      [['a:1', 'b:2', '[::1]:3'], 'list', 'a:1 and 2 more'],
      [NAMED, 'dns', 'orders.internal:7000'],
      [{ srv: '_orders._tcp.internal' }, 'srv', '_orders._tcp.internal'],
      [never, 'discover', 'the discovered endpoints'],
    ];
    for (const [endpoints, kind, name] of all) {
      expect(resolveAddresses({ endpoints }).target).toMatchObject({ kind: 'many', name, from: { kind } });
    }
  });

  it('keeps what a list says about each endpoint', () => {
    const { target } = resolveAddresses({
      endpoints: [
        { host: 'a', port: 1, weight: 2, zone: 'x' },
        { host: 'b', port: 1, tier: 1 },
      ],
      zone: 'x',
      balance: 'least-loaded',
    });
    expect(target).toMatchObject({
      balance: 'least-loaded',
      zone: 'x',
      from: {
        list: [
          { weight: 2, tier: 0, zone: 'x' },
          { weight: 1, tier: 1 },
        ],
      },
    });
  });

  const refused: [string, AddressOptions][] = [
    ['host', {}],
    ['port', { host: 'a' }],
    ['port', { host: 'a', port: 0 }],
    ['path', { path: '' }],
    ['path', { path: '/x', port: 1 }],
    ['host', { host: 'a', port: 1, endpoints: ['a:1', 'b:1'] }],
    ['path', { path: '/x', endpoints: ['a:1', 'b:1'] }],
    ['endpoints', { endpoints: [] }],
    ['endpoints[1]', { endpoints: ['a:1', 'b'] }],
    ['endpoints[0].weight', { endpoints: [{ host: 'a', port: 1, weight: 0 }] }],
    ['endpoints', { endpoints: 7 as never }],
    ['endpoints.srv', { endpoints: { srv: '' } }],
    ['endpoints.srv', { endpoints: { srv: 'x', port: 1 } as never }],
    ['endpoints.host', { endpoints: { host: '10.0.0.1', port: 1 } }],
    ['endpoints.port', { endpoints: { host: 'a', port: 99_999 } }],
    ['endpoints', { endpoints: 'a:1' as never }],
    ['balance', { ...NAMED, balance: 'p2c' }],
    ['balance', { endpoints: ['a:1', 'b:1'], balance: 'random' as never }],
    ['zone', { ...NAMED, zone: 'x' }],
    ['zone', { endpoints: ['a:1', 'b:1'], zone: '' }],
    ['dns', { path: '/x', dns: {} }],
    ['dns', { host: '10.0.0.1', port: 1, dns: { refreshMs: 5 } }],
    ['dns', { endpoints: ['10.0.0.1:1', '10.0.0.2:1'], dns: {} }],
    ['dns.resolvers', { ...NAMED, dns: { resolvers: [] } }],
    ['dns.resolvers[1]', { ...NAMED, dns: { resolvers: ['system', 'ns.internal'] } }],
    ['dns.resolvers[0]', { ...NAMED, dns: { resolvers: [53 as never] } }],
    ['dns.timeoutMs', { ...NAMED, dns: { timeoutMs: 0 } }],
    ['dns.refreshMs', { ...NAMED, dns: { refreshMs: -1 } }],
    ['dns.maxStaleMs', { ...NAMED, dns: { maxStaleMs: Number.NaN } }],
    ['dns.fallbackAddresses[0]', { ...NAMED, dns: { fallbackAddresses: ['b.internal'] } }],
    ['dns.fallbackAddresses', { endpoints: ['a:1', 'b:1'], dns: { fallbackAddresses: ['10.0.0.1'] } }],
    ['dns.fallbackAddresses', { endpoints: { srv: 'x' }, dns: { fallbackAddresses: ['10.0.0.1'] } }],
    ['refreshms', { ...NAMED, dns: { refreshms: 1 } as never }],
  ];
  it.each(refused)('is refused by the name of the option: %s', (name, options) => {
    expect(() => resolveAddresses(options)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_OPTION' }));
    expect(() => resolveAddresses(options)).toThrow(`\`${name}\``);
  });

  it('takes a chain of resolvers as it stands', () => {
    const resolvers = ['10.0.0.2', 'system', '[2001:db8::53]:5353'];
    const { dns } = resolveAddresses({
      ...NAMED,
      dns: { resolvers, fallbackAddresses: ['10.0.0.9', '2001:db8:0::9'] },
    });
    expect(dns.resolvers).toEqual(resolvers);
    expect(dns.fallbackAddresses).toEqual([
      { address: '10.0.0.9', family: 4 },
      { address: '2001:db8::9', family: 6 },
    ]);
  });
});

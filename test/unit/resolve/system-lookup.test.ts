import { describe, expect, it } from 'vitest';
import { lookupError } from '../../../src/resolve/lookup.ts';
import { systemLookup } from '../../../src/resolve/system-lookup.ts';
import { settle } from '../../support/virtual-clock.ts';
import { textsOf } from './fake-lookup.ts';

/** getaddrinfo, answered by hand. */
class FakeSystem {
  readonly asked: string[] = [];
  readonly #pending: Map<
    string,
    { resolve(all: { address: string }[]): void; reject(error: unknown): void }
  > = new Map();

  readonly getAll = (host: string): Promise<{ address: string }[]> => {
    this.asked.push(host);
    return new Promise((resolve, reject) => {
      this.#pending.set(host, { resolve, reject });
    });
  };

  async answers(host: string, ...addresses: string[]): Promise<void> {
    this.#pending.get(host)?.resolve(addresses.map((address) => ({ address })));
    await settle();
  }

  async fails(host: string, code: string): Promise<void> {
    this.#pending.get(host)?.reject(lookupError(code, code));
    await settle();
  }
}

function setUp() {
  const system = new FakeSystem();
  return { system, lookup: systemLookup(system.getAll) };
}

const { signal } = new AbortController();

describe('the system’s resolver', () => {
  it('gives all addresses in the system’s order, and no TTL', async () => {
    const { lookup, system } = setUp();
    const asked = lookup.addresses('orders', signal);
    await system.answers('orders', '2001:db8::1', '10.0.0.1');
    expect(await asked).toEqual({
      addresses: [
        { address: '2001:db8::1', family: 6 },
        { address: '10.0.0.1', family: 4 },
      ],
      ttlMs: undefined,
    });
  });

  it('keeps the code of an error', async () => {
    const { lookup, system } = setUp();
    const asked = lookup.addresses('orders', signal);
    const told = expect(asked).rejects.toMatchObject({ code: 'EAI_AGAIN' });
    await system.fails('orders', 'EAI_AGAIN');
    await told;
  });

  it('takes an empty answer for ENODATA', async () => {
    const { lookup, system } = setUp();
    const told = expect(lookup.addresses('orders', signal)).rejects.toMatchObject({ code: 'ENODATA' });
    await system.answers('orders');
    await told;
  });

  it('is asked for 2 names at once, in the order in which they came', async () => {
    const { lookup, system } = setUp();
    const all = ['a', 'b', 'c', 'd'].map((host) => lookup.addresses(host, signal));
    await settle();
    expect(system.asked).toEqual(['a', 'b']);
    await system.answers('b', '10.0.0.2');
    expect(system.asked).toEqual(['a', 'b', 'c']);
    await system.answers('c', '10.0.0.3');
    expect(system.asked).toEqual(['a', 'b', 'c', 'd']);
    await system.answers('a', '10.0.0.1');
    await system.answers('d', '10.0.0.4');
    const found = await Promise.all(all);
    expect(found.flatMap(({ addresses }) => textsOf(addresses))).toEqual([
      '10.0.0.1',
      '10.0.0.2',
      '10.0.0.3',
      '10.0.0.4',
    ]);
  });

  it('keeps its place while it runs, though nobody waits for it any more', async () => {
    const { lookup, system } = setUp();
    const reason = new Error('too slow');
    for (const host of ['a', 'b']) {
      const controller = new AbortController();
      const gone = expect(lookup.addresses(host, controller.signal)).rejects.toBe(reason);
      controller.abort(reason);
      await gone;
    }
    const waits = lookup.addresses('c', signal);
    await settle();
    expect(system.asked).toEqual(['a', 'b']);
    await system.fails('a', 'EAI_AGAIN');
    await system.answers('c', '10.0.0.3');
    expect(textsOf((await waits).addresses)).toEqual(['10.0.0.3']);
  });

  it('is joined by who asks again, so that an answer that takes longer than anybody’s patience comes after all', async () => {
    const { lookup, system } = setUp();
    const controller = new AbortController();
    const gone = expect(lookup.addresses('orders', controller.signal)).rejects.toThrow();
    controller.abort();
    await gone;
    const again = lookup.addresses('orders', signal);
    await system.answers('orders', '10.0.0.1');
    expect(textsOf((await again).addresses)).toEqual(['10.0.0.1']);
    expect(system.asked).toEqual(['orders']);
    void lookup.addresses('orders', signal);
    expect(system.asked).toEqual(['orders', 'orders']);
  });

  it('lets those in line go when they give up, and drops their question', async () => {
    const { lookup, system } = setUp();
    void lookup.addresses('a', signal);
    void lookup.addresses('b', signal);
    const controller = new AbortController();
    const reason = new Error('enough');
    const gone = expect(lookup.addresses('c', controller.signal)).rejects.toBe(reason);
    controller.abort(reason);
    await gone;
    await system.answers('a', '10.0.0.1');
    expect(system.asked).toEqual(['a', 'b']);
    await expect(lookup.addresses('d', AbortSignal.abort(reason))).rejects.toBe(reason);
    expect(system.asked).toEqual(['a', 'b']);
  });
});

import { Buffer } from 'node:buffer';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { PulsepoolError } from '../../src/errors.ts';
import { parseAddress } from '../../src/resolve/address.ts';
import { type Answer, codeOf } from '../../src/resolve/lookup.ts';
import { nameServerLookup } from '../../src/resolve/name-server-lookup.ts';
import { Names } from '../../src/resolve/names.ts';
import { ResolveError } from '../../src/resolve/resolve-error.ts';
import { systemLookup } from '../../src/resolve/system-lookup.ts';

// RFC 1035: record types and response codes.
const A = 1;
const AAAA = 28;
const SRV = 33;
const CNAME = 5;
const SERVFAIL = 2;
const NXDOMAIN = 3;
const REFUSED = 5;

interface DnsRecord {
  readonly type: number;
  readonly ttl: number;
  readonly data: Buffer;
  /** Of the name that was asked for, unless it is of another. */
  readonly owner?: string;
}

/** What is said to one question; nothing at all when it is `drop`. */
type Reply =
  | 'drop'
  | { readonly code?: number; readonly records?: readonly DnsRecord[]; readonly afterMs?: number };

function encodedName(name: string): Buffer {
  const labels = name.split('.').filter((label) => label !== '');
  return Buffer.concat([
    ...labels.map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])),
    Buffer.from([0]),
  ]);
}

function a(address: string, ttl = 60): DnsRecord {
  return { type: A, ttl, data: Buffer.from(address.split('.').map(Number)) };
}

/** Written out in full: eight groups. */
function aaaa(groups: string, ttl = 60): DnsRecord {
  const data = Buffer.concat(groups.split(':').map((group) => Buffer.from(group.padStart(4, '0'), 'hex')));
  return { type: AAAA, ttl, data };
}

function srv(target: string, port: number, priority: number, weight: number): DnsRecord {
  const fixed = Buffer.alloc(6);
  fixed.writeUInt16BE(priority, 0);
  fixed.writeUInt16BE(weight, 2);
  fixed.writeUInt16BE(port, 4);
  return { type: SRV, ttl: 60, data: Buffer.concat([fixed, encodedName(target)]) };
}

/** A DNS server on loopback whose answers a test writes. */
class DnsServer {
  readonly #socket: dgram.Socket = dgram.createSocket('udp4');
  readonly #timers: Set<NodeJS.Timeout> = new Set();
  /** The types that were asked for. */
  readonly asked: number[] = [];
  reply: (type: number) => Reply = () => ({ code: NXDOMAIN });
  address = '';

  async start(): Promise<this> {
    this.#socket.on('message', (question, from) => this.#answer(question, from));
    this.#socket.bind(0, '127.0.0.1');
    await once(this.#socket, 'listening');
    this.address = `127.0.0.1:${this.#socket.address().port}`;
    return this;
  }

  end(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#socket.close();
  }

  #answer(question: Buffer, from: dgram.RemoteInfo): void {
    let end = 12;
    while ((question[end] ?? 0) !== 0) end += (question[end] ?? 0) + 1;
    const type = question.readUInt16BE(end + 1);
    this.asked.push(type);
    const reply = this.reply(type);
    if (reply === 'drop') return;
    const { afterMs = 0, code = 0, records = [] } = reply;
    const head = Buffer.alloc(12);
    question.copy(head, 0, 0, 2);
    head.writeUInt16BE(0x8180 | code, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(records.length, 6);
    const message = Buffer.concat([head, question.subarray(12, end + 5), ...records.map(encodedRecord)]);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#socket.send(message, from.port, from.address);
    }, afterMs);
    this.#timers.add(timer);
  }
}

function encodedRecord({ data, owner, ttl, type }: DnsRecord): Buffer {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(1, 2);
  fixed.writeUInt32BE(ttl, 4);
  fixed.writeUInt16BE(data.length, 8);
  // A pointer to the name in the question.
  return Buffer.concat([owner === undefined ? Buffer.from([0xc0, 12]) : encodedName(owner), fixed, data]);
}

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

async function server(reply: (type: number) => Reply): Promise<DnsServer> {
  const one = await new DnsServer().start();
  one.reply = reply;
  ends.push(() => one.end());
  return one;
}

async function ask(one: DnsServer, signal = new AbortController().signal): Promise<Answer> {
  return nameServerLookup(one.address, systemClock).addresses('orders.test', signal);
}

async function codeFrom(one: DnsServer): Promise<string> {
  return ask(one).then(
    () => 'an answer',
    (error: unknown) => codeOf(error),
  );
}

describe('a name server', () => {
  it('gives A and AAAA, asked side by side, and the shortest TTL', async () => {
    const one = await server((type) => ({
      records: type === A ? [a('10.0.0.1', 90), a('10.0.0.2', 40)] : [aaaa('2001:db8:0:0:0:0:0:1', 60)],
    }));
    expect(await ask(one)).toEqual({
      addresses: [
        { address: '10.0.0.1', family: 4 },
        { address: '10.0.0.2', family: 4 },
        { address: '2001:db8::1', family: 6 },
      ],
      ttlMs: 40_000,
      unknown: undefined,
    });
    expect([...one.asked].sort()).toEqual([A, AAAA]);
  });

  it('gives what there is when one family has none', async () => {
    const one = await server((type) => ({ records: type === A ? [a('10.0.0.1')] : [] }));
    expect(await ask(one)).toMatchObject({ addresses: [parseAddress('10.0.0.1')], unknown: undefined });
    one.reply = (type) => ({ records: type === A ? [] : [aaaa('2001:db8:0:0:0:0:0:1')] });
    expect(await ask(one)).toMatchObject({ addresses: [parseAddress('2001:db8::1')], unknown: undefined });
  });

  it('gives A when it fails at AAAA, and says that nothing was learned of those', async () => {
    const one = await server((type) => (type === A ? { records: [a('10.0.0.1')] } : { code: SERVFAIL }));
    expect(await ask(one)).toMatchObject({ addresses: [parseAddress('10.0.0.1')], unknown: 6 });
  });

  it('gives A when AAAA takes more than 50 ms longer', async () => {
    const one = await server((type) => (type === A ? { records: [a('10.0.0.1')] } : 'drop'));
    const before = systemClock.now();
    expect(await ask(one)).toMatchObject({ addresses: [parseAddress('10.0.0.1')], unknown: 6 });
    expect(systemClock.now() - before).toBeGreaterThan(45);
    expect(systemClock.now() - before).toBeLessThan(900);
    // c-ares would have asked again after a second.
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect(one.asked).toHaveLength(2);
  });

  it('waits for AAAA as long as its caller does when there is no A', async () => {
    const one = await server((type) =>
      type === A ? { records: [] } : { records: [aaaa('2001:db8:0:0:0:0:0:1')], afterMs: 200 },
    );
    expect((await ask(one)).addresses).toEqual([parseAddress('2001:db8::1')]);
  });

  it('gives both when AAAA comes a little later', async () => {
    const one = await server((type) =>
      type === A ? { records: [a('10.0.0.1')] } : { records: [aaaa('2001:db8:0:0:0:0:0:1')], afterMs: 10 },
    );
    expect((await ask(one)).addresses).toHaveLength(2);
  });

  it('follows an alias', async () => {
    const one = await server((type) =>
      type === A
        ? {
            records: [
              { type: CNAME, ttl: 60, data: encodedName('real.test') },
              { ...a('10.0.0.7', 30), owner: 'real.test' },
            ],
          }
        : { records: [] },
    );
    expect(await ask(one)).toMatchObject({ addresses: [parseAddress('10.0.0.7')], ttlMs: 30_000 });
  });

  it('keeps apart what it says: no such name, none of that kind, in trouble, not for you', async () => {
    const one = await server(() => ({ code: NXDOMAIN }));
    expect(await codeFrom(one)).toBe('ENOTFOUND');
    one.reply = () => ({ records: [] });
    expect(await codeFrom(one)).toBe('ENODATA');
    one.reply = () => ({ code: SERVFAIL });
    expect(await codeFrom(one)).toBe('ESERVFAIL');
    one.reply = () => ({ code: REFUSED });
    expect(await codeFrom(one)).toBe('EREFUSED');
    one.reply = (type) => (type === A ? { code: SERVFAIL } : { records: [] });
    expect(await codeFrom(one)).toBe('ESERVFAIL');
    one.reply = (type) => (type === A ? { code: NXDOMAIN } : { records: [] });
    expect(await codeFrom(one)).toBe('ENODATA');
  });

  it('is let go at once when nobody waits any longer', async () => {
    const one = await server(() => 'drop');
    const before = systemClock.now();
    const error = await ask(one, AbortSignal.timeout(50)).catch((reason: unknown) => reason);
    expect(codeOf(error)).toBe('ECANCELLED');
    expect(systemClock.now() - before).toBeLessThan(900);
    const reason = new Error('never mind');
    await expect(ask(one, AbortSignal.abort(reason))).rejects.toBe(reason);
  });

  it('that is let go leaves others of the same server alone', async () => {
    const one = await server((type) => ({ records: type === A ? [a('10.0.0.1')] : [], afterMs: 100 }));
    const lookup = nameServerLookup(one.address, systemClock);
    const controller = new AbortController();
    const gone = lookup.addresses('a.test', controller.signal).catch(codeOf);
    const stays = lookup.addresses('b.test', new AbortController().signal);
    controller.abort();
    expect(await gone).toBe('ECANCELLED');
    expect((await stays).addresses).toHaveLength(1);
  });

  it('that is not there says so at once', async () => {
    const one = await new DnsServer().start();
    one.end();
    expect(await codeFrom(one)).toBe('ECONNREFUSED');
  });

  it('gives SRV records, and the root for a service that is not available', async () => {
    const one = await server((type) => ({
      records: type === SRV ? [srv('a.test', 7000, 10, 3), srv('b.test', 7001, 20, 0)] : [],
    }));
    const lookup = nameServerLookup(one.address, systemClock);
    const { signal } = new AbortController();
    const { records, ttlMs } = await lookup.services('_orders._tcp.test', signal);
    expect([...records].sort((x, y) => x.port - y.port)).toEqual([
      { host: 'a.test', port: 7000, priority: 10, weight: 3 },
      { host: 'b.test', port: 7001, priority: 20, weight: 0 },
    ]);
    expect(ttlMs).toBeUndefined();
    one.reply = () => ({ records: [srv('', 0, 0, 0)] });
    expect((await lookup.services('_orders._tcp.test', signal)).records).toMatchObject([{ host: '' }]);
    one.reply = () => 'drop';
    const error = await lookup
      .services('_orders._tcp.test', AbortSignal.timeout(50))
      .catch((reason) => reason);
    expect(codeOf(error)).toBe('ECANCELLED');
  });

  it.each(['10.0.0.2', '10.0.0.2:5353', '::1', '[::1]', '[2001:db8::53]:53'])(
    'may be written as %s',
    (text) => {
      expect(nameServerLookup(text, systemClock).name).toBe(text);
    },
  );

  it.each([
    'dns.google',
    '',
    '10.0.0.2:0',
    '10.0.0.2:65536',
    '10.0.0.2:',
    '[10.0.0.2]:53',
    '[::1]:x',
    '::1]:53',
  ])('may not be written as “%s”', (text) => {
    expect(() => nameServerLookup(text, systemClock)).toThrow(PulsepoolError);
  });
});

describe('a chain of name servers', () => {
  function chain(servers: readonly DnsServer[], timeoutMs = 200): Names {
    const names = new Names({
      lookups: servers.map(({ address }) => nameServerLookup(address, systemClock)),
      timeoutMs,
      clock: systemClock,
      random: () => 0.5,
    });
    ends.push(() => names.end());
    return names;
  }

  it('goes from a silent one to the next by our own timer, whatever c-ares makes of its own', async () => {
    const silent = await server(() => 'drop');
    const good = await server((type) => ({ records: type === A ? [a('10.0.0.1')] : [] }));
    const before = systemClock.now();
    const found = await chain([silent, good]).addresses('orders.test');
    expect(systemClock.now() - before).toBeGreaterThan(190);
    expect(systemClock.now() - before).toBeLessThan(900);
    expect(found).toMatchObject({ source: good.address, isStale: false });
    const { length } = silent.asked;
    // c-ares would have asked again after a second.
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect(silent.asked).toHaveLength(length);
  });

  it('goes from one that does not know the name to the next', async () => {
    const wrong = await server(() => ({ code: NXDOMAIN }));
    const good = await server((type) => ({ records: type === A ? [a('10.0.0.1')] : [] }));
    expect(await chain([wrong, good]).addresses('orders.test')).toMatchObject({ source: good.address });
  });

  it('tells what each of them said', async () => {
    const silent = await server(() => 'drop');
    const broken = await server(() => ({ code: SERVFAIL }));
    const error = await chain([silent, broken])
      .addresses('orders.test')
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ResolveError);
    expect(error).toMatchObject({
      code: 'ESERVFAIL',
      failures: [{ resolver: silent.address }, { resolver: broken.address }],
    });
  });

  it('serves what it had when its only server has gone', async () => {
    const one = await server((type) => ({ records: type === A ? [a('10.0.0.1')] : [] }));
    const names = chain([one]);
    await names.addresses('orders.test');
    one.reply = () => 'drop';
    names.refresh('orders.test', { force: true });
    expect(await names.addresses('orders.test')).toMatchObject({
      addresses: [{ address: '10.0.0.1', family: 4 }],
      isStale: true,
    });
  });
});

describe('the system’s resolver', () => {
  it('knows this machine', async () => {
    const { addresses } = await systemLookup().addresses('localhost', new AbortController().signal);
    expect(addresses.every(({ address }) => address === '127.0.0.1' || address === '::1')).toBe(true);
  });

  it('says of a name that can’t exist what the system says', async () => {
    const asked = systemLookup().addresses('nothing.invalid', new AbortController().signal);
    await expect(asked).rejects.toMatchObject({ code: expect.stringMatching(/^(ENOTFOUND|EAI_AGAIN)$/) });
  });
});

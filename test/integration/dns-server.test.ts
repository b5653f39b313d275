/**
 * The DNS server of the tests itself, asked with node:dns: what tests of pulsepool's addresses stand on has to be true.
 * Nothing of the SDK is used here.
 */
import dns from 'node:dns';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeWithServers } from './support/containers.ts';
import {
  type DnsServer,
  describeWithSystemResolver,
  runWithSystemResolver,
  startDnsServer,
} from './support/dns-server.ts';

let server: DnsServer;

function resolverOf(address: string, timeout = 1_000): dns.promises.Resolver {
  const resolver = new dns.promises.Resolver({ timeout, tries: 1 });
  resolver.setServers([address]);
  return resolver;
}

const ask4 = (name: string): Promise<string[]> => resolverOf(server.server).resolve4(name);
const ask6 = (name: string): Promise<string[]> => resolverOf(server.server).resolve6(name);

/** The code of the error by which a question ends. */
async function codeOf(question: Promise<unknown>): Promise<string | undefined> {
  return question.then(
    (answer) => `answered ${JSON.stringify(answer)}`,
    (error: NodeJS.ErrnoException) => error.code,
  );
}

describeWithServers('the DNS server', () => {
  beforeAll(async () => {
    server = await startDnsServer({ addresses: { 'first.test': ['10.1.0.1'] } });
  });
  afterAll(() => server?.stop());

  test('serves what it was started with from its first answer on', async () => {
    await using fresh = await startDnsServer({ addresses: { 'early.test': ['10.9.0.1', 'fd00::9'] } });
    expect(await resolverOf(fresh.server).resolve4('early.test')).toEqual(['10.9.0.1']);
    expect(await resolverOf(fresh.server).resolve6('early.test')).toEqual(['fd00::9']);
  });

  test('answers with the addresses in the order in which they were given, and their TTL', async () => {
    const addresses = ['10.0.0.3', '10.0.0.1', '10.0.0.2'];
    await server.setAddresses('order.test', addresses, 7);
    for (let round = 0; round < 5; round++) {
      const answer = await resolverOf(server.server).resolve4('order.test', { ttl: true });
      expect(answer).toEqual(addresses.map((address) => ({ address, ttl: 7 })));
    }
  });

  test('has a TTL of one second without another, and it does not run down', async () => {
    await server.setAddresses('ttl.test', ['10.0.0.1']);
    await sleep(1_100);
    const answer = await resolverOf(server.server).resolve4('ttl.test', { ttl: true });
    expect(answer).toEqual([{ address: '10.0.0.1', ttl: 1 }]);
  });

  test('tells a type that a name does not have from a name that does not exist', async () => {
    await server.setAddresses('only4.test', ['10.0.0.1']);
    await server.setAddresses('only6.test', ['fd00::1']);
    await server.setAddresses('neither.test', []);
    expect(await codeOf(ask6('only4.test'))).toBe('ENODATA');
    expect(await codeOf(ask4('only6.test'))).toBe('ENODATA');
    expect(await ask6('only6.test')).toEqual(['fd00::1']);
    expect(await codeOf(ask4('neither.test'))).toBe('ENODATA');
    expect(await codeOf(ask4('nobody.test'))).toBe('ENOTFOUND');
    expect(await codeOf(ask4('below.only4.test'))).toBe('ENOTFOUND');
    expect(await codeOf(ask4('example.com'))).toBe('ENOTFOUND');
  });

  test('answers with services, their priorities and weights', async () => {
    await server.setServices('_line._tcp.api.test', [
      { target: 'a.api.test', port: 7000, priority: 1, weight: 30 },
      { target: 'b.api.test', port: 7001 },
    ]);
    expect(await resolverOf(server.server).resolveSrv('_line._tcp.api.test')).toEqual([
      { name: 'a.api.test', port: 7000, priority: 1, weight: 30 },
      { name: 'b.api.test', port: 7001, priority: 0, weight: 1 },
    ]);
    await server.setServices('_line._tcp.api.test', []);
    expect(await codeOf(resolverOf(server.server).resolveSrv('_line._tcp.api.test'))).toBe('ENODATA');
  });

  test('sends an answer that is too long for a datagram over TCP', async () => {
    const addresses = Array.from({ length: 200 }, (_, index) => `10.2.0.${index}`);
    await server.setAddresses('many.test', addresses);
    expect(await ask4('many.test')).toEqual(addresses);
  });

  test('is never without an answer, and never with half of one, while its records change', async () => {
    const sets = [['10.0.1.1', '10.0.1.2'], ['10.0.2.1'], ['10.0.3.1', '10.0.3.2', '10.0.3.3']];
    await server.setAddresses('busy.test', sets[0] ?? []);
    let running = true;
    const answers = new Set<string>();
    const clients = Array.from({ length: 4 }, async () => {
      const resolver = resolverOf(server.server, 5_000);
      while (running) answers.add((await resolver.resolve4('busy.test')).join());
    });
    for (const set of [...sets, ...sets]) await server.setAddresses('busy.test', set);
    running = false;
    await Promise.all(clients);
    expect([...answers].sort()).toEqual(sets.map((set) => set.join()));
  });

  test('makes all changes that are asked for at once, and the last one counts', async () => {
    await Promise.all([
      server.setAddresses('one.test', ['10.0.0.1']),
      server.setAddresses('two.test', ['10.0.0.2']),
      server.setAddresses('one.test', ['10.0.0.3']),
    ]);
    expect([await ask4('one.test'), await ask4('two.test')]).toEqual([['10.0.0.3'], ['10.0.0.2']]);
  });

  test('fails, refuses, keeps silent about and forgets one name, and knows it again', async () => {
    const verdicts: (string | undefined)[] = [];
    for (const act of [server.fail, server.refuse, server.drop, server.remove]) {
      await act('moody.test');
      verdicts.push(await codeOf(resolverOf(server.server, 300).resolve4('moody.test')));
      expect(await ask4('first.test')).toEqual(['10.1.0.1']);
      await server.setAddresses('moody.test', ['10.0.0.1']);
      expect(await ask4('moody.test')).toEqual(['10.0.0.1']);
    }
    expect(verdicts).toEqual(['ESERVFAIL', 'EREFUSED', 'ETIMEOUT', 'ENOTFOUND']);
  });

  test('fails at once', async () => {
    await server.fail('broken.test');
    const begun = performance.now();
    expect(await codeOf(ask4('broken.test'))).toBe('ESERVFAIL');
    expect(performance.now() - begun).toBeLessThan(500);
  });

  test('counts the questions, all of them, about a name, and of a type', async () => {
    const all = await server.queries();
    const resolver = resolverOf(server.server);
    await Promise.allSettled([
      resolver.resolve4('counted.test'),
      resolver.resolve6('counted.test'),
      resolver.resolve4('other.test'),
    ]);
    expect(await server.queries()).toBe(all + 3);
    expect(await server.queries('counted.test')).toBe(2);
    expect(await server.queries('counted.test', 'AAAA')).toBe(1);
    await server.setAddresses('counted.test', ['10.0.0.1']);
    expect(await server.queries()).toBe(all + 3);
  });

  test('has counted a question by the time its answer is there', async () => {
    for (let round = 1; round <= 20; round++) {
      await codeOf(ask4('awaited.test'));
      expect(await server.queries('awaited.test')).toBe(round);
    }
  });

  test('tells a test of its mistakes, and serves on', async () => {
    await expect(server.setAddresses('wrong.test', ['10.0.0'])).rejects.toThrow('no IP address: 10.0.0');
    await expect(server.setAddresses('wrong.test"', [])).rejects.toThrow('no name for DNS: wrong.test"');
    await expect(server.setAddresses('wrong.test', ['10.0.0.1'], 0.5)).rejects.toThrow('no whole number');
    await server.setAddresses('right.test', ['10.0.0.1']);
    expect(await ask4('right.test')).toEqual(['10.0.0.1']);
    expect(await codeOf(ask4('wrong.test'))).toBe('ENOTFOUND');
  });

  test('refuses while it is dead, and starts on the same port with what was said meanwhile', async () => {
    await server.setAddresses('kept.test', ['10.0.0.1']);
    const before = server.server;
    expect(await ask4('kept.test')).toEqual(['10.0.0.1']);
    await server.kill();
    expect(await codeOf(ask4('kept.test'))).toBe('ECONNREFUSED');
    expect(await server.queries('kept.test')).toBe(1);
    await server.setAddresses('said.test', ['10.0.0.2']);
    await server.start();
    expect(server.server).toBe(before);
    expect([await ask4('kept.test'), await ask4('said.test')]).toEqual([['10.0.0.1'], ['10.0.0.2']]);
  });

  test('is silent while it is paused, and then answers what is still asked', async () => {
    await server.pause();
    try {
      expect(await codeOf(resolverOf(server.server, 300).resolve4('first.test'))).toBe('ETIMEOUT');
      await expect(server.remove('first.test.')).rejects.toThrow('unpause() first');
      const asked = resolverOf(server.server, 5_000).resolve4('first.test');
      await sleep(300);
      await server.unpause();
      expect(await asked).toEqual(['10.1.0.1']);
    } finally {
      await server.unpause().catch(() => undefined);
    }
  });

  test('is gone when it is stopped, twice and paused as it may be', async () => {
    const other = await startDnsServer();
    await other.pause();
    await other.stop();
    await other.stop();
    expect(await codeOf(resolverOf(other.server).resolve4('first.test'))).toBe('ECONNREFUSED');
  });
});

describeWithSystemResolver('the DNS server as the system resolver of a process', () => {
  beforeAll(async () => {
    server = await startDnsServer({
      addresses: { 'api.test': ['10.0.0.1', '10.0.0.2', 'fd00::1'], 'old.test': ['10.0.0.1'] },
    });
  });
  afterAll(() => server?.stop());

  /** Each name's addresses, or the code of what getaddrinfo said. */
  const lookUp = (...names: string[]) => `
    import dns from 'node:dns/promises';
    const told = [];
    for (const name of ${JSON.stringify(names)}) {
      told.push(await dns.lookup(name, { all: true, verbatim: true }).then(
        (found) => found.map(({ address }) => address).sort().join(),
        (error) => error.code,
      ));
    }
    console.log(told.join(' '));`;

  test('is what getaddrinfo asks', async () => {
    await server.fail('broken.test');
    const before = await server.queries('api.test');
    const { stdout, exitCode } = await runWithSystemResolver(
      lookUp('api.test', 'nobody.test', 'broken.test', 'localhost'),
      server,
    );
    expect(stdout).toMatch(
      /^10\.0\.0\.1,10\.0\.0\.2,fd00::1 ENOTFOUND EAI_AGAIN \S*(127\.0\.0\.1|::1)\S*\n$/,
    );
    expect(exitCode).toBe(0);
    expect(await server.queries('api.test')).toBeGreaterThan(before);
  });

  test('is heard anew while the process runs', async () => {
    const running = runWithSystemResolver(
      `
      import dns from 'node:dns/promises';
      const seen = new Set();
      while (seen.size < 2) seen.add((await dns.lookup('old.test')).address);
      console.log([...seen].join(' '));`,
      server,
    );
    await expect.poll(() => server.queries('old.test'), { timeout: 10_000 }).toBeGreaterThan(0);
    await server.setAddresses('old.test', ['10.0.0.9']);
    expect(await running).toMatchObject({ stdout: '10.0.0.1 10.0.0.9\n', exitCode: 0 });
  });

  test('is silence to it while dead, and is found again', async () => {
    await server.kill();
    expect((await runWithSystemResolver(lookUp('api.test'), server)).stdout).toBe('EAI_AGAIN\n');
    await server.start();
    expect((await runWithSystemResolver(lookUp('api.test'), server)).stdout).toContain('10.0.0.1,');
  });

  test('is nothing to this process, nor to the machine', async () => {
    const before = await readFile('/etc/resolv.conf', 'utf8');
    const script = "console.log((await import('node:fs')).readFileSync('/etc/resolv.conf', 'utf8'))";
    const { stdout } = await runWithSystemResolver(script, server);
    expect(stdout).toContain(`nameserver ${server.address}\n`);
    expect(await readFile('/etc/resolv.conf', 'utf8')).toBe(before);
    expect(before).not.toContain(server.address);
  });

  test('leaves the exit code and what goes to stderr to the script', async () => {
    const ended = await runWithSystemResolver("console.error('no'); process.exit(3)", server);
    expect(ended).toEqual({ stdout: '', stderr: 'no\n', exitCode: 3 });
  });
});

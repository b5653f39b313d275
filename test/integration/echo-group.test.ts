/**
 * The echo servers with addresses of their own, asked with plain sockets: what tests of several endpoints stand on has to
 * be true. Nothing of the SDK is used here.
 */
import { execFile } from 'node:child_process';
import dns from 'node:dns';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { ask, describeWithOwnAddresses, describeWithServers, startEcho } from './support/containers.ts';
import { startDnsServer } from './support/dns-server.ts';
import { type EchoGroup, type EchoMember, startEchoGroup } from './support/echo-group.ts';
import { RUN_LABEL } from './support/run-label.ts';

const LINE = 7000;

/** A connection: what came over it, and how it was lost. */
interface Line {
  socket: net.Socket;
  received: string;
  lost: string | undefined;
}

function connect(address: string, port = LINE): Line {
  const line: Line = { socket: net.connect(port, address), received: '', lost: undefined };
  line.socket.setEncoding('utf8').on('data', (text: string) => {
    line.received += text;
  });
  line.socket.on('end', () => {
    line.lost ??= 'end';
  });
  line.socket.on('error', (error: NodeJS.ErrnoException) => {
    line.lost ??= error.code;
  });
  onTestFinished(() => void line.socket.destroy());
  return line;
}

async function say(line: Line, text: string, answer: string): Promise<void> {
  line.socket.write(text);
  await expect.poll(() => line.received, { timeout: 5_000, interval: 2 }).toBe(answer);
}

/** A server that isn't reached within 500 ms: nobody answers a connect, or it is refused. */
async function isUnreachable(address: string): Promise<boolean> {
  return ask(address, LINE, 'PING\n', 500).then(
    () => false,
    () => true,
  );
}

async function docker(...args: string[]): Promise<string[]> {
  const { stdout } = await promisify(execFile)('docker', args);
  return stdout.split('\n').filter((line) => line !== '');
}

describeWithOwnAddresses('a group of echo servers', () => {
  let group: EchoGroup;
  let members: readonly [EchoMember, EchoMember, EchoMember];
  beforeAll(async () => {
    group = await startEchoGroup(3);
    const [a, b, c] = group.members;
    if (!a || !b || !c) throw new Error('three servers were asked for');
    members = [a, b, c];
  });
  afterAll(() => group?.stop());
  afterEach(async () => {
    await Promise.all(members.map((member) => member.delay(0)));
  });

  test('has an address, and a name, for each', async () => {
    expect(members.map(({ name }) => name)).toEqual(['a', 'b', 'c']);
    expect(new Set(members.map(({ address }) => address)).size).toBe(3);
    for (const { address, port, name } of members) {
      expect(await ask(address, port, 'WHOAMI\n', 1_000)).toBe(name);
      expect(await ask(address, port, 'hello\n', 1_000)).toBe('Echo: hello');
    }
  });

  test('goes on with the others when one is killed, which then comes back at its address', async () => {
    const [a, b] = members;
    const address = a.address;
    const lines = [connect(a.address), connect(b.address)] as const;
    await say(lines[0], 'x\n', 'Echo: x\n');
    await say(lines[1], 'x\n', 'Echo: x\n');
    await a.kill();
    await expect.poll(() => lines[0].lost).toBe('end');
    expect(await isUnreachable(a.address)).toBe(true);
    await say(lines[1], 'y\n', 'Echo: x\nEcho: y\n');
    await a.start();
    expect(a.address).toBe(address);
    expect(await ask(a.address, a.port, 'WHOAMI\n', 1_000)).toBe('a');
  });

  test('has one that freezes: connections stay, silent, and go on', async () => {
    const [a] = members;
    const old = connect(a.address);
    await say(old, 'x\n', 'Echo: x\n');
    await a.pause();
    old.socket.write('y\n');
    const fresh = connect(a.address);
    fresh.socket.write('z\n');
    await sleep(200);
    expect([old.received, fresh.received, fresh.socket.readyState]).toEqual(['Echo: x\n', '', 'open']);
    await a.unpause();
    await expect.poll(() => [old.received, fresh.received]).toEqual(['Echo: x\nEcho: y\n', 'Echo: z\n']);
  });

  test('has one whose cable is pulled: silence, and an old connection lives when it is plugged in', async () => {
    const [, b] = members;
    const old = connect(b.address);
    await say(old, 'x\n', 'Echo: x\n');
    await b.disconnect();
    old.socket.write('y\n');
    expect(await isUnreachable(b.address)).toBe(true);
    expect([old.received, old.lost]).toEqual(['Echo: x\n', undefined]);
    await b.reconnect();
    await expect.poll(() => old.received, { timeout: 10_000 }).toBe('Echo: x\nEcho: y\n');
    expect(await ask(b.address, b.port, 'PING\n', 5_000)).toBe('PONG');
  });

  test.each(['alive', 'dead', 'frozen', 'unplugged'])(
    'has one that moves to another address, %s as it is',
    async (state) => {
      const [, , c] = members;
      const before = c.address;
      const line = connect(before);
      await say(line, 'x\n', 'Echo: x\n');
      if (state === 'dead') await c.kill();
      if (state === 'frozen') await c.pause();
      if (state === 'unplugged') await c.disconnect();
      const after = group.freeAddress();
      await c.moveTo(after);
      if (state !== 'unplugged') await expect.poll(() => line.lost).toBe('end');
      expect(c.address).toBe(after);
      expect(await ask(after, c.port, 'WHOAMI\n', 1_000)).toBe('c');
      expect(await isUnreachable(before)).toBe(true);
      await c.kill();
      await c.start();
      expect(await ask(after, c.port, 'WHOAMI\n', 1_000)).toBe('c');
    },
  );

  test('has one that is slow for every connection, one reply after the other on each, and fast again', async () => {
    const [a, b] = members;
    const [first, second, other] = [connect(a.address), connect(a.address), connect(b.address)];
    await say(first, 'PING\n', 'PONG\n');
    await a.delay(200);
    const begun = performance.now();
    const took = () => performance.now() - begun;
    await say(other, 'x\n', 'Echo: x\n');
    expect(took()).toBeLessThan(190);
    const [, twice, once] = await Promise.all([
      expect.poll(() => first.received, { interval: 2 }).toBe('PONG\nEcho: 1\n'),
      say(first, '1\nPING\n', 'PONG\nEcho: 1\nPONG\n').then(took),
      say(second, '1\n', 'Echo: 1\n').then(took),
    ]);
    expect(once).toBeGreaterThanOrEqual(199);
    expect(twice).toBeGreaterThanOrEqual(399);
    expect(once).toBeLessThan(twice - 100);
    await a.delay(0);
    const again = performance.now();
    await say(second, '2\n', 'Echo: 1\nEcho: 2\n');
    expect(performance.now() - again).toBeLessThan(190);
  });

  test('counts the lines that each has echoed, and nothing else', async () => {
    const [a, b] = members;
    const before = [await a.count(), await b.count()];
    const line = connect(a.address);
    await say(line, '1\nPING\n2\nWHOAMI\n3\n', 'Echo: 1\nPONG\nEcho: 2\na\nEcho: 3\n');
    await a.delay(1);
    expect([await a.count(), await b.count()]).toEqual([(before[0] ?? 0) + 3, before[1]]);
    await a.kill();
    await a.start();
    expect(await a.count()).toBe(0);
  });

  test('does not take for a delay what is none', async () => {
    await expect(members[0].delay(-1)).rejects.toThrow('not a delay in milliseconds: -1');
  });

  test('can have a DNS server in its midst, whose address stays', async () => {
    const resolver = new dns.promises.Resolver({ timeout: 1_000, tries: 1 });
    await using server = await startDnsServer({
      place: group.freePlace(),
      addresses: { 'api.test': [members[0].address] },
    });
    const before = server.address;
    resolver.setServers([server.address]);
    expect(await resolver.resolve4('api.test')).toEqual([members[0].address]);
    await server.kill();
    await server.start();
    expect(server.address).toBe(before);
    expect(await resolver.resolve4('api.test')).toEqual([members[0].address]);
  });

  test('is found by a plain client through a DNS server, and found again when its address is another', async () => {
    const [a, b, c] = members;
    await using server = await startDnsServer({ addresses: { 'echo.test': [a.address, b.address] } });
    const resolver = new dns.promises.Resolver({ timeout: 1_000, tries: 1 });
    resolver.setServers([server.server]);
    /** Who answers at the first address that answers at all. */
    const whoAnswers = async (): Promise<string> => {
      for (const address of await resolver.resolve4('echo.test')) {
        const name = await ask(address, LINE, 'WHOAMI\n', 500).catch(() => undefined);
        if (name !== undefined) return name;
      }
      throw new Error('nobody answers');
    };
    expect(await whoAnswers()).toBe('a');
    await a.kill();
    expect(await whoAnswers()).toBe('b');
    await server.setAddresses('echo.test', [c.address, b.address]);
    expect(await whoAnswers()).toBe('c');
    await a.moveTo(group.freeAddress());
    await server.setAddresses('echo.test', [a.address]);
    expect(await whoAnswers()).toBe('a');
  });
});

describeWithOwnAddresses('a group of echo servers with a service time', () => {
  test('has it from the start, and again after a restart', async () => {
    await using group = await startEchoGroup(1, { delayMs: 200 });
    const [a] = group.members;
    if (!a) throw new Error('one server was asked for');
    const took = async () => {
      const begun = performance.now();
      await ask(a.address, a.port, 'x\n', 1_000);
      return performance.now() - begun;
    };
    expect(await took()).toBeGreaterThanOrEqual(199);
    await a.delay(0);
    expect(await took()).toBeLessThan(190);
    await a.kill();
    await a.start();
    expect(await took()).toBeGreaterThanOrEqual(199);
  });
});

describeWithOwnAddresses('a group of echo servers that is stopped', () => {
  test('leaves no container and no network, whatever became of its members', async () => {
    await using group = await startEchoGroup(4);
    const [a, b, c] = group.members;
    const run = `label=${RUN_LABEL}=${process.env['PULSEPOOL_TEST_RUN']}`;
    expect(await docker('network', 'ls', '--quiet', '--filter', run)).toHaveLength(1);
    await Promise.all([a?.kill(), b?.pause(), c?.disconnect()]);
    await group.stop();
    await group.stop();
    expect(await docker('network', 'ls', '--quiet', '--filter', run)).toEqual([]);
    expect(await docker('ps', '--all', '--quiet', '--filter', run)).toEqual([]);
  });
});

describeWithServers('the echo server', () => {
  test('slows frames, too, and leaves WHOAMI to be echoed when it has no name', async () => {
    await using echo = await startEcho();
    expect(await ask(echo.host, echo.port, 'WHOAMI\n', 1_000)).toBe('Echo: WHOAMI');
    expect(await ask(echo.host, echo.port, '!delay 100\n', 1_000)).toBe('delay=100');
    const frames = connect(echo.host, echo.ports.frames);
    const begun = performance.now();
    await say(frames, '\0\0\0\x02hi\0\0\0\x02ho', '\0\0\0\x02hi\0\0\0\x02ho');
    expect(performance.now() - begun).toBeGreaterThanOrEqual(199);
  });
});

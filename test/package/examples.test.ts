/**
 * Every example and the demo, each in a process of its own, against servers on real sockets.
 *
 * The Redis here is a stand-in that knows five commands, so that the example is covered where no engine is;
 * test/integration has the real one.
 */
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EchoServer, startEcho } from '../support/echo-server.ts';
import { requireBuild, runNode, startNode } from './child.ts';

beforeAll(requireBuild);

// Some tests run side by side, so there is no "current test" that a server could end with.
const servers: { close(): unknown }[] = [];
afterAll(() => Promise.all(servers.map((server) => server.close())));

/** A server, until all tests have ended. */
async function serve(onSocket: (socket: net.Socket) => void): Promise<{ HOST: string; PORT: string }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push({
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  });
  return { HOST: '127.0.0.1', PORT: String((server.address() as net.AddressInfo).port) };
}

/** A line echo server, until all tests have ended. */
async function echo(): Promise<{ server: EchoServer; env: { HOST: string; PORT: string } }> {
  const server = await startEcho();
  servers.push(server);
  return { server, env: { HOST: '127.0.0.1', PORT: String(server.port) } };
}

/** A port at which nothing listens. */
async function closedPort(): Promise<string> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return String(port);
}

const OWN_SERVER = { HOST: '', PORT: '' };

/** Runs an example that must succeed; its lines. */
async function linesOf(
  name: string,
  env: Readonly<Record<string, string>>,
  nodeArgs: readonly string[] = [],
): Promise<string[]> {
  const { status, stdout, stderr } = await runNode([...nodeArgs, `examples/${name}.mjs`], env);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout.trimEnd().split('\n');
}

describe('01-hello', () => {
  const expected = [
    'Echo: hello',
    '10 callers, each with its own reply',
    'at most 4 sockets: true',
    'Echo: first',
    'Echo: second, on the same socket',
  ];

  it('works with its own server', async () => {
    expect(await linesOf('01-hello', OWN_SERVER)).toEqual(expected);
  });

  it('works with a server somewhere else', async () => {
    const { server, env } = await echo();
    expect(await linesOf('01-hello', env)).toEqual(expected);
    expect(server.accepted).toBeGreaterThan(0);
    expect(server.accepted).toBeLessThanOrEqual(4);
  });
});

describe('02-own-codec', () => {
  const expected = [
    '1 + 2: { sum: 3 }',
    'a socket closed: protocol',
    'what is no frame: ERR_FRAME',
    '3 + 4: { sum: 7 }',
    'a socket closed: shutdown',
  ];

  it('works with its own server', async () => {
    expect(await linesOf('02-own-codec', OWN_SERVER)).toEqual(expected);
  });

  it('works with a server that sends one byte at a time', async () => {
    const env = await serve((socket) => {
      socket.setNoDelay(true);
      socket.on('data', (chunk) => {
        const { add } = JSON.parse(chunk.toString().replace(/^\d+#/, '')) as { add?: [number, number] };
        const json = add === undefined ? '' : JSON.stringify({ sum: add[0] + add[1] });
        void drip(socket, add === undefined ? 'sorry#' : `${json.length}#${json}`);
      });
    });
    expect(await linesOf('02-own-codec', env)).toEqual(expected);
  });
});

async function drip(socket: net.Socket, text: string): Promise<void> {
  for (const character of text) {
    if (!socket.writable) return;
    socket.write(character);
    await sleep(1);
  }
}

describe('03-abort-and-timeouts', () => {
  const expected = [
    'aborted: the user left',
    'the next caller: Echo: mine',
    'deadline: ERR_DEADLINE after 1 attempt',
    'in line: ERR_ACQUIRE_TIMEOUT, 1 leased of 1',
    'at the end: Echo: all is well',
  ];

  it('works with its own server', async () => {
    expect(await linesOf('03-abort-and-timeouts', OWN_SERVER)).toEqual(expected);
  });

  it('works with a server somewhere else', async () => {
    const { server, env } = await echo();
    server.onLine = (line, socket) => {
      setTimeout(() => socket.writable && socket.write(`Echo: ${line}\n`), line.includes('slow') ? 500 : 0);
    };
    expect(await linesOf('03-abort-and-timeouts', env)).toEqual(expected);
  });
});

describe('04-graceful-shutdown', () => {
  it('finishes what is under way when SIGTERM comes, refuses what is new, and ends by itself', async () => {
    const { server, env } = await echo();
    const asked = new Promise<() => void>((resolve) => {
      server.onLine = (line, socket) => resolve(() => socket.write(`Echo: ${line}\n`));
    });
    const service = startNode(['examples/04-graceful-shutdown.mjs'], { ...env, HTTP_PORT: '0' });
    const [, url = ''] = await service.printed(/(http:\S+)/);

    const response = fetch(`${url}/order-7`);
    const answer = await asked;
    service.child.kill('SIGTERM');
    await service.printed(/SIGTERM: no new requests/);
    await expect(fetch(`${url}/order-8`)).rejects.toThrow('fetch failed');
    answer();

    expect(await (await response).text()).toBe('Echo: /order-7\n');
    const { status, signal, stdout, stderr } = await service.ended;
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    expect(stdout).toMatch(/every request is answered\nthe pool is closed, 0 leases cut off\n$/);
    expect(server.sockets.size).toBe(0);
  });

  it('works with its own backend', async () => {
    const service = startNode(['examples/04-graceful-shutdown.mjs'], { ...OWN_SERVER, HTTP_PORT: '0' });
    const [, url = ''] = await service.printed(/(http:\S+)/);
    expect(await (await fetch(`${url}/hello`)).text()).toBe('Echo: /hello\n');
    service.child.kill('SIGTERM');
    expect(await service.ended).toMatchObject({ status: 0, signal: null });
  });
});

describe('05-redis-heartbeat', () => {
  it('sets, gets and deletes, and its resting sockets answer pings', async () => {
    const { HOST, PORT } = await serve(standInRedis());
    const lines = await linesOf('05-redis-heartbeat', { REDIS_HOST: HOST, REDIS_PORT: PORT });
    expect(lines.slice(0, 3)).toEqual(['SET OK', 'GET "hello\\r\\nworld"', 'after DEL null']);
    expect(lines[3]).toMatch(/^sockets that answered a PING while they rested: (\d) of \1$/);
  });

  it('tells what to do when there is no Redis', async () => {
    const env = { REDIS_HOST: '127.0.0.1', REDIS_PORT: await closedPort() };
    const { status, stderr } = await runNode(['examples/05-redis-heartbeat.mjs'], env);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^ERR_REFUSED: .*\nNothing listens there/);
  });
});

describe('06-planned-failover', () => {
  it('lets callers wait for the new server, fails none, and hears the old one no more', async () => {
    const lines = await linesOf('06-planned-failover', OWN_SERVER);
    expect(lines[0]).toMatch(/^before: [1-9]\d* replies from A$/);
    expect(lines[1]).toBe('suspended: 0 leases are out, 10 callers wait');
    expect(lines[2]).toMatch(/^reset: [2-4] sockets to A are closed, 0 are left$/);
    expect(lines[3]).toMatch(/^resumed: [1-9]\d+ replies from B; the longest wait was \d{3,} ms$/);
    expect(lines.slice(4)).toEqual(['nobody failed, and no reply of A came after the failover']);
  });
});

describe('07-leaks', () => {
  const at = (name: string): string => `taken at ${name} \\(07-leaks\\.mjs:\\d+:\\d+\\)`;
  const slow = [
    new RegExp(`^leaked: a lease of socket 1 is held for \\d+ ms so far, ${at('writeSlowReport')}$`),
    new RegExp(`^unleaked: it came back after \\d{3,} ms, ${at('writeSlowReport')}$`),
  ];
  const held = new RegExp(`^close: 1 lease was cut off, ${at('forgetToRelease')}$`);
  const lost = [
    new RegExp(`^leaked: a lease of socket 1 is held for \\d+ ms so far, ${at('loseIt')}$`),
    new RegExp(`^leaked: a lease of socket 1 is lost, and its socket was closed, ${at('loseIt')}$`),
    /^its place is free again: 0 leased$/,
  ];

  it('names the place that took a lease which is slow, lost, or held for ever', async () => {
    expectLines(await linesOf('07-leaks', OWN_SERVER, ['--expose-gc']), [...slow, ...lost, held]);
  });

  it('leaves out the lost one without --expose-gc, with a server somewhere else', async () => {
    const { env } = await echo();
    expectLines(await linesOf('07-leaks', env), [...slow, /^skipped: a lost lease, /, held]);
  });
});

describe('08-deadlock-hint', () => {
  const expected = [
    /^one at a time: done$/,
    /^deadlock suspected:$/,
    /^ {2}a lease is held, taken {5}at moveMoney \(08-deadlock-hint\.mjs:\d+:\d+\)$/,
    /^ {2}and another one is awaited at writeAuditLine \(08-deadlock-hint\.mjs:\d+:\d+\)$/,
    /^two at once: ERR_ACQUIRE_TIMEOUT$/,
    /^ {2}The caller itself holds a lease: when all holders wait/,
    /^mended: ten at once are done, and nothing is suspected$/,
  ];

  it('shows both stacks, and nothing once it is mended', async () => {
    expectLines(await linesOf('08-deadlock-hint', OWN_SERVER), expected);
  });

  it('works with a server somewhere else', async () => {
    const { server, env } = await echo();
    expectLines(await linesOf('08-deadlock-hint', env), expected);
    expect(server.accepted).toBeGreaterThan(0);
  });
});

describe('09-overload', () => {
  it('serves by priority, refuses at once when the line is full, and soon when it never empties', async () => {
    expectLines(await linesOf('09-overload', OWN_SERVER), [
      /^priority: health check, page, another page, report$/,
      /^maxWaiting: ERR_OVERLOADED after \d+ ms, 3 wait$/,
      /^first come, first served: [1-9]\d* done; in the second half they waited [1-9]\d+ ms$/,
      /^shedAfterMs: [1-9]\d* done; in the second half they waited \d+ ms$/,
      /^ {2}and [1-9]\d* were told ERR_OVERLOADED, after \d+ ms$/,
    ]);
  });
});

describe('10-sizing', () => {
  it('measures, lists its sockets, advises, and does better with the sizes that it advised', async () => {
    expectLines(await linesOf('10-sizing', OWN_SERVER), [
      /^max 2: [1-9]\d* waits, [\d.]+ ms on average$/,
      /^wait: p50 [\d.]+ ms, p99 [\d.]+ ms, longest [\d.]+ ms$/,
      /^hold: p50 [\d.]+ ms, p99 [\d.]+ ms$/,
      /^dial: p50 [\d.]+ ms \(2 dials\)$/,
      /^socket 1: idle, lent [1-9]\d* times in \d+ ms$/,
      /^socket 2: idle, lent [1-9]\d* times in \d+ ms$/,
      /^advice: p99 of the wait is \d+ ms: \d more sockets? would remove it/,
      /^resized: max is [3-5]$/,
      /^max [3-5]: \d+ waits, [\d.]+ ms on average$/,
    ]);
  });
});

describe('11-sessions', () => {
  it('authenticates, selects, resets and quits; a hook that fails costs its own socket', async () => {
    const lines = await linesOf('11-sessions', OWN_SERVER);
    const goodbyes = lines.filter((line) => /^socket \d closed: shutdown$/.test(line));
    expect(goodbyes).not.toEqual([]);
    expectLines(
      lines.filter((line) => !goodbyes.includes(line)),
      [
        /^who am I: acme, acme$/,
        /^onRelease failed on socket [12]: RESET was answered with -ERR something is locked$/,
        /^socket [12] closed: hook$/,
        /^six more callers: acme, acme, acme, acme, acme, acme$/,
        /^hooks that failed: 1; sockets that it cost: 1$/,
        /^the server heard: AUTH secret, SELECT acme, .*, RESET, QUIT$/,
      ],
    );
  });
});

describe('13-client', () => {
  it('repeats what may be repeated, obeys the server, and leaves it alone when it does not answer', async () => {
    expect(await linesOf('13-client', OWN_SERVER)).toEqual([
      'again (fresh): ERR_CONNECTION_LOST',
      'Echo: drop',
      'Echo: not now',
      'retried after its wish: 1',
      expect.stringMatching(/^The request to .* did not finish within N ms: N ms for a socket/),
      'breaker open: true',
      'breaker closed',
      'Echo: hello',
      'Echo: slow',
      'second tries: 1, answered first: 1',
    ]);
  });
});

describe('16-pipelined', () => {
  const expected = [
    '100 callers: 1 socket',
    'arrived in one piece: true',
    'leases taken from the pool: 2',
    'Echo: before, Echo: after',
    'still 1 socket',
  ];

  it('works with its own server', async () => {
    expect(await linesOf('16-pipelined', OWN_SERVER)).toEqual(expected);
  });

  it('works with a server somewhere else', async () => {
    const { env } = await echo();
    const elsewhere = expected.filter((line) => !line.startsWith('arrived'));
    expect(await linesOf('16-pipelined', env)).toEqual(elsewhere);
  });
});

describe('17-multiplexed', () => {
  it('gives everybody their own reply, in whatever order', async () => {
    expect(await linesOf('17-multiplexed', OWN_SERVER)).toEqual([
      'asked for long, short, middle; done: short, middle, long; 1 socket',
      'after a late reply: 1 socket, 0 closed',
    ]);
  });
});

describe('18-dns-failover', () => {
  it('asks the backup, then uses the last answer, then the fallback addresses', async () => {
    expectLines(await linesOf('18-dns-failover', OWN_SERVER), [
      /^all is well: A says hello; the backup was asked 0 times$/,
      /^primary dead: the backup says 127\.0\.0\.3 instead of 127\.0\.0\.2$/,
      /^ {2}the socket to the old address was closed: removed$/,
      /^ {2}B says hello$/,
      /^backup dead: ERR_DNS for orders\.internal; an answer of \d+ ms ago is used on$/,
      /^ {2}B says hello$/,
      /^ {2}the answer in use is [5-9]\.\d s old; look-ups in vain: [1-9]\d*$/,
      /^a new process, by its fallback addresses: B says hello$/,
    ]);
  });
});

describe('19-primary-and-standby', () => {
  it('serves from the standby while the primary is dead, fails nobody, and goes back by and by', async () => {
    const rows = await linesOf('19-primary-and-standby', OWN_SERVER);
    expectLines(
      rows.filter((line) => !/^[┌├└]|\(index\)/.test(line)),
      [
        /^all is well: [1-9]\d* done by the primary, 0 by the standby$/,
        /'primary' │ 'healthy' │ 0 +│ '100 %' │ [1-6] +│ 0 /,
        /'standby' │ 'healthy' │ 1 +│ '0 %' +│ 0 +│ 0 /,
        /^ejected: primary for failures \((request|dial)\), for [4-6] s$/,
        /^the primary is dead: 0 done by the primary, [1-9]\d* by the standby$/,
        /'primary' │ 'ejected' │ 0 +│ '0 %' +│ 0 +│ 1 /,
        /'standby' │ 'healthy' │ 1 +│ '100 %' │ [1-8] +│ 0 /,
        /^restored: primary$/,
        /^the primary is back: \d+ done by the primary, [1-9]\d* by the standby$/,
        /'primary' │ 'warming' │ 0 +│ '1\d %' │ [1-8] +│ 1 /,
        /'standby' │ 'healthy' │ 1 +│ '[89]\d %' │ [1-8] +│ 0 /,
        /^a little later: [1-9]\d* done by the primary, [1-9]\d* by the standby$/,
        /'primary' │ 'warming' │ 0 +│ '[12]\d %' │ [1-8] +│ 1 /,
        /'standby' │ 'healthy' │ 1 +│ '[78]\d %' │ [1-8] +│ 0 /,
        /^\d+ requests, [1-9]\d* repeated, 0 failed$/,
      ],
    );
  });
});

describe('20-kubernetes-headless', () => {
  it('uses every pod, lets one that leaves finish, and one that comes serve', async () => {
    const rows = await linesOf('20-kubernetes-headless', OWN_SERVER);
    const even = (pod: string): RegExp => new RegExp(`'${pod}' │ 'healthy' │ 0 +│ '33 %' │ [1-6] +│ [1-9]`);
    expectLines(
      rows.filter((line) => !/^[┌├└]|\(index\)/.test(line)),
      [
        /^endpoints: \+a \+b \+c, 3 in all$/,
        even('a'),
        even('b'),
        even('c'),
        /^endpoints: \+d -c, 3 in all$/,
        /^long jobs finished: 6, [1-9] of them by c$/,
        even('a'),
        even('b'),
        even('d'),
        /^sockets that left with c: [1-9]; closed for other reasons: \d$/,
        /'a' │ 'healthy' │ 0 +│ '75 %' │ \d+ +│ [1-9]\d+ /,
        /'b' │ 'healthy' │ 0 +│ '25 %' │ \d+ +│ [1-9]\d* /,
        /'d' │ 'healthy' │ 1 +│ '0 %' +│ 0 +│ 0 /,
      ],
    );
  });
});

describe('12-request-ids', () => {
  const expected = [
    '[no request] socket 1 opened',
    '[order-1] got socket 1',
    '[order-1] gave socket 1 back',
    '[order-2] got socket 1',
    '[order-2] gave socket 1 back',
    '[order-3] got socket 1',
    '[order-3] gave socket 1 back',
    '[order-4] got socket 1',
    '[order-5] got no socket: ERR_ACQUIRE_TIMEOUT',
    '[order-4] gave socket 1 back',
    '[order-6] got socket 1',
    '[order-6] socket 1 closed: dirty',
  ];

  it('logs what happens to a lease with the id of the request that asked for it', async () => {
    expect(await linesOf('12-request-ids', OWN_SERVER)).toEqual(expected);
  });

  it('works with a server somewhere else', async () => {
    const { env } = await echo();
    expect(await linesOf('12-request-ids', env)).toEqual(expected);
  });
});

describe('14-streaming', () => {
  it('reads and sends many frames on one socket, leaves early, and makes a Node stream of a lease', async () => {
    expect(await linesOf('14-streaming', OWN_SERVER)).toEqual([
      'read 10000 rows',
      'stored 10000',
      'sockets so far: 1',
      'after a break: Echo: hello',
      'Echo: one, Echo: two, Echo: three',
    ]);
  });
});

describe('15-subscription', () => {
  it('hears every price, and comes back when the line has died without a word', async () => {
    expectLines(await linesOf('15-subscription', OWN_SERVER), [
      /^prices: 1.00, 1.01$/,
      /^Echo: hello$/,
      /^lost: ERR_HEARTBEAT\. /,
      /^restored$/,
      /^prices: 1.00, 1.01, 1.02$/,
    ]);
  });
});

/** Each line must match its pattern. */
function expectLines(lines: readonly string[], patterns: readonly RegExp[]): void {
  expect(lines).toEqual(patterns.map((pattern) => expect.stringMatching(pattern)));
}

/** PING, SET, GET, DEL and an error for the rest, in RESP2. */
function standInRedis(): (socket: net.Socket) => void {
  const values = new Map<string, string>();
  const bulk = (value: string | undefined): string =>
    value === undefined ? '$-1\r\n' : `$${Buffer.byteLength(value)}\r\n${value}\r\n`;
  const answer = ([command, key = '', value = '']: readonly string[]): string => {
    switch (command) {
      case 'PING':
        return '+PONG\r\n';
      case 'SET':
        values.set(key, value);
        return '+OK\r\n';
      case 'GET':
        return bulk(values.get(key));
      case 'DEL':
        return `:${values.delete(key) ? 1 : 0}\r\n`;
      default:
        return `-ERR unknown command '${command}'\r\n`;
    }
  };
  return (socket) => {
    let text = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      text += chunk;
      for (let command = parse(); command !== undefined; command = parse()) socket.write(answer(command));
    });
    const parse = (): string[] | undefined => {
      const head = /^\*(\d+)\r\n/.exec(text);
      if (head === null) return undefined;
      const parts: string[] = [];
      let at = head[0].length;
      while (parts.length < Number(head[1])) {
        const size = /^\$(\d+)\r\n/.exec(text.slice(at));
        if (size === null) return undefined;
        const from = at + size[0].length;
        at = from + Number(size[1]) + 2;
        if (text.length < at) return undefined;
        parts.push(text.slice(from, at - 2));
      }
      text = text.slice(at);
      return parts;
    };
  };
}

describe.concurrent('npm run demo', () => {
  const demo = ['scripts/demo.mjs'];

  it('plays its story on a pipe: plain lines, a summary, no mixed up reply, and an end by itself', async () => {
    const { status, stdout, stderr } = await runNode([...demo, '--seconds', '8']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).not.toContain('\x1b');
    for (const scene of ['steady', 'quiet', 'mute', 'busy', 'killed', 'revived']) {
      expect(stdout).toMatch(new RegExp(`^ +\\d+\\.\\ds ${scene}: `, 'm'));
    }
    expect(stdout).toMatch(
      /^ {2}\d\.\ds \w+ +total=\d\/8 idle=\d leased=\d dialing=\d waiting=\d+ {2}\d+ req\/s {2}errors: /m,
    );
    expect(stdout).toMatch(/^ {2}requests served +[1-9]/m);
    expect(stdout).toMatch(/^ {2}mismatched +0:/m);
    expect(stdout).toMatch(/^ {4}ERR_CONNECTION_LOST +\d+ {2}/m);
    expect(stdout).toMatch(/^ {4}ERR_ACQUIRE_FAILED +\d+ .*ERR_REFUSED/m);
    expect(stdout).toMatch(/^ {2}healed +first reply [\d.]+ m?s after/m);
    expect(stdout).toMatch(/^ {2}dials while down.*none came early$/m);
    expect(stdout).toMatch(/^ {2}sockets closed .*heartbeat [1-9]/m);
    expect(stdout).toMatch(/^ {2}left behind +nothing/m);
  });

  it('ends early and in order on Ctrl-C', async () => {
    const running = startNode(demo);
    await running.printed(/1\.\ds steady +total/);
    running.child.kill('SIGINT');
    const { status, signal, stdout } = await running.ended;
    expect({ status, signal }).toEqual({ status: 130, signal: null });
    expect(stdout).toMatch(/^Ended early\. summary$/m);
    expect(stdout).toMatch(/^ {2}left behind +nothing/m);
  });

  it('drives a line server of the user’s', async () => {
    const { server, env } = await echo();
    const args = ['--port', env.PORT, '--seconds', '2', '--callers', '5', '--max', '3'];
    const { status, stdout } = await runNode([...demo, ...args]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/sends lines of text that end with LF to 127\.0\.0\.1:\d+:/);
    expect(stdout).toMatch(/^ {2}mismatched +0:/m);
    expect(stdout).toMatch(/^ {2}failed +none$/m);
    expect(server.accepted).toBeLessThanOrEqual(3);
  });

  it.each(['length-prefixed', 'raw-line'])(
    'drives a server that echoes bytes with the codec %s',
    async (codec) => {
      const { PORT } = await serve((socket) => socket.pipe(socket));
      const { status, stdout } = await runNode([...demo, '--port', PORT, '--codec', codec, '--seconds', '2']);
      expect(status).toBe(0);
      expect(stdout).toMatch(/^ {2}requests served +[1-9]/m);
      expect(stdout).toMatch(/^ {2}failed +none$/m);
    },
  );

  it('fails when a server gives one caller the reply of another', async () => {
    const { server, env } = await echo();
    let previous = 'pulsepool pp-0-0';
    server.onLine = (line, socket) => {
      socket.write(`${previous}\n`);
      previous = line;
    };
    const { status, stdout } = await runNode([...demo, '--port', env.PORT, '--seconds', '1']);
    expect(status).toBe(1);
    expect(stdout).toMatch(/^ {2}mismatched +[1-9]\d*: .*asked 'pulsepool pp-/m);
  });

  it('tells the story of a server that can’t be reached', async () => {
    const { status, stderr } = await runNode([...demo, '--host', '127.0.0.1', '--port', await closedPort()]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^ERR_REFUSED: Could not connect to 127\.0\.0\.1:\d+/m);
    expect(stderr).toMatch(/^What to do: Nothing listens there/m);
  });

  it('fails when a server accepts but answers nothing', async () => {
    const { PORT } = await serve((socket) => socket.once('data', () => socket.destroy()));
    const { status, stderr } = await runNode([...demo, '--port', PORT, '--seconds', '1']);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^Not one request was answered.*\nERR_[A-Z_]+: .*\nWhat to do: /m);
  });

  it('prints its help', async () => {
    const { status, stdout } = await runNode([...demo, '--help']);
    expect(status).toBe(0);
    for (const option of ['--host', '--port', '--codec', '--tls', '--seconds', '--callers', '--max']) {
      expect(stdout).toContain(option);
    }
  });

  it.each([
    [['--speed', '4'], "Unknown option '--speed'"],
    [['--port', '70000'], "--port must be a whole number from 1 to 65535, got '70000'"],
    [['--port', '7000', '--codec', 'xml'], '--codec must be one of lines, length-prefixed, raw-line'],
    [['--host', 'example.org'], 'say its --port'],
    [['--seconds', '2'], '--seconds must be a whole number from 5'],
  ])('refuses %j', async (args, message) => {
    const { status, stderr } = await runNode([...demo, ...args]);
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });
});

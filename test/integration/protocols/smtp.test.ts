/**
 * The SMTP codec of the examples against OpenSMTPD.
 */
import type { Pool, PoolOptions } from 'pulsepool';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  greet,
  heartbeat,
  type Message,
  quit,
  type Reply,
  sendMail,
  smtp,
} from '../../../examples/protocols/smtp.mjs';
import { openClient } from '../support/clients.ts';
import { describeWithServers, type SmtpServer, startSmtp } from '../support/containers.ts';
import { type Diary, openPool, until } from '../support/pools.ts';

let server: SmtpServer;

function open(options: Partial<PoolOptions<Message, Reply>> = {}): {
  pool: Pool<Message, Reply>;
  diary: Diary;
} {
  return openPool<Message, Reply>({
    host: server.host,
    port: server.port,
    codec: smtp(),
    onConnect: greet('client.example'),
    max: 1,
    ...options,
  });
}

const FROM = 'alice@client.example';
const TO = ['bob@example.test'];

describeWithServers('the SMTP codec', () => {
  beforeAll(async () => {
    server = await startSmtp();
  });
  afterAll(() => server?.stop());

  test('delivers mails over one socket, dots and line ends as they were written', async () => {
    const { pool, diary } = open();
    const bodies = [
      '.',
      '..',
      '.hidden\n..twice\nand.\n.',
      'a\n\n.\n\nb',
      `${'x'.repeat(900)}\n`.repeat(200),
    ];
    for (const [number, body] of bodies.entries()) {
      const text = `Subject: ${number}\n\n<<${number}\n${body}\n${number}>>\n`;
      const { code } = await pool.use((lease) => sendMail(lease, { from: FROM, to: TO, text }));
      expect(code).toBe(250);
    }
    expect(pool.stats()).toMatchObject({ opened: 1, closed: 0 });
    let delivered = '';
    await until(async () => {
      delivered = await server.delivered();
      return bodies.every((_, number) => delivered.includes(`${number}>>\n`));
    }, 'all mails are delivered');
    for (const [number, body] of bodies.entries()) {
      expect(delivered).toContain(`<<${number}\n${body}\n${number}>>\n`);
    }
    expect(diary.of('closed')).toEqual([]);
  });

  test('takes a reply of many lines for one', async () => {
    const { pool } = open({ onConnect: async (lease) => void (await lease.receive()) });
    const reply = await pool.request('EHLO client.example');
    expect(reply.code).toBe(250);
    expect(reply.lines.length).toBeGreaterThan(3);
    expect(reply.lines[0]).toMatch(/^mail\.example\.test Hello client\.example/);
    expect(reply.lines).toContain('8BITMIME');
    expect(await pool.request('NOOP')).toMatchObject({ code: 250, lines: [expect.any(String)] });
  });

  test('tells why a mail was refused, and the next one goes over a socket that knows nothing of it', async () => {
    const { pool, diary } = open();
    const refused = pool.use((lease) => sendMail(lease, { from: FROM, to: ['eve@other.test'], text: 'x' }));
    await expect(refused).rejects.toThrow(/^RCPT TO:<eve@other\.test> was answered with 550 /);
    const { code } = await pool.use((lease) =>
      sendMail(lease, { from: FROM, to: TO, text: 'Subject: y\n\ny' }),
    );
    expect(code).toBe(250);
    expect(diary.reasons).toEqual(['failed']);
  });

  test('gives each socket to one caller at a time, since OpenSMTPD ends one that is told two things at once', async () => {
    const { pool } = open();
    const replies = await Promise.all(Array.from({ length: 50 }, () => pool.request('NOOP')));
    expect(replies.map(({ code }) => code)).toEqual(replies.map(() => 250));
    await pool.use(async (lease) => {
      // A text, because that goes out as one write of several lines.
      await lease.send({ text: 'NOOP\nNOOP\n' });
      const told: Reply[] = [];
      const hear = async (): Promise<void> => {
        for await (const reply of lease) told.push(reply);
      };
      await expect(hear()).rejects.toMatchObject({ code: 'ERR_CONNECTION_LOST' });
      expect(told.at(-1)).toMatchObject({
        code: 500,
        lines: [expect.stringMatching(/Pipelining not supported/)],
      });
    });
  });

  test('sends NOOP, which 250 answers', async () => {
    const { pool, diary } = open({
      min: 2,
      max: 2,
      heartbeat: { ...heartbeat, intervalMs: 50, timeoutMs: 1_000 },
    });
    await pool.ready();
    await diary.has('pinged', 6);
    expect(pool.stats()).toMatchObject({ pingMissed: 0, closed: 0 });
  });

  test('says QUIT to the server before it closes a socket, and waits for its answer', async () => {
    let goodbyes = 0;
    const { pool, diary } = open({
      min: 2,
      max: 2,
      onClose: async (lease, context) => {
        await quit(lease, context);
        goodbyes += 1;
      },
    });
    await pool.ready();
    await until(() => pool.stats().idle === 2, 'both are at rest');
    await pool.close();
    expect(goodbyes).toBe(2);
    expect(diary.of('hookFailed')).toEqual([]);
    expect(diary.reasons).toEqual(['shutdown', 'shutdown']);
  });

  test('without a handshake that reads the greeting loses each socket to it', async () => {
    const { diary } = openPool<Message, Reply>({
      host: server.host,
      port: server.port,
      codec: smtp(),
      min: 1,
    });
    await diary.has('closed', 1);
    expect(diary.reasons[0]).toBe('unsolicited');
  });

  test('refuses a command of two lines, and sends nothing of it', async () => {
    const { pool, diary } = open();
    const call = pool.request('MAIL FROM:<a@b.example>\r\nRCPT TO:<eve@other.test>');
    await expect(call).rejects.toMatchObject({ code: 'ERR_FRAME', sent: 'none' });
    expect(await pool.request('NOOP')).toMatchObject({ code: 250 });
    expect(diary.of('closed')).toEqual([]);
  });

  test('serves callers one at a time on each socket, and a mail over a lease of the same pool', async () => {
    const { client, diary } = openClient<Message, Reply>({
      host: server.host,
      port: server.port,
      codec: smtp(),
      onConnect: greet('client.example'),
      onClose: quit,
      heartbeat,
      mode: 'exclusive',
      max: 3,
    });
    const [, ...replies] = await Promise.all([
      client.pool.use((lease) => sendMail(lease, { from: FROM, to: TO, text: 'Subject: z\n\nz' })),
      ...Array.from({ length: 60 }, () => client.request('NOOP')),
    ]);
    expect(replies.map(({ code }) => code)).toEqual(replies.map(() => 250));
    await client.close();
    expect(diary.of('hookFailed')).toEqual([]);
    expect(new Set(diary.reasons)).toEqual(new Set(['shutdown']));
  });
});

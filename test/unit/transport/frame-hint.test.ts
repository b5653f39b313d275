import { describe, expect, it } from 'vitest';
import { hintForBinary, hintFromHead } from '../../../src/transport/frame-hint.ts';

describe('the hint from the first bytes', () => {
  it.each([
    ['a TLS alert', Buffer.from('15030300020246', 'hex'), 'TLS'],
    ['a TLS handshake', Buffer.from('1603010200010001fc0303', 'hex'), 'TLS'],
    ['an HTTP answer', Buffer.from('HTTP/1.1 400 Bad Request\r\n'), 'HTTP'],
    ['an HTML page', Buffer.from('<!DOCTYPE html>'), 'HTTP'],
    ['HTTP/2 settings', Buffer.from('00001204000000000000', 'hex'), 'HTTP/2'],
    ['an SSH banner', Buffer.from('SSH-2.0-OpenSSH_9.6\r\n'), 'SSH'],
    ['an SMTP greeting', Buffer.from('220 mail.example.org ESMTP'), 'SMTP or FTP'],
    ['an FTP greeting of several lines', Buffer.from('220-Welcome'), 'SMTP or FTP'],
    ['a Redis error', Buffer.from("-ERR unknown command 'x'\r\n"), 'Redis'],
    ['a Redis that wants a password', Buffer.from('-NOAUTH Authentication required.\r\n'), 'password'],
    ['a POP3 greeting', Buffer.from('+OK ready\r\n'), 'POP3'],
    ['an IMAP greeting', Buffer.from('* OK IMAP4rev1 ready'), 'IMAP'],
    ['an AMQP version', Buffer.from('AMQP\0\0\x09\x01', 'latin1'), 'AMQP'],
    ['a MySQL greeting', Buffer.from('\x4a\0\0\0\x0a8.0.36\0', 'latin1'), 'MySQL'],
    ['a PostgreSQL error', Buffer.from('E\0\0\0\x8bSFATAL\0', 'latin1'), 'PostgreSQL'],
  ])('knows %s', (_, head, word) => {
    expect(hintFromHead(head)).toContain(word);
    expect(hintForBinary(head)).toBe(hintFromHead(head));
  });

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['one byte', Buffer.from([0x16])],
    ['a length and a payload', Buffer.from('0000000548454c4c4f', 'hex')],
    ['a TLS type with another version', Buffer.from('160400', 'hex')],
    ['some text', Buffer.from('hello world')],
  ])('says nothing about %s', (_, head) => {
    expect(hintFromHead(head)).toBeUndefined();
  });

  it('finds any text suspicious where binary is expected', () => {
    expect(hintForBinary(Buffer.from('hello\r\n'))).toContain('text');
    expect(hintForBinary(Buffer.from('\0ello'))).toBeUndefined();
    expect(hintForBinary(Buffer.from('abc'))).toBeUndefined();
  });
});

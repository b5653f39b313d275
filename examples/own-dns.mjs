/**
 * The name servers of the examples: A and SRV records over UDP on loopback, which the example changes as it goes. No part
 * of how to use pulsepool.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

/**
 * Addresses, or services.
 *
 * @typedef {readonly string[] | readonly { target: string, port: number, priority?: number, weight?: number }[]} Records
 */

const A = 1;
const SRV = 33;
const NAME_ERROR = 3;
// pulsepool takes a shorter one for 5 s as well.
const TTL_SECONDS = 5;

/**
 * @param {Record<string, Records>} records of each name; the example may change them
 * @returns {Promise<{ address: string, records: Record<string, Records>, asked: () => number, close: () => void }>}
 */
export async function startDns(records) {
  const socket = createSocket('udp4');
  let asked = 0;
  socket.on('message', (question, from) => {
    asked += 1;
    socket.send(answer(question, records), from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const address = `127.0.0.1:${socket.address().port}`;
  return { address, records, asked: () => asked, close: () => socket.close() };
}

/** @param {Buffer} question @param {Record<string, Records>} records */
function answer(question, records) {
  const labels = [];
  let end = 12;
  for (let size = question.readUInt8(end); size > 0; size = question.readUInt8(end)) {
    labels.push(question.toString('latin1', end + 1, end + 1 + size));
    end += size + 1;
  }
  const known = records[labels.join('.').toLowerCase()];
  const type = question.readUInt16BE(end + 1);
  // Nothing of another type, such as AAAA: an empty answer, which is not the same as "no such name".
  const found = (known ?? []).map(encoded).filter((record) => record.readUInt16BE(2) === type);
  const head = Buffer.alloc(12);
  question.copy(head, 0, 0, 2);
  head.writeUInt16BE(0x8180 | (known === undefined ? NAME_ERROR : 0), 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(found.length, 6);
  return Buffer.concat([head, question.subarray(12, end + 5), ...found]);
}

/** @param {Records[number]} record */
function encoded(record) {
  const data = typeof record === 'string' ? Buffer.from(record.split('.').map(Number)) : service(record);
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xc00c, 0); // a pointer to the name in the question
  head.writeUInt16BE(typeof record === 'string' ? A : SRV, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(TTL_SECONDS, 6);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}

/** @param {Exclude<Records[number], string>} record */
function service({ target, port, priority = 0, weight = 1 }) {
  const labels = target
    .split('.')
    .map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`));
  const numbers = Buffer.alloc(6);
  numbers.writeUInt16BE(priority, 0);
  numbers.writeUInt16BE(weight, 2);
  numbers.writeUInt16BE(port, 4);
  return Buffer.concat([numbers, ...labels, Buffer.alloc(1)]);
}

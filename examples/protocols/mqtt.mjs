/**
 * MQTT 3.1.1 as mqtt-packet reads and writes it, the parser of mqtt.js and Aedes. Messages and frames are its packets.
 *
 *     createClient({ host, port: 1883, codec: mqtt(), onConnect: connect({ keepalive: 60 }), heartbeat,
 *       mode: 'multiplexed', correlate })
 *     await client.request(publish('lamp/3', 'on')); // { cmd: 'puback', … }
 *
 * Where a packet ends is told by its head, so that the codec keeps nothing and the pool bounds what waits. The broker
 * hangs up after one and a half `keepalive` without a packet: heartbeats must come more often.
 */
import mqttPacket from 'mqtt-packet';

/** @import { Packet } from 'mqtt-packet' */
/** @import { ByteQueue, Codec, HandshakeContext, HeartbeatOptions, Lease } from 'pulsepool' */

/** @typedef {(lease: Lease<Packet, Packet>, context: HandshakeContext) => Promise<void>} OnConnect */

/** What a broker says to a client, and how many bytes it takes if that is always the same. */
const FROM_BROKER = new Map(
  Object.entries({
    connack: 4,
    puback: 4,
    pubrec: 4,
    pubrel: 4,
    pubcomp: 4,
    unsuback: 4,
    pingresp: 2,
    publish: 0,
    suback: 0,
  }),
);

/** @returns {Codec<Packet, Packet>} */
export function mqtt() {
  return {
    name: 'MQTT',
    encode(packet) {
      const bytes = mqttPacket.generate(packet);
      // mqtt-packet leaves out a number that two bytes can't hold, such as the 65,536th id.
      if (packetSize(bytes) !== bytes.length) throw new Error('an id or a text is too large for MQTT');
      return bytes;
    },
    decode(bytes) {
      const size = packetSize(bytes);
      if (size === undefined || bytes.length < size) return undefined;
      return parse(bytes.take(size));
    },
  };
}

/**
 * The first byte says what it is; then come one to four bytes with seven bits each of the length of the rest.
 *
 * @param {Pick<ByteQueue, 'at'>} bytes
 */
function packetSize(bytes) {
  let length = 0;
  for (let at = 1; at <= 4; at++) {
    const byte = bytes.at(at);
    if (byte === undefined) return undefined;
    length += (byte & 0x7f) * 128 ** (at - 1);
    // A zero at the end would be one byte too many.
    if (byte === 0 && at > 1) break;
    if (byte < 0x80) return 1 + at + length;
  }
  throw new Error('the length of a packet is not as short as it can be');
}

/**
 * @param {Buffer} bytes of one whole packet
 * @returns {Packet}
 */
function parse(bytes) {
  /** @type {Packet | undefined} */
  let packet;
  const parser = mqttPacket.parser();
  parser.on('packet', (parsed) => {
    packet = parsed;
  });
  parser.on('error', (error) => {
    throw error;
  });
  const left = parser.parse(bytes);
  const size = packet === undefined ? undefined : FROM_BROKER.get(packet.cmd);
  // mqtt-packet takes packets of a fixed size at any size, with -1 for an id that is missing.
  if (packet === undefined || left > 0 || (size !== 0 && size !== bytes.length)) {
    throw new Error(`not what a broker sends: ${bytes.toString('hex', 0, 16)}`);
  }
  return packet;
}

/**
 * An `onConnect`: logs in. Without a `clientId` the broker invents one, as it must for several sockets: a second client
 * of the same name would end the first.
 *
 * @param {{ keepalive?: number, username?: string, password?: Buffer, clientId?: string }} [options] `keepalive` in
 *   seconds; 0, which is the default: none
 * @returns {OnConnect}
 */
export function connect({ keepalive = 0, clientId = '', ...login } = {}) {
  return async (lease, { signal }) => {
    const reply = await lease.request(
      { cmd: 'connect', clean: true, keepalive, clientId, ...login },
      { signal },
    );
    if (reply.cmd !== 'connack' || reply.returnCode !== 0) {
      throw new Error(`CONNECT was answered with ${JSON.stringify(reply)}`);
    }
  };
}

/**
 * A PUBLISH of QoS 1, which a PUBACK answers.
 *
 * @param {string} topic
 * @param {string | Buffer} payload
 * @returns {Packet}
 */
export function publish(topic, payload) {
  return { cmd: 'publish', topic, payload, qos: 1, messageId: 1, dup: false, retain: false };
}

/** @type {HeartbeatOptions<Packet, Packet>} */
export const heartbeat = { ping: { cmd: 'pingreq' }, isPong: ({ cmd }) => cmd === 'pingresp' };

const ANSWERS = new Set(['puback', 'suback', 'unsuback']);

/** Which PUBACK, SUBACK or UNSUBACK is whose. A PUBLISH from the broker has a number too, which is the broker's own. */
export const correlate = {
  /** @type {(packet: Packet, id: number) => Packet} */
  write: (packet, id) => ({ ...packet, messageId: id }),
  /** @type {(packet: Packet) => number | undefined} */
  read: ({ cmd, messageId }) => (ANSWERS.has(cmd) ? messageId : undefined),
  maxId: 0xffff,
};

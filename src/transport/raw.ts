/**
 * The raw codec: no framing. What has come is handed on, cut wherever the network cut it.
 *
 * For protocols that the caller parses, and for tunnels. Nothing tells where a reply ends, so a lease that has
 * written goes back to the pool only once its owner says that the socket is clean.
 */
import type { Codec } from './codec.ts';
import { messageBytes } from './frame-hint.ts';

/** Bytes as they come. Messages are not copied: don't change them before they are written. */
export function raw(): Codec<Uint8Array | string, Buffer> {
  return {
    name: 'raw',
    framed: false,

    encode(message) {
      return messageBytes('raw', message);
    },

    decode(bytes) {
      return bytes.length === 0 ? undefined : bytes.takeAll();
    },
  };
}

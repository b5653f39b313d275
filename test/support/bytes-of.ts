/** What a codec has encoded, as it goes over the wire. */
import type { EncodedFrame } from 'pulsepool';

export function bytesOf(encoded: EncodedFrame): Buffer {
  if (typeof encoded === 'string') return Buffer.from(encoded);
  return encoded instanceof Uint8Array ? Buffer.from(encoded) : Buffer.concat(encoded);
}

/**
 * A literal IP address. Names, ports and sockets are left to others.
 */
import { isIP, SocketAddress } from 'node:net';

/** A literal IP address. IPv6 stands in its canonical form, without brackets. */
export interface Address {
  readonly address: string;
  readonly family: 4 | 6;
}

/** The address that the text is; none for a name. A zone (`fe80::1%eth0`) is kept. */
export function parseAddress(text: string): Address | undefined {
  const family = isIP(text);
  if (family === 4) return { address: text, family };
  if (family !== 6) return undefined;
  // One address can be written in many ways, and sets compare them as text.
  const [host = '', zone] = text.split('%');
  const { address } = new SocketAddress({ address: host, family: 'ipv6' });
  return { address: zone === undefined ? address : `${address}%${zone}`, family };
}

/** Whether the text is an address, not a name. */
export function isLiteral(text: string): boolean {
  return isIP(text) !== 0;
}

/** The addresses of one family: of the one that is preferred, or of the other if there are none. */
export function ofOneFamily(addresses: readonly Address[], preferred: 4 | 6): readonly Address[] {
  const found = addresses.filter(({ family }) => family === preferred);
  return found.length > 0 ? found : addresses;
}

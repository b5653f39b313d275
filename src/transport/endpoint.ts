/**
 * Where the server is: a host and port, or the path of a Unix socket. Resolving and dialing are elsewhere.
 */

/**
 * A TCP address or the path of a Unix socket.
 *
 * `host` is who the server is: the name that its certificate must hold and that logs show. `address` is where it is: a
 * literal IP, when whoever found the endpoint knows it.
 */
export type Endpoint =
  | {
      readonly kind: 'tcp';
      readonly host: string;
      readonly port: number;
      readonly address?: string | undefined;
    }
  | { readonly kind: 'unix'; readonly path: string };

/**
 * `host:port` or the path: the name used in errors, events and logs. With an address of its own it is
 * `host/10.0.0.3:7000`, as Java's InetSocketAddress prints itself. IPv6 stands in brackets.
 */
export function endpointName(endpoint: Endpoint): string {
  if (endpoint.kind === 'unix') return endpoint.path;
  const { address, host, port } = endpoint;
  const at = address === undefined || address === host ? '' : `/${bracketed(address)}`;
  return `${bracketed(host)}${at}:${port}`;
}

/** The name of an endpoint with the address that was dialed: `orders:7000 (10.0.0.3)`; as it is, if it says so itself. */
export function withAddress(name: string, address: string | undefined): string {
  if (address === undefined) return name;
  const host = name.slice(name.lastIndexOf('/') + 1, Math.max(0, name.lastIndexOf(':')));
  return host === bracketed(address) ? name : `${name} (${address})`;
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/**
 * Where the server is: a host and port, or the path of a Unix socket. Resolving and dialing are elsewhere.
 */

/** A TCP address or the path of a Unix socket. */
export type Endpoint =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** `host:port` (IPv6 in brackets) or the path: the name used in errors, events and logs. */
export function endpointName(endpoint: Endpoint): string {
  if (endpoint.kind === 'unix') return endpoint.path;
  const host = endpoint.host.includes(':') ? `[${endpoint.host}]` : endpoint.host;
  return `${host}:${endpoint.port}`;
}

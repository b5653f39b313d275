/**
 * An endpoint as users write it, made into one that the rest understands. Where such lists come from is left to others.
 */
import { checkInteger, checkKeys, invalidOption } from '../option-check.ts';
import { isLiteral, parseAddress } from './address.ts';

/** An endpoint that a source has found. */
export interface FoundEndpoint {
  /** Who it is: the name that its certificate must hold, and that logs show. An address where there is no name. */
  readonly host: string;
  readonly port: number;
  /** Where it is, a literal IP, when the source knows it; otherwise `host` is resolved for each dial. */
  readonly address: string | undefined;
  /** Its share among those of its tier; more than 0. */
  readonly weight: number;
  /** Those of tier 0 are used first. */
  readonly tier: number;
  readonly zone: string | undefined;
}

/** An endpoint: `'host:port'`, `'[::1]:7000'`, or an object. */
export type GivenEndpoint =
  | string
  | {
      /** A name or an address, without brackets. */
      readonly host: string;
      readonly port: number;
      /** Its share among the endpoints of its tier. Default: 1. */
      readonly weight?: number | undefined;
      /** Those of the next tier are used when this one can't serve. Default: 0, the first. */
      readonly tier?: number | undefined;
      /** Where it runs, to be compared with the zone of this client. */
      readonly zone?: string | undefined;
      /** The literal IP to dial, when it is known; `host` stays the name that its certificate must hold. */
      readonly address?: string | undefined;
    };

const KEYS = ['host', 'port', 'weight', 'tier', 'zone', 'address'];

/**
 * @param where - names the value in messages: `endpoints[0]`
 * @throws PulsepoolError `ERR_INVALID_OPTION`
 */
export function parseGivenEndpoint(value: unknown, where: string): FoundEndpoint {
  if (typeof value === 'string') return parseText(value, where);
  checkKeys(`\`${where}\``, value, KEYS);
  const { address, host, port, tier = 0, weight = 1, zone } = value as Readonly<Record<string, unknown>>;
  if (typeof host !== 'string' || !isHost(host)) {
    throw invalidOption(`${where}.host`, 'be a host name or address', host);
  }
  if (typeof weight !== 'number' || !Number.isFinite(weight) || weight <= 0) {
    throw invalidOption(
      `${where}.weight`,
      'be a number above 0',
      weight,
      'Leave out what is to get nothing.',
    );
  }
  if (zone !== undefined && (typeof zone !== 'string' || zone === '')) {
    throw invalidOption(`${where}.zone`, 'be the name of a zone', zone);
  }
  if (address !== undefined && (typeof address !== 'string' || !isLiteral(address))) {
    throw invalidOption(`${where}.address`, 'be a literal IP address', address, 'A name belongs in `host`.');
  }
  return {
    host,
    port: checkInteger(`${where}.port`, port, { min: 1, max: 65_535 }),
    address: address ?? parseAddress(host)?.address,
    weight,
    tier: checkInteger(`${where}.tier`, tier, { min: 0 }),
    zone,
  };
}

/** Two of the same are one: `orders/10.0.0.3:7000`. */
export function endpointKey({ address, host, port }: FoundEndpoint): string {
  return `${host}/${address ?? ''}:${port}`;
}

function parseText(text: string, where: string): FoundEndpoint {
  const [, v6, name, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = v6 ?? name ?? '';
  const port = Number(digits);
  const isFit = v6 === undefined ? isHost(host) : parseAddress(v6)?.family === 6;
  if (!isFit || !(port >= 1 && port <= 65_535)) {
    throw invalidOption(where, "be 'host:port', '[address]:port' for IPv6, or an object", text);
  }
  return { host, port, address: parseAddress(host)?.address, weight: 1, tier: 0, zone: undefined };
}

/** Whether it may be a name or an address. A colon is of an address; brackets, slashes and spaces are of neither. */
function isHost(host: string): boolean {
  return host !== '' && !/[\s[\]/@]/.test(host) && (!host.includes(':') || isLiteral(host));
}

/**
 * Certificates for tests, made in memory: a CA, what it has signed, and a CA that nobody trusts.
 *
 * Node can make keys and signatures but no certificates, and a machine may have no openssl, so the few
 * structures of X.509 that are needed are written here. It knows EC keys and the extensions that servers and
 * clients check; it leaves revocation and intermediate CAs to others.
 */
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

/** A certificate and its private key, both PEM, as `node:tls` takes them. */
export interface Identity {
  readonly cert: string;
  readonly key: string;
}

export interface Certificates {
  /** The CA that has signed all but {@link Certificates.unrelated}. PEM. */
  readonly ca: string;
  /** For a server: valid for `localhost`, `127.0.0.1` and `::1`. */
  readonly server: Identity;
  /** For a server: valid for `elsewhere.test` only, so that a client who asked for another name must refuse. */
  readonly elsewhere: Identity;
  /** For a server: as {@link Certificates.server}, but it ended yesterday. */
  readonly expired: Identity;
  /** For a client: its common name is `client`. */
  readonly client: Identity;
  /** A second CA with a server and a client of its own. Nobody has a reason to trust it. */
  readonly unrelated: { readonly ca: string; readonly server: Identity; readonly client: Identity };
}

/** New keys and certificates. Takes some milliseconds. */
export function makeCertificates(): Certificates {
  const ca = makeAuthority('pulsepool test CA');
  const unrelated = makeAuthority('unrelated test CA');
  const names = ['localhost', '127.0.0.1', '::1'];
  return {
    ca: ca.cert,
    server: ca.issue({ name: 'localhost', role: 'server', alternatives: names }),
    elsewhere: ca.issue({ name: 'elsewhere.test', role: 'server', alternatives: ['elsewhere.test'] }),
    expired: ca.issue({ name: 'localhost', role: 'server', alternatives: names, endsInDays: -1 }),
    client: ca.issue({ name: 'client', role: 'client' }),
    unrelated: {
      ca: unrelated.cert,
      server: unrelated.issue({ name: 'localhost', role: 'server', alternatives: names }),
      client: unrelated.issue({ name: 'stranger', role: 'client' }),
    },
  };
}

interface Request {
  name: string;
  role: 'server' | 'client' | 'authority';
  /** DNS names and IP addresses. */
  alternatives?: readonly string[];
  endsInDays?: number;
}

interface Authority {
  cert: string;
  issue(request: Request): Identity;
}

function makeAuthority(name: string): Authority {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issue = (request: Request, subject: { publicKey: KeyObject }) =>
    certificate(request, subject.publicKey, name, keys);
  return {
    cert: issue({ name, role: 'authority' }, keys),
    issue(request) {
      const subject = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      return {
        cert: issue(request, subject),
        key: subject.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      };
    },
  };
}

const ECDSA_WITH_SHA256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const COMMON_NAME = [0x55, 0x04, 0x03];
const SUBJECT_KEY_IDENTIFIER = [0x55, 0x1d, 0x0e];
const KEY_USAGE = [0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME = [0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS = [0x55, 0x1d, 0x13];
const AUTHORITY_KEY_IDENTIFIER = [0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE = [0x55, 0x1d, 0x25];
const SERVER_AUTH = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/** The certificate of RFC 5280, section 4.1, as PEM. */
function certificate(
  request: Request,
  publicKey: KeyObject,
  issuer: string,
  issuerKeys: { publicKey: KeyObject; privateKey: KeyObject },
): string {
  const identifiers = [
    sequence(oid(SUBJECT_KEY_IDENTIFIER), der(0x04, der(0x04, keyIdentifier(publicKey)))),
    sequence(
      oid(AUTHORITY_KEY_IDENTIFIER),
      der(0x04, sequence(der(0x80, keyIdentifier(issuerKeys.publicKey)))),
    ),
  ];
  const algorithm = sequence(oid(ECDSA_WITH_SHA256));
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), // version 3
    // 0x40 in front keeps the serial number positive and free of a leading zero byte.
    der(0x02, Buffer.concat([Buffer.from([0x40]), randomBytes(15)])),
    algorithm,
    distinguishedName(issuer),
    // An expired certificate needs a day on which it was valid, too.
    sequence(utcTime(-30), utcTime(request.endsInDays ?? 30)),
    distinguishedName(request.name),
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions(request), ...identifiers)),
  );
  const signature = sign('sha256', body, issuerKeys.privateKey);
  const whole = sequence(body, algorithm, bitString(0, signature)).toString('base64');
  return `-----BEGIN CERTIFICATE-----\n${whole.replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`;
}

function extensions(request: Request): Buffer[] {
  const critical = der(0x01, Buffer.from([0xff]));
  const extension = (id: number[], value: Buffer) => sequence(oid(id), critical, der(0x04, value));
  if (request.role === 'authority') {
    return [
      extension(BASIC_CONSTRAINTS, sequence(critical)), // CA: true
      extension(KEY_USAGE, bitString(1, Buffer.from([0b0000_0110]))), // keyCertSign, cRLSign
    ];
  }
  const made = [
    extension(KEY_USAGE, bitString(7, Buffer.from([0b1000_0000]))), // digitalSignature
    extension(EXTENDED_KEY_USAGE, sequence(oid(request.role === 'server' ? SERVER_AUTH : CLIENT_AUTH))),
  ];
  const names = (request.alternatives ?? []).map(alternativeName);
  // Not critical: a critical one is for certificates without a subject.
  if (names.length > 0) made.push(sequence(oid(SUBJECT_ALT_NAME), der(0x04, sequence(...names))));
  return made;
}

/** Only a name to find the issuer's key by. */
function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest();
}

function alternativeName(name: string): Buffer {
  if (name === '::1') return der(0x87, Buffer.from([...Array<number>(15).fill(0), 1]));
  if (/^\d+(\.\d+){3}$/.test(name)) return der(0x87, Buffer.from(name.split('.').map(Number)));
  return der(0x82, Buffer.from(name));
}

function distinguishedName(commonName: string): Buffer {
  return sequence(der(0x31, sequence(oid(COMMON_NAME), der(0x0c, Buffer.from(commonName)))));
}

/** Seconds precision, two digits of the year: right until 2049, as RFC 5280 wants it. */
function utcTime(inDays: number): Buffer {
  const iso = new Date(Date.now() + inDays * 86_400_000).toISOString();
  return der(0x17, Buffer.from(`${iso.slice(2, 19).replace(/[-:T]/g, '')}Z`));
}

function bitString(unusedBits: number, bytes: Buffer): Buffer {
  return der(0x03, Buffer.concat([Buffer.from([unusedBits]), bytes]));
}

function sequence(...parts: Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts));
}

function oid(encoded: number[]): Buffer {
  return der(0x06, Buffer.from(encoded));
}

/** Tag, length, value: a length from 128 on is written as a count of length bytes, then those. */
function der(tag: number, value: Buffer): Buffer {
  const { length } = value;
  const head =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...head]), value]);
}

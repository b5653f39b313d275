import type { Duplex } from 'node:stream';
import { describe, expectTypeOf, it } from 'vitest';
import {
  type AcquireError,
  type CloseReport,
  type Codec,
  createPool,
  delimited,
  type ErrorCode,
  type Lease,
  lengthPrefixed,
  lines,
  type Pool,
  PulsepoolError,
  raw,
} from '../../src/index.ts';

const at = { host: 'localhost', port: 7000 };

describe('createPool', () => {
  it('takes its message types from the codec', () => {
    expectTypeOf(createPool({ ...at, codec: lines() })).toEqualTypeOf<Pool<string, string>>();
    expectTypeOf(createPool({ ...at, codec: raw() })).toEqualTypeOf<Pool<Uint8Array | string, Buffer>>();
    expectTypeOf(createPool({ ...at, codec: lengthPrefixed() })).toEqualTypeOf<
      Pool<Uint8Array | string, Buffer>
    >();
    expectTypeOf(
      createPool({ ...at, codec: delimited({ delimiter: ';' }) }).request,
    ).returns.resolves.toEqualTypeOf<Buffer>();
  });

  it('takes a codec of one’s own, or a function that makes one for each connection', () => {
    interface Question {
      readonly id: number;
    }
    interface Answer {
      readonly value: string | null;
    }
    const codec: Codec<Question, Answer> = { encode: () => new Uint8Array(), decode: () => undefined };
    expectTypeOf(createPool({ ...at, codec })).toEqualTypeOf<Pool<Question, Answer>>();
    expectTypeOf(createPool({ ...at, codec: () => codec })).toEqualTypeOf<Pool<Question, Answer>>();
  });

  it('takes endpoints as a list, a name, SRV records, or a function that yields lists', () => {
    const codec = lines();
    createPool({
      codec,
      endpoints: ['a:1', { host: 'b', port: 1, weight: 2, tier: 1, zone: 'x' }],
      zone: 'x',
    });
    createPool({ codec, endpoints: { host: 'orders', port: 1 }, balance: 'round-robin' });
    createPool({ codec, endpoints: { srv: '_orders._tcp' }, dns: { resolvers: ['system', '10.0.0.2'] } });
    createPool({
      codec,
      async *endpoints(signal) {
        expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
        yield ['a:1'];
      },
    });
    // @ts-expect-error no such policy
    createPool({ codec, endpoints: ['a:1', 'b:1'], balance: 'random' });
    // @ts-expect-error a number is no endpoint
    createPool({ codec, endpoints: [7] });
  });

  it('types the heartbeat and the handshake by the codec', () => {
    createPool({
      ...at,
      codec: lines(),
      heartbeat: {
        ping: 'PING',
        isPong: (frame) => {
          expectTypeOf(frame).toEqualTypeOf<string>();
          return true;
        },
      },
      onConnect: async (lease, { signal }) => {
        expectTypeOf(lease).toEqualTypeOf<Lease<string, string>>();
        expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
      },
    });
    // @ts-expect-error a ping of the wrong type
    createPool({ ...at, codec: lines(), heartbeat: { ping: 1, isPong: () => true } });
  });

  it('refuses unknown options and a missing codec', () => {
    // @ts-expect-error no codec
    createPool(at);
    // @ts-expect-error unknown option
    createPool({ ...at, codec: lines(), maxSockets: 3 });
  });
});

describe('a pool', () => {
  const pool = createPool({ ...at, codec: lines() });

  it('lends leases that are typed alike', () => {
    expectTypeOf(pool.acquire).returns.resolves.toEqualTypeOf<Lease<string, string>>();
    expectTypeOf(pool.use(async (lease) => (await lease.receive()).length)).resolves.toEqualTypeOf<number>();
    expectTypeOf<Lease<string, string>['detach']>().returns.toExtend<Duplex>();
    expectTypeOf<Lease<string, string>>().toExtend<AsyncDisposable>();
  });

  it('types each event', () => {
    pool.on('closed', ({ reason, error }) => {
      expectTypeOf(reason).toExtend<string>();
      expectTypeOf(error).toEqualTypeOf<PulsepoolError | undefined>();
    });
    // @ts-expect-error no such event
    pool.on('nothing', () => undefined);
  });

  it('closes with a report', () => {
    expectTypeOf(pool.close).returns.resolves.toEqualTypeOf<CloseReport>();
    expectTypeOf<Pool<string, string>>().toExtend<AsyncDisposable>();
  });
});

describe('an error', () => {
  it('is told by its code', () => {
    expectTypeOf<PulsepoolError['code']>().toEqualTypeOf<ErrorCode>();
    expectTypeOf<AcquireError>().toExtend<PulsepoolError>();
    const error: unknown = undefined;
    if (error instanceof PulsepoolError && error.code === 'ERR_REFUSED') {
      expectTypeOf(error.retryable).toEqualTypeOf<boolean>();
      // @ts-expect-error no such code
      error.code === 'ERR_NONE';
    }
  });
});

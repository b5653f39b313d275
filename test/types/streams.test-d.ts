import type { Duplex } from 'node:stream';
import { describe, expectTypeOf, it } from 'vitest';
import { type ClientStream, type Codec, createClient, lines, type Subscription } from '../../src/index.ts';

declare const texts: AsyncIterable<string>;
declare const numbers: AsyncIterable<number>;

const at = { host: 'localhost', port: 7000 };

describe('streams', () => {
  it('are of the codec’s types', () => {
    const client = createClient({ ...at, codec: lines() });
    const stream = client.stream('DUMP', {
      isLast: (frame) => {
        expectTypeOf(frame).toEqualTypeOf<string>();
        return true;
      },
    });
    expectTypeOf(stream).toEqualTypeOf<ClientStream<string, string>>();
    expectTypeOf(stream).toExtend<AsyncIterable<string>>();
    expectTypeOf(client.withDeadline(1).stream).toEqualTypeOf<typeof client.stream>();
    expectTypeOf<Awaited<ReturnType<typeof client.pool.acquire>>['duplex']>().returns.toEqualTypeOf<Duplex>();
    client.stream(texts, { isLast: () => true });
    // @ts-expect-error nobody would know where it ends
    client.stream('DUMP', {});
    // @ts-expect-error a message of the wrong type
    client.stream(7, { isLast: () => true });
    // @ts-expect-error many messages of the wrong type
    client.stream(numbers, { isLast: () => true });
  });
});

describe('subscribe', () => {
  it('takes one message or an array of them', () => {
    const client = createClient({ ...at, codec: lines() });
    const subscription = client.subscribe('SUB', (frame) => expectTypeOf(frame).toEqualTypeOf<string>());
    expectTypeOf(subscription).toEqualTypeOf<Subscription<string, string>>();
    client.subscribe(['SUB a', 'SUB b'], () => undefined);
    // @ts-expect-error a message of the wrong type
    client.subscribe(7, () => undefined);
  });

  it('takes a message that is itself an array in an array only', () => {
    const codec: Codec<readonly string[], number> = {
      encode: () => new Uint8Array(),
      decode: () => undefined,
    };
    const client = createClient({ ...at, codec });
    client.subscribe([['SUB', 'a']], () => undefined);
    // @ts-expect-error it would be taken for two messages
    client.subscribe(['SUB', 'a'], () => undefined);
  });
});

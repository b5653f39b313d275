/**
 * Clients for the tests against real servers: a client that is closed when its test ends, and the diary of its pool.
 */
import { type Client, type ClientOptions, createClient } from 'pulsepool';
import { expect, onTestFinished } from 'vitest';
import { Diary } from './pools.ts';

/** A client and the diary of its pool. It is closed, by force if need be, when the test ends. */
export function openClient<In, Out>(
  options: ClientOptions<In, Out>,
): { client: Client<In, Out>; diary: Diary } {
  const client = createClient(options);
  const diary = new Diary(client.pool as never);
  onTestFinished(async () => {
    await client.close({ timeoutMs: 500 });
    expect(diary.broken).toEqual([]);
    expect(client.pool.stats().total).toBe(0);
  });
  return { client, diary };
}

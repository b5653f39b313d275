import { describe, expect, it } from 'vitest';
import { ConnectionError } from '../../../src/errors.ts';
import type { Lease } from '../../../src/pool/lease.ts';
import { type RequestParts, requestWithin } from '../../../src/pool/request.ts';
import { BUDGET_DEFAULTS, RetryBudget } from '../../../src/retry/budget.ts';
import { CountingHold } from '../../support/fake-net.ts';
import { VirtualClock } from '../../support/virtual-clock.ts';

/** A pool of which the test says how long each step takes; `told` are the steps. */
function setUp(steps: { readonly acquireMs?: number; readonly exchangeMs?: number }): {
  readonly parts: RequestParts<string, string>;
  readonly told: string[];
} {
  const clock = new VirtualClock();
  const told: string[] = [];
  const lease = {
    request: () => {
      told.push('request');
      clock.freeze(steps.exchangeMs ?? 0);
      return Promise.reject(
        new ConnectionError('ERR_CONNECTION_LOST', 'gone', {
          retryable: true,
          hint: '',
          sent: 'none',
          endpoint: 'fake:1',
          connectionId: 1,
        }),
      );
    },
    release: () => told.push('release'),
  } as unknown as Lease<string, string>;
  const parts = {
    checkKey: () => undefined,
    acquire: () => {
      told.push('acquire');
      clock.freeze(steps.acquireMs ?? 0);
      return Promise.resolve(lease);
    },
    closing: new AbortController().signal,
    endpoint: 'fake:1',
    retry: { retries: 3, baseMs: 100, capMs: 100 },
    clock,
    random: () => 0.5,
    hold: new CountingHold(),
    budget: new RetryBudget(BUDGET_DEFAULTS),
  };
  return { parts, told };
}

describe('a request whose deadline has passed', () => {
  it('is not tried again, even when nothing of it was sent', async () => {
    const { parts, told } = setUp({ exchangeMs: 60 });
    await expect(requestWithin('x', { timeoutMs: 50 }, parts)).rejects.toMatchObject({
      code: 'ERR_CONNECTION_LOST',
      sent: 'none',
    });
    expect(told).toEqual(['acquire', 'request', 'release']);
  });

  it('while it waited gives its socket back unused', async () => {
    const { parts, told } = setUp({ acquireMs: 60 });
    await expect(requestWithin('x', { timeoutMs: 50 }, parts)).rejects.toMatchObject({
      code: 'ERR_DEADLINE',
      sent: 'none',
      attempts: 1,
      phases: { acquireMs: 60, exchangeMs: 0, backoffMs: 0 },
    });
    expect(told).toEqual(['acquire', 'release']);
  });
});

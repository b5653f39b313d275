import { expect, it } from 'vitest';
import { Call } from '../../../src/client/call.ts';
import type { Carrier, CarrierOwner } from '../../../src/client/carrier.ts';
import type { ClientEvents } from '../../../src/client/client-events.ts';
import { ClientCounters } from '../../../src/client/client-stats.ts';
import { InOrder } from '../../../src/client/flights.ts';
import { Requests } from '../../../src/client/requests.ts';
import { Shared } from '../../../src/client/shared.ts';
import { PulsepoolError } from '../../../src/errors.ts';
import { Announcer } from '../../../src/pool/announcer.ts';
import { BUDGET_DEFAULTS, RetryBudget } from '../../../src/retry/budget.ts';
import { CountingHold } from '../../support/fake-net.ts';
import { watch } from '../../support/pool-world.ts';
import { settle, VirtualClock } from '../../support/virtual-clock.ts';

const COUNTS = { total: 0, idle: 0, leased: 0, dialing: 0, closing: 0, waiting: 0 };

it('a request that its carrier has forgotten is told when all has closed', async () => {
  const clock = new VirtualClock();
  const hold = new CountingHold();
  const forgetful: Carrier<string, string> = {
    waiting: 0,
    start: () => undefined,
    abandon: () => undefined,
    whyLate: () => undefined,
    canHedge: () => true,
  };
  const requests = new Requests<string, string>(
    {
      endpoint: 'fake:1',
      retry: { retries: 3, baseMs: 100, capMs: 100 },
      hasOthers: () => false,
      freeTries: () => 1,
      budget: new RetryBudget(BUDGET_DEFAULTS),
      breaker: undefined,
      retryAfter: undefined,
      hedges: false,
      counters: new ClientCounters(),
      announcer: new Announcer<ClientEvents>(),
      clock,
      random: () => 0.5,
      hold,
    },
    () => forgetful,
  );
  const asked = watch(requests.send('a', undefined, 1_000));
  requests.close();
  await settle();
  expect(asked.isSettled).toBe(false);
  requests.end();
  await settle();
  expect(asked.error).toMatchObject({ code: 'ERR_POOL_CLOSED', sent: 'none', retryable: false });
  expect([requests.live, hold.count, clock.pendingTimers]).toEqual([0, 0, 0]);
});

it('whoever waits for a lease that never comes is told when all has closed, and nothing is held', async () => {
  const clock = new VirtualClock();
  const hold = new CountingHold();
  const lost: unknown[] = [];
  const signals: (AbortSignal | undefined)[] = [];
  const owner: CarrierOwner<string, string> = {
    onReply: () => undefined,
    onLost: (_, error) => lost.push(error),
  };
  const never = (bounds: { signal?: AbortSignal | undefined } | undefined): Promise<never> => {
    signals.push(bounds?.signal);
    return new Promise(() => undefined);
  };
  const shared = new Shared<string, string>(
    {
      source: {
        isBalanced: false,
        acquireTimeoutMs: 1_000,
        atOnce: () => undefined,
        acquire: never,
        acquireNew: never,
        max: () => 1,
        onResized: () => undefined,
        othersWaiting: () => 0,
        isPlain: () => true,
        explain: () => new PulsepoolError('ERR_ACQUIRE_TIMEOUT', 'late', { retryable: true, hint: '' }),
        onShort: () => undefined,
      },
      endpoint: 'fake:1',
      endpoints: undefined,
      maxInFlight: 10,
      makeFlights: () => new InOrder(),
      isInOrder: true,
      max: () => 1,
      othersWaiting: () => 0,
      counts: () => COUNTS,
      acquireTimeoutMs: 1_000,
      maxWaiting: Number.POSITIVE_INFINITY,
      shedAfterMs: Number.POSITIVE_INFINITY,
      clock,
      hold,
    },
    owner,
  );
  const callOf = (message: string): Call<string, string> =>
    new Call(
      message,
      1_000,
      9_000,
      undefined,
      () => undefined,
      () => undefined,
    );
  const fresh = callOf('b');
  fresh.remember().mustBeFresh = true;
  shared.start(callOf('a'));
  shared.start(fresh);
  expect(shared.waiting).toBe(2);
  shared.end();
  await settle();
  expect(lost).toMatchObject([{ code: 'ERR_POOL_CLOSED' }, { code: 'ERR_POOL_CLOSED' }]);
  expect(lost[0]).not.toBe(lost[1]);
  expect(signals.map((signal) => signal?.aborted)).toEqual([true, true]);
  expect([shared.waiting, hold.count, clock.pendingTimers]).toEqual([0, 0, 0]);
});

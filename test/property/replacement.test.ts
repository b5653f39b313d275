/**
 * Sockets are replaced because of their age, their uses or a reset: in good health, and while `max` leaves room, there
 * are never fewer open because of that, whatever callers do meanwhile.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { assemble } from '../../src/create-pool.ts';
import type { Lease } from '../../src/pool/lease.ts';
import { lines } from '../../src/transport/lines.ts';
import { Audit } from '../support/audit.ts';
import { echoLines, FakeNet } from '../support/fake-net.ts';

const RUNS = Number(process.env['PULSEPOOL_REPLACEMENT_RUNS'] ?? 300);

// Room for all successors, and for all that say goodbye.
const ROOMY = 20;

const event = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('acquire' as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('release' as const), pick: fc.nat(5) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('reset' as const), perSecond: fc.constantFrom(1, 5, 1_000) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('pass' as const),
      ms: fc.constantFrom(0, 30, 100, 700, 3_000, 9_000),
    }),
  },
);

const world = fc.record({
  min: fc.integer({ min: 1, max: 4 }),
  maxConnecting: fc.integer({ min: 1, max: 3 }),
  dialMs: fc.constantFrom(0, 40),
  // Of the two, one: while a slow reset goes on, who is too old can't wait for it.
  maxLifetimeMs: fc.constantFrom(10_000, 60_000, 3_600_000),
  hasGoodbyes: fc.boolean(),
});

it('never has fewer sockets than min because of their age or a reset, while max leaves room', async () => {
  const closed = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(
      world,
      fc.array(event, { minLength: 10, maxLength: 80, size: 'max' }),
      async (drawn, events) => {
        const { dialMs, hasGoodbyes, maxConnecting, maxLifetimeMs, min } = drawn;
        const net = new FakeNet();
        net.onPeer = echoLines;
        net.outcome = { kind: 'open', afterMs: dialMs };
        let state = 1;
        net.random = () => {
          state = (state * 16_807) % 2_147_483_647;
          return state / 2_147_483_647;
        };
        const { clock } = net;
        const both = assemble<string, string>(net.surroundings, {
          host: 'fake',
          port: 1,
          codec: lines(),
          min,
          max: ROOMY,
          maxConnecting,
          maxLifetimeMs,
          idleTimeoutMs: 3_600_000,
          ...(hasGoodbyes
            ? { onClose: () => new Promise<void>((resolve) => void clock.after(30, () => resolve())) }
            : {}),
        });
        const { pool, roster } = both;
        const audit = new Audit(both, net);
        let isReady = false;
        let dip: string | undefined;
        const leases: Lease<string, string>[] = [];
        const check = (): void => {
          audit.check();
          const { idle, leased } = roster.state.counts(roster.waiters.size);
          if (isReady && idle + leased < min) dip ??= `${idle + leased} of ${min} are open`;
          if (dip !== undefined) throw new Error(dip);
        };
        // At each step, not only when all is quiet.
        clock.onQuiet = check;
        pool.on('closed', ({ reason }) => {
          closed.set(reason, (closed.get(reason) ?? 0) + 1);
          const { idle, leased } = roster.state.counts(roster.waiters.size);
          if (isReady && idle + leased < min)
            dip ??= `${idle + leased} of ${min} are open, one ended by ${reason}`;
        });
        await clock.advance(dialMs * (min + 1) + 1);
        await pool.ready();
        isReady = true;
        for (const one of events) {
          // No more callers than min: what is open beyond that is a successor.
          if (one.do === 'acquire' && leases.length + roster.waiters.size < min) {
            pool.acquire({ timeoutMs: 500 }).then(
              (lease) => leases.push(lease),
              () => undefined,
            );
          } else if (one.do === 'release')
            leases.splice(one.pick % Math.max(1, leases.length), 1)[0]?.release();
          else if (one.do === 'reset' && maxLifetimeMs > 60_000)
            pool.reset({ perSecond: one.perSecond }).catch(() => undefined);
          await clock.advance(one.do === 'pass' ? one.ms : 0);
        }
        isReady = false;
        const closing = pool.close({ timeoutMs: 0 });
        await clock.advance(1_000);
        await closing;
        audit.checkEnd();
      },
    ),
    { numRuns: RUNS },
  );
  for (const reason of ['reset', 'lifetime']) expect(closed.get(reason), reason).toBeGreaterThan(RUNS / 4);
});

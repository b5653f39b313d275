import { describe, expect, it } from 'vitest';
import { handshake } from '../../../src/pool/handshake.ts';
import { Slot } from '../../../src/pool/slot.ts';
import { rigOfLines, watched } from '../../support/connection-rig.ts';

const NOBODY = {
  onEnding: () => undefined,
  onClosed: () => undefined,
  onPong: () => undefined,
  ping: () => false,
  onMissed: () => undefined,
  onDead: () => undefined,
};

describe('a handshake under a signal that was aborted before it began', () => {
  it('ends at once, with the signal’s reason, and asks nothing of the server', async () => {
    const { connection, peer, clock, owner } = rigOfLines();
    const reason = new Error('the pool has closed');
    let calls = 0;
    const shaking = watched(
      handshake(
        new Slot<string, string>(1, 0, NOBODY, NOBODY),
        connection,
        60_000,
        AbortSignal.abort(reason),
        {
          onConnect: async (lease) => {
            calls += 1;
            await lease.request('AUTH');
          },
          endpoint: 'fake:1',
          address: '',
          connectTimeoutMs: 60_000,
          clock,
        },
      ),
    );
    await clock.flush();
    expect(shaking.outcome).toEqual({ state: 'rejected', reason });
    expect(owner.told).toEqual(['ending: failed', 'closed']);
    expect(calls).toBe(0);
    expect(peer.received).toBe('');
    expect(clock.pendingTimers).toBe(0);
  });
});

import { describe, expect, it } from 'vitest';
import { DialError } from '../../../src/transport/dial-error.ts';
import { type RaceParts, race } from '../../../src/transport/race.ts';
import { VirtualClock } from '../../support/virtual-clock.ts';

interface Lane {
  readonly address: string;
  readonly startedAt: number;
  readonly signal: AbortSignal;
  readonly win: (value: string) => void;
  readonly lose: (error: unknown) => void;
}

/** A race whose attempts end when the test says so. */
function setUp(addresses: readonly string[], more: Partial<RaceParts<{ address: string }, string>> = {}) {
  const clock = new VirtualClock();
  const begunAt = clock.now();
  const outer = new AbortController();
  const lanes: Lane[] = [];
  const discarded: string[] = [];
  const failed: string[] = [];
  const result = race(
    addresses.map((address) => ({ address })),
    ({ address }, signal) =>
      new Promise<string>((win, lose) => {
        lanes.push({ address, startedAt: clock.now() - begunAt, signal, win, lose });
      }),
    {
      endpoint: 'db:1',
      clock,
      signal: outer.signal,
      discard: (late) => discarded.push(late),
      onFailed: ({ address }) => failed.push(address),
      ...more,
    },
  );
  result.catch(() => undefined);
  const lane = (at: number): Lane => {
    const found = lanes[at];
    if (found === undefined) throw new Error(`attempt ${at} has not started`);
    return found;
  };
  return { clock, outer, lanes, lane, discarded, failed, result };
}

function refused(code: 'ERR_REFUSED' | 'ERR_UNREACHABLE' | 'ERR_TLS_TRUST', retryable = true): DialError {
  return new DialError(code, 'made up', { phase: 'tcp', endpoint: 'db:1', retryable, hint: 'a hint' });
}

describe('a race over addresses', () => {
  it('starts the next attempt 250 ms after the one before, as long as none is done', async () => {
    const { clock, lanes } = setUp(['a', 'b', 'c']);
    await clock.advance(600);
    expect(lanes.map(({ startedAt }) => startedAt)).toEqual([0, 250, 500]);
  });

  it('starts the next attempt at once when one fails', async () => {
    const { clock, lane, lanes } = setUp(['a', 'b']);
    await clock.advance(10);
    lane(0).lose(refused('ERR_REFUSED'));
    await clock.advance(0);
    expect(lanes.map(({ address, startedAt }) => [address, startedAt])).toEqual([
      ['a', 0],
      ['b', 10],
    ]);
  });

  it('is won by the first that is done, and aborts the others', async () => {
    const { clock, lane, result, failed } = setUp(['a', 'b']);
    await clock.advance(300);
    lane(1).win('second');
    expect(await result).toMatchObject({ won: 'second', target: { address: 'b' } });
    expect(lane(0).signal.aborted).toBe(true);
    // It had a head start, and was overtaken.
    expect(failed).toEqual(['a']);
  });

  it('hands what comes late to whoever throws it away', async () => {
    const { clock, lane, result, discarded } = setUp(['a', 'b']);
    await clock.advance(300);
    lane(0).win('first');
    await result;
    lane(1).win('late');
    await clock.advance(0);
    expect(discarded).toEqual(['late']);
  });

  it('leaves no timer, and starts nobody, once it is won', async () => {
    const { clock, lane, lanes, result } = setUp(['a', 'b']);
    lane(0).win('first');
    await result;
    expect(clock.pendingTimers).toBe(0);
    await clock.advance(1_000);
    expect(lanes).toHaveLength(1);
  });

  it('ends at once with the reason of an abort, and aborts all that run', async () => {
    const { clock, lane, outer, result } = setUp(['a', 'b']);
    await clock.advance(300);
    outer.abort(new Error('enough'));
    await expect(result).rejects.toThrow('enough');
    expect([lane(0).signal.aborted, lane(1).signal.aborted]).toEqual([true, true]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('lost by all tells what each address came to, and is retryable if any was', async () => {
    const { clock, lane, result } = setUp(['a', 'b']);
    lane(0).lose(refused('ERR_TLS_TRUST', false));
    await clock.advance(0);
    lane(1).lose(refused('ERR_REFUSED'));
    await expect(result).rejects.toMatchObject({
      code: 'ERR_REFUSED',
      retryable: true,
      message: expect.stringMatching(/a: .*; b: /),
    });
  });

  it('speaks with the failure that says most, whichever came last', async () => {
    const { clock, lane, result } = setUp(['a', 'b']);
    lane(0).lose(refused('ERR_REFUSED'));
    await clock.advance(0);
    lane(1).lose(refused('ERR_UNREACHABLE'));
    await expect(result).rejects.toMatchObject({ code: 'ERR_REFUSED' });
  });

  it('is a matter of trust only if it is for all', async () => {
    const { clock, lane, result } = setUp(['a', 'b']);
    lane(0).lose(refused('ERR_TLS_TRUST', false));
    await clock.advance(0);
    lane(1).lose(refused('ERR_TLS_TRUST', false));
    await expect(result).rejects.toMatchObject({ code: 'ERR_TLS_TRUST', retryable: false });
  });

  it('starts nobody after the deadline, and says how many were not tried', async () => {
    const { clock, lane, lanes, result } = setUp(['a', 'b', 'c'], {
      deadlineAt: new VirtualClock().now() + 300,
    });
    await clock.advance(400);
    expect(lanes).toHaveLength(2);
    lane(0).lose(refused('ERR_REFUSED'));
    lane(1).lose(refused('ERR_REFUSED'));
    await expect(result).rejects.toThrow('1 not tried');
  });

  it('of one is no race: the outer signal, its own error, no timer', async () => {
    const { clock, lane, outer, result } = setUp(['a']);
    expect(lane(0).signal).toBe(outer.signal);
    expect(clock.pendingTimers).toBe(0);
    const error = refused('ERR_REFUSED');
    lane(0).lose(error);
    await expect(result).rejects.toBe(error);
  });
});

/**
 * Pools for the tests against real servers: a pool that is closed when its test ends, and a diary of all it
 * tells. The diary takes stats with every event, so each test proves on the way that the counts add up.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createPool, type Pool, type PoolEvents, type PoolOptions, PulsepoolError } from 'pulsepool';
import { expect, onTestFinished } from 'vitest';
import { EVENT_NAMES } from '../../../src/events.ts';

type EventName = keyof PoolEvents;
type Payload<Name extends EventName> = Parameters<PoolEvents[Name]>[0];

/** An event, and when it was told, in ms of `performance.now()`. */
export type Told<Name extends EventName> = Payload<Name> & { readonly at: number };

/** All that a pool has told since it was made. */
export class Diary {
  /** Samples of `stats()` that did not add up. Checked at the end of every test. */
  readonly broken: string[] = [];
  /** When each socket was last known to live: opened, pinged or released. By connection id. */
  readonly lastAlive: Map<number, number> = new Map();
  /** The most sockets there ever were, in any state. */
  peak = 0;
  samples = 0;
  readonly #told: { [Name in EventName]: Told<Name>[] };
  readonly #pool: Pick<Pool<never, never>, 'stats'>;

  constructor(pool: Pick<Pool<never, never>, 'stats' | 'on'>) {
    this.#pool = pool;
    this.#told = Object.fromEntries(EVENT_NAMES.map((name) => [name, []])) as never;
    for (const name of EVENT_NAMES) {
      pool.on(name, (event: Payload<EventName>) => {
        const at = performance.now();
        (this.#told[name] as object[]).push({ ...event, at });
        if (name === 'opened' || name === 'pinged' || name === 'released') {
          this.lastAlive.set((event as Payload<'opened'>).connectionId, at);
        }
        this.sample();
      });
    }
  }

  /** Every event of one kind, in order. */
  of<Name extends EventName>(name: Name): readonly Told<Name>[] {
    return this.#told[name];
  }

  /** Why sockets ended, in order. */
  get reasons(): string[] {
    return this.of('closed').map((event) => event.reason);
  }

  /** Takes stats and checks guarantee 6: idle + leased + dialing + closing = total <= max. */
  sample(): void {
    const stats = this.#pool.stats();
    const { closing, dialing, idle, leased, max, total } = stats;
    this.samples += 1;
    this.peak = Math.max(this.peak, total);
    if (
      idle + leased + dialing + closing !== total ||
      total > max ||
      Math.min(idle, leased, dialing, closing) < 0
    )
      this.broken.push(JSON.stringify(stats));
  }

  /** Waits until an event of this kind has been told `count` times since the pool was made. */
  async has(name: EventName, count: number): Promise<void> {
    await until(() => this.of(name).length >= count, `${count} × ${name}`);
  }
}

/** A pool and its diary. The pool is closed, by force if need be, when the test ends. */
export function openPool<In, Out>(options: PoolOptions<In, Out>): { pool: Pool<In, Out>; diary: Diary } {
  const pool = createPool(options);
  const diary = new Diary(pool as never);
  onTestFinished(async () => {
    await pool.close({ timeoutMs: 500 });
    expect(diary.broken).toEqual([]);
    expect(pool.stats().total).toBe(0);
  });
  return { pool, diary };
}

/** Waits for a condition, with a limit so generous that only a defect reaches it. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = 15_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline)
      throw new Error(`Within ${timeoutMs} ms this did not come true: ${what}`);
    await sleep(2);
  }
}

/** The error that a call is expected to end with. */
export async function failureOf(call: Promise<unknown>): Promise<PulsepoolError> {
  const outcome: unknown = await call.then(
    (value) => new Error(`expected a failure, got ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );
  if (!(outcome instanceof PulsepoolError)) throw outcome;
  expect(outcome.message).not.toBe('');
  expect(outcome.hint).not.toBe('');
  return outcome;
}

/** Why a lease could not be had: the code of the dial's failure, which must be the cause. */
export function dialFailure(error: PulsepoolError): PulsepoolError {
  expect(error.code).toBe('ERR_ACQUIRE_FAILED');
  expect(error.cause).toBeInstanceOf(PulsepoolError);
  return error.cause as PulsepoolError;
}

/**
 * The most dials, with six standard deviations to spare, that full jitter starts within `elapsedMs`, given
 * `width` dials that may run side by side each time.
 *
 * Each wait is uniform in [0, min(cap, base x 2^n)]. At the cap the mean is cap/2 and the variance cap²/12, so
 * the number of waits in a time T has mean 2T/cap and variance 2T/(3 cap) (renewal theory). The waits before
 * the cap only add their number.
 */
export function dialBound(
  elapsedMs: number,
  retry: { readonly baseMs: number; readonly capMs: number },
  width: number,
): number {
  const ramp = Math.ceil(Math.log2(retry.capMs / retry.baseMs)) + 1;
  const mean = (2 * elapsedMs) / retry.capMs;
  return width * Math.ceil(ramp + mean + 6 * Math.sqrt(mean / 3));
}

/**
 * Checks that no dial that failed came before the wait that the failure before it had announced. Dials that ran
 * side by side share one failure count.
 */
export function expectBackoffKept(failures: readonly Told<'dialFailed'>[]): void {
  const early: string[] = [];
  for (const [index, failure] of failures.entries()) {
    const next = failures[index + 1];
    if (next === undefined || next.failures <= failure.failures) continue;
    const gap = next.at - failure.at;
    // Timers fire up to 1 ms early, since Node rounds to whole milliseconds, and an event may be told a moment late.
    if (gap < failure.backoffMs - 10)
      early.push(`${gap} ms after a failure that asked for ${failure.backoffMs}`);
  }
  expect(early).toEqual([]);
}

/** How long socket after socket was silent before it was found dead, in ms, the longest first. */
export function timesToDetection(diary: Diary): number[] {
  return diary
    .of('closed')
    .filter((event) => event.reason === 'heartbeat')
    .map((event) => event.at - (diary.lastAlive.get(event.connectionId) ?? Number.NaN))
    .sort((a, b) => b - a);
}

/** Prints a figure beside the test's result, when PULSEPOOL_TEST_FIGURES is set. */
export function figure(text: string): void {
  if (process.env['PULSEPOOL_TEST_FIGURES'] !== undefined) process.stderr.write(`figure: ${text}\n`);
}

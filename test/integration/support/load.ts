/**
 * A steady load on a service: requests at a rate, whatever becomes of those before them, and what each came to. So faults
 * can be judged by what callers saw of them.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** A request that was answered. */
export interface Answered {
  readonly reply: string;
  /** When it was sent, in ms of `performance.now()`. */
  readonly sentAt: number;
  readonly tookMs: number;
}

/** A request that failed. */
interface Failed {
  readonly error: unknown;
  readonly sentAt: number;
  readonly tookMs: number;
}

export interface Load {
  /** Requests in a second; may be changed at any time. */
  perSecond: number;
  /** In the order of their ends. */
  readonly answered: readonly Answered[];
  readonly failed: readonly Failed[];
  /** Those answered among the requests that are sent from now on, as soon as there are so many. */
  next(count: number, timeoutMs?: number): Promise<readonly Answered[]>;
  /** Sends no more, and waits for those under way. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

// Shorter than that Node's timers are not to be relied upon.
const STEP_MS = 5;

/** Starts at once. `request` is one request, and resolves to what tells who answered it. */
export function startLoad(perSecond: number, request: () => Promise<string>): Load {
  const answered: Answered[] = [];
  const failed: Failed[] = [];
  const underWay = new Set<Promise<void>>();
  const send = async (): Promise<void> => {
    const sentAt = performance.now();
    try {
      const reply = await request();
      answered.push({ reply, sentAt, tookMs: performance.now() - sentAt });
    } catch (error) {
      failed.push({ error, sentAt, tookMs: performance.now() - sentAt });
    }
  };
  let isOn = true;
  const run = async (): Promise<void> => {
    let owed = 0;
    for (let last = performance.now(); isOn; await sleep(STEP_MS)) {
      const now = performance.now();
      // What a busy machine has missed is not made up for in one burst.
      owed += (Math.min(now - last, 4 * STEP_MS) * load.perSecond) / 1_000;
      last = now;
      for (; owed >= 1; owed--) {
        const sent = send().finally(() => underWay.delete(sent));
        underWay.add(sent);
      }
    }
    await Promise.all(underWay);
  };
  const stop = (): Promise<void> => {
    isOn = false;
    return ended;
  };
  const load: Load = {
    perSecond,
    answered,
    failed,
    async next(count, timeoutMs = 20_000) {
      const from = performance.now();
      const found = (): Answered[] => answered.filter(({ sentAt }) => sentAt >= from);
      const base = answered.length;
      while (answered.length < base + count || found().length < count) {
        if (performance.now() - from > timeoutMs) {
          throw new Error(`${found().length} of ${count} requests were answered within ${timeoutMs} ms`);
        }
        await sleep(STEP_MS);
      }
      return found();
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
  const ended = run();
  return load;
}

/** Of these requests, the share that each reply came to: 0 to 1. */
export function sharesOf(answered: readonly Pick<Answered, 'reply'>[]): Record<string, number> {
  const counts = new Map<string, number>();
  for (const { reply } of answered) counts.set(reply, (counts.get(reply) ?? 0) + 1);
  return Object.fromEntries([...counts].map(([reply, count]) => [reply, count / answered.length]));
}

/** So many of 100 took no longer than this, in ms. */
export function percentile(answered: readonly Answered[], percent: number): number {
  const sorted = answered.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
  return sorted[Math.ceil((sorted.length * percent) / 100) - 1] ?? Number.NaN;
}

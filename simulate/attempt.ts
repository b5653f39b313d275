/** One request of a caller, and each try of it on its way to a server and back. */
import type { Happening } from './agenda.ts';
import type { Line } from './line.ts';

/**
 * - `answered`
 * - `refused`: it was not done, and the server said so
 * - `lost`: the server's process ended
 * - `timeout`: nobody waits any longer; the server goes on
 */
export type Outcome = 'answered' | 'refused' | 'lost' | 'timeout';

/** What a caller asked for. */
export class Call {
  readonly askedAt: number;
  readonly key: string | undefined;
  retries = 0;
  wasFresh = false;
  /** Where the last try went: any other one is better. */
  last: Line | undefined;

  constructor(askedAt: number, key: string | undefined) {
    this.askedAt = askedAt;
    this.key = key;
  }
}

/** Hears what became of a try, once. */
export interface AttemptOwner {
  onSettled(attempt: Attempt, outcome: Outcome): void;
}

/** One try. It happens when its reply comes. */
export class Attempt implements Happening {
  readonly call: Call;
  readonly line: Line;
  readonly sentAt: number;
  readonly timeoutAt: number;
  readonly #owner: AttemptOwner;
  #isOver = false;

  constructor(call: Call, line: Line, sentAt: number, timeoutMs: number, owner: AttemptOwner) {
    this.call = call;
    this.line = line;
    this.sentAt = sentAt;
    this.timeoutAt = sentAt + timeoutMs;
    this.#owner = owner;
  }

  happen(): void {
    this.line.server.reply(this);
  }

  /** The first time is the one that counts. */
  settle(outcome: Outcome): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#owner.onSettled(this, outcome);
  }
}

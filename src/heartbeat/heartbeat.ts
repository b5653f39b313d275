/**
 * When to ping, and what a missing pong means. It sees sockets only as {@link HeartbeatTarget}s: it asks one to
 * ping, looks at when a byte was last read, and passes a verdict. It knows neither bytes nor the pool.
 *
 *     quiet ──silent for intervalMs──► awaiting ──byte read──► quiet
 *                                         │
 *                                  timeoutMs passed
 *                                         ▼
 *                             missed: ping again at the next beat,
 *                             dead after maxMissed in a row
 */
import type { Clock, RandomSource, Timer } from '../clock.ts';
import { Agenda, type Due } from './agenda.ts';

/** What the heartbeat needs of a socket. */
export interface HeartbeatTarget {
  /** When a byte was last read, in ms of the clock: the only proof of life. */
  readonly lastReadAt: number;
  /** Writes a ping, and keeps the socket out of service until the pong. `false`: in use, so not now. */
  ping(): boolean;
  /** A ping went unanswered; `missed` in a row. */
  onMissed(missed: number): void;
  /** The last ping allowed went unanswered. */
  onDead(missed: number): void;
}

/** How often, how long and how many. */
export interface HeartbeatSettings {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly maxMissed: number;
}

type Phase = 'quiet' | 'awaiting' | 'missed' | 'ended';

/** The heartbeat of one target, as {@link Heartbeat.watch} returns it. */
export interface Beat {
  readonly target: HeartbeatTarget;
  phase: Phase;
  pingedAt: number;
  /** When the last byte was read that a verdict has counted as life. */
  heardAt: number;
  /** Verdicts in a row that such a byte has put off. */
  pardons: number;
  missed: number;
  /** Pings allowed to go unanswered; 1 while a borrower waits for the verdict. */
  allowed: number;
  /** When this beat is looked at next. Agenda entries for another time are stale and skipped. */
  dueAt: number;
}

interface Entry extends Due {
  readonly beat: Beat;
}

// Sockets must not ping in step: each interval is shortened by up to this share, so that a socket is found dead
// within interval x misses + timeout, never later.
const JITTER = 0.1;

const UNSCHEDULED = -1;

// A verdict this late means that our own loop was blocked, or the process frozen.
const SUSPENDED_MS = 250;

/** One scheduler for all sockets of a pool. */
export class Heartbeat {
  readonly #settings: HeartbeatSettings;
  readonly #clock: Clock;
  readonly #random: RandomSource;
  readonly #onSuspended: (lateMs: number) => void;
  readonly #agenda: Agenda<Entry> = new Agenda();
  #timer: Timer | undefined;
  #timerAt = 0;

  constructor(
    settings: HeartbeatSettings,
    clock: Clock,
    random: RandomSource,
    onSuspended: (lateMs: number) => void,
  ) {
    this.#settings = settings;
    this.#clock = clock;
    this.#random = random;
    this.#onSuspended = onSuspended;
  }

  /** Starts to watch a target. Costs nothing until it has been silent for an interval. */
  watch(target: HeartbeatTarget): Beat {
    const beat: Beat = {
      target,
      phase: 'quiet',
      pingedAt: 0,
      heardAt: 0,
      pardons: 0,
      missed: 0,
      allowed: this.#settings.maxMissed,
      dueAt: UNSCHEDULED,
    };
    this.#schedule(beat, target.lastReadAt + this.#interval());
    return beat;
  }

  /** Stops watching. */
  unwatch(beat: Beat): void {
    beat.phase = 'ended';
  }

  /** Pings now and allows no miss: somebody waits for this socket. */
  checkNow(beat: Beat): void {
    if (beat.phase === 'ended') return;
    beat.allowed = 1;
    this.#ping(beat, this.#clock.now());
  }

  /** The pong has come. */
  answered(beat: Beat): number {
    if (beat.phase === 'ended') return 0;
    beat.phase = 'quiet';
    beat.missed = 0;
    beat.pardons = 0;
    beat.allowed = this.#settings.maxMissed;
    // It was due for its verdict, which may be further off than the next ping when timeoutMs is the longer one.
    const nextAt = beat.target.lastReadAt + this.#interval();
    if (nextAt < beat.dueAt) this.#schedule(beat, nextAt);
    return this.#clock.now() - beat.pingedAt;
  }

  /** Forgets everything and stops the timer. */
  end(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#agenda.clear();
  }

  #interval(): number {
    return this.#settings.intervalMs * (1 - JITTER * this.#random());
  }

  #schedule(beat: Beat, at: number): void {
    if (beat.dueAt === at) return;
    beat.dueAt = at;
    this.#agenda.add({ at, beat });
    if (this.#timer === undefined || at < this.#timerAt) this.#arm(at);
  }

  #arm(at: number): void {
    this.#timer?.cancel();
    this.#timerAt = at;
    this.#timer = this.#clock.after(Math.max(0, at - this.#clock.now()), () => {
      this.#timer = undefined;
      this.#run();
    });
  }

  #run(): void {
    const now = this.#clock.now();
    let next = this.#agenda.peek();
    while (next !== undefined && next.at <= now) {
      this.#agenda.take();
      const { at, beat } = next;
      if (beat.dueAt === at && beat.phase !== 'ended') {
        beat.dueAt = UNSCHEDULED;
        this.#look(beat, at, now);
      }
      next = this.#agenda.peek();
    }
    if (next !== undefined && (this.#timer === undefined || next.at < this.#timerAt)) this.#arm(next.at);
  }

  #look(beat: Beat, at: number, now: number): void {
    if (beat.phase === 'awaiting') {
      const lateMs = now - at;
      const { pingedAt } = beat;
      // One turn: timers run before the poll phase, so a pong may already be in the kernel.
      this.#clock.turn(() => this.#judge(beat, pingedAt, lateMs));
      return;
    }
    if (beat.phase === 'missed') {
      this.#ping(beat, now);
      return;
    }
    const silentAt = beat.target.lastReadAt + this.#interval();
    if (silentAt > now) this.#schedule(beat, silentAt);
    else this.#ping(beat, now);
  }

  #ping(beat: Beat, now: number): void {
    const previous = beat.phase;
    beat.phase = 'awaiting';
    beat.pingedAt = now;
    beat.heardAt = now;
    if (this.#isPinged(beat)) {
      this.#schedule(beat, now + this.#settings.timeoutMs);
      return;
    }
    // In use: the caller's own read timeout is the heartbeat. `ping` may also have ended the target.
    if (this.#isEnded(beat)) return;
    beat.phase = previous;
    // Sooner than a whole interval, or a socket that falls silent right after would be found too late.
    this.#schedule(beat, now + this.#interval() / 4);
  }

  /** A target whose ping throws is lost; the heartbeat of the others must go on. */
  #isPinged(beat: Beat): boolean {
    try {
      return beat.target.ping();
    } catch {
      this.#condemn(beat);
      return false;
    }
  }

  #isEnded(beat: Beat): boolean {
    return beat.phase === 'ended';
  }

  #judge(beat: Beat, pingedAt: number, lateMs: number): void {
    if (beat.phase !== 'awaiting') {
      if (beat.phase === 'quiet') this.#schedule(beat, beat.target.lastReadAt + this.#interval());
      return;
    }
    // Answered and pinged again in the turn between: that ping has a verdict of its own.
    if (beat.pingedAt !== pingedAt) return;
    const now = this.#clock.now();
    const { timeoutMs, intervalMs, maxMissed } = this.#settings;
    if (lateMs > Math.max(SUSPENDED_MS, timeoutMs / 2)) {
      this.#onSuspended(lateMs);
      this.#ping(beat, now);
      return;
    }
    // A byte since the ping is life, even when it did not finish the pong: wait for the rest. Not for ever: who
    // talks and never answers can serve nobody.
    const { lastReadAt } = beat.target;
    if (lastReadAt > beat.heardAt && beat.pardons < maxMissed) {
      beat.heardAt = lastReadAt;
      beat.pardons += 1;
      this.#schedule(beat, now + timeoutMs);
      return;
    }
    beat.missed += 1;
    if (beat.missed >= beat.allowed) {
      this.#condemn(beat);
      return;
    }
    beat.phase = 'missed';
    this.#schedule(beat, Math.max(now, beat.pingedAt + intervalMs * (1 - JITTER * this.#random())));
    beat.target.onMissed(beat.missed);
  }

  #condemn(beat: Beat): void {
    beat.phase = 'ended';
    beat.target.onDead(beat.missed);
  }
}

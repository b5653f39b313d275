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
import { type Clock, type RandomSource, STALLED_MS, type Timer } from '../clock.ts';
import { Agenda, type Due } from './agenda.ts';
import { Awaited } from './awaited.ts';

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
  target: HeartbeatTarget;
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

const GONE: HeartbeatTarget = {
  lastReadAt: 0,
  ping: () => false,
  onMissed: () => undefined,
  onDead: () => undefined,
};

/** One scheduler for all sockets of a pool. */
export class Heartbeat {
  readonly #settings: HeartbeatSettings;
  readonly #clock: Clock;
  readonly #random: RandomSource;
  readonly #onStalled: (lateMs: number) => void;
  readonly #agenda: Agenda<Entry> = new Agenda();
  readonly #awaited: Awaited<Entry> = new Awaited();
  #timer: Timer | undefined;
  #timerAt = 0;

  constructor(
    settings: HeartbeatSettings,
    clock: Clock,
    random: RandomSource,
    onStalled: (lateMs: number) => void,
  ) {
    this.#settings = settings;
    this.#clock = clock;
    this.#random = random;
    this.#onStalled = onStalled;
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
    // The agenda still holds the beat until its time comes; it must not hold the socket.
    beat.target = GONE;
  }

  /** Pings now and allows no miss: somebody waits for this socket. */
  checkNow(beat: Beat): void {
    if (beat.phase === 'ended') return;
    beat.allowed = 1;
    this.#ping(beat, this.#clock.now());
  }

  /** Pings now, unless a ping is out: there is reason to doubt this target. It may miss as many as any other. */
  pingNow(beat: Beat): void {
    if (beat.phase === 'quiet') this.#ping(beat, this.#clock.now());
  }

  /** The pong has come. */
  answered(beat: Beat): number {
    if (beat.phase === 'ended') return 0;
    beat.phase = 'quiet';
    beat.missed = 0;
    beat.pardons = 0;
    beat.allowed = this.#settings.maxMissed;
    this.#schedule(beat, beat.target.lastReadAt + this.#interval());
    return this.#clock.now() - beat.pingedAt;
  }

  /** Forgets everything and stops the timer. */
  end(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#agenda.clear();
    this.#awaited.clear();
  }

  #interval(): number {
    return this.#settings.intervalMs * (1 - JITTER * this.#random());
  }

  // Whole milliseconds here and below: V8 keeps small integers in place, and makes an object of any other number.
  #schedule(beat: Beat, time: number): void {
    const at = Math.floor(time);
    if (beat.dueAt === at) return;
    beat.dueAt = at;
    if (at === Number.POSITIVE_INFINITY) return;
    this.#agenda.add({ at, beat });
    this.#armBy(at);
  }

  /** A verdict is due a timeout from now. */
  #await(beat: Beat, now: number): void {
    const at = Math.ceil(now + this.#settings.timeoutMs);
    beat.dueAt = at;
    this.#awaited.add({ at, beat });
    this.#armBy(at);
  }

  #armBy(at: number): void {
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
    for (let next = this.#awaited.peek(); next !== undefined; next = this.#awaited.peek()) {
      const isStale = this.#isStale(next);
      if (!isStale && next.at > now) {
        this.#armBy(next.at);
        break;
      }
      this.#awaited.take();
      if (!isStale) this.#look(next, now);
    }
    for (let next = this.#agenda.peek(); next !== undefined; next = this.#agenda.peek()) {
      if (next.at > now) {
        this.#armBy(next.at);
        break;
      }
      this.#agenda.take();
      if (!this.#isStale(next)) this.#look(next, now);
    }
  }

  /** Whether its beat has ended, or is due at another time by now. */
  #isStale({ at, beat }: Entry): boolean {
    return beat.dueAt !== at || beat.phase === 'ended';
  }

  #look({ at, beat }: Entry, now: number): void {
    beat.dueAt = UNSCHEDULED;
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
    beat.heardAt = Math.floor(now);
    if (this.#isPinged(beat)) {
      this.#await(beat, now);
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
    // Answered in the turn between.
    if (beat.phase !== 'awaiting') return;
    // Answered and pinged again in the turn between: that ping has a verdict of its own.
    if (beat.pingedAt !== pingedAt) return;
    const now = this.#clock.now();
    const { timeoutMs, intervalMs, maxMissed } = this.#settings;
    if (lateMs > Math.max(STALLED_MS, timeoutMs / 2)) {
      this.#onStalled(lateMs);
      this.#ping(beat, now);
      return;
    }
    // A byte since the ping is life, even when it did not finish the pong: wait for the rest. Not for ever: who
    // talks and never answers can serve nobody.
    const { lastReadAt } = beat.target;
    if (lastReadAt > beat.heardAt && beat.pardons < maxMissed) {
      beat.heardAt = Math.ceil(lastReadAt);
      beat.pardons += 1;
      this.#await(beat, now);
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

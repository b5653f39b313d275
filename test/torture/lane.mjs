/**
 * A lane: callers who act on one pool after the other, or on clients. Each is closed in the middle of their traffic, when
 * the next one is there already; and once in its life there is a quiet moment, in which the server bids its sockets
 * farewell, and one caller may be alone with it.
 */
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { MOST_CALLERS } from './recipes.mjs';
import { storyOf } from './tally.mjs';

/** @typedef {import('./stage.mjs').Stage} Stage */
/** @typedef {import('./doors.mjs').DoorPlan & { readonly index: number, readonly port: number }} OpenDoor */

/**
 * What a lane needs of the torture.
 *
 * @typedef {object} LaneParts
 * @property {import('./subject.mjs').SubjectPlan} subject
 * @property {number} index
 * @property {readonly OpenDoor[]} doors
 * @property {string} cert
 * @property {import('./chance.mjs').Chance} chance
 * @property {import('./tally.mjs').Tally} tally
 * @property {number} share how many requests a pool gets, more or less
 * @property {() => boolean} isOver
 * @property {() => import('./recipes.mjs').Pool} stranger a pool of another lane
 * @property {(door: number) => Promise<number>} bidFarewell resolves to the number of sockets that were told
 * @property {(door: number, signAt: string) => Promise<void>} bidHastyFarewell
 */

// TLS dials cost a hundred times as much, and many sockets end.
const TLS_SHARE = 0.15;
// How long sockets rest before the farewells: long enough for what is done to them at rest.
const REST_MS = 40;
const BEATING_MS = 200;
const AUDIT_EVERY = 64;
// Longer than anything a caller waits for, on a machine that is busy with something else.
const PATIENCE_MS = 15_000;

/** See the file's comment. */
export class Lane {
  #parts;
  /** @type {import('./subject.mjs').Play} */
  #play;
  /** @type {import('./subject.mjs').Recipe} */
  #recipe;
  #isQuiet = false;
  // What each caller is doing, for the story when one does not end.
  /** @type {Map<number, string>} */
  #doing = new Map();
  /** @type {(() => void)[]} */
  #standing = [];
  #acts = 0;
  #pools = 0;

  /** @param {LaneParts} parts */
  constructor(parts) {
    this.#parts = parts;
    ({ play: this.#play, recipe: this.#recipe } = this.#nextPlay());
  }

  /** The pool in use. */
  get pool() {
    return this.#play.stage.pool;
  }

  /** Acts until the torture is over. */
  async run() {
    const { isOver, share, tally } = this.#parts;
    const callers = Array.from({ length: MOST_CALLERS }, (_, index) => this.#call(index));
    /** @type {Promise<void>[]} */
    const closings = [];
    for (;;) {
      const play = this.#play;
      const { stage } = play;
      const { door } = this.#place();
      const wanted = share * this.#recipe.share * (door.tls ? TLS_SHARE : 1);
      await this.#until(() => stage.asked >= wanted / 2);
      if (!isOver()) await this.#quietMoment(play, door);
      await this.#until(() => stage.asked >= wanted);
      if (isOver()) break;
      this.#pools += 1;
      ({ play: this.#play, recipe: this.#recipe } = this.#nextPlay());
      this.#wake();
      closings.push(this.#close(stage));
    }
    // The callers finish what they are at, and hear that their pool has closed.
    closings.push(this.#close(this.#play.stage));
    this.#wake();
    if (!(await inTime(Promise.all(callers)))) this.#tellStuck('a caller never ended');
    if (!(await inTime(Promise.all(closings)))) tally.fault('close() never ended', this.#play.stage.name);
  }

  // ---- callers -------------------------------------------------------------------------------------------

  async #call(/** @type {number} */ index) {
    const { chance, isOver, tally } = this.#parts;
    while (!isOver()) {
      const play = this.#play;
      const { stage } = play;
      if (this.#isQuiet || index >= this.#recipe.callers) {
        await new Promise((resolve) => this.#standing.push(() => resolve(undefined)));
        continue;
      }
      const { name, act } = play.draw();
      this.#doing.set(index, name);
      tally.did(name);
      try {
        await act();
      } catch (error) {
        tally.fault('an act that threw', `${name}, ${stage.name}: ${storyOf(error)}`);
      }
      this.#doing.delete(index);
      this.#acts += 1;
      if (this.#acts % AUDIT_EVERY === 0) stage.audit();
      // At times nobody asks for a moment, so that sockets rest.
      if (chance.happens(0.02)) await sleep(chance.integer(1, 40));
    }
  }

  #wake() {
    for (const goOn of this.#standing.splice(0)) goOn();
  }

  /** Looks every few ms, because what it waits for happens thousands of times in a second. */
  async #until(/** @type {() => boolean} */ isSo) {
    while (!isSo() && !this.#parts.isOver()) await sleep(4);
  }

  // ---- pools ---------------------------------------------------------------------------------------------

  /** Every recipe behind every door, in turn; the lanes begin at different recipes. */
  #place() {
    const { doors, index, subject } = this.#parts;
    const { recipes } = subject;
    const turn = this.#pools + index * Math.floor(recipes.length / 2);
    const number = turn % recipes.length;
    const recipe = recipes[number];
    const door = doors[(turn + Math.floor(turn / recipes.length)) % doors.length];
    if (recipe === undefined || door === undefined) throw new Error('bug: no recipe, or no door');
    return { recipe, number, door };
  }

  #nextPlay() {
    const { cert, chance, stranger, subject, tally } = this.#parts;
    const { door, number, recipe } = this.#place();
    const name = `pool ${this.#pools} of lane ${this.#parts.index} (${recipe.name}, ${door.name})`;
    const play = subject.begin(number, { door, cert, parts: { stranger, chance, tally, name } });
    return { play, recipe };
  }

  async #close(/** @type {Stage} */ stage) {
    await stage.close(this.#parts.chance.pick([0, 5, 50, 500]));
  }

  // ---- the quiet moment ----------------------------------------------------------------------------------

  /**
   * Nobody asks, every socket rests; the server writes to all of them, or hangs up; the pool must have ended them all
   * before anybody asks again. The server's farewells can't cross a question, or no pool could tell them from answers.
   *
   * @param {import('./subject.mjs').Play} play
   * @param {OpenDoor} door
   */
  async #quietMoment({ beAlone, stage }, door) {
    const { bidFarewell, bidHastyFarewell, tally } = this.#parts;
    this.#isQuiet = true;
    await stage.rest();
    if (await isSoon(() => this.#doing.size === 0 && stage.isStill)) {
      await sleep(this.#recipe.isPinged ? BEATING_MS : REST_MS);
      const present = [...stage.open];
      const told = await bidFarewell(door.index);
      if (!(await isSoon(() => !present.some((id) => stage.open.has(id))))) {
        tally.fault('a farewell that went unnoticed', `${stage.name}: ${told} sockets were told`);
      }
      // Those that were opened just now were told, too, and are not waited for: what came to them must be read
      // before anybody asks.
      await sleep(20);
      for (let turns = 5; turns > 0; turns--) await turn();
      await beAlone((signAt) => bidHastyFarewell(door.index, signAt));
    } else this.#tellStuck('a pool that never came to rest');
    this.#isQuiet = false;
    stage.goOn();
    this.#wake();
  }

  #tellStuck(/** @type {string} */ what) {
    const doing = [...new Set(this.#doing.values())].join(', ') || 'nothing';
    const stats = JSON.stringify(this.#play.stage.pool.stats());
    this.#parts.tally.fault(what, `${this.#play.stage.name}: callers are at ${doing}; ${stats}`);
  }
}

/** Whether it becomes true in time. */
async function isSoon(/** @type {() => boolean} */ isSo) {
  const until = performance.now() + PATIENCE_MS;
  while (!isSo()) {
    if (performance.now() > until) return false;
    await sleep(1);
  }
  return true;
}

/** Whether it ends in time. */
async function inTime(/** @type {Promise<unknown>} */ work) {
  const limit = new AbortController();
  const ended = work.then(() => true);
  const late = sleep(PATIENCE_MS, false, { signal: limit.signal });
  late.catch(() => undefined);
  try {
    return await Promise.race([ended, late]);
  } finally {
    limit.abort();
  }
}

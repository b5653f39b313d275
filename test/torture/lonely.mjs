/**
 * The lonely moment of a client: nobody else uses it, nothing is under way, and one caller asks. Only now bytes that nobody
 * asked for can be told from replies where messages have no marks, and only now it can be said of a question that it must
 * not have left.
 */

import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { Abort } from './abort.mjs';
import { FLAGS, isLight } from './talk.mjs';

/** @typedef {import('./client-stage.mjs').ClientStage} ClientStage */

const QUESTIONS = 25;
// Farewells at once.
const ROUNDS = 2;
const PATIENCE_MS = 5_000;
// Longer than a socket may have rested to be lent without a look, and longer than the latest strays of the server.
const REST_MS = 60;
// What the server has written is in our kernel by then, on the busiest machine.
const CROSSING_MS = 5;
// How long we stand still for the server.
const STANDING_MS = 500;

/**
 * One caller asks, a question after the other.
 *
 * @param {ClientStage} stage
 */
export async function askAlone(stage) {
  const { chance, tally } = stage;
  for (let left = QUESTIONS; left > 0; left--) {
    if (!(await isNothingUnderWay(stage))) {
      tally.fault('a client that never came to rest', `${stage.name}: ${JSON.stringify(stage.pool.stats())}`);
      return;
    }
    const way = chance.integer(0, 9);
    if (way < 2) await regret(stage);
    else if (way < 5) {
      const options = { idempotent: true, hedge: chance.happens(0.7) };
      const tried = chance.happens(0.7) ? FLAGS.tried : 0;
      await stage.request(stage.askAlone(FLAGS.idempotent | tried), options);
    } else if (way === 5) {
      await stage.request(stage.askAlone(FLAGS.tried), { timeoutMs: chance.pick([1, 4, 20]) });
    } else await stage.request(stage.askAlone());
    await checkNothingIsKept(stage);
  }
  await isNothingUnderWay(stage);
}

/** A socket that is not shared ends with its caller's patience. @param {ClientStage} stage */
async function checkNothingIsKept(stage) {
  if (stage.mode !== 'exclusive') return;
  for (let turns = 3; turns > 0; turns--) await turn();
  const { leased } = stage.pool.stats();
  if (leased > 0) stage.tally.fault('sockets kept for callers who have gone', `${leased}, ${stage.name}`);
}

/** A question that is taken back before anything can have left, where several leave together. @param {ClientStage} stage */
async function regret(stage) {
  const abort = new Abort(stage, 'at once');
  const question = stage.askAlone();
  const heard = stage.request(question, { signal: abort.signal }, { abort });
  abort.now();
  // A client without shared sockets has no reason to wait, and what is large leaves at once.
  if (stage.mode !== 'exclusive' && isLight(question.id)) {
    stage.tally.neverSent.set(question.id, `taken back at once, ${stage.name}`);
    stage.tally.did('a question taken back');
  }
  await heard;
}

/**
 * The server says something to all sockets at rest while our event loop stands still, and questions follow in the same turn:
 * the client can't have noticed, and must look.
 *
 * @param {ClientStage} stage
 * @param {(signAt: string) => Promise<void>} bidHastyFarewell
 */
export async function askHastily(stage, bidHastyFarewell) {
  // A pong may just have come: then its socket is lent without a look.
  if (stage.isPinged) return;
  const directory = await mkdtemp(join(tmpdir(), 'pulsepool-torture-'));
  try {
    for (let round = 1; round <= ROUNDS; round++) {
      // So that some have served, and rest.
      await askSideBySide(stage);
      if (!(await isNothingUnderWay(stage))) return;
      await sleep(REST_MS);
      const signAt = join(directory, `said ${round}`);
      const said = bidHastyFarewell(signAt);
      if (standStillUntil(() => existsSync(signAt))) {
        standStill(CROSSING_MS);
        await askSideBySide(stage);
      }
      await said;
      await sleep(REST_MS);
      for (let turns = 5; turns > 0; turns--) await turn();
    }
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Some questions at once. @param {ClientStage} stage */
async function askSideBySide(stage) {
  // Without `alone`: several may be on one socket.
  const flags = FLAGS.refusable | (stage.mode === 'exclusive' ? 0 : FLAGS.crowded);
  const count = stage.chance.integer(4, 12);
  await Promise.all(Array.from({ length: count }, () => stage.request(stage.ask(flags))));
}

/** Without a turn of the event loop. */
function standStill(/** @type {number} */ ms) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Returns whether it became true in time. */
function standStillUntil(/** @type {() => boolean} */ isSo) {
  const until = performance.now() + STANDING_MS;
  while (!isSo()) {
    if (performance.now() > until) return false;
    standStill(1);
  }
  return true;
}

/** Whether nothing is under way before long. */
async function isNothingUnderWay(/** @type {ClientStage} */ stage) {
  const until = performance.now() + PATIENCE_MS;
  while (!stage.isStill) {
    if (performance.now() > until) return false;
    await sleep(1);
  }
  return true;
}

/**
 * What callers do with a pool: the usual, the impatient and the wrong. Each act takes care of everything it began,
 * and ends when that has ended.
 *
 * The flags of a question tell the server what it may do (see misdeeds.mjs): `alone` is said only where bytes behind
 * the answer would be noticed, so never before a `receive()` on the same lease.
 */
import { PulsepoolError } from 'pulsepool';
import { Abort } from './abort.mjs';
import { Urn } from './chance.mjs';
import { FLAGS } from './talk.mjs';

/** @typedef {import('./stage.mjs').Stage} Stage */
/** @typedef {import('./recipes.mjs').Lease} Lease */
/** @typedef {(stage: Stage) => Promise<void>} Act */

/** @type {readonly (readonly [string, number, Act])[]} */
const ACTS = [
  ['pool.request', 420, request],
  ['pool.request with timeoutMs', 60, impatientRequest],
  ['pool.request with a signal', 70, abortedRequest],
  ['pool.request that is idempotent', 60, idempotentRequest],
  ['several requests on one lease', 140, session],
  ['requests on a lease with timeoutMs or a signal', 30, impatientSession],
  ['release with a request under way', 15, releaseMidway],
  ['release after send() without its answer', 15, sendAndLeave],
  ['release while receive() waits', 6, receiveNothing],
  ['pool.use', 50, use],
  ['pool.use that throws', 12, useThatThrows],
  ['pool.use that returns with a request under way', 6, useThatLeaves],
  ['send() and receive()', 40, sendAndReceive],
  ['for await over a lease', 20, iterate],
  ['send() without a reply', 10, tell],
  ['pipelined requests', 50, pipeline],
  ['pipelined requests, one aborted', 10, abortedPipeline],
  ['pipelined requests under one signal', 6, pipelineUnderOneSignal],
  ['use after release', 15, useAfterRelease],
  ['release twice', 15, releaseTwice],
  ['release to another pool', 8, releaseElsewhere],
  ['lease.destroy()', 6, destroy],
  ['lease.detach()', 4, detach],
  ['acquire in a hurry', 20, acquireInAHurry],
  ['acquire with a signal', 25, abortedAcquire],
  ['acquire and release', 15, acquireAndRelease],
];

/** The names of all acts. */
export const ACT_NAMES = [
  ...ACTS.map(([name]) => name),
  'lease.release',
  'pool.release',
  'asyncDispose',
  'abort before the call',
  'abort in the same turn',
  'abort in a later turn',
  'abort after the end of the call',
];

const URN = new Urn(ACTS.map(([name, weight]) => /** @type {const} */ ([name, weight])));
const BY_NAME = new Map(ACTS.map(([name, , act]) => [name, act]));

/** The next act of a caller. */
export function drawAct(/** @type {Stage} */ { chance }) {
  const name = chance.draw(URN);
  const act = BY_NAME.get(name);
  if (act === undefined) throw new Error(`no act '${name}'`);
  return { name, act };
}

// ---- pool.request ----------------------------------------------------------------------------------------

/** @type {Act} */
async function request(stage) {
  const { id, message } = stage.ask(FLAGS.alone);
  await stage.hear(id, stage.pool.request(message));
}

/** @type {Act} */
async function impatientRequest(stage) {
  const { id, message } = stage.ask(FLAGS.alone);
  await stage.hear(id, stage.pool.request(message, { timeoutMs: someTime(stage) }));
}

/** @type {Act} */
async function abortedRequest(stage) {
  const abort = new Abort(stage);
  const { id, message } = stage.ask(FLAGS.alone);
  await stage.hear(id, stage.pool.request(message, { signal: abort.signal }), { abort });
}

/** @type {Act} */
async function idempotentRequest(stage) {
  const { id, message } = stage.ask(FLAGS.alone | FLAGS.idempotent);
  const abort = stage.chance.happens(0.2) ? new Abort(stage) : undefined;
  const timeoutMs = stage.chance.happens(0.3) ? someTime(stage) : undefined;
  const reply = stage.pool.request(message, { idempotent: true, signal: abort?.signal, timeoutMs });
  await stage.hear(id, reply, { abort });
}

// ---- a lease, as it is meant -----------------------------------------------------------------------------

/** @type {Act} */
async function session(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  for (let left = stage.chance.integer(1, 6); left > 0; left--) {
    const { id, message } = stage.ask(FLAGS.alone);
    if (!(await stage.hear(id, lease.request(message)))) break;
    if (stage.chance.happens(0.2)) await stage.dawdle();
  }
  if (stage.chance.happens(0.3)) await stage.dawdle();
  await stage.release(lease);
}

/** @type {Act} */
async function impatientSession(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  for (let left = stage.chance.integer(1, 3); left > 0; left--) {
    const abort = stage.chance.happens(0.6) ? new Abort(stage) : undefined;
    const timeoutMs = stage.chance.happens(0.5) ? someTime(stage) : undefined;
    const { id, message } = stage.ask(FLAGS.alone);
    const reply = lease.request(message, { signal: abort?.signal, timeoutMs });
    // After a question that was given up the next one is tried all the same: it must be refused, or be answered.
    await stage.hear(id, reply, { abort });
  }
  await stage.release(lease);
}

/** @type {Act} */
async function acquireAndRelease(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  if (stage.chance.happens(0.5)) await stage.dawdle();
  await stage.release(lease);
}

/** @type {Act} */
async function sendAndReceive(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  for (let left = stage.chance.integer(1, 3); left > 0; left--) {
    const { id, message } = stage.ask(left === 1 ? FLAGS.alone : 0);
    const reply = async () => {
      await lease.send(message);
      if (stage.chance.happens(0.3)) await stage.dawdle();
      return lease.receive();
    };
    if (!(await stage.hear(id, reply()))) break;
  }
  await stage.release(lease);
}

/** @type {Act} */
async function iterate(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  const questions = Array.from({ length: stage.chance.integer(1, 5) }, () => stage.ask(0));
  /** @type {unknown} */
  let failure;
  try {
    for (const { message } of questions) await lease.send(message);
    for await (const frame of lease) {
      const question = questions.shift();
      if (question !== undefined) await stage.hear(question.id, Promise.resolve(frame));
      if (questions.length === 0) break;
    }
  } catch (error) {
    failure = error;
  }
  for (const { id } of questions) {
    await stage.hear(id, Promise.reject(failure), { tellsOfIt: false });
  }
  await stage.release(lease);
}

/** @type {Act} */
async function tell(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  const { id, message } = stage.ask(FLAGS.silent);
  const told = lease.send(message, { replies: 0 }).then(
    () => {
      stage.tally.told += 1;
    },
    (error) => stage.tally.countRefusal(id, error, true),
  );
  if (stage.chance.happens(0.5)) await told;
  await stage.release(lease);
  await told;
}

/** @type {Act} */
async function use(stage) {
  /** @type {Lease | undefined} */
  let held;
  const result = {};
  try {
    const returned = await stage.pool.use(async (lease) => {
      held = lease;
      stage.hold(lease);
      for (let left = stage.chance.integer(0, 3); left > 0; left--) {
        const { id, message } = stage.ask(FLAGS.alone);
        if (!(await stage.hear(id, lease.request(message)))) break;
      }
      stage.letGo(lease);
      return result;
    });
    if (returned !== result) stage.tally.fault('use() with another result', stage.name);
    if (held?.isHeld) stage.tally.fault('a lease that outlives use()', stage.name);
  } catch (error) {
    stage.tally.countNoLease(error);
  }
}

// ---- a lease, left in the middle -------------------------------------------------------------------------

/** @type {Act} */
async function releaseMidway(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  const { id, message } = stage.ask(FLAGS.alone);
  const heard = stage.hear(id, lease.request(message));
  await stage.dawdle(1);
  await stage.release(lease);
  await heard;
}

/** @type {Act} */
async function sendAndLeave(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  for (let left = stage.chance.integer(1, 3); left > 0; left--) {
    const { message } = stage.ask(0);
    stage.tally.abandoned += 1;
    // Whether it left is nobody's concern any more, and the end of the connection may tell.
    lease.send(message).catch(() => undefined);
  }
  await stage.dawdle(3);
  await stage.release(lease);
}

/** @type {Act} */
async function receiveNothing(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  const nothing = lease.receive().then(
    (frame) => stage.tally.fault('a frame that nobody had asked for', stage.talk.describe(frame)),
    () => undefined,
  );
  await stage.dawdle(3);
  await stage.release(lease);
  await nothing;
}

/** @type {Act} */
async function useThatThrows(stage) {
  const reason = stage.chance.happens(0.5)
    ? new Error('thrown by a caller')
    : Object.freeze({ thrown: true });
  /** @type {Promise<unknown> | undefined} */
  let heard;
  /** @type {Lease | undefined} */
  let held;
  try {
    await stage.pool.use(async (lease) => {
      held = lease;
      stage.hold(lease);
      const { id, message } = stage.ask(FLAGS.alone);
      heard = stage.hear(id, lease.request(message));
      if (stage.chance.happens(0.5)) await stage.dawdle(2);
      else await heard;
      stage.letGo(lease);
      throw reason;
    });
    stage.tally.fault('use() that swallowed an error', stage.name);
  } catch (error) {
    if (held === undefined) stage.tally.countNoLease(error);
    else if (error !== reason) stage.tally.fault('use() with another error', `${stage.name}: ${error}`);
    else if (held.isHeld) stage.tally.fault('a lease that outlives use()', stage.name);
  }
  await heard;
}

/** @type {Act} */
async function useThatLeaves(stage) {
  /** @type {Promise<unknown> | undefined} */
  let heard;
  try {
    await stage.pool.use(async (lease) => {
      stage.hold(lease);
      const { id, message } = stage.ask(FLAGS.alone);
      heard = stage.hear(id, lease.request(message));
      await stage.dawdle(1);
      stage.letGo(lease);
    });
  } catch (error) {
    stage.tally.countNoLease(error);
  }
  await heard;
}

/** @type {Act} */
async function destroy(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  /** @type {Promise<unknown> | undefined} */
  let heard;
  if (stage.chance.happens(0.7)) {
    const { id, message } = stage.ask(FLAGS.alone);
    heard = stage.hear(id, lease.request(message));
    await stage.dawdle(2);
  }
  lease.destroy();
  await stage.mustRefuse('request() after destroy()', () => lease.request(stage.askInVain()));
  await stage.release(lease);
  await heard;
}

/** @type {Act} */
async function detach(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  const { id, message } = stage.ask(FLAGS.alone);
  await stage.hear(id, lease.request(message));
  try {
    const socket = lease.detach();
    stage.tally.did('a socket taken away');
    // Bytes may come that the pool would not have forgiven.
    socket.on('error', () => undefined);
    socket.destroy();
  } catch (error) {
    // The connection has ended, or something lies behind the answer.
    if (!(error instanceof PulsepoolError)) stage.tally.fault('detach() threw', `${stage.name}: ${error}`);
  }
  await stage.release(lease);
}

// ---- several at once -------------------------------------------------------------------------------------

/** @type {Act} */
async function pipeline(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  await Promise.all(askTogether(stage, lease, () => undefined));
  await stage.release(lease);
}

/** @type {Act} */
async function abortedPipeline(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  const heard = askTogether(stage, lease, (index) => (index === 1 ? new Abort(stage) : undefined));
  if (stage.chance.happens(0.5)) await Promise.all(heard);
  else await stage.dawdle(3);
  await stage.release(lease);
  await Promise.all(heard);
}

/** @type {Act} */
async function pipelineUnderOneSignal(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  const abort = new Abort(stage);
  await Promise.all(askTogether(stage, lease, () => abort));
  await stage.release(lease);
}

/**
 * @param {Stage} stage
 * @param {Lease} lease
 * @param {(index: number) => Abort | undefined} abortOf
 */
function askTogether(stage, lease, abortOf) {
  return Array.from({ length: stage.chance.integer(2, 12) }, (_, index) => {
    const abort = abortOf(index);
    const { id, message } = stage.ask(0);
    return stage.hear(id, lease.request(message, { signal: abort?.signal }), { abort });
  });
}

// ---- misuse ----------------------------------------------------------------------------------------------

/** @type {Act} */
async function useAfterRelease(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  await exchange(stage, lease);
  await stage.release(lease);
  for (let left = 2; left > 0; left--) {
    await misuse(stage, lease);
    // By then the socket is most likely somebody else's.
    await stage.dawdle();
  }
}

/** @param {Stage} stage @param {Lease} lease */
async function misuse(stage, lease) {
  const way = stage.chance.pick(['request', 'send', 'receive', 'markClean', 'detach', 'iterate', 'destroy']);
  if (way === 'request') await stage.mustRefuse(way, () => lease.request(stage.askInVain()));
  else if (way === 'send') await stage.mustRefuse(way, () => lease.send(stage.askInVain()));
  else if (way === 'receive') await stage.mustRefuse(way, () => lease.receive());
  else if (way === 'markClean') await stage.mustRefuse(way, () => lease.markClean());
  else if (way === 'detach') await stage.mustRefuse(way, () => lease.detach());
  else if (way === 'iterate') await stage.mustRefuse(way, () => lease[Symbol.asyncIterator]().next());
  // Does nothing. If it ended the socket of its next owner, there would be more such ends than calls that mean it.
  else lease.destroy();
}

/** @type {Act} */
async function releaseTwice(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  if (stage.chance.happens(0.7)) await exchange(stage, lease);
  await stage.release(lease);
  if (stage.chance.happens(0.5)) await stage.dawdle();
  await stage.mustRefuse('release() again', () => lease.release());
  await stage.mustRefuse('pool.release() again', () => stage.pool.release(lease));
  await lease[Symbol.asyncDispose]();
}

/** @type {Act} */
async function releaseElsewhere(stage) {
  const lease = await stage.acquire();
  if (lease === undefined) return;
  await stage.mustRefuse('release() to another pool', () => stage.stranger().release(lease));
  if (!lease.isHeld) stage.tally.fault('a lease that another pool took', stage.name);
  await exchange(stage, lease);
  await stage.release(lease);
}

/** @param {Stage} stage @param {Lease} lease */
function exchange(stage, lease) {
  const { id, message } = stage.ask(FLAGS.alone);
  return stage.hear(id, lease.request(message));
}

// ---- acquire ---------------------------------------------------------------------------------------------

/** @type {Act} */
async function acquireInAHurry(stage) {
  const lease = await stage.acquire({ timeoutMs: stage.chance.pick([0.2, 1, 2, 4]) });
  if (lease === undefined) return;
  await exchange(stage, lease);
  await stage.release(lease);
}

/** @type {Act} */
async function abortedAcquire(stage) {
  const abort = new Abort(stage);
  const lease = await stage.acquire({ signal: abort.signal }, abort);
  if (lease === undefined) return;
  // The signal was for the wait: aborted now, it must not harm the lease.
  await exchange(stage, lease);
  await stage.release(lease);
}

/** A time that is too short, or may be, or is not. @param {Stage} stage */
function someTime({ chance }) {
  const way = chance.integer(0, 3);
  if (way === 0) return chance.pick([0.5, 1, 2, 3]);
  if (way === 3) return 2_000;
  return chance.integer(4, 40);
}

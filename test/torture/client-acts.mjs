/**
 * What callers do with a client: the usual, the impatient and the many at once. Where its pool lends, they do with that what
 * callers of a pool do (acts.mjs).
 */
import { Abort } from './abort.mjs';
import { drawAct } from './acts.mjs';
import { Urn } from './chance.mjs';
import { FLAGS } from './talk.mjs';

/** @typedef {import('./client-stage.mjs').ClientStage} ClientStage */
/** @typedef {(stage: ClientStage) => Promise<void>} Act */

/** @type {readonly (readonly [string, number, Act])[]} */
const ACTS = [
  ['client.request', 300, request],
  ['client.request with timeoutMs', 40, impatientRequest],
  ['client.request with a signal', 90, abortedRequest],
  ['client.request, aborted at once', 25, regrettedRequest],
  ['client.request that is idempotent', 120, idempotentRequest],
  ['client.request with a priority', 25, importantRequest],
  ['client.requests in a row', 60, row],
  ['client.requests at once', 20, together],
  ['a family under a deadline', 30, familyWithDeadline],
  ['a family under a signal', 30, familyWithSignal],
];

/** Where the client's pool lends. @type {readonly (readonly [string, number, Act])[]} */
const LENDING_ACTS = [
  ['client.stream', 20, stream],
  ['client.stream, left early', 6, leftStream],
  ["an act on the client's pool", 180, (stage) => drawPoolAct(stage)],
];

/** The names of all acts. */
export const CLIENT_ACT_NAMES = [...ACTS, ...LENDING_ACTS].map(([name]) => name);

const URN = urn(ACTS);
const LENDING_URN = urn([...ACTS, ...LENDING_ACTS]);
const BY_NAME = new Map([...ACTS, ...LENDING_ACTS].map(([name, , act]) => [name, act]));

/** The next act of a caller. */
export function drawClientAct(/** @type {ClientStage} */ { chance, lends }) {
  const name = chance.draw(lends ? LENDING_URN : URN);
  const act = BY_NAME.get(name);
  if (act === undefined) throw new Error(`no act '${name}'`);
  return { name, act };
}

/** @param {readonly (readonly [string, number, Act])[]} acts */
function urn(acts) {
  return new Urn(acts.map(([name, weight]) => /** @type {const} */ ([name, weight])));
}

async function drawPoolAct(/** @type {ClientStage} */ stage) {
  const { name, act } = drawAct(stage);
  stage.tally.did(name);
  await act(stage);
}

// ---- one request -----------------------------------------------------------------------------------------

/** @type {Act} */
async function request(stage) {
  await stage.request(stage.askAmongOthers());
}

/** @type {Act} */
async function impatientRequest(stage) {
  await stage.request(stage.askAmongOthers(lateFlag(stage, 0.2)), { timeoutMs: fewMs(stage) });
}

/** @type {Act} */
async function abortedRequest(stage) {
  const abort = new Abort(stage);
  const timeoutMs = stage.chance.happens(0.3) ? fewMs(stage) : undefined;
  await stage.request(
    stage.askAmongOthers(lateFlag(stage, 0.3)),
    { signal: abort.signal, timeoutMs },
    { abort },
  );
}

/** @type {Act} */
async function regrettedRequest(stage) {
  const abort = new Abort(stage, 'at once');
  const heard = stage.request(stage.askAmongOthers(), { signal: abort.signal }, { abort });
  abort.now();
  await heard;
}

/** @type {Act} */
async function idempotentRequest(stage) {
  const { chance } = stage;
  const abort = chance.happens(0.2) ? new Abort(stage) : undefined;
  const timeoutMs = chance.happens(0.2) ? fewMs(stage) : undefined;
  const hedge = chance.pick([undefined, true, true, false]);
  const options = { idempotent: true, hedge, timeoutMs, signal: abort?.signal };
  const flags = FLAGS.idempotent | (hedge === true ? lateFlag(stage, 0.2) : 0);
  await stage.request(stage.askAmongOthers(flags), options, { abort });
}

/** @type {Act} */
async function importantRequest(stage) {
  await stage.request(stage.askAmongOthers(), { priority: stage.chance.integer(-10, 10) });
}

// ---- several ---------------------------------------------------------------------------------------------

/** @type {Act} */
async function row(stage) {
  for (let left = stage.chance.integer(2, 8); left > 0; left--) {
    await stage.request(stage.askAmongOthers());
    if (stage.chance.happens(0.1)) await stage.dawdle();
  }
}

/** What leaves in one write, less what is taken back before. @type {Act} */
async function together(stage) {
  const { chance, mode } = stage;
  // Each has a socket of its own where none is shared.
  const most = mode === 'exclusive' ? 6 : chance.pick([8, 8, 30]);
  const heard = Array.from({ length: chance.integer(2, most) }, () => {
    const way = chance.integer(0, 9);
    if (way === 0) return impatientRequest(stage);
    if (way === 1) return abortedRequest(stage);
    if (way === 2) return regrettedRequest(stage);
    if (way === 3) return idempotentRequest(stage);
    return request(stage);
  });
  await Promise.all(heard);
}

/** @type {Act} */
async function familyWithDeadline(stage) {
  const { chance } = stage;
  const asker = stage.client.withDeadline(chance.pick([3, 15, 40, 200]));
  const own = chance.happens(0.3) ? new Abort(stage) : undefined;
  const side = Array.from({ length: chance.integer(1, 4) }, () =>
    stage.request(stage.askAmongOthers(), undefined, { asker }),
  );
  if (own !== undefined) {
    side.push(stage.request(stage.askAmongOthers(), { signal: own.signal }, { abort: own, asker }));
  }
  for (let left = chance.integer(0, 3); left > 0; left--) {
    await stage.request(stage.askAmongOthers(FLAGS.idempotent), { idempotent: true }, { asker });
  }
  await Promise.all(side);
}

/** @type {Act} */
async function familyWithSignal(stage) {
  const { chance } = stage;
  const abort = new Abort(stage);
  // Such a family can't be asked anything.
  if (abort.wasBefore) return;
  const timeoutMs = chance.happens(0.3) ? 20 : undefined;
  const asker = stage.client.withDeadline({ signal: abort.signal, timeoutMs });
  // Of some calls a signal of their own, which never is aborted: then they listen to two.
  const own = chance.happens(0.5) ? new AbortController().signal : undefined;
  if (own !== undefined) stage.keepSignal(own);
  const heard = Array.from({ length: chance.integer(2, 8) }, () => {
    const isTwice = chance.happens(0.3);
    const question = stage.askAmongOthers(isTwice ? FLAGS.idempotent : 0);
    return stage.request(question, { signal: own, idempotent: isTwice }, { abort, asker });
  });
  await Promise.all(heard);
}

// ---- streams ---------------------------------------------------------------------------------------------

/** @type {Act} */
async function stream(stage) {
  await streamOf(stage, false);
}

/** @type {Act} */
async function leftStream(stage) {
  await streamOf(stage, true);
}

/** @param {ClientStage} stage @param {boolean} isLeft */
async function streamOf(stage, isLeft) {
  const questions = Array.from({ length: stage.chance.integer(1, 5) }, () => stage.ask(0));
  const messages = questions.map(({ message }) => message);
  const [first] = messages;
  if (first === undefined) return;
  let left = messages.length;
  const isLast = () => {
    left -= 1;
    return left === 0;
  };
  async function* saidOneByOne() {
    yield* messages;
  }
  /** @type {unknown} */
  let failure = new Error('a stream that ended before its last frame');
  try {
    const frames = stage.client.stream(messages.length === 1 ? first : saidOneByOne(), { isLast });
    for await (const frame of frames) {
      const question = questions.shift();
      if (question === undefined) stage.tally.fault('a frame behind the last one', stage.name);
      else await stage.hear(question.id, Promise.resolve(frame));
      if (isLeft && questions.length > 0) break;
    }
  } catch (error) {
    failure = error;
    isLeft = false;
  }
  for (const { id } of questions) {
    if (isLeft) stage.tally.abandoned += 1;
    else await stage.hear(id, Promise.reject(failure), { tellsOfIt: false });
  }
}

/**
 * At times, that the answer is to be late. Where many come in order, one that is late would hold up all others.
 *
 * @param {ClientStage} stage
 * @param {number} probability
 */
function lateFlag({ chance, holdsUp }, probability) {
  return !holdsUp && chance.happens(probability) ? FLAGS.tried : 0;
}

/** A time that is too short, or may be, or is not. @param {ClientStage} stage */
function fewMs({ chance }) {
  const way = chance.integer(0, 3);
  if (way === 0) return chance.pick([0.5, 1, 2, 3]);
  return way === 3 ? 200 : chance.integer(3, 30);
}

/**
 * Random lives of a pool: callers come, go, abort and forget; dials, handshakes, hooks and pings succeed, fail, take
 * their time or never end; the server answers, stalls, dies and comes back; endpoints join, leave, move and fail one by
 * one, names change and get lost, and so does the network; the pool is resized, reset, suspended and closed; time passes
 * and freezes. Whenever nothing moves the books must balance, and at the end nothing may be left.
 *
 * `PULSEPOOL_MODEL_STEPS` sets how many things happen (100,000 by default). A failure prints what is to be set to see
 * it again: `PULSEPOOL_MODEL_SEED`, `PULSEPOOL_MODEL_PATH`, `PULSEPOOL_MODEL_REPLAY`.
 */
import process from 'node:process';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ACTIONS, actions, closings, worlds } from './model/actions.ts';
import { DNS_ANSWERS, FATES } from './model/places.ts';
import { GATES, WAYS } from './model/ways.ts';
import { World } from './model/world.ts';

const STEPS = Number(process.env['PULSEPOOL_MODEL_STEPS'] ?? 100_000);
const SEED = Number(process.env['PULSEPOOL_MODEL_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const PATH = process.env['PULSEPOOL_MODEL_PATH'];
const REPLAY = process.env['PULSEPOOL_MODEL_REPLAY'];

// Lives in one search: when one fails, it is shrunk from here.
const LIVES = 50;
// More than ten times what a slow machine needs for a step.
const MS_PER_STEP = 20;

// What must have been seen in a run of the usual length, beside every action and every way of every gate.
const USUAL_STEPS = 100_000;
// Not 'closed ejected', of which some runs have none: what is put out has mostly lost its sockets before. See
// test/unit/pool/endpoints.test.ts.
const OUTCOMES = [
  'acquire: ok',
  'acquire: aborted',
  'acquire: ERR_ACQUIRE_TIMEOUT',
  'acquire: ERR_ACQUIRE_FAILED',
  'acquire: told while waiting',
  'acquire: told at once',
  'acquire: ERR_OVERLOADED',
  'acquire: ERR_POOL_CLOSED',
  'tryAcquire: lease',
  'tryAcquire: nothing',
  'request: ok',
  'request: aborted',
  'request: ERR_DEADLINE',
  'request: ERR_CONNECTION_LOST',
  'use: ok',
  'use: aborted',
  'ready: ok',
  'ready: ERR_REFUSED',
  'reset: ok',
  'suspend: ok',
  'suspend: ERR_POOL_CLOSED',
  'close: ok',
  'reply',
  'detached',
  'dialFailed',
  'pingMissed',
  'acquired',
  'released',
  'leaked',
  'unleaked',
  'deadlockSuspected',
  'stalled',
  'hookFailed onAcquire',
  'hookFailed onRelease',
  'hookFailed onClose',
  'closed idle',
  'closed surplus',
  'closed lifetime',
  'closed uses',
  'closed reset',
  'closed heartbeat',
  'closed peer-closed',
  'closed peer-reset',
  'closed unsolicited',
  'closed dirty',
  'closed aborted',
  'closed timeout',
  'closed protocol',
  'closed failed',
  'closed hook',
  'closed destroyed',
  'closed detached',
  'closed shutdown',
  'closed removed',
  'closed rebalanced',
  'closed network',
  'ejected',
  'restored',
  'endpointsChanged',
  'addressesChanged',
  'networkChanged',
  'resolveFailed',
  'all endpoints down',
  'calm',
  'calm but for one: refuse',
  'calm but for one: hang',
  'calm but for one: untrusted',
  'steps after close',
];

// Nothing in the pool may throw where nobody hears it.
const warnings: Error[] = [];
const onWarning = (warning: Error): void => {
  if (warning.name === 'PulsepoolWarning') warnings.push(warning);
};

// Vitest asks for a hundred frames, and most of what happens here is errors.
const { stackTraceLimit } = Error;

beforeAll(() => {
  Error.stackTraceLimit = 10;
  process.on('warning', onWarning);
});

afterAll(() => {
  Error.stackTraceLimit = stackTraceLimit;
  process.off('warning', onWarning);
});

const tally = new Map<string, number>();
const count = (what: string): number => tally.get(what) ?? 0;

const life = fc.asyncProperty(
  worlds,
  fc.commands([actions], {
    maxCommands: 250,
    size: 'max',
    ...(REPLAY === undefined ? {} : { replayPath: REPLAY }),
  }),
  fc.commands([actions, closings], { maxCommands: 12, size: 'max', disableReplayLog: true }),
  async (drawn, early, late) => {
    // What was said in a life that failed must not fail the next one.
    warnings.splice(0);
    const world = new World(drawn, tally);
    const setUp = () => ({ model: world, real: world });
    await fc.asyncModelRun(setUp, early);
    if (drawn.isCalmedDown) await world.calmDown();
    const before = count('steps');
    world.close();
    await fc.asyncModelRun(setUp, late);
    tally.set('steps after close', count('steps after close') + count('steps') - before);
    await world.end();
    if (warnings.length > 0) throw new Error(`something threw inside: ${warnings.splice(0)[0]?.message}`);
  },
);

it(
  `keeps every promise for ${STEPS.toLocaleString('en')} steps`,
  async () => {
    const startedAt = performance.now();
    const cpuBefore = process.cpuUsage();
    for (let seed = SEED; count('steps') < STEPS; seed++) {
      const numRuns = LIVES;
      await fc.assert(life, { seed, numRuns, ...(PATH === undefined ? {} : { path: PATH }) });
      if (PATH !== undefined) return;
    }
    const took = Math.round((performance.now() - startedAt) / 1_000);
    const cpu = process.cpuUsage(cpuBefore);
    const used = Math.round((cpu.user + cpu.system) / 1e6);
    console.log(`${count('steps')} steps in ${took} s, ${used} s of it at work, from seed ${SEED}`);
    if (process.env['PULSEPOOL_MODEL_TALLY'] !== undefined)
      console.log(Object.fromEntries([...tally].sort()));
    expect(count('steps')).toBeGreaterThanOrEqual(STEPS);
    const wanted: string[] = [...ACTIONS, 'in haste'];
    if (STEPS >= USUAL_STEPS) {
      wanted.push(...OUTCOMES);
      wanted.push(...FATES.map((fate) => `fate ${fate}`), ...DNS_ANSWERS.map((answer) => `dns ${answer}`));
      for (const gate of GATES) if (gate !== 'dial') wanted.push(...WAYS.map((way) => `${gate} ${way}`));
    }
    expect(wanted.filter((what) => count(what) === 0)).toEqual([]);
  },
  60_000 + STEPS * MS_PER_STEP,
);

/**
 * What is tortured: pools by their leases, or clients in one of their modes. Each has its recipes, its stages, and what
 * callers do on them.
 */
import { drawAct } from './acts.mjs';
import { drawClientAct } from './client-acts.mjs';
import { CLIENT_RECIPES, makeClient } from './client-recipes.mjs';
import { ClientStage } from './client-stage.mjs';
import { LANES } from './doors.mjs';
import { askAlone, askHastily } from './lonely.mjs';
import { makePool, RECIPES } from './recipes.mjs';
import { Stage } from './stage.mjs';
import { TALKS } from './talk.mjs';

/**
 * @typedef {object} Recipe
 * @property {string} name
 * @property {number} callers
 * @property {number} share
 * @property {boolean} isPinged
 */

/**
 * What a stage is made of, beside its recipe.
 *
 * @typedef {object} Place
 * @property {import('./recipes.mjs').Door} door
 * @property {string} cert
 * @property {Omit<ConstructorParameters<typeof Stage>[0], 'pool' | 'talk'>} parts
 */

/**
 * A stage with those who act on it.
 *
 * @typedef {object} Play
 * @property {Stage} stage
 * @property {() => { name: string, act: () => Promise<unknown> }} draw the next act of a caller
 * @property {(bidHastyFarewell: (signAt: string) => Promise<void>) => Promise<void>} beAlone what is done when nobody else acts
 */

/**
 * @typedef {object} SubjectPlan
 * @property {readonly Recipe[]} recipes
 * @property {number} leastPools of each lane, so that every recipe comes up
 * @property {(recipe: number, place: Place) => Play} begin
 */

/**
 * @param {import('./doors.mjs').Subject} subject
 * @returns {SubjectPlan}
 */
export function planOf(subject) {
  return subject === 'pool' ? POOLS : clients(subject);
}

/** @param {readonly { name: string, callers: number, share: number, options: { heartbeat?: unknown } }[]} recipes */
function listed(recipes) {
  return recipes.map(({ name, callers, share, options }) => ({
    name,
    callers,
    share,
    isPinged: options.heartbeat !== undefined,
  }));
}

/** @type {SubjectPlan} */
const POOLS = {
  recipes: listed(RECIPES),
  leastPools: RECIPES.length,
  begin(index, { door, cert, parts }) {
    const pool = makePool(at(RECIPES, index), door, cert);
    const stage = new Stage({ ...parts, pool, talk: TALKS[door.talk] });
    return {
      stage,
      draw() {
        const { name, act } = drawAct(stage);
        return { name, act: () => act(stage) };
      },
      beAlone: () => Promise.resolve(),
    };
  },
};

/**
 * @param {import('pulsepool').ClientMode} mode
 * @returns {SubjectPlan}
 */
function clients(mode) {
  const recipes = CLIENT_RECIPES[mode];
  return {
    recipes: listed(recipes),
    // The lanes share them out.
    leastPools: Math.ceil(recipes.length / LANES),
    begin(index, { door, cert, parts }) {
      const recipe = at(recipes, index);
      const client = makeClient(mode, recipe, door, cert);
      const stage = new ClientStage({ ...parts, client, mode, recipe, talk: TALKS[door.talk] });
      return {
        stage,
        draw() {
          const { name, act } = drawClientAct(stage);
          return { name, act: () => act(stage) };
        },
        async beAlone(bidHastyFarewell) {
          await askAlone(stage);
          await askHastily(stage, bidHastyFarewell);
        },
      };
    },
  };
}

/**
 * @template T
 * @param {readonly T[]} list
 * @param {number} index
 * @returns {T}
 */
function at(list, index) {
  const one = list[index];
  if (one === undefined) throw new Error(`bug: no recipe ${index}`);
  return one;
}

/**
 * The same for pipes and logs: one line a second, no colours.
 */

/** @import { Moment } from './live-view.mjs' */

/**
 * @param {Moment} moment
 * @returns {string}
 */
export function plainLine({ elapsedMs, meter, scenes, scene, stats }) {
  const { dialing, idle, leased, max, total, waiting } = stats;
  const errors = [...meter.errors].map(([code, { count }]) => `${code} ${count}`).join(', ');
  return (
    `${clock(elapsedMs)} ${(scenes[scene]?.name ?? '').padEnd(7)}  total=${total}/${max} idle=${idle} ` +
    `leased=${leased} dialing=${dialing} waiting=${waiting}  ` +
    `${Math.round(meter.recent().perSecond)} req/s  errors: ${errors || 'none'}`
  );
}

/**
 * @param {number} elapsedMs
 * @param {string} name
 * @param {string} says
 */
export function plainScene(elapsedMs, name, says) {
  return `${clock(elapsedMs)} ${name}: ${says}`;
}

/** @param {number} elapsedMs */
function clock(elapsedMs) {
  return `${(elapsedMs / 1000).toFixed(1)}s`.padStart(6);
}

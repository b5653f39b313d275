/**
 * Callers who GET the same small value, each again as soon as it has its reply, and what that took: the same crowd for
 * every contestant of the Redis benchmark.
 */

export const KEY = 'user:1000:name';
export const VALUE = 'a small value of 32 bytes, ASCII';

/** How many callers there are at once. */
export const CROWDS = [1, 10, 50, 500];

/**
 * What a number of GETs took. Times are in us; `waits` are those of single GETs, sorted.
 *
 * @typedef {object} Round
 * @property {number} wallUs for each GET
 * @property {number} cpuUs of this process, for each GET
 * @property {Float64Array} waits
 */

/**
 * @param {() => Promise<unknown>} get
 * @param {number} callers
 * @param {number} requests together
 * @param {number} every which of them is timed: 16 for one in 16
 * @returns {Promise<Round>}
 */
export async function crowd(get, callers, requests, every) {
  const waits = new Float64Array(Math.ceil(requests / every));
  let left = requests;
  const caller = async () => {
    while (left > 0) {
      left -= 1;
      if (left % every > 0) {
        check(await get());
        continue;
      }
      const at = left / every;
      const begun = performance.now();
      check(await get());
      waits[at] = (performance.now() - begun) * 1_000;
    }
  };
  const cpu = process.cpuUsage();
  const begun = performance.now();
  await Promise.all(Array.from({ length: callers }, caller));
  const wallUs = (performance.now() - begun) * 1_000;
  const { system, user } = process.cpuUsage(cpu);
  return { wallUs: wallUs / requests, cpuUs: (user + system) / requests, waits: waits.sort() };
}

/** @param {unknown} reply */
function check(reply) {
  if (reply !== VALUE) throw new Error(`bug: the wrong reply: ${reply}`);
}

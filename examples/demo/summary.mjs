/**
 * What is left to say at the end.
 */
import { styleText } from 'node:util';
import { many, ms } from './watch.mjs';

/**
 * @import { ErrorCode, PoolStats } from 'pulsepool'
 * @import { Meter } from './meter.mjs'
 * @import { Watch } from './watch.mjs'
 *
 * @typedef {object} Outcome
 * @property {Meter} meter
 * @property {PoolStats} stats After close.
 * @property {Watch} watch
 * @property {number} elapsedMs
 * @property {{ from: number, to: number } | undefined} outage When the demo's server was down.
 * @property {number | undefined} healedMs From the server's return to the first reply.
 * @property {number} forced Leases that `close()` had to cut off.
 */

/** @type {Readonly<Record<ErrorCode, string>>} */
const MEANINGS = {
  ERR_INVALID_OPTION: 'an option is unknown or impossible',
  ERR_REFUSED: 'nothing listens there',
  ERR_CONNECT_TIMEOUT: 'the dial did not finish in time',
  ERR_UNREACHABLE: 'there is no route to the server',
  ERR_DNS: 'the name could not be resolved',
  ERR_TLS_TRUST: 'the certificate is not trusted',
  ERR_TLS: 'TLS could not be agreed',
  ERR_TOO_MANY_FILES: 'out of file descriptors',
  ERR_NO_LOCAL_PORTS: 'out of local ports',
  ERR_SERVER_FULL: 'the server accepted and then hung up',
  ERR_HANDSHAKE: 'onConnect failed',
  ERR_CONNECT: 'the dial failed',
  ERR_ACQUIRE_TIMEOUT: 'no socket became free in time',
  ERR_ACQUIRE_FAILED: 'no socket could be opened',
  ERR_OVERLOADED: 'too many callers waited',
  ERR_POOL_CLOSED: 'the pool was closed',
  ERR_CIRCUIT_OPEN: 'the breaker was open',
  ERR_READ_TIMEOUT: 'no reply in time; its socket was ended',
  ERR_WRITE_TIMEOUT: 'the server did not read in time',
  ERR_FRAME_TIMEOUT: 'a reply began and did not end in time',
  ERR_DEADLINE: "the caller's own deadline passed",
  ERR_CONNECTION_LOST: 'lost after it was sent, so not repeated',
  ERR_FRAME: 'the bytes were no frame',
  ERR_UNSOLICITED: 'bytes came that nobody had asked for',
  ERR_HEARTBEAT: 'pings were missed',
  ERR_HOOK: 'a hook threw or took too long',
  ERR_LEAKED: 'a lease was lost without having been released',
  ERR_LEASE: 'a lease was used after its end',
};

/**
 * @param {Outcome} outcome
 * @returns {string}
 */
export function summary(outcome) {
  const { meter, stats, elapsedMs, forced, healedMs, outage } = outcome;
  const lines = [
    styleText('bold', 'summary'),
    fact(
      'requests served',
      `${meter.served.toLocaleString('en')} in ${(elapsedMs / 1000).toFixed(1)} s${latencies(meter)}`,
    ),
    fact('mismatched', mismatches(meter)),
  ];
  if (meter.unrelated > 0) {
    lines.push(
      fact(
        'other replies',
        `${meter.unrelated.toLocaleString('en')} did not repeat the question: is it an echo server?`,
      ),
    );
  }
  lines.push(fact('failed', meter.failed === 0 ? 'none' : `${meter.failed.toLocaleString('en')}, by code:`));
  for (const [code, { count, causes }] of meter.errors) lines.push(errorLine(code, count, causes));
  if (outage !== undefined) lines.push(fact('healed', healing(healedMs)));
  lines.push(...dialLines(outcome));
  lines.push(fact('sockets opened', String(stats.opened)));
  lines.push(fact('sockets closed', `${stats.closed}: ${reasons(stats)}`));
  lines.push(fact('pings', `${stats.pinged} answered, ${stats.pingMissed} missed`));
  lines.push(fact('left behind', leftBehind(stats, forced)));
  return `${lines.join('\n')}\n`;
}

/**
 * @param {string} name
 * @param {string} value
 */
function fact(name, value) {
  return `  ${styleText('dim', name.padEnd(17))}${value}`;
}

/** @param {Meter} meter */
function latencies(meter) {
  const p50 = meter.percentile(0.5);
  const p99 = meter.percentile(0.99);
  return p50 === undefined || p99 === undefined ? '' : `; latency p50 ${ms(p50)}, p99 ${ms(p99)}`;
}

/** @param {Meter} meter */
function mismatches({ mismatched, firstMismatch }) {
  if (mismatched === 0) return `${styleText('green', '0')}: every reply was for the caller who got it`;
  return styleText('red', `${mismatched}: a reply reached the wrong caller. The first one: ${firstMismatch}`);
}

/**
 * @param {string} code
 * @param {number} count
 * @param {ReadonlySet<string>} causes
 */
function errorLine(code, count, causes) {
  const meaning = MEANINGS[/** @type {ErrorCode} */ (code)] ?? 'not an error of pulsepool';
  const why = causes.size === 0 ? '' : ` (${[...causes].join(', ')})`;
  return `    ${styleText('red', code.padEnd(22))}${String(count).padStart(6)}  ${meaning}${why}`;
}

/**
 * @param {Outcome} outcome
 * @returns {string[]}
 */
function dialLines({ outage, watch }) {
  if (outage === undefined) return [];
  const dials = watch.failedDials.filter(({ at }) => at >= outage.from && at <= outage.to);
  // Those that ran side by side when the server went are one step of the back-off.
  const steps = new Map(dials.map((dial) => [dial.failures, dial.at + dial.backoffMs]));
  const allowed = 1 + [...steps.values()].filter((until) => until <= outage.to).length;
  const early = dials.filter(({ isEarly }) => isEarly).length;
  const down = ((outage.to - outage.from) / 1000).toFixed(1);
  const verdict = early === 0 ? 'none came early' : styleText('red', `${early} came early`);
  return [
    fact(
      'dials while down',
      `${dials.length} in ${down} s: ${many(steps.size, 'round')}, back-off allowed ${allowed}; ${verdict}`,
    ),
  ];
}

/** @param {number | undefined} healedMs */
function healing(healedMs) {
  if (healedMs === undefined) return styleText('red', 'no: there was no reply after the server was back');
  return `first reply ${ms(healedMs)} after the server was back`;
}

/** @param {PoolStats} stats */
function reasons({ closedBy }) {
  const counts = Object.entries(closedBy).sort(([, a], [, b]) => b - a);
  return counts.map(([reason, count]) => `${reason} ${count}`).join(', ') || 'none';
}

/**
 * @param {PoolStats} stats
 * @param {number} forced
 */
function leftBehind({ total, waiting }, forced) {
  if (total === 0 && waiting === 0 && forced === 0) return 'nothing: no socket, no waiting caller, no lease';
  return styleText(
    'red',
    `${many(total, 'socket')}, ${many(waiting, 'waiting caller')}, ${many(forced, 'lease')} cut off`,
  );
}

/**
 * The outcome of a torture as one table.
 */
import { sum } from './verdict.mjs';

/** @param {import('./torture.mjs').Outcome} outcome */
export function tableOf({ subject, seed, demanded, tally, server, seconds }) {
  const { abandoned, aborted, answered, asked, mismatched, refusals, told } = tally;
  const share = (/** @type {number} */ count) => `${number(count)} (${((100 * count) / asked).toFixed(1)} %)`;
  return [
    row('tortured', subject === 'pool' ? 'pools, by their leases' : `clients, ${subject}`),
    row('seed', String(seed)),
    row(
      'requests',
      demanded === Number.POSITIVE_INFINITY ? number(asked) : `${number(asked)} of ${number(demanded)}`,
    ),
    row('answered right', share(answered)),
    row('MISMATCHES', number(mismatched)),
    row('refused by the server', share(refusals)),
    row('aborted by callers', share(aborted)),
    row('abandoned, or sent without a reply', share(abandoned + told)),
    row('failed', share(sum(tally.refused))),
    ...counts(tally.refused),
    row('acquires that failed', number(sum(tally.acquiresRefused) + tally.acquiresAborted)),
    ...counts({ ...tally.acquiresRefused, aborted: tally.acquiresAborted }),
    row('leases', number(tally.leases)),
    row('pools', number(tally.pools)),
    ...(subject === 'pool' ? [] : [row('what clients did by themselves', ''), ...counts(tally.clients)]),
    row('sockets opened', `${number(tally.opened)} (${number(server.accepted)} were accepted)`),
    row('dials that failed', number(sum(tally.dialsFailed))),
    ...counts(tally.dialsFailed),
    row('pings', `${number(tally.pinged)} answered, ${number(tally.pingMissed)} missed`),
    row('sockets closed, by reason', number(sum(tally.closedBy))),
    ...counts(tally.closedBy),
    row('what the server did', ''),
    ...counts(server.counts),
    row('what the callers did', ''),
    ...counts(tally.acts),
    row('non-idempotent and done twice', number(server.repeated.length)),
    row('left over', `${number(server.open.length)} sockets at the server`),
    row('seconds', `${seconds.toFixed(1)} (${number(Math.round(asked / seconds))} requests/s)`),
  ].join('\n');
}

/** The most frequent first. @param {Record<string, number>} record */
function counts(record) {
  return Object.entries(record)
    .sort(([, one], [, other]) => other - one)
    .map(([name, count]) => row(`  ${name}`, number(count)));
}

/** @param {string} name @param {string} value */
function row(name, value) {
  return `${name.padEnd(52)}${value}`.trimEnd();
}

function number(/** @type {number} */ value) {
  return value.toLocaleString('en-US');
}

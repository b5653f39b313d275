/** The page: what is modelled and what is not, then every section. */
import { markdownOf, type Section } from './section.ts';
import { COLD_FACTOR, COLD_MS, ROUND_TRIP_MS, SIGMA } from './server.ts';
import { SERVICE_MS, TIMEOUT_MS } from './world.ts';

export function pageOf(sections: readonly Section[]): string {
  return `${intro()}\n\n${sections.map(markdownOf).join('\n\n')}\n\n${limits()}\n`;
}

function intro(): string {
  return `# Simulation

What the policies do with thousands of clients and hundreds of endpoints, which no single machine can hold. The policies are
the package’s own code, as it runs in a pool: the balancer with its policies, latencies, ejection and slow start
(\`src/balance\`), the retry budget and the table that decides about retries (\`src/retry\`), the back-off
(\`src/transport\`). Only servers, network and callers are modelled, on a clock that is moved from event to event.

\`npm run simulate\` runs it all in two to three minutes and prints the tables; \`-- --only restart\` runs one of
${sections()}; \`-- --write\` writes this page and its pictures. Chance comes from a seed (\`-- --seed 2\`; 1 by default):
with the same one the page is the same to the byte, on any machine with the same Node.

## The model

- A client is one process, with a balancer and a budget of its own. It knows of an endpoint only what its own requests and
  dials met there.
- A server has 4 workers and one queue, in order. A request takes its worker ${SERVICE_MS} ms on average (lognormal, sigma ${SIGMA}), so
  it can do 200 a second. It takes in 400 requests, 2 s of work, and refuses more. A cold one is ${COLD_FACTOR} times as slow, and
  warms up in ${COLD_MS / 1_000} s. It does not know who has given up.
- The network takes ${ROUND_TRIP_MS} ms there and back, and loses nothing.
- Callers are a Poisson process, spread over the clients by chance. Every request may be repeated: 3 times, on another
  endpoint if there is one, after a wait with full jitter, if the budget pays for it. A try times out after ${TIMEOUT_MS / 1_000} s.
- A client has one socket to each endpoint, shared by all requests. As in the pool, a request whose endpoint has no socket goes to
  another one that has, and a socket is dialed for the next.
- \`random\` is no policy of the package: any endpoint, whatever is known about it. It is what the others are measured against.

Unless something else is said, everything else is as it is by default.`;

  function sections(): string {
    return '`spread`, `slow`, `restart`, `dials`, `overload`, `ejection`, `hashing`';
  }
}

function limits(): string {
  return `## Limits

- Sockets, pool sizes, queues in the client, TLS and the event loop are not there. They are measured by the
  [benchmarks](benchmarks.md).
- All clients hear of a new endpoint in the same moment, which is the worst case for a herd; with DNS they hear of it over half
  a minute.
- Nobody’s patience ends: there are no deadlines, and callers ask no less when they fail, as those of a web page do not.
- Clients do not tell each other anything, because those of the package do not.
- One seed is one course of events. Others give the same within a few per cent; counts of rare things vary more.`;
}

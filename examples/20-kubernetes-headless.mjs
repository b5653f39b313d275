// A headless service of Kubernetes: its name has the address of each pod that is ready, and each of them is an endpoint. A
// pod leaves and another one comes: who is served goes on, and nobody fails. Then the same by SRV records.
//
//     node examples/20-kubernetes-headless.mjs         always with pods and a name server of its own
//
// It takes 127.0.0.11 to 127.0.0.14, which Linux has. On macOS: sudo ifconfig lo0 alias 127.0.0.11, and so on.
import assert from 'node:assert/strict';
import { createPool, lines } from 'pulsepool';
import { startDns } from './own-dns.mjs';
import { eachLine, startServer } from './own-server.mjs';

/** @import { Pool } from 'pulsepool' */

/** A pod says who it is: soon, or after 600 ms. @param {string} name */
const answerAs = (name) => (/** @type {import('node:net').Socket} */ socket) =>
  eachLine(socket, (line) => setTimeout(() => socket.write(`${name}\n`), line === 'long job' ? 600 : 10));

const SERVICE = 'orders.shop.svc.cluster.local';
const podA = await startServer(answerAs('a'), 0, '127.0.0.11');
const { port } = podA;
const podB = await startServer(answerAs('b'), port, '127.0.0.12');
const podC = await startServer(answerAs('c'), port, '127.0.0.13');
const podD = await startServer(answerAs('d'), port, '127.0.0.14');
const dns = await startDns({ [SERVICE]: [podA.host, podB.host, podC.host] });

// In a cluster `dns` is left out: the system's resolver asks the name server of the cluster. The dot at the end says that the
// name is whole; without it `ndots:5` has it tried with each search domain first.
//
// With `tls: { ca }`, each pod's certificate must hold the service's name, orders.shop.svc.cluster.local: the address that a
// pod had is soon another one's, maybe of another service.
const pool = createPool({
  endpoints: { host: `${SERVICE}.`, port },
  codec: lines(),
  min: 6,
  max: 6,
  dns: { resolvers: [dns.address], refreshMs: 300 },
});
pool.on('endpointsChanged', ({ added, removed, total }) => {
  const all = [...added.map((one) => `+${podOf(one)}`), ...removed.map((one) => `-${podOf(one)}`)];
  console.log(`endpoints: ${all.join(' ')}, ${total} in all`);
});

// 1. Each pod has its share of the sockets and of the callers.
await pool.ready();
show(await spread(pool, 240), pool);

// 2. Pod c is told to stop. It leaves the service, finishes what it does, and ends; a preStop hook that sleeps for longer
//    than the records are cached (and than refreshMs, 30 s by default) gives its clients the time. Pod d comes.
const longJobs = Array.from({ length: 6 }, () => pool.request('long job'));
const changed = new Promise((resolve) => {
  pool.on('endpointsChanged', resolve);
});
dns.records[SERVICE] = [podA.host, podB.host, podD.host];
await changed;
const finished = await Promise.all(longJobs);
console.log(
  `long jobs finished: ${finished.length}, ${finished.filter((pod) => pod === 'c').length} of them by c`,
);
podC.kill();
const later = await spread(pool, 240);
show(later, pool);
assert.ok(later['c'] === undefined && later['d'] !== undefined);
const { closed, closedBy } = pool.stats();
const left = closedBy.removed ?? 0;
console.log(`sockets that left with c: ${left}; closed for other reasons: ${closed - left}`);
await pool.close();

// 3. SRV records know more: ports, weights as shares, and priorities as tiers. Kubernetes has them for named ports of a
//    headless service, all with the same weight; Consul and others let you say.
dns.records[`_orders._tcp.${SERVICE}`] = [
  { target: `a.${SERVICE}`, port, weight: 3 },
  { target: `b.${SERVICE}`, port, weight: 1 },
  { target: `d.${SERVICE}`, port, priority: 1 },
];
dns.records[`a.${SERVICE}`] = [podA.host];
dns.records[`b.${SERVICE}`] = [podB.host];
dns.records[`d.${SERVICE}`] = [podD.host];
const bySrv = createPool({
  endpoints: { srv: `_orders._tcp.${SERVICE}` },
  codec: lines(),
  dns: { resolvers: [dns.address] },
});
show(await spread(bySrv, 240), bySrv);
await bySrv.close();

for (const pod of [podA, podB, podD]) pod.close();
dns.close();

/**
 * Eight callers ask so often all together; who answered how often.
 *
 * @param {Pool<string, string>} from
 * @param {number} count
 */
async function spread(from, count) {
  /** @type {Record<string, number>} */
  const answers = {};
  const callers = Array.from({ length: 8 }, async () => {
    while (count > 0) {
      count -= 1;
      const pod = await from.request('who are you?');
      answers[pod] = (answers[pod] ?? 0) + 1;
    }
  });
  await Promise.all(callers);
  return answers;
}

/** @param {Record<string, number>} answers @param {Pool<string, string>} from */
function show(answers, from) {
  console.table(
    from.endpoints().map(({ endpoint, state, tier, share, open }) => ({
      pod: podOf(endpoint),
      state,
      tier,
      share: `${Math.round(share * 100)} %`,
      open,
      answers: answers[podOf(endpoint)] ?? 0,
    })),
  );
}

/** `a` of `orders.shop.svc.cluster.local/127.0.0.11:7000`. @param {string} endpoint */
function podOf(endpoint) {
  const at = Number(/127\.0\.0\.(\d+)/.exec(endpoint)?.[1]);
  return 'abcd'[at - 11] ?? endpoint;
}

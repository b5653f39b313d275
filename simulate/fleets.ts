/** The sizes that the scenarios share. Each server has four workers, which can do 200 requests a second. */
import type { Setting } from './world.ts';

type Fleet = Pick<Setting, 'clients' | 'servers' | 'known'>;

/** Many small processes, each of which knows every endpoint: at half load 10 requests a second each. */
export const SERVICES: Fleet = { clients: 2_000, servers: 200 };
/** The same, each of which knows twenty endpoints, drawn by chance. */
export const SUBSETS: Fleet = { clients: 2_000, servers: 200, known: 20 };
/** Few busy processes: at half load 1,000 requests a second each. */
export const PROXIES: Fleet = { clients: 20, servers: 200 };
/** As busy, with fewer endpoints. */
export const SMALL: Fleet = { clients: 20, servers: 20 };

/** What they are called in tables. */
export function nameOf({ clients, known, servers }: Fleet): string {
  const of = known === undefined ? '' : `${known} of `;
  const many = clients === 1 ? 'client' : 'clients';
  return `${clients.toLocaleString('en')} ${many}, ${of}${servers} endpoints`;
}

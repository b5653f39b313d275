/** All scenarios, in the order of the page. */
import { dials } from './scenarios/dials.ts';
import { ejection } from './scenarios/ejection.ts';
import { hashing } from './scenarios/hashing.ts';
import { overload } from './scenarios/overload.ts';
import { restart } from './scenarios/restart.ts';
import { slow } from './scenarios/slow.ts';
import { spread } from './scenarios/spread.ts';
import type { Section } from './section.ts';

export const scenarios: Readonly<Record<string, (seed: number) => Section>> = {
  spread,
  slow,
  restart,
  dials,
  overload,
  ejection,
  hashing,
};

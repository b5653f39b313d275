/**
 * The garbage collector, on request: for what happens when something has been forgotten.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose_gc');
const collect = runInNewContext('gc') as () => void;

/** Collects all that nobody holds, and lets those be told who watch for it. */
export async function collectGarbage(): Promise<void> {
  // Twice: what the first round found dead may have held others.
  for (let round = 0; round < 2; round++) {
    // A turn first: what a call has left on the stack is gone by then.
    await turn();
    collect();
    await turn();
    await turn();
  }
}

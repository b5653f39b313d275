/**
 * The kernel of a test in virtual time: whatever waits in it is read when somebody asks the clock for a turn, and not
 * before.
 */
import type { VirtualClock } from './virtual-clock.ts';

/** Reads `what`, once, at the next turn that anybody asks for. */
export function holdInKernel(clock: VirtualClock, what: () => void): void {
  const turn = clock.turn.bind(clock);
  clock.turn = (fn) => {
    clock.turn = turn;
    // As in Node's loop: between what is read and the check phase, all that follows from it is done.
    turn(() => {
      what();
      turn(fn);
    });
  };
}

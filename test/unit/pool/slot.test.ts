import { describe, expect, it } from 'vitest';
import {
  SLOT_TRANSITIONS,
  Slot,
  type SlotState,
  type SlotStateName,
  SlotTally,
} from '../../../src/pool/slot.ts';

const NAMES = Object.keys(SLOT_TRANSITIONS) as SlotStateName[];
const PAIRS = NAMES.flatMap((from) => NAMES.map((to) => [from, to] as const));

/** As much of a state as the tally looks at. */
function state(name: SlotStateName): SlotState<string, string> {
  return { name } as unknown as SlotState<string, string>;
}

function slotIn(name: SlotStateName): Slot<string, string> {
  const slot = new Slot<string, string>(1, 0, {} as never, {} as never);
  slot.state = state(name);
  return slot;
}

describe('a slot', () => {
  it.each(PAIRS.filter(([from, to]) => !SLOT_TRANSITIONS[from].includes(to)))(
    'never goes from %s to %s: that is a bug of ours, told at once, and nothing is counted',
    (from, to) => {
      const tally = new SlotTally();
      const slot = slotIn(from);
      expect(() => tally.move(slot, state(to))).toThrow(`bug: slot 1 cannot go from ${from} to ${to}`);
      expect(slot.state.name).toBe(from);
      expect(NAMES.map((name) => tally.count(name))).toEqual(NAMES.map(() => 0));
    },
  );

  it.each(PAIRS.filter(([from, to]) => SLOT_TRANSITIONS[from].includes(to)))(
    'that goes from %s to %s is counted there, and no longer here',
    (from, to) => {
      const tally = new SlotTally();
      const slot = slotIn(from);
      tally.move(slot, state(to));
      expect(slot.state.name).toBe(to);
      expect([tally.count(from), tally.count(to)]).toEqual([-1, 1]);
    },
  );

  it.each(NAMES.filter((name) => name !== 'idle'))('is never lent while it is %s', (name) => {
    const tally = new SlotTally();
    const slot = slotIn(name);
    expect(() => tally.lend(slot, {} as never)).toThrow('bug: slot 1 cannot go');
    expect(slot.state.name).toBe(name);
    expect(tally.count('leased')).toBe(0);
  });

  it.each(NAMES.filter((name) => name !== 'leased'))('is never taken back while it is %s', (name) => {
    const tally = new SlotTally();
    const slot = slotIn(name);
    expect(() => tally.takeBack(slot, {} as never)).toThrow('bug: slot 1 cannot go');
    expect(slot.state.name).toBe(name);
    expect(tally.count('idle')).toBe(0);
  });
});

import { expect, it } from 'vitest';
import { Slot, type SlotState } from '../../../src/pool/slot.ts';

type Connection = Extract<SlotState<string, string>, { name: 'closing' }>['connection'];

it('a slot is not closed by the socket of an earlier attempt of its dial, which closes late', () => {
  const told: string[] = [];
  const keeper = { onEnding: () => undefined, onClosed: () => told.push('closed') };
  const pulse = {
    onPong: () => undefined,
    ping: () => false,
    onMissed: () => undefined,
    onDead: () => undefined,
  };
  const slot = new Slot<string, string>(1, 0, keeper, pulse);
  const [earlier, present] = [{} as Connection, {} as Connection];
  slot.state = { name: 'closing', connection: present, reason: 'reset' };
  slot.onClosed(earlier);
  expect(told).toEqual([]);
  slot.onClosed(present);
  expect(told).toEqual(['closed']);
});

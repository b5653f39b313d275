import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Agenda } from '../../../src/heartbeat/agenda.ts';

describe('the agenda', () => {
  it('gives what is due first, whatever the order in which it was told', () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.nat(50), { nil: undefined })), (steps) => {
        const agenda = new Agenda<{ at: number }>();
        const model: number[] = [];
        for (const at of steps) {
          if (at === undefined) {
            model.sort((a, b) => a - b);
            expect(agenda.peek()?.at).toBe(model[0]);
            expect(agenda.take()?.at).toBe(model.shift());
          } else {
            agenda.add({ at });
            model.push(at);
          }
          expect(agenda.size).toBe(model.length);
        }
      }),
    );
  });

  it('can be cleared', () => {
    const agenda = new Agenda<{ at: number }>();
    agenda.add({ at: 1 });
    agenda.clear();
    expect([agenda.size, agenda.peek(), agenda.take()]).toEqual([0, undefined, undefined]);
  });
});

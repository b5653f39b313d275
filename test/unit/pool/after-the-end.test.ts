import { describe, expect, it } from 'vitest';
import { TimerHold } from '../../../src/clock.ts';
import { Announcer } from '../../../src/pool/announcer.ts';

function timersHeld(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
}

describe('after its end', () => {
  it('a hold keeps the process no longer, even if somebody never let go', () => {
    const before = timersHeld();
    const hold = new TimerHold();
    hold.take();
    expect(timersHeld()).toBe(before + 1);
    hold.end();
    expect(timersHeld()).toBe(before);
  });

  it('a pool has told what was untold, and keeps none of its listeners', () => {
    const told: number[] = [];
    const announcer = new Announcer();
    announcer.on('stalled', ({ lateMs }) => told.push(lateMs));
    announcer.tell('stalled', () => ({ lateMs: 7 }));
    announcer.end();
    expect(told).toEqual([7]);
    expect(announcer.hears('stalled')).toBe(false);
  });
});

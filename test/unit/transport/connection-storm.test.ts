import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Outcome, type Rig, rigOfLines, watched } from '../../support/connection-rig.ts';

/** What a caller, the server or time may do next. */
type Step =
  | { readonly do: 'request'; readonly bound: 'none' | 'signal' | 'time' }
  | { readonly do: 'send' | 'receive' | 'abort' | 'return' | 'stray' }
  | { readonly do: 'answer'; readonly bytes: number }
  | { readonly do: 'wait'; readonly ms: number };

const steps = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('request' as const),
        bound: fc.constantFrom('none', 'signal', 'time'),
      }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('send', 'receive', 'return') }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('abort', 'stray') }) },
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant('answer' as const), bytes: fc.integer({ min: 1, max: 30 }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 50, 30_000) }),
    },
  ),
  { maxLength: 40 },
) as fc.Arbitrary<Step[]>;

/** A server that has read every question and answers as many bytes at a time as it is told. */
function answers(rig: Rig<string, string>): (bytes: number) => void {
  let answered = 0;
  let out = '';
  return (bytes) => {
    const questions = rig.peer.received.split('\n').slice(0, -1);
    for (const question of questions.slice(answered)) out += `re: ${question}\n`;
    answered = questions.length;
    rig.peer.write(out.slice(0, bytes));
    out = out.slice(bytes);
  };
}

describe('whatever callers, server and time do', () => {
  it('a request gets its own reply or none, and the hold is balanced', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        const rig = rigOfLines();
        const { connection, clock, hold, peer } = rig;
        const answer = answers(rig);
        const asked: { readonly question: string; readonly seen: { outcome: Outcome<string> } }[] = [];
        let controller = new AbortController();
        let hadStray = false;
        let name = 0;
        connection.serve();
        for (const step of plan) {
          switch (step.do) {
            case 'request': {
              const question = `q${name++}`;
              const bound =
                step.bound === 'none'
                  ? undefined
                  : step.bound === 'signal'
                    ? { signal: controller.signal }
                    : { timeoutMs: 40 };
              asked.push({ question, seen: watched(connection.request(question, bound)) });
              break;
            }
            case 'send':
              watched(connection.send(`s${name++}`));
              break;
            case 'receive':
              watched(connection.receive({ signal: controller.signal }));
              break;
            case 'abort':
              controller.abort();
              controller = new AbortController();
              break;
            case 'stray':
              hadStray = true;
              peer.write('stray\n');
              break;
            case 'return':
              if (connection.isClean) {
                connection.rest();
                connection.serve();
              }
              break;
            case 'answer':
              await clock.flush();
              answer(step.bytes);
              break;
            case 'wait':
              await clock.advance(step.ms);
              break;
          }
        }
        await clock.advance(120_000);
        for (const { question, seen } of asked) {
          expect(seen.outcome.state).not.toBe('pending');
          // A stray frame while a reply is due can't be told from it: no framing without ids can.
          if (seen.outcome.state === 'resolved' && !hadStray)
            expect(seen.outcome.value).toBe(`re: ${question}`);
        }
        connection.destroy('shutdown');
        await clock.advance(1_000);
        expect(hold.count).toBe(0);
        expect(clock.pendingTimers).toBe(0);
        expect(rig.owner.told.filter((word) => word === 'closed').length).toBe(1);
      }),
      { numRuns: 150 },
    );
  });
});

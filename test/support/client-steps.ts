/**
 * Steps that many tests of a client share: what a reply says, who was asked what, and a client that knows how long its
 * requests take.
 */
import { expect } from 'vitest';
import type { ClientWorld, Side } from './client-world.ts';
import { type Outcome, watch } from './pool-world.ts';

/** A reply without the id of its mode. */
export function bodyOf(reply: unknown): string {
  return String(reply).replace(/^\d+:/, '');
}

/** Several requests at once. */
export function ask(world: ClientWorld, ...messages: string[]): Outcome<string>[] {
  return messages.map((message) => watch(world.client.request(message)));
}

/** What they came to: the reply, or the code of the error. */
export function told(outcomes: readonly Outcome<string>[]): string[] {
  return outcomes.map(({ error, isSettled, value }) => {
    if (!isSettled) return 'pending';
    return error === undefined ? bodyOf(value) : ((error as { code?: string }).code ?? String(error));
  });
}

/** The sockets on which a question has come, in the order in which it came. Begin to watch before. */
export function watchQuestions(world: ClientWorld): (question: string) => Side[] {
  const seen: [Side, string][] = [];
  const { backend } = world;
  const { onQuestion } = backend;
  backend.onQuestion = (side, line) => {
    seen.push([side, line]);
    onQuestion(side, line);
  };
  return (question) => seen.filter(([, line]) => bodyOf(line) === question).map(([side]) => side);
}

/** As many requests as hedging needs to know how long they take, each of which takes `ms`. Echoes no more afterwards. */
export async function warmUp(world: ClientWorld, ms = 10): Promise<void> {
  const { backend } = world;
  backend.isEchoing = false;
  const asked = ask(world, ...Array.from({ length: 100 }, (_, index) => `warm ${index}`));
  await world.now();
  await world.pass(ms);
  // Alone on their sockets they come one after the other.
  for (let round = 0; round < 100 && asked.some(({ isSettled }) => !isSettled); round++) {
    backend.answerAll();
    await world.clock.advance(0);
  }
  expect(asked.filter(({ isSettled }) => !isSettled).length).toBe(0);
}

/** One exchange, so that the socket counts as one that has served before. */
export async function serveOnce(world: ClientWorld): Promise<void> {
  const asked = ask(world, 'before');
  await world.now();
  world.backend.answerAll();
  await world.now();
  expect(told(asked)).toEqual(['Echo: before']);
}

/**
 * Tells of what a function of the user's threw where no caller can be told: a process warning. Whatever called it goes
 * on.
 */
import { messageOf } from './errors.ts';

/** `what`: who threw, as the subject of a sentence. */
export function warnOf(what: string, error: unknown): void {
  const story = error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
  process.emitWarning(`${what} threw: ${story}`, 'PulsepoolWarning');
}

/**
 * The ways in which everything that a pool waits for can end, and the servers and hooks that end so. The world that
 * they make up is world.ts.
 */
import type { VirtualClock } from '../../support/virtual-clock.ts';

/** How something that is waited for ends. */
export const WAYS = ['ok', 'error', 'slow', 'never'] as const;
export type Way = (typeof WAYS)[number];

/** Where a pool waits for somebody else. */
export const GATES = ['dial', 'handshake', 'onAcquire', 'onRelease', 'onClose', 'ping'] as const;
export type Gate = (typeof GATES)[number];

/** What a server makes of a question. */
export const SERVER_MODES = ['ok', 'late', 'never', 'garbage', 'stray', 'drop'] as const;
export type ServerMode = (typeof SERVER_MODES)[number];

/** How a dial that fails does so, and one that is of no use. */
export const TROUBLES = ['refuse', 'hang', 'untrusted', 'throw', 'hangUp'] as const;
export type Trouble = (typeof TROUBLES)[number];

/** How long what is slow takes, in ms: within every limit but longer than most patience. */
export const SLOW_MS = 60;

/** What a hook gets, as far as it matters here. */
interface HookLease {
  request(line: string): Promise<string>;
  send(line: string): Promise<void>;
  destroy(): void;
}

/** One call of a hook. Errors come in every kind, one after the other. */
export async function walk(way: Way, turn: number, lease: HookLease, clock: VirtualClock): Promise<void> {
  switch (way) {
    case 'ok':
      // Every third one talks to the server.
      if (turn % 3 === 0) await lease.request(`hook${turn}`);
      return;
    case 'slow':
      await new Promise<void>((resolve) => {
        clock.after(SLOW_MS, resolve);
      });
      return;
    case 'never':
      return new Promise(() => undefined);
    case 'error':
      await misbehave(turn, lease);
      return;
  }
}

async function misbehave(turn: number, lease: HookLease): Promise<void> {
  switch (turn % 4) {
    case 0:
      throw new Error('a hook threw');
    case 1:
      // Leaves a reply unread.
      await lease.send(`hook${turn}`);
      return;
    case 2:
      lease.destroy();
      return;
    default:
      throw undefined;
  }
}

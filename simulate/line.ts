/** One client's side of one server: what its balancer knows about it, and whether a socket is open. */
import { Member, type MemberPlace } from '../src/balance/member.ts';
import type { Backoff } from '../src/transport/backoff.ts';
import type { Server } from './server.ts';

/** See the file's comment. */
export class Line extends Member {
  readonly server: Server;
  /** All requests share it. */
  isOpen = true;
  isDialing = false;
  /** Made with the first failure. */
  backoff: Backoff | undefined;

  constructor(server: Server, place: MemberPlace, now: number) {
    super(server.name, place, now);
    this.server = server;
  }

  /** Whether a dial may begin. */
  mayDial(now: number): boolean {
    return !this.isDialing && (this.backoff === undefined || this.backoff.waitMs(now) === 0);
  }
}

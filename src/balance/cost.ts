/**
 * Which of two endpoints the next request is better sent to, by how long they take and what is in flight there.
 */
import type { Member } from './member.ts';

// Latencies within this factor of each other are equal: noise makes more of a difference between like endpoints.
const BAND = 2;
// As are those that differ by less, in ms: that is our own event loop, and a server that is cold. With 1 ms, one slow first
// reply of three servers that answer at once sent nearly everybody to the other two for seconds.
const NARROWEST_MS = 5;

/** Less than 0: the first one is better; more than 0: the second one; 0: neither. */
export function cheaper(a: Member, b: Member, now: number): number {
  const knownA = a.latency.ms;
  const knownB = b.latency.ms;
  const msA = Math.max(knownA, a.silentForMs(now));
  const msB = Math.max(knownB, b.silentForMs(now));
  // Nothing is known of a new one: it may hang, but it can't be fast.
  if (knownB > 0 && isSlower(msA, msB)) return compared(a, admitted(a, msA, msB, now), b, msB);
  if (knownA > 0 && isSlower(msB, msA)) return -compared(b, admitted(b, msB, msA, now), a, msA);
  return lighter(a, b);
}

/**
 * By what is in flight for its weight. It must be so before the request and with it: or of two with weights 3 and 1 the small
 * one would get the first request as often as the large one, and with few in flight much more than its share.
 */
function lighter(a: Member, b: Member): number {
  const before = a.inFlight * b.pull - b.inFlight * a.pull;
  const after = before + b.pull - a.pull;
  return before * after > 0 ? before : 0;
}

function isSlower(ms: number, thanMs: number): boolean {
  return ms > thanMs * BAND && ms - thanMs > NARROWEST_MS;
}

/**
 * As what a slow one goes: with nothing in flight its slowness is forgotten by and by, and so it is tried again. While
 * somebody is there to find out, nobody else needs to.
 */
function admitted(slow: Member, slowMs: number, fastMs: number, now: number): number {
  if (slow.inFlight > 0) return slowMs;
  const faded = slow.latency.fadedMs(now);
  return isSlower(faded, fastMs) ? faded : fastMs;
}

/**
 * More than 0: the fast one is better. Latency counts three times: one that is six times slower gets a request when the
 * other one has more than 215 in flight. So nearly all that go to a slow one go to find out whether it still is.
 * Counted once, as Finagle does, it would keep a sixth of the load, and its requests would be the slowest hundredth.
 * Counted so that load does not matter, nobody would help a fast one that hangs.
 */
function compared(slow: Member, slowMs: number, fast: Member, fastMs: number): number {
  if (slowMs === fastMs) return lighter(slow, fast);
  const ratio = slowMs / fastMs;
  return ratio * ratio * ratio * (slow.inFlight + 1) * fast.pull - (fast.inFlight + 1) * slow.pull;
}

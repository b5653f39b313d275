/**
 * Where a list of endpoints comes from: what every such source offers. What becomes of the list is left to others.
 */
import { endpointKey, type FoundEndpoint } from './given-endpoint.ts';
import { distinct } from './watchers.ts';

/** Who is told. Neither may throw. */
export interface SourceOwner {
  /**
   * The whole list; what is missing in it is gone. It may be the same as before, and has no endpoint twice.
   *
   * Empty only when the name itself was confirmed to be gone, by all resolvers and twice. Then nothing new is to be
   * dialed: the addresses may belong to others by now. An empty list from anywhere else is told as a failure, since it
   * mostly is one: a registry that has just been restarted, a filter that matches nothing any more.
   */
  onEndpoints(list: readonly FoundEndpoint[]): void;
  /** There was no new list. The one before it stays. */
  onFailed(error: unknown): void;
}

/** A source of endpoints. It is started once, and has told nothing before `start` has returned. */
export interface EndpointSource {
  start(owner: SourceOwner): void;
  /** There may be news. `force`: the network has changed, so that nothing that is known can be relied on. */
  refresh(force?: boolean): void;
  /**
   * Every endpoint has been dialed in vain: gives the addresses of the other family (IPv6 for IPv4, or the other way
   * round), if there are any. Returns whether it did.
   */
  tryOtherFamily?(): boolean;
  end(): void;
}

/** Each endpoint once: the first of those that are the same. */
export function distinctEndpoints(list: readonly FoundEndpoint[]): readonly FoundEndpoint[] {
  return distinct(list, endpointKey);
}

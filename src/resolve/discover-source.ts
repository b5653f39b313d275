/**
 * Endpoints from a function of the user's: Consul's API, Kubernetes' EndpointSlices, a file. Each value it yields is the
 * whole list.
 *
 * Nothing that goes wrong with it takes an endpoint away: the last good list stays.
 */
import { onAbort } from '../abort.ts';
import { type Clock, pause, type RandomSource } from '../clock.ts';
import { PulsepoolError } from '../errors.ts';
import { invalidOption } from '../option-check.ts';
import { fullJitterMs } from '../transport/backoff.ts';
import { warnOf } from '../warning.ts';
import { distinctEndpoints, type EndpointSource, type SourceOwner } from './endpoint-source.ts';
import { type FoundEndpoint, type GivenEndpoint, parseGivenEndpoint } from './given-endpoint.ts';

/**
 * Yields the whole list whenever it has changed. When it throws it is called again after a while; when it ends the list
 * stays as it is, for good. The signal is aborted when the pool closes.
 */
export type Discover = (signal: AbortSignal) => AsyncIterable<readonly GivenEndpoint[]>;

/** Where time and chance come from. */
export interface DiscoverSourceOptions {
  readonly clock: Clock;
  readonly random: RandomSource;
}

// As for a name that can't be resolved.
const BACKOFF = { baseMs: 1_000, capMs: 30_000 };

/** See the file's comment. */
export function discoverSource(discover: Discover, options: DiscoverSourceOptions): EndpointSource {
  return new DiscoverSource(discover, options);
}

class DiscoverSource implements EndpointSource {
  readonly #discover: Discover;
  readonly #options: DiscoverSourceOptions;
  readonly #ending: AbortController = new AbortController();
  #resting: AbortController | undefined;
  #failures = 0;
  #hasList = false;

  constructor(discover: Discover, options: DiscoverSourceOptions) {
    this.#discover = discover;
    this.#options = options;
  }

  start(owner: SourceOwner): void {
    // Not before this has returned, nor in the context of who called it: the function is the user's.
    this.#options.clock.soon(() => void this.#run(owner));
  }

  /** The user's function knows by itself when there is news; only one that failed is called again at once. */
  refresh(force = false): void {
    if (!force) return;
    this.#failures = 0;
    this.#resting?.abort();
  }

  end(): void {
    this.#ending.abort();
  }

  async #run(owner: SourceOwner): Promise<void> {
    const { clock, random } = this.#options;
    const { signal } = this.#ending;
    while (!signal.aborted) {
      try {
        await this.#follow(owner);
        if (!this.#hasList && !signal.aborted) owner.onFailed(endedEmpty());
        return;
      } catch (error) {
        if (signal.aborted) return;
        owner.onFailed(error);
      }
      this.#resting = new AbortController();
      const restMs = fullJitterMs(this.#failures, BACKOFF, random);
      this.#failures += 1;
      await pause(restMs, clock, signal, this.#resting.signal);
    }
  }

  /** Goes through one iterable until it ends or throws, or this source does. */
  async #follow(owner: SourceOwner): Promise<void> {
    const { signal } = this.#ending;
    const iterator = iteratorOf(this.#discover(signal));
    if (signal.aborted) {
      letGo(iterator);
      return;
    }
    // It is not waited for: it may hang, or be in the middle of a `next` that does not heed the signal.
    const stop = onAbort(signal, () => letGo(iterator));
    try {
      for (;;) {
        const result = await iterator.next();
        if (result.done === true || signal.aborted) return;
        this.#take(result.value, owner);
      }
    } finally {
      stop();
    }
  }

  #take(value: unknown, owner: SourceOwner): void {
    let list: readonly FoundEndpoint[];
    try {
      list = parseList(value);
    } catch (error) {
      owner.onFailed(error);
      return;
    }
    this.#failures = 0;
    this.#hasList = true;
    owner.onEndpoints(list);
  }
}

function parseList(value: unknown): readonly FoundEndpoint[] {
  if (!Array.isArray(value)) throw invalidOption('endpoints', 'yield arrays of endpoints', value, KEPT);
  if (value.length === 0) throw invalidOption('endpoints', 'yield at least one endpoint', value, KEPT);
  return distinctEndpoints(
    value.map((one: unknown, index) => parseGivenEndpoint(one, `endpoints()[${index}]`)),
  );
}

const KEPT = 'The list before it is kept: registries that have just been restarted are empty.';

function endedEmpty(): PulsepoolError {
  return new PulsepoolError(
    'ERR_INVALID_OPTION',
    'The function in `endpoints` ended without having yielded a list',
    {
      retryable: false,
      hint: 'Yield the list of endpoints, and again whenever it changes.',
    },
  );
}

function iteratorOf(given: unknown): AsyncIterator<unknown> {
  if (typeof given === 'object' && given !== null && Symbol.asyncIterator in given) {
    return (given as AsyncIterable<unknown>)[Symbol.asyncIterator]();
  }
  const hint = 'It is an `async function*`, most simply.';
  throw invalidOption('endpoints', 'be a function that returns an async iterable', given, hint);
}

function letGo(iterator: AsyncIterator<unknown>): void {
  const warn = (error: unknown): void =>
    warnOf('The return() of what the function in `endpoints` gave', error);
  try {
    iterator.return?.().then(undefined, warn);
  } catch (error) {
    warn(error);
  }
}

/**
 * The messages of one stream, in order: a single one, or as many as an iterable of the user's gives. When they are asked
 * for, and where they go, is the stream's business.
 */
import { warnOf } from '../warning.ts';

const NO_MORE = { done: true, value: undefined } as const;

/** See the file's comment. */
export class Source<In> {
  readonly #iterator: AsyncIterator<In> | undefined;
  readonly #only: In | undefined;
  #isDry = false;

  constructor(given: In | AsyncIterable<In>) {
    if (isAsyncIterable(given)) this.#iterator = given[Symbol.asyncIterator]();
    else this.#only = given;
  }

  /** Whether it has but one message, which is there. */
  get isSingle(): boolean {
    return this.#iterator === undefined;
  }

  /** The next message. @throws what the iterable throws; it is not asked again then. */
  async next(): Promise<IteratorResult<In, undefined>> {
    if (this.#isDry) return NO_MORE;
    if (this.#iterator === undefined) {
      this.#isDry = true;
      return { done: false, value: this.#only as In };
    }
    try {
      const result = await this.#iterator.next();
      if (result.done !== true) return result;
      this.#isDry = true;
      return NO_MORE;
    } catch (error) {
      this.#isDry = true;
      throw error;
    }
  }

  /** No more is wanted: the iterable may let go of what it holds. It is not waited for, since it may hang. */
  end(): void {
    if (this.#isDry) return;
    this.#isDry = true;
    const warn = (error: unknown): void => warnOf('The return() of a stream’s source', error);
    try {
      this.#iterator?.return?.().catch(warn);
    } catch (error) {
      warn(error);
    }
  }
}

function isAsyncIterable<In>(given: In | AsyncIterable<In>): given is AsyncIterable<In> {
  return typeof given === 'object' && given !== null && Symbol.asyncIterator in given;
}

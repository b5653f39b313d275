/**
 * A stage with a client: its requests, what must be true of it, and an operator who acts on its pool meanwhile.
 */
import { flagsOf } from './client-recipes.mjs';
import { Operator } from './operator.mjs';
import { Stage } from './stage.mjs';
import { FLAGS } from './talk.mjs';

/** @typedef {import('./client-recipes.mjs').Client} Client */
/** @typedef {import('./stage.mjs').Frame} Frame */
/** @typedef {import('./stage.mjs').Message} Message */
/** @typedef {import('pulsepool').ClientRequestOptions} RequestOptions */
/** @typedef {Pick<Client, 'request'>} Asker a client, or a family of its calls */

/** See the file's comment. */
export class ClientStage extends Stage {
  #operator;
  #flags;
  // Requests of the client that were answered.
  #answered = 0;

  /**
   * @param {Omit<ConstructorParameters<typeof Stage>[0], 'pool'> & {
   *   client: Client,
   *   mode: import('pulsepool').ClientMode,
   *   recipe: import('./client-recipes.mjs').ClientRecipe,
   * }} parts
   */
  constructor({ client, mode, recipe, ...parts }) {
    super({ ...parts, pool: client.pool });
    this.client = client;
    this.mode = mode;
    this.lends = recipe.lends;
    /** Whether a late answer holds up many others. */
    this.holdsUp = mode === 'pipelined' && !recipe.isRestless;
    // Between pings a socket need not be looked at before it is lent.
    this.isPinged = recipe.options.heartbeat !== undefined;
    this.#flags = flagsOf(mode, recipe);
    this.#operator = new Operator(this, recipe.options.max ?? 1);
    client.on('breakerOpened', () => this.tally.did('the breaker opened'));
  }

  /** A new question of a caller among others. */
  askAmongOthers(/** @type {number} */ flags = 0) {
    return this.ask(this.#flags | flags);
  }

  /** A new question of somebody who is alone with the client, and has no other question under way. */
  askAlone(/** @type {number} */ flags = 0) {
    return this.ask((this.#flags & ~(FLAGS.crowded | FLAGS.bulky)) | FLAGS.alone | flags);
  }

  /**
   * Asks the client, and listens to what becomes of it. The question has been asked when this returns.
   *
   * @param {{ id: number, message: Message }} question
   * @param {RequestOptions} [options]
   * @param {{ abort?: import('./abort.mjs').Abort | undefined, asker?: Asker }} [circumstances]
   * @returns whether it was answered
   */
  request({ id, message }, options, { abort, asker = this.client } = {}) {
    const reply = asker.request(message, options);
    return this.hear(id, this.#count(reply), { abort });
  }

  async #count(/** @type {Promise<Frame>} */ reply) {
    const frame = await reply;
    this.#answered += 1;
    return frame;
  }

  /** @override */
  async rest() {
    await this.#operator.rest();
  }

  /** @override */
  goOn() {
    this.#operator.goOn();
  }

  /** @override */
  get isStill() {
    return super.isStill && this.client.stats().inFlight === 0;
  }

  /** More than `max` may be open for a while when it was made smaller. @override */
  audit() {
    const { total, idle, leased, dialing, closing } = this.pool.stats();
    if (idle + leased + dialing + closing !== total) {
      const counts = { total, idle, leased, dialing, closing };
      this.tally.fault('counts that do not add up', `${this.name}: ${JSON.stringify(counts)}`);
    }
    this.#auditRequests();
  }

  /** @override */
  async close(/** @type {number} */ timeoutMs) {
    const closing = this.client.close({ timeoutMs });
    await this.mustBeClosed('request() after close()', () => this.client.request(this.askInVain()));
    await closing;
    await this.#operator.end();
    this.end();
    await this.mustBeClosed('acquire() after close()', () => this.pool.acquire());
  }

  /** @override */
  end() {
    super.end();
    const stats = this.client.stats();
    const { inFlight, succeeded, waiting } = stats;
    if (inFlight + waiting > 0) {
      this.tally.fault('a closed client with something left', `${this.name}: ${JSON.stringify(stats)}`);
    }
    if (succeeded !== this.#answered) {
      this.tally.fault(
        'replies that were counted otherwise',
        `${this.name}: ${succeeded}, ${this.#answered} came`,
      );
    }
    this.#auditRequests();
    this.tally.countClient(stats);
  }

  #auditRequests() {
    const { cancelled, failed, inFlight, requests, succeeded, timedOut } = this.client.stats();
    if (succeeded + failed + timedOut + cancelled + inFlight === requests) return;
    const counts = { requests, succeeded, failed, timedOut, cancelled, inFlight };
    this.tally.fault('requests that do not add up', `${this.name}: ${JSON.stringify(counts)}`);
  }
}

/**
 * Chance from a seed: the same seed draws the same numbers. What is drawn, and when, is up to whoever asks; with real
 * sockets the order of events is the kernel's, so a seed repeats the mixture of a run and not each of its steps.
 */

/** Mixes the bits of an integer: neighbours come out far apart. The same for the same input, in 32 bits. */
export function mix(/** @type {number} */ value) {
  let bits = value | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/** A source of random numbers. */
export class Chance {
  #state;

  /** @param {number} seed */
  constructor(seed) {
    this.#state = mix(seed) | 0;
  }

  /** Uniform in [0, 1). Mulberry32. */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let bits = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from `least` to `most`, both included. */
  integer(/** @type {number} */ least, /** @type {number} */ most) {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  /** True with this probability. */
  happens(/** @type {number} */ probability) {
    return this.next() < probability;
  }

  /**
   * One of a list, which must not be empty.
   *
   * @template T
   * @param {readonly [T, ...T[]]} list
   * @returns {T}
   */
  pick(list) {
    return list[Math.floor(this.next() * list.length)] ?? list[0];
  }

  /**
   * One name of a table of names and weights.
   *
   * @template {string} Name
   * @param {Urn<Name>} urn
   * @returns {Name}
   */
  draw(urn) {
    return urn.at(this.next());
  }
}

/**
 * Names with weights, to draw from.
 *
 * @template {string} Name
 */
export class Urn {
  /** @type {{ name: Name, upTo: number }[]} */
  #shares = [];
  #total = 0;

  /** @param {readonly (readonly [Name, number])[]} weights */
  constructor(weights) {
    for (const [name, weight] of weights) {
      this.#total += weight;
      this.#shares.push({ name, upTo: this.#total });
    }
  }

  /** What can be drawn. */
  get names() {
    return this.#shares.map(({ name }) => name);
  }

  /**
   * @param {number} share in [0, 1)
   * @returns {Name}
   */
  at(share) {
    const wanted = share * this.#total;
    const found = this.#shares.find(({ upTo }) => wanted < upTo) ?? this.#shares.at(-1);
    if (found === undefined) throw new Error('an empty urn');
    return found.name;
  }
}

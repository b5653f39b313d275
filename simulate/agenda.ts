/**
 * Virtual time: what happens when, the next thing first. A binary heap, since a run has millions of things to do; what
 * they are is their owners' business.
 */

/** Something that happens once. */
export interface Happening {
  happen(): void;
}

/** See the file's comment. Times are in ms from 0 on. */
export class Agenda {
  #now = 0;
  readonly #times: number[] = [];
  readonly #things: Happening[] = [];

  get now(): number {
    return this.#now;
  }

  /** Calls `fn` after `ms`. */
  after(ms: number, fn: () => void): void {
    this.at(this.#now + ms, { happen: fn });
  }

  /** The same for a moment that is not in the past. */
  at(time: number, thing: Happening): void {
    const times = this.#times;
    const things = this.#things;
    let place = times.length;
    while (place > 0) {
      const up = (place - 1) >> 1;
      const above = times[up];
      const thingAbove = things[up];
      if (above === undefined || thingAbove === undefined || above <= time) break;
      times[place] = above;
      things[place] = thingAbove;
      place = up;
    }
    times[place] = time;
    things[place] = thing;
  }

  /** Lets everything happen that is due by then. */
  runTo(time: number): void {
    for (;;) {
      const [at] = this.#times;
      const [thing] = this.#things;
      if (at === undefined || thing === undefined || at > time) break;
      this.#dropFirst();
      this.#now = at;
      thing.happen();
    }
    this.#now = time;
  }

  /** The last one takes its place and sinks. */
  #dropFirst(): void {
    const times = this.#times;
    const things = this.#things;
    const time = times.pop();
    const thing = things.pop();
    if (time === undefined || thing === undefined || times.length === 0) return;
    const { length } = times;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      let childTime = times[child];
      if (childTime === undefined) break;
      const right = child + 1 < length ? times[child + 1] : undefined;
      if (right !== undefined && right < childTime) {
        child += 1;
        childTime = right;
      }
      const childThing = things[child];
      if (childTime >= time || childThing === undefined) break;
      times[place] = childTime;
      things[place] = childThing;
      place = child;
    }
    times[place] = time;
    things[place] = thing;
  }
}

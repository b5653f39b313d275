/**
 * Which family of addresses is used. A and AAAA of one name mostly are the same servers twice: taken together, a server
 * would get two shares, two healths and two sets of sockets.
 *
 * IPv4, if there is any: a name that has both is reached by it from nearly everywhere but machines with IPv6 alone, while
 * an address of IPv6 is often one without a route (containers), or of a server that listens on 127.0.0.1 only. Where that
 * is wrong all dials fail, and the other family is tried. Either stays for as long as the name has any of it: a list that
 * changes its family is a list of which every socket is replaced.
 */
import { type Address, ofOneFamily } from './address.ts';

/** See the file's comment. */
export class Family {
  #used: 4 | 6 = 4;

  /** Those to use. */
  of(addresses: readonly Address[]): readonly Address[] {
    const found = ofOneFamily(addresses, this.#used);
    this.#used = found[0]?.family ?? this.#used;
    return found;
  }

  /** Changes to the other family, if these have any of it. Returns whether they do. */
  change(addresses: readonly Address[]): boolean {
    const other = this.#used === 4 ? 6 : 4;
    if (!addresses.some(({ family }) => family === other)) return false;
    this.#used = other;
    return true;
  }
}

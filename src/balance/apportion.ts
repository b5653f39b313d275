/**
 * Whole numbers in given proportions: how many of so many sockets each endpoint should have.
 */

interface Part<T> {
  readonly key: T;
  readonly quota: number;
  given: number;
}

/**
 * Splits `total` by the shares, which make 1: by largest remainder (Hamilton), but with at least one for each as long as
 * there are enough. `lot` orders those that are equal.
 */
export function apportion<T>(
  total: number,
  shares: ReadonlyMap<T, number>,
  lot: (key: T) => number,
): Map<T, number> {
  const least = total >= shares.size ? 1 : 0;
  const parts: Part<T>[] = [];
  let left = total;
  for (const [key, share] of shares) {
    const quota = total * share;
    const given = Math.max(least, Math.floor(quota));
    parts.push({ key, quota, given });
    left -= given;
  }
  // Those who want most first.
  parts.sort((a, b) => b.quota - b.given - (a.quota - a.given) || lot(a.key) - lot(b.key));
  for (const part of parts) {
    if (left <= 0) break;
    part.given += 1;
    left -= 1;
  }
  // Those who got one by grace were paid for by the others: by those with most beyond their quota.
  while (left < 0) {
    let most: Part<T> | undefined;
    for (const part of parts) {
      if (part.given > least && (most === undefined || part.given - part.quota > most.given - most.quota))
        most = part;
    }
    if (most === undefined) break;
    most.given -= 1;
    left += 1;
  }
  return new Map(parts.map(({ given, key }) => [key, given]));
}

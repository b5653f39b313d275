/**
 * Listening to signals that many calls share. Node warns of a leak when more than ten listeners sit on one signal,
 * and a service's shutdown signal is shared by all its calls: here each signal has one listener, whoever calls.
 */

const calls: WeakMap<AbortSignal, Set<() => void>> = new WeakMap();

/**
 * Calls `fn` once when the signal is aborted. Returns how to stop listening; nothing is left on the signal when
 * nobody listens. The signal must not be aborted yet.
 */
export function onAbort(signal: AbortSignal, fn: () => void): () => void {
  let waiting = calls.get(signal);
  if (waiting === undefined) {
    waiting = new Set();
    calls.set(signal, waiting);
  }
  const own = waiting;
  // A wrapper of its own, so that the same function can listen twice.
  const call = (): void => fn();
  if (own.size === 0) signal.addEventListener('abort', fire, { once: true });
  own.add(call);
  return () => {
    if (own.delete(call) && own.size === 0) signal.removeEventListener('abort', fire);
  };
}

/** One function for all signals, so that it is added to each but once. */
function fire(this: AbortSignal): void {
  const waiting = calls.get(this);
  if (waiting === undefined) return;
  const listeners = [...waiting];
  waiting.clear();
  for (const call of listeners) call();
}

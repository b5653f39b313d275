/**
 * The priority of a caller who waits: how much it is worth, and what may be given. The queue of those who wait keeps
 * the order.
 */
import { checkInteger } from '../option-check.ts';

// Ten seconds of waiting at most: a third of the usual patience.
const BOUNDS = { min: -10, max: 10 };

/** @throws PulsepoolError `ERR_INVALID_OPTION` */
export function checkPriority(priority: number | undefined): void {
  if (priority !== undefined) checkInteger('priority', priority, BOUNDS);
}

/**
 * Why a socket ended: one word each, the same in events, stats, logs and docs.
 */

/**
 * - `idle`: rested longer than `idleTimeoutMs`
 * - `surplus`: came back while `maxIdle` others rested, or `resize()` left no place for it
 * - `lifetime`: older than `maxLifetimeMs`
 * - `uses`: lent `maxUses` times
 * - `reset`: opened before `pool.reset()` was called
 * - `removed`: its endpoint is no longer one of the pool's, or its address left DNS
 * - `ejected`: its endpoint was put out for failing or being slow
 * - `rebalanced`: a place was needed for a socket to another endpoint
 * - `network`: the local address that it used has gone
 * - `heartbeat`: missed its pings, or failed the check at borrow
 * - `peer-closed`: the server ended the connection
 * - `peer-reset`: the server or the network broke it
 * - `unsolicited`: bytes arrived that nobody had asked for
 * - `dirty`: released before its reply was complete
 * - `aborted`: the caller gave up in the middle of an exchange
 * - `timeout`: a read, write or frame took too long
 * - `protocol`: the bytes could not be decoded
 * - `failed`: a `use` callback threw
 * - `hook`: `onAcquire` or `onRelease` threw, took too long, or left a reply unread
 * - `leaked`: its lease was garbage-collected without having been released
 * - `destroyed`: the caller asked for it
 * - `detached`: the caller took the raw socket away
 * - `shutdown`: the pool closed
 */
export type CloseReason =
  | 'idle'
  | 'surplus'
  | 'lifetime'
  | 'uses'
  | 'reset'
  | 'removed'
  | 'ejected'
  | 'rebalanced'
  | 'network'
  | 'heartbeat'
  | 'peer-closed'
  | 'peer-reset'
  | 'unsolicited'
  | 'dirty'
  | 'aborted'
  | 'timeout'
  | 'protocol'
  | 'failed'
  | 'hook'
  | 'leaked'
  | 'destroyed'
  | 'detached'
  | 'shutdown';

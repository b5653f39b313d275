/**
 * pulsepool: a pooled TCP client for Node.js. Everything public, in reading order.
 */
export type {
  AddressOptions,
  DnsEndpoints,
  DnsOptions,
  Endpoints,
  SrvEndpoints,
} from './address-options.ts';
export type { EjectionReason, HealthName, OutcomeKind } from './balance/health.ts';
export type { BalancePolicy } from './balance/policies.ts';
export type {
  Client,
  ClientRequestOptions,
  DeadlineClient,
  DeadlineOptions,
  SubscribeMessages,
} from './client/client.ts';
export type {
  BreakerClosedEvent,
  BreakerOpenedEvent,
  ClientEvents,
  HedgedEvent,
  RetriedEvent,
} from './client/client-events.ts';
export { CLIENT_EVENT_NAMES } from './client/client-events.ts';
export type { ClientStats } from './client/client-stats.ts';
export type { Correlate } from './client/flights.ts';
export type { ClientStream, StreamOptions } from './client/stream.ts';
export type { SubscribeOptions, Subscription } from './client/subscription.ts';
export type { ClientMode, ClientOptions } from './client-options.ts';
export { createClient } from './create-client.ts';
export { createPool } from './create-pool.ts';
export {
  AcquireError,
  ConnectionError,
  DeadlineError,
  type ErrorCode,
  type ErrorDetails,
  type FrameDetails,
  FrameError,
  type FrameFault,
  LeaseError,
  type PoolCounts,
  PulsepoolError,
  type RequestPhases,
  type Sent,
} from './errors.ts';
export type {
  AcquiredEvent,
  AcquireFailedEvent,
  AddressesChangedEvent,
  ClosedEvent,
  DeadlockSuspectedEvent,
  DialFailedEvent,
  EjectedEvent,
  EndpointsChangedEvent,
  HookFailedEvent,
  IdleLimitLearnedEvent,
  LeakedEvent,
  LeaseHolder,
  NetworkChangedEvent,
  OpenedEvent,
  PingedEvent,
  PingMissedEvent,
  PoolClosedEvent,
  PoolEvents,
  ReleasedEvent,
  ResolveFailedEvent,
  RestoredEvent,
  StalledEvent,
  UnleakedEvent,
} from './events.ts';
export { EVENT_NAMES } from './events.ts';
export type { HeartbeatOptions, PoolOptions, RetryOptions } from './options.ts';
export type { Advice, IdleTimeoutAdvice, SizingAdvice } from './pool/advice.ts';
export type { EndpointRow } from './pool/endpoint-row.ts';
export type { HandshakeContext } from './pool/handshake.ts';
export type { LatencyStats } from './pool/histogram.ts';
export type { CloseContext, Hook, HookContext } from './pool/hooks.ts';
export type { Lease } from './pool/lease.ts';
export type {
  AcquireOptions,
  CloseOptions,
  CloseReport,
  Pool,
  ResetOptions,
  SuspendOptions,
} from './pool/pool.ts';
export type { RequestOptions } from './pool/request.ts';
export type { GivenSizes, Sizes } from './pool/sizes.ts';
export type { StaleReason } from './pool/slot.ts';
export type { SocketRow } from './pool/socket-row.ts';
export type { PoolStats, PoolTimes } from './pool/stats.ts';
export type { Discover } from './resolve/discover-source.ts';
export type { GivenEndpoint } from './resolve/given-endpoint.ts';
export type { NamesStats } from './resolve/names.ts';
export type { BreakerOptions, BreakerStateName } from './retry/breaker.ts';
export type { BudgetOptions } from './retry/budget.ts';
export { ByteQueue } from './transport/byte-queue.ts';
export type { CloseReason } from './transport/close-reason.ts';
export type { Codec, CodecSource, EncodedFrame } from './transport/codec.ts';
export type { CallOptions, SendOptions } from './transport/connection.ts';
export { type DelimitedOptions, delimited } from './transport/delimited.ts';
export type { TlsOptions } from './transport/dial.ts';
export { DialError, type DialPhase } from './transport/dial-error.ts';
export { fixedLength } from './transport/fixed-length.ts';
export { type LengthPrefixedOptions, lengthPrefixed } from './transport/length-prefixed.ts';
export { type LinesOptions, lines } from './transport/lines.ts';
export { raw } from './transport/raw.ts';

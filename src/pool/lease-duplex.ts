/**
 * A lease as a Node stream: what is written is sent, what is read is received, each as slowly as the slower side. The
 * socket has no listener of ours for it: the connection reads and writes as for any lease.
 *
 * What becomes of the socket is decided by the lease and the connection. Here it is only said whether the stream was left
 * in the middle of something.
 */
import { Duplex } from 'node:stream';
import { LeaseError } from '../errors.ts';
import type { Connection } from '../transport/connection.ts';
import type { Lease } from './lease.ts';

/** See the file's comment. */
export class LeaseDuplex<In, Out> extends Duplex {
  readonly #lease: Lease<In, Out>;
  readonly #connection: Connection<In, Out>;
  // How a read that waits is given up: without it the lease could be neither clean nor detached.
  readonly #leave: AbortController = new AbortController();
  #isReading = false;

  constructor(lease: Lease<In, Out>, connection: Connection<In, Out>) {
    // One frame, whatever its size: the connection's inbox reads ahead, and has a limit in bytes.
    super(connection.isFramed ? { objectMode: true, readableHighWaterMark: 1 } : {});
    this.#lease = lease;
    this.#connection = connection;
    lease.expectReply(false);
  }

  override _read(): void {
    this.#isReading = true;
    this.#lease.receive({ signal: this.#leave.signal }).then(
      (frame) => this.#onFrame(frame),
      (error: Error) => this.#onReadFailed(error),
    );
  }

  override _write(message: In, _encoding: BufferEncoding, callback: (error?: Error) => void): void {
    this.#lease.send(message).then(() => callback(), callback);
  }

  override _final(callback: () => void): void {
    this.#lease.expectReply(true);
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    // What was read by us and not by its reader is a leftover, as if it had stayed on the socket.
    if ((error !== null && !isLeaving(error)) || this.#hasBytes) this.#lease.destroy();
    // Ends the connection when a reply may still come.
    this.#leave.abort();
    if (!this.#connection.isClean) this.#lease.destroy();
    this.#lease.expectReply(true);
    callback(error);
  }

  /**
   * For `lease.detach()`: gives up a read that waits, and ends nothing by that.
   *
   * @throws LeaseError when something that was read or is to be written would be lost.
   */
  stepAside(): void {
    if (this.destroyed) return;
    if (this.#hasBytes || (this.#isReading && this.#connection.hasPartial)) {
      throw new LeaseError(
        'detach() found bytes under way in the stream that duplex() has made.',
        'Read all that has come, and wait until everything was written, before detach().',
      );
    }
    // Whoever takes the socket answers for the rest. A read that is given up while replies are due would end it.
    this.#connection.markClean();
    this.#leave.abort();
  }

  /** Whether something is held here, or is on its way to here. */
  get #hasBytes(): boolean {
    const isComing = this.#isReading && !this.#connection.isAwaited;
    return isComing || this.readableLength > 0 || this.writableLength > 0;
  }

  #onFrame(frame: Out): void {
    this.#isReading = false;
    if (frame === null) {
      const hint = 'Use client.stream() or lease.receive(), or a codec that wraps it.';
      this.destroy(new LeaseError('A frame of null came, and would end a Node stream.', hint));
    } else this.push(frame);
  }

  #onReadFailed(error: Error): void {
    this.#isReading = false;
    if (this.#leave.signal.aborted) return;
    if (this.#hasEnded) this.push(null);
    else this.destroy(error);
  }

  /** Whether the server has said with a FIN that no more bytes come. An error of the socket is told as a cause. */
  get #hasEnded(): boolean {
    const { error, isFramed } = this.#connection;
    return !isFramed && error?.code === 'ERR_CONNECTION_LOST' && error.cause === undefined;
  }
}

/** A loop that is left early, or a pipeline's signal, says so by an error of Node's: it is no verdict on the socket. */
function isLeaving(error: Error): boolean {
  return 'code' in error && error.code === 'ABORT_ERR';
}

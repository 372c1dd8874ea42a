/**
 * The two buffers of a stream: one is filled while the other is being written. Both are made when there is
 * something to put into them: most secondaries have all there is.
 */

/** What fills a buffer: an encoder. */
export interface FillableBuffer {
  /** Gives it an empty buffer; the first `length` bytes of it are then to be sent. */
  attach(target: Uint8Array): void;
  readonly length: number;
  /** Nothing more is added to what is there. */
  seal?(): void;
}

/** Room for any message but a transaction's head, and for some data. */
const LEAST_BUFFER_BYTES = 1024;

export class SendBuffers {
  readonly #encoder: FillableBuffer;
  readonly #bufferBytes: number;
  readonly #write: (bytes: Uint8Array) => Promise<void>;
  #filling: Uint8Array = new Uint8Array();
  #idle: Uint8Array = new Uint8Array();
  #writing: Promise<void> = Promise.resolve();

  /**
   * @param bufferBytes the size of each; one grows where more room is asked for
   * @param write writes to the peer; the bytes are lent until the promise resolves
   */
  constructor(encoder: FillableBuffer, bufferBytes: number, write: (bytes: Uint8Array) => Promise<void>) {
    this.#encoder = encoder;
    this.#bufferBytes = bufferBytes;
    this.#write = write;
    encoder.attach(this.#filling);
  }

  /**
   * Starts writing what is encoded, and goes on in the other buffer once it is free.
   * @param room how much of it is needed
   */
  async turn(room = 1): Promise<void> {
    this.#encoder.seal?.();
    const { length } = this.#encoder;
    if (length === 0 && room <= this.#filling.length) return;
    const full = this.#filling;
    await this.#writing; // the other buffer is free from here on
    this.#filling = room <= this.#idle.length
      ? this.#idle
      : new Uint8Array(Math.max(room, this.#bufferBytes, LEAST_BUFFER_BYTES));
    this.#idle = full;
    this.#encoder.attach(this.#filling);
    if (length === 0) return;
    this.#writing = this.#write(full.subarray(0, length));
    this.#writing.catch(() => {}); // told by the next await
  }

  /** Waits until all that has been encoded is on its way. */
  async flush(): Promise<void> {
    await this.turn(0);
    await this.#writing;
  }
}

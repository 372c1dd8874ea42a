/**
 * How large a node's buffers are: what each stream costs in memory. What is sent and written does not depend on
 * it; smaller buffers cost speed.
 */

export interface BufferSizes {
  /** A secondary takes so much from the network at once. */
  readonly readBytes: number;
  /**
   * A secondary hands whole transactions on for writing when they fill so much, at the latest; a transaction
   * that is larger goes to the file in parts of this size. There are two such buffers.
   */
  readonly runBytes: number;
  /** A primary has two of this size for each secondary; a larger one where a transaction's head needs it. */
  readonly sendBytes: number;
}

export const DEFAULT_BUFFER_SIZES: BufferSizes = {
  readBytes: 512 * 1024,
  runBytes: 12 * 1024 * 1024,
  sendBytes: 256 * 1024,
};

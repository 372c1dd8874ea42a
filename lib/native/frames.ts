/**
 * The kinds of frames of the native stream, and their layouts (docs/native_protocol.md, "Frames"). A frame's
 * first byte is its kind; integers are big-endian.
 */

/** First bytes of frames. A control message is a JSON object, so it begins with a brace. */
export const KIND = {
  control: 0x7b, // {
  /** Bytes of a run as they lie in the file, or of a record's data. */
  data: 0x44, // D
  /** The same, compressed. */
  compressed: 0x5a, // Z
  /** The end of a run. */
  whole: 0x57, // W
  transaction: 0x54, // T
  record: 0x52, // R
  commit: 0x43, // C
  acknowledgement: 0x41, // A
  /** The head of a blob; its content follows in data frames. */
  blob: 0x42, // B
} as const;

/** Offsets behind the kind, and sizes with it. */
export const WHOLE = { lastTid: 1, length: 9, transactions: 17, checksum: 21, size: 25 } as const;
export const TRANSACTION_FRAME = {
  tid: 1,
  status: 9,
  userLength: 10,
  descriptionLength: 12,
  extensionLength: 14,
  texts: 16,
} as const;
export const RECORD_FRAME = { oid: 1, tid: 9, dataTid: 17, dataLength: 25, size: 33 } as const;
export const COMMIT = { checksum: 1, size: 5 } as const;
export const ACKNOWLEDGEMENT = { received: 1, durable: 9, bytes: 17, checksum: 25, size: 29 } as const;
export const BLOB_FRAME = { oid: 1, tid: 9, length: 17, from: 25, size: 33 } as const;
/** In place of a blob's length: the source has no content for it. */
export const NO_CONTENT = 0xffff_ffff_ffff_ffffn;
/** Behind it comes one frame of zstd (RFC 8878). */
export const COMPRESSED = { length: 1, header: 5 } as const;

/** The most content of a data frame, compressed or not. */
export const MAX_DATA_BYTES = 1024 * 1024;
/** The longest control message. */
export const MAX_CONTROL_BYTES = 64 * 1024;
/**
 * A run of several transactions has at most so many bytes, or fewer where the secondary says so; a single
 * transaction may have more.
 */
export const MAX_RUN_BYTES = 8 * 1024 * 1024;

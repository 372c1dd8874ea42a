/**
 * Where the fields lie in a Data.fs (docs/filestorage_format.md). Every integer is big-endian; offsets count
 * from the start of the header they belong to.
 */
export const MAGIC = new Uint8Array([0x46, 0x53, 0x33, 0x30]); // FS30, as Python 3 writes it
export const MAGIC_PYTHON2 = new Uint8Array([0x46, 0x53, 0x32, 0x31]); // FS21

/** The first transaction's position. */
export const FIRST_POSITION = 4;

/** Offsets within a transaction header, and its size without user, description and extension. */
export const TRANSACTION = {
  tid: 0,
  /** The length of the whole transaction record minus 8; repeated in the last 8 bytes. */
  length: 8,
  status: 16,
  userLength: 17,
  descriptionLength: 19,
  extensionLength: 21,
  size: 23,
} as const;

/** The bytes behind the last data record: the transaction's length again. */
export const TRAILER_SIZE = 8;

/** Offsets within a data record header, and its size. */
export const RECORD = {
  oid: 0,
  tid: 8,
  previous: 16,
  transaction: 24,
  versionLength: 32,
  dataLength: 34,
  size: 42,
} as const;

/** A record whose data length is 0 is followed by the position of the record that has the data. */
export const BACK_POINTER_SIZE = 8;

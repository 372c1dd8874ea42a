/** What is known of a transaction besides its records. */

/** Status bytes (docs/filestorage_format.md, "Status"). */
export const STATUS = {
  /** `' '`: committed. */
  committed: 0x20,
  /** `'p'`: committed, and copied by a pack: some of its records may be gone. */
  packed: 0x70,
  /** `'c'`: voted, not finished; legal only at the end of a file. */
  voted: 0x63,
  /** `'u'`: cancelled by the undo of very old versions; its records do not count. */
  undone: 0x75,
} as const;

/** A transaction's metadata; the three texts are opaque bytes of at most 65,535 each. */
export interface TransactionHead {
  readonly tid: bigint;
  readonly status: number;
  readonly user: Uint8Array;
  readonly description: Uint8Array;
  /** A pickled dict, or nothing. */
  readonly extension: Uint8Array;
}

/** The longest user, description or extension that a FileStorage can hold, in bytes. */
export const MAX_METADATA_LENGTH = 65_535;

/**
 * The digest of what has come of a transaction, by which two ends that go on in the middle of it tell that they mean
 * the same bytes. SHA-256, for it decides alone: a checksum that matches by chance would join the beginning of one
 * transaction to the end of another.
 */
import { createHash } from "node:crypto";
import type { ByteSource } from "../window.ts";

/** Data are read through a buffer of this size. */
const BUFFER_BYTES = 256 * 1024;

/** After so many bytes others run. */
const BYTES_BETWEEN_PAUSES = 16 * 1024 * 1024;

/** Digests a stretch of a file from its beginning, as far as it has come; what has been read is not read again. */
export class GrowingDigest {
  /** Where the stretch begins. */
  readonly position: number;
  readonly #source: ByteSource;
  readonly #hash = createHash("sha256");
  #bytes = 0;

  constructor(source: ByteSource, position: number) {
    this.#source = source;
    this.position = position;
  }

  /**
   * The digest of the stretch's first bytes.
   * @param count how many; never fewer than before
   * @param pause lets other work run, now and then
   * @returns 64 hexadecimal digits; undefined when the file ends before
   * @throws DiskError
   */
  async upTo(count: number, pause: () => Promise<void>): Promise<string | undefined> {
    const buffer = new Uint8Array(Math.min(BUFFER_BYTES, Math.max(0, count - this.#bytes)));
    for (let sincePause = 0; this.#bytes < count;) {
      const into = buffer.subarray(0, Math.min(buffer.length, count - this.#bytes));
      if (this.#source.readAt(into, this.position + this.#bytes) < into.length) return undefined;
      this.#hash.update(into);
      this.#bytes += into.length;
      sincePause += into.length;
      if (sincePause < BYTES_BETWEEN_PAUSES) continue;
      sincePause = 0;
      await pause();
    }
    return this.#hash.copy().digest("hex");
  }
}
